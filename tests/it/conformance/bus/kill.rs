//! Killing what keeps the parcels: what was confirmed is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatehouse_bus::{Bus, DEAD, PublishError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{A, Ground, LADDER, SOON, drain, next, parcel, plain, put, take};

type Ids = Arc<Mutex<BTreeSet<String>>>;

/// Publishes one id after the other until it is told to stop; keeps those that were confirmed.
fn publish_on(callers: &mut JoinSet<()>, bus: &Arc<dyn Bus>, name: String, confirmed: &Ids) {
    let (bus, confirmed) = (Arc::clone(bus), Arc::clone(confirmed));
    callers.spawn(async move {
        for n in 0.. {
            let id = format!("{name}-{n}");
            match bus.publish(A, parcel(id.clone()), Duration::from_secs(5)).await {
                Ok(()) => drop(confirmed.lock().expect("a lock").insert(id)),
                Err(PublishError::Unavailable(_)) => sleep(Duration::from_millis(50)).await,
                Err(_) => {}
            }
        }
    });
}

pub(super) async fn a_kill_loses_nothing_that_was_confirmed(ground: &mut dyn Ground) {
    let mut bus = ground.bus(&[(A, plain())]).await;
    let confirmed = Ids::default();
    for round in 0..3 {
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            publish_on(&mut callers, &bus, format!("{round}-{caller}"), &confirmed);
        }
        let before = confirmed.lock().expect("a lock").len();
        let deadline = Instant::now() + SOON;
        while confirmed.lock().expect("a lock").len() < before + 100 {
            assert!(Instant::now() < deadline, "nothing is confirmed");
            sleep(Duration::from_millis(5)).await;
        }
        drop(bus);
        bus = ground.strike(&mut callers).await;
        callers.shutdown().await;
    }
    let expected = confirmed.lock().expect("a lock").clone();
    let mut consumer = bus.consume(A, 100).await.expect("consumes");
    drain(&mut consumer, &expected).await;
}

pub(super) async fn a_kill_keeps_retries_and_the_dead(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    for id in ["retried", "dead", "held"] {
        put(&*bus, A, parcel(id)).await;
    }
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let began = Instant::now();
    next(&mut consumer).await.settlement.retry(parcel("retried"), LADDER[1]).await.expect("settled");
    next(&mut consumer).await.settlement.dead(parcel("dead")).await.expect("settled");
    let held = next(&mut consumer).await;
    assert_eq!(held.parcel.id, "held");
    drop(bus);
    let bus = ground.strike(&mut JoinSet::new()).await;
    let late = held.settlement.done().await;
    assert!(late.is_err(), "it was no longer ours: {late:?}");
    drop(consumer);
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let mut came = BTreeSet::new();
    while came.len() < 2 {
        let delivered = next(&mut consumer).await;
        match delivered.parcel.id.as_str() {
            "held" => assert!(delivered.redelivered, "somebody had it before"),
            "retried" => assert!(began.elapsed() >= LADDER[1], "it came back after {:?}", began.elapsed()),
            other => panic!("{other} was settled"),
        }
        came.insert(delivered.parcel.id);
        delivered.settlement.done().await.expect("settled");
    }
    let mut dead = bus.consume(DEAD, 10).await.expect("consumes");
    assert_eq!(take(&mut dead).await, "dead");
}
