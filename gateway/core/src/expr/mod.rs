//! Expressions (`when`, `check`, `value`, `success_when` …): [Rhai](https://rhai.rs) in a locked profile, compiled at
//! check time.
//!
//! The profile has no loops, functions, statements, modules, eval or print; numbers are exact decimals; an absent field
//! is an error unless `?.` or `??` says that it may be absent. [`engine`] is the profile, [`reads`] finds what an
//! expression looks at (so that only that is handed to it), [`convert`] goes between values and Rhai's.

mod convert;
mod engine;
mod functions;
mod reads;

use std::ops::Range;
use std::sync::Arc;

use rhai::{AST, Dynamic, EvalAltResult, Position};

use crate::diagnostics::closest;
use crate::reading::Reading;
use crate::value::Value;
use reads::{Access, Reads};

pub use functions::FUNCTIONS;

/// The longest expression, in bytes.
const MAX_TEXT: usize = 4096;

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
    /// Any; what is not there fails when it runs.
    Open,
}

/// A compiled expression. Cheap to clone, shared between threads.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    ast: AST,
    reads: Vec<(String, Access)>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Expression({:?})", self.0.text)
    }
}

/// The values that an expression sees, by name.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    names: Vec<(&'a str, &'a Value)>,
    fields: Option<&'a Value>,
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

    /// With every field of a map as a name, behind those given by [`Scope::with`].
    #[must_use]
    pub fn with_fields(mut self, value: &'a Value) -> Self {
        self.fields = Some(value);
        self
    }

    fn find(&self, name: &str) -> Option<&'a Value> {
        let named = self.names.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value);
        named.or_else(|| self.fields.and_then(|fields| fields.field(name)))
    }
}

impl Expression {
    /// Compiles, refusing what the profile does not have and names that are not known.
    ///
    /// # Errors
    /// The place and the mend.
    pub fn compile(text: &str, names: &Names) -> Result<Self, CompileError> {
        if text.len() > MAX_TEXT {
            let message = format!("an expression has at most {MAX_TEXT} bytes");
            return Err(CompileError { span: 0..text.len(), message, help: None });
        }
        let ast = engine::compile(text).map_err(|error| {
            let at = offset(text, error.position());
            CompileError { span: at..word_end(text, at), message: engine::parse_message(&error), help: None }
        })?;
        let reads = Reads::of(&ast);
        if let Some((position, what)) = &reads.refused {
            let at = offset(text, *position);
            return Err(CompileError { span: at..word_end(text, at), message: what.clone(), help: None });
        }
        for (name, position) in &reads.functions {
            if !FUNCTIONS.iter().any(|(known, _)| known == name) {
                let at = offset(text, *position);
                let help = closest(name, FUNCTIONS.iter().map(|(known, _)| *known))
                    .map(|known| format!("did you mean `{known}`?"));
                return Err(CompileError {
                    span: at..word_end(text, at),
                    message: format!("there is no function `{name}`"),
                    help,
                });
            }
        }
        if let Names::Closed(known) = names {
            for (name, position) in &reads.roots {
                if !known.contains(name) {
                    let at = offset(text, *position);
                    let help =
                        closest(name, known.iter().map(String::as_str)).map(|known| format!("did you mean `{known}`?"));
                    let help =
                        help.or_else(|| Some(format!("there are: {}", known.join(", "))).filter(|_| !known.is_empty()));
                    return Err(CompileError {
                        span: at..at + name.len(),
                        message: format!("there is no `{name}` here"),
                        help,
                    });
                }
            }
        }
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), ast, reads: reads.accesses })))
    }

    /// The value.
    ///
    /// # Errors
    /// What failed, for a person: an absent field, a type that does not fit, a limit.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        convert::to_value(self.run(scope)?)
    }

    /// The value as a condition.
    ///
    /// # Errors
    /// As [`Expression::eval`], and where it is not a boolean.
    pub fn test(&self, scope: &Scope<'_>) -> Result<bool, String> {
        let outcome = self.run(scope)?;
        outcome.as_bool().map_err(|kind| format!("it is {}, not true or false", convert::kind(kind)))
    }

    fn run(&self, scope: &Scope<'_>) -> Result<Dynamic, String> {
        let mut inner = rhai::Scope::new();
        for (name, access) in &self.0.reads {
            match scope.find(name) {
                Some(value) => inner.push_constant_dynamic(name.as_str(), convert::to_dynamic(value, access)?),
                None if access.optional => inner.push_constant_dynamic(name.as_str(), Dynamic::UNIT),
                None => return Err(format!("there is no `{name}`; write `{name} ?? …` where it may be absent")),
            };
        }
        engine::shared().eval_ast_with_scope(&mut inner, &self.0.ast).map_err(|error| run_message(&error))
    }

    /// Whether it looks at `name`, or below it.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.0.reads.iter().any(|(known, _)| known == name)
    }

    /// Adds what it looks at to what is read, but what is below a name of `own`.
    pub fn read_into(&self, reading: &mut Reading, own: &[&str]) {
        for (name, access) in self.0.reads.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            access.read_into(reading.field(name));
        }
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }
}

/// Why a run failed, for a person.
fn run_message(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorPropertyNotFound(name, _) => {
            format!("there is no field `{name}`; write `?.{name}` where it may be absent")
        }
        EvalAltResult::ErrorVariableNotFound(name, _) => format!("there is no `{name}`"),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => convert::signature(signature),
        EvalAltResult::ErrorDotExpr(what, _) if what.is_empty() => {
            "it looks for a field where there is no object".to_owned()
        }
        EvalAltResult::ErrorTooManyOperations(_) => "it takes too long".to_owned(),
        EvalAltResult::ErrorRuntime(text, _) => text.to_string(),
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => run_message(inner),
        other => {
            let mut other = other.to_string();
            if let Some(at) = other.rfind(" (line ") {
                other.truncate(at);
            }
            other
        }
    }
}

/// The byte offset of a Rhai position; the start where it has none.
fn offset(text: &str, position: Position) -> usize {
    let (Some(line), Some(column)) = (position.line(), position.position()) else { return 0 };
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].find('\n').map_or(0, |at| at + 1);
    }
    text[start..].char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| start + at)
}

/// The end of the word that begins at an offset.
fn word_end(text: &str, at: usize) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let rest = &text[at..];
    let first = rest.chars().next().map_or(0, char::len_utf8);
    at + rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(first)
}

#[cfg(test)]
mod tests;
