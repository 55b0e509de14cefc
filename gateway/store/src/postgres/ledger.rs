//! The statements of the ledger: ids that came in, deliveries that are done. Every message passes here; each batch is one
//! statement.

use std::collections::BTreeMap;
use std::time::SystemTime;

use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use jiff::Timestamp;

use super::run::{Step, Trouble, change, row, rows};
use crate::{Seen, StoreError, text};

/// How many rows are forgotten by one statement.
pub(super) const PIECE: u64 = 10_000;

/// Remembers ids. In the order of the keys: two gateways that write the same ids wait for each other instead of locking
/// each other out.
pub(super) struct Remember {
    sources: Vec<String>,
    message_ids: Vec<String>,
    hashes: Vec<Vec<u8>>,
}

impl Remember {
    pub(super) fn new(seen: &[Seen]) -> Self {
        let mut sorted = BTreeMap::new();
        for one in seen {
            sorted.entry((text::id(&one.source), text::id(&one.message_id))).or_insert_with(|| one.body_hash.to_vec());
        }
        let mut batch = Self { sources: Vec::new(), message_ids: Vec::new(), hashes: Vec::new() };
        for ((source, message_id), hash) in sorted {
            batch.sources.push(source);
            batch.message_ids.push(message_id);
            batch.hashes.push(hash);
        }
        batch
    }
}

#[async_trait]
impl Step for Remember {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let sql = "INSERT INTO seen (source, message_id, body_hash)
                   SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]) ON CONFLICT DO NOTHING";
        change(db, sql, &[&self.sources, &self.message_ids, &self.hashes]).await?;
        Ok(())
    }
}

fn hash(bytes: &[u8]) -> Result<[u8; 32], Trouble> {
    Ok(bytes.try_into().map_err(|_| StoreError::Damaged("a hash in `seen` has not 32 bytes".to_owned()))?)
}

/// What an id came with.
pub(super) struct Find<'a> {
    pub(super) source: &'a str,
    pub(super) message_id: &'a str,
}

#[async_trait]
impl Step for Find<'_> {
    type Output = Option<Seen>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Option<Seen>, Trouble> {
        let sql = "SELECT body_hash FROM seen WHERE source = $1 AND message_id = $2";
        let Some(row) = row(db, sql, &[&text::id(self.source), &text::id(self.message_id)]).await? else {
            return Ok(None);
        };
        let body_hash = hash(row.get(0))?;
        Ok(Some(Seen { source: self.source.to_owned(), message_id: self.message_id.to_owned(), body_hash }))
    }
}

/// What those of many ids came with that came in before.
pub(super) struct FindAmong<'a> {
    source: &'a str,
    message_ids: Vec<String>,
}

impl<'a> FindAmong<'a> {
    pub(super) fn new(source: &'a str, message_ids: &[String]) -> Self {
        Self { source, message_ids: message_ids.iter().map(|id| text::id(id)).collect() }
    }
}

#[async_trait]
impl Step for FindAmong<'_> {
    type Output = Vec<Seen>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<Seen>, Trouble> {
        let sql = "SELECT message_id, body_hash FROM seen WHERE source = $1 AND message_id = ANY ($2::text[])";
        let rows = rows(db, sql, &[&text::id(self.source), &self.message_ids]).await?;
        let seen = |row: &tokio_postgres::Row| {
            let body_hash = hash(row.get(1))?;
            Ok(Seen { source: self.source.to_owned(), message_id: row.get(0), body_hash })
        };
        rows.iter().map(seen).collect()
    }
}

/// Records deliveries, in the order of their ids.
pub(super) struct RecordDone {
    ids: Vec<String>,
}

impl RecordDone {
    pub(super) fn new(ids: &[String]) -> Self {
        let mut ids: Vec<String> = ids.iter().map(|id| text::id(id)).collect();
        ids.sort_unstable();
        Self { ids }
    }
}

#[async_trait]
impl Step for RecordDone {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let sql = "INSERT INTO done (delivery_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";
        change(db, sql, &[&self.ids]).await?;
        Ok(())
    }
}

/// Whether a delivery is done.
pub(super) struct IsDone<'a> {
    pub(super) delivery_id: &'a str,
}

#[async_trait]
impl Step for IsDone<'_> {
    type Output = bool;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<bool, Trouble> {
        Ok(!rows(db, "SELECT 1 FROM done WHERE delivery_id = $1", &[&self.delivery_id]).await?.is_empty())
    }
}

/// A table of the ledger.
#[derive(Clone, Copy)]
pub(super) enum Table {
    Seen,
    Done,
}

impl Table {
    pub(super) const ALL: [Self; 2] = [Self::Seen, Self::Done];
}

/// Forgets up to [`PIECE`] rows. Two gateways may do it at once: each leaves alone what the other holds.
pub(super) struct Forget {
    pub(super) table: Table,
    pub(super) before: Timestamp,
}

#[async_trait]
impl Step for Forget {
    type Output = u64;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<u64, Trouble> {
        let table = match self.table {
            Table::Seen => "seen",
            Table::Done => "done",
        };
        let sql = format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY (
               SELECT ctid FROM {table} WHERE at < $1 LIMIT {PIECE} FOR UPDATE SKIP LOCKED))"
        );
        change(db, &sql, &[&SystemTime::from(self.before)]).await
    }
}
