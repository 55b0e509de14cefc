//! `batch:` of an endpoint: a delivery that brings a list, each element of which is written as if it had come alone, with an
//! inbox row of its own. So the good ones stay when others are refused, and a delivery that comes again goes on where it was.

use gatehouse_core::path::{Path, Step};
use gatehouse_core::yaml::Located;
use gatehouse_core::{Name, Value};
use sha2::{Digest, Sha256};

use crate::file::Checker;

/// Where the list stands.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `None`: the body itself is the list.
    from: Option<Path>,
}

impl Batch {
    /// The path to the list.
    pub(crate) fn steps(&self) -> &[Step] {
        self.from.as_ref().map_or(&[], Path::steps)
    }

    /// The elements; what is no list is a list of one.
    pub(crate) fn elements<'a>(&self, body: &'a Value) -> &'a [Value] {
        let found = match &self.from {
            None => Some(body),
            Some(path) => path.find(body),
        };
        match found {
            None | Some(Value::Null) => &[],
            Some(Value::List(list)) => list,
            Some(one) => std::slice::from_ref(one),
        }
    }

    /// The body with one element alone in its list: what is sent again where only this one was refused.
    pub(crate) fn alone(&self, body: &Value, element: &Value) -> Value {
        alone(body, self.steps(), element)
    }
}

fn alone(body: &Value, steps: &[Step], element: &Value) -> Value {
    let (Some((Step::Name(name), rest)), Some(fields)) = (steps.split_first(), body.as_map()) else {
        return Value::List(vec![element.clone()]);
    };
    let field = |(known, value): (&Name, &Value)| {
        (known.clone(), if known.as_str() == name.as_str() { alone(value, rest, element) } else { value.clone() })
    };
    fields.iter().map(field).collect()
}

/// The delivery id of one element: the same in every attempt. A list of one is the delivery itself, so that an element that
/// is sent again alone keeps the id that it had among others.
pub(crate) fn part_id(delivery_id: &str, index: usize, count: usize) -> String {
    if count == 1 {
        return delivery_id.to_owned();
    }
    let mut hash = Sha256::new();
    hash.update(delivery_id);
    hash.update((index as u64).to_be_bytes());
    hex::encode(&hash.finalize()[..16])
}

impl Checker<'_> {
    /// The path to the list; `[]` is the body itself.
    pub(crate) fn batch(&mut self, at: &Located<String>) -> Option<Batch> {
        if at.as_str() == "[]" {
            return Some(Batch { from: None });
        }
        let path = self.path(at)?;
        if path.steps().iter().any(|step| !matches!(step, Step::Name(_))) {
            let text =
                "expected the path to a list, without brackets (`items`), or `[]` where the body itself is the list";
            self.error("bad-path", &at.span, text);
            return None;
        }
        Some(Batch { from: Some(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_element_is_left_alone_in_what_was_around_it() {
        let list = |numbers: &[i64]| Value::List(numbers.iter().map(|number| Value::from(*number)).collect());
        let inner: Value = [("rows", list(&[1, 2, 3])), ("n", Value::from(3))].into_iter().collect();
        let body: Value = [("no", Value::from("A")), ("data", inner)].into_iter().collect();
        let batch = Batch { from: Some(Path::parse("data.rows").unwrap()) };
        assert_eq!(batch.elements(&body).len(), 3);
        assert_eq!(batch.alone(&body, &Value::from(2)).to_string(), r#"{"no":"A","data":{"rows":[2],"n":3}}"#);
        let whole = Batch { from: None };
        assert_eq!(whole.elements(&list(&[1, 2])).len(), 2);
        assert_eq!(whole.alone(&list(&[1, 2]), &Value::from(2)).to_string(), "[2]");
        assert_eq!(batch.elements(&Value::map()).len(), 0);
    }

    #[test]
    fn an_element_has_one_id_wherever_it_is() {
        assert_eq!(part_id("d", 0, 1), "d");
        assert_ne!(part_id("d", 0, 2), part_id("d", 1, 2));
        assert_eq!(part_id("d", 1, 2), part_id("d", 1, 900));
    }
}
