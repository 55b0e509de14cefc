//! Columns that lie about their charset: GBK bytes in what MariaDB takes for latin1, in a PostgreSQL without a charset, in
//! SQLite, which takes anything. With `charset` they are read and written as the application that owns them does.

use gatehouse_core::Value;
use gatehouse_core::fault::Code;

use super::database::Session;
use super::ways::{arrive, bodies};
use super::*;

/// 张三, 李四 and 王五 in GBK, and a row of which somebody has cut off the second character in its middle.
const ROWS: [(u32, &str, &str); 4] =
    [(1, "d5c5c8fd", "张三"), (2, "c0eecbc4", "李四"), (3, "d5c5c8", ""), (4, "cdf5cee5", "王五")];

/// An expression for a text of these bytes.
fn text(database: &Database, digits: &str) -> String {
    match database.kind {
        "sqlite" => format!("CAST(x'{digits}' AS TEXT)"),
        "postgres" => format!("convert_from(decode('{digits}', 'hex'), 'SQL_ASCII')"),
        _ => format!("UNHEX('{digits}')"),
    }
}

/// The bytes of a text, as digits.
fn digits(database: &Database, column: &str) -> String {
    match database.kind {
        "sqlite" => format!("CASE WHEN {column} IS NULL THEN NULL ELSE lower(hex({column})) END"),
        "postgres" => format!("encode(convert_to({column}, 'SQL_ASCII'), 'hex')"),
        _ => format!("LOWER(HEX({column}))"),
    }
}

async fn table(database: &Database) -> Session {
    let mut session = database.session().await;
    let latin = database.by("", "", "CHARACTER SET latin1");
    session
        .run(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, changed INT NOT NULL, name VARCHAR(60) {latin}, 备注 TEXT, amount DECIMAL(12,2))"
        ))
        .await;
    session
}

async fn fill(database: &Database, session: &mut Session) {
    for (id, bytes, _) in ROWS {
        let name = text(database, bytes);
        let note = if database.kind == "postgres" { text(database, "e6b3a8") } else { "'注'".to_owned() };
        session.run(&format!("INSERT INTO t VALUES ({id}, {id}, {name}, {note}, 12.50)")).await;
    }
}

fn declared(place: &Place, database: &Database, capture: &str, charset: &str) {
    let system = database.system(capture);
    place.write("systems/src.yaml", &format!("{system}    charset: {charset}\n"));
}

/// What is readable arrives, what is not is its own letter, and what mends it arrives too.
async fn bytes_are_read(database: &Database, by: &str, capture: &str) {
    let mut session = table(database).await;
    if by != "log" {
        fill(database, &mut session).await;
    }
    let peer = Peer::start().await;
    let place = site(database, capture, "", &peer);
    declared(&place, database, capture, "{ name: gbk }");
    if by == "trigger" || by == "log" {
        assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    }
    // In a process with the driver's SQLite nothing of ours looks into the file.
    let apart = database.is_apart();
    let mut session = (!apart).then_some(session);
    let running = place.start().await;
    if let (Some(session), "log") = (&mut session, by) {
        // Nothing was there: all of it comes by the log.
        until("a reader", async || {
            session.run("INSERT INTO t VALUES (90, 90, 'a', NULL, NULL)").await;
            session.run("DELETE FROM t WHERE id = 90").await;
            !peer.took().is_empty()
        })
        .await;
        fill(database, session).await;
    }
    let named =
        |id: u32| bodies(&peer).into_iter().rev().find(|body| body["id"] == id).map(|body| body["name"].clone());
    for (id, _, name) in ROWS.iter().filter(|(_, _, name)| !name.is_empty()) {
        until(name, async || named(*id) == Some((*name).into())).await;
    }
    if database.kind != "postgres" {
        assert!(bodies(&peer).iter().any(|body| body["备注"] == "注"), "{:?}", bodies(&peer));
    }
    let letter = running.one_letter().await;
    let told = &letter.summary.text;
    for word in ["column `name`", "C8", "GBK at byte 2 of its text"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    if by != "log" {
        assert!(told.contains("`t` in the row with the key `3`"), "{told}");
    }
    let body = String::from_utf8(letter.body.to_vec()).expect("it is shown");
    assert!(body.contains("\\xd5c5c8") && !body.contains('\u{fffd}'), "{body}");
    assert!(named(3).is_none(), "nothing is guessed");
    let Some(mut session) = session else { return running.gateway.stop().await };
    session.run(&format!("UPDATE t SET name = {}, changed = 5 WHERE id = 3", text(database, "d5d4c1f9"))).await;
    if by == "log" {
        // Of a log a change whose row before cannot be read is a letter, with the new row in it.
        until("its letter", async || running.letters(State::Open).await.len() == 2).await;
        return running.gateway.stop().await;
    }
    until("the row that was mended", async || named(3) == Some("赵六".into())).await;
    running.drained().await;
    running.gateway.stop().await;
}

pub(super) async fn a_watermark_reads_bytes_that_lie(database: &Database) {
    let capture = "{ table: t, by: watermark, watermark: changed, overlap: 200ms, every: 50ms, batch: 2 }";
    bytes_are_read(database, "watermark", capture).await;
}

pub(super) async fn triggers_read_bytes_that_lie(database: &Database) {
    bytes_are_read(database, "trigger", "{ table: t, by: trigger, every: 50ms, batch: 2 }").await;
}

pub(super) async fn a_log_reads_bytes_that_lie(database: &Database) {
    bytes_are_read(database, "log", "{ table: t, by: log, every: 50ms, snapshot: false }").await;
}

/// What nobody has said is not guessed at: the row is its letter, and the next ones go on.
pub(super) async fn bytes_that_nobody_declared_are_letters(database: &Database) {
    let mut session = table(database).await;
    session
        .run(&format!("INSERT INTO t VALUES (1, 1, {}, 'a', 1), (2, 2, 'plain', 'b', 2)", text(database, "d5c5")))
        .await;
    drop(session);
    let peer = Peer::start().await;
    let capture = "{ table: t, by: watermark, watermark: changed, overlap: 100ms, every: 50ms, batch: 1 }";
    let place = site(database, capture, "", &peer);
    let running = place.start().await;
    arrive(&peer, 1).await;
    let letter = running.one_letter().await;
    for word in ["column `name` of `t` in the row with the key `1`", "not UTF-8 at byte 0", "say with `charset`"] {
        assert!(letter.summary.text.contains(word), "{word} in {}", letter.summary.text);
    }
    assert!(String::from_utf8(letter.body.to_vec()).expect("text").contains("\\xd5c5"));
    assert_eq!(bodies(&peer)[0]["name"], "plain");
    running.gateway.stop().await;
}

/// What is written has the bytes that the application reads.
pub(super) async fn bytes_are_written_as_declared(database: &Database) {
    let session = table(database).await;
    let mut session = (!database.is_apart()).then_some(session);
    let columns = "columns: { id: body.id, changed: body.id, name: body.name, amount: body.amount }";
    let endpoints = format!(
        "  rows:\n    table: t\n    mode: upsert\n    key: [id]\n    {columns}\n    charset: {{ name: gbk }}\n  \
         plain:\n    table: t\n    {columns}\n    charset: {{ name: gbk }}\n  \
         change:\n    table: t\n    mode: update\n    key: [id]\n    columns: {{ id: body.id, name: body.name }}\n    charset: {{ name: gbk }}\n  \
         many:\n    table: t\n    mode: upsert\n    key: [id]\n    batch: items\n    {columns}\n    charset: {{ name: gbk }}\n"
    );
    let place =
        Place::new(&[("systems/books.yaml", &database.writes("books", &endpoints)), ("database.secret", "gatehouse")]);
    let outbound = super::hostile::open(&place).await;
    let row = |id: i64, name: Value| -> Value {
        let amount = gatehouse_core::Number::parse("7").expect("a number");
        [("id", Value::from(id)), ("name", name), ("amount", Value::Number(amount))].into_iter().collect()
    };
    let say = async |endpoint: &'static str, id: &str, body: &Value| {
        super::hostile::deliver(outbound.as_ref(), endpoint, id, body).await
    };
    let well = async |endpoint: &'static str, id: &str, body: &Value| {
        let reply = say(endpoint, id, body).await;
        reply.unwrap_or_else(|fault| panic!("{endpoint} {id}: {fault} {:?}", fault.private)).refused.len()
    };
    well("plain", "1", &row(1, "张三".into())).await;
    well("rows", "2", &row(2, "old".into())).await;
    well("rows", "3", &row(2, "李四".into())).await;
    well("plain", "4", &row(3, Value::Null)).await;
    well("plain", "5", &row(4, "x".into())).await;
    well("change", "6", &row(4, "'; DROP TABLE t; --王五".into())).await;
    let items: Vec<_> = (10..40).map(|id| row(id, if id == 20 { "𠮷".into() } else { "赵六".into() })).collect();
    let body: Value = [("items", Value::List(items))].into_iter().collect();
    assert_eq!(well("many", "7", &body).await, 1, "the one that GBK does not have");
    let refused = say("plain", "8", &row(5, "abc𠮷".into())).await.expect_err("GBK does not have it");
    assert_eq!(refused.code, Code::Invalid, "{refused}");
    for word in ["column `name` of `t`", "𠮷", "GBK", "at byte 3"] {
        assert!(refused.public.contains(word), "{word} in {refused}");
    }
    drop(outbound);
    let mut session = match session.take() {
        Some(session) => session,
        None => database.session().await,
    };
    let sql = format!("SELECT id, {} FROM t WHERE id < 12 ORDER BY id", digits(database, "name"));
    let some = |text: &str| Some(text.to_owned());
    let hostile: String = "'; DROP TABLE t; --".bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        session.rows(&sql).await,
        [
            vec![some("1"), some("d5c5c8fd")],
            vec![some("2"), some("c0eecbc4")],
            vec![some("3"), None],
            vec![some("4"), some(&format!("{hostile}cdf5cee5"))],
            vec![some("10"), some("d5d4c1f9")],
            vec![some("11"), some("d5d4c1f9")],
        ]
    );
    assert_eq!(session.count("t").await, 33);
}

/// What `charset` cannot be said of is told with its place.
pub(super) async fn a_charset_that_cannot_be_is_told(database: &Database) {
    table(database).await;
    let peer = Peer::start().await;
    let capture = "{ table: t, by: watermark, watermark: changed, key: [id] }";
    let place = site(database, capture, "", &peer);
    for (charset, word) in [
        ("{ id: gbk }", "`id` finds or sorts rows"),
        ("{ changed: gbk }", "`changed` finds or sorts rows"),
        ("{ name: klingon }", "the charset `klingon` is not spoken here"),
    ] {
        declared(&place, database, capture, charset);
        let (site, problems) = place.check();
        let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
        assert!(site.is_none() && told.iter().any(|text| text.contains(word)), "{charset}: {told:?}");
    }
    let capture = "{ table: t, by: watermark, watermark: changed }";
    for (charset, word) in [
        ("{ id: gbk }", "`id` finds or sorts rows"),
        ("{ nmae: gbk }", "a column `nmae` that is not there; did you mean `name`?"),
    ] {
        declared(&place, database, capture, charset);
        let told = super::ways::fault(&place).await;
        assert!(told.contains(word), "{charset}: {told}");
    }
}
