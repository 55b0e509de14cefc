//! A contestant: a process of its own, with its CPU time and memory read from `/proc`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

/// Clock ticks a second, as Linux reports CPU times to programs (`sysconf(_SC_CLK_TCK)` is 100 on every architecture).
const TICKS: f64 = 100.0;

/// A running contestant.
pub(crate) struct Contestant {
    child: Child,
    pid: u32,
    /// From its start to its first good answer.
    pub(crate) ready: Duration,
}

impl Contestant {
    /// Starts this program in a role, and waits until it answers at `address`.
    pub(crate) async fn start(arguments: &[&str], probe: &str) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let pid = child.id().context("it has ended already")?;
        loop {
            if is_ready(probe).await {
                return Ok(Self { child, pid, ready: started.elapsed() });
            }
            if let Some(status) = child.try_wait()? {
                bail!("{arguments:?} ended with {status}");
            }
            if started.elapsed() > Duration::from_secs(20) {
                bail!("{arguments:?} is not ready after 20 s");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// CPU seconds so far, user and system.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: f64 = [11, 12].iter().filter_map(|index| fields.get(*index)?.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS)
    }

    /// Resident memory now, in MB.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kilobytes: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kilobytes / 1024.0)
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }
}

/// Whether a plain GET of `http://address/path` is answered with less than 500.
async fn is_ready(probe: &str) -> bool {
    let (address, path) = probe.split_once('/').unwrap_or((probe, ""));
    let Ok(mut sender) = crate::load::connect(address).await else { return false };
    let request = http::Request::get(format!("/{path}")).header("host", address).body(http_body_util::Full::default());
    let Ok(request) = request else { return false };
    sender.send_request(request).await.is_ok_and(|response| response.status().as_u16() < 500)
}
