//! XML to a tree of elements with expanded names, to [`Value`], and back; behind a well-formedness gate of our own.

use std::sync::Arc;

use crate::json::DecodeError;
use crate::limits::BodyLimits;
use crate::value::Value;

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
    /// Its normalised value.
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

/// Decodes one XML 1.0 document. `charset` is what the transport says (the `charset` parameter of a content type) and
/// wins over the byte order mark and the XML declaration (RFC 7303 §3).
///
/// # Errors
/// Anything that is not well-formed or not namespace-well-formed, any DOCTYPE, or a limit; with line and column.
pub fn decode(_bytes: &[u8], _charset: Option<&str>, _limits: &BodyLimits) -> Result<Element, DecodeError> {
    unimplemented!()
}

impl Element {
    /// The element's content as a value: text alone is text; attributes are `@name`, mixed text is `#text`, an element
    /// that comes more than once is a list, `xsi:nil="true"` is null, an empty element is empty text. Local names.
    #[must_use]
    pub fn to_value(&self) -> Value {
        unimplemented!()
    }

    /// The first child element with this local name.
    #[must_use]
    pub fn child(&self, local: &str) -> Option<&Element> {
        self.children.iter().find_map(|node| match node {
            Node::Element(element) if &*element.name.local == local => Some(element),
            _ => None,
        })
    }

    /// The child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
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

    /// Writes the element as a document in UTF-8, with a declaration, prefixes made as needed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// The other way of [`Element::to_value`]: a map's keys become children (`@name` attributes, `#text` text), a list
    /// becomes repeated elements, null becomes `xsi:nil="true"`. All elements are put into `namespace`.
    ///
    /// # Errors
    /// A key that is no XML name, or a character that XML cannot carry.
    pub fn from_value(_name: &str, _namespace: Option<&str>, _value: &Value) -> Result<Self, String> {
        unimplemented!()
    }
}
