//! Each way on its own: what arrives, in which order, and what is left in the source.

use super::*;

/// What `meta` says and the row, as the peer is to see them.
pub(super) const ALL: &str = "  - { to: op, value: meta.op }\n  - { to: key, value: meta.key }\n  - { to: table, value: meta.table }\n  - { to: before, value: 'meta?.before?.name ?? \"-\"' }\n  - { to: id, from: id }\n  - { to: name, from: name }\n";

pub(super) fn bodies(peer: &Peer) -> Vec<serde_json::Value> {
    peer.took().iter().map(|got| got.json()).collect()
}

/// A row comes, is changed, goes, gets another key, and is given up again: of a table with the rows 1 and 2.
pub(super) async fn change_in_every_way(session: &mut super::database::Session) {
    for statement in [
        "INSERT INTO t VALUES (3, '新')",
        "UPDATE t SET name = 'newer' WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "UPDATE t SET id = 33 WHERE id = 3",
        "BEGIN",
        "DELETE FROM t WHERE id = 1",
        "ROLLBACK",
    ] {
        session.run(statement).await;
    }
}

pub(super) async fn arrive(peer: &Peer, count: usize) {
    until(&format!("{count} rows at the peer"), async || peer.took().len() >= count).await;
}

pub(super) async fn fault(place: &Place) -> String {
    let (site, problems) = place.check();
    let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
    let site = site.unwrap_or_else(|| panic!("{}", told.join("\n")));
    let secrets = gatehouse::site::ProcessSecrets::new(place.root());
    match site.systems["src"].listen(Some("rows"), &secrets).await {
        Ok(_) => panic!("it must not be read"),
        Err(fault) => fault.public,
    }
}

pub(super) async fn every_type_arrives_as_it_is(database: &Database) {
    every_type(database, "trigger").await;
}

pub(super) async fn every_type_is_the_same_in_the_log(database: &Database) {
    every_type(database, "log").await;
}

async fn every_type(database: &Database, by: &str) {
    let mut session = database.session().await;
    let (create, insert) = match database.kind {
        "postgres" => (
            "CREATE TABLE 所有类型 (id bigint PRIMARY KEY, price numeric(20,2), name text, flag boolean, born date, at timestamptz, raw bytea, big text, vacant int, odd double precision, tags int[], doc jsonb, more json, kind mood, money decent, span int4range, code char(5), bits bit(5), deep text[][], pair part, took interval, net inet, word \"char\", uid uuid)",
            "INSERT INTO 所有类型 VALUES (9007199254740993, 12345678901234567.80, E'张三（𠮷）\\n\"q\" \\\\ \\'s', true, '0001-01-01', '2026-11-24 08:00:00.123456+08', '\\x00ff', repeat('长', 340000), NULL, 'NaN', '{1,2}', '{\"a\": 1.10}', '{\"b\":1,  \"a\":[1.0]}', '女', 12.50, '[1,5)', 'ab', b'10110', '{{a,NULL},{\"x, y\",\"\"}}', ROW('钉', 3), '1 day 02:00', '10.0.0.0/8', 'x', '6d4ce2c8-7a3e-4b5c-9f40-1d2e3f405162')",
        ),
        "mysql" => (
            "CREATE TABLE 所有类型 (id BIGINT UNSIGNED PRIMARY KEY, price DECIMAL(20,2), name TEXT CHARACTER SET gbk, flag BOOLEAN, born DATE, at DATETIME(6), raw VARBINARY(10), big LONGTEXT, vacant INT, odd BIT(3), kind ENUM('男','女'), mid MEDIUMINT UNSIGNED, low TINYINT, f FLOAT, d DOUBLE, fixed DOUBLE(10,2), y YEAR, c CHAR(5), bin BINARY(4), picks SET('a','乙','c') CHARACTER SET gbk, t TIME(2), moment TIMESTAMP(3) NULL, doc JSON, west VARCHAR(20) CHARACTER SET latin1, spot POINT, twice INT AS (low * 2) STORED, thrice INT AS (low * 3) VIRTUAL)",
            "INSERT INTO 所有类型 VALUES (18446744073709551615, 12345678901234567.80, '张三（镕）\n\"q\" \\\\ \\'s', true, '0001-01-01', '2026-11-24 08:00:00.123456', x'00ff', repeat('长', 340000), NULL, b'101', '女', 16777215, -5, 123456.789, 0.1 + 0.2e0, 1.5, 2026, 'ab', x'0100', 'a,乙', '-101:02:03.45', '2026-11-24 08:00:00.120', '{\"a\": 1.10, \"b\": [null, \"乙\"]}', 'Größe', POINT(1, 2.5), DEFAULT, DEFAULT)",
        ),
        _ => (
            "CREATE TABLE 所有类型 (id INTEGER PRIMARY KEY, price TEXT, name TEXT, flag BOOLEAN, born TEXT, at TEXT, raw BLOB, big TEXT, vacant INT, odd REAL)",
            "INSERT INTO 所有类型 VALUES (9007199254740993, '12345678901234567.80', '张三（𠮷）' || char(10) || '\"q\" \\ ''s', true, '0001-01-01', '2026-11-24 08:00:00.123456', x'00ff', replace(printf('%.*c', 340000, 'x'), 'x', '长'), NULL, 0.1)",
        ),
    };
    if database.kind == "postgres" {
        session.run("CREATE TYPE mood AS ENUM ('男', '女'); CREATE DOMAIN decent AS numeric(10,2) CHECK (VALUE >= 0); CREATE TYPE part AS (name text, n int)").await;
    }
    session.run(create).await;
    session.run(insert).await;
    let peer = Peer::start().await;
    let place = site(database, &format!("{{ table: 所有类型, by: {by}, every: 50ms }}"), "", &peer);
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    arrive(&peer, 1).await;
    // The same row once more, by its trigger: it must read the same as in the snapshot.
    session.run("UPDATE 所有类型 SET flag = NOT flag").await;
    session.run("UPDATE 所有类型 SET flag = NOT flag").await;
    arrive(&peer, 3).await;
    running.drained().await;
    let mut texts: Vec<_> = peer.took().into_iter().map(|got| got.body).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(
        texts.len(),
        2,
        "the row, and the row with the other flag: {:?}",
        texts.iter().map(|t| &t[..300.min(t.len())]).collect::<Vec<_>>()
    );
    let got: serde_json::Value = serde_json::from_str(&peer.took()[0].body).unwrap();
    let id = database.by("9007199254740993", "9007199254740993", "18446744073709551615");
    assert!(texts.iter().all(|text| text.contains(&format!("\"id\":{id}"))));
    let price = database.by(
        "\"price\":\"12345678901234567.80\"",
        "\"price\":12345678901234567.80",
        "\"price\":12345678901234567.80",
    );
    assert!(texts.iter().all(|text| text.contains(price)), "{price} in {}", &texts[0][..300]);
    let name = database.by("张三（𠮷）\n\"q\" \\ 's", "张三（𠮷）\n\"q\" \\ 's", "张三（镕）\n\"q\" \\ 's");
    assert_eq!(got["name"], name);
    assert_eq!(got["born"], "0001-01-01");
    assert!(got["at"].as_str().is_some_and(|at| at.contains(".123456")), "{}", got["at"]);
    assert_eq!(got["raw"], "\\x00ff");
    assert_eq!(got["big"].as_str().map(|text| text.chars().count()), Some(340_000));
    assert!(got["vacant"].is_null());
    match database.kind {
        "postgres" => assert_eq!((&got["odd"], got["tags"].to_string().as_str()), (&"NaN".into(), "[1,2]")),
        "mysql" => assert_eq!((got["odd"].as_i64(), got["kind"].as_str()), (Some(5), Some("女"))),
        _ => assert_eq!(got["odd"].as_f64(), Some(0.1)),
    }
    running.gateway.stop().await;
}

pub(super) async fn a_watermark_sees_what_is_committed_late(database: &Database) {
    let mut session = database.session().await;
    let time = database.by("TEXT", "timestamptz", "DATETIME(6)");
    let now = database.by("strftime('%Y-%m-%d %H:%M:%f')", "now()", "NOW(6)");
    session.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), changed {time})")).await;
    session.run(&format!("INSERT INTO t VALUES (1, 'there', {now})")).await;
    let peer = Peer::start().await;
    let capture = "{ table: t, by: watermark, watermark: changed, overlap: 300ms, every: 50ms, batch: 2 }";
    let place = site(database, capture, ALL, &peer);
    let running = place.start().await;
    arrive(&peer, 1).await;
    // A transaction that was begun first and ends last. SQLite has one writer at a time: there it is a clock that is behind.
    let mut late = database.session().await;
    if database.kind == "sqlite" {
        session.run("INSERT INTO t VALUES (2, 'late', strftime('%Y-%m-%d %H:%M:%f', 'now', '-0.1 seconds'))").await;
    } else {
        late.run("BEGIN").await;
        late.run(&format!("INSERT INTO t VALUES (2, 'late', {now})")).await;
    }
    let started = std::time::Instant::now();
    let mut next = 10;
    while started.elapsed() < Duration::from_millis(1500) {
        session.run(&format!("INSERT INTO t VALUES ({next}, 'next', {now})")).await;
        next += 1;
        until("the next row", async || bodies(&peer).iter().any(|body| body["id"] == next - 1)).await;
    }
    if database.kind != "sqlite" {
        assert!(!bodies(&peer).iter().any(|body| body["name"] == "late"), "it is not committed");
        late.run("COMMIT").await;
    }
    until("the late row", async || bodies(&peer).iter().any(|body| body["name"] == "late")).await;
    session.run(&format!("UPDATE t SET name = 'changed', changed = {now} WHERE id = 1")).await;
    until("the change", async || bodies(&peer).iter().any(|body| body["name"] == "changed")).await;
    // A new gateway goes on where the old one was, and hands over nothing twice.
    running.gateway.stop().await;
    let seen = peer.took().len();
    session.run(&format!("INSERT INTO t VALUES (3, 'after', {now})")).await;
    let running = place.start().await;
    until("the row after", async || bodies(&peer).iter().any(|body| body["name"] == "after")).await;
    running.drained().await;
    assert_eq!(peer.took().len(), seen + 1, "{:?}", bodies(&peer));
    running.gateway.stop().await;
}

pub(super) async fn an_outbox_is_emptied_in_its_order(database: &Database) {
    let mut session = database.session().await;
    let serial = database.by(
        "INTEGER PRIMARY KEY AUTOINCREMENT",
        "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "BIGINT AUTO_INCREMENT PRIMARY KEY",
    );
    session
        .run(&format!("CREATE TABLE outbox (seq {serial}, event_id VARCHAR(40) NOT NULL, payload TEXT NOT NULL)"))
        .await;
    let peer = Peer::start().await;
    let capture = "{ table: outbox, by: outbox, sent: delete, id: event_id, payload: payload, every: 50ms, batch: 7 }";
    let place = site(database, capture, "", &peer);
    place.write("systems/sink.yaml", &peer.system("sink", "limits: { concurrency: 1 }"));
    let running = place.start().await;
    for number in 0..50 {
        session
            .run(&format!("INSERT INTO outbox (event_id, payload) VALUES ('e-{number}', '{{\"n\": {number}}}')"))
            .await;
    }
    arrive(&peer, 50).await;
    until("an empty outbox", async || session.count("outbox").await == 0).await;
    running.drained().await;
    let numbers: Vec<_> = bodies(&peer).iter().filter_map(|body| body["n"].as_i64()).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    // The same event once more is recognised by its id, and a payload that is none becomes a letter.
    session.run("INSERT INTO outbox (event_id, payload) VALUES ('e-7', '{\"n\": 7}')").await;
    session.run("INSERT INTO outbox (event_id, payload) VALUES ('bad', '{half')").await;
    let letter = running.one_letter().await;
    assert_eq!(letter.summary.message_id, "bad");
    assert!(letter.summary.text.contains("column `payload` holds no JSON"), "{}", letter.summary.text);
    until("an empty outbox", async || session.count("outbox").await == 0).await;
    running.drained().await;
    assert_eq!(peer.took().len(), 50);
    running.gateway.stop().await;
}

pub(super) async fn rows_of_an_outbox_are_marked(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE bill (no VARCHAR(20) PRIMARY KEY, name VARCHAR(40), status VARCHAR(10) NOT NULL)").await;
    session.run("INSERT INTO bill VALUES ('B-1', '收款', 'NEW'), ('B-2', 'x', 'DRAFT'), ('B-3', 'y', 'NEW')").await;
    let peer = Peer::start().await;
    let capture =
        "{ table: bill, by: outbox, sent: { column: status, waiting: NEW, done: SENT }, columns: [name], every: 50ms }";
    let place = site(database, capture, "", &peer);
    let running = place.start().await;
    arrive(&peer, 2).await;
    until("the marks", async || session.count("bill WHERE status = 'SENT'").await == 2).await;
    session.run("UPDATE bill SET status = 'NEW' WHERE no = 'B-2'").await;
    arrive(&peer, 3).await;
    until("the marks", async || session.count("bill WHERE status = 'SENT'").await == 3).await;
    let got = bodies(&peer);
    assert_eq!(got[2], serde_json::json!({ "no": "B-2", "name": "x" }), "the key and the columns that are named");
    running.gateway.stop().await;
}

pub(super) async fn triggers_tell_every_change_and_its_before(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    session.run("INSERT INTO t VALUES (1, 'old'), (2, 'older')").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: trigger, every: 50ms, batch: 3 }", ALL, &peer);
    place.write("systems/sink.yaml", &peer.system("sink", "limits: { concurrency: 1 }"));
    assert!(!gatehouse(&place, &["capture", "show", "src/rows"]).await, "nothing is installed");
    assert!(fault(&place).await.contains("gatehouse capture install src/rows"));
    assert!(gatehouse(&place, &["capture", "install", "src/rows"]).await, "the statements are shown");
    assert!(!gatehouse(&place, &["capture", "show", "src/rows"]).await, "and nothing was done");
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    assert!(gatehouse(&place, &["capture", "show", "src/rows"]).await);
    let running = place.start().await;
    arrive(&peer, 2).await;
    change_in_every_way(&mut session).await;
    arrive(&peer, 7).await;
    until("no change left", async || session.count("gatehouse_change").await == 0).await;
    running.drained().await;
    let mut told: Vec<String> = bodies(&peer)
        .iter()
        .map(|body| {
            format!(
                "{} {} {} {}",
                body["op"].as_str().unwrap(),
                body["id"],
                body["name"].as_str().unwrap(),
                body["before"].as_str().unwrap()
            )
        })
        .collect();
    let reads = told.drain(..2).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(reads, ["read 1 old -".to_owned(), "read 2 older -".to_owned()].into());
    told.sort();
    assert_eq!(told, ["delete 2 older -", "delete 3 新 -", "insert 3 新 -", "insert 33 新 -", "update 1 newer old"]);

    // A column that comes later: PostgreSQL's trigger sees it, the others say so.
    session.run("ALTER TABLE t ADD COLUMN phone VARCHAR(20)").await;
    assert_eq!(gatehouse(&place, &["capture", "show", "src/rows"]).await, database.kind == "postgres");
    if database.kind == "postgres" {
        session.run("TRUNCATE t").await;
        let letter = running.one_letter().await;
        assert!(letter.summary.text.contains("TRUNCATE"), "{}", letter.summary.text);
    }
    running.gateway.stop().await;
    assert!(gatehouse(&place, &["capture", "remove", "src/rows", "--yes"]).await);
    session.run("DELETE FROM t").await;
    session.run("INSERT INTO t (id, name) VALUES (9, 'unseen')").await;
    assert_eq!(session.count("gatehouse_change").await, 0);
    // Made anew, the table is read from its beginning: what changed in between went unseen.
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let seen = peer.took().len();
    let running = place.start().await;
    arrive(&peer, seen + 1).await;
    assert_eq!(bodies(&peer)[seen]["name"], "unseen");
    running.gateway.stop().await;
}

/// Many changes of one row that waited while nobody read are handed over in the order in which they were made.
pub(super) async fn changes_that_waited_keep_their_order(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40))").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: t, by: trigger, every: 50ms, batch: 7, snapshot: false }", ALL, &peer);
    place.write("systems/sink.yaml", &peer.system("sink", "limits: { concurrency: 1 }"));
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    session.run("INSERT INTO t VALUES (1, '0')").await;
    for number in 1..120 {
        session.run(&format!("UPDATE t SET name = '{number}'")).await;
    }
    let running = place.start().await;
    arrive(&peer, 120).await;
    let names: Vec<_> = bodies(&peer).iter().map(|body| body["name"].as_str().map(str::to_owned)).collect();
    assert_eq!(names, (0..120).map(|number| Some(number.to_string())).collect::<Vec<_>>());
    running.gateway.stop().await;
}

pub(super) async fn a_row_that_no_route_takes_is_a_letter_and_the_next_goes_on(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), amount INT)").await;
    session.run("INSERT INTO t VALUES (1, 'a', 5), (2, 'b', -5), (3, 'c', 7)").await;
    let peer = Peer::start().await;
    let mapping = "  - { to: id, from: id }\n  - { to: amount, from: amount, type: decimal, check: value > 0 }\n";
    let capture = "{ table: t, by: watermark, watermark: id, overlap: 100ms, every: 50ms }";
    let place = site(database, capture, mapping, &peer);
    let running = place.start().await;
    arrive(&peer, 2).await;
    let letter = running.one_letter().await;
    assert_eq!((letter.summary.source.as_str(), letter.summary.key.as_deref()), ("src/rows", Some("2")));
    assert!(letter.summary.text.contains("amount"), "{}", letter.summary.text);
    let body: serde_json::Value = serde_json::from_slice(&letter.body).unwrap();
    assert_eq!(body, serde_json::json!({ "id": 2, "name": "b", "amount": -5 }));
    // Sent again as it is, it stays a letter; mended, it arrives, once.
    let id = letter.summary.id;
    let again = running.gateway.letters.replay(&[id], "li").await.unwrap();
    assert!(again[0].refused.as_deref().is_some_and(|why| why.contains("amount")), "{again:?}");
    running
        .gateway
        .letters
        .edit(id, letter.summary.revision, br#"{"id":2,"name":"b","amount":50}"#, "li")
        .await
        .unwrap();
    let again = running.gateway.letters.replay(&[id], "li").await.unwrap();
    assert!(again[0].refused.is_none(), "{again:?}");
    arrive(&peer, 3).await;
    until("no open letter", async || running.letters(State::Open).await.is_empty()).await;
    assert_eq!(running.letters(State::Resolved).await.len(), 1);
    assert_eq!(bodies(&peer)[2], serde_json::json!({ "id": 2, "amount": 50 }));
    running.gateway.stop().await;
}

pub(super) async fn what_is_not_there_is_told(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE heap (id INT, changed INT)").await;
    session.run("INSERT INTO heap VALUES (1, 1), (NULL, 2)").await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, changed INT)").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: nowhere, by: watermark, watermark: changed }", "", &peer);
    for (capture, word) in [
        ("{ table: nowhere, by: watermark, watermark: changed }", "no table `nowhere`"),
        ("{ table: t, by: watermark, watermark: chnaged }", "did you mean `changed`?"),
        ("{ table: heap, by: watermark, watermark: changed }", "has no primary key: say with `key`"),
        ("{ table: t, by: outbox, sent: { column: sent_at, done: now } }", "no column `sent_at`"),
        ("{ table: t, by: trigger, columns: [nam] }", "no column `nam`"),
        ("{ table: heap, by: watermark, watermark: changed, key: [id] }", "rows whose `id` is empty"),
    ] {
        place.write("systems/src.yaml", &database.system(capture));
        let told = fault(&place).await;
        assert!(told.contains(word), "{capture}: {told}");
    }
    for (capture, word) in [
        ("{ table: t }", "by"),
        ("{ by: watermark, watermark: changed }", "expected either `table` or `tables`"),
        ("{ table: t, by: watermark }", "needs `watermark`"),
        ("{ table: t, by: outbox }", "needs `sent: delete`"),
        ("{ table: t, by: trigger, sent: delete }", "`sent` belongs to `by: outbox`"),
        ("{ table: t, by: replication }", "expected `watermark`, `outbox`, `trigger` or `log`"),
        ("{ table: t, by: trigger, lost: anew }", "`lost` belongs to `by: log`"),
        ("{ table: t, by: log, lost: maybe }", "expected `stop` or `anew`"),
        ("{ table: t, by: log, lag: { most: 5 } }", "expected a size from `1MiB` on"),
        ("{ table: t, by: log, lag: { above: stop } }", "expected `alert` or `anew`"),
        (
            "{ table: t, by: log, hours: '8:00-9:00' }",
            "`hours` belongs to `by: watermark` or `by: outbox` or `by: trigger`",
        ),
        ("{ table: t, by: trigger, snapshot_hours: night }", "expected hours such as `20:00-06:00`"),
        ("{ table: t, by: trigger, every: 2d }", "expected a time up to 1h"),
        ("{ table: t, by: trigger, batch: 0 }", "a number from 1 to 10000"),
        ("{ table: 't\"; DROP', by: trigger }", "expected a table's name"),
    ] {
        place.write("systems/src.yaml", &database.system(capture));
        let (site, problems) = place.check();
        let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
        assert!(site.is_none() && told.iter().any(|text| text.contains(word)), "{capture}: {told:?}");
    }
}

pub(super) async fn a_database_is_connected_from_its_catalogue(database: &Database) {
    let mut session = database.session().await;
    let time = database.by("TEXT", "timestamptz", "DATETIME");
    session
        .run(&format!(
            "CREATE TABLE orders (no VARCHAR(20) PRIMARY KEY, 金额 DECIMAL(12,2) NOT NULL, gmt_modified {time})"
        ))
        .await;
    session.run("CREATE TABLE log (line VARCHAR(20), n INT)").await;
    session.run("INSERT INTO orders VALUES ('SO-1', 12.50, '2026-11-24 08:00:00')").await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: orders, by: trigger }", "", &peer);
    let url = database.url_for_people();
    let said = ["connect", "sql", url.as_str(), "--name", "books", "--password", "file:database.secret"];
    assert!(gatehouse(&place, &said).await, "it lists");
    assert!(!place.root().join("systems/books.yaml").exists(), "and writes nothing");
    assert!(!gatehouse(&place, &["connect", "sql", "sqlite:/tmp/no-such-gatehouse.db"]).await, "nothing is made");
    assert!(!std::path::Path::new("/tmp/no-such-gatehouse.db").exists());
    let with = |more: &[&'static str]| said.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    assert!(!gatehouse(&place, &with(&["--tables", "ordres"])).await, "there is none");
    assert!(gatehouse(&place, &with(&["--tables", "o*,log"])).await);
    assert!(!gatehouse(&place, &with(&["--tables", "orders"])).await, "nothing is written over");
    let file = std::fs::read_to_string(place.root().join("systems/books.yaml")).expect("written");
    for line in [
        "capture: { table: orders, by: watermark, watermark: gmt_modified }",
        "# It has no primary key: say here which columns tell its rows apart.",
        "capture: { table: log, by: trigger, key: [line] }",
    ] {
        assert!(file.contains(line), "{line} in\n{file}");
    }
    assert!(!file.contains("gatehouse:gatehouse"), "no password in it");
    // With a route it runs as it is.
    place.write(
        "orders.yaml",
        "version: 1\nroutes:\n  - { route: rows, from: books/orders, map: books.orders-in, type: books.orders, key: \"no\", to: [{ target: sink/put }] }\n  - { route: shop, from: shop/orders, type: order.paid, to: [{ target: sink/put }] }\n",
    );
    assert!(gatehouse(&place, &["check"]).await);
    assert!(!gatehouse(&place, &["doctor"]).await, "triggers are missing");
    for endpoint in ["src/rows", "books/log"] {
        assert!(gatehouse(&place, &["capture", "install", endpoint, "--yes"]).await);
    }
    assert!(gatehouse(&place, &["doctor"]).await);
    let running = place.start().await;
    arrive(&peer, 1).await;
    let got = &bodies(&peer)[0];
    assert_eq!(
        (got["no"].as_str(), got["金额"].to_string().as_str()),
        (Some("SO-1"), database.by("12.5", "12.50", "12.50"))
    );
    running.gateway.stop().await;
    assert!(gatehouse(&place, &with(&["--tables", "orders", "--write", "--force"])).await);
    assert!(
        std::fs::read_to_string(place.root().join("systems/books.yaml")).expect("written").contains("mode: upsert")
    );
}

pub(super) async fn tables_and_columns_that_come_later_are_taken_up(database: &Database) {
    let mut session = database.session().await;
    let time = database.by("TEXT", "timestamptz", "DATETIME(6)");
    let now = database.by("strftime('%Y-%m-%d %H:%M:%f')", "now()", "NOW(6)");
    session.run(&format!("CREATE TABLE doc_a (id INT PRIMARY KEY, name VARCHAR(40), changed {time})")).await;
    session.run(&format!("CREATE TABLE other (id INT PRIMARY KEY, name VARCHAR(40), changed {time})")).await;
    session.run(&format!("INSERT INTO doc_a VALUES (1, 'a', {now})")).await;
    session.run(&format!("INSERT INTO other VALUES (1, 'not wanted', {now})")).await;
    let peer = Peer::start().await;
    let mapping = "  - { to: table, value: meta.table }\n  - { to: id, from: id }\n  - { to: phone, from: phone }\n";
    let capture = "{ tables: ['doc_*'], by: watermark, watermark: changed, overlap: 100ms, every: 20ms }";
    let place = site(database, capture, mapping, &peer);
    let running = place.start().await;
    arrive(&peer, 1).await;
    session.run(&format!("CREATE TABLE doc_b (id INT PRIMARY KEY, name VARCHAR(40), changed {time})")).await;
    session.run(&format!("INSERT INTO doc_b VALUES (2, 'b', {now})")).await;
    arrive(&peer, 2).await;
    session.run("ALTER TABLE doc_a ADD COLUMN phone VARCHAR(20)").await;
    let mut next = 10;
    until("the new column", async || {
        session.run(&format!("INSERT INTO doc_a VALUES ({next}, 'x', {now}, '138 0013 8000')")).await;
        next += 1;
        bodies(&peer).iter().any(|body| body["phone"] == "138 0013 8000")
    })
    .await;
    // A column that goes: the reader stumbles once and goes on with what is there.
    session.run("ALTER TABLE doc_a DROP COLUMN phone").await;
    session.run(&format!("INSERT INTO doc_a VALUES (9, 'last', {now})")).await;
    until("the row after", async || bodies(&peer).iter().any(|body| body["id"] == 9)).await;
    assert!(bodies(&peer).iter().all(|body| body["table"].as_str().is_some_and(|table| table.starts_with("doc_"))));
    running.gateway.stop().await;
}

/// A source with two thousand tables, all of them read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_tables_are_read() {
    for kind in ["sqlite", "postgres"] {
        let Some(database) = Database::new(kind).await else { continue };
        let mut session = database.session().await;
        for some in 0..20 {
            let tables: Vec<_> = (some * 100..(some + 1) * 100)
                .map(|n| format!("CREATE TABLE t_{n} (id INT PRIMARY KEY, v INT); INSERT INTO t_{n} VALUES ({n}, 1);"))
                .collect();
            session.run(&format!("BEGIN; {} COMMIT", tables.join(" "))).await;
        }
        let peer = Peer::start().await;
        let capture = "{ tables: ['t_*'], by: watermark, watermark: v, overlap: 100ms, every: 200ms }";
        let place = site(&database, capture, "  - { to: id, from: id }\n", &peer);
        let running = place.start().await;
        let ids =
            || bodies(&peer).iter().filter_map(|body| body["id"].as_i64()).collect::<std::collections::BTreeSet<_>>();
        until("every table", async || ids().len() == 2000).await;
        session.run("UPDATE t_1234 SET v = 2").await;
        until("the change", async || peer.took().len() > 2000).await;
        running.gateway.stop().await;
        database.end().await;
    }
}
