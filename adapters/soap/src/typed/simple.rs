//! Texts of simple types: atomic, list and union, with their facets.

use gatehouse_core::Value;

use crate::xsd::{Kind, Schemas, Simple, Type, TypeId, Variety};

/// How deep unions and lists may be made of each other.
const MAX_DEPTH: usize = 8;

/// A text as a value of a simple type.
///
/// # Errors
/// What is wrong with it, to follow its name.
pub(super) fn read(schemas: &Schemas, ty: TypeId, text: &str) -> Result<Value, String> {
    at_depth(schemas, ty, MAX_DEPTH, &|schemas, ty, depth| read_of(schemas, ty, text, depth))
}

/// A value as text of a simple type.
///
/// # Errors
/// What is wrong with it, to follow its name.
pub(super) fn write(schemas: &Schemas, ty: TypeId, value: &Value) -> Result<String, String> {
    at_depth(schemas, ty, MAX_DEPTH, &|schemas, ty, depth| write_of(schemas, ty, value, depth))
}

type Step<'a, T> = &'a dyn Fn(&Schemas, &Simple, usize) -> Result<T, String>;

fn at_depth<T>(schemas: &Schemas, ty: TypeId, depth: usize, step: Step<'_, T>) -> Result<T, String> {
    match schemas.ty(ty) {
        Type::Simple(simple) if depth > 0 => step(schemas, simple, depth - 1),
        _ => Err("is of a type that is no text".to_owned()),
    }
}

fn read_of(schemas: &Schemas, simple: &Simple, text: &str, depth: usize) -> Result<Value, String> {
    let collapsed;
    let text = if simple.facets.collapse {
        collapsed = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        &collapsed
    } else {
        text
    };
    let value = match &simple.variety {
        Variety::Atomic(kind) => kind.read(text).map_err(|error| with_text(text, &error, *kind))?,
        Variety::List(item) => {
            let one =
                |text: &str| at_depth(schemas, *item, depth, &|schemas, ty, depth| read_of(schemas, ty, text, depth));
            Value::List(text.split_ascii_whitespace().map(one).collect::<Result<_, _>>()?)
        }
        Variety::Union(members) => {
            let one =
                |ty: &TypeId| at_depth(schemas, *ty, depth, &|schemas, ty, depth| read_of(schemas, ty, text, depth));
            members
                .iter()
                .find_map(|ty| one(ty).ok())
                .ok_or_else(|| format!("`{}` fits none of its types", super::shown(text)))?
        }
    };
    let lexical = value.as_text().unwrap_or_else(|| text.trim_ascii());
    simple.facets.check(lexical, &value).map_err(|error| format!("`{}` {error}", super::shown(text)))?;
    Ok(value)
}

fn write_of(schemas: &Schemas, simple: &Simple, value: &Value, depth: usize) -> Result<String, String> {
    let text = match &simple.variety {
        Variety::Atomic(kind) => kind.write(value).map_err(|error| match value.to_plain_text() {
            Some(text) if !error.contains(" where ") => with_text(&text, &error, *kind),
            _ => error,
        })?,
        Variety::List(item) => {
            let one = |value: &Value| {
                at_depth(schemas, *item, depth, &|schemas, ty, depth| write_of(schemas, ty, value, depth))
            };
            match value {
                Value::List(items) => items.iter().map(one).collect::<Result<Vec<_>, _>>()?.join(" "),
                other => one(other)?,
            }
        }
        Variety::Union(members) => {
            let one =
                |ty: &TypeId| at_depth(schemas, *ty, depth, &|schemas, ty, depth| write_of(schemas, ty, value, depth));
            members.iter().find_map(|ty| one(ty).ok()).ok_or("fits none of its types")?
        }
    };
    // Judged as the reader will see it.
    read_of(schemas, simple, &text, depth + 1)?;
    Ok(text)
}

fn with_text(text: &str, error: &str, kind: Kind) -> String {
    match text.trim_ascii() {
        "" => format!("is empty where {} is due", kind.noun()),
        text => format!("`{}` {error}", super::shown(text)),
    }
}
