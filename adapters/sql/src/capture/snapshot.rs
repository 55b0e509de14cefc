//! The first reading of a table: by its key, a piece at a time, from wherever it had come.
//!
//! Pieces that follow each other without a look for changes between are read ahead: each is read after the last change that was
//! handed over, so none is older than that. Before the next look, all that was read is handed over.

use gatehouse_core::Value;
use gatehouse_core::adapter::Intake;
use gatehouse_core::fault::Fault;
use tokio::time::Instant;

use super::file::How;
use super::hand::{self, Change, Op};
use super::position::Snapshot;
use super::row::Unread;
use super::source::Query;
use super::sql::{Page, Within};
use super::{Open, Place, Reader};
use crate::file::Database;

/// A piece that was read.
struct Piece {
    changes: Vec<Change>,
    /// Rows that cannot be read, with their ids.
    unread: Vec<(String, Unread)>,
    bytes: usize,
    /// Where the table is once it is handed over, or why there is no way on from there.
    then: Result<Snapshot, Fault>,
}

/// Reads and hands over the next piece of a table, and those behind it for as long as `until` allows. The place is saved after
/// each piece but the last, which is the caller's.
pub(super) async fn step(
    reader: &Reader,
    open: &Open,
    place: &mut Place,
    intake: &dyn Intake,
    until: Instant,
) -> Result<(), Fault> {
    let name = open.name();
    let after = |place: &Place| match place.position.tables.get(&name).map(|table| &table.snapshot) {
        Some(Snapshot::After(after)) => Some(after.clone()),
        _ => None,
    };
    let Some(after) = after(place) else { return Ok(()) };
    let run = place.position.run.clone();
    let mut piece = read(reader, open, &run, &after).await?;
    loop {
        let then = piece.then.clone();
        let hours = reader.rests().or(reader.sleeps());
        let goes_on = Instant::now() < until && hours.is_none() && place.cursor.is_held();
        let ahead = match &then {
            Ok(Snapshot::After(after)) if goes_on && place.pace.allows(piece.bytes) => {
                Some(read(reader, open, &run, after))
            }
            _ => None,
        };
        let next = place.pace.both(hand_over(reader, &name, piece, intake), ahead).await?;
        let then = then?;
        if let Some(table) = place.position.tables.get_mut(&name) {
            table.snapshot = then;
        }
        place.moved = true;
        let Some(next) = next else { return Ok(()) };
        place.save().await?;
        piece = next?;
    }
}

async fn read(reader: &Reader, open: &Open, run: &str, after: &[Value]) -> Result<Piece, Fault> {
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
    let key = open.key_names();
    let mut piece =
        Piece { changes: Vec::with_capacity(rows.len()), unread: Vec::new(), bytes: 0, then: Ok(Snapshot::Done) };
    let mut last = None;
    for document in rows {
        piece.bytes += document.bytes.len();
        let id = hand::row_id(run, &open.name(), &document.bytes);
        let change = open.change(Op::Read, id.clone(), &document);
        last = match &change {
            Ok(change) => Some(hand::values(&change.row, &key)),
            Err(unread) => unread.values(&key).or(last),
        };
        match change {
            Ok(change) => piece.changes.push(change),
            Err(unread) => piece.unread.push((id, *unread)),
        }
    }
    piece.then = match last {
        Some(key) if full && key == after => Err(super::stuck(open)),
        Some(key) if full => Ok(Snapshot::After(key)),
        None if full => Err(super::unreadable(open)),
        _ => Ok(Snapshot::Done),
    };
    Ok(piece)
}

async fn hand_over(reader: &Reader, table: &str, piece: Piece, intake: &dyn Intake) -> Result<(), Fault> {
    let endpoint = reader.full_name();
    for (id, row) in piece.unread {
        hand::bury(intake, &endpoint, table, id, row).await;
    }
    hand::over(intake, &endpoint, piece.changes).await
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

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
