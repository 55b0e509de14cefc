//! Opens the tables of an endpoint: they are there, with every column that is named, and what tells their rows apart.

use std::sync::Arc;

use gatehouse_core::diagnostics::closest;
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::secret::Secret;

use super::file::{self, Capture, How};
use super::source::{self, Column, Described, Source};
use super::{CHANGES, Reader, install, log, sql};
use crate::charsets;
use crate::file::{Checked, Database, Table};

/// A table that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) described: Described,
    /// The columns that are read.
    pub(crate) columns: Vec<Column>,
    /// The columns that tell rows apart.
    pub(crate) key: Vec<Column>,
    /// The columns by which rows keep their order; none: every row after the one before.
    pub(crate) order_by: Vec<String>,
}

/// A whole piece of a table cannot be read: going on would pass over what stands behind it.
pub(super) fn unreadable(open: &Open) -> Fault {
    let text =
        format!("none of the next rows of `{}` can be read; they are dead letters: mend them there", open.name());
    Fault::new(Code::Misconfigured, text)
}

/// A page ends where it began: a driver that rounds times would be asked for the same rows for ever.
pub(super) fn stuck(open: &Open) -> Fault {
    let text = format!(
        "the next rows of `{}` cannot be told from those before: its key or its watermark reads less exactly than it is kept, or many rows have the same",
        open.name()
    );
    Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold)
}

impl Open {
    pub(crate) fn name(&self) -> String {
        self.described.table.to_string()
    }
}

/// Opens an endpoint for reading: the tables are there, with every column that is named.
pub(crate) async fn open(
    checked: &Arc<Checked>,
    endpoint: &str,
    source: Arc<dyn Source>,
    password: Option<Secret>,
) -> Result<Reader, Fault> {
    let capture = checked.captures.iter().find(|(name, _)| name == endpoint).map(|(_, capture)| capture.clone());
    let capture = capture
        .ok_or_else(|| Fault::new(Code::Misconfigured, format!("`{}/{endpoint}` reads nothing", checked.name)))?;
    let database = source.speaks(checked.database).await?;
    let tables = look(checked, database, &capture, source.as_ref()).await?;
    for open in &tables {
        filled(database, open, source.as_ref()).await?;
    }
    let (checked, endpoint) = (checked.clone(), endpoint.to_owned());
    let mut reader = Reader { checked, database, endpoint, capture, source, password, tables };
    match reader.capture.how {
        How::Trigger => install::must_be_there(&reader).await?,
        How::Log { .. } => log::must_be_there(&mut reader).await?,
        How::Watermark { .. } | How::Outbox { .. } => {}
    }
    Ok(reader)
}

/// Refuses a key that is empty in some row: such rows would be passed over.
async fn filled(database: Database, open: &Open, source: &dyn Source) -> Result<(), Fault> {
    for column in open.key.iter().filter(|column| column.nullable) {
        if !source.ask(&sql::empty(database, &open.described, column), &[]).await?.is_empty() {
            let text = format!(
                "`{}` has rows whose `{}` is empty, so it does not tell them apart: say other columns with `key`",
                open.name(),
                column.name
            );
            return Err(Fault::new(Code::Misconfigured, text));
        }
    }
    Ok(())
}

/// The tables that a capture names, as the catalogue describes them now.
pub(crate) async fn look(
    checked: &Checked,
    database: Database,
    capture: &Capture,
    source: &dyn Source,
) -> Result<Vec<Open>, Fault> {
    let misconfigured = |text: String| Fault::new(Code::Misconfigured, text);
    let mut named: Vec<Table> = Vec::new();
    let all = if capture.tables.iter().all(|pattern| pattern.exact().is_some()) {
        Vec::new()
    } else {
        source::tables(source, database).await?
    };
    for pattern in &capture.tables {
        match pattern.exact() {
            Some(table) => named.push(table.clone()),
            None => {
                let own = |table: &Table| table.name == CHANGES || table.name == checked.inbox.name;
                // By ODBC every table has a schema, and none is said to be this user's own.
                let bare = database.is_odbc() && pattern.0.schema.is_none();
                let fits = |table: &&Table| match bare {
                    true => pattern.fits(&Table { schema: None, name: table.name.clone() }),
                    false => pattern.fits(table),
                };
                named.extend(all.iter().filter(fits).filter(|table| !own(table)).cloned());
            }
        }
    }
    let mut tables: Vec<Open> = Vec::new();
    for table in named {
        if tables.iter().any(|open| open.described.table == table) {
            continue;
        }
        let by_name = capture.tables.iter().any(|pattern| pattern.exact() == Some(&table));
        let mut described = match source::describe(source, database, &table).await? {
            Some(described) => described,
            None if by_name => {
                let help = likely(source, database, &table).await.unwrap_or_default();
                return Err(misconfigured(format!("there is no table `{table}`, or this user may not see it{help}")));
            }
            // It went between the list and this look.
            None => continue,
        };
        let mut finds = capture.key.clone();
        match &capture.how {
            How::Watermark { column, .. } | How::Outbox { sent: file::Sent::Mark { column, .. }, .. } => {
                finds.extend(if finds.is_empty() { described.key.clone() } else { Vec::new() });
                finds.push(column.clone());
            }
            How::Outbox { .. } | How::Trigger | How::Log { .. } => {}
        }
        charsets::declare(&mut described, &capture.charsets, &finds)?;
        let column = |name: &String| -> Result<Column, Fault> {
            described.column(name).cloned().ok_or_else(|| {
                let close = closest(name, described.columns.iter().map(|column| column.name.as_str()));
                let help = close.map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
                misconfigured(format!("`{table}` has no column `{name}`{help}"))
            })
        };
        let key_names = if capture.key.is_empty() { &described.key } else { &capture.key };
        let key = key_names.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        if key.is_empty() {
            let text = format!("`{table}` has no primary key: say with `key` which columns tell its rows apart");
            return Err(misconfigured(text));
        }
        let mut columns = Vec::new();
        if capture.columns.is_empty() {
            columns.clone_from(&described.columns);
        } else {
            let mut wanted: Vec<String> = key_names.clone();
            wanted.extend(capture.columns.iter().cloned());
            wanted.extend(capture.order_by.iter().cloned());
            match &capture.how {
                How::Watermark { column, .. } => wanted.push(column.clone()),
                How::Outbox { id, payload, .. } => wanted.extend(id.iter().chain(payload).cloned()),
                How::Trigger | How::Log { .. } => {}
            }
            for name in wanted {
                if !columns.iter().any(|known: &Column| known.name == name) {
                    columns.push(column(&name)?);
                }
            }
        }
        let named = match &capture.how {
            How::Watermark { column, .. } => vec![column],
            How::Outbox { sent, id, payload } => {
                let mut named: Vec<&String> = id.iter().chain(payload).collect();
                if let file::Sent::Mark { column, .. } = sent {
                    named.push(column);
                }
                named
            }
            How::Trigger | How::Log { .. } => Vec::new(),
        };
        for name in named.into_iter().chain(&capture.order_by) {
            column(name)?;
        }
        let order_by = match (&capture.how, capture.order_by.is_empty()) {
            (How::Outbox { .. }, true) => Vec::new(),
            (_, true) => key_names.clone(),
            (_, false) => capture.order_by.clone(),
        };
        tables.push(Open { columns, key, order_by, described });
    }
    if !tables.is_empty() {
        let columns = tables.iter().flat_map(|open| &open.columns).map(|column| column.name.as_str());
        charsets::known(&capture.charsets, columns)?;
    }
    Ok(tables)
}

/// What was probably meant by a table that is not there: first the same name in other letters (some databases write all of them
/// large), also in another schema.
async fn likely(source: &dyn Source, database: Database, table: &Table) -> Option<String> {
    let tables = source::tables(source, database).await.ok()?;
    let schema = |other: &&Table| table.schema.is_none() || table.schema == other.schema;
    let same = |other: &&Table| other.name.eq_ignore_ascii_case(&table.name);
    let names = || tables.iter().filter(schema).map(|other| other.name.as_str());
    let close = || closest(&table.name, names());
    let found = tables.iter().filter(schema).find(same);
    let found =
        found.or_else(|| close().and_then(|name| tables.iter().filter(schema).find(|other| other.name == name)));
    found.map(|found| format!("; did you mean `{found}`?"))
}
