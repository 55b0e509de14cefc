//! A database by ODBC, through unixODBC with the drivers of Debian: what is written, asked and read is the same as without it.

use super::database::Session;
use super::ways::{arrive, bodies};
use super::*;
use gatehouse_core::Value;

const ENDPOINTS: &str = "  rows:
    table: orders
    mode: upsert
    key: [no]
    columns: { no: body.orderNo, customer: body.customer, amount: body.amount }
  plain:
    table: log
    columns: { no: body.orderNo, customer: body.customer }
  gone:
    table: orders
    mode: delete
    key: [no]
    columns: { no: body.orderNo }
  only:
    table: vacant
    mode: update
    key: [no]
    columns: { no: body.orderNo, customer: body.customer }
  ask:
    statement: { sql: 'SELECT customer, amount FROM orders WHERE no = :no', parameters: { \"no\": body.orderNo }, reads: true }
  say:
    statement: { sql: 'UPDATE orders SET customer = :who WHERE no = :no', parameters: { \"no\": body.orderNo, who: body.customer }, success_when: 'reply.affected == 1' }
  many:
    table: orders
    mode: upsert
    key: [no]
    batch: items
";

const ROUTES: &str = "version: 1
routes:
  - route: orders
    from: shop/orders
    type: order.paid
    key: orderNo
    to:
      - { target: books/rows, retry: { attempts: 30, first: 100ms, max: 300ms } }
      - { target: books/plain, retry: { attempts: 30, first: 100ms, max: 300ms } }
";

async fn tables(database: &Database) -> Session {
    let mut session = database.session().await;
    let amount = database.by("TEXT", "DECIMAL(30,2)", "");
    session.run(&format!("CREATE TABLE orders (no VARCHAR(20) PRIMARY KEY, customer VARCHAR(40) NOT NULL CHECK (customer <> 'nobody'), amount {amount})")).await;
    session.run("CREATE TABLE log (no VARCHAR(20) NOT NULL, customer VARCHAR(40) NOT NULL)").await;
    session.run("CREATE TABLE vacant (no VARCHAR(20) PRIMARY KEY, customer VARCHAR(40))").await;
    session
}

fn books(database: &Database) -> Place {
    let place = Place::new(&[("gatehouse.yaml", GATEWAY), ("orders.yaml", ROUTES), ("database.secret", "gatehouse")]);
    place.write("systems/books.yaml", &database.writes("books", ENDPOINTS));
    place
}

/// From the door into the tables: every digit and character, each delivery once, the refused one a letter. Nothing of ours looks
/// into the database meanwhile: the driver's SQLite and ours must not share a file in one process.
pub(super) async fn orders_go_through_odbc(database: &Database) {
    drop(tables(database).await);
    let place = books(database);
    assert!(gatehouse(&place, &["check", "--live"]).await, "it can be asked");
    let running = place.start().await;
    for n in 0..100 {
        running.order(&format!("SO-{n}"), "张三𠮷").await;
    }
    running.order("SO-0", "张三𠮷").await;
    running.order("SO-bad", "nobody").await;
    let letter = running.one_letter().await;
    assert_eq!((letter.summary.cause.as_str(), letter.summary.attempts), ("refused", 1), "{:?}", letter.attempts);
    running.drained().await;
    running.gateway.stop().await;
    let mut session = database.session().await;
    assert_eq!((session.count("orders").await, session.count("log").await), (100, 101));
    assert_eq!(session.count("gatehouse_inbox").await, 201);
    let rows = session.rows("SELECT customer, amount FROM orders WHERE no = 'SO-7'").await;
    assert_eq!(rows, [[Some("张三𠮷".to_owned()), Some("12345678901234567.89".to_owned())]]);
    drop(session);
    assert!(gatehouse(&place, &["doctor"]).await, "all is reached");
}

/// Each way of writing and asking, and each said twice.
pub(super) async fn every_way_of_writing_goes_through_odbc(database: &Database) {
    let mut session = tables(database).await;
    let place = books(database);
    let outbound = super::hostile::open(&place).await;
    let object = |no: &str, customer: &str| -> Value {
        let amount = gatehouse_core::Number::parse("1.50").expect("a number");
        [("orderNo", Value::from(no)), ("customer", Value::from(customer)), ("amount", Value::Number(amount))]
            .into_iter()
            .collect()
    };
    let say = async |endpoint: &'static str, id: &str, body: &Value| {
        super::hostile::deliver(outbound.as_ref(), endpoint, id, body).await
    };
    let well = async |endpoint: &'static str, id: &str, body: &Value| {
        say(endpoint, id, body)
            .await
            .unwrap_or_else(|fault| panic!("{endpoint} {id}: {fault} {:?}", fault.private))
            .body
    };
    let repeated = |reply: &Value| reply.field("repeated") == Some(&Value::Bool(true));
    let hostile = "'; DROP TABLE orders; --";
    for (id, who) in [("1", "a"), ("2", hostile)] {
        assert!(!repeated(&well("rows", id, &object("N-1", who)).await));
        assert!(repeated(&well("rows", id, &object("N-1", "another")).await));
    }
    assert_eq!(session.rows("SELECT customer FROM orders").await, [[Some(hostile.to_owned())]]);
    let reply = well("ask", "3", &object("N-1", "")).await;
    assert_eq!(
        reply.field("rows").map(Value::to_string).as_deref(),
        Some(&*format!("[{{\"customer\":\"{hostile}\",\"amount\":{}}}]", database.by("\"1.50\"", "1.50", "")))
    );
    well("say", "4", &object("N-1", "said")).await;
    assert!(repeated(&well("say", "4", &object("N-1", "said again")).await));
    let refused = say("say", "5", &object("N-none", "said")).await.expect_err("no such row");
    assert_eq!(refused.code, gatehouse_core::fault::Code::Refused);
    assert_eq!(session.count("gatehouse_inbox WHERE delivery_id = '5'").await, 0, "rolled back with it");
    let missing = say("only", "6", &object("N-1", "x")).await.expect_err("no such row");
    assert!(missing.public.contains("no row with this no"), "{missing}");
    well("gone", "7", &object("N-1", "")).await;
    assert_eq!(session.count("orders").await, 0);

    let item = |no: &str, who: Option<&str>| -> Value {
        [("no", Value::from(no)), ("customer", who.map_or(Value::Null, Value::from))].into_iter().collect()
    };
    let items = (0..50).map(|n| item(&format!("M-{n}"), (n != 30).then_some("c"))).collect::<Vec<_>>();
    let body: Value = [("items", Value::List(items))].into_iter().collect();
    let reply = say("many", "8", &body).await.unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private));
    assert_eq!((reply.refused.len(), session.count("orders").await), (1, 49));
    // The same id at once from many sides is one row.
    let body = object("S-1", "c");
    let outcomes = futures_util::future::join_all((0..8).map(|_| say("plain", "same", &body))).await;
    assert!(outcomes.iter().any(Result::is_ok));
    assert_eq!(session.count("log WHERE no = 'S-1'").await, 1);
    session.run("DROP TABLE log").await;
    let gone = say("plain", "9", &object("S-2", "c")).await.expect_err("no table");
    assert!(matches!(gone.verdict, gatehouse_core::fault::Verdict::Reject), "{gone} {:?}", gone.private);
}

/// A text that is not Unicode is not guessed at.
pub(super) async fn a_text_in_another_charset_is_refused(database: &Database) {
    tables(database)
        .await
        .run("INSERT INTO orders VALUES ('N-1', 'fine', '1'), ('N-2', CAST(x'D5C5C8FD' AS TEXT), '1')")
        .await;
    let outbound = super::hostile::open(&books(database)).await;
    for (no, is_read) in [("N-1", true), ("N-2", false)] {
        let body: Value = [("orderNo", Value::from(no))].into_iter().collect();
        match super::hostile::deliver(outbound.as_ref(), "ask", no, &body).await {
            Ok(reply) => assert!(is_read, "{}", reply.body),
            Err(fault) => {
                assert!(!is_read, "{fault}");
                assert_eq!(fault.code, gatehouse_core::fault::Code::Malformed);
                for word in ["`customer`", "row 1", "not UTF-8", "CHARSET=UTF8"] {
                    assert!(fault.public.contains(word), "{fault}");
                }
            }
        }
    }
}

/// What a person types first.
pub(super) async fn a_database_is_connected_by_odbc(database: &Database) {
    tables(database).await;
    let login = if database.address().is_some() { ";UID=gatehouse" } else { "" };
    let url = format!("odbc:{}{login}", database.connection(database.address().unwrap_or_default()));
    let place = Place::new(&[("database.secret", "gatehouse")]);
    let words = ["connect", "sql", &url, "--password", "file:database.secret", "--name", "legacy"];
    assert!(gatehouse(&place, &words).await, "the tables are listed");
    let mut more = words.to_vec();
    more.extend(["--tables", "orders", "--write"]);
    assert!(gatehouse(&place, &more).await, "the files are written");
    let text = std::fs::read_to_string(place.root().join("systems/legacy.yaml")).expect("it is there");
    assert!(text.contains("database: odbc") && text.contains("key: [") && !text.contains("UID"), "{text}");
    let (site, problems) = place.check();
    assert!(
        site.is_some() || !problems.iter().any(|problem| problem.file.name() == "systems/legacy.yaml"),
        "{:?}",
        problems.sorted()
    );
    assert!(
        !gatehouse(
            &place,
            &[
                "connect",
                "sql",
                &url.replace("Database=", "Database=/no/such/"),
                "--password",
                "file:database.secret",
                "--name",
                "x"
            ]
        )
        .await
    );
}

/// What a table of a legacy system holds, as the driver hands it over: every digit and character, and nothing where nothing is.
pub(super) async fn a_table_is_read_by_odbc(database: &Database) {
    let mut session = database.session().await;
    let create = database.by(
        "CREATE TABLE 订单 (no VARCHAR(20) PRIMARY KEY, n BIGINT, price TEXT, name TEXT, born DATE, at TIMESTAMP, raw BLOB, big TEXT, vacant INT)",
        "CREATE TABLE 订单 (no VARCHAR(20) PRIMARY KEY, n bigint, price numeric(30,10), name text, born date, at timestamptz, raw bytea, big text, vacant int)",
        "",
    );
    session.run(create).await;
    let big = database.by("replace(printf('%.*c', 340000, 'x'), 'x', '长')", "repeat('长', 340000)", "");
    let raw = database.by("x'00ff'", "'\\x00ff'", "");
    let row = |no: &str, at: &str| {
        format!(
            "INSERT INTO 订单 VALUES ('{no}', 9007199254740993, '12345678901234567890.1234567890', '张三（𠮷）\n\"q\" \\ ''s', '0001-01-01', '{at}', {raw}, {big}, NULL)"
        )
    };
    for (no, at) in
        [("A-1", "2026-11-24 08:00:00.123456"), ("A-2", "2026-11-24 08:00:00.123457"), ("A-3", "2026-11-24 08:00:01")]
    {
        let at = if database.kind == "postgres" { format!("{at}+08") } else { at.to_owned() };
        session.run(&row(no, &at)).await;
    }
    drop(session);
    let peer = Peer::start().await;
    let capture = "{ table: 订单, by: watermark, watermark: at, overlap: 100ms, every: 50ms, batch: 2 }";
    let place = site(database, capture, "", &peer);
    let system = database.system(capture).replace("endpoints:", "zone: Asia/Shanghai\nendpoints:");
    place.write("systems/src.yaml", &system);
    assert!(gatehouse(&place, &["doctor"]).await, "it can be read");
    let running = place.start().await;
    arrive(&peer, 3).await;
    running.drained().await;
    running.gateway.stop().await;
    let text = peer.took().into_iter().map(|got| got.body).find(|body| body.contains("A-1")).expect("it came");
    let got: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(text.contains("\"n\":9007199254740993,"), "{}", text.chars().take(200).collect::<String>());
    let price = database.by("\"12345678901234567890.1234567890\"", "12345678901234567890.1234567890", "");
    assert!(text.contains(&format!("\"price\":{price}")), "{}", text.chars().take(200).collect::<String>());
    assert_eq!(got["name"], "张三（𠮷）\n\"q\" \\ 's");
    assert_eq!(got["born"], "0001-01-01");
    assert!(got["at"].as_str().is_some_and(|at| at.starts_with("2026-11-24 08:00:00.123456")), "{}", got["at"]);
    assert_eq!(got["raw"], "\\x00ff");
    assert_eq!(got["big"].as_str().map(|text| text.chars().count()), Some(340_000));
    assert!(got["vacant"].is_null() && got.get("vacant").is_some());

    // A change, and a new gateway that goes on where the old one was.
    let mut session = database.session().await;
    let later = database.by("2026-11-24 08:00:02", "2026-11-24 08:00:02+08", "");
    session.run(&format!("UPDATE 订单 SET name = 'newer', at = '{later}' WHERE no = 'A-2'")).await;
    drop(session);
    let running = place.start().await;
    arrive(&peer, 4).await;
    running.drained().await;
    running.gateway.stop().await;
    let names: Vec<_> = bodies(&peer).iter().map(|body| body["name"].as_str().map(str::to_owned)).collect();
    assert_eq!((names.len(), names[3].as_deref()), (4, Some("newer")), "nothing comes twice");

    // A range of its rows once more: bounds are compared as what the column is.
    let running = place.start().await;
    let spans = {
        let (site, _) = place.check();
        let secrets = gatehouse::site::ProcessSecrets::new(place.root());
        let shelf = site.expect("sound").systems["src"].archive("rows", &secrets).await.expect("it is reached");
        shelf.expect("it has rows").spans(None, Some("n")).await.expect("spans")
    };
    assert_eq!(
        (spans[0].numbers, spans[0].least.as_deref(), spans[0].largest.as_deref()),
        (true, Some("9007199254740993"), Some("9007199254740993"))
    );
    running.gateway.stop().await;
}

/// What a person is told where ODBC has less than a database's own driver.
pub(super) async fn what_odbc_cannot_is_told(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE \"ORDERS\" (id INT PRIMARY KEY, changed INT)").await;
    drop(session);
    let peer = Peer::start().await;
    let place = site(database, "{ table: ORDERS, by: trigger }", "", &peer);
    let told = |text: &str| {
        place.write("systems/src.yaml", text);
        let (site, problems) = place.check();
        let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
        (site.is_some(), told.join("\n"))
    };
    let (sound, text) = told(&database.system("{ table: ORDERS, by: log }"));
    assert!(!sound && text.contains("by ODBC no log is read: take `watermark`, `outbox` or `trigger`"), "{text}");
    let plain = database.system("{ table: ORDERS, by: watermark, watermark: changed }");
    let declared = |word: &str| plain.replace("database: odbc", &format!("database: odbc\ndialect: {word}"));
    let (sound, text) = told(&declared("oracle"));
    assert!(!sound && text.contains("expected `limit`") && text.contains("`rownum`"), "{text}");
    let native = "version: 1\nsystem: src\nadapter: sql\ndatabase: sqlite\naddress: x.db\ndialect: limit\nendpoints:\n  rows:\n    capture: { table: t, by: trigger }\n";
    let (sound, text) = told(native);
    assert!(!sound && text.contains("`dialect` belongs to `database: odbc`"), "{text}");
    assert!(told(&declared("fetch")).0);
    for wrong in database.by("ORDERZ", "ORDERZ orders", "").split(' ') {
        let capture = format!("{{ table: {wrong}, by: watermark, watermark: changed }}");
        place.write("systems/src.yaml", &database.system(&capture));
        let text = super::ways::fault(&place).await;
        assert!(text.contains(&format!("no table `{wrong}`")) && text.contains("ORDERS`?"), "{text}");
    }
    place.write("systems/src.yaml", &database.system("{ table: ORDERS, by: trigger }"));
    assert!(super::ways::fault(&place).await.contains("gatehouse capture install src/rows"));
}

/// Open transactions are not seen by ODBC: what is committed late is waited for as long as `overlap` says, and no longer.
pub(super) async fn what_is_late_by_less_than_the_overlap_is_read(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), changed timestamptz)").await;
    session.run("INSERT INTO t VALUES (1, 'there', now())").await;
    let peer = Peer::start().await;
    let place = site(
        database,
        "{ table: t, by: watermark, watermark: changed, overlap: 20s, every: 50ms, batch: 2 }",
        "",
        &peer,
    );
    // It waits for its overlap before the first reading; from what is newest now on it does not.
    let system = database.system(
        "{ table: t, by: watermark, watermark: changed, overlap: 20s, every: 50ms, batch: 2, snapshot: false }",
    );
    place.write("systems/src.yaml", &system);
    let running = place.start().await;
    until("a first look", async || {
        session.run("UPDATE t SET changed = now() WHERE id = 1").await;
        !peer.took().is_empty()
    })
    .await;
    let mut late = database.session().await;
    late.run("BEGIN").await;
    late.run("INSERT INTO t VALUES (2, 'late', now())").await;
    for next in 10..20 {
        session.run(&format!("INSERT INTO t VALUES ({next}, 'next', now())")).await;
        until("the next row", async || bodies(&peer).iter().any(|body| body["id"] == next)).await;
    }
    late.run("COMMIT").await;
    until("the late row", async || bodies(&peer).iter().any(|body| body["name"] == "late")).await;
    running.gateway.stop().await;
}
