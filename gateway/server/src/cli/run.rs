//! `gatehouse run`: the gateway until Ctrl-C or SIGTERM.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use gatehouse_bus::Health;
use gatehouse_net::door::{Door, DoorConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{SiteArgs, out};
use crate::engine::Gateway;

pub(super) async fn run(args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    // The listener's address stands in the site, and adapters mount on the listener: read the site, bind, check.
    let (first, problems) = crate::site::load(&args.site, &crate::registry::adapters(None))?;
    let Some(first) = first else {
        out::problems(problems, args.json);
        return Ok(ExitCode::from(out::WRONG));
    };
    logs(first.gateway.telemetry.json_logs);
    let tls = first.gateway.tls.as_ref().map(|tls| (args.site.join(&tls.certificate), args.site.join(&tls.key)));
    let config = DoorConfig { listen: first.gateway.listen, tls, ..DoorConfig::default() };
    let door = Door::bind(config).await.map_err(|fault| anyhow::anyhow!(fault.public))?;
    let (site, _) = crate::site::load(&args.site, &crate::registry::adapters(Some(door.clone())))?;
    let Some(site) = site else {
        anyhow::bail!("the site changed while it was being read; start again");
    };
    let gateway = Gateway::start(site, &args.site, door).await?;
    let stop = CancellationToken::new();
    let admin = crate::admin::serve(gateway.clone(), &args.site, stop.clone()).await?;
    let mut health = gateway.health();
    let ready = async {
        let _ = health.wait_for(|health| *health == Health::Ready).await;
        tracing::info!(listen = %gateway.address, %admin, ms = started.elapsed().as_millis(), "ready");
        std::future::pending::<()>().await;
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = ready => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: nothing new is taken, what is under way finishes");
    gateway.stop().await;
    stop.cancel();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error: `RUST_LOG` decides what, default `info`. Normal operation logs nothing per message.
pub(crate) fn logs(json: Option<bool>) {
    logs_from("info,lapin=error", json);
}

/// As [`logs`], with another default.
pub(crate) fn logs_from(default: &str, json: Option<bool>) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // lapin logs returned messages whole, payload and all.
    let filter = match "lapin::returned_messages=off".parse() {
        Ok(silent) => filter.add_directive(silent),
        Err(_) => filter,
    };
    let json = json.unwrap_or_else(|| !std::io::stderr().is_terminal());
    // Written through a guard that drops what cannot be written: a full log disk must not stop messages.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Dropping(std::io::stderr()));
    // A second call (tests, demo) keeps the first one's.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(out::colour()).try_init() };
}

/// A writer that never fails.
struct Dropping<W>(W);

impl<W: std::io::Write> std::io::Write for Dropping<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}
