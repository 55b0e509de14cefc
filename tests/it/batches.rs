//! Parcels that travel together on RabbitMQ, in one message: each is still told, settled and found again by itself. Each
//! test runs on 3.10 and 4.0; the conformance suite, the fault matrix and the chaos tests run with batches too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use gatehouse_bus::rabbitmq::{Config, RabbitMq};
use gatehouse_bus::{Bus, Consumer, DEAD, Delivered, Health, Parcel, PublishError, QueueSpec, UNROUTABLE};
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::time::{sleep, timeout};

use crate::broker::{Broker, LONG, TestBus, on_both_brokers};

const A: &str = "gatehouse.work.r.a";
const SOON: Duration = Duration::from_secs(10);

on_both_brokers!(
    what_comes_at_once_travels_together,
    what_comes_alone_or_is_large_or_keeps_order_goes_alone,
    one_that_is_given_back_comes_again_alone,
    all_that_are_given_back_come_again,
    each_is_settled_by_itself,
    nobody_holds_more_than_the_prefetch,
    a_full_queue_tells_each_caller,
    what_nobody_takes_lies_apart_with_its_queue,
    a_damaged_batch_comes_as_it_is,
    another_gateway_that_takes_no_batches_reads_them,
    the_depth_is_about_right,
    kills_lose_nothing_and_double_little,
);

/// With a little of everything: no body, line feeds, bytes that are no text.
fn parcel(n: usize) -> Parcel {
    let body = [&b""[..], b"{\"a\":1}\n\n{}", "{\"名\":\"张三\"}".as_bytes(), &[0, 10, 255, 10, 13]][n % 4];
    let headers =
        [("cloudEvents:subject", "订单\n\"1\""), ("gatehouse-attempt", "1"), ("traceparent", "00-1-2-01"), ("x", "")];
    Parcel {
        id: format!("p-{n}"),
        content_type: if n.is_multiple_of(3) { String::new() } else { "application/json".to_owned() },
        headers: headers.into(),
        body: Bytes::from_static(body),
    }
}

async fn next(consumer: &mut Consumer) -> Delivered {
    timeout(LONG, consumer.next()).await.expect("a delivery in time").expect("the bus lives")
}

/// Nothing comes any more.
async fn silent(consumer: &mut Consumer) -> bool {
    timeout(Duration::from_millis(500), consumer.next()).await.is_err()
}

/// Publishes all at once; all must be confirmed.
async fn put(bus: &Arc<RabbitMq>, numbers: impl Iterator<Item = usize>) {
    for outcome in join_all(numbers.map(|n| bus.publish(A, parcel(n), SOON))).await {
        outcome.expect("confirmed");
    }
}

/// Takes so many, each once and as it was sent, and settles them; `again`: whether each must be known to have been in
/// somebody's hands.
async fn finish(consumer: &mut Consumer, count: usize, again: Option<bool>) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let Delivered { parcel: found, redelivered, settlement } = next(consumer).await;
        let n = found.id[2..].parse().expect("ours");
        assert_eq!(found, parcel(n));
        assert!(again.is_none_or(|again| again == redelivered), "{n}: in somebody's hands before: {redelivered}");
        assert!(seen.insert(n), "{n} twice");
        settlement.done().await.expect("settled");
    }
    seen
}

/// Messages that the broker has ready on a queue.
async fn messages(broker: &Broker, queue: &str) -> u32 {
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("connects");
    let channel = connection.create_channel().await.expect("a channel");
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let seen = channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("it is there");
    connection.close(200, "seen".into()).await.expect("closed");
    seen.message_count()
}

/// Whether all is settled: nothing comes to another gateway of the site, after this one is closed.
async fn nothing_is_left(test: &TestBus, broker: &'static Broker) {
    test.bus.close().await;
    let prefix = test.prefix.clone();
    let other = TestBus::with(broker, |config| config.prefix = prefix).with_queues(&[(A, QueueSpec::default())]).await;
    let mut consumer = other.bus.consume(A, 10).await.expect("consumes");
    assert!(silent(&mut consumer).await, "all was done");
    drop(consumer);
    other.end().await;
}

async fn a_bus(broker: &'static Broker) -> TestBus {
    TestBus::new(broker).with_queues(&[(A, QueueSpec::default())]).await
}

async fn what_comes_at_once_travels_together(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..500).await;
    let held = messages(broker, &test.on_broker(A)).await;
    assert!(held < 100, "{held} messages for 500 parcels");
    let mut consumer = test.bus.consume(A, 256).await.expect("consumes");
    assert_eq!(finish(&mut consumer, 500, Some(false)).await, (0..500).collect());
    drop(consumer);
    nothing_is_left(&test, broker).await;
}

async fn what_comes_alone_or_is_large_or_keeps_order_goes_alone(broker: &'static Broker) {
    const ORDERED: &str = "gatehouse.work.r.ordered";
    let Some(_turn) = broker.shared().await else { return };
    let ordered = QueueSpec { single_active_consumer: true, ..QueueSpec::default() };
    let test = TestBus::new(broker).with_queues(&[(A, QueueSpec::default()), (ORDERED, ordered)]).await;
    for n in 0..10 {
        test.bus.publish(A, parcel(n), SOON).await.expect("confirmed");
    }
    assert_eq!(messages(broker, &test.on_broker(A)).await, 10, "one after the other");
    let large = |n| Parcel { body: vec![b'x'; 20_000].into(), ..parcel(n) };
    for outcome in join_all((10..40).map(|n| test.bus.publish(A, large(n), SOON))).await {
        outcome.expect("confirmed");
    }
    assert_eq!(messages(broker, &test.on_broker(A)).await, 40, "large ones");
    for outcome in join_all((0..30).map(|n| test.bus.publish(ORDERED, parcel(n), SOON))).await {
        outcome.expect("confirmed");
    }
    assert_eq!(messages(broker, &test.on_broker(ORDERED)).await, 30, "what keeps order");
    test.end().await;
}

/// Consumes all of them, and gives back those that are named; the others are done.
async fn take(consumer: &mut Consumer, all: usize, back: &BTreeSet<usize>) {
    let mut held = Vec::new();
    for _ in 0..all {
        let delivered = next(consumer).await;
        assert!(!delivered.redelivered);
        held.push(delivered);
    }
    for Delivered { parcel, settlement, .. } in held {
        if back.contains(&parcel.id[2..].parse().expect("ours")) {
            drop(settlement);
        } else {
            settlement.done().await.expect("settled");
        }
    }
}

async fn one_that_is_given_back_comes_again_alone(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..100).await;
    let mut consumer = test.bus.consume(A, 256).await.expect("consumes");
    let back = BTreeSet::from([7, 50, 51, 99]);
    take(&mut consumer, 100, &back).await;
    assert_eq!(finish(&mut consumer, back.len(), Some(true)).await, back);
    assert!(silent(&mut consumer).await, "what was done does not come again");
    drop(consumer);
    nothing_is_left(&test, broker).await;
}

async fn all_that_are_given_back_come_again(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..100).await;
    let mut first = test.bus.consume(A, 30).await.expect("consumes");
    drop(next(&mut first).await);
    drop(first); // what has come, what waits for a place, and what the client has read ahead
    let mut second = test.bus.consume(A, 256).await.expect("consumes");
    assert_eq!(finish(&mut second, 100, None).await, (0..100).collect());
    drop(second);
    nothing_is_left(&test, broker).await;
}

async fn each_is_settled_by_itself(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..90).await;
    let mut consumer = test.bus.consume(A, 256).await.expect("consumes");
    let mut held = Vec::new();
    for _ in 0..90 {
        held.push(next(&mut consumer).await);
    }
    for Delivered { parcel: mut found, settlement, .. } in held {
        let n: usize = found.id[2..].parse().expect("ours");
        found.headers.insert("gatehouse-attempt", "2");
        match n % 3 {
            0 => settlement.done().await,
            1 => settlement.retry(found, Duration::from_millis(300)).await,
            _ => settlement.dead(found).await,
        }
        .expect("settled");
    }
    let mut again = BTreeSet::new();
    while again.len() < 30 {
        let delivered = next(&mut consumer).await;
        assert_eq!(delivered.parcel.header("gatehouse-attempt"), Some("2"));
        assert!(again.insert(delivered.parcel.id[2..].parse::<usize>().expect("ours")), "twice");
        delivered.settlement.done().await.expect("settled");
    }
    assert!(again.iter().all(|n| n % 3 == 1), "{again:?}");
    let mut letters = test.bus.consume(DEAD, 50).await.expect("consumes");
    for _ in 0..30 {
        let delivered = next(&mut letters).await;
        assert_eq!(delivered.parcel.id[2..].parse::<usize>().expect("ours") % 3, 2);
        delivered.settlement.done().await.expect("settled");
    }
    assert!(silent(&mut consumer).await && silent(&mut letters).await);
    drop((consumer, letters));
    nothing_is_left(&test, broker).await;
}

async fn nobody_holds_more_than_the_prefetch(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..200).await;
    let mut consumer = test.bus.consume(A, 5).await.expect("consumes");
    let (mut held, mut seen) = (Vec::new(), BTreeSet::new());
    while seen.len() + held.len() < 200 {
        while held.len() < 5 {
            held.push(next(&mut consumer).await);
        }
        assert!(timeout(Duration::from_millis(20), consumer.next()).await.is_err(), "one more than the prefetch");
        for delivered in held.drain(..) {
            assert!(seen.insert(delivered.parcel.id.clone()), "{} twice", delivered.parcel.id);
            delivered.settlement.done().await.expect("settled");
        }
    }
    drop((consumer, held));
    test.end().await;
}

/// A message is refused whole: none of it is there. Each of its callers is told so.
async fn a_full_queue_tells_each_caller(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let spec = QueueSpec { max_bytes: Some(40_000), ..QueueSpec::default() };
    let test = TestBus::new(broker).with_queues(&[(A, spec)]).await;
    let body = Bytes::from(vec![b'x'; 500]);
    let send = |n: usize| {
        let (bus, body) = (test.bus.clone(), body.clone());
        async move { (n, bus.publish(A, Parcel { body, ..parcel(n) }, SOON).await) }
    };
    let (mut confirmed, mut refused) = (BTreeSet::new(), 0);
    for round in 0..10 {
        for (n, outcome) in join_all((round * 100..(round + 1) * 100).map(send)).await {
            match outcome {
                Ok(()) => drop(confirmed.insert(n)),
                Err(PublishError::Refused(_)) => refused += 1,
                Err(other) => panic!("{n}: {other}"),
            }
        }
    }
    assert!(refused > 300 && confirmed.len() > 30, "{refused} refused, {} confirmed", confirmed.len());
    let mut consumer = test.bus.consume(A, 256).await.expect("consumes");
    let mut there = BTreeSet::new();
    while !silent(&mut consumer).await || there.len() < confirmed.len() {
        let delivered = next(&mut consumer).await;
        assert!(there.insert(delivered.parcel.id[2..].parse::<usize>().expect("ours")), "twice");
        delivered.settlement.done().await.expect("settled");
    }
    assert_eq!(there, confirmed);
    drop(consumer);
    test.end().await;
}

async fn what_nobody_takes_lies_apart_with_its_queue(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    broker.control(&["ctl", "delete_queue", &test.on_broker(A)]).await;
    put(&test.bus, 0..60).await;
    let mut apart = test.bus.consume(UNROUTABLE, 50).await.expect("consumes");
    let mut consumer = test.bus.consume(A, 256).await.expect("consumes");
    let mut seen = BTreeSet::new();
    // One is given back: all of its message come again, and still say where they were meant to go.
    let mut back = Some(next(&mut apart).await).map(|first| first.parcel.id);
    while seen.len() < 60 {
        let delivered = tokio::select! {
            delivered = next(&mut apart) => delivered,
            // The queue was declared again meanwhile.
            delivered = next(&mut consumer) => {
                seen.insert(delivered.parcel.id.clone());
                delivered.settlement.done().await.expect("settled");
                continue;
            }
        };
        assert_eq!(delivered.parcel.header("gatehouse-queue"), Some(A), "{}", delivered.parcel.id);
        back = back.filter(|id| *id != delivered.parcel.id);
        seen.insert(delivered.parcel.id.clone());
        delivered.settlement.done().await.expect("settled");
    }
    assert!(back.is_none(), "{back:?} did not come again");
    drop((apart, consumer));
    test.end().await;
}

/// Somebody has written into a batch, or something else says that it is one.
async fn a_damaged_batch_comes_as_it_is(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..100).await;
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("connects");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let queue = test.on_broker(A);
    let (mut properties, mut whole) = (BasicProperties::default(), Vec::new());
    // All are taken out; a batch of them is put back damaged in several ways.
    while let Some(got) = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.expect("got")
    {
        if got.properties.content_type().as_ref().is_some_and(|name| name.as_str().contains("batch")) {
            (properties, whole) = (got.properties.clone(), got.data.clone());
        }
    }
    assert!(!whole.is_empty(), "no batch");
    let lines = whole.iter().filter(|byte| **byte == b'{').count();
    assert!(lines > 1);
    let damaged: [Vec<u8>; 4] =
        [Vec::new(), whole[..whole.len() - 1].to_vec(), whole[1..].to_vec(), [&whole[..], b"{}"].concat()];
    for body in &damaged {
        let sent = channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            body,
            properties.clone(),
        );
        sent.await.expect("sent").await.expect("confirmed");
    }
    let mut consumer = test.bus.consume(A, 256).await.expect("consumes");
    let mut seen = Vec::new();
    for _ in 0..damaged.len() {
        let delivered = next(&mut consumer).await;
        assert_eq!(delivered.parcel.content_type, "application/vnd.gatehouse.batch");
        seen.push(delivered.parcel.body.to_vec());
        delivered.settlement.done().await.expect("settled");
    }
    assert_eq!(seen, damaged, "as it is, for the one who looks");
    connection.close(200, "done".into()).await.expect("closed");
    drop(consumer);
    test.end().await;
}

/// `batch: 1` on one gateway of a site, the default on another: each reads what the other writes.
async fn another_gateway_that_takes_no_batches_reads_them(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..100).await;
    let prefix = test.prefix.clone();
    let change = |config: &mut Config| (config.prefix, config.batch) = (prefix, 1);
    let other = TestBus::with(broker, change).with_queues(&[(A, QueueSpec::default())]).await;
    let before = messages(broker, &test.on_broker(A)).await;
    put(&other.bus, 100..200).await;
    assert_eq!(messages(broker, &test.on_broker(A)).await, before + 100, "each has its own message");
    let mut consumer = other.bus.consume(A, 256).await.expect("consumes");
    assert_eq!(finish(&mut consumer, 200, None).await, (0..200).collect());
    drop(consumer);
    other.bus.close().await;
    test.end().await;
}

async fn the_depth_is_about_right(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = a_bus(broker).await;
    put(&test.bus, 0..400).await;
    let depth = test.bus.depths().await.expect("depths")[A].parcels;
    assert!((380..=420).contains(&depth), "{depth} for 400");
    let mut consumer = test.bus.consume(A, 256).await.expect("consumes");
    for _ in 0..400 {
        next(&mut consumer).await.settlement.done().await.expect("settled");
    }
    let until = tokio::time::Instant::now() + LONG;
    while test.bus.depths().await.expect("depths")[A].parcels > 0 {
        assert!(tokio::time::Instant::now() < until, "it is empty");
        sleep(Duration::from_millis(20)).await;
    }
    drop(consumer);
    test.end().await;
}

/// Callers publish at once, two consumers settle in every way, one of them goes and comes, and the broker is killed: every
/// parcel that was confirmed is done in the end, and none that was done at leisure comes again.
async fn kills_lose_nothing_and_double_little(broker: &'static Broker) {
    let Some(_turn) = broker.alone().await else { return };
    let test = a_bus(broker).await;
    let (publishing, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let publishers: Vec<_> = (0..48)
        .map(|task| {
            let (bus, publishing) = (test.bus.clone(), publishing.clone());
            tokio::spawn(async move {
                let mut mine = BTreeSet::new();
                let mut n = task;
                while publishing.load(Ordering::SeqCst) {
                    if bus.publish(A, parcel(n), Duration::from_secs(5)).await.is_ok() {
                        mine.insert(n);
                        n += 48;
                    }
                    sleep(Duration::from_millis(2)).await; // the same again, until it is confirmed
                }
                mine
            })
        })
        .collect();
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let (bus, stop) = (test.bus.clone(), stop.clone());
            tokio::spawn(async move {
                let mut done: BTreeMap<usize, usize> = BTreeMap::new();
                'all: loop {
                    let mut consumer = bus.consume(A, 64).await.expect("consumes");
                    for turn in 0..2_000_usize {
                        let delivered = match timeout(Duration::from_millis(300), consumer.next()).await {
                            Ok(delivered) => delivered.expect("the bus lives"),
                            Err(_) if stop.load(Ordering::SeqCst) => break 'all,
                            Err(_) => continue,
                        };
                        let n: usize = delivered.parcel.id[2..].parse().expect("ours");
                        let (parcel, settlement) = (delivered.parcel, delivered.settlement);
                        match turn % 17 {
                            3 => drop(settlement),
                            5 => drop(settlement.retry(parcel, Duration::from_millis(300)).await),
                            _ => {
                                if settlement.done().await.is_ok() {
                                    *done.entry(n).or_default() += 1;
                                }
                            }
                        }
                    }
                }
                done
            })
        })
        .collect();
    for _ in 0..2 {
        sleep(Duration::from_secs(8)).await; // a fresh queue does not survive a kill: see `rabbitmq`
        broker.control(&["kill"]).await;
        test.until(|health| !matches!(health, Health::Ready)).await;
        broker.control(&["start"]).await;
        test.until(|health| *health == Health::Ready).await;
    }
    sleep(Duration::from_secs(2)).await;
    publishing.store(false, Ordering::SeqCst);
    let mut confirmed = BTreeSet::new();
    for publisher in publishers {
        confirmed.extend(timeout(LONG, publisher).await.expect("ends").expect("no panic"));
    }
    let until = tokio::time::Instant::now() + LONG;
    while test.bus.depths().await.is_ok_and(|depths| depths.values().any(|depth| depth.parcels > 0)) {
        assert!(tokio::time::Instant::now() < until, "it does not drain");
        sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut done: BTreeMap<usize, usize> = BTreeMap::new();
    for consumer in consumers {
        for (n, times) in timeout(LONG, consumer).await.expect("ends").expect("no panic") {
            *done.entry(n).or_default() += times;
        }
    }
    let lost: Vec<_> = confirmed.iter().filter(|n| !done.contains_key(n)).take(5).collect();
    assert!(lost.is_empty(), "{lost:?} of {} are lost", confirmed.len());
    let twice = done.values().filter(|times| **times > 1).count();
    eprintln!("{} confirmed, 0 lost, {twice} done more than once", confirmed.len());
    // Only what was in hand or on its way when the broker was killed, twice: two windows, and one publish a caller.
    assert!(twice <= 2 * (2 * 64 + 48 + 256), "{twice}");
    nothing_is_left(&test, broker).await;
}
