//! The one value that everything between two doors is made of: ordered maps, exact numbers, text, lists, booleans, null.
//!
//! It is not a JSON value and not an XML tree; both decode to it. It never holds a float.

use std::fmt;

use crate::number::Number;

pub use crate::map::{Map, Name};

/// A piece of data of any shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Known to be nothing: JSON `null`, XML `xsi:nil`. Absent is no value at all.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number with the digits it came with.
    Number(Number),
    /// Text.
    Text(String),
    /// A list, in order.
    List(Vec<Value>),
    /// Named values, in order, each name once.
    Map(Map),
}

impl Value {
    /// An empty map.
    #[must_use]
    pub fn map() -> Self {
        Self::Map(Map::new())
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The map, if this is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The map, if this is one, to change it.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if this is one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The number, if this is one.
    #[must_use]
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The value under `name`, if this is a map that has it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.as_map().and_then(|map| map.get(name))
    }

    /// What kind of value this is, in a word that a person understands.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// A scalar as the text that a business key, a path segment or a header shows; `None` for null, lists and maps.
    #[must_use]
    pub fn to_plain_text(&self) -> Option<String> {
        match self {
            Self::Bool(flag) => Some(flag.to_string()),
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }
}

/// Compact JSON, as [`crate::json::encode`] writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&crate::json::encode(self)))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number.into())
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<Name>, V: Into<Value>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}
