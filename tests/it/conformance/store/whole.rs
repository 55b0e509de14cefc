//! The rest of what every store must do: the ledger, the audit, and the store as a whole.

use std::time::Duration;

use gatehouse_store::{AuditEntry, Filter, Seen, StoreError};

use super::place::Place;
use super::{at, letter};

pub(super) async fn the_first_to_remember_wins(place: &Place) {
    let store = place.open().await;
    let seen = |id: &str, hash: u8| Seen { source: "shop/订单".into(), message_id: id.into(), body_hash: [hash; 32] };
    assert_eq!(store.seen("shop/订单", "a").await.unwrap(), None);
    store.remember(&[seen("a", 1), seen("b", 2), seen("a", 3)]).await.unwrap();
    store.remember(&[seen("b", 4), seen("c", 5)]).await.unwrap();
    store.remember(&[]).await.unwrap();
    for (id, hash) in [("a", 1), ("b", 2), ("c", 5)] {
        assert_eq!(store.seen("shop/订单", id).await.unwrap(), Some(seen(id, hash)));
    }
    assert_eq!(store.seen("crm/订单", "a").await.unwrap(), None, "an id is its source's own");
    let mut many: Vec<String> = (0..3_000).map(|n| format!("new-{n}")).collect();
    many.extend(["c", "a", "A", "'; --"].map(str::to_owned));
    let mut among = store.seen_among("shop/订单", &many).await.unwrap();
    among.sort_by(|one, other| one.message_id.cmp(&other.message_id));
    assert_eq!(among, [seen("a", 1), seen("c", 5)]);
    assert_eq!(store.seen_among("crm/订单", &many).await.unwrap(), []);
    assert_eq!(store.seen_among("shop/订单", &[]).await.unwrap(), []);
    // The same ids in every order from two gateways at once: nobody is locked out.
    let stores = [place.open().await, store.clone()];
    let writes = (0..40_u8).map(|i| {
        let store = stores[usize::from(i % 2)].clone();
        let mut batch: Vec<Seen> = (0..100).map(|id| seen(&format!("together-{id}"), i)).collect();
        batch.rotate_left(usize::from(i));
        tokio::spawn(async move { store.remember(&batch).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    assert!(store.seen("shop/订单", "together-99").await.unwrap().is_some());
}

pub(super) async fn what_is_done_is_known(place: &Place) {
    let store = place.open().await;
    assert!(!store.is_done("a").await.unwrap());
    store.record_done(&["a".into(), "b".into(), "a".into()]).await.unwrap();
    store.record_done(&["b".into(), "丙".into()]).await.unwrap();
    store.record_done(&[]).await.unwrap();
    for id in ["a", "b", "丙"] {
        assert!(store.is_done(id).await.unwrap(), "{id}");
    }
    assert!(!store.is_done("c").await.unwrap());
}

pub(super) async fn only_the_newest_reader_saves_its_place(place: &Place) {
    let store = place.open().await;
    let lease = Duration::from_millis(300);
    let first = store.take_cursor("finance/付款", lease).await.unwrap().expect("nobody has it");
    assert_eq!(first.value, None);
    store.save_cursor("finance/付款", first.epoch, Some("{\"after\":[12345678901234567890]}"), lease).await.unwrap();
    store.save_cursor("finance/付款", first.epoch, None, lease).await.unwrap();
    // Another gateway, or the next start, once the lease has passed.
    let second = loop {
        match place.open().await.take_cursor("finance/付款", lease).await.unwrap() {
            Some(held) => break held,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(second.value.as_deref(), Some("{\"after\":[12345678901234567890]}"));
    assert!(second.epoch > first.epoch);
    for value in [Some("behind"), None] {
        let late = store.save_cursor("finance/付款", first.epoch, value, lease).await;
        assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    }
    store.free_cursor("finance/付款", first.epoch).await.unwrap();
    store.save_cursor("finance/付款", second.epoch, Some("further"), lease).await.unwrap();
    store.free_cursor("finance/付款", second.epoch).await.unwrap();
    let third = store.take_cursor("finance/付款", lease).await.unwrap().expect("it was given free");
    assert_eq!(third.value.as_deref(), Some("further"));
    assert!(store.take_cursor("finance/other", lease).await.unwrap().is_some(), "each source is its own");
}

pub(super) async fn the_ledger_forgets_what_is_old_only(place: &Place) {
    let store = place.open().await;
    let seen = |i: u32| Seen { source: format!("s/{}", i % 3), message_id: format!("{i}"), body_hash: [1; 32] };
    let old: Vec<Seen> = (0..12_000).map(seen).collect();
    let ids: Vec<String> = (0..12_000).map(|i| format!("d-{i}")).collect();
    store.remember(&old).await.unwrap();
    store.record_done(&ids).await.unwrap();
    assert_eq!(store.forget_before(at(0)).await.unwrap(), 0);
    // Both clocks are this machine's; a moment between keeps the two generations apart.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let border = jiff::Timestamp::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.remember(&[seen(12_001)]).await.unwrap();
    store.record_done(&["new".into()]).await.unwrap();
    assert_eq!(store.forget_before(border).await.unwrap(), 24_000);
    assert!(!store.is_done("d-11999").await.unwrap());
    assert_eq!(store.seen("s/0", "0").await.unwrap(), None);
    assert!(store.is_done("new").await.unwrap());
    assert!(store.seen(&seen(12_001).source, "12001").await.unwrap().is_some());
    assert_eq!(store.forget_before(border).await.unwrap(), 0);
}

pub(super) async fn the_audit_is_a_chain(place: &Place) {
    let stores = [place.open().await, place.open().await];
    assert_eq!(stores[0].verify_audit().await.unwrap(), 0);
    let entry = |i: i64| AuditEntry {
        at: at(i),
        actor: "李".into(),
        action: "letter.replay".into(),
        subject: format!("letter:{i}"),
        detail: "nul\0, and 换行\n".into(),
    };
    let writes: Vec<_> = (0..40)
        .map(|i| {
            let (store, entry) = (stores[i as usize % 2].clone(), entry(i));
            tokio::spawn(async move { store.audit(&entry).await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    stores[0].audit(&entry(99)).await.unwrap();
    let newest = stores[1].audit_entries(10).await.unwrap();
    assert_eq!((newest.len(), newest[0].subject.as_str(), newest[0].at), (10, "letter:99", at(99)));
    assert_eq!(newest[0].detail, "nul␀, and 换行\n");
    assert_eq!(stores[0].verify_audit().await.unwrap(), 41);
    let damaged = async || matches!(stores[0].verify_audit().await, Err(StoreError::Damaged(_)));
    place.sql("UPDATE audit SET actor = '王' WHERE subject = 'letter:7'").await;
    assert!(damaged().await, "an entry was changed");
    place.sql("UPDATE audit SET actor = '李' WHERE subject = 'letter:7'").await;
    assert_eq!(stores[0].verify_audit().await.unwrap(), 41);
    place.sql("DELETE FROM audit WHERE subject = 'letter:99'").await;
    assert!(damaged().await, "the newest entry is missing");
}

pub(super) async fn a_locked_store_is_unavailable_and_recovers(place: &Place) {
    let store = place.open().await;
    let lock = place.lock().await;
    let refused = store.put_letter(letter("d")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    drop(lock);
    // The server takes a moment to see that the lock's holder has gone.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.put_letter(letter("d")).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
    assert_eq!(store.letters(&Filter::default(), 10, None).await.unwrap().len(), 1);
}

pub(super) async fn what_was_stored_is_there_after_reopening(place: &Place) {
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    let before = store.letter(id).await.unwrap();
    store.record_done(&["x".into()]).await.unwrap();
    drop(store);
    let store = place.open().await;
    assert_eq!(store.letter(id).await.unwrap(), before);
    assert!(store.is_done("x").await.unwrap());
    assert_eq!(store.put_letter(letter("e")).await.unwrap(), id + 1);
}

pub(super) async fn a_newer_store_is_left_alone(place: &Place) {
    drop(place.open().await);
    place.sql("INSERT INTO gatehouse_version (version, at) VALUES (99, '2030-01-01T00:00:00Z')").await;
    match place.try_open().await {
        Err(StoreError::Damaged(text)) => assert!(text.contains("version 99"), "{text}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("an older gateway took a newer store"),
    }
}

pub(super) async fn it_says_what_it_is(place: &Place) {
    let store = place.open().await;
    store.put_letter(letter("d")).await.unwrap();
    let about = store.ping().await.unwrap();
    assert!(about.contains("SQL") && about.ends_with("open dead letters: 1"), "{about}");
    assert!(!about.contains("postgres://"), "{about}");
}
