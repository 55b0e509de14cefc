//! The outbound half: one document/literal call, and the judgement of its answer.

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Outbound, Reply};
use gatehouse_core::expr::Scope;
use gatehouse_core::fault::{Code, Exchange, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::secret::Secrets;
use gatehouse_core::xml::{self, Element};
use gatehouse_net::body::From;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_net::parse::parse;
use gatehouse_net::retry::retry_after;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request, StatusCode};

use crate::blocks;
use crate::contract::Contract;
use crate::envelope::{self, Envelope, Version};
use crate::fault::{self, Kind, PeerFault};
use crate::file::{Calls, Operation};
use crate::login::{self, Keeper};
use crate::media::Media;
use crate::mime;
use crate::typed::Mode;
use crate::wsse::{Sealer, Signer};

/// The most characters of a peer's reason that are passed on.
const MAX_REASON: usize = 500;

/// The most characters of a peer's fault detail that support staff see beside the exchange.
const MAX_DETAIL: usize = 2000;

/// The outbound half of one system.
pub(crate) struct Caller {
    calls: Calls,
    client: Client,
    auth: Option<(HeaderName, HeaderValue)>,
    signer: Option<Signer>,
    sealer: Option<Sealer>,
    keeper: Option<Keeper>,
}

impl Caller {
    pub(crate) fn connect(calls: &Calls, connections: u32, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let max_answer = calls.by_name.values().map(|operation| operation.max_answer).max().unwrap_or_default();
        let client = Client::new(&ClientConfig {
            address: calls.address.clone(),
            ca_file: calls.ca_file.clone(),
            max_answer,
            connections: connections as usize,
        })?;
        let signer = calls.auth.username_token.as_ref().map(|token| Signer::open(token, secrets)).transpose()?;
        let sealer = calls.auth.signature.as_ref().map(|file| Sealer::open(file, secrets)).transpose()?;
        let keeper = calls.login.as_ref().map(|login| Keeper::open(login, secrets)).transpose()?;
        Ok(Self { calls: calls.clone(), client, auth: calls.auth.http().open(secrets)?, signer, sealer, keeper })
    }

    fn operation(&self, endpoint: &str) -> Result<&Operation, Fault> {
        let found = self.calls.by_name.get(endpoint);
        found.ok_or_else(|| Fault::new(Code::Misconfigured, format!("there is no operation `{endpoint}`")))
    }

    /// The token that a call needs.
    async fn token(&self, endpoint: &str) -> Result<Option<String>, Fault> {
        let Some(keeper) = self.keeper.as_ref().filter(|keeper| !keeper.is_login(endpoint)) else { return Ok(None) };
        keeper.token(|body| self.log_in(&keeper.login.endpoint, body)).await.map(Some)
    }

    /// Logs in. What was sent and answered is kept nowhere: both are secrets.
    async fn log_in(&self, endpoint: &str, body: Value) -> Result<Value, Fault> {
        let operation = self.operation(endpoint)?;
        let written = self.request(operation, &body, Vec::new())?;
        let response = self.client.send(written).await?;
        let (parts, bytes) = response.into_parts();
        let answer = Answer::read(parts.status, &parts.headers, &bytes, operation.max_answer).await?;
        let judged = judge(operation, parts.status, &parts.headers, answer, &Exchange::default());
        judged.map_err(|fault| login::refused(operation, &fault))
    }

    /// The request of one call: the body first, because only it can be wrong.
    fn request(
        &self,
        operation: &Operation,
        value: &Value,
        mut headers: Vec<Element>,
    ) -> Result<Request<Bytes>, Fault> {
        let calls = &self.calls;
        let mut body = body(calls, operation, value)?;
        let parts = match &operation.attachments {
            Some(attachments) => {
                let described = operation.contract.as_ref().and_then(Contract::request);
                attachments.detach(&mut body, described).map_err(invalid)?
            }
            None => Vec::new(),
        };
        headers.extend(self.signer.as_ref().map(|signer| signer.block(calls.version)));
        let namespace = operation.element.namespace.as_deref();
        let bytes = match &self.sealer {
            Some(sealer) => sealer.seal(calls.version, headers, body, namespace)?,
            None => envelope::write(calls.version, headers, body, namespace, &calls.charset)
                .map_err(|error| invalid(error.to_string()))?,
        };

        let packed = operation
            .attachments
            .as_ref()
            .and_then(|attachments| attachments.pack(&bytes, &parts, calls.version, &calls.charset, &operation.action));

        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.client.url(&operation.path)?;
        let value = |text: &str| {
            let bad = |_| Fault::new(Code::Internal, "a header has characters that it cannot carry");
            HeaderValue::from_str(text).map_err(bad)
        };
        let (media, bytes) = packed.map_or_else(
            || {
                let soap = calls.version.media_type();
                let mut media = format!("{soap}; charset={}", calls.charset.to_ascii_lowercase());
                if calls.version == Version::V12 && !operation.action.is_empty() {
                    media.push_str(&format!("; action=\"{}\"", operation.action));
                }
                (media, bytes)
            },
            |packed| (packed.media, packed.bytes),
        );
        *request.body_mut() = Bytes::from(bytes);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, value(&media)?);
        let accepted = match operation.attachments {
            Some(_) => format!("{}, multipart/related", calls.version.media_type()),
            None => calls.version.media_type().to_owned(),
        };
        headers.insert(ACCEPT, value(&accepted)?);
        if calls.version == Version::V11 {
            headers.insert(HeaderName::from_static("soapaction"), value(&format!("\"{}\"", operation.action))?);
        }
        if let Some((name, value)) = &self.auth {
            headers.insert(name.clone(), value.clone());
        }
        Ok(request)
    }
}

impl Caller {
    /// What was sent, for people: with stars for what only the system may know.
    fn shown(&self, body: &Bytes, token: Option<&str>) -> String {
        let password = self.signer.as_ref().and_then(Signer::in_clear);
        let hidden: Vec<_> = password.into_iter().chain(token).filter(|secret| !secret.is_empty()).collect();
        if hidden.is_empty() {
            return Exchange::excerpt(body);
        }
        let text = String::from_utf8_lossy(body);
        let masked = hidden.iter().fold(text.into_owned(), |text, secret| {
            let escaped = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            text.replace(&escaped, "***").replace(secret, "***")
        });
        Exchange::excerpt(masked.as_bytes())
    }
}

fn invalid(reason: String) -> Fault {
    Fault::new(Code::Invalid, format!("the call cannot be written: {reason}"))
}

/// What stands in the body of a call.
fn body(calls: &Calls, operation: &Operation, value: &Value) -> Result<Vec<Element>, Fault> {
    let mut closed;
    let value = if operation.nested.is_empty() {
        value
    } else {
        closed = value.clone();
        operation.nested.close(&mut closed).map_err(|error| invalid(error.to_string()))?;
        &closed
    };
    match &operation.contract {
        Some(contract) => contract.write_request(calls.version, value).map_err(|violations| {
            let name = &contract.operation.name;
            Fault::new(Code::Invalid, format!("the call does not fit `{name}` of the WSDL")).violations(violations)
        }),
        None => {
            let element = Element::from_value_in(&operation.element, operation.children.as_deref(), value);
            Ok(vec![element.map_err(invalid)?])
        }
    }
}

/// The envelope of a call, for people: without header blocks, which need a message.
pub(crate) fn preview(calls: &Calls, endpoint: &str, value: &Value) -> Result<Option<String>, Fault> {
    let Some(operation) = calls.by_name.get(endpoint) else { return Ok(None) };
    let body = body(calls, operation, value)?;
    let namespace = operation.element.namespace.as_deref();
    envelope::preview(calls.version, body, namespace).map(Some).map_err(|error| invalid(error.to_string()))
}

#[async_trait]
impl Outbound for Caller {
    async fn deliver(&self, call: Call<'_>) -> Result<Reply, Fault> {
        let operation = self.operation(call.endpoint)?;
        let token = self.token(call.endpoint).await?;
        let keeper = self.keeper.as_ref().zip(token.as_deref());
        let mut headers = blocks::of_call(self.calls.version, operation, &call)?;
        if let Some((keeper, token)) = keeper {
            headers.extend(keeper.block(token).map_err(invalid)?);
        }
        let with_token = keeper.and_then(|(keeper, token)| keeper.with_token(call.body, token));
        let mut request = self.request(operation, with_token.as_ref().unwrap_or(call.body), headers)?;
        let named = [("idempotency-key", Some(call.delivery_id)), ("traceparent", call.traceparent)];
        for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let bad = |_| Fault::new(Code::Internal, "a header has characters that it cannot carry");
            request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(bad)?);
        }
        let mut exchange = Exchange { sent: Some(self.shown(request.body(), token.as_deref())), answered: None };
        let response = self.client.send(request).await.map_err(|fault| fault.exchange(exchange.clone()))?;
        let (parts, bytes) = response.into_parts();
        exchange.answered = Some(format!("HTTP {}\n{}", parts.status, Exchange::excerpt(&bytes)));
        let answer = Answer::read(parts.status, &parts.headers, &bytes, operation.max_answer);
        let answer = answer.await.map_err(|fault| fault.exchange(exchange.clone()))?;
        if let Some((keeper, token)) = keeper
            && keeper.is_expired(i64::from(parts.status.as_u16()), &answer.value())
        {
            keeper.expire(token).await;
            // Not sent again here: whether this call had an effect is for the system's own rules and the delivery id.
            let fault = Fault::new(Code::Refused, "the system says that the session is over").verdict(Verdict::Retry);
            return Err(fault.exchange(exchange));
        }
        let body = judge(operation, parts.status, &parts.headers, answer, &exchange)?;
        Ok(Reply { body, exchange, ..Reply::default() })
    }

    async fn probe(&self) -> Result<String, Fault> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.client.url("")?;
        if let Some((name, value)) = &self.auth {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let status = self.client.send(request).await?.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused_credentials(status)),
            // A SOAP endpoint that is asked with GET may say anything; what counts is that it is there.
            status if status.as_u16() < 500 || status == StatusCode::INTERNAL_SERVER_ERROR => {
                let logged_in = if self.token("").await?.is_some() { ", and lets us log in" } else { "" };
                Ok(format!("answers (HTTP {} to GET){logged_in}", status.as_u16()))
            }
            status => Err(Fault::new(Code::Refused, format!("answers HTTP {status}")).verdict(Verdict::Retry)),
        }
    }
}

/// What an answer means. A 200 alone means nothing.
fn judge(
    operation: &Operation,
    status: StatusCode,
    headers: &HeaderMap,
    answer: Answer,
    exchange: &Exchange,
) -> Result<Value, Fault> {
    let code = Value::from(i64::from(status.as_u16()));
    let headers_of = |envelope: &Envelope| {
        blocks::read(&envelope.headers, &operation.reply_headers, Mode::Lenient).unwrap_or_default()
    };
    if let Some(fault) = by_status(status, headers, &answer) {
        return Err(fault.exchange(exchange.clone()));
    }
    if let Answer::Empty = answer
        && operation.one_way
        && matches!(status.as_u16(), 200 | 202 | 204)
    {
        return Ok(Value::Null);
    }
    let fault = match answer {
        Answer::Body(ref envelope) if let Some(element) = envelope.body.first() => match PeerFault::read(element) {
            Some(fault) => {
                let fault = from_peer(&fault, status);
                let (value, headers) = (fault::value(element, &operation.details), headers_of(envelope));
                let scope = Scope::new().with("reply", &value).with("status", &code).with("headers", &headers);
                // Always an error: a rule without `success_when` keeps the protocol's own judgement.
                operation.fault.judge_over(&scope, exchange, Some(fault.clone()))?;
                fault
            }
            None if status.is_success() => {
                blocks::understood(operation, envelope).map_err(|fault| fault.exchange(exchange.clone()))?;
                let mut reply = match &operation.contract {
                    Some(contract) => contract.read_reply(&envelope.body),
                    None => element.to_value(),
                };
                let limits =
                    BodyLimits { bytes: operation.max_answer, text: operation.max_answer, ..BodyLimits::default() };
                operation.nested_reply.open(&mut reply, &limits).map_err(|error| {
                    Fault::new(Code::BadAnswer, format!("the answer cannot be read: {error}"))
                        .exchange(exchange.clone())
                })?;
                let headers = headers_of(envelope);
                let scope = Scope::new().with("reply", &reply).with("status", &code).with("headers", &headers);
                operation.answer.judge_over(&scope, exchange, None)?;
                return Ok(reply);
            }
            None => other_status(status, "a SOAP answer that is no fault"),
        },
        Answer::Body(ref envelope) if status.is_success() => {
            blocks::understood(operation, envelope).map_err(|fault| fault.exchange(exchange.clone()))?;
            let headers = headers_of(envelope);
            let scope = Scope::new().with("reply", &Value::Null).with("status", &code).with("headers", &headers);
            operation.answer.judge_over(&scope, exchange, None)?;
            return Ok(Value::Null);
        }
        Answer::Body(_) => other_status(status, "an empty SOAP body"),
        Answer::Empty => other_status(status, "an empty answer"),
        Answer::Other(what) => other_status(status, &what),
    };
    Err(fault.exchange(exchange.clone()))
}

/// What came back.
enum Answer {
    /// An envelope.
    Body(Envelope),
    /// Nothing at all.
    Empty,
    /// Something else, in words.
    Other(String),
}

impl Answer {
    async fn read(status: StatusCode, headers: &HeaderMap, bytes: &Bytes, max: usize) -> Result<Self, Fault> {
        if bytes.is_empty() || status == StatusCode::NO_CONTENT {
            return Ok(Self::Empty);
        }
        let media = Media::of(headers).unwrap_or_default();
        let (size, bytes) = (bytes.len(), bytes.clone());
        parse(size, From::Peer, move || Self::decode(&media, &bytes, max)).await
    }

    fn decode(media: &Media, bytes: &Bytes, max: usize) -> Self {
        match media.essence.as_str() {
            "text/xml" | "application/soap+xml" | "application/xml" | "multipart/related" | "" => {}
            other => return Self::Other(format!("`{}` instead of SOAP", other.chars().take(60).collect::<String>())),
        }
        let limits = BodyLimits { bytes: max, text: max, ..BodyLimits::default() };
        let decode = |bytes: &Bytes, charset: Option<&str>| {
            xml::decode(bytes, charset, &limits).map_err(|error| format!("broken XML: {error}"))
        };
        let root = if media.is_related() {
            mime::read(media, bytes).map_err(|error| format!("broken parts: {error}")).and_then(|package| {
                let mut root = decode(&package.root, package.media.charset.as_deref())?;
                package.resolve(&mut root, max)?;
                Ok(root)
            })
        } else {
            decode(bytes, media.charset.as_deref())
        };
        let taken = root.and_then(|root| {
            Envelope::take(root).map_err(|error| match error {
                envelope::NotEnvelope::Version(namespace) => format!("an envelope of the namespace `{namespace}`"),
                envelope::NotEnvelope::Shape(_, reason) => format!("broken SOAP: {reason}"),
            })
        });
        let unfolded = taken.and_then(|mut envelope| {
            envelope.unfold().map_err(|error| format!("broken SOAP: {error}"))?;
            Ok(envelope)
        });
        match unfolded {
            Ok(envelope) => Self::Body(envelope),
            Err(what) => Self::Other(what),
        }
    }

    /// What is in the body's first element, a fault's too.
    fn value(&self) -> Value {
        match self {
            Self::Body(envelope) => envelope.body.first().map(|element| fault::value(element, &[])).unwrap_or_default(),
            Self::Empty | Self::Other(_) => Value::Null,
        }
    }

    /// The reason of a fault in it, to say beside a status.
    fn reason(&self) -> String {
        match self {
            Self::Body(envelope) => envelope
                .body
                .first()
                .and_then(PeerFault::read)
                .map(|fault| format!(": {}", cut(&fault.reason, MAX_REASON)))
                .unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// What a status says whatever comes with it.
fn by_status(status: StatusCode, headers: &HeaderMap, answer: &Answer) -> Option<Fault> {
    match status.as_u16() {
        401 | 403 => {
            let mut fault = refused_credentials(status);
            fault.public.push_str(&answer.reason());
            Some(fault)
        }
        429 | 503 => {
            let text = format!("the system is busy (HTTP {}){}", status.as_u16(), answer.reason());
            let wait = retry_after(headers);
            Some(Fault::new(Code::Refused, text).verdict(wait.map_or(Verdict::Retry, Verdict::RetryAfter)))
        }
        300..=399 => {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            let text = format!("the system redirects to `{}`; write that as its address", cut(to, 200));
            Some(Fault::new(Code::Misconfigured, text))
        }
        _ => None,
    }
}

fn refused_credentials(status: StatusCode) -> Fault {
    let text = format!("the system refuses Gatehouse's credentials (HTTP {})", status.as_u16());
    Fault::new(Code::Misconfigured, text)
}

/// An answer that is no SOAP answer and no fault.
fn other_status(status: StatusCode, what: &str) -> Fault {
    let text = format!("the system answered {what} (HTTP {})", status.as_u16());
    match status.as_u16() {
        // Also what an application server says while the application is being deployed.
        404 | 408 => Fault::new(Code::Refused, text).verdict(Verdict::Retry),
        400..=499 => Fault::new(Code::Refused, text),
        _ => Fault::new(Code::BadAnswer, text),
    }
}

/// A peer's fault as ours.
fn from_peer(fault: &PeerFault, status: StatusCode) -> Fault {
    let (code, verdict) = match fault.kind {
        Kind::Sender => (Code::Refused, Verdict::Reject),
        Kind::Receiver => (Code::Refused, Verdict::Retry),
        // Every message would fail so.
        Kind::MustUnderstand | Kind::VersionMismatch => (Code::Misconfigured, Verdict::Hold),
        Kind::Other if status.is_client_error() => (Code::Refused, Verdict::Reject),
        Kind::Other => (Code::Refused, Verdict::Retry),
    };
    let mut private = format!("SOAP fault {}", fault.codes());
    if let Some(detail) = &fault.detail {
        private.push_str(&format!("; detail: {}", cut(detail, MAX_DETAIL)));
    }
    Fault::new(code, cut(&fault.reason, MAX_REASON)).verdict(verdict).private(private)
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
