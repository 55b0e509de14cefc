//! What a broker and the wire to it do to a whole gateway: alarms (B3, B4), a cut wire (B5), a slow one (B6), an
//! acknowledgement that takes too long (B9), a changed password and taken rights (B12), a lost confirm (B13). Each on
//! RabbitMQ 3.10 and 4.0.

use gatehouse_bus::{Bus, Health, QueueSpec};
use tokio::sync::watch;

use super::process::OnBroker;
use super::stub::{Does, Stub, yes};
use super::*;
use crate::broker::{Broker, LONG, TestBus, on_both_brokers};
use crate::harness::Running;
use crate::proxy::{Proxy, Wire};

on_both_brokers!(
    an_alarm_is_told_at_the_door_while_deliveries_go_on,
    a_silent_wire_loses_and_doubles_nothing,
    a_silent_wire_is_found_by_heartbeats,
    a_slow_wire_fails_nothing,
    an_acknowledgement_that_takes_too_long_is_recognised,
    a_changed_password_and_taken_rights_are_told_and_heal,
    a_lost_confirm_is_unknown_and_the_same_id_is_safe,
);

/// A gateway on this broker, through a proxy, before this target.
async fn start(broker: &'static Broker, url: &str, stub: &Stub, more: &str) -> (OnBroker, Proxy, Place, Running) {
    let on_broker = OnBroker::new(broker);
    let proxy = Proxy::start(broker.address()).await;
    let place = site(&format!("{}{}", crate::harness::GATEWAY, on_broker.instance()), PATIENT, stub.address, more);
    place.write("amqp.secret", &url.replace(&broker.address(), &format!("127.0.0.1:{}", proxy.port)));
    let running = place.start().await;
    (on_broker, proxy, place, running)
}

/// Sends until it is taken.
async fn insist(running: &Running, number: &str) {
    until("an order to be taken", async || {
        let answer = running.post("/hooks/orders", order(number, "c")).await;
        assert!(matches!(answer.status, 202 | 409 | 500..), "{answer:?}");
        answer.status == 202
    })
    .await;
}

/// Makes a broker what it was, when it is dropped, also by a check that fails: the tests after it need the broker.
struct Calmed(&'static Broker, Vec<String>);

impl Drop for Calmed {
    fn drop(&mut self) {
        let done = std::process::Command::new(self.0.script()).args(&self.1).output();
        assert!(
            std::thread::panicking() || done.is_ok_and(|done| done.status.success()),
            "the broker is not what it was"
        );
    }
}

fn retry_after(answer: &crate::harness::Answer) -> u64 {
    answer.header("retry-after").parse().unwrap_or_else(|_| panic!("no Retry-After in {answer:?}"))
}

/// B3 and B4. Callers are told 503 and to come again within 2 s; what is on the bus is delivered and acknowledged; the
/// alarm gone, the door is open again.
async fn an_alarm_is_told_at_the_door_while_deliveries_go_on(broker: &'static Broker) {
    let Some(_turn) = broker.alone().await else { return };
    for (alarm, calm) in [
        (["ctl", "set_vm_memory_high_watermark", "0.000001"], ["ctl", "set_vm_memory_high_watermark", "0.6"]),
        (["ctl", "set_disk_free_limit", "10000GB"], ["ctl", "set_disk_free_limit", "50MB"]),
    ] {
        let (open, gate) = watch::channel(false);
        let stub = Stub::start(move |_| Does::Gated(gate.clone(), yes())).await;
        let (on_broker, _proxy, _place, running) = start(broker, &broker.url(), &stub, "").await;
        for n in 0..20 {
            insist(&running, &format!("A-{n}")).await;
        }
        let calmed = Calmed(broker, calm.map(str::to_owned).to_vec());
        broker.control(&alarm).await;
        // The broker tells a connection when it next publishes: until then an order may be taken, or its outcome be unknown.
        let mut taken = 20;
        until("callers to be told", async || {
            let number = format!("A-{taken}");
            let answer = running.post("/hooks/orders", order(&number, "c")).await;
            taken += usize::from(answer.status == 202);
            assert!(answer.status == 202 || answer.status == 503 && retry_after(&answer) <= 2, "{answer:?}");
            answer.status == 503 && answer.json()["code"] == "unavailable"
        })
        .await;
        // Readiness follows the connection in a task of its own.
        until("it to be not ready, and to say why", async || {
            running.gateway.ready().await.is_err_and(|reasons| reasons[0].contains("publishers"))
        })
        .await;

        open.send_replace(true);
        until("what was taken", async || (0..20).all(|n| stub.effects().contains_key(&format!("A-{n}")))).await;
        // The acknowledgements reached the broker: what it still counts is what came after the alarm.
        until("the queues to be empty", async || {
            let ready = broker.control(&["ctl", "-q", "list_queues", "name", "messages"]).await;
            let work = on_broker.name("work.orders.crm.put");
            ready.lines().any(|line| line.split_whitespace().eq([work.as_str(), "0"]))
        })
        .await;

        drop(calmed);
        insist(&running, "A-AFTER").await;
        until("the one after", async || stub.effects().contains_key("A-AFTER")).await;
        until("it to be ready", async || running.gateway.ready().await.is_ok()).await;
        running.drained().await;
        assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
        running.gateway.stop().await;
        on_broker.clean().await;
    }
}

/// B5, for some seconds. What callers hear meanwhile is 503; once the wire is well every order that was taken is there
/// once.
async fn a_silent_wire_loses_and_doubles_nothing(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let (on_broker, proxy, _place, running) = start(broker, &broker.url(), &stub, "").await;
    for n in 0..10 {
        insist(&running, &format!("S-{n}")).await;
    }
    proxy.wire(Wire::Silent);
    let numbers: Vec<String> = (10..20).map(|n| format!("S-{n}")).collect();
    let posts = numbers.iter().map(|number| running.post("/hooks/orders", order(number, "c")));
    for answer in futures_util::future::join_all(posts).await {
        assert_eq!(answer.status, 503, "nobody confirmed it: {answer:?}");
        assert!(retry_after(&answer) <= 2, "{answer:?}");
        assert!(["unknown", "unavailable"].contains(&answer.json()["code"].as_str().unwrap_or("")), "{answer:?}");
    }
    proxy.wire(Wire::Well);
    for number in &numbers {
        insist(&running, number).await;
    }
    until("every order", async || stub.effects().len() == 20).await;
    running.drained().await;
    assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
    running.gateway.stop().await;
    on_broker.clean().await;
}

/// B5, for long: a wire that is only silent is found by heartbeats, however long it stays so, and the bus comes back by
/// itself.
async fn a_silent_wire_is_found_by_heartbeats(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let proxy = Proxy::start(broker.address()).await;
    let url = broker.url().replace(&broker.address(), &format!("127.0.0.1:{}", proxy.port));
    let test = TestBus::with(broker, |config| {
        config.urls = vec![url];
        config.heartbeat = Duration::from_secs(1);
    });
    let queue = "gatehouse.work.r.a";
    let test = test.with_queues(&[(queue, QueueSpec::default())]).await;
    proxy.wire(Wire::Silent);
    test.until(|health| matches!(health, Health::Down(_))).await;
    let dials = proxy.dials();
    // It goes on trying, through more than one time-out of its own.
    until("it to dial again and again", async || proxy.dials() >= dials + 2).await;
    assert!(matches!(*test.bus.health().borrow(), Health::Down(_)));
    proxy.wire(Wire::Well);
    proxy.cut();
    test.until(|health| *health == Health::Ready).await;
    let parcel = gatehouse_bus::Parcel { id: "after".to_owned(), ..gatehouse_bus::Parcel::default() };
    test.bus.publish(queue, parcel, LONG).await.expect("confirmed");
    test.end().await;
}

/// B6. Every piece half a second late: slow, and nothing is called a failure.
async fn a_slow_wire_fails_nothing(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let (on_broker, proxy, _place, running) = start(broker, &broker.url(), &stub, "").await;
    proxy.wire(Wire::Slow(Duration::from_millis(500)));
    let numbers: Vec<String> = (0..50).map(|n| format!("L-{n}")).collect();
    let posts = numbers.iter().map(|number| running.order(number, "c"));
    futures_util::future::join_all(posts).await;
    until("every order", async || stub.effects().len() == 50).await;
    assert_eq!(stub.calls().len(), 50, "nothing was sent twice");
    assert!(running.gateway.ready().await.is_ok());
    proxy.wire(Wire::Well);
    running.drained().await;
    running.gateway.stop().await;
    on_broker.clean().await;
}

/// B9. A target that takes longer than the broker waits for acknowledgements: its channel is closed, the others' are
/// not; the delivery comes again and is one effect.
async fn an_acknowledgement_that_takes_too_long_is_recognised(broker: &'static Broker) {
    let Some(_turn) = broker.alone().await else { return };
    let set = |timeout: u32, tick: u32| {
        let words = format!(
            "application:set_env(rabbit, consumer_timeout, {timeout}), application:set_env(rabbit, channel_tick_interval, {tick})."
        );
        ["ctl", "eval", &words].map(str::to_owned).to_vec()
    };
    let calmed = Calmed(broker, set(1_800_000, 60_000));
    // Not so soon that a busy machine is taken for a slow target.
    let impatient = set(8000, 500);
    broker.control(&impatient.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Longer than the broker waits, shorter than the target may take.
    let (open, gate) = watch::channel(false);
    let slow = Stub::start(move |call| match call.before {
        0 => Does::Gated(gate.clone(), yes()),
        _ => Does::Says(yes()),
    })
    .await;
    let well = Stub::start(|_| Does::Says(yes())).await;
    let on_broker = OnBroker::new(broker);
    let place = Place::new(&[
        ("gatehouse.yaml", &format!("{}{}", crate::harness::GATEWAY, on_broker.instance())),
        (
            "orders.yaml",
            &format!(
                "version: 1\nroutes:\n  - {{ route: orders, from: shop/orders, type: order.paid, to: [{{ target: crm/put, {PATIENT} }}, {{ target: well/put, {PATIENT} }}] }}\n"
            ),
        ),
        ("systems/crm.yaml", &crm(&format!("http://{}", slow.address), "limits: { timeout: 60s }", "")),
        ("systems/well.yaml", &crm(&format!("http://{}", well.address), "", "").replace("system: crm", "system: well")),
        ("amqp.secret", &broker.url()),
    ]);
    let running = place.start().await;
    insist(&running, "T-0").await;
    until("it to come again", async || slow.calls().iter().any(|call| call.before == 1)).await;
    open.send_replace(true);
    // The other target's channel lives: nothing of it came twice.
    insist(&running, "T-1").await;
    until("the other target's two", async || well.effects().len() == 2).await;
    assert_eq!(well.calls().len(), 2, "{:?}", well.calls());
    until("both at the slow one", async || slow.effects().len() == 2).await;
    running.drained().await;
    assert!(slow.effects().values().all(|keys| keys.len() == 1), "{:?}", slow.effects());
    assert!(running.letters(gatehouse_store::State::Open).await.is_empty());
    running.gateway.stop().await;
    drop(calmed);
    let mut more = on_broker.queues();
    more.push("gatehouse.work.orders.well.put".to_owned());
    on_broker.broker.clean(&on_broker.prefix, &more).await;
}

/// B12. The password changes, then the rights go: not ready, 503, few tries, no secret in the log; and it heals without
/// a restart.
async fn a_changed_password_and_taken_rights_are_told_and_heal(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let on_broker = OnBroker::new(broker);
    let user = on_broker.prefix.clone();
    let secret = "s3cr3t-of-the-bus";
    let ctl = async |words: &[&str]| {
        broker.control(&[&["ctl"], words].concat()).await;
    };
    ctl(&["add_user", &user, secret]).await;
    let rights = async || ctl(&["set_permissions", "-p", "/", &user, ".*", ".*", ".*"]).await;
    rights().await;
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let proxy = Proxy::start(broker.address()).await;
    let ports = Ports::find();
    let place = site(&ports.instance(&on_broker.instance()), PATIENT, stub.address, "");
    place.write("amqp.secret", &format!("amqp://{user}:{secret}@127.0.0.1:{}/%2f", proxy.port));
    let process = Process::start(&place, &ports, |command| {
        command.env("RUST_LOG", "debug");
    })
    .await;
    process.insist("P-0").await;

    ctl(&["change_password", &user, "another"]).await;
    proxy.cut();
    until("readiness to go", async || process.ready().await == Some(503)).await;
    let heard = process.post("P-1").await.expect("an answer");
    assert!(heard.status == 503 && heard.retry_after.is_some_and(|wait| wait <= 2), "{heard:?}");
    assert!(heard.text.contains("\"unavailable\""), "{heard:?}");
    let (dials, began) = (proxy.dials(), tokio::time::Instant::now());
    until("it to go on trying", async || proxy.dials() >= dials + 3).await;
    // Three tries are two waits at least: as many a second as there are tries would be a hot loop.
    assert!(began.elapsed() >= Duration::from_millis(1500), "three tries in {:?}", began.elapsed());
    ctl(&["change_password", &user, secret]).await;
    process.insist("P-1").await;
    until("the order", async || stub.effects().contains_key("P-1")).await;

    ctl(&["clear_permissions", "-p", "/", &user]).await;
    proxy.cut();
    until("readiness to go again", async || process.ready().await == Some(503)).await;
    let heard = process.post("P-2").await.expect("an answer");
    assert_eq!(heard.status, 503, "{heard:?}");
    rights().await;
    process.insist("P-2").await;
    until("the other order", async || stub.effects().contains_key("P-2")).await;

    let log = process.log();
    assert!(log.contains("login refused"), "the log says why");
    assert!(!log.contains(secret), "the password is in the log");
    process.stop().await;
    on_broker.clean().await;
    ctl(&["delete_user", &user]).await;
}

/// B13. The broker has it and its confirm is lost: 503 and the id; the same id again is one effect.
async fn a_lost_confirm_is_unknown_and_the_same_id_is_safe(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let (on_broker, proxy, _place, running) = start(broker, &broker.url(), &stub, "").await;
    insist(&running, "N-0").await;
    proxy.wire(Wire::Deaf);
    let answer = running.post("/hooks/orders", order("N-1", "c")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!((answer.json()["code"].as_str(), answer.json()["message_id"].as_str()), (Some("unknown"), Some("N-1")));
    assert!(retry_after(&answer) <= 2, "{answer:?}");
    proxy.wire(Wire::Well);
    proxy.cut();
    insist(&running, "N-1").await;
    until("both", async || stub.effects().len() == 2).await;
    running.drained().await;
    assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
    assert!(running.letters(gatehouse_store::State::Open).await.is_empty());
    running.gateway.stop().await;
    on_broker.clean().await;
}
