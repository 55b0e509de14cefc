//! By trigger, in a database by ODBC whose triggers are not known here: what a person installs by hand, in the words of that
//! database. The table of changes is read all the same; whether the triggers are there cannot be asked.

use gatehouse_core::fault::{Code, Fault, Verdict};

use super::install::{CHANGES, Status};
use super::sql::text;
use super::{Open, Reader};
use crate::file::{Database, Table};
use crate::statement::{quote, table as named};

/// The statement that makes the table of changes, in the words of the SQL standard.
pub(super) fn table_of_changes(database: Database) -> String {
    let name = |word| quote(database, word);
    let (before, after) = (name("before"), name("after"));
    format!(
        "CREATE TABLE {} (\n  {} BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n  {} VARCHAR(64) NOT NULL,\n  \
         {} VARCHAR(120) NOT NULL,\n  {} VARCHAR(140) NOT NULL,\n  {} VARCHAR(10) NOT NULL,\n  {before} CLOB,\n  {after} CLOB\n)",
        quote(database, CHANGES),
        name("seq"),
        name("id"),
        name("endpoint"),
        name("source_table"),
        name("op"),
    )
}

/// What a person installs: the table, and what the triggers write, which each database says in its own way.
pub(super) fn statements(reader: &Reader) -> Vec<String> {
    let mut all = vec![table_of_changes(reader.database)];
    all.extend(reader.tables.iter().map(|open| triggers(reader, open)));
    all
}

fn triggers(reader: &Reader, open: &Open) -> String {
    let database = reader.database;
    let on = named(database, &open.described.table);
    let columns = open.columns.iter().map(|column| text(database, &column.name)).collect::<Vec<_>>().join(", ");
    let name = |word| quote(database, word);
    let insert = |op: &str, documents: &[(&str, &str)]| {
        let names = documents.iter().map(|(column, _)| format!(", {}", quote(database, column))).collect::<String>();
        let values = documents.iter().map(|(_, row)| format!(", <the {row} row>")).collect::<String>();
        format!(
            "--   after each {}: INSERT INTO {} ({}, {}, {}, {}{names}) VALUES (<a new unique id>, {}, {}, '{op}'{values})",
            op.to_uppercase(),
            quote(database, CHANGES),
            name("id"),
            name("endpoint"),
            name("source_table"),
            name("op"),
            text(database, &reader.endpoint),
            text(database, &open.name()),
        )
    };
    [
        format!(
            "-- Triggers on {on}, for each row, in the words of this database. A row is one JSON object of {columns}:"
        ),
        insert("insert", &[("after", "new")]),
        insert("update", &[("before", "old"), ("after", "new")]),
        insert("delete", &[("before", "old")]),
    ]
    .join("\n")
}

/// What a person takes away by hand.
pub(super) fn removal(reader: &Reader) -> String {
    let tables: Vec<_> = reader.tables.iter().map(|open| named(reader.database, &open.described.table)).collect();
    format!("-- Drop the triggers on {} that write into {}", tables.join(", "), quote(reader.database, CHANGES))
}

/// Refuses to run what only a person can.
pub(super) fn may_run(reader: &Reader) -> Result<(), Fault> {
    if reader.database.spoken().is_some() {
        return Ok(());
    }
    let text = "how this database writes triggers is not known here: have what is shown without `--yes` made by hand, in its own words";
    Err(Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold))
}

async fn is_there(reader: &Reader) -> Result<bool, Fault> {
    let table = Table { schema: None, name: CHANGES.to_owned() };
    Ok(reader.source.described(&table).await?.is_some())
}

/// Refuses to begin where a person has made no table of changes.
pub(super) async fn must_be_there(reader: &Reader) -> Result<(), Fault> {
    if reader.database.spoken().is_some() || is_there(reader).await? {
        return Ok(());
    }
    let text = format!(
        "the table `{CHANGES}` is not there; `gatehouse capture install {}` shows what a person makes by hand",
        reader.full_name()
    );
    Err(Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold))
}

/// What can be said of what is there.
pub(super) async fn status(reader: &Reader) -> Result<Status, Fault> {
    let whole = is_there(reader).await?;
    let word = if whole { "is there" } else { "is not there" };
    let mut lines = vec![format!("{CHANGES}: {word}")];
    let triggers =
        |open: &Open| format!("{}: whether its triggers are there cannot be asked of this database", open.name());
    lines.extend(reader.tables.iter().map(triggers));
    Ok(Status { lines, whole })
}
