//! Settling the parcels of one message, which the broker counts as one: it is acknowledged when the last of them is
//! settled. What was given back goes to its queue as a message of its own before that, so that nothing that is done
//! comes again because of its neighbours; where all were given back the message itself goes back.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::super::publish::Outgoing;
use super::super::settle::Session;
use crate::SettleError;

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

    /// The channel that it came by.
    pub(in super::super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// One of its parcels is done.
    pub(in super::super) async fn done(&self) -> Result<(), SettleError> {
        if let Some(back) = self.settle(None) {
            return self.finish(back).await;
        }
        if self.session.channel.status().connected() {
            return Ok(());
        }
        Err(SettleError("the channel it came by is gone".to_owned()))
    }

    /// One of its parcels is given back, in the background.
    pub(in super::super) fn give_back(self: Arc<Self>, at: usize) {
        let Some(back) = self.settle(Some(at)) else { return };
        if Handle::try_current().is_ok() {
            let session = self.session.clone();
            session.desk.acknowledging.spawn(async move {
                // Where it cannot be, it is given back whole, or the channel has gone and everything comes again.
                let _ = self.finish(back).await;
            });
        }
    }

    /// Counts one. Where it was the last: which were given back.
    fn settle(&self, back: Option<usize>) -> Option<Vec<usize>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settled += 1;
        state.back.extend(back);
        (state.settled == self.bytes.len()).then(|| std::mem::take(&mut state.back))
    }

    /// All are settled: tells the broker of the message.
    async fn finish(&self, mut back: Vec<usize>) -> Result<(), SettleError> {
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
