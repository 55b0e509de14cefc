//! A whole table of PostgreSQL into a quorum queue: its first reading by the gateway, against `COPY … TO STDOUT` whose lines are
//! published one by one and confirmed. Nobody takes them from the queue meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio_postgres::{Client, NoTls};

use crate::contest::free_port;
use crate::process::Contestant;
use crate::{load, say};

/// Publishes whose confirm is awaited at a time.
const UNCONFIRMED: usize = 1000;

/// Runs it against the PostgreSQL and the RabbitMQ that the environment names.
pub(crate) async fn run(quick: bool) -> anyhow::Result<()> {
    let url = std::env::var("GATEHOUSE_TEST_POSTGRES").context("GATEHOUSE_TEST_POSTGRES names no PostgreSQL")?;
    let broker = std::env::var("GATEHOUSE_TEST_AMQP_310").context("GATEHOUSE_TEST_AMQP_310 names no RabbitMQ")?;
    let count: u32 = if quick { 100_000 } else { 1_000_000 };
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let table = format!("bench_table_{}", std::process::id());
    client
        .batch_execute(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, name text NOT NULL, qty numeric(12,3) NOT NULL, price numeric(12,2) NOT NULL, changed timestamptz NOT NULL);
             INSERT INTO {table} SELECT n, '龙井茶 ' || n, n % 1000 + 0.125, n % 500 + 0.90, timestamptz '2026-11-24 08:00+08' + n * interval '1 ms' FROM generate_series(1, {count}) AS n;
             ANALYZE {table}"
        ))
        .await?;
    say(format!("{count} rows of PostgreSQL into a quorum queue"));
    let outcome = both(&url, &broker, &client, &table, count).await;
    client.batch_execute(&format!("DROP TABLE {table}")).await?;
    outcome
}

async fn both(url: &str, broker: &str, client: &Client, table: &str, count: u32) -> anyhow::Result<()> {
    let by_hand = f64::from(count) / copy(client, broker, table).await?.as_secs_f64();
    say(format!("COPY and bare confirmed publishes: {by_hand:.0} rows/s"));
    let (rate, cpu, memory) = gateway(url, broker, table, count).await?;
    say(format!(
        "gatehouse: {rate:.0} rows/s, {:.3} ms CPU a row, at most {memory:.0} MB, ratio {:.2}",
        cpu * 1000.0 / f64::from(count),
        rate / by_hand
    ));
    Ok(())
}

/// As one would do it who only wants the rows on a queue.
async fn copy(client: &Client, broker: &str, table: &str) -> anyhow::Result<Duration> {
    let connection = Connection::connect(broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(table.into(), options, arguments).await?;
    let started = Instant::now();
    let rows = client.copy_out(&format!("COPY (SELECT row_to_json(t) FROM {table} AS t) TO STDOUT")).await?;
    let mut rows = std::pin::pin!(rows);
    let mut confirms = FuturesUnordered::new();
    while let Some(row) = rows.try_next().await? {
        if confirms.len() >= UNCONFIRMED {
            confirms.next().await.context("a confirm")??;
        }
        confirms.push(publish(&channel, table, row.to_vec()));
    }
    while let Some(confirmed) = confirms.next().await {
        confirmed?;
    }
    let took = started.elapsed();
    channel.queue_delete(table.into(), QueueDeleteOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(took)
}

async fn publish(channel: &Channel, queue: &str, row: Vec<u8>) -> anyhow::Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish("".into(), queue.into(), options, &row, properties).await?.await?;
    anyhow::ensure!(matches!(confirm, Confirmation::Ack(None)), "not confirmed");
    Ok(())
}

/// The rows a second from the first to the last, the CPU seconds, and the most memory.
async fn gateway(url: &str, broker: &str, table: &str, count: u32) -> anyhow::Result<(f64, f64, f64)> {
    let folder = tempfile::tempdir()?;
    let admin = free_port()?;
    site(folder.path(), &admin, url, broker, table)?;
    let gateway = Contestant::start(&["gateway", &folder.path().to_string_lossy()], &format!("{admin}/readyz")).await?;
    let (mut first, mut memory) = (None, 0.0_f64);
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let read = taken(&admin).await?;
        memory = memory.max(gateway.memory()?);
        let (before, since) = match first {
            None if read > 0.0 => *first.insert((read, Instant::now())),
            None => (0.0, Instant::now()),
            Some(first) => first,
        };
        if read >= f64::from(count) {
            let rate = (read - before) / since.elapsed().as_secs_f64();
            let cpu = gateway.cpu()?;
            gateway.stop().await?;
            return Ok((rate, cpu, memory));
        }
        anyhow::ensure!(Instant::now() < deadline, "{read} of {count} rows are read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many rows are on the bus.
async fn taken(admin: &str) -> anyhow::Result<f64> {
    let text = load::get(admin, "/metrics").await?;
    let of_rows = |line: &&str| line.starts_with("gatehouse_received_total") && line.contains("accepted");
    let values = text.lines().filter(of_rows).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(values.sum())
}

fn site(root: &Path, admin: &str, url: &str, broker: &str, table: &str) -> anyhow::Result<()> {
    let (_, rest) = url.split_once("://").context("a URL")?;
    let (login, address) = rest.split_once('@').context("a user in the URL")?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    for folder in ["systems", "types", "data"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let put = |name: &str, text: &str| std::fs::write(root.join(name), text);
    put("amqp.secret", broker)?;
    put("database.secret", if password.is_empty() { "none" } else { password })?;
    put(
        "gatehouse.yaml",
        &format!(
            "version: 1\nlisten: {}\nadmin: {{ listen: {admin} }}\nbus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: {table} }}\n",
            free_port()?
        ),
    )?;
    put(
        "systems/books.yaml",
        &format!(
            "version: 1\nsystem: books\nadapter: sql\ndatabase: postgres\naddress: {address}\nuser: {user}\npassword: \"${{file:database.secret}}\"\nendpoints:\n  rows:\n    capture: {{ table: {table}, by: watermark, watermark: changed, overlap: 1s, batch: 5000, every: 100ms }}\n"
        ),
    )?;
    // Nobody is there: the queue keeps all.
    put(
        "systems/crm.yaml",
        &format!(
            "version: 1\nsystem: crm\nadapter: rest\naddress: http://{}\nendpoints:\n  put: {{ call: POST / }}\n",
            free_port()?
        ),
    )?;
    put("types/any.schema.json", r#"{"type":"object"}"#)?;
    put(
        "routes.yaml",
        "version: 1\nroutes:\n  - { route: rows, from: books/rows, type: any, to: [{ target: crm/put }] }\n",
    )?;
    Ok(())
}
