//! Publishes of one queue that come at once go in one message. Nobody waits for others: while fewer than [`UNDER_WAY`]
//! messages of the queue wait for their confirm, a parcel goes at once; those that come meanwhile go together when one of
//! them is confirmed. Each caller is told its message's confirm, which is its own.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use lapin::types::ShortString;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::super::names::Names;
use super::super::parcels::{self, Stamp};
use super::super::publish::{Outgoing, Pool};
use crate::{Parcel, PublishError, Topology};

/// Messages of one queue that wait for their confirm, before the next parcel waits for company.
const UNDER_WAY: usize = 4;
/// So many messages back the mean size of batches is remembered, about.
const REMEMBERED: u64 = 4_096;

/// Where the publishes of all queues gather.
pub(in super::super) struct Gatherer {
    pool: Arc<Pool>,
    exchange: ShortString,
    /// Parcels a message at most.
    most: usize,
    /// Of queues whose parcels may travel together, as callers call them.
    gates: RwLock<HashMap<String, Arc<Gate>>>,
    sending: TaskTracker,
}

/// Where the publishes of one queue gather.
pub(in super::super) struct Gate {
    /// The queue on the broker.
    key: ShortString,
    crowd: Mutex<Crowd>,
    messages: AtomicU64,
    parcels: AtomicU64,
}

#[derive(Default)]
struct Crowd {
    waiting: VecDeque<Caller>,
    /// Tasks that send, each a message at a time.
    senders: usize,
    next: u64,
}

/// Somebody who publishes one parcel.
struct Caller {
    number: u64,
    parcel: Parcel,
    size: usize,
    until: Instant,
    tell: oneshot::Sender<Result<(), PublishError>>,
}

impl Gatherer {
    pub(in super::super) fn new(pool: Arc<Pool>, exchange: ShortString, most: usize) -> Self {
        Self { pool, exchange, most: most.max(1), gates: RwLock::default(), sending: TaskTracker::new() }
    }

    /// Learns which queues there are. What keeps order is not gathered, nor are requests.
    pub(in super::super) fn learn(&self, topology: &Topology, names: &Names) {
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        let may = |spec: &crate::QueueSpec| self.most > 1 && !spec.single_active_consumer && !spec.request;
        gates.retain(|queue, _| topology.queues.get(queue).is_some_and(may));
        for (queue, _) in topology.queues.iter().filter(|(_, spec)| may(spec)) {
            if let (false, Some(key)) = (gates.contains_key(queue), names.on_broker(queue)) {
                let gate = Gate { key, crowd: Mutex::default(), messages: 0.into(), parcels: 0.into() };
                gates.insert(queue.clone(), Arc::new(gate));
            }
        }
    }

    /// The gate of a queue, where its parcels may travel together.
    pub(in super::super) fn gate(&self, queue: &str) -> Option<Arc<Gate>> {
        self.gates.read().unwrap_or_else(PoisonError::into_inner).get(queue).cloned()
    }

    /// Publishes a parcel of this size ([`super::size`]), and waits for its message's confirm.
    pub(in super::super) async fn send(
        self: &Arc<Self>,
        gate: Arc<Gate>,
        parcel: Parcel,
        size: usize,
        within: Duration,
    ) -> Result<(), PublishError> {
        self.pool.reachable()?;
        let until = Instant::now() + within;
        let (tell, mut told) = oneshot::channel();
        let (number, leads) = {
            let mut crowd = gate.crowd();
            let number = crowd.next;
            crowd.next += 1;
            crowd.waiting.push_back(Caller { number, parcel, size, until, tell });
            let leads = crowd.senders < UNDER_WAY;
            crowd.senders += usize::from(leads);
            (number, leads)
        };
        if leads {
            self.sending.spawn(self.clone().drain(gate.clone()));
        }
        let lost = || PublishError::Unknown("the publish was stopped".to_owned());
        match timeout_at(until, &mut told).await {
            Ok(told) => told.unwrap_or_else(|_| Err(lost())),
            Err(_) if gate.withdraw(number) => {
                Err(PublishError::Unavailable(format!("RabbitMQ confirmed nothing for {within:.1?}; it was not sent")))
            }
            // On its way: its sender tells at about the same time.
            Err(_) => told.try_recv().unwrap_or_else(|_| {
                Err(PublishError::Unknown(format!("RabbitMQ did not confirm within {within:.1?}")))
            }),
        }
    }

    /// Sends what waits, a message at a time, until nothing does.
    async fn drain(self: Arc<Self>, gate: Arc<Gate>) {
        while let Some(callers) = gate.take(self.most) {
            let until = callers.iter().map(|caller| caller.until).max();
            let within = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            let count = callers.len() as u64;
            let (out, tells) = match self.outgoing(&gate, callers) {
                Ok(message) => message,
                Err((reason, tells)) => {
                    tells.into_iter().for_each(|tell| drop(tell.send(Err(PublishError::Refused(reason.clone())))));
                    continue;
                }
            };
            let outcome = self.pool.send(out, within).await;
            if outcome.is_ok() {
                gate.count(count);
            }
            for tell in tells {
                let _ = tell.send(outcome.clone()); // it does not wait any more
            }
        }
    }

    fn outgoing(&self, gate: &Gate, mut callers: Vec<Caller>) -> Result<(Outgoing, Vec<Tell>), (String, Vec<Tell>)> {
        let message = if callers.len() == 1 {
            let Parcel { id, content_type, headers, body } = std::mem::take(&mut callers[0].parcel);
            parcels::properties(id, content_type, headers, Stamp::default()).map(|properties| (body, properties))
        } else {
            let size = callers.iter().map(|caller| caller.size).sum();
            let first = super::properties(&callers[0].parcel.id, false);
            super::write(callers.iter().map(|caller| &caller.parcel), size).map(|body| (body, first))
        };
        let tells = callers.into_iter().map(|caller| caller.tell).collect();
        match message {
            Ok((body, properties)) => {
                let (exchange, key) = (self.exchange.clone(), gate.key.clone());
                Ok((Outgoing { exchange, key, mandatory: false, body, properties }, tells))
            }
            Err(reason) => Err((reason, tells)),
        }
    }

    /// Waits until nothing is being sent, or the deadline.
    pub(in super::super) async fn idle(&self, deadline: Duration) {
        self.sending.close();
        let _ = timeout(deadline, self.sending.wait()).await;
    }
}

type Tell = oneshot::Sender<Result<(), PublishError>>;

impl Gate {
    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message's parcels; `None`, and one sender less, where nobody waits.
    fn take(&self, most: usize) -> Option<Vec<Caller>> {
        let mut crowd = self.crowd();
        let mut callers: Vec<Caller> = Vec::new();
        let mut taken = 0;
        while let Some(next) = crowd.waiting.front() {
            if !callers.is_empty() && (callers.len() >= most || !super::has_room(taken, next.size)) {
                break;
            }
            taken += next.size;
            // One who has gone away before it was sent wants nothing any more.
            callers.extend(crowd.waiting.pop_front().filter(|caller| !caller.tell.is_closed()));
        }
        if callers.is_empty() {
            crowd.senders -= 1;
            return None;
        }
        Some(callers)
    }

    /// Takes a caller back whose parcel has not been sent. False where it has.
    fn withdraw(&self, number: u64) -> bool {
        let mut crowd = self.crowd();
        let before = crowd.waiting.len();
        crowd.waiting.retain(|caller| caller.number != number);
        crowd.waiting.len() < before
    }

    /// A message with so many parcels went to the queue, or came from it.
    pub(in super::super) fn count(&self, parcels: u64) {
        if self.messages.fetch_add(1, Ordering::Relaxed) > REMEMBERED {
            for number in [&self.messages, &self.parcels] {
                number.store(number.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
        self.parcels.fetch_add(parcels, Ordering::Relaxed);
    }

    /// About how many parcels so many messages on the queue are.
    pub(in super::super) fn parcels_of(&self, messages: u64) -> u64 {
        let (sent, parcels) = (self.messages.load(Ordering::Relaxed), self.parcels.load(Ordering::Relaxed));
        if sent == 0 || parcels <= sent { messages } else { messages.saturating_mul(parcels) / sent }
    }
}
