//! The SOAP adapter: calls out and operations in, SOAP 1.1 and 1.2 over HTTP, with a WSDL or without.
//!
//! [`mod@file`] is a system's file and [`check`] its check; [`outbound`] calls and hears the [`answer`]; [`inbound`] listens, reads a
//! [`request`], and says yes ([`acknowledge`]) or no ([`refusal`]); [`envelope`], [`blocks`], [`mod@fault`], [`media`], [`mime`] and
//! [`attachments`] are the protocol; [`template`] is what a file says of header blocks and replies. [`wsdl`] and [`xsd`] read what a
//! system says of itself, [`bind`] finds a file's operations in it, [`contract`] and [`typed`] write and read bodies by it;
//! [`connect`] makes the first files from it. [`offer`] makes a WSDL of canonical types. [`wsse`] is the password in the envelope,
//! [`login`] the token that a first call gives, [`mask`] keeps both from people, [`addressing`] what WS-Addressing says.

mod acknowledge;
mod addressing;
mod answer;
mod attachments;
mod bind;
mod blocks;
mod body_schema;
mod check;
pub mod connect;
mod contract;
mod dispatch;
mod envelope;
mod fault;
mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod inbound;
mod login;
mod mask;
mod media;
mod mime;
mod offer;
mod outbound;
mod outline;
mod proof;
mod refusal;
mod request;
mod template;
mod typed;
mod wsdl;
mod wsse;
mod xsd;

#[cfg(test)]
mod interop_tests;

use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Adapter, Endpoint, Inbound, Outbound, SiteFiles, System};
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::limits::{Circuit, Limits};
use gatehouse_core::secret::Secrets;
use gatehouse_net::door::Door;

use crate::file::Checked;

/// The adapter.
pub struct Soap {
    door: Option<Arc<Door>>,
}

impl Soap {
    /// The adapter, with the door that inbound halves mount on; without one it can only check and call.
    #[must_use]
    pub fn new(door: Option<Arc<Door>>) -> Self {
        Self { door }
    }
}

impl Adapter for Soap {
    fn name(&self) -> &'static str {
        "soap"
    }

    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(file::SystemFile)
    }

    fn example(&self) -> &'static str {
        include_str!("example.yaml")
    }

    fn check(&self, file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Arc<dyn System>> {
        let checked = check::check(file, site, problems)?;
        Some(Arc::new(SoapSystem { checked, door: self.door.clone() }))
    }
}

/// A system that speaks SOAP.
struct SoapSystem {
    checked: Checked,
    door: Option<Arc<Door>>,
}

#[async_trait]
impl System for SoapSystem {
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
        outbound::preview(&self.checked.calls, endpoint, body)
    }

    async fn connect(&self, secrets: &dyn Secrets) -> Result<Arc<dyn Outbound>, Fault> {
        let connections = self.checked.limits.concurrency;
        Ok(Arc::new(outbound::Caller::connect(&self.checked.calls, connections, secrets)?))
    }

    async fn listen(&self, _endpoint: Option<&str>, secrets: &dyn Secrets) -> Result<Box<dyn Inbound>, Fault> {
        let door = self.door.clone().ok_or_else(|| Fault::new(Code::Misconfigured, "there is no door to listen at"))?;
        Ok(Box::new(inbound::Listening::new(door, &self.checked.listeners, secrets)?))
    }
}
