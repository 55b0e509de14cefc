//! Bodies that nobody should send, and values that must not become something else on their way: each is refused with a
//! reason or taken exactly, and never half.

use gatehouse_store::State;
use http::Method;

use crate::harness::{KEY, Peer, Place, Running, order, until};

const ROUTES: &str = "version: 1
routes:
  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put, retry: { attempts: 1 } }] }
";

async fn start(rules: &str) -> (Place, Peer, Running) {
    let crm = Peer::start().await;
    let system = crm.system("crm", "").replace("{ call: POST /orders }", &format!("{{ call: POST /orders{rules} }}"));
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("systems/crm.yaml", &system),
        ("systems/shop.yaml", &crate::harness::SHOP.replace("64KiB", "2MiB")),
    ]);
    let running = place.start().await;
    (place, crm, running)
}

/// An order with this text where its amount stands.
fn amount(number: &str, text: &str) -> String {
    order(number, "c").replace("12345678901234567.89", text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_sound_json_is_refused_and_sends_nothing() {
    let (_place, crm, running) = start("").await;
    let sound = order("BAD", "c");
    let keys: String = (0..20_000).map(|n| format!(",\"k{n}\":0")).collect();
    let inside = |text: &str| sound.replacen("{", &format!("{{{text},"), 1).into_bytes();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("nothing", Vec::new(), 400),
        ("a depth of 100,000", format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into(), 413),
        ("20,000 keys", sound.replacen("}", &format!("{keys}}}"), 1).into(), 413),
        ("200,000 values", inside(&format!("\"x\":[{}0]", "0,".repeat(200_000))), 413),
        ("a key that comes twice", inside("\"orderNo\":\"OTHER\""), 400),
        ("a lone surrogate", inside("\"x\":\"\\ud800\""), 400),
        ("NaN", amount("BAD", "NaN").into(), 400),
        ("a sign in front", amount("BAD", "+5").into(), 400),
        ("a leading zero", amount("BAD", "05").into(), 400),
        ("text behind it", format!("{sound} {{}}").into(), 400),
        ("half of it", sound[..sound.len() / 2].into(), 400),
        (
            "bytes that are not UTF-8",
            inside("\"x\":\"?\"").into_iter().map(|b| if b == b'?' { 0xff } else { b }).collect(),
            400,
        ),
        ("a control character", inside("\"x\":\"\u{1}\""), 400),
        ("a negative amount", amount("BAD", "-0.01").into(), 422),
    ];
    for (what, body, status) in cases {
        let answer = running.post("/hooks/orders", body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(answer.text.len() < 4096, "{what}: the answer repeats the body");
    }
    running.drained().await;
    assert!(crm.got().is_empty(), "{:?}", crm.got());
    running.order("GOOD", "c").await;
    until("the good one", async || crm.took().len() == 1).await;
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_arrive_with_the_digits_they_came_with() {
    let (_place, crm, running) = start("").await;
    let numbers = ["9007199254740993", "0.1000", "1e3", "123456789012345678901234567890.123456789", "1e999"];
    for (n, text) in numbers.iter().enumerate() {
        let answer = running.post("/hooks/orders", amount(&format!("N-{n}"), text)).await;
        // What no number type can hold may be refused; it may not become another number.
        assert!(matches!(answer.status, 202 | 400 | 422), "{text}: {answer:?}");
        if answer.status == 202 {
            until("the order", async || crm.took().iter().any(|got| got.body.contains(&format!("\"N-{n}\"")))).await;
            let got = crm.took().into_iter().find(|got| got.body.contains(&format!("\"N-{n}\""))).expect("it came");
            assert!(got.body.contains(&format!("\"amount\":{text}")), "{text}: {got:?}");
        } else {
            assert_eq!(*text, "1e999", "{answer:?}");
        }
    }
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_no_header_carries_and_packed_bodies_are_refused() {
    let (_place, crm, running) = start("").await;
    for number in ["x".repeat(256), "a b".to_owned(), "订单".to_owned()] {
        let answer = running.post("/hooks/orders", order(&number, "c")).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.text.contains("255"), "{answer:?}");
    }
    let packed = [("x-api-key", KEY), ("content-type", "application/json"), ("content-encoding", "gzip")];
    for coding in ["gzip", "gzip, gzip", "br"] {
        let headers = [packed[0], packed[1], ("content-encoding", coding)];
        let answer = running.send(Method::POST, "/hooks/orders", &headers, order("PACKED", "c")).await;
        assert_eq!(answer.status, 415, "{coding}: {answer:?}");
    }
    running.drained().await;
    assert!(crm.got().is_empty());
    running.gateway.stop().await;
}

/// A header that a message fills cannot become two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_end_in_a_value_makes_no_header() {
    let (_place, crm, running) = start(", headers: { X-Customer: body.customer }").await;
    let answer = running.post("/hooks/orders", order("H-1", "a\\r\\nX-Evil: 1")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let letter = running.one_letter().await;
    assert_eq!(letter.attempts[0].code, "invalid", "{letter:?}");
    assert!(
        letter.attempts[0].text.contains("X-Customer") || letter.attempts[0].text.contains("x-customer"),
        "{letter:?}"
    );
    running.order("H-2", "客户").await;
    until("the sound one", async || crm.took().len() == 1).await;
    assert_eq!(running.letters(State::Open).await.len(), 1);
    assert_eq!(crm.got().len(), 1, "{:?}", crm.got());
    running.gateway.stop().await;
}
