//! The SQL adapter: writes into PostgreSQL, MariaDB/MySQL and SQLite with exactly one effect a delivery.
//!
//! Every delivery is one transaction: first a row in the inbox table, keyed by the delivery id, then the rows that the
//! endpoint says. A delivery that comes again finds its inbox row and changes nothing. [`file`] is the system's file
//! and its check, [`work`] what one delivery writes, [`statement`] its SQL, and one file a database carries it out.

mod ask;
mod batch;
mod by_odbc;
mod capture;
mod charsets;
pub mod connect;
mod dialect;
mod file;
mod group;
mod lines;
mod live;
mod mysql;
#[cfg(feature = "odbc")]
mod odbc;
mod outbound;
mod parts;
mod postgres;
mod shape;
mod sqlite;
mod statement;
mod work;

use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_core::adapter::{Adapter, Archive, Endpoint, Inbound, Outbound, SiteFiles, System};
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::limits::{Circuit, Limits};
use gatehouse_core::outline::Given;
use gatehouse_core::secret::Secrets;
use schemars::schema_for;

pub use ask::StatementFile;
pub use capture::file::{CaptureFile, LagFile};
pub use capture::install::{Installer, Status};
pub use file::{EndpointFile, SystemFile};

/// The adapter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sql;

impl Sql {
    /// The adapter.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Adapter for Sql {
    fn name(&self) -> &'static str {
        "sql"
    }

    fn schema(&self) -> schemars::Schema {
        schema_for!(SystemFile)
    }

    fn example(&self) -> &'static str {
        include_str!("example.yaml")
    }

    fn check(&self, file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Arc<dyn System>> {
        let checked = file::check(file, site, problems)?;
        Some(Arc::new(SqlSystem { checked: Arc::new(checked) }))
    }
}

struct SqlSystem {
    checked: Arc<file::Checked>,
}

#[async_trait]
impl System for SqlSystem {
    fn name(&self) -> &str {
        &self.checked.name
    }

    fn limits(&self) -> Limits {
        self.checked.limits
    }

    fn circuit(&self) -> Circuit {
        self.checked.circuit
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.checked.endpoints
    }

    async fn compare(&self, given: &[Given], secrets: &dyn Secrets) -> Result<Option<Problems>, Fault> {
        live::compare(&self.checked, given, secrets).await.map(Some)
    }

    async fn connect(&self, secrets: &dyn Secrets) -> Result<Arc<dyn Outbound>, Fault> {
        Ok(Arc::new(outbound::open(&self.checked, secrets).await?))
    }

    fn listens_apart(&self) -> bool {
        true
    }

    async fn listen(&self, endpoint: Option<&str>, secrets: &dyn Secrets) -> Result<Box<dyn Inbound>, Fault> {
        let endpoint = endpoint.ok_or_else(|| Fault::new(Code::Internal, "a database is read endpoint by endpoint"))?;
        let (source, password) = capture::source::open(&self.checked, secrets).await?;
        Ok(Box::new(capture::open(&self.checked, endpoint, source, password).await?))
    }

    async fn archive(&self, endpoint: &str, secrets: &dyn Secrets) -> Result<Option<Arc<dyn Archive>>, Fault> {
        let (source, _) = capture::source::open(&self.checked, secrets).await?;
        Ok(Some(Arc::new(capture::Shelf::open(&self.checked, endpoint, source).await?)))
    }
}
