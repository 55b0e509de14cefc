//! A contract that Gatehouse offers by itself: operations whose arguments are the fields of canonical types, and their WSDL.
//!
//! The types' JSON Schemas are written as XML Schema ([`forms`] is what they say, [`xsd`] writes it, [`pattern`] its patterns),
//! [`wsdl`] puts the document together, and that is read again like any other ([`crate::wsdl`]): what comes in is typed by what is
//! served ([`endpoints`] gathers what a file names). Made at check time, pure; what has no form in XML is told at its place in the type's file ([`place`]).

mod endpoints;
mod forms;
mod pattern;
mod place;
mod wsdl;
mod xsd;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::{Value, xml};

pub(crate) use endpoints::of_endpoints;
use forms::Source;
use xsd::Lists;
pub(crate) use xsd::receipt_value;

use crate::wsdl::{self as reader, Wsdl};

/// The field of a reply that no type describes.
const RECEIPT: &str = "messageId";

/// An operation to offer.
struct Operation {
    name: String,
    action: String,
    request: Source,
    /// `None`: the receipt is answered.
    reply: Option<Source>,
}

/// The contract of the operations on one path.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) wsdl: Arc<Wsdl>,
    operations: HashMap<String, Arc<Offered>>,
}

/// What a contract of ours knows beyond its WSDL.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    lists: Arc<Lists>,
    request: usize,
    /// Whether the reply is the receipt.
    pub(crate) receipt: bool,
}

impl Offered {
    /// Puts the empty lists, which XML does not show, where the type demands them.
    pub(crate) fn complete(&self, body: &mut Value) {
        self.lists.fill(self.request, body);
    }
}

impl Offer {
    /// What is known of an operation.
    pub(crate) fn operation(&self, name: &str) -> Option<Arc<Offered>> {
        self.operations.get(name).cloned()
    }
}

/// Makes the contract of the operations on one path. `system` gives the service its name.
fn make(system: &str, namespace: &str, operations: Vec<Operation>, problems: &mut Problems) -> Option<Offer> {
    let mut writer = xsd::Writer::new(problems);
    let mut elements = Vec::new();
    let mut written: Vec<wsdl::Written> = Vec::new();
    let mut known = Vec::new();
    let mut sound = true;
    for operation in operations {
        // Two of one name are told where they listen.
        if written.iter().any(|other| other.name == operation.name) {
            continue;
        }
        let response = format!("{}Response", operation.name);
        let request = writer.wrapper(&operation.name, &operation.request);
        let reply = match &operation.reply {
            Some(source) => writer.wrapper(&response, source).map(|(element, _)| element),
            None => Some(xsd::receipt(&response)),
        };
        let (Some((request, number)), Some(reply)) = (request, reply) else {
            sound = false;
            continue;
        };
        elements.extend([request, reply]);
        let doc = ["description", "title"].iter().find_map(|key| operation.request.root.field(key)?.as_text());
        known.push((operation.name.clone(), number, operation.reply.is_none()));
        written.push(wsdl::Written { name: operation.name, action: operation.action, doc: doc.map(str::to_owned) });
    }
    if !sound {
        return None;
    }
    let (types, lists) = (std::mem::take(&mut writer.types), Arc::new(std::mem::take(&mut writer.lists)));
    let service = if xml::is_name(system) { system.to_owned() } else { format!("_{system}") };
    let text = wsdl::write(&service, namespace, &written, elements, types);
    let file = SourceFile::new(format!("{system}.wsdl"), text.unwrap_or_default());
    let wsdl = Arc::new(reader::read(file, &|_| None, problems)?);
    let offered = |(name, request, receipt): (String, usize, bool)| {
        (name, Arc::new(Offered { lists: lists.clone(), request, receipt }))
    };
    Some(Offer { wsdl, operations: known.into_iter().map(offered).collect() })
}
