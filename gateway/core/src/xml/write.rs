//! A tree as a document: prefixes made as needed, escapes that every reader undoes, any charset.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Attribute, Element, Node, QName, XML, XSI, names};
use crate::charset;

/// How a document is written.
#[derive(Clone, Debug)]
pub struct WriteOptions<'a> {
    /// The charset of the bytes, named in the declaration. What it lacks is written as a character reference, so nothing is lost.
    pub charset: &'a str,
    /// Whether the document begins with an XML declaration. Needed by readers where the charset is not UTF-8.
    pub declaration: bool,
    /// Prefixes (never empty) for namespaces, declared on the root. Other namespaces become the default where they begin.
    pub prefixes: &'a [(&'a str, &'a str)],
    /// Line breaks and two spaces a level between elements, for people. Never inside an element that has text.
    pub pretty: bool,
}

impl Default for WriteOptions<'_> {
    /// UTF-8, a declaration, no prefixes, compact.
    fn default() -> Self {
        Self { charset: "UTF-8", declaration: true, prefixes: &[], pretty: false }
    }
}

/// Why a tree that was built by hand cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotXml(String);

impl Element {
    /// Writes the element as a document in UTF-8, with a declaration, prefixes made as needed. A tree that came from
    /// [`super::decode`] or [`Element::from_value`] is always well-formed. One built by hand from bad names or characters gives a
    /// document that readers refuse; [`Element::encode_with`] tells.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let options = WriteOptions::default();
        let mut writer = Writer::new(&options);
        writer.document(self);
        writer.out.into_bytes()
    }

    /// Writes the element as a document.
    ///
    /// # Errors
    /// A name, prefix or character that XML does not have, a charset that is unknown, or a name that it cannot write.
    pub fn encode_with(&self, options: &WriteOptions<'_>) -> Result<Vec<u8>, NotXml> {
        let mut writer = Writer::new(options);
        for (index, (prefix, namespace)) in options.prefixes.iter().enumerate() {
            let twice = options.prefixes[..index].iter().any(|(before, _)| before == prefix);
            if twice || !names::is_ncname(prefix) || matches!(*prefix, "xml" | "xmlns") || namespace.is_empty() {
                return Err(NotXml(format!("the prefix `{}` cannot be bound", prefix.escape_debug())));
            }
        }
        writer.document(self);
        if let Some(error) = writer.error {
            return Err(error);
        }
        let encoded = charset::encode(&writer.out, options.charset).or_else(|_| {
            // Rare, so written again: this time each character is asked for.
            let mut writer = Writer::new(options);
            writer.narrow = true;
            writer.document(self);
            charset::encode(&writer.out, options.charset)
        });
        encoded.map_err(|error| NotXml(error.reason))
    }
}

struct Writer<'a> {
    options: &'a WriteOptions<'a>,
    out: String,
    /// The bindings in scope, innermost last. No namespace is a default that was taken back.
    scope: Vec<(Cow<'a, str>, Option<&'a str>)>,
    /// Whether characters that the charset lacks become references.
    narrow: bool,
    error: Option<NotXml>,
}

impl<'a> Writer<'a> {
    fn new(options: &'a WriteOptions<'a>) -> Self {
        let out = String::with_capacity(1024);
        Self { options, out, scope: vec![(Cow::Borrowed("xml"), Some(XML))], narrow: false, error: None }
    }

    fn document(&mut self, root: &'a Element) {
        if self.options.declaration {
            self.out.push_str("<?xml version=\"1.0\" encoding=\"");
            self.out.push_str(self.options.charset);
            self.out.push_str("\"?>");
            if self.options.pretty {
                self.out.push('\n');
            }
        }
        self.element(root, 0);
        if self.options.pretty {
            self.out.push('\n');
        }
    }

    fn element(&mut self, element: &'a Element, depth: usize) {
        let outer = self.scope.len();
        if depth == 0 {
            let prefixes = self.options.prefixes.iter();
            self.scope.extend(prefixes.map(|(prefix, namespace)| (Cow::Borrowed(*prefix), Some(*namespace))));
        }
        let prefix = self.prefix_of(&element.name, true);
        let mut attributes = Vec::with_capacity(element.attributes.len());
        for attribute in &element.attributes {
            let name = self.prefix_of(&attribute.name, false);
            attributes.push((name, self.attribute_text(attribute)));
        }

        self.out.push('<');
        self.name(&prefix, &element.name.local);
        for index in outer..self.scope.len() {
            let (prefix, namespace) = self.scope[index].clone();
            self.out.push_str(" xmlns");
            if !prefix.is_empty() {
                self.out.push(':');
                self.out.push_str(&prefix);
            }
            self.quoted(namespace.unwrap_or_default());
        }
        for ((prefix, value), attribute) in attributes.into_iter().zip(&element.attributes) {
            self.out.push(' ');
            self.name(&prefix, &attribute.name.local);
            self.quoted(&value);
        }
        if element.children.is_empty() {
            self.out.push_str("/>");
            self.scope.truncate(outer);
            return;
        }
        self.out.push('>');
        let pretty = self.options.pretty && element.children.iter().all(|node| matches!(node, Node::Element(_)));
        for node in &element.children {
            match node {
                Node::Element(child) => {
                    if pretty {
                        self.line(depth + 1);
                    }
                    self.element(child, depth + 1);
                }
                Node::Text(text) => self.escaped(text, false),
            }
        }
        if pretty {
            self.line(depth);
        }
        self.out.push_str("</");
        if !prefix.is_empty() {
            self.out.push_str(&prefix);
            self.out.push(':');
        }
        self.out.push_str(&element.name.local);
        self.out.push('>');
        self.scope.truncate(outer);
    }

    /// The text of an attribute: `{namespace}local` becomes a qualified name again where the attribute holds one.
    fn attribute_text(&mut self, attribute: &'a Attribute) -> Cow<'a, str> {
        let clark = super::holds_qname(&attribute.name).then(|| attribute.value.strip_prefix('{')).flatten();
        let Some((namespace, local)) = clark.and_then(|rest| rest.rsplit_once('}')) else {
            return Cow::Borrowed(&attribute.value);
        };
        let prefix = self.prefix_for(namespace, false);
        Cow::Owned(format!("{prefix}:{local}"))
    }

    /// The prefix under which a name's namespace is in scope, brought into scope if it is not.
    fn prefix_of(&mut self, name: &'a QName, element: bool) -> Cow<'a, str> {
        let bound = |scope: &[(Cow<'a, str>, Option<&'a str>)], asked: &str| {
            scope.iter().rfind(|(prefix, _)| prefix == asked).map(|(_, namespace)| *namespace)
        };
        let Some(namespace) = name.namespace.as_deref() else {
            if element && bound(&self.scope, "").flatten().is_some() {
                self.scope.push((Cow::Borrowed(""), None));
            }
            return Cow::Borrowed("");
        };
        self.prefix_for(namespace, element)
    }

    /// The prefix of a namespace, brought into scope if it is not; never the empty one unless `element`.
    fn prefix_for(&mut self, namespace: &'a str, element: bool) -> Cow<'a, str> {
        let bound = |scope: &[(Cow<'a, str>, Option<&'a str>)], asked: &str| {
            scope.iter().rfind(|(prefix, _)| prefix == asked).map(|(_, namespace)| *namespace)
        };
        let known = self.scope.iter().enumerate().rev().find(|(index, (prefix, uri))| {
            // An unprefixed attribute is in no namespace; and a prefix may have been bound again further in.
            *uri == Some(namespace)
                && (element || !prefix.is_empty())
                && !self.scope[index + 1..].iter().any(|(inner, _)| inner == prefix)
        });
        if let Some((_, (prefix, _))) = known {
            return prefix.clone();
        }
        let prefix = if element {
            Cow::Borrowed("")
        } else if namespace == XSI && bound(&self.scope, "xsi").is_none() {
            Cow::Borrowed("xsi")
        } else {
            // The number of bindings in scope is free or becomes so.
            let free = (self.scope.len()..).map(|n| format!("ns{n}")).find(|name| bound(&self.scope, name).is_none());
            Cow::Owned(free.unwrap_or_default())
        };
        self.scope.push((prefix.clone(), Some(namespace)));
        prefix
    }

    fn name(&mut self, prefix: &str, local: &str) {
        if !prefix.is_empty() {
            self.out.push_str(prefix);
            self.out.push(':');
        }
        if self.error.is_none() && !names::is_ncname(local) {
            self.error = Some(NotXml(format!("`{}` is no XML name", local.escape_debug())));
        }
        self.out.push_str(local);
    }

    fn quoted(&mut self, value: &str) {
        self.out.push_str("=\"");
        self.escaped(value, true);
        self.out.push('"');
    }

    /// Text with everything escaped that a reader would change: markup, and the white space that it would normalise.
    fn escaped(&mut self, text: &str, attribute: bool) {
        let mut run = 0;
        for (at, c) in text.char_indices() {
            let escape = match c {
                '&' => "&amp;",
                '<' => "&lt;",
                // Only `]]>` must not stand in text; escaping each is simpler and allowed.
                '>' => "&gt;",
                '\r' => "&#13;",
                '"' if attribute => "&quot;",
                '\t' if attribute => "&#9;",
                '\n' if attribute => "&#10;",
                ' '..='~' | '\t' | '\n' => continue,
                c if !names::is_char(c) => {
                    let reason = || NotXml(format!("U+{:04X} is no character of XML", u32::from(c)));
                    self.error.get_or_insert_with(reason);
                    // Not dropped and not replaced: readers refuse it, so it is seen.
                    ""
                }
                c if self.narrow && charset::encode(c.encode_utf8(&mut [0; 4]), self.options.charset).is_err() => "",
                _ => continue,
            };
            self.out.push_str(&text[run..at]);
            run = at + c.len_utf8();
            if escape.is_empty() {
                // Writing to a String cannot fail.
                let _ = write!(self.out, "&#{};", u32::from(c));
            } else {
                self.out.push_str(escape);
            }
        }
        self.out.push_str(&text[run..]);
    }

    fn line(&mut self, depth: usize) {
        self.out.push('\n');
        for _ in 0..depth {
            self.out.push_str("  ");
        }
    }
}
