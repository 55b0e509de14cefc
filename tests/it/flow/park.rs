//! Order beyond death (`on_dead: park`): those behind a dead delivery of their key wait as letters, and go in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gatehouse_store::{PARKED, State, Summary};
use http::Method;

use crate::harness::{Got, KEY, Peer, Place, Running, says, until};

const ROUTES: &str = "version: 1\nroutes:\n  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put, order_by: customer, on_dead: park, retry: { attempts: 2, first: 20ms, max: 50ms } }] }\n";

fn place(crm: &Peer) -> Place {
    Place::new(&[("orders.yaml", ROUTES), ("systems/crm.yaml", &crm.system("crm", "circuit: { open_after: 10000 }"))])
}

fn number(got: &Got) -> String {
    got.json()["orderNo"].as_str().expect("a number").to_owned()
}

fn took(crm: &Peer) -> Vec<String> {
    crm.took().iter().map(number).collect()
}

/// The open letters by message, oldest first, each with its cause.
async fn open(running: &Running) -> Vec<(String, String)> {
    let mut letters = running.letters(State::Open).await;
    letters.sort_by_key(|letter| letter.id);
    letters.into_iter().map(|letter| (letter.message_id, letter.cause)).collect()
}

async fn letter(running: &Running, message: &str) -> Summary {
    let letters = running.letters(State::Open).await;
    letters.into_iter().find(|letter| letter.message_id == message).unwrap_or_else(|| panic!("no letter of {message}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_behind_a_dead_one_wait_and_go_in_their_order() {
    let crm = Peer::start().await;
    crm.behave(|got| says(if number(got) == "BAD" { 400 } else { 200 }));
    let place = place(&crm);
    let running = place.start().await;
    for (number, customer) in [("BAD", "k1"), ("A-1", "k1"), ("B-1", "k2"), ("A-2", "k1")] {
        running.order(number, customer).await;
    }
    until("three letters", async || open(&running).await.len() == 3).await;
    let causes: BTreeMap<_, _> = open(&running).await.into_iter().collect();
    assert_eq!((causes["A-1"].as_str(), causes["A-2"].as_str()), (PARKED, PARKED), "{causes:?}");
    assert_ne!(causes["BAD"], PARKED);
    until("the other key", async || took(&crm) == ["B-1"]).await;
    let text = letter(&running, "A-1").await.text;
    assert!(text.starts_with("not sent: a delivery") && text.contains("`customer`"), "{text}");

    // One that is sent again out of its turn is parked again; so is what comes after a restart.
    let id = letter(&running, "A-2").await.id;
    running.gateway.letters.replay(&[id], "tester").await.expect("sent");
    until("it to be parked again", async || {
        running.letters(State::Open).await.iter().any(|letter| letter.id == id && letter.attempts == 2)
    })
    .await;
    running.gateway.stop().await;
    let running = place.start().await;
    running.order("A-3", "k1").await;
    until("four letters", async || open(&running).await.len() == 4).await;
    assert_eq!(crm.got().iter().filter(|got| number(got).starts_with('A')).count(), 0, "nothing was sent out of turn");

    // The target is mended, and the one is sent again: all go, with what comes meanwhile behind them.
    crm.behave(|_| says(200));
    let id = letter(&running, "BAD").await.id;
    running.gateway.letters.replay(&[id], "tester").await.expect("sent");
    running.order("A-4", "k1").await;
    until("all of them", async || took(&crm).len() == 6).await;
    assert_eq!(took(&crm), ["B-1", "BAD", "A-1", "A-2", "A-3", "A-4"]);
    until("no letter to be open", async || open(&running).await.is_empty()).await;
    running.order("A-5", "k1").await;
    until("the next, at once", async || took(&crm).last().is_some_and(|last| last == "A-5")).await;
    running.drained().await;
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discarded_one_lets_the_others_go() {
    let crm = Peer::start().await;
    crm.behave(|got| says(if number(got).starts_with("BAD") { 400 } else { 200 }));
    let place = place(&crm);
    let running = place.start().await;
    for number in ["BAD-1", "A-1", "BAD-2", "A-2"] {
        running.order(number, "k1").await;
    }
    until("four letters", async || open(&running).await.len() == 4).await;
    running
        .gateway
        .letters
        .store()
        .discard(letter(&running, "BAD-1").await.id, "void", "tester")
        .await
        .expect("discarded");
    // The next one that dies of its own holds those behind it.
    until("what comes before it", async || took(&crm) == ["A-1"]).await;
    until("it to have died", async || {
        let left = open(&running).await;
        left.len() == 2 && left.iter().all(|(message, cause)| (message == "BAD-2") == (cause != PARKED))
    })
    .await;
    running
        .gateway
        .letters
        .store()
        .discard(letter(&running, "BAD-2").await.id, "void", "tester")
        .await
        .expect("discarded");
    until("the last", async || took(&crm) == ["A-1", "A-2"]).await;
    until("no letter to be open", async || open(&running).await.is_empty()).await;
    running.gateway.stop().await;
}

const KEYS: usize = 4;
const MESSAGES: usize = 60;

/// Where the gateway kills itself, and how often when it passes there: in line and not dead yet, dead and not yet a letter,
/// published again and not yet said so, done and not yet acknowledged.
const POINTS: &str = "k17=25%return;k11=8%return;k12=3%return;k9=3%return;k10=3%return;k5=2%return";

/// A gateway that dies again and again, a target that refuses some at first, somebody who sends again what was refused: each
/// key arrives whole and in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_outlives_kills() {
    let crm = Peer::start().await;
    let mut refused = BTreeSet::new();
    crm.behave(move |got| {
        let seq = got.json()["seq"].as_u64().expect("a number");
        says(if seq % 6 == 3 && refused.insert(seq) { 400 } else { 200 })
    });
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [listen, admin] = ports.map(|held| held.local_addr().expect("an address"));
    let place = place(&crm);
    place.write(
        "gatehouse.yaml",
        &format!("version: 1\nlisten: {listen}\nadmin: {{ listen: {admin} }}\nladder: [100ms, 300ms]\n"),
    );
    let start = |points: &str| {
        let mut command = crate::chaos::gateway(place.root());
        if !points.is_empty() {
            command.env("FAILPOINTS", points);
        }
        command.spawn().expect("it starts")
    };
    let (mut child, mut deaths, mut sent) = (start(POINTS), 0, 0);
    let ask = async |address: std::net::SocketAddr, method: Method, path: &str, body: String| {
        ask(&place, address, method, path, body).await
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(240);
    loop {
        assert!(tokio::time::Instant::now() < deadline, "{sent} sent, {} arrived, {deaths} deaths", took(&crm).len());
        if child.try_wait().expect("a status").is_some() {
            deaths += 1;
            // In the end it is left in peace.
            child = start(if sent < MESSAGES || deaths < 5 { POINTS } else { "" });
        }
        if sent < MESSAGES {
            let body = format!(
                r#"{{"orderNo":"O-{sent}","status":"paid","customer":"k{}","amount":1,"seq":{sent}}}"#,
                sent % KEYS
            );
            sent += usize::from(ask(listen, Method::POST, "/hooks/orders", body).await.is_some());
        }
        let letters = ask(admin, Method::GET, "/api/v1/letters?limit=100", String::new()).await.unwrap_or_default();
        let letters: Vec<_> = letters.as_array().cloned().unwrap_or_default();
        let settled = |letter: &serde_json::Value| letter["state"] == "resolved";
        if sent == MESSAGES && !letters.is_empty() && letters.iter().all(settled) {
            let arrived: BTreeSet<_> = took(&crm).into_iter().collect();
            if arrived.len() == MESSAGES {
                break;
            }
        }
        let refused = letters.iter().filter(|letter| letter["state"] == "open" && letter["cause"] != PARKED);
        let ids: Vec<_> = refused.map(|letter| letter["id"].clone()).collect();
        if !ids.is_empty() {
            let body = serde_json::json!({ "ids": ids, "actor": "tester" }).to_string();
            ask(admin, Method::POST, "/api/v1/letters/replay", body).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.start_kill().expect("killed");
    child.wait().await.expect("a status");
    assert!(deaths >= 3, "the run is void: only {deaths} deaths");
    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for got in crm.took().into_iter().filter(|got| seen.insert(got.key.clone())) {
        let seq = got.json()["seq"].as_u64().expect("a number");
        by_key.entry(seq % KEYS as u64).or_default().push(seq);
    }
    for (key, seqs) in &by_key {
        assert!(seqs.is_sorted(), "{key}: {seqs:?}");
        assert_eq!(seqs.len(), MESSAGES / KEYS, "{key}");
    }
}

/// One call; `None` where the gateway does not say yes, or is dead.
async fn ask(
    place: &Place,
    address: std::net::SocketAddr,
    method: Method,
    path: &str,
    body: String,
) -> Option<serde_json::Value> {
    let config = gatehouse_net::client::ClientConfig {
        address: format!("http://{address}"),
        ca_file: None,
        max_answer: 8 << 20,
        connections: 1,
    };
    let client = gatehouse_net::client::Client::new(&config).expect("a client");
    let token = std::fs::read_to_string(place.root().join("data/admin.token")).unwrap_or_default();
    let request = http::Request::builder()
        .method(method)
        .uri(client.url(path).ok()?)
        .header("x-api-key", KEY)
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", "application/json")
        .body(bytes::Bytes::from(body))
        .ok()?;
    let answer = tokio::time::timeout(Duration::from_secs(10), client.send(request)).await.ok()?.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    serde_json::from_slice(answer.body()).ok()
}
