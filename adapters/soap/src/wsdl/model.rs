//! What a WSDL says, resolved: services, ports, operations, and the elements of their messages.

use std::sync::Arc;

use super::documents::Documents;
use crate::envelope::Version;
use crate::xsd::{ElementId, Schemas};

/// A WSDL.
#[derive(Debug)]
pub(crate) struct Wsdl {
    pub(crate) services: Vec<Service>,
    pub(crate) schemas: Schemas,
    /// The files it is made of, the WSDL itself first.
    pub(crate) documents: Documents,
}

/// A `wsdl:service`.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) doc: Option<Arc<str>>,
    pub(crate) ports: Vec<Port>,
}

/// A `wsdl:port` with its binding.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) address: String,
    pub(crate) operations: Vec<Arc<Operation>>,
}

/// What a binding speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Soap(Version),
    /// HTTP GET or POST without SOAP, or a binding of another kind: listed, not spoken.
    Other,
}

/// An operation of a binding.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) doc: Option<Arc<str>>,
    /// The SOAPAction; empty where the binding says none.
    pub(crate) action: String,
    pub(crate) rpc: bool,
    pub(crate) input: Option<Message>,
    /// `None` of a one-way operation.
    pub(crate) output: Option<Message>,
    pub(crate) faults: Vec<FaultMessage>,
}

/// A message as a binding sends it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// What stands in the body: one element, or none; more where a document message has several parts.
    pub(crate) body: Vec<ElementId>,
    /// Whether types are told on the wire (SOAP 1.1 §5).
    pub(crate) encoded: bool,
    pub(crate) headers: Vec<ElementId>,
    /// What stands in the header of a fault that is about one of `headers` (WSDL 1.1 §3.7).
    pub(crate) header_faults: Vec<HeaderFault>,
    /// Parts that travel as attachments.
    pub(crate) attachments: Vec<String>,
}

/// A declared fault about a header block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderFault {
    /// The block that it is about.
    pub(crate) about: ElementId,
    /// The block that says what is wrong with it.
    pub(crate) block: ElementId,
}

/// A declared fault.
#[derive(Clone, Debug)]
pub(crate) struct FaultMessage {
    pub(crate) name: String,
    pub(crate) detail: Option<ElementId>,
}

impl Wsdl {
    /// The ports that speak SOAP.
    pub(crate) fn soap_ports(&self) -> impl Iterator<Item = (&Service, &Port)> {
        let ports = self.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        ports.filter(|(_, port)| matches!(port.protocol, Protocol::Soap(_)))
    }
}

impl Port {
    /// The version of SOAP that it speaks.
    pub(crate) fn version(&self) -> Option<Version> {
        match self.protocol {
            Protocol::Soap(version) => Some(version),
            Protocol::Other => None,
        }
    }

    /// An operation by name. Overloaded ones have the same; the first is meant.
    pub(crate) fn operation(&self, name: &str) -> Option<&Arc<Operation>> {
        self.operations.iter().find(|operation| operation.name == name)
    }
}
