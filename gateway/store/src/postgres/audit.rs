//! The statements of the audit.

use std::time::SystemTime;

use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::letters::time;
use super::run::{Step, Trouble, change, row, rows};
use crate::{AuditEntry, StoreError, chain};

/// How many entries are read at once.
const PAGE: i64 = 1_000;

/// Adds one entry to the chain. Run in a transaction.
pub(super) struct Append<'a> {
    pub(super) entry: &'a AuditEntry,
}

#[async_trait]
impl Step for Append<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let AuditEntry { at, actor, action, subject, detail } = self.entry;
        let head = row(db, "SELECT hash FROM audit_head WHERE one = 1 FOR UPDATE", &[]).await?.ok_or_else(no_head)?;
        let hash = chain::link(head.get(0), self.entry);
        let insert = "INSERT INTO audit (at, actor, action, subject, detail, hash) VALUES ($1, $2, $3, $4, $5, $6)";
        change(db, insert, &[&SystemTime::from(*at), actor, action, subject, detail, &&hash[..]]).await?;
        change(db, "UPDATE audit_head SET hash = $1 WHERE one = 1", &[&&hash[..]]).await?;
        Ok(())
    }
}

/// Adds what a person did to a letter, within the transaction that does it.
pub(super) async fn letter<C: GenericClient + Sync>(
    db: &C,
    actor: &str,
    action: &str,
    id: i64,
    detail: String,
) -> Result<(), Trouble> {
    act(db, actor, action, format!("letter:{id}"), detail).await
}

/// Adds what a person did, within the transaction that does it.
pub(super) async fn act<C: GenericClient + Sync>(
    db: &C,
    actor: &str,
    action: &str,
    subject: String,
    detail: String,
) -> Result<(), Trouble> {
    let (actor, action) = (actor.to_owned(), action.to_owned());
    let entry = chain::entry(&AuditEntry { at: Timestamp::now(), actor, action, subject, detail });
    Append { entry: &entry }.run(db).await
}

/// The newest entries.
pub(super) struct Newest {
    pub(super) limit: u32,
}

#[async_trait]
impl Step for Newest {
    type Output = Vec<AuditEntry>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<AuditEntry>, Trouble> {
        let sql = "SELECT at, actor, action, subject, detail FROM audit ORDER BY id DESC LIMIT $1";
        rows(db, sql, &[&i64::from(self.limit)]).await?.iter().map(entry).collect()
    }
}

/// Walks the chain as it stood when this began.
pub(super) struct Verify;

#[async_trait]
impl Step for Verify {
    type Output = u64;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<u64, Trouble> {
        let end = "SELECT hash, (SELECT coalesce(max(id), 0) FROM audit) FROM audit_head WHERE one = 1";
        let end = row(db, end, &[]).await?.ok_or_else(no_head)?;
        let (head, last): (Vec<u8>, i64) = (end.get(0), end.get(1));
        let sql = "SELECT at, actor, action, subject, detail, id, hash FROM audit WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3";
        let mut walk = chain::Walk::new();
        let mut after = 0;
        loop {
            let page = rows(db, sql, &[&after, &last, &PAGE]).await?;
            for row in &page {
                after = row.get(5);
                walk.step(after, &entry(row)?, row.get(6))?;
            }
            if page.is_empty() {
                return Ok(walk.finish(Some(&head))?);
            }
        }
    }
}

fn entry(row: &Row) -> Result<AuditEntry, Trouble> {
    Ok(AuditEntry { at: time(row, 0)?, actor: row.get(1), action: row.get(2), subject: row.get(3), detail: row.get(4) })
}

fn no_head() -> StoreError {
    StoreError::Damaged("the head of the audit chain is missing".to_owned())
}
