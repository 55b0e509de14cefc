//! Who gets what, in which order, and how much at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use gatehouse_bus::{BusError, Delivered, QueueSpec};
use tokio::time::{Instant, timeout};

use super::{A, Ground, SOON, next, parcel, plain, put, silent, take};

pub(super) async fn one_consumer_sees_the_order(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut consumer = bus.consume(A, 7).await.expect("consumes");
    for n in 0..100 {
        put(&*bus, A, parcel(format!("p{n}"))).await;
    }
    for n in 0..100 {
        assert_eq!(take(&mut consumer).await, format!("p{n}"));
    }
}

/// With one in flight, what is given back is the next again: the way an ordered target waits.
pub(super) async fn a_dropped_settlement_keeps_the_order(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, QueueSpec { single_active_consumer: true, ..plain() })]).await;
    for n in 0..20 {
        put(&*bus, A, parcel(format!("p{n}"))).await;
    }
    let mut consumer = bus.consume(A, 1).await.expect("consumes");
    for n in 0..20 {
        for drops in 0..n % 3 {
            let Delivered { parcel, redelivered, settlement } = next(&mut consumer).await;
            assert_eq!((parcel.id, redelivered), (format!("p{n}"), drops > 0));
            drop(settlement);
        }
        assert_eq!(take(&mut consumer).await, format!("p{n}"));
    }
}

pub(super) async fn nobody_holds_more_than_the_prefetch(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    for n in 0..20 {
        put(&*bus, A, parcel(format!("p{n}"))).await;
    }
    let mut consumer = bus.consume(A, 4).await.expect("consumes");
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut consumer).await.settlement);
    }
    assert!(silent(&mut consumer).await, "a fifth parcel came while four were held");
    held.pop().expect("four").done().await.expect("settled");
    held.push(next(&mut consumer).await.settlement);
    assert!(silent(&mut consumer).await, "one was settled, two came");
}

pub(super) async fn consumers_share_and_each_parcel_comes_once(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(bus.consume(A, 5).await.expect("consumes"));
    }
    for n in 0..200 {
        put(&*bus, A, parcel(format!("p{n}"))).await;
    }
    let mut working = tokio::task::JoinSet::new();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let deadline = Instant::now() + SOON;
    for mut consumer in consumers {
        let count = std::sync::Arc::clone(&count);
        working.spawn(async move {
            let mut came = Vec::new();
            while count.load(std::sync::atomic::Ordering::Relaxed) < 200 && Instant::now() < deadline {
                if let Ok(Some(delivered)) = timeout(Duration::from_millis(20), consumer.next()).await {
                    delivered.settlement.done().await.expect("settled");
                    came.push(delivered.parcel.id);
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
            came
        });
    }
    let (mut all, mut busy) = (Vec::new(), 0);
    while let Some(came) = working.join_next().await {
        let came = came.expect("worked");
        busy += usize::from(!came.is_empty());
        all.extend(came);
    }
    let once: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), once.len(), busy), (200, 200, 4), "parcels, different ones, consumers that got some");
}

pub(super) async fn a_single_active_consumer_is_followed_by_the_next(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, QueueSpec { single_active_consumer: true, ..plain() })]).await;
    let mut first = bus.consume(A, 1).await.expect("consumes");
    put(&*bus, A, parcel("p0")).await;
    assert_eq!(take(&mut first).await, "p0");
    let mut second = bus.consume(A, 1).await.expect("consumes");
    for n in 1..10 {
        put(&*bus, A, parcel(format!("p{n}"))).await;
    }
    assert_eq!(take(&mut first).await, "p1");
    assert!(silent(&mut second).await, "two consumers work on an ordered queue");
    drop(first);
    // What the first one had in its stream comes to the second, in order.
    for n in 2..10 {
        assert_eq!(take(&mut second).await, format!("p{n}"));
    }
}

pub(super) async fn an_undeclared_queue_is_a_contradiction(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let said = bus.consume("gatehouse.work.r.nobody", 1).await.err();
    assert!(
        matches!(&said, Some(BusError::Contradiction(text)) if text.contains("gatehouse.work.r.nobody")),
        "{said:?}"
    );
}
