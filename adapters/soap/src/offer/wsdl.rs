//! The WSDL 1.1 of operations whose types are written: document/literal wrapped, a port for each version of SOAP, and the fault
//! that Gatehouse answers with.

use gatehouse_core::xml::{Element, NotXml, WriteOptions};

use super::xsd::{OWN, XSD, named, node, readable};
use crate::envelope::{GATEHOUSE, Version};
use crate::wsdl::documents::WSDL;

/// The prefix of Gatehouse's own namespace.
const GATE: &str = "g";

/// Where the ports are until they are served: whoever serves the document puts its own address there.
const NOWHERE: &str = "http://gatehouse.invalid/";

/// An operation whose elements are written.
pub(super) struct Written {
    pub(super) name: String,
    pub(super) action: String,
    pub(super) doc: Option<String>,
}

/// Writes the document. `service` is a name that XML takes; `elements` and `types` are those of the schema.
pub(super) fn write(
    service: &str,
    namespace: &str,
    operations: &[Written],
    elements: Vec<Element>,
    types: Vec<Element>,
) -> Result<String, NotXml> {
    let part = |local: &str| Element::new(Some(WSDL), local);
    let schema = |namespace: &str| {
        let schema = node("schema").with_attribute(None, "targetNamespace", namespace);
        schema.with_attribute(None, "elementFormDefault", "qualified")
    };
    let own = elements.into_iter().chain(types).fold(schema(namespace), Element::with_child);
    let mut definitions = part("definitions")
        .with_attribute(None, "name", service)
        .with_attribute(None, "targetNamespace", namespace)
        .with_child(part("types").with_child(own).with_child(schema(GATEHOUSE).with_child(fault())));
    let message = |name: &str, element: String| {
        let inside = part("part").with_attribute(None, "name", "parameters").with_attribute(None, "element", element);
        part("message").with_attribute(None, "name", name).with_child(inside)
    };
    let refer = |local: &str, message: &str| part(local).with_attribute(None, "message", format!("{OWN}:{message}"));
    let mut port_type = part("portType").with_attribute(None, "name", service);
    for operation in operations {
        let (request, reply) = (format!("{}Request", operation.name), format!("{}Reply", operation.name));
        definitions = definitions
            .with_child(message(&request, format!("{OWN}:{}", operation.name)))
            .with_child(message(&reply, format!("{OWN}:{}Response", operation.name)));
        let mut abstract_ = part("operation").with_attribute(None, "name", &*operation.name);
        if let Some(doc) = &operation.doc {
            abstract_ = abstract_.with_child(part("documentation").with_text(readable(doc)));
        }
        let failed = refer("fault", "Fault").with_attribute(None, "name", "Fault");
        port_type = port_type.with_child(
            abstract_.with_child(refer("input", &request)).with_child(refer("output", &reply)).with_child(failed),
        );
    }
    definitions = definitions.with_child(message("Fault", format!("{GATE}:fault"))).with_child(port_type);
    let (soap, soap12) = (Version::V11.binding(), Version::V12.binding());
    let versions = [(soap, "11"), (soap12, "12")];
    for (soap, number) in versions {
        definitions = definitions.with_child(binding(soap, &format!("{service}{number}"), service, operations));
    }
    let port = |(soap, number): (&str, &str)| {
        let address = Element::new(Some(soap), "address").with_attribute(None, "location", NOWHERE);
        let name = format!("{service}{number}");
        let port = part("port").with_attribute(None, "name", &*name);
        port.with_attribute(None, "binding", format!("{OWN}:{name}")).with_child(address)
    };
    let served = part("service").with_attribute(None, "name", service);
    definitions = definitions.with_child(versions.into_iter().map(port).fold(served, Element::with_child));
    let prefixes =
        [("wsdl", WSDL), ("xsd", XSD), ("soap", soap), ("soap12", soap12), (GATE, GATEHOUSE), (OWN, namespace)];
    let options = WriteOptions { prefixes: &prefixes, pretty: true, ..WriteOptions::default() };
    let bytes = definitions.encode_with(&options)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn binding(soap: &str, name: &str, port_type: &str, operations: &[Written]) -> Element {
    let part = |local: &str| Element::new(Some(WSDL), local);
    let literal = |local: &str| Element::new(Some(soap), local).with_attribute(None, "use", "literal");
    let style = Element::new(Some(soap), "binding").with_attribute(None, "style", "document").with_attribute(
        None,
        "transport",
        "http://schemas.xmlsoap.org/soap/http",
    );
    let binding = part("binding").with_attribute(None, "name", name);
    let binding = binding.with_attribute(None, "type", format!("{OWN}:{port_type}")).with_child(style);
    let operation = |operation: &Written| {
        let action = Element::new(Some(soap), "operation").with_attribute(None, "soapAction", &*operation.action);
        let failed = literal("fault").with_attribute(None, "name", "Fault");
        part("operation")
            .with_attribute(None, "name", &*operation.name)
            .with_child(action)
            .with_child(part("input").with_child(literal("body")))
            .with_child(part("output").with_child(literal("body")))
            .with_child(part("fault").with_attribute(None, "name", "Fault").with_child(failed))
    };
    operations.iter().map(operation).fold(binding, Element::with_child)
}

/// The element in the detail of every fault of ours.
fn fault() -> Element {
    let text = |name: &str| named("element", name).with_attribute(None, "type", "xsd:string");
    let extension = node("extension").with_attribute(None, "base", "xsd:string");
    let pointer = named("attribute", "pointer").with_attribute(None, "type", "xsd:string");
    let violation = named("element", "violation").with_attribute(None, "minOccurs", "0");
    let violation = violation
        .with_attribute(None, "maxOccurs", "unbounded")
        .with_child(node("complexType").with_child(node("simpleContent").with_child(extension.with_child(pointer))));
    let sequence = node("sequence")
        .with_child(text("code"))
        .with_child(text("messageId").with_attribute(None, "minOccurs", "0"))
        .with_child(violation);
    named("element", "fault").with_child(node("complexType").with_child(sequence))
}
