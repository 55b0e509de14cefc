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
}

/// One connection.
pub(super) enum Session {
    Sqlite(rusqlite::Connection),
    Postgres(tokio_postgres::Client),
    MySql(Box<mysql_async::Conn>),
}

impl Database {
    pub(super) async fn new(kind: &'static str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("d{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let url = if kind == "sqlite" { String::new() } else { server(kind)? };
        let database = Self { kind, name, url, folder };
        match kind {
            "sqlite" => database.session().await.run("PRAGMA journal_mode = WAL").await,
            "postgres" => database.outside(&format!("CREATE DATABASE {}", database.name)).await,
            _ => database.outside(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", database.name)).await,
        }
        Some(database)
    }

    /// In the database that was there before.
    async fn outside(&self, sql: &str) {
        let mut session = self.connect(&self.url).await;
        session.run(sql).await;
    }

    fn file(&self) -> String {
        self.folder.path().join("source.db").to_string_lossy().into_owned()
    }

    pub(super) async fn session(&self) -> Session {
        if self.kind == "sqlite" {
            let connection = rusqlite::Connection::open(self.file()).expect("a database");
            connection.busy_timeout(crate::harness::PATIENCE).expect("set");
            return Session::Sqlite(connection);
        }
        let base = self.url.rsplit_once('/').expect("a database in the URL").0;
        self.connect(&format!("{base}/{}", self.name)).await
    }

    async fn connect(&self, url: &str) -> Session {
        if self.kind == "postgres" {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connects");
            tokio::spawn(connection);
            return Session::Postgres(client);
        }
        let options = mysql_async::Opts::from_url(url).expect("a URL");
        Session::MySql(Box::new(mysql_async::Conn::new(options).await.expect("connects")))
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
        if self.kind == "sqlite" {
            return format!("{head}database: sqlite\naddress: {}\n{tail}", self.file());
        }
        format!(
            "{head}database: {}\naddress: {address}/{}\nuser: gatehouse\npassword: \"${{file:database.secret}}\"\n{tail}",
            self.kind, self.name
        )
    }

    pub(super) async fn end(self) {
        match self.kind {
            "sqlite" => {}
            "postgres" => self.outside(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await,
            _ => self.outside(&format!("DROP DATABASE {}", self.name)).await,
        }
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
