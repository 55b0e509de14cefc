//! What only one of the stores can be asked: files and kill -9 of SQLite; connections and races of PostgreSQL.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use gatehouse_core::secret::Secret;
use gatehouse_store::{StoreConfig, StoreError};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{LEASE, Place, letter};

#[tokio::test]
async fn files_are_their_owners_only() {
    let place = Place::sqlite();
    let store = place.open().await;
    store.put_letter(letter("d")).await.unwrap();
    store.record_done(&["d".into()]).await.unwrap();
    let folder = place.path().parent().unwrap().to_owned();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn what_cannot_be_a_file_is_unavailable() {
    let place = Place::sqlite();
    drop(place.open().await);
    let within_a_file = place.path().join("store.db");
    let opened = gatehouse_store::open(StoreConfig::Sqlite(within_a_file)).await;
    assert!(matches!(opened, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_file_that_is_no_store_is_damaged() {
    let place = Place::sqlite();
    std::fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    std::fs::write(place.path(), "not a database ".repeat(1000)).unwrap();
    assert!(matches!(place.try_open().await, Err(StoreError::Damaged(_))));
}

/// A flipped byte in a body is found, told, and never sent; the letter is still listed.
#[tokio::test]
async fn a_damaged_body_is_never_served() {
    let place = Place::sqlite();
    let store = place.open().await;
    let id = store.put_letter(letter("d")).await.unwrap();
    place.sql("UPDATE letter_body SET body = CAST('{\"orderNo\":\"4712\"}' AS BLOB)").await;
    assert!(matches!(store.letter(id).await, Err(StoreError::Damaged(_))));
    assert!(matches!(store.claim(&[id], "li", LEASE).await, Err(StoreError::Damaged(_))));
    let listed = store.letters(&gatehouse_store::Filter::default(), 10, None).await.unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, gatehouse_store::State::Open));
}

/// Every letter whose id a killed process has told is there.
#[tokio::test]
async fn kill_9_loses_nothing_that_was_answered() {
    let place = Place::sqlite();
    let child = format!("{}::puts_until_it_is_killed", module_path!().split_once("::").unwrap().1);
    for round in 0..3 {
        let mut process = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &child, "--ignored", "--nocapture"])
            .env("GATEHOUSE_STORE_CHILD", place.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut told = Vec::new();
        let reading = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let mut words = line.split_whitespace();
                if let (Some("ACK"), Some(id), Some(delivery), None) =
                    (words.next(), words.next(), words.next(), words.next())
                {
                    told.push((id.parse::<i64>().unwrap(), delivery.to_owned()));
                }
                if told.len() == 300 {
                    process.start_kill().unwrap();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
        process.wait().await.unwrap();
        assert!(told.len() >= 300, "the child died by itself after {} letters", told.len());
        let store = place.open().await;
        for (id, delivery) in told {
            let found = store.letter(id).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(found.summary.delivery_id, delivery);
        }
    }
}

/// The process that [`kill_9_loses_nothing_that_was_answered`] kills.
#[test]
#[ignore = "a child process of another test"]
fn puts_until_it_is_killed() {
    let Ok(path) = std::env::var("GATEHOUSE_STORE_CHILD") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = gatehouse_store::open(StoreConfig::Sqlite(path.into())).await.unwrap();
        let puts = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                // Far more than the parent waits for, and an end all the same.
                for _ in 0..20_000 {
                    let delivery = uuid::Uuid::now_v7().to_string();
                    let id = store.put_letter(letter(&delivery)).await.unwrap();
                    let line = format!("\nACK {id} {delivery}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        futures_util::future::join_all(puts).await;
    });
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = Secret::new(format!("postgres://bus:geheim@127.0.0.1:{free}/x?sslmode=disable"));
    let opened = gatehouse_store::open(StoreConfig::Postgres { url, schema: "gatehouse".into(), ca_file: None });
    match tokio::time::timeout(Duration::from_secs(15), opened).await.unwrap() {
        Err(StoreError::Unavailable(text)) => assert!(!text.contains("geheim"), "{text}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("connected to nothing"),
    }
}

#[tokio::test]
async fn several_gateways_may_start_at_once() {
    let Some(place) = Place::postgres() else { return };
    let opened = futures_util::future::join_all((0..6).map(|_| place.try_open())).await;
    for store in &opened {
        store.as_ref().unwrap().put_letter(letter("d")).await.unwrap();
    }
    drop(opened);
    place.clean().await;
}

/// Calls again while the store is not available, for a minute at most. A macro: the call is made anew each time, inside
/// a task.
macro_rules! patiently {
    ($call:expr) => {{
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            match $call.await {
                Ok(value) => break value,
                Err(gatehouse_store::StoreError::Unavailable(why)) => {
                    assert!(tokio::time::Instant::now() < deadline, "not available for a minute: {why}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }};
}

/// Its connections are cut again and again: what is harmless twice is repeated, nothing is lost, nothing is doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_heal() {
    let Some(place) = Place::postgres() else { return };
    let store = place.open().await;
    let putting = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for i in 0..300 {
                // The store tries again by itself, a few times; on a busy machine it is cut more often than that, and
                // then says that it is not available: its caller comes again, as the engine does.
                ids.push(patiently!(store.put_letter(letter(&format!("d-{i}")))));
                patiently!(store.record_done(&[format!("d-{i}")]));
            }
            ids
        })
    };
    let mut cuts = 0;
    while !putting.is_finished() {
        cuts += place.cut().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let ids = putting.await.unwrap();
    assert!(cuts > 2, "the case was over before anything was cut");
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(store.letter(*id).await.unwrap().summary.delivery_id, format!("d-{i}"));
        assert!(store.is_done(&format!("d-{i}")).await.unwrap());
    }
    assert_eq!(store.letters(&gatehouse_store::Filter::default(), 1000, None).await.unwrap().len(), 300);
    place.clean().await;
}

#[tokio::test]
async fn one_gateway_at_a_time_reads_a_source() {
    let Some(place) = Place::postgres() else { return };
    let (one, other) = (place.open().await, place.open().await);
    let held = one.take_cursor("finance/payments", LEASE).await.unwrap().expect("nobody has it");
    assert!(other.take_cursor("finance/payments", LEASE).await.unwrap().is_none());
    one.save_cursor("finance/payments", held.epoch, Some("7"), LEASE).await.unwrap();
    assert!(other.take_cursor("finance/payments", LEASE).await.unwrap().is_none());
    one.free_cursor("finance/payments", held.epoch).await.unwrap();
    let next = other.take_cursor("finance/payments", LEASE).await.unwrap().expect("it is free");
    assert_eq!(next.value.as_deref(), Some("7"));
    place.clean().await;
}
