//! The outbound half: one call, from the value that it carries to the request that is sent. What its answer means is
//! [`crate::answer`]'s.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Outbound, Reply};
use gatehouse_core::fault::{Code, Exchange, Fault, Verdict};
use gatehouse_core::secret::Secrets;
use gatehouse_core::xml::Element;
use gatehouse_net::client::{Client, ClientConfig};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};

use crate::answer::{hear, refused_credentials};
use crate::blocks;
use crate::contract::Contract;
use crate::envelope::{self, Version};
use crate::file::{Calls, Operation};
use crate::login::{self, Keeper};
use crate::mask::masked;
use crate::media::Media;
use crate::proof::AnswerProof;
use crate::wsse::{self, Sealer, Signer};

/// The outbound half of one system.
pub(crate) struct Caller {
    calls: Calls,
    client: Client,
    auth: Option<(HeaderName, HeaderValue)>,
    signer: Option<Signer>,
    sealer: Option<Sealer>,
    proof: Option<AnswerProof>,
    keeper: Option<Arc<Keeper>>,
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
        let proof = calls.verify.as_ref().map(AnswerProof::open).transpose()?;
        let keeper = calls.login.as_ref().map(|login| Keeper::open(login, secrets).map(Arc::new)).transpose()?;
        let auth = calls.auth.http().open(secrets)?;
        Ok(Self { calls: calls.clone(), client, auth, signer, sealer, proof, keeper })
    }

    fn operation(&self, endpoint: &str) -> Result<&Arc<Operation>, Fault> {
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
        let said = hear(operation.clone(), None, self.proof.clone(), parts, bytes).await?;
        said.judged.map_err(|fault| login::refused(operation, &fault))
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
        let bytes = wsse::write(self.sealer.as_ref(), calls.version, headers, body, namespace, &calls.charset);
        let bytes = bytes.map_err(invalid)?;

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
    /// What went over the wire, for people: with stars for what only the system may know.
    fn shown(&self, body: &Bytes, charset: &str, token: Option<&str>) -> String {
        let password = self.signer.as_ref().and_then(Signer::in_clear);
        let hidden: Vec<_> = password.into_iter().chain(token).collect();
        // Signed messages are in UTF-8 whatever the file says, and what comes back may be what was sent.
        Exchange::excerpt(&masked(body, &[charset, &self.calls.charset, "utf-8"], &hidden))
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
            headers.extend(keeper.block(self.calls.version, token)?);
        }
        let with_token = keeper.and_then(|(keeper, token)| keeper.with_token(call.body, token));
        let mut request = self.request(operation, with_token.as_ref().unwrap_or(call.body), headers)?;
        let named = [("idempotency-key", Some(call.delivery_id)), ("traceparent", call.traceparent)];
        for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let bad = |_| Fault::new(Code::Internal, "a header has characters that it cannot carry");
            request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(bad)?);
        }
        // Written out only where it failed: nobody reads the rest.
        let body = request.body().clone();
        let sent = || Some(self.shown(&body, &self.calls.charset, token.as_deref()));
        let unanswered = |fault: Fault| fault.exchange(Exchange { sent: sent(), answered: None });
        let response = self.client.send(request).await.map_err(unanswered)?;
        let (parts, bytes) = response.into_parts();
        let charset = Media::of(&parts.headers).and_then(|media| media.charset);
        let (status, answer) = (parts.status, bytes.clone());
        let told = |fault: Fault| {
            let shown = self.shown(&answer, charset.as_deref().unwrap_or("utf-8"), token.as_deref());
            fault.exchange(Exchange { sent: sent(), answered: Some(format!("HTTP {status}\n{shown}")) })
        };
        let with_session = keeper.map(|(keeper, _)| keeper.clone());
        let said = hear(operation.clone(), with_session, self.proof.clone(), parts, bytes).await.map_err(&told)?;
        if said.is_expired
            && let Some((keeper, token)) = keeper
        {
            keeper.expire(token).await;
        }
        let body = said.judged.map_err(told)?;
        Ok(Reply { body, ..Reply::default() })
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
