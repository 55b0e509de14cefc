//! A database of a test's own, on each kind of server, and what is done in it as an application does it.

use mysql_async::prelude::Queryable;
use tokio_postgres::SimpleQueryMessage;

use crate::databases::server;

/// A database of its own.
pub(super) struct Database {
    pub(super) kind: &'static str,
    /// Its name; for SQLite its file.
    name: String,
    url: String,
    folder: tempfile::TempDir,
    /// The server, where it is this database's own.
    server: Option<Server>,
    /// The gateway reaches it by ODBC.
    odbc: bool,
}

/// How to reach a database.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) kind: &'static str,
    url: String,
}

/// One connection.
pub(super) enum Session {
    Sqlite(rusqlite::Connection),
    Postgres(tokio_postgres::Client),
    MySql(Box<mysql_async::Conn>),
}

impl Database {
    pub(super) async fn new(kind: &'static str) -> Option<Self> {
        let url = if kind == "sqlite" { String::new() } else { server(kind)? };
        Some(Self::at(kind, url, None).await)
    }

    /// One more of its kind.
    pub(super) async fn another(&self) -> Option<Self> {
        Some(Self { odbc: self.odbc, ..Self::new(self.kind).await? })
    }

    /// Whether the gateway reaches it by ODBC.
    pub(super) fn by_driver(&self) -> bool {
        self.odbc
    }

    /// On a server of its own that may be killed.
    pub(super) async fn on_its_own(kind: &'static str) -> Option<Self> {
        server(kind)?;
        let server = Server::start(kind).await;
        Some(Self::at(kind, server.steer("url").await, Some(server)).await)
    }

    /// One that takes any bytes for a text: of PostgreSQL, because it was made so; of the others there is no other.
    pub(super) async fn without_charset(kind: &'static str) -> Option<Self> {
        let database = Self::new(kind).await?;
        if kind == "postgres" {
            database.outside(&format!("DROP DATABASE {}", database.name)).await;
            let how = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'";
            database.outside(&format!("CREATE DATABASE {} {how}", database.name)).await;
        }
        Some(database)
    }

    /// Whether the gateway in a test's own process shares the database's file with the test, and must have it alone.
    pub(super) fn is_apart(&self) -> bool {
        self.odbc && self.kind == "sqlite"
    }

    /// One that the gateway reaches by ODBC.
    #[cfg(feature = "odbc")]
    pub(super) async fn by_odbc(kind: &'static str) -> Option<Self> {
        Some(Self { odbc: true, ..Self::new(kind).await? })
    }

    pub(super) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    async fn at(kind: &'static str, url: String, server: Option<Server>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("d{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let database = Self { kind, name, url, folder, server, odbc: false };
        match kind {
            "sqlite" => database.session().await.run("PRAGMA journal_mode = WAL").await,
            "postgres" => database.outside(&format!("CREATE DATABASE {}", database.name)).await,
            _ => database.outside(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", database.name)).await,
        }
        database
    }

    /// In the database that was there before.
    async fn outside(&self, sql: &str) {
        let mut session = Link { kind: self.kind, url: self.url.clone() }.session().await;
        session.run(sql).await;
    }

    fn file(&self) -> String {
        self.folder.path().join("source.db").to_string_lossy().into_owned()
    }

    pub(super) fn link(&self) -> Link {
        let url = match self.url.rsplit_once('/') {
            None => self.file(),
            Some((base, _)) => format!("{base}/{}", self.name),
        };
        Link { kind: self.kind, url }
    }

    pub(super) async fn session(&self) -> Session {
        self.link().session().await
    }

    /// Where its server listens; SQLite has none.
    pub(super) fn address(&self) -> Option<&str> {
        self.url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).map(|(address, _)| address)
    }

    /// The system file that reads it as `src/rows`, with this under `capture`.
    pub(super) fn system(&self, capture: &str) -> String {
        self.system_at(self.address().unwrap_or_default(), capture)
    }

    /// Its URL as a person types it, without a password.
    pub(super) fn url_for_people(&self) -> String {
        match self.address() {
            None => format!("sqlite:{}", self.file()),
            Some(address) => format!("{}://gatehouse@{address}/{}", self.kind, self.name),
        }
    }

    /// A system file that writes into it.
    pub(super) fn writes(&self, system: &str, endpoints: &str) -> String {
        self.file_of(system, self.address().unwrap_or_default(), endpoints)
    }

    /// The same, with the server somewhere else.
    pub(super) fn system_at(&self, address: &str, capture: &str) -> String {
        self.file_of("src", address, &format!("  rows:\n    capture: {capture}\n"))
    }

    fn file_of(&self, system: &str, address: &str, endpoints: &str) -> String {
        let head = format!("version: 1\nsystem: {system}\nadapter: sql\n");
        let tail = format!("endpoints:\n{endpoints}");
        if self.odbc {
            let login = "user: gatehouse\npassword: \"${file:database.secret}\"\n";
            let (login, most) = if self.kind == "sqlite" { ("", 1) } else { (login, 8) };
            let connection = self.connection(address);
            return format!(
                "{head}database: odbc\naddress: \"{connection}\"\n{login}limits: {{ concurrency: {most} }}\n{tail}"
            );
        }
        if self.kind == "sqlite" {
            return format!("{head}database: sqlite\naddress: {}\n{tail}", self.file());
        }
        format!(
            "{head}database: {}\naddress: {address}/{}\nuser: gatehouse\npassword: \"${{file:database.secret}}\"\n{tail}",
            self.kind, self.name
        )
    }

    /// Its connection string for ODBC, with the server at this address; without credentials.
    pub(super) fn connection(&self, address: &str) -> String {
        match address.split_once(':') {
            Some((host, port)) => {
                format!("Driver={{PostgreSQL Unicode}};Server={host};Port={port};Database={}", self.name)
            }
            // SQLite has one writer; its driver gives up where two wait.
            None => format!("Driver=SQLite3;Timeout=20000;Database={}", self.file()),
        }
    }

    pub(super) async fn end(self) {
        match self.kind {
            "sqlite" => {}
            "postgres" => {
                self.drop_slots().await;
                // The server's own housekeeping may be in it.
                let mut session = Link { kind: self.kind, url: self.url.clone() }.session().await;
                let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
                crate::harness::until("a database that is gone", async || session.try_run(&sql).await.is_ok()).await;
            }
            _ => self.outside(&format!("DROP DATABASE {}", self.name)).await,
        }
    }

    /// Slots keep a database from being dropped.
    pub(super) async fn drop_slots(&self) {
        let mut session = self.session().await;
        let sql =
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
        crate::harness::until("free slots", async || session.try_run(sql).await.is_ok()).await;
    }

    /// One of three words, by the kind of server.
    pub(super) fn by<'a>(&self, sqlite: &'a str, postgres: &'a str, mysql: &'a str) -> &'a str {
        match self.kind {
            "sqlite" => sqlite,
            "postgres" => postgres,
            _ => mysql,
        }
    }
}

impl Link {
    pub(super) async fn session(&self) -> Session {
        self.try_session().await.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// A session, as soon as the server is there again.
    pub(super) async fn patient_session(&self) -> Session {
        let deadline = tokio::time::Instant::now() + crate::harness::PATIENCE;
        loop {
            match self.try_session().await {
                Ok(session) => return session,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{self:?}: {error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn try_session(&self) -> Result<Session, String> {
        match self.kind {
            "sqlite" => {
                let connection = rusqlite::Connection::open(&self.url).map_err(|error| error.to_string())?;
                connection.busy_timeout(crate::harness::PATIENCE).map_err(|error| error.to_string())?;
                Ok(Session::Sqlite(connection))
            }
            "postgres" => {
                let connected = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await;
                let (client, connection) = connected.map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                Ok(Session::Postgres(client))
            }
            _ => {
                let options = mysql_async::Opts::from_url(&self.url).expect("a URL");
                let connection = mysql_async::Conn::new(options).await.map_err(|error| error.to_string())?;
                Ok(Session::MySql(Box::new(connection)))
            }
        }
    }
}

/// A server of a test's own, made as `./test` makes its servers.
pub(super) struct Server {
    run: tempfile::TempDir,
    script: &'static str,
}

impl Server {
    async fn start(kind: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let run = tempfile::Builder::new().prefix("gatehouse-own-server.").tempdir().expect("a folder");
        // The server's own user walks through it.
        std::fs::set_permissions(run.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
        std::fs::create_dir(run.path().join("ports")).expect("a folder");
        let script = if kind == "postgres" { "postgres" } else { "mariadb" };
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/");
        let mut new = tokio::process::Command::new("bash");
        new.arg(format!("{path}{script}.sh")).arg("new").env("RUN", run.path());
        say(&mut new).await;
        let server = Self { run, script };
        server.steer("start").await;
        server
    }

    /// From now on a PostgreSQL speaks TLS too, with this certificate and key.
    pub(super) async fn speak_tls(&self, certificate: &str, key: &str) {
        let data = self.run.path().join("postgres.d/data");
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            std::fs::write(data.join(name), text).expect("written");
            say(tokio::process::Command::new("chown").arg("postgres:postgres").arg(data.join(name))).await;
            say(tokio::process::Command::new("chmod").arg("600").arg(data.join(name))).await;
        }
        let path = data.join("postgresql.conf");
        let settings = std::fs::read_to_string(&path).expect("settings");
        std::fs::write(&path, format!("{settings}ssl = on\n")).expect("written");
        self.steer("restart").await;
    }

    /// Does what its control script is told: `kill`, `start`.
    pub(super) async fn steer(&self, word: &str) -> String {
        say(tokio::process::Command::new(self.run.path().join(self.script)).arg(word)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let killed = std::process::Command::new(self.run.path().join(self.script)).arg("kill").output();
        if let Err(error) = killed {
            eprintln!("{} was not ended: {error}", self.script);
        }
    }
}

async fn say(command: &mut tokio::process::Command) -> String {
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = tokio::time::timeout(2 * crate::harness::PATIENCE, output).await.expect("in time").expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Session {
    pub(super) async fn run(&mut self, sql: &str) {
        if let Err(error) = self.try_run(sql).await {
            panic!("{sql}: {error}");
        }
    }

    pub(super) async fn try_run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(connection) => connection.execute_batch(sql).map_err(|error| error.to_string()),
            Self::Postgres(client) => client.batch_execute(sql).await.map_err(|error| format!("{error:?}")),
            Self::MySql(connection) => connection.query_drop(sql).await.map_err(|error| error.to_string()),
        }
    }

    /// Rows of texts.
    pub(super) async fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self {
            Self::Sqlite(connection) => {
                let mut query = connection.prepare(sql).expect("SQL");
                let count = query.column_count();
                let row = |row: &rusqlite::Row<'_>| {
                    let text = |at| {
                        Ok(match row.get_ref(at)? {
                            rusqlite::types::ValueRef::Null => None,
                            rusqlite::types::ValueRef::Integer(number) => Some(number.to_string()),
                            rusqlite::types::ValueRef::Real(number) => Some(number.to_string()),
                            rusqlite::types::ValueRef::Text(text) | rusqlite::types::ValueRef::Blob(text) => {
                                Some(String::from_utf8(text.to_vec()).expect("UTF-8"))
                            }
                        })
                    };
                    (0..count).map(text).collect()
                };
                query.query_map([], row).expect("rows").map(|row| row.expect("a row")).collect()
            }
            Self::Postgres(client) => {
                let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                let row = |message| match message {
                    SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                    }
                    _ => None,
                };
                messages.into_iter().filter_map(row).collect()
            }
            Self::MySql(connection) => {
                let rows: Vec<mysql_async::Row> = connection.query(sql).await.expect("rows");
                let text = |value| mysql_async::from_value::<Option<String>>(value);
                rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
            }
        }
    }

    pub(super) async fn count(&mut self, from: &str) -> usize {
        let rows = self.rows(&format!("SELECT count(*) FROM {from}")).await;
        rows[0][0].as_deref().expect("a number").parse().expect("a number")
    }
}
