//! `kill -9` of a process that publishes and settles: what it was told is true afterwards, and nothing is there twice.
//! (The page cache survives; that each confirm waits for an fsync is what the disk tests show.)

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::task::JoinSet;

use super::{A, SOON, drain, next, once, open, parcel};
use crate::{Bus, DEAD, Parcel};

const FILE: &str = "GATEHOUSE_BUS_CHILD_FILE";
const ROUND: &str = "GATEHOUSE_BUS_CHILD_ROUND";

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus.db");
    let mut confirmed = BTreeSet::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "embedded::tests::kill::child", "--ignored", "--nocapture"])
            .env(FILE, &path)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let enough = confirmed.len() + rand::rng().random_range(30..400);
        let mut killed = false;
        for line in lines.map_while(Result::ok) {
            if let Some((_, id)) = line.split_once("confirmed ") {
                assert!(confirmed.insert(id.to_owned()), "{id} was confirmed twice");
            }
            if confirmed.len() >= enough && !killed {
                child.kill().expect("kill -9");
                killed = true;
            }
        }
        let status = child.wait().expect("it ends");
        assert!(killed, "the child ended by itself: {status}");
    }
    // The child only ever moved parcels: from A to the ladder and back, and to the dead.
    let bus = open(&path).await;
    let mut ids = drain(&bus, DEAD).await;
    loop {
        ids.extend(drain(&bus, A).await);
        let depths = bus.depths().await.expect("depths");
        if depths.values().all(|depth| depth.parcels == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let there = once(&ids);
    let lost: Vec<&String> = confirmed.difference(&there).collect();
    assert!(lost.is_empty(), "{} of {} confirmed parcels are lost: {lost:?}", lost.len(), confirmed.len());
    bus.close().await;
}

/// Run by the test above, in a process of its own, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of a_killed_process_loses_nothing_that_was_confirmed"]
async fn child() {
    let (Some(path), Ok(round)) = (std::env::var_os(FILE), std::env::var(ROUND)) else { return };
    let bus = Arc::new(open(&PathBuf::from(path)).await);
    let mut working = JoinSet::new();
    for publisher in 0..8 {
        let (bus, round) = (Arc::clone(&bus), round.clone());
        working.spawn(async move {
            for n in 0.. {
                let id = format!("{round}-{publisher}-{n}");
                bus.publish(A, parcel(id.clone(), 700), SOON).await.expect("confirmed");
                println!("confirmed {id}");
            }
        });
    }
    let mut consumer = bus.consume(A, 16).await.expect("consumes");
    working.spawn(async move {
        for n in 0_u32.. {
            let delivered = next(&mut consumer).await;
            let Parcel { id, .. } = &delivered.parcel;
            let same = parcel(id.clone(), delivered.parcel.body.len() - id.len() - 2);
            match n % 3 {
                0 => drop(delivered.settlement),
                1 => delivered.settlement.retry(same, Duration::from_millis(60)).await.expect("settled"),
                _ => delivered.settlement.dead(same).await.expect("settled"),
            }
        }
    });
    while working.join_next().await.is_some() {}
}
