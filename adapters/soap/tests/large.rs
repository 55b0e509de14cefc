//! Large messages are read beside the thread that serves all others: what that thread spends on one is less than reading it would cost
//! there, and of a request less than a copy of what was read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Fixed, PATIENCE, Peer, V11, envelope, listening, message, serving, system};
use gatehouse_core::Value;
use gatehouse_core::adapter::Call;
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml;
use http::{Method, Request};

/// Nanoseconds that this thread has been on a processor (proc(5)); client and door run on it alone.
fn spent() -> u64 {
    // Else the kernel tells what it knew at its last tick.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    text.split_whitespace().next().and_then(|first| first.parse().ok()).expect("a number")
}

/// A body of many small things, what it costs to make a value of what its XML holds, and what to copy that.
fn large() -> (String, u64, u64) {
    let body = format!("<o:Op xmlns:o='urn:o'>{}</o:Op>", "<a>1</a>".repeat(40_000));
    let root = xml::decode(body.as_bytes(), None, &BodyLimits::default()).unwrap();
    let before = spent();
    let value = root.to_value();
    let read = spent() - before;
    let before = spent();
    let copy = value.clone();
    let copied = spent() - before;
    assert_eq!(copy.field("a").and_then(Value::as_list).map(<[Value]>::len), Some(40_000));
    (body, read, copied)
}

#[tokio::test]
async fn a_large_request_is_read_beside_the_worker() {
    let file = "version: 1\nsystem: erp\nadapter: soap\nendpoints:\n  Op: { listen: /soap/op, namespace: 'urn:o' }\n";
    let erp = listening(file, "/soap/op").await;
    let (body, _, copied) = large();
    let body = Bytes::from(envelope(V11, "", &body));
    let mut on_worker = u64::MAX;
    // The first ones also pay for what is done once.
    for _ in 0..3 {
        let request = Request::builder().method(Method::POST).uri(erp.client.url("/soap/op").unwrap());
        let request = request.header("content-type", "text/xml").body(body.clone()).unwrap();
        let before = spent();
        let response = tokio::time::timeout(PATIENCE, erp.client.send(request)).await.unwrap().unwrap();
        on_worker = on_worker.min(spent() - before);
        assert_eq!(response.status().as_u16(), 200);
    }
    assert_eq!(erp.engine.count(), 3);
    assert!(on_worker < copied, "{on_worker} ns on the worker, {copied} ns to copy what was read");
}

#[tokio::test]
async fn a_large_answer_is_read_beside_the_worker() {
    let serving = serving().await;
    let peer = Peer::new();
    let _mount = serving.door.mount("/ws", peer.clone()).unwrap();
    let address = serving.door.addr();
    let file = format!(
        "version: 1\nsystem: erp\nadapter: soap\naddress: http://{address}/ws\nendpoints:\n  Op: {{ namespace: 'urn:o' }}\n"
    );
    let outbound = system(None, &file).connect(&Fixed).await.unwrap();
    let (body, read, _) = large();
    peer.answers(200, "text/xml", &envelope(V11, "", &body));
    let (message, sent) = (message(), Value::map());
    let call = Call {
        endpoint: "Op",
        body: &sent,
        message: &message,
        delivery_id: "d-1",
        attempt: 1,
        traceparent: None,
        deadline: Duration::from_secs(5),
    };
    let before = spent();
    let reply = tokio::time::timeout(PATIENCE, outbound.deliver(call)).await.unwrap().unwrap();
    let on_worker = spent() - before;
    assert_eq!(reply.body.field("a").and_then(Value::as_list).map(<[Value]>::len), Some(40_000));
    assert!(on_worker < read, "{on_worker} ns on the worker, {read} ns to read it alone");
}
