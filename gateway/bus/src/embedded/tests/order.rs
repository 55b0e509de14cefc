//! The order of a queue, and the memory it takes, across memory, pages of the file and a restart.

use super::{A, SOON, drain, next, open, open_with, parcel};
use crate::embedded::Options;
use crate::{Bus, Delivered};

/// More than is kept ready in memory, published before, while and after a consumer is there, and given back in between.
#[tokio::test]
async fn a_long_backlog_keeps_its_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus.db");
    let publish = async |bus: &crate::embedded::Embedded, range: std::ops::Range<usize>| {
        // One after the other: only those have an order.
        for n in range {
            bus.publish(A, parcel(n.to_string(), 50), SOON).await.expect("confirmed");
        }
    };
    let bus = open_with(&path, Options { body_memory: 10_000, ..Options::default() }).await;
    publish(&bus, 0..1400).await;
    let mut consumer = bus.consume(A, 3).await.expect("consumes");
    let mut expected = 0;
    let mut again = None;
    while expected < 2600 {
        let Delivered { parcel, settlement, redelivered } = next(&mut consumer).await;
        assert_eq!(parcel.id, expected.to_string());
        if again == Some(expected) {
            assert!(redelivered);
        } else if expected % 100 == 0 {
            // Three are out: all go back, the first one first, and come in order again.
            let (second, third) = (next(&mut consumer).await, next(&mut consumer).await);
            again = Some(expected);
            drop((settlement, second, third));
            continue;
        }
        if expected == 700 {
            publish(&bus, 1400..2610).await;
        }
        settlement.done().await.expect("settled");
        expected += 1;
    }
    drop(consumer);
    drop(bus);
    let bus = open(&path).await;
    assert_eq!(drain(&bus, A).await, (2600..2610).map(|n| n.to_string()).collect::<Vec<_>>());
}
