//! What a confirm means, and a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use gatehouse_bus::{Bus, DEAD, Parcel, PublishError, QueueSpec, UNROUTABLE};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{A, Ground, LADDER, NEVER, SOON, headers, next, parcel, plain, put, take};

pub(super) async fn a_confirmed_parcel_arrives_as_it_was(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, A, parcel("p1")).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    let delivered = next(&mut consumer).await;
    assert_eq!(delivered.parcel, parcel("p1"));
    assert!(!delivered.redelivered, "nobody had it before");
    delivered.settlement.done().await.expect("settled");
}

pub(super) async fn an_unknown_queue_loses_nothing(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    put(&*bus, "gatehouse.work.r.nobody", parcel("lost")).await;
    put(&*bus, A, parcel("found")).await;
    let mut caught = bus.consume(UNROUTABLE, 10).await.expect("consumes");
    let delivered = next(&mut caught).await;
    assert_eq!((delivered.parcel.id.as_str(), &delivered.parcel.body), ("lost", &parcel("lost").body));
    delivered.settlement.done().await.expect("settled");
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    assert_eq!(take(&mut consumer).await, "found");
}

pub(super) async fn a_full_queue_refuses_and_keeps_what_it_confirmed(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, QueueSpec { max_bytes: Some(64 * 1024), ..plain() })]).await;
    let large = |n: usize| Parcel { body: Bytes::from(vec![b'x'; 4096]), ..parcel(format!("p{n}")) };
    let (mut kept, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..200 {
        match bus.publish(A, large(n), SOON).await {
            Ok(()) => kept.insert(format!("p{n}")),
            Err(PublishError::Refused(_)) => refused.insert(format!("p{n}")),
            Err(other) => panic!("neither confirmed nor refused: {other}"),
        };
        if refused.len() == 3 {
            break;
        }
    }
    assert_eq!(refused.len(), 3, "800 KiB went into a queue for 64");
    assert!(kept.len() >= 8, "only {} parcels of 4 KiB fit into 64 KiB", kept.len());
    let mut consumer = bus.consume(A, 100).await.expect("consumes");
    let mut came = BTreeSet::new();
    while came.len() < kept.len() {
        came.insert(take(&mut consumer).await);
    }
    assert_eq!(came, kept);
    // There is room again; a broker takes a moment to see it.
    let deadline = Instant::now() + SOON;
    while let Err(error) = bus.publish(A, large(1000), SOON).await {
        assert!(Instant::now() < deadline, "an empty queue still refuses: {error}");
        sleep(NEVER / 5).await;
    }
    assert_eq!(take(&mut consumer).await, "p1000");
}

pub(super) async fn chinese_headers_and_large_bodies_keep_every_byte(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut sent = parcel("订单-4711");
    sent.headers = headers(&[
        ("gatehouse-summary", "客户「王小明」的订单 № 4711 失败：库存不足 🚚\r\nzweite Zeile"),
        ("gatehouse-empty", ""),
        ("gatehouse-key", "\"quoted\" \\ back"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]);
    sent.body = (0..1024 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    put(&*bus, A, sent.clone()).await;
    let bare = Parcel { id: "bare".to_owned(), ..Parcel::default() };
    put(&*bus, A, bare.clone()).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    for expected in [sent, bare] {
        let delivered = next(&mut consumer).await;
        assert!(delivered.parcel == expected, "{} came changed", expected.id);
        delivered.settlement.done().await.expect("settled");
    }
}

pub(super) async fn too_many_headers_are_refused(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut large = parcel("large");
    large.headers = headers(&[("gatehouse-summary", "x".repeat(40_000).as_str())]);
    let said = bus.publish(A, large, SOON).await;
    assert!(matches!(said, Err(PublishError::Refused(_))), "{said:?}");
    put(&*bus, A, parcel("small")).await;
    let mut consumer = bus.consume(A, 10).await.expect("consumes");
    assert_eq!(take(&mut consumer).await, "small");
}

pub(super) async fn parcels_of_many_publishers_arrive(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    let mut publishers = JoinSet::new();
    for publisher in 0..16 {
        let bus: Arc<dyn Bus> = Arc::clone(&bus);
        publishers.spawn(async move {
            for n in 0..125 {
                put(&*bus, A, parcel(format!("{publisher}-{n}"))).await;
            }
        });
    }
    let mut consumer = bus.consume(A, 64).await.expect("consumes");
    let mut came = BTreeSet::new();
    while came.len() < 2000 {
        let id = take(&mut consumer).await;
        assert!(came.insert(id.clone()), "{id} came twice");
    }
    while let Some(ended) = publishers.join_next().await {
        ended.expect("every publish was confirmed");
    }
    let expected: BTreeSet<String> = (0..16).flat_map(|p| (0..125).map(move |n| format!("{p}-{n}"))).collect();
    assert_eq!(came, expected);
}

pub(super) async fn the_depth_is_told(ground: &mut dyn Ground) {
    let bus = ground.bus(&[(A, plain())]).await;
    for n in 0..5 {
        put(&*bus, A, parcel(format!("p{n}"))).await;
    }
    put(&*bus, "gatehouse.work.r.nobody", parcel("lost")).await;
    let mut consumer = bus.consume(A, 2).await.expect("consumes");
    let first = next(&mut consumer).await;
    first.settlement.retry(parcel("p0"), LADDER[1]).await.expect("settled");
    let second = next(&mut consumer).await;
    second.settlement.dead(parcel("p1")).await.expect("settled");
    let rung = |name: &str| name.starts_with("gatehouse.retry.");
    let deadline = Instant::now() + SOON;
    // A broker counts with a delay; and the retry comes back.
    let depths = loop {
        let depths = bus.depths().await.expect("depths");
        let count = |name: &str| depths.get(name).map_or(u64::MAX, |depth| depth.parcels);
        if (count(A), count(DEAD), count(UNROUTABLE)) == (4, 1, 1) {
            break depths;
        }
        assert!(Instant::now() < deadline, "{depths:?}");
        sleep(NEVER / 5).await;
    };
    assert_eq!(depths.keys().filter(|name| rung(name)).count(), LADDER.len(), "{depths:?}");
    assert_eq!(depths[A].consumers, 1, "{depths:?}");
}
