//! The engine: everything around the adapters, once. Limits, routing, delivery, retries, dead letters, numbers, traces.
//!
//! [`Gateway::start`] wires a checked site in flow order: store, bus, systems, workers, letters, intake, inbound halves.
//! What must survive is on the bus, in the store, or (bodies too large for the bus) in the claims folder.

pub mod backfill;
pub mod circuit;
mod courier;
mod crash;
pub mod cut;
pub mod delivery;
mod direct;
pub mod headers;
pub mod intake;
mod kept;
pub mod ledger;
pub mod letters;
pub mod limiter;
pub mod line;
pub mod metrics;
mod open;
mod passed;
mod pull;
mod recent;
pub mod system;
pub mod trace;
pub mod worker;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gatehouse_bus::{Bus, DEAD, Health, QueueSpec, Topology, UNROUTABLE};
use gatehouse_core::adapter::{Direction, Intake, System};
use gatehouse_core::fault::Verdict;
use gatehouse_core::secret::Secrets;
use gatehouse_core::site::{Route, Site};
use gatehouse_net::door::Door;
use gatehouse_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::site::ProcessSecrets;
use backfill::Backfills;
use delivery::Carrier;
use intake::Desk;
use ledger::Ledger;
use letters::Letters;
use metrics::Metrics;
use system::SystemRuntime;
use trace::Tracer;
use worker::Worker;

/// How long deliveries under way may take to finish when the gateway stops; the rest come again at the next start.
const DRAIN: Duration = Duration::from_secs(30);

/// A running gateway.
pub struct Gateway {
    /// Its checked site.
    pub site: Arc<Site>,
    /// Its numbers.
    pub metrics: Arc<Metrics>,
    /// Its dead letters.
    pub letters: Arc<Letters>,
    /// What is read once more.
    pub backfills: Arc<Backfills>,
    /// Its systems.
    pub systems: HashMap<String, Arc<SystemRuntime>>,
    /// Where systems call in.
    pub address: SocketAddr,
    door: Arc<Door>,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    ledger: Ledger,
    tracer: Tracer,
    stop_inbound: CancellationToken,
    stop: CancellationToken,
    inbound: TaskTracker,
    tasks: TaskTracker,
    background: TaskTracker,
}

impl Gateway {
    /// Starts a checked site whose folder is `root`. `door` is the one that the site's adapters mount on.
    ///
    /// # Errors
    /// What keeps it from starting at all: an address in use, a folder that cannot be written, a damaged store. A
    /// broker or a system that cannot be reached is no such thing: the gateway starts, says so, and goes on trying.
    pub async fn start(site: Site, root: &Path, door: Arc<Door>) -> anyhow::Result<Arc<Self>> {
        let site = Arc::new(site);
        let instance: Arc<str> = site.gateway.name.as_str().into();
        let secrets: Arc<dyn Secrets> = Arc::new(ProcessSecrets::new(root));
        let (stop, stop_inbound) = (CancellationToken::new(), CancellationToken::new());
        let (inbound, tasks, background) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());

        let store = open::store(&site.gateway, root, secrets.as_ref()).await?;
        let bus = open::bus(&site.gateway, root, secrets.as_ref()).await?;
        let metrics = Arc::new(Metrics::new()?);
        let tracer = Tracer::new(&site.gateway.telemetry, &instance)?;
        let ledger = Ledger::start(store.clone());

        let runtime =
            |(name, system): (&String, &Arc<dyn System>)| (name.clone(), Arc::new(SystemRuntime::new(system.clone())));
        let systems: HashMap<String, Arc<SystemRuntime>> = site.systems.iter().map(runtime).collect();
        for system in systems.values().filter(|system| system.is_outbound()) {
            background.spawn(system.clone().connect(secrets.clone(), stop.clone()));
        }
        let moved = Arc::new(tokio::sync::Notify::new());
        let (mut workers, mut direct) = (Vec::new(), direct::Direct::new());
        for route in &site.routes {
            for index in 0..route.targets.len() {
                let carrier = carrier(route, index, &systems, &ledger, &store, &metrics, &instance, &tracer, &moved);
                let Some(carrier) = carrier else { continue };
                let (carrier, bus, stop, tasks) = (Arc::new(carrier), bus.clone(), stop.clone(), tasks.clone());
                if route.request && site.gateway.bus.is_none() {
                    direct.insert(carrier.target.queue.clone(), carrier.clone());
                }
                workers.push(Worker { carrier, bus, stop, tasks });
            }
        }
        // Nobody consumes before the queues are there.
        let consuming = {
            let (bus, store, instance, stop) = (bus.clone(), store.clone(), instance.clone(), stop.clone());
            let (topology, trackers) = (topology(&site), background.clone());
            async move {
                declare(bus.clone(), topology, stop.clone()).await;
                for worker in workers {
                    trackers.spawn(worker.run());
                }
                for (queue, cause) in [(DEAD, "dead"), (UNROUTABLE, "unroutable")] {
                    trackers.spawn(letters::index(
                        bus.clone(),
                        store.clone(),
                        queue,
                        cause,
                        instance.clone(),
                        stop.clone(),
                    ));
                }
            }
        };
        background.spawn(consuming);
        let letters = Arc::new(Letters::new(&site, bus.clone(), store.clone()));
        let backfills = Backfills::new(site.clone(), systems.clone(), bus.clone(), store.clone(), secrets.clone());
        let backfills = Arc::new(backfills);
        let desk = Arc::new(Desk::new(
            &site,
            &systems,
            bus.clone(),
            ledger.clone(),
            store.clone(),
            metrics.clone(),
            tracer.clone(),
            backfills.clone(),
            direct,
        ));
        letters.sends_in_through(desk.clone());
        background.spawn(line::release(site.clone(), letters.clone(), store.clone(), moved, stop.clone()));
        backfills.goes_in_through(&desk);
        background.spawn(backfill::watch(backfills.clone(), stop.clone()));
        let desk: Arc<dyn Intake> = desk;
        let sends =
            |system: &Arc<SystemRuntime>| system.system.endpoints().iter().any(|e| e.direction == Direction::Inbound);
        // A sender that comes while the inbound halves take their places is asked to come again, not sent away.
        let senders: Vec<_> = systems.values().filter(|system| sends(system)).cloned().collect();
        let halves: Vec<_> = senders.iter().flat_map(|system| halves(system, &site)).collect();
        if !halves.is_empty() {
            door.hold();
        }
        let missing = Arc::new(AtomicUsize::new(halves.len()));
        for (system, endpoint) in halves {
            let (missing, door) = (missing.clone(), door.clone());
            let placed = move || {
                if missing.fetch_sub(1, Ordering::AcqRel) == 1 {
                    door.release();
                }
            };
            inbound.spawn(listen(system, endpoint, secrets.clone(), desk.clone(), stop_inbound.clone(), placed));
        }
        let address = door.addr();
        let (stopped, serving) = (stop_inbound.clone(), door.clone());
        inbound.spawn(async move { serving.serve(Box::pin(async move { stopped.cancelled().await })).await });
        background.spawn(observe(bus.clone(), store.clone(), metrics.clone(), systems.clone(), stop.clone()));
        background.spawn(forget(store.clone(), site.gateway.remember, stop.clone()));
        for tracker in [&inbound, &background] {
            tracker.close();
        }
        let gateway = Self {
            site,
            metrics,
            letters,
            backfills,
            systems,
            address,
            door,
            bus,
            store,
            ledger,
            tracer,
            stop_inbound,
            stop,
            inbound,
            tasks,
            background,
        };
        Ok(Arc::new(gateway))
    }

    /// Whether it takes messages now; else why not.
    ///
    /// # Errors
    /// One sentence for each thing that keeps it from being ready.
    pub async fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        match &*self.bus.health().borrow() {
            Health::Ready => {}
            Health::Starting => reasons.push("the bus is starting".to_owned()),
            Health::Blocked(why) => reasons.push(format!("the broker tells publishers to wait: {why}")),
            Health::Down(why) => reasons.push(format!("the bus is down: {why}")),
        }
        if let Err(error) = self.store.ping().await {
            reasons.push(error.to_string());
        }
        if self.stop_inbound.is_cancelled() {
            reasons.push("the gateway is stopping".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// The bus's health, now and at each change.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.bus.health()
    }

    /// How full the queues are.
    ///
    /// # Errors
    /// The bus cannot tell now.
    pub async fn depths(
        &self,
    ) -> Result<std::collections::BTreeMap<String, gatehouse_bus::Depth>, gatehouse_bus::BusError> {
        self.bus.depths().await
    }

    /// Stops in flow order: nothing new comes in, what is under way finishes (bounded), then the bus closes.
    pub async fn stop(&self) {
        // A sender whose request comes after its system has left is asked to come again, not sent away.
        self.door.hold();
        self.stop_inbound.cancel();
        let _ = tokio::time::timeout(DRAIN, self.inbound.wait()).await;
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(DRAIN, self.tasks.wait()).await;
        let _ = tokio::time::timeout(Duration::from_secs(5), self.background.wait()).await;
        self.ledger.flush().await;
        self.bus.close().await;
        let tracer = self.tracer.clone();
        let _ = tokio::task::spawn_blocking(move || tracer.shutdown()).await;
    }
}

/// Opens the bus and the store of a site, asks them, and lets them go: for `gatehouse doctor`.
///
/// # Errors
/// What is wrong with them.
pub async fn look(
    gateway: &gatehouse_core::site::Gateway,
    root: &Path,
    secrets: &dyn Secrets,
    patience: Duration,
) -> anyhow::Result<String> {
    open::look(gateway, root, secrets, patience).await
}

/// What a site needs on the bus.
#[must_use]
pub fn topology(site: &Site) -> Topology {
    let mut topology = Topology { ladder: site.gateway.ladder.clone(), ..Topology::default() };
    for route in &site.routes {
        for target in &route.targets {
            let spec = QueueSpec {
                single_active_consumer: target.order_by.is_some(),
                max_bytes: None,
                request: route.request,
            };
            topology.queues.insert(target.queue.clone(), spec);
        }
    }
    topology
}

#[expect(clippy::too_many_arguments, reason = "wiring: each is used once, here")]
fn carrier(
    route: &Arc<Route>,
    index: usize,
    systems: &HashMap<String, Arc<SystemRuntime>>,
    ledger: &Ledger,
    store: &Arc<dyn Store>,
    metrics: &Metrics,
    instance: &Arc<str>,
    tracer: &Tracer,
    moved: &Arc<tokio::sync::Notify>,
) -> Option<Carrier> {
    let target = route.targets.get(index)?;
    Some(Carrier {
        route: route.clone(),
        target: target.clone(),
        system: systems.get(&target.system)?.clone(),
        ledger: ledger.clone(),
        store: store.clone(),
        metrics: metrics.target(&route.name, &target.name),
        instance: instance.clone(),
        tracer: tracer.clone(),
        kept: kept::Kept::default(),
        line: line::Line::new(target.clone(), store.clone(), moved.clone()),
    })
}

/// Declares the topology until the bus has taken it; afterwards the bus keeps it there by itself.
async fn declare(bus: Arc<dyn Bus>, topology: Topology, stop: CancellationToken) {
    let mut wait = Duration::from_millis(100);
    loop {
        match bus.declare(topology.clone()).await {
            Ok(()) => return,
            Err(gatehouse_bus::BusError::Unavailable(_)) => {}
            Err(error) => tracing::error!(%error, "the bus does not take the topology; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(10)),
        }
    }
}

/// What is listened to of a system: the whole, or each endpoint that feeds a route.
fn halves(system: &Arc<SystemRuntime>, site: &Site) -> Vec<(Arc<SystemRuntime>, Option<String>)> {
    if !system.system.listens_apart() {
        return vec![(system.clone(), None)];
    }
    let inbound = system.system.endpoints().iter().filter(|endpoint| endpoint.direction == Direction::Inbound);
    let feeds = |name: &str| site.routes_from(&format!("{}/{name}", system.system.name())).next().is_some();
    let fed = inbound.filter(|endpoint| feeds(&endpoint.name));
    fed.map(|endpoint| (system.clone(), Some(endpoint.name.clone()))).collect()
}

/// Keeps a system's inbound half running, or that of one of its endpoints.
async fn listen(
    system: Arc<SystemRuntime>,
    endpoint: Option<String>,
    secrets: Arc<dyn Secrets>,
    desk: Arc<dyn Intake>,
    stop: CancellationToken,
    placed: impl FnOnce(),
) {
    let mut wait = Duration::from_millis(200);
    let mut placed = Some(placed);
    while !stop.is_cancelled() {
        let stopped = stop.clone();
        let placed = &mut placed;
        let run = async {
            let inbound = system.system.listen(endpoint.as_deref(), secrets.as_ref()).await?;
            let mut run = inbound.run(desk.clone(), Box::pin(async move { stopped.cancelled().await }));
            // Polled once, it is in its place, or has failed.
            match futures_util::poll!(&mut run) {
                std::task::Poll::Ready(outcome) => outcome,
                std::task::Poll::Pending => {
                    if let Some(placed) = placed.take() {
                        placed();
                    }
                    run.await
                }
            }
        };
        let Err(fault) = run.await else { return };
        tracing::error!(system = system.system.name(), endpoint, %fault, private = fault.private, "the inbound half stopped; starting it again");
        let pause =
            if matches!(fault.verdict, Verdict::Hold | Verdict::Reject) { Duration::from_secs(60) } else { wait };
        wait = (wait * 2).min(Duration::from_secs(30));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Writes down every few seconds what only a look can tell.
async fn observe(
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    systems: HashMap<String, Arc<SystemRuntime>>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        metrics.bus_ready.set(i64::from(*bus.health().borrow() == Health::Ready));
        if let Ok(depths) = bus.depths().await {
            metrics.depths(&depths);
        }
        if let Ok(counts) = store.count_letters(&gatehouse_store::Filter::default()).await {
            for (state, count) in counts {
                metrics.letters.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        for (name, system) in &systems {
            let open = system.circuit.state() != circuit::State::Closed;
            metrics.circuit_open.with_label_values(&[name.as_str()]).set(i64::from(open));
        }
    }
}

/// Forgets, once an hour, ids that are older than the site wants to remember.
async fn forget(store: Arc<dyn Store>, remember: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(3600));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let before = jiff::Timestamp::now().checked_sub(remember);
        if let Ok(before) = before
            && let Err(error) = store.forget_before(before).await
        {
            tracing::warn!(%error, "old ids could not be forgotten");
        }
    }
}
