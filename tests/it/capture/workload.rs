//! A random workload runs against the source, in several sessions at once, with long transactions and rollbacks, while the
//! gateway is killed with -9 and dies at named points. What a target makes of the messages must equal the source.
//!
//! The seed is printed first; `GATEHOUSE_CAPTURE_SEED` repeats a run, `GATEHOUSE_CAPTURE_SEEDS` says how many are run of each way and
//! server (25), several at the same time on one server, and `GATEHOUSE_CAPTURE_STEPS` how long each is (the first 250, the others
//! 80).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::database::Link;
use super::*;
use crate::proxy::Proxy;

const WRITERS: u64 = 3;

/// Seeds of each way and server: 200 in all.
const SEEDS: u64 = 25;

/// Seeds that are run at the same time: most of what one does is to wait.
const BESIDE: usize = 4;

/// How many changes each writer makes at least: of the first seed, and of the others.
const STEPS: (u64, u64) = (250, 80);
const KEYS: u32 = 40;

/// Points at which the gateway dies: rows read and not published, published and not counted as read.
const POINTS: [&str; 2] = ["k13=2%return", "k14=2%return"];

/// The row with what became of it, in the order of its key.
const MAPPING: &str =
    "  - { to: op, value: meta.op }\n  - { to: key, value: meta.key }\n  - { to: v, from: v, type: string }\n";

pub(super) async fn triggers_follow_a_random_workload(database: &Database) {
    let capture = "{ table: t, by: trigger, every: 20ms, batch: 7 }";
    follow_each(database, capture, true).await;
}

pub(super) async fn a_watermark_follows_a_random_workload(database: &Database) {
    let capture = "{ table: t, by: watermark, watermark: changed, overlap: 500ms, every: 20ms, batch: 7 }";
    follow_each(database, capture, false).await;
}

pub(super) async fn a_log_follows_a_random_workload(database: &Database) {
    follow_each(database, "{ table: t, by: log, every: 20ms, batch: 7 }", true).await;
}

/// The server itself is killed with -9, again and again.
pub(super) async fn a_log_is_followed_while_its_server_is_killed(kind: &'static str) {
    // A server for each: only as many as are asked for.
    for seed in seeds(1) {
        let Some(database) = Database::on_its_own(kind).await else { return };
        follow(&database, "{ table: t, by: log, every: 20ms, batch: 20 }", true, seed, STEPS.0).await;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The one that is asked for, or as many as are asked for.
fn seeds(usual: u64) -> Vec<u64> {
    match number("GATEHOUSE_CAPTURE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("GATEHOUSE_CAPTURE_SEEDS").unwrap_or(usual)).map(|_| rand::random()).collect(),
    }
}

/// Each seed in a database of its own.
async fn follow_each(first: &Database, capture: &str, deletes: bool) {
    let run = async |(at, seed)| {
        if at == 0 {
            follow(first, capture, deletes, seed, STEPS.0).await;
        } else if let Some(database) = first.another().await {
            follow(&database, capture, deletes, seed, STEPS.1).await;
            database.end().await;
        }
    };
    let usual = if first.by_driver() { SEEDS.min(3) } else { SEEDS };
    let runs: Vec<_> = seeds(usual).into_iter().enumerate().map(run).collect();
    stream::iter(runs).buffer_unordered(BESIDE).collect::<()>().await;
}

async fn follow(database: &Database, capture: &str, deletes: bool, seed: u64, steps: u64) {
    let steps = number("GATEHOUSE_CAPTURE_STEPS").unwrap_or(steps);
    eprintln!("capture on {}: GATEHOUSE_CAPTURE_SEED={seed}, {steps} steps of {WRITERS} writers", database.kind);
    let mut random = StdRng::seed_from_u64(seed);
    let mut session = database.session().await;
    let time = database.by("TEXT", "timestamptz", "DATETIME(6)");
    session.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60), changed {time})")).await;
    let now = now(database);
    for id in 0..KEYS / 2 {
        session.run(&format!("INSERT INTO t VALUES ({id}, 'there-{id}', {now})")).await;
    }
    let peer = Peer::start().await;
    let place = site(database, capture, MAPPING, &peer);
    place.write(
        "orders.yaml",
        "version: 1\nroutes:\n  - route: rows\n    from: src/rows\n    map: change\n    type: row\n    key: key\n    to: [{ target: sink/put, order_by: key, retry: { attempts: 30, first: 100ms, max: 1s } }]\n",
    );
    // By ODBC the command below has a SQLite of its own: beside ours in one process, each would undo the other's locks on the file.
    drop(session);
    if !capture.contains("watermark") {
        assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    }
    // By watermark a first reading begins only after `overlap`: a gateway that never lives so long reads nothing.
    let waits = capture.contains("watermark");
    let faults = Arc::new(AtomicBool::new(!waits));
    let written = Arc::new(AtomicBool::new(false));
    let mut cutter = None;
    if let Some(address) = database.address() {
        // Between the gateway and the server everything is cut now and then.
        let proxy = Proxy::start(address.to_owned()).await;
        place.write("systems/src.yaml", &database.system_at(&format!("127.0.0.1:{}", proxy.port), capture));
        let (faults, written) = (faults.clone(), written.clone());
        let mut random = StdRng::seed_from_u64(random.random());
        cutter = Some(tokio::spawn(async move {
            let mut cuts = 0;
            while !written.load(Ordering::SeqCst) {
                pause(&mut random, 50..700).await;
                if faults.load(Ordering::SeqCst) {
                    proxy.cut();
                    cuts += 1;
                }
            }
            (proxy, cuts)
        }));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let deaths = Arc::new(AtomicUsize::new(0));
    let keeper = tokio::spawn(keep_alive(
        place.root().to_owned(),
        &POINTS,
        faults.clone(),
        stop.clone(),
        deaths.clone(),
        StdRng::seed_from_u64(random.random()),
    ));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let random = StdRng::seed_from_u64(random.random());
        writers.push(tokio::spawn(write(database.link(), writer, steps, deletes, random)));
    }
    if waits {
        until("the first row", async || !peer.took().is_empty()).await;
        faults.store(true, Ordering::SeqCst);
    }
    let write = async {
        for writer in writers {
            writer.await.expect("a writer goes through");
        }
    };
    let mut kills = 0;
    match database.server() {
        None => write.await,
        Some(server) => {
            tokio::pin!(write);
            while tokio::select! { () = &mut write => false, () = pause(&mut random, 1000..4000) => true } {
                server.steer("kill").await;
                server.steer("start").await;
                kills += 1;
            }
        }
    }
    until("some deaths", async || deaths.load(Ordering::SeqCst) >= 3).await;
    faults.store(false, Ordering::SeqCst);
    written.store(true, Ordering::SeqCst);
    let mut session = database.link().patient_session().await;
    let wanted: BTreeMap<String, String> = session
        .rows("SELECT id, v FROM t")
        .await
        .into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
        .collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let rebuilt = rebuild(&peer, deletes);
        if rebuilt == wanted {
            break;
        }
        if tokio::time::Instant::now() >= deadline {
            let all: std::collections::BTreeSet<&String> = wanted.keys().chain(rebuilt.keys()).collect();
            for key in all.into_iter().filter(|key| wanted.get(*key) != rebuilt.get(*key)) {
                eprintln!("key {key}: the source has {:?}, the target {:?}", wanted.get(key), rebuilt.get(key));
                for got in peer.got().iter().filter(|got| got.json()["key"] == **key) {
                    eprintln!("   {} {} {}", got.status, got.key, got.body);
                }
            }
            let log = std::fs::read_to_string(place.root().join("data/gateway.log")).unwrap_or_default();
            log.lines().rev().take(20).for_each(|line| eprintln!("gateway: {line}"));
            panic!("seed {seed}: the target is not the source");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let cuts = match cutter {
        Some(cutter) => cutter.await.expect("the cutter ends").1,
        None => 0,
    };
    stop.store(true, Ordering::SeqCst);
    keeper.await.expect("the keeper ends");
    eprintln!(
        "capture on {} of {seed}: {} rows equal after {} messages, {} deaths, {cuts} cuts and {kills} kills of the server",
        database.kind,
        wanted.len(),
        peer.took().len(),
        deaths.load(Ordering::SeqCst)
    );
}

fn now(database: &Database) -> &'static str {
    database.by("strftime('%Y-%m-%d %H:%M:%f')", "now()", "NOW(6)")
}

/// What a target holds that applies each message once.
pub(super) fn rebuild(peer: &Peer, deletes: bool) -> BTreeMap<String, String> {
    let mut known = std::collections::HashSet::new();
    let mut rows = BTreeMap::new();
    for got in peer.took() {
        if !known.insert(got.key.clone()) {
            continue;
        }
        let body = got.json();
        let key = body["key"].as_str().expect("a key").to_owned();
        if body["op"] == "delete" {
            assert!(deletes, "a watermark sees no deletes");
            rows.remove(&key);
        } else {
            rows.insert(key, body["v"].as_str().expect("a value").to_owned());
        }
    }
    rows
}

async fn pause(random: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(milliseconds))).await;
}

/// One application: transactions of one to four changes, some long, some rolled back. Where the server is killed, what becomes
/// of a transaction is as it may be: the source itself tells in the end.
async fn write(link: Link, writer: u64, steps: u64, deletes: bool, mut random: StdRng) {
    let kind = link.kind;
    let now = match kind {
        "sqlite" => "strftime('%Y-%m-%d %H:%M:%f')",
        "postgres" => "now()",
        _ => "NOW(6)",
    };
    let mut session = link.patient_session().await;
    let mut step = 0;
    while step < steps {
        let begin = if kind == "sqlite" { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let mut failed = session.try_run(begin).await.is_err();
        for _ in 0..random.random_range(1..=4) {
            step += 1;
            let id = random.random_range(0..KEYS);
            let value = format!("w{writer}-{step}-'值'").replace('\'', "''");
            let upsert = match kind {
                "mysql" => format!(
                    "INSERT INTO t VALUES ({id}, '{value}', {now}) ON DUPLICATE KEY UPDATE v = VALUES(v), changed = VALUES(changed)"
                ),
                _ => format!(
                    "INSERT INTO t VALUES ({id}, '{value}', {now}) ON CONFLICT (id) DO UPDATE SET v = excluded.v, changed = excluded.changed"
                ),
            };
            let sql = match random.random_range(0..10) {
                0..2 if deletes => format!("DELETE FROM t WHERE id = {id}"),
                _ => upsert,
            };
            // Two writers may lock each other out: one of them is rolled back by the server.
            if failed || session.try_run(&sql).await.is_err() {
                failed = true;
                break;
            }
        }
        if kind != "sqlite" && random.random_range(0..8) == 0 {
            pause(&mut random, 100..1200).await;
        }
        let end = if failed || random.random_range(0..6) == 0 { "ROLLBACK" } else { "COMMIT" };
        if session.try_run(end).await.is_err() {
            session = link.patient_session().await;
        }
        pause(&mut random, 0..20).await;
    }
}

/// Starts the gateway whenever it is dead, and kills it while faults are on.
pub(super) async fn keep_alive(
    root: std::path::PathBuf,
    points: &'static [&'static str],
    faults: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    deaths: Arc<AtomicUsize>,
    mut random: StdRng,
) {
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut command = crate::chaos::gateway(&root);
        if faults.load(Ordering::SeqCst) && round % 2 == 0 {
            command.env("FAILPOINTS", points[round / 2 % points.len()]);
        }
        round += 1;
        let mut child = command.spawn().expect("starts");
        let life = Duration::from_millis(random.random_range(600..2500));
        let started = std::time::Instant::now();
        loop {
            if let Ok(Some(_)) = child.try_wait() {
                deaths.fetch_add(1, Ordering::SeqCst);
                break;
            }
            let tired = faults.load(Ordering::SeqCst) && started.elapsed() > life;
            if tired || stop.load(Ordering::SeqCst) {
                child.start_kill().expect("killed");
                child.wait().await.expect("dead");
                deaths.fetch_add(1, Ordering::SeqCst);
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
