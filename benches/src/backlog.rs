//! A target is away while orders come in, and comes back: what the backlog costs in memory, and how fast it drains (L1 of the
//! fault matrix). Once on the embedded bus, once on RabbitMQ where one is named.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::contest::free_port;
use crate::load::{self, Sink};
use crate::process::Contestant;
use crate::{say, site};

/// The body of an order here: a million of them stay within the bytes that a queue may hold.
const SIZE: usize = 512;

/// Runs it and prints it. `quick` is a tenth.
pub(crate) async fn run(quick: bool) -> anyhow::Result<()> {
    let count = if quick { 100_000 } else { 1_000_000 };
    one("embedded bus", None, count).await?;
    match std::env::var("GATEHOUSE_TEST_AMQP_310") {
        Ok(url) => one("RabbitMQ 3.10", Some(&url), count).await,
        Err(_) => {
            say("no RabbitMQ: set GATEHOUSE_TEST_AMQP_310, or run `./test servers`");
            Ok(())
        }
    }
}

async fn one(name: &str, url: Option<&str>, count: usize) -> anyhow::Result<()> {
    let (listen, admin, target) = (free_port()?, free_port()?, free_port()?);
    let folder = tempfile::tempdir()?;
    site::write(folder.path(), &listen, &admin, &target, url)?;
    let root = folder.path().to_string_lossy().into_owned();
    let gateway = Contestant::start(&["gateway", &root], &format!("{admin}/readyz")).await?;
    let body = Bytes::from(site::body(SIZE));

    // With its target there, first: what it does when nothing waits.
    let sink = Sink::start_at(&target, Bytes::new()).await?;
    let orders = |count: usize| vec![body.clone(); count];
    load::each(&listen, "/hooks/orders", orders(2_000), 64).await?;
    let started = Instant::now();
    load::each(&listen, "/hooks/orders", orders(count / 20), 64).await?;
    let took = sink.wait((2_000 + count / 20) as u64, started).await?;
    let steady = rate(count / 20, took);
    say(format!("{name}: steady {steady:.0}/s, {:.0} MB", gateway.memory()?));
    drop(sink);

    let mut most = 0.0_f64;
    for tenth in 1..=10 {
        let started = Instant::now();
        load::each(&listen, "/hooks/orders", orders(count / 10), 64).await?;
        let memory = gateway.memory()?;
        most = most.max(memory);
        say(format!(
            "  {} wait: {:.0}/s taken, {memory:.0} MB",
            count / 10 * tenth,
            rate(count / 10, started.elapsed())
        ));
    }
    let sink = Sink::start_at(&target, Bytes::new()).await?;
    sink.wait(1, Instant::now()).await?;
    let (started, mut before) = (Instant::now(), sink.count());
    while sink.count() < count as u64 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = sink.count();
        anyhow::ensure!(now > before, "only {now} of {count} arrived");
        before = now;
        most = most.max(gateway.memory()?);
    }
    let drained = rate(count, started.elapsed());
    say(format!("  drained at {drained:.0}/s, {:.2} of steady; at most {most:.0} MB", drained / steady));
    gateway.stop().await
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few minutes")]
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
