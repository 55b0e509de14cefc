//! W3C Trace Context: the one header that a caller's context comes in.

use http::HeaderMap;

/// The caller's `traceparent`, if it sends one that is well-formed (version 00, W3C Trace Context §3.2).
#[must_use]
pub fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let lengths = [2, 32, 16, 2];
    let mut parts = text.split('-');
    let sound = lengths.iter().all(|length| {
        parts.next().is_some_and(|part| {
            part.len() == *length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    });
    (sound && parts.next().is_none() && !text.starts_with("ff")).then(|| text.to_owned())
}
