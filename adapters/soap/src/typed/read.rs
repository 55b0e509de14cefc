//! An element to a value.

use gatehouse_core::fault::Violation;
use gatehouse_core::xml::{self, Element, QName, SOAP_ENC, SOAP12_ENC, XML, XSI};
use gatehouse_core::{Map, Name, Value};

use super::{Findings, TEXT_KEY, TYPE_KEY, encoded, simple};
use crate::envelope::Version;
use crate::xsd::{ANY_TYPE, Complex, Content, ElementId, Schemas, Type, TypeId};

/// How what the schema does not foresee is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Told: the sender can mend it.
    Strict,
    /// Told too, of an encoded message: an accessor is known by its local name, because callers without a WSDL (SOAP::Lite) put it
    /// into the namespace of the call.
    Encoded,
    /// Taken as it is: an answer that has come is not refused for a field too many.
    Lenient,
}

/// Reads an element that is declared as `id`.
///
/// # Errors
/// In [`Mode::Strict`] and [`Mode::Encoded`] what is wrong, with pointers into the value.
pub(crate) fn read(schemas: &Schemas, id: ElementId, element: &Element, mode: Mode) -> Result<Value, Vec<Violation>> {
    let mut reading = Reading {
        schemas,
        strict: mode != Mode::Lenient,
        by_local: mode != Mode::Strict,
        findings: Findings::default(),
    };
    let value = reading.element(id, element);
    if reading.findings.found.is_empty() { Ok(value) } else { Err(reading.findings.found) }
}

pub(super) struct Reading<'a> {
    pub(super) schemas: &'a Schemas,
    strict: bool,
    by_local: bool,
    pub(super) findings: Findings,
}

impl Reading<'_> {
    fn element(&mut self, id: ElementId, element: &Element) -> Value {
        let declared = self.schemas.element(id);
        if element.is_nil() {
            if self.strict && !declared.nillable && declared.ty != ANY_TYPE {
                self.findings.tell("may not be nil");
            }
            return Value::Null;
        }
        let default = declared.default.as_deref().filter(|_| element.children.is_empty());
        let value = self.typed(declared.ty, element, default);
        if self.strict
            && declared.fixed
            && let (Some(fixed), Some(text)) = (&declared.default, value.to_plain_text())
            && text != **fixed
        {
            self.findings.tell(format!("must be `{fixed}`"));
        }
        value
    }

    /// An element of a type, or of the one that it says itself.
    pub(super) fn typed(&mut self, declared: TypeId, element: &Element, default: Option<&str>) -> Value {
        let (ty, said) = self.actual(declared, element);
        match self.schemas.ty(ty) {
            Type::Simple(_) => {
                if self.strict && element.elements().next().is_some() {
                    self.findings.tell("holds elements where text is due");
                }
                let text = element.text();
                self.text(ty, default.unwrap_or(&text))
            }
            Type::Complex(complex) => {
                let value = self.complex(complex, element, default);
                match (said.filter(|_| ty != declared && declared != ANY_TYPE), value) {
                    (Some(name), Value::Map(map)) => {
                        let mut named = Map::with_capacity(map.len() + 1);
                        named.insert(TYPE_KEY.to_owned(), Value::from(&*name.local));
                        named.extend(map);
                        Value::Map(named)
                    }
                    (_, value) => value,
                }
            }
        }
    }

    /// The type that counts: that which the element says, if it may stand there.
    fn actual(&mut self, declared: TypeId, element: &Element) -> (TypeId, Option<QName>) {
        let Some(name) = element.attribute(Some(XSI), "type").and_then(clark) else { return (declared, None) };
        match self.schemas.named_type(&name) {
            // Every array is one of the encoding's, whatever its own type is called.
            _ if encoded::is_array(element) && self.schemas.is_array(declared) => (declared, None),
            Some(ty) if ty == declared || self.schemas.derives(ty, declared) => (ty, Some(name)),
            Some(_) if self.strict => {
                let text = format!(
                    "says the type `{name}`, which does not derive from `{}`",
                    self.schemas.type_name(declared)
                );
                self.findings.tell(text);
                (declared, None)
            }
            _ => (declared, None),
        }
    }

    fn text(&mut self, ty: TypeId, text: &str) -> Value {
        match simple::read(self.schemas, ty, text) {
            Ok(value) => value,
            Err(error) => {
                if self.strict {
                    self.findings.tell(error);
                }
                Value::from(text)
            }
        }
    }

    fn complex(&mut self, complex: &Complex, element: &Element, default: Option<&str>) -> Value {
        if self.strict && complex.is_abstract {
            self.findings.tell("is of an abstract type; say which by `xsi:type`");
        }
        let mut map = Map::new();
        match &complex.content {
            Content::Anything => return self.anything(element),
            Content::Array { item, dimensions } => return encoded::array(self, *item, *dimensions, element),
            Content::Simple(ty) => {
                self.attributes(complex, element, &mut map);
                let text = element.text();
                let value = self.text(*ty, default.unwrap_or(&text));
                if complex.attributes.is_empty() && map.is_empty() {
                    return value;
                }
                map.insert(TEXT_KEY.to_owned(), value);
                return Value::Map(map);
            }
            Content::Empty | Content::Children(_) => {}
        }
        self.attributes(complex, element, &mut map);
        for child in element.elements() {
            self.child(complex, child, &mut map);
        }
        self.missing(complex, &map);
        let text = element.text();
        if text.bytes().any(|byte| !byte.is_ascii_whitespace()) {
            if complex.mixed || !self.strict {
                map.insert(TEXT_KEY.to_owned(), Value::from(text));
            } else {
                self.findings.tell("has text where only elements are due");
            }
        }
        Value::Map(map)
    }

    fn child(&mut self, complex: &Complex, child: &Element, map: &mut Map) {
        let by_local =
            || complex.fields.iter().find(|(name, _)| name.local == child.name.local).map(|(_, field)| field);
        let field = complex.fields.get(&child.name).or_else(|| by_local().filter(|_| self.by_local));
        let key = Name::from(&*child.name.local);
        let Some(field) = field.copied() else {
            if self.strict && !complex.any {
                let near = complex.fields.keys().map(|name| &*name.local);
                let help = match by_local() {
                    Some(field) => {
                        format!("; its namespace is wrong: it is `{}`", self.schemas.element(field.element).name)
                    }
                    None => gatehouse_core::diagnostics::closest(&key, near)
                        .map_or_else(String::new, |near| format!("; did you mean `{near}`?")),
                };
                self.findings.within(key, |findings| findings.tell(format!("is not foreseen here{help}")));
                return;
            }
            let global = self.schemas.global(&child.name);
            self.findings.path.push(key.clone());
            let value = match global {
                Some(id) => self.element(id, child),
                None => self.anything(child),
            };
            self.findings.path.pop();
            map.append(key, value);
            return;
        };
        let before = map.get(&key).and_then(Value::as_list).map_or(0, <[Value]>::len);
        self.findings.path.push(key.clone());
        if field.list {
            self.findings.path.push(before.to_string().into());
        } else if self.strict && map.contains_key(&key) {
            self.findings.tell("comes more than once");
        }
        let value = self.element(field.element, child);
        if field.list {
            self.findings.path.pop();
        }
        self.findings.path.pop();
        match map.get_mut(&key) {
            // A field that may come more than once is a list from the first on.
            None if field.list => drop(map.insert(key, Value::List(vec![value]))),
            Some(Value::List(list)) if field.list => list.push(value),
            Some(_) if field.list => {}
            _ => map.append(key, value),
        }
    }

    fn missing(&mut self, complex: &Complex, map: &Map) {
        if !self.strict {
            return;
        }
        for (name, field) in &complex.fields {
            if field.required && !map.contains_key(&name.local) {
                self.findings.within(&*name.local, |findings| findings.tell("is missing"));
            }
        }
    }

    fn attributes(&mut self, complex: &Complex, element: &Element, map: &mut Map) {
        for attribute in &element.attributes {
            let carried = |namespace: &str| {
                ![XSI, XML, SOAP_ENC, SOAP12_ENC, Version::V11.namespace(), Version::V12.namespace()]
                    .contains(&namespace)
            };
            let declared = complex.attributes.iter().find(|declared| declared.name == attribute.name);
            if declared.is_none() && !attribute.name.namespace.as_deref().is_none_or(carried) {
                continue;
            }
            let key = format!("@{}", attribute.name.local);
            let value = match declared {
                Some(declared) => {
                    self.findings.path.push(key.as_str().into());
                    let value = self.text(declared.ty, &attribute.value);
                    self.findings.path.pop();
                    value
                }
                None => {
                    // `id` and `href` belong to the encoding.
                    if self.strict && !complex.any_attribute && !matches!(&*attribute.name.local, "id" | "href") {
                        self.findings.within(key, |findings| findings.tell("is not foreseen here"));
                        continue;
                    }
                    Value::from(attribute.value.as_str())
                }
            };
            map.insert(key, value);
        }
        if self.strict {
            for declared in complex.attributes.iter().filter(|declared| declared.required) {
                let key = format!("@{}", declared.name.local);
                if !map.contains_key(&key) {
                    self.findings.within(key, |findings| findings.tell("is missing"));
                }
            }
        }
    }

    /// An element that no schema describes: by what it says itself, else as the mapping's own words have it.
    pub(super) fn anything(&mut self, element: &Element) -> Value {
        if element.is_nil() {
            return Value::Null;
        }
        if encoded::is_array(element) {
            return encoded::array(self, ANY_TYPE, 1, element);
        }
        if encoded::is_map(element) {
            return encoded::map(self, element);
        }
        let said = element.attribute(Some(XSI), "type").and_then(clark).and_then(|name| self.schemas.named_type(&name));
        if let Some(ty) = said.filter(|ty| *ty != ANY_TYPE) {
            return self.typed(ty, element, None);
        }
        if element.elements().next().is_none() {
            return element.to_value();
        }
        let mut map = Map::new();
        for attribute in element
            .attributes
            .iter()
            .filter(|attribute| !matches!(attribute.name.namespace.as_deref(), Some(XSI | SOAP_ENC | SOAP12_ENC)))
        {
            map.insert(format!("@{}", attribute.name.local), Value::from(attribute.value.as_str()));
        }
        for child in element.elements() {
            let value = self.anything(child);
            map.append(child.name.local.to_string(), value);
        }
        let text = element.text();
        if text.bytes().any(|byte| !byte.is_ascii_whitespace()) {
            map.insert(TEXT_KEY.to_owned(), Value::from(text));
        }
        Value::Map(map)
    }
}

/// A name in James Clark's notation, as the decoder leaves `xsi:type`.
pub(super) fn clark(text: &str) -> Option<QName> {
    match xml::clark(text) {
        Some((namespace, local)) => Some(QName::new(Some(namespace), local)),
        None => (!text.is_empty()).then(|| QName::new(None, text)),
    }
}
