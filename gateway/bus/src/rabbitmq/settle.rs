//! Settling: the one answer that a delivery gets, on the channel that it came by.
//!
//! A copy (retry, dead, reply) is confirmed before the original is acknowledged; where it is not, the original goes
//! back. An acknowledgement on a channel that has gone is an error: the parcel comes again. Where order does not
//! matter, acknowledgements are gathered ([`super::acks`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::types::ShortString;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::WeakSender;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::acks::{self, Acks};
use super::batch::parts::Batch;
use super::keeper::Keeper;
use super::names::Names;
use super::parcels::{self, Stamp};
use super::publish::{Outgoing, Pool};
use crate::{Delivered, LADDER, Parcel, Settle, SettleError, rung};

/// Writing an ack to the socket.
const ACK_DEADLINE: Duration = Duration::from_secs(5);
/// Confirming a copy.
const COPY_DEADLINE: Duration = Duration::from_secs(10);

/// What all settlements of a bus share.
pub(super) struct Desk {
    pub(super) names: Names,
    pub(super) pool: Arc<Pool>,
    pub(super) keeper: Arc<Keeper>,
    /// Who is on the way to acknowledge.
    pub(super) acknowledging: TaskTracker,
}

impl Desk {
    /// Publishes a copy and waits for its confirm.
    async fn copy(
        &self,
        exchange: ShortString,
        key: ShortString,
        parcel: Parcel,
        stamp: Stamp,
    ) -> Result<(), SettleError> {
        let properties =
            parcels::properties(parcel.id, parcel.content_type, parcel.headers, stamp).map_err(SettleError)?;
        self.send(Outgoing { exchange, key, mandatory: false, body: parcel.body, properties }).await
    }

    /// The same with a message that is made.
    pub(super) async fn send(&self, copy: Outgoing) -> Result<(), SettleError> {
        self.pool.send(copy, COPY_DEADLINE).await.map_err(|error| SettleError(format!("the copy: {error}")))
    }
}

/// One channel's life of one consumer. The channel closes when the last settlement of it is gone.
pub(super) struct Session {
    pub(super) channel: Channel,
    pub(super) desk: Arc<Desk>,
    pub(super) queue: ShortString,
    /// Of an ordered queue: where its consumer listens.
    pub(super) ordered: Option<WeakSender<Delivered>>,
    /// Whether a copy of what it holds is as good as itself: not where the broker has written on it what became of it.
    pub(super) copies: bool,
    /// Done, and not acknowledged yet. Not where order is kept: the channel's closing must give back exactly what is
    /// not done.
    pub(super) acks: Mutex<Acks>,
}

impl Session {
    pub(super) async fn ack(self: &Arc<Self>, tag: u64) -> Result<(), SettleError> {
        if self.ordered.is_some() {
            return self.write(tag, false).await;
        }
        if !self.channel.status().connected() {
            return Err(SettleError("the channel it came by is gone".to_owned()));
        }
        if self.acks().done(tag, Instant::now()) {
            self.desk.acknowledging.spawn(self.clone().acknowledge());
        }
        Ok(())
    }

    /// Writes what is gathered until nothing waits. Holds the channel open that long.
    async fn acknowledge(self: Arc<Self>) {
        let mut frames = Vec::new();
        loop {
            sleep(acks::LINGER).await;
            let busy = self.acks().take(Instant::now(), &mut frames);
            for frame in &frames {
                let written = self.write(frame.tag, frame.multiple).await;
                // The channel has gone, and everything on it with it: it comes again.
                if written.is_err() && !self.channel.status().connected() {
                    return;
                }
            }
            if !busy {
                return;
            }
        }
    }

    async fn write(&self, tag: u64, multiple: bool) -> Result<(), SettleError> {
        // Straight on the channel: it refuses by itself once it is not open. lapin's acker asks a second task first.
        match timeout(ACK_DEADLINE, self.channel.basic_ack(tag, BasicAckOptions { multiple })).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SettleError(format!("the channel it came by is gone: {error}"))),
            Err(_) => Err(SettleError("RabbitMQ takes no acknowledgement".to_owned())),
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.ordered.is_some()
    }

    fn acks(&self) -> std::sync::MutexGuard<'_, Acks> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody listens any more and order is kept: the channel's closing gives everything back at once, in order. One
    /// by one they would come to us again, behind those that we still hold.
    fn leaves_in_order(&self) -> bool {
        self.ordered.as_ref().is_some_and(|out| out.upgrade().is_none_or(|out| out.is_closed()))
    }

    /// In the background. On a closed channel it has gone back already.
    pub(super) fn give_back(self: Arc<Self>, tag: u64) {
        if !self.channel.status().connected() || self.leaves_in_order() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let options = BasicNackOptions { multiple: false, requeue: true };
            // Only once it is written may an acknowledgement go past it.
            if let Ok(Ok(())) = timeout(ACK_DEADLINE, self.channel.basic_nack(tag, options)).await {
                self.acks().gone(tag);
            }
        });
    }
}

/// What the broker is told of, once a delivery is settled.
enum Message {
    /// The one that it came in.
    Whole(u64),
    /// That of several; this is the number of the delivery among them.
    Shared(Arc<Batch>, usize),
}

/// One delivery in somebody's hands.
pub(super) struct Tag {
    session: Arc<Session>,
    message: Message,
    /// For a request: who waits for the answer.
    answer_to: Option<Box<(ShortString, Option<ShortString>)>>,
    /// Its place in the consumer's window, until it is settled.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Tag {
    pub(super) fn new(session: Arc<Session>, delivery: Delivery, permit: Option<OwnedSemaphorePermit>) -> Self {
        let properties = &delivery.properties;
        let answer_to = properties
            .reply_to()
            .as_ref()
            .map(|reply_to| Box::new((reply_to.clone(), properties.correlation_id().clone())));
        Self { session, message: Message::Whole(delivery.delivery_tag), answer_to, _permit: permit }
    }

    /// One parcel of a batch. Nobody asks by a batch.
    pub(super) fn shared(batch: &Arc<Batch>, at: usize, permit: Option<OwnedSemaphorePermit>) -> Self {
        let session = batch.session().clone();
        Self { session, message: Message::Shared(batch.clone(), at), answer_to: None, _permit: permit }
    }

    async fn ack(&self) -> Result<(), SettleError> {
        match &self.message {
            Message::Whole(tag) => self.session.ack(*tag).await,
            Message::Shared(batch, _) => batch.done().await,
        }
    }

    /// A copy of a request can still be answered.
    fn stamp(&self) -> Stamp {
        match &self.answer_to {
            Some(to) => Stamp { reply_to: Some(to.0.clone()), correlation_id: to.1.clone(), ..Stamp::default() },
            None => Stamp::default(),
        }
    }

    /// Ack after a copy that was confirmed; back to the queue after one that was not.
    async fn after(&self, copied: Result<(), SettleError>) -> Result<(), SettleError> {
        match copied {
            Ok(()) => self.ack().await,
            Err(error) => {
                self.give_back();
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Settle for Tag {
    async fn done(&self) -> Result<(), SettleError> {
        self.ack().await
    }

    async fn retry(&self, parcel: Parcel, delay: Duration) -> Result<(), SettleError> {
        let desk = &self.session.desk;
        let mut ladder = desk.keeper.wanted().ladder;
        if ladder.is_empty() {
            ladder = LADDER.to_vec();
        }
        let exchange = desk.names.retry(ladder[rung(&ladder, delay)]);
        let copied = desk.copy(exchange, self.session.queue.clone(), parcel, self.stamp()).await;
        self.after(copied).await
    }

    async fn dead(&self, parcel: Parcel) -> Result<(), SettleError> {
        let desk = &self.session.desk;
        let copied = desk.copy(desk.names.dlx(), self.session.queue.clone(), parcel, Stamp::default()).await;
        self.after(copied).await
    }

    async fn reply(&self, answer: Parcel) -> Result<(), SettleError> {
        let Some(to) = &self.answer_to else { return self.done().await };
        let desk = &self.session.desk;
        let stamp = Stamp { correlation_id: to.1.clone(), transient: true, ..Stamp::default() };
        // Not mandatory: a caller that has gone away is no error, the answer is dropped by the broker.
        let copied = desk.copy(desk.names.reply(), to.0.clone(), answer, stamp).await;
        self.after(copied).await
    }

    fn give_back(&self) {
        match &self.message {
            Message::Whole(tag) => self.session.clone().give_back(*tag),
            Message::Shared(batch, at) => batch.clone().give_back(*at),
        }
    }
}
