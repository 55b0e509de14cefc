//! What every store must do with lines: whoever stands in one keeps its place, and only the first of a key is told to go.

use gatehouse_store::{Head, PARKED, State, Store};

use super::place::Place;
use super::{LEASE, letter};

const LINE: &str = "gatehouse.work.orders.crm.put";

async fn stand(store: &dyn Store, key: &str, id: &str) -> Option<String> {
    store.stand_in_line(LINE, key, id, false).await.unwrap()
}

/// A letter of this delivery, which waits for others.
async fn park(store: &dyn Store, id: &str) -> i64 {
    let parked = gatehouse_store::NewLetter { cause: PARKED.into(), ..letter(id) };
    store.put_letter(parked).await.unwrap()
}

async fn heads(store: &dyn Store) -> Vec<(String, bool)> {
    let heads = store.heads(10).await.unwrap();
    heads.into_iter().map(|head| (head.delivery_id, head.over)).collect()
}

pub(super) async fn a_line_is_kept_in_its_order(place: &Place) {
    let store = place.open().await;
    let store = store.as_ref();
    assert_eq!(stand(store, "k", "a").await, None, "nobody stands there");
    assert_eq!(stand(store, "k", "b").await, None, "who may go does not stay");
    assert_eq!(store.stand_in_line(LINE, "k", "a", true).await.unwrap(), None);
    for id in ["b", "c"] {
        assert_eq!(stand(store, "k", id).await.as_deref(), Some("a"));
        assert_eq!(stand(store, "k", id).await.as_deref(), Some("a"), "once more");
    }
    assert_eq!(stand(store, "k", "a").await, None, "it is the first");
    assert_eq!(store.stand_in_line(LINE, "k", "a", true).await.unwrap(), None, "and it keeps its place");
    assert_eq!(stand(store, "other", "d").await, None);
    assert_eq!(store.stand_in_line("another", "k", "d", false).await.unwrap(), None);
    let long = "长".repeat(5000);
    assert_eq!(store.stand_in_line(LINE, &long, &long, true).await.unwrap(), None);
    assert!(stand(store, &long, "e\0").await.is_some());
    store.leave_line(&long).await.unwrap();
    assert_eq!(stand(store, &long, "e\0").await, None);
    // Another gateway, and the next start, see the same.
    assert_eq!(stand(place.open().await.as_ref(), "k", "c").await.as_deref(), Some("a"));
}

pub(super) async fn the_first_of_a_line_goes_when_it_need_not_wait(place: &Place) {
    let store = place.open().await;
    let store = store.as_ref();
    store.stand_in_line(LINE, "k", "a", true).await.unwrap();
    for id in ["b", "c", "d"] {
        assert!(stand(store, "k", id).await.is_some());
    }
    assert_eq!(heads(store).await, [], "no letter is there yet");
    let (first, second) = (store.put_letter(letter("a")).await.unwrap(), park(store, "b").await);
    let third = park(store, "c").await;
    assert_eq!(heads(store).await, [], "the first needs a person");

    store.claim(&[first], "support", LEASE).await.unwrap();
    store.mark_published(first).await.unwrap();
    assert_eq!(heads(store).await, [], "it is on its way");
    assert!(store.resolve("a").await.unwrap());
    assert_eq!(heads(store).await, [("a".to_owned(), true)]);
    store.leave_line("a").await.unwrap();
    store.leave_line("a").await.unwrap();
    let head = Head { line: LINE.into(), delivery_id: "b".into(), letter: second, over: false };
    assert_eq!(store.heads(10).await.unwrap(), [head]);
    store.claim(&[second], "gatehouse", LEASE).await.unwrap();
    assert_eq!(heads(store).await, [("b".to_owned(), false)], "whoever has claimed it may be dead");
    store.mark_published(second).await.unwrap();
    assert_eq!(heads(store).await, []);

    // It dies of its own now: again a person is needed, and discards it.
    let mut died = letter("b");
    let again = gatehouse_store::Attempt { at: jiff::Timestamp::now(), ..super::attempt(9, 0) };
    died.attempts.push(again);
    store.put_letter(died).await.unwrap();
    assert_eq!(store.letter(second).await.unwrap().summary.state, State::Open);
    assert_eq!(heads(store).await, []);
    store.discard(second, "it is void", "support").await.unwrap();
    assert_eq!(heads(store).await, [("b".to_owned(), true)]);
    store.leave_line("b").await.unwrap();
    assert_eq!(heads(store).await, [("c".to_owned(), false)]);

    // The longest in line first, and no more than asked for.
    for n in 0..3 {
        store.stand_in_line(LINE, &format!("k{n}"), &format!("x{n}"), true).await.unwrap();
        park(store, &format!("x{n}")).await;
    }
    let heads = store.heads(2).await.unwrap();
    assert_eq!(heads.iter().map(|head| head.letter).collect::<Vec<_>>()[0], third);
    assert_eq!(heads.len(), 2);
}
