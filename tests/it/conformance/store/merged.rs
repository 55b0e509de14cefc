//! What every store must do with merged records: one changes a record at a time, and whoever has lost it cannot save.

use std::time::Duration;

use gatehouse_store::{Held, Store, StoreError};

use super::place::Place;

/// Takes a record, waiting until its lease has passed.
async fn take(store: &dyn Store, key: &str, lease: Duration) -> Held {
    loop {
        match store.take_merged("customers", key, lease).await.unwrap() {
            Some(held) => return held,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

pub(super) async fn one_changes_a_merged_record_at_a_time(place: &Place) {
    let store = place.open().await;
    let lease = Duration::from_millis(300);
    let key = r#"["张三","13800138000"]"#;
    let first = take(store.as_ref(), key, lease).await;
    assert_eq!(first.value, None);
    // Its gateway stands still; another takes it once the lease has passed, and is faster.
    let second = take(place.open().await.as_ref(), key, lease).await;
    store.save_merged("customers", key, second.epoch, "{\"v\":1,\"n\":12345678901234567890}").await.unwrap();
    let late = store.save_merged("customers", key, first.epoch, "late").await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    store.free_merged("customers", key, first.epoch).await.unwrap();
    // Saved, it is free at once; given free, it stands as it was.
    let third = store.take_merged("customers", key, Duration::from_secs(60)).await.unwrap().expect("it was given free");
    assert_eq!(third.value.as_deref(), Some("{\"v\":1,\"n\":12345678901234567890}"));
    store.free_merged("customers", key, third.epoch).await.unwrap();
    let fourth =
        store.take_merged("customers", key, Duration::from_secs(60)).await.unwrap().expect("it was given free");
    assert_eq!(fourth.value, third.value);
    store.save_merged("customers", key, fourth.epoch, "newer").await.unwrap();
    assert_eq!(take(place.open().await.as_ref(), key, lease).await.value.as_deref(), Some("newer"));
    // Routes and keys are their own, keys of any length too.
    let long = "长".repeat(5000);
    for (route, key) in [("customers", "other"), ("others", key), ("customers", long.as_str())] {
        let held = store.take_merged(route, key, lease).await.unwrap().expect("nobody has it");
        assert_eq!(held.value, None);
        store.save_merged(route, key, held.epoch, route).await.unwrap();
    }
}
