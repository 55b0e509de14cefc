//! What a table makes, as far as its rows say it: for [`crate::outline`].

use super::convert::Kind;
use super::{Mapping, Otherwise, Row};
use crate::outline::{Content, Field, Outline, Spot};
use crate::value::Value;

impl Mapping {
    /// The fields that the table makes of a body with this outline. It makes no others.
    #[must_use]
    pub fn outline(&self, source: &Outline) -> Outline {
        let field = |row: &Row| {
            let from = row.from.as_deref().filter(|_| row.value.is_none()).and_then(|from| source.field(from));
            Field {
                steps: row.to.clone(),
                content: row.content(from.map(|field| &field.content)),
                always: row.required || row.default.is_some() || from.is_some_and(|field| field.always),
                at: Some(Spot { file: self.file.clone(), span: row.at.clone() }),
            }
        };
        Outline { fields: self.rows.iter().map(field).collect(), closed: true }
    }
}

impl Row {
    /// What the row writes; `from` is what it finds, where that is known.
    fn content(&self, from: Option<&Content>) -> Content {
        if let Some(values) = &self.values {
            let mut all: Vec<Value> = values.iter().map(|(_, to)| to.clone()).collect();
            all.extend(self.default.clone());
            match &self.otherwise {
                Otherwise::Keep => return Content::Any,
                Otherwise::Literal(literal) => all.push(literal.clone()),
                Otherwise::Reject | Otherwise::Null => {}
            }
            // Converted as each message's will be; what is refused is never written.
            let converted =
                all.iter().filter_map(|value| self.kind.convert(value).ok()).map(std::borrow::Cow::into_owned);
            return Content::OneOf(converted.collect());
        }
        let constant = self.from.is_none() && self.value.is_none();
        if let (true, Some(default)) = (constant, &self.default) {
            return Content::OneOf(vec![default.clone()]);
        }
        match (&self.kind, from) {
            (Kind::Integer, _) => Content::Integer,
            (Kind::Decimal { digits, .. }, _) => Content::Decimal(*digits),
            (Kind::Boolean, _) => Content::Boolean,
            (Kind::Date { write, .. }, _) => written(write.as_deref(), Content::Date),
            (Kind::DateTime { write, .. }, _) => written(write.as_deref(), Content::Moment),
            // Cleaning may lengthen (a country code) as well as shorten.
            (Kind::Text, Some(Content::Text(longest))) if self.clean.is_empty() => Content::Text(*longest),
            (Kind::Text, Some(Content::OneOf(values))) if self.clean.is_empty() => Content::OneOf(values.clone()),
            (Kind::Text, _) => Content::Text(None),
            (Kind::Any, _) if !self.clean.is_empty() => Content::Text(None),
            (Kind::Any, Some(known)) => known.clone(),
            (Kind::Any, None) => Content::Any,
        }
    }
}

/// A date in a form of its own is just some text.
fn written(format: Option<&str>, usual: Content) -> Content {
    match format {
        None => usual,
        Some("epoch_s" | "epoch_ms") => Content::Integer,
        Some("%Y-%m-%d" | "%F") => Content::Date,
        Some(_) => Content::Any,
    }
}
