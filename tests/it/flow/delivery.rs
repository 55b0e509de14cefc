//! One order, all its targets: each effect once, every digit and character of it.

use gatehouse_store::State;

use crate::broker::{Broker, V40, V310};
use crate::harness::{GATEWAY, PATIENCE, Peer, Place, Running, until};

const ROUTES: &str = r#"version: 1
routes:
  - route: order-paid
    from: shop/orders
    map: shop-order
    type: order.paid
    key: orderNo
    to:
      - { target: crm/put, retry: { attempts: 5, first: 100ms, max: 1s } }
      - { target: books/receivables }
      - { target: vip/put, when: amount > 1000000 }
  - route: archive
    from: shop/orders
    map: shop-order
    type: order.paid
    to:
      - { target: archive/put }
"#;

const MAPPING: &str = "version: 1
mapping: shop-order
to: order.paid
rows:
  - { to: orderNo,  from: orderNo, type: string, required: true }
  - { to: status,   from: status, values: { TRADE_PAID: paid, WAIT_PAY: pending }, otherwise: reject }
  - { to: customer, from: buyer.id, type: string, required: true }
  - { to: name,     from: buyer.nick, clean: [trim] }
  - { to: amount,   from: total, type: decimal(2), check: value > 0 }
";

const SQLITE: &str = "database: sqlite\naddress: data/books.db";

const TABLE: &str = "CREATE TABLE receivable (order_no VARCHAR(40) PRIMARY KEY, customer VARCHAR(40) NOT NULL, name VARCHAR(200), amount";

/// An order as the shop says it: a number larger than a float holds, and Chinese with a character beyond the BMP.
fn said(number: &str, total: &str) -> String {
    format!(
        r#"{{"orderNo":"{number}","status":"TRADE_PAID","buyer":{{"id":9007199254740993,"nick":" 张三（𠮷野家）"}},"total":{total}}}"#
    )
}

fn books(system: &str, database: &str, table: &str) -> String {
    format!(
        "version: 1\nsystem: {system}\nadapter: sql\n{database}\nendpoints:\n  receivables:\n    table: {table}\n    columns: {{ order_no: body.orderNo, customer: body.customer, name: body.name, amount: body.amount }}\n"
    )
}

struct Peers {
    crm: Peer,
    vip: Peer,
    archive: Peer,
}

async fn place(instance: Option<&str>, database: &str) -> (Place, Peers) {
    let peers = Peers { crm: Peer::start().await, vip: Peer::start().await, archive: Peer::start().await };
    let mut files = vec![
        ("orders.yaml", ROUTES.to_owned()),
        ("mappings/shop-order.yaml", MAPPING.to_owned()),
        ("systems/books.yaml", books("books", database, "receivable")),
        ("systems/crm.yaml", peers.crm.system("crm", "")),
        ("systems/vip.yaml", peers.vip.system("vip", "")),
        ("systems/archive.yaml", peers.archive.system("archive", "")),
    ];
    files.extend(instance.map(|text| ("gatehouse.yaml", text.to_owned())));
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    (Place::new(&files), peers)
}

/// The flow itself; the caller looks into its database afterwards and must find SO-1 and SO-2.
async fn orders_arrive_once(running: &Running, peers: &Peers) {
    let first = running.post("/hooks/orders", said("SO-1", "12345678901234567.89")).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.json()["message_id"], "SO-1");
    assert_eq!(first.header("gatehouse-message-id"), "SO-1");
    let again = running.post("/hooks/orders", said("SO-1", "12345678901234567.89")).await;
    assert_eq!((again.status, again.header("gatehouse-repeated")), (202, "true"), "{again:?}");
    let other = running.post("/hooks/orders", said("SO-1", "1.00")).await;
    assert_eq!((other.status, other.json()["code"].as_str()), (409, Some("conflict")), "{other:?}");
    assert_eq!(other.json()["message_id"], "SO-1");
    let second = running.post("/hooks/orders", said("SO-2", "0.10")).await;
    assert_eq!(second.status, 202, "{second:?}");

    let count = |peer: &Peer| peer.got().len();
    until("both orders at both routes", async || count(&peers.crm) >= 2 && count(&peers.archive) >= 2).await;
    until("the large order at vip", async || count(&peers.vip) >= 1).await;
    running.drained().await;
    assert_eq!((count(&peers.crm), count(&peers.archive), count(&peers.vip)), (2, 2, 1));
    let body = peers.crm.got().into_iter().map(|got| got.body).find(|body| body.contains("SO-1")).expect("SO-1");
    for part in [r#""amount":12345678901234567.89"#, r#""customer":"9007199254740993""#, r#""name":"张三（𠮷野家）""#]
    {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(peers.vip.got()[0].body.contains("SO-1"), "0.10 is not above 1000000");
    let mut keys: Vec<_> =
        [&peers.crm, &peers.archive, &peers.vip].iter().flat_map(|peer| peer.got()).map(|got| got.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5, "every delivery has an id of its own");
    assert!(running.letters(State::Open).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_machine() {
    let (place, peers) = place(None, SQLITE).await;
    let database = rusqlite::Connection::open(place.root().join("data/books.db")).expect("a database");
    database.execute_batch(&format!("PRAGMA journal_mode = WAL; {TABLE} TEXT NOT NULL)")).expect("a table");
    let running = place.start().await;
    orders_arrive_once(&running, &peers).await;
    let mut query =
        database.prepare("SELECT order_no, customer, name, amount FROM receivable ORDER BY 1").expect("SQL");
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).expect("rows");
    let rows: Vec<(String, String, String, String)> = rows.collect::<Result<_, _>>().expect("rows");
    let row = |number: &str, amount: &str| {
        (number.to_owned(), "9007199254740993".to_owned(), "张三（𠮷野家）".to_owned(), amount.to_owned())
    };
    assert_eq!(rows, [row("SO-1", "12345678901234567.89"), row("SO-2", "0.10")]);
    running.gateway.stop().await;
}

/// RabbitMQ carries, PostgreSQL remembers; PostgreSQL and MariaDB take the receivables.
async fn on_servers(broker: &'static Broker) {
    let Some(_turn) = broker.shared().await else { return };
    let (Some(postgres), Some(mysql)) = (server("POSTGRES"), server("MYSQL")) else { return };
    let name = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let instance = format!(
        "{GATEWAY}bus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: {name} }}\nstore: {{ postgres: \"${{file:postgres.secret}}\", schema: {name} }}\n",
    );
    let table = format!("receivable_{name}");
    let database = |kind: &str, url: &str| {
        let address = url.split_once('@').expect("user, password and address").1;
        format!(
            "database: {kind}\naddress: {address}\nuser: gatehouse\npassword: \"${{file:database.secret}}\"\ninbox: {{ table: inbox_{name} }}"
        )
    };
    let (place, peers) = place(Some(&instance), &database("postgres", &postgres)).await;
    place.write("systems/books.yaml", &books("books", &database("postgres", &postgres), &table));
    place.write("systems/ledger.yaml", &books("ledger", &database("mysql", &mysql), &table));
    place.write("ledger.yaml", "version: 1\nroutes:\n  - { route: to-ledger, from: shop/orders, map: shop-order, type: order.paid, to: [{ target: ledger/receivables }] }\n");
    place.write("amqp.secret", &broker.url());
    place.write("postgres.secret", &postgres);
    place.write("database.secret", "gatehouse");
    let client = postgres_client(&postgres).await;
    let create = TABLE.replace("receivable", &table);
    client.batch_execute(&format!("{create} NUMERIC(30,2) NOT NULL)")).await.expect("a table");
    mariadb(&format!("{create} DECIMAL(30,2) NOT NULL)")).await;

    let running = place.start().await;
    orders_arrive_once(&running, &peers).await;
    let columns = "order_no, customer, name, amount";
    let rows = client
        .query(&format!("SELECT concat_ws(E'\\t', {columns}) FROM {table} ORDER BY order_no"), &[])
        .await
        .expect("rows");
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let wanted = [
        "SO-1\t9007199254740993\t张三（𠮷野家）\t12345678901234567.89",
        "SO-2\t9007199254740993\t张三（𠮷野家）\t0.10",
    ];
    assert_eq!(rows, wanted, "PostgreSQL");
    let rows = mariadb(&format!("SELECT {columns} FROM {table} ORDER BY order_no")).await;
    assert_eq!(rows.lines().collect::<Vec<_>>(), wanted, "MariaDB");

    let queues: Vec<String> = running.gateway.depths().await.expect("the broker is well").into_keys().collect();
    running.gateway.stop().await;
    broker.clean(&name, &queues).await;
    let drop_tables = format!("DROP TABLE {table}; DROP TABLE inbox_{name}");
    client.batch_execute(&format!("{drop_tables}; DROP SCHEMA {name} CASCADE")).await.expect("cleaned up");
    mariadb(&drop_tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_310_and_databases() {
    on_servers(&V310).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_40_and_databases() {
    on_servers(&V40).await;
}

/// The URL of a server that the environment names; skipped loudly, and a failure where servers are required.
fn server(kind: &str) -> Option<String> {
    let name = format!("GATEHOUSE_TEST_{kind}");
    let url = std::env::var(&name).ok();
    if url.is_none() {
        let required = std::env::var("GATEHOUSE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not set, and GATEHOUSE_REQUIRE_SERVERS=1: see `./test servers`");
        eprintln!("SKIPPED: {name} is not set: see `./test servers`");
    }
    url
}

async fn postgres_client(url: &str) -> tokio_postgres::Client {
    let connecting = tokio_postgres::connect(url, tokio_postgres::NoTls);
    let (client, connection) = tokio::time::timeout(PATIENCE, connecting).await.expect("in time").expect("connects");
    tokio::spawn(connection);
    client
}

/// Runs SQL with the server's control script; what it prints.
async fn mariadb(sql: &str) -> String {
    let script = std::env::var("GATEHOUSE_TEST_MYSQL_CTL").expect("GATEHOUSE_TEST_MYSQL_CTL is set with the URL");
    let run = tokio::process::Command::new(script).args(["sql", "-e", sql]).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("in time").expect("runs");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
