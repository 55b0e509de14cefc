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
use super::sql::{Page, Within};
use super::{Open, Place, Reader};
use crate::file::Database;

/// A piece that was read.
struct Piece {
    changes: Vec<Change>,
    /// Rows that cannot be read, with their ids and why.
    unread: Vec<(String, String, Fault)>,
    bytes: usize,
    /// Where the table is once it is handed over; `None` where all of it cannot be read.
    then: Option<Snapshot>,
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
        let then = piece.then.take();
        let hours = reader.rests().or(reader.sleeps());
        let goes_on = Instant::now() < until && hours.is_none() && place.cursor.is_held();
        let ahead = match &then {
            Some(Snapshot::After(after)) if goes_on && place.pace.allows(piece.bytes) => {
                Some(read(reader, open, &run, after))
            }
            _ => None,
        };
        let next = place.pace.both(hand_over(reader, &name, piece, intake), ahead).await?;
        let then = then.ok_or_else(|| super::unreadable(open))?;
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
    let (sql, values) = query(reader, &page, None);
    let rows = reader.source.ask(&sql, &values).await?;
    let full = rows.len() >= reader.capture.batch as usize;
    let mut piece = Piece { changes: Vec::with_capacity(rows.len()), unread: Vec::new(), bytes: 0, then: None };
    for document in rows.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
        piece.bytes += document.len();
        let id = hand::row_id(run, &open.name(), &document);
        match open.change(Op::Read, id.clone(), document) {
            Ok(change) => piece.changes.push(change),
            Err((document, fault)) => piece.unread.push((id, document, fault)),
        }
    }
    piece.then = match piece.changes.last() {
        Some(last) if full => Some(Snapshot::After(hand::values(&last.row, &open.key_names()))),
        None if full => None,
        _ => Some(Snapshot::Done),
    };
    Ok(piece)
}

async fn hand_over(reader: &Reader, table: &str, piece: Piece, intake: &dyn Intake) -> Result<(), Fault> {
    let endpoint = reader.full_name();
    for (id, document, fault) in piece.unread {
        hand::bury(intake, &endpoint, table, id, &document, fault).await;
    }
    hand::over(intake, &endpoint, piece.changes).await
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

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
