//! The first reading of a table: by its key, a piece at a time, from wherever it had come.

use gatehouse_core::adapter::Intake;
use gatehouse_core::fault::Fault;

use super::file::How;
use super::hand::{self, Op};
use super::position::Snapshot;
use super::source::Query;
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
    let rows = reader.source.documents(&query(reader, &page, None), &page.columns).await?;
    let full = rows.len() >= reader.capture.batch as usize;
    let endpoint = reader.full_name();
    let mut changes = Vec::with_capacity(rows.len());
    let (before, key, mut last) = (after.clone(), open.key_names(), None);
    for document in rows {
        let id = hand::row_id(run, &open.name(), &document.bytes);
        let change = open.change(Op::Read, id.clone(), &document);
        last = match &change {
            Ok(change) => Some(hand::values(&change.row, &key)),
            Err(unread) => unread.values(&key).or(last),
        };
        match change {
            Ok(change) => changes.push(change),
            Err(unread) => hand::bury(intake, &endpoint, &open.name(), id, *unread).await,
        }
    }
    hand::over(intake, &endpoint, &changes).await?;
    *place = match last {
        Some(key) if full && key == before => return Err(super::stuck(open)),
        Some(key) if full => Snapshot::After(key),
        None if full => return Err(super::unreadable(open)),
        _ => Snapshot::Done,
    };
    Ok(())
}

/// The query of a piece that is read beside changes: never older than a change that was handed over before it.
pub(super) fn query(reader: &Reader, page: &Page<'_>, within: Option<Within<'_>>) -> Query {
    let mut query = page.query_within(reader.database, within);
    if let (Database::MySql, How::Log { .. }) = (reader.database, &reader.capture.how) {
        // A transaction stands in the log a moment before it can be seen, and holds its rows until then: with a lock of its own
        // this look waits for it, and is never older than what was handed over of the log.
        query.sql.push_str(" LOCK IN SHARE MODE");
    }
    query
}
