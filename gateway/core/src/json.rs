//! JSON to [`Value`] and back (RFC 8259): capped, exact, duplicate keys refused, the place in every error.

use crate::limits::BodyLimits;
use crate::value::Value;

/// Why bytes are not a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (line {line}, column {column})")]
pub struct DecodeError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte offset.
    pub offset: usize,
    /// Over a limit rather than malformed.
    pub too_large: bool,
    /// What is wrong, for a person.
    pub reason: String,
}

/// Decodes one JSON document in UTF-8 (a byte order mark is skipped).
///
/// # Errors
/// Anything that RFC 8259 does not allow, a duplicate key, or a limit.
pub fn decode(_bytes: &[u8], _limits: &BodyLimits) -> Result<Value, DecodeError> {
    unimplemented!()
}

/// Encodes compactly.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    encode_into(value, &mut out);
    out
}

/// Encodes compactly at the end of `out`.
pub fn encode_into(_value: &Value, _out: &mut Vec<u8>) {
    unimplemented!()
}
