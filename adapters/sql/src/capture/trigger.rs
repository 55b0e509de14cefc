//! By trigger: triggers of Gatehouse's own write each change into a table, in the transaction that makes it. Read rows are
//! deleted once their changes are durably on the bus, so nothing that is committed late is missed. Two changes of one row
//! come in their order, because the second waits for the first one's lock.

use std::time::Duration;

use gatehouse_core::Value;
use gatehouse_core::adapter::{Behind, Intake};
use gatehouse_core::fault::{Code, Fault};

use super::change::emptied;
use super::hand::{self, Change, Op};
use super::install::{self, CHANGES};
use super::row::Unread;
use super::source::{Query, Raw};
use super::{Open, Reader};
use crate::file::Database;
use crate::statement::quote;

/// One row of the table of changes.
#[derive(Debug)]
struct Written {
    seq: u64,
    id: String,
    table: String,
    op: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// For how long it waits, where the database was asked.
    age: Option<Duration>,
}

/// What a look into the table of changes came to.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// There may be more at once.
    pub(super) busy: bool,
    /// Tables whose triggers were made anew, and the numbers of the rows that say so: what changed before went unseen.
    pub(super) installed: Vec<(u64, String)>,
}

/// Hands over the next changes and deletes them; counts those that wait where `count` says so.
pub(super) async fn drain(
    reader: &Reader,
    intake: &dyn Intake,
    behind: &mut Behind,
    count: bool,
) -> Result<Drained, Fault> {
    let limit = reader.capture.batch;
    let sql = install::select(reader, limit);
    let values = vec![Value::from(reader.endpoint.as_str())];
    let rows = reader.source.fetch(&Query { sql, values, kinds: Vec::new() }).await?;
    let full = rows.len() >= limit as usize;
    let digits = install::is_in_digits(reader);
    let written: Vec<Written> = rows.into_iter().filter_map(|row| read(row, digits)).collect();
    behind.age = written.first().map_or(Some(Duration::ZERO), |first| first.age);
    behind.waiting = match (full, count) {
        (false, _) => Some(written.len() as u64),
        (true, true) => Some(waiting(reader).await?),
        (true, false) => None,
    };
    let endpoint = reader.full_name();
    let mut changes = Vec::with_capacity(written.len());
    let is_mark = |row: &&Written| row.op == install::INSTALLED;
    for row in written.iter().filter(|row| !is_mark(row)) {
        match plan(reader, row) {
            Ok(planned) => changes.extend(planned),
            Err(unread) => hand::bury(intake, &endpoint, &row.table, row.id.clone(), *unread).await,
        }
    }
    hand::over(intake, &endpoint, changes).await?;
    delete(reader, written.iter().filter(|row| !is_mark(row)).map(|row| row.seq)).await?;
    let installed = written.iter().filter(is_mark).map(|row| (row.seq, row.table.clone())).collect();
    Ok(Drained { busy: full, installed })
}

/// Deletes rows of the table of changes. One by one: between two numbers one may be committed only now.
pub(super) async fn delete(reader: &Reader, numbers: impl Iterator<Item = u64>) -> Result<(), Fault> {
    let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    let (table, seq) = (quote(reader.database, CHANGES), quote(reader.database, "seq"));
    let sql = format!("DELETE FROM {table} WHERE {seq} IN ({})", numbers.join(", "));
    reader.source.change(&[Query { sql, ..Query::default() }]).await
}

/// How many changes wait.
async fn waiting(reader: &Reader) -> Result<u64, Fault> {
    let database = reader.database;
    let (count, parameter) = if database == Database::Postgres { ("count(*)::text", "$1") } else { ("count(*)", "?") };
    let (table, endpoint) = (quote(database, CHANGES), quote(database, "endpoint"));
    let sql = format!("SELECT {count} FROM {table} WHERE {endpoint} = {parameter}");
    let rows = reader.source.ask(&sql, &[Value::from(reader.endpoint.as_str())]).await?;
    let count = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// `digits` says that the documents come as digits of their bytes.
fn read(row: Raw, digits: bool) -> Option<Written> {
    let mut row = row.into_iter();
    let mut next = || row.next().flatten();
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes?).ok();
    let (seq, id, table, op) = (text(next())?, text(next())?, text(next())?, text(next())?);
    let document = |bytes: Option<Vec<u8>>| match digits {
        true => hex::decode(text(bytes)?).ok(),
        false => bytes,
    };
    let (before, after) = (document(next()), document(next()));
    let seconds = text(next()).and_then(|age| age.parse::<f64>().ok());
    let age = seconds.map(|age| Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::ZERO));
    Some(Written { seq: seq.trim().parse().ok()?, id, table, op, before, after, age })
}

/// The changes that a row of the table is: two where a row's key has changed.
fn plan(reader: &Reader, row: &Written) -> Result<Vec<Change>, Box<Unread>> {
    let shown = || {
        let document = row.after.as_ref().or(row.before.as_ref()).cloned().unwrap_or_default();
        String::from_utf8(document).unwrap_or_else(|error| format!("\\x{}", hex::encode(error.as_bytes())))
    };
    let refused = |code, text: String| Unread::whole(shown(), Fault::new(code, text));
    let open = reader.tables.iter().find(|open| open.name() == row.table);
    let open = open.ok_or_else(|| {
        refused(Code::Invalid, format!("table `{}` is not read any more; its changes are kept here", row.table))
    })?;
    let document = |bytes: &Option<Vec<u8>>| {
        let Some(bytes) = bytes else { return Ok(None) };
        open.row_of(bytes, !install::is_in_digits(reader)).map(|row| Some((only(open, row.value), row.document)))
    };
    let after = document(&row.after)?;
    let before = match (document(&row.before), &after) {
        (Ok(before), _) => before,
        // What mends a row is handed over, without the row as it was; unless it is another row by its key.
        (Err(unread), Some((new, _)))
            if unread.values(&open.key_names()) == Some(hand::values(new, &open.key_names())) =>
        {
            return Ok(open.changes_of(Op::Update, &row.id, None, after, true));
        }
        (Err(unread), _) => return Err(unread),
    };
    let missing = || refused(Code::Malformed, format!("the change `{}` lacks its row", row.op));
    let (op, before, after) = match row.op.as_str() {
        "insert" => (Op::Insert, None, Some(after.ok_or_else(missing)?)),
        "delete" => (Op::Delete, Some(before.ok_or_else(missing)?), None),
        "update" => (Op::Update, Some(before.ok_or_else(missing)?), Some(after.ok_or_else(missing)?)),
        "truncate" => return Err(refused(Code::Invalid, emptied(&row.table))),
        other => return Err(refused(Code::Malformed, format!("`{other}` is no change that is known"))),
    };
    Ok(open.changes_of(op, &row.id, before, after, true))
}

/// The columns that are wanted of a row.
fn only(open: &Open, row: Value) -> Value {
    if open.columns.len() == open.described.columns.len() {
        return row;
    }
    let Value::Map(fields) = row else { return row };
    fields.into_iter().filter(|(name, _)| open.columns.iter().any(|column| column.name == *name)).collect()
}
