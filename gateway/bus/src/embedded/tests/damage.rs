//! Files that are not what was written: torn at the end, flipped in the middle, cut, foreign, or somebody else's.

use std::path::{Path, PathBuf};

use rand::Rng;

use super::{A, drain, next, open, parcel};
use crate::embedded::{Embedded, QUARANTINE};
use crate::{Bus, BusError, QueueSpec};

fn wal(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

/// Power fails while the log is written: what is behind the tear is gone, what is before it is whole.
#[tokio::test]
async fn a_torn_log_ends_before_the_tear() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus.db");
    let bus = open(&path).await;
    for n in 0..60 {
        bus.publish(A, parcel(n.to_string(), 100 + n * 50), super::SOON).await.expect("confirmed");
    }
    drop(bus);
    let (file, log) = (std::fs::read(&path).expect("the file"), std::fs::read(wal(&path)).expect("the log"));
    let mut cuts: Vec<usize> = (0..20).map(|_| rand::rng().random_range(0..log.len())).collect();
    cuts.extend([0, 1, 31, 32, 33, log.len()]);
    cuts.sort_unstable();
    let mut least = 0;
    for cut in cuts {
        let torn = folder.path().join(format!("torn-{cut}")).join("bus.db");
        std::fs::create_dir_all(torn.parent().expect("a folder")).expect("made");
        std::fs::write(&torn, &file).expect("copied");
        std::fs::write(wal(&torn), &log[..cut]).expect("copied");
        let bus = open(&torn).await;
        let ids = drain(&bus, A).await;
        let expected: Vec<String> = (0..ids.len()).map(|n| n.to_string()).collect();
        assert_eq!(ids, expected, "cut at {cut} of {}", log.len());
        assert!(ids.len() >= least, "a longer log holds less");
        least = ids.len();
        bus.close().await;
    }
    assert_eq!(least, 60, "the whole log holds everything");
}

#[tokio::test]
async fn a_flipped_byte_is_set_aside_and_never_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus.db");
    let bus = open(&path).await;
    for id in ["first", "second", "third"] {
        bus.publish(A, parcel(id, 300), super::SOON).await.expect("confirmed");
    }
    bus.close().await;
    let mut file = std::fs::read(&path).expect("the file");
    let at = file.windows(16).position(|bytes| bytes == b"<second><second>").expect("the body");
    file[at + 100] ^= 0x20;
    std::fs::write(&path, file).expect("written");
    let bus = open(&path).await;
    assert_eq!(drain(&bus, A).await, ["first", "third"]);
    let depths = bus.depths().await.expect("depths");
    assert_eq!((depths[A].parcels, depths[QUARANTINE].parcels), (0, 1), "{depths:?}");
    bus.close().await;
    // It is still there the next time, and still served to nobody.
    let bus = open(&path).await;
    assert_eq!(bus.depths().await.expect("depths")[QUARANTINE].parcels, 1);
    assert!(bus.consume(QUARANTINE, 1).await.is_err());
    bus.close().await;
}

#[tokio::test]
async fn a_file_that_is_cut_or_foreign_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.db");
    let bus = open(&whole).await;
    for n in 0..100 {
        bus.publish(A, parcel(n.to_string(), 2000), super::SOON).await.expect("confirmed");
    }
    bus.close().await;
    let bytes = std::fs::read(&whole).expect("the file");
    let foreign = folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign)
        .expect("opens")
        .execute_batch("CREATE TABLE books (title TEXT)")
        .expect("made");
    for (name, content) in [
        ("cut.db", bytes[..bytes.len() / 2].to_vec()),
        ("garbage.db", vec![b'x'; 10_000]),
        ("zeroed.db", [&bytes[..16_384], &vec![0; bytes.len() - 16_384][..]].concat()),
        ("foreign.db", std::fs::read(&foreign).expect("the file")),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        let said = Embedded::open(&path).err();
        assert!(matches!(&said, Some(BusError::Contradiction(text)) if text.contains(name)), "{name}: {said:?}");
    }
}

#[tokio::test]
async fn a_second_opening_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus.db");
    let bus = open(&path).await;
    let said = Embedded::open(&path).err();
    let named = |text: &str| text.contains("bus.db") && text.contains("another process");
    assert!(matches!(&said, Some(BusError::Unavailable(text)) if named(text)), "{said:?}");
    // The first one does not mind.
    bus.publish(A, parcel("p1", 10), super::SOON).await.expect("confirmed");
    bus.close().await;
    let bus = open(&path).await;
    let mut consumer = bus.consume(A, 1).await.expect("consumes");
    assert_eq!(next(&mut consumer).await.parcel.id, "p1");
}

#[tokio::test]
async fn a_queue_in_use_does_not_change_its_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let bus = open(&folder.path().join("bus.db")).await;
    bus.publish(A, parcel("p1", 10), super::SOON).await.expect("confirmed");
    let mut topology = super::topology();
    for spec in [
        QueueSpec { single_active_consumer: true, ..QueueSpec::default() },
        QueueSpec { request: true, ..QueueSpec::default() },
    ] {
        topology.queues.insert(A.to_owned(), spec);
        let said = bus.declare(topology.clone()).await.err();
        assert!(matches!(&said, Some(BusError::Contradiction(text)) if text.contains(A)), "{said:?}");
    }
    drain(&bus, A).await;
    topology.queues.insert(A.to_owned(), QueueSpec { single_active_consumer: true, ..QueueSpec::default() });
    super::eventually(async || bus.declare(topology.clone()).await.is_ok()).await;
}
