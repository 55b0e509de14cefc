//! What keeps a database that is not ours safe, and us from it: TLS, time-outs of locks and statements, accounts that only read.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::hostile::{deliver, object, open};
use super::*;
use crate::amqps::Authority;
use gatehouse_core::fault::{Code, Verdict};

const ROWS: &str =
    "  rows:\n    table: plain\n    mode: upsert\n    key: [no]\n    columns: { no: body.no, who: body.who }\n";

fn place(database: &Database, endpoints: &str, more: &str) -> Place {
    let text = database.writes("books", endpoints).replace("adapter: sql\n", &format!("adapter: sql\n{more}"));
    Place::new(&[("systems/books.yaml", &text), ("database.secret", "gatehouse")])
}

/// The connection of a place's database, or why there is none.
async fn connected(place: &Place) -> Result<(), gatehouse_core::Fault> {
    let (site, problems) = place.check();
    let site = site.unwrap_or_else(|| panic!("{:?}", problems.sorted()));
    let secrets = gatehouse::site::ProcessSecrets::new(place.root());
    site.systems["books"].connect(&secrets).await.map(|_| ())
}

/// PostgreSQL's TLS ends in a proxy here: the servers of the tests have none.
async fn proxy(authority: &Authority, address: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = TlsAcceptor::from(Arc::new(authority.server(&crate::amqps::named("localhost"))));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (acceptor, address) = (acceptor.clone(), address.clone());
            tokio::spawn(async move {
                // PostgreSQL manual, 54.2.10: a client asks first, and the server says S.
                let mut asked = [0; 8];
                if stream.read_exact(&mut asked).await.is_err() || asked[4..] != 80_877_103_u32.to_be_bytes() {
                    return;
                }
                let _ = stream.write_all(b"S").await;
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut server) = TcpStream::connect(address).await else { return };
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    port
}

pub(super) async fn tls_is_wanted_and_the_server_proves_itself(database: &Database) {
    let Some(address) = database.address().map(str::to_owned) else { return };
    database.session().await.run("CREATE TABLE plain (no VARCHAR(20) PRIMARY KEY, who VARCHAR(20))").await;
    // A server without TLS is not talked to in clear.
    let refused = connected(&place(database, ROWS, "tls: require\n")).await.expect_err("it has no TLS");
    assert_eq!(refused.code, Code::Unreachable, "{refused} {:?}", refused.private);
    if database.kind != "postgres" {
        return;
    }
    let authority = Authority::new();
    let port = proxy(&authority, address.clone()).await;
    let over = |ca: &std::path::Path| {
        let place = place(database, ROWS, &format!("tls: require\nca_file: {}\n", ca.display()));
        let text = std::fs::read_to_string(place.root().join("systems/books.yaml")).expect("readable");
        place.write("systems/books.yaml", &text.replace(&address, &format!("localhost:{port}")));
        place
    };
    let ca = authority.file();
    let outbound = open(&over(ca.path())).await;
    deliver(outbound.as_ref(), "rows", "1", &object(&[("no", "1"), ("who", "x")]))
        .await
        .unwrap_or_else(|fault| panic!("{fault}"));
    let other = Authority::new().file();
    let refused = connected(&over(other.path())).await.expect_err("another CA");
    assert_eq!(refused.code, Code::Unreachable, "{refused}");
    assert!(refused.private.as_deref().is_some_and(|text| text.contains("certificate")), "{:?}", refused.private);
}

pub(super) async fn a_lock_or_a_statement_that_lasts_is_given_up(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE plain (no VARCHAR(20) PRIMARY KEY, who VARCHAR(20))").await;
    session.run("INSERT INTO plain VALUES ('1', 'before')").await;
    let sleep = database.by("", "SELECT pg_sleep(50)::text", "SELECT SLEEP(50) FROM plain");
    let mut endpoints = ROWS.to_owned();
    if database.kind != "sqlite" {
        endpoints.push_str(&format!("  sleep:\n    statement: {{ sql: '{sleep}', reads: true }}\n"));
    }
    let place = place(database, &endpoints, "limits: { timeout: 2s }\n");
    let outbound = open(&place).await;
    let again = |fault: gatehouse_core::Fault| {
        assert_eq!((fault.code, fault.verdict), (Code::Refused, Verdict::Retry), "{fault} {:?}", fault.private);
    };
    // Somebody at a desk has begun, and went for lunch.
    session.run(database.by("BEGIN IMMEDIATE", "BEGIN", "START TRANSACTION")).await;
    session.run("UPDATE plain SET who = 'held' WHERE no = '1'").await;
    let body = object(&[("no", "1"), ("who", "after")]);
    again(deliver(outbound.as_ref(), "rows", "1", &body).await.expect_err("it is locked"));
    // Beside one that waits, the others of its group are written.
    if database.kind != "sqlite" {
        let bodies: Vec<_> = (1..40).map(|n| object(&[("no", &n.to_string()), ("who", "after")])).collect();
        let writes = bodies
            .iter()
            .enumerate()
            .map(async |(n, body)| deliver(outbound.as_ref(), "rows", &format!("g{n}"), body).await);
        let outcomes = futures_util::future::join_all(writes).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 38);
        outcomes.into_iter().filter_map(Result::err).for_each(again);
    }
    session.run("COMMIT").await;
    deliver(outbound.as_ref(), "rows", "1", &body).await.unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(session.count("plain WHERE who = 'after' AND no = '1'").await, 1);
    if database.kind != "sqlite" {
        again(deliver(outbound.as_ref(), "sleep", "s", &body).await.expect_err("it sleeps too long"));
    }
}

/// Only PostgreSQL lets a test make a database that is only read, without touching the server that others use.
pub(super) async fn a_reader_without_rights_asks_and_writes_nothing(database: &Database) {
    if database.kind != "postgres" {
        return;
    }
    let mut session = database.session().await;
    session
        .run("CREATE TABLE plain (no VARCHAR(20) PRIMARY KEY, who VARCHAR(20)); INSERT INTO plain VALUES ('1', 'x')")
        .await;
    let name = database.url_for_people().rsplit('/').next().unwrap_or_default().to_owned();
    session.run(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let ask = "  ask:\n    statement: { sql: 'SELECT who FROM plain WHERE no = :no', parameters: { \"no\": body.no }, reads: true }\n";
    let outbound = open(&place(database, ask, "")).await;
    let reply =
        deliver(outbound.as_ref(), "ask", "1", &object(&[("no", "1")])).await.unwrap_or_else(|fault| panic!("{fault}"));
    assert!(reply.body.to_string().contains("\"who\":\"x\""), "{:?}", reply.body);
    let refused = connected(&place(database, ROWS, "")).await.expect_err("no inbox can be made");
    assert_eq!(refused.code, Code::Misconfigured, "{refused}");
    assert!(refused.public.contains("read-only"), "{refused}");
}
