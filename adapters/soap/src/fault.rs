//! SOAP faults, 1.1 and 1.2: read from a peer's answer, written for a caller.
//!
//! Codes are told apart by their local names: a peer that binds the prefix of a code wrongly still means `Server`.

use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::xml::{Element, XML};
use gatehouse_core::{Map, Value};

use crate::blocks::{self, Declared};
use crate::envelope::{GATEHOUSE, Version};
use crate::typed::Mode;

/// What a fault's code means, in the words of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `Client` (1.1), `Sender` (1.2): the message is at fault; the same again fails again.
    Sender,
    /// `Server`, `Receiver`: the receiver is at fault; the same again may succeed.
    Receiver,
    /// A header block that had to be understood was not.
    MustUnderstand,
    /// The envelope is of another version.
    VersionMismatch,
    /// Another word; legacy systems put their own numbers there.
    Other,
}

impl Kind {
    /// By the local name of a code: `Client`, also as `Client.Authentication` (1.1 §4.4.1).
    fn of(code: &str) -> Self {
        match code.split('.').next().unwrap_or_default() {
            "Client" | "Sender" => Self::Sender,
            "Server" | "Receiver" => Self::Receiver,
            "MustUnderstand" | "DataEncodingUnknown" => Self::MustUnderstand,
            "VersionMismatch" => Self::VersionMismatch,
            _ => Self::Other,
        }
    }

    /// Its local name in a version.
    pub(crate) fn code(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Sender, Version::V11) => "Client",
            (Self::Sender, Version::V12) => "Sender",
            (Self::Receiver | Self::Other, Version::V11) => "Server",
            (Self::Receiver | Self::Other, Version::V12) => "Receiver",
            (Self::MustUnderstand, _) => "MustUnderstand",
            (Self::VersionMismatch, _) => "VersionMismatch",
        }
    }
}

/// A fault that a peer answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerFault {
    pub(crate) kind: Kind,
    /// The code as the peer wrote it, without its prefix.
    pub(crate) code: String,
    /// Subcodes, outermost first (1.2), without prefixes.
    pub(crate) subcodes: Vec<String>,
    /// `faultstring`, or the first reason text.
    pub(crate) reason: String,
    /// The detail, as compact XML.
    pub(crate) detail: Option<String>,
}

impl PeerFault {
    /// Reads the fault, if the body's first element is one. The version is the element's own: Axis and others answer in
    /// one version under the envelope of another.
    pub(crate) fn read(element: &Element) -> Option<Self> {
        let version = Version::of(element.name.namespace.as_deref()?).filter(|_| *element.name.local == *"Fault")?;
        // Some peers qualify the children of a 1.1 fault; local names take both.
        let text = |path: &[&str]| {
            let found = path.iter().try_fold(element, |element, name| element.child(name));
            found.map(|element| element.text().trim().to_owned())
        };
        let (code, reason, detail) = match version {
            Version::V11 => (text(&["faultcode"]), text(&["faultstring"]), element.child("detail")),
            Version::V12 => (text(&["Code", "Value"]), text(&["Reason", "Text"]), element.child("Detail")),
        };
        let code = local(&code.unwrap_or_default()).to_owned();
        let mut subcodes = Vec::new();
        let mut next = element.child("Code").and_then(|code| code.child("Subcode"));
        // The codec has bounded the depth.
        while let Some(subcode) = next {
            subcodes.extend(subcode.child("Value").map(|value| local(value.text().trim()).to_owned()));
            next = subcode.child("Subcode");
        }
        Some(Self {
            kind: Kind::of(&code),
            code,
            subcodes,
            reason: reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| "no reason given".to_owned()),
            detail: detail.filter(|detail| !detail.children.is_empty()).map(|detail| {
                let written = detail.encode();
                let text = String::from_utf8_lossy(&written);
                text.split_once("?>").map_or(&*text, |(_, text)| text).to_owned()
            }),
        })
    }

    /// `Server.Busy / E17`: every code that the peer gave.
    pub(crate) fn codes(&self) -> String {
        let mut codes = self.code.clone();
        for subcode in &self.subcodes {
            codes.push_str(" / ");
            codes.push_str(subcode);
        }
        codes
    }
}

/// What rules see of a fault: its elements as they are, with the detail by the schemas of the faults that the WSDL declares; and
/// under `fault` the same for both versions: `code`, `subcodes`, `reason`, `detail`, and `header`, the blocks around it that the WSDL
/// declares for faults about header blocks.
pub(crate) fn value(element: &Element, details: &[Declared], headers: &[Element], header_faults: &[Declared]) -> Value {
    let mut value = element.to_value();
    let (Some(fault), Value::Map(map)) = (PeerFault::read(element), &mut value) else { return value };
    let detail = element.child("detail").or_else(|| element.child("Detail"));
    let inside: Vec<Element> = detail.into_iter().flat_map(Element::elements).cloned().collect();
    let mut read = blocks::read(&inside, details, Mode::Lenient).unwrap_or_default();
    if let (Some(detail), true) = (detail, inside.is_empty()) {
        read = detail.to_value();
    }
    for name in ["detail", "Detail"] {
        if let Some(known) = map.get_mut(name) {
            known.clone_from(&read);
        }
    }
    let mut common = Map::new();
    common.insert("code".to_owned(), fault.code.into());
    common.insert("subcodes".to_owned(), fault.subcodes.into());
    common.insert("reason".to_owned(), fault.reason.into());
    common.insert("detail".to_owned(), read);
    let about = about_blocks(headers, header_faults);
    common.insert("header".to_owned(), blocks::read(&about, header_faults, Mode::Lenient).unwrap_or_default());
    map.insert("fault".to_owned(), Value::Map(common));
    value
}

/// The header blocks that say what is wrong with one that was sent.
pub(crate) fn about_blocks(headers: &[Element], declared: &[Declared]) -> Vec<Element> {
    let is_declared = |block: &&Element| declared.iter().any(|one| *one.name() == block.name);
    headers.iter().filter(is_declared).cloned().collect()
}

/// What a fault of ours is to an expression: `code`, `text`, `message_id` (null where there is none yet) and `violations`.
pub(crate) fn told(fault: &Fault) -> Value {
    let violation = |one: &gatehouse_core::fault::Violation| -> Value {
        [("pointer", one.pointer.as_str()), ("message", one.message.as_str())].into_iter().collect()
    };
    let violations: Vec<Value> = fault.violations.iter().map(violation).collect();
    let id = fault.message_id.as_deref().map_or(Value::Null, Value::from);
    let text = Value::from(fault.public.as_str());
    [("code", Value::from(fault.code.as_str())), ("text", text), ("message_id", id), ("violations", violations.into())]
        .into_iter()
        .collect()
}

/// `Client` of `soap:Client`.
fn local(qname: &str) -> &str {
    qname.rsplit_once(':').map_or(qname, |(_, local)| local)
}

/// The kind of SOAP fault that one of ours is for the caller.
pub(crate) fn kind_of(code: Code) -> Kind {
    match code {
        Code::Malformed
        | Code::Unauthenticated
        | Code::Forbidden
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::Slow
        | Code::Conflict
        | Code::TooLarge
        | Code::UnsupportedMedia
        | Code::Invalid
        | Code::Unrouted => Kind::Sender,
        Code::Throttled
        | Code::Internal
        | Code::Unavailable
        | Code::Unknown
        | Code::Deadline
        | Code::Unreachable
        | Code::Refused
        | Code::BadAnswer
        | Code::Misconfigured => Kind::Receiver,
    }
}

/// The prefix to which [`crate::envelope::write`] binds the namespace that it is told: ours, for a fault.
const OWN_PREFIX: &str = "m";

/// The `Fault` element for a caller: the code of its version (in 1.2 with our stable code as subcode), the public text, and the
/// `details`; without any, the body has nothing to do with it (SOAP 1.1 §4.4). Everything is text and escaped when it is written.
pub(crate) fn element(version: Version, kind: Kind, fault: &Fault, details: Vec<Element>) -> Element {
    let soap = |local: &str| Element::new(Some(version.namespace()), local);
    let code = format!("soap:{}", kind.code(version));
    let public = visible(&fault.public);
    match version {
        Version::V11 => with_details(
            soap("Fault")
                .with_child(Element::new(None, "faultcode").with_text(code))
                .with_child(Element::new(None, "faultstring").with_text(public)),
            Element::new(None, "detail"),
            details,
        ),
        Version::V12 => with_details(
            soap("Fault")
                .with_child(soap("Code").with_child(soap("Value").with_text(code)).with_child(
                    soap("Subcode").with_child(soap("Value").with_text(format!("{OWN_PREFIX}:{}", fault.code))),
                ))
                .with_child(
                    soap("Reason").with_child(soap("Text").with_attribute(Some(XML), "lang", "en").with_text(public)),
                ),
            soap("Detail"),
            details,
        ),
    }
}

fn with_details(fault: Element, detail: Element, details: Vec<Element>) -> Element {
    match details.is_empty() {
        true => fault,
        false => fault.with_child(details.into_iter().fold(detail, Element::with_child)),
    }
}

/// Our own part of what a fault tells: our stable code, the message id, and what is wrong where.
pub(crate) fn detail(fault: &Fault) -> Element {
    let own = |local: &str| Element::new(Some(GATEHOUSE), local);
    let mut detail = own("fault").with_child(own("code").with_text(fault.code.as_str()));
    if let Some(id) = &fault.message_id {
        detail = detail.with_child(own("messageId").with_text(visible(id)));
    }
    for violation in &fault.violations {
        let text = visible(&violation.message);
        let pointer = visible(&violation.pointer);
        detail = detail.with_child(own("violation").with_attribute(None, "pointer", pointer).with_text(text));
    }
    detail
}

/// The text with what XML cannot carry shown as `\u{0}`: a fault must always be well-formed.
fn visible(text: &str) -> String {
    let carried =
        |c: char| !matches!(c, '\0'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}');
    if text.chars().all(carried) {
        return text.to_owned();
    }
    text.chars().map(|c| if carried(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use gatehouse_core::fault::Violation;
    use gatehouse_core::limits::BodyLimits;
    use gatehouse_core::xml;

    use super::*;
    use crate::envelope::{self, Envelope};

    fn read(text: &str) -> Option<PeerFault> {
        let text = text.replace(
            "<E",
            "<E xmlns:a='http://schemas.xmlsoap.org/soap/envelope/' xmlns:b='http://www.w3.org/2003/05/soap-envelope'",
        );
        let root = xml::decode(text.as_bytes(), None, &BodyLimits::default()).unwrap();
        PeerFault::read(root.elements().next().unwrap())
    }

    #[test]
    fn faults_of_1_1_are_read() {
        let fault = read(
            "<E><a:Fault><faultcode>a:Server.Busy</faultcode><faultstring> 系统忙 </faultstring>\
             <detail><e code='7'>x</e></detail></a:Fault></E>",
        )
        .unwrap();
        assert_eq!(
            (fault.kind, fault.codes().as_str(), fault.reason.as_str()),
            (Kind::Receiver, "Server.Busy", "系统忙")
        );
        assert_eq!(fault.detail.as_deref(), Some("<detail><e code=\"7\">x</e></detail>"));
        let bare = read("<E><a:Fault><faultcode>500</faultcode></a:Fault></E>").unwrap();
        assert_eq!((bare.kind, bare.reason.as_str(), bare.detail), (Kind::Other, "no reason given", None));
    }

    #[test]
    fn faults_of_1_2_are_read() {
        let fault = read(
            "<E><b:Fault><b:Code><b:Value>b:Sender</b:Value><b:Subcode><b:Value>m:Bad</b:Value><b:Subcode><b:Value>E17\
             </b:Value></b:Subcode></b:Subcode></b:Code><b:Reason><b:Text xml:lang='en'>no such customer</b:Text></b:Reason></b:Fault></E>",
        )
        .unwrap();
        assert_eq!((fault.kind, fault.codes().as_str()), (Kind::Sender, "Sender / Bad / E17"));
        assert_eq!(fault.reason, "no such customer");
    }

    #[test]
    fn what_is_no_fault_is_none() {
        assert_eq!(read("<E><Fault/></E>"), None);
        assert_eq!(read("<E><a:Response/></E>"), None);
    }

    #[test]
    fn our_faults_are_well_formed_whatever_they_say() {
        let fault = Fault::new(Code::Invalid, "</faultstring><x>]]>&\u{0}\u{FFFF}\r\n订单")
            .about("id<1>")
            .violations(vec![Violation { pointer: "/a\"b".to_owned(), message: "<bad>".to_owned() }]);
        for (version, code) in [(Version::V11, "Client"), (Version::V12, "Sender")] {
            let element = element(version, kind_of(fault.code), &fault, vec![detail(&fault)]);
            let bytes = envelope::write(version, Vec::new(), [element], Some(GATEHOUSE), "UTF-8").unwrap();
            let root = xml::decode(&bytes, None, &BodyLimits::default()).unwrap();
            let taken = Envelope::take(root).unwrap();
            let read = PeerFault::read(&taken.body[0]).unwrap();
            assert_eq!((read.kind, read.code.as_str()), (Kind::Sender, code));
            assert_eq!(read.reason, "</faultstring><x>]]>&\\u{0}\\u{ffff}\r\n订单");
            let detail = taken.body[0].child(if version == Version::V11 { "detail" } else { "Detail" }).unwrap();
            let own = detail.child_in(Some(GATEHOUSE), "fault").unwrap();
            assert_eq!(own.child("code").unwrap().text(), "invalid");
            assert_eq!(own.child("messageId").unwrap().text(), "id<1>");
            assert_eq!(own.child("violation").unwrap().attribute(None, "pointer"), Some("/a\"b"));
        }
    }
}
