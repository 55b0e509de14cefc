//! Merged records. One gateway uses the file, and keeps its own tasks apart: taking is reading, and whoever saves must have seen
//! what stands there.

use rusqlite::{Connection, OptionalExtension, params};

use super::lane::Trouble;
use crate::{Held, StoreError};

pub(super) fn take(db: &Connection, route: &str, key: &str) -> Result<Held, Trouble> {
    let sql = "SELECT epoch, value FROM merged WHERE route = ?1 AND key = ?2";
    let found = db
        .prepare_cached(sql)?
        .query_row([route, key], |row| Ok(Held { epoch: row.get(0)?, value: row.get(1)? }))
        .optional()?;
    Ok(found.unwrap_or(Held { epoch: 0, value: None }))
}

pub(super) fn save(db: &Connection, route: &str, key: &str, epoch: i64, value: &str) -> Result<(), Trouble> {
    let saved = if epoch == 0 {
        db.prepare_cached("INSERT INTO merged VALUES (?1, ?2, 1, ?3) ON CONFLICT DO NOTHING")?
            .execute(params![route, key, value])?
    } else {
        db.prepare_cached(
            "UPDATE merged SET epoch = epoch + 1, value = ?4 WHERE route = ?1 AND key = ?2 AND epoch = ?3",
        )?
        .execute(params![route, key, epoch, value])?
    };
    if saved == 0 {
        return Err(StoreError::Conflict(format!("another has changed the record `{key}` of `{route}`")).into());
    }
    Ok(())
}
