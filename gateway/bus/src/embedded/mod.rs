//! The embedded bus: durable queues in one SQLite file, for one process.
//!
//! A publish is confirmed after its transaction's fsync; publishes that come together share one. One thread owns the
//! file, nothing else blocks. It is no library of queues for others: the contract is [`Bus`], and the promises are those of
//! RabbitMQ with a quorum of one disk.
//!
//! ```text
//!  publish, settle ──► inbox ──► writer ──► file (one transaction a batch, then the answers)
//!                                  │ shelves: per queue what is next and who takes it
//!  consumers ◄─────────────────────┘
//!  request ──► requests (memory only) ──► consumers
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{Bus, BusError, Consumer, Depth, Health, Parcel, PublishError, RequestError, Topology};

mod clock;
mod commit;
mod dispatch;
mod file;
mod inbox;
mod ladder;
mod mend;
mod place;
mod requests;
mod row;
mod settle;
mod shelf;
mod takers;
mod trouble;
mod writer;

#[cfg(test)]
mod tests;

/// The queue of rows that are not what was written: kept for a person with `sqlite3`, served to nobody. It stands in
/// [`Bus::depths`] while it holds something.
pub const QUARANTINE: &str = "gatehouse.quarantine";

/// How long declaring, consuming and counting wait for the writer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How long [`Bus::close`] waits for what is under way.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Limits of an embedded bus.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bodies kept in memory for consumers to come, in bytes, over all queues; beyond it they are read from the file when
    /// their turn comes. What consumers hold (their prefetch) is not counted.
    pub body_memory: u64,
    /// Bytes of publishes that may wait for the disk; further publishers wait for room.
    pub publish_memory: u64,
    /// The file's size in pages of 8 KiB; `None` for the disk's.
    pub max_pages: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { body_memory: 64 * 1024 * 1024, publish_memory: 32 * 1024 * 1024, max_pages: None }
    }
}

/// A bus in one file.
///
/// Dropped without [`Bus::close`] it ends like a crash: what was confirmed is there at the next opening, the rest may be.
pub struct Embedded {
    inbox: Arc<inbox::Inbox>,
    requests: Arc<requests::Requests>,
    health: watch::Receiver<Health>,
}

impl Embedded {
    /// Opens or makes the file, with default [`Options`]. Blocks (a few milliseconds; up to 1.5 s while another process
    /// holds the file).
    ///
    /// # Errors
    /// `Unavailable`: another process has it, no room, no rights. `Contradiction`: it is damaged, or no bus.
    pub fn open(path: &Path) -> Result<Self, BusError> {
        Self::open_with(path, Options::default())
    }

    /// [`Embedded::open`] with other limits.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_with(path: &Path, options: Options) -> Result<Self, BusError> {
        let refused = |trouble: trouble::Trouble| match trouble {
            trouble::Trouble::Damaged(text) => BusError::Contradiction(text),
            other => BusError::Unavailable(other.text().to_owned()),
        };
        let file = file::File::open(path, options.max_pages).map_err(refused)?;
        let inbox = Arc::new(inbox::Inbox::new(options.publish_memory));
        let (tell, health) = watch::channel(Health::Starting);
        let writer = writer::Writer::new(path.to_owned(), file, options, Arc::clone(&inbox), tell).map_err(refused)?;
        std::thread::Builder::new()
            .name("bus-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| BusError::Unavailable(format!("no thread for the bus: {error}")))?;
        let requests = requests::Requests::new(Arc::clone(&inbox));
        Ok(Self { inbox, requests, health })
    }

    async fn ask<T>(&self, op: impl FnOnce(oneshot::Sender<T>) -> inbox::Op) -> Result<T, BusError> {
        let (answer, answered) = oneshot::channel();
        if !self.inbox.push(op(answer)) {
            return Err(BusError::Closed);
        }
        match tokio::time::timeout(ANSWER_DEADLINE, answered).await {
            Ok(answer) => answer.map_err(|_| BusError::Closed),
            Err(_) => Err(BusError::Unavailable(format!("the disk did not answer within {ANSWER_DEADLINE:?}"))),
        }
    }
}

#[async_trait]
impl Bus for Embedded {
    async fn declare(&self, topology: Topology) -> Result<(), BusError> {
        let asked = topology.clone();
        self.ask(|answer| inbox::Op::Declare { topology: asked, answer }).await??;
        self.requests.declare(&topology);
        Ok(())
    }

    async fn publish(&self, queue: &str, parcel: Parcel, deadline: Duration) -> Result<(), PublishError> {
        if self.requests.has(queue) {
            let text = format!("{queue:?} is a request queue: what is published there would not be durable");
            return Err(PublishError::Refused(text));
        }
        settle::publish(&self.inbox, queue, parcel, deadline).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, BusError> {
        // 0 means "no limit" in AMQP; every limit exists here.
        let prefetch = prefetch.max(1);
        let (sender, source) = mpsc::channel(prefetch.into());
        if self.requests.has(queue) {
            self.requests.consume(queue, prefetch, sender);
        } else {
            let queue = queue.to_owned();
            self.ask(|answer| inbox::Op::Consume { queue, prefetch, sender, answer }).await??;
        }
        // The closed channel tells that the consumer is gone.
        Ok(Consumer::new(source, CancellationToken::new().drop_guard()))
    }

    async fn request(&self, queue: &str, parcel: Parcel, deadline: Duration) -> Result<Parcel, RequestError> {
        self.requests.ask(queue, parcel, deadline).await
    }

    async fn depths(&self) -> Result<BTreeMap<String, Depth>, BusError> {
        let mut depths = self.ask(|answer| inbox::Op::Depths { answer }).await??;
        depths.extend(self.requests.depths());
        Ok(depths)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    async fn close(&self) {
        self.requests.close();
        let (answer, answered) = oneshot::channel();
        if self.inbox.push(inbox::Op::Close { answer }) && tokio::time::timeout(CLOSE_DEADLINE, answered).await.is_err()
        {
            tracing::warn!("the embedded bus did not close within {CLOSE_DEADLINE:?}");
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.requests.close();
        self.inbox.abandon();
    }
}
