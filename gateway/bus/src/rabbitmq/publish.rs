//! Confirmed publishing: a pool of channels, each with a window of publishes that wait for their confirm.
//!
//! One future a publish, no task: thousands may wait at once. Not here: what is published where (`rabbitmq.rs`,
//! `settle`, `request`).

use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::link::{Link, LinkState};
use crate::PublishError;

/// Opening a channel, closing one.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// How long a publish waits for a channel that is being replaced on a good connection.
const GRACE: Duration = Duration::from_secs(2);
/// How long a confirm is still awaited after its publisher has given up. Then the channel is replaced.
const PATIENCE: Duration = Duration::from_secs(10);
/// A channel that died silently is found after this.
const LOOK: Duration = Duration::from_millis(500);

/// A message on its way.
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    /// To be returned where no queue takes it. Only in a pool that was told what to do with returns.
    pub(super) mandatory: bool,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
}

/// Takes what the broker returned. lapin attaches a returned message to whichever confirm completes next, not to its
/// own, so the taker must find out from the message itself whose it is.
pub(super) type Returns = Arc<dyn Fn(BasicReturnMessage) + Send + Sync>;

/// Channels on the publish connection.
pub(super) struct Pool {
    link: Link,
    slots: Vec<watch::Receiver<Option<Arc<Lane>>>>,
    window: usize,
}

impl Pool {
    /// Starts `lanes` channels with `window` unconfirmed publishes each.
    pub(super) fn start(
        link: Link,
        lanes: usize,
        window: usize,
        returns: Option<Returns>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let slots = (0..lanes.max(1))
            .map(|_| {
                let (tell, slot) = watch::channel(None);
                let (link, returns, stop) = (link.clone(), returns.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = keep(&link, &tell, window.max(1), returns) => {}
                    }
                    tell.send_replace(None);
                });
                slot
            })
            .collect();
        Arc::new(Self { link, slots, window: window.max(1) })
    }

    /// Publishes, and waits for the confirm. Dropped or out of time, it is still followed to its end in the background.
    pub(super) async fn send(&self, out: Outgoing, within: Duration) -> Result<(), PublishError> {
        let until = Instant::now() + within;
        let lane = self.lane(&out.key, until).await?;
        let permit = match lane.window.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.room(&lane, until).await?,
        };
        if !lane.alive() {
            return Err(PublishError::Unavailable("the channel to RabbitMQ was just lost".to_owned()));
        }
        let carried = Carried::new(lane.clone(), Lane::publish(lane, out, permit));
        match timeout_at(until, carried).await {
            Ok(result) => result,
            Err(_) => Err(PublishError::Unknown(format!("RabbitMQ did not confirm within {within:.1?}"))),
        }
    }

    /// Waits until nothing is unconfirmed, or the deadline.
    pub(super) async fn idle(&self, deadline: Duration) {
        let all = async {
            for slot in &self.slots {
                let lane = slot.borrow().clone();
                if let Some(lane) = lane {
                    let window = u32::try_from(self.window).unwrap_or(u32::MAX);
                    let _ = lane.window.acquire_many(window).await;
                }
            }
        };
        let _ = timeout(deadline, all).await;
    }

    /// Ready as soon as one channel is open.
    pub(super) fn watch(&self) -> Vec<watch::Receiver<Option<Arc<Lane>>>> {
        self.slots.clone()
    }

    /// The lane of a key: always the same, so that one task's publishes to one queue stay in order.
    async fn lane(&self, key: &ShortString, until: Instant) -> Result<Arc<Lane>, PublishError> {
        self.reachable()?;
        let mut hasher = DefaultHasher::new();
        key.as_str().hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % self.slots.len() as u64).unwrap_or(0);
        let slot = &self.slots[at];
        if let Some(lane) = slot.borrow().as_ref().filter(|lane| lane.alive()) {
            return Ok(lane.clone());
        }
        // The connection stands, so its channel is a matter of milliseconds; a lost connection is told at once.
        let mut slot = slot.clone();
        let mut state = self.link.watch();
        let opened = async {
            loop {
                tokio::select! {
                    found = slot.wait_for(|lane| lane.as_ref().is_some_and(|lane| lane.alive())) => {
                        return found.ok().and_then(|lane| lane.clone());
                    }
                    changed = state.changed() => if changed.is_err() || self.reachable().is_err() { return None },
                }
            }
        };
        match timeout_at(until.min(Instant::now() + GRACE), opened).await {
            Ok(Some(lane)) => Ok(lane),
            Ok(None) | Err(_) => {
                self.reachable()?;
                Err(PublishError::Unavailable("no channel to RabbitMQ could be opened".to_owned()))
            }
        }
    }

    /// Why nothing can be sent now, if so.
    pub(super) fn reachable(&self) -> Result<(), PublishError> {
        match &*self.link.state() {
            LinkState::Up(_) => Ok(()),
            LinkState::Starting => Err(PublishError::Unavailable("not connected to RabbitMQ yet".to_owned())),
            LinkState::Down(reason) => Err(PublishError::Unavailable(format!("not connected to RabbitMQ: {reason}"))),
            LinkState::Blocked(_, reason) => {
                Err(PublishError::Unavailable(format!("RabbitMQ has told publishers to wait: {reason}")))
            }
        }
    }

    async fn room(&self, lane: &Arc<Lane>, until: Instant) -> Result<OwnedSemaphorePermit, PublishError> {
        let full = || format!("{} publishes already wait for RabbitMQ's confirm", self.window);
        let mut state = self.link.watch();
        let lost = async { while self.reachable().is_ok() && state.changed().await.is_ok() {} };
        tokio::select! {
            permit = timeout_at(until, lane.window.clone().acquire_owned()) => match permit {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_)) => Err(PublishError::Unavailable("the channel to RabbitMQ was just lost".to_owned())),
                Err(_) => Err(PublishError::Unavailable(full())),
            },
            () = lost => Err(self.reachable().err().unwrap_or_else(|| PublishError::Unavailable(full()))),
        }
    }
}

/// Keeps one slot filled with a live channel.
async fn keep(link: &Link, slot: &watch::Sender<Option<Arc<Lane>>>, window: usize, returns: Option<Returns>) {
    let mut failures = 0u32;
    let mut state = link.watch();
    loop {
        // A blocked connection writes nothing, not even the opening of a channel.
        let connection = match state.wait_for(|s| matches!(s, LinkState::Up(_))).await {
            Ok(up) => up.connection().cloned(),
            Err(_) => return,
        };
        let Some(connection) = connection else { continue };
        match timeout(OPEN_DEADLINE, Lane::open(&connection, window, returns.clone())).await {
            Ok(Ok(lane)) => {
                failures = 0;
                slot.send_replace(Some(lane.clone()));
                lane.until_dead().await;
                slot.send_replace(None);
                lane.close();
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "no publish channel to RabbitMQ");
                failures += 1;
            }
            Err(_) => failures += 1,
        }
        if failures > 0 {
            sleep(backoff::wait(failures)).await;
        }
    }
}

/// One confirm channel with its window.
pub(super) struct Lane {
    channel: Channel,
    window: Arc<Semaphore>,
    dead: CancellationToken,
    returns: Option<Returns>,
    /// Held while a publish takes its number and its place in what is to be written.
    turn: Mutex<()>,
}

impl Lane {
    async fn open(connection: &Connection, window: usize, returns: Option<Returns>) -> lapin::Result<Arc<Self>> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Arc::new(Self {
            channel,
            window: Arc::new(Semaphore::new(window)),
            dead: CancellationToken::new(),
            returns,
            turn: Mutex::default(),
        }))
    }

    pub(super) fn alive(&self) -> bool {
        !self.dead.is_cancelled() && self.channel.status().connected()
    }

    async fn publish(lane: Arc<Self>, out: Outgoing, permit: OwnedSemaphorePermit) -> Result<(), PublishError> {
        let _permit = permit;
        let options = BasicPublishOptions { mandatory: out.mandatory, immediate: false };
        let mut sent = pin!(lane.channel.basic_publish(out.exchange, out.key, options, &out.body, out.properties));
        // lapin counts a publish, and only then puts its frames in the order in which they are written: of two at once the
        // second may be written first, and each is then told the other's confirm. Both happen in its first poll, so that is
        // one publish's at a time.
        let begun = poll_fn(|cx| {
            let _turn = lane.turn.lock().unwrap_or_else(PoisonError::into_inner);
            Poll::Ready(sent.as_mut().poll(cx))
        });
        let sent = match begun.await {
            Poll::Ready(sent) => sent,
            Poll::Pending => sent.await,
        };
        let confirmation = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmation {
            Ok(Confirmation::Ack(None)) => Ok(()),
            // Somebody's return. Where nothing is published `mandatory` there are none, and it is not believed.
            Ok(Confirmation::Ack(Some(returned))) => match &lane.returns {
                Some(take) => {
                    take(returned);
                    Ok(())
                }
                None => Err(PublishError::Unknown("RabbitMQ returned a message on this channel".to_owned())),
            },
            Ok(Confirmation::Nack(returned)) => {
                if let (Some(take), Some(returned)) = (&lane.returns, returned) {
                    take(returned);
                }
                Err(PublishError::Refused("RabbitMQ did not take it: the queue is full, or has no quorum".to_owned()))
            }
            Ok(Confirmation::NotRequested) => {
                lane.dead.cancel();
                Err(PublishError::Unknown("the channel confirms nothing".to_owned()))
            }
            Err(error) => {
                lane.dead.cancel();
                Err(PublishError::Unknown(format!("the channel was lost before the confirm: {error}")))
            }
        }
    }

    async fn until_dead(&self) {
        while self.alive() {
            let _ = timeout(LOOK, self.dead.cancelled()).await;
        }
        self.dead.cancel();
    }

    /// In the background: on a lost connection there is nobody to answer.
    fn close(self: Arc<Self>) {
        if self.channel.status().connected() {
            tokio::spawn(async move {
                let _ = timeout(OPEN_DEADLINE, self.channel.close(200, "replaced".into())).await;
            });
        }
    }
}

/// A publish that is under way. Its confirm is awaited even where its publisher is not interested any more: a confirm
/// that is dropped would stay in lapin's memory, and its place in the window would be given away too early.
struct Carried<F: Future<Output = Result<(), PublishError>> + Send + 'static> {
    lane: Arc<Lane>,
    inner: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = Result<(), PublishError>> + Send + 'static> Carried<F> {
    fn new(lane: Arc<Lane>, inner: F) -> Self {
        Self { lane, inner: Some(Box::pin(inner)) }
    }
}

impl<F: Future<Output = Result<(), PublishError>> + Send + 'static> Future for Carried<F> {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Pending };
        let polled = inner.as_mut().poll(cx);
        if polled.is_ready() {
            self.inner = None;
        }
        polled
    }
}

impl<F: Future<Output = Result<(), PublishError>> + Send + 'static> Drop for Carried<F> {
    fn drop(&mut self) {
        let (Some(inner), Ok(runtime)) = (self.inner.take(), Handle::try_current()) else { return };
        let lane = self.lane.clone();
        runtime.spawn(async move {
            if timeout(PATIENCE, inner).await.is_err() {
                lane.dead.cancel();
            }
        });
    }
}
