//! The inbound half: answers callers, and says yes only with a receipt in hand.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::adapter::{Arrival, Inbound, Intake, Outcome, Receipt, Stop};
use gatehouse_core::expr::Scope;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::value::Map;
use gatehouse_core::xml::Element;
use gatehouse_core::{Value, json};
use gatehouse_net::auth::Accept;
use gatehouse_net::body::From;
use gatehouse_net::door::{Door, Head, Request, Response, Service};
use gatehouse_net::parse::parse;
use gatehouse_net::problem::{Problem, rate_headers};
use gatehouse_net::trace::traceparent;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::file::{Checked, IdSource, Received};
use crate::media::{self, Media};

/// Listens for one system.
pub(crate) struct Listener {
    pub(crate) door: Option<Arc<Door>>,
    pub(crate) accept: Accept,
    pub(crate) checked: Arc<Checked>,
}

#[async_trait]
impl Inbound for Listener {
    async fn run(self: Box<Self>, intake: Arc<dyn Intake>, stop: Stop) -> Result<(), Fault> {
        let door = self.door.ok_or_else(|| Fault::new(Code::Misconfigured, "there is no listener to mount on"))?;
        let mut prefixes: Vec<_> = self.checked.received.iter().map(|received| received.template.prefix()).collect();
        prefixes.sort();
        prefixes.dedup();
        // A prefix below another of the same system needs no mount of its own.
        let own =
            prefixes.iter().filter(|prefix| !prefixes.iter().any(|other| prefix.starts_with(&format!("{other}/"))));
        let service: Arc<dyn Service> =
            Arc::new(Counter { accept: self.accept, checked: self.checked.clone(), intake });
        let mounts: Result<Vec<_>, Fault> = own.map(|prefix| door.mount(prefix, service.clone())).collect();
        let mounts = mounts?;
        stop.await;
        drop(mounts);
        Ok(())
    }
}

/// Where callers are served.
struct Counter {
    accept: Accept,
    checked: Arc<Checked>,
    intake: Arc<dyn Intake>,
}

#[async_trait]
impl Service for Counter {
    async fn call(&self, request: Request) -> Response {
        match self.serve(request).await {
            Ok(response) => response,
            Err(refusal) => *refusal,
        }
    }
}

impl Counter {
    /// The endpoint that a request is for, and its path's parameters.
    fn find(&self, request: &Request) -> Result<(&Received, Map), Box<Response>> {
        let on_path: Vec<&Received> =
            self.checked.received.iter().filter(|one| one.template.matches(&request.path).is_some()).collect();
        if on_path.is_empty() {
            return Err(refuse(&Fault::new(Code::NotFound, "nothing is here")));
        }
        // Who may not come in is not told which methods there are.
        self.accept.verify(&request.headers).map_err(|fault| refuse(&fault))?;
        let Some(received) = on_path.iter().find(|received| received.method == request.method) else {
            let methods = on_path.iter().map(|received| received.method.as_str()).collect::<Vec<_>>().join(", ");
            let mut response = refuse(&Fault::new(Code::MethodNotAllowed, format!("only {methods} is possible here")));
            if let Ok(allow) = HeaderValue::from_str(&methods) {
                response.headers.insert(ALLOW, allow);
            }
            return Err(response);
        };
        let parameters = received.template.matches(&request.path).unwrap_or_default();
        Ok((received, parameters.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()))
    }

    async fn serve(&self, request: Request) -> Result<Response, Box<Response>> {
        let (received, mut meta) = self.find(&request)?;
        let admission = self.intake.admit(&received.full_name).map_err(|fault| refuse(&fault))?;
        let max = admission.limits.body;
        let (head, bytes) = request.split(max).await.map_err(|fault| refuse(&fault))?;
        let (media, charset) = media::media(&head.headers);
        let mut told = HeaderMap::new();
        rate_headers(&admission, &mut told);
        let outcome = async {
            let reading = {
                let (media, bytes, nested) = (media.clone(), bytes.clone(), received.nested.clone());
                let (reading, document) = (received.reading(&admission.wants), admission.wants.document);
                move || {
                    if reading.is_nothing() {
                        return Ok((Value::Null, None));
                    }
                    let read = media::decode(&media, charset.as_deref(), &bytes, max, &reading, document);
                    let (mut body, document) = read?;
                    let opened = nested.open(&mut body, &media::limits(max));
                    opened.map_err(|error| Fault::new(Code::Malformed, error.to_string()))?;
                    Ok((body, document))
                }
            };
            // Looking through a body is quicker than taking it up.
            let size = bytes.len() / if admission.wants.as_it_came { 4 } else { 1 };
            let (body, document) = parse(size, From::Caller, reading).await??;
            for (header, name) in &received.meta {
                if let Some(value) = head.headers.get(header).and_then(|value| value.to_str().ok()) {
                    meta.insert(name.clone(), Value::from(value));
                }
            }
            let id = find_id(received, &head, &body)?;
            let kept = received
                .reply
                .json
                .iter()
                .any(|(_, expression)| expression.text().contains("body"))
                .then(|| body.clone());
            let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let arrival = Arrival {
                body,
                document,
                id,
                meta: Value::Map(meta),
                traceparent: traceparent(&head.headers),
                original: bytes.clone(),
                content_type: match content_type {
                    Some(text) => Cow::Owned(text.to_owned()),
                    None if admission.wants.as_it_came => Cow::Borrowed(""),
                    None => Cow::Borrowed("application/json"),
                },
            };
            let receipt = self.intake.accept(admission, arrival).await?;
            answer(received, &receipt, kept.as_ref(), &media)
        };
        let mut response = outcome.await.unwrap_or_else(|fault| *refuse(&fault));
        response.headers.extend(told);
        Ok(response)
    }
}

fn refuse(fault: &Fault) -> Box<Response> {
    Box::new(Problem::from(fault).response())
}

/// The id that the caller gave the message, where the endpoint says that there is one.
fn find_id(received: &Received, head: &Head, body: &Value) -> Result<Option<String>, Fault> {
    let missing =
        |what: String| Fault::new(Code::Malformed, format!("this endpoint needs the message's own id {what}"));
    match &received.id {
        None => Ok(None),
        Some(IdSource::Header(name)) => match head.headers.get(name).map(|value| value.to_str()) {
            Some(Ok(id)) if !id.is_empty() => Ok(Some(id.to_owned())),
            _ => Err(missing(format!("in the header `{name}`"))),
        },
        Some(IdSource::Body(path)) => {
            let id = path.find(body).and_then(Value::to_plain_text).filter(|id| !id.is_empty());
            id.map(Some).ok_or_else(|| missing(format!("at `{path}` of the body")))
        }
    }
}

/// What the caller is told once the message is safe.
fn answer(received: &Received, receipt: &Receipt, body: Option<&Value>, media: &Media) -> Result<Response, Fault> {
    let mut headers = HeaderMap::new();
    let typed = |status: StatusCode, mut headers: HeaderMap, content_type: &'static str, body: Vec<u8>| {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Response { status, headers, body: Bytes::from(body) }
    };
    if let Ok(id) = HeaderValue::from_str(&receipt.message_id) {
        headers.insert("gatehouse-message-id", id);
    }
    if receipt.outcome == Outcome::Repeated {
        headers.insert("gatehouse-repeated", HeaderValue::from_static("true"));
    }
    if let Some(passed) = &receipt.passed {
        let content_type = passed.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        headers.extend(content_type.map(|text| (CONTENT_TYPE, text)));
        let status = passed.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        return Ok(Response { status, headers, body: passed.body.clone() });
    }
    let status = received.reply.status;
    if let Some(reply) = &receipt.reply {
        if *media == Media::Xml {
            let element = Element::from_value("reply", None, reply)
                .map_err(|reason| Fault::new(Code::BadAnswer, format!("the answer is no XML: {reason}")))?;
            return Ok(typed(StatusCode::OK, headers, "application/xml; charset=utf-8", element.encode()));
        }
        return Ok(typed(StatusCode::OK, headers, "application/json", json::encode(reply)));
    }
    if let Some(text) = &received.reply.text {
        return Ok(typed(status, headers, "text/plain; charset=utf-8", text.clone().into_bytes()));
    }
    let id = Value::from(receipt.message_id.as_str());
    if received.reply.json.is_empty() {
        let body: Value = [("message_id", id)].into_iter().collect();
        return Ok(typed(status, headers, "application/json", json::encode(&body)));
    }
    let null = Value::Null;
    let scope = Scope::new().with("message_id", &id).with("body", body.unwrap_or(&null));
    // The message is safe by now: a field that cannot be computed is null, not a refusal.
    let fields = received
        .reply
        .json
        .iter()
        .map(|(name, expression)| (name.clone(), expression.eval(&scope).unwrap_or_default()));
    Ok(typed(status, headers, "application/json", json::encode(&fields.collect::<Value>())))
}
