//! How far sources have been read. One gateway uses the file, so whoever asks takes the place; the epoch keeps a reader that
//! was replaced from saving.

use rusqlite::{Connection, OptionalExtension, params};

use super::lane::Trouble;
use crate::{Held, StoreError};

pub(super) fn take(db: &Connection, name: &str) -> Result<Held, Trouble> {
    let sql = "INSERT INTO cursor VALUES (?1, 1, NULL) ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1
               RETURNING epoch, value";
    Ok(db.prepare_cached(sql)?.query_row([name], |row| Ok(Held { epoch: row.get(0)?, value: row.get(1)? }))?)
}

pub(super) fn save(db: &Connection, name: &str, epoch: i64, value: Option<&str>) -> Result<(), Trouble> {
    let saved = match value {
        Some(value) => db
            .prepare_cached("UPDATE cursor SET value = ?3 WHERE name = ?1 AND epoch = ?2")?
            .execute(params![name, epoch, value])?,
        None => {
            let held = db
                .prepare_cached("SELECT 1 FROM cursor WHERE name = ?1 AND epoch = ?2")?
                .query_row(params![name, epoch], |_| Ok(()))
                .optional()?;
            usize::from(held.is_some())
        }
    };
    if saved == 0 {
        return Err(StoreError::Conflict(format!("another reader has taken `{name}`")).into());
    }
    Ok(())
}
