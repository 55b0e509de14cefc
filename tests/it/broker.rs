//! The brokers that tests talk to, and how a test gets one for itself.
//!
//! `./test servers` starts them and names them in the environment. Tests of one binary run side by side: most share a
//! broker (`shared`), one that kills or blocks it has it alone (`alone`). Every test uses its own prefix.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_bus::rabbitmq::{Config, RabbitMq};
use gatehouse_bus::{Bus, Health, QueueSpec, Topology};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use tokio::process::Command;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

/// A broker's restart on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// Nothing that one test does with a broker, its turn waited for, takes longer: it hangs, and would keep all others.
const HANGS: Duration = Duration::from_secs(900);

/// One test, which must end: it fails where it would hang for ever.
pub(crate) async fn in_time(test: impl Future<Output = ()>) {
    timeout(HANGS, test).await.unwrap_or_else(|_| panic!("not done after {HANGS:?}: it hangs"));
}

/// Each check on both brokers.
macro_rules! on_both_brokers {
    ($($check:ident),* $(,)?) => {
        mod v310 { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { $crate::broker::in_time(super::$check(&$crate::broker::V310)).await; } )* }
        mod v40 { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { $crate::broker::in_time(super::$check(&$crate::broker::V40)).await; } )* }
    };
}
pub(crate) use on_both_brokers;

/// RabbitMQ 3.10 and 4.0.
pub(crate) static V310: Broker = Broker { version: "310", turn: RwLock::const_new(()) };
pub(crate) static V40: Broker = Broker { version: "40", turn: RwLock::const_new(()) };

/// One broker, as the environment names it.
pub(crate) struct Broker {
    version: &'static str,
    turn: RwLock<()>,
}

impl Broker {
    /// The broker, while nobody hurts it; `None` where real servers are not wanted (`./test quick`).
    pub(crate) async fn shared(&'static self) -> Option<RwLockReadGuard<'static, ()>> {
        if self.skipped() {
            return None;
        }
        Some(self.turn.read().await)
    }

    /// The broker for oneself: to kill it, block it, or fill it.
    pub(crate) async fn alone(&'static self) -> Option<RwLockWriteGuard<'static, ()>> {
        if self.skipped() {
            return None;
        }
        Some(self.turn.write().await)
    }

    /// No broker is named: said loudly, and a failure where servers are required.
    fn skipped(&self) -> bool {
        let name = format!("GATEHOUSE_TEST_AMQP_{}", self.version);
        let quick = std::env::var_os("GATEHOUSE_SKIP_SERVERS").is_some();
        if !quick && std::env::var_os(&name).is_some() {
            return false;
        }
        let required = std::env::var("GATEHOUSE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not set, and GATEHOUSE_REQUIRE_SERVERS=1: see `./test servers`");
        eprintln!("SKIPPED: {name} is not set (or GATEHOUSE_SKIP_SERVERS is): see `./test servers`");
        true
    }

    /// With user and password, as `amqp://`.
    pub(crate) fn url(&self) -> String {
        let name = format!("GATEHOUSE_TEST_AMQP_{}", self.version);
        std::env::var(&name)
            .unwrap_or_else(|_| panic!("{name} is not set: run `./test servers` and source what it prints"))
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        let url = self.url();
        let after = url.rsplit('@').next().expect("a host");
        after.split('/').next().expect("a host").to_owned()
    }

    /// The script that rules this broker.
    pub(crate) fn script(&self) -> String {
        let name = format!("GATEHOUSE_TEST_BROKER_{}", self.version);
        std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: see `./test servers`"))
    }

    /// Runs the control script: `start`, `kill` (-9), `restart`, `ctl …` (rabbitmqctl), …
    pub(crate) async fn control(&self, words: &[&str]) -> String {
        // Files, not pipes: a server that the script starts keeps what it inherits open.
        let out = tempfile::NamedTempFile::new().expect("a file");
        let mut child = Command::new(self.script())
            .args(words)
            .stdin(Stdio::null())
            .stdout(out.reopen().expect("a file"))
            .stderr(out.reopen().expect("a file"))
            .kill_on_drop(true)
            .spawn()
            .expect("the control script runs");
        let status = timeout(LONG, child.wait()).await.expect("the control script ends in time").expect("a status");
        let said = std::fs::read_to_string(out.path()).unwrap_or_default();
        assert!(status.success(), "{words:?}: {said}");
        said
    }
}

impl Broker {
    /// Removes what a bus with this prefix has declared; `queues` as the bus calls them. A queue that has lost its
    /// leader (docs/rabbitmq.md) answers nobody; nobody else uses the prefix, so what cannot be removed may stay.
    pub(crate) async fn clean(&self, prefix: &str, queues: &[String]) {
        if timeout(LONG, self.remove(prefix, queues)).await.is_err() {
            eprintln!("not all of {prefix} could be removed from RabbitMQ {} within {LONG:?}", self.version);
        }
    }

    async fn remove(&self, prefix: &str, queues: &[String]) {
        let connection = Connection::connect(&self.url(), ConnectionProperties::default()).await.expect("connects");
        let channel = connection.create_channel().await.expect("a channel");
        let named = |name: &str| name.replacen("gatehouse", prefix, 1);
        for queue in queues {
            channel.queue_delete(named(queue).into(), QueueDeleteOptions::default()).await.expect("deleted");
        }
        let rungs = queues.iter().filter(|queue| queue.starts_with("gatehouse.retry."));
        let others = ["work", "dlx", "unroutable", "rpc", "reply"].map(|name| format!("gatehouse.{name}"));
        for exchange in rungs.chain(&others) {
            channel.exchange_delete(named(exchange).into(), ExchangeDeleteOptions::default()).await.expect("deleted");
        }
        connection.close(200, "done".into()).await.expect("closed");
    }
}

/// A bus on the broker with a prefix of its own.
pub(crate) struct TestBus {
    pub(crate) bus: Arc<RabbitMq>,
    pub(crate) prefix: String,
    broker: &'static Broker,
}

impl TestBus {
    pub(crate) fn new(broker: &'static Broker) -> Self {
        Self::with(broker, |_| {})
    }

    pub(crate) fn with(broker: &'static Broker, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(vec![broker.url()]);
        config.prefix = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        config.name = config.prefix.clone();
        change(&mut config);
        let prefix = config.prefix.clone();
        Self { bus: RabbitMq::connect(config).expect("the configuration is right"), prefix, broker }
    }

    /// The queue as the broker calls it.
    pub(crate) fn on_broker(&self, queue: &str) -> String {
        queue.replacen("gatehouse", &self.prefix, 1)
    }

    /// Declares these queues and waits until everything stands.
    pub(crate) async fn with_queues(self, queues: &[(&str, QueueSpec)]) -> Self {
        let queues = queues.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone())).collect();
        let ladder = vec![Duration::from_millis(300), Duration::from_millis(900)];
        self.bus.declare(Topology { queues, ladder }).await.expect("declared");
        self.until(|health| *health == Health::Ready).await;
        self
    }

    /// Waits for a health.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Health) -> bool) -> Health {
        let mut health = self.bus.health();
        let found = timeout(LONG, health.wait_for(wanted)).await;
        let last = self.bus.health().borrow().clone();
        found.unwrap_or_else(|_| panic!("the health stays {last:?}")).expect("the bus lives").clone()
    }

    /// Closes the bus and removes what it declared.
    pub(crate) async fn end(self) {
        let depths = timeout(LONG, self.bus.depths()).await.expect("an answer in time");
        let queues: Vec<String> = depths.expect("the broker is well").into_keys().collect();
        timeout(LONG, self.bus.close()).await.expect("it closes in time");
        self.broker.clean(&self.prefix, &queues).await;
    }
}
