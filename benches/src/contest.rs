//! The contest: the same load on the raw path and on Gatehouse, in turn, and the ratios.
//!
//! A machine is not as quick in one minute as in the next, so they take turns several times: a figure is the median of the
//! turns, and so is a ratio, which compares two that had the same moment.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::load::{self, Sink};
use crate::process::Contestant;
use crate::{say, site};

/// What one contestant did under one load.
struct Figures {
    accepted: f64,
    delivered: f64,
    p50: Duration,
    p99: Duration,
    /// CPU seconds of the process itself for a message, in and out.
    cpu: f64,
    memory: f64,
}

/// Runs everything and prints it.
pub(crate) async fn run(quick: bool) -> anyhow::Result<()> {
    let (time, turns) = (Duration::from_secs(2), if quick { 3 } else { 7 });
    let sink = Sink::start().await?;
    let folder = tempfile::tempdir()?;
    let sink_address = sink.address.to_string();

    let (listen, admin) = (free_port()?, free_port()?);
    let embedded = folder.path().join("embedded");
    site::write(&embedded, &listen, &admin, &sink_address, None)?;
    let gateway = Contestant::start(&["gateway", &embedded.to_string_lossy()], &format!("{admin}/readyz")).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    say(format!("idle on the embedded bus: ready after {} ms, {:.0} MB", gateway.ready.as_millis(), gateway.memory()?));
    let figures = measure(&gateway, &listen, "/hooks/orders", &sink, 1024, 64, time).await?;
    say(format!("embedded bus, 64 connections, 1 KiB: {}", line(&figures)));
    gateway.stop().await?;

    let Ok(url) = std::env::var("GATEHOUSE_TEST_AMQP_310") else {
        say("no RabbitMQ: set GATEHOUSE_TEST_AMQP_310, or run `./test bench`");
        return Ok(());
    };
    let listen_raw = free_port()?;
    let queue = format!("raw-{}", std::process::id());
    let raw = Contestant::start(&["raw", &listen_raw, &url, &queue, &sink_address], &listen_raw).await?;
    let (listen, admin) = (free_port()?, free_port()?);
    let rabbit = folder.path().join("rabbit");
    site::write(&rabbit, &listen, &admin, &sink_address, Some(&url))?;
    let gateway = Contestant::start(&["gateway", &rabbit.to_string_lossy()], &format!("{admin}/readyz")).await?;
    say("\nRabbitMQ, quorum queues; each line: accepted/s, delivered/s, p50, p99, CPU ms a message, MB");
    let loads: &[(usize, usize)] =
        if quick { &[(64, 1024)] } else { &[(1, 1024), (16, 1024), (64, 1024), (256, 1024), (64, 10 * 1024)] };
    for (connections, size) in loads {
        let contestants =
            [(&raw, &listen_raw, "/"), (&gateway, &listen, "/hooks/orders"), (&gateway, &listen, "/soap/orders")];
        let mut figures = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..turns {
            for ((contestant, listen, path), figures) in contestants.iter().zip(&mut figures) {
                figures.push(measure(contestant, listen, path, &sink, *size, *connections, time).await?);
            }
        }
        say(format!("{connections} connections, {size} bytes, medians of {turns} turns"));
        for (name, figures) in ["raw       ", "gatehouse ", "SOAP      "].iter().zip(&figures) {
            say(format!("  {name}{}", line(&middle(figures))));
        }
        for (name, others) in [("JSON", &figures[1]), ("SOAP", &figures[2])] {
            say(format!("  {name} to raw: {}", ratios(&figures[0], others)));
        }
    }
    raw.stop().await?;
    gateway.stop().await
}

/// The median of each figure.
fn middle(turns: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| median(turns.iter().map(figure).collect());
    let time = |figure: fn(&Figures) -> f64| Duration::from_secs_f64(of(figure));
    Figures {
        accepted: of(|f| f.accepted),
        delivered: of(|f| f.delivered),
        p50: time(|f| f.p50.as_secs_f64()),
        p99: time(|f| f.p99.as_secs_f64()),
        cpu: of(|f| f.cpu),
        memory: of(|f| f.memory),
    }
}

/// How the second did, turn by turn, against the first: the median, and the least and the most.
fn ratios(raw: &[Figures], others: &[Figures]) -> String {
    let of = |ratio: fn(&Figures, &Figures) -> f64| {
        let all: Vec<f64> = raw.iter().zip(others).map(|(raw, other)| ratio(raw, other)).collect();
        let (least, most) = (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
        format!("{:.2} ({least:.2} to {most:.2})", median(all))
    };
    format!(
        "accepted {}, delivered {}, p99 {}, messages a CPU second {}",
        of(|raw, other| other.accepted / raw.accepted),
        of(|raw, other| other.delivered / raw.delivered),
        of(|raw, other| other.p99.as_secs_f64() / raw.p99.as_secs_f64()),
        of(|raw, other| raw.cpu / other.cpu)
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

async fn measure(
    contestant: &Contestant,
    listen: &str,
    path: &str,
    sink: &Sink,
    size: usize,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Figures> {
    let body = if path.starts_with("/soap") { site::envelope(size) } else { site::body(size) };
    let body = Bytes::from(body);
    let warm = load::run(listen, path, body.clone(), connections, Duration::from_millis(500)).await?;
    let before = sink.count();
    sink.wait(before.max(warm.accepted), Instant::now()).await?;
    settle(sink).await;
    let (arrived, cpu) = (sink.count(), contestant.cpu()?);
    let started = Instant::now();
    let outcome = load::run(listen, path, body, connections, time).await?;
    let memory = contestant.memory()?;
    let all = sink.wait(arrived + outcome.accepted, started).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let count = outcome.accepted as f64;
    Ok(Figures {
        accepted: count / outcome.elapsed.as_secs_f64(),
        delivered: count / all.as_secs_f64(),
        p50: outcome.percentile(0.5),
        p99: outcome.percentile(0.99),
        cpu: (contestant.cpu()? - cpu) / count,
        memory,
    })
}

/// Waits until nothing more arrives.
async fn settle(sink: &Sink) {
    loop {
        let before = sink.count();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if sink.count() == before {
            return;
        }
    }
}

fn line(figures: &Figures) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    format!(
        "{:>7.0} {:>7.0} {:>7.2} ms {:>7.2} ms {:>7.3} ms {:>5.0} MB",
        figures.accepted,
        figures.delivered,
        ms(figures.p50),
        ms(figures.p99),
        figures.cpu * 1000.0,
        figures.memory
    )
}

/// An address on which nothing listens.
pub(crate) fn free_port() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
