//! XML to a tree of elements with expanded names, to [`Value`](crate::Value), and back; behind a well-formedness gate of our own.
//!
//! XML 1.0 (5th edition) with Namespaces 1.0 and without document types: a DOCTYPE is refused where it begins, so there
//! are no entities, no external files and no default attributes. Comments and processing instructions are checked and
//! left out. The rooms: [`names`] knows which characters may stand where, [`gate`] checks what the lexer (quick-xml)
//! lets through, [`tree`] builds elements from it, [`value`] turns them into values and back, [`qualified`] gives values
//! names with namespaces where they are asked for, [`skim`](mod@skim) reads a few paths without a tree,
//! [`write`](mod@write) writes them.

mod gate;
mod names;
mod qualified;
mod skim;
mod tree;
mod value;
mod write;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use qualified::{WantedNames, clark};
pub use skim::skim;
pub use tree::{decode, text_of};
pub use write::{NotXml, WriteOptions};

/// The namespace of `xsi:nil` and `xsi:type` (XML Schema Part 1 §2.6).
pub const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// The namespace of `arrayType` (SOAP 1.1 §5.4.2).
pub const SOAP_ENC: &str = "http://schemas.xmlsoap.org/soap/encoding/";

/// The namespace of `itemType` (SOAP 1.2 part 2 §3.1.4).
pub const SOAP12_ENC: &str = "http://www.w3.org/2003/05/soap-encoding";

/// The namespace that the prefix `xml` always has (Namespaces in XML 1.0 §3).
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// A name with its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QName {
    /// The namespace, where it has one.
    pub namespace: Option<Arc<str>>,
    /// The local name.
    pub local: Arc<str>,
}

/// An attribute. Namespace declarations are not attributes here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its expanded name.
    pub name: QName,
    /// Its normalised value. Where the value is a qualified name (`xsi:type`, and `arrayType` and `itemType` of the SOAP
    /// encodings), it stands here in James Clark's notation, `{namespace}local`, because prefixes are not kept.
    pub value: String,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its expanded name.
    pub name: QName,
    /// Its attributes in document order.
    pub attributes: Vec<Attribute>,
    /// What is in it, in document order. Comments and processing instructions are left out.
    pub children: Vec<Node>,
}

/// A child of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, with CDATA and character references resolved, never empty, never two in a row.
    Text(String),
}

impl QName {
    /// A name in a namespace, or in none (an empty namespace is none, as in `xmlns=""`).
    #[must_use]
    pub fn new(namespace: Option<&str>, local: &str) -> Self {
        Self { namespace: namespace.filter(|namespace| !namespace.is_empty()).map(Into::into), local: local.into() }
    }

    /// Whether it is this name in this namespace.
    #[must_use]
    pub fn is(&self, namespace: Option<&str>, local: &str) -> bool {
        &*self.local == local && self.namespace.as_deref() == namespace
    }
}

/// `{namespace}local`, as people and error messages write it (James Clark's notation); `local` where there is none.
impl std::fmt::Display for QName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{{{namespace}}}{}", self.local),
            None => f.write_str(&self.local),
        }
    }
}

/// Whether an attribute's value is a qualified name.
fn holds_qname(name: &QName) -> bool {
    match name.namespace.as_deref() {
        Some(XSI) => &*name.local == "type",
        Some(SOAP_ENC) => &*name.local == "arrayType",
        Some(SOAP12_ENC) => &*name.local == "itemType",
        _ => false,
    }
}

/// Whether a text can be a local name (`NCName`: an XML name without a colon) that [`decode`] would take back.
#[must_use]
pub fn is_name(text: &str) -> bool {
    names::is_ncname(text) && text.len() <= gate::MAX_NAME
}

impl Element {
    /// An empty element.
    #[must_use]
    pub fn new(namespace: Option<&str>, local: &str) -> Self {
        Self { name: QName::new(namespace, local), attributes: Vec::new(), children: Vec::new() }
    }

    /// With one more attribute.
    #[must_use]
    pub fn with_attribute(mut self, namespace: Option<&str>, local: &str, value: impl Into<String>) -> Self {
        self.attributes.push(Attribute { name: QName::new(namespace, local), value: value.into() });
        self
    }

    /// With one more child element.
    #[must_use]
    pub fn with_child(mut self, child: Self) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    /// With text at the end; empty text is nothing.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        match self.children.last_mut() {
            _ if text.is_empty() => {}
            Some(Node::Text(before)) => before.push_str(&text),
            _ => self.children.push(Node::Text(text)),
        }
        self
    }

    /// The first child element with this local name.
    #[must_use]
    pub fn child(&self, local: &str) -> Option<&Self> {
        self.elements().find(|element| &*element.name.local == local)
    }

    /// The first child element with this expanded name.
    #[must_use]
    pub fn child_in(&self, namespace: Option<&str>, local: &str) -> Option<&Self> {
        self.elements().find(|element| element.name.is(namespace, local))
    }

    /// The value of the attribute with this expanded name.
    #[must_use]
    pub fn attribute(&self, namespace: Option<&str>, local: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name.is(namespace, local))
            .map(|attribute| attribute.value.as_str())
    }

    /// The child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// All text directly in it.
    #[must_use]
    pub fn text(&self) -> String {
        self.children
            .iter()
            .filter_map(|node| if let Node::Text(text) = node { Some(text.as_str()) } else { None })
            .collect()
    }
}
