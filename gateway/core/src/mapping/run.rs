//! Applying a table: each row finds, cleans, converts, checks, and writes at its place in the target.

use std::borrow::Cow;

use super::{ExampleResult, Otherwise, Row};
use crate::expr::Scope;
use crate::fault::Violation;
use crate::path::{Step, find};
use crate::value::{Map, Value};

/// The most violations that are told.
const MAX_VIOLATIONS: usize = 50;

/// The most characters of a value that an error shows.
const MAX_SHOWN: usize = 60;

/// The most elements that one list of a target may have.
const MAX_ELEMENTS: usize = 100_000;

pub(super) fn apply(rows: &[Row], source: &Value, extra: &Scope<'_>) -> Result<Value, Vec<Violation>> {
    let mut target = Value::Map(Map::with_capacity(rows.len()));
    let mut violations = Vec::new();
    for row in rows {
        let mut walk = Walk { row, root: source, extra, lists: Vec::new(), tail: &[], violations: &mut violations };
        match &row.from {
            Some(from) => walk.row(from, source, &row.to, &mut target),
            None => walk.computed(&row.to, &mut target),
        }
        if violations.len() >= MAX_VIOLATIONS {
            break;
        }
    }
    if violations.is_empty() { Ok(target) } else { Err(violations) }
}

/// Runs one row's examples, each alone.
pub(super) fn examples(row: &Row) -> Vec<ExampleResult> {
    let run = |(input, expected): &(String, String)| {
        let source = Value::from(input.as_str());
        let mut violations = Vec::new();
        let root = Value::map();
        let extra = Scope::new();
        let mut walk =
            Walk { row, root: &root, extra: &extra, lists: Vec::new(), tail: &[], violations: &mut violations };
        let outcome = walk.leaf(Some(&source));
        let failure = match (outcome, violations.first()) {
            (_, Some(violation)) => Some(violation.message.clone()),
            (Some(value), None) => {
                let text = value.to_plain_text().unwrap_or_else(|| value.to_string());
                (text != *expected).then(|| format!("`{input}` becomes `{text}`; the example says `{expected}`"))
            }
            (None, None) => {
                (!expected.is_empty()).then(|| format!("`{input}` becomes nothing; the example says `{expected}`"))
            }
        };
        ExampleResult { row: format!("{}: `{input}`", row.label), failure }
    };
    row.examples.iter().map(run).collect()
}

/// One row on its way through the source.
struct Walk<'a> {
    row: &'a Row,
    root: &'a Value,
    extra: &'a Scope<'a>,
    /// The lists in the source that it is inside of, each with the element's number; for errors.
    lists: Vec<(&'a [Step], usize)>,
    /// From there to the value at hand; for errors.
    tail: &'a [Step],
    violations: &'a mut Vec<Violation>,
}

impl<'a> Walk<'a> {
    /// Follows both paths side by side: each `[]` of the source walks along a `[]` of the target.
    fn row(&mut self, from: &'a [Step], source: &Value, to: &[Step], target: &mut Value) {
        let Some(split) = from.iter().position(|step| *step == Step::Each) else {
            return self.spread(find(from, source), from, to, target);
        };
        let Some(into) = to.iter().position(|step| *step == Step::Each) else { return };
        let list = match find(&from[..split], source) {
            None | Some(Value::Null) => {
                if self.row.required {
                    self.tail = &from[..split];
                    self.violate(format!("{} is required, but absent", self.row.label));
                    self.tail = &[];
                }
                return;
            }
            Some(Value::List(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let Some(slot) = self.slot(&to[..into], target) else { return };
        if slot.as_list().is_none() {
            *slot = Value::List(Vec::with_capacity(list.len()));
        }
        let Value::List(elements) = slot else { return };
        for (index, item) in list.iter().enumerate().take(MAX_ELEMENTS) {
            if elements.len() <= index {
                elements.push(Value::Null);
            }
            self.lists.push((&from[..split], index));
            self.row(&from[split + 1..], item, &to[into + 1..], &mut elements[index]);
            self.lists.pop();
        }
    }

    /// The source has no more lists; a target that has writes the same into each element that is there.
    fn spread(&mut self, found: Option<&Value>, from: &'a [Step], to: &[Step], target: &mut Value) {
        self.tail = from;
        if let Some(value) = self.leaf(found) {
            self.write(to, target, value);
        }
        self.tail = &[];
    }

    /// A row without `from`: an expression over the whole source, or a constant.
    fn computed(&mut self, to: &[Step], target: &mut Value) {
        let value = match &self.row.value {
            Some(_) => self.leaf(Some(self.root)),
            None => self.row.default.clone(),
        };
        if let Some(value) = value {
            self.write(to, target, value);
        }
    }

    /// Everything that a row does to one value. `None`: nothing is written, be it absent or wrong.
    fn leaf(&mut self, found: Option<&Value>) -> Option<Value> {
        let computed;
        let found = match &self.row.value {
            None => found,
            Some(expression) => {
                let null = Value::Null;
                let scope = match &self.row.from {
                    None => self.extra.clone().with_fields(self.root),
                    Some(_) => {
                        self.extra.clone().with("value", found.unwrap_or(&null)).with_fields(found.unwrap_or(&null))
                    }
                };
                match expression.eval(&scope) {
                    Ok(value) => {
                        computed = value;
                        Some(&computed)
                    }
                    Err(reason) => {
                        self.violate(format!("{}: {reason}", self.row.label));
                        return None;
                    }
                }
            }
        };
        let found = match found {
            None | Some(Value::Null) => return self.absent(found),
            Some(Value::Text(text)) if text.is_empty() && (self.row.default.is_some() || self.row.required) => {
                return self.absent(found);
            }
            Some(found) => found,
        };
        let cleaned = self.clean(found)?;
        let coded = self.code(cleaned)?;
        let converted = match self.row.kind.convert(&coded) {
            Ok(Cow::Owned(value)) => value,
            Ok(Cow::Borrowed(_)) => coded.into_owned(),
            // Nothing but spaces in an optional number or date is nothing.
            Err(_) if coded.as_text().is_some_and(|text| text.trim().is_empty()) => return self.absent(None),
            Err(reason) => {
                self.reject(&coded, &reason);
                return None;
            }
        };
        if let Some(check) = &self.row.check {
            match check.test(&Scope::new().with("value", &converted)) {
                Ok(true) => {}
                Ok(false) => {
                    self.reject(&converted, &format!("does not satisfy `{}`", check.text()));
                    return None;
                }
                Err(reason) => {
                    self.reject(&converted, &reason);
                    return None;
                }
            }
        }
        Some(converted)
    }

    fn absent(&mut self, found: Option<&Value>) -> Option<Value> {
        if let Some(default) = &self.row.default {
            return Some(default.clone());
        }
        if self.row.required {
            let what = if found.is_some() { "is required, but empty" } else { "is required, but absent" };
            self.violate(format!("{} {what}", self.row.label));
            return None;
        }
        // An explicit null stays one only where the row says nothing about its type.
        (found.is_some() && matches!(self.row.kind, super::convert::Kind::Any)).then_some(Value::Null)
    }

    fn clean<'v>(&mut self, found: &'v Value) -> Option<Cow<'v, Value>> {
        if self.row.clean.is_empty() {
            return Some(Cow::Borrowed(found));
        }
        let mut text = match found {
            Value::Text(text) => Cow::Borrowed(text.as_str()),
            other => match other.to_plain_text() {
                Some(text) => Cow::Owned(text),
                None => {
                    self.reject(found, &format!("is {}, and only text can be cleaned", found.kind()));
                    return None;
                }
            },
        };
        for word in &self.row.clean {
            match word.apply(text) {
                Ok(cleaned) => text = cleaned,
                Err(reason) => {
                    self.reject(found, reason);
                    return None;
                }
            }
        }
        Some(match text {
            Cow::Borrowed(text) if Some(text) == found.as_text() => Cow::Borrowed(found),
            text => Cow::Owned(Value::Text(text.into_owned())),
        })
    }

    /// Looks the value up in the row's code table.
    fn code<'v>(&mut self, value: Cow<'v, Value>) -> Option<Cow<'v, Value>> {
        let Some(values) = &self.row.values else { return Some(value) };
        let text = value.to_plain_text().unwrap_or_default();
        if let Some((_, to)) = values.iter().find(|(from, _)| *from == text) {
            return Some(Cow::Owned(to.clone()));
        }
        match &self.row.otherwise {
            Otherwise::Keep => Some(value),
            Otherwise::Null => Some(Cow::Owned(Value::Null)),
            Otherwise::Literal(literal) => Some(Cow::Owned(literal.clone())),
            Otherwise::Reject => {
                let known: Vec<_> = values.iter().take(8).map(|(from, _)| from.as_str()).collect();
                self.reject(&value, &format!("is not in the table ({})", known.join(", ")));
                None
            }
        }
    }

    /// Writes a value; `[]` in what is left of the path means every element that is there.
    fn write(&mut self, to: &[Step], target: &mut Value, value: Value) {
        match to.iter().position(|step| *step == Step::Each) {
            None => {
                if let Some(slot) = self.slot(to, target) {
                    *slot = value;
                }
            }
            Some(split) => {
                let Some(Value::List(elements)) = self.slot(&to[..split], target) else { return };
                for element in elements {
                    self.write(&to[split + 1..], element, value.clone());
                }
            }
        }
    }

    /// The place at the end of a path, made where it is not there.
    fn slot<'t>(&mut self, to: &[Step], mut target: &'t mut Value) -> Option<&'t mut Value> {
        for step in to {
            match step {
                Step::Name(name) => {
                    if *target == Value::Null {
                        *target = Value::map();
                    }
                    if target.as_map().is_none() {
                        self.violate(format!("{}: `{name}` is to be written into {}", self.row.label, target.kind()));
                        return None;
                    }
                    target = target.as_map_mut()?.slot(name);
                }
                Step::Index(index) => {
                    if *target == Value::Null {
                        *target = Value::List(Vec::new());
                    }
                    let Value::List(list) = target else { return None };
                    if *index >= 1_000 {
                        self.violate(format!("{}: element {index} is too far", self.row.label));
                        return None;
                    }
                    if list.len() <= *index {
                        list.resize(*index + 1, Value::Null);
                    }
                    target = &mut list[*index];
                }
                Step::Each => return None,
            }
        }
        Some(target)
    }

    fn reject(&mut self, value: &Value, reason: &str) {
        let shown = if self.row.sensitive { "***".to_owned() } else { shown(value) };
        self.violate(format!("{}: {shown} {reason}", self.row.label));
    }

    fn violate(&mut self, message: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { pointer: self.place(), message });
        }
    }

    /// Where in the source it is: `items[2].code`.
    fn place(&self) -> String {
        let mut place = String::new();
        for (list, index) in &self.lists {
            describe(list, &mut place);
            place.push_str(&format!("[{index}]"));
        }
        describe(self.tail, &mut place);
        place
    }
}

fn describe(steps: &[Step], place: &mut String) {
    for step in steps {
        match step {
            Step::Name(name) => {
                if !place.is_empty() {
                    place.push('.');
                }
                place.push_str(name);
            }
            Step::Each => place.push_str("[]"),
            Step::Index(index) => place.push_str(&format!("[{index}]")),
        }
    }
}

/// A value as an error shows it, cut.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Text(text) => format!("{text:?}"),
        Value::List(_) | Value::Map(_) => value.kind().to_owned(),
        other => other.to_plain_text().unwrap_or_else(|| "null".to_owned()),
    };
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    format!("{}…", text.chars().take(MAX_SHOWN).collect::<String>())
}
