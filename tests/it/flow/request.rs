//! Callers that wait for the target's answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Peer, Place, Running, order, says, until};

const ROUTES: &str = "version: 1
routes:
  - { route: ask, from: shop/orders, exchange: request, type: order.paid, reply: price, to: [{ target: erp/put }] }
";

const REPLY: &str = "version: 1\nmapping: price\nrows:\n  - { to: price, from: result.total, required: true }\n  - { to: text, default: 好 }\n";

/// An ERP with more in its file, and a gateway that asks it.
async fn asked(more: &str) -> (Peer, Place, Running) {
    let erp = Peer::start().await;
    let system = erp.system("erp", more);
    let place = Place::new(&[("orders.yaml", ROUTES), ("mappings/price.yaml", REPLY), ("systems/erp.yaml", &system)]);
    let running = place.start().await;
    (erp, place, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_a_refusal_and_silence() {
    let (erp, _place, running) = asked("limits: { timeout: 20s }").await;

    erp.behave(|_| (Duration::ZERO, 200, r#"{"result":{"total":12345678901234567.89}}"#.to_owned()));
    let answer = running.post("/hooks/orders", order("Q-1", "c")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"price":12345678901234567.89,"text":"好"}"#));
    assert_eq!(answer.header("gatehouse-message-id"), "Q-1");

    erp.behave(|_| says(400));
    let refused = running.post("/hooks/orders", order("Q-2", "c")).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (502, Some("refused")), "{refused:?}");
    assert_eq!(refused.json()["message_id"], "Q-2");

    erp.behave(|_| (Duration::ZERO, 200, "{}".to_owned()));
    let unmapped = running.post("/hooks/orders", order("Q-3", "c")).await;
    assert_eq!((unmapped.status, unmapped.json()["code"].as_str()), (502, Some("bad-answer")), "{unmapped:?}");

    erp.behave(|_| (Duration::from_secs(8), 200, "{}".to_owned()));
    let began = Instant::now();
    let late = running.post("/hooks/orders", order("Q-4", "c")).await;
    assert_eq!((late.status, late.json()["code"].as_str()), (504, Some("deadline")), "{late:?}");
    // The shop's own deadline is 2 s, whatever the target's is.
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(erp.got().len(), 4, "a question is asked once");
    running.gateway.stop().await;
}

/// A target with one place, asked by four at once: one after the other, whoever came through the queue and who did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_place_free_waits_for_one() {
    let (erp, _place, running) = asked("limits: { concurrency: 1, timeout: 20s }").await;
    let running = Arc::new(running);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let times = asked.clone();
    erp.behave(move |_| {
        times.lock().expect("no panic").push(Instant::now());
        (Duration::from_millis(200), 200, r#"{"result":{"total":1}}"#.to_owned())
    });
    let callers: Vec<_> = (0..4)
        .map(|n| {
            let running = running.clone();
            tokio::spawn(async move { running.post("/hooks/orders", order(&format!("Q-{n}"), "c")).await })
        })
        .collect();
    for caller in callers {
        let answer = caller.await.expect("no panic");
        assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"price":1,"text":"好"}"#));
    }
    let asked = asked.lock().expect("no panic").clone();
    assert_eq!(asked.len(), 4);
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(190)), "{asked:?}");
    running.gateway.stop().await;
}

/// What is down is left alone: its callers hear at their own deadline that nobody answers, and it is not asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_behind_an_open_circuit_is_not_asked() {
    let (erp, _place, running) = asked("limits: { timeout: 20s }\ncircuit: { open_after: 2, retry_after: 60s }").await;
    erp.behave(|_| says(500));
    for n in 0..2 {
        let answer = running.post("/hooks/orders", order(&format!("Q-{n}"), "c")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (502, Some("bad-answer")), "{answer:?}");
    }
    let answer = running.post("/hooks/orders", order("Q-3", "c")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (504, Some("deadline")), "{answer:?}");
    assert_eq!(erp.got().len(), 2, "its circuit is open");
    running.gateway.stop().await;
}

/// A caller that goes away leaves nothing behind that keeps others waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_gives_its_place_back() {
    let (erp, _place, running) = asked("limits: { concurrency: 1, timeout: 20s }").await;
    let running = Arc::new(running);
    erp.behave(|got| {
        let wait = if got.body.contains("Q-away") { Duration::from_secs(1) } else { Duration::ZERO };
        (wait, 200, r#"{"result":{"total":1}}"#.to_owned())
    });
    for n in 0..3 {
        let caller = running.clone();
        let away = format!("Q-away-{n}");
        let gone = tokio::spawn(async move { caller.post("/hooks/orders", order(&away, "c")).await });
        until("it is being asked", async || erp.got().len() == 2 * n + 1).await;
        gone.abort();
        let answer = running.post("/hooks/orders", order(&format!("Q-{n}"), "c")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    running.gateway.stop().await;
}
