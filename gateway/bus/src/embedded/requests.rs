//! Requests of waiting callers. Nothing here is durable: the caller is in this process and dies with it. So no file, no
//! writer: one lock, held for moments.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::inbox::Inbox;
use super::settle;
use super::takers::{TakerId, Takers};
use crate::{DEAD, Delivered, Depth, Parcel, RequestError, Settle, SettleError, Settlement, Topology, rung};

/// What may wait on one request queue, in bytes, where the topology does not say.
const LIMIT: u64 = 64 * 1024 * 1024;

/// How long the disk may take for a request that becomes a dead letter.
const DEAD_DEADLINE: Duration = Duration::from_secs(30);

struct Asked {
    parcel: Parcel,
    answer: oneshot::Sender<Parcel>,
    at: Instant,
    redelivered: bool,
}

#[derive(Default)]
struct Counter {
    takers: Takers,
    limit: u64,
    bytes: u64,
    ready: BTreeMap<u64, Asked>,
    flights: HashMap<u64, (TakerId, Asked)>,
}

#[derive(Default)]
struct State {
    counters: BTreeMap<String, Counter>,
    ladder: Vec<Duration>,
    next: u64,
    closed: bool,
}

pub(super) struct Requests {
    state: Mutex<State>,
    /// For requests that become dead letters.
    inbox: Arc<Inbox>,
}

impl Requests {
    pub(super) fn new(inbox: Arc<Inbox>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), inbox })
    }

    pub(super) fn declare(&self, topology: &Topology) {
        let mut state = self.lock();
        state.ladder.clone_from(&topology.ladder);
        state.ladder.sort_unstable();
        for (name, spec) in topology.queues.iter().filter(|(_, spec)| spec.request) {
            let counter = state.counters.entry(name.clone()).or_default();
            counter.limit = spec.max_bytes.unwrap_or(LIMIT);
            counter.takers.single = spec.single_active_consumer;
        }
    }

    pub(super) fn has(&self, queue: &str) -> bool {
        self.lock().counters.contains_key(queue)
    }

    pub(super) fn consume(self: &Arc<Self>, queue: &str, prefetch: u16, sender: mpsc::Sender<Delivered>) {
        self.turn(queue, |state| {
            state.next += 1;
            let id = state.next;
            if let Some(counter) = state.counters.get_mut(queue) {
                counter.takers.add(id, sender, prefetch);
            }
        });
    }

    pub(super) async fn ask(
        self: &Arc<Self>,
        queue: &str,
        parcel: Parcel,
        deadline: Duration,
    ) -> Result<Parcel, RequestError> {
        let (answer, answered) = oneshot::channel();
        let id = self.turn(queue, |state| {
            let unavailable = |text: String| Err(RequestError::Unavailable(text));
            if state.closed {
                return unavailable("the bus is closed".to_owned());
            }
            state.next += 1;
            let id = state.next;
            let Some(counter) = state.counters.get_mut(queue) else {
                return unavailable(format!("there is no request queue {queue:?} in the topology"));
            };
            let size = parcel.body.len() as u64;
            if counter.bytes + size > counter.limit {
                return unavailable(format!("request queue {queue:?} is full: {} bytes wait", counter.bytes));
            }
            counter.bytes += size;
            counter.ready.insert(id, Asked { parcel, answer, at: Instant::now(), redelivered: false });
            Ok(id)
        })?;
        // However the waiting ends, also when the caller goes away: nothing of it stays.
        let _waiting = Waiting { requests: self, queue, id };
        match timeout(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(RequestError::Deadline),
        }
    }

    pub(super) fn depths(&self) -> BTreeMap<String, Depth> {
        let state = self.lock();
        let depth = |counter: &Counter| Depth {
            parcels: (counter.ready.len() + counter.flights.len()) as u64,
            consumers: counter.takers.count(),
            oldest: counter.ready.values().next().map(|asked| asked.at.elapsed()),
        };
        state.counters.iter().map(|(name, counter)| (name.clone(), depth(counter))).collect()
    }

    /// Ends every consumer's stream; whoever waits for an answer hears that none comes.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let counters: Vec<Counter> = state.counters.values_mut().map(std::mem::take).collect();
        drop(state);
        drop(counters);
    }

    /// Changes something, then hands out what can be handed out. Sent after the lock is released: a consumer that has
    /// just gone gives back what it gets, which comes here again.
    fn turn<T>(self: &Arc<Self>, queue: &str, change: impl FnOnce(&mut State) -> T) -> T {
        let mut out = Vec::new();
        let outcome = {
            let mut state = self.lock();
            let outcome = change(&mut state);
            if let Some(counter) = state.counters.get_mut(queue) {
                while !counter.ready.is_empty()
                    && let Some((taker, sender)) = counter.takers.choose()
                    && let Some((id, asked)) = counter.ready.pop_first()
                {
                    let asking = Asking { requests: Arc::clone(self), queue: queue.to_owned(), id };
                    let settlement = Settlement::new(Arc::new(asking));
                    let (parcel, redelivered) = (asked.parcel.clone(), asked.redelivered);
                    counter.flights.insert(id, (taker, asked));
                    out.push((sender, Delivered { parcel, redelivered, settlement }));
                }
            }
            outcome
        };
        for (sender, delivered) in out {
            let _ = sender.try_send(delivered);
        }
        outcome
    }

    /// Takes a request out of its consumer's hands; `None` where its caller has gone.
    fn land(self: &Arc<Self>, queue: &str, id: u64) -> Option<Asked> {
        self.turn(queue, |state| {
            let counter = state.counters.get_mut(queue)?;
            let (taker, asked) = counter.flights.remove(&id)?;
            counter.takers.release(taker);
            counter.bytes -= asked.parcel.body.len() as u64;
            Some(asked)
        })
    }

    /// Back to its place in the line.
    fn put_back(self: &Arc<Self>, queue: &str, id: u64, mut asked: Asked) {
        if asked.answer.is_closed() {
            return;
        }
        asked.redelivered = true;
        self.turn(queue, |state| {
            if let Some(counter) = state.counters.get_mut(queue) {
                counter.bytes += asked.parcel.body.len() as u64;
                counter.ready.insert(id, asked);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller that waits. A request in somebody's hands is theirs to settle.
struct Waiting<'a> {
    requests: &'a Requests,
    queue: &'a str,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.requests.lock().counters.get_mut(self.queue)
            && let Some(asked) = counter.ready.remove(&self.id)
        {
            counter.bytes -= asked.parcel.body.len() as u64;
        }
    }
}

/// A request in a consumer's hands.
struct Asking {
    requests: Arc<Requests>,
    queue: String,
    id: u64,
}

impl Asking {
    fn land(&self) -> Option<Asked> {
        self.requests.land(&self.queue, self.id)
    }
}

#[async_trait]
impl Settle for Asking {
    async fn done(&self) -> Result<(), SettleError> {
        self.land();
        Ok(())
    }

    async fn retry(&self, parcel: Parcel, delay: Duration) -> Result<(), SettleError> {
        let Some(asked) = self.land() else { return Ok(()) };
        let delay = {
            let state = self.requests.lock();
            state.ladder.get(rung(&state.ladder, delay)).copied().unwrap_or_default()
        };
        let (requests, queue, id) = (Arc::clone(&self.requests), self.queue.clone(), self.id);
        // Ends by itself: a rung is bounded, and a caller that has gone needs no retry.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            requests.put_back(&queue, id, Asked { parcel, ..asked });
        });
        Ok(())
    }

    async fn dead(&self, parcel: Parcel) -> Result<(), SettleError> {
        let kept = settle::publish(&self.requests.inbox, DEAD, parcel, DEAD_DEADLINE).await;
        if let Err(error) = kept {
            self.give_back();
            return Err(SettleError(error.to_string()));
        }
        self.land();
        Ok(())
    }

    async fn reply(&self, answer: Parcel) -> Result<(), SettleError> {
        if let Some(asked) = self.land() {
            // A caller that has gone away is no error.
            let _ = asked.answer.send(answer);
        }
        Ok(())
    }

    fn give_back(&self) {
        if let Some(asked) = self.land() {
            self.requests.put_back(&self.queue, self.id, asked);
        }
    }
}
