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

use crate::attachments::Part;
use crate::contract::Contract;
use crate::envelope::{GATEHOUSE, Version};
use crate::file::Listener;
use crate::offer;
use crate::wsse::{self, Sealer};

/// The yes: the reply's element, and the message id as a header block. `body`: what came, where the answer looks at it; `sealer`: what signs
/// it, where it is signed.
pub(crate) fn acknowledge(
    version: Version,
    listener: &Listener,
    body: Option<&Value>,
    receipt: &Receipt,
    admission: &Admission,
    mut blocks: Vec<Element>,
    sealer: Option<&Sealer>,
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
    let certain = blocks.len();
    let plain = || vec![Element::new(namespace, &listener.reply.local)];
    // The message is taken; a fault now would bring it a second time. Where the reply cannot be made the caller gets the plain yes, and
    // who looks at the wire sees what is wrong with the site.
    let (reply, mut parts) = reply(version, listener, body, receipt).unwrap_or_else(|error| {
        blocks.push(own("ReplyError", &error));
        (plain(), Vec::new())
    });
    match reply_headers(version, listener, body, receipt) {
        Ok(more) => blocks.extend(more),
        Err(fault) => blocks.push(own("ReplyError", &fault.public)),
    }
    let write = |blocks: &[Element], reply| wsse::write(sealer, version, blocks.to_vec(), reply, namespace, "UTF-8");
    let bytes = write(&blocks, reply).unwrap_or_else(|error| {
        parts.clear();
        blocks.push(own("ReplyError", &error));
        write(&blocks, plain()).unwrap_or_else(|_| {
            // It is in the file's own blocks.
            blocks.drain(certain..blocks.len() - 1);
            write(&blocks, plain()).unwrap_or_default()
        })
    });
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

/// What stands in the body, and what goes beside it.
fn reply(
    version: Version,
    listener: &Listener,
    body: Option<&Value>,
    receipt: &Receipt,
) -> Result<(Vec<Element>, Vec<Part>), String> {
    let value = reply_value(listener, body, receipt)?;
    let mut reply = match &listener.contract {
        Some(contract) => contract.write_reply(version, &value).map_err(|violations| {
            let first = violations.first().map(|one| format!("{} {}", one.pointer, one.message));
            format!("the reply does not fit the WSDL: {}", first.unwrap_or_default())
        })?,
        None => vec![Element::from_value_in(&listener.reply, listener.reply.namespace.as_deref(), &value)?],
    };
    let Some(attachments) = &listener.attachments else { return Ok((reply, Vec::new())) };
    let described = listener.contract.as_ref().and_then(Contract::reply);
    attachments.detach(&mut reply, described).map(|parts| (reply, parts))
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

fn reply_value(listener: &Listener, body: Option<&Value>, receipt: &Receipt) -> Result<Value, String> {
    let Some(template) = &listener.reply_body else {
        let offered = listener.contract.as_ref().and_then(|contract| contract.offered.as_ref());
        return Ok(match &receipt.reply {
            Some(routed) => routed.clone(),
            None if offered.is_some_and(|offered| offered.receipt) => offer::receipt_value(&receipt.message_id),
            None => Value::map(),
        });
    };
    in_scope(body, receipt, |scope| template.eval(scope))
}

/// The header blocks that the file foresees for the answer.
fn reply_headers(
    version: Version,
    listener: &Listener,
    body: Option<&Value>,
    receipt: &Receipt,
) -> Result<Vec<Element>, Fault> {
    in_scope(body, receipt, |scope| listener.reply_headers.iter().map(|block| block.write(version, scope)).collect())
}

/// What the expressions of an answer see.
fn in_scope<T>(body: Option<&Value>, receipt: &Receipt, work: impl FnOnce(&Scope<'_>) -> T) -> T {
    let id = Value::from(receipt.message_id.as_str());
    let null = Value::Null;
    let (body, routed) = (body.unwrap_or(&null), receipt.reply.as_ref().unwrap_or(&null));
    work(&Scope::new().with("body", body).with("message_id", &id).with("reply", routed))
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
