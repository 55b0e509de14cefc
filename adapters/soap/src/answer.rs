//! What came back from a call, and what it means. It is read and judged in one piece of work, because it may be large.

use std::sync::Arc;

use bytes::Bytes;
use gatehouse_core::Value;
use gatehouse_core::expr::Scope;
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::{self, Element};
use gatehouse_net::body::From;
use gatehouse_net::parse::parse;
use gatehouse_net::retry::retry_after;
use http::header::LOCATION;
use http::response::Parts;
use http::{HeaderMap, StatusCode};

use crate::blocks;
use crate::envelope::{self, Envelope};
use crate::fault::{self, Kind, PeerFault};
use crate::file::Operation;
use crate::login::Keeper;
use crate::media::Media;
use crate::mime;
use crate::proof::AnswerProof;
use crate::typed::Mode;

/// The most characters of a peer's reason that are passed on.
const MAX_REASON: usize = 500;

/// The most characters of a peer's fault detail that support staff see beside the exchange.
const MAX_DETAIL: usize = 2000;

/// What an answer says.
pub(crate) struct Said {
    /// Whether the session of the call is over; then the judgement says so.
    pub(crate) is_expired: bool,
    /// Yes, with what it holds, or no.
    pub(crate) judged: Result<Value, Fault>,
}

/// Reads an answer and judges it; a large one where large bodies are read. `keeper`: whose session the call used; `proof`: by what an answer
/// must be known.
///
/// # Errors
/// It could not be read: `Unknown` or `BadAnswer`.
pub(crate) async fn hear(
    operation: Arc<Operation>,
    keeper: Option<Arc<Keeper>>,
    proof: Option<AnswerProof>,
    parts: Parts,
    bytes: Bytes,
) -> Result<Said, Fault> {
    let work = move |bytes: &Bytes| {
        let answer = Answer::read(&parts, bytes, operation.max_answer, proof.as_ref());
        let code = i64::from(parts.status.as_u16());
        if keeper.is_some_and(|keeper| keeper.is_expired(code, || answer.value())) {
            // Not sent again here: whether this call had an effect is for the system's own rules and the delivery id.
            let fault = Fault::new(Code::Refused, "the system says that the session is over").verdict(Verdict::Retry);
            return Said { is_expired: true, judged: Err(fault) };
        }
        Said { is_expired: false, judged: judge(&operation, parts.status, &parts.headers, answer) }
    };
    parse(bytes.len(), From::Peer, move || work(&bytes)).await
}

/// What an answer means. A 200 alone means nothing.
fn judge(operation: &Operation, status: StatusCode, headers: &HeaderMap, answer: Answer) -> Result<Value, Fault> {
    let code = Value::from(i64::from(status.as_u16()));
    let headers_of = |envelope: &Envelope| {
        blocks::read(&envelope.headers, &operation.answer_blocks, Mode::Lenient).unwrap_or_default()
    };
    if let Some(fault) = by_status(status, headers, &answer) {
        return Err(fault);
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
                let fault =
                    from_peer(&fault, status, &fault::about_blocks(&envelope.headers, &operation.header_faults));
                let value = fault::value(element, &operation.details, &envelope.headers, &operation.header_faults);
                let headers = headers_of(envelope);
                let scope = Scope::new().with("reply", &value).with("status", &code).with("headers", &headers);
                // Always an error: a rule without `success_when` keeps the protocol's own judgement.
                operation.fault.judge_over(&scope, Some(fault.clone()))?;
                fault
            }
            None if status.is_success() => {
                blocks::understood(operation, envelope)?;
                let mut reply = match &operation.contract {
                    Some(contract) => contract.read_reply(&envelope.body),
                    None => element.to_value(),
                };
                let limits =
                    BodyLimits { bytes: operation.max_answer, text: operation.max_answer, ..BodyLimits::default() };
                operation
                    .nested_reply
                    .open(&mut reply, &limits)
                    .map_err(|error| Fault::new(Code::BadAnswer, format!("the answer cannot be read: {error}")))?;
                let headers = headers_of(envelope);
                let scope = Scope::new().with("reply", &reply).with("status", &code).with("headers", &headers);
                operation.answer.judge_over(&scope, None)?;
                return Ok(reply);
            }
            None => other_status(status, "a SOAP answer that is no fault"),
        },
        Answer::Body(ref envelope) if status.is_success() => {
            blocks::understood(operation, envelope)?;
            let headers = headers_of(envelope);
            let scope = Scope::new().with("reply", &Value::Null).with("status", &code).with("headers", &headers);
            operation.answer.judge_over(&scope, None)?;
            return Ok(Value::Null);
        }
        Answer::Body(_) => other_status(status, "an empty SOAP body"),
        Answer::Empty => other_status(status, "an empty answer"),
        Answer::Other(what) => other_status(status, &what),
        // The call has been made, and every other would end so too.
        Answer::Unproven(reason) => Fault::new(Code::BadAnswer, "the signature of the answer is missing or wrong")
            .verdict(Verdict::Hold)
            .private(reason),
    };
    Err(fault)
}

/// What came back.
enum Answer {
    /// An envelope.
    Body(Envelope),
    /// Nothing at all.
    Empty,
    /// Something else, in words.
    Other(String),
    /// An envelope of which nobody knows whose it is, and why: nothing in it is looked at.
    Unproven(String),
}

impl Answer {
    fn read(parts: &Parts, bytes: &Bytes, max: usize, proof: Option<&AnswerProof>) -> Self {
        if bytes.is_empty() || parts.status == StatusCode::NO_CONTENT {
            return Self::Empty;
        }
        Self::decode(&Media::of(&parts.headers).unwrap_or_default(), bytes, max, proof)
    }

    fn decode(media: &Media, bytes: &Bytes, max: usize, proof: Option<&AnswerProof>) -> Self {
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
        let taken = match (taken, proof) {
            (Ok(envelope), Some(proof)) => {
                match proof.judge(envelope, bytes, media.charset.as_deref(), media.is_related()) {
                    Ok(signed) => Ok(signed),
                    Err(reason) => return Self::Unproven(reason),
                }
            }
            (taken, _) => taken,
        };
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
            Self::Body(envelope) => {
                envelope.body.first().map(|element| fault::value(element, &[], &[], &[])).unwrap_or_default()
            }
            Self::Empty | Self::Other(_) | Self::Unproven(_) => Value::Null,
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

pub(crate) fn refused_credentials(status: StatusCode) -> Fault {
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

/// A peer's fault as ours; `about`: the header blocks that say what is wrong with one of the call's.
fn from_peer(fault: &PeerFault, status: StatusCode, about: &[Element]) -> Fault {
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
    for block in about {
        let said = block.to_value().to_string();
        private.push_str(&format!("; header block `{}`: {}", block.name.local, cut(&said, MAX_DETAIL)));
    }
    Fault::new(code, cut(&fault.reason, MAX_REASON)).verdict(verdict).private(private)
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
