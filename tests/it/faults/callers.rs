//! Callers that hurt without knowing it: the same order many times at once (L5), and a body that takes long to read.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stub::{Does, Stub, yes};
use super::*;

/// How many send the same.
const CALLERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_order_many_times_at_once_is_one_effect() {
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let place = site(crate::harness::GATEWAY, PATIENT, stub.address, "");
    let running = place.start().await;
    for round in 0..5 {
        let number = format!("SAME-{round}");
        let posts = (0..CALLERS).map(|_| running.post("/hooks/orders", order(&number, "c")));
        let answers = futures_util::future::join_all(posts).await;
        let (mut first, mut stored) = (0, 0);
        for answer in &answers {
            match (answer.status, answer.header("gatehouse-repeated")) {
                (202, "true") => stored += 1,
                (202, _) => first += 1,
                (409, _) => assert_eq!(answer.json()["code"], "conflict", "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
            if answer.status == 202 {
                assert_eq!(answer.json()["message_id"], number.as_str(), "{answer:?}");
            }
        }
        assert_eq!(first, 1, "it was taken once; {stored} heard the stored answer");
        // Whoever was told 409 comes again and hears what the others heard.
        let again = running.post("/hooks/orders", order(&number, "c")).await;
        assert_eq!((again.status, again.header("gatehouse-repeated")), (202, "true"), "{again:?}");
    }
    until("the five orders", async || stub.effects().len() == 5).await;
    running.drained().await;
    assert_eq!(stub.calls().len(), 5, "{:?}", stub.calls());
    running.gateway.stop().await;
}

/// A body that takes long to read and turns out to be broken at its very end does not keep others waiting, with one worker
/// for all: a small order that comes after it is answered before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_body_does_not_stall_a_small_request_beside_it() {
    let stub = Stub::start(|_| Does::Says(yes())).await;
    let ports = Ports::find();
    let place = site(&ports.instance(""), PATIENT, stub.address, "");
    place.write("systems/shop.yaml", &crate::harness::SHOP.replace("64KiB", "8MiB"));
    let process = Process::start(&place, &ports, |command| {
        command.env("TOKIO_WORKER_THREADS", "1");
    })
    .await;
    let references = "&amp;".repeat((4 << 20) / 5);
    for (round, (media, body)) in [
        ("application/xml", format!("<o><a>{references}</a>")),
        ("application/json", format!("{{\"a\":\"{}\"", "\\u4e2d".repeat((4 << 20) / 6))),
    ]
    .iter()
    .enumerate()
    {
        let mut overtaken = false;
        for n in 0..50 {
            let mut large = tokio::net::TcpStream::connect(ports.listen).await.expect("connects");
            let head = format!(
                "POST /hooks/orders HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\nconnection: close\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            large.write_all(head.as_bytes()).await.expect("written");
            large.write_all(body.as_bytes()).await.expect("written");
            let own = large.local_addr().expect("an address").port();
            until("the gateway to have taken every byte", async || all_taken(own, ports.listen.port())).await;
            process.insist(&format!("SMALL-{round}-{n}")).await;
            let mut answer = vec![0; 1];
            let waits = large.try_read(&mut answer).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            answer.truncate(usize::from(!waits));
            timeout(PATIENCE, large.read_to_end(&mut answer)).await.expect("in time").expect("an answer");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            if waits {
                overtaken = true;
                break;
            }
        }
        assert!(overtaken, "no small order was answered while the gateway read {media}");
    }
    process.stop().await;
}

/// Whether a connection's bytes have left the sender's kernel and been taken out of the receiver's (`/proc/net/tcp`).
fn all_taken(client: u16, server: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let empty = |from: u16, to: u16, queue: usize| {
        table.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let port = |field: &str| field.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
            fields.len() > 4
                && port(fields[1]) == Some(from)
                && port(fields[2]) == Some(to)
                && fields[4].split(':').nth(queue) == Some("00000000")
        })
    };
    empty(client, server, 0) && empty(server, client, 1)
}
