//! The suite on the embedded bus. A kill is a drop here; a real `kill -9` of the process, torn and damaged files and a
//! full disk are tested in gatehouse-bus, beside the file.

use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_bus::embedded::Embedded;
use gatehouse_bus::{Bus, Health, QueueSpec, Topology};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Ground, LADDER, SOON, cases};

cases!(super::ground, super::ground);

struct OnFile {
    folder: TempDir,
    bus: Option<Arc<dyn Bus>>,
    topology: Topology,
}

async fn ground() -> Option<Box<dyn Ground>> {
    let folder = tempfile::tempdir().expect("a folder");
    Some(Box::new(OnFile { folder, bus: None, topology: Topology::default() }))
}

impl OnFile {
    async fn open(&mut self) -> Arc<dyn Bus> {
        let path = self.folder.path().join("bus.db");
        let opened = tokio::task::spawn_blocking(move || Embedded::open(&path)).await.expect("no panic");
        let bus: Arc<dyn Bus> = Arc::new(opened.expect("it opens"));
        bus.declare(self.topology.clone()).await.expect("declared");
        let mut health = bus.health();
        timeout(SOON, health.wait_for(|health| *health == Health::Ready)).await.expect("in time").expect("it lives");
        self.bus = Some(Arc::clone(&bus));
        bus
    }
}

#[async_trait]
impl Ground for OnFile {
    async fn bus(&mut self, queues: &[(&str, QueueSpec)]) -> Arc<dyn Bus> {
        let queues = queues.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone())).collect();
        self.topology = Topology { queues, ladder: LADDER.to_vec() };
        self.open().await
    }

    async fn reopen(&mut self) -> Arc<dyn Bus> {
        if let Some(bus) = self.bus.take() {
            bus.close().await;
        }
        self.open().await
    }

    async fn strike(&mut self, callers: &mut JoinSet<()>) -> Arc<dyn Bus> {
        callers.shutdown().await;
        let bus = self.bus.take().expect("a bus");
        assert_eq!(Arc::strong_count(&bus), 1, "somebody keeps the bus alive");
        drop(bus);
        self.open().await
    }

    async fn end(self: Box<Self>) {
        if let Some(bus) = self.bus {
            bus.close().await;
        }
    }
}
