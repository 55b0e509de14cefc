//! What attackers write, in every value and in every name, on every database: it is only text. And what a column would change
//! without a word is refused.

use super::*;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Outbound, Reply};
use gatehouse_core::fault::{Code, Fault, Verdict};

/// Injections as they are tried: quotes of every kind, comments, second statements, escapes, charsets, parameters.
const PAYLOADS: [&str; 24] = [
    "'; DROP TABLE victim; --",
    "\"; DROP TABLE victim; --",
    "`; DROP TABLE victim; #",
    "' OR '1'='1",
    "' OR 1=1 -- -",
    "\\'; DROP TABLE victim; -- ",
    "\\\"; DROP TABLE victim; #",
    "'/**/UNION/**/SELECT/**/1",
    "') ON CONFLICT DO NOTHING; DROP TABLE victim; --",
    "'); DELETE FROM victim WHERE ('1'='1",
    "'||(SELECT 1)||'",
    "'+(SELECT 1)+'",
    "$1",
    "?",
    ":no",
    "@@version",
    "%27%3B%20DROP%20TABLE%20victim",
    "{\"x\":\"'; DROP TABLE victim; --\"}",
    "\u{00bf}\u{005c}'; DROP TABLE victim; --",
    "\u{ff07}; DROP TABLE victim; --",
    "'; EXEC xp_cmdshell('x'); --",
    "'; COPY victim TO PROGRAM 'x'; --",
    "1; ATTACH DATABASE 'x' AS y",
    "{{7*7}} ${7*7} #{7*7} %s %n",
];

pub(super) async fn open(place: &Place) -> std::sync::Arc<dyn Outbound> {
    let (site, problems) = place.check();
    let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
    let site = site.unwrap_or_else(|| panic!("{}", told.join("\n")));
    let secrets = gatehouse::site::ProcessSecrets::new(place.root());
    site.systems["books"].connect(&secrets).await.unwrap_or_else(|fault| panic!("{fault} ({:?})", fault.private))
}

pub(super) async fn deliver(outbound: &dyn Outbound, endpoint: &str, id: &str, body: &Value) -> Result<Reply, Fault> {
    let message = crate::harness::message(id);
    let call = crate::harness::call(endpoint, body, &message, id);
    tokio::time::timeout(PATIENCE, outbound.deliver(call)).await.expect("an answer in time")
}

fn place(database: &Database, endpoints: &str) -> Place {
    Place::new(&[("systems/books.yaml", &database.writes("books", endpoints)), ("database.secret", "gatehouse")])
}

pub(super) fn object(fields: &[(&str, &str)]) -> Value {
    fields.iter().map(|(name, value)| (*name, Value::from(*value))).collect()
}

pub(super) async fn payloads_in_values_are_only_texts(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE victim (no VARCHAR(200) PRIMARY KEY, who VARCHAR(200))").await;
    session.run("INSERT INTO victim VALUES ('here', 'still')").await;
    session.run("CREATE TABLE plain (no VARCHAR(200) PRIMARY KEY, who VARCHAR(200))").await;
    session.run("CREATE TABLE line (no VARCHAR(200), who VARCHAR(200))").await;
    let columns = "columns: { no: body.no, who: body.who }";
    let endpoints = format!(
        "  insert:\n    table: plain\n    {columns}\n  upsert:\n    table: plain\n    mode: upsert\n    key: [no]\n    {columns}\n  update:\n    table: plain\n    mode: update\n    key: [no]\n    {columns}\n  delete:\n    table: plain\n    mode: delete\n    key: [no]\n    {columns}\n  lines:\n    table: plain\n    mode: upsert\n    key: [no]\n    {columns}\n    lines: {{ from: lines, table: line, replace: [no], columns: {{ no: body.no, who: line.who }} }}\n  batch:\n    table: plain\n    mode: upsert\n    key: [no]\n    batch: rows\n    {columns}\n  ask:\n    statement: {{ sql: 'SELECT who FROM plain WHERE no = :no', parameters: {{ \"no\": body.no }}, reads: true }}\n  say:\n    statement: {{ sql: 'UPDATE plain SET who = :who WHERE no = :no', parameters: {{ \"no\": body.no, who: body.who }} }}\n"
    );
    let place = place(database, &endpoints);
    let outbound = open(&place).await;
    let mut rows = Vec::new();
    for (n, payload) in PAYLOADS.iter().enumerate() {
        let body = object(&[("no", payload), ("who", payload)]);
        for (step, endpoint) in ["insert", "upsert", "update", "say", "lines"].into_iter().enumerate() {
            let lines = Value::List(vec![body.clone(), body.clone()]);
            let mut body = body.clone();
            body.as_map_mut().expect("a map").insert("lines".to_owned(), lines);
            // The id and the message's id are values too.
            let id = format!("{n}-{step}-{payload}").chars().take(60).collect::<String>();
            deliver(outbound.as_ref(), endpoint, &id, &body)
                .await
                .unwrap_or_else(|fault| panic!("{endpoint} {payload}: {fault} {:?}", fault.private));
        }
        let reply =
            deliver(outbound.as_ref(), "ask", "x", &body).await.unwrap_or_else(|fault| panic!("{payload}: {fault}"));
        assert_eq!(
            reply.body.field("rows").map(Value::to_string),
            Some(Value::List(vec![object(&[("who", payload)])]).to_string()),
            "{payload}"
        );
        rows.push(body);
    }
    assert_eq!((session.count("plain").await, session.count("line").await), (PAYLOADS.len(), 2 * PAYLOADS.len()));
    let body: Value = [("rows", Value::List(rows.clone()))].into_iter().collect();
    let reply = deliver(outbound.as_ref(), "batch", "batch", &body).await.unwrap_or_else(|fault| panic!("{fault}"));
    assert!(reply.refused.is_empty(), "{:?}", reply.refused);
    for (n, row) in rows.iter().enumerate() {
        deliver(outbound.as_ref(), "delete", &format!("gone-{n}"), row).await.unwrap_or_else(|fault| panic!("{fault}"));
    }
    assert_eq!((session.count("plain").await, session.count("victim WHERE who = 'still'").await), (0, 1));
}

/// Names come from the site, or, without `columns`, from the body's fields.
pub(super) async fn payloads_in_names_are_refused_or_quoted(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE victim (no VARCHAR(200) PRIMARY KEY, who VARCHAR(200))").await;
    session.run("INSERT INTO victim VALUES ('here', 'still')").await;
    session.run("CREATE TABLE plain (no VARCHAR(200) PRIMARY KEY, who VARCHAR(200))").await;
    let place =
        place(database, "  rows:\n    table: plain\n  upsert:\n    table: plain\n    mode: upsert\n    key: [no]\n");
    let outbound = open(&place).await;
    for (n, payload) in PAYLOADS.iter().enumerate() {
        for endpoint in ["rows", "upsert"] {
            let body = object(&[("no", "1"), (payload, "x")]);
            let fault = deliver(outbound.as_ref(), endpoint, &format!("{n}"), &body).await.expect_err(payload);
            assert!(matches!(fault.verdict, Verdict::Reject), "{payload}: {fault}");
        }
        // In the site it is refused by the check, or it is the name of something that is not there.
        let quoted = Value::from(*payload).to_string();
        for endpoint in [
            format!("  rows:\n    table: {quoted}\n    columns: {{ no: body.no }}\n"),
            format!("  rows:\n    table: plain\n    columns: {{ no: body.no, {quoted}: body.no }}\n"),
            format!("  rows:\n    table: plain\n    mode: upsert\n    key: [{quoted}]\n"),
            format!(
                "  rows:\n    table: plain\n    mode: delete\n    key: [no]\n    columns: {{ no: body.no }}\n    lines: {{ from: lines, table: {quoted}, columns: {{ no: body.no }} }}\n"
            ),
        ] {
            let place = Place::new(&[
                ("systems/books.yaml", &database.writes("books", &endpoint)),
                ("database.secret", "gatehouse"),
            ]);
            let (Some(site), _) = place.check() else { continue };
            let secrets = gatehouse::site::ProcessSecrets::new(place.root());
            let opened = site.systems["books"].connect(&secrets).await;
            let fault = opened.err().unwrap_or_else(|| panic!("{endpoint} is taken"));
            assert_eq!(fault.code, Code::Misconfigured, "{endpoint}: {fault}");
        }
    }
    assert_eq!((session.count("plain").await, session.count("victim WHERE who = 'still'").await), (0, 1));
    // A name with quotes that is really there is written to as it is.
    if database.kind != "sqlite" {
        let odd = database.by("", "\"it's; -- odd\"", "`it's; -- odd`");
        session.run(&format!("CREATE TABLE {odd} ({} VARCHAR(20))", database.by("", "\"a b;--\"", "`a b;--`"))).await;
        let endpoint = "  rows:\n    table: \"it's; -- odd\"\n    columns: { \"a b;--\": body.no }\n";
        let place = Place::new(&[
            ("systems/books.yaml", &database.writes("books", endpoint)),
            ("database.secret", "gatehouse"),
        ]);
        let outbound = open(&place).await;
        deliver(outbound.as_ref(), "rows", "odd", &object(&[("no", "1")]))
            .await
            .unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(session.count(odd).await, 1);
    }
}

/// No digit is rounded, no text read as something else; the refusal names the column and says why.
pub(super) async fn what_a_column_would_change_is_refused(database: &Database) {
    let mut session = database.session().await;
    let number = |text: &str| Value::Number(gatehouse_core::Number::parse(text).expect("a number"));
    let time = database.by("TEXT", "TIMESTAMPTZ", "DATETIME");
    session
        .run(&format!(
            "CREATE TABLE kinds (amount DECIMAL(10,2), pieces INT, day DATE, seen {time}, name VARCHAR(5), small SMALLINT)"
        ))
        .await;
    let place = place(database, "  rows:\n    table: kinds\n");
    let outbound = open(&place).await;
    let mut cases: Vec<(&str, Value)> = vec![("amount", number("1.005")), ("pieces", number("1.5"))];
    if database.kind != "sqlite" {
        cases.extend([
            ("amount", Value::from("1.005")),
            ("amount", Value::from("NaN")),
            ("amount", Value::from("Infinity")),
            ("amount", number("123456789012.5")),
            ("amount", number("1e400")),
            ("pieces", Value::from("x")),
            ("pieces", number("2147483648")),
            ("small", number("-32769")),
            ("day", Value::from("2026-02-30")),
            ("day", Value::from("0000-00-00")),
            ("day", Value::from("infinity")),
            ("day", Value::from("now")),
            ("seen", Value::from("2026-13-01 00:00:00")),
            ("seen", Value::from("gestern")),
            ("name", Value::from("六个字的名字")),
        ]);
    }
    for (n, (column, value)) in cases.iter().enumerate() {
        let body: Value = [(*column, value.clone())].into_iter().collect();
        let fault = deliver(outbound.as_ref(), "rows", &format!("c{n}"), &body).await.expect_err(column);
        assert!(matches!(fault.verdict, Verdict::Reject), "{column} {value}: {fault} {:?}", fault.verdict);
        assert!(fault.public.contains(&format!("column `{column}`")), "{column} {value}: {fault}");
        assert!(!fault.public.contains("六个字") && !fault.public.contains("gestern"), "{fault}");
    }
    assert_eq!((session.count("kinds").await, session.count("gatehouse_inbox").await), (0, 0));
    let good: Value =
        [("amount", number("1")), ("pieces", number("3")), ("name", Value::from("五个字啊的")), ("day", Value::Null)]
            .into_iter()
            .collect();
    deliver(outbound.as_ref(), "rows", "good", &good)
        .await
        .unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private));
    // A table that was made wider meanwhile is looked at again.
    if database.kind != "sqlite" {
        let wider = database.by(
            "",
            "ALTER TABLE kinds ALTER amount TYPE DECIMAL(10,3)",
            "ALTER TABLE kinds MODIFY amount DECIMAL(10,3)",
        );
        session.run(wider).await;
        let body: Value = [("amount", number("1.005"))].into_iter().collect();
        deliver(outbound.as_ref(), "rows", "wider", &body)
            .await
            .unwrap_or_else(|fault| panic!("{fault} {:?}", fault.private));
        assert_eq!(session.count("kinds WHERE amount = 1.005").await, 1);
    }
}
