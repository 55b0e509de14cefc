//! The yes to a caller: the reply of an operation once the bus holds its message, with what else its head and its header blocks say.

use bytes::Bytes;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Admission, Outcome, Receipt};
use gatehouse_core::expr::Scope;
use gatehouse_core::fault::Fault;
use gatehouse_core::xml::Element;
use gatehouse_net::door::Response;
use gatehouse_net::problem::rate_headers;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::contract::Contract;
use crate::envelope::{self, GATEHOUSE, Version};
use crate::file::Listener;
use crate::offer;

/// The yes: the reply's element, and the message id as a header block.
pub(crate) fn acknowledge(
    version: Version,
    listener: &Listener,
    body: &Value,
    receipt: &Receipt,
    admission: &Admission,
    mut blocks: Vec<Element>,
) -> Response {
    if listener.is_one_way() {
        return headed(
            Response { status: StatusCode::ACCEPTED, headers: HeaderMap::new(), body: Bytes::new() },
            receipt,
            admission,
        );
    }
    let namespace = listener.reply.namespace.as_deref();
    let own = |local: &str, text: &str| Element::new(Some(GATEHOUSE), local).with_text(text);
    blocks.push(own("MessageId", &receipt.message_id));
    let plain = || vec![Element::new(namespace, &listener.reply.local)];
    let written = |value: &Value| match &listener.contract {
        Some(contract) => contract.write_reply(version, value).map_err(|violations| {
            let first = violations.first().map(|one| format!("{} {}", one.pointer, one.message));
            format!("the reply does not fit the WSDL: {}", first.unwrap_or_default())
        }),
        None => Element::from_value_in(&listener.reply, namespace, value).map(|element| vec![element]),
    };
    let detached = |mut reply: Vec<Element>| {
        let Some(attachments) = &listener.attachments else { return Ok((reply, Vec::new())) };
        let described = listener.contract.as_ref().and_then(Contract::reply);
        attachments.detach(&mut reply, described).map(|parts| (reply, parts))
    };
    let reply = reply_value(listener, body, receipt).and_then(|value| written(&value)).and_then(detached);
    let (reply, parts) = reply.unwrap_or_else(|error| {
        // The message is taken; a fault now would bring it a second time. The caller gets the plain yes, and who
        // looks at the wire sees what is wrong with the site.
        blocks.push(own("ReplyError", &error));
        (plain(), Vec::new())
    });
    match reply_headers(version, listener, body, receipt) {
        Ok(more) => blocks.extend(more),
        Err(fault) => blocks.push(own("ReplyError", &fault.public)),
    }
    let bytes = envelope::write(version, blocks, reply, namespace, "UTF-8")
        .or_else(|_| envelope::write(version, Vec::new(), plain(), namespace, "UTF-8"))
        .unwrap_or_default();
    let packed = listener.attachments.as_ref();
    let packed = packed.and_then(|attachments| attachments.pack(&bytes, &parts, version, "UTF-8", ""));
    let mut response = answer(StatusCode::OK, version, bytes);
    if let Some(packed) = packed
        && let Ok(media) = HeaderValue::from_str(&packed.media)
    {
        response.headers.insert(CONTENT_TYPE, media);
        response.body = Bytes::from(packed.bytes);
    }
    headed(response, receipt, admission)
}

/// A yes with what its head says.
fn headed(mut response: Response, receipt: &Receipt, admission: &Admission) -> Response {
    if let Ok(id) = HeaderValue::from_str(&receipt.message_id) {
        response.headers.insert("gatehouse-message-id", id);
    }
    if receipt.outcome == Outcome::Repeated {
        response.headers.insert("gatehouse-repeated", HeaderValue::from_static("true"));
    }
    rate_headers(admission, &mut response.headers);
    response
}

fn reply_value(listener: &Listener, body: &Value, receipt: &Receipt) -> Result<Value, String> {
    let routed = receipt.reply.clone();
    let Some(template) = &listener.reply_body else {
        let receipt = || match listener.contract.as_ref().and_then(|contract| contract.offered.as_ref()) {
            Some(offered) if offered.receipt => offer::receipt_value(&receipt.message_id),
            _ => Value::map(),
        };
        return Ok(routed.unwrap_or_else(receipt));
    };
    let id = Value::from(receipt.message_id.as_str());
    let routed = routed.unwrap_or_default();
    template.eval(&Scope::new().with("body", body).with("message_id", &id).with("reply", &routed))
}

/// The header blocks that the file foresees for the answer.
fn reply_headers(
    version: Version,
    listener: &Listener,
    body: &Value,
    receipt: &Receipt,
) -> Result<Vec<Element>, Fault> {
    if listener.reply_headers.is_empty() {
        return Ok(Vec::new());
    }
    let id = Value::from(receipt.message_id.as_str());
    let routed = receipt.reply.clone().unwrap_or_default();
    let scope = Scope::new().with("body", body).with("message_id", &id).with("reply", &routed);
    listener.reply_headers.iter().map(|block| block.write(version, &scope)).collect()
}

/// An answer with an envelope.
pub(crate) fn answer(status: StatusCode, version: Version, bytes: Vec<u8>) -> Response {
    let media = match version {
        Version::V11 => "text/xml; charset=utf-8",
        Version::V12 => "application/soap+xml; charset=utf-8",
    };
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(media))].into_iter().collect();
    Response { status, headers, body: Bytes::from(bytes) }
}
