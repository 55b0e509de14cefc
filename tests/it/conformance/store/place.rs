//! Where a store under test stands, and what a test does to it behind its back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_core::secret::Secret;
use gatehouse_store::{Store, StoreConfig, StoreError};

/// A store of its own for one case.
pub(super) struct Place {
    pub(super) config: StoreConfig,
    folder: Option<tempfile::TempDir>,
}

impl Place {
    pub(super) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("store.db");
        Self { config: StoreConfig::Sqlite(path), folder: Some(folder) }
    }

    /// A schema of its own on the server that `GATEHOUSE_TEST_POSTGRES` names; `None` where it names none.
    pub(super) fn postgres() -> Option<Self> {
        let Ok(url) = std::env::var("GATEHOUSE_TEST_POSTGRES") else {
            let required = std::env::var("GATEHOUSE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
            assert!(!required, "GATEHOUSE_TEST_POSTGRES is not set, and GATEHOUSE_REQUIRE_SERVERS=1");
            let case = std::thread::current().name().unwrap_or("a case").to_owned();
            // Straight to the terminal: the test runner would hide it.
            let line = format!("SKIPPED {case}: GATEHOUSE_TEST_POSTGRES is not set\n");
            std::io::Write::write_all(&mut std::io::stderr().lock(), line.as_bytes()).unwrap();
            return None;
        };
        let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
        // Its connections bear the schema's name, so that a case finds its own.
        let mark = if url.contains('?') { '&' } else { '?' };
        let url = Secret::new(format!("{url}{mark}application_name={schema}"));
        Some(Self { config: StoreConfig::Postgres { url, schema, ca_file: None }, folder: None })
    }

    pub(super) async fn open(&self) -> Arc<dyn Store> {
        self.try_open().await.unwrap()
    }

    pub(super) async fn try_open(&self) -> Result<Arc<dyn Store>, StoreError> {
        gatehouse_store::open(self.config.clone()).await
    }

    pub(super) fn path(&self) -> PathBuf {
        let StoreConfig::Sqlite(path) = &self.config else { panic!("no SQLite store") };
        path.clone()
    }

    /// Runs SQL behind the store's back.
    pub(super) async fn sql(&self, sql: &str) {
        match &self.config {
            StoreConfig::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
            StoreConfig::Postgres { url, schema, .. } => {
                client(url, schema).await.batch_execute(sql).await.unwrap();
            }
        }
    }

    /// Cuts the connections of this place's store; tells how many they were.
    pub(super) async fn cut(&self) -> usize {
        let StoreConfig::Postgres { url, schema, .. } = &self.config else { panic!("no PostgreSQL store") };
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = $1 AND pid <> pg_backend_pid()";
        client(url, schema).await.query(sql, &[schema]).await.unwrap().len()
    }

    /// Locks the letters until the lock is dropped.
    pub(super) async fn lock(&self) -> Lock {
        match &self.config {
            StoreConfig::Sqlite(path) => {
                let db = rusqlite::Connection::open(path).unwrap();
                db.execute_batch("BEGIN IMMEDIATE").unwrap();
                Lock { _sqlite: Some(db), _postgres: None }
            }
            StoreConfig::Postgres { url, schema, .. } => {
                let db = client(url, schema).await;
                db.batch_execute("BEGIN; LOCK TABLE letter IN ACCESS EXCLUSIVE MODE").await.unwrap();
                Lock { _sqlite: None, _postgres: Some(db) }
            }
        }
    }

    /// Takes away what the case made.
    pub(super) async fn clean(self) {
        match self.config {
            StoreConfig::Sqlite(_) => drop(self.folder),
            StoreConfig::Postgres { url, schema, .. } => {
                let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
                client(&url, &schema).await.batch_execute(&sql).await.unwrap();
            }
        }
    }
}

/// Held letters; let go when it is dropped.
pub(super) struct Lock {
    _sqlite: Option<rusqlite::Connection>,
    _postgres: Option<tokio_postgres::Client>,
}

async fn client(url: &Secret, schema: &str) -> tokio_postgres::Client {
    let connecting = tokio_postgres::connect(url.expose(), tokio_postgres::NoTls);
    let (client, connection) = tokio::time::timeout(Duration::from_secs(10), connecting).await.unwrap().unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = {schema}; SET statement_timeout = 20000")).await.unwrap();
    client
}
