//! The bus on RabbitMQ 3.10 and 4.x, without plugins and without management rights.
//!
//! Four supervised connections (publish, consume, reply, declare), because a broker that blocks publishers stops
//! everything that is written on their connection, acknowledgements too. `docs/rabbitmq.md` shows what is declared.
//! Not here: attempts, back-off at targets, dead letters' storing.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{Bus, BusError, Consumer, DEAD, Depth, Health, Parcel, PublishError, RequestError, Topology, UNROUTABLE};

mod acks;
mod backoff;
mod batch;
mod config;
mod consume;
mod health;
mod keeper;
mod link;
mod names;
mod parcels;
mod publish;
mod request;
mod settle;
mod topology;

pub use config::Config;

use batch::gather::Gatherer;
use consume::Subscription;
use keeper::Keeper;
use link::{Dialer, Link};
use names::Names;
use parcels::{Origin, Stamp};
use publish::{Outgoing, Pool};
use request::{Switchboard, Waiting};
use settle::Desk;

/// How long [`Bus::declare`] waits; declaring itself goes on after that.
const DECLARE_DEADLINE: Duration = Duration::from_secs(30);
/// One passive declare.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// How long [`Bus::close`] waits for confirms, and then for connections.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// What RabbitMQ gives a quorum queue's consumer at most.
const MAX_PREFETCH: u16 = 2000;

/// The bus on RabbitMQ. Dropped, it stops at once; [`Bus::close`] waits for what is under way.
pub struct RabbitMq {
    config: Config,
    names: Names,
    admin: Link,
    consume: Link,
    publish: Link,
    keeper: Arc<Keeper>,
    desk: Arc<Desk>,
    gatherer: Arc<Gatherer>,
    requests: Arc<Pool>,
    switchboard: Switchboard,
    health: watch::Receiver<Health>,
    /// Parcels in the hands of this process, by queue: the broker's count leaves them out.
    in_hand: Mutex<HashMap<String, Vec<Window>>>,
    /// No more consuming; then, with `_stop`, no more of anything.
    consumers: CancellationToken,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// A consumer's window, and how many permits it was made with.
type Window = (Weak<Semaphore>, usize);

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq").field("config", &self.config).finish_non_exhaustive()
    }
}

impl RabbitMq {
    /// Starts the bus and returns at once: [`Bus::health`] tells when it is connected. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// `Contradiction` where a URL, the prefix or the CA file cannot be right.
    pub fn connect(config: Config) -> Result<Arc<Self>, BusError> {
        let dialer = Arc::new(Dialer::new(config.endpoints()?, config.ca()?, config.name.clone()));
        let names = Names::new(&config.prefix);
        let stop = CancellationToken::new();
        let link = |purpose| Link::start(dialer.clone(), purpose, stop.clone());
        let (admin, publish, consume, reply) = (link("declare"), link("publish"), link("consume"), link("reply"));
        let keeper = Keeper::start(admin.clone(), names.clone(), config.delivery_limit, config.refresh, stop.clone());
        let pool = Pool::start(publish.clone(), config.channels, config.window, None, stop.clone());
        let gatherer = Arc::new(Gatherer::new(pool.clone(), names.work(), config.batch));
        let waiting = Waiting::default();
        let returns = waiting.clone();
        let requests =
            Pool::start(publish.clone(), 1, config.window, Some(Arc::new(move |m| returns.returned(&m))), stop.clone());
        let switchboard = Switchboard::start(reply, names.clone(), requests.clone(), waiting, stop.clone());
        let signs = health::Signs {
            publish: publish.clone(),
            consume: consume.clone(),
            lanes: pool.watch(),
            declared: keeper.watch(),
        };
        Ok(Arc::new(Self {
            names: names.clone(),
            admin,
            consume,
            publish,
            desk: Arc::new(Desk { names, pool, keeper: keeper.clone(), acknowledging: TaskTracker::new() }),
            keeper,
            gatherer,
            requests,
            switchboard,
            health: signs.follow(stop.clone()),
            in_hand: Mutex::default(),
            consumers: stop.child_token(),
            _stop: stop.clone().drop_guard(),
            stop,
            config,
        }))
    }

    /// A caller's queue on the broker, or why it cannot be one.
    fn on_broker(&self, queue: &str) -> Result<ShortString, String> {
        self.names.on_broker(queue).ok_or_else(|| format!("queue `{queue}` has a name of more than 255 bytes"))
    }

    fn fits(&self, parcel: &Parcel) -> Result<(), String> {
        let (size, most) = (parcel.body.len(), self.config.max_body);
        if size > most {
            return Err(format!("its body has {size} bytes, and at most {most} fit"));
        }
        Ok(())
    }

    fn hold(&self, queue: &str, window: &Arc<Semaphore>, prefetch: usize) {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = in_hand.entry(queue.to_owned()).or_default();
        windows.retain(|(window, _)| window.strong_count() > 0);
        windows.push((Arc::downgrade(window), prefetch));
    }

    fn in_hand(&self, queue: &str) -> u64 {
        let in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |(window, prefetch): &Window| {
            window.upgrade().map_or(0, |window| prefetch.saturating_sub(window.available_permits()))
        };
        in_hand.get(queue).map_or(0, |windows| windows.iter().map(held).sum::<usize>() as u64)
    }

    /// Every queue of the topology, as callers and as the broker call it.
    fn all_queues(&self) -> Vec<(String, ShortString)> {
        let wanted = self.keeper.wanted();
        let mut all = vec![(DEAD.to_owned(), self.names.dead()), (UNROUTABLE.to_owned(), self.names.unroutable())];
        all.extend(wanted.queues.keys().filter_map(|queue| Some((queue.clone(), self.names.on_broker(queue)?))));
        all.extend(wanted.ladder.iter().map(|delay| {
            let name = self.names.retry(*delay);
            (self.names.for_callers(name.as_str()), name)
        }));
        all
    }
}

#[async_trait]
impl Bus for RabbitMq {
    async fn declare(&self, topology: Topology) -> Result<(), BusError> {
        if self.stop.is_cancelled() {
            return Err(BusError::Closed);
        }
        topology::plan(&self.names, &topology, self.config.delivery_limit)?;
        self.gatherer.learn(&topology, &self.names);
        self.keeper.declare(topology, DECLARE_DEADLINE).await
    }

    /// A queue that is not there (deleted, or never declared) is no error: the parcel is then on [`UNROUTABLE`], with
    /// the queue's name on it, and the topology is declared again soon.
    async fn publish(&self, queue: &str, parcel: Parcel, deadline: Duration) -> Result<(), PublishError> {
        self.fits(&parcel).map_err(PublishError::Refused)?;
        if let (Some(gate), Some(size)) = (self.gatherer.gate(queue), batch::size(&parcel)) {
            return self.gatherer.send(gate, parcel, size, deadline).await;
        }
        let key = self.on_broker(queue).map_err(PublishError::Refused)?;
        let properties = parcels::properties(parcel.id, parcel.content_type, parcel.headers, Stamp::default())
            .map_err(PublishError::Refused)?;
        let out = Outgoing { exchange: self.names.work(), key, mandatory: false, body: parcel.body, properties };
        self.desk.pool.send(out, deadline).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, BusError> {
        if self.consumers.is_cancelled() {
            return Err(BusError::Closed);
        }
        let wanted = self.keeper.wanted().queues.remove(queue);
        let origin = match queue {
            DEAD => Origin::Moved,
            UNROUTABLE => Origin::Elsewhere,
            _ if wanted.is_none() => {
                return Err(BusError::Contradiction(format!("queue `{queue}` is not in the declared topology")));
            }
            _ => Origin::Here,
        };
        let prefetch = prefetch.clamp(1, MAX_PREFETCH);
        let window = Arc::new(Semaphore::new(usize::from(prefetch)));
        self.hold(queue, &window, usize::from(prefetch));
        let (out, source) = mpsc::channel(usize::from(prefetch));
        let stop = self.consumers.child_token();
        let subscription = Subscription {
            link: self.consume.clone(),
            keeper: self.keeper.clone(),
            desk: self.desk.clone(),
            queue: self.on_broker(queue).map_err(BusError::Contradiction)?,
            origin,
            ordered: wanted.is_some_and(|spec| spec.single_active_consumer),
            prefetch,
            window,
            out,
            gate: self.gatherer.gate(queue),
            stop: stop.clone(),
        };
        tokio::spawn(subscription.run());
        Ok(Consumer::new(source, stop.drop_guard()))
    }

    async fn request(&self, queue: &str, parcel: Parcel, deadline: Duration) -> Result<Parcel, RequestError> {
        self.fits(&parcel).map_err(RequestError::Unavailable)?;
        let key = self.on_broker(queue).map_err(RequestError::Unavailable)?;
        self.switchboard.request(key, parcel, deadline).await
    }

    /// What AMQP tells: parcels ready on the queue, and those in the hands of this process. What other gateways hold is
    /// not in it. Where parcels have travelled together, those on the queue are reckoned by how many a message held lately.
    async fn depths(&self) -> Result<BTreeMap<String, Depth>, BusError> {
        let state = self.admin.state().clone();
        let Some(connection) = state.connection() else {
            return Err(BusError::Unavailable("not connected to RabbitMQ".to_owned()));
        };
        let mut channel = topology::open(connection).await?;
        let mut depths = BTreeMap::new();
        for (queue, name) in self.all_queues() {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            match timeout(LOOK_DEADLINE, channel.queue_declare(name, options, FieldTable::default())).await {
                Ok(Ok(seen)) => {
                    let ready = u64::from(seen.message_count());
                    let ready = self.gatherer.gate(&queue).map_or(ready, |gate| gate.parcels_of(ready));
                    let parcels = ready + self.in_hand(&queue);
                    depths.insert(queue, Depth { parcels, consumers: u64::from(seen.consumer_count()), oldest: None });
                }
                // It is gone, or we may not look: the others are still worth looking at.
                Ok(Err(_)) => channel = topology::open(connection).await?,
                Err(_) => {
                    return Err(BusError::Unavailable("RabbitMQ does not say how full its queues are".to_owned()));
                }
            }
        }
        let _ = timeout(LOOK_DEADLINE, channel.close(200, "seen".into())).await;
        Ok(depths)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    async fn close(&self) {
        self.consumers.cancel();
        self.gatherer.idle(CLOSE_DEADLINE).await;
        self.desk.pool.idle(CLOSE_DEADLINE).await;
        self.requests.idle(CLOSE_DEADLINE).await;
        self.desk.acknowledging.close();
        let _ = timeout(CLOSE_DEADLINE, self.desk.acknowledging.wait()).await;
        self.stop.cancel();
        for link in [&self.publish, &self.consume, &self.admin] {
            let mut state = link.watch();
            let _ = timeout(CLOSE_DEADLINE, state.wait_for(|s| s.connection().is_none())).await;
        }
    }
}
