//! Targets that misbehave: that are not there (T1), drip (T2), say yes and mean no (T4), break off (T5, T6), ask for
//! patience (T8) or answer without end (T9).

use std::time::Instant;

use gatehouse_store::{Letter, State};

use super::stub::{Call, Does, Stub, answer, yes};
use super::*;
use crate::harness::Running;

const JSON: &str = "content-type: application/json\r\n";

/// A gateway before this target.
async fn before(stub: &Stub, retry: &str, more: &str, rules: &str) -> (Place, Running) {
    let place = Place::new(&[
        ("orders.yaml", &routes(retry)),
        ("systems/crm.yaml", &crm(&format!("http://{}", stub.address), more, rules)),
    ]);
    let running = place.start().await;
    (place, running)
}

/// The letters of these orders, in their order.
async fn letters(running: &Running, orders: &[&str]) -> Vec<Letter> {
    until("the letters", async || running.letters(State::Open).await.len() >= orders.len()).await;
    let mut all = Vec::new();
    for summary in running.letters(State::Open).await {
        all.push(running.gateway.letters.store().letter(summary.id).await.expect("the letter"));
    }
    let of = |order: &&str| {
        let found = all.iter().find(|letter| String::from_utf8_lossy(&letter.body).contains(&format!("\"{order}\"")));
        found.unwrap_or_else(|| panic!("no letter of {order}: {all:?}")).clone()
    };
    assert_eq!(all.len(), orders.len(), "{all:?}");
    orders.iter().map(of).collect()
}

/// T1. A target that swallows connections: each attempt ends after the connect time-out, the others are not slower
/// for it, and in the end there is a letter that says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_swallows_connections_hurts_nobody_else() {
    // Its queue of connections is full and nobody takes any: the kernel answers no SYN.
    let hole = tokio::net::TcpSocket::new_v4().expect("a socket");
    hole.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let hole = hole.listen(1).expect("listens");
    let address = hole.local_addr().expect("an address");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = timeout(MOMENT, tokio::net::TcpStream::connect(address)).await {
        held.push(stream);
    }
    let well = Stub::start(|_| Does::Says(yes())).await;
    let place = Place::new(&[
        (
            "orders.yaml",
            "version: 1\nroutes:\n  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: hole/put, retry: { attempts: 1 } }, { target: crm/put }] }\n",
        ),
        ("systems/crm.yaml", &crm(&format!("http://{}", well.address), "", "")),
        ("systems/hole.yaml", &crm(&format!("http://{address}"), "", "").replace("system: crm", "system: hole")),
    ]);
    let running = place.start().await;
    let numbers: Vec<String> = (0..10).map(|n| format!("H-{n}")).collect();
    for number in &numbers {
        running.order(number, "c").await;
    }
    until("the others' target to have everything", async || well.effects().len() == numbers.len()).await;
    assert!(running.letters(State::Open).await.is_empty(), "the connect time-out is not over by then");
    let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
    for letter in letters(&running, &numbers).await {
        assert_eq!(letter.attempts[0].code, "unreachable", "{letter:?}");
    }
    running.gateway.stop().await;
}

/// T2. One deadline for the whole attempt, however the answer drips.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_drips_is_cut_at_the_deadline() {
    let stub = Stub::start(|_| Does::Drips(yes(), Duration::from_millis(100))).await;
    let (_place, running) = before(&stub, "retry: { attempts: 1 }", "limits: { timeout: 600ms }", "").await;
    running.order("D-1", "c").await;
    let letter = letters(&running, &["D-1"]).await.remove(0);
    assert_eq!(letter.attempts[0].code, "deadline", "{letter:?}");
    assert!(letter.attempts[0].text.contains("it may have happened"), "{letter:?}");
    assert!(stub.written() < yes().len(), "it was not heard to its end");
    running.gateway.stop().await;
}

/// T4. A 200 is no yes: the endpoint's own rule, or what the answer is, decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_200_that_means_no_is_no_yes() {
    let login = "<!DOCTYPE html><html><body><form action=\"/login\">请登录</form></body></html>";
    let says = move |call: &Call| {
        Does::Says(match call.order.as_str() {
            "E-error" => answer(200, JSON, r#"{"error":"客户已冻结"}"#),
            "E-empty" => answer(200, JSON, ""),
            "E-login" => answer(200, "content-type: text/html; charset=utf-8\r\n", login),
            "E-broken" => answer(200, JSON, r#"{"code":0,"#),
            "E-other" => answer(200, JSON, "[]"),
            _ => yes(),
        })
    };
    let stub = Stub::start(says).await;
    let rules = ", success_when: \"reply.code == 0\", error_text: reply.error";
    let (_place, running) = before(&stub, "retry: { attempts: 2, first: 100ms, max: 100ms }", "", rules).await;
    let wrong = ["E-error", "E-empty", "E-login", "E-broken", "E-other"];
    for number in wrong.iter().chain(&["E-fine"]) {
        running.order(number, "c").await;
    }
    let letters = letters(&running, &wrong).await;
    for (number, letter) in wrong.iter().zip(&letters) {
        assert!(letter.attempts.iter().all(|attempt| attempt.answered.is_some()), "{number}: {letter:?}");
    }
    let last = |index: usize| letters[index].attempts.last().expect("an attempt");
    assert!(last(0).text.contains("客户已冻结"), "the system's own words: {:?}", last(0));
    for (index, number) in [(2, "E-login"), (3, "E-broken")] {
        assert_eq!(last(index).code, "bad-answer", "{number}: {:?}", last(index));
        assert_eq!(letters[index].attempts.len(), 2, "{number} is worth another try");
    }
    running.drained().await;
    assert!(stub.effects().contains_key("E-fine"));
    running.gateway.stop().await;
}

/// Without a rule of its own: what is no JSON or XML is no answer either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_rule_a_login_page_is_no_yes() {
    let stub = Stub::start(|call| {
        let page = "<html><body>Sign in</body></html>";
        Does::Says(if call.before == 0 { answer(200, "content-type: text/html\r\n", page) } else { yes() })
    })
    .await;
    let (_place, running) = before(&stub, PATIENT, "", "").await;
    running.order("L-1", "c").await;
    until("the second try", async || stub.calls().len() == 2).await;
    running.drained().await;
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}

/// T5. The answer ends at each of its bytes: whatever it was, the outcome is unknown and the same id comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_at_any_byte_brings_the_same_id_again() {
    let whole = yes();
    let length = whole.len();
    let stub = Stub::start(move |call| {
        let cut = call.order.rsplit('-').next().and_then(|n| n.parse::<usize>().ok()).filter(|_| call.before == 0);
        Does::Says(whole[..cut.unwrap_or(length)].to_vec())
    })
    .await;
    let (_place, running) = before(&stub, PATIENT, "limits: { concurrency: 32 }", "").await;
    let numbers: Vec<String> = (0..length).map(|n| format!("C-{n}")).collect();
    let orders = numbers.iter().map(|number| running.order(number, "c"));
    futures_util::future::join_all(orders).await;
    until("each a second time", async || stub.calls().iter().filter(|call| call.before == 1).count() == length).await;
    running.drained().await;
    let effects = stub.effects();
    assert_eq!(effects.len(), length);
    assert!(effects.values().all(|keys| keys.len() == 1), "the same id again: {effects:?}");
    assert_eq!(stub.calls().len(), 2 * length, "a whole answer is not asked for again");
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}

/// T6. It did the work and its answer never came, by hanging up or by silence: once more with the same id, one effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_whose_answer_is_lost_is_done_once() {
    let stub = Stub::start(|call| match (call.before, call.order.as_str()) {
        (0, "W-hangs-up") => Does::Says(Vec::new()),
        (0, "W-silent") => Does::Nothing,
        _ => Does::Says(yes()),
    })
    .await;
    let (_place, running) = before(&stub, PATIENT, "limits: { timeout: 500ms }", "").await;
    for number in ["W-hangs-up", "W-silent", "W-fine"] {
        running.order(number, "c").await;
    }
    until("both again", async || stub.calls().len() == 5).await;
    running.drained().await;
    assert!(stub.effects().values().all(|keys| keys.len() == 1), "{:?}", stub.effects());
    assert_eq!(stub.calls().len(), 5, "{:?}", stub.calls());
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}

/// When the first and the second call of an order came.
fn twice(stub: &Stub, order: &str) -> Option<(Instant, Instant)> {
    let calls: Vec<_> = stub.calls().into_iter().filter(|call| call.order == order).collect();
    Some((calls.first()?.at, calls.get(1)?.at))
}

/// T8. `Retry-After` in seconds or as a date is a "not before", also where the ladder has no such rung; 0 is no reason
/// to hurry, and 10⁹ s are not waited for in a hand: the delivery is parked and the others go on.
async fn come_again(order_by: &str) {
    let stub = Stub::start(|call| {
        let (status, wait) = match (call.before, call.order.as_str()) {
            (0, "R-zero") => (429, "0".to_owned()),
            (0, "R-seconds") => (503, "2".to_owned()),
            (0, "R-date") => {
                let then = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
                (429, then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
            (_, "R-long") => (503, "1000000000".to_owned()),
            (_, "R-longer") => (429, "99999999999999999999999".to_owned()),
            _ => return Does::Says(yes()),
        };
        Does::Says(answer(status, &format!("retry-after: {wait}\r\n"), ""))
    })
    .await;
    let (_place, running) = before(&stub, &format!("{PATIENT}{order_by}"), "", "").await;
    let numbers = ["R-zero", "R-seconds", "R-date", "R-long", "R-longer", "R-fine"];
    for number in numbers {
        // Each is a customer of its own: where order is kept, one does not wait for the other.
        running.order(number, number).await;
    }
    until("those that ask for a wait that ends", async || {
        ["R-zero", "R-seconds", "R-date"].iter().all(|number| twice(&stub, number).is_some())
    })
    .await;
    let waited = |number: &str| twice(&stub, number).map(|(first, second)| second - first).unwrap_or_default();
    assert!(waited("R-zero") >= Duration::from_millis(80), "tried again without a pause: {:?}", waited("R-zero"));
    assert!(waited("R-seconds") >= Duration::from_secs(2), "{:?}", waited("R-seconds"));
    // A date has whole seconds: of the three it says two at least.
    assert!(waited("R-date") >= Duration::from_secs(2), "{:?}", waited("R-date"));
    running.order("R-after", "R-after").await;
    until("the one after", async || stub.effects().contains_key("R-after")).await;
    assert_eq!(stub.calls().iter().filter(|call| call.order.starts_with("R-long")).count(), 2, "they wait");
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_says_when_to_come_again() {
    come_again("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_with_order_says_when_to_come_again() {
    come_again(", order_by: customer").await;
}

/// T9. Answers without end, with a megabyte of headers, packed, or somewhere else: cut, refused and not followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_measure_are_cut() {
    let elsewhere = Stub::start(|_| Does::Says(yes())).await;
    let location = format!("location: http://{}/orders\r\n", elsewhere.address);
    let stub = Stub::start(move |call| match call.order.as_str() {
        "B-endless" => {
            let head = format!("HTTP/1.1 200 x\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
            Does::Endless(head.into_bytes(), format!("4000\r\n{}\r\n", " ".repeat(0x4000)).into_bytes())
        }
        "B-until-close" => Does::Endless(format!("HTTP/1.1 200 x\r\n{JSON}\r\n").into_bytes(), vec![b' '; 0x4000]),
        "B-headers" => Does::Endless(b"HTTP/1.1 200 x\r\n".to_vec(), b"x-more: and more of the same\r\n".to_vec()),
        "B-header" => Does::Says(answer(200, &format!("x-long: {}\r\n", "v".repeat(1 << 20)), "")),
        "B-packed" => Does::Says(answer(200, &format!("{JSON}content-encoding: gzip\r\n"), "not even gzip")),
        "B-metadata" => Does::Says(answer(302, "location: http://169.254.169.254/latest/meta-data\r\n", "")),
        "B-elsewhere" => Does::Says(answer(307, &location, "")),
        _ => Does::Says(yes()),
    })
    .await;
    let retry = "retry: { attempts: 1 }";
    let (_place, running) = before(&stub, retry, "limits: { body: 256KiB, timeout: 20s }", "").await;
    let bad = ["B-endless", "B-until-close", "B-headers", "B-header", "B-packed"];
    for number in bad {
        running.order(number, "c").await;
    }
    for (number, letter) in bad.iter().zip(letters(&running, &bad).await) {
        assert_eq!(letter.attempts[0].code, "bad-answer", "{number}: {letter:?}");
    }
    // What the kernel buffers on both sides beside what was read.
    assert!(stub.written() < 64 << 20, "{} bytes were taken", stub.written());
    running.order("B-fine", "c").await;
    until("the fine one", async || stub.effects().contains_key("B-fine")).await;
    running.gateway.stop().await;

    // A redirect is a mistake of the site: the system is held and the letter says so.
    for number in ["B-metadata", "B-elsewhere"] {
        let (_place, running) = before(&stub, retry, "", "").await;
        running.order(number, "c").await;
        let letter = letters(&running, &[number]).await.remove(0);
        assert_eq!(letter.attempts[0].code, "misconfigured", "{letter:?}");
        assert!(letter.attempts[0].text.contains("redirects are not followed"), "{letter:?}");
        running.gateway.stop().await;
    }
    assert!(elsewhere.calls().is_empty(), "it was followed: {:?}", elsewhere.calls());
}
