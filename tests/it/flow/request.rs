//! Callers that wait for the target's answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Peer, Place, order, says};

const ROUTES: &str = "version: 1
routes:
  - { route: ask, from: shop/orders, exchange: request, type: order.paid, reply: price, to: [{ target: erp/put }] }
";

const REPLY: &str = "version: 1\nmapping: price\nrows:\n  - { to: price, from: result.total, required: true }\n  - { to: text, default: 好 }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_a_refusal_and_silence() {
    let erp = Peer::start().await;
    let system = erp.system("erp", "limits: { timeout: 20s }");
    let place = Place::new(&[("orders.yaml", ROUTES), ("mappings/price.yaml", REPLY), ("systems/erp.yaml", &system)]);
    let running = place.start().await;

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
