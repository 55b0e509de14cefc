//! Envelopes with attachments: `multipart/related` taken apart (RFC 2046 §5.1, RFC 2387), and the bytes that the envelope refers
//! to put where they are meant, in Base64: XOP (MTOM), and the `cid:` texts and `href`s of SOAP with Attachments.
//!
//! Everything is held in memory and counts as one body with its limit. What is sent so is [`crate::attachments`]'s.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gatehouse_core::xml::{Element, Node};
use memchr::memmem;
use percent_encoding::percent_decode_str;

use crate::media::Media;

/// The namespace of `Include` (XML-binary Optimized Packaging, W3C 2005).
pub(crate) const XOP: &str = "http://www.w3.org/2004/08/xop/include";

/// The most parts of one message.
pub(crate) const MAX_PARTS: usize = 64;

/// The most bytes of the headers of one part.
const MAX_HEADERS: usize = 8 << 10;

/// The longest boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;

/// A message taken apart.
#[derive(Debug)]
pub(crate) struct Package {
    /// The envelope's bytes.
    pub(crate) root: Bytes,
    /// What the root part says of itself.
    pub(crate) media: Media,
    parts: HashMap<String, Bytes>,
}

struct Part {
    id: Option<String>,
    media: Media,
    body: Bytes,
}

/// Takes a message apart.
///
/// # Errors
/// What is wrong with it, for the sender.
pub(crate) fn read(media: &Media, bytes: &Bytes) -> Result<Package, String> {
    let boundary = media.boundary.as_deref().filter(|b| !b.is_empty() && b.len() <= MAX_BOUNDARY);
    let boundary = boundary.ok_or("the content type has no `boundary` of 1 to 70 characters")?;
    let mut parts = Vec::new();
    for piece in split(bytes, boundary)? {
        if parts.len() == MAX_PARTS {
            return Err(format!("the message has more than {MAX_PARTS} parts"));
        }
        parts.push(part(&piece).map_err(|reason| format!("part {}: {reason}", parts.len() + 1))?);
    }
    let start = media.start.as_deref().map(bare_id);
    let root = match start {
        Some(start) => parts.iter().position(|part| part.id.as_deref() == Some(start)),
        None => (!parts.is_empty()).then_some(0),
    };
    let root = root.ok_or("the part that `start` names is not there")?;
    let root = parts.remove(root);
    let mut by_id = HashMap::new();
    for part in parts {
        let Some(id) = part.id else { continue };
        if by_id.insert(id.clone(), part.body).is_some() {
            return Err(format!("two parts have the Content-ID `{id}`"));
        }
    }
    Ok(Package { root: root.body, media: root.media, parts: by_id })
}

/// The pieces between the boundaries.
fn split(bytes: &Bytes, boundary: &str) -> Result<Vec<Bytes>, String> {
    let delimiter = format!("--{boundary}");
    let mut pieces = Vec::new();
    // Where the piece that is open begins.
    let mut open = None;
    for at in memmem::find_iter(bytes, delimiter.as_bytes()) {
        // Only at the beginning of a line.
        if at > 0 && bytes[at - 1] != b'\n' {
            continue;
        }
        let after = &bytes[at + delimiter.len()..];
        let is_last = after.starts_with(b"--");
        let rest = after.strip_prefix(b"--").unwrap_or(after);
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let line_end = match &rest[padding..] {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            [] if is_last => 0,
            // A longer boundary that begins like ours.
            _ => continue,
        };
        if let Some(begin) = open {
            let end = at.saturating_sub(if at >= 2 && bytes[at - 2] == b'\r' { 2 } else { 1 });
            pieces.push(bytes.slice(begin..end.max(begin)));
        }
        if is_last {
            return Ok(pieces);
        }
        if pieces.len() > MAX_PARTS {
            return Err(format!("the message has more than {MAX_PARTS} parts"));
        }
        open = Some(bytes.len() - after.len() + padding + line_end);
    }
    Err("the message ends before its last boundary".to_owned())
}

fn part(piece: &Bytes) -> Result<Part, String> {
    let (head, body) = if let Some(body) = piece.strip_prefix(b"\r\n") {
        (&b""[..], body)
    } else {
        let found =
            memmem::find(piece, b"\r\n\r\n").map(|at| (at, 4)).or(memmem::find(piece, b"\n\n").map(|at| (at, 2)));
        let (at, length) = found.ok_or("it has no empty line after its headers")?;
        (&piece[..at], &piece[at + length..])
    };
    if head.len() > MAX_HEADERS {
        return Err(format!("its headers have more than {MAX_HEADERS} bytes"));
    }
    let head = std::str::from_utf8(head).map_err(|_| "its headers are not text")?;
    // A line that begins with white space goes on with the one before (RFC 5322 §2.2.3).
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let header = |wanted: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    };
    let body = piece.slice_ref(body);
    let encoding = header("content-transfer-encoding").unwrap_or("binary").to_ascii_lowercase();
    let body = match encoding.as_str() {
        "7bit" | "8bit" | "binary" => body,
        "base64" => {
            let bare: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            Bytes::from(STANDARD.decode(bare).map_err(|_| "its Base64 is broken")?)
        }
        _ => return Err("its Content-Transfer-Encoding is not 7bit, 8bit, binary or base64".to_owned()),
    };
    let media = header("content-type").map(Media::parse).unwrap_or_default();
    if media.essence.starts_with("multipart/") {
        return Err("it is in parts itself".to_owned());
    }
    Ok(Part { id: header("content-id").map(|id| bare_id(id).to_owned()), media, body })
}

fn bare_id(id: &str) -> &str {
    let id = id.trim();
    id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id)
}

impl Package {
    /// Puts the bytes of the parts where the envelope refers to them: `xop:Include`, and text that is only `cid:…`.
    ///
    /// # Errors
    /// A reference to a part that is not there, or more than `max` bytes in all: one part may be meant many times.
    pub(crate) fn resolve(&self, element: &mut Element, max: usize) -> Result<(), String> {
        let mut left = max;
        self.resolve_in(element, &mut left)
    }

    fn resolve_in(&self, element: &mut Element, left: &mut usize) -> Result<(), String> {
        let included = element.child_in(Some(XOP), "Include").map(|include| {
            let href = include.attribute(None, "href").unwrap_or_default().to_owned();
            let alone = element.elements().count() == 1 && element.text().trim().is_empty();
            (href, alone)
        });
        if let Some((href, alone)) = included {
            if !alone {
                return Err("an `xop:Include` does not stand alone in its element".to_owned());
            }
            let bytes = self.part(&href).ok_or_else(|| format!("no part is called `{}`", shown(&href)))?;
            element.children = vec![Node::Text(encoded(bytes, left)?)];
            return Ok(());
        }
        if element.elements().next().is_none() {
            let text = element.text();
            let found = match text.trim() {
                // SOAP Messages with Attachments §3, as Axis 1 sends: `<file href="cid:…"/>`. The reference goes, as the bytes come.
                "" => element.attribute(None, "href").and_then(|href| self.part(href)).inspect(|_| {
                    element.attributes.retain(|attribute| !attribute.name.is(None, "href"));
                }),
                text => self.part(text),
            };
            if let Some(bytes) = found {
                element.children = vec![Node::Text(encoded(bytes, left)?)];
            }
            return Ok(());
        }
        for node in &mut element.children {
            if let Node::Element(child) = node {
                self.resolve_in(child, left)?;
            }
        }
        Ok(())
    }

    /// The part that a `cid:` URL names (RFC 2392).
    fn part(&self, href: &str) -> Option<&Bytes> {
        let id = href.strip_prefix("cid:")?;
        let decoded = percent_decode_str(id).decode_utf8().ok()?;
        self.parts.get(&*decoded).or_else(|| self.parts.get(id))
    }
}

fn encoded(bytes: &Bytes, left: &mut usize) -> Result<String, String> {
    *left = left.checked_sub(bytes.len()).ok_or("the parts that the envelope refers to are too large in all")?;
    Ok(STANDARD.encode(bytes))
}

fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use gatehouse_core::limits::BodyLimits;
    use gatehouse_core::xml;

    use super::*;

    const TYPE: &str =
        "multipart/related; type=\"application/xop+xml\"; start=\"<root@x>\"; start-info=\"text/xml\"; boundary=\"b1\"";

    fn message(parts: &[&str]) -> Bytes {
        let mut text = String::from("preamble\r\n");
        for part in parts {
            text.push_str(&format!("--b1\r\n{part}\r\n"));
        }
        Bytes::from(text + "--b1--\r\nepilogue")
    }

    fn open(media: &str, bytes: &Bytes) -> Result<String, String> {
        let package = read(&Media::parse(media), bytes)?;
        let mut root = xml::decode(&package.root, None, &BodyLimits::default()).map_err(|error| error.to_string())?;
        package.resolve(&mut root, 1 << 20)?;
        Ok(root.to_value().to_string())
    }

    const INCLUDE: &str = "<r><f><i:Include xmlns:i='http://www.w3.org/2004/08/xop/include' href='cid:a%40x'/></f><g>cid:a@x</g><h>cid:b</h></r>";

    #[test]
    fn parts_are_put_where_they_are_meant() {
        let root = format!(
            "Content-Type: application/xop+xml; charset=UTF-8; type=\"text/xml\"\r\nContent-Id: <root@x>\r\n\r\n{INCLUDE}"
        );
        let file = "content-id: <a@x>\r\nContent-Transfer-Encoding: binary\r\nContent-Type: image/png\r\n\r\n\u{0}--b1x\r\nhi\r\n";
        let expected = format!(r#"{{"f":"{0}","g":"{0}","h":"cid:b"}}"#, STANDARD.encode("\u{0}--b1x\r\nhi\r\n"));
        // The root first or last; `start` quoted or not.
        assert_eq!(open(TYPE, &message(&[&root, file])).as_deref(), Ok(expected.as_str()));
        assert_eq!(open(TYPE, &message(&[file, &root])).as_deref(), Ok(expected.as_str()));
        let plain = "multipart/related; boundary=b1; start=root@x";
        assert_eq!(open(plain, &message(&[file, &root])).as_deref(), Ok(expected.as_str()));
        let no_start = "multipart/related; boundary=b1";
        assert_eq!(open(no_start, &message(&[&root, file])).as_deref(), Ok(expected.as_str()));
        let base64 = "Content-ID: <a@x>\r\nContent-Transfer-Encoding: BASE64\r\n\r\naGk=\r\n";
        assert!(open(TYPE, &message(&[&root, base64])).unwrap().contains("\"f\":\"aGk=\""));
        let line_feeds =
            Bytes::from(String::from_utf8(message(&[&root, base64]).to_vec()).unwrap().replace("\r\n", "\n"));
        assert!(open(TYPE, &line_feeds).unwrap().contains("\"f\":\"aGk=\""));
    }

    /// `href` is a reference where nothing else stands in its element; elsewhere it is an attribute as any other.
    #[test]
    fn an_href_counts_in_an_empty_element_only() {
        let open = |inside: &str| {
            let root = format!("Content-ID: <root@x>\r\n\r\n<r>{inside}</r>");
            open(TYPE, &message(&[&root, "Content-ID: <a@x>\r\n\r\nhi"])).unwrap()
        };
        for empty in ["<f href='cid:a@x'/>", "<f href='cid:a@x'>\n  </f>"] {
            assert_eq!(open(empty), r#"{"f":"aGk="}"#, "{empty}");
        }
        assert_eq!(open("<f href='http://h/'>cid:a@x</f>"), r##"{"f":{"@href":"http://h/","#text":"aGk="}}"##);
        assert_eq!(open("<f href='cid:a@x'>text</f>"), r##"{"f":{"@href":"cid:a@x","#text":"text"}}"##);
        assert_eq!(open("<f href='cid:a@x'><g>1</g></f>"), r#"{"f":{"@href":"cid:a@x","g":"1"}}"#);
        assert_eq!(open("<f href='cid:b'/>"), r#"{"f":{"@href":"cid:b"}}"#);
    }

    #[test]
    fn what_is_broken_or_hostile_is_refused() {
        let root = format!("Content-ID: <root@x>\r\n\r\n{INCLUDE}");
        let refused = |media: &str, bytes: &Bytes| open(media, bytes).unwrap_err();
        assert!(refused(TYPE, &message(&[&root])).contains("no part is called `cid:a%40x`"));
        let twice = "Content-ID: <a@x>\r\n\r\nx";
        assert!(refused(TYPE, &message(&[&root, twice, twice])).contains("two parts"));
        assert!(refused("multipart/related", &message(&[&root])).contains("boundary"));
        assert!(refused(&TYPE.replace("root@x", "gone"), &message(&[&root])).contains("`start`"));
        assert!(refused(TYPE, &message(&[&root]).slice(..80)).contains("last boundary"));
        assert!(refused(TYPE, &message(&vec!["\r\nx"; 10_000])).contains("more than 64 parts"));
        assert!(refused(TYPE, &message(&[&format!("X: {}\r\n\r\nx", "y".repeat(9000))])).contains("8192 bytes"));
        assert!(
            refused(TYPE, &message(&["Content-Type: multipart/mixed; boundary=c\r\n\r\nx"]))
                .contains("in parts itself")
        );
        assert!(refused(TYPE, &message(&["Content-Transfer-Encoding: base64\r\n\r\n***"])).contains("Base64"));
        assert!(refused(TYPE, &message(&["no headers"])).contains("empty line"));
        // One part, meant a thousand times.
        let many = format!("Content-ID: <root@x>\r\n\r\n<r>{}</r>", "<g>cid:a@x</g>".repeat(1000));
        let large = format!("Content-ID: <a@x>\r\n\r\n{}", "z".repeat(10_000));
        assert!(refused(TYPE, &message(&[&many, &large])).contains("too large"));
    }
}
