//! Types: JSON Schema 2020-12 files under `types/`, compiled once; errors carry JSON Pointers.
//!
//! Formats are judged, references outside the file are refused. A property with `"x-sensitive": true` is masked in
//! errors.

use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;

use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::fault::Violation;
use crate::outline::Outline;
use crate::value::Value;

mod judged;

use judged::Canonical;

/// The most violations that are told.
const MAX_VIOLATIONS: usize = 50;

/// The most characters of one violation's text.
const MAX_TEXT: usize = 300;

/// A canonical type.
#[derive(Clone)]
pub struct Type {
    name: Arc<str>,
    data_schema: Option<String>,
    root_names: Option<Vec<String>>,
    sensitive: Vec<Vec<String>>,
    outline: Arc<Outline>,
    /// `None`: every body is of it.
    validator: Option<Arc<Validator<Canonical>>>,
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Type({})", self.name)
    }
}

impl Type {
    /// Compiles `types/NAME.schema.json`; what is wrong goes to `problems`.
    pub fn compile(name: &str, file: &SourceFile, problems: &mut Problems) -> Option<Self> {
        let schema: serde_json::Value = match serde_json::from_str(file.text()) {
            Ok(schema) => schema,
            Err(error) => {
                let at = offset(file.text(), error.line(), error.column());
                problems.push(Problem::error("bad-json", file, at..at, format!("this is no JSON: {error}")));
                return None;
            }
        };
        let compiled = jsonschema::options_for::<Canonical>()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .build(&schema);
        let validator = match compiled {
            Ok(validator) => validator,
            Err(error) => {
                // The keyword that is wrong is found by its name; a pointer tells the rest.
                let pointer = error.instance_path().to_string();
                let keyword = pointer.rsplit('/').next().unwrap_or("");
                let at = file.text().find(&format!("\"{keyword}\"")).unwrap_or(0);
                let text = format!("this is no JSON Schema: {} at `{pointer}`", shorten(&error.to_string()));
                problems.push(Problem::error("bad-schema", file, at..at + keyword.len(), text));
                return None;
            }
        };
        let closed = schema["additionalProperties"] == serde_json::Value::Bool(false);
        let names = || schema["properties"].as_object().map(|map| map.keys().cloned().collect());
        let mut sensitive = Vec::new();
        find_sensitive(&schema, &mut Vec::new(), &mut sensitive, 0);
        Some(Self {
            name: name.into(),
            data_schema: schema["$id"].as_str().map(str::to_owned),
            root_names: if closed { names() } else { None },
            sensitive,
            outline: Arc::new(Outline::of_schema(&schema)),
            validator: Some(Arc::new(validator)),
        })
    }

    /// A type that every body is of.
    #[must_use]
    pub fn any(name: &str) -> Self {
        Self {
            name: name.into(),
            data_schema: None,
            root_names: None,
            sensitive: Vec::new(),
            outline: Arc::new(Outline::default()),
            validator: None,
        }
    }

    /// Its name: `order.paid`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `$id`, for CloudEvents `dataschema`.
    #[must_use]
    pub fn data_schema(&self) -> Option<&str> {
        self.data_schema.as_deref()
    }

    /// The names of the properties at its root, where it closes them (`additionalProperties: false`); expressions over
    /// the body are checked against these.
    #[must_use]
    pub fn root_names(&self) -> Option<Vec<String>> {
        self.root_names.clone()
    }

    /// The fields that it names.
    #[must_use]
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// Judges a body.
    ///
    /// # Errors
    /// Everything that is wrong, each with its JSON Pointer; at most 50.
    pub fn validate(&self, body: &Value) -> Result<(), Vec<Violation>> {
        let Some(validator) = self.validator.as_ref().filter(|validator| !validator.is_valid(body)) else {
            return Ok(());
        };
        let told = |error: jsonschema::ValidationError<'_>| {
            let pointer = error.instance_path().to_string();
            let text = if self.is_sensitive(&pointer) { error.masked().to_string() } else { error.to_string() };
            Violation { pointer, message: shorten(&text) }
        };
        Err(validator.iter_errors(body).take(MAX_VIOLATIONS).map(told).collect())
    }

    fn is_sensitive(&self, pointer: &str) -> bool {
        let steps: Vec<_> = pointer.split('/').skip(1).collect();
        let covers = |pattern: &Vec<String>| {
            // An error at the root or above a sensitive value shows the value too.
            let shared = pattern.len().min(steps.len());
            pattern.iter().zip(&steps).take(shared).all(|(pattern, step)| pattern == "*" || pattern == step)
        };
        self.sensitive.iter().any(covers)
    }
}

/// The paths of the properties that say `x-sensitive`; `*` stands for any element of a list.
fn find_sensitive(schema: &serde_json::Value, at: &mut Vec<String>, found: &mut Vec<Vec<String>>, depth: usize) {
    if depth > 32 {
        return;
    }
    if schema["x-sensitive"] == serde_json::Value::Bool(true) {
        found.push(at.clone());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        at.push(name.clone());
        find_sensitive(property, at, found, depth + 1);
        at.pop();
    }
    if schema["items"].is_object() {
        at.push("*".to_owned());
        find_sensitive(&schema["items"], at, found, depth + 1);
        at.pop();
    }
}

/// The byte offset of a line and a column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_TEXT {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(MAX_TEXT).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Number;

    const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:order.paid:1", "type": "object",
  "properties": {
    "orderNo": { "type": "string", "minLength": 1 },
    "amount": { "type": "number", "exclusiveMinimum": 12345678901234567.88 },
    "phone": { "type": "string", "pattern": "^\\+86", "x-sensitive": true },
    "day": { "type": "string", "format": "date" },
    "lines": { "type": "array", "items": { "type": "object", "properties": { "qty": { "type": "number" } } } }
  },
  "required": ["orderNo"], "additionalProperties": false }"#;

    fn compile(text: &str) -> Result<Type, String> {
        let mut problems = Problems::new();
        let kind = Type::compile("order.paid", &SourceFile::new("types/order.paid.schema.json", text), &mut problems);
        kind.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.place(), p.message)).collect())
    }

    fn number(text: &str) -> Value {
        Number::parse(text).unwrap().into()
    }

    #[test]
    fn a_body_is_judged_exactly_with_pointers() {
        let kind = compile(SCHEMA).unwrap();
        assert_eq!(kind.root_names().unwrap().len(), 5);
        let good: Value =
            [("orderNo", Value::from("1")), ("amount", number("12345678901234567.89"))].into_iter().collect();
        assert_eq!(kind.validate(&good), Ok(()));
        let line: Value = [("qty", Value::from("two"))].into_iter().collect();
        let bad: Value = [
            ("amount", number("12345678901234567.88")),
            ("phone", Value::from("13800138000")),
            ("day", Value::from("2026-02-30")),
            ("lines", Value::List(vec![line])),
            ("extra", Value::Null),
        ]
        .into_iter()
        .collect();
        let violations = kind.validate(&bad).unwrap_err();
        for pointer in ["", "/amount", "/phone", "/day", "/lines/0/qty"] {
            assert!(violations.iter().any(|v| v.pointer == pointer), "{pointer}: {violations:?}");
        }
        assert!(violations.iter().all(|v| !v.message.contains("13800138000")), "{violations:?}");
    }

    #[test]
    fn a_file_that_is_no_schema_says_where() {
        assert!(compile("{\n \"type\": \n").unwrap_err().starts_with("types/order.paid.schema.json:3:"));
        let told = compile("{\n  \"type\": \"objct\"\n}").unwrap_err();
        assert!(told.starts_with("types/order.paid.schema.json:2:3: this is no JSON Schema"), "{told}");
        assert!(compile("{ \"$ref\": \"http://127.0.0.1:1/x\" }").is_err(), "nothing is fetched");
    }
}
