//! What fails is tried again; what is refused needs a person, who mends it and sends it again, once, to that target only.

use gatehouse_core::fault::Code;
use gatehouse_store::State;

use crate::harness::{Peer, Place, Running, says, until};

const ROUTES: &str = "version: 1
routes:
  - route: orders
    from: shop/orders
    type: order.paid
    key: orderNo
    to:
      - { target: crm/put, retry: { attempts: 3, first: 100ms, max: 1s } }
      - { target: archive/put }
";

async fn start() -> (Place, Peer, Peer, Running) {
    let (crm, archive) = (Peer::start().await, Peer::start().await);
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("systems/crm.yaml", &crm.system("crm", "")),
        ("systems/archive.yaml", &archive.system("archive", "")),
    ]);
    let running = place.start().await;
    (place, crm, archive, running)
}

/// Fails so often with `status`, then is well.
fn failing(times: usize, status: u16) -> impl FnMut(&crate::harness::Got) -> crate::harness::Says {
    let mut left = times;
    move |_| {
        let fails = left > 0;
        left = left.saturating_sub(1);
        says(if fails { status } else { 200 })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_recovers_gets_it_once() {
    let (_place, crm, archive, running) = start().await;
    crm.behave(failing(2, 500));
    running.order("R-1", "c").await;
    until("the third attempt", async || crm.took().len() == 1).await;
    running.drained().await;
    let got = crm.got();
    assert_eq!(got.iter().map(|got| got.status).collect::<Vec<_>>(), [500, 500, 200]);
    assert!(got.iter().all(|other| other.key == got[0].key && other.body == got[0].body), "{got:?}");
    assert_eq!(archive.got().len(), 1, "the other target is not asked again");
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_mended_and_sent_again() {
    let (_place, crm, archive, running) = start().await;
    crm.behave(|_| says(400));
    running.order("R-2", "c").await;
    let letter = running.one_letter().await;
    until("the archive", async || archive.took().len() == 1).await;
    assert_eq!((letter.summary.target.as_deref(), letter.summary.key.as_deref()), (Some("crm/put"), Some("R-2")));
    assert_eq!((letter.summary.cause.as_str(), letter.summary.attempts), ("refused", 1));
    let attempt = &letter.attempts[0];
    assert!(
        attempt.sent.as_deref().is_some_and(|sent| sent.contains("POST /orders") && sent.contains("R-2")),
        "{attempt:?}"
    );
    assert!(
        attempt.answered.as_deref().is_some_and(|said| said.contains("400") && said.contains("说了算")),
        "{attempt:?}"
    );

    let letters = &running.gateway.letters;
    let id = letter.summary.id;
    let bad = letters.edit(id, letter.summary.revision, br#"{"orderNo":"R-2","status":"x","amount":-1}"#, "ann").await;
    let bad = bad.expect_err("it is no order.paid");
    assert_eq!(bad.code, Code::Invalid);
    let pointers: Vec<_> = bad.violations.iter().map(|one| one.pointer.as_str()).collect();
    assert!(pointers.contains(&"/status") && pointers.contains(&"/amount"), "{pointers:?}");
    let bad = letters.edit(id, letter.summary.revision, b"{", "ann").await.expect_err("no JSON");
    assert_eq!(bad.code, Code::Malformed);

    let mended = String::from_utf8(letter.body.to_vec()).expect("UTF-8").replace("\"c\"", "\"d\"");
    letters.edit(id, letter.summary.revision, mended.as_bytes(), "ann").await.expect("it is sound");
    let late = letters.edit(id, letter.summary.revision, mended.as_bytes(), "bob").await.expect_err("ann was faster");
    assert_eq!(late.code, Code::Conflict);
    crm.behave(|_| says(200));
    let replayed = letters.replay(&[id], "ann").await.expect("the store");
    assert!(replayed.iter().all(|one| one.refused.is_none()), "{replayed:?}");
    until("the letter to be resolved", async || running.letters(State::Resolved).await.len() == 1).await;
    let again = letters.replay(&[id], "bob").await.expect("the store");
    assert!(again[0].refused.is_some(), "a settled letter is not sent again: {again:?}");
    running.drained().await;
    let got = crm.got();
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!((got[1].key.as_str(), got[1].json()["customer"].as_str()), (got[0].key.as_str(), Some("d")));
    assert_eq!(got[0].key, letter.summary.delivery_id);
    assert_eq!(archive.got().len(), 1, "a replay goes to the target that it failed at, only");
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_fails_again_counts_on_and_can_be_discarded() {
    let (_place, crm, _archive, running) = start().await;
    crm.behave(|_| says(500));
    running.order("R-3", "c").await;
    let first = running.one_letter().await;
    let numbers = |letter: &gatehouse_store::Letter| letter.attempts.iter().map(|one| one.number).collect::<Vec<_>>();
    assert_eq!((numbers(&first), first.summary.cause.as_str()), (vec![1, 2, 3], "bad-answer"));
    let letters = &running.gateway.letters;
    let id = first.summary.id;
    letters.replay(&[id], "ann").await.expect("the store");
    until("three attempts more", async || {
        letters
            .store()
            .letter(id)
            .await
            .is_ok_and(|letter| letter.summary.state == State::Open && letter.attempts.len() == 6)
    })
    .await;
    let second = running.one_letter().await;
    assert_eq!((second.summary.id, numbers(&second)), (id, vec![1, 2, 3, 4, 5, 6]));
    letters.store().discard(id, "the order was cancelled", "ann").await.expect("it is open");
    let gone = letters.store().letter(id).await.expect("the letter");
    assert_eq!(gone.summary.state, State::Discarded);
    assert_eq!(gone.summary.discarded.as_deref(), Some("the order was cancelled"));
    let refused = letters.replay(&[id], "bob").await.expect("the store");
    assert!(refused[0].refused.is_some(), "{refused:?}");
    running.drained().await;
    assert_eq!(crm.got().len(), 6);
    running.gateway.stop().await;
}
