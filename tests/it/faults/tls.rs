//! T7. Targets whose certificate has expired, is signed by nobody who is trusted, is for another host, or that speak an
//! old TLS: nothing is sent to them, there is no way around, and the letter says why.

use rcgen::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stub::{Does, Stub, yes};
use super::*;
use crate::amqps::{Authority, named};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cannot_prove_itself_gets_nothing() {
    let ca = Authority::new();
    let mut expired = named("localhost");
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let own_key = KeyPair::generate().expect("a key");
    let mut own = named("localhost");
    own.distinguished_name.push(rcgen::DnType::CommonName, "its own authority");
    let own = own.self_signed(&own_key).expect("signed");

    let mut stubs = Vec::new();
    for (name, config, reason) in [
        ("expired", ca.server(&expired), "expired"),
        ("own", Authority::with(&own, &own_key), "UnknownIssuer"),
        ("other", ca.server(&named("other.example")), "not valid for name"),
        ("sound", ca.server(&named("localhost")), ""),
    ] {
        stubs.push((name, Stub::with_tls(config, |_| Does::Says(yes())).await, reason));
    }
    let old = old_tls().await;
    let systems: Vec<_> = stubs.iter().map(|(name, stub, _)| (*name, stub.address)).chain([("old", old)]).collect();
    let place = Place::new(&[("ca.pem", &ca.pem())]);
    let mut targets = Vec::new();
    for (name, address) in &systems {
        let system = crm(&format!("https://localhost:{}", address.port()), "ca_file: ca.pem", "");
        place.write(&format!("systems/{name}.yaml"), &system.replace("system: crm", &format!("system: {name}")));
        targets.push(format!("{{ target: {name}/put, retry: {{ attempts: 2, first: 100ms, max: 100ms }} }}"));
    }
    let targets = targets.join(", ");
    place.write(
        "orders.yaml",
        &format!(
            "version: 1\nroutes:\n  - {{ route: orders, from: shop/orders, type: order.paid, to: [{targets}] }}\n"
        ),
    );
    let running = place.start().await;
    running.order("T-1", "c").await;
    until("four letters", async || running.letters(gatehouse_store::State::Open).await.len() == 4).await;
    for summary in running.letters(gatehouse_store::State::Open).await {
        let letter = running.gateway.letters.store().letter(summary.id).await.expect("the letter");
        let target = summary.target.as_deref().unwrap_or_default();
        let wanted = stubs.iter().find(|(name, ..)| target == format!("{name}/put")).map_or("", |(.., reason)| reason);
        for attempt in &letter.attempts {
            assert_eq!(attempt.code, "unreachable", "{target}: {attempt:?}");
            assert!(attempt.text.contains(wanted), "{target}: {attempt:?}");
            assert!(
                attempt.text.contains(if target == "old/put" { "peer" } else { "certificate" }),
                "{target}: {attempt:?}"
            );
        }
        assert_eq!(letter.attempts.len(), 2, "{target}");
    }
    until("the sound one", async || stubs.iter().any(|(name, stub, _)| *name == "sound" && stub.calls().len() == 1))
        .await;
    for (name, stub, _) in stubs.iter().filter(|(name, ..)| *name != "sound") {
        assert!(stub.calls().is_empty(), "{name} was sent something");
    }
    running.gateway.stop().await;
}

/// A server that knows nothing newer than TLS 1.1: it answers every greeting with a `ServerHello` of that version.
async fn old_tls() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            // RFC 4346 §7.4.1.3: version 3.2, random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
            let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
            hello.extend([7; 32]);
            hello.extend([0, 0, 0x2f, 0]);
            let _ = stream.write_all(&hello).await;
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    address
}
