//! What every store must do, once for SQLite and once for PostgreSQL (`GATEHOUSE_TEST_POSTGRES`). What only one of them can
//! be asked stands in `store/only.rs`; ledger, audit and
//! the whole stand in `store/whole.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

#[path = "store/backfills.rs"]
mod backfills;
#[path = "store/lines.rs"]
mod lines;
#[path = "store/merged.rs"]
mod merged;
#[path = "store/only.rs"]
mod only;
#[path = "store/place.rs"]
mod place;
#[path = "store/whole.rs"]
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backfills::{a_backfill_goes_slice_by_slice, a_backfill_is_turned_by_its_rules};
use bytes::Bytes;
use gatehouse_store::{Attempt, Filter, NewLetter, Seen, State, Store, StoreError};
use lines::{a_line_is_kept_in_its_order, the_first_of_a_line_goes_when_it_need_not_wait};
use merged::one_changes_a_merged_record_at_a_time;
use place::Place;
use whole::{
    a_locked_store_is_unavailable_and_recovers, a_newer_store_is_left_alone, it_says_what_it_is,
    only_the_newest_reader_saves_its_place, the_audit_is_a_chain, the_first_to_remember_wins,
    the_ledger_forgets_what_is_old_only, what_is_done_is_known, what_was_stored_is_there_after_reopening,
};

/// No case may take longer.
const DEADLINE: Duration = Duration::from_secs(90);

const LEASE: Duration = Duration::from_secs(60);

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let place = super::Place::sqlite();
                tokio::time::timeout(super::DEADLINE, super::$case(&place)).await.unwrap();
                place.clean().await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(place) = super::Place::postgres() else { return };
                tokio::time::timeout(super::DEADLINE, super::$case(&place)).await.unwrap();
                place.clean().await;
            })*
        }
    };
}

cases![
    a_letter_comes_back_as_it_was_put,
    what_cannot_be_parsed_is_stored_all_the_same,
    put_twice_changes_nothing,
    the_same_death_at_once_from_many_is_one_letter,
    new_attempts_are_added_and_open_it_again,
    a_replay_that_counts_from_one_again_opens_it_again,
    what_is_discarded_stays_so,
    one_of_many_claims_wins,
    a_lease_that_passed_can_be_claimed_again,
    an_outcome_may_be_faster_than_its_mark,
    only_what_is_claimed_can_be_marked_or_released,
    resolving_tells_whether_there_was_one,
    one_of_many_edits_wins,
    an_edit_keeps_the_first_body,
    only_an_open_letter_can_be_edited_or_discarded,
    filters_select,
    pages_neither_skip_nor_repeat,
    the_first_to_remember_wins,
    what_is_done_is_known,
    only_the_newest_reader_saves_its_place,
    a_backfill_goes_slice_by_slice,
    a_backfill_is_turned_by_its_rules,
    one_changes_a_merged_record_at_a_time,
    a_line_is_kept_in_its_order,
    the_first_of_a_line_goes_when_it_need_not_wait,
    the_ledger_forgets_what_is_old_only,
    the_audit_is_a_chain,
    a_locked_store_is_unavailable_and_recovers,
    what_was_stored_is_there_after_reopening,
    a_newer_store_is_left_alone,
    it_says_what_it_is,
];

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn attempt(number: u32, second: i64) -> Attempt {
    Attempt {
        number,
        at: at(second),
        instance: "gw-1".into(),
        code: "refused".into(),
        text: format!("客户被冻结 ({number})"),
        sent: Some("<SalesOrder/>".into()),
        answered: None,
    }
}

fn letter(delivery_id: &str) -> NewLetter {
    NewLetter {
        delivery_id: delivery_id.into(),
        message_id: format!("m-{delivery_id}"),
        route: Some("shop-order-paid".into()),
        target: Some("erp/CreateSalesOrder".into()),
        source: "shop/orders".into(),
        kind: Some("order.paid".into()),
        key: Some("订单-4711".into()),
        cause: "refused".into(),
        fingerprint: "refused: customer … is blocked".into(),
        attempts: vec![attempt(1, 1), attempt(2, 2)],
        headers: BTreeMap::from([("gatehouse-route".into(), "shop-order-paid".into()), ("备注".into(), "加急".into())]),
        body: Bytes::from_static("{\"orderNo\":\"订单-4711\"}".as_bytes()),
        content_type: "application/json".into(),
    }
}

async fn state(store: &dyn Store, id: i64) -> State {
    store.letter(id).await.unwrap().summary.state
}

fn conflict<T>(outcome: Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Conflict(_)))
}

async fn a_letter_comes_back_as_it_was_put(place: &Place) {
    let store = place.open().await;
    let body: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let new = NewLetter { body: body.clone().into(), ..letter("d-1") };
    let id = store.put_letter(new.clone()).await.unwrap();
    let found = store.letter(id).await.unwrap();
    assert_eq!(found.body, body);
    assert_eq!(found.original, None);
    assert_eq!(found.headers, new.headers);
    assert_eq!(found.attempts, new.attempts);
    assert_eq!((found.fingerprint, found.content_type), (new.fingerprint, new.content_type));
    let summary = found.summary;
    assert_eq!((summary.id, summary.state, summary.attempts, summary.revision), (id, State::Open, 2, 0));
    assert_eq!((summary.delivery_id, summary.message_id), (new.delivery_id, new.message_id));
    assert_eq!((summary.route, summary.target, summary.source), (new.route, new.target, new.source));
    assert_eq!((summary.kind, summary.key, summary.cause), (new.kind, new.key, new.cause));
    assert_eq!((summary.text.as_str(), summary.created, summary.discarded), ("客户被冻结 (2)", at(2), None));
    assert!(matches!(store.letter(id + 1).await, Err(StoreError::Missing(missing)) if missing == id + 1));
}

async fn what_cannot_be_parsed_is_stored_all_the_same(place: &Place) {
    let store = place.open().await;
    let body = Bytes::from_static(b"\xff\xfe\0\x01<not xml");
    let raw = NewLetter {
        delivery_id: "长".repeat(3_000),
        message_id: "nul\0inside".into(),
        route: None,
        target: None,
        source: "unknown".into(),
        kind: None,
        key: Some("k".repeat(5_000)),
        cause: "unparsed".into(),
        fingerprint: "unparsed".into(),
        attempts: Vec::new(),
        headers: BTreeMap::from([("odd\0".into(), "\0value".into())]),
        body: body.clone(),
        content_type: String::new(),
    };
    let id = store.put_letter(raw.clone()).await.unwrap();
    assert_eq!(store.put_letter(raw.clone()).await.unwrap(), id);
    let found = store.letter(id).await.unwrap();
    assert_eq!((found.body, found.headers, found.summary.key), (body, raw.headers, raw.key.clone()));
    for filter in [
        Filter { key: raw.key, ..Filter::default() },
        Filter { message_id: Some(raw.message_id), ..Filter::default() },
        Filter { cause: Some("unparsed".into()), ..Filter::default() },
    ] {
        assert_eq!(store.letters(&filter, 10, None).await.unwrap().len(), 1, "{filter:?}");
    }
    store.claim(&[id], "li", LEASE).await.unwrap();
    assert!(store.resolve(&raw.delivery_id).await.unwrap());
    let seen = Seen { source: "s\0".into(), message_id: "m".repeat(4_000), body_hash: [7; 32] };
    store.remember(std::slice::from_ref(&seen)).await.unwrap();
    assert_eq!(store.seen(&seen.source, &seen.message_id).await.unwrap(), Some(seen));
}

async fn put_twice_changes_nothing(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    let before = store.letter(id).await.unwrap();
    let different = NewLetter { cause: "other".into(), body: Bytes::from_static(b"other"), ..letter("d") };
    assert_eq!(store.put_letter(different).await.unwrap(), id);
    assert_eq!(store.letter(id).await.unwrap(), before);
    // A claim is not disturbed by the old death, told again.
    store.claim(&[id], "li", LEASE).await.unwrap();
    store.put_letter(letter("d")).await.unwrap();
    assert_eq!(state(&*store, id).await, State::Claimed);
    assert_eq!(store.letters(&Filter::default(), 10, None).await.unwrap().len(), 1);
}

async fn the_same_death_at_once_from_many_is_one_letter(place: &Place) {
    let store = place.open().await;
    let puts = (0..32).map(|_| store.put_letter(letter("d")));
    let ids: BTreeSet<i64> = futures_util::future::join_all(puts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);
    let found = store.letters(&Filter::default(), 10, None).await.unwrap();
    assert_eq!((found.len(), found[0].attempts), (1, 2));
}

async fn new_attempts_are_added_and_open_it_again(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    store.claim(&[id], "li", LEASE).await.unwrap();
    store.mark_published(id).await.unwrap();
    assert_eq!(state(&*store, id).await, State::Published);
    let mut third = attempt(3, 30);
    third.code = "deadline".into();
    let died = NewLetter {
        attempts: vec![attempt(1, 1), attempt(2, 2), third.clone()],
        cause: "deadline".into(),
        fingerprint: "deadline: too slow".into(),
        ..letter("d")
    };
    assert_eq!(store.put_letter(died).await.unwrap(), id);
    let found = store.letter(id).await.unwrap();
    assert_eq!((found.summary.state, found.summary.attempts, found.summary.text), (State::Open, 3, third.text.clone()));
    assert_eq!((found.summary.cause.as_str(), found.fingerprint.as_str()), ("deadline", "deadline: too slow"));
    assert_eq!((found.attempts.len(), found.attempts.last()), (3, Some(&third)));
    assert_eq!(found.summary.created, at(2), "when it first died");
    // Resolved, and dead once more after all.
    store.claim(&[id], "li", LEASE).await.unwrap();
    assert!(store.resolve("d").await.unwrap());
    store.put_letter(NewLetter { attempts: vec![attempt(4, 40)], ..letter("d") }).await.unwrap();
    assert_eq!(state(&*store, id).await, State::Open);
}

async fn a_replay_that_counts_from_one_again_opens_it_again(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    store.claim(&[id], "li", LEASE).await.unwrap();
    store.mark_published(id).await.unwrap();
    let mut recounted = attempt(1, 0);
    recounted.at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    store.put_letter(NewLetter { attempts: vec![recounted], ..letter("d") }).await.unwrap();
    let found = store.letter(id).await.unwrap();
    let numbers: Vec<u32> = found.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!((found.summary.state, numbers), (State::Open, vec![1, 2, 3]));
}

async fn what_is_discarded_stays_so(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    store.discard(id, "订单已作废", "li").await.unwrap();
    store.put_letter(NewLetter { attempts: vec![attempt(3, 30)], ..letter("d") }).await.unwrap();
    let found = store.letter(id).await.unwrap().summary;
    assert_eq!((found.state, found.discarded.as_deref(), found.attempts), (State::Discarded, Some("订单已作废"), 3));
    assert!(store.claim(&[id], "li", LEASE).await.unwrap().is_empty());
}

async fn one_of_many_claims_wins(place: &Place) {
    // Two gateways, a hundred people each.
    let stores = [place.open().await, place.open().await];
    let id = stores[0].put_letter(letter("d")).await.unwrap();
    let claims = (0..200).map(|i| {
        let store = stores[i % 2].clone();
        tokio::spawn(async move { store.claim(&[id], &format!("person {i}"), LEASE).await.unwrap() })
    });
    let mut taken = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        taken.extend(claim.await.unwrap());
    }
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].summary.id, taken[0].summary.state), (id, State::Claimed));
    // Of several only those that are free, each once, in the order asked for.
    let more = [stores[0].put_letter(letter("e")).await.unwrap(), stores[0].put_letter(letter("f")).await.unwrap()];
    let took = stores[1].claim(&[more[1], id, more[0], more[1], 999_999], "li", LEASE).await.unwrap();
    assert_eq!(took.iter().map(|letter| letter.summary.id).collect::<Vec<_>>(), [more[1], more[0]]);
    assert!(stores[1].claim(&[], "li", LEASE).await.unwrap().is_empty());
}

async fn a_lease_that_passed_can_be_claimed_again(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    for published in [false, true] {
        assert_eq!(store.claim(&[id], "li", Duration::from_millis(200)).await.unwrap().len(), 1);
        if published {
            store.mark_published(id).await.unwrap();
        }
        assert!(store.claim(&[id], "wang", LEASE).await.unwrap().is_empty(), "the lease still holds");
        let mut tries = 0;
        // Every try that wins takes it for a moment only.
        while store.claim(&[id], "wang", Duration::ZERO).await.unwrap().is_empty() {
            tries += 1;
            assert!(tries < 500, "the lease never passes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // A long lease is no error.
    assert_eq!(store.claim(&[id], "li", Duration::MAX).await.unwrap().len(), 1);
    store.mark_published(id).await.unwrap();
}

async fn an_outcome_may_be_faster_than_its_mark(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    store.claim(&[id], "li", LEASE).await.unwrap();
    assert!(store.resolve("d").await.unwrap());
    store.mark_published(id).await.unwrap();
    store.release(id).await.unwrap();
    assert_eq!(state(&*store, id).await, State::Resolved);

    let id = store.put_letter(letter("e")).await.unwrap();
    store.claim(&[id], "li", LEASE).await.unwrap();
    store.put_letter(NewLetter { attempts: vec![attempt(3, 30)], ..letter("e") }).await.unwrap();
    store.mark_published(id).await.unwrap();
    assert_eq!(state(&*store, id).await, State::Open, "it died again, and a late mark must not hide that");
}

async fn only_what_is_claimed_can_be_marked_or_released(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    assert!(conflict(store.mark_published(id).await));
    assert!(conflict(store.release(id).await));
    assert!(matches!(store.mark_published(id + 1).await, Err(StoreError::Missing(_))));
    assert!(matches!(store.release(id + 1).await, Err(StoreError::Missing(_))));
    store.claim(&[id], "li", LEASE).await.unwrap();
    store.release(id).await.unwrap();
    assert_eq!(state(&*store, id).await, State::Open);
    assert!(conflict(store.release(id).await));
    assert_eq!(store.claim(&[id], "wang", LEASE).await.unwrap().len(), 1);
}

async fn resolving_tells_whether_there_was_one(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    assert!(!store.resolve("d").await.unwrap(), "an open letter is nobody's replay");
    assert!(!store.resolve("elsewhere").await.unwrap());
    store.claim(&[id], "li", LEASE).await.unwrap();
    store.mark_published(id).await.unwrap();
    assert!(store.resolve("d").await.unwrap());
    assert!(!store.resolve("d").await.unwrap());
    assert_eq!(state(&*store, id).await, State::Resolved);
    assert!(store.claim(&[id], "li", LEASE).await.unwrap().is_empty());
}

async fn one_of_many_edits_wins(place: &Place) {
    let stores = [place.open().await, place.open().await];
    let id = stores[0].put_letter(letter("d")).await.unwrap();
    let edits = (0..16).map(|i| {
        let store = stores[i % 2].clone();
        tokio::spawn(async move { store.edit(id, 0, Bytes::from(format!("edit {i}")), "li").await })
    });
    let mut won = 0;
    for edit in edits.collect::<Vec<_>>() {
        match edit.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, StoreError::Conflict(_)), "{error}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(stores[0].letter(id).await.unwrap().summary.revision, 1);
    let audit = stores[0].audit_entries(100).await.unwrap();
    assert_eq!(audit.len(), 1, "a refused edit is no edit");
    assert_eq!((audit[0].action.as_str(), audit[0].subject.clone()), ("letter.edit", format!("letter:{id}")));
}

async fn an_edit_keeps_the_first_body(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    store.edit(id, 0, Bytes::from_static(b"second"), "li").await.unwrap();
    store.edit(id, 1, Bytes::from_static("第三".as_bytes()), "wang").await.unwrap();
    let found = store.letter(id).await.unwrap();
    assert_eq!(found.body, "第三");
    assert_eq!(found.original, Some(letter("d").body));
    assert_eq!(found.summary.revision, 2);
    let taken = store.claim(&[id], "li", LEASE).await.unwrap();
    assert_eq!(taken[0].body, "第三");
    // It dies again, with the body that it was sent with: what was edited stays.
    store.put_letter(NewLetter { attempts: vec![attempt(3, 30)], ..letter("d") }).await.unwrap();
    assert_eq!(store.letter(id).await.unwrap().body, "第三");
}

async fn only_an_open_letter_can_be_edited_or_discarded(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    assert!(matches!(store.edit(id + 1, 0, Bytes::new(), "li").await, Err(StoreError::Missing(_))));
    assert!(matches!(store.discard(id + 1, "", "li").await, Err(StoreError::Missing(_))));
    store.claim(&[id], "li", LEASE).await.unwrap();
    assert!(conflict(store.edit(id, 0, Bytes::from_static(b"x"), "wang").await));
    assert!(conflict(store.discard(id, "no", "wang").await));
    store.release(id).await.unwrap();
    store.discard(id, "不再需要", "wang").await.unwrap();
    assert!(conflict(store.discard(id, "again", "wang").await));
    let audit = store.audit_entries(10).await.unwrap();
    assert_eq!(audit.len(), 1);
    assert_eq!((audit[0].actor.as_str(), audit[0].action.as_str()), ("wang", "letter.discard"));
    assert_eq!((audit[0].subject.clone(), audit[0].detail.as_str()), (format!("letter:{id}"), "不再需要"));
}

async fn filters_select(place: &Place) {
    let store = place.open().await;
    let some = |text: &str| Some(text.to_owned());
    let crm = NewLetter {
        target: some("crm/upsert_order"),
        route: some("crm-orders"),
        key: some("100%_订单"),
        cause: "deadline".into(),
        fingerprint: "deadline: no answer in #% of _ tries".into(),
        attempts: vec![attempt(1, 100)],
        ..letter("crm")
    };
    let erp = store.put_letter(letter("erp")).await.unwrap();
    let crm = store.put_letter(crm).await.unwrap();
    let back =
        store.put_letter(NewLetter { source: "erp/events".into(), target: None, ..letter("back") }).await.unwrap();
    store.discard(back, "no", "li").await.unwrap();
    let filter = Filter::default;
    let cases = [
        (filter(), vec![back, crm, erp]),
        (Filter { state: Some(State::Open), ..filter() }, vec![crm, erp]),
        (Filter { state: Some(State::Discarded), ..filter() }, vec![back]),
        (Filter { route: some("crm-orders"), ..filter() }, vec![crm]),
        (Filter { target: some("erp/CreateSalesOrder"), ..filter() }, vec![erp]),
        (Filter { target: some("erp"), ..filter() }, vec![]),
        (Filter { system: some("erp"), ..filter() }, vec![back, erp]),
        (Filter { system: some("shop"), ..filter() }, vec![crm, erp]),
        (Filter { system: some("er"), ..filter() }, vec![]),
        (Filter { system: some("crm/upsert_order"), ..filter() }, vec![]),
        (Filter { cause: some("refused"), ..filter() }, vec![back, erp]),
        (Filter { cause: some("is blocked"), ..filter() }, vec![back, erp]),
        (Filter { cause: some("#% of _"), ..filter() }, vec![crm]),
        (Filter { cause: some("%"), ..filter() }, vec![crm]),
        (Filter { cause: some("_ans_er"), ..filter() }, vec![]),
        (Filter { cause: some("' OR 1=1 --"), ..filter() }, vec![]),
        (Filter { key: some("订单-4711"), ..filter() }, vec![back, erp]),
        (Filter { key: some("100%_订单"), ..filter() }, vec![crm]),
        (Filter { key: some("订单"), ..filter() }, vec![]),
        (Filter { message_id: some("m-crm"), ..filter() }, vec![crm]),
        (Filter { since: Some(at(100)), ..filter() }, vec![crm]),
        (Filter { until: Some(at(100)), ..filter() }, vec![back, erp]),
        (Filter { since: Some(at(2)), until: Some(at(3)), ..filter() }, vec![back, erp]),
        (Filter { system: some("erp"), state: Some(State::Open), key: some("订单-4711"), ..filter() }, vec![erp]),
    ];
    for (filter, expected) in cases {
        let found = store.letters(&filter, 100, None).await.unwrap();
        assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), expected, "{filter:?}");
        let counted: u64 = store.count_letters(&filter).await.unwrap().values().sum();
        assert_eq!(counted, expected.len() as u64, "{filter:?}");
    }
    let counted = store.count_letters(&Filter::default()).await.unwrap();
    assert_eq!(counted, BTreeMap::from([("open".to_owned(), 2), ("discarded".to_owned(), 1)]));
}

async fn pages_neither_skip_nor_repeat(place: &Place) {
    let store = place.open().await;
    for start in (0..500).step_by(50) {
        let puts = (start..start + 50).map(|i| {
            let key = Some(if i % 5 == 0 { "五" } else { "其他" }.to_owned());
            store.put_letter(NewLetter { key, ..letter(&format!("d-{i}")) })
        });
        futures_util::future::try_join_all(puts).await.unwrap();
    }
    for (filter, expected) in [
        (Filter::default(), 500),
        (Filter { key: Some("五".into()), system: Some("erp".into()), ..Filter::default() }, 100),
    ] {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = store.letters(&filter, 37, after).await.unwrap();
            assert!(page.len() <= 37);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            ids.extend(page.iter().map(|one| one.id));
        }
        assert_eq!(ids.len(), expected);
        assert!(ids.is_sorted_by(|a, b| a > b), "newest first");
    }
}
