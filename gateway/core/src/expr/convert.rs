//! Between [`Value`] and Rhai's values, by hand: digits survive, and only what an expression looks at is copied.

use rhai::{Array, Dynamic, Map as RhaiMap};
use rust_decimal::Decimal;

use super::reads::Access;
use crate::number::Number;
use crate::value::{Map, Value};

/// Copies what `access` looks at.
pub(super) fn to_dynamic(value: &Value, access: &Access) -> Result<Dynamic, String> {
    if access.whole || access.fields.is_empty() {
        let mut all = whole(value)?;
        allow_absent(&mut all, access);
        return Ok(all);
    }
    let Value::Map(map) = value else { return whole(value) };
    let mut part = RhaiMap::new();
    for (name, inner) in &access.fields {
        match map.get(name) {
            Some(value) => {
                part.insert(name.as_str().into(), to_dynamic(value, inner)?);
            }
            None if inner.optional => {
                part.insert(name.as_str().into(), Dynamic::UNIT);
            }
            None => {}
        }
    }
    Ok(Dynamic::from_map(part))
}

/// Puts null where something may be absent and is, in a value that is needed whole too.
fn allow_absent(value: &mut Dynamic, access: &Access) {
    if access.fields.is_empty() {
        return;
    }
    let Some(mut map) = value.write_lock::<RhaiMap>() else { return };
    for (name, inner) in &access.fields {
        match map.get_mut(name.as_str()) {
            Some(value) => allow_absent(value, inner),
            None if inner.optional => drop(map.insert(name.as_str().into(), Dynamic::UNIT)),
            None => {}
        }
    }
}

fn whole(value: &Value) -> Result<Dynamic, String> {
    Ok(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => Dynamic::from_bool(*flag),
        // A number beyond 28 digits is an id, not an amount: it is compared as text.
        Value::Number(number) => number.to_decimal().map_or_else(|| number.to_string().into(), Dynamic::from_decimal),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => Dynamic::from_array(list.iter().map(whole).collect::<Result<Array, _>>()?),
        Value::Map(map) => {
            let pairs = map.iter().map(|(name, value)| Ok((name.as_str().into(), whole(value)?)));
            Dynamic::from_map(pairs.collect::<Result<RhaiMap, String>>()?)
        }
    })
}

/// The value that an expression came to.
pub(super) fn to_value(dynamic: Dynamic) -> Result<Value, String> {
    if dynamic.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = dynamic.as_bool() {
        return Ok(Value::Bool(flag));
    }
    if let Ok(decimal) = dynamic.as_decimal() {
        return Ok(Value::Number(Number::from(decimal)));
    }
    if let Ok(int) = dynamic.as_int() {
        return Ok(Value::Number(Number::from(int)));
    }
    if let Ok(c) = dynamic.as_char() {
        return Ok(Value::Text(c.to_string()));
    }
    if dynamic.is_string() {
        return dynamic.into_string().map(Value::Text).map_err(|kind| kind.to_owned());
    }
    if dynamic.is_array() {
        let list = dynamic.into_array().map_err(|kind| kind.to_owned())?;
        return list.into_iter().map(to_value).collect::<Result<_, _>>().map(Value::List);
    }
    let kind = dynamic.type_name();
    if let Some(map) = dynamic.try_cast::<RhaiMap>() {
        let pairs = map.into_iter().map(|(name, value)| Ok((name.to_string(), to_value(value)?)));
        return pairs.collect::<Result<Map, String>>().map(Value::Map);
    }
    Err(format!("{kind} is no value"))
}

/// Whether two values are the same to a person: numbers by amount, whatever their digits.
pub(super) fn same(a: &Dynamic, b: &Dynamic) -> bool {
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return a == b;
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return *a == *b;
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return a == b;
    }
    a.is_unit() && b.is_unit()
}

/// A number as a decimal.
pub(super) fn number(dynamic: &Dynamic) -> Option<Decimal> {
    dynamic.as_decimal().ok().or_else(|| dynamic.as_int().ok().map(Decimal::from))
}

/// Rhai's type names in words.
pub(super) fn kind(name: &str) -> &str {
    match name {
        "string" | "&str" | "ImmutableString" => "text",
        "decimal" | "i64" => "a number",
        "bool" => "true or false",
        "array" => "a list",
        "map" => "an object",
        "()" => "null",
        other => other,
    }
}

/// `> (string, decimal)` in words.
pub(super) fn signature(signature: &str) -> String {
    let (name, arguments) = signature.split_once('(').unwrap_or((signature, ""));
    let kinds: Vec<_> = arguments
        .trim_end_matches(')')
        .split(", ")
        .map(|word| kind(word.rsplit("::").next().unwrap_or(word)))
        .collect();
    format!("`{}` does not go with {}", name.trim(), kinds.join(" and "))
}
