//! What a route gives to an endpoint, as far as the site's files tell it without a message: the fields of the body, what
//! each may hold, and where in the files that is said. An adapter compares it with what its system really has
//! (`gatehouse check --live`). Only what is certain stands here; what is not known is [`Content::Any`].

use std::ops::Range;

use crate::diagnostics::SourceFile;
use crate::path::Step;
use crate::value::Value;

/// The most fields of one outline.
const MAX_FIELDS: usize = 2_000;

/// The deepest that a schema is followed.
const MAX_DEPTH: usize = 12;

/// A place in a file of the site.
#[derive(Clone, Debug)]
pub struct Spot {
    /// The file.
    pub file: SourceFile,
    /// Byte range in it.
    pub span: Range<usize>,
}

/// What one target of a route gives to its endpoint.
#[derive(Clone, Debug)]
pub struct Given {
    /// The endpoint's name within its system.
    pub endpoint: String,
    /// Where the route names it.
    pub at: Spot,
    /// The body.
    pub body: Outline,
}

/// The fields of a body.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// The fields that are known, each before those within it.
    pub fields: Vec<Field>,
    /// Whether there are no others.
    pub closed: bool,
}

/// One field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Where it stands in the body: `customer.no`, `lines[].sku`.
    pub steps: Vec<Step>,
    /// What it may hold.
    pub content: Content,
    /// Whether it is never absent, null or, within a list, missing in an element.
    pub always: bool,
    /// The row of a mapping that makes it; `None` where the canonical body goes as it is.
    pub at: Option<Spot>,
}

/// What a field may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is not known.
    Any,
    /// Text, of at most so many characters where that is said.
    Text(Option<u64>),
    /// A whole number.
    Integer,
    /// A number, with at most so many digits after the point where that is said.
    Decimal(Option<u32>),
    /// True or false.
    Boolean,
    /// A day, written `2026-11-24`.
    Date,
    /// A moment, written `2026-11-24T08:00:00+08:00`.
    Moment,
    /// One of these.
    OneOf(Vec<Value>),
    /// A list.
    List,
    /// An object.
    Map,
}

impl Outline {
    /// The field at a path.
    #[must_use]
    pub fn field(&self, steps: &[Step]) -> Option<&Field> {
        self.fields.iter().find(|field| field.steps == steps)
    }

    /// The fields directly within the one at `steps`, which is the body itself where it is empty, by their names.
    pub fn within<'a>(&'a self, steps: &'a [Step]) -> impl Iterator<Item = (&'a str, &'a Field)> {
        self.fields.iter().filter_map(move |field| match field.steps.strip_prefix(steps)? {
            [Step::Name(name)] => Some((name.as_str(), field)),
            _ => None,
        })
    }

    /// What a JSON Schema says of a body.
    #[must_use]
    pub fn of_schema(schema: &serde_json::Value) -> Self {
        let mut fields = Vec::new();
        let closed = walk(schema, schema, &mut Vec::new(), true, &mut fields, 0);
        Self { closed: closed && fields.len() < MAX_FIELDS, fields }
    }
}

/// Follows a schema's properties; tells whether it names them all.
fn walk(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    at: &mut Vec<Step>,
    always: bool,
    fields: &mut Vec<Field>,
    depth: usize,
) -> bool {
    let schema = resolve(root, schema);
    if depth > MAX_DEPTH || fields.len() >= MAX_FIELDS {
        return false;
    }
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known.as_str() == Some(name)))
    };
    let mut closed = schema["additionalProperties"] == serde_json::Value::Bool(false);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let property = resolve(root, property);
        let (content, nullable) = content(property);
        at.push(Step::Name(name.clone()));
        let always = always && required(name) && !nullable;
        let list = content == Content::List;
        fields.push(Field { steps: at.clone(), content, always, at: None });
        if list {
            at.push(Step::Each);
            closed &= walk(root, &property["items"], at, true, fields, depth + 1);
            at.pop();
        } else if property["properties"].is_object() {
            closed &= walk(root, property, at, always, fields, depth + 1);
        }
        at.pop();
    }
    closed
}

/// The schema that a reference within the same file stands for.
fn resolve<'a>(root: &'a serde_json::Value, schema: &'a serde_json::Value) -> &'a serde_json::Value {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// What a property may hold, and whether it may be null.
fn content(property: &serde_json::Value) -> (Content, bool) {
    let mut words: Vec<&str> = match &property["type"] {
        serde_json::Value::String(word) => vec![word],
        serde_json::Value::Array(words) => words.iter().filter_map(serde_json::Value::as_str).collect(),
        _ => Vec::new(),
    };
    let before = words.len();
    words.retain(|word| *word != "null");
    let mut nullable = words.len() < before;
    let constant = property.get("const").map(std::slice::from_ref);
    if let Some(values) = property["enum"].as_array().map(Vec::as_slice).or(constant) {
        nullable |= values.contains(&serde_json::Value::Null);
        let values = values.iter().filter(|value| !value.is_null());
        let decode = |value: &serde_json::Value| {
            crate::json::decode(value.to_string().as_bytes(), &crate::limits::BodyLimits::default()).ok()
        };
        return (values.map(decode).collect::<Option<_>>().map_or(Content::Any, Content::OneOf), nullable);
    }
    let content = match words.as_slice() {
        ["string"] => match property["format"].as_str() {
            Some("date") => Content::Date,
            Some("date-time") => Content::Moment,
            _ => Content::Text(property["maxLength"].as_u64()),
        },
        ["integer"] => Content::Integer,
        ["number"] => Content::Decimal(digits_of(&property["multipleOf"])),
        ["boolean"] => Content::Boolean,
        ["array"] => Content::List,
        ["object"] => Content::Map,
        _ => Content::Any,
    };
    // Without a word it may be null as well as anything else.
    (content, nullable || before == 0)
}

/// The digits after the point that `multipleOf: 0.01` allows.
fn digits_of(multiple: &serde_json::Value) -> Option<u32> {
    let text = multiple.as_number()?.to_string();
    let (whole, digits) = text.split_once('.').unwrap_or((&text, ""));
    let plain = whole.bytes().chain(digits.bytes()).all(|byte| byte.is_ascii_digit());
    plain.then(|| u32::try_from(digits.trim_end_matches('0').len()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_tells_its_fields() {
        let schema: serde_json::Value = serde_json::from_str(
            r##"{ "type": "object", "additionalProperties": false, "required": ["no", "lines"], "$defs": { "money": { "type": "number", "multipleOf": 0.01 } },
            "properties": {
              "no": { "type": "string", "maxLength": 40 },
              "amount": { "$ref": "#/$defs/money" },
              "paid": { "type": ["string", "null"], "format": "date-time" },
              "state": { "enum": ["open", "shut", null] },
              "lines": { "type": "array", "items": { "type": "object", "required": ["sku"], "additionalProperties": false, "properties": { "sku": { "type": "string" }, "qty": { "type": "integer" } } } },
              "buyer": { "type": "object", "properties": { "vip": { "type": "boolean" } } }
            } }"##,
        )
        .unwrap();
        let outline = Outline::of_schema(&schema);
        let told = |text: &str| {
            let field = outline.field(crate::path::Path::parse(text).unwrap().steps()).unwrap();
            (field.content.clone(), field.always)
        };
        assert_eq!(told("no"), (Content::Text(Some(40)), true));
        assert_eq!(told("amount"), (Content::Decimal(Some(2)), false));
        assert_eq!(told("paid"), (Content::Moment, false));
        assert_eq!(told("state"), (Content::OneOf(vec![Value::from("open"), Value::from("shut")]), false));
        assert_eq!(told("lines"), (Content::List, true));
        assert_eq!(told("lines[].sku"), (Content::Text(None), true));
        assert_eq!(told("lines[].qty"), (Content::Integer, false));
        assert_eq!(told("buyer.vip"), (Content::Boolean, false));
        assert!(!outline.closed, "the buyer may have other fields");
        let names: Vec<_> = outline.within(&[]).map(|(name, _)| name).collect();
        assert_eq!(names, ["no", "amount", "paid", "state", "lines", "buyer"]);
    }
}
