//! The bus suite on RabbitMQ 3.10 and 4.0. A kill is `kill -9` of the broker.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_bus::{Bus, Health, QueueSpec, Topology};
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::broker::{Broker, TestBus};
use crate::conformance::bus::{Ground, LADDER};

mod v310 {
    crate::conformance::bus::cases!(super::shared_310, super::alone_310);
}

mod v40 {
    crate::conformance::bus::cases!(super::shared_40, super::alone_40);
}

/// A quorum queue that is killed sooner after its declaring may never have a leader again (docs/rabbitmq.md).
const SETTLED: Duration = Duration::from_secs(8);

/// Keeps the broker to ourselves, or from those who want it to themselves.
enum Turn {
    Shared { _turn: RwLockReadGuard<'static, ()> },
    Alone { _turn: RwLockWriteGuard<'static, ()> },
}

struct OnBroker {
    broker: &'static Broker,
    test: Option<TestBus>,
    topology: Topology,
    declared: Instant,
    turn: Turn,
}

async fn shared_310() -> Option<Box<dyn Ground>> {
    shared(&crate::broker::V310).await
}

async fn shared_40() -> Option<Box<dyn Ground>> {
    shared(&crate::broker::V40).await
}

async fn alone_310() -> Option<Box<dyn Ground>> {
    alone(&crate::broker::V310).await
}

async fn alone_40() -> Option<Box<dyn Ground>> {
    alone(&crate::broker::V40).await
}

async fn shared(broker: &'static Broker) -> Option<Box<dyn Ground>> {
    let turn = Turn::Shared { _turn: broker.shared().await? };
    Some(Box::new(OnBroker::new(broker, turn)))
}

async fn alone(broker: &'static Broker) -> Option<Box<dyn Ground>> {
    let turn = Turn::Alone { _turn: broker.alone().await? };
    Some(Box::new(OnBroker::new(broker, turn)))
}

impl OnBroker {
    fn new(broker: &'static Broker, turn: Turn) -> Self {
        Self { broker, test: None, topology: Topology::default(), declared: Instant::now(), turn }
    }

    async fn open(&mut self, test: TestBus) -> Arc<dyn Bus> {
        test.bus.declare(self.topology.clone()).await.expect("declared");
        test.until(|health| *health == Health::Ready).await;
        let bus = test.bus.clone();
        self.test = Some(test);
        bus
    }
}

#[async_trait]
impl Ground for OnBroker {
    async fn bus(&mut self, queues: &[(&str, QueueSpec)]) -> Arc<dyn Bus> {
        let queues = queues.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone())).collect();
        self.topology = Topology { queues, ladder: LADDER.to_vec() };
        self.declared = Instant::now();
        self.open(TestBus::new(self.broker)).await
    }

    async fn reopen(&mut self) -> Arc<dyn Bus> {
        let old = self.test.take().expect("a bus");
        old.bus.close().await;
        let prefix = old.prefix.clone();
        self.open(TestBus::with(self.broker, |config| config.prefix = prefix)).await
    }

    async fn strike(&mut self, _callers: &mut JoinSet<()>) -> Arc<dyn Bus> {
        assert!(matches!(self.turn, Turn::Alone { .. }), "others use this broker");
        sleep_until(self.declared + SETTLED).await;
        self.broker.control(&["kill"]).await;
        let test = self.test.as_ref().expect("a bus");
        test.until(|health| *health != Health::Ready).await;
        self.broker.control(&["start"]).await;
        test.until(|health| *health == Health::Ready).await;
        test.bus.clone()
    }

    async fn end(self: Box<Self>) {
        if let Some(test) = self.test {
            test.end().await;
        }
    }
}
