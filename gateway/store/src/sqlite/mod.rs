//! The store of one gateway: two SQLite files. Letters, lines, backfills, merged records and audit in one, written to the disk before any `Ok`; the ledger
//! (ids seen, deliveries done, sources read) in the other, which may lose the last moment at a power cut.
//!
//! Each file has one thread that writes and one that reads, so that reads never wait for writes and nothing here blocks a
//! runtime's thread. The statements stand in the submodules; here is what they are to the outside.

mod audit;
mod backfills;
mod cursors;
mod lane;
mod ledger;
mod letters;
mod lines;
mod merged;
mod schema;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    AuditEntry, Backfill, BackfillState, Filter, Head, Held, Letter, NewBackfill, NewLetter, Seen, SliceState, Store,
    StoreError, Summary, Tally, Turn, chain, text,
};
use lane::{Lane, Role};

/// A store in files of this machine. Not for network file systems: SQLite's locks do not hold there.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    write: Lane,
    read: Lane,
    write_ledger: Lane,
    read_ledger: Lane,
}

impl SqliteStore {
    /// Opens or makes the store at `path`, and the ledger beside it; blocks while it does. Files that it makes are
    /// readable by their owner only; so is the folder, where it is missing.
    ///
    /// # Errors
    /// `Unavailable` where a file cannot be made, opened or locked; `Damaged` where it is no SQLite file or of a newer
    /// version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| unavailable(folder, &error))?;
        }
        let ledger = path.with_extension("ledger.db");
        for file in [path, &ledger] {
            own(file).map_err(|error| unavailable(file, &error))?;
        }
        // The writers come first: they bring the files to this version.
        Ok(Self {
            write: Lane::open(path, Role::Write { durable: true, schema: &schema::LETTERS })?,
            read: Lane::open(path, Role::Read)?,
            write_ledger: Lane::open(&ledger, Role::Write { durable: false, schema: &schema::LEDGER })?,
            read_ledger: Lane::open(&ledger, Role::Read)?,
            path: path.to_owned(),
        })
    }
}

/// Makes the file its owner's only. SQLite gives its `-wal` and `-shm` files the same rights.
fn own(file: &Path) -> std::io::Result<()> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file)?;
    if opened.metadata()?.permissions().mode() & 0o077 != 0 {
        opened.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn unavailable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

#[async_trait]
impl Store for SqliteStore {
    async fn put_letter(&self, letter: NewLetter) -> Result<i64, StoreError> {
        let letter = text::letter(letter);
        self.write.run(move |db| letters::put(db, letter)).await
    }

    async fn letters(&self, filter: &Filter, limit: u32, after: Option<i64>) -> Result<Vec<Summary>, StoreError> {
        let filter = filter.clone();
        self.read.run(move |db| letters::list(db, &filter, limit, after)).await
    }

    async fn count_letters(&self, filter: &Filter) -> Result<BTreeMap<String, u64>, StoreError> {
        let filter = filter.clone();
        self.read.run(move |db| letters::count(db, &filter)).await
    }

    async fn letter(&self, id: i64) -> Result<Letter, StoreError> {
        self.read.run(move |db| letters::get(db, id)).await
    }

    async fn claim(&self, ids: &[i64], actor: &str, lease: Duration) -> Result<Vec<Letter>, StoreError> {
        let (ids, actor) = (ids.to_vec(), text::clean(actor));
        self.write.run(move |db| letters::claim(db, &ids, &actor, lease)).await
    }

    async fn mark_published(&self, id: i64) -> Result<(), StoreError> {
        self.write.run(move |db| letters::mark_published(db, id)).await
    }

    async fn release(&self, id: i64) -> Result<(), StoreError> {
        self.write.run(move |db| letters::release(db, id)).await
    }

    async fn resolve(&self, delivery_id: &str) -> Result<bool, StoreError> {
        let delivery_id = text::id(delivery_id);
        self.write.run(move |db| letters::resolve(db, &delivery_id)).await
    }

    async fn edit(&self, id: i64, revision: u32, body: Bytes, actor: &str) -> Result<(), StoreError> {
        let actor = actor.to_owned();
        self.write.run(move |db| letters::edit(db, id, revision, &body, actor)).await
    }

    async fn discard(&self, id: i64, reason: &str, actor: &str) -> Result<(), StoreError> {
        let (reason, actor) = (text::clean(reason), actor.to_owned());
        self.write.run(move |db| letters::discard(db, id, &reason, actor)).await
    }

    async fn stand_in_line(
        &self,
        line: &str,
        key: &str,
        delivery_id: &str,
        always: bool,
    ) -> Result<Option<String>, StoreError> {
        let (line, key, id) = (text::id(line), text::id(key), text::id(delivery_id));
        if !always {
            let (line, key) = (line.clone(), key.clone());
            if self.read.run(move |db| lines::is_empty(db, &line, &key)).await? {
                return Ok(None);
            }
        }
        self.write.run(move |db| lines::stand(db, &line, &key, &id, always)).await
    }

    async fn leave_line(&self, delivery_id: &str) -> Result<(), StoreError> {
        let id = text::id(delivery_id);
        let looked_for = id.clone();
        if self.read.run(move |db| lines::stands(db, &looked_for)).await? {
            self.write.run(move |db| lines::leave(db, &id)).await?;
        }
        Ok(())
    }

    async fn heads(&self, limit: u32) -> Result<Vec<Head>, StoreError> {
        self.read.run(move |db| lines::heads(db, limit)).await
    }

    async fn remember(&self, seen: &[Seen]) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        let seen = seen.to_vec();
        self.write_ledger.run(move |db| ledger::remember(db, &seen)).await
    }

    async fn seen(&self, source: &str, message_id: &str) -> Result<Option<Seen>, StoreError> {
        let (source, message_id) = (source.to_owned(), message_id.to_owned());
        self.read_ledger.run(move |db| ledger::seen(db, source, message_id)).await
    }

    async fn seen_among(&self, source: &str, message_ids: &[String]) -> Result<Vec<Seen>, StoreError> {
        let mut found = Vec::new();
        // A piece at a time, so that what is hot is read between.
        for piece in message_ids.chunks(ledger::LOOKED_UP) {
            let (source, piece) = (source.to_owned(), piece.to_vec());
            found.extend(self.read_ledger.run(move |db| ledger::seen_among(db, &source, &piece)).await?);
        }
        Ok(found)
    }

    async fn record_done(&self, delivery_ids: &[String]) -> Result<(), StoreError> {
        if delivery_ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = delivery_ids.iter().map(|id| text::id(id)).collect();
        self.write_ledger.run(move |db| ledger::record_done(db, &ids)).await
    }

    async fn is_done(&self, delivery_id: &str) -> Result<bool, StoreError> {
        let id = text::id(delivery_id);
        self.read_ledger.run(move |db| ledger::is_done(db, &id)).await
    }

    async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        let mut place = Some(ledger::Place::default());
        // A piece at a time, so that what is hot is written between.
        while let Some(from) = place {
            let (count, next) = self.write_ledger.run(move |db| ledger::forget(db, before, from)).await?;
            forgotten += count;
            place = next;
        }
        Ok(forgotten)
    }

    async fn take_cursor(&self, name: &str, _lease: Duration) -> Result<Option<Held>, StoreError> {
        let name = name.to_owned();
        self.write_ledger.run(move |db| cursors::take(db, &name).map(Some)).await
    }

    async fn save_cursor(
        &self,
        name: &str,
        epoch: i64,
        value: Option<&str>,
        _lease: Duration,
    ) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        self.write_ledger.run(move |db| cursors::save(db, &name, epoch, value.as_deref())).await
    }

    async fn free_cursor(&self, _name: &str, _epoch: i64) -> Result<(), StoreError> {
        Ok(())
    }

    async fn take_merged(&self, route: &str, key: &str, _lease: Duration) -> Result<Option<Held>, StoreError> {
        let (route, key) = (text::id(route), text::id(key));
        self.read.run(move |db| merged::take(db, &route, &key).map(Some)).await
    }

    async fn save_merged(&self, route: &str, key: &str, epoch: i64, value: &str) -> Result<(), StoreError> {
        let (route, key, value) = (text::id(route), text::id(key), value.to_owned());
        self.write.run(move |db| merged::save(db, &route, &key, epoch, &value)).await
    }

    async fn free_merged(&self, _route: &str, _key: &str, _epoch: i64) -> Result<(), StoreError> {
        Ok(())
    }

    async fn put_backfill(&self, new: &NewBackfill) -> Result<i64, StoreError> {
        let new = new.clone();
        self.write.run(move |db| backfills::put(db, &new)).await
    }

    async fn backfills(&self, state: Option<BackfillState>, limit: u32) -> Result<Vec<Backfill>, StoreError> {
        self.read.run(move |db| backfills::list(db, state, limit)).await
    }

    async fn backfill(&self, id: i64) -> Result<Backfill, StoreError> {
        self.read.run(move |db| backfills::get(db, id)).await
    }

    async fn backfill_slices(&self, id: i64) -> Result<Vec<SliceState>, StoreError> {
        self.read.run(move |db| backfills::slices(db, id)).await
    }

    async fn turn_backfill(&self, id: i64, turn: &Turn, actor: &str) -> Result<(), StoreError> {
        let (turn, actor) = (turn.clone(), actor.to_owned());
        self.write.run(move |db| backfills::turn(db, id, &turn, &actor)).await
    }

    async fn save_slice(
        &self,
        id: i64,
        number: i64,
        seen: Option<&str>,
        after: Option<&str>,
        tally: Tally,
    ) -> Result<(), StoreError> {
        let (seen, after) = (seen.map(str::to_owned), after.map(str::to_owned));
        self.write.run(move |db| backfills::save(db, id, number, seen.as_deref(), after.as_deref(), tally)).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let entry = chain::entry(entry);
        self.write.run(move |db| audit::append(db, &entry)).await
    }

    async fn audit_entries(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.read.run(move |db| audit::newest(db, limit)).await
    }

    async fn verify_audit(&self) -> Result<u64, StoreError> {
        self.read.run(audit::verify).await
    }

    async fn ping(&self) -> Result<String, StoreError> {
        let path = self.path.display().to_string();
        self.read_ledger.run(|db| Ok(db.query_row("SELECT count(*) FROM gatehouse_version", [], |_| Ok(()))?)).await?;
        self.read
            .run(move |db| {
                let open: u64 =
                    db.query_row("SELECT count(*) FROM letter WHERE state = 'open'", [], |row| row.get(0))?;
                Ok(format!("SQLite {}, {path}, open dead letters: {open}", rusqlite::version()))
            })
            .await
    }
}
