//! Closing: what was confirmed is there, what was in hand comes again.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatehouse_bus::{BusError, PublishError, Topology};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{A, Ground, NEVER, SOON, drain, next, parcel, plain, put};

pub(super) async fn a_close_keeps_what_was_confirmed(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut callers = JoinSet::new();
    for n in 0..200 {
        let bus = Arc::clone(&bus);
        callers.spawn(async move {
            let id = format!("p{n}");
            (bus.publish(A, parcel(id.clone()), SOON).await, id)
        });
    }
    // Some before the close, some while it closes.
    let mut ended = vec![callers.join_next().await.expect("one").expect("published")];
    timeout(SOON, bus.close()).await.expect("closes");
    while let Some(caller) = callers.join_next().await {
        ended.push(caller.expect("published or refused"));
    }
    let confirmed: BTreeSet<String> = ended.into_iter().filter_map(|(said, id)| said.is_ok().then_some(id)).collect();
    assert!(!confirmed.is_empty());
    drop(bus);
    let bus = ground.reopen().await;
    let mut consumer = bus.consume(A, 100).await.expect("consumes");
    drain(&mut consumer, &confirmed).await;
}

pub(super) async fn a_closed_bus_says_so(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    bus.close().await;
    assert!(timeout(SOON, consumer.next()).await.expect("the stream ends").is_none());
    let said = bus.publish(A, parcel("p1"), NEVER).await;
    assert!(matches!(said, Err(PublishError::Refused(_) | PublishError::Unavailable(_))), "{said:?}");
    assert_eq!(bus.consume(A, 1).await.err(), Some(BusError::Closed));
    assert_eq!(bus.declare(Topology::default()).await.err(), Some(BusError::Closed));
    bus.close().await;
    drop(bus);
    ground.reopen().await;
}

pub(super) async fn what_was_in_hand_at_closing_comes_again(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, A, parcel("p1")).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let held = next(&mut consumer).await;
    bus.close().await;
    assert!(held.settlement.done().await.is_err(), "the bus is closed");
    drop((bus, consumer));
    let bus = ground.reopen().await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let again = next(&mut consumer).await;
    assert_eq!((again.parcel.id.as_str(), again.redelivered), ("p1", true));
    again.settlement.done().await.expect("settled");
}
