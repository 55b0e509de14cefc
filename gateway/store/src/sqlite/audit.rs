//! The statements of the audit.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::lane::Trouble;
use super::letters::{time, time_text};
use crate::{AuditEntry, chain};

pub(super) fn append(db: &Connection, entry: &AuditEntry) -> Result<(), Trouble> {
    let hash = chain::link(&head(db)?.unwrap_or_else(|| chain::START.to_vec()), entry);
    db.prepare_cached("INSERT INTO audit (at, actor, action, subject, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![time_text(entry.at), entry.actor, entry.action, entry.subject, entry.detail, hash])?;
    db.prepare_cached("INSERT INTO audit_head (one, hash) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET hash = ?1")?
        .execute([hash])?;
    Ok(())
}

/// What a person did to a letter.
pub(super) fn letter(db: &Connection, actor: String, action: &str, id: i64, detail: String) -> Result<(), Trouble> {
    act(db, actor, action, format!("letter:{id}"), detail)
}

/// What a person did, within the transaction that does it.
pub(super) fn act(
    db: &Connection,
    actor: String,
    action: &str,
    subject: String,
    detail: String,
) -> Result<(), Trouble> {
    append(db, &chain::entry(&AuditEntry { at: Timestamp::now(), actor, action: action.to_owned(), subject, detail }))
}

pub(super) fn newest(db: &Connection, limit: u32) -> Result<Vec<AuditEntry>, Trouble> {
    let mut statement =
        db.prepare_cached("SELECT at, actor, action, subject, detail FROM audit ORDER BY id DESC LIMIT ?1")?;
    let rows = statement.query_map([limit], entry)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn verify(db: &Connection) -> Result<u64, Trouble> {
    let mut statement =
        db.prepare_cached("SELECT at, actor, action, subject, detail, id, hash FROM audit ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut walk = chain::Walk::new();
    while let Some(row) = rows.next()? {
        walk.step(row.get(5)?, &entry(row)?, &row.get::<_, Vec<u8>>(6)?)?;
    }
    Ok(walk.finish(head(db)?.as_deref())?)
}

fn head(db: &Connection) -> Result<Option<Vec<u8>>, Trouble> {
    Ok(db.prepare_cached("SELECT hash FROM audit_head WHERE one = 1")?.query_row([], |row| row.get(0)).optional()?)
}

fn entry(row: &Row<'_>) -> Result<AuditEntry, rusqlite::Error> {
    Ok(AuditEntry {
        at: time(row, 0)?,
        actor: row.get(1)?,
        action: row.get(2)?,
        subject: row.get(3)?,
        detail: row.get(4)?,
    })
}
