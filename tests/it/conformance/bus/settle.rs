//! The one answer that every delivery gets.

use std::time::Duration;

use bytes::Bytes;
use gatehouse_bus::{DEAD, Delivered, Parcel};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{A, Ground, LADDER, headers, next, parcel, plain, put, silent, take};

pub(super) async fn a_dropped_settlement_gives_the_parcel_back(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, A, parcel("p1")).await;
    let mut consumer = bus.consume(A, 1).await.expect("consumes");
    let first = next(&mut consumer).await;
    assert!(!first.redelivered);
    drop(first);
    let second = next(&mut consumer).await;
    assert_eq!(second.parcel, parcel("p1"));
    assert!(second.redelivered, "somebody had it before");
    second.settlement.done().await.expect("settled");
    assert!(silent(&mut consumer).await, "it was done");
}

pub(super) async fn a_retry_comes_after_its_delay_as_it_was_changed(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, A, parcel("p1")).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let first = next(&mut consumer).await;
    let changed = Parcel {
        id: "p1-2".to_owned(),
        headers: headers(&[("gatehouse-attempt", "2"), ("gatehouse-error-summary", "超时")]),
        body: Bytes::from_static("{\"说明\":\"已更改\"}".as_bytes()),
        ..parcel("p1")
    };
    let began = Instant::now();
    first.settlement.retry(changed.clone(), LADDER[0]).await.expect("settled");
    let again = next(&mut consumer).await;
    let waited = began.elapsed();
    assert!(waited >= LADDER[0], "it came back after {waited:?}");
    assert_eq!(again.parcel, changed);
    again.settlement.done().await.expect("settled");
    assert!(silent(&mut consumer).await, "the original was forgotten");
}

/// Two rungs: what is asked between them waits at the lower one, and neither holds the other up.
pub(super) async fn a_retry_waits_at_its_rung(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let mut began = Vec::new();
    for (id, asked) in [
        ("long", Duration::from_secs(3600)),
        ("short", Duration::ZERO),
        ("between", LADDER[1] - Duration::from_millis(1)),
    ] {
        put(&*bus, A, parcel(id)).await;
        let delivered = next(&mut consumer).await;
        assert_eq!(delivered.parcel.id, id);
        began.push((id, Instant::now()));
        delivered.settlement.retry(parcel(id), asked).await.expect("settled");
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        let id = take(&mut consumer).await;
        let waited = began.iter().find(|(one, _)| *one == id).expect("ours").1.elapsed();
        let least = if id == "long" { LADDER[1] } else { LADDER[0] };
        assert!(waited >= least, "{id} came back after {waited:?}");
        order.push(id);
    }
    assert_eq!(order, ["short", "between", "long"]);
}

pub(super) async fn a_dead_parcel_lies_with_the_dead(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, A, parcel("p1")).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let mut letter = parcel("p1");
    letter
        .headers
        .extend(headers(&[("gatehouse-error-code", "erp.refused"), ("gatehouse-error-summary", "客户被冻结")]));
    next(&mut consumer).await.settlement.dead(letter.clone()).await.expect("settled");
    let mut dead = bus.consume(DEAD, 10).await.expect("consumes");
    let found = next(&mut dead).await;
    assert_eq!(found.parcel, letter);
    found.settlement.done().await.expect("settled");
    assert!(silent(&mut consumer).await, "it is dead");
}

pub(super) async fn what_is_done_does_not_come_again(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    for n in 0..50 {
        put(&*bus, A, parcel(format!("p{n}"))).await;
    }
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    for n in 0..50 {
        assert_eq!(take(&mut consumer).await, format!("p{n}"));
    }
    drop(consumer);
    let bus = ground.reopen().await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    assert!(silent(&mut consumer).await, "all were done");
}

/// As targets of every speed settle: side by side, each after its own while, one in fifty given back. What is told of one
/// must never take its neighbours along, nor be told twice: a broker closes the channel then, and all of it comes again.
pub(super) async fn what_is_settled_in_any_order_comes_once(ground: &mut dyn Ground) {
    const MANY: usize = 3_000;
    let bus = ground.bus(&[(A, plain())]).await;
    let mut publishing = JoinSet::new();
    for part in 0..4 {
        let bus = bus.clone();
        publishing.spawn(async move {
            for n in (part..MANY).step_by(4) {
                put(&*bus, A, parcel(n.to_string())).await;
            }
        });
    }
    let mut consumer = bus.consume(A, 256).await.expect("consumes");
    let (mut came, mut given_back) = (vec![0_u32; MANY], std::collections::BTreeSet::new());
    let mut settling = JoinSet::new();
    for count in 0..MANY + MANY / 50 {
        let delivered = next(&mut consumer).await;
        let n: usize = delivered.parcel.id.parse().expect("ours");
        came[n] += 1;
        if n % 50 == 7 && given_back.insert(n) {
            drop(delivered);
            continue;
        }
        assert_eq!(delivered.redelivered, n % 50 == 7, "{n} was given back: only then may it come again");
        settling.spawn(async move {
            tokio::time::sleep(Duration::from_micros((count as u64 * 7_919) % 15_000)).await;
            delivered.settlement.done().await.expect("settled");
        });
    }
    while settling.join_next().await.transpose().expect("no panic").is_some() {}
    assert!(came.iter().enumerate().all(|(n, count)| *count == 1 + u32::from(n % 50 == 7)), "{came:?}");
    assert!(silent(&mut consumer).await, "all were settled");
    drop(consumer);
    let bus = ground.reopen().await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    assert!(silent(&mut consumer).await, "and the bus knows it");
}

/// The store that is down: a dead letter comes again, and may be put back on the ladder like any other.
pub(super) async fn a_dead_letter_can_be_settled(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, A, parcel("p1")).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    next(&mut consumer).await.settlement.dead(parcel("p1")).await.expect("settled");
    let mut dead = bus.consume(DEAD, 1).await.expect("consumes");
    drop(next(&mut dead).await);
    let Delivered { parcel: again, redelivered, settlement } = next(&mut dead).await;
    assert!(redelivered);
    settlement.retry(again, LADDER[0]).await.expect("settled");
    assert_eq!(take(&mut dead).await, "p1");
}
