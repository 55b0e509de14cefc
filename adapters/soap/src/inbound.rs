//! The inbound half: operations mounted on the door, dispatched by the body's QName, acknowledged once the bus holds them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::adapter::{Inbound, Intake, Stop};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::Secrets;
use gatehouse_net::body::From;
use gatehouse_net::door::{Door, Request, Response, Service};
use gatehouse_net::parse::parse;
use gatehouse_net::trace::traceparent;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::RwLock;

use crate::acknowledge::{acknowledge, answer};
use crate::addressing::Addressing;
use crate::dispatch;
use crate::envelope::Version;
use crate::file::{Listener, Listeners};
use crate::media::Media;
use crate::proof::{AnswerSeal, Proof};
use crate::refusal::Refusal;
use crate::request::{Reader, Sent, Taken};
use crate::wsdl::Wsdl;

/// How long requests under way may take to finish when the system stops listening.
const DRAIN: Duration = Duration::from_secs(30);

/// A system that is ready to listen.
pub(crate) struct Listening {
    door: Arc<Door>,
    wsdl: Option<Arc<Wsdl>>,
    accept: Proof,
    seal: Option<Arc<AnswerSeal>>,
    offers: HashMap<String, Arc<Wsdl>>,
    by_path: Vec<(String, Vec<Arc<Listener>>)>,
}

impl Listening {
    pub(crate) fn new(door: Arc<Door>, listeners: &Listeners, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let (accept, wsdl) = (Proof::open(&listeners.accept, secrets)?, listeners.wsdl.clone());
        let seal = listeners.sign.as_ref().map(|file| AnswerSeal::open(file, secrets).map(Arc::new)).transpose()?;
        Ok(Self { door, wsdl, accept, seal, offers: listeners.offers.clone(), by_path: listeners.by_path.clone() })
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
                reader: Arc::new(Reader { accept: self.accept.clone(), listeners }),
                seal: self.seal.clone(),
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
    reader: Arc<Reader>,
    /// Signs the answers.
    seal: Option<Arc<AnswerSeal>>,
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
            Err(refusal) => refusal.response(self.seal.as_ref().and_then(|seal| seal.of_fault(refusal.proven))),
        }
    }
}

impl Port {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let (media, version, proven) = self.head(&request)?;
        let refuse = |fault: Fault| Refusal { proven, ..Refusal::new(version, fault) };
        let action = dispatch::action(&request.headers, &media, version).map_err(refuse)?;
        let traceparent = traceparent(&request.headers);
        // The head often tells which operation it will be: then its rate and its size count before a byte of the body is read. The
        // body has the last word, and a contradiction is refused.
        let listeners = &self.reader.listeners;
        let expected = dispatch::by_head(listeners, action.as_deref()).map_err(refuse)?;
        let admit = |listener: &Listener| self.intake.admit(&listener.endpoint);
        let admission = expected.map(admit).transpose().map_err(refuse)?;
        let most = || listeners.iter().map(|listener| listener.max_body).max().unwrap_or_default();
        let max = expected.map_or_else(most, |listener| listener.max_body);
        let (head, bytes) = request.split(max).await.map_err(refuse)?;
        let (size, content_type) = (bytes.len(), content_type(&head.headers));
        let sent = Sent { bytes, content_type, media, version, proven, action, traceparent, max };
        let reader = self.reader.clone();
        let taken = parse(size, From::Caller, move || reader.read(sent)).await.map_err(refuse)??;
        let Taken { listener, version, addressing, mut arrival, once } = taken;
        let refuse = |fault: Fault| Refusal {
            related: addressing.as_ref().map(Addressing::refusal).unwrap_or_default(),
            proven: true,
            ..Refusal::of(&listener, version, fault)
        };
        let admission = match admission {
            Some(admission) => admission,
            None => admit(&listener).map_err(refuse)?,
        };
        if !admission.wants.document {
            // A tree is many times as large as its document: not while the bus is waited for.
            arrival.document = None;
        }
        let (told, id) = (admission.clone(), arrival.id.clone());
        let body = listener.answers_with_body().then(|| arrival.body.clone());
        let receipt = self.intake.accept(admission, arrival).await.map_err(|mut fault| {
            fault.message_id = fault.message_id.or(id);
            refuse(fault)
        })?;
        once.keep();
        let blocks = addressing.map(|addressing| addressing.reply()).unwrap_or_default();
        let sealer = self.seal.as_ref().map(|seal| seal.sealer());
        Ok(acknowledge(version, &listener, body.as_ref(), &receipt, &told, blocks, sealer))
    }

    /// The WSDL, where it is asked for by somebody who may come in.
    fn describe(&self, request: &Request) -> Option<Response> {
        let query = request.query.as_deref().filter(|_| request.method == Method::GET)?;
        if request.path.trim_end_matches('/') != self.path || self.reader.accept.at_head(&request.headers).is_err() {
            return None;
        }
        let host = request.headers.get(HOST)?.to_str().ok()?;
        let text = self.wsdl.as_ref()?.document(query, &format!("{}://{host}{}", self.scheme, self.path))?;
        Some(answer(StatusCode::OK, Version::V11, text.into_bytes()))
    }

    /// What can be judged before a byte of the body is read.
    fn head(&self, request: &Request) -> Result<(Media, Version, bool), Refusal> {
        let media = Media::of(&request.headers).unwrap_or_default();
        let version = media.version();
        let refuse = |code: Code, text: String| Err(Refusal::new(version, Fault::new(code, text)));
        if request.path.trim_end_matches('/') != self.path {
            return refuse(Code::NotFound, "nothing is here".to_owned());
        }
        // Who may not come in is not told what there is.
        let proven = self.reader.accept.at_head(&request.headers).map_err(|fault| Refusal::new(version, fault))?;
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

fn content_type(headers: &HeaderMap) -> Cow<'static, str> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    text.map_or(Cow::Borrowed("text/xml"), |text| Cow::Owned(text.to_owned()))
}
