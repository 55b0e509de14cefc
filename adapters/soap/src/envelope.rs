//! The SOAP envelope, 1.1 and 1.2: built, taken apart, judged by its version. No HTTP, and no faults; those are
//! [`crate::fault`]'s.

use gatehouse_core::xml::{Element, NotXml, WriteOptions};

use crate::typed;

/// The namespace of Gatehouse's own header blocks and fault details.
pub(crate) const GATEHOUSE: &str = "urn:gatehouse";

/// A version of SOAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// SOAP 1.1 (W3C Note, 2000).
    V11,
    /// SOAP 1.2 (W3C Recommendation, 2007).
    V12,
}

impl Version {
    /// Those that are spoken here.
    pub(crate) const BOTH: [Self; 2] = [Self::V11, Self::V12];

    /// The namespace of its envelope.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::V11 => "http://schemas.xmlsoap.org/soap/envelope/",
            Self::V12 => "http://www.w3.org/2003/05/soap-envelope",
        }
    }

    /// `1.1` or `1.2`.
    pub(crate) fn number(self) -> &'static str {
        match self {
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    /// Its media type, without parameters.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::V11 => "text/xml",
            Self::V12 => "application/soap+xml",
        }
    }

    /// `true` of a `mustUnderstand` attribute.
    pub(crate) fn yes(self) -> &'static str {
        match self {
            Self::V11 => "1",
            Self::V12 => "true",
        }
    }

    /// The namespace of its bindings in a WSDL 1.1.
    pub(crate) fn binding(self) -> &'static str {
        match self {
            Self::V11 => "http://schemas.xmlsoap.org/wsdl/soap/",
            Self::V12 => "http://schemas.xmlsoap.org/wsdl/soap12/",
        }
    }

    /// The version whose envelopes have this namespace.
    pub(crate) fn of(namespace: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|version| version.namespace() == namespace)
    }

    /// The version of a `1.1` or `1.2`.
    pub(crate) fn numbered(number: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|version| version.number() == number)
    }
}

/// An envelope taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// By its namespace.
    pub(crate) version: Version,
    /// The header blocks.
    pub(crate) headers: Vec<Element>,
    /// What is in the body.
    pub(crate) body: Vec<Element>,
    /// Whether the sender says that values are written as SOAP 1.1 §5 has it, so that references are meant.
    pub(crate) encoded: bool,
    /// What SOAP 1.2 forbids and a lenient reader overlooks: told to who sends it, and taken in an answer.
    pub(crate) irregular: Option<String>,
}

/// Why a document is no envelope.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotEnvelope {
    /// An envelope, but of no version that is known here.
    Version(String),
    /// No envelope, or one that is put together wrongly. The version, where its root told it.
    Shape(Option<Version>, String),
}

impl Envelope {
    /// Puts values that are told once and referred to where they are meant.
    ///
    /// # Errors
    /// A reference to nothing or to itself, or more than can be unfolded.
    pub(crate) fn unfold(&mut self) -> Result<(), String> {
        if self.encoded {
            self.body = typed::inline(std::mem::take(&mut self.body), &self.headers)?;
        }
        Ok(())
    }

    /// Takes a document apart (SOAP 1.1 §4, SOAP 1.2 part 1 §5).
    pub(crate) fn take(root: Element) -> Result<Self, NotEnvelope> {
        let namespace = root.name.namespace.as_deref().unwrap_or_default().to_owned();
        if &*root.name.local != "Envelope" {
            let reason = format!("the document is `{}`, not a SOAP envelope", root.name);
            return Err(NotEnvelope::Shape(None, reason));
        }
        let Some(version) = Version::of(&namespace) else { return Err(NotEnvelope::Version(namespace)) };
        let wrong = |reason: String| Err(NotEnvelope::Shape(Some(version), reason));
        if !root.text().trim().is_empty() {
            return wrong("text stands directly in the envelope".to_owned());
        }
        let says = |element: &Element| {
            let style = element.attribute(Some(version.namespace()), "encodingStyle");
            style.is_some_and(|style| {
                style.contains("soap") && style.contains("/encoding") || style.ends_with("soap-encoding")
            })
        };
        let root_says = says(&root);
        let styled = |element: &Element| element.attribute(Some(version.namespace()), "encodingStyle").is_some();
        let root_is_styled = styled(&root);
        let root_has_plain = root.attributes.iter().any(|attribute| attribute.name.namespace.is_none());
        let mut parts = elements(root).into_iter().peekable();
        let is = |part: &Element, local: &str| part.name.is(Some(version.namespace()), local);
        let headers = match parts.next_if(|part| is(part, "Header")) {
            Some(header) => elements(header),
            None => Vec::new(),
        };
        let Some(body) = parts.next_if(|part| is(part, "Body")) else {
            return wrong(match parts.next() {
                Some(part) => format!("`{}` where the body of the envelope is due", part.name),
                None => "the envelope has no body".to_owned(),
            });
        };
        // 1.1 lets qualified elements follow the body; they mean nothing to anybody, and 1.2 took that back.
        if let Some(part) = parts.next()
            && (version == Version::V12 || is(&part, "Header") || is(&part, "Body"))
        {
            return wrong(format!("`{}` after the body of the envelope", part.name));
        }
        if !body.text().trim().is_empty() {
            return wrong("text stands directly in the body of the envelope".to_owned());
        }
        let odd_block = headers.iter().find(|block| !is_flag(block, version));
        let irregular = match odd_block {
            _ if version == Version::V12 && root_has_plain => {
                Some("the envelope has an attribute that is in no namespace".to_owned())
            }
            _ if version == Version::V12 && (root_is_styled || styled(&body)) => Some(
                "`encodingStyle` stands on the envelope or its body; SOAP 1.2 has it on what is in them".to_owned(),
            ),
            Some(block) => {
                Some(format!("`mustUnderstand` of the header block `{}` is neither true nor false", block.name))
            }
            None => None,
        };
        let encoded = root_says || says(&body) || body.elements().any(says);
        Ok(Self { version, headers, body: elements(body), encoded, irregular })
    }
}

/// Whether the mark of a header block, if it has one, is one of the four texts of a boolean.
fn is_flag(block: &Element, version: Version) -> bool {
    let mark = block.attribute(Some(version.namespace()), "mustUnderstand").map(str::trim);
    mark.is_none_or(|mark| matches!(mark, "0" | "1" | "true" | "false"))
}

/// The child elements, taken out.
fn elements(parent: Element) -> Vec<Element> {
    let element = |node| match node {
        gatehouse_core::xml::Node::Element(element) => Some(element),
        gatehouse_core::xml::Node::Text(_) => None,
    };
    parent.children.into_iter().filter_map(element).collect()
}

/// Writes an envelope. `namespace` is the body's, for a prefix that leaves unqualified children alone.
pub(crate) fn write(
    version: Version,
    headers: Vec<Element>,
    body: impl IntoIterator<Item = Element>,
    namespace: Option<&str>,
    charset: &str,
) -> Result<Vec<u8>, NotXml> {
    let prefixes = prefixes(version, namespace);
    let options = WriteOptions { charset, prefixes: &prefixes, ..WriteOptions::default() };
    assemble(version, headers, body).encode_with(&options)
}

/// An envelope as people read it: indented, without a declaration.
pub(crate) fn preview(
    version: Version,
    body: impl IntoIterator<Item = Element>,
    namespace: Option<&str>,
) -> Result<String, NotXml> {
    let prefixes = prefixes(version, namespace);
    let options = WriteOptions { prefixes: &prefixes, declaration: false, pretty: true, ..WriteOptions::default() };
    let bytes = assemble(version, Vec::new(), body).encode_with(&options)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn assemble(version: Version, headers: Vec<Element>, body: impl IntoIterator<Item = Element>) -> Element {
    let part = |local: &str| Element::new(Some(version.namespace()), local);
    let mut envelope = part("Envelope");
    if !headers.is_empty() {
        envelope = envelope.with_child(headers.into_iter().fold(part("Header"), Element::with_child));
    }
    envelope.with_child(body.into_iter().fold(part("Body"), Element::with_child))
}

pub(crate) fn prefixes(version: Version, namespace: Option<&str>) -> Vec<(&'static str, &str)> {
    let mut prefixes = vec![("soap", version.namespace())];
    if let Some(namespace) = namespace.filter(|namespace| *namespace != version.namespace()) {
        prefixes.push(("m", namespace));
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use gatehouse_core::limits::BodyLimits;
    use gatehouse_core::xml;

    use super::*;

    fn take(text: &str) -> Result<Envelope, NotEnvelope> {
        Envelope::take(xml::decode(text.as_bytes(), None, &BodyLimits::default()).unwrap())
    }

    fn envelope(version: Version, inside: &str) -> String {
        format!("<e:Envelope xmlns:e='{}'>{inside}</e:Envelope>", version.namespace())
    }

    #[test]
    fn both_versions_come_apart() {
        for version in [Version::V11, Version::V12] {
            let text = envelope(version, "\n <e:Header><a/><b/></e:Header> <e:Body>\n<c/></e:Body>\n");
            let taken = take(&text).unwrap();
            assert_eq!(taken.version, version);
            assert_eq!(taken.headers.len(), 2);
            assert_eq!(&*taken.body[0].name.local, "c");
            assert!(take(&envelope(version, "<e:Body/>")).unwrap().body.is_empty());
        }
    }

    #[test]
    fn what_is_no_envelope_is_told() {
        let shape = |text: String| match take(&text) {
            Err(NotEnvelope::Shape(_, reason)) => reason,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(shape("<html/>".to_owned()), "the document is `html`, not a SOAP envelope");
        assert_eq!(shape(envelope(Version::V11, "")), "the envelope has no body");
        assert_eq!(shape(envelope(Version::V11, "<x/><e:Body/>")), "`x` where the body of the envelope is due");
        assert!(shape(envelope(Version::V12, "<e:Body/><x/>")).ends_with("after the body of the envelope"));
        assert!(shape(envelope(Version::V11, "<e:Body/><e:Body/>")).ends_with("after the body of the envelope"));
        assert!(shape(envelope(Version::V11, "<e:Body>x</e:Body>")).contains("text stands"));
        assert!(shape(envelope(Version::V11, "x<e:Body/>")).contains("text stands"));
        assert!(take(&envelope(Version::V11, "<e:Body/><x/>")).is_ok());
    }

    #[test]
    fn another_namespace_is_another_version() {
        for namespace in ["", "urn:x", "http://www.w3.org/2001/12/soap-envelope"] {
            let text = format!("<Envelope xmlns='{namespace}'><Body/></Envelope>");
            assert_eq!(take(&text).unwrap_err(), NotEnvelope::Version(namespace.to_owned()));
        }
    }

    #[test]
    fn what_is_written_comes_apart_again() {
        let body = Element::new(Some("urn:o"), "Op").with_child(Element::new(None, "a").with_text("<订单>"));
        let header = Element::new(Some(GATEHOUSE), "DeliveryId").with_text("7");
        let bytes = write(Version::V12, vec![header.clone()], [body.clone()], Some("urn:o"), "UTF-8").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("<m:Op><a>&lt;订单&gt;</a></m:Op>"), "{text}");
        let taken = take(&text).unwrap();
        assert_eq!((taken.headers, taken.body), (vec![header], vec![body]));
    }

    /// Files of the corpus that are rightly refused: what the W3C collection wants refused (no body, something after it, a
    /// wrong version, document types), multipart bodies, and samples whose XML is broken.
    const BROKEN: [&str; 18] = [
        "soap12/T14/request.xml",
        "soap12/T23/request.xml",
        "soap12/T28/request.xml",
        "soap12/T39/request.xml",
        "soap12/T71/request.xml",
        "soap12/T72/request.xml",
        "soap12/T69/request.xml",
        "soap12/T70/request.xml",
        "soap12/T24/request.xml",
        "soap12/T25/request.xml",
        "soap12/T64/request.xml",
        "soap12/T65/request.xml",
        "getAttachments__should_handle_MTOM_response/response.xml",
        "Dummy__should_extract_envelope_from_response/response.xml",
        "Dummy__ref_element_should_have_correct_namespace_with_overrideElementKey/response.xml",
        "SetResource__should_correctly_set_element_if_complex-type_has_same_name/response.xml",
        "GET_DATA__should_work_with_more_deeply_nested_XML_messages_and_without_security/request.xml",
        "fooOp__should_return_back_good_response_object/response.xml",
    ];

    /// Real requests and responses of other implementations, where the corpus is (`GATEHOUSE_CORPUS`, `../shared/corpus`).
    #[test]
    fn envelopes_that_others_wrote_come_apart() {
        use std::io::Write as _;
        let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let beside = ["../shared/corpus", "../../shared/corpus"].map(|path| workspace.join(path));
        let named = std::env::var_os("GATEHOUSE_CORPUS").map(std::path::PathBuf::from);
        let root = named.into_iter().chain(beside).map(|root| root.join("soap-samples")).find(|root| root.is_dir());
        let Some(root) = root else {
            let _ =
                writeln!(std::io::stderr(), "SKIPPED: no corpus `soap-samples`; set GATEHOUSE_CORPUS to run this test");
            return;
        };
        let (mut folders, mut taken, mut wrong) = (vec![root], 0, Vec::new());
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                if path.extension().is_none_or(|ending| ending != "xml") || !bytes.windows(8).any(|w| w == b"Envelope")
                {
                    continue;
                }
                let broken = BROKEN.iter().any(|name| path.ends_with(name));
                match xml::decode(&bytes, None, &BodyLimits::default()).map(Envelope::take) {
                    Ok(Ok(envelope)) if broken && envelope.irregular.is_some() => {}
                    Ok(Ok(envelope)) if !broken && envelope.irregular.is_none() => taken += 1,
                    Ok(Ok(_)) => wrong.push(format!("{} was taken", path.display())),
                    _ if broken => {}
                    other => wrong.push(format!("{}: {other:?}", path.display())),
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(taken >= 390, "only {taken} envelopes: is the corpus complete?");
    }
}
