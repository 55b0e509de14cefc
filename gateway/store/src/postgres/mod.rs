//! The store of several gateways: one schema of a PostgreSQL database (13 or later). What two gateways could do at once is a
//! conditional update there, by the server's clock.
//!
//! The statements stand in the submodules as [`Step`](run::Step)s; here is what they are to the outside.

mod audit;
mod backfills;
mod connect;
mod cursors;
mod ledger;
mod letters;
mod lines;
mod merged;
mod run;
mod schema;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Pool;
use gatehouse_core::secret::Secret;
use jiff::Timestamp;

use crate::{
    AuditEntry, Backfill, BackfillState, Filter, Head, Held, Letter, NewBackfill, NewLetter, Seen, SliceState, Store,
    StoreError, Summary, Tally, Turn, chain, text,
};
use run::{perform, perform_together};

/// A store in PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    /// Letters and audit: a commit is on the server's disk before it is answered.
    letters: Pool,
    /// The ledger: the server may lose its last moment at a power cut. Apart, so that lists never keep it waiting.
    ledger: Pool,
    schema: String,
}

impl PostgresStore {
    /// Connects, and makes the schema or brings it to this version. `sslmode=require` (or `verify-full`) in the URL
    /// encrypts and always proves the server: its certificate must be signed by `ca_file`, or else by whom this machine
    /// trusts.
    ///
    /// # Errors
    /// `Unavailable` where the URL, the CA file or the schema's name is wrong or the server cannot be reached; `Damaged`
    /// where the schema is of a newer version.
    pub async fn connect(url: &Secret, schema: &str, ca_file: Option<&Path>) -> Result<Self, StoreError> {
        let pools = connect::pools(url, schema, ca_file).await?;
        perform_together(&pools.letters, &schema::Bring { schema }).await?;
        Ok(Self { letters: pools.letters, ledger: pools.ledger, schema: schema.to_owned() })
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn put_letter(&self, letter: NewLetter) -> Result<i64, StoreError> {
        let letter = text::letter(letter);
        match perform(&self.letters, &letters::Add { letter: &letter }).await? {
            Some(id) => Ok(id),
            None => perform_together(&self.letters, &letters::Again { letter: &letter }).await,
        }
    }

    async fn letters(&self, filter: &Filter, limit: u32, after: Option<i64>) -> Result<Vec<Summary>, StoreError> {
        perform(&self.letters, &letters::List { filter, limit, after }).await
    }

    async fn count_letters(&self, filter: &Filter) -> Result<BTreeMap<String, u64>, StoreError> {
        perform(&self.letters, &letters::Count { filter }).await
    }

    async fn letter(&self, id: i64) -> Result<Letter, StoreError> {
        let found = perform(&self.letters, &letters::Get { ids: &[id] }).await?;
        found.into_iter().next().ok_or(StoreError::Missing(id))
    }

    async fn claim(&self, ids: &[i64], actor: &str, lease: Duration) -> Result<Vec<Letter>, StoreError> {
        let actor = text::clean(actor);
        perform_together(&self.letters, &letters::Claim { ids, actor: &actor, lease }).await
    }

    async fn mark_published(&self, id: i64) -> Result<(), StoreError> {
        perform_together(&self.letters, &letters::MarkPublished { id }).await
    }

    async fn release(&self, id: i64) -> Result<(), StoreError> {
        perform_together(&self.letters, &letters::Release { id }).await
    }

    async fn resolve(&self, delivery_id: &str) -> Result<bool, StoreError> {
        perform(&self.letters, &letters::Resolve { delivery_id: &text::id(delivery_id) }).await
    }

    async fn edit(&self, id: i64, revision: u32, body: Bytes, actor: &str) -> Result<(), StoreError> {
        perform_together(&self.letters, &letters::Edit { id, revision, body: &body, actor }).await
    }

    async fn discard(&self, id: i64, reason: &str, actor: &str) -> Result<(), StoreError> {
        perform_together(&self.letters, &letters::Discard { id, reason: &text::clean(reason), actor }).await
    }

    async fn stand_in_line(
        &self,
        line: &str,
        key: &str,
        delivery_id: &str,
        always: bool,
    ) -> Result<Option<String>, StoreError> {
        let (line, key, delivery_id) = (&text::id(line), &text::id(key), &text::id(delivery_id));
        perform(&self.letters, &lines::Stand { line, key, delivery_id, always }).await
    }

    async fn leave_line(&self, delivery_id: &str) -> Result<(), StoreError> {
        perform(&self.letters, &lines::Leave { delivery_id: &text::id(delivery_id) }).await
    }

    async fn heads(&self, limit: u32) -> Result<Vec<Head>, StoreError> {
        perform(&self.letters, &lines::Heads { limit }).await
    }

    async fn remember(&self, seen: &[Seen]) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        perform(&self.ledger, &ledger::Remember::new(seen)).await
    }

    async fn seen(&self, source: &str, message_id: &str) -> Result<Option<Seen>, StoreError> {
        perform(&self.ledger, &ledger::Find { source, message_id }).await
    }

    async fn seen_among(&self, source: &str, message_ids: &[String]) -> Result<Vec<Seen>, StoreError> {
        if message_ids.is_empty() {
            return Ok(Vec::new());
        }
        perform(&self.ledger, &ledger::FindAmong::new(source, message_ids)).await
    }

    async fn record_done(&self, delivery_ids: &[String]) -> Result<(), StoreError> {
        if delivery_ids.is_empty() {
            return Ok(());
        }
        perform(&self.ledger, &ledger::RecordDone::new(delivery_ids)).await
    }

    async fn is_done(&self, delivery_id: &str) -> Result<bool, StoreError> {
        perform(&self.ledger, &ledger::IsDone { delivery_id: &text::id(delivery_id) }).await
    }

    async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for table in ledger::Table::ALL {
            // A piece at a time: no statement runs into its limit.
            loop {
                let piece = perform(&self.ledger, &ledger::Forget { table, before }).await?;
                forgotten += piece;
                if piece < ledger::PIECE {
                    break;
                }
            }
        }
        Ok(forgotten)
    }

    async fn take_cursor(&self, name: &str, lease: Duration) -> Result<Option<Held>, StoreError> {
        perform(&self.ledger, &cursors::Take { name, lease }).await
    }

    async fn save_cursor(
        &self,
        name: &str,
        epoch: i64,
        value: Option<&str>,
        lease: Duration,
    ) -> Result<(), StoreError> {
        perform(&self.ledger, &cursors::Save { name, epoch, value, lease }).await
    }

    async fn free_cursor(&self, name: &str, epoch: i64) -> Result<(), StoreError> {
        perform(&self.ledger, &cursors::Free { name, epoch }).await
    }

    async fn take_merged(&self, route: &str, key: &str, lease: Duration) -> Result<Option<Held>, StoreError> {
        perform(&self.letters, &merged::Take { route, key: &text::id(key), lease }).await
    }

    async fn save_merged(&self, route: &str, key: &str, epoch: i64, value: &str) -> Result<(), StoreError> {
        perform(&self.letters, &merged::Save { route, key: &text::id(key), epoch, value: Some(value) }).await
    }

    async fn free_merged(&self, route: &str, key: &str, epoch: i64) -> Result<(), StoreError> {
        match perform(&self.letters, &merged::Save { route, key: &text::id(key), epoch, value: None }).await {
            Err(StoreError::Conflict(_)) => Ok(()),
            outcome => outcome,
        }
    }

    async fn put_backfill(&self, new: &NewBackfill) -> Result<i64, StoreError> {
        perform_together(&self.letters, &backfills::Put { new }).await
    }

    async fn backfills(&self, state: Option<BackfillState>, limit: u32) -> Result<Vec<Backfill>, StoreError> {
        perform(&self.letters, &backfills::List { state, limit }).await
    }

    async fn backfill(&self, id: i64) -> Result<Backfill, StoreError> {
        perform(&self.letters, &backfills::Get { id }).await
    }

    async fn backfill_slices(&self, id: i64) -> Result<Vec<SliceState>, StoreError> {
        perform(&self.letters, &backfills::Slices { id }).await
    }

    async fn turn_backfill(&self, id: i64, turn: &Turn, actor: &str) -> Result<(), StoreError> {
        perform_together(&self.letters, &backfills::Turned { id, turn, actor }).await
    }

    async fn save_slice(
        &self,
        id: i64,
        number: i64,
        seen: Option<&str>,
        after: Option<&str>,
        tally: Tally,
    ) -> Result<(), StoreError> {
        perform_together(&self.letters, &backfills::Save { id, number, seen, after, tally }).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        perform_together(&self.letters, &audit::Append { entry: &chain::entry(entry) }).await
    }

    async fn audit_entries(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        perform(&self.letters, &audit::Newest { limit }).await
    }

    async fn verify_audit(&self) -> Result<u64, StoreError> {
        perform_together(&self.letters, &audit::Verify).await
    }

    async fn ping(&self) -> Result<String, StoreError> {
        perform(&self.ledger, &schema::Ping { schema: &self.schema }).await?;
        perform(&self.letters, &schema::Ping { schema: &self.schema }).await
    }
}
