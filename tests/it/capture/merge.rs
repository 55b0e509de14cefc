//! Two databases and a REST source into one type, while the gateway is killed: in the end the target holds for each key what the
//! rules say of what each source said last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use gatehouse_net::client::{Client, ClientConfig};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::harness::SHOP;

const KEYS: u32 = 8;
const STEPS: u32 = 150;

const CUSTOMER: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "no": { "type": "string" }, "name": { "type": ["string", "null"] }, "credit": { "type": ["integer", "null"] },
    "city": { "type": ["string", "null"] }, "tax": { "type": "string" }, "ver": { "type": "integer" }
  },
  "required": ["no", "ver"],
  "additionalProperties": false
}"#;

const ROUTES: &str = "version: 1
routes:
  - route: customers
    type: customer
    key: \"no\"
    merge:
      key: [\"no\"]
      latest: ver
      sources:
        - { from: crm/rows, map: from-crm }
        - { from: erp/rows, map: from-erp }
        - { from: shop/members }
      fields:
        credit: { prefer: [erp/rows, shop/members] }
        city: priority
        tax: agree
    to: [{ target: sink/put, order_by: \"no\", retry: { attempts: 30, first: 100ms, max: 1s } }]
";

/// What a source says of a key: name, credit, city, each perhaps not; and how new it is.
#[derive(Clone, Debug, Default)]
struct Said {
    name: Option<String>,
    credit: Option<i64>,
    city: Option<String>,
    ver: i64,
}

impl Said {
    fn new(random: &mut StdRng, ver: i64) -> Self {
        let name = random.random_bool(0.7).then(|| format!("名-{ver}"));
        let credit = random.random_bool(0.5).then(|| random.random_range(0..1000));
        Self { name, credit, city: random.random_bool(0.4).then(|| format!("城-{ver}")), ver }
    }

    fn sql(&self) -> (String, String, String) {
        let text = |text: &Option<String>| text.as_ref().map_or("NULL".to_owned(), |text| format!("'{text}'"));
        (text(&self.name), self.credit.map_or("NULL".to_owned(), |credit| credit.to_string()), text(&self.city))
    }
}

/// What the rules make of the three, written down once more by hand: latest name, the ERP's credit before the shop's before the
/// CRM's, the city of the first in the order crm, erp, shop.
fn by_the_rules(no: u32, said: &[Option<Said>; 3]) -> serde_json::Value {
    let [crm, erp, shop] = said;
    let name = said
        .iter()
        .flatten()
        .filter(|one| one.name.is_some())
        .max_by_key(|one| one.ver)
        .and_then(|one| one.name.clone());
    let first = |order: [&Option<Said>; 3]| order.into_iter().flatten().find_map(|one| one.credit);
    let city = said.iter().flatten().find_map(|one| one.city.clone());
    let ver = said.iter().flatten().map(|one| one.ver).max();
    serde_json::json!({ "no": format!("K{no}"), "name": name, "credit": first([erp, shop, crm]), "city": city, "tax": format!("T{no}"), "ver": ver })
}

pub(super) async fn sources_are_merged_by_the_rules_through_kills(database: &Database) {
    let seed = rand::random::<u64>();
    eprintln!("merge on {}: seed {seed}", database.kind);
    let mut random = StdRng::seed_from_u64(seed);
    let erp = Database::new("sqlite").await.expect("SQLite is everywhere");
    let (mut crm_session, mut erp_session) = (database.session().await, erp.session().await);
    crm_session.run("CREATE TABLE t (id VARCHAR(9) PRIMARY KEY, name VARCHAR(40), credit INT, city VARCHAR(40), tax VARCHAR(9), ver INT)").await;
    erp_session
        .run("CREATE TABLE k (kunnr TEXT PRIMARY KEY, name1 TEXT, klimk INT, ort01 TEXT, stcd1 TEXT, aedat INT)")
        .await;
    let peer = Peer::start().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mapping = |name: &str, columns: [&str; 6]| {
        let rows = ["no", "name", "credit", "city", "tax", "ver"].into_iter().zip(columns);
        let rows: String = rows.map(|(to, from)| format!("  - {{ to: \"{to}\", from: {from} }}\n")).collect();
        format!("version: 1\nmapping: {name}\nto: customer\nrows:\n{rows}")
    };
    let capture = |table: &str, mark: &str| {
        format!(
            "  rows:\n    capture: {{ table: {table}, by: watermark, watermark: {mark}, overlap: 200ms, every: 30ms, batch: 5 }}\n"
        )
    };
    let place = Place::new(&[
        ("gatehouse.yaml", &GATEWAY.replace("listen: 127.0.0.1:0\nadmin", &format!("listen: 127.0.0.1:{port}\nadmin"))),
        ("types/customer.schema.json", CUSTOMER),
        ("mappings/from-crm.yaml", &mapping("from-crm", ["id", "name", "credit", "city", "tax", "ver"])),
        ("mappings/from-erp.yaml", &mapping("from-erp", ["kunnr", "name1", "klimk", "ort01", "stcd1", "aedat"])),
        ("systems/crm.yaml", &database.writes("crm", &capture("t", "ver"))),
        ("systems/erp.yaml", &erp.writes("erp", &capture("k", "aedat"))),
        (
            "systems/shop.yaml",
            &format!("{SHOP}  members: {{ receive: POST /hooks/members, id: header Idempotency-Key }}\n"),
        ),
        ("systems/sink.yaml", &peer.system("sink", "")),
        ("database.secret", "gatehouse"),
        ("orders.yaml", ROUTES),
    ]);
    let (faults, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let deaths = Arc::new(AtomicUsize::new(0));
    let keeper = tokio::spawn(workload::keep_alive(
        place.root().to_owned(),
        &["k16=5%return", "k2=3%return", "k3=3%return"],
        faults.clone(),
        stop.clone(),
        deaths.clone(),
        StdRng::seed_from_u64(random.random()),
    ));
    let config = ClientConfig {
        address: format!("http://127.0.0.1:{port}"),
        ca_file: None,
        max_answer: 1 << 20,
        connections: 2,
    };
    let client = Client::new(&config).expect("a client");
    let mut said: Vec<[Option<Said>; 3]> = vec![Default::default(); KEYS as usize];
    let mut posted: Vec<(u32, Said)> = Vec::new();
    for ver in 1..=i64::from(STEPS) {
        let no = random.random_range(0..KEYS);
        let source = random.random_range(0..3_usize);
        let new = Said::new(&mut random, ver);
        let (name, credit, city) = new.sql();
        match source {
            0 => {
                crm_session.run(&format!("DELETE FROM t WHERE id = 'K{no}'")).await;
                crm_session
                    .run(&format!("INSERT INTO t VALUES ('K{no}', {name}, {credit}, {city}, 'T{no}', {ver})"))
                    .await;
            }
            1 => {
                erp_session
                    .run(&format!("REPLACE INTO k VALUES ('K{no}', {name}, {credit}, {city}, 'T{no}', {ver})"))
                    .await
            }
            _ => {
                post(&client, no, &new).await;
                posted.push((no, new.clone()));
                // What was said long ago comes again, late: it changes nothing.
                let (no, old) = posted[random.random_range(0..posted.len())].clone();
                post(&client, no, &old).await;
            }
        }
        said[no as usize][source] = Some(new);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
    }
    until("some deaths", async || deaths.load(Ordering::SeqCst) >= 3).await;
    faults.store(false, Ordering::SeqCst);
    let wanted: BTreeMap<String, serde_json::Value> = (0..KEYS)
        .filter(|no| said[*no as usize].iter().any(Option::is_some))
        .map(|no| (format!("K{no}"), by_the_rules(no, &said[no as usize])))
        .collect();
    let rebuilt = || {
        let (mut known, mut records) = (std::collections::HashSet::new(), BTreeMap::new());
        for got in peer.took().into_iter().filter(|got| known.insert(got.key.clone())) {
            let mut body = got.json();
            for name in ["name", "credit", "city"] {
                // Nobody has said it, or somebody has said that there is none: a target sees both as none.
                if body.get(name).is_none() {
                    body[name] = serde_json::Value::Null;
                }
            }
            records.insert(body["no"].as_str().expect("a key").to_owned(), body);
        }
        records
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while rebuilt() != wanted {
        if tokio::time::Instant::now() >= deadline {
            let rebuilt = rebuilt();
            for (key, record) in wanted.iter().filter(|(key, record)| rebuilt.get(*key) != Some(record)) {
                eprintln!("{key}: the rules say {record}, the target has {:?}", rebuilt.get(key));
            }
            panic!("seed {seed}: the target is not what the rules say");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::SeqCst);
    keeper.await.expect("the keeper ends");
    eprintln!(
        "merge on {}: {} keys as the rules say after {} deliveries and {} deaths",
        database.kind,
        wanted.len(),
        peer.took().len(),
        deaths.load(Ordering::SeqCst)
    );
}

/// The shop says it, again and again until it is told yes.
async fn post(client: &Client, no: u32, said: &Said) {
    let body = serde_json::json!({ "no": format!("K{no}"), "name": said.name, "credit": said.credit, "city": said.city, "tax": format!("T{no}"), "ver": said.ver });
    let id = format!("m-{}", said.ver);
    until("the shop is told yes", async || {
        let request = http::Request::post(client.url("/hooks/members").expect("a path"))
            .header("content-type", "application/json")
            .header("x-api-key", crate::harness::KEY)
            .header("idempotency-key", &id)
            .body(Bytes::from(body.to_string()))
            .expect("a request");
        client.send(request).await.is_ok_and(|answer| answer.status() == http::StatusCode::ACCEPTED)
    })
    .await;
}
