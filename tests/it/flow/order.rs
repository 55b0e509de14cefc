//! Order by key through failures: the key waits, not the queue.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_store::State;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Peer, Place, says, until};

const KEYS: u32 = 5;
const MESSAGES: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_arrives_in_order_while_its_target_fails_at_random() {
    let mut dice = StdRng::seed_from_u64(20_261_124);
    in_order("{ open_after: 10, retry_after: 200ms }", move |_| dice.random_bool(0.15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_arrives_in_order_while_its_circuit_opens_and_tries() {
    // Ten calls go well, then six fail: the circuit opens, and what tries it fails too, several times.
    in_order("{ open_after: 1, retry_after: 20ms }", |call| call % 16 >= 10).await;
}

/// Two hundred orders of five customers, with a target that fails as told.
async fn in_order(circuit: &str, mut fails: impl FnMut(usize) -> bool + Send + 'static) {
    let crm = Peer::start().await;
    let mut calls = 0;
    crm.behave(move |_| {
        calls += 1;
        says(if fails(calls) { 500 } else { 200 })
    });
    let routes = "version: 1\nroutes:\n  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put, order_by: customer, retry: { attempts: 50, first: 20ms, max: 50ms } }] }\n";
    let place = Place::new(&[
        ("orders.yaml", routes),
        ("systems/crm.yaml", &crm.system("crm", &format!("circuit: {circuit}"))),
    ]);
    let running = place.start().await;
    for n in 0..MESSAGES {
        let body = format!(r#"{{"orderNo":"O-{n}","status":"paid","customer":"k{}","amount":1,"seq":{n}}}"#, n % KEYS);
        let answer = running.post("/hooks/orders", body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let taken = || crm.took().iter().map(|got| got.key.clone()).collect::<BTreeSet<_>>().len();
    until("every message at the target", async || taken() == MESSAGES as usize).await;
    running.drained().await;
    assert!(crm.got().len() > MESSAGES as usize + 10, "the target did fail: {} calls", crm.got().len());
    let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for got in crm.took().into_iter().filter(|got| seen.insert(got.key.clone())) {
        let body = got.json();
        let key = body["customer"].as_str().expect("a key").to_owned();
        by_key.entry(key).or_default().push(body["seq"].as_u64().expect("a number"));
    }
    assert_eq!(by_key.len(), KEYS as usize);
    for (key, seqs) in &by_key {
        assert!(seqs.is_sorted(), "{key}: {seqs:?}");
        assert_eq!(seqs.len(), (MESSAGES / KEYS) as usize, "{key}");
    }
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}

/// One order that its target can never take does not keep the others waiting for ever: it dies, and they go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_always_fails_is_a_letter_and_the_next_goes_on() {
    let crm = Peer::start().await;
    crm.behave(|got| says(if got.json()["orderNo"] == "O-bad" { 500 } else { 200 }));
    let routes = "version: 1\nroutes:\n  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put, order_by: customer, retry: { attempts: 6, first: 20ms, max: 50ms } }] }\n";
    let place = Place::new(&[
        ("orders.yaml", routes),
        ("systems/crm.yaml", &crm.system("crm", "circuit: { open_after: 2, retry_after: 20ms }")),
    ]);
    let running = place.start().await;
    running.order("O-bad", "k1").await;
    running.order("O-1", "k1").await;
    running.order("O-2", "k2").await;
    assert_eq!(running.one_letter().await.summary.message_id, "O-bad");
    until("the others at the target", async || crm.took().len() == 2).await;
    running.drained().await;
    running.gateway.stop().await;
}
