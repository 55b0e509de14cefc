//! Several sources into one type: what a target sees of a key that two systems speak of, and what happens when they do not agree.

use std::process::ExitCode;

use gatehouse_store::State;

use crate::broker::V310;
use crate::harness::{Answer, GATEWAY, KEY, PATIENCE, Peer, Place, Running, SHOP, until};

const CUSTOMER: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "no": { "type": "string" }, "phone": { "type": "string" }, "name": { "type": "string" }, "level": { "type": ["string", "null"] },
    "tax": { "type": "string" }, "credit": { "type": "number" }, "at": { "type": "string", "format": "date-time" }, "origin": { "type": "string" }
  },
  "required": ["no", "phone", "at"],
  "additionalProperties": false
}"#;

/// The ERP's own words, mapped; `origin` has a default in one source and none in the other.
const FROM_ERP: &str = "version: 1
mapping: from-erp
to: customer
rows:
  - { to: no, from: KUNNR, required: true }
  - { to: phone, from: TELF1, clean: [trim, digits] }
  - { to: name, from: NAME1 }
  - { to: tax, from: STCD1 }
  - { to: credit, from: KLIMK, type: decimal }
  - { to: level, from: KLABC }
  - { to: at, from: AEDAT }
  - { to: origin, from: HERKU, default: erp }
";

const ROUTES: &str = "version: 1
routes:
  - route: customers
    type: customer
    key: \"no\"
    merge:
      key: [\"no\", phone]
      latest: at
      sources:
        - { from: shop/crm }
        - { from: shop/erp, map: from-erp }
        - { from: shop/partner, prefix: P- }
      fields:
        tax: agree
        credit: { prefer: [shop/erp] }
        level: priority
    to: [{ target: dw/put, order_by: \"no\", when: 'at != \"2026-08-04T00:00:00Z\"' }]
";

fn place(dw: &Peer) -> Place {
    let shop = format!(
        "{SHOP}  crm: {{ receive: POST /hooks/crm, id: header Idempotency-Key }}\n  erp: {{ receive: POST /hooks/erp, id: header Idempotency-Key }}\n  partner: {{ receive: POST /hooks/partner, id: header Idempotency-Key }}\n"
    );
    let orders =
        format!("{ROUTES}  - {{ route: orders, from: shop/orders, type: order.paid, to: [{{ target: dw/put }}] }}\n");
    Place::new(&[
        ("systems/shop.yaml", &shop),
        ("systems/dw.yaml", &dw.system("dw", "")),
        ("types/customer.schema.json", CUSTOMER),
        ("mappings/from-erp.yaml", FROM_ERP),
        ("orders.yaml", &orders),
    ])
}

async fn send(running: &Running, from: &str, id: &str, body: &str) -> Answer {
    let headers = [("x-api-key", KEY), ("content-type", "application/json"), ("idempotency-key", id)];
    running.send(http::Method::POST, &format!("/hooks/{from}"), &headers, body.to_owned()).await
}

async fn sent(running: &Running, from: &str, id: &str, body: &str) {
    let answer = send(running, from, id, body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Waits until `count` records were taken, and that it stays at that.
async fn last(running: &Running, dw: &Peer, count: usize) -> serde_json::Value {
    until(&format!("{count} records"), async || dw.took().len() >= count).await;
    running.drained().await;
    let took = dw.took();
    assert_eq!(took.len(), count, "{took:?}");
    took[count - 1].json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_is_made_of_what_each_source_said_last() {
    let dw = Peer::start().await;
    let running = place(&dw).start().await;
    let crm = r#"{"no":"1001","phone":"13800138000","name":"张三","level":"A","credit":1,"at":"2026-08-02T00:00:00Z"}"#;
    sent(&running, "crm", "c1", crm).await;
    assert_eq!(last(&running, &dw, 1).await["name"], "张三");
    // Older as a whole: its credit is preferred all the same, its columns are added, what is newer stays.
    let erp = r#"{"KUNNR":"1001","TELF1":" 138-0013-8000","NAME1":"張三","KLIMK":"20000.50","STCD1":"T1","KLABC":"B","AEDAT":"2026-08-01T08:00:00+08:00"}"#;
    sent(&running, "erp", "e1", erp).await;
    let record = last(&running, &dw, 2).await;
    let wanted = r#"{"no":"1001","phone":"13800138000","name":"张三","level":"A","credit":20000.50,"at":"2026-08-02T00:00:00Z","tax":"T1","origin":"erp"}"#;
    assert_eq!(record, serde_json::from_str::<serde_json::Value>(wanted).unwrap());
    assert!(dw.took()[1].body.contains("20000.50"), "{}", dw.took()[1].body);
    // A repeat, with its id and without, and an older record change nothing.
    sent(&running, "crm", "c1", crm).await;
    sent(&running, "crm", "c2", crm).await;
    sent(&running, "crm", "c3", &crm.replace("张三", "老张").replace("08-02", "07-30")).await;
    // A newer one does; one that no target wants is kept, and what follows it goes out.
    sent(&running, "crm", "c4", &crm.replace("张三", "张三丰").replace("08-02", "08-03")).await;
    assert_eq!(last(&running, &dw, 3).await["name"], "张三丰");
    sent(&running, "crm", "c5", &crm.replace("张三", "张君宝").replace("08-02", "08-04")).await;
    sent(&running, "crm", "c6", &crm.replace("08-02", "08-05")).await;
    assert_eq!(last(&running, &dw, 4).await["name"], "张三");
    // The same number at a partner is another customer; so is another phone.
    sent(&running, "partner", "p1", &crm.replace("张三", "李四")).await;
    assert_eq!(last(&running, &dw, 5).await["no"], "P-1001");
    sent(&running, "crm", "c7", &crm.replace("13800138000", "13900139000")).await;
    assert!(last(&running, &dw, 6).await["credit"] == 1);
    // A part of the key that is empty is the caller's mistake.
    let answer = send(&running, "crm", "c8", &crm.replace("13800138000", "")).await;
    assert!(answer.status == 422 && answer.text.contains("/phone"), "{answer:?}");
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_that_must_agree_make_a_letter_until_they_do() {
    let dw = Peer::start().await;
    let running = place(&dw).start().await;
    let record = |tax: &str, day: u32| {
        format!(r#"{{"no":"7","phone":"13800138000","tax":"{tax}","at":"2026-08-{day:02}T00:00:00Z"}}"#)
    };
    let erp = |tax: &str, day: u32| {
        format!(r#"{{"KUNNR":"7","TELF1":"13800138000","STCD1":"{tax}","AEDAT":"2026-08-{day:02}T00:00:00Z"}}"#)
    };
    sent(&running, "crm", "c1", &record("T-1", 1)).await;
    last(&running, &dw, 1).await;
    // It is kept, with a letter that shows no value; the target keeps the record that was whole.
    sent(&running, "erp", "e1", &erp("T-2", 2)).await;
    let letter = running.one_letter().await;
    let text = &letter.summary.text;
    assert!(text.contains("/tax") && text.contains("shop/crm and shop/erp") && !text.contains("T-2"), "{text}");
    assert_eq!((letter.summary.route.as_deref(), letter.summary.message_id.as_str()), (Some("customers"), "e1"));
    let again = running.gateway.letters.replay(&[letter.summary.id], "li").await.unwrap();
    assert!(again[0].refused.as_deref().is_some_and(|why| why.contains("must agree")), "{again:?}");
    sent(&running, "erp", "e1", &erp("T-2", 2)).await;
    assert_eq!(running.letters(State::Open).await.len(), 1, "the same once more is the same letter");
    last(&running, &dw, 1).await;
    // The other source follows: now they agree, and the letter has nothing left to do.
    sent(&running, "crm", "c2", &record("T-2", 3)).await;
    assert_eq!(last(&running, &dw, 2).await["tax"], "T-2");
    let again = running.gateway.letters.replay(&[letter.summary.id], "li").await.unwrap();
    assert_eq!(again[0].refused, None);
    assert!(running.letters(State::Open).await.is_empty());
    last(&running, &dw, 2).await;
    running.gateway.stop().await;
}

/// Two gateways take records of the same keys at the same moments: none of them is lost from the record that goes out last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_change_one_record_in_turn() {
    const KEYS: u32 = 3;
    let (Some(_turn), Some(url)) = (V310.shared().await, crate::databases::server("postgres")) else { return };
    let dw = Peer::start().await;
    let (prefix, schema) =
        (format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]), uuid::Uuid::now_v7().simple());
    let mut gateways = Vec::new();
    for name in ["a", "b"] {
        let place = place(&dw);
        let shared = format!(
            "bus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: {prefix} }}\nstore: {{ postgres: \"${{file:store.secret}}\", schema: test_{schema} }}\n"
        );
        place.write("gatehouse.yaml", &format!("{}{shared}", GATEWAY.replace("name: test", &format!("name: {name}"))));
        place.write("amqp.secret", &V310.url());
        place.write("store.secret", &url);
        gateways.push((place.start().await, place));
    }
    let mut sends = Vec::new();
    for n in 0..60_u32 {
        let (no, running) = (n % KEYS, &gateways[(n as usize / 2) % 2].0);
        let at = format!("2026-08-01T00:00:{n:02}Z");
        let (from, body) = if n % 2 == 0 {
            ("crm", format!(r#"{{"no":"{no}","phone":"1","name":"crm-{n}","level":"L{n}","at":"{at}"}}"#))
        } else {
            ("erp", format!(r#"{{"KUNNR":"{no}","TELF1":"1","NAME1":"erp-{n}","KLIMK":"{n}","AEDAT":"{at}"}}"#))
        };
        // Who hears that it is busy sends it again, with its id.
        sends.push(async move {
            until("a yes", async || send(running, from, &format!("m-{n}"), &body).await.status == 202).await;
        });
    }
    futures_util::future::join_all(sends).await;
    // The last of each source for each key, of 0 to 59: the CRM has the even ones.
    let newest = |no: u32, odd: u32| (0..60).rev().find(|n| n % KEYS == no && n % 2 == odd).expect("one");
    for no in 0..KEYS {
        let (crm, erp) = (newest(no, 0), newest(no, 1));
        let name = if crm > erp { format!("crm-{crm}") } else { format!("erp-{erp}") };
        let whole = |record: &serde_json::Value| {
            record["name"] == *name && record["level"] == *format!("L{crm}") && record["credit"] == erp
        };
        until("the whole record to be the last", async || {
            let mut known = std::collections::HashSet::new();
            let took = dw.took();
            let mine = took.iter().filter(|got| known.insert(got.key.clone())).map(|got| got.json());
            mine.filter(|record| record["no"] == *no.to_string()).last().is_some_and(|record| whole(&record))
        })
        .await;
    }
    let queues: Vec<_> = gateways[0].0.gateway.depths().await.expect("the broker is well").into_keys().collect();
    for (running, _) in &gateways {
        running.gateway.stop().await;
    }
    V310.clean(&prefix, &queues).await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    client.batch_execute(&format!("DROP SCHEMA test_{schema} CASCADE")).await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_is_tried_tested_and_drawn() {
    let dw = Peer::start().await;
    let place = place(&dw);
    place.write("crm.json", r#"{"no":"1","phone":"13800138000","tax":"a","at":"2026-08-02T00:00:00Z"}"#);
    place.write(
        "erp.json",
        r#"{"KUNNR":"1","TELF1":"13800138000","STCD1":"a","KLIMK":"5","AEDAT":"2026-08-01T00:00:00Z"}"#,
    );
    place.write("other.json", r#"{"KUNNR":"1","TELF1":"13800138000","STCD1":"b","AEDAT":"2026-08-01T00:00:00Z"}"#);
    place.write(
        "tests/merge.yaml",
        "version: 1\ntests:\n  - test: what the ERP says\n    route: customers\n    from: shop/erp\n    file: erp.json\n    message: '{\"origin\": \"erp\"}'\n    targets: { dw/put: '{\"credit\": 5}' }\n",
    );
    let at = |name: &str| place.root().join(name).to_string_lossy().into_owned();
    let run = async |words: Vec<String>| {
        let mut line = vec!["gatehouse".to_owned()];
        line.extend(words);
        line.extend(["--site".to_owned(), place.root().to_string_lossy().into_owned()]);
        let run = tokio::task::spawn_blocking(move || gatehouse::cli::run_line(line.into_iter().map(Into::into)));
        let code = tokio::time::timeout(PATIENCE, run).await.expect("in time").expect("no panic");
        format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert!(run(words(&["check"])).await && run(words(&["test"])).await && run(words(&["graph"])).await);
    let before = |name: &str| format!("shop/erp={}", at(name));
    assert!(run(words(&["try", "customers", &at("crm.json"), "--before", &before("erp.json")])).await);
    assert!(
        !run(words(&["try", "customers", &at("crm.json"), "--before", &before("other.json")])).await,
        "they disagree"
    );
    assert!(!run(words(&["try", "customers", &at("crm.json"), "--from", "shop/erp"])).await, "it is not of that shape");
    assert!(!run(words(&["try", "customers", &at("crm.json"), "--from", "shop/epr"])).await, "no such source");
}

#[test]
fn what_is_wrong_with_a_merge_is_told_at_its_place() {
    let merge = "version: 1
routes:
  - route: customers
    from: shop/orders
    type: order.paid
    merge: { key: [orderNo], latest: seq, sources: [{ from: shop/orders }] }
    to: [{ target: dw/put }]
  - route: more
    type: order.paid
    unrouted: reject
    merge:
      key: ['ordreNo', 'lines[]']
      latest: sqe
      sources:
        - { from: shop/ordres }
        - { from: shop/orders }
        - { from: shop/orders, prefix: '' }
      otherwise: lastest
      fields:
        nmae: latest
        status: { prefer: [shop/odrers] }
    to: [{ target: dw/put }]
  - route: none
    type: order.paid
    to: [{ target: dw/put }]
";
    let dw = "version: 1\nsystem: dw\nadapter: rest\naddress: http://127.0.0.1:9\nendpoints:\n  put: { call: POST /orders }\n";
    let (site, problems) = Place::new(&[("orders.yaml", merge), ("systems/dw.yaml", dw)]).check();
    assert!(site.is_none());
    let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
    let told = told.join("\n");
    for part in [
        "names its sources there, not in `from`",
        "has no field `ordreNo`",
        "did you mean `orderNo`?",
        "not an element of a list",
        "has no field `sqe`",
        "there is no endpoint `shop/ordres`",
        "is a source of this route already",
        "expected 1 to 40 characters",
        "did you mean `latest`?",
        "has no field `nmae`",
        "`shop/odrers` is no source of this route",
        "say `drop` or `dead`",
        "a route needs `from`, or `merge` with its sources",
        "give it `order_by`",
    ] {
        assert!(told.contains(part), "{part} in:\n{told}");
    }
}

/// The example site as it stands in `routes/`, its secrets and doors apart.
fn example() -> Place {
    fn copy(place: &Place, from: &std::path::Path, under: &str) {
        for entry in std::fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = format!("{under}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                copy(place, &entry.path(), &format!("{path}/"));
            } else if !path.starts_with("data/") {
                let text = std::fs::read_to_string(entry.path()).expect("a text");
                place.write(&path, &text.replace("${env:", "${file:secret/"));
            }
        }
    }
    let place = Place::bare(&[]);
    copy(&place, &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../routes"), "");
    place.write("gatehouse.yaml", GATEWAY);
    for name in ["SHOP_KEY", "CRM_TOKEN", "ERP_PASSWORD"] {
        place.write(&format!("secret/{name}"), KEY);
    }
    place.write("data/empty", "");
    place
}

/// What `routes/customers.yaml` promises: the CRM and the shop tell of one customer, and finance has one row of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_merges_its_customers() {
    let place = example();
    let books = rusqlite::Connection::open(place.root().join("data/finance.db")).expect("opens");
    books
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE receivable (order_no TEXT PRIMARY KEY, customer_no, customer_name, amount TEXT, currency, paid_at);
             CREATE TABLE receivable_line (order_no TEXT, line_no INTEGER, sku, qty TEXT, price TEXT, PRIMARY KEY (order_no, line_no));
             CREATE TABLE customer (no TEXT PRIMARY KEY, name TEXT, phone TEXT, level TEXT, tax_no TEXT, city TEXT, changed_at TEXT NOT NULL);",
        )
        .expect("tables");
    let running = place.start().await;
    let sample = |name: &str| std::fs::read_to_string(place.root().join("samples").join(name)).expect("a sample");
    for (door, name) in [("/hooks/customers", "crm-customer.json"), ("/hooks/members", "shop-member.json")] {
        until(door, async || running.post(door, sample(name)).await.status == 202).await;
    }
    let row = || {
        let sql = "SELECT no || '|' || name || '|' || phone || '|' || level || '|' || tax_no || '|' || coalesce(city, '-') || '|' || changed_at FROM customer";
        let mut query = books.prepare(sql).expect("SQL");
        query
            .query_map([], |row| row.get::<_, String>(0))
            .expect("rows")
            .map(|row| row.expect("a row"))
            .collect::<Vec<_>>()
    };
    let wanted =
        "K-1001|上海贸易(集团)有限公司|+86-139-0013-9000|金卡|91310000MA1FL0XX0X|上海|2026-11-24T08:00:00+08:00";
    until("one row of both", async || row() == [wanted]).await;
    // The shop has another tax number: nothing is sent, and a person is told.
    let other = sample("shop-member.json")
        .replace("91310000ma1fl0xx0x", "91310000ma1fl0xx1y")
        .replace("m-42", "m-43")
        .replace("2026-11-23", "2026-11-25");
    assert_eq!(running.post("/hooks/members", other).await.status, 202);
    let letter = running.one_letter().await;
    assert!(letter.summary.text.contains("taxNo"), "{}", letter.summary.text);
    assert_eq!(row(), [wanted]);
    running.gateway.stop().await;
}
