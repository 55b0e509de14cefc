//! Large messages are read beside the worker: where all places of that are taken, a large one waits for its turn, and small
//! ones are served meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use common::{Fixed, PATIENCE, Peer, V11, call, envelope, listening, message, serving, system};
use gatehouse_core::Value;
use gatehouse_core::adapter::Call;
use gatehouse_net::body::From;
use gatehouse_net::parse::{INLINE, parse};
use http::{Method, Request};
use tokio::sync::Mutex;

/// The places are the process's: one test at a time takes them.
static TURN: Mutex<()> = Mutex::const_new(());

/// A little time, where nothing can be waited for because nothing is to happen.
const MOMENT: Duration = Duration::from_millis(300);

/// All places in which large bodies are read, until it is dropped.
struct Taken {
    _let_go: Vec<mpsc::SyncSender<()>>,
}

impl Taken {
    async fn all() -> Self {
        // As many as `parse` has.
        let places = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let mut let_go = Vec::new();
        for _ in 0..places {
            let (held, ended) = mpsc::sync_channel::<()>(1);
            let (began, begun) = tokio::sync::oneshot::channel();
            tokio::spawn(parse(INLINE + 1, From::Caller, move || {
                let _ = began.send(());
                // Ends with what holds it.
                let _ = ended.recv();
            }));
            tokio::time::timeout(PATIENCE, begun).await.unwrap().unwrap();
            let_go.push(held);
        }
        Self { _let_go: let_go }
    }
}

/// A body of many small things.
fn many(count: usize) -> String {
    format!("<o:Op xmlns:o='urn:o'>{}</o:Op>", "<a>1</a>".repeat(count))
}

#[tokio::test]
async fn a_large_request_is_read_beside_the_worker() {
    let _turn = TURN.lock().await;
    let file = "version: 1\nsystem: erp\nadapter: soap\nendpoints:\n  Op: { listen: /soap/op, namespace: 'urn:o' }\n";
    let erp = listening(file, "/soap/op").await;
    let send = |count: usize| {
        let request = Request::builder().method(Method::POST).uri(erp.client.url("/soap/op").unwrap());
        let body = Bytes::from(envelope(V11, "", &many(count)));
        let request = request.header("content-type", "text/xml").body(body).unwrap();
        let answer = erp.client.send(request);
        async { tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap().status().as_u16() }
    };
    let taken = Taken::all().await;
    let large = send(40_000);
    let meanwhile = async {
        assert_eq!(send(2).await, 200, "a small one is served");
        tokio::time::sleep(MOMENT).await;
        assert_eq!(erp.engine.count(), 1, "the large one waits for its turn");
        drop(taken);
    };
    let (large, ()) = tokio::join!(large, meanwhile);
    assert_eq!((large, erp.engine.count()), (200, 2));
}

#[tokio::test]
async fn a_large_answer_is_read_beside_the_worker() {
    let _turn = TURN.lock().await;
    let serving = serving().await;
    let peer = Peer::new();
    let _mount = serving.door.mount("/ws", peer.clone()).unwrap();
    let address = serving.door.addr();
    let file = format!(
        "version: 1\nsystem: erp\nadapter: soap\naddress: http://{address}/ws\nendpoints:\n  Op: {{ namespace: 'urn:o' }}\n"
    );
    let outbound = system(None, &file).connect(&Fixed).await.unwrap();
    peer.answers(200, "text/xml", &envelope(V11, "", &many(40_000)));
    let (message, sent) = (message(), Value::map());
    let call = Call { deadline: PATIENCE, ..call("Op", &sent, &message) };
    let taken = Taken::all().await;
    let mut reply = outbound.deliver(call);
    let early = tokio::time::timeout(MOMENT, &mut reply).await;
    assert!(early.is_err(), "it waits for its turn: {early:?}");
    drop(taken);
    let reply = tokio::time::timeout(PATIENCE, reply).await.unwrap().unwrap();
    assert_eq!(reply.body.field("a").and_then(Value::as_list).map(<[Value]>::len), Some(40_000));
}
