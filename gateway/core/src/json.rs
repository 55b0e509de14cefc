//! JSON to [`Value`] and back (RFC 8259): capped, exact, duplicate keys refused, the place in every error.
//!
//! Why a codec of our own: `docs/decisions/0002-own-json-codec.md`. It reads one whole document from memory; bodies are
//! capped before they come here. It is on the way of every message, so it makes one pass and no copy but the result.

use std::borrow::Cow;

use crate::limits::BodyLimits;
use crate::map::{Map, Name};
use crate::number::Number;
use crate::value::Value;

/// Why bytes are not a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (line {line}, column {column})")]
pub struct DecodeError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte offset; in the text as UTF-8 where the document came in another charset.
    pub offset: usize,
    /// Over a limit rather than malformed.
    pub too_large: bool,
    /// What is wrong, for a person.
    pub reason: String,
}

impl DecodeError {
    /// An error at a byte offset of a text. Counts lines only now, when something is wrong.
    pub(crate) fn at(text: &[u8], offset: usize, too_large: bool, reason: impl Into<String>) -> Self {
        let before = &text[..offset.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let is_first_byte = |byte: &&u8| **byte & 0xC0 != 0x80;
        Self {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before[line_start..].iter().filter(is_first_byte).count() + 1,
            offset,
            too_large,
            reason: reason.into(),
        }
    }
}

/// The deepest nesting that is taken, whatever the limits say: values are dropped and compared recursively, and a task's
/// stack is 2 MiB.
pub(crate) const DEEPEST: usize = 512;

/// Decodes one JSON document in UTF-8 (a byte order mark is skipped).
///
/// # Errors
/// Anything that RFC 8259 does not allow, a duplicate key, a lone surrogate, or a limit.
pub fn decode(bytes: &[u8], limits: &BodyLimits) -> Result<Value, DecodeError> {
    if bytes.len() > limits.bytes {
        let reason = format!("the body has {} bytes, {} are allowed", bytes.len(), limits.bytes);
        return Err(DecodeError::at(bytes, 0, true, reason));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let bad = error.valid_up_to();
        DecodeError::at(bytes, bad, false, format!("the byte 0x{:02X} is no UTF-8 here", bytes[bad]))
    })?;
    let mut decoder = Decoder { text, bytes, at: 0, limits, nodes: 0 };
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        decoder.at = 3;
    }
    decoder.skip_space();
    let value = decoder.value(0)?;
    decoder.skip_space();
    match decoder.peek() {
        None => Ok(value),
        Some(_) => Err(decoder.expected("the end of the document")),
    }
}

struct Decoder<'a> {
    text: &'a str,
    /// The same, to look at without asking for character boundaries.
    bytes: &'a [u8],
    at: usize,
    limits: &'a BodyLimits,
    nodes: usize,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(self.over(self.at, format!("more than {} values", self.limits.nodes)));
        }
        match self.peek() {
            Some(b'"') => self.string().map(|text| Value::Text(text.into_owned())),
            Some(b'{') => self.map(self.deeper(depth)?),
            Some(b'[') => self.list(self.deeper(depth)?),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') if self.take(b"true") => Ok(Value::Bool(true)),
            Some(b'f') if self.take(b"false") => Ok(Value::Bool(false)),
            Some(b'n') if self.take(b"null") => Ok(Value::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, DecodeError> {
        let most = self.limits.depth.min(DEEPEST);
        if depth >= most {
            return Err(self.over(self.at, format!("nested more than {most} deep")));
        }
        Ok(depth + 1)
    }

    fn map(&mut self, depth: usize) -> Result<Value, DecodeError> {
        self.at += 1;
        let mut map = Map::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(map));
        }
        loop {
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.expected(if map.is_empty() { "a key in quotes or `}`" } else { "a key in quotes" }));
            }
            if map.len() >= self.limits.keys {
                return Err(self.over(key_at, format!("more than {} keys in one object", self.limits.keys)));
            }
            let key = Name::from(self.string()?);
            if map.contains_key(&key) {
                return Err(self.bad(key_at, format!("the key {} comes twice in one object", quoted(&key))));
            }
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.expected(&format!("`:` after the key {}", quoted(&key))));
            }
            self.at += 1;
            self.skip_space();
            let value = self.value(depth)?;
            map.push(key, value);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Map(map));
                }
                _ => {
                    let last = map.last().map(|(key, _)| quoted(key)).unwrap_or_default();
                    return Err(self.expected(&format!("`,` or `}}` after the value of {last}")));
                }
            }
            self.skip_space();
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, DecodeError> {
        self.at += 1;
        let mut list = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(list));
                }
                _ => return Err(self.expected(&format!("`,` or `]` after element {} of the list", list.len()))),
            }
            self.skip_space();
        }
    }

    fn number(&mut self) -> Result<Value, DecodeError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => {
                self.at += 1;
                if matches!(self.peek(), Some(b'0'..=b'9')) {
                    return Err(self.bad(start, "a number does not begin with 0; text with leading zeros needs quotes"));
                }
            }
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.expected("a digit")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits_after("a digit after the decimal point")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits_after("a digit in the exponent")?;
        }
        let literal = &self.text[start..self.at];
        if literal.len() > self.limits.text {
            return Err(self.over(start, format!("a number of more than {} digits", self.limits.text)));
        }
        Ok(Value::Number(Number::from_literal(literal)))
    }

    fn digits_after(&mut self, what: &str) -> Result<(), DecodeError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.expected(what));
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    /// A string, from its opening quote. The common one has no escape and is copied once.
    fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let open = self.at;
        self.at += 1;
        let mut run = self.at;
        let mut built = String::new();
        loop {
            while self.bytes.get(self.at).is_some_and(|byte| PLAIN[usize::from(*byte)]) {
                self.at += 1;
            }
            let text: &'a str = self.text;
            let piece = &text[run..self.at];
            if built.len() + piece.len() > self.limits.text {
                return Err(self.over(open, format!("a text of more than {} bytes", self.limits.text)));
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if built.is_empty() {
                        return Ok(Cow::Borrowed(piece));
                    }
                    built.push_str(piece);
                    return Ok(Cow::Owned(built));
                }
                Some(b'\\') => {
                    built.push_str(piece);
                    built.push(self.escape()?);
                    run = self.at;
                }
                Some(control) => {
                    let reason =
                        format!("a text holds the raw control character 0x{control:02X}; write \\u{control:04x}");
                    return Err(self.bad(self.at, reason));
                }
                None => return Err(self.bad(open, "a text begins here and does not end")),
            }
        }
    }

    /// An escape, from its backslash.
    fn escape(&mut self) -> Result<char, DecodeError> {
        let start = self.at;
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(start);
            }
            _ => return Err(self.expected(r#"one of `"\/bfnrtu` after a backslash"#)),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, DecodeError> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..=0xDBFF if self.take(b"\\u") => match self.hex4()? {
                low @ 0xDC00..=0xDFFF => 0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00),
                _ => first,
            },
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| {
            self.bad(start, format!("\\u{first:04x} is half of a surrogate pair; the other half is missing"))
        })
    }

    fn hex4(&mut self) -> Result<u32, DecodeError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.expected("four hexadecimal digits after `\\u`"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, word: &[u8]) -> bool {
        let there = self.bytes[self.at..].starts_with(word);
        if there {
            self.at += word.len();
        }
        there
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expected(&self, what: &str) -> DecodeError {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("found `{}`", c.escape_debug()),
            None => "the document ends here".to_owned(),
        };
        self.bad(self.at, format!("expected {what}, {found}"))
    }

    fn bad(&self, offset: usize, reason: impl Into<String>) -> DecodeError {
        DecodeError::at(self.bytes, offset, false, reason)
    }

    fn over(&self, offset: usize, reason: impl Into<String>) -> DecodeError {
        DecodeError::at(self.bytes, offset, true, reason)
    }
}

/// Bytes that stand for themselves inside a string: all but the quote, the backslash and controls.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// A key for a message: in backticks, cut to 40 characters, never raw control characters.
fn quoted(key: &str) -> String {
    let shown: String = key.chars().take(40).flat_map(char::escape_debug).collect();
    let cut = if key.chars().nth(40).is_some() { "…" } else { "" };
    format!("`{shown}{cut}`")
}

/// Encodes compactly.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    encode_into(value, &mut out);
    out
}

/// Encodes compactly at the end of `out`.
pub fn encode_into(value: &Value, out: &mut Vec<u8>) {
    use std::io::Write as _;
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        // Writing to a Vec cannot fail.
        Value::Number(number) => drop(write!(out, "{number}")),
        Value::Text(text) => encode_text(text, out),
        Value::List(list) => {
            out.push(b'[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                encode_into(item, out);
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.push(b'{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                encode_text(key, out);
                out.push(b':');
                encode_into(item, out);
            }
            out.push(b'}');
        }
    }
}

/// A string with the escapes that RFC 8259 §7 demands and no more.
fn encode_text(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut run = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if PLAIN[usize::from(*byte)] {
            continue;
        }
        out.extend_from_slice(&bytes[run..at]);
        run = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[run..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
