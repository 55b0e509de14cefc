//! [`Value`] as the validator reads it: in place, without a copy in another representation. Numbers are judged by their
//! digits, never by a float, so 12345678901234567.89 is more than 12345678901234567.88.
//!
//! Only what an error shows, and what a `const` or `enum` of lists and objects is compared with, becomes a
//! `serde_json::Value`.

use std::borrow::Cow;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, Node, NodeIdentity, Object};

use crate::map::{self, Map};
use crate::number::Number;
use crate::value::Value;

/// The representation that types judge.
pub(super) struct Canonical;

impl Json for Canonical {
    type Node<'a> = &'a Value;
    type PreparedKey = String;
    type StringBuffer = Value;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(&Value) -> T) -> T {
        *buffer = Value::Text(string.to_owned());
        f(buffer)
    }
}

impl<'a> Node<'a, Canonical> for &'a Value {
    type Object = &'a Map;
    type Array = &'a [Value];
    type Number = &'a Number;

    fn as_object(&self) -> Option<&'a Map> {
        Value::as_map(self)
    }

    fn as_array(&self) -> Option<&'a [Value]> {
        Value::as_list(self)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        Value::as_text(self).map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        Value::as_number(self)
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn json_type(&self) -> JsonType {
        match self {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::Text(_) => JsonType::String,
            Value::List(_) => JsonType::Array,
            Value::Map(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        match (self, expected) {
            // What code tables are made of is compared where it stands.
            (Value::Text(text), serde_json::Value::String(expected)) => text == expected,
            (Value::Text(_), _) | (_, serde_json::Value::String(_)) => false,
            _ => jsonschema::json::cmp::equal(&to_json(self), expected),
        }
    }

    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(to_json(self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Value>(self) as usize))
    }
}

/// As serde_json's own exact numbers answer: integers are those that were written as such.
impl JsonNumber for &Number {
    fn as_u64(&self) -> Option<u64> {
        match self.as_int() {
            Some(int) => u64::try_from(int).ok(),
            None => self.literal().parse().ok(),
        }
    }

    fn as_i64(&self) -> Option<i64> {
        self.as_int()
    }

    /// The validator asks for it only where it compares with a limit that is a float exactly.
    fn as_f64(&self) -> Option<f64> {
        self.literal().parse().ok().filter(|float: &f64| float.is_finite())
    }

    fn as_str(&self) -> Cow<'_, str> {
        self.literal()
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        Cow::Owned(to_number(self))
    }

    fn is_integer(&self) -> bool {
        self.is_whole()
    }
}

impl<'a> Object<'a, Canonical> for &'a Map {
    type Node = &'a Value;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        Map::len(self)
    }

    fn get(&self, key: &String) -> Option<&'a Value> {
        Map::get(self, key)
    }

    fn members(&self) -> Members<'a> {
        Members(self.iter())
    }
}

/// The members of an object, in their order.
pub(super) struct Members<'a>(map::Iter<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (name.as_str(), value))
    }
}

impl<'a> Array<'a, Canonical> for &'a [Value] {
    type Node = &'a Value;
    type ElementsIter = std::slice::Iter<'a, Value>;

    fn len(&self) -> usize {
        <[Value]>::len(self)
    }

    fn elements(&self) -> std::slice::Iter<'a, Value> {
        self.iter()
    }
}

/// By hand, because serde's way loses what `arbitrary_precision` keeps.
fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => serde_json::Value::Bool(*flag),
        Value::Number(number) => serde_json::Value::Number(to_number(number)),
        Value::Text(text) => serde_json::Value::String(text.clone()),
        Value::List(list) => serde_json::Value::Array(list.iter().map(to_json).collect()),
        Value::Map(map) => {
            serde_json::Value::Object(map.iter().map(|(name, value)| (name.to_string(), to_json(value))).collect())
        }
    }
}

fn to_number(number: &Number) -> serde_json::Number {
    match number.as_int() {
        Some(int) => int.into(),
        // A number is always a JSON literal; `serde_json` takes each, digit for digit.
        None => number.literal().parse().unwrap_or_else(|_| 0.into()),
    }
}
