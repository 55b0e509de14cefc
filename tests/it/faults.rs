//! The fault matrix: what happens to a gateway and around it, and what must hold. `docs/faults.md` says which row is shown
//! by which test; each module here is one place where it can hurt.
//!
//! Everything that waits waits for a condition; a wait is asserted only as "not before".

mod broker;
mod callers;
mod cluster;
mod database;
mod disk;
mod power;
mod process;
mod stub;
mod target;
mod tls;

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use gatehouse_net::client::{Client, ClientConfig};
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{KEY, PATIENCE, Place, order, until};

/// A gateway as a process of its own, to be stopped, paused, starved and killed. Killed when dropped.
struct Process {
    child: tokio::process::Child,
    place: std::path::PathBuf,
    door: Client,
    admin: Client,
}

/// What a caller heard.
#[derive(Debug)]
struct Heard {
    status: u16,
    retry_after: Option<u64>,
    text: String,
}

/// Ports that are free now, for a process that is told where to listen.
struct Ports {
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Ports {
    fn find() -> Self {
        let held = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [listen, admin] = held.each_ref().map(|held| held.local_addr().expect("an address"));
        Self { listen, admin }
    }

    /// An instance on these ports; `more` stands at its end.
    fn instance(&self, more: &str) -> String {
        format!(
            "version: 1\nname: test\nlisten: {}\nadmin: {{ listen: {} }}\nladder: [100ms, 300ms, 1s]\n{more}",
            self.listen, self.admin
        )
    }
}

impl Process {
    /// Starts it as `change` wants it, and waits until it is ready and the shop can send.
    async fn start(place: &Place, ports: &Ports, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = crate::chaos::gateway(place.root());
        change(&mut command);
        let client = |address: SocketAddr| {
            let config = ClientConfig {
                address: format!("http://{address}"),
                ca_file: None,
                max_answer: 1 << 20,
                connections: 64,
            };
            Client::new(&config).expect("a client")
        };
        let process = Self {
            child: command.spawn().expect("it starts"),
            place: place.root().to_owned(),
            door: client(ports.listen),
            admin: client(ports.admin),
        };
        until("the gateway to be ready", async || process.ready().await == Some(200)).await;
        until("the shop's path", async || {
            let get = http::Request::get(process.door.url("/hooks/orders").expect("a path")).body(Bytes::new());
            let answer = process.door.send(get.expect("a request")).await;
            answer.is_ok_and(|answer| !matches!(answer.status().as_u16(), 404 | 503))
        })
        .await;
        process
    }

    /// The status of `/readyz`; `None` where nobody answers.
    async fn ready(&self) -> Option<u16> {
        let get = http::Request::get(self.admin.url("/readyz").expect("a path")).body(Bytes::new());
        let answer = timeout(PATIENCE, self.admin.send(get.expect("a request"))).await.expect("an answer in time");
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// The sum of a number of `/metrics` over all its labels.
    async fn metric(&self, name: &str) -> f64 {
        let get = http::Request::get(self.admin.url("/metrics").expect("a path")).body(Bytes::new());
        let answer = timeout(PATIENCE, self.admin.send(get.expect("a request"))).await.expect("in time");
        let text = String::from_utf8_lossy(answer.expect("an answer").body()).into_owned();
        let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// One order of the shop; `None` where the connection failed.
    async fn post(&self, number: &str) -> Option<Heard> {
        let post = http::Request::post(self.door.url("/hooks/orders").expect("a path"))
            .header("x-api-key", KEY)
            .header("content-type", "application/json")
            .body(Bytes::from(order(number, "c")));
        let answer = timeout(PATIENCE, self.door.send(post.expect("a request"))).await.expect("an answer in time");
        let answer = answer.ok()?;
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        Some(Heard { status: answer.status().as_u16(), retry_after, text })
    }

    /// An order that must be taken, as a caller sends it: again and again until it hears yes.
    async fn insist(&self, number: &str) {
        until("an order to be taken", async || {
            let heard = self.post(number).await;
            let status = heard.as_ref().map(|heard| heard.status);
            assert!(matches!(status, None | Some(202 | 409 | 500..)), "{heard:?}");
            status == Some(202)
        })
        .await;
    }

    /// Sends it a signal, by its own pid.
    async fn signal(&self, signal: &str) {
        signal_to(self.child.id().expect("it runs"), signal).await;
    }

    /// Waits for its end.
    async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("a status")
    }

    /// Stops it as an operator does.
    async fn stop(mut self) {
        self.signal("TERM").await;
        let status = self.ended().await;
        assert!(status.success(), "{status}");
    }

    /// What it wrote.
    fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("data/gateway.log")).unwrap_or_default()
    }
}

async fn signal_to(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().await.expect("kill runs");
    assert!(sent.success(), "no process {pid}");
}

/// The retry of a target that is tried until it takes it.
const PATIENT: &str = "retry: { attempts: 100, first: 100ms, max: 300ms }";

/// A route from the shop to `crm/put`.
fn routes(retry: &str) -> String {
    format!(
        "version: 1\nroutes:\n  - {{ route: orders, from: shop/orders, type: order.paid, to: [{{ target: crm/put, {retry} }}] }}\n"
    )
}

/// The CRM at this address; `more` are keys of the system, `rules` keys of its endpoint.
fn crm(address: &str, more: &str, rules: &str) -> String {
    format!(
        "version: 1\nsystem: crm\nadapter: rest\naddress: {address}\ncircuit: {{ open_after: 10000 }}\n{more}\nendpoints:\n  put: {{ call: POST /orders{rules} }}\n"
    )
}

/// A site of this instance with the shop, one route, and the CRM at this address; `more` are keys of the CRM.
fn site(instance: &str, retry: &str, address: SocketAddr, more: &str) -> Place {
    Place::new(&[
        ("gatehouse.yaml", instance),
        ("orders.yaml", &routes(retry)),
        ("systems/crm.yaml", &crm(&format!("http://{address}"), more, "")),
    ])
}

/// A folder for servers that only this test knows, made by the scripts that `./test` uses.
fn own_run() -> tempfile::TempDir {
    let run = tempfile::Builder::new().prefix("gatehouse-test.").tempdir().expect("a folder");
    let (pid, stat) = (std::process::id(), std::fs::read_to_string("/proc/self/stat").expect("its own"));
    let started = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19)).expect("a start time");
    // A run that is killed leaves servers behind; the next one clears them up by this.
    std::fs::write(run.path().join("owner"), format!("{pid} {started}\n")).expect("written");
    run
}

/// What a script says that works in such a folder.
async fn say(run: &tempfile::TempDir, command: &mut Command) -> String {
    // Files, not pipes: a server that a script starts keeps what it inherits open.
    let out = tempfile::NamedTempFile::new().expect("a file");
    let mut child = command
        .env("RUN", run.path())
        .stdin(std::process::Stdio::null())
        .stdout(out.reopen().expect("a file"))
        .stderr(out.reopen().expect("a file"))
        .spawn()
        .expect("the script runs");
    let status = timeout(crate::broker::LONG, child.wait()).await.expect("in time").expect("a status");
    let said = std::fs::read_to_string(out.path()).unwrap_or_default();
    assert!(status.success(), "{command:?}: {said}");
    said.trim().to_owned()
}

/// A little time, where nothing can be waited for because nothing is to happen.
const MOMENT: Duration = Duration::from_millis(300);
