//! Types: JSON Schema 2020-12 files under `types/`, compiled once; errors carry JSON Pointers.

use std::sync::Arc;

use crate::diagnostics::{Problems, SourceFile};
use crate::fault::Violation;
use crate::value::Value;

/// A canonical type.
#[derive(Clone, Debug)]
pub struct Type {
    name: Arc<str>,
}

impl Type {
    /// Compiles `types/NAME.schema.json`; what is wrong goes to `problems`.
    pub fn compile(_name: &str, _file: &SourceFile, _problems: &mut Problems) -> Option<Self> {
        unimplemented!()
    }

    /// Its name: `order.paid`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `$id` or `name@version`, for CloudEvents `dataschema`.
    #[must_use]
    pub fn data_schema(&self) -> Option<&str> {
        unimplemented!()
    }

    /// The names of the properties at its root, where it closes them; expressions are checked against these.
    #[must_use]
    pub fn root_names(&self) -> Option<Vec<String>> {
        unimplemented!()
    }

    /// Judges a body.
    ///
    /// # Errors
    /// Everything that is wrong, each with its JSON Pointer; at most 50.
    pub fn validate(&self, _body: &Value) -> Result<(), Vec<Violation>> {
        unimplemented!()
    }
}
