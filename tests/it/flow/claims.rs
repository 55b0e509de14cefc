//! Bodies that are too large for the bus wait beside it: they arrive whole, also after a restart and from a dead letter, and what is lost
//! is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use gatehouse_store::State;
use serde_json::json;

use crate::broker::V40;
use crate::harness::{GATEWAY, KEY, Peer, Place, Running, says, until};

const SCANS: &str = "version: 1\nsystem: scans\nadapter: rest\naccept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }\n\
    limits: { body: 48MiB }\nendpoints:\n  in: { receive: POST /scans, id: body no }\n";

const ROUTES: &str = "version: 1\nroutes:\n  - { route: scans, from: scans/in, type: any.scan, key: no, to: [{ target: crm/put, retry: { attempts: TRIES, first: 100ms, max: 1s } }, \
    { target: archive/put, retry: { attempts: 1 } }] }\n";

struct World {
    place: Place,
    crm: Peer,
    archive: Peer,
}

async fn world(gateway: &str, tries: u32) -> World {
    let (crm, archive) = (Peer::start().await, Peer::start().await);
    let place = Place::new(&[
        ("gatehouse.yaml", gateway),
        ("orders.yaml", &ROUTES.replace("TRIES", &tries.to_string())),
        ("types/any.scan.schema.json", r#"{"type":"object"}"#),
        ("systems/scans.yaml", SCANS),
        ("systems/crm.yaml", &crm.system("crm", "")),
        ("systems/archive.yaml", &archive.system("archive", "")),
    ]);
    World { place, crm, archive }
}

impl World {
    async fn start(&self) -> Running {
        let running = self.place.start().await;
        until("the path to be mounted", async || {
            running.send(http::Method::GET, "/scans", &[], "").await.status != 404
        })
        .await;
        running
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.place.root().join("data/claims")).expect("the folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

fn scan(number: &str, size: usize) -> String {
    scan_of(number, "nobody", size)
}

fn scan_of(number: &str, of: &str, size: usize) -> String {
    let bytes: String = "扫描件-0123456789abcdef".chars().cycle().take(size).collect();
    json!({ "no": number, "of": of, "scan": bytes }).to_string()
}

async fn send(running: &Running, body: &str) {
    let headers = [("x-api-key", KEY), ("content-type", "application/json")];
    let answer = running.send(http::Method::POST, "/scans", &headers, body.to_owned()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_arrives_whole_after_a_restart_and_from_a_letter() {
    let world = world(&format!("{GATEWAY}claims: {{ above: 4KiB }}\n"), 50).await;
    let status = Arc::new(AtomicU16::new(503));
    let said = status.clone();
    world.crm.behave(move |_| says(said.load(Ordering::Relaxed)));
    world.archive.behave(|_| says(400));
    let running = world.start().await;
    let (large, small) = (scan("L-1", 600_000), scan("S-1", 10));
    send(&running, &large).await;
    send(&running, &small).await;
    until("both to be tried", async || world.crm.got().len() >= 2 && world.archive.got().len() == 2).await;
    until("the archive's letters", async || running.letters(State::Open).await.len() == 2).await;
    until("one file: the CRM's; the letter holds the archive's", async || world.files().len() == 1).await;
    let bus = std::fs::metadata(world.place.root().join("data/bus.db")).expect("the bus").len();
    assert!(bus < large.len() as u64, "the bus does not carry it: {bus} bytes");
    running.gateway.stop().await;

    status.store(200, Ordering::Relaxed);
    world.archive.behave(|_| says(200));
    let running = world.start().await;
    until("the CRM has both", async || world.crm.took().len() == 2).await;
    let wanted = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let took: Vec<_> = world.crm.took().iter().map(crate::harness::Got::json).collect();
    assert!(took.contains(&wanted(&large)) && took.contains(&wanted(&small)));
    running.drained().await;
    until("the file is gone", async || world.files().is_empty()).await;

    let letters = running.letters(State::Open).await;
    let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    running.gateway.letters.replay(&ids, "tester").await.expect("sent again");
    until("the archive has both", async || world.archive.took().len() == 2).await;
    let took: Vec<_> = world.archive.took().iter().map(crate::harness::Got::json).collect();
    assert!(took.contains(&wanted(&large)), "a letter holds the whole body");
    until("the file is gone", async || world.files().is_empty()).await;
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_body_is_a_letter_that_says_so() {
    let world = world(&format!("{GATEWAY}claims: {{ above: 4KiB }}\n"), 4).await;
    let files = world.place.root().join("data/claims");
    // The file goes while the first attempt is made.
    world.crm.behave(move |_| {
        for entry in std::fs::read_dir(&files).expect("the folder") {
            std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
        says(503)
    });
    let running = world.start().await;
    // Still in somebody's hands, it needs no file: the copy for the next attempt is made from memory.
    send(&running, &scan("L-1", 100_000)).await;
    until("the second attempt", async || world.crm.got().len() >= 2).await;
    assert!(world.crm.got().iter().all(|got| got.body.len() > 100_000));
    until("a letter", async || !running.letters(State::Open).await.is_empty()).await;
    running.gateway.stop().await;

    // On its way, it is lost: nothing is sent, and the letter says what is missing.
    let world = self::world(&format!("{GATEWAY}claims: {{ above: 4KiB }}\n"), 4).await;
    world.crm.behave(|_| says(503));
    let running = world.start().await;
    send(&running, &scan("L-2", 100_000)).await;
    until("an attempt", async || !world.crm.got().is_empty()).await;
    until("the archive has it", async || world.archive.took().len() == 1).await;
    running.gateway.stop().await;
    for file in world.files() {
        std::fs::remove_file(file).expect("removed");
    }
    let (tried, running) = (world.crm.got().len(), world.start().await);
    let letter = running.one_letter().await;
    assert_eq!(letter.summary.key.as_deref(), Some("L-2"));
    assert!(letter.summary.text.contains("bytes is gone"), "{}", letter.summary.text);
    assert_eq!(world.crm.got().len(), tried, "nothing is sent in its place");
    running.gateway.stop().await;
}

/// A target with order: nobody knows the key of a body that is lost, so nothing passes it; found again, it goes where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_body_keeps_its_place() {
    let world = world(&format!("{GATEWAY}claims: {{ above: 4KiB }}\n"), 100).await;
    world.place.write(
        "orders.yaml",
        &ROUTES.replace("TRIES", "100").replace("target: crm/put,", "target: crm/put, order_by: of,"),
    );
    world.crm.behave(|_| says(503));
    let running = world.start().await;
    let scans: Vec<String> = [("L-1", "K", 100_000), ("S-1", "K", 10), ("S-2", "other", 10)]
        .map(|(no, of, size)| scan_of(no, of, size))
        .into();
    for scan in &scans {
        send(&running, scan).await;
    }
    until("an attempt", async || !world.crm.got().is_empty()).await;
    until("the archive has all", async || world.archive.took().len() == 3).await;
    running.gateway.stop().await;

    let aside = tempfile::tempdir().expect("a folder");
    let files = world.files();
    for file in &files {
        std::fs::rename(file, aside.path().join(file.file_name().expect("a name"))).expect("put aside");
    }
    world.crm.behave(|_| says(200));
    let tried = world.crm.got().len();
    let running = world.start().await;
    let retried = || {
        let text = String::from_utf8(running.gateway.metrics.render()).expect("text");
        let line = text.lines().find(|line| line.starts_with("gatehouse_retried_total") && line.contains("crm/put"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or(0)
    };
    until("it to be looked for some times", async || retried() >= 3).await;
    assert_eq!(world.crm.got().len(), tried, "nothing passes it");

    for file in &files {
        std::fs::rename(aside.path().join(file.file_name().expect("a name")), file).expect("put back");
    }
    until("the CRM has all", async || world.crm.took().len() == 3).await;
    let took: Vec<_> = world.crm.took().iter().map(|got| got.json()["no"].as_str().unwrap_or("").to_owned()).collect();
    let place = |number: &str| took.iter().position(|one| one == number);
    assert!(place("L-1") < place("S-1"), "{took:?}");
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_refuses_arrives_all_the_same() {
    let Some(_turn) = V40.shared().await else { return };
    let prefix = format!("claims{}", uuid::Uuid::new_v4().simple());
    let world = world(&format!("{GATEWAY}bus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: {prefix} }}\n"), 4).await;
    world.place.write("amqp.secret", &V40.url());
    let running = world.start().await;
    // RabbitMQ 4.0 takes 16 MiB at most.
    let large = scan("R-1", 16_000_000);
    assert!(large.len() > 17 << 20);
    send(&running, &large).await;
    until("both have it", async || world.crm.took().len() == 1 && world.archive.took().len() == 1).await;
    let same = world.crm.took()[0].json() == serde_json::from_str::<serde_json::Value>(&large).expect("JSON");
    assert!(same, "every byte of it");
    until("the files are gone", async || world.files().is_empty()).await;
    running.drained().await;
    let queues: Vec<_> = running.gateway.depths().await.expect("depths").into_keys().collect();
    running.gateway.stop().await;
    V40.clean(&prefix, &queues).await;
}
