//! D1. The database server of a target is killed with -9 under load, more than once, and started again: as many rows as
//! ids. The servers are of this test alone.

use std::path::PathBuf;

use super::*;

/// A server that only this test knows, made by the scripts that `./test` uses; ended when dropped.
struct Server {
    folder: tempfile::TempDir,
    name: &'static str,
    url: String,
}

impl Server {
    /// `None`, said loudly, where servers are not wanted or cannot be made.
    async fn start(kind: &str) -> Option<Self> {
        // The servers of the run are not killed: others use them. That they are named shows that servers are wanted.
        crate::databases::server(kind)?;
        let (name, script) = if kind == "postgres" { ("postgres", "postgres.sh") } else { ("mariadb", "mariadb.sh") };
        let folder = own_run();
        std::fs::create_dir(folder.path().join("ports")).expect("a folder");
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("allowed");
        let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("servers");
        let mut server = Self { folder, name, url: String::new() };
        server.run(&mut Command::new("bash"), &[scripts.join(script).to_str().expect("a path"), "new"]).await;
        server.control(&["start"]).await;
        server.url = server.control(&["url"]).await;
        Some(server)
    }

    /// `start`, `kill` (-9), `sql …`.
    async fn control(&self, words: &[&str]) -> String {
        self.run(&mut Command::new(self.folder.path().join(self.name)), words).await
    }

    async fn run(&self, command: &mut Command, words: &[&str]) -> String {
        say(&self.folder, command.args(words)).await
    }

    async fn count(&self, what: &str) -> usize {
        let select = format!("SELECT count({what}) FROM receivable");
        let flag = if self.name == "postgres" { "-c" } else { "-e" };
        self.control(&["sql", flag, &select]).await.parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::process::Command::new(self.folder.path().join(self.name)).arg("kill").status();
    }
}

const KILLS: usize = 3;

async fn killed_under_load(kind: &str) {
    let Some(server) = Server::start(kind).await else { return };
    let flag = if server.name == "postgres" { "-c" } else { "-e" };
    server.control(&["sql", flag, "CREATE TABLE receivable (no VARCHAR(40) NOT NULL, who VARCHAR(40) NOT NULL)"]).await;
    let address = server.url.split_once('@').expect("user and address").1;
    let books = format!(
        "version: 1\nsystem: crm\nadapter: sql\ndatabase: {kind}\naddress: {address}\nuser: gatehouse\npassword: \"${{file:database.secret}}\"\ninbox: {{ table: inbox }}\nlimits: {{ timeout: 5s, concurrency: 8 }}\ncircuit: {{ open_after: 3, retry_after: 200ms }}\nendpoints:\n  put:\n    table: receivable\n    columns: {{ no: body.orderNo, who: body.customer }}\n"
    );
    let place = Place::new(&[
        ("orders.yaml", &routes(PATIENT)),
        ("systems/crm.yaml", &books),
        ("database.secret", "gatehouse"),
    ]);
    let running = place.start().await;
    let mut taken = 0;
    for round in 1..=KILLS {
        // Some are written before it dies, some come while it is dead.
        for _ in 0..100 {
            running.order(&format!("K-{taken}"), "c").await;
            taken += 1;
        }
        until("rows of this round", async || server.count("*").await > (round - 1) * 100).await;
        server.control(&["kill"]).await;
        for _ in 0..20 {
            running.order(&format!("K-{taken}"), "c").await;
            taken += 1;
        }
        server.control(&["start"]).await;
    }
    until("every order in the table", async || server.count("DISTINCT no").await == taken).await;
    running.drained().await;
    assert_eq!(server.count("*").await, taken, "each once: the table has no key of its own");
    assert!(running.letters(gatehouse_store::State::Open).await.is_empty());
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_killed_under_load_has_a_row_an_id() {
    killed_under_load("postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_killed_under_load_has_a_row_an_id() {
    killed_under_load("mysql").await;
}
