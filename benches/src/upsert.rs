//! Upserts into PostgreSQL: the same messages by a batch written by hand, and through the gateway. They wait on the bus before
//! the clock runs, so that what is measured is the way from the bus into the table: taking, decoding, shaping, writing with an
//! inbox row for each, settling. The batch by hand reads the same JSON from memory and writes 500 rows a transaction in one
//! statement, as one would who knows PostgreSQL; it remembers nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tokio_postgres::{Client, NoTls};

use crate::contest::free_port;
use crate::process::Contestant;
use crate::{load, say};

/// Rows of a hand-written transaction, and of a message that brings many.
const ROWS: usize = 500;

/// Runs it against the PostgreSQL that the environment names.
pub(crate) async fn run(quick: bool) -> anyhow::Result<()> {
    let url = std::env::var("GATEHOUSE_TEST_POSTGRES").context("GATEHOUSE_TEST_POSTGRES names no PostgreSQL")?;
    let count = if quick { 20_000 } else { 100_000 };
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let rows: Vec<String> = (0..count).map(row).collect();
    let table = format!("bench_{}", std::process::id());
    let create = format!(
        "DROP TABLE IF EXISTS {table}, inbox_{table}; CREATE TABLE {table} (sku text PRIMARY KEY, name text NOT NULL, qty numeric(12,3) NOT NULL, price numeric(12,2) NOT NULL, changed timestamptz NOT NULL)"
    );
    say(format!("{count} rows into PostgreSQL, upserted; each twice: as new rows, then over those that are there"));
    let mut by_hand = Vec::new();
    client.batch_execute(&create).await?;
    for turn in ["new", "again"] {
        let started = Instant::now();
        hand(&client, &table, &rows).await?;
        by_hand.push(rate(count, started.elapsed()));
        say(format!("by hand, {ROWS} a transaction, {turn}: {:.0} rows/s", by_hand.last().copied().unwrap_or(0.0)));
    }
    let lists: Vec<String> = rows.chunks(ROWS).map(|some| format!(r#"{{"items":[{}]}}"#, some.join(","))).collect();
    for (what, path, bodies) in
        [("500 rows a message", "/hooks/lists", &lists), ("a row a message", "/hooks/rows", &rows)]
    {
        client.batch_execute(&create).await?;
        for (turn, by_hand) in ["new", "again"].into_iter().zip(&by_hand) {
            let (took, cpu) = gateway(&url, &client, &table, path, bodies, count).await?;
            let rate = rate(count, took);
            say(format!(
                "gatehouse, {what}, {turn}: {rate:.0} rows/s, {:.3} ms CPU a row, ratio {:.2}",
                cpu * 1000.0 / as_f64(count),
                rate / by_hand
            ));
        }
    }
    client.batch_execute(&format!("DROP TABLE {table}, inbox_{table}")).await?;
    Ok(())
}

fn row(n: usize) -> String {
    format!(
        r#"{{"sku":"SKU-{n:08}","name":"龙井茶 {n}","qty":{}.125,"price":"{}.90","changed":"2026-11-24T08:00:00+08:00"}}"#,
        n % 1000,
        n % 500
    )
}

/// As one would write it: parsed, and written as columns.
async fn hand(client: &Client, table: &str, rows: &[String]) -> anyhow::Result<()> {
    let sql = format!(
        "INSERT INTO {table} (sku, name, qty, price, changed) SELECT a, b, c::numeric, d::numeric, e::timestamptz FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS t (a, b, c, d, e) ON CONFLICT (sku) DO UPDATE SET name = excluded.name, qty = excluded.qty, price = excluded.price, changed = excluded.changed"
    );
    let statement = client.prepare(&sql).await?;
    for some in rows.chunks(ROWS) {
        let parsed: Vec<serde_json::Value> =
            some.iter().map(|row| serde_json::from_str(row)).collect::<Result<_, _>>()?;
        let column = |name: &str| -> Vec<String> {
            let text = |row: &serde_json::Value| match &row[name] {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            parsed.iter().map(text).collect()
        };
        let columns = ["sku", "name", "qty", "price", "changed"].map(column);
        let [a, b, c, d, e] = &columns;
        client.execute(&statement, &[a, b, c, d, e]).await?;
    }
    Ok(())
}

/// Lets a gateway take all messages while it cannot write, then starts it again where it can, and waits for the last row.
async fn gateway(
    url: &str,
    client: &Client,
    table: &str,
    path: &str,
    bodies: &[String],
    count: usize,
) -> anyhow::Result<(Duration, f64)> {
    let folder = tempfile::tempdir()?;
    let (_, rest) = url.split_once("://").context("a URL")?;
    let (login, address) = rest.split_once('@').context("a user in the URL")?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (listen, admin) = (free_port()?, free_port()?);
    let nowhere = format!("{}/{}", free_port()?, "nothing");
    site(folder.path(), &listen, &admin, (&nowhere, user, password), table)?;
    let filling = Contestant::start(&["gateway", &folder.path().to_string_lossy()], &format!("{admin}/readyz")).await?;
    load::each(&listen, path, bodies.iter().map(|body| Bytes::from(body.clone())).collect(), 32).await?;
    filling.stop().await?;

    site(folder.path(), &listen, &admin, (address, user, password), table)?;
    // Rows that are there already are counted by what changes in each run: the inbox remembers each row once.
    client.batch_execute(&format!("DROP TABLE IF EXISTS inbox_{table}")).await?;
    let started = Instant::now();
    let running = Contestant::start(&["gateway", &folder.path().to_string_lossy()], &format!("{admin}/readyz")).await?;
    let sql = format!("SELECT count(*) FROM inbox_{table}");
    let deadline = Duration::from_secs(300);
    loop {
        let written: i64 = match client.query_one(&sql, &[]).await {
            Ok(row) => row.get(0),
            Err(_) => 0,
        };
        if usize::try_from(written).unwrap_or(0) >= count {
            break;
        }
        anyhow::ensure!(started.elapsed() < deadline, "{written} of {count} rows after {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = started.elapsed().saturating_sub(running.ready);
    let cpu = running.cpu()?;
    running.stop().await?;
    Ok((took, cpu))
}

fn site(
    root: &Path,
    listen: &str,
    admin: &str,
    (address, user, password): (&str, &str, &str),
    table: &str,
) -> anyhow::Result<()> {
    for folder in ["systems", "types", "data"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let put = |name: &str, text: &str| std::fs::write(root.join(name), text);
    put("gatehouse.yaml", &format!("version: 1\nlisten: {listen}\nadmin: {{ listen: {admin} }}\n"))?;
    put("database.secret", if password.is_empty() { "none" } else { password })?;
    put(
        "systems/shop.yaml",
        "version: 1\nsystem: shop\nadapter: rest\nlimits: { concurrency: 1000 }\nendpoints:\n  rows: { receive: POST /hooks/rows }\n  lists: { receive: POST /hooks/lists }\n",
    )?;
    put(
        "systems/books.yaml",
        &format!(
            "version: 1\nsystem: books\nadapter: sql\ndatabase: postgres\naddress: {address}\nuser: {user}\npassword: \"${{file:database.secret}}\"\ninbox: {{ table: inbox_{table} }}\nlimits: {{ concurrency: 256, timeout: 60s }}\nendpoints:\n  row:\n    table: {table}\n    mode: upsert\n    key: [sku]\n  list:\n    table: {table}\n    mode: upsert\n    key: [sku]\n    batch: items\n"
        ),
    )?;
    put("types/any.schema.json", r#"{"type":"object"}"#)?;
    put(
        "routes.yaml",
        "version: 1\nroutes:\n  - { route: rows, from: shop/rows, type: any, to: [{ target: books/row }] }\n  - { route: lists, from: shop/lists, type: any, to: [{ target: books/list }] }\n",
    )?;
    Ok(())
}

fn rate(count: usize, took: Duration) -> f64 {
    as_f64(count) / took.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a count of rows")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
