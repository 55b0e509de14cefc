//! The triggers and the table of changes: the statements that make and remove them, and whether they are there. Nothing is
//! made behind anybody's back: `gatehouse capture install` shows the statements first. What a log needs is told in
//! [`super::log`]; the [`Installer`] is the same.

use std::sync::Arc;

use gatehouse_core::Value;
use gatehouse_core::adapter::SiteFiles;
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::secret::Secrets;
use sha2::{Digest, Sha256};

use super::file::How;

use super::by_hand;
use super::log;
use super::source::Column;
use super::sql::{object, text};
use super::{Open, Reader};
use crate::file::Database;
use crate::statement::{quote, table as named};

/// The table of changes, in the schema that needs no naming.
pub(crate) const CHANGES: &str = "gatehouse_change";

/// The function of PostgreSQL's triggers.
const FUNCTION: &str = "gatehouse_capture";

/// The word in the table of changes that a table's triggers were made anew.
pub(super) const INSTALLED: &str = "installed";

/// The changes, and the ending of their triggers' names.
const OPS: [(&str, &str); 3] = [("INSERT", "ins"), ("UPDATE", "upd"), ("DELETE", "del")];

/// What stands in a database for one endpoint.
#[derive(Clone, Debug)]
pub struct Status {
    /// A line for each table: what is there, what is missing.
    pub lines: Vec<String>,
    /// Whether everything is there and fits the tables.
    pub whole: bool,
}

/// The name of a trigger: short, and the endpoint's own.
fn trigger(endpoint: &str, table: &str, ending: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(endpoint);
    hash.update([0]);
    hash.update(table);
    format!("gatehouse_{}_{ending}", hex::encode(&hash.finalize()[..6]))
}

/// Whether the documents of changes are asked for as digits of their bytes: a PostgreSQL without a charset does not give others
/// away.
pub(super) fn is_in_digits(reader: &Reader) -> bool {
    let foreign = reader.tables.iter().flat_map(|open| &open.columns).any(|column| column.charset.is_some());
    reader.database == Database::Postgres && foreign
}

/// The query of the next changes of an endpoint.
pub(super) fn select(reader: &Reader, limit: u32) -> String {
    let database = reader.database;
    let table = quote(database, CHANGES);
    let (before, after) = (quote(database, "before"), quote(database, "after"));
    match database {
        Database::Postgres if is_in_digits(reader) => {
            let digits = |document: &str| format!("encode(convert_to({document}::text, 'SQL_ASCII'), 'hex')");
            format!(
                "SELECT seq::text, id::text, source_table, op, {}, {}, \
                 extract(epoch FROM clock_timestamp() - at)::text FROM {table} WHERE endpoint = $1 ORDER BY {table}.seq LIMIT {limit}",
                digits(&before),
                digits(&after)
            )
        }
        // With the table's name: alone, the word is the answer's first column, a text, and 10 comes before 9.
        Database::Postgres => format!(
            "SELECT seq::text, id::text, source_table, op, {before}::text, {after}::text, \
             extract(epoch FROM clock_timestamp() - at)::text FROM {table} WHERE endpoint = $1 ORDER BY {table}.seq LIMIT {limit}"
        ),
        Database::MySql => format!(
            "SELECT seq, id, source_table, op, {before}, {after}, TIMESTAMPDIFF(SECOND, at, CURRENT_TIMESTAMP(6)) \
             FROM {table} WHERE endpoint = ? ORDER BY seq LIMIT {limit}"
        ),
        // How old a change is, no two databases tell in one way.
        Database::Odbc(dialect) => {
            let name = |word| quote(database, word);
            let list = ["seq", "id", "source_table", "op", "before", "after"].map(name).join(", ");
            let rest = format!("FROM {table} WHERE {} = ? ORDER BY {}", name("endpoint"), name("seq"));
            dialect.limited(&list, &rest, limit)
        }
        Database::Sqlite => format!(
            "SELECT seq, id, source_table, op, {before}, {after}, (julianday('now') - julianday(at)) * 86400.0 \
             FROM {table} WHERE endpoint = ? ORDER BY seq LIMIT {limit}"
        ),
    }
}

/// The statement that makes the table of changes.
fn create_table(database: Database) -> Vec<String> {
    let table = quote(database, CHANGES);
    let (before, after) = (quote(database, "before"), quote(database, "after"));
    match database {
        Database::Postgres => vec![
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (\n  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n  \
                 id uuid NOT NULL DEFAULT gen_random_uuid(),\n  endpoint text NOT NULL,\n  source_table text NOT NULL,\n  \
                 op text NOT NULL,\n  {before} jsonb,\n  {after} jsonb,\n  at timestamptz NOT NULL DEFAULT clock_timestamp()\n)"
            ),
            format!("CREATE INDEX IF NOT EXISTS gatehouse_change_endpoint ON {table} (endpoint, seq)"),
        ],
        Database::MySql => vec![format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n  seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,\n  \
             id CHAR(36) CHARACTER SET ascii NOT NULL,\n  endpoint VARCHAR(120) NOT NULL,\n  source_table VARCHAR(140) NOT NULL,\n  \
             op VARCHAR(10) NOT NULL,\n  {before} LONGTEXT,\n  {after} LONGTEXT,\n  \
             at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),\n  KEY gatehouse_change_endpoint (endpoint, seq)\n) \
             ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4"
        )],
        Database::Odbc(_) => vec![by_hand::table_of_changes(database)],
        Database::Sqlite => vec![
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (\n  seq INTEGER PRIMARY KEY AUTOINCREMENT,\n  \
                 id TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),\n  endpoint TEXT NOT NULL,\n  source_table TEXT NOT NULL,\n  \
                 op TEXT NOT NULL,\n  {before} TEXT,\n  {after} TEXT,\n  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f'))\n)"
            ),
            format!("CREATE INDEX IF NOT EXISTS gatehouse_change_endpoint ON {table} (endpoint, seq)"),
        ],
    }
}

/// The statements that make everything that an endpoint needs, in their order.
///
/// A row in the table of changes tells the reader that triggers were made anew, so that it reads the table from its
/// beginning: what changed while there were none went unseen.
pub(crate) async fn statements(reader: &Reader) -> Result<Vec<String>, Fault> {
    let Some(database) = reader.database.spoken() else { return Ok(by_hand::statements(reader)) };
    let mut all = create_table(database);
    let changes = quote(database, CHANGES);
    if database == Database::Postgres {
        // With the rights of who installs it: applications need none on the table of changes.
        all.push(format!(
            "CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$\n\
             BEGIN\n  IF TG_OP = 'INSERT' THEN\n    \
             INSERT INTO {changes} (endpoint, source_table, op, \"after\") VALUES (TG_ARGV[0], TG_ARGV[1], 'insert', to_jsonb(NEW));\n  \
             ELSIF TG_OP = 'UPDATE' THEN\n    \
             INSERT INTO {changes} (endpoint, source_table, op, \"before\", \"after\") VALUES (TG_ARGV[0], TG_ARGV[1], 'update', to_jsonb(OLD), to_jsonb(NEW));\n  \
             ELSIF TG_OP = 'DELETE' THEN\n    \
             INSERT INTO {changes} (endpoint, source_table, op, \"before\") VALUES (TG_ARGV[0], TG_ARGV[1], 'delete', to_jsonb(OLD));\n  \
             ELSE\n    INSERT INTO {changes} (endpoint, source_table, op) VALUES (TG_ARGV[0], TG_ARGV[1], 'truncate');\n  \
             END IF;\n  RETURN NULL;\nEND $$"
        ));
    }
    for open in &reader.tables {
        // MySQL has no transaction around what it defines: between two triggers changes may go unseen.
        let gap = database == Database::MySql || there(reader, open).await?.iter().any(Option::is_none);
        all.extend(of_table(reader, database, open));
        if gap {
            let (id, uuid) = if database == Database::MySql { ("id, ", "UUID(), ") } else { ("", "") };
            let (endpoint, table) = (text(database, &reader.endpoint), text(database, &open.name()));
            all.push(format!(
                "INSERT INTO {changes} ({id}endpoint, source_table, op) VALUES ({uuid}{endpoint}, {table}, '{INSTALLED}')"
            ));
        }
    }
    Ok(all)
}

fn of_table(reader: &Reader, database: Database, open: &Open) -> Vec<String> {
    let (name, on) = (open.name(), named(database, &open.described.table));
    let (endpoint, table) = (text(database, &reader.endpoint), text(database, &name));
    let changes = quote(database, CHANGES);
    let mut all = drops(reader, database, open);
    if database == Database::Postgres {
        for (events, level, ending) in [("INSERT OR UPDATE OR DELETE", "ROW", "row"), ("TRUNCATE", "STATEMENT", "all")]
        {
            let trigger = quote(database, &trigger(&reader.endpoint, &name, ending));
            all.push(format!(
                "CREATE TRIGGER {trigger} AFTER {events} ON {on} FOR EACH {level} EXECUTE FUNCTION {FUNCTION}({endpoint}, {table})"
            ));
        }
        return all;
    }
    let columns: Vec<&Column> = open.columns.iter().collect();
    let (before, after) = (quote(database, "before"), quote(database, "after"));
    for (event, ending) in OPS {
        // A trigger stands in the schema of its table.
        let trigger = crate::file::Table {
            schema: open.described.table.schema.clone(),
            name: trigger(&reader.endpoint, &name, ending),
        };
        let trigger = named(database, &trigger);
        let (mut names, mut values) = (
            vec!["endpoint".to_owned(), "source_table".to_owned(), "op".to_owned()],
            vec![endpoint.clone(), table.clone(), text(database, &event.to_lowercase())],
        );
        if database == Database::MySql {
            names.push("id".to_owned());
            values.push("UUID()".to_owned());
        }
        if event != "INSERT" {
            names.push(before.clone());
            values.push(object(database, &columns, "OLD."));
        }
        if event != "DELETE" {
            names.push(after.clone());
            values.push(object(database, &columns, "NEW."));
        }
        let into = match (&open.described.table.schema, database) {
            // Named from a table of another schema, the table of changes is in the reader's own.
            (Some(_), Database::MySql) => format!("{}.{changes}", quote(database, &reader.checked.target)),
            _ => changes.clone(),
        };
        let insert = format!("INSERT INTO {into} ({}) VALUES ({})", names.join(", "), values.join(", "));
        all.push(match database {
            Database::Sqlite => {
                // The table's name within a trigger stands without its schema.
                let on = quote(database, &open.described.table.name);
                format!("CREATE TRIGGER {trigger} AFTER {event} ON {on} FOR EACH ROW BEGIN {insert}; END")
            }
            _ => format!("CREATE TRIGGER {trigger} AFTER {event} ON {on} FOR EACH ROW {insert}"),
        });
    }
    all
}

fn drops(reader: &Reader, database: Database, open: &Open) -> Vec<String> {
    let name = open.name();
    match database {
        Database::Postgres => {
            let on = named(database, &open.described.table);
            let drop = |ending: &str| {
                format!("DROP TRIGGER IF EXISTS {} ON {on}", quote(database, &trigger(&reader.endpoint, &name, ending)))
            };
            vec![drop("row"), drop("all")]
        }
        Database::MySql | Database::Sqlite | Database::Odbc(_) => {
            let drop = |(_, ending): (&str, &str)| {
                let schema = open.described.table.schema.clone();
                let table = crate::file::Table { schema, name: trigger(&reader.endpoint, &name, ending) };
                format!("DROP TRIGGER IF EXISTS {}", named(database, &table))
            };
            OPS.into_iter().map(drop).collect()
        }
    }
}

/// The statements that remove an endpoint's triggers and its changes that were not read. The table of changes stays for
/// other endpoints.
pub(crate) fn removal(reader: &Reader) -> Vec<String> {
    let mut all = match reader.database.spoken() {
        Some(database) => reader.tables.iter().flat_map(|open| drops(reader, database, open)).collect(),
        None => vec![by_hand::removal(reader)],
    };
    let database = reader.database;
    let (changes, named) = (quote(database, CHANGES), quote(database, "endpoint"));
    all.push(format!("DELETE FROM {changes} WHERE {named} = {}", text(database, &reader.endpoint)));
    all
}

/// The text of each trigger of a table that is there. Where that cannot be asked, none is missed.
async fn there(reader: &Reader, open: &Open) -> Result<Vec<Option<String>>, Fault> {
    let Some(database) = reader.database.spoken() else { return Ok(Vec::new()) };
    let name = open.name();
    let endings: &[&str] = if database == Database::Postgres { &["row", "all"] } else { &["ins", "upd", "del"] };
    let sql = match database {
        Database::Postgres => {
            "SELECT pg_get_triggerdef(oid)::text FROM pg_trigger WHERE tgname = $1 AND tgrelid = to_regclass($2) AND tgenabled <> 'D'"
        }
        Database::MySql => {
            "SELECT action_statement FROM information_schema.triggers WHERE trigger_name = ? AND trigger_schema = COALESCE(?, DATABASE())"
        }
        Database::Sqlite | Database::Odbc(_) => {
            "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ? AND coalesce(?, 'main') <> ''"
        }
    };
    // A driver numbers nothing; the places stand in their order.
    let sql = if reader.database.is_odbc() { sql.replace("$1", "?").replace("$2", "?") } else { sql.to_owned() };
    let place = match database {
        Database::Postgres => Value::from(named(database, &open.described.table)),
        _ => open.described.table.schema.as_deref().map_or(Value::Null, Value::from),
    };
    let mut found = Vec::new();
    for ending in endings {
        let values = [Value::from(trigger(&reader.endpoint, &name, ending)), place.clone()];
        let rows = reader.source.ask(&sql, &values).await?;
        found.push(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()));
    }
    Ok(found)
}

/// The columns that a table's triggers do not write down.
fn not_captured<'a>(reader: &Reader, open: &'a Open, triggers: &[Option<String>]) -> Vec<&'a str> {
    let Some(database) = reader.database.spoken().filter(|database| *database != Database::Postgres) else {
        return Vec::new();
    };
    let Some(text) = triggers.first().and_then(Option::as_ref) else { return Vec::new() };
    // A server may keep a trigger in other words, but not a name in others; digits are asked for of each column by itself.
    let compact = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    let all = compact(text);
    let missing = open.columns.iter().filter(|column| {
        let quoted = format!("NEW.{}", quote(database, &column.name));
        let digits = compact(&format!("hex({quoted})"));
        !text.contains(&quoted) || (column.charset.is_some() && !all.contains(&digits))
    });
    missing.map(|column| column.name.as_str()).collect()
}

/// Refuses to begin without triggers: changes would go unseen.
pub(crate) async fn must_be_there(reader: &Reader) -> Result<(), Fault> {
    by_hand::must_be_there(reader).await?;
    for open in &reader.tables {
        if there(reader, open).await?.iter().any(Option::is_none) {
            let text = format!(
                "the triggers on `{}` are not there (or switched off); make them with `gatehouse capture install {}`",
                open.name(),
                reader.full_name()
            );
            return Err(Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold));
        }
    }
    Ok(())
}

/// What the triggers miss since the tables were changed.
pub(crate) async fn drift(reader: &Reader) -> Result<Vec<String>, Fault> {
    let mut notes = Vec::new();
    for open in &reader.tables {
        let triggers = there(reader, open).await?;
        let again = format!("run `gatehouse capture install {}`", reader.full_name());
        if triggers.iter().any(Option::is_none) {
            notes.push(format!("triggers on `{}` are missing, so its changes are not seen: {again}", open.name()));
        }
        for column in not_captured(reader, open, &triggers) {
            notes.push(format!("column `{column}` of `{}` is not captured yet: {again}", open.name()));
        }
    }
    Ok(notes)
}

/// What is there.
pub(crate) async fn status(reader: &Reader) -> Result<Status, Fault> {
    if reader.database.spoken().is_none() {
        return by_hand::status(reader).await;
    }
    let mut status = Status { lines: Vec::new(), whole: true };
    for open in &reader.tables {
        let triggers = there(reader, open).await?;
        let missing = triggers.iter().filter(|trigger| trigger.is_none()).count();
        let columns = not_captured(reader, open, &triggers);
        let line = match (missing, columns.is_empty()) {
            (0, true) => format!("{}: installed, {} columns", open.name(), open.columns.len()),
            (0, false) => format!("{}: installed, but without the new columns {}", open.name(), columns.join(", ")),
            (some, _) if some == triggers.len() => format!("{}: not installed", open.name()),
            (some, _) => format!("{}: {some} of {} triggers are missing", open.name(), triggers.len()),
        };
        status.whole &= missing == 0 && columns.is_empty();
        status.lines.push(line);
    }
    Ok(status)
}

/// Makes, shows and removes what an endpoint that reads by trigger or by log needs in its database.
pub struct Installer {
    reader: Reader,
}

impl Installer {
    /// For an endpoint of a system's file that `check` accepts.
    ///
    /// # Errors
    /// The endpoint reads neither by trigger nor by log, the database cannot be reached, a table is not there.
    pub async fn open(
        file: &SourceFile,
        site: &dyn SiteFiles,
        endpoint: &str,
        secrets: &dyn Secrets,
    ) -> Result<Self, Fault> {
        let checked = crate::file::check(file, site, &mut Problems::new());
        let checked = checked.ok_or_else(|| Fault::new(Code::Misconfigured, "the system's file is not sound"))?;
        let checked = Arc::new(checked);
        let capture = checked.captures.iter().find(|(name, _)| name == endpoint).map(|(_, capture)| capture.clone());
        let capture =
            capture.filter(|capture| matches!(capture.how, How::Trigger | How::Log { .. })).ok_or_else(|| {
                let text = format!(
                    "`{}/{endpoint}` reads neither by trigger nor by log: nothing is to be installed",
                    checked.name
                );
                Fault::new(Code::Misconfigured, text)
            })?;
        let (source, password) = super::source::open(&checked, secrets).await?;
        let database = source.speaks(checked.database).await?;
        let tables = super::look(&checked, database, &capture, source.as_ref()).await?;
        let endpoint = endpoint.to_owned();
        Ok(Self { reader: Reader { checked, database, endpoint, capture, source, password, tables } })
    }

    /// The statements that make it, in their order.
    ///
    /// # Errors
    /// The database cannot be asked what is there.
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        match self.reader.capture.how {
            How::Log { .. } => log::statements(&self.reader).await,
            _ => statements(&self.reader).await,
        }
    }

    /// The statements that take it away, with what was not read.
    #[must_use]
    pub fn removal(&self) -> Vec<String> {
        match self.reader.capture.how {
            How::Log { .. } => log::removal(&self.reader),
            _ => removal(&self.reader),
        }
    }

    /// Runs statements, in one transaction where the database has one for definitions.
    ///
    /// # Errors
    /// What the database refuses.
    pub async fn run(&self, statements: &[String]) -> Result<(), Fault> {
        if let How::Log { .. } = self.reader.capture.how {
            // A slot is made in a transaction in which nothing else was.
            for statement in statements {
                self.reader.source.define(std::slice::from_ref(statement)).await?;
            }
            return Ok(());
        }
        by_hand::may_run(&self.reader)?;
        self.reader.source.define(statements).await
    }

    /// What is there.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn status(&self) -> Result<Status, Fault> {
        match self.reader.capture.how {
            How::Log { .. } => log::status(&self.reader).await,
            _ => status(&self.reader).await,
        }
    }
}
