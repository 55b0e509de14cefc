//! Expressions (`when`, `check`, `value`, `success_when` …): Rhai in a locked profile, compiled at check time.

use std::ops::Range;

use crate::value::Value;

/// What is wrong with an expression's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Byte range within the expression.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// The smallest mend, where one is known.
    pub help: Option<String>,
}

/// Which names an expression may use at its root.
#[derive(Clone, Debug)]
pub enum Names {
    /// Exactly these; another is a compile error with a did-you-mean.
    Closed(Vec<String>),
    /// These and any other; what is not there fails when it runs.
    Open,
}

/// A compiled expression. Cheap to clone, shared between threads.
#[derive(Clone, Debug)]
pub struct Expression {
    _text: String,
}

/// The values that an expression sees, by name.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    names: Vec<(&'a str, &'a Value)>,
}

impl<'a> Scope<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more name. A later one hides an earlier one.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: &'a Value) -> Self {
        self.names.push((name, value));
        self
    }

    /// With every field of a map as a name.
    #[must_use]
    pub fn with_fields(mut self, value: &'a Value) -> Self {
        if let Some(map) = value.as_map() {
            self.names.extend(map.iter().map(|(name, value)| (name.as_str(), value)));
        }
        self
    }
}

impl Expression {
    /// Compiles, refusing what the profile does not have and names that are not known.
    ///
    /// # Errors
    /// The place and the mend.
    pub fn compile(_text: &str, _names: &Names) -> Result<Self, CompileError> {
        unimplemented!()
    }

    /// The value.
    ///
    /// # Errors
    /// What failed, for a person: an absent field, a type that does not fit, a limit.
    pub fn eval(&self, _scope: &Scope<'_>) -> Result<Value, String> {
        unimplemented!()
    }

    /// The value as a condition.
    ///
    /// # Errors
    /// As [`Expression::eval`], and where it is not a boolean.
    pub fn test(&self, _scope: &Scope<'_>) -> Result<bool, String> {
        unimplemented!()
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self._text
    }
}
