//! The bus on RabbitMQ where it differs from the embedded one: what brokers do to it. Each test runs on 3.10 and 4.0.
//!
//! Not here: what every bus promises (`conformance`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use gatehouse_bus::rabbitmq::{Config, RabbitMq};
use gatehouse_bus::{
    Bus, BusError, Consumer, DEAD, Delivered, Health, Parcel, PublishError, QueueSpec, RequestError, Topology,
    UNROUTABLE,
};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::{Broker, LONG, TestBus, on_both_brokers};
use crate::proxy::Proxy;

const A: &str = "gatehouse.work.r.a";
const ASK: &str = "gatehouse.work.r.ask";
const SOON: Duration = Duration::from_secs(10);

on_both_brokers!(
    returns_are_told_apart,
    an_unknown_queue_ends_in_unroutable,
    a_foreign_message_is_delivered,
    what_the_broker_gives_up_on_says_why,
    a_contradiction_names_queue_argument_and_mend,
    a_full_queue_refuses_and_keeps_what_it_confirmed,
    each_publish_is_told_its_own_confirm,
    a_deleted_queue_is_declared_and_consumed_again,
    a_refused_login_is_tried_slowly_and_tells_no_secret,
    the_next_host_is_tried,
    an_alarm_blocks_publishers_and_not_acks,
    a_killed_broker_loses_nothing_that_was_confirmed,
    the_prefetch_holds_after_a_restart,
    a_dropped_publish_gives_its_place_back,
);

fn parcel(id: impl Into<String>) -> Parcel {
    Parcel {
        id: id.into(),
        content_type: "application/json".to_owned(),
        headers: [("gatehouse-attempt", "1")].into(),
        body: Bytes::from_static(b"{}"),
    }
}

async fn next(consumer: &mut Consumer) -> Delivered {
    timeout(LONG, consumer.next()).await.expect("a delivery in time").expect("the bus lives")
}

fn request_queue() -> QueueSpec {
    QueueSpec { request: true, ..QueueSpec::default() }
}

/// Answers every request with its own id.
fn echo(mut consumer: Consumer) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(delivered) = consumer.next().await {
            let answer = Parcel { body: Bytes::from(delivered.parcel.id.clone()), ..Parcel::default() };
            delivered.settlement.reply(answer).await.expect("replied");
        }
    })
}

/// Two requests at once, one routable and one not, many times: lapin pins returns on the wrong publish, we must not.
async fn returns_are_told_apart(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = TestBus::new(broker).with_queues(&[(ASK, request_queue())]).await;
    let echo = echo(test.bus.consume(ASK, 50).await.expect("consumes"));
    let ask = |queue: &'static str, id: String| {
        let bus = test.bus.clone();
        tokio::spawn(async move { (id.clone(), bus.request(queue, parcel(id), LONG).await) })
    };
    let began = Instant::now();
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for n in 0..200 {
        good.push(ask(ASK, format!("good-{n}")));
        bad.push(ask("gatehouse.work.r.nobody", format!("bad-{n}")));
    }
    for asked in good {
        let (id, answer) = asked.await.expect("no panic");
        assert_eq!(answer.expect("an answer").body, id);
    }
    for asked in bad {
        let (id, answer) = asked.await.expect("no panic");
        assert!(matches!(answer, Err(RequestError::Unavailable(_))), "{id}: {answer:?}");
    }
    assert!(began.elapsed() < LONG, "what nobody takes is told at once, not at the deadline");
    echo.abort();
    test.end().await;
}

async fn an_unknown_queue_ends_in_unroutable(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = TestBus::new(broker).with_queues(&[]).await;
    test.bus.publish("gatehouse.work.r.lost", parcel("1"), SOON).await.expect("it is somewhere");
    let mut unroutable = test.bus.consume(UNROUTABLE, 1).await.expect("consumes");
    let found = next(&mut unroutable).await;
    assert_eq!(found.parcel.id, "1");
    assert_eq!(found.parcel.header("gatehouse-queue"), Some("gatehouse.work.r.lost"));
    found.settlement.done().await.expect("settled");
    let refused = test.bus.consume("gatehouse.work.r.lost", 1).await;
    assert!(matches!(refused, Err(BusError::Contradiction(_))));
    test.end().await;
}

async fn a_foreign_message_is_delivered(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = TestBus::new(broker).with_queues(&[(A, QueueSpec::default())]).await;
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("connects");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let mut headers = FieldTable::default();
    headers.insert("gbk".into(), AMQPValue::LongString(LongString::from(vec![0xc4, 0xe3])));
    headers.insert("n".into(), AMQPValue::LongLongInt(i64::MAX));
    let dressed = BasicProperties::default().with_headers(headers);
    for properties in [BasicProperties::default(), dressed] {
        let key = test.on_broker(A);
        let options = BasicPublishOptions::default();
        channel
            .basic_publish("".into(), key.into(), options, b"\xff\x00raw", properties)
            .await
            .expect("sent")
            .await
            .expect("taken");
    }
    let mut consumer = test.bus.consume(A, 10).await.expect("consumes");
    let bare = next(&mut consumer).await;
    assert_eq!((bare.parcel.id.as_str(), bare.parcel.body.as_ref()), ("", b"\xff\x00raw".as_slice()));
    bare.settlement.done().await.expect("settled");
    let dressed = next(&mut consumer).await;
    assert_eq!(dressed.parcel.header("n"), Some("9223372036854775807"));
    assert_eq!(dressed.parcel.header("gatehouse-unreadable"), Some("gbk"));
    dressed.settlement.dead(Parcel { id: "made-up".to_owned(), ..dressed.parcel }).await.expect("settled");
    let mut dead = test.bus.consume(DEAD, 1).await.expect("consumes");
    let letter = next(&mut dead).await;
    assert_eq!((letter.parcel.id.as_str(), letter.parcel.body.as_ref()), ("made-up", b"\xff\x00raw".as_slice()));
    letter.settlement.done().await.expect("settled");
    test.end().await;
}

async fn what_the_broker_gives_up_on_says_why(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test =
        TestBus::with(broker, |config| config.delivery_limit = 2).with_queues(&[(A, QueueSpec::default())]).await;
    test.bus.publish(A, parcel("poison"), SOON).await.expect("confirmed");
    let mut consumer = test.bus.consume(A, 1).await.expect("consumes");
    let mut dead = test.bus.consume(DEAD, 1).await.expect("consumes");
    let drops = tokio::spawn(async move {
        while let Some(delivered) = consumer.next().await {
            drop(delivered);
        }
    });
    let letter = next(&mut dead).await;
    assert_eq!(letter.parcel.id, "poison");
    assert_eq!(letter.parcel.header("gatehouse-death-reason"), Some("delivery_limit"));
    assert_eq!(letter.parcel.header("gatehouse-death-queue"), Some(A));
    letter.settlement.done().await.expect("settled");
    drops.abort();
    test.end().await;
}

async fn a_contradiction_names_queue_argument_and_mend(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = TestBus::new(broker).with_queues(&[(A, QueueSpec::default())]).await;
    let other = QueueSpec { max_bytes: Some(4096), ..QueueSpec::default() };
    let queues = BTreeMap::from([(A.to_owned(), other), ("gatehouse.work.r.b".to_owned(), QueueSpec::default())]);
    let refused = test.bus.declare(Topology { queues, ladder: Vec::new() }).await;
    let Err(BusError::Contradiction(text)) = refused else { panic!("{refused:?}") };
    for part in [&test.on_broker(A), "x-max-length-bytes", "1073741824", "4096", "rabbitmqctl delete_queue"] {
        assert!(text.contains(part), "{part} in: {text}");
    }
    test.until(|health| matches!(health, Health::Down(why) if why.contains("x-max-length-bytes"))).await;
    // The rest of the topology stands all the same, and going back heals it.
    test.bus.publish("gatehouse.work.r.b", parcel("1"), SOON).await.expect("confirmed");
    let depths = test.bus.depths().await.expect("depths");
    assert_eq!(depths["gatehouse.work.r.b"].parcels, 1);
    let test = test.with_queues(&[(A, QueueSpec::default()), ("gatehouse.work.r.b", QueueSpec::default())]).await;
    test.end().await;
}

async fn a_full_queue_refuses_and_keeps_what_it_confirmed(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let spec = QueueSpec { max_bytes: Some(100_000), ..QueueSpec::default() };
    let test = TestBus::new(broker).with_queues(&[(A, spec)]).await;
    let body = Bytes::from(vec![b'x'; 1000]);
    let published: Vec<_> = (0..1000)
        .map(|n| {
            let (bus, body) = (test.bus.clone(), body.clone());
            tokio::spawn(async move { bus.publish(A, Parcel { body, ..parcel(n.to_string()) }, LONG).await })
        })
        .collect();
    let (mut confirmed, mut refused) = (BTreeSet::new(), 0);
    for (n, publish) in published.into_iter().enumerate() {
        match publish.await.expect("no panic") {
            Ok(()) => drop(confirmed.insert(n.to_string())),
            Err(PublishError::Refused(_)) => refused += 1,
            Err(other) => panic!("{n}: {other}"),
        }
    }
    assert!(refused > 0 && confirmed.len() >= 100, "{refused} refused, {} confirmed", confirmed.len());
    let mut consumer = test.bus.consume(A, 100).await.expect("consumes");
    let mut there = BTreeSet::new();
    while !confirmed.is_subset(&there) {
        let Ok(delivered) = timeout(LONG, consumer.next()).await else {
            panic!("lost: {:?}", confirmed.difference(&there).collect::<Vec<_>>());
        };
        let delivered = delivered.expect("the bus lives");
        assert!(there.insert(delivered.parcel.id.clone()), "{} twice", delivered.parcel.id);
        delivered.settlement.done().await.expect("settled");
    }
    assert_eq!(there, confirmed);
    // There is room again.
    test.bus.publish(A, parcel("later"), SOON).await.expect("confirmed");
    assert_eq!(next(&mut consumer).await.parcel.id, "later");
    drop(consumer);
    test.end().await;
}

/// Many publish at once, on all threads, into a queue that is full again and again: whoever is told yes is in the queue, and
/// nobody else. A yes and a no that change places lose a message.
async fn each_publish_is_told_its_own_confirm(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let spec = QueueSpec { max_bytes: Some(20_000), ..QueueSpec::default() };
    // A message for each, so that many wait for their confirms.
    let test = TestBus::with(broker, |config| config.batch = 1).with_queues(&[(A, spec)]).await;
    let body = Bytes::from(vec![b'x'; 1000]);
    let mut consumer = test.bus.consume(A, 50).await.expect("consumes");
    let under_way = Arc::new(AtomicUsize::new(32));
    let publishers: Vec<_> = (0..32)
        .map(|publisher| {
            let (bus, body, under_way) = (test.bus.clone(), body.clone(), under_way.clone());
            tokio::spawn(async move {
                let mut confirmed = BTreeSet::new();
                for n in 0..400 {
                    let id = format!("{publisher}-{n}");
                    match bus.publish(A, Parcel { body: body.clone(), ..parcel(id.clone()) }, LONG).await {
                        Ok(()) => drop(confirmed.insert(id)),
                        Err(PublishError::Refused(_)) => {}
                        Err(other) => panic!("{id}: {other}"),
                    }
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
                confirmed
            })
        })
        .collect();
    let mut there = BTreeSet::new();
    loop {
        let over = under_way.load(Ordering::SeqCst) == 0;
        match timeout(Duration::from_secs(1), consumer.next()).await {
            Ok(delivered) => {
                let delivered = delivered.expect("the bus lives");
                there.insert(delivered.parcel.id.clone());
                delivered.settlement.done().await.expect("settled");
            }
            // All was told before, and nothing more came.
            Err(_) if over => break,
            Err(_) => {}
        }
    }
    let mut confirmed = BTreeSet::new();
    for publisher in publishers {
        confirmed.extend(timeout(LONG, publisher).await.expect("ends").expect("no panic"));
    }
    assert!(confirmed.len() > 500 && confirmed.len() < 32 * 400, "{} of {}", confirmed.len(), 32 * 400);
    let lost: Vec<_> = confirmed.difference(&there).take(5).collect();
    let refused: Vec<_> = there.difference(&confirmed).take(5).collect();
    assert!(lost.is_empty() && refused.is_empty(), "told yes and lost: {lost:?}; told no and there: {refused:?}");
    drop(consumer);
    test.end().await;
}

async fn a_deleted_queue_is_declared_and_consumed_again(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = TestBus::new(broker).with_queues(&[(A, QueueSpec::default())]).await;
    let mut consumer = test.bus.consume(A, 10).await.expect("consumes");
    test.bus.publish(A, parcel("before"), SOON).await.expect("confirmed");
    next(&mut consumer).await.settlement.done().await.expect("settled");
    broker.control(&["ctl", "delete_queue", &test.on_broker(A)]).await;
    let until = Instant::now() + LONG;
    let mut unroutable = test.bus.consume(UNROUTABLE, 10).await.expect("consumes");
    // What is published in between is on the unroutable queue; sooner or later the queue is back.
    for n in 0.. {
        assert!(Instant::now() < until, "the queue stays away");
        test.bus.publish(A, parcel(format!("after-{n}")), SOON).await.expect("confirmed");
        tokio::select! {
            delivered = next(&mut consumer) => {
                assert_eq!(delivered.parcel.id, format!("after-{n}"));
                delivered.settlement.done().await.expect("settled");
                break;
            }
            lost = next(&mut unroutable) => {
                assert_eq!(lost.parcel.id, format!("after-{n}"));
                lost.settlement.done().await.expect("settled");
            }
        }
    }
    test.end().await;
}

async fn a_refused_login_is_tried_slowly_and_tells_no_secret(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let logs = Logs::start();
    let proxy = Proxy::start(broker.address()).await;
    let secret = "s3cr3t-never-shown";
    let config = Config::new(vec![format!("amqp://guest:{secret}@127.0.0.1:{}/%2f", proxy.port)]);
    assert!(!format!("{config:?}").contains(secret));
    let began = Instant::now();
    let bus = RabbitMq::connect(config).expect("the URL is one");
    let mut health = bus.health();
    while proxy.dials() < 4 {
        assert!(began.elapsed() < LONG, "it gave up");
        sleep(Duration::from_millis(20)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    assert!(3.0 / seconds < 1.0, "3 waits took {seconds} s");
    let down =
        timeout(SOON, health.wait_for(|h| matches!(h, Health::Down(why) if why.contains("login refused")))).await;
    let told = format!("{:?}", down.expect("told in time").expect("the bus lives").clone());
    assert!(!told.contains(secret), "{told}");
    let refused = bus.publish(A, parcel("1"), SOON).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    bus.close().await;
    let text = logs.text();
    assert!(text.contains("login refused"), "the logs were seen");
    assert!(!text.contains(secret), "the password is in the logs");
}

async fn the_next_host_is_tried(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let dead = format!("amqp://guest:guest@127.0.0.1:{closed}/%2f");
    let test =
        TestBus::with(broker, |config| config.urls.insert(0, dead)).with_queues(&[(A, QueueSpec::default())]).await;
    test.bus.publish(A, parcel("1"), SOON).await.expect("confirmed");
    test.end().await;
}

async fn an_alarm_blocks_publishers_and_not_acks(broker: &'static Broker) {
    let Some(_turn) = broker.alone().await else { return };
    let test = TestBus::new(broker).with_queues(&[(A, QueueSpec::default())]).await;
    for n in 0..20 {
        test.bus.publish(A, parcel(n.to_string()), SOON).await.expect("confirmed");
    }
    let mut consumer = test.bus.consume(A, 20).await.expect("consumes");
    let first = next(&mut consumer).await;
    broker.control(&["ctl", "set_vm_memory_high_watermark", "0.000001"]).await;
    // The broker tells a connection that it is blocked when it next publishes.
    let poke = tokio::spawn({
        let bus = test.bus.clone();
        async move { bus.publish(A, parcel("poke"), Duration::from_secs(2)).await }
    });
    test.until(|health| matches!(health, Health::Blocked(_))).await;
    let poked = poke.await.expect("no panic");
    assert!(matches!(poked, Err(PublishError::Unknown(_) | PublishError::Unavailable(_))), "{poked:?}");
    let began = Instant::now();
    let refused = test.bus.publish(A, parcel("no"), LONG).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "quickly");
    first.settlement.done().await.expect("acks go on");
    for _ in 1..20 {
        next(&mut consumer).await.settlement.done().await.expect("acks go on");
    }
    let until = Instant::now() + SOON;
    while test.bus.depths().await.expect("depths")[A].parcels > 0 {
        assert!(Instant::now() < until, "the broker has the acks");
        // The publish that met the alarm may have been taken: its outcome was unknown.
        if let Ok(Some(delivered)) = timeout(Duration::from_millis(100), consumer.next()).await {
            assert_eq!(delivered.parcel.id, "poke");
            delivered.settlement.done().await.expect("acks go on");
        }
    }
    broker.control(&["ctl", "set_vm_memory_high_watermark", "0.6"]).await;
    test.until(|health| *health == Health::Ready).await;
    test.bus.publish(A, parcel("after"), SOON).await.expect("confirmed");
    loop {
        // The one that was under way when the alarm came may have arrived: its outcome was unknown.
        let delivered = next(&mut consumer).await;
        let id = delivered.parcel.id.clone();
        delivered.settlement.done().await.expect("settled");
        match id.as_str() {
            "after" => break,
            "poke" => assert!(matches!(poked, Err(PublishError::Unknown(_)))),
            other => panic!("{other} was refused, and is there"),
        }
    }
    drop(consumer);
    test.end().await;
}

async fn a_killed_broker_loses_nothing_that_was_confirmed(broker: &'static Broker) {
    let Some(_turn) = broker.alone().await else { return };
    let test = TestBus::new(broker).with_queues(&[(A, QueueSpec::default())]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let confirmed = Arc::new(AtomicUsize::new(0));
    let publishers: Vec<_> = (0..8)
        .map(|task| {
            let (bus, stop, count) = (test.bus.clone(), stop.clone(), confirmed.clone());
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for n in 0.. {
                    let id = format!("{task}-{n}");
                    // The same id again until it is confirmed: what a door's caller does.
                    while bus.publish(A, parcel(&*id), Duration::from_secs(5)).await.is_err() {
                        if stop.load(Ordering::SeqCst) {
                            return mine;
                        }
                        sleep(Duration::from_millis(50)).await;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    mine.push(id);
                    if stop.load(Ordering::SeqCst) {
                        return mine;
                    }
                }
                mine
            })
        })
        .collect();
    for _ in 0..3 {
        // Killed within some seconds of its declaring, a quorum queue may come back without a leader and stay so
        // (seen on 3.10.8 and 4.0.5; another restart does not help): the broker's, and not what is tested here.
        sleep(Duration::from_secs(8)).await;
        more(&confirmed, 500).await;
        broker.control(&["kill"]).await;
        test.until(|health| !matches!(health, Health::Ready)).await;
        broker.control(&["start"]).await;
        test.until(|health| *health == Health::Ready).await;
    }
    more(&confirmed, 500).await;
    stop.store(true, Ordering::SeqCst);
    let mut all = BTreeSet::new();
    for publisher in publishers {
        all.extend(timeout(LONG, publisher).await.expect("ends").expect("no panic"));
    }
    let mut consumer = test.bus.consume(A, 200).await.expect("consumes");
    let (mut seen, mut again) = (BTreeSet::new(), 0);
    while !all.is_subset(&seen) {
        let delivered = timeout(LONG, consumer.next()).await;
        let delivered = delivered
            .unwrap_or_else(|_| panic!("lost: {:?}", all.difference(&seen).take(5).collect::<Vec<_>>()))
            .expect("the bus lives");
        again += usize::from(!seen.insert(delivered.parcel.id.clone()));
        delivered.settlement.done().await.expect("settled");
    }
    eprintln!("{} confirmed, 0 lost, {again} twice", all.len());
    drop(consumer);
    test.end().await;
}

/// Waits until so many more are confirmed.
async fn more(confirmed: &AtomicUsize, count: usize) {
    let goal = confirmed.load(Ordering::SeqCst) + count;
    let until = Instant::now() + LONG;
    while confirmed.load(Ordering::SeqCst) < goal {
        assert!(Instant::now() < until, "publishing stands still");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn the_prefetch_holds_after_a_restart(broker: &'static Broker) {
    const PREFETCH: u16 = 5;
    let Some(_turn) = broker.alone().await else { return };
    let test = TestBus::new(broker).with_queues(&[(A, QueueSpec::default())]).await;
    for n in 0..50 {
        test.bus.publish(A, parcel(n.to_string()), SOON).await.expect("confirmed");
    }
    let mut consumer = test.bus.consume(A, PREFETCH).await.expect("consumes");
    let mut held = Vec::new();
    for _ in 0..PREFETCH {
        held.push(next(&mut consumer).await);
    }
    assert!(timeout(Duration::from_millis(500), consumer.next()).await.is_err(), "one more than the prefetch");
    sleep(Duration::from_secs(8)).await; // a fresh queue does not survive a kill: see the test above
    broker.control(&["restart"]).await;
    test.until(|health| *health == Health::Ready).await;
    assert!(timeout(Duration::from_secs(2), consumer.next()).await.is_err(), "what we hold still counts");
    for old in held.drain(..) {
        assert!(old.settlement.done().await.is_err(), "it is no longer ours");
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 50 {
        while held.len() < usize::from(PREFETCH) && seen.len() + held.len() < 50 {
            held.push(next(&mut consumer).await);
        }
        assert!(timeout(Duration::from_millis(30), consumer.next()).await.is_err(), "one more than the prefetch");
        for delivered in held.drain(..) {
            assert!(seen.insert(delivered.parcel.id.clone()), "{} twice", delivered.parcel.id);
            delivered.settlement.done().await.expect("settled");
        }
    }
    let consumers = broker.control(&["ctl", "list_consumers", "queue_name", "prefetch_count"]).await;
    let ours = consumers.lines().find(|line| line.starts_with(&test.on_broker(A))).expect("our consumer");
    assert!(ours.ends_with('5'), "{ours}");
    drop(consumer);
    test.end().await;
}

async fn a_dropped_publish_gives_its_place_back(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let test = TestBus::with(broker, |config| config.window = 2).with_queues(&[(A, QueueSpec::default())]).await;
    for n in 0..50 {
        // Long enough to be sent, too short for a confirm.
        let _ = timeout(Duration::from_micros(300), test.bus.publish(A, parcel(format!("dropped-{n}")), SOON)).await;
        let _ = test.bus.publish(A, parcel(format!("late-{n}")), Duration::from_micros(300)).await;
    }
    for n in 0..10 {
        test.bus.publish(A, parcel(format!("kept-{n}")), SOON).await.expect("there is room in the window");
    }
    let mut consumer = test.bus.consume(A, 50).await.expect("consumes");
    let mut kept = 0;
    while kept < 10 {
        let delivered = next(&mut consumer).await;
        kept += usize::from(delivered.parcel.id.starts_with("kept-"));
        delivered.settlement.done().await.expect("settled");
    }
    drop(consumer);
    test.end().await;
}

/// What the whole process logs, down to debug: lapin's own lines too.
struct Logs;

static CAUGHT: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

impl Logs {
    fn start() -> Self {
        CAUGHT.get_or_init(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
                .with_ansi(false)
                .with_writer(|| Logs);
            let _ = subscriber.try_init();
            Mutex::default()
        });
        Self
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&CAUGHT.get().expect("started").lock().expect("no panic")).into_owned()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(caught) = CAUGHT.get() {
            caught.lock().expect("no panic").extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
