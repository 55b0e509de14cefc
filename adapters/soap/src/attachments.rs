//! Envelopes sent with attachments: bytes that stand in the body in Base64 are taken out of it and travel as parts beside it, as
//! MTOM (XML-binary Optimized Packaging) or as SOAP with Attachments. What comes in so is [`crate::mime`]'s.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::limits::parse_bytes;
use gatehouse_core::path::{Path, Step};
use gatehouse_core::xml::{Element, Node};
use gatehouse_core::yaml::Located;
use memchr::memmem;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::envelope::Version;
use crate::mime::{MAX_PARTS, XOP};
use crate::typed;
use crate::wsdl::Message;
use crate::xsd::Schemas;

/// What an element says of its bytes (Describing Media Content of Binary Data in XML, W3C 2005, and its drafts).
const XMIME: [&str; 3] =
    ["http://www.w3.org/2005/05/xmlmime", "http://www.w3.org/2004/11/xmlmime", "http://www.w3.org/2004/06/xmlmime"];

/// Bytes beside the envelope.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachmentsFile {
    /// How: `mtom` (an `xop:Include` stands where they were), `swa` (a text `cid:…`), or `swa-href` (an attribute `href="cid:…"`, as
    /// Axis 1 has it).
    #[serde(rename = "as")]
    pub(crate) way: Located<String>,
    /// Bytes up to this size stay in the envelope: `4KiB`. Default: none does.
    pub(crate) above: Option<Located<String>>,
    /// Where they stand in the body: `Files.File[].Content`. Default: every `base64Binary` of the WSDL.
    #[serde(default)]
    pub(crate) at: Vec<Located<String>>,
}

/// How an endpoint's bytes travel.
#[derive(Clone, Debug)]
pub(crate) struct Attachments {
    way: Way,
    above: usize,
    at: Vec<Path>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Mtom,
    Swa,
    Href,
}

/// A message with its parts.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Its content type.
    pub(crate) media: String,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
}

/// What was taken out of a body.
#[derive(Debug)]
pub(crate) struct Part {
    id: String,
    media: String,
    bytes: Bytes,
}

impl AttachmentsFile {
    /// Checks the words. `typed`: there is a WSDL, which says where bytes stand.
    pub(crate) fn check(
        read: &Located<Self>,
        typed: bool,
        file: &SourceFile,
        problems: &mut Problems,
    ) -> Option<Attachments> {
        let mut tell = |at: &std::ops::Range<usize>, code: &'static str, text: String, help: &str| {
            problems.push(Problem::error(code, file, at.clone(), text).help(help));
        };
        let way = match read.way.as_str() {
            "mtom" => Some(Way::Mtom),
            "swa" => Some(Way::Swa),
            "swa-href" => Some(Way::Href),
            other => {
                let text = format!("there is no way `{other}` to attach bytes");
                tell(&read.way.span, "bad-value", text, "write `mtom`, `swa` or `swa-href`");
                None
            }
        };
        let above = read.above.as_ref().map_or(Some(0), |above| {
            let size = parse_bytes(above);
            if size.is_none() {
                tell(&above.span, "bad-value", format!("`{}` is no size", above.value), "write a size such as `4KiB`");
            }
            size
        });
        let mut at = Vec::new();
        for path in &read.at {
            match Path::parse(path) {
                Ok(parsed) if parsed.steps().iter().all(is_element) => at.push(parsed),
                Ok(_) => {
                    let text = "a part stands for what is in an element".to_owned();
                    tell(&path.span, "bad-path", text, "leave out `@…` and `#text`");
                }
                Err((_, reason)) => tell(&path.span, "bad-path", reason, "write a path such as `Files.File[].Content`"),
            }
        }
        if !typed && read.at.is_empty() {
            let text = "nothing says where the bytes stand".to_owned();
            tell(&read.span, "no-attachments", text, "add `at: [Path.To.Content]`; with a WSDL its types say it");
        }
        Some(Attachments { way: way?, above: above?, at })
    }
}

fn is_element(step: &Step) -> bool {
    !matches!(step, Step::Name(name) if name.starts_with(['@', '#']))
}

impl Attachments {
    /// Takes the bytes out of a body and leaves references to them.
    ///
    /// # Errors
    /// What is no Base64, or more parts than anybody takes.
    pub(crate) fn detach(
        &self,
        body: &mut [Element],
        described: Option<(&Schemas, &Message)>,
    ) -> Result<Vec<Part>, String> {
        let mark: u64 = rand::random();
        let mut taken = Taking { settings: self, mark, parts: Vec::new(), error: None };
        if self.at.is_empty() {
            let (schemas, message) = described.ok_or("nothing says where the bytes stand")?;
            for (id, element) in message.body.iter().zip(body) {
                typed::each_binary(schemas, *id, element, &mut |element| taken.take(element));
            }
        } else if let Some(first) = body.first_mut() {
            for path in &self.at {
                taken.walk(path.steps(), first);
            }
        }
        match taken.error {
            Some(error) => Err(error),
            None if taken.parts.len() >= MAX_PARTS => {
                Err(format!("{} parts are more than a message may have ({})", taken.parts.len(), MAX_PARTS - 1))
            }
            None => Ok(taken.parts),
        }
    }

    /// Puts an envelope and its parts together. `None` where the envelope goes alone: nothing was taken out of it, and only MTOM
    /// says so in the content type too.
    pub(crate) fn pack(
        &self,
        envelope: &[u8],
        parts: &[Part],
        version: Version,
        charset: &str,
        action: &str,
    ) -> Option<Packed> {
        if parts.is_empty() && self.way != Way::Mtom {
            return None;
        }
        let mark: u128 = rand::random();
        let boundary = format!("gatehouse-{mark:032x}");
        let root = format!("<envelope.{:016x}@gatehouse>", mark as u64);
        let soap = version.media_type();
        let charset = charset.to_ascii_lowercase();
        let (mut media, own) = match self.way {
            // XOP §4.1: `type` is XOP's own, and `start-info` what it stands for.
            Way::Mtom => (
                format!(
                    "multipart/related; type=\"application/xop+xml\"; start=\"{root}\"; start-info=\"{soap}\"; boundary=\"{boundary}\""
                ),
                format!("application/xop+xml; charset={charset}; type=\"{soap}\""),
            ),
            Way::Swa | Way::Href => (
                format!("multipart/related; type=\"{soap}\"; start=\"{root}\"; boundary=\"{boundary}\""),
                format!("{soap}; charset={charset}"),
            ),
        };
        if version == Version::V12 && !action.is_empty() {
            let _ = write!(media, "; action=\"{action}\"");
        }
        let size: usize = parts.iter().map(|part| part.bytes.len() + 300).sum();
        let mut bytes = Vec::with_capacity(envelope.len() + size + 500);
        let mut put = |media: &str, id: &str, content: &[u8]| {
            let head = format!(
                "--{boundary}\r\nContent-Type: {media}\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {id}\r\n\r\n"
            );
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(content);
            bytes.extend_from_slice(b"\r\n");
        };
        // The content type says the charset already, and spyne takes no declaration where it has decoded the text.
        let declared = envelope.starts_with(b"<?xml") && charset == "utf-8";
        let bare = if declared { memmem::find(envelope, b"?>").map(|at| &envelope[at + 2..]) } else { None };
        put(&own, &root, bare.unwrap_or(envelope));
        for part in parts {
            put(&part.media, &format!("<{}>", part.id), &part.bytes);
        }
        bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Some(Packed { media, bytes })
    }
}

/// Takes bytes out of one body.
struct Taking<'a> {
    settings: &'a Attachments,
    /// What its ids have in common, so that they differ from those of all other messages.
    mark: u64,
    parts: Vec<Part>,
    error: Option<String>,
}

impl Taking<'_> {
    /// Follows a path. A name means every element of that name, as in a value it means the list.
    fn walk(&mut self, steps: &[Step], element: &mut Element) {
        let Some((Step::Name(name), rest)) = steps.split_first() else { return self.take(element) };
        let brackets = rest.iter().take_while(|step| !matches!(step, Step::Name(_))).count();
        let (places, rest) = rest.split_at(brackets);
        let wanted = places.iter().find_map(|step| if let Step::Index(index) = step { Some(*index) } else { None });
        let named = element.children.iter_mut().filter_map(|node| match node {
            Node::Element(child) if *child.name.local == **name => Some(child),
            _ => None,
        });
        for (_, child) in named.enumerate().filter(|(index, _)| wanted.is_none_or(|wanted| wanted == *index)) {
            self.walk(rest, child);
        }
    }

    fn take(&mut self, element: &mut Element) {
        let text = match element.children.as_slice() {
            [Node::Text(text)] => text,
            // Nothing, nil, or taken out already by another path.
            _ => return,
        };
        let bare: String = text.split_ascii_whitespace().collect();
        if self.settings.above > 0 && bare.len() / 4 * 3 <= self.settings.above {
            return;
        }
        let Ok(bytes) = STANDARD.decode(&bare) else {
            self.error.get_or_insert_with(|| format!("what is in `{}` is no Base64", element.name.local));
            return;
        };
        let id = format!("part{}.{:016x}@gatehouse", self.parts.len() + 1, self.mark);
        let said = XMIME.iter().find_map(|namespace| element.attribute(Some(namespace), "contentType"));
        let fits = |media: &&str| media.contains('/') && media.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let media = said.map(str::trim).filter(fits).unwrap_or("application/octet-stream").to_owned();
        let url = format!("cid:{id}");
        match self.settings.way {
            Way::Mtom => {
                let include = Element::new(Some(XOP), "Include").with_attribute(None, "href", url);
                element.children = vec![Node::Element(include)];
            }
            Way::Swa => element.children = vec![Node::Text(url)],
            Way::Href => {
                element.children.clear();
                *element = std::mem::replace(element, Element::new(None, "")).with_attribute(None, "href", url);
            }
        }
        self.parts.push(Part { id, media, bytes: Bytes::from(bytes) });
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_core::limits::BodyLimits;
    use gatehouse_core::xml;

    use super::*;
    use crate::media::Media;
    use crate::mime;

    const BODY: &str = "<Submit xmlns:x='http://www.w3.org/2005/05/xmlmime'><No>1</No><Files><File><Name>a</Name>\
        <Content x:contentType='image/png'>AQINCg==</Content></File><File><Content>\n aGVs bG8=\n</Content></File><File><Content/></File></Files></Submit>";

    fn attachments(way: Way, above: usize, at: &[&str]) -> Attachments {
        Attachments { way, above, at: at.iter().map(|path| Path::parse(path).unwrap()).collect() }
    }

    fn decode(bytes: &[u8]) -> Element {
        xml::decode(bytes, None, &BodyLimits::default()).unwrap()
    }

    /// Detached, packed, and read again as a peer would.
    fn there_and_back(attachments: &Attachments, version: Version) -> (String, String, Element) {
        let mut body = [decode(BODY.as_bytes())];
        let parts = attachments.detach(&mut body, None).unwrap();
        let [body] = body;
        let text = String::from_utf8(body.encode()).unwrap();
        let Some(packed) = attachments.pack(text.as_bytes(), &parts, version, "UTF-8", "urn:a") else {
            return (String::new(), text, body);
        };
        let media = Media::parse(&packed.media);
        let package = mime::read(&media, &Bytes::from(packed.bytes)).unwrap();
        assert_eq!(media.inner.as_deref(), Some(version.media_type()));
        assert_eq!(media.action.as_deref(), (version == Version::V12).then_some("urn:a"));
        let mut read = decode(&package.root);
        package.resolve(&mut read, 1 << 20).unwrap();
        (packed.media, text, read)
    }

    #[test]
    fn bytes_go_beside_the_envelope_and_come_back_into_it() {
        let mut expected = decode(BODY.as_bytes());
        // The white space within Base64 is not kept.
        let spaced = "\n aGVs bG8=\n";
        let text = String::from_utf8(expected.encode()).unwrap().replace(spaced, "aGVsbG8=");
        expected = decode(text.as_bytes());
        for version in [Version::V11, Version::V12] {
            for way in [Way::Mtom, Way::Swa, Way::Href] {
                let attachments = attachments(way, 0, &["Files.File[].Content"]);
                let (media, sent, read) = there_and_back(&attachments, version);
                assert_eq!(read, expected, "{way:?}");
                assert!(!sent.contains("aGVs"), "{sent}");
                assert_eq!(media.contains("application/xop+xml"), way == Way::Mtom, "{media}");
                assert!(sent.contains(match way {
                    Way::Mtom => "Include xmlns=\"http://www.w3.org/2004/08/xop/include\" href=\"cid:part1.",
                    Way::Swa => ">cid:part1.",
                    Way::Href => "href=\"cid:part1.",
                }));
            }
        }
    }

    #[test]
    fn only_what_is_meant_and_large_enough_goes() {
        let sent = |attachments: &Attachments| there_and_back(attachments, Version::V11);
        let (_, second, _) = sent(&attachments(Way::Mtom, 0, &["Files.File[1].Content"]));
        assert!(second.contains("AQINCg==") && !second.contains("aGVs"), "{second}");
        let (media, none, _) = sent(&attachments(Way::Swa, 1000, &["Files.File[].Content"]));
        assert!(media.is_empty() && none.contains("AQINCg=="), "nothing to attach, no parts: {none}");
        let (media, ..) = sent(&attachments(Way::Mtom, 1000, &["Files.File[].Content"]));
        assert!(media.contains("xop"), "MTOM says that it is MTOM");
        let (_, twice, _) = sent(&attachments(Way::Mtom, 0, &["Files.File[].Content", "Files.File.Content"]));
        assert_eq!(twice.matches("cid:").count(), 2);
        let wrong = attachments(Way::Mtom, 0, &["No"]).detach(&mut [decode(BODY.as_bytes())], None).unwrap_err();
        assert_eq!(wrong, "what is in `No` is no Base64");
        let mut many = [decode(format!("<a>{}</a>", "<b>AQI=</b>".repeat(64)).as_bytes())];
        assert!(attachments(Way::Mtom, 0, &["b[]"]).detach(&mut many, None).unwrap_err().contains("64 parts"));
    }

    #[test]
    fn a_media_type_is_taken_only_where_it_is_one() {
        let media = |said: &str| {
            let text = format!("<a xmlns:x='{}'><b x:contentType='{said}'>AQI=</b></a>", XMIME[1]);
            let parts = attachments(Way::Mtom, 0, &["b"]).detach(&mut [decode(text.as_bytes())], None).unwrap();
            parts[0].media.clone()
        };
        assert_eq!(media("image/png; a=b"), "image/png; a=b");
        assert_eq!(media("x&#13;&#10;Content-ID: &lt;y>"), "application/octet-stream");
        assert_eq!(media("图"), "application/octet-stream");
    }
}
