//! What carries deliveries.
//!
//! [`Bus`] is the contract; [`embedded`] (one process, one file) and [`rabbitmq`] fulfil it, and both pass the one
//! conformance suite in `tests/it/conformance`. A bus knows queues and parcels, not routes, systems or mappings. [`claims`] stands
//! before either, for bodies that are too large for a bus.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub mod claims;
pub mod embedded;
mod headers;
pub mod rabbitmq;

pub use headers::Headers;

/// The delays that a parcel can wait before it comes back, shortest first: the shared retry ladder.
pub const LADDER: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3600),
];

/// The rung that waits at least nearly as long as asked: the longest one that is not longer, and never less than the first.
#[must_use]
pub fn rung(ladder: &[Duration], asked: Duration) -> usize {
    ladder.iter().rposition(|delay| *delay <= asked).unwrap_or(0)
}

/// The queue that holds what needs a person, until the store has it.
pub const DEAD: &str = "gatehouse.dead";

/// The queue that catches what no queue wanted: a lost binding, a deleted queue.
pub const UNROUTABLE: &str = "gatehouse.unroutable";

/// Everything that a site needs on the bus. Data: it can be compared and shown before it is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// One queue a target: `gatehouse.work.<route>.<target>`.
    pub queues: BTreeMap<String, QueueSpec>,
    /// The delays of the retry ladder; [`LADDER`] but in tests.
    pub ladder: Vec<Duration>,
}

/// One work queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSpec {
    /// One consumer at a time, among all gateways, so that order can be kept.
    pub single_active_consumer: bool,
    /// Refuse publishes above so many bytes waiting; `None` for 1 GiB.
    pub max_bytes: Option<u64>,
    /// Requests of waiting callers: not durable, expiring, published `mandatory`.
    pub request: bool,
}

/// What travels: a body with its names. Header names are ASCII, values UTF-8; together at most 32 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// Unique for one publish of one delivery; returned messages are matched by it.
    pub id: String,
    /// `application/json` for canonical bodies.
    pub content_type: String,
    /// Attributes and Gatehouse's own headers (`gatehouse-…`). Order does not matter.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

impl Parcel {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// Why a publish did not end in a confirm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The bus said no, or was never asked; the parcel is not on it. Safe to send again at once.
    #[error("the bus refused it: {0}")]
    Refused(String),
    /// The bus is not reachable or blocked, and nothing was sent.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// It was sent and no confirm came in time. It may be on the bus. Sending it again may double it.
    #[error("no confirm came: {0}")]
    Unknown(String),
}

/// Why anything else failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Not reachable now; the bus goes on trying by itself.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// What is there contradicts what is asked (other queue arguments, no rights): a person must look.
    #[error("{0}")]
    Contradiction(String),
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
}

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody can take it; nothing was sent.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// No answer before the deadline. It may still be worked on.
    #[error("no answer came in time")]
    Deadline,
}

/// How the bus is doing, for readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Not connected (yet), and why.
    #[default]
    Starting,
    /// Connected, topology declared, publishing possible.
    Ready,
    /// Connected, but the broker has told publishers to wait (memory or disk alarm).
    Blocked(String),
    /// Not connected, being tried again.
    Down(String),
}

/// How full a queue is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Parcels ready and in flight; waiting retries count on their ladder queue.
    pub parcels: u64,
    /// Consumers on it, where the bus can tell.
    pub consumers: u64,
    /// How long the oldest ready parcel has waited, where the bus can tell.
    pub oldest: Option<Duration>,
}

/// What carries deliveries.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Makes the topology be there: declares what is missing, never deletes. Remembered, and declared again after any
    /// loss. Queues that are no longer named stay until they are empty and an operator removes them.
    ///
    /// # Errors
    /// `Contradiction` where something of that name is there and different.
    async fn declare(&self, topology: Topology) -> Result<(), BusError>;

    /// Puts a parcel on a queue, persistently. `Ok` means that it is durable: fsync, or a majority's confirm.
    ///
    /// # Errors
    /// See [`PublishError`]: only `Unknown` leaves it open whether it is there.
    async fn publish(&self, queue: &str, parcel: Parcel, deadline: Duration) -> Result<(), PublishError>;

    /// Takes parcels from a queue, at most `prefetch` unsettled at a time, until the consumer is dropped. Lost
    /// connections, cancelled consumers and deleted queues are mended underneath; parcels in flight come again.
    ///
    /// # Errors
    /// `Contradiction` where the queue is not in the topology; `Closed`.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, BusError>;

    /// Puts a request on a request queue and waits for its answer.
    ///
    /// # Errors
    /// See [`RequestError`].
    async fn request(&self, queue: &str, parcel: Parcel, deadline: Duration) -> Result<Parcel, RequestError>;

    /// How full each queue of the topology is, the ladder, [`DEAD`] and [`UNROUTABLE`] with it.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn depths(&self) -> Result<BTreeMap<String, Depth>, BusError>;

    /// How the bus is doing, now and at each change.
    fn health(&self) -> watch::Receiver<Health>;

    /// Stops consumers, waits (bounded) for confirms under way, and closes.
    async fn close(&self);
}

/// A stream of deliveries from one queue.
pub struct Consumer {
    source: tokio::sync::mpsc::Receiver<Delivered>,
    /// Where large bodies wait.
    shelf: Option<Arc<claims::Shelf>>,
    /// A delivery that has come and whose large body is being fetched.
    opening: Option<Pin<Box<dyn Future<Output = Delivered> + Send>>>,
    /// Dropped with the consumer: tells the bus to stop.
    _stop: tokio_util::sync::DropGuard,
}

impl Consumer {
    /// For implementations: what they feed, and what ends when the consumer is dropped.
    #[must_use]
    pub fn new(source: tokio::sync::mpsc::Receiver<Delivered>, stop: tokio_util::sync::DropGuard) -> Self {
        Self { source, shelf: None, opening: None, _stop: stop }
    }

    /// The next delivery; `None` once the bus is closed. Dropped before it is done, it takes nothing with it: the next call
    /// goes on where this one was, so that what comes stays in its order.
    pub async fn next(&mut self) -> Option<Delivered> {
        if self.opening.is_none() {
            let delivered = self.source.recv().await?;
            match &self.shelf {
                Some(shelf) if delivered.parcel.header(claims::CLAIM).is_some() => {
                    let shelf = shelf.clone();
                    self.opening = Some(Box::pin(async move { shelf.open(delivered).await }));
                }
                Some(shelf) => return Some(shelf.open(delivered).await),
                None => return Some(delivered),
            }
        }
        let opened = self.opening.as_mut()?.await;
        self.opening = None;
        Some(opened)
    }
}

/// A parcel in our hands, and the one answer that it must get.
pub struct Delivered {
    /// What came.
    pub parcel: Parcel,
    /// Whether it may have been in somebody's hands before (broker's word, or reopened after a crash).
    pub redelivered: bool,
    /// How to answer.
    pub settlement: Settlement,
}

/// The one answer that every delivery gets. Dropped without one, the parcel is given back and comes again.
#[must_use = "dropping a settlement gives the parcel back"]
pub struct Settlement(Option<Arc<dyn Settle>>);

impl Settlement {
    /// For implementations.
    pub fn new(settle: Arc<dyn Settle>) -> Self {
        Self(Some(settle))
    }

    /// It is done: forget it.
    ///
    /// # Errors
    /// The parcel was no longer ours (connection lost): it will come again, and must be recognised by its delivery id.
    pub async fn done(mut self) -> Result<(), SettleError> {
        match self.0.take() {
            Some(settle) => settle.done().await,
            None => Err(SettleError("settled already".to_owned())),
        }
    }

    /// Bring `parcel` (the same with its attempt counted) again after `delay`, rounded to a rung of the ladder. The
    /// copy is confirmed before the original is forgotten.
    ///
    /// # Errors
    /// As [`Settlement::done`]; where the copy was not confirmed, the original comes again.
    pub async fn retry(mut self, parcel: Parcel, delay: Duration) -> Result<(), SettleError> {
        match self.0.take() {
            Some(settle) => settle.retry(parcel, delay).await,
            None => Err(SettleError("settled already".to_owned())),
        }
    }

    /// Moves `parcel` (the same with its fault written on it) to [`DEAD`]. The copy is confirmed before the original is
    /// forgotten.
    ///
    /// # Errors
    /// As [`Settlement::retry`].
    pub async fn dead(mut self, parcel: Parcel) -> Result<(), SettleError> {
        match self.0.take() {
            Some(settle) => settle.dead(parcel).await,
            None => Err(SettleError("settled already".to_owned())),
        }
    }

    /// Answers a request ([`Bus::request`]) and forgets it. For any other parcel this is [`Settlement::done`].
    ///
    /// # Errors
    /// As [`Settlement::done`]. A caller that has gone away is no error.
    pub async fn reply(mut self, answer: Parcel) -> Result<(), SettleError> {
        match self.0.take() {
            Some(settle) => settle.reply(answer).await,
            None => Err(SettleError("settled already".to_owned())),
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if let Some(settle) = self.0.take() {
            settle.give_back();
        }
    }
}

/// Why an answer did not take: the parcel comes again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not settled: {0}")]
pub struct SettleError(pub String);

/// What an implementation does for a [`Settlement`]. Each is called at most once, and only one of them.
#[async_trait]
pub trait Settle: Send + Sync {
    /// See [`Settlement::done`].
    async fn done(&self) -> Result<(), SettleError>;
    /// See [`Settlement::retry`].
    async fn retry(&self, parcel: Parcel, delay: Duration) -> Result<(), SettleError>;
    /// See [`Settlement::dead`].
    async fn dead(&self, parcel: Parcel) -> Result<(), SettleError>;
    /// See [`Settlement::reply`].
    async fn reply(&self, answer: Parcel) -> Result<(), SettleError>;
    /// Dropped unsettled: back to the queue, near where it was.
    fn give_back(&self);
}
