//! The well-formedness gate: every piece that the lexer cuts out is checked by the grammar before anything is made of it.
//!
//! quick-xml finds where markup begins and ends and checks almost nothing else: it takes truncated documents, two roots,
//! NUL, bad names, missing white space. So each piece is parsed here again, strictly, from its raw text, and must
//! be used up to its last byte. The gate knows one piece at a time; what needs the whole (nesting, namespaces, one
//! root) is [`super::tree`]'s.

use super::names;
use crate::json::DecodeError;

/// The most bytes of a name as written, prefix and all.
pub(super) const MAX_NAME: usize = 256;
/// The most attributes of one element.
pub(super) const MAX_ATTRIBUTES: usize = 128;
/// The most namespace declarations of one element.
pub(super) const MAX_NAMESPACES: usize = 64;

/// What is wrong and where in the document.
pub(super) struct Bad {
    pub(super) at: usize,
    pub(super) too_large: bool,
    pub(super) reason: String,
}

impl Bad {
    pub(super) fn new(at: usize, reason: impl Into<String>) -> Self {
        Self { at, too_large: false, reason: reason.into() }
    }

    pub(super) fn over(at: usize, reason: impl Into<String>) -> Self {
        Self { at, too_large: true, reason: reason.into() }
    }

    pub(super) fn in_text(self, text: &str) -> DecodeError {
        DecodeError::at(text.as_bytes(), self.at, self.too_large, self.reason)
    }
}

/// A name as written: where it stands, its prefix (empty: none) and its local part.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) at: usize,
    pub(super) whole: &'a str,
    pub(super) prefix: &'a str,
    pub(super) local: &'a str,
}

impl<'a> Name<'a> {
    /// The prefix that an attribute of this name binds, if it is a namespace declaration (empty: the default).
    pub(super) fn declares(self) -> Option<&'a str> {
        match self {
            Name { prefix: "xmlns", local, .. } => Some(local),
            Name { whole: "xmlns", .. } => Some(""),
            _ => None,
        }
    }
}

/// A start tag or an empty-element tag, as written.
pub(super) struct Tag<'a> {
    pub(super) name: Name<'a>,
    /// Raw values, between their quotes, with where they begin.
    pub(super) attributes: Vec<(Name<'a>, &'a str, usize)>,
    /// How many of them declare a namespace.
    pub(super) namespaces: usize,
}

/// `STag` and `EmptyElemTag` (XML 1.0 §3.1). `attributes` is an empty vector to fill, so that its room is used again.
pub(super) fn start_tag<'a>(
    text: &'a str,
    start: usize,
    end: usize,
    empty: bool,
    mut attributes: Vec<(Name<'a>, &'a str, usize)>,
) -> Result<Tag<'a>, Bad> {
    let close = end - if empty { 2 } else { 1 };
    let mut cursor = Cursor { text, at: start + 1, end: close };
    let name = cursor.qname("an element's name")?;
    let mut namespaces = 0;
    loop {
        let spaced = cursor.skip_space();
        if cursor.at == close {
            return Ok(Tag { name, attributes, namespaces });
        }
        if !spaced {
            return Err(cursor.expected("white space or the end of the tag"));
        }
        let attribute = cursor.qname("an attribute's name")?;
        cursor.skip_space();
        cursor.expect(b'=', "`=` after the attribute's name")?;
        cursor.skip_space();
        let (value, at) = cursor.quoted()?;
        if let Some(found) = value.find('<') {
            return Err(Bad::new(at + found, "`<` in an attribute's value; write `&lt;`"));
        }
        if attribute.declares().is_some() {
            namespaces += 1;
        }
        if namespaces > MAX_NAMESPACES {
            return Err(Bad::over(
                attribute.at,
                format!("more than {MAX_NAMESPACES} namespaces declared on one element"),
            ));
        }
        if attributes.len() >= MAX_ATTRIBUTES + namespaces {
            return Err(Bad::over(attribute.at, format!("more than {MAX_ATTRIBUTES} attributes on one element")));
        }
        attributes.push((attribute, value, at));
    }
}

/// `ETag` (§3.1): the name as written.
pub(super) fn end_tag(text: &str, start: usize, end: usize) -> Result<&str, Bad> {
    let mut cursor = Cursor { text, at: start + 2, end: end - 1 };
    let name = cursor.qname("an element's name")?;
    cursor.skip_space();
    if cursor.at != cursor.end {
        return Err(cursor.expected("`>`"));
    }
    Ok(name.whole)
}

/// `Comment` (§2.5).
pub(super) fn comment(text: &str, start: usize, end: usize) -> Result<(), Bad> {
    let inner = text.get(start + 4..end.saturating_sub(3)).unwrap_or("-");
    match inner.find("--") {
        Some(found) => Err(Bad::new(start + 4 + found, "`--` inside a comment")),
        None if inner.ends_with('-') => Err(Bad::new(end - 4, "a comment ends with `--->`")),
        None => Ok(()),
    }
}

/// `PI` (§2.6), and the XML declaration (§2.8), which may stand at the very beginning only.
pub(super) fn instruction(text: &str, start: usize, end: usize) -> Result<(), Bad> {
    let mut cursor = Cursor { text, at: start + 2, end: end - 2 };
    let target = cursor.name("the target of a processing instruction")?;
    if target == "xml" && start == 0 {
        return declaration(cursor);
    }
    if target == "xml" {
        return Err(Bad::new(start, "an XML declaration may stand only at the very beginning of the document"));
    }
    if target.eq_ignore_ascii_case("xml") || target.contains(':') {
        return Err(Bad::new(start + 2, format!("`{target}` cannot be the target of a processing instruction")));
    }
    if cursor.at != cursor.end && !cursor.skip_space() {
        return Err(cursor.expected("white space or `?>`"));
    }
    Ok(())
}

/// The rest of an XML declaration: version, then encoding, then standalone.
fn declaration(mut cursor: Cursor<'_>) -> Result<(), Bad> {
    let (version, at) = cursor.pseudo_attribute("version")?.ok_or_else(|| cursor.expected("`version=\"1.0\"`"))?;
    // A later 1.x is read as 1.0 (5th edition §2.8): what 1.1 alone allows is refused where it comes.
    if !version.strip_prefix("1.").is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())) {
        return Err(Bad::new(at, "only XML 1.0 is spoken here"));
    }
    if let Some((encoding, at)) = cursor.pseudo_attribute("encoding")? {
        let bytes = encoding.as_bytes();
        let follows = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        if !bytes.first().is_some_and(u8::is_ascii_alphabetic) || !bytes.iter().all(follows) {
            return Err(Bad::new(at, "the declared encoding is no name of a charset"));
        }
    }
    if let Some((standalone, at)) = cursor.pseudo_attribute("standalone")?
        && !matches!(standalone, "yes" | "no")
    {
        return Err(Bad::new(at, "`standalone` is `yes` or `no`"));
    }
    cursor.skip_space();
    if cursor.at == cursor.end { Ok(()) } else { Err(cursor.expected("`?>`")) }
}

/// The character that `&…;` means. `raw` is the whole reference, as the lexer or [`attribute_value`] cut it out.
pub(super) fn reference(raw: &str, at: usize) -> Result<char, Bad> {
    let Some(name) = raw.strip_prefix('&').and_then(|rest| rest.strip_suffix(';')) else {
        return Err(Bad::new(at, "`&` begins no reference; write `&amp;`"));
    };
    let code = match name {
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "amp" => return Ok('&'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => match (name.strip_prefix("#x"), name.strip_prefix('#')) {
            (Some(digits), _) => parse_code(digits, 16),
            (None, Some(digits)) => parse_code(digits, 10),
            (None, None) => {
                let shown: String = name.chars().take(40).collect();
                let shown = shown.escape_debug();
                return Err(Bad::new(
                    at,
                    format!("the entity `{shown}` is not known; only lt, gt, amp, apos, quot are"),
                ));
            }
        },
    };
    code.and_then(char::from_u32)
        .filter(|c| names::is_char(*c))
        .ok_or_else(|| Bad::new(at, "a character reference to what is no character of XML"))
}

fn parse_code(digits: &str, radix: u32) -> Option<u32> {
    // `from_str_radix` would take a sign.
    let sound = digits.chars().all(|c| c.is_digit(radix));
    // Leading zeros are allowed without end, so the length says nothing.
    sound.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

/// An attribute's value, its references resolved and its white space normalised (§3.3.3, for CDATA).
pub(super) fn attribute_value(raw: &str, at: usize) -> Result<String, Bad> {
    if !raw.bytes().any(|byte| matches!(byte, b'&' | b'\t' | b'\n' | b'\r')) {
        return Ok(raw.to_owned());
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(found) = rest.find(['&', '\t', '\n', '\r']) {
        value.push_str(&rest[..found]);
        let here = at + raw.len() - rest.len() + found;
        rest = &rest[found..];
        let used = match rest.as_bytes()[0] {
            b'&' => {
                let end = rest.find(';').map_or(1, |semicolon| semicolon + 1);
                value.push(reference(&rest[..end], here)?);
                end
            }
            byte => {
                value.push(' ');
                if byte == b'\r' && rest.as_bytes().get(1) == Some(&b'\n') { 2 } else { 1 }
            }
        };
        rest = &rest[used..];
    }
    value.push_str(rest);
    Ok(value)
}

/// Character data between markup, with line ends normalised (§2.11), at the end of `out`. CDATA sections come here too.
pub(super) fn push_text(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some(found) = rest.find('\r') {
        out.push_str(&rest[..found]);
        out.push('\n');
        rest = &rest[found + 1..];
        rest = rest.strip_prefix('\n').unwrap_or(rest);
    }
    out.push_str(rest);
}

/// A place within one piece of markup.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Where the closing delimiter of the piece begins.
    end: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..self.end).unwrap_or_default()
    }

    fn skip_space(&mut self) -> bool {
        let start = self.at;
        while self.at < self.end && names::is_space(self.text.as_bytes()[self.at]) {
            self.at += 1;
        }
        self.at > start
    }

    /// A `Name` (§2.3), colons and all.
    fn name(&mut self, what: &str) -> Result<&'a str, Bad> {
        let rest = self.rest();
        let mut length = 0;
        for (offset, c) in rest.char_indices() {
            let fits = c == ':' || if offset == 0 { names::is_start(c) } else { names::is_part(c) };
            if !fits {
                break;
            }
            length = offset + c.len_utf8();
            if length > MAX_NAME {
                return Err(Bad::over(self.at, format!("a name of more than {MAX_NAME} bytes")));
            }
        }
        if length == 0 {
            return Err(self.expected(what));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// A `QName` (Namespaces §4): at most one colon, something before and after it.
    fn qname(&mut self, what: &str) -> Result<Name<'a>, Bad> {
        let at = self.at;
        let whole = self.name(what)?;
        let Some((prefix, local)) = whole.split_once(':') else {
            return Ok(Name { at, whole, prefix: "", local: whole });
        };
        if prefix.is_empty() || !names::is_ncname(local) {
            return Err(Bad::new(
                at,
                format!("`{whole}` is no name: a colon stands between a prefix and a local name"),
            ));
        }
        Ok(Name { at, whole, prefix, local })
    }

    /// A quoted value: what is between the quotes, and where that begins.
    fn quoted(&mut self) -> Result<(&'a str, usize), Bad> {
        let rest = self.rest();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return Err(self.expected("a value in quotes"));
        };
        let inner = &rest[1..];
        let Some(length) = inner.find(quote) else {
            return Err(Bad::new(self.at, "a quoted value begins here and does not end in this tag"));
        };
        let at = self.at + 1;
        self.at = at + length + 1;
        Ok((&inner[..length], at))
    }

    /// ` name="value"` of the XML declaration, if it comes next.
    fn pseudo_attribute(&mut self, name: &str) -> Result<Option<(&'a str, usize)>, Bad> {
        let trimmed = self.rest().trim_start_matches([' ', '\t', '\n', '\r']);
        if trimmed.len() == self.rest().len() || !trimmed.starts_with(name) {
            return Ok(None);
        }
        self.skip_space();
        self.at += name.len();
        self.skip_space();
        self.expect(b'=', "`=`")?;
        self.skip_space();
        self.quoted().map(Some)
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), Bad> {
        if self.rest().as_bytes().first() != Some(&byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    fn expected(&self, what: &str) -> Bad {
        let found = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        let found = found.map_or_else(|| "the end".to_owned(), |c| format!("`{}`", c.escape_debug()));
        Bad::new(self.at, format!("expected {what}, found {found}"))
    }
}
