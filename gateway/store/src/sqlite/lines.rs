//! Lines of deliveries that wait for each other. Mostly there are none, and that is read without waiting for a writer.

use rusqlite::{Connection, OptionalExtension, params};

use super::lane::Trouble;
use crate::{Head, PARKED};

/// Whether anybody stands in the line of this key.
pub(super) fn is_empty(db: &Connection, line: &str, key: &str) -> Result<bool, Trouble> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM in_line WHERE line = ?1 AND key = ?2)";
    Ok(db.prepare_cached(sql)?.query_row([line, key], |row| row.get(0))?)
}

pub(super) fn stands(db: &Connection, delivery_id: &str) -> Result<bool, Trouble> {
    let sql = "SELECT EXISTS (SELECT 1 FROM in_line WHERE delivery_id = ?1)";
    Ok(db.prepare_cached(sql)?.query_row([delivery_id], |row| row.get(0))?)
}

pub(super) fn stand(
    db: &Connection,
    line: &str,
    key: &str,
    delivery_id: &str,
    always: bool,
) -> Result<Option<String>, Trouble> {
    let sql = "SELECT delivery_id FROM in_line WHERE line = ?1 AND key = ?2
                 AND seq < coalesce((SELECT seq FROM in_line WHERE delivery_id = ?3), 9223372036854775807)
               ORDER BY seq LIMIT 1";
    let ahead = db.prepare_cached(sql)?.query_row([line, key, delivery_id], |row| row.get(0)).optional()?;
    if always || ahead.is_some() {
        let sql = "INSERT INTO in_line (line, key, delivery_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        db.prepare_cached(sql)?.execute([line, key, delivery_id])?;
    }
    Ok(ahead)
}

pub(super) fn leave(db: &Connection, delivery_id: &str) -> Result<(), Trouble> {
    db.prepare_cached("DELETE FROM in_line WHERE delivery_id = ?1")?.execute([delivery_id])?;
    Ok(())
}

pub(super) fn heads(db: &Connection, limit: u32) -> Result<Vec<Head>, Trouble> {
    let sql = "SELECT i.line, i.delivery_id, l.id, l.state IN ('resolved', 'discarded')
               FROM in_line i JOIN letter l ON l.delivery_id = i.delivery_id
               WHERE (l.state IN ('resolved', 'discarded') OR l.cause = ?1 AND l.state IN ('open', 'claimed'))
                 AND NOT EXISTS (SELECT 1 FROM in_line b WHERE b.line = i.line AND b.key = i.key AND b.seq < i.seq)
               ORDER BY i.seq LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let heads = statement.query_map(params![PARKED, limit], |row| {
        Ok(Head { line: row.get(0)?, delivery_id: row.get(1)?, letter: row.get(2)?, over: row.get(3)? })
    })?;
    Ok(heads.collect::<Result<_, _>>()?)
}
