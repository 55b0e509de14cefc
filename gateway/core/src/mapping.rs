//! Mapping tables: rows of source field → target field, compiled once, run natively.

use std::sync::Arc;

use crate::diagnostics::{Problems, SourceFile};
use crate::expr::Scope;
use crate::fault::Violation;
use crate::value::Value;

/// A compiled mapping table.
#[derive(Clone, Debug)]
pub struct Mapping {
    name: Arc<str>,
}

impl Mapping {
    /// Reads and compiles a mapping file (`mappings/NAME.yaml`); every problem goes to `problems`.
    pub fn compile(_file: &SourceFile, _problems: &mut Problems) -> Option<Self> {
        unimplemented!()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its `to:` says: the canonical type it makes, where it makes one.
    #[must_use]
    pub fn to(&self) -> Option<&str> {
        unimplemented!()
    }

    /// Shapes `source`. `extra` holds further names that `value` and `check` expressions see (`meta`).
    ///
    /// # Errors
    /// Every row that failed, with source path, value (cut; masked where the row is sensitive) and reason.
    pub fn apply(&self, _source: &Value, _extra: &Scope<'_>) -> Result<Value, Vec<Violation>> {
        unimplemented!()
    }
}
