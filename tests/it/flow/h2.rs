//! HTTP/2 frames that no client library would send: floods end the connection that they come on, and nobody else waits.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{KEY, PATIENCE, Peer, Place, Running};

const ROUTES: &str = "version: 1
routes:
  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put }] }
";

/// RFC 9113 §3.4, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST /hooks/orders` as the shop, in literals of RFC 7541 §6.2.2 beside the static table's entries.
fn head() -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let named = |name: &str, value: &str| [&[0][..], &text(name), &text(value)].concat();
    [
        &[0x83, 0x86, 0x04][..],
        &text("/hooks/orders"),
        &[0x01],
        &text("g"),
        &named("content-type", "application/json"),
        &named("x-api-key", KEY),
    ]
    .concat()
}

/// Sends the flood, as far as it is taken, and waits until the gateway has closed the connection.
async fn flood(running: &Running, frames: impl Iterator<Item = Vec<u8>> + Send) -> Vec<u8> {
    let stream = TcpStream::connect(running.gateway.address).await.expect("connects");
    let (mut read, mut write) = stream.into_split();
    let sending = async move {
        // The gateway may close in the middle of it: that is what is wanted.
        let _ = write.write_all(PREFACE).await;
        for frame in frames {
            if write.write_all(&frame).await.is_err() {
                break;
            }
        }
        write
    };
    let reading = async move {
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        answer
    };
    let (_open, answer) = timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.expect("it is closed");
    answer
}

/// Whether a GOAWAY frame (type 7, on stream 0) is among these.
fn says_goodbye(mut frames: &[u8]) -> bool {
    while let [a, b, c, kind, _, rest @ ..] = frames {
        if *kind == 7 {
            return true;
        }
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        frames = rest.get(4 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_end_their_own_connection_and_stop_nobody_else() {
    let crm = Peer::start().await;
    let place = Place::new(&[("orders.yaml", ROUTES), ("systems/crm.yaml", &crm.system("crm", ""))]);
    let running = place.start().await;
    let streams = |count: u32| (0..count).map(|n| n * 2 + 1);
    // Rapid reset (CVE-2023-44487): asked and taken back, again and again, more than may ever wait.
    let resets = streams(100_000).map(|stream| {
        [frame(HEADERS, END_HEADERS, stream, &head()), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    });
    // A head that never ends (CVE-2024-27316), of 16 KiB pieces.
    let piece: Vec<u8> = [&[0, 1, b'x', 0x7f, 0x80, 0x7f][..], &[b'v'; 16_000]].concat();
    let endless =
        std::iter::once(frame(HEADERS, 0, 1, &head())).chain((0..20_000).map(|_| frame(CONTINUATION, 0, 1, &piece)));
    // What is no frame of a head in between one.
    let broken = [frame(HEADERS, 0, 1, &head()), frame(PING, 0, 0, &[0; 8])].into_iter();
    // More streams than are allowed, none of them ever finished.
    let open = streams(100_000).map(|stream| frame(HEADERS, END_HEADERS, stream, &head()));
    let floods = async {
        assert!(says_goodbye(&flood(&running, resets).await), "rapid reset");
        assert!(says_goodbye(&flood(&running, endless).await), "an endless head");
        assert!(says_goodbye(&flood(&running, broken).await), "a broken head");
        assert!(says_goodbye(&flood(&running, open).await), "too many streams");
    };
    let others = async {
        for n in 0..50 {
            running.order(&format!("H2-{n}"), "c").await;
        }
    };
    tokio::join!(floods, others);
    running.drained().await;
    assert_eq!(crm.took().len(), 50);
    running.gateway.stop().await;
}

/// Settings and pings must be answered; who sends them without end and reads no answer is not read any more either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_no_answers_is_asked_no_more_questions() {
    let crm = Peer::start().await;
    let place = Place::new(&[("orders.yaml", ROUTES), ("systems/crm.yaml", &crm.system("crm", ""))]);
    let running = place.start().await;
    for (what, one) in [
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("empty-data", frame(DATA, 0, 1, &[])),
    ] {
        let mut stream = TcpStream::connect(running.gateway.address).await.expect("connects");
        stream.write_all(&[PREFACE, &frame(HEADERS, END_HEADERS, 1, &head())].concat()).await.expect("written");
        let many = one.repeat(1000);
        let mut taken = 0_usize;
        // Until it is closed or nothing more is taken; unbounded, it would take all of this.
        while taken < (256 << 20)
            && matches!(timeout(Duration::from_secs(2), stream.write_all(&many)).await, Ok(Ok(())))
        {
            taken += many.len();
        }
        assert!(taken < (256 << 20), "{what}: {taken} bytes are taken");
        running.order(what, "c").await;
    }
    running.drained().await;
    assert_eq!(crm.took().len(), 3);
    running.gateway.stop().await;
}
