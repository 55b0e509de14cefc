//! A database by ODBC, through unixODBC with the drivers of Debian: what is written and asked is the same as without it.

use super::database::Session;
use super::*;
use gatehouse_core::Value;

/// The connection string for a database that is there, without credentials.
fn connection(database: &Database) -> String {
    match database.address().and_then(|address| address.split_once(':')) {
        Some((host, port)) => {
            let name = database.url_for_people().rsplit('/').next().unwrap_or_default().to_owned();
            format!("Driver={{PostgreSQL Unicode}};Server={host};Port={port};Database={name}")
        }
        None => {
            let file = database.url_for_people().trim_start_matches("sqlite:").to_owned();
            format!("Driver=SQLite3;Timeout=20000;Database={file}")
        }
    }
}

fn system(database: &Database, endpoints: &str) -> String {
    let login =
        if database.address().is_some() { "user: gatehouse\npassword: \"${file:database.secret}\"\n" } else { "" };
    // SQLite has one writer; its driver gives up where two wait.
    let most = if database.address().is_some() { 8 } else { 1 };
    format!(
        "version: 1\nsystem: books\nadapter: sql\ndatabase: odbc\naddress: \"{}\"\n{login}limits: {{ concurrency: {most} }}\nendpoints:\n{endpoints}",
        connection(database)
    )
}

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

fn site(database: &Database) -> Place {
    let place = Place::new(&[("gatehouse.yaml", GATEWAY), ("orders.yaml", ROUTES), ("database.secret", "gatehouse")]);
    place.write("systems/books.yaml", &system(database, ENDPOINTS));
    place
}

/// From the door into the tables: every digit and character, each delivery once, the refused one a letter. Nothing of ours looks
/// into the database meanwhile: the driver's SQLite and ours must not share a file in one process.
pub(super) async fn orders_go_through_odbc(database: &Database) {
    drop(tables(database).await);
    let place = site(database);
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
    let place = site(database);
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
    if database.kind != "sqlite" {
        return;
    }
    tables(database)
        .await
        .run("INSERT INTO orders VALUES ('N-1', 'fine', '1'), ('N-2', CAST(x'D5C5C8FD' AS TEXT), '1')")
        .await;
    let outbound = super::hostile::open(&site(database)).await;
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
    let url = format!("odbc:{}{login}", connection(database));
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
