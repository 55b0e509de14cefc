//! Reading a site's YAML: strict, with the place of every value kept. The parser stays behind this one module.

use std::fmt;
use std::ops::{Deref, Range};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
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

/// Reads one file into its struct; what is wrong goes to `problems` with its place, and `None` comes back.
pub fn read<T: DeserializeOwned>(file: &SourceFile, problems: &mut Problems) -> Option<T> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<T>(file.text(), options) {
        Ok(value) => Some(value),
        Err(error) => {
            let span = error.location().map_or(0..0, range);
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

fn range(location: serde_saphyr::Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
    let len = span.byte_len().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    start..start + len
}
