//! Mapping tables: rows of source field → target field, compiled once, run natively.
//!
//! [`file`] reads and compiles a table, [`namespaces`] its prefixes, [`run`] applies it, [`convert`] holds its types and
//! [`clean`] its cleaning words. Expressions are used only by rows that have one.

mod clean;
mod convert;
mod file;
mod namespaces;
mod outline;
mod run;

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{Schema, schema_for};

use crate::diagnostics::{Problems, SourceFile};
use crate::expr::{Expression, Scope};
use crate::fault::Violation;
use crate::path::Step;
use crate::value::Value;
use crate::xml::{Element, WantedNames};

pub use clean::CLEANERS;
pub use convert::TYPES;
pub use file::{MappingFile, RowFile};

use clean::Clean;
use convert::Kind;

/// A compiled mapping table.
#[derive(Clone, Debug)]
pub struct Mapping {
    name: Arc<str>,
    to: Option<String>,
    rows: Vec<Row>,
    /// The names with a namespace that its rows read.
    wanted: WantedNames,
    file: SourceFile,
}

/// A compiled row.
#[derive(Clone, Debug)]
struct Row {
    /// For people: `row 7 (`items[].num` → `lines[].qty`)`.
    label: String,
    /// Byte range of its `to` in the file.
    at: std::ops::Range<usize>,
    to: Vec<Step>,
    from: Option<Vec<Step>>,
    value: Option<Expression>,
    required: bool,
    kind: Kind,
    default: Option<Value>,
    values: Option<Vec<(String, Value)>>,
    otherwise: Otherwise,
    clean: Vec<Clean>,
    check: Option<Expression>,
    sensitive: bool,
    examples: Vec<(String, String)>,
}

/// What becomes of a value that the row's `values` do not name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Otherwise {
    Reject,
    Keep,
    Null,
    Literal(Value),
}

/// How one example of one row went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleResult {
    /// Which row, and the example's source text.
    pub row: String,
    /// What is not as the example says.
    pub failure: Option<String>,
}

impl Mapping {
    /// Reads and compiles a mapping file (`mappings/NAME.yaml`); every problem goes to `problems`.
    pub fn compile(file: &SourceFile, problems: &mut Problems) -> Option<Self> {
        file::compile(file, problems)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its `to:` says: the canonical type it makes, where it makes one.
    #[must_use]
    pub fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// Whether a row reads a name with a namespace: then it needs the document that the source was read from.
    #[must_use]
    pub fn reads_namespaces(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether a row writes a name with a namespace: then what it makes is XML.
    #[must_use]
    pub fn writes_namespaces(&self) -> bool {
        self.rows.iter().any(|row| namespaces::is_qualified(&row.to))
    }

    /// As [`Mapping::apply`], for a source that was read from an XML document: rows find its names with namespaces too.
    ///
    /// # Errors
    /// As [`Mapping::apply`].
    pub fn apply_to(
        &self,
        source: &Value,
        document: Option<&Element>,
        extra: &Scope<'_>,
    ) -> Result<Value, Vec<Violation>> {
        self.apply(&self.seen(source, document), extra)
    }

    /// What this mapping reads of a source: with the names of `document` that it asks for. Rows find them there without it.
    #[must_use]
    pub fn seen<'a>(&self, source: &'a Value, document: Option<&Element>) -> Cow<'a, Value> {
        namespaces::seen(source, document, &self.wanted)
    }

    /// Shapes `source`. `extra` holds further names that `value` expressions see (`meta`).
    ///
    /// # Errors
    /// Every row that failed, with source path, value (cut; masked where the row is sensitive) and reason.
    pub fn apply(&self, source: &Value, extra: &Scope<'_>) -> Result<Value, Vec<Violation>> {
        run::apply(&self.rows, source, extra)
    }

    /// Runs the examples of every row, each row alone.
    #[must_use]
    pub fn run_examples(&self) -> Vec<ExampleResult> {
        self.rows.iter().flat_map(run::examples).collect()
    }
}

/// The JSON Schema of a mapping file, for editors.
#[must_use]
pub fn json_schema() -> Schema {
    schema_for!(MappingFile)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod namespaces_tests;
