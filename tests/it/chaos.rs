//! Nothing lost: thousands of ids through REST → bus → (REST, SQL) while the gateway is killed with -9 at random and at
//! named points, and the broker is killed and started again.
//!
//! An oracle here, outside, holds what was acknowledged; the sink and the books hold what arrived. A run counts only if
//! its faults really happened. The seed is printed first; `GATEHOUSE_CHAOS_SEED` and `GATEHOUSE_CHAOS_MESSAGES` repeat
//! or widen a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_net::door::{Door, DoorConfig, Request, Response, Service};
use http::{HeaderMap, StatusCode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::broker::{Broker, V40, V310};

/// Points at which the gateway kills itself, and how often it does when it passes them.
const POINTS: [(&str, &str); 11] = [
    ("k1", "0.3%"),
    ("k2", "0.3%"),
    ("k3", "0.3%"),
    ("k5", "0.2%"),
    ("k6", "0.2%"),
    ("k7", "0.2%"),
    ("k8", "0.2%"),
    ("k9", "0.2%"),
    ("k10", "0.2%"),
    ("k11", "10%"),
    ("k12", "10%"),
];

const CALLERS: usize = 16;

/// One in so many is refused by the sink until it is mended.
const REFUSED: usize = 97;

/// How long a run may take to accept everything, and then to settle.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_the_embedded_bus() {
    run("embedded", None, 20_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_rabbitmq_3_10() {
    let Some(_alone) = V310.alone().await else { return };
    run("rabbitmq 3.10", Some(&V310), 20_000, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_rabbitmq_4_0() {
    let Some(_alone) = V40.alone().await else { return };
    run("rabbitmq 4.0", Some(&V40), 5_000, 2).await;
}

/// Not a test of its own: the gateway that the runs above start as a process of its own, and kill.
#[test]
fn gateway_that_is_killed() {
    let Some(site) = std::env::var_os("GATEHOUSE_CHAOS_SITE") else { return };
    let _scenario = fail::FailScenario::setup();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(gatehouse::cli::run_site(PathBuf::from(site))).unwrap();
}

/// What the remembering target saw: by message id the idempotency keys that it came with, and how often it came.
#[derive(Default)]
struct Sink {
    seen: Mutex<BTreeMap<String, (BTreeSet<String>, usize)>>,
    mended: AtomicBool,
}

#[async_trait]
impl Service for Sink {
    async fn call(&self, request: Request) -> Response {
        let status = |status| Response { status, headers: HeaderMap::new(), body: Bytes::new() };
        if request.method == http::Method::HEAD {
            return status(StatusCode::OK);
        }
        let key = request.headers["idempotency-key"].to_str().unwrap().to_owned();
        let Ok(body) = request.read(1 << 20).await else { return status(StatusCode::BAD_REQUEST) };
        let body: serde_json::Value = serde_json::from_slice(&body).expect("whole JSON, never half a message");
        let id = body["no"].as_str().unwrap().to_owned();
        assert_eq!(body["amount"].to_string(), "12345678901234567.89", "digits are kept");
        if is_refused(&id) && !self.mended.load(Ordering::SeqCst) {
            return status(StatusCode::UNPROCESSABLE_ENTITY);
        }
        let mut seen = self.seen.lock().unwrap();
        let entry = seen.entry(id).or_default();
        entry.0.insert(key);
        entry.1 += 1;
        status(StatusCode::NO_CONTENT)
    }
}

fn is_refused(id: &str) -> bool {
    id.rsplit('-').next().and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n % REFUSED == 0)
}

/// One run.
struct Run {
    site: tempfile::TempDir,
    listen: String,
    admin: String,
    sink: Arc<Sink>,
    faults: AtomicBool,
    replays: AtomicBool,
    kills: AtomicUsize,
    suicides: AtomicUsize,
}

async fn run(name: &str, broker: Option<&'static Broker>, messages: usize, broker_kills: usize) {
    let seed = std::env::var("GATEHOUSE_CHAOS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    let messages = std::env::var("GATEHOUSE_CHAOS_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(messages);
    eprintln!("chaos on {name}: GATEHOUSE_CHAOS_SEED={seed}, {messages} messages");
    let mut random = StdRng::seed_from_u64(seed);

    let sink = Arc::new(Sink::default());
    let door = Door::bind(DoorConfig { listen: ([127, 0, 0, 1], 0).into(), ..DoorConfig::default() }).await.unwrap();
    let _mount = door.mount("/sink", sink.clone()).unwrap();
    tokio::spawn(door.clone().serve(Box::pin(std::future::pending())));
    let prefix = format!("chaos{}", random.random::<u32>());
    let run = Arc::new(Run {
        listen: free_port(),
        admin: free_port(),
        site: tempfile::tempdir().unwrap(),
        sink,
        faults: AtomicBool::new(true),
        replays: AtomicBool::new(false),
        kills: AtomicUsize::new(0),
        suicides: AtomicUsize::new(0),
    });
    run.write_site(&door.addr().to_string(), broker.map(|broker| (broker.url(), prefix)));
    let books = books(run.site.path());

    let stop = Arc::new(AtomicBool::new(false));
    let keeper = tokio::spawn(keep_alive(run.clone(), stop.clone(), StdRng::seed_from_u64(random.random())));
    let nemesis = tokio::spawn(kill_broker(broker, broker_kills, StdRng::seed_from_u64(random.random())));

    let next = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(call(run.clone(), next.clone(), messages, format!("{seed:x}")))).collect();
    let accepted = async {
        for caller in callers {
            caller.await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, accepted).await.expect("every caller hears yes in time");
    tokio::time::timeout(PATIENCE, nemesis).await.expect("the broker is back").unwrap();
    run.faults.store(false, Ordering::SeqCst);

    // Every acknowledged id is at each target or in the dead letters.
    let ids: BTreeSet<String> = (0..messages).map(|n| id(&format!("{seed:x}"), n)).collect();
    let refused = ids.iter().filter(|id| is_refused(id)).count();
    run.wait("the sink", async || run.sink.seen.lock().unwrap().len() == messages - refused).await;
    run.wait("the books", async || rows(&books) == messages).await;
    run.wait("the dead letters", async || run.open_letters().await == Some(refused)).await;

    // Support replays them all, with the gateway dying at K12 now and then; the sink is mended.
    run.sink.mended.store(true, Ordering::SeqCst);
    run.replays.store(true, Ordering::SeqCst);
    run.wait("the replayed letters", async || {
        let letters = run.letters().await;
        if !letters.is_empty() {
            run.replay(&letters).await;
        }
        run.sink.seen.lock().unwrap().len() == messages
    })
    .await;

    stop.store(true, Ordering::SeqCst);
    keeper.await.unwrap();
    let seen = run.sink.seen.lock().unwrap();
    let there: BTreeSet<String> = seen.keys().cloned().collect();
    assert_eq!(there, ids, "no id lost, none invented");
    let doubled: Vec<_> = seen.iter().filter(|(_, (keys, _))| keys.len() != 1).collect();
    assert!(doubled.is_empty(), "one idempotency key an id, so one effect: {doubled:?}");
    let again = seen.values().filter(|(_, times)| *times > 1).count();
    let (kills, suicides) = (run.kills.load(Ordering::SeqCst), run.suicides.load(Ordering::SeqCst));
    eprintln!(
        "chaos on {name}: {messages} accepted, lost 0, double effects 0; {kills} kills, {suicides} deaths at named points, {broker_kills} broker kills; {again} deliveries came more than once, {refused} dead letters replayed"
    );
    assert!(kills + suicides >= 4, "the run is void: only {kills} kills and {suicides} deaths at named points");
    assert_eq!(rows(&books), messages, "one row an id: the inbox let no delivery in twice");
}

fn id(seed: &str, n: usize) -> String {
    format!("{seed}-{n}")
}

/// Sends ids until all are acknowledged, each again and again until it hears yes.
async fn call(run: Arc<Run>, next: Arc<AtomicUsize>, messages: usize, seed: String) {
    let client = run.client(&run.listen);
    loop {
        let n = next.fetch_add(1, Ordering::SeqCst);
        if n >= messages {
            return;
        }
        let body = format!(r#"{{"no":"{}","amount":"12345678901234567.89","who":"客户{}"}}"#, id(&seed, n), n % 50);
        loop {
            let request =
                http::Request::post(client.url("/hooks/orders").unwrap()).header("content-type", "application/json");
            match client.send(request.body(Bytes::from(body.clone())).unwrap()).await {
                Ok(response) if response.status() == StatusCode::ACCEPTED => break,
                // 409: the same id is being accepted, by a request of ours whose connection died.
                Ok(response) if response.status().is_server_error() || response.status() == StatusCode::CONFLICT => {}
                Ok(response) => panic!("{}: {}", response.status(), String::from_utf8_lossy(response.body())),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Starts the gateway again whenever it is dead, and kills it while faults are on.
async fn keep_alive(run: Arc<Run>, stop: Arc<AtomicBool>, mut random: StdRng) {
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut command = gateway(run.site.path());
        if run.faults.load(Ordering::SeqCst) {
            let (point, share) = POINTS[round % POINTS.len()];
            command.env("FAILPOINTS", format!("{point}={share}return"));
        } else if run.replays.load(Ordering::SeqCst) && round % 2 == 0 {
            command.env("FAILPOINTS", "k12=5%return");
        }
        round += 1;
        let mut child = command.spawn().unwrap();
        let life = Duration::from_millis(random.random_range(1500..4000));
        let started = Instant::now();
        loop {
            if let Ok(Some(_)) = child.try_wait() {
                run.suicides.fetch_add(1, Ordering::SeqCst);
                break;
            }
            let tired = run.faults.load(Ordering::SeqCst) && started.elapsed() > life;
            if tired || stop.load(Ordering::SeqCst) {
                child.start_kill().unwrap();
                child.wait().await.unwrap();
                run.kills.fetch_add(1, Ordering::SeqCst);
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A gateway on this site as a process of its own, to be killed.
pub(crate) fn gateway(site: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["chaos::gateway_that_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env("GATEHOUSE_CHAOS_SITE", site)
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log(site))
        .kill_on_drop(true);
    command
}

/// Where the gateway's own words go: shown when a run fails.
fn log(site: &Path) -> Stdio {
    std::fs::File::options()
        .create(true)
        .append(true)
        .open(site.join("data/gateway.log"))
        .map_or_else(|_| Stdio::null(), Stdio::from)
}

async fn kill_broker(broker: Option<&'static Broker>, kills: usize, mut random: StdRng) {
    let Some(broker) = broker else { return };
    // A quorum queue that is killed within seconds of its declaration can stay without a leader (docs/rabbitmq.md).
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(2000..5000))).await;
        broker.control(&["kill"]).await;
        broker.control(&["start"]).await;
    }
}

impl Run {
    fn client(&self, address: &str) -> Client {
        let config = ClientConfig {
            address: format!("http://{address}"),
            ca_file: None,
            max_answer: 8 << 20,
            connections: CALLERS,
        };
        Client::new(&config).unwrap()
    }

    async fn wait(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done().await {
            assert!(
                Instant::now() < deadline,
                "waited too long for {what}: sink has {}",
                self.sink.seen.lock().unwrap().len()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// One call of the letters API; `None` while the gateway is being killed.
    async fn api(&self, method: &str, path: &str, body: String) -> Option<serde_json::Value> {
        let token = std::fs::read_to_string(self.site.path().join("data/admin.token")).ok()?;
        let client = self.client(&self.admin);
        let request = http::Request::builder()
            .method(method)
            .uri(client.url(path).ok()?)
            .header("authorization", format!("Bearer {}", token.trim()))
            .header("content-type", "application/json")
            .body(Bytes::from(body))
            .ok()?;
        let response = client.send(request).await.ok()?;
        serde_json::from_slice(response.body()).ok()
    }

    async fn open_letters(&self) -> Option<usize> {
        let counts = self.api("GET", "/api/v1/letters/counts", String::new()).await?;
        counts["open"].as_u64().and_then(|count| usize::try_from(count).ok())
    }

    async fn letters(&self) -> Vec<i64> {
        let mut ids = Vec::new();
        // A letter whose replay died with its gateway stays claimed until its lease ends; then it can be claimed again.
        for state in ["open", "claimed"] {
            let path = format!("/api/v1/letters?state={state}&limit=100");
            let found = self.api("GET", &path, String::new()).await.unwrap_or_default();
            ids.extend(found.as_array().into_iter().flatten().filter_map(|letter| letter["id"].as_i64()));
        }
        ids
    }

    async fn replay(&self, ids: &[i64]) {
        let body = serde_json::json!({ "ids": ids, "actor": "chaos" }).to_string();
        let _ = self.api("POST", "/api/v1/letters/replay", body).await;
    }

    fn write_site(&self, sink: &str, rabbit: Option<(String, String)>) {
        let root = self.site.path();
        for folder in ["systems", "types", "mappings", "data"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        let bus = rabbit.map(|(url, prefix)| {
            write("amqp.secret", &url);
            format!("bus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: {prefix} }}\n")
        });
        write(
            "gatehouse.yaml",
            &format!(
                "version: 1\nlisten: {}\nadmin: {{ listen: {} }}\nladder: [200ms, 1s]\n{}",
                self.listen,
                self.admin,
                bus.unwrap_or_default()
            ),
        );
        write(
            "systems/shop.yaml",
            "version: 1\nsystem: shop\nadapter: rest\nendpoints:\n  orders: { receive: POST /hooks/orders, id: body no }\n",
        );
        write(
            "systems/sink.yaml",
            &format!(
                "version: 1\nsystem: sink\nadapter: rest\naddress: http://{sink}\nlimits: {{ timeout: 5s }}\ncircuit: {{ open_after: 50, retry_after: 500ms }}\nendpoints:\n  put: {{ call: POST /sink }}\n"
            ),
        );
        write(
            "systems/books.yaml",
            "version: 1\nsystem: books\nadapter: sql\ndatabase: sqlite\naddress: data/books.db\nendpoints:\n  rows:\n    table: rows\n    columns: { no: body.no, amount: body.amount, who: body.who }\n",
        );
        write(
            "types/order.schema.json",
            r#"{"type":"object","properties":{"no":{"type":"string"},"amount":{"type":"number"},"who":{"type":"string"}},"required":["no","amount","who"],"additionalProperties":false}"#,
        );
        write(
            "mappings/order.yaml",
            "version: 1\nmapping: order\nto: order\nrows:\n  - { to: no, from: no, required: true }\n  - { to: amount, from: amount, type: decimal(2) }\n  - { to: who, from: who }\n",
        );
        write(
            "orders.yaml",
            "version: 1\nroutes:\n  - route: orders\n    from: shop/orders\n    map: order\n    type: order\n    key: no\n    to:\n      - { target: sink/put, retry: { attempts: 100, first: 200ms, max: 1s } }\n      - { target: books/rows, retry: { attempts: 100, first: 200ms, max: 1s } }\n",
        );
    }
}

/// The books: a plain insert, without a unique key of its own, so that a second effect would be a second row.
fn books(site: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(site.join("data/books.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE rows (no TEXT, amount TEXT, who TEXT);").unwrap();
    connection
}

fn rows(books: &rusqlite::Connection) -> usize {
    // One statement: rows arrive meanwhile.
    let both =
        books.query_row("SELECT count(*), count(DISTINCT no) FROM rows", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (all, distinct): (usize, usize) = both.unwrap();
    assert_eq!(all, distinct, "a delivery had two effects in the books");
    all
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
