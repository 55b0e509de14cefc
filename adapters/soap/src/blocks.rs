//! Header blocks: written and read by the WSDL where that declares them, else as the file says; and those that a sender marks as
//! ones that must be understood.

use std::sync::Arc;

use gatehouse_core::adapter::Call;
use gatehouse_core::expr::Scope;
use gatehouse_core::fault::{Code, Fault, Verdict, Violation};
use gatehouse_core::xml::{Element, QName};
use gatehouse_core::{Map, Value};

use crate::addressing::is_addressing;
use crate::envelope::{Envelope, GATEHOUSE, Version};
use crate::file::{Block, Operation};
use crate::typed::{self, Mode};
use crate::wsdl::Wsdl;
use crate::wsse::{is_security, without_id};
use crate::xsd::ElementId;

/// An element that a WSDL declares for a header block, or for a fault's detail.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) wsdl: Arc<Wsdl>,
    pub(crate) element: ElementId,
}

/// A block that a WSDL declares for the header of a fault about another.
#[derive(Clone, Debug)]
pub(crate) struct AboutBlock {
    pub(crate) about: Declared,
    pub(crate) block: Declared,
}

impl Declared {
    pub(crate) fn name(&self) -> &QName {
        &self.wsdl.schemas.element(self.element).name
    }

    /// The element of a value.
    ///
    /// # Errors
    /// What the schema does not take, with pointers into `value`.
    pub(crate) fn write(&self, value: &Value) -> Result<Element, Vec<Violation>> {
        typed::write(&self.wsdl.schemas, self.element, value, false)
    }

    /// The value of an element.
    ///
    /// # Errors
    /// In [`Mode::Strict`] what breaks the schema.
    pub(crate) fn read(&self, element: &Element, mode: Mode) -> Result<Value, Vec<Violation>> {
        typed::read(&self.wsdl.schemas, self.element, element, mode)
    }
}

impl Block {
    /// The block, with what its expressions find in `scope`.
    ///
    /// # Errors
    /// `Invalid`: the expression that failed, or what the WSDL does not take.
    pub(crate) fn write(&self, version: Version, scope: &Scope<'_>) -> Result<Element, Fault> {
        let name = &self.name.local;
        let bad = |reason: String| {
            Fault::new(Code::Invalid, format!("the header block `{name}` cannot be written: {reason}"))
        };
        let value = self.value.eval(scope).map_err(bad)?;
        let element = match &self.declared {
            Some(declared) => declared.write(&value).map_err(|violations| {
                let text = format!("the header block `{name}` does not fit the WSDL");
                Fault::new(Code::Invalid, text).violations(violations)
            })?,
            None => Element::from_value_in(&self.name, self.name.namespace.as_deref(), &value).map_err(bad)?,
        };
        Ok(match self.must_understand {
            true => element.with_attribute(Some(version.namespace()), "mustUnderstand", version.yes()),
            false => element,
        })
    }
}

/// The header blocks of one call.
///
/// # Errors
/// As [`Block::write`].
pub(crate) fn of_call(version: Version, operation: &Operation, call: &Call<'_>) -> Result<Vec<Element>, Fault> {
    let mut blocks = Vec::with_capacity(operation.headers.len() + 1);
    if operation.delivery_id {
        blocks.push(Element::new(Some(GATEHOUSE), "DeliveryId").with_text(call.delivery_id));
    }
    if operation.headers.is_empty() {
        return Ok(blocks);
    }
    let message = call.message.to_value(call.attempt);
    let delivery_id = Value::from(call.delivery_id);
    let scope = Scope::new().with("body", call.body).with("message", &message).with("delivery_id", &delivery_id);
    for block in &operation.headers {
        blocks.push(block.write(version, &scope)?);
    }
    Ok(blocks)
}

/// Header blocks as a map by local name: by the schema where one is `declared`, else as they are. That of WS-Security is not among
/// them, also where a WSDL declares it: it may hold a password, and it has been judged already.
///
/// # Errors
/// In [`Mode::Strict`] what breaks a schema, with pointers that begin with `/headers`.
pub(crate) fn read(blocks: &[Element], declared: &[Declared], mode: Mode) -> Result<Value, Vec<Violation>> {
    let mut map = Map::new();
    let mut found = Vec::new();
    for block in blocks.iter().filter(|block| !is_security(block)) {
        let local = &*block.name.local;
        if map.contains_key(local) {
            continue;
        }
        let block = without_id(block);
        let value = match declared.iter().find(|declared| *declared.name() == block.name) {
            Some(declared) => declared.read(&block, mode).unwrap_or_else(|violations| {
                found.extend(violations.into_iter().map(|one| {
                    let pointer = format!("/headers/{local}{}", one.pointer);
                    Violation { pointer, ..one }
                }));
                Value::Null
            }),
            None => block.to_value(),
        };
        map.insert(local.to_owned(), value);
    }
    if found.is_empty() { Ok(Value::Map(map)) } else { Err(found) }
}

/// Whether a header block must be understood by us: it is marked, and meant for the receiver or for anybody next.
pub(crate) fn must_understand(version: Version, block: &Element) -> bool {
    let attribute = |local: &str| block.attribute(Some(version.namespace()), local).map(str::trim);
    let marked = attribute("mustUnderstand").is_some_and(|mark| !matches!(mark, "0" | "false"));
    let role = match version {
        Version::V11 => attribute("actor"),
        Version::V12 => attribute("role"),
    };
    let ours = match role.unwrap_or_default() {
        "" => true,
        role => [
            "http://schemas.xmlsoap.org/soap/actor/next",
            "http://www.w3.org/2003/05/soap-envelope/role/next",
            "http://www.w3.org/2003/05/soap-envelope/role/ultimateReceiver",
        ]
        .contains(&role),
    };
    marked && ours
}

/// Refuses an answer with a block that must be understood and is not: the system says that the answer is not what it looks like
/// without it (SOAP 1.1 §4.2.3). The call has been made, so a person looks.
///
/// # Errors
/// `BadAnswer` that is not tried again, and names the block.
pub(crate) fn understood(operation: &Operation, envelope: &Envelope) -> Result<(), Fault> {
    let known = |block: &Element| {
        is_addressing(block)
            || is_security(block)
            || operation.understands.contains(&block.name)
            || operation.reply_headers.iter().any(|declared| *declared.name() == block.name)
    };
    let strange = envelope.headers.iter().find(|block| must_understand(envelope.version, block) && !known(block));
    let Some(block) = strange else { return Ok(()) };
    let text = format!(
        "the answer has the header block `{}`, which must be understood; name it under `understands` if it changes nothing",
        block.name
    );
    Err(Fault::new(Code::BadAnswer, text).verdict(Verdict::Reject))
}
