//! A tree as a [`Value`] and a value as a tree, by the conventions of design.md §7: local names, `@name`, `#text`.
//!
//! Not every tree comes back as it was: comments, prefixes, namespaces and the order among *different* children are no
//! part of a value. What a value does hold is never lost or merged.

use super::tree::XMLNS;
use super::{Attribute, Element, Node, QName, XSI, clark, is_name, names};
use crate::value::{Map, Value};

/// The key of an element's own text where it has attributes or children too.
const TEXT: &str = "#text";

impl Element {
    /// The element's content as a value: text alone is text; attributes are `@name`, mixed text is `#text`, an element
    /// that comes more than once is a list, `xsi:nil="true"` is null, an empty element is empty text. Local names.
    /// White space between elements and the attributes of XML Schema (`xsi:type`, `xsi:schemaLocation`) are left out.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let is_data = |attribute: &&Attribute| attribute.name.namespace.as_deref() != Some(XSI);
        let has_attributes = self.attributes.iter().any(|attribute| is_data(&attribute));
        let has_elements = self.elements().next().is_some();
        let own_text = || match self.is_nil() {
            true => Value::Null,
            false => Value::Text(self.text()),
        };
        if !has_attributes && !has_elements {
            return own_text();
        }
        let mut map = Map::new();
        for attribute in self.attributes.iter().filter(is_data) {
            map.append(format!("@{}", attribute.name.local), Value::Text(attribute.value.clone()));
        }
        for element in self.elements() {
            map.append(element.name.local.to_string(), element.to_value());
        }
        let text = own_text();
        let says_something = match &text {
            Value::Text(text) if has_elements => text.bytes().any(|byte| !names::is_space(byte)),
            Value::Text(text) => !text.is_empty(),
            _ => true,
        };
        if says_something {
            map.insert(TEXT.to_owned(), text);
        }
        Value::Map(map)
    }

    /// Whether it says that it is null: `xsi:nil` is true and nothing is in it.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        let said = self.attribute(Some(XSI), "nil").is_some_and(|nil| matches!(nil.trim(), "true" | "1"));
        said && self.elements().next().is_none() && self.text().trim().is_empty()
    }

    /// The other way of [`Element::to_value`]: a map's keys become children (`@name` attributes, `#text` text), a list
    /// becomes repeated elements, null becomes `xsi:nil="true"`. All elements are put into `namespace`; attributes are in
    /// none. A key `{other}name` or `@{other}name` is an element or attribute of the namespace `other`.
    ///
    /// # Errors
    /// A key that is no XML name, a list where one element is asked for, or a character that XML cannot carry; with
    /// the path to it.
    pub fn from_value(name: &str, namespace: Option<&str>, value: &Value) -> Result<Self, String> {
        Self::from_value_in(&QName::new(namespace, name), namespace, value)
    }

    /// As [`Element::from_value`], with the children in another namespace than the element: in none where a schema says
    /// `elementFormDefault="unqualified"`.
    ///
    /// # Errors
    /// As [`Element::from_value`].
    pub fn from_value_in(name: &QName, children: Option<&str>, value: &Value) -> Result<Self, String> {
        if !is_name(&name.local) {
            return Err(format!("`{}` is no XML name", shown(&name.local)));
        }
        let mut path = vec![name.local.to_string()];
        let mut element = Self { name: name.clone(), attributes: Vec::new(), children: Vec::new() };
        // One of each name; an `Arc` a child instead of two allocations.
        let children = QName::new(children, "").namespace;
        fill(&mut element, children.as_ref(), value, &mut path)?;
        Ok(element)
    }
}

/// Fills an element with a value. `path` says where the value stands, for errors.
fn fill(
    element: &mut Element,
    namespace: Option<&std::sync::Arc<str>>,
    value: &Value,
    path: &mut Vec<String>,
) -> Result<(), String> {
    let Value::Map(map) = value else { return set_text(element, value, path) };
    for (key, item) in map {
        path.push(key.to_string());
        if key == TEXT {
            set_text(element, item, path)?;
        } else if let Some(local) = key.strip_prefix('@') {
            let attributes = match item {
                Value::List(_) | Value::Map(_) | Value::Null => {
                    return Err(format!("`{}` is {}; an attribute is text", shown(&path.join(".")), item.kind()));
                }
                scalar => scalar_text(scalar, path)?,
            };
            let (namespace, local) = qualified(local, path)?;
            element.attributes.push(Attribute { name: QName::new(namespace, local), value: attributes });
        } else {
            let (own, local) = qualified(key.as_str(), path)?;
            let items = match item {
                Value::List(items) => items.as_slice(),
                one => std::slice::from_ref(one),
            };
            let own = own.map(std::sync::Arc::from);
            let name = QName { namespace: own.or_else(|| namespace.cloned()), local: local.into() };
            for item in items {
                let mut child = Element { name: name.clone(), attributes: Vec::new(), children: Vec::new() };
                fill(&mut child, namespace, item, path)?;
                element.children.push(Node::Element(child));
            }
        }
        path.pop();
    }
    Ok(())
}

fn set_text(element: &mut Element, value: &Value, path: &[String]) -> Result<(), String> {
    match value {
        Value::Null => {
            element.attributes.push(Attribute { name: QName::new(Some(XSI), "nil"), value: "true".to_owned() });
        }
        Value::List(_) | Value::Map(_) => {
            return Err(format!("`{}` is {} where one value is needed", shown(&path.join(".")), value.kind()));
        }
        scalar => {
            let text = scalar_text(scalar, path)?;
            if !text.is_empty() {
                element.children.push(Node::Text(text));
            }
        }
    }
    Ok(())
}

fn scalar_text(value: &Value, path: &[String]) -> Result<String, String> {
    let text = value.to_plain_text().unwrap_or_default();
    match names::first_non_char(&text) {
        None => Ok(text),
        Some((_, c)) => {
            Err(format!("`{}` holds U+{:04X}, which XML cannot carry", shown(&path.join(".")), u32::from(c)))
        }
    }
}

/// Namespace, where it has one, and local name of a key.
fn qualified<'k>(key: &'k str, path: &[String]) -> Result<(Option<&'k str>, &'k str), String> {
    let (namespace, local) = clark(key).map_or((None, key), |(namespace, local)| (Some(namespace), local));
    let binds = |namespace: &str| namespace != XMLNS && names::first_non_char(namespace).is_none();
    if is_name(local) && namespace.is_none_or(binds) {
        return Ok((namespace, local));
    }
    Err(format!("`{}` is no XML name", shown(&path.join("."))))
}

/// A path for a message: cut to 80 characters, no raw control characters.
fn shown(path: &str) -> String {
    path.chars().take(80).flat_map(char::escape_debug).collect()
}
