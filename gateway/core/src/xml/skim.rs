//! Looks through a document for what somebody reads of it, and builds nothing else: no tree, and no value beside the
//! paths that are asked for.
//!
//! What is taken and what is refused is [`decode`](super::decode)'s to say. The skimmer goes its own quick way through
//! what nearly all documents are made of, hands every other piece to the same gate, and where it meets anything that it
//! is not sure of, it leaves the whole document to the tree: slower, never otherwise. The tests hold both against each other.

use memchr::{memchr3, memchr3_iter, memmem};

use super::gate::{self, Name};
use super::tree::{XMLNS, decode, text_of};
use super::{SOAP_ENC, SOAP12_ENC, XML, XSI, names};
use crate::json::{DEEPEST, DecodeError};
use crate::limits::BodyLimits;
use crate::reading::Reading;
use crate::value::{Map, Value};

/// What `reading` asks for of a document: where it asks, the same as [`Element::to_value`](super::Element::to_value) of
/// [`decode`](super::decode). More may stand in it; what it lacks was not asked for.
///
/// # Errors
/// As [`decode`](super::decode): all of the document is judged, whatever is read of it.
pub fn skim(bytes: &[u8], charset: Option<&str>, limits: &BodyLimits, reading: &Reading) -> Result<Value, DecodeError> {
    if bytes.len() <= limits.bytes
        && let Ok(text) = text_of(bytes, charset)
        && text.len() <= limits.bytes
        && let Some(value) = Skimmer::new(&text, limits).skim(reading)
    {
        return Ok(value);
    }
    decode(bytes, charset, limits).map(|element| element.to_value())
}

/// The most prefixes that are bound at a time: each name looks through them.
const MAX_BINDINGS: usize = 64;

/// Bytes that may begin a local name, and those that may stand in one. What is not ASCII is the gate's.
const START: u8 = 1;
const PART: u8 = 2;

static NAMES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128u8 {
        let starts = byte.is_ascii_alphabetic() || byte == b'_';
        let part = starts || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        table[byte as usize] = if starts {
            START | PART
        } else if part {
            PART
        } else {
            0
        };
        byte += 1;
    }
    table
};

/// An element that is open.
struct Open<'a> {
    /// Its name as written.
    name: &'a str,
    /// How many namespaces it bound.
    bound: usize,
}

/// What is kept of an open element, where something is read in it.
struct Kept<'r> {
    reading: &'r Reading,
    map: Map,
    text: String,
    has_elements: bool,
    has_attributes: bool,
    is_nil: bool,
}

struct Skimmer<'a, 'r> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    limits: &'a BodyLimits,
    open: Vec<Open<'a>>,
    /// Of the outermost open elements: as many as are read.
    kept: Vec<Kept<'r>>,
    /// Prefixes and what they are bound to, innermost last.
    bindings: Vec<(&'a str, &'a str)>,
    nodes: usize,
    /// Bytes of the text that stands before `at` without an element in between.
    run: usize,
    scratch: Vec<(Name<'a>, &'a str, usize)>,
    root: Option<Value>,
}

impl<'a, 'r> Skimmer<'a, 'r> {
    fn new(text: &'a str, limits: &'a BodyLimits) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            limits,
            open: Vec::new(),
            kept: Vec::new(),
            bindings: vec![("xml", XML)],
            nodes: 0,
            run: 0,
            scratch: Vec::new(),
            root: None,
        }
    }

    /// `None`: the tree must say.
    fn skim(mut self, reading: &'r Reading) -> Option<Value> {
        if names::first_non_char(self.text).is_some() || self.text.starts_with('\u{feff}') {
            return None;
        }
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'<' => self.markup(reading)?,
                _ => self.characters()?,
            }
        }
        self.root.filter(|_| self.open.is_empty())
    }

    fn byte(&self, at: usize) -> u8 {
        // NUL stands in no document.
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn markup(&mut self, reading: &'r Reading) -> Option<()> {
        let start = self.at;
        match self.byte(start + 1) {
            b'/' => self.end(),
            b'!' if self.bytes[start..].starts_with(b"<!--") => {
                let after = &self.bytes[start + 4..];
                if after.starts_with(b">") || after.starts_with(b"->") {
                    return None;
                }
                self.at = start + 4 + memmem::find(after, b"-->")? + 3;
                gate::comment(self.text, start, self.at).ok()
            }
            b'!' => {
                let inner = self.text[start..].strip_prefix("<![CDATA[").filter(|_| !self.open.is_empty())?;
                let inner = &inner[..memmem::find(inner.as_bytes(), b"]]>")?];
                self.at = start + "<![CDATA[".len() + inner.len() + "]]>".len();
                self.say(inner)
            }
            b'?' => {
                self.at = start + 2 + memmem::find(&self.bytes[start + 2..], b"?>")? + 2;
                gate::instruction(self.text, start, self.at).ok()
            }
            _ => self.start(reading),
        }
    }

    fn start(&mut self, reading: &'r Reading) -> Option<()> {
        if self.open.is_empty() && self.root.is_some() || self.open.len() >= self.limits.depth.min(DEEPEST) {
            return None;
        }
        let start = self.at;
        let name = |from: usize| {
            let mut at = from;
            if NAMES[usize::from(self.byte(at))] & START != 0 {
                while NAMES[usize::from(self.byte(at))] & PART != 0 {
                    at += 1;
                }
            }
            at
        };
        let mut end = name(start + 1);
        let mut local = start + 1;
        if self.byte(end) == b':' && end > local {
            local = end + 1;
            end = name(local);
        }
        let empty = match (self.byte(end), self.byte(end + 1)) {
            _ if end == local || end - start > gate::MAX_NAME => return self.start_by_gate(reading),
            (b'>', _) => false,
            (b'/', b'>') => true,
            _ => return self.start_by_gate(reading),
        };
        self.count(1)?;
        if local > start + 1 {
            self.namespace(&self.text[start + 1..local - 1])?;
        }
        self.at = end + 1 + usize::from(empty);
        let kept = self.reading(&self.text[local..end], reading).map(|reading| self.keep(reading));
        self.push(&self.text[start + 1..end], 0, kept, empty)
    }

    /// A start tag with attributes, or with a name that is not ASCII.
    fn start_by_gate(&mut self, reading: &'r Reading) -> Option<()> {
        let start = self.at;
        let mut quote = None;
        let mut marks = memchr3_iter(b'>', b'"', b'\'', &self.bytes[start..]);
        let end = loop {
            let at = start + marks.next()?;
            match (quote, self.bytes[at]) {
                (None, b'>') => break at + 1,
                (None, mark) => quote = Some(mark),
                (Some(open), mark) if open == mark => quote = None,
                _ => {}
            }
        };
        let empty = self.bytes[end - 2] == b'/';
        let tag = gate::start_tag(self.text, start, end, empty, std::mem::take(&mut self.scratch)).ok()?;
        self.count(1 + tag.attributes.len())?;
        self.at = end;
        for (name, raw, _) in &tag.attributes {
            let Some(prefix) = name.declares() else { continue };
            // Whatever is not the plain case of a prefix and a name is the tree's.
            let plain = !matches!(prefix, "xml" | "xmlns") && !matches!(*raw, "" | XML | XMLNS);
            if !plain || raw.bytes().any(|byte| matches!(byte, b'&' | b'\t' | b'\n' | b'\r')) {
                return None;
            }
            self.bindings.push((prefix, raw));
        }
        if self.bindings.len() > MAX_BINDINGS {
            return None;
        }
        if !tag.name.prefix.is_empty() {
            self.namespace(tag.name.prefix)?;
        }
        let mut kept = self.reading(tag.name.local, reading).map(|reading| self.keep(reading));
        for (index, (name, raw, at)) in tag.attributes.iter().enumerate() {
            let before = &tag.attributes[..index];
            if before
                .iter()
                .any(|(other, ..)| other.local == name.local && other.declares().is_none() == name.declares().is_none())
            {
                return None;
            }
            if name.declares().is_none() {
                self.attribute(*name, raw, *at, kept.as_mut())?;
            }
        }
        let bound = tag.namespaces;
        let name = tag.name.whole;
        let mut room = tag.attributes;
        room.clear();
        self.scratch = room;
        self.push(name, bound, kept, empty)
    }

    fn attribute(&self, name: Name<'a>, raw: &'a str, at: usize, kept: Option<&mut Kept<'r>>) -> Option<()> {
        let namespace = if name.prefix.is_empty() { "" } else { self.namespace(name.prefix)? };
        if raw.len() > self.limits.text || matches!(namespace, SOAP_ENC | SOAP12_ENC) {
            return None;
        }
        match kept {
            // Its references are judged all the same.
            None if raw.contains('&') => gate::attribute_value(raw, at).ok().map(drop),
            None => Some(()),
            Some(kept) => {
                let value = gate::attribute_value(raw, at).ok()?;
                if namespace == XSI {
                    kept.is_nil |= name.local == "nil" && matches!(value.trim(), "true" | "1");
                    return Some(());
                }
                kept.has_attributes = true;
                let key = format!("@{}", name.local);
                if kept.reading.below(&key).is_some() {
                    kept.map.append(key, Value::Text(value));
                }
                Some(())
            }
        }
    }

    fn count(&mut self, nodes: usize) -> Option<()> {
        self.nodes += nodes;
        (self.nodes <= self.limits.nodes).then_some(())
    }

    /// What a prefix is bound to.
    fn namespace(&self, prefix: &str) -> Option<&'a str> {
        self.bindings.iter().rev().find(|(known, _)| *known == prefix).map(|(_, namespace)| *namespace)
    }

    /// What is read in an element that begins here; tells the one around it that it has an element.
    fn reading(&mut self, local: &str, root: &'r Reading) -> Option<&'r Reading> {
        if self.open.is_empty() {
            return Some(root);
        }
        if self.kept.len() < self.open.len() {
            return None;
        }
        let around = self.kept.last_mut()?;
        around.has_elements = true;
        around.reading.below(local)
    }

    fn keep(&self, reading: &'r Reading) -> Kept<'r> {
        Kept {
            reading,
            map: Map::new(),
            text: String::new(),
            has_elements: false,
            has_attributes: false,
            is_nil: false,
        }
    }

    fn push(&mut self, name: &'a str, bound: usize, kept: Option<Kept<'r>>, empty: bool) -> Option<()> {
        self.run = 0;
        self.kept.extend(kept);
        self.open.push(Open { name, bound });
        if empty { self.close() } else { Some(()) }
    }

    fn end(&mut self) -> Option<()> {
        let name = self.open.last()?.name.as_bytes();
        let mut at = self.at + 2;
        if !self.bytes[at..].starts_with(name) {
            return None;
        }
        at += name.len();
        while names::is_space(self.byte(at)) {
            at += 1;
        }
        if self.byte(at) != b'>' {
            return None;
        }
        self.at = at + 1;
        self.close()
    }

    fn close(&mut self) -> Option<()> {
        self.run = 0;
        let is_kept = self.kept.len() == self.open.len();
        let open = self.open.pop()?;
        self.bindings.truncate(self.bindings.len() - open.bound);
        if is_kept {
            let value = self.kept.pop()?.into_value();
            match self.kept.last_mut() {
                Some(around) => around.map.append(open.name.rsplit(':').next().unwrap_or(open.name), value),
                None => self.root = Some(value),
            }
        }
        Some(())
    }

    /// Text up to the next markup.
    fn characters(&mut self) -> Option<()> {
        let start = self.at;
        if self.open.is_empty() {
            while names::is_space(self.byte(self.at)) {
                self.at += 1;
            }
            return (self.at > start).then_some(());
        }
        let mut at = start;
        while let Some(found) = memchr3(b'<', b'&', b']', &self.bytes[at..]) {
            at += found;
            match self.bytes[at] {
                b'<' => break,
                b']' if self.bytes[at..].starts_with(b"]]>") => return None,
                b']' => at += 1,
                _ => {
                    self.say(&self.text[self.at..at])?;
                    let end = at + memmem::find(&self.bytes[at..], b";")? + 1;
                    let c = gate::reference(&self.text[at..end], at).ok()?;
                    if self.kept.len() == self.open.len() {
                        self.kept.last_mut()?.text.push(c);
                    }
                    self.run += c.len_utf8();
                    (self.at, at) = (end, end);
                }
            }
        }
        if self.bytes.get(at) != Some(&b'<') {
            return None;
        }
        let rest = &self.text[self.at..at];
        self.at = at;
        self.say(rest)
    }

    /// Takes up a piece of text.
    fn say(&mut self, raw: &str) -> Option<()> {
        self.run += raw.len();
        if self.run > self.limits.text {
            return None;
        }
        if self.kept.len() == self.open.len() {
            gate::push_text(raw, &mut self.kept.last_mut()?.text);
        }
        Some(())
    }
}

impl Kept<'_> {
    /// As [`Element::to_value`](super::Element::to_value), of what was kept.
    fn into_value(mut self) -> Value {
        let is_nil = self.is_nil && !self.has_elements && self.text.trim().is_empty();
        let says_something = match self.has_elements {
            _ if is_nil => true,
            true => self.text.bytes().any(|byte| !names::is_space(byte)),
            false => !self.text.is_empty(),
        };
        let text = if is_nil { Value::Null } else { Value::Text(self.text) };
        if !self.has_attributes && !self.has_elements {
            return text;
        }
        if says_something {
            self.map.insert("#text", text);
        }
        Value::Map(self.map)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::WriteOptions;
    use super::super::properties::element;
    use super::*;
    use crate::corpus;
    use crate::path::Path;

    /// What the skimmer itself says.
    fn alone(text: &str, reading: &Reading) -> Option<Value> {
        Skimmer::new(text, &BodyLimits::default()).skim(reading)
    }

    /// Every path in a value, with its names alone.
    fn paths(value: &Value, before: &[String], found: &mut Vec<Vec<String>>) {
        match value {
            Value::Map(map) => {
                for (name, inner) in map {
                    let path = [before, &[name.to_string()]].concat();
                    paths(inner, &path, found);
                    found.push(path);
                }
            }
            Value::List(list) => list.iter().for_each(|item| paths(item, before, found)),
            _ => {}
        }
    }

    /// What is left of a value where only these names are looked at.
    fn below(value: &Value, path: &[String]) -> Value {
        match (value, path.split_first()) {
            (value, None) => value.clone(),
            (Value::Map(map), Some((name, rest))) => {
                map.get(name).map_or(Value::Bool(false), |inner| below(inner, rest))
            }
            (Value::List(list), Some(_)) => Value::List(list.iter().map(|item| below(item, path)).collect()),
            (other, Some(_)) => other.clone(),
        }
    }

    /// Holds the skimmer against the tree: what the one takes the other takes, and both say the same.
    fn hold(text: &str) -> bool {
        // Which charset it is in was found out before.
        let utf8 = Some("utf-8");
        let tree = decode(text.as_bytes(), utf8, &BodyLimits::default()).map(|element| element.to_value());
        let Some(whole) = alone(text, &Reading::whole()) else {
            assert!(alone(text, &Reading::default()).is_none(), "{text}");
            return false;
        };
        let tree = tree.unwrap_or_else(|error| panic!("only the skimmer takes it: {error}: {text}"));
        assert_eq!(whole, tree, "{text}");
        let mut found = Vec::new();
        paths(&tree, &[], &mut found);
        for path in found.iter().take(40) {
            let mut reading = Reading::default();
            path.iter().fold(&mut reading, |reading, name| reading.field(name)).add_all();
            let skimmed = alone(text, &reading).expect("what is judged does not depend on what is read");
            assert_eq!(below(&skimmed, path), below(&tree, path), "{path:?} of {text}");
        }
        true
    }

    #[test]
    fn the_suite_and_the_samples_are_read_as_the_tree_reads_them() {
        let (mut skimmed, mut all) = (0, 0);
        for name in ["xml-suite", "soap-samples", "wsdl", "ubl"] {
            let Some(folder) = corpus::folder(name) else { continue };
            for path in corpus::files(&folder, ".xml").into_iter().chain(corpus::files(&folder, ".wsdl")) {
                let bytes = std::fs::read(&path).unwrap();
                let limits = BodyLimits::default();
                let tree = decode(&bytes, None, &limits).map(|element| element.to_value());
                assert_eq!(skim(&bytes, None, &limits, &Reading::whole()), tree, "{}", path.display());
                if let Ok(text) = text_of(&bytes, None) {
                    skimmed += usize::from(hold(&text));
                }
                all += usize::from(tree.is_ok());
            }
        }
        println!("{skimmed} of {all} documents without the tree");
        assert!(all == 0 || skimmed * 10 >= all * 8, "{skimmed} of {all}: the quick way is hardly taken");
    }

    #[test]
    fn only_what_is_asked_for_is_kept_and_the_rest_is_judged() {
        let mut reading = Reading::default();
        for path in ["route", "lines.line[].@no", "customer.name"] {
            reading.add(&Path::parse(path).unwrap());
        }
        let text = "<?xml version='1.0'?><o:order xmlns:o='urn:o' id='7'><lines><line no='1'><sku>a</sku></line><line no='2'/></lines>\
                    <customer><name>张<!-- x -->三 &amp; <![CDATA[<李>]]></name><tel>1</tel></customer><o:route>east</o:route></o:order>";
        let value = alone(text, &reading).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"lines":{"line":[{"@no":"1"},{"@no":"2"}]},"customer":{"name":"张三 & <李>"},"route":"east"}"#
        );
        for (from, to) in
            [("</sku>", "</skU>"), ("<tel>1", "<tel>&x;"), ("no='2'", "no='2' no='3'"), ("<tel>", "<p:tel>")]
        {
            let broken = text.replace(from, to);
            let error = skim(broken.as_bytes(), None, &BodyLimits::default(), &reading).unwrap_err();
            assert_eq!(Err(error), decode(broken.as_bytes(), None, &BodyLimits::default()), "{broken}");
        }
    }

    #[test]
    fn many_prefixes_are_the_trees() {
        let one = |n: usize| format!("<a xmlns:p{n}='u'>");
        let nested =
            |depth: usize| format!("{}<p0:b/>{}", (0..depth).map(one).collect::<String>(), "</a>".repeat(depth));
        assert!(alone(&nested(MAX_BINDINGS - 1), &Reading::default()).is_some(), "`xml` is one of them");
        let more = nested(MAX_BINDINGS);
        let deep = BodyLimits { depth: 100, ..BodyLimits::default() };
        assert!(Skimmer::new(&more, &deep).skim(&Reading::default()).is_none());
        let tree = decode(more.as_bytes(), None, &deep).map(|element| element.to_value());
        assert_eq!(skim(more.as_bytes(), None, &deep, &Reading::whole()), tree);
    }

    #[test]
    fn limits_hold_where_nothing_is_kept() {
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        let texts = [
            (deep(3), BodyLimits { depth: 2, ..BodyLimits::default() }),
            ("<a><b/><b x='1'/></a>".to_owned(), BodyLimits { nodes: 3, ..BodyLimits::default() }),
            ("<a>12<!-- -->3&lt;</a>".to_owned(), BodyLimits { text: 3, ..BodyLimits::default() }),
            ("<a>1234</a>".to_owned(), BodyLimits { bytes: 10, ..BodyLimits::default() }),
        ];
        for (text, limits) in texts {
            let error = skim(text.as_bytes(), None, &limits, &Reading::default()).unwrap_err();
            assert!(error.too_large, "{text}: {error}");
            skim(text.as_bytes(), None, &BodyLimits::default(), &Reading::default()).unwrap();
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_skimmed_as_the_tree_reads_it(element in element(), prefixed in any::<bool>()) {
            let prefixes: &[_] = if prefixed { &[("m", "urn:a"), ("n", "urn:b&<\">")] } else { &[] };
            let bytes = element.encode_with(&WriteOptions { prefixes, ..WriteOptions::default() }).unwrap();
            hold(std::str::from_utf8(&bytes).unwrap());
        }

        /// A document with something of another in it: mostly broken, and broken for both.
        #[test]
        fn what_is_broken_is_broken_for_both(
            element in element(), at in any::<proptest::sample::Index>(), cut in 0usize..6, patch in "[<>/?!&;=\"'\\[\\] ab:x#\\-A中]{0,4}",
        ) {
            let text = String::from_utf8(element.encode()).unwrap();
            let from = text.floor_char_boundary(at.index(text.len()));
            let to = text.ceil_char_boundary((from + cut).min(text.len()));
            hold(&format!("{}{patch}{}", &text[..from], &text[to..]));
        }

        #[test]
        fn markup_is_taken_by_both_or_by_neither(text in "[<>/?!&;=\"'\\[\\] ab:x#\\-]{0,40}") {
            hold(&text);
            hold(&format!("<a>{text}</a>"));
            hold(&format!("<a {text}/>"));
        }
    }
}
