//! Rows that are read once more, as an operator has it done: by the command line, in a gateway that runs, is killed, or is one
//! of two.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gatehouse::engine::backfill::View;
use gatehouse_store::{BackfillState, Store, StoreConfig, Tally};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::harness::Running;

const CAPTURE: &str = "{ table: t, by: watermark, watermark: changed, overlap: 200ms, every: 50ms, batch: 50 }";

const LOG: &str = "{ table: t, by: log, every: 50ms, batch: 50 }";

const MAPPING: &str = "  - { to: op, value: meta.op }\n  - { to: id, from: id }\n  - { to: key, value: meta.key }\n  - { to: v, from: v, check: value != \"bad\" }\n";

/// A port that nobody had a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A site whose admin listener the command line finds.
fn desk(database: &Database, capture: &str, peer: &Peer) -> Place {
    let place = site(database, capture, MAPPING, peer);
    let admin = format!("admin: {{ listen: \"127.0.0.1:{}\" }}", free_port());
    place.write("gatehouse.yaml", &GATEWAY.replace("admin: { listen: 127.0.0.1:0 }", &admin));
    place
}

/// A gateway in this process with its admin listener.
struct Staffed {
    running: Running,
    stop: CancellationToken,
}

impl Staffed {
    async fn start(place: &Place) -> Self {
        let running = place.start().await;
        let stop = CancellationToken::new();
        let served = gatehouse::admin::serve(running.gateway.clone(), place.root(), stop.clone()).await;
        served.expect("the admin listener listens");
        Self { running, stop }
    }

    async fn view(&self, id: i64) -> View {
        self.running.gateway.backfills.show(id).await.expect("a backfill")
    }

    async fn reaches(&self, id: i64, state: BackfillState) -> View {
        until(state.as_str(), async || self.view(id).await.backfill.state == state).await;
        self.view(id).await
    }

    async fn end(self) {
        self.running.gateway.stop().await;
        self.stop.cancel();
    }
}

/// `count` rows, ids from 1, a day each 100 from the first of August on.
async fn fill(database: &Database, count: u32) {
    let mut session = database.session().await;
    let time = database.by("TEXT", "timestamptz", "DATETIME(6)");
    session.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60), changed {time})")).await;
    for some in (1..=count).collect::<Vec<_>>().chunks(200) {
        let row = |id: &u32| format!("({id}, 'v{id}', '2026-08-{:02} 10:{:02}:00')", 1 + (id - 1) / 100, id % 60);
        let rows: Vec<_> = some.iter().map(row).collect();
        session.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    }
}

fn ids(got: &[crate::harness::Got]) -> BTreeSet<i64> {
    got.iter().filter_map(|got| got.json()["id"].as_i64()).collect()
}

fn of(tally: Tally) -> (u64, u64, u64, u64) {
    (tally.read, tally.accepted, tally.recognised, tally.refused)
}

pub(super) async fn rows_are_read_once_more_for_one_route(database: &Database) {
    fill(database, 300).await;
    let (peer, late) = (Peer::start().await, Peer::start().await);
    let place = desk(database, CAPTURE, &peer);
    let staffed = Staffed::start(&place).await;
    until("every row", async || ids(&peer.took()).len() == 300).await;
    staffed.running.drained().await;
    // What its targets have taken is recognised, and the slices are days.
    assert!(gatehouse(&place, &["backfill", "rows", "--rate", "2000/s", "--actor", "li"]).await);
    let view = staffed.view(1).await;
    assert_eq!((view.backfill.state, of(view.backfill.tally)), (BackfillState::Done, (300, 0, 300, 0)));
    let bounds: Vec<_> = view.slices.iter().map(|slice| slice.slice.from.clone().unwrap()).collect();
    assert_eq!(bounds, ["2026-08-01", "2026-08-02", "2026-08-03"]);
    assert!(view.slices.iter().all(|slice| slice.done && slice.tally.read == 100), "{view:?}");
    assert_eq!(peer.took().len(), 300);
    staffed.end().await;
    // A route that came later, and a row that it refuses.
    database.session().await.run("UPDATE t SET v = 'bad' WHERE id = 150").await;
    place.write("systems/late.yaml", &late.system("late", ""));
    let routes = std::fs::read_to_string(place.root().join("orders.yaml")).expect("readable");
    let more = "  - { route: later, from: src/rows, map: change, type: row, to: [{ target: late/put }] }\n";
    place.write("orders.yaml", &format!("{routes}{more}"));
    let staffed = Staffed::start(&place).await;
    let range = ["backfill", "later", "--from", "2026-08-02", "--to", "2026-08-03", "--rate", "2000/s"];
    assert!(gatehouse(&place, &[&range[..], &["--dry-run"]].concat()).await);
    assert_eq!(staffed.running.gateway.backfills.list(9).await.unwrap().len(), 1, "nothing was begun");
    assert!(!gatehouse(&place, &range).await, "one became a letter");
    let view = staffed.view(2).await;
    assert_eq!((view.backfill.expected, of(view.backfill.tally)), (Some(100), (100, 99, 0, 1)));
    until("a day at the late one", async || late.took().len() == 99).await;
    assert_eq!(ids(&late.took()), (101..=200).filter(|id| *id != 150).collect());
    assert_eq!(late.took()[0].json()["op"], "read");
    // The letter is of that route alone; mended, its row arrives there and nowhere else.
    let letter = staffed.running.one_letter().await;
    assert_eq!((letter.summary.route.as_deref(), letter.summary.key.as_deref()), (Some("later"), Some("150")));
    place.write("mended.json", r#"{"id": 150, "v": "good"}"#);
    let number = letter.summary.id.to_string();
    let mended = place.root().join("mended.json");
    assert!(gatehouse(&place, &["letters", "edit", &number, "--file", &mended.to_string_lossy()]).await);
    assert!(gatehouse(&place, &["letters", "replay", &number]).await);
    until("the mended row", async || late.took().len() == 100).await;
    // Once more is recognised, and `--again` sends it with new delivery ids, each once.
    let keys = |peer: &Peer| peer.took().into_iter().map(|got| got.key).collect::<BTreeSet<_>>();
    staffed.running.drained().await;
    database.session().await.run("UPDATE t SET v = 'v150' WHERE id = 150").await;
    assert!(gatehouse(&place, &["backfill", "later", "--by", "id", "--from", "101", "--to", "201"]).await);
    let view = staffed.view(3).await;
    assert_eq!(of(view.backfill.tally), (100, 1, 99, 0));
    until("the one that is new", async || late.took().len() == 101).await;
    staffed.running.drained().await;
    let before = keys(&late);
    let again = ["backfill", "later", "--by", "id", "--from", "101", "--to", "201", "--slice", "30", "--again"];
    assert!(gatehouse(&place, &again).await);
    let view = staffed.view(4).await;
    assert_eq!((view.slices.len(), of(view.backfill.tally)), (4, (100, 100, 0, 0)));
    until("all of them", async || keys(&late).len() == before.len() + 100).await;
    staffed.running.drained().await;
    assert_eq!((late.took().len(), peer.took().len()), (before.len() + 100, 300));
    let acts = staffed.running.gateway.letters.store().audit_entries(50).await.unwrap();
    let begun = acts.iter().find(|act| act.action == "backfill.start" && act.subject == "backfill:1").unwrap();
    assert!(begun.actor == "li" && begun.detail.contains("changed from 2026-08-01 to 2026-08-04"), "{begun:?}");
    staffed.end().await;
}

pub(super) async fn a_backfill_is_held_let_go_and_ended(database: &Database) {
    fill(database, 400).await;
    let peer = Peer::start().await;
    let place = desk(database, CAPTURE, &peer);
    let staffed = Staffed::start(&place).await;
    until("every row", async || ids(&peer.took()).len() == 400).await;
    let start = ["backfill", "rows", "--by", "id", "--slice", "70", "--again", "--detach", "--rate", "100/s"];
    assert!(gatehouse(&place, &start).await);
    until("some rows", async || staffed.view(1).await.backfill.tally.read > 0).await;
    assert!(gatehouse(&place, &["backfill", "pause", "1"]).await);
    let mut session = database.session().await;
    let now = database.by("strftime('%Y-%m-%d %H:%M:%f')", "now()", "NOW(6)");
    let mut held = Vec::new();
    // The piece that was under way ends; then live rows go on, and it does not.
    for id in [1001, 1002, 1003] {
        session.run(&format!("INSERT INTO t VALUES ({id}, 'live', {now})")).await;
        until("a live row", async || ids(&peer.took()).contains(&id)).await;
        held.push(staffed.view(1).await.backfill.tally.read);
    }
    assert!(held[1] == held[2] && held[2] < 400, "{held:?}");
    assert!(!gatehouse(&place, &["backfill", "pause", "1"]).await, "it is paused already");
    // A new gateway holds it too, until it is let go.
    staffed.end().await;
    let staffed = Staffed::start(&place).await;
    assert_eq!(staffed.view(1).await.backfill.state, BackfillState::Paused);
    assert!(gatehouse(&place, &["backfill", "resume", "1"]).await);
    let view = staffed.reaches(1, BackfillState::Done).await;
    assert_eq!(of(view.backfill.tally), (400, 400, 0, 0));
    staffed.running.drained().await;
    let keys: BTreeSet<_> = peer.took().into_iter().map(|got| got.key).collect();
    assert_eq!((keys.len(), ids(&peer.took()).len()), (803, 403), "each twice, but for what came live");
    // Ended, it stays so.
    assert!(gatehouse(&place, &start).await);
    until("some rows", async || staffed.view(2).await.backfill.tally.read > 0).await;
    assert!(gatehouse(&place, &["backfill", "cancel", "2"]).await);
    assert!(!gatehouse(&place, &["backfill", "resume", "2"]).await);
    assert!(!gatehouse(&place, &["backfill", "show", "2"]).await, "it did not read all");
    assert!(gatehouse(&place, &["backfill", "list"]).await);
    staffed.end().await;
    let staffed = Staffed::start(&place).await;
    let view = staffed.view(2).await;
    assert!(view.backfill.state == BackfillState::Cancelled && view.backfill.tally.read < 400, "{view:?}");
    staffed.end().await;
}

pub(super) async fn a_backfill_goes_on_after_kills_and_beside_changes(database: &Database) {
    goes_on_after_kills(database, CAPTURE).await;
}

pub(super) async fn a_backfill_beside_a_log_goes_on_after_kills(database: &Database) {
    goes_on_after_kills(database, LOG).await;
}

/// MariaDB: a transaction stands in the log a moment before it can be seen. What is read once more meanwhile waits for it.
pub(super) async fn what_is_read_once_more_is_not_older_than_the_log(database: &Database) {
    fill(database, 10).await;
    let peer = Peer::start().await;
    let place = desk(database, LOG, &peer);
    let staffed = Staffed::start(&place).await;
    until("every row", async || ids(&peer.took()).len() == 10).await;
    let (mut late, mut session) = (database.session().await, database.session().await);
    late.run("BEGIN").await;
    late.run("UPDATE t SET v = 'late' WHERE id = 5").await;
    assert!(gatehouse(&place, &["backfill", "rows", "--by", "id", "--again", "--detach"]).await);
    // Where it is there, it waits: its rows are one piece.
    let waiting = "information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() AND info LIKE '%LOCK IN SHARE MODE%'";
    until("a look that waits for the row", async || session.count(waiting).await == 1).await;
    late.run("COMMIT").await;
    let view = staffed.reaches(1, BackfillState::Done).await;
    assert_eq!(of(view.backfill.tally), (10, 10, 0, 0));
    staffed.running.drained().await;
    let took = peer.took();
    let values = took.iter().map(crate::harness::Got::json).filter(|body| body["id"] == 5 && body["op"] == "read");
    let mut values: Vec<_> = values.map(|body| body["v"].to_string()).collect();
    values.sort();
    assert_eq!(values, ["\"late\"", "\"v5\""], "first as it was, once more as it is");
    staffed.end().await;
}

async fn goes_on_after_kills(database: &Database, capture: &str) {
    const ROWS: u32 = 600;
    let seed = rand::random::<u64>();
    eprintln!("backfill on {}: seed {seed}", database.kind);
    let mut random = StdRng::seed_from_u64(seed);
    fill(database, ROWS).await;
    let peer = Peer::start().await;
    let place = desk(database, capture, &peer);
    let route = "version: 1\nroutes:\n  - route: rows\n    from: src/rows\n    map: change\n    type: row\n    key: key\n    to: [{ target: sink/put, order_by: key, retry: { attempts: 30, first: 100ms, max: 1s } }]\n";
    place.write("orders.yaml", route);
    assert!(capture != LOG || gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let (faults, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let deaths = Arc::new(AtomicUsize::new(0));
    let keeper = tokio::spawn(workload::keep_alive(
        place.root().to_owned(),
        &["k13=1%return", "k15=20%return", "k14=1%return"],
        faults.clone(),
        stop.clone(),
        deaths.clone(),
        StdRng::seed_from_u64(random.random()),
    ));
    until("every row", async || ids(&peer.took()).len() == ROWS as usize).await;
    let words = ["backfill", "rows", "--by", "id", "--slice", "150", "--rate", "120/s", "--again", "--detach"];
    until("the backfill to begin", async || gatehouse(&place, &words).await).await;
    faults.store(true, Ordering::SeqCst);
    // The rows change while they are read once more: what is sent of an older state must not end up on top.
    let store = gatehouse_store::open(StoreConfig::Sqlite(place.root().join("data/store.db"))).await.expect("opens");
    let mut session = database.session().await;
    let now = database.by("strftime('%Y-%m-%d %H:%M:%f')", "now()", "NOW(6)");
    let mut change = 0;
    until("the backfill to be done", async || {
        change += 1;
        let id = random.random_range(1..=ROWS);
        session.run(&format!("UPDATE t SET v = 'c{change}', changed = {now} WHERE id = {id}")).await;
        let found = store.backfill(1).await.expect("it stands in the store");
        if found.tally.read > 400 && deaths.load(Ordering::SeqCst) >= 3 {
            faults.store(false, Ordering::SeqCst);
        }
        found.state == BackfillState::Done
    })
    .await;
    faults.store(false, Ordering::SeqCst);
    let found = store.backfill(1).await.unwrap();
    assert_eq!(found.tally.read, u64::from(ROWS), "each row is counted once, however often it was read");
    let rows = session.rows("SELECT id, v FROM t").await;
    let wanted: BTreeMap<String, String> =
        rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect();
    until("the target to equal the source", async || workload::rebuild(&peer, false) == wanted).await;
    stop.store(true, Ordering::SeqCst);
    keeper.await.expect("the keeper ends");
    let by_key = peer.took().into_iter().map(|got| got.key).collect::<BTreeSet<_>>();
    eprintln!(
        "backfill on {}: {change} changes, {} deaths, {} deliveries",
        database.kind,
        deaths.load(Ordering::SeqCst),
        by_key.len()
    );
    assert!(by_key.len() >= 2 * ROWS as usize);
}

pub(super) async fn one_gateway_of_two_reads_it(database: &Database) {
    let Some(url) = crate::databases::server("postgres") else { return };
    fill(database, 500).await;
    let peer = Peer::start().await;
    let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
    let places = ["a", "b"].map(|name| {
        let place = desk(database, CAPTURE, &peer);
        let text = std::fs::read_to_string(place.root().join("gatehouse.yaml")).expect("readable");
        let text = text.replace("name: test", &format!("name: {name}"));
        place.write(
            "gatehouse.yaml",
            &format!("{text}store: {{ postgres: \"${{file:store.secret}}\", schema: {schema} }}\n"),
        );
        place.write("store.secret", &url);
        place
    });
    let config = StoreConfig::Postgres {
        url: gatehouse_core::secret::Secret::new(url.as_str()),
        schema: schema.clone(),
        ca_file: None,
    };
    let store: Arc<dyn Store> = gatehouse_store::open(config).await.expect("opens");
    let mut gateways = places.each_ref().map(|place| crate::chaos::gateway(place.root()).spawn().expect("starts"));
    until("every row", async || ids(&peer.took()).len() == 500).await;
    let words = ["backfill", "rows", "--by", "id", "--slice", "100", "--rate", "60/s", "--again", "--detach"];
    until("the backfill to begin", async || gatehouse(&places[0], &words).await).await;
    // Each is killed in its turn: one of them was reading, and the other takes over.
    for (at, rows) in [(0, 60), (1, 250)] {
        until("some rows", async || store.backfill(1).await.unwrap().tally.read >= rows).await;
        gateways[at].start_kill().expect("killed");
        gateways[at].wait().await.expect("dead");
        let before = store.backfill(1).await.unwrap().tally.read;
        until("the other to go on", async || store.backfill(1).await.unwrap().tally.read > before).await;
        gateways[at] = crate::chaos::gateway(places[at].root()).spawn().expect("starts");
    }
    until("the end", async || store.backfill(1).await.unwrap().state == BackfillState::Done).await;
    assert_eq!(store.backfill(1).await.unwrap().tally.read, 500);
    let twice = || {
        let keys: BTreeSet<_> = peer.took().into_iter().map(|got| (got.json()["id"].as_i64(), got.key)).collect();
        (1..=500).all(|id| keys.iter().filter(|(of, _)| *of == Some(id)).count() == 2)
    };
    until("each row, once live and once more", async || twice()).await;
    for mut gateway in gateways {
        gateway.start_kill().expect("killed");
        gateway.wait().await.expect("dead");
    }
    drop(store);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.expect("dropped");
}

pub(super) async fn what_cannot_be_read_once_more_is_told(database: &Database) {
    fill(database, 5).await;
    let peer = Peer::start().await;
    let place = desk(database, CAPTURE, &peer);
    let system = place.root().join("systems/src.yaml");
    let text = std::fs::read_to_string(&system).expect("readable");
    place.write("systems/src.yaml", &format!("{text}    limits: {{ rate: 40/s }}\n"));
    let staffed = Staffed::start(&place).await;
    until("every row", async || ids(&peer.took()).len() == 5).await;
    let wish = |route: &str| gatehouse::engine::backfill::Wish {
        route: route.to_owned(),
        actor: "li".to_owned(),
        dry_run: true,
        ..Default::default()
    };
    let backfills = &staffed.running.gateway.backfills;
    let refused = async |wish: gatehouse::engine::backfill::Wish| backfills.begin(&wish).await.unwrap_err().public;
    let some = |text: &str| Some(text.to_owned());
    assert!(refused(wish("row")).await.contains("did you mean `rows`"));
    assert!(refused(wish("orders")).await.contains("sends what it has once"));
    let mut wrong = wish("rows");
    wrong.by = some("chnaged");
    assert!(refused(wrong).await.contains("did you mean `changed`"));
    let mut wrong = wish("rows");
    wrong.table = some("u");
    assert!(refused(wrong).await.contains("no table `u`"));
    let mut wrong = wish("rows");
    wrong.rate = some("40/s");
    assert!(refused(wrong).await.contains("a rate below that"));
    let mut wrong = wish("rows");
    wrong.from = some("2027-01-01");
    assert!(refused(wrong).await.contains("nothing to read"));
    let mut wrong = wish("rows");
    wrong.from = some("2026-08-1");
    assert!(refused(wrong).await.contains("no time such as"));
    let begun = backfills.begin(&wish("rows")).await.expect("sound");
    assert_eq!((begun.expected, begun.rate.as_str(), begun.id), (Some(5), "10/s", None));
    // A column that goes while it is read: it is halted with its reason, and live rows go on.
    let mut session = database.session().await;
    session.run("ALTER TABLE t ADD COLUMN extra INT").await;
    session.run("UPDATE t SET extra = id").await;
    staffed.end().await;
    let staffed = Staffed::start(&place).await;
    let words = ["backfill", "rows", "--by", "extra", "--detach", "--rate", "1/m", "--again"];
    assert!(gatehouse(&place, &words).await);
    until("the first row", async || staffed.view(1).await.backfill.tally.read == 1).await;
    assert!(gatehouse(&place, &["backfill", "cancel", "1"]).await);
    session.run("ALTER TABLE t DROP COLUMN extra").await;
    let store = staffed.running.gateway.letters.store();
    let slice = gatehouse_core::backfill::Slice { table: "t".into(), by: "extra".into(), from: None, to: None };
    let new = gatehouse_store::NewBackfill {
        route: "rows".into(),
        endpoint: "src/rows".into(),
        again: false,
        rate: "10/s".into(),
        expected: None,
        slices: vec![slice],
        actor: "li".into(),
    };
    let id = store.put_backfill(&new).await.unwrap();
    let view = staffed.reaches(id, BackfillState::Paused).await;
    assert!(view.backfill.problem.as_deref().is_some_and(|text| text.contains("extra")), "{view:?}");
    let now = database.by("strftime('%Y-%m-%d %H:%M:%f')", "now()", "NOW(6)");
    session.run(&format!("INSERT INTO t (id, v, changed) VALUES (77, 'live', {now})")).await;
    until("the live row", async || ids(&peer.took()).contains(&77)).await;
    staffed.end().await;
}
