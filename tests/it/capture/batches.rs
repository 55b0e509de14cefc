//! One delivery that brings many rows: the good ones stay, each bad one is a letter of its own that can be mended and sent
//! again; and many deliveries at once, of which one is wrong.

use super::*;

const ANY: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}"#;

async fn start(database: &Database, endpoint: &str) -> (Place, crate::harness::Running) {
    let place = Place::new(&[
        ("gatehouse.yaml", GATEWAY),
        ("types/stock.schema.json", ANY),
        ("database.secret", "gatehouse"),
        (
            "systems/shop.yaml",
            &crate::harness::SHOP.replace("limits: { body: 64KiB", "limits: { body: 4MiB").replace(
                "orders: { receive: POST /hooks/orders, id: body orderNo }",
                "orders: { receive: POST /hooks/orders, id: body no }",
            ),
        ),
        (
            "orders.yaml",
            "version: 1\nroutes:\n  - { route: stock, from: shop/orders, type: stock, key: no, to: [{ target: books/stock, retry: { attempts: 5, first: 100ms, max: 300ms } }] }\n",
        ),
    ]);
    place.write("systems/books.yaml", &database.writes("books", endpoint));
    let running = place.start().await;
    (place, running)
}

fn stock(no: &str, items: &[String]) -> String {
    format!(r#"{{"no":"{no}","shop":"S-1","items":[{}]}}"#, items.join(","))
}

fn item(sku: &str, count: &str) -> String {
    format!(r#"{{"sku":"{sku}","count":{count}}}"#)
}

const ENDPOINT: &str = "  stock:\n    table: stock\n    mode: upsert\n    key: [sku]\n    batch: items\n    columns: { sku: body.sku, pieces: body.count, shop: whole.shop }\n    limits: { timeout: 60s }\n";

pub(super) async fn good_rows_stay_and_each_bad_one_is_a_letter(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE stock (sku VARCHAR(40) PRIMARY KEY, pieces INT NOT NULL CHECK (pieces >= 0), shop VARCHAR(9) NOT NULL)").await;
    let (_place, running) = start(database, ENDPOINT).await;
    // Three of a thousand: one breaks the check, one has no count, one has none that can be computed.
    let items: Vec<_> = (0..1_000)
        .map(|n| match n {
            17 => item("sku-17", "-1"),
            500 => item("sku-500", "null"),
            999 => r#"{"sku":"sku-999"}"#.to_owned(),
            n => item(&format!("sku-{n}"), &n.to_string()),
        })
        .collect();
    let answer = running.post("/hooks/orders", stock("B-1", &items)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    until("the three letters", async || running.letters(State::Open).await.len() == 3).await;
    running.drained().await;
    assert_eq!(session.count("stock").await, 997);
    assert_eq!(session.count("gatehouse_inbox").await, 997, "each row is remembered on its own");
    let letters = running.letters(State::Open).await;
    let of = |word: &str| {
        letters.iter().find(|letter| letter.text.contains(word)).unwrap_or_else(|| panic!("{word}: {letters:?}"))
    };
    let (check, absent) = (of("row 18 of 1000"), of("row 1000 of 1000"));
    let null = of("row 501 of 1000");
    assert!(null.text.contains("pieces"), "{null:?}");
    assert!(absent.text.contains("`count`") && absent.text.contains("pieces"), "{absent:?}");
    assert!(
        letters.iter().all(|letter| letter.key.as_deref() == Some("B-1") && letter.message_id == "B-1"),
        "{letters:?}"
    );

    // Mended by hand, one is sent again alone; sent as it was, it is refused again.
    let letter = running.gateway.letters.store().letter(check.id).await.expect("the letter");
    let body = String::from_utf8(letter.body.to_vec()).expect("UTF-8");
    assert_eq!(body, stock("B-1", &[item("sku-17", "-1")]));
    let replayed = running.gateway.letters.replay(&[check.id], "li").await.expect("the store");
    assert_eq!(replayed[0].refused, None);
    until("one more attempt", async || {
        let letter = running.gateway.letters.store().letter(check.id).await.expect("the letter");
        letter.summary.state == State::Open && letter.attempts.len() == 2
    })
    .await;
    let revision = letter.summary.revision;
    let mended = body.replace(":-1", ":4711");
    running.gateway.letters.edit(check.id, revision, mended.as_bytes(), "li").await.expect("it is open");
    running.gateway.letters.replay(&[check.id], "li").await.expect("the store");
    until("the mended row", async || {
        session.count("stock WHERE pieces = 4711 AND sku = 'sku-17' AND shop = 'S-1'").await == 1
    })
    .await;
    until("it is resolved", async || running.letters(State::Open).await.len() == 2).await;
    assert_eq!(session.count("gatehouse_inbox").await, 998);
    running.gateway.stop().await;
}

/// The gateway dies when the good rows are written, before it could store the letters of the bad ones.
pub(super) async fn a_batch_that_comes_again_loses_and_doubles_nothing(database: &Database) {
    let mut session = database.session().await;
    // No unique key: a row that was written twice would be two.
    session.run("CREATE TABLE stock (sku VARCHAR(40) NOT NULL, pieces INT NOT NULL, shop VARCHAR(9) NOT NULL)").await;
    let endpoint = ENDPOINT.replace("    mode: upsert\n    key: [sku]\n", "");
    let (place, running) = start(database, &endpoint).await;
    running.gateway.stop().await;
    let (site, _) = place.check();
    let site = site.expect("sound");
    let secrets = gatehouse::site::ProcessSecrets::new(place.root());
    let outbound = site.systems["books"].connect(&secrets).await.expect("connects");
    let items: Vec<_> = (0..300)
        .map(|n| item(&format!("sku-{n}"), &if n % 100 == 7 { "null".to_owned() } else { n.to_string() }))
        .collect();
    let body = gatehouse_core::json::decode(stock("B-1", &items).as_bytes(), &Default::default()).expect("JSON");
    let message = crate::harness::message("B-1");
    let call =
        |attempt| gatehouse_core::adapter::Call { attempt, ..crate::harness::call("stock", &body, &message, "d-1") };
    let ids = |reply: &gatehouse_core::adapter::Reply| -> Vec<String> {
        reply.refused.iter().map(|part| part.delivery_id.clone()).collect()
    };
    let first = outbound.deliver(call(1)).await.unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private));
    let second = outbound.deliver(call(2)).await.unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private));
    assert_eq!(ids(&first).len(), 3);
    assert_eq!(ids(&first), ids(&second), "the same parts are refused under the same ids");
    assert_eq!(session.count("stock").await, 297);
    // A part that is sent again alone keeps its id, and so has one effect.
    for _ in 0..2 {
        let part = &first.refused[1];
        let mended = gatehouse_core::json::decode(
            part.body.to_string().replace("null", "1").as_bytes(),
            &gatehouse_core::limits::BodyLimits::default(),
        );
        let mended = mended.expect("JSON");
        let again = gatehouse_core::adapter::Call { body: &mended, delivery_id: &part.delivery_id, ..call(1) };
        outbound.deliver(again).await.unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private));
    }
    assert_eq!(session.count("stock").await, 298);
    // A table that is not there is nobody's row.
    session.run("DROP TABLE stock").await;
    let fault =
        outbound.deliver(gatehouse_core::adapter::Call { delivery_id: "d-2", ..call(1) }).await.expect_err("no table");
    assert_eq!(fault.code, gatehouse_core::fault::Code::Misconfigured, "{fault}");
}

/// Rows as their fields are: one has a field that no column has, one lacks one, one has a key that is no number. Where every
/// row has the same mistake, it is the delivery's.
pub(super) async fn a_field_that_no_column_has_is_its_own_rows(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE stock (no INTEGER PRIMARY KEY, pieces INT NOT NULL)").await;
    let (_place, running) =
        start(database, "  stock:\n    table: stock\n    batch: items\n    limits: { timeout: 60s }\n").await;
    let items: Vec<_> = (0..300)
        .map(|n| match n {
            40 => r#"{"no":40,"pieces":1,"colour":"red"}"#.to_owned(),
            120 => r#"{"no":"x","pieces":1}"#.to_owned(),
            200 => r#"{"no":200}"#.to_owned(),
            n => format!(r#"{{"no":{n},"pieces":{n}}}"#),
        })
        .collect();
    assert_eq!(running.post("/hooks/orders", stock("B-1", &items)).await.status, 202);
    until("the three letters", async || running.letters(State::Open).await.len() == 3).await;
    running.drained().await;
    assert_eq!((session.count("stock").await, session.count("gatehouse_inbox").await), (297, 297));
    let letters = running.letters(State::Open).await;
    for word in ["row 41 of 300", "row 121 of 300", "row 201 of 300"] {
        assert!(letters.iter().any(|letter| letter.text.contains(word)), "{word}: {letters:?}");
    }
    assert!(letters.iter().any(|letter| letter.text.contains("colour")), "{letters:?}");
    for (no, count) in [("B-2", 3), ("B-3", 100)] {
        let items: Vec<_> = (0..count).map(|n| format!(r#"{{"no":{},"pieces":1,"colour":"red"}}"#, 1000 + n)).collect();
        assert_eq!(running.post("/hooks/orders", stock(no, &items)).await.status, 202);
        let of = |letter: &gatehouse_store::Summary| letter.message_id == no;
        until("its letter", async || running.letters(State::Open).await.iter().any(of)).await;
        running.drained().await;
        let letters = running.letters(State::Open).await;
        let letters: Vec<_> = letters.iter().filter(|letter| of(letter)).collect();
        assert!(letters.len() == 1 && !letters[0].text.contains("row "), "{letters:?}");
    }
    assert_eq!(session.count("stock").await, 297);
    running.gateway.stop().await;
}

/// The same among deliveries that wait together.
pub(super) async fn a_field_that_no_column_has_is_its_own_deliverys(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE stock (no VARCHAR(40) NOT NULL, pieces INT NOT NULL)").await;
    let endpoint = "  stock:\n    table: stock\n    limits: { concurrency: 64 }\nlimits: { concurrency: 64 }\n";
    let (_place, running) = start(database, endpoint).await;
    let posts = (0..300).map(|n| {
        let colour = if n % 50 == 13 { r#","colour":"red""# } else { "" };
        running.post("/hooks/orders", format!(r#"{{"no":"N-{n}","pieces":{n}{colour}}}"#))
    });
    for answer in futures_util::future::join_all(posts).await {
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    until("every letter", async || running.letters(State::Open).await.len() >= 6).await;
    running.drained().await;
    let keys: Vec<_> = running.letters(State::Open).await.into_iter().filter_map(|letter| letter.key).collect();
    assert!(keys.len() == 6 && keys.iter().all(|key| key.ends_with("13") || key.ends_with("63")), "{keys:?}");
    assert_eq!((session.count("stock").await, session.count("gatehouse_inbox").await), (294, 294));
    running.gateway.stop().await;
}

/// MariaDB: elements that a column would change are refused by what the catalogue says of their table, asked once for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_looked_at_once_for_all_that_is_refused() {
    let Some(database) = Database::on_its_own("mysql").await else { return };
    let mut session = database.session().await;
    session.run("CREATE TABLE stock (no INTEGER PRIMARY KEY, pieces DECIMAL(9,2) NOT NULL)").await;
    let (place, running) = start(&database, "  stock:\n    table: stock\n    batch: items\n").await;
    running.gateway.stop().await;
    let outbound = super::hostile::open(&place).await;
    let items: Vec<_> =
        (0..400).map(|n| format!(r#"{{"no":{n},"pieces":{}}}"#, if n % 2 == 0 { "1.005" } else { "1.5" })).collect();
    let body = gatehouse_core::json::decode(stock("B-1", &items).as_bytes(), &Default::default()).expect("JSON");
    let mut asked = async || {
        let rows = session.rows("SHOW GLOBAL STATUS LIKE 'Com_select'").await;
        rows[0][1].as_deref().expect("a number").parse::<u64>().expect("a number")
    };
    let before = asked().await;
    let reply = super::hostile::deliver(outbound.as_ref(), "stock", "d-1", &body).await;
    let reply = reply.unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private));
    let asked = asked().await - before;
    assert_eq!((reply.refused.len(), session.count("stock").await), (200, 200));
    assert!(asked < 20, "the server was asked {asked} times");
}

/// Deliveries that wait are written together; one of them is wrong, one comes twice.
pub(super) async fn deliveries_that_wait_together_have_each_their_own_outcome(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE stock (sku VARCHAR(40) NOT NULL, pieces INT NOT NULL CHECK (pieces >= 0))").await;
    let endpoint = "  stock:\n    table: stock\n    columns: { sku: body.no, pieces: body.count }\n    limits: { concurrency: 64 }\nlimits: { concurrency: 64 }\n";
    let (_place, running) = start(database, endpoint).await;
    let posts = (0..300).map(|n| {
        let count = if n % 50 == 13 { -1 } else { n };
        running.post("/hooks/orders", format!(r#"{{"no":"N-{n}","count":{count}}}"#))
    });
    for answer in futures_util::future::join_all(posts).await {
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    until("every row", async || session.count("stock").await == 294).await;
    until("every letter", async || running.letters(State::Open).await.len() == 6).await;
    running.drained().await;
    assert_eq!((session.count("stock").await, session.count("gatehouse_inbox").await), (294, 294));
    let keys: Vec<_> = running.letters(State::Open).await.into_iter().filter_map(|letter| letter.key).collect();
    assert!(keys.iter().all(|key| key.ends_with("13") || key.ends_with("63")), "{keys:?}");
    running.gateway.stop().await;
}
