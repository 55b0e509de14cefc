//! What is written: a table that follows another, statements of one's own, lines that are replaced.

use super::*;

pub(super) async fn a_table_is_copied_with_its_deletes(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), amount DECIMAL(10,2))").await;
    session.run("CREATE TABLE copy_of_t (id INT PRIMARY KEY, name VARCHAR(40), amount VARCHAR(20))").await;
    session.run("CREATE TABLE vacant_t (id INT PRIMARY KEY, more VARCHAR(9))").await;
    session.run("INSERT INTO t VALUES (1, 'one', 1.5), (2, '二', 2.5), (3, NULL, 3.5)").await;
    let peer = Peer::start().await;
    let mapping = "  - { to: gone, value: 'meta.op == \"delete\"' }\n  - { to: id, from: id }\n  - { to: name, from: name, default: '' }\n";
    let place = site(database, "{ table: t, by: trigger, every: 30ms }", mapping, &peer);
    let endpoints = "  rows:\n    table: copy_of_t\n    mode: upsert\n    key: [id]\n    delete_when: body.gone\n    columns: { id: body.id, name: body.name }\n  only:\n    table: vacant_t\n    mode: update\n    key: [id]\n    columns: { id: body.id, more: '\"seen\"' }\n";
    place.write("systems/copy.yaml", &database.writes("copy", endpoints));
    place.write(
        "orders.yaml",
        "version: 1\nroutes:\n  - route: rows\n    from: src/rows\n    map: change\n    type: row\n    to:\n      - { target: copy/rows, order_by: id, retry: { attempts: 9, first: 50ms, max: 1s } }\n      - { target: copy/only, when: id == 99, order_by: id, retry: { attempts: 2, first: 1s, max: 1s } }\n",
    );
    assert!(gatehouse(&place, &["capture", "install", "src/rows", "--yes"]).await);
    let running = place.start().await;
    until("the copy", async || session.count("copy_of_t").await == 3).await;
    session.run("UPDATE t SET name = 'uno' WHERE id = 1").await;
    session.run("DELETE FROM t WHERE id = 2").await;
    session.run("UPDATE t SET id = 4 WHERE id = 3").await;
    session.run("INSERT INTO t VALUES (5, 'five', 1)").await;
    let wanted = ["1 uno", "4 ", "5 five"];
    until("the same rows", async || {
        let rows = session.rows("SELECT id, name FROM copy_of_t ORDER BY id").await;
        let rows: Vec<_> = rows
            .iter()
            .map(|row| format!("{} {}", row[0].as_deref().unwrap(), row[1].as_deref().unwrap_or("-")))
            .collect();
        rows == wanted
    })
    .await;
    running.drained().await;
    // An update of a row that is not there is told: nothing else would.
    session.run("INSERT INTO t VALUES (99, 'x', 1)").await;
    let letter = running.one_letter().await;
    assert_eq!(letter.summary.text, "`vacant_t` has no row with this id: nothing was updated");
    session.run("INSERT INTO vacant_t (id) VALUES (99)").await;
    running.gateway.letters.replay(&[letter.summary.id], "li").await.unwrap();
    until("the update", async || session.count("vacant_t WHERE more = 'seen'").await == 1).await;
    running.gateway.stop().await;
}

pub(super) async fn statements_ask_and_call_procedures(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE customer (no VARCHAR(20) PRIMARY KEY, name VARCHAR(40), credit DECIMAL(20,2))").await;
    session.run("INSERT INTO customer VALUES ('C-1', '上海贸易', 12345678901234567.89)").await;
    session.run("CREATE TABLE bill (no VARCHAR(20) NOT NULL, amount VARCHAR(30) NOT NULL)").await;
    // A procedure that books a bill and answers with a code; SQLite has none, there it is the statement itself.
    let (statement, success) = match database.kind {
        "postgres" => {
            session.run("CREATE PROCEDURE book(IN p_no text, IN p_amount numeric, INOUT code int, INOUT msg text) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO bill VALUES (p_no, p_amount); IF p_amount > 1000 THEN code := 7; msg := '超出额度'; ELSE code := 0; msg := ''; END IF; END $$").await;
            (
                "{ sql: 'CALL book(:no, :amount, NULL, NULL)', parameters: { no: body.orderNo, amount: body.amount }",
                "reply.rows[0].code == 0",
            )
        }
        "mysql" => {
            session.run("CREATE PROCEDURE book(IN p_no VARCHAR(20), IN p_amount DECIMAL(20,2), OUT code INT, OUT msg VARCHAR(40)) BEGIN INSERT INTO bill VALUES (p_no, p_amount); IF p_amount > 1000 THEN SET code = 7, msg = '超出额度'; ELSE SET code = 0, msg = ''; END IF; END").await;
            (
                "{ sql: 'CALL book(:no, :amount, @code, @msg)', parameters: { no: body.orderNo, amount: body.amount }, result: 'SELECT @code AS code, @msg AS msg'",
                "reply.rows[0].code == 0",
            )
        }
        _ => (
            "{ sql: 'INSERT INTO bill VALUES (:no, :amount)', parameters: { no: body.orderNo, amount: body.amount }, result: \"SELECT CASE WHEN max(CAST(amount AS INT)) > 1000 THEN 7 ELSE 0 END AS code, '超出额度' AS msg FROM bill\"",
            "reply.rows[0].code == 0",
        ),
    };
    let peer = Peer::start().await;
    let place = site(database, "{ table: bill, by: outbox, sent: delete, key: [no] }", "", &peer);
    let endpoints = format!(
        "  book:\n    statement: {statement}, success_when: '{success}', error_text: 'reply.rows[0].msg' }}\n  customer:\n    statement: {{ sql: 'SELECT name, credit FROM customer WHERE no = :no', parameters: {{ no: body.customer }}, reads: true }}\n"
    );
    place.write("systems/books.yaml", &database.writes("books", &endpoints));
    place.write("systems/shop.yaml", &format!("{}  ask: {{ receive: POST /hooks/ask }}\n", crate::harness::SHOP));
    place.write(
        "orders.yaml",
        "version: 1\nroutes:\n  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: books/book, retry: { attempts: 3, first: 50ms, max: 1s } }] }\n  - { route: ask, from: shop/ask, exchange: request, type: row, to: [{ target: books/customer }] }\n",
    );
    let running = place.start().await;
    let answer = running.post("/hooks/ask", r#"{"customer":"C-1' OR '1'='1"}"#).await;
    assert_eq!((answer.status, answer.json()["rows"].as_array().map(Vec::len)), (200, Some(0)), "{answer:?}");
    let answer = running.post("/hooks/ask", r#"{"customer":"C-1"}"#).await;
    assert_eq!(answer.json()["rows"][0]["name"], "上海贸易", "{answer:?}");
    if database.kind != "sqlite" {
        assert!(answer.text.contains("12345678901234567.89"), "{answer:?}");
    }
    let order =
        |no: &str, amount: &str| format!(r#"{{"orderNo":"{no}","status":"paid","customer":"C-1","amount":{amount}}}"#);
    assert_eq!(running.post("/hooks/orders", order("B-1", "900")).await.status, 202);
    until("the bill", async || session.count("bill").await == 1).await;
    // Refused by its own code: all of it is rolled back, and the letter has the procedure's words.
    assert_eq!(running.post("/hooks/orders", order("B-2", "5000")).await.status, 202);
    let letter = running.one_letter().await;
    assert_eq!((letter.summary.message_id.as_str(), letter.summary.text.as_str()), ("B-2", "超出额度"));
    assert_eq!(session.count("bill").await, 1);
    assert_eq!(session.count("gatehouse_inbox").await, 1, "a refused call leaves no trace, so that it can be replayed");
    let summary = &letter.summary;
    running.gateway.letters.edit(summary.id, summary.revision, order("B-2", "5").as_bytes(), "li").await.unwrap();
    running.gateway.letters.replay(&[summary.id], "li").await.unwrap();
    until("the mended bill", async || session.count("bill").await == 2).await;
    running.drained().await;
    running.gateway.stop().await;

    for (statement, word) in [
        ("{ sql: 'SELECT :a', parameters: { b: body.x } }", "the parameter `:a` has no expression"),
        ("{ sql: 'SELECT 1', parameters: { b: body.x } }", "the SQL has no parameter `:b`"),
        ("{ sql: 'SELECT :a', parameters: { a: 'bdy.x' } }", "bdy"),
    ] {
        place.write(
            "systems/books.yaml",
            &database.writes("books", &format!("  customer:\n    statement: {statement}\n")),
        );
        let (site, problems) = place.check();
        let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
        assert!(site.is_none() && told.iter().any(|text| text.contains(word)), "{statement}: {told:?}");
    }
}

pub(super) async fn a_changed_order_has_its_new_lines_and_no_others(database: &Database) {
    let mut session = database.session().await;
    session.run("CREATE TABLE head (no VARCHAR(20) PRIMARY KEY, customer VARCHAR(20))").await;
    session
        .run("CREATE TABLE line (no VARCHAR(20) NOT NULL, pos INT NOT NULL, sku VARCHAR(20), PRIMARY KEY (no, pos))")
        .await;
    let peer = Peer::start().await;
    let place = site(database, "{ table: head, by: outbox, sent: delete }", "", &peer);
    let lines = |replace: &str| {
        format!(
            "    lines:\n      from: lines\n      table: line\n      replace: [{replace}]\n      columns: {{ \"no\": body.orderNo, pos: index, sku: line }}\n"
        )
    };
    let endpoint = |replace: &str| {
        let row = "  orders:\n    table: head\n    mode: upsert\n    key: [\"no\"]\n    delete_when: body.gone ?? false\n    columns: { \"no\": body.orderNo, customer: body.customer }\n";
        database.writes("books", &format!("{row}{}", lines(replace)))
    };
    for (replace, word) in [("number", "`number` is not among `columns`"), ("pos", "index")] {
        place.write("systems/books.yaml", &endpoint(replace));
        let (site, problems) = place.check();
        let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
        assert!(site.is_none() && told.iter().any(|text| text.contains(word)), "{replace}: {told:?}");
    }
    place.write("systems/books.yaml", &endpoint("\"no\""));
    place.write("systems/shop.yaml", &crate::harness::SHOP.replace(", id: body orderNo", ""));
    place.write(
        "orders.yaml",
        "version: 1\nroutes:\n  - { route: orders, from: shop/orders, type: row, to: [{ target: books/orders, order_by: orderNo }] }\n",
    );
    let running = place.start().await;
    let mut told = Vec::new();
    for (body, wanted) in [
        (r#"{"orderNo":"A","customer":"x","lines":["a","b","c"]}"#, "1 a,2 b,3 c"),
        (r#"{"orderNo":"A","customer":"x","lines":["c"]}"#, "1 c"),
        (r#"{"orderNo":"A","customer":"x","lines":[]}"#, ""),
        (r#"{"orderNo":"A","customer":"x","lines":["d","e"]}"#, "1 d,2 e"),
        (r#"{"orderNo":"A","gone":true}"#, ""),
    ] {
        assert_eq!(running.post("/hooks/orders", body).await.status, 202);
        running.drained().await;
        let rows = session.rows("SELECT pos, sku FROM line WHERE no = 'A' ORDER BY pos").await;
        let rows: Vec<_> =
            rows.iter().map(|row| format!("{} {}", row[0].as_deref().unwrap(), row[1].as_deref().unwrap())).collect();
        told.push((rows.join(","), wanted.to_owned()));
    }
    assert!(told.iter().all(|(got, wanted)| got == wanted), "{told:?} {:?}", running.letters(State::Open).await);
    assert_eq!(session.count("head").await, 0, "the last one deleted it");
    running.gateway.stop().await;
}
