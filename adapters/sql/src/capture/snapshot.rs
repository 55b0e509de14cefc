//! The first reading of a table: by its key, a piece at a time, from wherever it had come.

use gatehouse_core::Value;
use gatehouse_core::adapter::Intake;
use gatehouse_core::fault::Fault;

use super::file::How;
use super::hand::{self, Op};
use super::position::Snapshot;
use super::sql::{Page, Within};
use super::{Open, Reader};
use crate::file::Database;

/// Reads and hands over the next piece.
pub(super) async fn step(
    reader: &Reader,
    open: &Open,
    run: &str,
    place: &mut Snapshot,
    intake: &dyn Intake,
) -> Result<(), Fault> {
    let Snapshot::After(after) = place else { return Ok(()) };
    let page = Page {
        table: &open.described,
        columns: open.columns.iter().collect(),
        order: open.key.iter().collect(),
        after,
        only: None,
        filled: None,
        past: None,
        limit: reader.capture.batch,
    };
    let (sql, values) = query(reader, &page, None);
    let rows = reader.source.ask(&sql, &values).await?;
    let full = rows.len() >= reader.capture.batch as usize;
    let endpoint = reader.full_name();
    let mut changes = Vec::with_capacity(rows.len());
    for document in rows.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
        let id = hand::row_id(run, &open.name(), &document);
        match open.change(Op::Read, id.clone(), document) {
            Ok(change) => changes.push(change),
            Err((document, fault)) => hand::bury(intake, &endpoint, &open.name(), id, &document, fault).await,
        }
    }
    let last = changes.last().map(|change| hand::values(&change.row, &open.key_names()));
    hand::over(intake, &endpoint, &changes).await?;
    *place = match last {
        Some(key) if full => Snapshot::After(key),
        None if full => return Err(super::unreadable(open)),
        _ => Snapshot::Done,
    };
    Ok(())
}

/// The query of a piece that is read beside changes: never older than a change that was handed over before it.
pub(super) fn query(reader: &Reader, page: &Page<'_>, within: Option<Within<'_>>) -> (String, Vec<Value>) {
    let (mut sql, values) = page.query_within(reader.checked.database, within);
    if let (Database::MySql, How::Log { .. }) = (reader.checked.database, &reader.capture.how) {
        // A transaction stands in the log a moment before it can be seen, and holds its rows until then: with a lock of its own
        // this look waits for it, and is never older than what was handed over of the log.
        sql.push_str(" LOCK IN SHARE MODE");
    }
    (sql, values)
}
