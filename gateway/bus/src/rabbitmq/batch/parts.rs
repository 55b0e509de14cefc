//! Settling the parcels of one message, which the broker counts as one: it is acknowledged when the last of them is
//! settled. What was given back goes to its queue as a message of its own before that, so that nothing that is done
//! comes again because of its neighbours; where all were given back the message itself goes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::super::publish::Outgoing;
use super::super::settle::{Desk, Session};
use crate::{Parcel, Settle, SettleError};

/// A message's parcels, in several hands.
pub(in super::super) struct Batch {
    session: Arc<Session>,
    tag: u64,
    /// Their bytes, in order.
    bytes: Vec<Bytes>,
    /// The id that the copy of what is given back is called by.
    first: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    settled: usize,
    /// Which were given back.
    back: Vec<usize>,
}

impl Batch {
    pub(in super::super) fn new(session: Arc<Session>, tag: u64, first: String, bytes: Vec<Bytes>) -> Arc<Self> {
        Arc::new(Self { session, tag, bytes, first, state: Mutex::default() })
    }

    /// One of its parcels, in somebody's hands.
    pub(in super::super) fn part(self: &Arc<Self>, at: usize, permit: Option<OwnedSemaphorePermit>) -> Piece {
        Piece { batch: self.clone(), at, _permit: permit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one. True where it was the last.
    fn settle(&self, at: usize, back: bool) -> bool {
        let mut state = self.state();
        state.settled += 1;
        if back {
            state.back.push(at);
        }
        state.settled == self.bytes.len()
    }

    /// All are settled: tells the broker of the message.
    async fn finish(&self) -> Result<(), SettleError> {
        let mut back = std::mem::take(&mut self.state().back);
        if back.is_empty() {
            return self.session.ack(self.tag).await;
        }
        back.sort_unstable();
        // A copy would be behind what comes after it, and of a letter it would not say where it was meant to go; what is
        // done of these is recognised when it comes again.
        let whole = back.len() == self.bytes.len() || self.session.is_ordered() || !self.session.copies;
        if whole || !self.session.channel.status().connected() {
            self.session.clone().give_back(self.tag);
            return Ok(());
        }
        match self.copy(&back).await {
            Ok(()) => self.session.ack(self.tag).await,
            Err(error) => {
                self.session.clone().give_back(self.tag);
                Err(error)
            }
        }
    }

    /// Publishes these of its parcels again.
    async fn copy(&self, which: &[usize]) -> Result<(), SettleError> {
        let mut body = Vec::new();
        which.iter().filter_map(|at| self.bytes.get(*at)).for_each(|bytes| body.extend_from_slice(bytes));
        let (desk, key) = (&self.session.desk, self.session.queue.clone());
        let properties = super::properties(&self.first, true);
        desk.send(Outgoing { exchange: desk.names.work(), key, mandatory: false, body: body.into(), properties }).await
    }
}

/// One parcel of a message.
pub(in super::super) struct Piece {
    batch: Arc<Batch>,
    at: usize,
    /// Its place in the consumer's window, until it is settled.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Piece {
    fn desk(&self) -> &Arc<Desk> {
        &self.batch.session.desk
    }

    async fn settled(&self) -> Result<(), SettleError> {
        if self.batch.settle(self.at, false) {
            return self.batch.finish().await;
        }
        if self.batch.session.channel.status().connected() {
            return Ok(());
        }
        Err(SettleError("the channel it came by is gone".to_owned()))
    }

    /// After a copy that was confirmed; back to the queue after one that was not.
    async fn after(&self, copied: Result<(), SettleError>) -> Result<(), SettleError> {
        match copied {
            Ok(()) => self.settled().await,
            Err(error) => {
                self.give_back();
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Settle for Piece {
    async fn done(&self) -> Result<(), SettleError> {
        self.settled().await
    }

    async fn retry(&self, parcel: Parcel, delay: Duration) -> Result<(), SettleError> {
        let copied = self.desk().retry(&self.batch.session.queue, parcel, delay, Default::default()).await;
        self.after(copied).await
    }

    async fn dead(&self, parcel: Parcel) -> Result<(), SettleError> {
        let copied = self.desk().dead(&self.batch.session.queue, parcel).await;
        self.after(copied).await
    }

    /// Nobody asks by a batch.
    async fn reply(&self, _answer: Parcel) -> Result<(), SettleError> {
        self.done().await
    }

    fn give_back(&self) {
        if !self.batch.settle(self.at, true) {
            return;
        }
        if Handle::try_current().is_ok() {
            let batch = self.batch.clone();
            self.desk().acknowledging.spawn(async move {
                // Where it cannot be, it is given back whole, or the channel has gone and everything comes again.
                let _ = batch.finish().await;
            });
        }
    }
}
