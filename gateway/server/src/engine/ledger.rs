//! The ledger: which ids came in, and which deliveries their targets have taken.
//!
//! It answers from memory first, then from the store, and writes to the store behind, in batches. A crash may lose the
//! last moment of it: a repeat from then is sent again with the same delivery id, never lost and never told no.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatehouse_core::fault::{Code, Fault};
use gatehouse_store::{Seen, Store};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::recent::Recent;

/// How many ids and deliveries are kept in memory.
const REMEMBERED: usize = 100_000;

/// How many writes may wait for the store.
const WAITING: usize = 16_384;

/// How long the first write of a batch waits for others. Nobody waits for it; a crash loses what came since. Ids are
/// random, so each of a small batch costs a page of the disk of its own; those of a large one share pages.
const LINGER: Duration = Duration::from_millis(250);

/// The most writes in one batch.
const BATCH: usize = 4_096;

/// Remembers ids.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    seen: Arc<Recent<[u8; 32]>>,
    done: Arc<Recent>,
    accepting: Arc<Mutex<HashSet<u128>>>,
    entries: mpsc::Sender<Entry>,
}

enum Entry {
    Seen(Seen),
    Done(String),
    Flush(oneshot::Sender<()>),
}

/// What an id that comes in turns out to be.
pub enum Claim {
    /// New: accept it, then [`Accepting::accepted`].
    New(Accepting),
    /// It came before with the same body.
    Repeated,
}

/// What the store says of the ids of a piece, asked for all of them at once.
pub struct Known(HashMap<String, [u8; 32]>);

/// Holds an id while its message is being accepted; dropped without `accepted`, the id is free again.
pub struct Accepting {
    ledger: Ledger,
    name: u128,
    seen: Option<Seen>,
}

impl Ledger {
    /// Starts the writer. It ends when the last clone is dropped.
    #[must_use]
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (entries, inbox) = mpsc::channel(WAITING);
        tokio::spawn(write_behind(store.clone(), inbox));
        let (seen, done) = (Arc::new(Recent::new(REMEMBERED)), Arc::new(Recent::new(REMEMBERED)));
        Self { store, seen, done, accepting: Arc::default(), entries }
    }

    /// Looks ids up that will be claimed in a moment.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn known(&self, source: &str, message_ids: &[String]) -> Result<Known, gatehouse_store::StoreError> {
        let seen = self.store.seen_among(source, message_ids).await?;
        Ok(Known(seen.into_iter().map(|seen| (seen.message_id, seen.body_hash)).collect()))
    }

    /// Looks at an id that its caller chose. Where it was looked up beforehand, the store is not asked again: what came in here
    /// since is in memory.
    ///
    /// # Errors
    /// `Conflict` where it came with another body, or is being accepted at this moment.
    pub async fn claim(
        &self,
        source: &str,
        message_id: &str,
        original: &[u8],
        known: Option<&Known>,
    ) -> Result<Claim, Fault> {
        let body_hash: [u8; 32] = Sha256::digest(original).into();
        let name = name(source, message_id);
        let busy = self.accepting.lock().map(|mut accepting| !accepting.insert(name)).unwrap_or(false);
        if busy {
            return Err(Fault::new(
                Code::Conflict,
                "a message with this id is being accepted at this moment; ask again",
            )
            .about(message_id));
        }
        // From here on the id is held, whichever way this ends.
        let seen = Seen { source: source.to_owned(), message_id: message_id.to_owned(), body_hash };
        let accepting = Accepting { ledger: self.clone(), name, seen: Some(seen) };
        let before = match (self.seen.get(accepting.name), known) {
            (Some(hash), _) => Some(hash),
            (None, Some(known)) => known.0.get(message_id).copied(),
            (None, None) => {
                let stored = self.store.seen(source, message_id).await;
                let stored = stored.map_err(|error| {
                    Fault::new(Code::Unavailable, "the store cannot be read now").private(error.to_string())
                })?;
                stored.map(|seen| seen.body_hash)
            }
        };
        match before {
            None => Ok(Claim::New(accepting)),
            Some(hash) if hash == body_hash => Ok(Claim::Repeated),
            Some(_) => {
                Err(Fault::new(Code::Conflict, "a message with this id came before with another body")
                    .about(message_id))
            }
        }
    }

    /// Whether a delivery's target has taken it before: looked up in memory, and where `thoroughly` in the store too.
    pub async fn is_done(&self, delivery_id: &str, thoroughly: bool) -> Result<bool, gatehouse_store::StoreError> {
        if self.done.contains(delivery_id) {
            return Ok(true);
        }
        if !thoroughly {
            return Ok(false);
        }
        self.store.is_done(delivery_id).await
    }

    /// Records that a delivery's target has taken it.
    pub async fn record_done(&self, delivery_id: &str) {
        self.done.insert(delivery_id);
        // The writer ends only with the process; a send that fails loses what the memory still knows.
        let _ = self.entries.send(Entry::Done(delivery_id.to_owned())).await;
    }

    /// Waits until everything so far is in the store.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.entries.send(Entry::Flush(done)).await.is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(5), wait).await;
        }
    }
}

impl Accepting {
    /// The bus holds it: a repeat is now recognised.
    pub async fn accepted(mut self) {
        if let Some(seen) = self.seen.take() {
            self.ledger.seen.put(self.name, seen.body_hash);
            let _ = self.ledger.entries.send(Entry::Seen(seen)).await;
        }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        if let Ok(mut accepting) = self.ledger.accepting.lock() {
            accepting.remove(&self.name);
        }
    }
}

/// An id and its source, as the memory knows them.
fn name(source: &str, message_id: &str) -> u128 {
    let mut hash = Sha256::new();
    hash.update(source);
    hash.update("\n");
    hash.update(message_id);
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

async fn write_behind(store: Arc<dyn Store>, mut inbox: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if inbox.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let deadline = tokio::time::Instant::now() + LINGER;
        while batch.len() < BATCH && !batch.iter().any(|entry| matches!(entry, Entry::Flush(_))) {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(deadline, inbox.recv_many(&mut batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let mut seen = Vec::new();
        let mut done = Vec::new();
        let mut flushes = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                Entry::Seen(entry) => seen.push(entry),
                Entry::Done(id) => done.push(id),
                Entry::Flush(waiter) => flushes.push(waiter),
            }
        }
        // In the order of the keys: neighbours share pages. Of two with one id the first stays first.
        seen.sort_by(|one: &Seen, other| (&one.source, &one.message_id).cmp(&(&other.source, &other.message_id)));
        done.sort_unstable();
        let mut wait = Duration::from_millis(50);
        for try_number in 1..=8 {
            let written = async {
                if !seen.is_empty() {
                    store.remember(&seen).await?;
                }
                if !done.is_empty() {
                    store.record_done(&done).await?;
                }
                Ok::<_, gatehouse_store::StoreError>(())
            };
            match written.await {
                Ok(()) => break,
                Err(error) if try_number == 8 => {
                    tracing::warn!(%error, ids = seen.len(), deliveries = done.len(), "the ledger could not be written: repeats of these will be sent again with the same delivery id");
                }
                Err(_) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(2));
                }
            }
        }
        for waiter in flushes {
            let _ = waiter.send(());
        }
    }
}
