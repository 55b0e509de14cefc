//! The suite on RabbitMQ. A kill is `kill -9` of the broker; the gateway's side lives on and must find back by itself.

use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_bus::{Bus, QueueSpec};
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};

use super::Ground;
use crate::broker::{Broker, TestBus};

mod v310 {
    use super::{Ground, alone, shared};
    use crate::broker::V310;

    super::super::cases!(super::on_shared, super::on_its_own);

    async fn on_shared() -> Option<Box<dyn Ground>> {
        shared(&V310).await
    }

    async fn on_its_own() -> Option<Box<dyn Ground>> {
        alone(&V310).await
    }
}

mod v40 {
    use super::{Ground, alone, shared};
    use crate::broker::V40;

    super::super::cases!(super::on_shared, super::on_its_own);

    async fn on_shared() -> Option<Box<dyn Ground>> {
        shared(&V40).await
    }

    async fn on_its_own() -> Option<Box<dyn Ground>> {
        alone(&V40).await
    }
}

/// The broker, while others use it or while nobody does; held as long as the case runs.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// A quorum queue whose broker is killed sooner after its first declaring may never have a leader again: the broker's
/// fault, told in docs/rabbitmq.md, and not what is tested here.
const SETTLED: Duration = Duration::from_secs(8);

struct OnBroker {
    broker: &'static Broker,
    bus: Option<TestBus>,
    queues: Vec<(String, QueueSpec)>,
    /// When the queues were made.
    declared: Instant,
    turn: Turn,
}

async fn shared(broker: &'static Broker) -> Option<Box<dyn Ground>> {
    let turn = Turn::Shared { _guard: broker.shared().await? };
    Some(Box::new(OnBroker { broker, bus: None, queues: Vec::new(), declared: Instant::now(), turn }))
}

async fn alone(broker: &'static Broker) -> Option<Box<dyn Ground>> {
    let turn = Turn::Alone { _guard: broker.alone().await? };
    Some(Box::new(OnBroker { broker, bus: None, queues: Vec::new(), declared: Instant::now(), turn }))
}

impl OnBroker {
    async fn open(&mut self, bus: TestBus) -> Arc<dyn Bus> {
        let queues: Vec<(&str, QueueSpec)> =
            self.queues.iter().map(|(name, spec)| (name.as_str(), spec.clone())).collect();
        let bus = bus.with_queues(&queues).await;
        let opened = Arc::clone(&bus.bus);
        self.bus = Some(bus);
        opened
    }
}

#[async_trait]
impl Ground for OnBroker {
    async fn bus(&mut self, queues: &[(&str, QueueSpec)]) -> Arc<dyn Bus> {
        self.queues = queues.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone())).collect();
        let bus = self.open(TestBus::new(self.broker)).await;
        self.declared = Instant::now(); // a busy broker takes seconds to make them
        bus
    }

    async fn reopen(&mut self) -> Arc<dyn Bus> {
        let before = self.bus.take().expect("a bus");
        before.bus.close().await;
        self.open(TestBus::with(self.broker, |config| config.prefix.clone_from(&before.prefix))).await
    }

    async fn strike(&mut self, _callers: &mut JoinSet<()>) -> Arc<dyn Bus> {
        assert!(matches!(self.turn, Turn::Alone { .. }), "others use this broker");
        let bus = self.bus.as_ref().expect("a bus");
        sleep_until(self.declared + SETTLED).await;
        self.broker.control(&["kill"]).await;
        bus.until(|health| *health != gatehouse_bus::Health::Ready).await;
        self.broker.control(&["start"]).await;
        bus.until(|health| *health == gatehouse_bus::Health::Ready).await;
        Arc::clone(&bus.bus) as Arc<dyn Bus>
    }

    async fn end(self: Box<Self>) {
        if let Some(bus) = self.bus {
            bus.end().await;
        }
    }
}
