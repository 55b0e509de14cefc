//! What callers are told at the door, by status, code and place; and what is taken in other clothes.

use gatehouse_store::State;
use http::Method;

use crate::harness::{Answer, KEY, Peer, Place, Running, order, until};

const ROUTES: &str = "version: 1
routes:
  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put, when: status == \"paid\" }] }
  - { route: slow-lane, from: slow/orders, type: order.paid, to: [{ target: crm/put }] }
";

/// A second shop with a rate: two at once, then one a minute.
const SLOW: &str = "version: 1
system: slow
adapter: rest
accept: { basic: { username: slow, password: \"${file:shop.secret}\" } }
limits: { rate: 1/m, burst: 2 }
endpoints:
  orders: { receive: POST /slow/orders }
";

const JSON: (&str, &str) = ("content-type", "application/json");
const KEYED: (&str, &str) = ("x-api-key", KEY);

async fn start() -> (Place, Peer, Running) {
    let crm = Peer::start().await;
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("systems/crm.yaml", &crm.system("crm", "")),
        ("systems/slow.yaml", SLOW),
    ]);
    let running = place.start().await;
    (place, crm, running)
}

/// A problem document (RFC 9457) with this status and code.
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{answer:?}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("urn:gatehouse:problem:{code}"));
    assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_status_and_code() {
    let (_place, crm, running) = start().await;
    let post = async |headers: &[(&str, &str)], body: Vec<u8>| {
        running.send(Method::POST, "/hooks/orders", headers, body).await
    };

    let malformed = running.post("/hooks/orders", "{\n  \"orderNo\": oops }").await;
    assert_problem(&malformed, 400, "malformed");
    assert!(malformed.text.contains("line 2, column 14"), "{malformed:?}");

    assert_problem(&post(&[JSON], order("A", "c").into()).await, 401, "unauthenticated");
    assert_problem(&post(&[JSON, ("x-api-key", "wrong")], order("A", "c").into()).await, 401, "unauthenticated");
    assert_problem(&running.post("/hooks/nothing", "{}").await, 404, "not-found");

    let method = running.send(Method::PUT, "/hooks/orders", &[KEYED, JSON], order("A", "c")).await;
    assert_problem(&method, 405, "method-not-allowed");
    assert_eq!(method.header("allow"), "POST");

    assert_eq!(running.post("/hooks/orders", order("B", "c")).await.status, 202);
    assert_problem(&running.post("/hooks/orders", order("B", "other")).await, 409, "conflict");

    let large = running.post("/hooks/orders", format!("{{\"orderNo\":\"{}\"}}", "x".repeat(70_000))).await;
    assert_problem(&large, 413, "too-large");

    for kind in ["image/png", "application/json; charset=klingon"] {
        let media = post(&[KEYED, ("content-type", kind)], order("C", "c").into()).await;
        assert_problem(&media, 415, "unsupported-media");
    }

    let secret =
        r#"{"orderNo":"D","status":"x","customer":"","amount":-5,"name":"6222-0000-1111-2222","card":"4711-4712"}"#;
    let invalid = running.post("/hooks/orders", secret).await;
    assert_problem(&invalid, 422, "invalid");
    let problem = invalid.json();
    assert_eq!(problem["message_id"], "D");
    let pointers: Vec<_> = problem["violations"].as_array().expect("violations").iter().collect();
    let pointers: Vec<_> = pointers.iter().map(|one| one["pointer"].as_str().expect("a pointer")).collect();
    for pointer in ["/status", "/customer", "/amount", "/name"] {
        assert!(pointers.contains(&pointer), "{pointer} in {invalid:?}");
    }
    assert!(problem["violations"].to_string().contains("card"), "{invalid:?}");
    // What its type calls sensitive, and what it does not know at all, is not repeated.
    for payload in ["6222", "4711"] {
        assert!(!invalid.text.contains(payload), "payload in {invalid:?}");
    }

    let unrouted = running.post("/hooks/orders", order("E", "c").replace("paid", "pending")).await;
    assert_problem(&unrouted, 422, "unrouted");
    assert_problem(&running.post("/hooks/orders", "{\"status\":\"paid\"}").await, 400, "malformed");

    until("the one good order", async || !crm.got().is_empty()).await;
    running.drained().await;
    assert_eq!(crm.got().len(), 1, "nothing that was refused was sent");
    assert!(running.letters(State::Open).await.is_empty(), "what a caller was told is no dead letter");
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_rate_a_caller_is_told_how_long_to_wait() {
    let (_place, crm, running) = start().await;
    // "slow:a-shop-key"
    let basic = ("authorization", "Basic c2xvdzphLXNob3Ata2V5");
    let post =
        async |n: u32| running.send(Method::POST, "/slow/orders", &[basic, JSON], order(&format!("S-{n}"), "c")).await;
    until("the slow shop's path", async || running.send(Method::GET, "/slow/orders", &[], "").await.status != 404)
        .await;
    let first = post(1).await;
    assert_eq!((first.status, first.header("ratelimit")), (202, "\"default\";r=1"), "{first:?}");
    assert_eq!(first.header("ratelimit-policy"), "\"default\";q=1;w=60");
    assert_eq!(post(2).await.status, 202);
    let third = post(3).await;
    assert_problem(&third, 429, "throttled");
    let wait: u64 = third.header("retry-after").parse().expect("seconds");
    assert!((30..=60).contains(&wait), "{third:?}");
    // One shop's rate is not another's.
    running.order("F-1", "c").await;
    until("three orders", async || crm.took().len() == 3).await;
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_options_are_answered_and_send_nothing() {
    let (_place, crm, running) = start().await;
    for method in [Method::HEAD, Method::OPTIONS] {
        let answer = running.send(method.clone(), "/hooks/orders", &[KEYED], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}: {answer:?}");
        assert_eq!(answer.text.is_empty(), method == Method::HEAD, "{method}: {answer:?}");
    }
    running.drained().await;
    assert!(crm.got().is_empty());
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xml_and_gbk_arrive_as_they_were_meant() {
    let (place, crm) = {
        let crm = Peer::start().await;
        let mapping = "version: 1\nmapping: any\nto: order.paid\nrows:\n  - { to: orderNo, from: orderNo, type: string }\n  - { to: status, default: paid }\n  - { to: customer, from: customer, type: string }\n  - { to: name, from: name }\n  - { to: amount, from: amount, type: decimal }\n";
        let routes = ROUTES.replace("from: shop/orders,", "from: shop/orders, map: any,");
        let files = [
            ("orders.yaml", routes.as_str()),
            ("mappings/any.yaml", mapping),
            ("systems/crm.yaml", &crm.system("crm", "")),
            ("systems/slow.yaml", SLOW),
        ];
        (Place::new(&files), crm)
    };
    let running = place.start().await;
    let post = async |kind: &str, body: Vec<u8>| {
        let answer = running.send(Method::POST, "/hooks/orders", &[KEYED, ("content-type", kind)], body).await;
        assert_eq!(answer.status, 202, "{kind}: {answer:?}");
    };
    let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><o:order xmlns:o=\"urn:x\"><orderNo>X-1</orderNo><customer>C</customer><name>张三</name><amount>12345678901234567.89</amount></o:order>";
    post("application/xml", xml.into()).await;
    // 张三 in GBK is D5 C5 C8 FD.
    let mut gbk = br#"{"orderNo":"X-2","customer":"C","amount":12345678901234567.89,"name":""#.to_vec();
    gbk.extend(b"\xd5\xc5\xc8\xfd\"}");
    post("application/json; charset=GBK", gbk).await;
    let mut gbk =
        b"<?xml version=\"1.0\" encoding=\"GBK\"?><order><orderNo>X-3</orderNo><customer>C</customer><name>".to_vec();
    gbk.extend(b"\xd5\xc5\xc8\xfd</name><amount>12345678901234567.89</amount></order>");
    post("text/xml", gbk).await;
    until("all three", async || crm.took().len() == 3).await;
    for got in crm.took() {
        assert!(got.body.contains(r#""name":"张三""#) && got.body.contains(":12345678901234567.89"), "{got:?}");
    }
    running.gateway.stop().await;
}
