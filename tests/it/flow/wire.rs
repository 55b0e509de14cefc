//! Bytes that no client library would send, on raw sockets: what is ambiguous is refused, what is smuggled behind it is
//! never taken, what is slow is cut off.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{KEY, PATIENCE, Peer, Place, Running, order};

const ROUTES: &str = "version: 1
routes:
  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put }] }
";

async fn start() -> (Place, Peer, Running) {
    let crm = Peer::start().await;
    let place = Place::new(&[("orders.yaml", ROUTES), ("systems/crm.yaml", &crm.system("crm", ""))]);
    let running = place.start().await;
    (place, crm, running)
}

/// Sends these bytes and reads until the gateway closes; `None` where it does not.
async fn raw(running: &Running, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(running.gateway.address).await.expect("connects");
    stream.write_all(bytes).await.expect("written");
    let mut answer = Vec::new();
    // A reset after the answer is a closed connection too.
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.ok()?.ok();
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// A request that would be accepted, were it read as one.
fn sound(number: &str) -> String {
    let body = order(number, "c");
    format!(
        "POST /hooks/orders HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_is_refused_and_the_connection_closed() {
    let (_place, crm, running) = start().await;
    let head =
        format!("POST /hooks/orders HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\n");
    let body = order("BAD", "c");
    let length = body.len();
    let many: String = (0..101).map(|n| format!("X-Many-{n}: v\r\n")).collect();
    let cases = [
        ("two lengths", format!("{head}Content-Length: {length}\r\nContent-Length: 5\r\n\r\n{body}")),
        ("a list of lengths", format!("{head}Content-Length: {length}, 5\r\n\r\n{body}")),
        ("a signed length", format!("{head}Content-Length: +{length}\r\n\r\n{body}")),
        ("a length in hex", format!("{head}Content-Length: 0x{length:x}\r\n\r\n{body}")),
        ("an unknown transfer coding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n{body}")),
        ("a space before the colon", format!("{head}Content-Length : {length}\r\n\r\n{body}")),
        ("a folded header", format!("{head}X-Fold: a\r\n b\r\nContent-Length: {length}\r\n\r\n{body}")),
        ("a chunk size that overflows", format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{body}")),
        ("a chunk size that is none", format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}")),
        ("101 headers", format!("{head}{many}Content-Length: {length}\r\n\r\n{body}")),
        ("a head without an end", format!("{head}X-Long: {}\r\n\r\n{body}", "v".repeat(100_000))),
        (
            "a chunk extension without an end",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x};{}\r\n{body}\r\n0\r\n\r\n", "e".repeat(65_536)),
        ),
        (
            "a transfer coding on HTTP/1.0",
            format!(
                "{}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n",
                head.replace("HTTP/1.1", "HTTP/1.0")
            ),
        ),
        ("two hosts", format!("{head}Host: other\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")),
        ("twins", format!("{head}x_api_key: other\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")),
        ("no HTTP at all", "\u{16}\u{3}\u{1}hello\r\n\r\n".to_owned()),
    ];
    for (what, request) in cases {
        // Whatever follows on the same connection must not be taken for a second request.
        let answer = raw(&running, format!("{request}{}", sound("SMUGGLED")).as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{what}: the connection stays open"));
        assert!(!answer.contains(" 202 "), "{what}: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
    }
    // The gateway is well, and none of it came through.
    running.order("GOOD", "c").await;
    running.drained().await;
    let numbers: Vec<_> =
        crm.took().iter().map(|got| got.json()["orderNo"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(numbers, ["GOOD"]);
}

/// RFC 9112 §2.2 lets a recipient take a bare line feed for a line's end, and hyper does: one request, one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_line_feed_ends_a_line_and_nothing_else() {
    let (_place, crm, running) = start().await;
    let (head, body) =
        sound("BARE").split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).expect("a head");
    let bare = format!("{}\n\n{body}", head.replace("\r\n", "\n"));
    let answer = raw(&running, bare.as_bytes()).await.expect("closed");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    running.drained().await;
    assert_eq!(crm.took().len(), answer.matches(" 202 ").count(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_declared_method_is_served() {
    let (_place, crm, running) = start().await;
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let request =
            sound("METHOD").replacen("POST", method, 1).replacen("\r\n", "\r\nX-HTTP-Method-Override: POST\r\n", 1);
        let answer = raw(&running, request.as_bytes()).await.expect("closed");
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
        assert!(answer.to_lowercase().contains("\r\nallow: post"), "{method}: {answer}");
    }
    running.order("GOOD", "c").await;
    running.drained().await;
    assert_eq!(crm.took().len(), 1, "{:?}", crm.took());
}

/// RFC 9112 §6.1: where both are there the transfer coding wins, and the connection is closed after the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_beside_a_transfer_coding_smuggles_nothing() {
    let (_place, crm, running) = start().await;
    let body = order("FIRST", "c");
    let smuggling = format!(
        "POST /hooks/orders HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n{}",
        body.len(),
        sound("SMUGGLED")
    );
    let answer = raw(&running, smuggling.as_bytes()).await.expect("closed");
    assert!(answer.matches("HTTP/1.1 ").count() == 1, "one answer: {answer}");
    running.order("GOOD", "c").await;
    running.drained().await;
    assert!(crm.took().iter().all(|got| got.json()["orderNo"] != "SMUGGLED"), "{:?}", crm.took());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_hide_something_are_refused() {
    let (_place, crm, running) = start().await;
    for path in ["/hooks%2Forders", "/hooks/%00orders", "/hooks/..%2f..%2fhooks/orders", "/hooks/%ff"] {
        let request = sound("HIDDEN").replacen("/hooks/orders", path, 1);
        let answer = raw(&running, request.as_bytes()).await.expect("closed");
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
    running.order("GOOD", "c").await;
    running.drained().await;
    assert_eq!(crm.took().len(), 1, "{:?}", crm.took());
}

/// Silence, the beginning of HTTP/2, and half a head: each is closed after the door's ten seconds, not kept for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let (_place, _crm, running) = start().await;
    let beginnings = ["", "PRI * HT", "POST /hooks/orders HTTP/1.1\r\nHost: g\r\nX-Slow: "];
    let waits = beginnings.map(|beginning| raw(&running, beginning.as_bytes()));
    for (beginning, answer) in beginnings.iter().zip(futures_util::future::join_all(waits).await) {
        let answer = answer.unwrap_or_else(|| panic!("{beginning:?}: the connection stays open"));
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{beginning:?}: {answer}");
    }
}

/// A caller that goes away in the middle of its body leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_body_is_no_message() {
    let (_place, crm, running) = start().await;
    let whole = sound("HALF");
    let cut = whole.len() - 10;
    let mut stream = TcpStream::connect(running.gateway.address).await.expect("connects");
    stream.write_all(&whole.as_bytes()[..cut]).await.expect("written");
    stream.shutdown().await.expect("closed");
    let mut answer = String::new();
    let _ = timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await;
    assert!(!answer.contains(" 202 "), "{answer}");
    running.order("HALF", "c").await;
    running.drained().await;
    assert_eq!(crm.took().len(), 1, "the whole one, later: {:?}", crm.took());
}

/// A body that never ends is cut at the endpoint's limit, with and without a length.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_cut() {
    let (_place, crm, running) = start().await;
    let head = sound("LONG").split_once("Content-Length").expect("a length").0.replace("Connection: close\r\n", "");
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    let endless = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(6));
    let declared = format!("{head}Content-Length: 99999999\r\n\r\n{}", " ".repeat(1000));
    for (what, request) in [("without a length", endless), ("with one", declared)] {
        let answer = raw(&running, request.as_bytes()).await.unwrap_or_else(|| panic!("{what}: it stays open"));
        assert!(answer.starts_with("HTTP/1.1 413 "), "{what}: {answer}");
    }
    running.order("GOOD", "c").await;
    running.drained().await;
    assert_eq!(crm.took().len(), 1, "{:?}", crm.took());
}
