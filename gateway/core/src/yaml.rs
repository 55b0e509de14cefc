//! Reading a site's YAML: strict, with the place of every value kept. The parser stays behind this one module.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeOwned, MapAccess};
use serde::{Deserialize, Deserializer};

use crate::diagnostics::{Problem, Problems, SourceFile};

/// A value and where it stands in its file.
#[derive(Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Byte range in the file.
    pub span: Range<usize>,
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { span: range(spanned.referenced), value: spanned.value })
    }
}

/// The schema is that of the value; where it stands is no part of it.
impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// A map of the file in its order, each name with its place: `endpoints:` of a system.
#[derive(Clone)]
pub struct Entries<T>(pub Vec<(Located<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: fmt::Debug> fmt::Debug for Entries<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, value)| (&name.value, value))).finish()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names, each with what it means")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// The schema is that of a map.
impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Entries_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<std::collections::BTreeMap<String, T>>()
    }
}

/// Reads one file into its struct; what is wrong goes to `problems` with its place, and `None` comes back.
pub fn read<T: DeserializeOwned>(file: &SourceFile, problems: &mut Problems) -> Option<T> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<T>(file.text(), options) {
        Ok(value) => Some(value),
        Err(error) => {
            let span = error.location().map_or(0..0, |location| place(file, location));
            let text = error.without_snippet().to_string();
            problems.push(Problem::error("yaml", file, span, tidy(&text)));
            None
        }
    }
}

/// The parser's text without the place, which the problem already has.
fn tidy(text: &str) -> String {
    let text = text.split(" at line ").next().unwrap_or(text);
    text.trim().to_owned()
}

/// The parser's scanner tells a line and a column only.
fn place(file: &SourceFile, location: serde_saphyr::Location) -> Range<usize> {
    if location.span().byte_offset().is_some() {
        return range(location);
    }
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let at = file.offset(number(location.line()), number(location.column()));
    at..at
}

fn range(location: serde_saphyr::Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
    let len = span.byte_len().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    start..start + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_order_and_places() {
        let file = SourceFile::new("a.yaml", "zebra: 1\n\"the ape\": 2\n");
        let mut problems = Problems::new();
        let entries: Entries<u32> = read(&file, &mut problems).unwrap();
        let found: Vec<_> = entries.0.iter().map(|(name, value)| (&file.text()[name.span.clone()], *value)).collect();
        assert_eq!(found, [("zebra", 1), ("\"the ape\"", 2)]);
    }

    #[test]
    fn a_name_that_comes_twice_is_a_problem() {
        let file = SourceFile::new("a.yaml", "a: 1\na: 2\n");
        let mut problems = Problems::new();
        assert!(read::<Entries<u32>>(&file, &mut problems).is_none());
        assert!(problems.has_errors());
    }
}
