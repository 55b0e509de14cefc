//! The outbound half: one call, one answer, judged.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Outbound, Passed, Reply};
use gatehouse_core::expr::{Expression, Scope};
use gatehouse_core::fault::{Code, Exchange, Fault, Verdict};
use gatehouse_core::nested::NestedError;
use gatehouse_core::reading::Reading;
use gatehouse_net::body::From;
use gatehouse_net::client::Client;
use gatehouse_net::parse::parse;
use gatehouse_net::retry::retry_after;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::file::{Called, Checked};
use crate::media::{self, Media};

/// Calls one system.
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) credential: Option<(HeaderName, HeaderValue)>,
    pub(crate) checked: Arc<Checked>,
}

#[async_trait]
impl Outbound for Caller {
    async fn deliver(&self, call: Call<'_>) -> Result<Reply, Fault> {
        let called = self.checked.called.iter().find(|called| called.name == call.endpoint);
        let called = called
            .ok_or_else(|| Fault::new(Code::Misconfigured, format!("there is no endpoint `{}`", call.endpoint)))?;
        let request = self.request(called, &call)?;
        let sent = Sent::of(&request);
        let response = self.client.send(request).await.map_err(|fault| fault.exchange(sent.unanswered()))?;
        let (parts, bytes) = response.into_parts();
        let judged = match call.passed {
            Some(_) => pass(&parts, &bytes),
            None => match Answer::read(called, &parts, &bytes, self.checked.limits.body).await {
                Ok(read) => judge(called, &parts, &bytes, read),
                Err(fault) => Err(fault),
            },
        };
        judged.map_err(|fault| fault.exchange(sent.answered(parts.status, &bytes)))
    }

    async fn probe(&self) -> Result<String, Fault> {
        let mut request = Request::new(Bytes::new());
        // HEAD asks for nothing to be done; any answer at all shows that the system is there.
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = self.client.url("/")?;
        self.identify(request.headers_mut());
        let status = self.client.send(request).await?.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Fault::new(Code::Misconfigured, format!("it answers {status}: the credentials are wrong")))
            }
            status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                Err(Fault::new(Code::BadAnswer, format!("it answers {status}")))
            }
            status => Ok(format!("it answers ({status})")),
        }
    }
}

impl Caller {
    fn identify(&self, headers: &mut HeaderMap) {
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("gatehouse/", env!("CARGO_PKG_VERSION"))));
        if let Some((name, value)) = &self.credential {
            headers.insert(name.clone(), value.clone());
        }
    }

    fn request(&self, called: &Called, call: &Call<'_>) -> Result<Request<Bytes>, Fault> {
        let bad = |reason: String| Fault::new(Code::Invalid, reason);
        // The message is copied for expressions only; most calls have none.
        let plain = called.path.is_empty() && called.query.is_empty() && called.headers.is_empty();
        let message = if plain { Value::Null } else { call.message.to_value(call.attempt) };
        let id = Value::from(call.delivery_id);
        let scope = Scope::new().with("body", call.body).with("message", &message).with("delivery_id", &id);
        let scope = scope.with("meta", call.meta);
        let text = |expression: &Expression| -> Result<Option<String>, Fault> {
            let value = expression.eval(&scope).map_err(|reason| bad(format!("`{}`: {reason}", expression.text())))?;
            match value {
                Value::Null => Ok(None),
                value => value
                    .to_plain_text()
                    .map(Some)
                    .ok_or_else(|| bad(format!("`{}` is {}, not one value", expression.text(), value.kind()))),
            }
        };
        let mut filled = Vec::with_capacity(called.path.len());
        for (name, expression) in &called.path {
            filled.push((name.as_str(), text(expression)?));
        }
        let mut target =
            called.template.fill(|name| filled.iter().find(|(known, _)| *known == name)?.1.clone()).map_err(bad)?;
        let mut separator = '?';
        for (name, expression) in &called.query {
            let Some(value) = text(expression)? else { continue };
            target.push(separator);
            target.extend(utf8_percent_encode(name, NON_ALPHANUMERIC));
            target.push('=');
            target.extend(utf8_percent_encode(&value, NON_ALPHANUMERIC));
            separator = '&';
        }
        let (body, content_type) = match call.passed {
            Some(passed) => (passed.body.clone(), passed.content_type.clone()),
            None => media::encode(&called.send, &called.charset, closed(called, call.body)?.as_ref())?,
        };
        let mut request = Request::new(body);
        *request.method_mut() = called.method.clone();
        *request.uri_mut() = self.client.url(&target)?;
        let headers = request.headers_mut();
        for (name, expression) in &called.headers {
            let Some(value) = text(expression)? else { continue };
            // Line ends would be headers of the message's own making; `from_bytes` refuses them.
            let value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| bad(format!("the header `{name}` cannot carry the value of `{}`", expression.text())))?;
            headers.insert(name.clone(), value);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/xml;q=0.9, */*;q=0.1"));
        for (name, value) in [
            ("content-type", content_type.as_deref()),
            ("idempotency-key", Some(call.delivery_id)),
            ("traceparent", call.traceparent),
        ] {
            if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        self.identify(headers);
        Ok(request)
    }
}

/// The body with its documents in strings closed.
fn closed<'a>(called: &Called, body: &'a Value) -> Result<Cow<'a, Value>, Fault> {
    if called.nested.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    let mut closed = body.clone();
    called.nested.close(&mut closed).map_err(|error| Fault::new(Code::Invalid, error.to_string()))?;
    Ok(Cow::Owned(closed))
}

/// What a call would send, for people, where the body does not say it itself.
pub(crate) fn preview(called: &Called, body: &Value) -> Result<Option<String>, Fault> {
    media::preview(&called.send, closed(called, body)?.as_ref())
}

/// An answer's body, read.
struct Answer {
    media: Media,
    body: Result<Value, Fault>,
    /// Whether its documents in strings could be opened.
    opened: Result<(), NestedError>,
}

impl Answer {
    async fn read(called: &Called, parts: &Parts, bytes: &Bytes, max: usize) -> Result<Self, Fault> {
        let (media, charset) = media::media(&parts.headers);
        let (size, bytes, nested) = (bytes.len(), bytes.clone(), called.nested_reply.clone());
        let reading = move || {
            let mut body = match bytes.is_empty() {
                true => Ok(Value::Null),
                false => media::decode(&media, charset.as_deref(), &bytes, max, &Reading::whole(), false)
                    .map(|(body, _)| body),
            };
            let opened = body.as_mut().map_or(Ok(()), |body| nested.open(body, &media::limits(max)));
            Self { media, body, opened }
        };
        parse(size, From::Peer, reading).await
    }
}

/// What was sent; written out only where it failed, for nobody reads the rest.
struct Sent {
    method: Method,
    target: Uri,
    body: Bytes,
}

impl Sent {
    fn of(request: &Request<Bytes>) -> Self {
        Self { method: request.method().clone(), target: request.uri().clone(), body: request.body().clone() }
    }

    fn unanswered(&self) -> Exchange {
        let target = self.target.path_and_query().map_or("/", |target| target.as_str());
        Exchange { sent: Some(describe(&self.method, target, &self.body)), answered: None }
    }

    fn answered(&self, status: StatusCode, bytes: &Bytes) -> Exchange {
        Exchange { answered: Some(format!("{status}\n{}", Exchange::excerpt(bytes))), ..self.unanswered() }
    }
}

/// What HTTP, the content type and the endpoint's own rule say of an answer.
fn judge(called: &Called, parts: &Parts, bytes: &Bytes, answer: Answer) -> Result<Reply, Fault> {
    let status = parts.status;
    let Answer { media, body, opened } = answer;
    let declared = parts.headers.contains_key(CONTENT_TYPE);
    let protocol = by_status(status, &parts.headers);
    let body = match (body, &protocol) {
        (Ok(body), _) => body,
        // A refusal may say why in any form.
        (Err(_), Some(_)) => Value::from(String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()),
        (Err(_), None) if !declared || matches!(&media, Media::Other(kind) if kind == "text/plain") => {
            Value::from(String::from_utf8_lossy(bytes).into_owned())
        }
        // An HTML page instead of an answer is a login page or a proxy's.
        (Err(fault), None) => {
            let text = format!("it answered {status}, but not in JSON or XML: {}", fault.public);
            return Err(Fault::new(Code::BadAnswer, text));
        }
    };
    if let (Err(error), true) = (opened, status.is_success()) {
        return Err(Fault::new(Code::BadAnswer, format!("the answer cannot be read: {error}")));
    }
    called.outcome.judge(i64::from(status.as_u16()), &body, protocol)?;
    Ok(Reply { body, ..Reply::default() })
}

/// The answer to a body that was sent as it came: whatever the system says goes back, a SOAP fault with 500 like any other. What says
/// that nobody was asked (credentials of ours, a redirect, a busy or missing server) is no answer of its.
fn pass(parts: &Parts, bytes: &Bytes) -> Result<Reply, Fault> {
    let is_asked = match parts.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => false,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => false,
        status => !status.is_redirection() && !status.is_informational(),
    };
    if let Some(fault) = by_status(parts.status, &parts.headers).filter(|_| !is_asked) {
        return Err(fault);
    }
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let passed = Some(Passed { body: bytes.clone(), content_type, status: Some(parts.status.as_u16()) });
    Ok(Reply { passed, ..Reply::default() })
}

/// What the status alone says; `None` is yes.
fn by_status(status: StatusCode, headers: &HeaderMap) -> Option<Fault> {
    if status.is_success() {
        return None;
    }
    let text = format!("it answered {status}");
    let fault = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Fault::new(Code::Misconfigured, format!("{text}: our credentials are not accepted"))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Fault::new(Code::Refused, text).verdict(Verdict::Retry)
        }
        status if status.is_server_error() => Fault::new(Code::BadAnswer, text),
        status if status.is_redirection() => {
            Fault::new(Code::Misconfigured, format!("{text}: redirects are not followed; mend the address"))
        }
        _ => Fault::new(Code::Refused, text),
    };
    Some(match retry_after(headers) {
        Some(wait) if fault.verdict == Verdict::Retry => fault.verdict(Verdict::RetryAfter(wait)),
        _ => fault,
    })
}

/// What was sent, without headers: they hold credentials.
fn describe(method: &Method, target: &str, body: &Bytes) -> String {
    format!("{method} {target}\n{}", Exchange::excerpt(body))
}
