//! Bytes to a tree: the charset, the lexer's pieces through the gate, nesting, one root, namespaces, limits. One pass.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use ahash::AHashMap;
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::gate::{self, Bad, Name};
use super::{Attribute, Element, Node, QName, XML, names};
use crate::charset;
use crate::json::{DEEPEST, DecodeError};
use crate::limits::BodyLimits;

/// The namespace that the prefix `xmlns` has, and that nothing may be bound to (Namespaces §3).
pub(super) const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// Decodes one XML 1.0 document. `charset` is what the transport says (the `charset` parameter of a content type) and
/// wins over the XML declaration; a byte order mark that contradicts it is refused (RFC 7303 §3 would let the
/// mark win; here one of the two is wrong, and nobody can know which). Without `charset`, the mark decides, then the
/// declaration, then UTF-8.
///
/// # Errors
/// Anything that is not well-formed or not namespace-well-formed, any DOCTYPE, bytes that are not of their charset, or a
/// limit: those of `limits`, and 128 attributes and 64 namespace declarations an element, 256 bytes a name.
pub fn decode(bytes: &[u8], charset: Option<&str>, limits: &BodyLimits) -> Result<Element, DecodeError> {
    let over = |length: usize| {
        let reason = format!("the body has {length} bytes, {} are allowed", limits.bytes);
        DecodeError::at(b"", 0, true, reason)
    };
    if bytes.len() > limits.bytes {
        return Err(over(bytes.len()));
    }
    let text = text_of(bytes, charset)?;
    if text.len() > limits.bytes {
        return Err(over(text.len()));
    }
    Builder::new(&text, limits).build().map_err(|bad| bad.in_text(&text))
}

/// The text of a document by transport, mark and declaration, as [`decode`] finds it; nothing else is judged.
///
/// # Errors
/// Bytes that are not of their charset, and a charset that two places say differently.
pub fn text_of<'a>(bytes: &'a [u8], transport: Option<&str>) -> Result<Cow<'a, str>, DecodeError> {
    let marked = Encoding::for_bom(bytes).is_some();
    let label = match (transport, bytes) {
        (Some(label), _) => Some(label),
        // No mark, but `<?` or `<x` in UTF-16 (XML 1.0 appendix F).
        (None, [b'<', 0, _, 0, ..]) => Some("utf-16le"),
        (None, [0, b'<', 0, _, ..]) => Some("utf-16be"),
        (None, _) => declared_charset(bytes),
    };
    let bad = |offset: usize, reason: String| DecodeError::at(bytes, offset, false, reason);
    let wide = |label: &str| Encoding::for_label(label.as_bytes()).is_some_and(|e| e == UTF_16LE || e == UTF_16BE);
    if transport.is_none()
        && !marked
        && let Some(declared) = declared_charset(bytes).filter(|label| wide(label))
    {
        // What a serialiser of .NET writes into a string that is then sent as UTF-8.
        let reason = format!(
            "the document declares `{declared}` but is not in it; send `charset=` in the content type, or declare \
             the charset that it is in"
        );
        return Err(bad(0, reason));
    }
    let text = charset::decode(bytes, label).map_err(|error| bad(error.offset, error.reason))?;
    if transport.is_none()
        && matches!(text, Cow::Owned(_))
        && let Some(declared) = declared_charset(text.as_bytes())
        && bytes.first() != text.as_bytes().first()
        && !wide(declared)
    {
        return Err(bad(0, format!("the document is in UTF-16 but declares `{declared}`")));
    }
    Ok(text)
}

/// The label in the declaration of a document whose charset contains ASCII. Only a hint: the gate checks the declaration
/// itself later.
fn declared_charset(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let head = &bytes[..bytes.len().min(512)];
    if !head.starts_with(b"<?xml") {
        return None;
    }
    let end = head.windows(2).position(|pair| pair == b"?>")?;
    let head = std::str::from_utf8(&head[..end]).ok()?;
    let after = head[head.find("encoding")? + "encoding".len()..].trim_start().strip_prefix('=')?.trim_start();
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    after[1..].split_once(quote).map(|(label, _)| label)
}

struct Builder<'a> {
    text: &'a str,
    limits: &'a BodyLimits,
    /// Elements that are open, outermost first, each with its name as written and how many bindings it made.
    open: Vec<(Element, &'a str, usize)>,
    root: Option<Element>,
    /// What each prefix means, innermost last; the empty prefix is the default namespace.
    bindings: AHashMap<&'a str, Vec<Option<Arc<str>>>>,
    /// The prefixes that the open elements have bound, in order.
    bound: Vec<&'a str>,
    /// Names and namespaces come again and again: one allocation each.
    interned: AHashMap<&'a str, Arc<str>>,
    nodes: usize,
    /// Room for the attributes of one tag, used again.
    scratch: Vec<(Name<'a>, &'a str, usize)>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, limits: &'a BodyLimits) -> Self {
        Self {
            text,
            limits,
            open: Vec::new(),
            root: None,
            bindings: AHashMap::from([("xml", vec![Some(Arc::from(XML))])]),
            bound: Vec::new(),
            interned: AHashMap::new(),
            nodes: 0,
            scratch: Vec::new(),
        }
    }

    fn build(mut self) -> Result<Element, Bad> {
        if let Some((at, c)) = names::first_non_char(self.text) {
            return Err(Bad::new(at, format!("U+{:04X} is no character of XML", u32::from(c))));
        }
        // One byte order mark is the charset's and gone already. The lexer would pass over another and count from behind it.
        if self.text.starts_with('\u{feff}') {
            return Err(Bad::new(0, "text outside the root element (a second byte order mark)"));
        }
        let mut reader = Reader::from_str(self.text);
        // Nesting is checked here, with the place and both names; the lexer only cuts.
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        let mut start = 0;
        loop {
            // Before the lexer looks for its end: that is where an entity bomb would be read.
            if self.text.as_bytes()[start..].starts_with(b"<!DOCTYPE") {
                return Err(Bad::new(start, "a DOCTYPE is not taken here; send the document without it"));
            }
            let event = reader.read_event().map_err(|error| {
                let at = usize::try_from(reader.error_position()).unwrap_or(start);
                Bad::new(at, format!("not well-formed: {error}"))
            })?;
            let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            match event {
                Event::Start(_) => self.start(start, end, false)?,
                Event::Empty(_) => self.start(start, end, true)?,
                Event::End(_) => self.end(start, end)?,
                Event::Text(_) => self.characters(start, end)?,
                Event::CData(_) => self.section(start, end)?,
                Event::GeneralRef(_) => self.reference(start, end)?,
                Event::Comment(_) => gate::comment(self.text, start, end)?,
                Event::Decl(_) | Event::PI(_) => gate::instruction(self.text, start, end)?,
                Event::DocType(_) => return Err(Bad::new(start, "a DOCTYPE is not taken here")),
                Event::Eof => break,
            }
            start = end;
        }
        if let Some((_, name, _)) = self.open.last() {
            return Err(Bad::new(self.text.len(), format!("the document ends inside `<{name}>`")));
        }
        self.root.ok_or_else(|| Bad::new(self.text.len(), "there is no element"))
    }

    fn start(&mut self, start: usize, end: usize, empty: bool) -> Result<(), Bad> {
        if self.open.is_empty() && self.root.is_some() {
            return Err(Bad::new(start, "a second root element"));
        }
        let most = self.limits.depth.min(DEEPEST);
        if self.open.len() >= most {
            return Err(Bad::over(start, format!("nested more than {most} deep")));
        }
        let tag = gate::start_tag(self.text, start, end, empty, std::mem::take(&mut self.scratch))?;
        self.nodes += 1 + tag.attributes.len();
        if self.nodes > self.limits.nodes {
            return Err(Bad::over(start, format!("more than {} elements and attributes", self.limits.nodes)));
        }
        if tag.namespaces > 0 {
            for (name, raw, at) in &tag.attributes {
                self.bind(*name, raw, *at)?;
            }
        }
        let element = Element {
            name: self.resolve(tag.name, true)?,
            attributes: self.attributes(&tag.attributes, tag.namespaces)?,
            children: Vec::new(),
        };
        let mut room = tag.attributes;
        room.clear();
        self.scratch = room;
        self.open.push((element, tag.name.whole, tag.namespaces));
        if empty { self.close() } else { Ok(()) }
    }

    /// Binds a prefix, if the attribute declares one.
    fn bind(&mut self, name: Name<'a>, raw: &'a str, at: usize) -> Result<(), Bad> {
        let Some(prefix) = name.declares() else { return Ok(()) };
        let uri = gate::attribute_value(raw, at)?;
        let lawful = match (prefix, uri.as_str()) {
            ("xml", uri) => uri == XML,
            ("xmlns", _) | (_, XML | XMLNS) => false,
            (prefix, uri) => prefix.is_empty() || !uri.is_empty(),
        };
        if !lawful {
            return Err(Bad::new(name.at, format!("`{}` may not be bound to this", name.whole)));
        }
        let uri = (!uri.is_empty()).then(|| if uri == raw { self.intern(raw) } else { Arc::from(uri) });
        self.bindings.entry(prefix).or_default().push(uri);
        self.bound.push(prefix);
        Ok(())
    }

    fn attributes(&mut self, tag: &[(Name<'a>, &'a str, usize)], namespaces: usize) -> Result<Vec<Attribute>, Bad> {
        let mut seen = HashSet::new();
        let mut attributes: Vec<Attribute> = Vec::with_capacity(tag.len() - namespaces);
        for (name, raw, at) in tag {
            // Few attributes are compared with each other; many are hashed.
            let twice = |seen: &mut HashSet<QName>, expanded: &QName, before: &[Attribute]| {
                if tag.len() <= 8 { before.iter().any(|b| b.name == *expanded) } else { !seen.insert(expanded.clone()) }
            };
            if name.declares().is_some() {
                let first = tag.iter().position(|(other, _, _)| other.whole == name.whole);
                if first.is_some_and(|first| tag[first].2 != *at) {
                    return Err(Bad::new(name.at, format!("`{}` is declared twice on one element", name.whole)));
                }
                continue;
            }
            let expanded = self.resolve(*name, false)?;
            if twice(&mut seen, &expanded, &attributes) {
                return Err(Bad::new(name.at, format!("the attribute `{}` comes twice on one element", name.whole)));
            }
            let value = match super::holds_qname(&expanded) {
                false => gate::attribute_value(raw, *at)?,
                true => self.expanded_value(&gate::attribute_value(raw, *at)?),
            };
            if value.len() > self.limits.text {
                return Err(Bad::over(*at, format!("an attribute's value of more than {} bytes", self.limits.text)));
            }
            attributes.push(Attribute { name: expanded, value });
        }
        Ok(attributes)
    }

    /// A value that is a qualified name, in James Clark's notation: its prefix means nothing outside of this document. One that
    /// is bound to nothing stays as it is.
    fn expanded_value(&self, value: &str) -> String {
        let value = value.trim();
        let (prefix, local) = value.split_once(':').unwrap_or(("", value));
        match self.bindings.get(prefix).and_then(|stack| stack.last()) {
            Some(Some(namespace)) => QName::new(Some(namespace), local).to_string(),
            _ => value.to_owned(),
        }
    }

    /// The expanded name. Unprefixed attributes are in no namespace (Namespaces §6.2).
    fn resolve(&mut self, name: Name<'a>, element: bool) -> Result<QName, Bad> {
        let namespace = if name.prefix.is_empty() && !element {
            None
        } else {
            match self.bindings.get(name.prefix).and_then(|stack| stack.last()) {
                Some(namespace) => namespace.clone(),
                None if name.prefix.is_empty() => None,
                None => {
                    return Err(Bad::new(name.at, format!("the prefix `{}` is bound to no namespace", name.prefix)));
                }
            }
        };
        Ok(QName { namespace, local: self.intern(name.local) })
    }

    fn intern(&mut self, text: &'a str) -> Arc<str> {
        self.interned.entry(text).or_insert_with(|| Arc::from(text)).clone()
    }

    fn end(&mut self, start: usize, end: usize) -> Result<(), Bad> {
        let name = gate::end_tag(self.text, start, end)?;
        match self.open.last() {
            Some((_, open, _)) if *open == name => self.close(),
            Some((_, open, _)) => Err(Bad::new(start, format!("`</{name}>` where `</{open}>` is due"))),
            None => Err(Bad::new(start, format!("`</{name}>` closes nothing"))),
        }
    }

    fn close(&mut self) -> Result<(), Bad> {
        let Some((element, _, bindings)) = self.open.pop() else { return Ok(()) };
        for prefix in self.bound.drain(self.bound.len() - bindings..) {
            if let Some(stack) = self.bindings.get_mut(prefix) {
                stack.pop();
            }
        }
        match self.open.last_mut() {
            Some((parent, _, _)) => parent.children.push(Node::Element(element)),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn characters(&mut self, start: usize, end: usize) -> Result<(), Bad> {
        let raw = &self.text[start..end];
        if let Some(found) = raw.find("]]>") {
            return Err(Bad::new(start + found, "`]]>` in text; write `]]&gt;`"));
        }
        if self.open.is_empty() {
            return match raw.bytes().position(|byte| !names::is_space(byte)) {
                Some(found) => Err(Bad::new(start + found, "text outside the root element")),
                None => Ok(()),
            };
        }
        self.add_text(start, |text| gate::push_text(raw, text))
    }

    fn section(&mut self, start: usize, end: usize) -> Result<(), Bad> {
        let raw = self.text.get(start..end).and_then(|raw| raw.strip_prefix("<![CDATA["));
        let Some(inner) = raw.and_then(|raw| raw.strip_suffix("]]>")) else {
            return Err(Bad::new(start, "expected `<![CDATA[`"));
        };
        if self.open.is_empty() {
            return Err(Bad::new(start, "text outside the root element"));
        }
        self.add_text(start, |text| gate::push_text(inner, text))
    }

    fn reference(&mut self, start: usize, end: usize) -> Result<(), Bad> {
        let c = gate::reference(&self.text[start..end], start)?;
        if self.open.is_empty() {
            return Err(Bad::new(start, "text outside the root element"));
        }
        self.add_text(start, |text| text.push(c))
    }

    /// Adds to the text at the end of the innermost element: one node, however many pieces it comes in.
    fn add_text(&mut self, at: usize, add: impl FnOnce(&mut String)) -> Result<(), Bad> {
        let Some((element, _, _)) = self.open.last_mut() else { return Ok(()) };
        if !matches!(element.children.last(), Some(Node::Text(_))) {
            element.children.push(Node::Text(String::new()));
        }
        if let Some(Node::Text(text)) = element.children.last_mut() {
            add(text);
            if text.len() > self.limits.text {
                return Err(Bad::over(at, format!("a text of more than {} bytes", self.limits.text)));
            }
            if text.is_empty() {
                element.children.pop();
            }
        }
        Ok(())
    }
}
