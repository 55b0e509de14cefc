//! Documents in strings: XML in an argument of a SOAP call, JSON in a field of JSON. Which fields hold one, and in which
//! encodings, is said once (`nested:`) and works both ways: what arrives is opened in place, so that a mapping sees what is
//! inside; what is sent is closed again.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::{Problem, Problems, SourceFile, closest};
use crate::limits::BodyLimits;
use crate::path::{Path, Step};
use crate::value::{Map, Value};
use crate::yaml::{Entries, Located};
use crate::{json, xml};

/// The most encodings around one document.
const MAX_LAYERS: usize = 8;

/// `nested:` of an endpoint: a path into the body, and the encodings around the document there, the outermost first:
/// `{ arg0: [xml-unescape, xml], "parameters[1]": [json] }`. Opened from the first to the last, closed in reverse.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NestedFile(
    /// By path.
    Entries<Vec<Located<String>>>,
);

/// Checked.
#[derive(Clone, Debug, Default)]
pub struct Nested {
    fields: Vec<(Path, Vec<Codec>)>,
}

/// One encoding of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    /// An XML document; its root's name is the one key of the value. `xml-document` is written with a declaration.
    Xml { declared: bool },
    /// A JSON document.
    Json,
    /// Text in which `<`, `>`, `&` and quotes are references once more.
    XmlUnescape,
    /// Base64 of UTF-8 (RFC 4648 §4).
    Base64,
}

/// The words, as a file has them.
const CODECS: [(&str, Codec); 5] = [
    ("xml", Codec::Xml { declared: false }),
    ("xml-document", Codec::Xml { declared: true }),
    ("json", Codec::Json),
    ("xml-unescape", Codec::XmlUnescape),
    ("base64", Codec::Base64),
];

/// Why a document in a string could not be opened or closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`, {codec}: {reason}")]
pub struct NestedError {
    path: String,
    codec: &'static str,
    reason: String,
}

impl NestedFile {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// Compiles it; every mistake is told.
    pub fn check(&self, file: &SourceFile, problems: &mut Problems) -> Nested {
        let mut fields = Vec::new();
        for (place, words) in &self.0.0 {
            let path = match Path::parse(place) {
                Ok(path) => Some(path),
                Err((_, reason)) => {
                    problems.push(Problem::error("bad-path", file, place.span.clone(), reason));
                    None
                }
            };
            let mut codecs = Vec::new();
            for word in words {
                match CODECS.iter().find(|(name, _)| *name == word.value) {
                    Some((_, codec)) => codecs.push(*codec),
                    None => {
                        let names = CODECS.map(|(name, _)| name);
                        let message = format!("there is no encoding `{}`", word.value);
                        let help = closest(word, names).map_or_else(
                            || format!("there are: {}", names.join(", ")),
                            |near| format!("did you mean `{near}`?"),
                        );
                        problems.push(Problem::error("unknown-codec", file, word.span.clone(), message).help(help));
                    }
                }
            }
            if words.is_empty() || words.len() > MAX_LAYERS {
                let message = format!("name 1 to {MAX_LAYERS} encodings");
                problems.push(Problem::error("codecs", file, place.span.clone(), message));
            }
            fields.extend(path.map(|path| (path, codecs)));
        }
        Nested { fields }
    }
}

impl Nested {
    /// Opens the documents in `body`, in the order of the file: a later path may lead into an earlier document. A field that is
    /// absent, null or empty is left alone.
    ///
    /// # Errors
    /// Which field is not what it should be, in which encoding, and why. All documents together have the limits of one body.
    pub fn open(&self, body: &mut Value, limits: &BodyLimits) -> Result<(), NestedError> {
        let mut left = limits.bytes;
        for (path, codecs) in &self.fields {
            visit(path.steps(), body, &mut |value| {
                for codec in codecs {
                    let Value::Text(text) = &*value else {
                        return match &*value {
                            Value::Null => Ok(()),
                            other => Err(told(path, *codec, format!("it is {}, not text", other.kind()))),
                        };
                    };
                    if text.trim().is_empty() {
                        return Ok(());
                    }
                    left = left.checked_sub(text.len()).ok_or_else(|| {
                        told(
                            path,
                            *codec,
                            format!("the documents in strings have more than {} bytes in all", limits.bytes),
                        )
                    })?;
                    *value = codec.open(text, limits).map_err(|reason| told(path, *codec, reason))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Closes the documents in `body`, the last first.
    ///
    /// # Errors
    /// What cannot be written so.
    pub fn close(&self, body: &mut Value) -> Result<(), NestedError> {
        for (path, codecs) in self.fields.iter().rev() {
            visit(path.steps(), body, &mut |value| {
                for codec in codecs.iter().rev() {
                    if *value == Value::Null {
                        return Ok(());
                    }
                    *value = codec.close(value).map(Value::Text).map_err(|reason| told(path, *codec, reason))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether there is nothing to open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

fn told(path: &Path, codec: Codec, reason: String) -> NestedError {
    NestedError { path: path.to_string(), codec: codec.word(), reason }
}

/// Does something with every value at the end of some steps.
fn visit(
    steps: &[Step],
    value: &mut Value,
    work: &mut dyn FnMut(&mut Value) -> Result<(), NestedError>,
) -> Result<(), NestedError> {
    let Some((step, rest)) = steps.split_first() else { return work(value) };
    match (step, value) {
        (Step::Name(name), Value::Map(map)) => map.get_mut(name).map_or(Ok(()), |inner| visit(rest, inner, work)),
        (Step::Each, Value::List(list)) => list.iter_mut().try_for_each(|inner| visit(rest, inner, work)),
        (Step::Index(index), Value::List(list)) => {
            list.get_mut(*index).map_or(Ok(()), |inner| visit(rest, inner, work))
        }
        (Step::Each | Step::Index(0), one) => visit(rest, one, work),
        _ => Ok(()),
    }
}

impl Codec {
    fn word(self) -> &'static str {
        CODECS.iter().find(|(_, codec)| *codec == self).map_or("", |(word, _)| word)
    }

    fn open(self, text: &str, limits: &BodyLimits) -> Result<Value, String> {
        match self {
            // A string is text already: what its declaration says of a charset is of the past.
            Self::Xml { .. } => {
                let root =
                    xml::decode(text.trim().as_bytes(), Some("utf-8"), limits).map_err(|error| error.to_string())?;
                Ok(Value::Map(Map::from([(root.name.local.to_string(), root.to_value())])))
            }
            Self::Json => json::decode(text.as_bytes(), limits).map_err(|error| error.to_string()),
            Self::XmlUnescape => {
                let plain = quick_xml::escape::unescape(text).map_err(|error| error.to_string())?;
                Ok(Value::Text(plain.into_owned()))
            }
            Self::Base64 => {
                use base64::Engine;
                let bare: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(bare).map_err(|error| error.to_string())?;
                String::from_utf8(bytes).map(Value::Text).map_err(|_| "the bytes are not UTF-8".to_owned())
            }
        }
    }

    fn close(self, value: &Value) -> Result<String, String> {
        let text = || value.to_plain_text().ok_or_else(|| format!("it is {}, not text", value.kind()));
        match self {
            Self::Xml { declared } => {
                let only = value.as_map().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
                let (name, inside) = only.ok_or("an XML document needs one root: an object with one key, its name")?;
                let options = xml::WriteOptions { declaration: declared, ..xml::WriteOptions::default() };
                let root = xml::Element::from_value(name, None, inside)?;
                let bytes = root.encode_with(&options).map_err(|error| error.to_string())?;
                String::from_utf8(bytes).map_err(|error| error.to_string())
            }
            Self::Json => String::from_utf8(json::encode(value)).map_err(|error| error.to_string()),
            Self::XmlUnescape => text().map(|text| quick_xml::escape::escape(text).into_owned()),
            Self::Base64 => {
                use base64::Engine;
                text().map(|text| base64::engine::general_purpose::STANDARD.encode(text))
            }
        }
    }
}

impl fmt::Display for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, codecs) in &self.fields {
            write!(f, "{path}: {} ", codecs.iter().map(|codec| codec.word()).collect::<Vec<_>>().join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn nested(text: &str) -> Nested {
        let file = SourceFile::new("n.yaml", text);
        let mut problems = Problems::new();
        let read = yaml::read::<NestedFile>(&file, &mut problems).unwrap();
        let nested = read.check(&file, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        nested
    }

    fn value(text: &str) -> Value {
        json::decode(text.as_bytes(), &BodyLimits::default()).unwrap()
    }

    /// Opens and closes again.
    fn both(file: &str, closed: &str, opened: &str) {
        let nested = nested(file);
        let mut body = value(closed);
        nested.open(&mut body, &BodyLimits::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(body.to_string(), opened);
        nested.close(&mut body).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(body.to_string(), value(closed).to_string());
    }

    #[test]
    fn documents_are_opened_where_they_stand_and_closed_again() {
        // An OA: XML in an argument. A K3: JSON in the second of two parameters. A Landray: JSON in SOAP. XML in JSON.
        both("in0: [xml]", r#"{"in0":"<wf><no>1&amp;2</no></wf>","in1":7}"#, r#"{"in0":{"wf":{"no":"1&2"}},"in1":7}"#);
        both(
            "\"parameters[1]\": [json]",
            r#"{"parameters":["SAL","{\"FQty\":1.50}"]}"#,
            r#"{"parameters":["SAL",{"FQty":1.50}]}"#,
        );
        both(
            "formValues: [json]\nformValues.x: [xml]",
            r#"{"formValues":"{\"x\":\"<a>1</a>\"}"}"#,
            r#"{"formValues":{"x":{"a":"1"}}}"#,
        );
        both("a: [xml-unescape, xml]", r#"{"a":"&lt;r&gt;订单&lt;/r&gt;"}"#, r#"{"a":{"r":"订单"}}"#);
        both("a: [base64, json]", r#"{"a":"eyJuIjoxfQ=="}"#, r#"{"a":{"n":1}}"#);
        both(
            "a: [xml-document]",
            r#"{"a":"<?xml version=\"1.0\" encoding=\"UTF-8\"?><r>1</r>"}"#,
            r#"{"a":{"r":"1"}}"#,
        );
        both("\"l[].x\": [json]", r#"{"l":[{"x":"[1]"},{},{"x":"{}"}]}"#, r#"{"l":[{"x":[1]},{},{"x":{}}]}"#);
        both("gone: [xml]\na: [json]", r#"{"a":null}"#, r#"{"a":null}"#);
    }

    #[test]
    fn what_cannot_be_opened_says_where_and_why() {
        let open = |file: &str, body: &str| {
            nested(file).open(&mut value(body), &BodyLimits::default()).unwrap_err().to_string()
        };
        assert_eq!(open("a: [xml]", r#"{"a":"<r>"}"#), "`a`, xml: the document ends inside `<r>` (line 1, column 4)");
        assert!(
            open("a: [xml]", r#"{"a":"<!DOCTYPE r [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><r>&e;</r>"}"#)
                .contains("DOCTYPE")
        );
        assert!(open("a.b: [json]", r#"{"a":{"b":"{"}}"#).starts_with("`a.b`, json: "));
        assert!(open("a: [json]", r#"{"a":{}}"#).contains("an object, not text"));
        assert!(open("a: [base64]", r#"{"a":"***"}"#).starts_with("`a`, base64: "));
        let small = BodyLimits { bytes: 8, ..BodyLimits::default() };
        assert!(
            nested("a: [json, json]").open(&mut value(r#"{"a":"\"123456\""}"#), &small).is_err(),
            "their sum counts"
        );
        let close = |file: &str, body: &str| nested(file).close(&mut value(body)).unwrap_err().to_string();
        assert!(close("a: [xml]", r#"{"a":{"x":1,"y":2}}"#).contains("one root"));
        assert!(close("a: [base64]", r#"{"a":{}}"#).contains("not text"));
    }

    #[test]
    fn mistakes_in_the_file_are_told() {
        let file = SourceFile::new("n.yaml", "a: [jsn]\n\"b[\": [xml]\nc: []\n");
        let mut problems = Problems::new();
        let read = yaml::read::<NestedFile>(&file, &mut problems).unwrap();
        read.check(&file, &mut problems);
        let told: Vec<_> = problems.sorted().iter().map(|p| (p.place(), p.code, p.help.clone())).collect();
        assert_eq!(told[0], ("n.yaml:1:5".to_owned(), "unknown-codec", Some("did you mean `json`?".to_owned())));
        assert_eq!((told[1].1, told[2].1), ("bad-path", "codecs"));
    }
}
