//! What the embedded bus alone can suffer: `kill -9`, torn and damaged files, a disk that is full or fails. What every
//! bus must do stands in the conformance suite.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{Embedded, Options};
use crate::{Bus, Consumer, Delivered, Headers, Health, Parcel, QueueSpec, Topology};

mod damage;
mod disk;
mod kill;
mod order;
mod speed;

const A: &str = "gatehouse.work.r.a";
const SOON: Duration = Duration::from_secs(60);

fn topology() -> Topology {
    let queues = BTreeMap::from([(A.to_owned(), QueueSpec::default())]);
    Topology { queues, ladder: vec![Duration::from_millis(20), Duration::from_millis(60)] }
}

async fn open_with(path: &Path, options: Options) -> Embedded {
    let bus = Embedded::open_with(path, options).expect("it opens");
    bus.declare(topology()).await.expect("declared");
    bus
}

async fn open(path: &Path) -> Embedded {
    open_with(path, Options::default()).await
}

fn parcel(id: impl Into<String>, size: usize) -> Parcel {
    let id = id.into();
    let body = format!("<{id}>").repeat(size / (id.len() + 2) + 1);
    Parcel { id, content_type: "application/json".to_owned(), headers: Headers::default(), body: Bytes::from(body) }
}

async fn next(consumer: &mut Consumer) -> Delivered {
    timeout(SOON, consumer.next()).await.expect("a delivery in time").expect("the bus lives")
}

/// Everything on a queue that is not in flight, done.
async fn drain(bus: &Embedded, queue: &str) -> Vec<String> {
    let mut consumer = bus.consume(queue, 100).await.expect("consumes");
    let mut ids = Vec::new();
    while bus.depths().await.expect("depths")[queue].parcels > 0 {
        let Delivered { parcel, settlement, .. } = next(&mut consumer).await;
        assert_eq!(
            parcel,
            self::parcel(parcel.id.clone(), parcel.body.len() - parcel.body.len().min(parcel.id.len() + 2))
        );
        settlement.done().await.expect("settled");
        ids.push(parcel.id);
    }
    ids
}

fn once(ids: &[String]) -> BTreeSet<String> {
    let set: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(set.len(), ids.len(), "something came twice");
    set
}

async fn until(bus: &Embedded, wanted: impl FnMut(&Health) -> bool) {
    let mut health = bus.health();
    let came = timeout(SOON, health.wait_for(wanted)).await.map(|health| health.map(|_| ()));
    let last = bus.health().borrow().clone();
    came.unwrap_or_else(|_| panic!("the health stays {last:?}")).expect("the bus lives");
}

async fn eventually(mut wanted: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !wanted().await {
        assert!(tokio::time::Instant::now() < deadline, "it does not become so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
