//! A value that a file describes: an expression, or a map of such, for header blocks and replies.

use std::fmt;

use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::expr::{Expression, Scope};
use gatehouse_core::yaml::{Entries, Located};
use gatehouse_core::{Map, Value, outcome, xml};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// As it stands in the file: text is an expression, a map has one a name.
#[derive(Clone, Debug)]
pub(crate) enum TemplateFile {
    Expression(String),
    Map(Entries<Located<TemplateFile>>),
}

/// Compiled.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    Expression(Expression),
    Map(Vec<(String, Template)>),
}

impl TemplateFile {
    /// Compiles every expression over `names`; the names of a map must be XML names, `@name` or `#text`.
    pub(crate) fn check(
        template: &Located<Self>,
        names: &[&str],
        file: &SourceFile,
        problems: &mut Problems,
    ) -> Option<Template> {
        match &template.value {
            Self::Expression(text) => {
                let text = Located { value: text.clone(), span: template.span.clone() };
                outcome::compile(&text, names, file, problems).map(Template::Expression)
            }
            Self::Map(entries) => {
                let mut map = Some(Vec::new());
                for (name, inner) in &entries.0 {
                    if name.value != "#text" && !xml::is_name(name.strip_prefix('@').unwrap_or(name)) {
                        let message = format!("`{}` is no XML name", name.value);
                        problems.push(Problem::error("xml-name", file, name.span.clone(), message));
                        map = None;
                    }
                    let inner = Self::check(inner, names, file, problems);
                    map = map.zip(inner).map(|(mut map, inner)| {
                        map.push((name.value.clone(), inner));
                        map
                    });
                }
                map.map(Template::Map)
            }
        }
    }
}

impl Template {
    /// Whether one of its expressions looks at `name`.
    pub(crate) fn reads(&self, name: &str) -> bool {
        match self {
            Self::Expression(rule) => rule.reads(name),
            Self::Map(entries) => entries.iter().any(|(_, inner)| inner.reads(name)),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// The expression that failed, and why.
    pub(crate) fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match self {
            Self::Expression(rule) => rule.eval(scope).map_err(|error| format!("`{}`: {error}", rule.text())),
            Self::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (name, inner) in entries {
                    map.insert(name.clone(), inner.eval(scope)?);
                }
                Ok(Value::Map(map))
            }
        }
    }
}

/// By hand, because an untagged enum would lose the places of what is in it.
impl<'de> Deserialize<'de> for TemplateFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TemplateFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an expression (a fixed text has quotes of its own: `'\"text\"'`), or a map of names to expressions")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TemplateFile, E> {
                Ok(TemplateFile::Expression(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<TemplateFile, E> {
                Ok(TemplateFile::Expression(flag.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<TemplateFile, E> {
                Ok(TemplateFile::Expression(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TemplateFile, E> {
                Ok(TemplateFile::Expression(number.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TemplateFile, A::Error> {
                Entries::deserialize(MapAccessDeserializer::new(map)).map(TemplateFile::Map)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for TemplateFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inner = generator.subschema_for::<Self>();
        json_schema!({
            "description": "An expression, or a map of names to such.",
            "anyOf": [
                { "type": ["string", "integer", "boolean"] },
                { "type": "object", "additionalProperties": inner },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_template_looks_at_is_known() {
        let reads = |text: &str, name: &str| {
            let file = SourceFile::new("a.yaml", text);
            let read = gatehouse_core::yaml::read::<Located<TemplateFile>>(&file, &mut Problems::new()).unwrap();
            let names = ["body", "message_id"];
            TemplateFile::check(&read, &names, &file, &mut Problems::new()).unwrap().reads(name)
        };
        assert!(reads("a: { b: 'body.x' }", "body"));
        assert!(reads("'body?.x ?? message_id'", "body"));
        assert!(!reads("a: message_id\nb: '\"body\"'\nbody: message_id", "body"));
    }
}
