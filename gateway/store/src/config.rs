//! Which store a site has, and how it is opened. Knows no SQL.

use std::path::PathBuf;
use std::sync::Arc;

use gatehouse_core::secret::Secret;

use crate::postgres::PostgresStore;

use crate::sqlite::SqliteStore;
use crate::{Store, StoreError};

/// Which store.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A file of this machine, for one gateway. A second file beside it (`store.ledger.db` for `store.db`) holds the
    /// ids that were seen and the deliveries that are done.
    Sqlite(PathBuf),
    /// A PostgreSQL server, for several gateways.
    Postgres {
        /// `postgres://user:password@host/database?sslmode=require`. May hold a password.
        url: Secret,
        /// The schema that holds our tables; made where it is missing. Usually `gatehouse`.
        schema: String,
        /// Who may sign the server's certificate (PEM); `None`: whom this machine trusts.
        ca_file: Option<PathBuf>,
    },
}

/// Opens a store and brings it to this version.
///
/// # Errors
/// `Unavailable` where it cannot be reached, made or locked; `Damaged` where it is not ours or of a newer version.
pub async fn open(config: StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    match config {
        StoreConfig::Sqlite(path) => {
            let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await;
            let store =
                opened.map_err(|error| StoreError::Unavailable(format!("opening it was stopped: {error}")))??;
            Ok(Arc::new(store))
        }
        StoreConfig::Postgres { url, schema, ca_file } => {
            Ok(Arc::new(PostgresStore::connect(&url, &schema, ca_file.as_deref()).await?))
        }
    }
}
