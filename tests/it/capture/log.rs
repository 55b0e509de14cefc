//! Changes out of the database's own log: what is told, what is not, and what happens where the place in it is lost.

use super::ways::{ALL, arrive, bodies, change_in_every_way, fault};
use super::*;

/// What became of rows, in words.
fn told_of(peer: &Peer) -> Vec<String> {
    let word = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |body: &serde_json::Value| {
        format!("{} {} {} {}", word(&body["op"]), body["id"], word(&body["name"]), word(&body["before"]))
    };
    bodies(peer).iter().map(line).collect()
}

/// One delivery after the other, so that the order at the peer is the order of the messages.
fn one_by_one(place: &Place, peer: &Peer) {
    place.write("systems/sink.yaml", &peer.system("sink", "limits: { concurrency: 1 }"));
}

pub(super) async fn a_log_tells_every_change_and_its_before(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO t VALUES (1, 'old'), (2, 'older')").await;
    if database.kind == "postgres" {
        session.run("ALTER TABLE t REPLICA IDENTITY FULL").await;
    }
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: log, every: 50ms, batch: 3 }", ALL, &peer);
    one_by_one(&place, &peer);
    if database.kind == "postgres" {
        assert!(!gatehouse(&place, &["capture", "show", "src/rows"]).await, "nothing is installed");
        assert!(fault(&place).await.contains("gatehouse capture install src/rows"));
        assert!(gatehouse(&place, &["capture", "install", "src/rows"]).await, "the statements are shown");
        assert!(!gatehouse(&place, &["capture", "show", "src/rows"]).await, "and nothing was done");
    }
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await, "twice is as good as once");
    assert!(gatehouse(&place, &["capture", "show", "src/rows"]).await);
    let running = place.start().await;
    arrive(&peer, 2).await;
    change_in_every_way(&mut session).await;
    session.run("UPDATE t SET name = NULL WHERE id = 1").await;
    arrive(&peer, 8).await;
    running.drained().await;
    let mut got = told_of(&peer);
    got.drain(..2);
    got.sort();
    let wanted = [
        "delete 2 older -",
        "delete 3 新 -",
        "insert 3 新 -",
        "insert 33 新 -",
        "update 1 newer old",
        "update 1 null newer",
    ];
    assert_eq!(got, wanted);
    // A column that comes later is in the log at once, and a table that is emptied is told.
    session.run("ALTER TABLE t ADD COLUMN phone VARCHAR(20)").await;
    session.run("INSERT INTO t VALUES (5, 'with', '138')").await;
    arrive(&peer, 9).await;
    session.run("TRUNCATE TABLE t").await;
    let letter = running.one_letter().await;
    assert!(letter.summary.text.contains("TRUNCATE"), "{}", letter.summary.text);
    running.gateway.stop().await;
    // What happens while nobody reads is read afterwards, and nothing else.
    let seen = peer.took().len();
    session.run("INSERT INTO t VALUES (6, 'meanwhile', NULL)").await;
    let running = place.start().await;
    arrive(&peer, seen + 1).await;
    running.drained().await;
    assert_eq!(told_of(&peer)[seen..], ["insert 6 meanwhile -"]);
    running.gateway.stop().await;
    if database.kind == "postgres" {
        assert!(gatehouse(&place, &["capture", "remove", "src/rows", "--yes"]).await);
        assert_eq!(session.count("pg_replication_slots WHERE database = current_database()").await, 0);
        assert_eq!(session.count("pg_publication").await, 0);
    }
}

/// PostgreSQL: without the whole row before, deletes have the key, updates no row before, and large values that do not change
/// are looked up.
pub(super) async fn a_log_without_the_row_before_says_so_by_leaving_it_out(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), big TEXT)").await;
    session.run("ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL").await;
    session.run("CREATE TABLE heap (id INT, name TEXT)").await;
    session.run("CREATE TABLE sums (id INT PRIMARY KEY, n INT, twice INT GENERATED ALWAYS AS (n * 2) STORED)").await;
    session.run("INSERT INTO sums VALUES (1, 21)").await;
    let peer = Peer::start().await;
    let mapping =
        format!("{ALL}  - {{ to: big, from: big }}\n  - {{ to: n, from: n }}\n  - {{ to: twice, from: twice }}\n");
    let place = site(database, "{ table: heap, key: [id], by: log }", &mapping, &peer);
    assert!(!gatehouse(&place, &["capture", "install", "src/rows"]).await, "it would break the application's updates");
    session.run("UPDATE heap SET name = 'x'").await;
    place.write("systems/src.yaml", &database.system("{ table: t, key: [name], by: log }"));
    assert!(!gatehouse(&place, &["capture", "install", "src/rows"]).await, "deletes would not have the key");
    place.write("systems/src.yaml", &database.system("{ tables: [t, sums], by: log, every: 50ms }"));
    one_by_one(&place, &peer);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    arrive(&peer, 1).await;
    session.run("INSERT INTO t VALUES (1, 'a', repeat('长', 20000))").await;
    arrive(&peer, 2).await;
    session.run("UPDATE t SET name = 'b' WHERE id = 1").await;
    arrive(&peer, 3).await;
    session.run("UPDATE t SET id = 2 WHERE id = 1").await;
    session.run("DELETE FROM t WHERE id = 2").await;
    session.run("UPDATE sums SET n = 4").await;
    arrive(&peer, 7).await;
    running.drained().await;
    let got = bodies(&peer);
    let line = |body: &serde_json::Value| {
        let size = body.get("big").map_or(4, |big| big.as_str().map_or(0, |big| big.chars().count()));
        format!("{} {} {} {} {size}", body["op"], body["id"], body["name"], body["before"])
    };
    let mut of_t: Vec<_> = got.iter().filter(|body| body["table"] == "t").map(line).collect();
    assert_eq!(of_t[..2], [r#""insert" 1 "a" "-" 20000"#, r#""update" 1 "b" "-" 20000"#]);
    // Two keys go side by side. The row with the key 2 may be gone when it is looked up: then the value is left out, never
    // said to be empty.
    let mut rest = of_t.split_off(2);
    rest.sort();
    assert_eq!(rest[..2], [r#""delete" 1 null "-" 4"#, r#""delete" 2 null "-" 4"#]);
    assert!([20000, 4].iter().any(|size| rest[2] == format!(r#""insert" 2 "b" "-" {size}"#)), "{rest:?}");
    let sums: Vec<_> =
        got.iter().filter(|body| body["table"] == "sums").map(|body| (&body["n"], &body["twice"])).collect();
    let none = serde_json::Value::Null;
    assert_eq!(sums, [(&21.into(), &none), (&4.into(), &none)], "what the server computes is in no way's message");
    running.gateway.stop().await;
}

/// PostgreSQL: a slot that is made anew behind the reader's back has not seen everything.
pub(super) async fn a_lost_place_is_told_and_read_anew_where_that_is_declared(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO t VALUES (1, 'one')").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: log, every: 50ms }", ALL, &peer);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    arrive(&peer, 1).await;
    session.run("INSERT INTO t VALUES (2, 'two')").await;
    arrive(&peer, 2).await;
    running.drained().await;
    running.gateway.stop().await;
    database.drop_slots().await;
    session.run("INSERT INTO t VALUES (3, 'unseen')").await;
    assert!(fault(&place).await.contains("there is no slot"));
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    // A gateway that reads on would pass over the third row. It stops.
    session.run("INSERT INTO t VALUES (4, 'after')").await;
    let mut gateway = crate::chaos::gateway(place.root()).spawn().expect("starts");
    until("words of the lost place", async || {
        let log = std::fs::read_to_string(place.root().join("data/gateway.log")).unwrap_or_default();
        log.contains("has lost its place in the log") && log.contains("lost: anew")
    })
    .await;
    assert_eq!(peer.took().len(), 2, "{:?}", told_of(&peer));
    gateway.kill().await.expect("killed");
    place.write("systems/src.yaml", &database.system("{ table: t, by: log, every: 50ms, lost: anew }"));
    let running = place.start().await;
    arrive(&peer, 6).await;
    running.drained().await;
    let mut got = told_of(&peer);
    got.drain(..2);
    got.sort();
    assert_eq!(got, ["read 1 one -", "read 2 two -", "read 3 unseen -", "read 4 after -"]);
    session.run("DELETE FROM t WHERE id = 1").await;
    arrive(&peer, 7).await;
    running.gateway.stop().await;
}

/// PostgreSQL: a slot that is not read holds the server's log; above the bound it is told, or let go. A server of its own: what other tests
/// write counts too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_holds_too_much_is_told_or_let_go() {
    let Some(database) = Database::on_its_own("postgres").await else { return };
    let database = &database;
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("CREATE TABLE noise (id INT PRIMARY KEY, v TEXT)").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: log, every: 50ms, lag: { most: 1MiB } }", ALL, &peer);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    session.run("INSERT INTO t VALUES (1, 'one')").await;
    let held =
        "SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE database = current_database()";
    session.run("INSERT INTO noise SELECT n, repeat(md5(n::text), 40) FROM generate_series(1, 4000) n").await;
    let number =
        |rows: Vec<Vec<Option<String>>>| rows[0][0].as_deref().map_or(0, |text| text.parse::<u64>().expect("a number"));
    let full = number(session.rows(held).await);
    assert!(full > 1 << 20, "{full}");
    let running = place.start().await;
    arrive(&peer, 1).await;
    until("how much is held", async || {
        let metrics = String::from_utf8(running.gateway.metrics.render()).expect("UTF-8");
        let line = |line: &str| line.strip_prefix("gatehouse_source_log_bytes{endpoint=\"src/rows\"} ")?.parse().ok();
        metrics.lines().find_map(line).is_some_and(|bytes: u64| bytes > 1 << 20)
    })
    .await;
    // Idle, it moves on with what others write.
    until("a slot that has moved on", async || {
        session.run("INSERT INTO noise VALUES (0, 'x') ON CONFLICT (id) DO UPDATE SET v = md5(noise.v)").await;
        number(session.rows(&held.replace("restart_lsn", "confirmed_flush_lsn")).await) < full / 2
    })
    .await;
    running.drained().await;
    running.gateway.stop().await;
    let seen = peer.took().len();
    session.run("INSERT INTO t VALUES (2, 'two')").await;
    session.run("UPDATE noise SET v = v || 'x'").await;
    let capture = "{ table: t, by: log, every: 50ms, lag: { most: 1MiB, above: anew } }";
    place.write("systems/src.yaml", &database.system(capture));
    let running = place.start().await;
    arrive(&peer, seen + 2).await;
    running.drained().await;
    let mut got = told_of(&peer).split_off(seen);
    got.sort();
    assert_eq!(got, ["read 1 one -", "read 2 two -"], "the log was let go, and the table is read from its beginning");
    assert!(number(session.rows(held).await) < full, "the disk is free again");
    session.run("INSERT INTO t VALUES (3, 'three')").await;
    arrive(&peer, seen + 3).await;
    running.gateway.stop().await;
}

pub(super) async fn tables_of_a_log_that_come_later_are_taken_up(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE doc_a (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("CREATE TABLE other (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO doc_a VALUES (1, 'a')").await;
    let peer = Peer::start().await;
    let place = site(database, "{ tables: ['doc_*'], by: log, every: 20ms }", ALL, &peer);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    arrive(&peer, 1).await;
    session.run("CREATE TABLE doc_b (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO doc_b VALUES (2, 'b')").await;
    // It is in the middle of a transaction when it is published: what that has changed must not be missed.
    let mut late = database.session().await;
    late.run("BEGIN").await;
    late.run("INSERT INTO doc_b VALUES (3, 'late')").await;
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    session.run("INSERT INTO doc_b VALUES (4, 'c')").await;
    session.run("INSERT INTO other VALUES (9, 'not wanted')").await;
    late.run("COMMIT").await;
    let ids = || bodies(&peer).iter().filter_map(|body| body["id"].as_i64()).collect::<std::collections::BTreeSet<_>>();
    until("every row", async || ids() == [1, 2, 3, 4].into()).await;
    // The table that came later is in the log now.
    session.run("UPDATE doc_b SET name = 'changed' WHERE id = 4").await;
    until("the change", async || told_of(&peer).iter().any(|line| line.starts_with("update 4 changed"))).await;
    session.run("ALTER TABLE doc_a DROP COLUMN name").await;
    session.run("INSERT INTO doc_a VALUES (5)").await;
    until("the row after", async || ids().contains(&5)).await;
    running.drained().await;
    assert!(!ids().contains(&9));
    running.gateway.stop().await;
}

/// A transaction of more rows than are held at once, cut off in the middle of its reading; and one that is not committed.
pub(super) async fn a_large_transaction_is_read_in_pieces(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), pad TEXT)").await;
    if database.kind == "postgres" {
        session.run("ALTER TABLE t ALTER COLUMN pad SET STORAGE EXTERNAL").await;
    }
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: log, every: 50ms, batch: 100 }", ALL, &peer);
    session.run("INSERT INTO t VALUES (1, 'first', NULL)").await;
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    arrive(&peer, 1).await;
    let many = database.by(
        "",
        "INSERT INTO t SELECT n, 'row', repeat('x', 60000) FROM generate_series(10, 1509) n",
        "INSERT INTO t SELECT seq, 'row', repeat('x', 60000) FROM seq_10_to_1509",
    );
    session.run("BEGIN").await;
    session.run(many).await;
    session.run("ROLLBACK").await;
    session.run(many).await;
    arrive(&peer, 400).await;
    running.gateway.stop().await;
    let running = place.start().await;
    session.run("INSERT INTO t VALUES (2, 'last', NULL)").await;
    let ids = || bodies(&peer).iter().filter_map(|body| body["id"].as_i64()).collect::<std::collections::BTreeSet<_>>();
    until("every row", async || ids().len() == 1502).await;
    running.drained().await;
    let keys: std::collections::BTreeSet<_> = peer.took().into_iter().map(|got| got.key).collect();
    assert_eq!(keys.len(), 1502, "what came twice came with the same id");
    running.gateway.stop().await;
}

/// MariaDB: what keeps the log from being read whole is told with its mend; and a log that the server has removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binlog_that_cannot_be_read_is_refused_with_its_mend() {
    let Some(database) = Database::on_its_own("mysql").await else { return };
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO t VALUES (1, 'one')").await;
    let peer = Peer::start().await;
    let place = site(&database, "{ table: t, by: log, every: 50ms }", ALL, &peer);
    for (set, back, word) in [
        ("binlog_format = STATEMENT", "binlog_format = ROW", "SET GLOBAL binlog_format = 'ROW'"),
        ("binlog_row_image = MINIMAL", "binlog_row_image = FULL", "SET GLOBAL binlog_row_image = 'FULL'"),
        ("binlog_row_metadata = MINIMAL", "binlog_row_metadata = FULL", "SET GLOBAL binlog_row_metadata = 'FULL'"),
    ] {
        session.run(&format!("SET GLOBAL {set}")).await;
        let told = fault(&place).await;
        assert!(told.contains(word), "{set}: {told}");
        session.run(&format!("SET GLOBAL {back}")).await;
    }
    session.run("CREATE TABLE u (id UUID PRIMARY KEY)").await;
    place.write("systems/src.yaml", &database.system("{ table: u, by: log }"));
    assert!(fault(&place).await.contains("leave it out with `columns`"));
    place.write("systems/src.yaml", &database.system("{ table: t, by: log, every: 50ms }"));
    session.run("CREATE USER 'reader'@'127.0.0.1' IDENTIFIED BY 'gatehouse'").await;
    session.run("GRANT SELECT ON *.* TO 'reader'@'127.0.0.1'").await;
    let system = database.system("{ table: t, by: log, every: 50ms }");
    place.write("systems/src.yaml", &system.replace("user: gatehouse", "user: reader"));
    let told = fault(&place).await;
    assert!(told.contains("GRANT REPLICATION SLAVE, REPLICATION CLIENT"), "{told}");
    session.run("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'reader'@'127.0.0.1'").await;
    let running = place.start().await;
    arrive(&peer, 1).await;
    // A session that writes statements instead of rows is told, not passed over.
    session.run("SET SESSION binlog_format = STATEMENT").await;
    session.run("INSERT INTO t VALUES (2, 'two')").await;
    session.run("SET SESSION binlog_format = ROW").await;
    let letter = running.one_letter().await;
    assert!(letter.summary.text.contains("a statement stands in the log"), "{}", letter.summary.text);
    session.run("INSERT INTO t VALUES (3, 'three')").await;
    arrive(&peer, 2).await;
    running.gateway.stop().await;
    // The log goes before it is read.
    session.run("INSERT INTO t VALUES (4, 'four')").await;
    session.run("FLUSH BINARY LOGS").await;
    session.run("FLUSH BINARY LOGS").await;
    let last = session.rows("SHOW MASTER STATUS").await[0][0].clone().expect("a file");
    // The server removes nothing that a connection still reads, and sees only now and then that one is gone.
    until("a log that is gone", async || {
        session.run(&format!("PURGE BINARY LOGS TO '{last}'")).await;
        session.rows("SHOW BINARY LOGS").await[0][0].as_deref() == Some(last.as_str())
    })
    .await;
    let mut gateway = crate::chaos::gateway(place.root()).spawn().expect("starts");
    until("words of the lost place", async || {
        let log = std::fs::read_to_string(place.root().join("data/gateway.log")).unwrap_or_default();
        log.contains("has lost its place in the log") && log.contains("the server has removed")
    })
    .await;
    gateway.kill().await.expect("killed");
    assert_eq!(peer.took().len(), 2, "{:?}", told_of(&peer));
    place.write("systems/src.yaml", &database.system("{ table: t, by: log, every: 50ms, lost: anew }"));
    let running = place.start().await;
    arrive(&peer, 6).await;
    running.gateway.stop().await;
    // The same name, another file: the log was begun anew.
    session.run("RESET MASTER").await;
    session.run("INSERT INTO t VALUES (5, 'five')").await;
    for _ in 0..20 {
        session.run("FLUSH BINARY LOGS").await;
    }
    let running = place.start().await;
    arrive(&peer, 11).await;
    running.drained().await;
    let got = told_of(&peer);
    assert!(got[6..].iter().all(|line| line.starts_with("read ")), "{got:?}");
    running.gateway.stop().await;
}

/// PostgreSQL: the connection that is a log is as safe as the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_read_over_tls() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let Some(database) = Database::on_its_own("postgres").await else { return };
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
    };
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &ours).expect("signed");
    database.server().expect("its own").speak_tls(&certificate.pem(), &key.serialize_pem()).await;
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    let peer = Peer::start().await;
    let place = site(&database, "{ table: t, by: log, every: 50ms }", ALL, &peer);
    let system = database.system("{ table: t, by: log, every: 50ms }");
    place.write("systems/src.yaml", &system.replace("endpoints:", "tls: require\nca_file: ca.pem\nendpoints:"));
    place.write("ca.pem", &other.pem());
    assert!(fault(&place).await.contains("cannot be reached"), "another CA has not signed it");
    place.write("ca.pem", &ours.pem());
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    session.run("INSERT INTO t VALUES (1, 'safe')").await;
    arrive(&peer, 1).await;
    let sql = "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_replication r ON r.pid = s.pid";
    assert_eq!(session.rows(sql).await, [[Some("t".to_owned())]]);
    running.gateway.stop().await;
}

/// Off hours: nothing is looked at, or only no table is read for the first time.
pub(super) async fn hours_are_kept(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO t VALUES (1, 'there')").await;
    let hour = i16::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour());
    // From two hours after this one to two before it: a test that goes on past the hour is still outside.
    let (from, to) = ((hour + 2) % 24, (hour + 22) % 24);
    let peer = Peer::start().await;
    let off = format!("{{ table: t, by: log, every: 50ms, snapshot_hours: '{from:02}:00-{to:02}:00' }}");
    let place = site(database, &off, ALL, &peer);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    let mut next = 10;
    until("a change out of the log", async || {
        session.run(&format!("INSERT INTO t VALUES ({next}, 'new')")).await;
        next += 1;
        !peer.took().is_empty()
    })
    .await;
    running.drained().await;
    assert!(told_of(&peer).iter().all(|line| line.starts_with("insert ")), "{:?}", told_of(&peer));
    running.gateway.stop().await;
    let on = format!("{{ table: t, by: log, every: 50ms, snapshot_hours: '{to:02}:00-{from:02}:00' }}");
    place.write("systems/src.yaml", &database.system(&on));
    let running = place.start().await;
    until("the first reading", async || told_of(&peer).contains(&"read 1 there -".to_owned())).await;
    running.gateway.stop().await;
    // The same of looks: an endpoint that rests beside one that does not.
    let system = |hours: &str| {
        let rows = format!(
            "  rows:\n    capture: {{ table: t, by: watermark, watermark: id, overlap: 100ms, every: 20ms, hours: '{hours}' }}\n"
        );
        let more = "  more:\n    capture: { table: more, by: watermark, watermark: id, overlap: 100ms, every: 20ms }\n";
        database.writes("src", &format!("{rows}{more}"))
    };
    session.run("CREATE TABLE more (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO more VALUES (1000, 'more')").await;
    let peer = Peer::start().await;
    let place = site(database, &off, ALL, &peer);
    place.write("systems/src.yaml", &system(&format!("{from:02}:00-{to:02}:00")));
    let route = |name: &str| {
        format!("  - {{ route: {name}, from: src/{name}, map: change, type: row, to: [{{ target: sink/put }}] }}\n")
    };
    place.write("orders.yaml", &format!("version: 1\nroutes:\n{}{}  - {{ route: orders, from: shop/orders, type: order.paid, to: [{{ target: sink/put }}] }}\n", route("rows"), route("more")));
    let running = place.start().await;
    for id in 1001..1004 {
        until("a row of the other", async || bodies(&peer).iter().any(|body| body["id"] == id - 1)).await;
        session.run(&format!("INSERT INTO more VALUES ({id}, 'more')")).await;
    }
    running.drained().await;
    assert!(bodies(&peer).iter().all(|body| body["table"] == "more"), "{:?}", told_of(&peer));
    running.gateway.stop().await;
    place.write("systems/src.yaml", &system(&format!("{to:02}:00-{from:02}:00")));
    let running = place.start().await;
    until("the rows", async || bodies(&peer).iter().any(|body| body["table"] == "t")).await;
    running.gateway.stop().await;
}
