//! The statements of the ledger: ids that came in, deliveries that are done. Every message passes here; each batch is one call.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::lane::Trouble;
use crate::{Seen, text};

/// How many rows are looked at in one transaction when old ones are forgotten: a few milliseconds.
const PIECE: i64 = 5_000;

/// How many ids are looked up in one transaction: a few milliseconds.
pub(super) const LOOKED_UP: usize = 1_000;

pub(super) fn remember(db: &Connection, seen: &[Seen]) -> Result<(), Trouble> {
    let now = Timestamp::now().as_millisecond();
    let mut insert = db.prepare_cached("INSERT INTO seen VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?;
    for one in seen {
        insert.execute(params![text::id(&one.source), text::id(&one.message_id), one.body_hash, now])?;
    }
    Ok(())
}

pub(super) fn seen(db: &Connection, source: String, message_id: String) -> Result<Option<Seen>, Trouble> {
    let body_hash = db
        .prepare_cached("SELECT body_hash FROM seen WHERE source = ?1 AND message_id = ?2")?
        .query_row([text::id(&source), text::id(&message_id)], |row| row.get(0))
        .optional()?;
    Ok(body_hash.map(|body_hash| Seen { source, message_id, body_hash }))
}

pub(super) fn seen_among(db: &Connection, source: &str, message_ids: &[String]) -> Result<Vec<Seen>, Trouble> {
    let source_id = text::id(source);
    let mut find = db.prepare_cached("SELECT body_hash FROM seen WHERE source = ?1 AND message_id = ?2")?;
    let mut found = Vec::new();
    for message_id in message_ids {
        if let Some(body_hash) = find.query_row([&source_id, &text::id(message_id)], |row| row.get(0)).optional()? {
            found.push(Seen { source: source.to_owned(), message_id: message_id.clone(), body_hash });
        }
    }
    Ok(found)
}

pub(super) fn record_done(db: &Connection, ids: &[String]) -> Result<(), Trouble> {
    let now = Timestamp::now().as_millisecond();
    let mut insert = db.prepare_cached("INSERT INTO done VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for id in ids {
        insert.execute(params![id, now])?;
    }
    Ok(())
}

pub(super) fn is_done(db: &Connection, id: &str) -> Result<bool, Trouble> {
    Ok(db.prepare_cached("SELECT 1 FROM done WHERE delivery_id = ?1")?.exists([id])?)
}

/// How far the forgetting has come, in the order of the keys.
#[derive(Debug)]
pub(super) enum Place {
    Seen(String, String),
    Done(String),
}

impl Default for Place {
    fn default() -> Self {
        Self::Seen(String::new(), String::new())
    }
}

/// Forgets what is old among the next rows; tells how many it was and where to go on. There is no index by age: this goes
/// through everything once, which costs less than an index that each message would pay for.
pub(super) fn forget(db: &Connection, before: Timestamp, from: Place) -> Result<(u64, Option<Place>), Trouble> {
    let before = before.as_millisecond();
    match from {
        Place::Seen(source, message_id) => {
            let end: Option<(String, String)> = db
                .prepare_cached(
                    "SELECT source, message_id FROM seen WHERE (source, message_id) > (?1, ?2)
                     ORDER BY source, message_id LIMIT 1 OFFSET ?3",
                )?
                .query_row(params![source, message_id, PIECE], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((to_source, to_message)) = end else {
                let forgotten = db
                    .prepare_cached("DELETE FROM seen WHERE (source, message_id) > (?1, ?2) AND at < ?3")?
                    .execute(params![source, message_id, before])?;
                return Ok((forgotten as u64, Some(Place::Done(String::new()))));
            };
            let forgotten = db
                .prepare_cached(
                    "DELETE FROM seen WHERE (source, message_id) > (?1, ?2) AND (source, message_id) <= (?3, ?4) AND at < ?5",
                )?
                .execute(params![source, message_id, to_source, to_message, before])?;
            Ok((forgotten as u64, Some(Place::Seen(to_source, to_message))))
        }
        Place::Done(id) => {
            let end: Option<String> = db
                .prepare_cached(
                    "SELECT delivery_id FROM done WHERE delivery_id > ?1 ORDER BY delivery_id LIMIT 1 OFFSET ?2",
                )?
                .query_row(params![id, PIECE], |row| row.get(0))
                .optional()?;
            let forgotten = match &end {
                Some(end) => db
                    .prepare_cached("DELETE FROM done WHERE delivery_id > ?1 AND delivery_id <= ?2 AND at < ?3")?
                    .execute(params![id, end, before])?,
                None => db
                    .prepare_cached("DELETE FROM done WHERE delivery_id > ?1 AND at < ?2")?
                    .execute(params![id, before])?,
            };
            Ok((forgotten as u64, end.map(Place::Done)))
        }
    }
}
