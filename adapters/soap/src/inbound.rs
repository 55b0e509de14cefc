//! The inbound half: operations mounted on the door, dispatched by the body's QName, acknowledged once the bus holds them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::adapter::{Arrival, Inbound, Intake, Stop};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::secret::Secrets;
use gatehouse_core::xml::{self, Element};
use gatehouse_core::{Map, Value};
use gatehouse_net::body::From;
use gatehouse_net::door::{Door, Request, Response, Service};
use gatehouse_net::parse::parse;
use gatehouse_net::trace::traceparent;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::RwLock;

use crate::acknowledge::{acknowledge, answer};
use crate::addressing::Addressing;
use crate::blocks;
use crate::dispatch;
use crate::envelope::{Envelope, NotEnvelope, Version};
use crate::fault::Kind;
use crate::file::{Listener, Listeners};
use crate::media::Media;
use crate::mime;
use crate::proof::Proof;
use crate::refusal::Refusal;
use crate::typed::Mode;
use crate::wsdl::Wsdl;

/// How long requests under way may take to finish when the system stops listening.
const DRAIN: Duration = Duration::from_secs(30);

/// The longest message id of a caller, in characters.
const MAX_ID: usize = 255;

/// A system that is ready to listen.
pub(crate) struct Listening {
    door: Arc<Door>,
    wsdl: Option<Arc<Wsdl>>,
    accept: Proof,
    offers: HashMap<String, Arc<Wsdl>>,
    by_path: Vec<(String, Vec<Arc<Listener>>)>,
}

impl Listening {
    pub(crate) fn new(door: Arc<Door>, listeners: &Listeners, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let (accept, wsdl) = (Proof::open(&listeners.accept, secrets)?, listeners.wsdl.clone());
        Ok(Self { door, wsdl, accept, offers: listeners.offers.clone(), by_path: listeners.by_path.clone() })
    }
}

#[async_trait]
impl Inbound for Listening {
    async fn run(self: Box<Self>, intake: Arc<dyn Intake>, stop: Stop) -> Result<(), Fault> {
        // Read while a request is under way; writing waits until none is.
        let busy = Arc::new(RwLock::new(()));
        let mut mounts = Vec::new();
        for (path, listeners) in self.by_path {
            let port = Port {
                path: path.clone(),
                wsdl: self.offers.get(&path).or(self.wsdl.as_ref()).cloned(),
                scheme: if self.door.is_tls() { "https" } else { "http" },
                listeners,
                accept: self.accept.clone(),
                intake: intake.clone(),
                busy: busy.clone(),
            };
            mounts.push(self.door.mount(&path, Arc::new(port))?);
        }
        stop.await;
        drop(mounts);
        let _ = tokio::time::timeout(DRAIN, busy.write()).await;
        Ok(())
    }
}

/// The operations on one path.
struct Port {
    path: String,
    /// What is told to who asks for `?wsdl`.
    wsdl: Option<Arc<Wsdl>>,
    scheme: &'static str,
    listeners: Vec<Arc<Listener>>,
    accept: Proof,
    intake: Arc<dyn Intake>,
    busy: Arc<RwLock<()>>,
}

#[async_trait]
impl Service for Port {
    async fn call(&self, request: Request) -> Response {
        let _busy = self.busy.read().await;
        if let Some(described) = self.describe(&request) {
            return described;
        }
        match self.answer(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }
}

impl Port {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let (media, version, proven) = self.head(&request)?;
        let refuse = |fault: Fault| Refusal::new(version, fault);
        let action = dispatch::action(&request.headers, &media, version).map_err(refuse)?;
        let traceparent = traceparent(&request.headers);
        // The head often tells which operation it will be: then its rate and its size count before a byte of the body is read. The
        // body has the last word, and a contradiction is refused.
        let expected = dispatch::by_head(&self.listeners, action.as_deref()).map_err(refuse)?;
        let admit = |listener: &Listener| self.intake.admit(&listener.endpoint).map_err(refuse);
        let mut admission = expected.map(admit).transpose()?;
        let most = || self.listeners.iter().map(|listener| listener.max_body).max().unwrap_or_default();
        let max = expected.map_or_else(most, |listener| listener.max_body);
        let (head, bytes) = request.split(max).await.map_err(refuse)?;

        let reading = {
            let (bytes, media) = (bytes.clone(), media.clone());
            move || open(&bytes, &media, version, max)
        };
        let mut envelope = parse(bytes.len(), From::Caller, reading).await.map_err(refuse)??;
        let version = envelope.version;
        let refuse = |fault: Fault| Refusal::new(version, fault);
        let charset = media.charset.as_deref();
        let signed =
            self.accept.in_envelope(proven, &mut envelope, &bytes, charset, media.is_related()).map_err(refuse)?;
        envelope.unfold().map_err(|error| refuse(Fault::new(Code::Malformed, error)))?;
        let addressing = Addressing::of(&envelope.headers).map_err(refuse)?;
        let action = Addressing::action_of(addressing.as_ref(), action).map_err(refuse)?;
        let related = addressing.as_ref().map(Addressing::refusal).unwrap_or_default();
        let listener = dispatch::find(&self.listeners, &envelope, action.as_deref(), signed)
            .map_err(|(kind, fault)| Refusal { kind, related: related.clone(), ..Refusal::new(version, fault) })?;
        let refuse = |fault: Fault| Refusal { related: related.clone(), ..Refusal::of(listener, version, fault) };
        if bytes.len() > listener.max_body {
            let text = format!("the body has more than {} bytes", listener.max_body);
            return Err(refuse(Fault::new(Code::TooLarge, text)));
        }
        let body = match &listener.contract {
            Some(contract) => contract.read_request(&envelope).map_err(|violations| {
                let name = &contract.operation.name;
                let text = format!("the request does not fit `{name}` of the WSDL");
                refuse(Fault::new(Code::Invalid, text).violations(violations))
            })?,
            None => envelope.body.first().map(Element::to_value).unwrap_or_default(),
        };
        let headers =
            blocks::read(&envelope.headers, &listener.request_headers, Mode::Strict).map_err(|violations| {
                let text = "a header block does not fit the WSDL";
                refuse(Fault::new(Code::Invalid, text).violations(violations))
            })?;
        let limits = BodyLimits { bytes: listener.max_body, text: listener.max_body, ..BodyLimits::default() };
        let opening = {
            let (nested, mut body) = (listener.nested.clone(), body);
            move || nested.open(&mut body, &limits).map(|()| body)
        };
        // Documents in strings are read like bodies.
        let size = if listener.nested.is_empty() { 0 } else { bytes.len() };
        let opened = parse(size, From::Caller, opening).await.map_err(refuse)?;
        let body = opened.map_err(|error| refuse(Fault::new(Code::Malformed, error.to_string())))?;
        let id = message_id(listener, &envelope, &body).map_err(refuse)?;
        let admission = match admission.take() {
            Some(admission) => admission,
            None => self.intake.admit(&listener.endpoint).map_err(refuse)?,
        };
        let told = admission.clone();
        let arrival = Arrival {
            meta: meta(headers, action.as_deref()),
            body: body.clone(),
            document: std::mem::take(&mut envelope.body).into_iter().next(),
            id: id.clone(),
            traceparent,
            original: bytes,
            content_type: content_type(&head.headers),
        };
        let receipt = self.intake.accept(admission, arrival).await.map_err(|mut fault| {
            fault.message_id = fault.message_id.or(id);
            refuse(fault)
        })?;
        let blocks = addressing.map(|addressing| addressing.reply()).unwrap_or_default();
        Ok(acknowledge(version, listener, &body, &receipt, &told, blocks))
    }

    /// The WSDL, where it is asked for by somebody who may come in.
    fn describe(&self, request: &Request) -> Option<Response> {
        let query = request.query.as_deref().filter(|_| request.method == Method::GET)?;
        if request.path.trim_end_matches('/') != self.path || self.accept.at_head(&request.headers).is_err() {
            return None;
        }
        let host = request.headers.get(HOST)?.to_str().ok()?;
        let text = self.wsdl.as_ref()?.document(query, &format!("{}://{host}{}", self.scheme, self.path))?;
        Some(answer(StatusCode::OK, Version::V11, text.into_bytes()))
    }

    /// What can be judged before a byte of the body is read.
    fn head(&self, request: &Request) -> Result<(Media, Version, bool), Refusal> {
        let media = Media::of(&request.headers).unwrap_or_default();
        let said = if media.is_related() { media.inner.as_deref().unwrap_or_default() } else { media.essence.as_str() };
        let version = if said.starts_with(Version::V12.media_type()) { Version::V12 } else { Version::V11 };
        let refuse = |code: Code, text: String| Err(Refusal::new(version, Fault::new(code, text)));
        if request.path.trim_end_matches('/') != self.path {
            return refuse(Code::NotFound, "nothing is here".to_owned());
        }
        // Who may not come in is not told what there is.
        let proven = self.accept.at_head(&request.headers).map_err(|fault| Refusal::new(version, fault))?;
        if request.method != Method::POST {
            return refuse(Code::MethodNotAllowed, "SOAP is sent with POST".to_owned());
        }
        if media.essence != version.media_type() && !media.is_related() {
            let text =
                "send SOAP 1.1 as `text/xml` or SOAP 1.2 as `application/soap+xml`, attachments as `multipart/related`"
                    .to_owned();
            return refuse(Code::UnsupportedMedia, text);
        }
        Ok((media, version, proven))
    }
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
            return Err(Fault::new(
                Code::Malformed,
                format!("the message's own id is missing in the header block `{name}`"),
            ));
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

fn content_type(headers: &HeaderMap) -> Cow<'static, str> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    text.map_or(Cow::Borrowed("text/xml"), |text| Cow::Owned(text.to_owned()))
}
