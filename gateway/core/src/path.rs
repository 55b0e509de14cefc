//! Paths into values, the same for JSON and XML: `lines[].sku`, `items[0].code`, `@currency`, `#text`.

use crate::value::Value;

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A name.
    Name(String),
    /// `[]`: every element; what is no list is a list of one.
    Each,
    /// `[n]`: one element, from 0.
    Index(usize),
}

impl Path {
    /// Reads a path. A name with a dot or bracket in it is written in backticks or quotes: `Z_X."Response.1"`.
    ///
    /// # Errors
    /// Byte offset and reason.
    pub fn parse(_text: &str) -> Result<Self, (usize, String)> {
        unimplemented!()
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The one value there, for a path without `[]`; absent is `None`.
    #[must_use]
    pub fn find<'a>(&self, _value: &'a Value) -> Option<&'a Value> {
        unimplemented!()
    }
}
