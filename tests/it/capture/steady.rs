//! What must not stop a reader, nor let it see less than there is: a value that cannot be read, a row larger than a packet of
//! the server, sessions that begin without autocommit, much that is not read, a slot that cannot be made yet. And that it says
//! what it waits for.

use super::ways::{ALL, arrive, bodies};
use super::*;
use crate::proxy::Proxy;

/// MariaDB: such a value is a letter, each its own, and the log is read on.
pub(super) async fn a_value_of_a_log_that_cannot_be_read_is_a_letter(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), doc JSON)").await;
    session.run("INSERT INTO t VALUES (0, 'there', NULL)").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: log, every: 50ms }", ALL, &peer);
    let running = place.start().await;
    arrive(&peer, 1).await;
    let (good, twice) = (r#"{"a":1}"#, r#"{"a":1,"a":2}"#);
    // Two of them in one event.
    let rows = format!("(1, 'a', '{good}'), (2, 'b', '{twice}'), (3, 'c', '{good}'), (4, 'd', '{twice}')");
    session.run(&format!("INSERT INTO t VALUES {rows}")).await;
    // As it was and as it is, only as it was.
    session.run("UPDATE t SET name = 'bb' WHERE id = 2").await;
    session.run(&format!("UPDATE t SET doc = '{good}' WHERE id = 4")).await;
    session.run(&format!("INSERT INTO t VALUES (5, 'e', '{good}')")).await;
    let ids = || bodies(&peer).iter().filter_map(|body| body["id"].as_i64()).collect::<Vec<_>>();
    until("the row behind", async || ids().contains(&5)).await;
    until("the letters", async || running.letters(State::Open).await.len() >= 4).await;
    running.gateway.stop().await;
    // What comes after a stop may come once more in part, with the same ids.
    let running = place.start().await;
    session.run("INSERT INTO t VALUES (6, 'f', NULL)").await;
    until("the last row", async || ids().contains(&6)).await;
    running.drained().await;
    let (mut there, letters) = (ids(), running.letters(State::Open).await);
    there.sort_unstable();
    assert_eq!(there, [0, 1, 3, 5, 6]);
    assert_eq!(letters.len(), 4, "{letters:?}");
    for letter in letters {
        assert!(letter.text.contains("`doc` holds a document that cannot be read"), "{}", letter.text);
        let letter = running.gateway.letters.store().letter(letter.id).await.expect("the letter");
        let body = String::from_utf8(letter.body.to_vec()).expect("UTF-8");
        let row: String = serde_json::from_str(&body).expect("what stands in the log, as a text");
        assert!(row.starts_with("{\"id\":2") || row.starts_with("{\"id\":4"), "{row}");
    }
    running.gateway.stop().await;
}

/// MariaDB: a session may write a row that the server takes from no other one. It is read all the same; where the server must be
/// asked what a text of it is, and takes no such question, it is a letter, and those beside it are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_larger_than_a_packet_of_the_server_is_read() {
    let Some(database) = Database::on_its_own("mysql").await else { return };
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name LONGTEXT CHARACTER SET gbk, pad LONGTEXT)").await;
    session.run("INSERT INTO t VALUES (1, 'small', NULL)").await;
    session.run("SET GLOBAL max_allowed_packet = 1048576").await;
    let peer = Peer::start().await;
    let place = site(&database, "{ table: t, by: log, every: 50ms }", ALL, &peer);
    let running = place.start().await;
    arrive(&peer, 1).await;
    session.run("INSERT INTO t VALUES (2, 'large', REPEAT('x', 3000000))").await;
    arrive(&peer, 2).await;
    assert_eq!(bodies(&peer)[1]["name"], "large");
    session.run("INSERT INTO t VALUES (3, '张三', NULL), (4, REPEAT('长', 400000), NULL), (5, '李四', NULL)").await;
    arrive(&peer, 4).await;
    let letter = running.one_letter().await;
    assert!(letter.body.starts_with(b"\"{\\\"id\\\":4"), "{}", String::from_utf8_lossy(&letter.body[..40]));
    session.run("INSERT INTO t VALUES (6, '王五', NULL)").await;
    arrive(&peer, 5).await;
    let names: Vec<_> = bodies(&peer).iter().map(|body| body["name"].to_string()).collect();
    for name in ["张三", "李四", "王五"] {
        assert!(names.iter().any(|there| there.contains(name)), "{names:?}");
    }
    running.gateway.stop().await;
}

/// MariaDB: a look is not one at what was there when the session began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_begin_without_autocommit_see_what_is_there() {
    let Some(database) = Database::on_its_own("mysql").await else { return };
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO t VALUES (1, 'there')").await;
    session.run("SET GLOBAL autocommit = 0").await;
    session.run("SET GLOBAL completion_type = 'CHAIN'").await;
    let peer = Peer::start().await;
    let capture = "{ table: t, by: watermark, watermark: id, overlap: 100ms, every: 20ms }";
    let place = site(&database, capture, ALL, &peer);
    let running = place.start().await;
    for id in 2..5 {
        arrive(&peer, id - 1).await;
        session.run(&format!("INSERT INTO t VALUES ({id}, 'new')")).await;
    }
    arrive(&peer, 4).await;
    running.gateway.stop().await;
}

/// MariaDB: many changes of a table that is not read, over connections that do not last for all of them.
pub(super) async fn much_that_is_not_read_is_passed_over_in_steps(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY, pad LONGTEXT)").await;
    session.run("INSERT INTO t VALUES (1, 'there')").await;
    let peer = Peer::start().await;
    let proxy = Proxy::start(database.address().expect("a server").to_owned()).await;
    let capture = "{ table: t, by: log, every: 50ms }";
    let place = site(database, capture, ALL, &peer);
    place.write("systems/src.yaml", &database.system_at(&format!("127.0.0.1:{}", proxy.port), capture));
    let running = place.start().await;
    arrive(&peer, 1).await;
    running.drained().await;
    running.gateway.stop().await;
    session.run("INSERT INTO t VALUES (2, 'before')").await;
    for _ in 0..40 {
        session.run("INSERT INTO other (pad) VALUES (REPEAT('x', 1048576))").await;
    }
    session.run("INSERT INTO t VALUES (3, 'behind')").await;
    proxy.cut_after(24 << 20);
    let running = place.start().await;
    arrive(&peer, 3).await;
    running.gateway.stop().await;
}

/// PostgreSQL: the gateway dies after it has let its slot go and before there is another one, and once the other one is there. A server
/// of its own: what other tests write would fill the log that may be held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_let_go_is_read_anew_after_a_kill() {
    let Some(database) = Database::on_its_own("postgres").await else { return };
    let database = &database;
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("CREATE TABLE noise (id INT PRIMARY KEY, v TEXT)").await;
    session.run("INSERT INTO t VALUES (1, 'there')").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: log, every: 50ms, lag: { most: 1MiB, above: anew } }", ALL, &peer);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let slots = "pg_replication_slots WHERE database = current_database() AND confirmed_flush_lsn IS NOT NULL";
    let making = "pg_stat_activity WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%pg_create_logical_replication_slot%'";
    for (round, is_made) in [(1, false), (2, true)] {
        let running = place.start().await;
        session.run(&format!("INSERT INTO t VALUES ({round}0, 'seen')")).await;
        until("the change", async || {
            bodies(&peer).iter().any(|body| body["id"] == round * 10 && body["op"] == "insert")
        })
        .await;
        running.drained().await;
        running.gateway.stop().await;
        session.run("INSERT INTO noise SELECT n, repeat(md5(n::text), 40) FROM generate_series(1, 4000) n").await;
        // A slot is made once the transactions that are open have ended.
        let mut late = database.session().await;
        late.run("BEGIN").await;
        late.run(&format!("INSERT INTO t VALUES ({round}1, 'late')")).await;
        let mut gateway = crate::chaos::gateway(place.root()).spawn().expect("starts");
        until("a slot that is being made", async || session.count(making).await == 1).await;
        gateway.kill().await.expect("killed");
        if is_made {
            late.run("COMMIT").await;
            until("the slot", async || session.count(slots).await == 1).await;
        } else {
            session.rows(&format!("SELECT pg_terminate_backend(pid) FROM {making}")).await;
            until("no slot", async || session.count(slots).await == 0 && session.count(making).await == 0).await;
            late.run("COMMIT").await;
        }
        session.run(&format!("INSERT INTO t VALUES ({round}2, 'unseen')")).await;
        session.run("DELETE FROM noise").await;
        let (seen, rows) = (peer.took().len(), session.count("t").await);
        let running = place.start().await;
        let ids = || {
            let got = bodies(&peer).split_off(seen);
            got.iter().filter_map(|body| body["id"].as_i64()).collect::<std::collections::BTreeSet<_>>()
        };
        until("every row once more", async || ids().len() == rows).await;
        running.drained().await;
        running.gateway.stop().await;
    }
}

/// Before a first reading by watermark nothing arrives for as long as `overlap`: it is said, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_reading_that_waits_says_so() {
    let database = Database::new("sqlite").await.expect("it is everywhere");
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO t VALUES (1, 'there')").await;
    let peer = Peer::start().await;
    let capture = "{ table: t, by: watermark, watermark: id, overlap: 3s, every: 20ms }";
    let place = site(&database, capture, ALL, &peer);
    let mut gateway = crate::chaos::gateway(place.root()).env("RUST_LOG", "warn").spawn().expect("starts");
    arrive(&peer, 1).await;
    gateway.kill().await.expect("killed");
    let log = std::fs::read_to_string(place.root().join("data/gateway.log")).expect("its words");
    assert_eq!(log.matches("the first reading of `t` begins once its `overlap` of 3s has passed").count(), 1, "{log}");
}
