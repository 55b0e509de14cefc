//! The REST adapter: HTTP endpoints in, HTTP calls out.
//!
//! [`file`] is the system's file and its check, [`template`] matches and fills paths, [`media`] decodes and encodes
//! bodies, [`inbound`] answers callers, [`outbound`] calls.

mod file;
mod inbound;
mod media;
mod outbound;
mod template;

use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Adapter, Endpoint, Inbound, Outbound, SiteFiles, System};
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::limits::{Circuit, Limits};
use gatehouse_core::secret::Secrets;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_net::door::Door;
use schemars::schema_for;

pub use file::{EndpointFile, SystemFile};

/// The adapter.
pub struct Rest {
    door: Option<Arc<Door>>,
}

impl Rest {
    /// Inbound endpoints mount on `door`; without one it can check and call, but not listen.
    #[must_use]
    pub fn new(door: Option<Arc<Door>>) -> Self {
        Self { door }
    }
}

impl Adapter for Rest {
    fn name(&self) -> &'static str {
        "rest"
    }

    fn schema(&self) -> schemars::Schema {
        schema_for!(SystemFile)
    }

    fn example(&self) -> &'static str {
        include_str!("example.yaml")
    }

    fn check(&self, file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Arc<dyn System>> {
        let checked = file::check(file, site, problems)?;
        Some(Arc::new(RestSystem { checked: Arc::new(checked), door: self.door.clone() }))
    }
}

/// A checked system and where it listens.
struct RestSystem {
    checked: Arc<file::Checked>,
    door: Option<Arc<Door>>,
}

#[async_trait]
impl System for RestSystem {
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

    fn preview(&self, endpoint: &str, body: &Value) -> Result<Option<String>, Fault> {
        let called = self.checked.called.iter().find(|called| called.name == endpoint);
        called.map_or(Ok(None), |called| outbound::preview(called, body))
    }

    async fn connect(&self, secrets: &dyn Secrets) -> Result<Arc<dyn Outbound>, Fault> {
        let config = ClientConfig {
            address: self.checked.address.clone().unwrap_or_default(),
            ca_file: self.checked.ca_file.clone(),
            max_answer: self.checked.limits.body,
            connections: self.checked.limits.concurrency as usize,
        };
        let credential = self.checked.auth.open(secrets)?;
        Ok(Arc::new(outbound::Caller { client: Client::new(&config)?, credential, checked: self.checked.clone() }))
    }

    async fn listen(&self, _endpoint: Option<&str>, secrets: &dyn Secrets) -> Result<Box<dyn Inbound>, Fault> {
        let door = self.door.clone().ok_or_else(|| Fault::new(Code::Misconfigured, "there is no listener to mount on"));
        // Doctor asks without a door: the credentials are what it wants to know about.
        let accept = self.checked.accept.open(secrets)?;
        Ok(Box::new(inbound::Listener { door: door.ok(), accept, checked: self.checked.clone() }))
    }
}
