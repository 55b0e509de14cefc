//! Bodies by their content type: JSON and XML in any charset that core knows, forms on the way out.

use bytes::Bytes;
use gatehouse_core::charset;
use gatehouse_core::fault::{Code, Fault, Violation};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::reading::Reading;
use gatehouse_core::xml::{self, Element, WriteOptions};
use gatehouse_core::{Value, json};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::file::Send;

/// What a content type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Xml,
    Other(String),
}

/// The content type and its charset. Without one it is JSON, as most webhooks mean it.
pub(crate) fn media(headers: &HeaderMap) -> (Media, Option<String>) {
    let Some(text) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return (Media::Json, None);
    };
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or("").trim().to_ascii_lowercase();
    let charset =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let charset = charset.map(|(_, value)| value.trim().trim_matches('"').to_owned());
    let media = match essence.as_str() {
        "application/json" | "text/json" => Media::Json,
        "application/xml" | "text/xml" => Media::Xml,
        other if other.ends_with("+json") => Media::Json,
        other if other.ends_with("+xml") => Media::Xml,
        other => Media::Other(other.to_owned()),
    };
    (media, charset)
}

/// The limits of a body of at most `max` bytes.
pub(crate) fn limits(max: usize) -> BodyLimits {
    BodyLimits { bytes: max, text: max, ..BodyLimits::default() }
}

/// Decodes what is wanted of a body; with it comes the document that it was read from, where it was XML and that is wanted.
pub(crate) fn decode(
    media: &Media,
    label: Option<&str>,
    bytes: &Bytes,
    max: usize,
    reading: &Reading,
    document: bool,
) -> Result<(Value, Option<Element>), Fault> {
    let limits = limits(max);
    if let Some(Err(unknown)) = label.map(|label| charset::encode("", label)) {
        return Err(Fault::new(Code::UnsupportedMedia, unknown.reason));
    }
    let decoded = match media {
        Media::Other(other) => {
            return Err(Fault::new(
                Code::UnsupportedMedia,
                format!("`{other}` is not spoken here: send application/json or application/xml"),
            ));
        }
        Media::Xml if document => xml::decode(bytes, label, &limits).map(|element| (element.to_value(), Some(element))),
        Media::Xml => xml::skim(bytes, label, &limits, reading).map(|value| (value, None)),
        Media::Json => {
            match label.filter(|label| !label.eq_ignore_ascii_case("utf-8") && !label.eq_ignore_ascii_case("utf8")) {
                None => json::decode(bytes, &limits).map(|value| (value, None)),
                Some(label) => {
                    let text = charset::decode(bytes, Some(label))
                        .map_err(|error| Fault::new(Code::Malformed, error.to_string()))?;
                    json::decode(text.as_bytes(), &limits).map(|value| (value, None))
                }
            }
        }
    };
    decoded.map_err(|error| {
        let code = if error.too_large { Code::TooLarge } else { Code::Malformed };
        let pointer = format!("line {}, column {}", error.line, error.column);
        Fault::new(code, format!("the body cannot be read: {error}"))
            .violations(vec![Violation { pointer, message: error.reason }])
    })
}

/// What an XML body would look like, for people; `None` for bodies that say it themselves.
pub(crate) fn preview(send: &Send, body: &Value) -> Result<Option<String>, Fault> {
    let Send::Xml { element } = send else { return Ok(None) };
    let bad = |reason: String| Fault::new(Code::Invalid, format!("the body cannot be written: {reason}"));
    let options = WriteOptions { declaration: false, pretty: true, ..WriteOptions::default() };
    let bytes = Element::from_value(element, None, body).map_err(bad)?.encode_with(&options);
    bytes.map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned())).map_err(|error| bad(error.to_string()))
}

/// A rendered body and its content type.
pub(crate) fn encode(send: &Send, label: &str, body: &Value) -> Result<(Bytes, Option<String>), Fault> {
    let bad = |reason: String| Fault::new(Code::Invalid, format!("the body cannot be written: {reason}"));
    let utf8 = label.eq_ignore_ascii_case("utf-8");
    match send {
        Send::Nothing => Ok((Bytes::new(), None)),
        Send::Json if utf8 => Ok((json::encode(body).into(), Some("application/json".to_owned()))),
        Send::Json => {
            let bytes = charset::encode(&body.to_string(), label).map_err(|error| bad(error.to_string()))?;
            Ok((bytes.into(), Some(format!("application/json; charset={label}"))))
        }
        Send::Xml { element } => {
            let element = Element::from_value(element, None, body).map_err(bad)?;
            let bytes = element
                .encode_with(&WriteOptions { charset: label, ..WriteOptions::default() })
                .map_err(|error| bad(error.to_string()))?;
            Ok((bytes.into(), Some(format!("application/xml; charset={label}"))))
        }
        Send::Form => {
            let fields =
                body.as_map().ok_or_else(|| bad(format!("a form is made of fields, and this is {}", body.kind())))?;
            let mut form = String::new();
            for (name, value) in fields {
                let text = match value {
                    Value::Null => continue,
                    value => value
                        .to_plain_text()
                        .ok_or_else(|| bad(format!("the form's field `{name}` is {}", value.kind())))?,
                };
                if !form.is_empty() {
                    form.push('&');
                }
                form.extend(utf8_percent_encode(name, NON_ALPHANUMERIC));
                form.push('=');
                form.extend(utf8_percent_encode(&text, NON_ALPHANUMERIC));
            }
            Ok((form.into(), Some("application/x-www-form-urlencoded".to_owned())))
        }
    }
}
