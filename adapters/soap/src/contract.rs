//! An operation as its WSDL has it: bodies written and read by the schema. Without a WSDL the mapping's own words decide.

use std::sync::Arc;

use gatehouse_core::fault::Violation;
use gatehouse_core::xml::{Element, Node, QName, SOAP_ENC};
use gatehouse_core::{Map, Value};

use crate::blocks::{AboutBlock, Declared};
use crate::envelope::{Envelope, Version};
use crate::offer::Offered;
use crate::typed::{self, Mode};
use crate::wsdl::{Message, Operation, Wsdl};
use crate::xsd::{ElementId, Schemas};

/// An operation of a port.
#[derive(Clone, Debug)]
pub(crate) struct Contract {
    pub(crate) wsdl: Arc<Wsdl>,
    pub(crate) operation: Arc<Operation>,
    /// What is known beyond the WSDL, where that was made from canonical types.
    pub(crate) offered: Option<Arc<Offered>>,
}

impl Contract {
    /// The name of the element that a request's body begins with; `None` where the body is empty.
    pub(crate) fn request_name(&self) -> Option<QName> {
        self.name(self.operation.input.as_ref())
    }

    /// The name of the element that an answer's body begins with.
    pub(crate) fn reply_name(&self) -> Option<QName> {
        self.name(self.operation.output.as_ref())
    }

    /// The header blocks that a request may have.
    pub(crate) fn request_headers(&self) -> Vec<Declared> {
        self.headers(self.operation.input.as_ref())
    }

    /// The header blocks that an answer may have.
    pub(crate) fn reply_headers(&self) -> Vec<Declared> {
        self.headers(self.operation.output.as_ref())
    }

    fn headers(&self, message: Option<&Message>) -> Vec<Declared> {
        let headers = message.map(|message| message.headers.as_slice()).unwrap_or_default();
        headers.iter().map(|element| Declared { wsdl: self.wsdl.clone(), element: *element }).collect()
    }

    /// The header blocks that its faults about header blocks have; of those about a request's, which.
    pub(crate) fn header_faults(&self) -> Vec<AboutBlock> {
        let messages = [&self.operation.input, &self.operation.output];
        let declared = |element| Declared { wsdl: self.wsdl.clone(), element };
        let faults = messages.into_iter().flatten().flat_map(|message| &message.header_faults);
        faults.map(|fault| AboutBlock { about: declared(fault.about), block: declared(fault.block) }).collect()
    }

    /// The elements that the details of its faults have.
    pub(crate) fn details(&self) -> Vec<Declared> {
        let elements = self.operation.faults.iter().filter_map(|fault| fault.detail);
        elements.map(|element| Declared { wsdl: self.wsdl.clone(), element }).collect()
    }

    fn name(&self, message: Option<&Message>) -> Option<QName> {
        let first = message?.body.first()?;
        Some(self.wsdl.schemas.element(*first).name.clone())
    }

    /// What stands in the body of a call.
    ///
    /// # Errors
    /// What the schema does not take, with pointers into `value`.
    pub(crate) fn write_request(&self, version: Version, value: &Value) -> Result<Vec<Element>, Vec<Violation>> {
        self.write(self.operation.input.as_ref(), version, value)
    }

    /// What stands in the body of an answer.
    ///
    /// # Errors
    /// As [`Contract::write_request`].
    pub(crate) fn write_reply(&self, version: Version, value: &Value) -> Result<Vec<Element>, Vec<Violation>> {
        self.write(self.operation.output.as_ref(), version, value)
    }

    fn write(
        &self,
        message: Option<&Message>,
        version: Version,
        value: &Value,
    ) -> Result<Vec<Element>, Vec<Violation>> {
        let Some(message) = message else { return Ok(Vec::new()) };
        let schemas = &self.wsdl.schemas;
        let mut elements = match message.body.as_slice() {
            [only] => vec![typed::write(schemas, *only, value, message.encoded)?],
            // A document message of several parts is a map of them (WS-I Basic Profile R2201 forbids it; some have it).
            parts => {
                let part = |id: &ElementId| {
                    let inside = value.field(&schemas.element(*id).name.local)?;
                    Some(typed::write(schemas, *id, inside, message.encoded))
                };
                parts.iter().filter_map(part).collect::<Result<_, _>>()?
            }
        };
        if message.encoded
            && let Some(wrapper) = elements.first_mut()
        {
            let said = Element::new(None, "e").with_attribute(Some(version.namespace()), "encodingStyle", SOAP_ENC);
            wrapper.attributes.extend(said.attributes);
        }
        Ok(elements)
    }

    /// What describes the body of a request.
    pub(crate) fn request(&self) -> Option<(&Schemas, &Message)> {
        Some((&self.wsdl.schemas, self.operation.input.as_ref()?))
    }

    /// What describes the body of an answer.
    pub(crate) fn reply(&self) -> Option<(&Schemas, &Message)> {
        Some((&self.wsdl.schemas, self.operation.output.as_ref()?))
    }

    /// The value in the body of a request.
    ///
    /// # Errors
    /// What breaks the schema.
    pub(crate) fn read_request(&self, envelope: &Envelope) -> Result<Value, Vec<Violation>> {
        let message = self.operation.input.as_ref();
        let mode = if message.is_some_and(|message| message.encoded) { Mode::Encoded } else { Mode::Strict };
        let mut body = self.read(message, &envelope.body, mode)?;
        if let Some(offered) = &self.offered {
            offered.complete(&mut body);
        }
        Ok(body)
    }

    /// The value in the body of an answer. What the schema does not foresee is taken as it is.
    pub(crate) fn read_reply(&self, body: &[Element]) -> Value {
        self.read(self.operation.output.as_ref(), body, Mode::Lenient).unwrap_or_default()
    }

    /// An encoded call whose arguments have names of their own (`param0`): callers that know no WSDL send them in its order.
    fn by_position(&self, wrapper: ElementId, first: &Element) -> Option<Element> {
        let schemas = &self.wsdl.schemas;
        let complex = schemas.complex(schemas.element(wrapper).ty)?;
        let known = first.elements().any(|child| complex.fields.keys().any(|name| name.local == child.name.local));
        if known || first.elements().count() != complex.fields.len() {
            return None;
        }
        let mut names = complex.fields.keys();
        let mut renamed = first.clone();
        for node in &mut renamed.children {
            if let Node::Element(child) = node {
                child.name = names.next()?.clone();
            }
        }
        Some(renamed)
    }

    fn read(&self, message: Option<&Message>, body: &[Element], mode: Mode) -> Result<Value, Vec<Violation>> {
        let schemas = &self.wsdl.schemas;
        match (message.map(|message| message.body.as_slice()), body) {
            (_, []) => Ok(Value::Null),
            (Some([only]), [first, ..]) => {
                let named = message.filter(|message| message.encoded).and_then(|_| self.by_position(*only, first));
                typed::read(schemas, *only, named.as_ref().unwrap_or(first), mode)
            }
            (Some(parts), elements) if !parts.is_empty() => {
                let mut map = Map::new();
                for (id, element) in parts.iter().zip(elements) {
                    map.insert(element.name.local.to_string(), typed::read(schemas, *id, element, mode)?);
                }
                Ok(Value::Map(map))
            }
            (_, [first, ..]) => Ok(first.to_value()),
        }
    }
}
