//! What every store must do with backfills: slices that are saved by comparing, states that are turned, acts that are audited.

use gatehouse_core::backfill::Slice;
use gatehouse_store::{BackfillState, NewBackfill, StoreError, Tally, Turn};

use super::place::Place;

fn new(slices: usize) -> NewBackfill {
    let slice = |number: usize| Slice {
        table: "销售.订单".into(),
        by: "id".into(),
        from: Some((number * 100).to_string()),
        to: (number + 1 < slices).then(|| ((number + 1) * 100).to_string()),
    };
    NewBackfill {
        route: "orders".into(),
        endpoint: "finance/订单".into(),
        again: false,
        rate: "25/s".into(),
        expected: Some(250),
        slices: (0..slices).map(slice).collect(),
        actor: "王".into(),
    }
}

fn tally(accepted: u64, refused: u64) -> Tally {
    Tally { read: accepted + refused, accepted, refused, ..Tally::default() }
}

pub(super) async fn a_backfill_goes_slice_by_slice(place: &Place) {
    let store = place.open().await;
    let id = store.put_backfill(&new(2)).await.unwrap();
    let found = store.backfill(id).await.unwrap();
    assert_eq!((found.state, found.slices, found.slices_done), (BackfillState::Running, 2, 0));
    assert_eq!(
        (found.route.as_str(), found.endpoint.as_str(), found.rate.as_str()),
        ("orders", "finance/订单", "25/s")
    );
    assert_eq!((found.expected, found.actor.as_str(), found.again), (Some(250), "王", false));
    store.save_slice(id, 1, None, Some("[50]"), tally(50, 0)).await.unwrap();
    // Two who read for a moment: only the one who knew where it was counts.
    for seen in [None, Some("[49]")] {
        let late = store.save_slice(id, 1, seen, Some("[70]"), tally(70, 0)).await;
        assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    }
    store.save_slice(id, 1, Some("[50]"), None, tally(49, 1)).await.unwrap();
    let done_before = store.save_slice(id, 1, Some("[50]"), None, tally(49, 1)).await;
    assert!(matches!(done_before, Err(StoreError::Conflict(_))), "{done_before:?}");
    let again = place.open().await;
    let slices = again.backfill_slices(id).await.unwrap();
    assert_eq!(slices.iter().map(|slice| slice.slice.clone()).collect::<Vec<_>>(), new(2).slices);
    assert_eq!((slices[0].done, slices[0].after.as_deref(), slices[0].tally), (true, Some("[50]"), tally(99, 1)));
    assert_eq!((slices[1].done, slices[1].after.as_deref(), slices[1].tally), (false, None, Tally::default()));
    assert_eq!(store.backfill(id).await.unwrap().slices_done, 1);
    store.save_slice(id, 2, None, None, tally(150, 0)).await.unwrap();
    let found = store.backfill(id).await.unwrap();
    assert_eq!((found.state, found.slices_done, found.tally), (BackfillState::Done, 2, tally(249, 1)));
    assert!(matches!(store.backfill(id + 1).await, Err(StoreError::MissingBackfill(_))));
}

pub(super) async fn a_backfill_is_turned_by_its_rules(place: &Place) {
    let store = place.open().await;
    let id = store.put_backfill(&new(1)).await.unwrap();
    let other = store.put_backfill(&new(1)).await.unwrap();
    assert!(matches!(store.turn_backfill(id, &Turn::Resume, "li").await, Err(StoreError::Conflict(_))));
    store.turn_backfill(id, &Turn::Pause, "li").await.unwrap();
    let running = store.backfills(Some(BackfillState::Running), 10).await.unwrap();
    assert_eq!(running.iter().map(|found| found.id).collect::<Vec<_>>(), [other]);
    // What was under way is saved all the same.
    store.save_slice(id, 1, None, Some("[1]"), tally(7, 0)).await.unwrap();
    store.turn_backfill(id, &Turn::Resume, "li").await.unwrap();
    store.turn_backfill(id, &Turn::Halt("no column `id`\0".into()), "gw-1").await.unwrap();
    assert_eq!(store.backfill(id).await.unwrap().problem.as_deref(), Some("no column `id`␀"));
    store.turn_backfill(id, &Turn::Resume, "li").await.unwrap();
    assert_eq!(store.backfill(id).await.unwrap().problem, None);
    store.turn_backfill(id, &Turn::Cancel, "wang").await.unwrap();
    store.save_slice(id, 1, Some("[1]"), None, tally(1, 0)).await.unwrap();
    let found = store.backfill(id).await.unwrap();
    assert_eq!((found.state, found.tally.read), (BackfillState::Cancelled, 8), "cancelled stays so");
    for turn in [Turn::Pause, Turn::Resume, Turn::Cancel] {
        let refused = store.turn_backfill(id, &turn, "li").await;
        assert!(matches!(&refused, Err(StoreError::Conflict(text)) if text.contains("cancelled")), "{refused:?}");
    }
    assert!(matches!(store.turn_backfill(99, &Turn::Pause, "li").await, Err(StoreError::MissingBackfill(99))));
    assert_eq!(store.backfills(None, 10).await.unwrap().iter().map(|found| found.id).collect::<Vec<_>>(), [other, id]);
    assert_eq!(store.backfills(None, 1).await.unwrap().len(), 1);
    let acts: Vec<_> = store.audit_entries(20).await.unwrap();
    let of: Vec<_> = acts.iter().rev().filter(|act| act.subject == format!("backfill:{id}")).collect();
    let words: Vec<_> = of.iter().map(|act| (act.action.as_str(), act.actor.as_str())).collect();
    let wanted = [
        ("backfill.start", "王"),
        ("backfill.pause", "li"),
        ("backfill.resume", "li"),
        ("backfill.halt", "gw-1"),
        ("backfill.resume", "li"),
        ("backfill.cancel", "wang"),
    ];
    assert_eq!(words, wanted);
    assert!(of[0].detail.contains("route orders, id from 0 to …, 1 slices, 25/s"), "{}", of[0].detail);
    store.verify_audit().await.unwrap();
}
