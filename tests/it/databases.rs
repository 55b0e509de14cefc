//! The sql adapter against servers that misbehave: what is tried again, what never is, and that whatever happens a
//! delivery has one effect. PostgreSQL and MariaDB, through a proxy that can swallow an answer and cut connections.

use std::sync::Arc;

use gatehouse_core::Value;
use gatehouse_core::adapter::{Outbound, Reply};
use gatehouse_core::fault::{Code, Fault, Verdict};

use crate::harness::{PATIENCE, Place, until};
use crate::proxy::{Proxy, Wire};

/// Each check on both servers.
macro_rules! on_both {
    ($($check:ident),* $(,)?) => {
        mod postgres { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { super::$check("postgres").await; } )* }
        mod mariadb { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $check() { super::$check("mysql").await; } )* }
    };
}

on_both!(
    fifty_at_once_have_one_effect,
    what_may_pass_is_tried_again_and_leaves_nothing,
    what_can_never_be_written_is_refused_with_the_reason,
    hostile_texts_are_only_texts,
    a_lost_answer_to_commit_is_looked_up,
    a_lost_answer_to_the_commit_of_many_is_looked_up,
    one_that_writes_for_others_may_run_out_of_time,
    two_hundred_orders_survive_connections_that_are_cut,
);

/// One database with a table and an inbox of its own behind a proxy.
struct Books {
    kind: &'static str,
    name: String,
    proxy: Proxy,
    place: Place,
}

impl Books {
    async fn new(kind: &'static str) -> Option<Self> {
        Self::limited(kind, "timeout: 20s").await
    }

    /// One writes at a time, for all that wait meanwhile.
    async fn of_one_lane(kind: &'static str) -> Option<Self> {
        Self::limited(kind, "timeout: 20s, concurrency: 1").await
    }

    async fn limited(kind: &'static str, limits: &str) -> Option<Self> {
        let url = server(kind)?;
        let name = format!("d{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let (address, database) = url.split_once('@')?.1.split_once('/')?;
        let proxy = Proxy::start(address.to_owned()).await;
        let text = format!(
            "version: 1\nsystem: books\nadapter: sql\ndatabase: {kind}\naddress: 127.0.0.1:{}/{database}\nuser: gatehouse\npassword: \"${{file:database.secret}}\"\ninbox: {{ table: inbox_{name} }}\nlimits: {{ {limits} }}\ncircuit: {{ open_after: 3, retry_after: 200ms }}\nendpoints:\n  rows:\n    table: {name}\n    columns: {{ no: body.orderNo, who: body.customer }}\n",
            proxy.port
        );
        let place = Place::new(&[
            ("systems/books.yaml", text.as_str()),
            ("database.secret", "gatehouse"),
            (
                "orders.yaml",
                "version: 1\nroutes:\n  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: books/rows, retry: { attempts: 40, first: 100ms, max: 300ms } }] }\n",
            ),
        ]);
        let books = Self { kind, name, proxy, place };
        // No key: a delivery that was written twice would be two rows.
        books.sql(&format!("CREATE TABLE {} (no VARCHAR(40) NOT NULL, who VARCHAR(40) NOT NULL)", books.name)).await;
        Some(books)
    }

    async fn open(&self) -> Arc<dyn Outbound> {
        let (site, problems) = self.place.check();
        let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
        let site = site.unwrap_or_else(|| panic!("{}", told.join("\n")));
        let secrets = gatehouse::site::ProcessSecrets::new(self.place.root());
        site.systems["books"].connect(&secrets).await.unwrap_or_else(|fault| panic!("{fault} ({:?})", fault.private))
    }

    async fn sql(&self, sql: &str) -> String {
        let variable = if self.kind == "postgres" { "GATEHOUSE_TEST_POSTGRES_CTL" } else { "GATEHOUSE_TEST_MYSQL_CTL" };
        let script = std::env::var(variable).expect("set with the URL");
        let mut words = if self.kind == "postgres" { vec!["sql", "-At", "-c"] } else { vec!["sql", "-N", "-e"] };
        words.push(sql);
        let run = tokio::process::Command::new(script).args(words).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, run).await.expect("in time").expect("runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    async fn count(&self, table: &str) -> usize {
        self.sql(&format!("SELECT count(*) FROM {table}")).await.parse().expect("a number")
    }

    /// Rows and inbox entries.
    async fn counts(&self) -> (usize, usize) {
        (self.count(&self.name).await, self.count(&format!("inbox_{}", self.name)).await)
    }

    /// Every insert fails so from now on: SQLSTATE, and MariaDB's number.
    async fn fail(&self, state: &str, number: u16) {
        let name = &self.name;
        let sql = if self.kind == "postgres" {
            format!(
                "CREATE FUNCTION f_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'made to fail' USING ERRCODE = '{state}'; END $$; CREATE TRIGGER t_{name} BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION f_{name}()"
            )
        } else {
            format!(
                "CREATE TRIGGER t_{name} BEFORE INSERT ON {name} FOR EACH ROW SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'made to fail'"
            )
        };
        self.sql(&sql).await;
    }

    async fn mend(&self) {
        let name = &self.name;
        let sql = if self.kind == "postgres" {
            format!("DROP TRIGGER t_{name} ON {name}; DROP FUNCTION f_{name}()")
        } else {
            format!("DROP TRIGGER t_{name}")
        };
        self.sql(&sql).await;
    }

    async fn end(self) {
        self.sql(&format!("DROP TABLE {0}; DROP TABLE inbox_{0}", self.name)).await;
    }
}

/// The URL of a server that the environment names; skipped loudly, and a failure where servers are required.
pub(crate) fn server(kind: &str) -> Option<String> {
    let name = format!("GATEHOUSE_TEST_{}", kind.to_uppercase());
    let url = std::env::var(&name).ok();
    if url.is_none() {
        let required = std::env::var("GATEHOUSE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not set, and GATEHOUSE_REQUIRE_SERVERS=1: see `./test servers`");
        eprintln!("SKIPPED: {name} is not set: see `./test servers`");
    }
    url
}

async fn write(outbound: &dyn Outbound, delivery_id: &str, no: &str, who: &str) -> Result<Reply, Fault> {
    let body: Value = [("orderNo", Value::from(no)), ("customer", Value::from(who))].into_iter().collect();
    let message = crate::harness::message(no);
    let call = crate::harness::call("rows", &body, &message, delivery_id);
    tokio::time::timeout(PATIENCE, outbound.deliver(call)).await.expect("an answer in time")
}

fn can_be_tried_again(fault: &Fault) -> bool {
    matches!(fault.verdict, Verdict::Retry | Verdict::RetryAfter(_))
}

async fn fifty_at_once_have_one_effect(kind: &'static str) {
    let Some(books) = Books::new(kind).await else { return };
    let outbound = books.open().await;
    let writes = (0..50).map(|_| write(outbound.as_ref(), "same", "SO-1", "c"));
    let mut fresh = 0;
    for outcome in futures_util::future::join_all(writes).await {
        match outcome {
            Ok(reply) if reply.body.field("repeated") == Some(&Value::Bool(false)) => fresh += 1,
            Ok(_) => {}
            Err(fault) => assert!(can_be_tried_again(&fault), "{fault}"),
        }
    }
    assert_eq!((fresh, books.counts().await), (1, (1, 1)));
    books.end().await;
}

/// D2: a deadlock and a serialization failure are the database's way of saying "again".
async fn what_may_pass_is_tried_again_and_leaves_nothing(kind: &'static str) {
    let Some(books) = Books::new(kind).await else { return };
    let outbound = books.open().await;
    let postgres: &[(&str, u16)] = &[("40P01", 0), ("40001", 0), ("55P03", 0), ("57014", 0), ("53300", 0)];
    let mariadb: &[(&str, u16)] = &[
        ("40001", 1213),
        ("HY000", 1205),
        // A row that another one has changed, a full disk, a full table, one connection too many of a user, a COMMIT that fails.
        ("HY000", 1020),
        ("HY000", 1021),
        ("HY000", 1114),
        ("42000", 1226),
        ("42000", 1203),
        ("HY000", 1180),
    ];
    for (state, number) in if kind == "postgres" { postgres } else { mariadb } {
        books.fail(state, *number).await;
        let id = format!("{state}-{number}");
        let fault = write(outbound.as_ref(), &id, state, "c").await.expect_err("made to fail");
        assert!(can_be_tried_again(&fault), "{id}: {fault} {:?}", fault.verdict);
        assert_eq!(books.count(&books.name).await, 0, "{id}: rolled back whole");
        books.mend().await;
        write(outbound.as_ref(), &id, state, "c").await.unwrap_or_else(|fault| panic!("{id}: {fault}"));
        assert_eq!(books.counts().await.0, 1, "{id}");
        books.sql(&format!("DELETE FROM {}", books.name)).await;
    }
    books.end().await;
}

/// D4 and bad values: such a message goes to the dead letters at once, with the reason and without the value.
async fn what_can_never_be_written_is_refused_with_the_reason(kind: &'static str) {
    let Some(books) = Books::new(kind).await else { return };
    let outbound = books.open().await;
    let long = format!("secret-{}", "长".repeat(50));
    let fault = write(outbound.as_ref(), "long", "SO-1", &long).await.expect_err("too long");
    assert_eq!((fault.code, fault.verdict), (Code::Refused, Verdict::Reject), "{fault}");
    assert!(fault.public.contains("too long") && !fault.public.contains("secret"), "{fault}");
    let nul = write(outbound.as_ref(), "nul", "SO-1", "a\0b").await.expect_err("NUL");
    assert_eq!((nul.code, nul.verdict), (Code::Invalid, Verdict::Reject), "{nul}");

    books.sql(&format!("ALTER TABLE {} DROP COLUMN who", books.name)).await;
    let dropped = write(outbound.as_ref(), "dropped", "SO-1", "c").await.expect_err("no column");
    assert_eq!((dropped.code, dropped.verdict), (Code::Misconfigured, Verdict::Reject), "{dropped}");
    assert!(dropped.public.contains("who"), "{dropped}");
    let probe = outbound.probe().await.expect_err("the column is gone");
    assert!(probe.public.contains("no column `who`"), "{probe}");

    books.sql(&format!("DROP TABLE {}", books.name)).await;
    let gone = write(outbound.as_ref(), "gone", "SO-1", "c").await.expect_err("no table");
    assert_eq!((gone.code, gone.verdict), (Code::Misconfigured, Verdict::Reject), "{gone}");
    assert_eq!(books.count(&format!("inbox_{}", books.name)).await, 0, "nothing of it is said to be done");
    books.sql(&format!("CREATE TABLE {} (no VARCHAR(40))", books.name)).await;
    books.end().await;
}

async fn hostile_texts_are_only_texts(kind: &'static str) {
    let Some(books) = Books::new(kind).await else { return };
    let outbound = books.open().await;
    let texts = [
        format!("'; DROP TABLE {}; --", books.name),
        "\\'; SELECT 1; #".to_owned(),
        "${jndi:x} {{7*7}} %s $1 ? :a".to_owned(),
        "\u{202e}𠮷野家\u{feff}\"`\\".to_owned(),
    ];
    for (index, text) in texts.iter().enumerate() {
        let id = format!("{index}");
        write(outbound.as_ref(), &id, &id, text).await.unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let column = if kind == "postgres" { "encode(convert_to(who, 'UTF8'), 'hex')" } else { "lower(hex(who))" };
        assert_eq!(books.sql(&format!("SELECT {column} FROM {} WHERE no = '{id}'", books.name)).await, hex(text));
    }
    books.end().await;
}

/// D3: the COMMIT was carried out and its answer never came.
async fn a_lost_answer_to_commit_is_looked_up(kind: &'static str) {
    let Some(books) = Books::new(kind).await else { return };
    let outbound = books.open().await;
    for n in 0..5 {
        let id = format!("SO-{n}");
        books.proxy.lose_the_answer_to("COMMIT");
        match write(outbound.as_ref(), &id, &id, "c").await {
            Ok(_) => {}
            // Looked up before the server was through with it: unknown, and to be tried again.
            Err(fault) => assert!(fault.code == Code::Unknown && can_be_tried_again(&fault), "{fault}"),
        }
        assert!(books.proxy.has_lost_it(), "an answer was swallowed");
        let again = write(outbound.as_ref(), &id, &id, "c").await.unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(again.body.field("repeated"), Some(&Value::Bool(true)), "the commit was carried out");
    }
    assert_eq!(books.counts().await, (5, 5));
    books.end().await;
}

/// The same of one transaction for twenty: the first writes alone, and the others wait meanwhile.
async fn a_lost_answer_to_the_commit_of_many_is_looked_up(kind: &'static str) {
    let Some(books) = Books::of_one_lane(kind).await else { return };
    let (outbound, ids) = (books.open().await, ids(21));
    let writes = ids.iter().enumerate().map(async |(n, id)| {
        let outcome = write(outbound.as_ref(), id, id, "c").await;
        if n == 0 {
            books.proxy.lose_the_answer_to("COMMIT");
        }
        outcome
    });
    for outcome in futures_util::future::join_all(writes).await {
        // Looked up before the server was through with it: unknown, and to be tried again.
        assert!(outcome.as_ref().map_or_else(can_be_tried_again, |_| true), "{outcome:?}");
    }
    assert!(books.proxy.has_lost_it(), "an answer was swallowed");
    until("a commit that was carried out", async || books.counts().await == (21, 21)).await;
    again(&books, outbound.as_ref(), &ids).await;
    books.end().await;
}

/// One that writes for twenty others is cut off by its own deadline: they go on without it.
async fn one_that_writes_for_others_may_run_out_of_time(kind: &'static str) {
    let Some(books) = Books::of_one_lane(kind).await else { return };
    let (outbound, ids) = (books.open().await, ids(22));
    let silent = tokio::sync::Notify::new();
    let first = async {
        let outcome = write(outbound.as_ref(), &ids[0], &ids[0], "c").await;
        // Whoever is next writes for all others, and hears nothing.
        books.proxy.wire(Wire::Silent);
        silent.notify_one();
        outcome.map(|_| ())
    };
    let leader = async {
        let mut leading = Box::pin(write(outbound.as_ref(), &ids[1], &ids[1], "c"));
        tokio::select! {
            outcome = &mut leading => panic!("it has its turn after the first: {outcome:?}"),
            () = silent.notified() => {}
        }
        let cut_off = tokio::time::timeout(std::time::Duration::from_millis(500), leading).await;
        assert!(cut_off.is_err(), "nothing passes: {cut_off:?}");
        books.proxy.wire(Wire::Well);
    };
    let patient = ids[2..].iter().map(|id| write(outbound.as_ref(), id, id, "c"));
    let (first, (), patient) =
        futures_util::future::join3(first, leader, futures_util::future::join_all(patient)).await;
    first.unwrap_or_else(|fault| panic!("{fault}"));
    for outcome in patient {
        assert!(outcome.as_ref().map_or_else(can_be_tried_again, |_| true), "{outcome:?}");
    }
    again(&books, outbound.as_ref(), &ids).await;
    books.end().await;
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("SO-{n}")).collect()
}

/// Each of them comes again until it is written: then there is one row of each.
async fn again(books: &Books, outbound: &dyn Outbound, ids: &[String]) {
    for id in ids {
        until("it is written", async || match write(outbound, id, id, "c").await {
            Ok(_) => true,
            Err(fault) if can_be_tried_again(&fault) => false,
            Err(fault) => panic!("{id}: {fault}"),
        })
        .await;
    }
    let distinct = books.sql(&format!("SELECT count(DISTINCT no) FROM {}", books.name)).await;
    assert_eq!((books.counts().await, distinct), ((ids.len(), ids.len()), ids.len().to_string()), "each once");
}

/// D1 as the gateway sees it: every connection is cut, again and again, in the middle of two hundred orders.
async fn two_hundred_orders_survive_connections_that_are_cut(kind: &'static str) {
    let Some(books) = Books::new(kind).await else { return };
    let running = books.place.start().await;
    for n in 0..200 {
        running.order(&format!("SO-{n}"), "c").await;
        if n % 20 == 10 {
            books.proxy.cut();
        }
    }
    until("every order in the table", async || {
        books.proxy.cut();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        books.count(&books.name).await >= 200
    })
    .await;
    running.drained().await;
    let distinct = books.sql(&format!("SELECT count(DISTINCT no) FROM {}", books.name)).await;
    assert_eq!((books.counts().await, distinct.as_str()), ((200, 200), "200"), "each once");
    assert!(running.letters(gatehouse_store::State::Open).await.is_empty());
    running.gateway.stop().await;
    books.end().await;
}
