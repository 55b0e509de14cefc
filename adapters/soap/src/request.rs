//! Reading a request: its envelope opened and its sender proven, its operation found, its body and header blocks taken by the contract.
//! All of it takes long where the message is large, so it is one piece of work, done where large bodies are read. No HTTP, and no engine.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use gatehouse_core::adapter::Arrival;
use gatehouse_core::fault::{Code, Fault, Violation};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::{self, Element};
use gatehouse_core::{Map, Value, json};

use crate::addressing::{Addressing, is_addressing};
use crate::blocks;
use crate::dispatch;
use crate::envelope::{Envelope, NotEnvelope, Version};
use crate::fault::Kind;
use crate::file::Listener;
use crate::media::Media;
use crate::mime;
use crate::proof::{Judged, Proof};
use crate::refusal::Refusal;
use crate::typed::Mode;
use crate::wsse::{Once, is_security};

/// The longest message id of a caller, in characters.
const MAX_ID: usize = 255;

/// What the requests of one path are read with.
pub(crate) struct Reader {
    pub(crate) accept: Proof,
    pub(crate) listeners: Vec<Arc<Listener>>,
}

/// A request as it came, and what its head has told.
pub(crate) struct Sent {
    pub(crate) bytes: Bytes,
    /// As the caller wrote it.
    pub(crate) content_type: Cow<'static, str>,
    pub(crate) media: Media,
    pub(crate) version: Version,
    /// Whether the head has proven who sends it.
    pub(crate) proven: bool,
    pub(crate) action: Option<String>,
    pub(crate) traceparent: Option<String>,
    /// The most bytes that any operation takes that it may be for.
    pub(crate) max: usize,
}

/// A request that has been read.
pub(crate) struct Taken {
    pub(crate) listener: Arc<Listener>,
    pub(crate) version: Version,
    pub(crate) addressing: Option<Addressing>,
    pub(crate) arrival: Arrival,
    /// Its place among what was taken: to be kept once the message is safe.
    pub(crate) once: Once,
}

impl Reader {
    /// Reads one.
    ///
    /// # Errors
    /// The no, in the caller's version.
    pub(crate) fn read(&self, sent: Sent) -> Result<Taken, Refusal> {
        let mut envelope = open(&sent.bytes, &sent.media, sent.version, sent.max)
            .map_err(|refusal| Refusal { proven: sent.proven, ..refusal })?;
        let version = envelope.version;
        let varies =
            sent.media.is_related() || envelope.headers.iter().any(|block| is_addressing(block) || is_security(block));
        let refuse = |fault: Fault| Refusal::new(version, fault);
        let (charset, parts) = (sent.media.charset.as_deref(), sent.media.is_related());
        let judged =
            self.accept.in_envelope(sent.proven, &mut envelope, &sent.bytes, charset, parts).map_err(refuse)?;
        self.take(sent, envelope, judged, varies).map_err(|refusal| Refusal { proven: true, ..refusal })
    }

    /// Reads the request of somebody who may come in. `varies`: its bytes are others at each attempt.
    fn take(&self, sent: Sent, mut envelope: Envelope, judged: Judged, varies: bool) -> Result<Taken, Refusal> {
        let version = envelope.version;
        let refuse = |fault: Fault| Refusal::new(version, fault);
        envelope.unfold().map_err(|error| refuse(Fault::new(Code::Malformed, error)))?;
        let addressing = Addressing::of(&envelope.headers).map_err(refuse)?;
        let action = Addressing::action_of(addressing.as_ref(), sent.action).map_err(refuse)?;
        let related = addressing.as_ref().map(Addressing::refusal).unwrap_or_default();
        let listener = dispatch::find(&self.listeners, &envelope, action.as_deref(), judged.understood)
            .map_err(|(kind, fault)| Refusal { kind, related: related.clone(), ..Refusal::new(version, fault) })?;
        let refuse = |fault: Fault| Refusal { related: related.clone(), ..Refusal::of(listener, version, fault) };
        if sent.bytes.len() > listener.max_body {
            let text = format!("the body has more than {} bytes", listener.max_body);
            return Err(refuse(Fault::new(Code::TooLarge, text)));
        }
        let refuse_block =
            |fault: Fault| Refusal { related: related.clone(), ..Refusal::of_header(listener, version, fault) };
        let headers = headers(listener, &envelope).map_err(refuse_block)?;
        let body = body(listener, &envelope).map_err(refuse)?;
        let id = message_id(listener, &envelope, &body).map_err(|fault| match fault.violations.is_empty() {
            true => refuse(fault),
            false => refuse_block(fault),
        })?;
        // Boundaries, nonces and times of signing are others at each attempt: what comes again is known by its body. Nor is a
        // password kept so.
        let (original, content_type) = match varies {
            true => (Bytes::from(json::encode(&body)), Cow::Borrowed("application/json")),
            false => (sent.bytes, sent.content_type),
        };
        let arrival = Arrival {
            meta: meta(headers, action.as_deref()),
            body,
            document: envelope.body.into_iter().next(),
            id,
            traceparent: sent.traceparent,
            original,
            content_type,
        };
        Ok(Taken { listener: listener.clone(), version, addressing, arrival, once: judged.once })
    }
}

/// What is in the header blocks, by the contract where there is one.
fn headers(listener: &Listener, envelope: &Envelope) -> Result<Value, Fault> {
    blocks::read(&envelope.headers, &listener.request_headers, Mode::Strict)
        .map_err(|violations| Fault::new(Code::Invalid, "a header block does not fit the WSDL").violations(violations))
}

/// What is in the body, by the contract where there is one.
fn body(listener: &Listener, envelope: &Envelope) -> Result<Value, Fault> {
    let mut body = match &listener.contract {
        Some(contract) => contract.read_request(envelope).map_err(|violations| {
            let text = format!("the request does not fit `{}` of the WSDL", contract.operation.name);
            Fault::new(Code::Invalid, text).violations(violations)
        })?,
        None => envelope.body.first().map(Element::to_value).unwrap_or_default(),
    };
    let limits = BodyLimits { bytes: listener.max_body, text: listener.max_body, ..BodyLimits::default() };
    listener.nested.open(&mut body, &limits).map_err(|error| Fault::new(Code::Malformed, error.to_string()))?;
    Ok(body)
}

/// Opens the envelope, whose version must be that of its content type.
pub(crate) fn open(bytes: &Bytes, media: &Media, version: Version, max: usize) -> Result<Envelope, Refusal> {
    let limits = BodyLimits { bytes: max, text: max, ..BodyLimits::default() };
    let malformed = |reason: String| Refusal::new(version, Fault::new(Code::Malformed, reason));
    let package = match media.is_related() {
        true => Some(mime::read(media, bytes).map_err(|reason| malformed(format!("the message's parts: {reason}")))?),
        false => None,
    };
    let (bytes, charset) = match &package {
        Some(package) => (&package.root, package.media.charset.as_deref()),
        None => (bytes, media.charset.as_deref()),
    };
    let mut root = xml::decode(bytes, charset, &limits).map_err(|error| {
        let code = if error.too_large { Code::TooLarge } else { Code::Malformed };
        Refusal::new(version, Fault::new(code, error.to_string()))
    })?;
    if let Some(package) = &package {
        package.resolve(&mut root, max).map_err(malformed)?;
    }
    let mismatch = |version: Version, text: String| Refusal {
        version,
        kind: Kind::VersionMismatch,
        ..Refusal::new(version, Fault::new(Code::Malformed, text))
    };
    match Envelope::take(root) {
        Ok(Envelope { irregular: Some(reason), version, .. }) => {
            Err(Refusal::new(version, Fault::new(Code::Malformed, reason)))
        }
        Ok(envelope) if envelope.version == version => Ok(envelope),
        Ok(envelope) => {
            let text = "the envelope is of another version of SOAP than the content type says".to_owned();
            Err(mismatch(envelope.version, text))
        }
        // SOAP 1.2 appendix A: who knows both answers an unknown version in 1.1.
        Err(NotEnvelope::Version(namespace)) => {
            let text = format!("SOAP 1.1 and 1.2 are spoken here; the envelope has the namespace `{namespace}`");
            Err(mismatch(Version::V11, text))
        }
        Err(NotEnvelope::Shape(known, reason)) => {
            Err(Refusal::new(known.unwrap_or(version), Fault::new(Code::Malformed, reason)))
        }
    }
}

/// The caller's own id, where it sends one.
fn message_id(listener: &Listener, envelope: &Envelope, body: &Value) -> Result<Option<String>, Fault> {
    let block = listener.id_header.as_ref().and_then(|name| envelope.headers.iter().find(|block| block.name == *name));
    let id = match block {
        Some(block) => Some(block.text()),
        None => listener.id.as_ref().and_then(|path| path.find(body)).and_then(Value::to_plain_text),
    };
    let id = match (id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()), &listener.id_header, &listener.id) {
        (Some(id), ..) => id,
        (None, None, None) => return Ok(None),
        // Without it, what is sent twice would be taken twice.
        (None, _, Some(path)) => {
            return Err(Fault::new(
                Code::Malformed,
                format!("the message's own id is missing at `{path}` of the body"),
            ));
        }
        (None, Some(name), None) => {
            let text = format!("the message's own id is missing in the header block `{name}`");
            let (pointer, message) = (format!("/headers/{}", name.local), "the message's own id is missing".to_owned());
            return Err(Fault::new(Code::Malformed, text).violations(vec![Violation { pointer, message }]));
        }
    };
    if id.chars().count() > MAX_ID || id.chars().any(char::is_control) {
        return Err(Fault::new(
            Code::Malformed,
            format!("the message id has more than {MAX_ID} characters, or hidden ones"),
        ));
    }
    Ok(Some(id))
}

/// What mappings see beside the body: the action, and the header blocks by local name.
fn meta(headers: Value, action: Option<&str>) -> Value {
    let mut meta = Map::new();
    meta.insert("action".to_owned(), action.map_or(Value::Null, Value::from));
    meta.insert("headers".to_owned(), headers);
    Value::Map(meta)
}
