//! A system that wants a login first: one for all callers, renewed once, and never shown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatehouse_store::State;

use crate::harness::{Peer, Place, until};

const ROUTES: &str = "version: 1
routes:
  - { route: shop, from: shop/orders, type: order.paid, key: orderNo, to: [{ target: oa/start, map: to-oa }] }
";

const TO_OA: &str = "version: 1\nmapping: to-oa\nrows:\n  - { to: subject, from: orderNo }\n";

fn envelope(inner: &str) -> String {
    format!("<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>{inner}</s:Body></s:Envelope>")
}

fn fault(code: &str, text: &str) -> (Duration, u16, String) {
    (
        Duration::ZERO,
        500,
        envelope(&format!("<s:Fault><faultcode>s:{code}</faultcode><faultstring>{text}</faultstring></s:Fault>")),
    )
}

/// An OA in which only the newest token is good.
async fn oa() -> (Peer, Arc<AtomicUsize>, Arc<Mutex<String>>) {
    let (logins, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
    let (count, current) = (logins.clone(), good.clone());
    let peer = Peer::start().await;
    peer.behave(move |got| {
        let mut current = current.lock().expect("sound");
        if got.body.contains("authenticate") {
            if !got.body.contains("<m:userName>bus</m:userName>") || !got.body.contains("a-shop-key") {
                return fault("Client", "用户名或密码错误");
            }
            *current = format!("TOKEN-{}", count.fetch_add(1, Ordering::SeqCst) + 1);
            // Slow enough that many callers wait for it.
            return (Duration::from_millis(50), 200, envelope(&format!("<r><id>{current}</id></r>")));
        }
        let first = got.body.find("token>").is_some_and(|token| token < got.body.find("subject>").unwrap_or(0));
        match first && got.body.contains(&format!(">{current}<")) && !current.is_empty() {
            true if got.body.contains(">NO-") => fault("Client", "没有这个模板"),
            true => (Duration::ZERO, 200, envelope("<r><id>1</id></r>")),
            false => fault("Server", "会话已失效"),
        }
    });
    (peer, logins, good)
}

fn site(peer: &Peer, user: &str) -> Place {
    let system = format!(
        "version: 1\nsystem: oa\nadapter: soap\naddress: http://{}/ws\nlogin:\n  endpoint: authenticate\n  secrets: {{ password: \"${{file:shop.secret}}\" }}\n  \
         body: {{ userName: '\"{user}\"', password: secret.password }}\n  token: reply.id\n  argument: token\n  expired_when: 'reply.faultstring.contains(\"会话\")'\n\
         endpoints:\n  authenticate: {{ namespace: urn:oa }}\n  start: {{ namespace: urn:oa }}\n",
        peer.address
    );
    Place::new(&[("orders.yaml", ROUTES), ("mappings/to-oa.yaml", TO_OA), ("systems/oa.yaml", &system)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_login_serves_all_and_is_renewed_once() {
    let (peer, logins, good) = oa().await;
    let place = site(&peer, "bus");
    let running = place.start().await;
    let taken = |peer: &Peer| peer.took().iter().filter(|got| got.body.contains("subject>")).count();
    for number in 0..20 {
        running.order(&format!("L-{number}"), "c").await;
    }
    until("twenty are taken", async || taken(&peer) == 20).await;
    assert_eq!(logins.load(Ordering::SeqCst), 1);

    // The OA restarts and has forgotten every session.
    *good.lock().expect("sound") = String::new();
    for number in 20..40 {
        running.order(&format!("L-{number}"), "c").await;
    }
    until("twenty more are taken", async || taken(&peer) == 40).await;
    assert_eq!(logins.load(Ordering::SeqCst), 2, "renewed once for all");
    running.drained().await;
    assert!(running.letters(State::Open).await.is_empty());

    // What the desk shows has neither the token nor the password.
    running.order("NO-1", "c").await;
    let letter = running.one_letter().await;
    let sent = letter.attempts[0].sent.as_deref().expect("what was sent");
    assert!(sent.contains("***") && sent.contains("NO-1") && !sent.contains("TOKEN-"), "{sent}");
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_burns_no_orders() {
    let (peer, logins, _) = oa().await;
    let place = site(&peer, "somebody");
    let running = place.start().await;
    running.order("R-1", "c").await;
    until("a login is tried", async || peer.got().iter().any(|got| got.body.contains("authenticate"))).await;
    assert!(!peer.got().iter().any(|got| got.body.contains("subject>")), "no call without a token");
    assert_eq!(logins.load(Ordering::SeqCst), 0);
    running.gateway.stop().await;
}
