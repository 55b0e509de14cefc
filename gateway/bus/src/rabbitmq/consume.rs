//! Consuming: one supervised subscription a consumer. It outlives connections, channels, the broker's cancels and
//! deleted queues; what was in flight comes again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::batch::gather::Gate;
use super::batch::parts::Batch;
use super::batch::{self, Part};
use super::keeper::Keeper;
use super::link::Link;
use super::parcels::{self, Origin};
use super::settle::{Desk, Session, Tag};
use crate::{Delivered, Settlement};

/// Opening a channel, qos, consume, cancel: each.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// A channel that died silently is found after this.
const LOOK: Duration = Duration::from_secs(1);
/// A subscription that held so long was a good one: the next loss starts the back-off anew.
const GOOD: Duration = Duration::from_secs(10);
/// After a cancel, what lapin has buffered comes at once.
const DRAIN: Duration = Duration::from_secs(1);
/// How long an ordered queue waits for what its stopped consumer has in hand: longer than one attempt takes.
const IN_HAND_DEADLINE: Duration = Duration::from_secs(60);

/// What a consumer needs.
pub(super) struct Subscription {
    pub(super) link: Link,
    pub(super) keeper: Arc<Keeper>,
    pub(super) desk: Arc<Desk>,
    /// The queue's name on the broker.
    pub(super) queue: ShortString,
    /// What its parcels tell about where they were meant to go.
    pub(super) origin: Origin,
    /// Order is kept: one active consumer, and nobody may be given the next parcel before this one is settled.
    pub(super) ordered: bool,
    pub(super) prefetch: u16,
    /// One permit a parcel in somebody's hands, across reconnects: the broker's prefetch starts anew with each channel,
    /// our memory and the targets behind do not.
    pub(super) window: Arc<Semaphore>,
    pub(super) out: mpsc::Sender<Delivered>,
    /// Where batches of the queue are counted.
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) stop: CancellationToken,
}

/// Why a subscription ended.
enum End {
    Stopped,
    /// The broker cancelled it, or there is no such queue: it was deleted, or moved.
    Cancelled(String),
    Lost(String),
}

impl Subscription {
    /// Consumes until stopped.
    pub(super) async fn run(self) {
        let mut failures = 0u32;
        loop {
            let connection = tokio::select! {
                () = self.stop.cancelled() => return,
                connection = self.link.connection() => match connection {
                    Some(connection) => connection,
                    None => return,
                },
            };
            let began = Instant::now();
            let end = self.subscribe(&connection).await;
            if began.elapsed() > GOOD {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            match end {
                End::Stopped => return,
                End::Cancelled(why) => {
                    tracing::warn!(queue = %self.queue, why, "the queue was taken from its consumer; it is declared again");
                    if let Err(error) = self.keeper.assure(STEP_DEADLINE).await {
                        tracing::warn!(queue = %self.queue, %error, "the queue is not back yet");
                    }
                }
                End::Lost(why) => tracing::info!(queue = %self.queue, why, "consuming is interrupted"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(backoff::wait(failures)) => {}
            }
        }
    }

    async fn subscribe(&self, connection: &Connection) -> End {
        let (channel, mut stream) = match timeout(STEP_DEADLINE, self.open(connection)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) if is_gone(&error) => return End::Cancelled(error.to_string()),
            Ok(Err(error)) => return End::Lost(error.to_string()),
            Err(_) => return End::Lost("RabbitMQ did not answer".to_owned()),
        };
        let session = Arc::new(Session {
            channel: channel.clone(),
            desk: self.desk.clone(),
            queue: self.queue.clone(),
            ordered: self.ordered.then(|| self.out.downgrade()),
            copies: self.origin == Origin::Here,
            acks: Mutex::default(),
        });
        let end = self.pump(&session, &mut stream).await;
        match end {
            End::Stopped if self.ordered => self.leave_in_order(&channel).await,
            End::Stopped => leave(&session, &mut stream).await,
            End::Cancelled(_) | End::Lost(_) => {}
        }
        end
    }

    /// Stays the active consumer until what is in hand is settled, and then closes the channel: consumer and prefetched
    /// parcels go in one step, so the next consumer begins where this one stopped. A cancel would let it begin while
    /// they are still ours.
    async fn leave_in_order(&self, channel: &Channel) {
        let _ = timeout(IN_HAND_DEADLINE, self.window.acquire_many(u32::from(self.prefetch))).await;
        let _ = timeout(STEP_DEADLINE, channel.close(200, "stopped".into())).await;
    }

    async fn open(&self, connection: &Connection) -> lapin::Result<(Channel, lapin::Consumer)> {
        let channel = connection.create_channel().await?;
        // Before consuming: lapin buffers without a bound, the prefetch is the only one.
        channel.basic_qos(self.prefetch, BasicQosOptions { global: false }).await?;
        let tag = ShortString::default(); // the broker makes one
        let consumer = channel
            .basic_consume(self.queue.clone(), tag, BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        Ok((channel, consumer))
    }

    /// Hands deliveries out until something ends.
    async fn pump(&self, session: &Arc<Session>, stream: &mut lapin::Consumer) -> End {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stopped,
                delivery = stream.next() => delivery,
                _ = look.tick() => {
                    if !session.channel.status().connected() {
                        return End::Lost("the channel is gone".to_owned());
                    }
                    continue;
                }
            };
            let delivery = match delivery {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return End::Lost(error.to_string()),
                None if session.channel.status().connected() => {
                    return End::Cancelled("cancelled by RabbitMQ".to_owned());
                }
                None => return End::Lost("the channel was closed".to_owned()),
            };
            if let Some(end) = self.hand_out(session, delivery).await {
                return end;
            }
        }
    }

    /// Hands out what one message holds.
    async fn hand_out(&self, session: &Arc<Session>, mut delivery: Delivery) -> Option<End> {
        let parts = if batch::is_one(&delivery.properties) && parcels::is_ours(&delivery.properties) {
            let body = std::mem::take(&mut delivery.data).into();
            let parts = batch::split(&body);
            if parts.is_none() {
                delivery.data = body.into(); // damaged: somebody makes a dead letter of it
            }
            parts
        } else {
            None
        };
        if let Some(gate) = &self.gate {
            gate.count(parts.as_ref().map_or(1, Vec::len) as u64);
        }
        let Some(parts) = parts else {
            let permit = match self.permit(session).await {
                Ok(permit) => permit,
                Err(end) => {
                    session.clone().give_back(delivery.delivery_tag);
                    return Some(end);
                }
            };
            let parcel = parcels::parcel(&mut delivery, &self.desk.names, self.origin);
            let redelivered = delivery.redelivered;
            let settlement = Settlement::new(Arc::new(Tag::new(session.clone(), delivery, permit)));
            // There is room for a whole prefetch; an error is a consumer that was dropped, and the settlement drops too.
            let _ = self.out.send(Delivered { parcel, redelivered, settlement }).await;
            return None;
        };
        let redelivered = delivery.redelivered || batch::again(&delivery.properties);
        let (bytes, first) = (parts.iter().map(|part| part.bytes.clone()).collect(), parts[0].parcel.id.clone());
        let batch = Batch::new(session.clone(), delivery.delivery_tag, first, bytes);
        let mut end = None;
        for (at, Part { mut parcel, .. }) in parts.into_iter().enumerate() {
            // Once it has ended the rest is given back: each piece must be settled, or the message never is.
            let permit = match end {
                None => self.permit(session).await,
                Some(_) => Ok(None),
            };
            let (permit, ends) = permit.map_or_else(|end| (None, Some(end)), |permit| (permit, None));
            end = end.or(ends);
            let settlement = Settlement::new(Arc::new(Tag::shared(&batch, at, permit)));
            if end.is_none() {
                let (properties, key) = (&delivery.properties, &delivery.routing_key);
                parcels::note_origin(properties, key, &self.desk.names, self.origin, &mut parcel.headers);
                let _ = self.out.send(Delivered { parcel, redelivered, settlement }).await;
            }
        }
        end
    }

    /// A place in the window: at once, but after a reconnect, when what came by the old channel is still in somebody's
    /// hands, and where a batch has more parcels than there are places.
    async fn permit(&self, session: &Session) -> Result<Option<OwnedSemaphorePermit>, End> {
        let permit = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(End::Stopped),
            permit = self.window.clone().acquire_owned() => permit.ok(),
        };
        if session.channel.status().connected() {
            return Ok(permit);
        }
        Err(End::Lost("the channel was closed".to_owned())) // it comes again: not worth the work
    }
}

/// Lets others have the queue at once. What was prefetched and not handed out goes back; what is in somebody's hands
/// keeps the channel open until it is settled.
async fn leave(session: &Arc<Session>, stream: &mut lapin::Consumer) {
    let cancel = session.channel.basic_cancel(stream.tag(), BasicCancelOptions::default());
    let _ = timeout(STEP_DEADLINE, cancel).await;
    while let Ok(Some(Ok(delivery))) = timeout(DRAIN, stream.next()).await {
        session.clone().give_back(delivery.delivery_tag);
    }
}

/// 404: no such queue.
fn is_gone(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(e) if e.get_id() == 404)
}
