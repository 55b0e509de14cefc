//! Paths into values, the same for JSON and XML: `lines[].sku`, `items[0].code`, `@currency`, `#text`.
//!
//! A path only finds; the mapping is what builds values at paths.

use std::fmt;

use crate::value::Value;

/// The most steps of a path.
const MAX_STEPS: usize = 32;

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
    /// `[n]`: one element, from 0; what is no list is a list of one.
    Index(usize),
}

impl Path {
    /// Reads a path. A name with a dot or bracket in it is written in backticks: ``Z_X.`Response.1`.RETURN``.
    ///
    /// # Errors
    /// Byte offset and reason.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        Self::parse_with(text, str::to_owned)
    }

    /// As [`Path::parse`], with each name that is not in backticks as `expand` gives it.
    pub(crate) fn parse_with(text: &str, mut expand: impl FnMut(&str) -> String) -> Result<Self, (usize, String)> {
        let mut steps = Vec::new();
        let mut at = 0;
        loop {
            let rest = &text[at..];
            let name_end = if let Some(quoted) = rest.strip_prefix('`') {
                let close = quoted.find('`').ok_or_else(|| (at, "the backtick is not closed".to_owned()))?;
                steps.push(Step::Name(quoted[..close].to_owned()));
                close + 2
            } else {
                let end = rest.find(['.', '[', ']', '`']).unwrap_or(rest.len());
                steps.push(Step::Name(expand(&rest[..end])));
                end
            };
            if let Some(Step::Name(name)) = steps.last()
                && (name.trim().is_empty() || name.trim() != name)
            {
                return Err((at, "a name is missing here, or has spaces around it".to_owned()));
            }
            at += name_end;
            while text[at..].starts_with('[') {
                let inside = &text[at + 1..];
                let close = inside.find(']').ok_or_else(|| (at, "the bracket is not closed".to_owned()))?;
                let step = match &inside[..close] {
                    "" => Step::Each,
                    digits => Step::Index(
                        digits.parse().map_err(|_| (at + 1, "expected `[]` or a number from 0".to_owned()))?,
                    ),
                };
                steps.push(step);
                at += close + 2;
            }
            if steps.len() > MAX_STEPS {
                return Err((at, format!("a path has at most {MAX_STEPS} steps")));
            }
            match text[at..].chars().next() {
                None => return Ok(Self { steps }),
                Some('.') => at += 1,
                Some(_) => return Err((at, "expected `.`, `[` or the end".to_owned())),
            }
        }
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many `[]` it has.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.steps.iter().filter(|step| **step == Step::Each).count()
    }

    /// The one value there, for a path without `[]` (with one, the first element); absent is `None`.
    #[must_use]
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        find(&self.steps, value)
    }
}

/// The one value at the end of some steps.
pub(crate) fn find<'a>(steps: &[Step], value: &'a Value) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match (step, value) {
        // An XML element that turned out to be plain text has itself as its text.
        (Step::Name(name), Value::Text(_)) if name == "#text" => Some(value),
        (Step::Name(name), value) => value.field(name),
        (Step::Each, Value::List(list)) => list.first(),
        (Step::Index(index), Value::List(list)) => list.get(*index),
        (Step::Each | Step::Index(0), value) => Some(value),
        (Step::Index(_), _) => None,
    })
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Name(name) => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    let quote = if name.contains(['.', '[', ']']) { "`" } else { "" };
                    write!(f, "{quote}{name}{quote}")?;
                }
                Step::Each => f.write_str("[]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_written() {
        for text in [
            "a",
            "a.b",
            "lines[].sku",
            "items[0].code",
            "a.@currency",
            "a.#text",
            "`Z_X.Response`.RETURN",
            "客户.编号",
            "m[][]",
        ] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_paths_say_where() {
        for (text, at) in
            [("", 0), ("a.", 2), (".a", 0), ("a[", 1), ("a[x]", 2), ("a]b", 1), ("a[0]b", 4), ("`a", 0), ("a. b", 2)]
        {
            assert_eq!(Path::parse(text).unwrap_err().0, at, "{text}");
        }
    }

    #[test]
    fn one_value_is_a_list_of_one() {
        let value: Value = [("item", Value::from("x"))].into_iter().collect();
        for path in ["item", "item[0]", "item[]", "item.#text"] {
            assert_eq!(Path::parse(path).unwrap().find(&value), Some(&Value::from("x")), "{path}");
        }
        assert_eq!(Path::parse("item[1]").unwrap().find(&value), None);
    }
}
