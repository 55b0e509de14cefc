//! Reading a body under a cap and a deadline. The only place that reads one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gatehouse_core::fault::{Code, Fault};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// How long a small body may take; every further [`RATE`] bytes give a second more.
const PATIENCE: Duration = Duration::from_secs(30);

/// The slowest that a large body may come, in bytes a second.
const RATE: usize = 1024;

/// Whose body it is, for the fault's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A caller's request.
    Caller,
    /// A peer's answer.
    Peer,
}

/// Reads a whole body of at most `max` bytes.
///
/// # Errors
/// `TooLarge` (or `BadAnswer` of a peer), `UnsupportedMedia` for a content coding, `Slow`, or `Malformed` where the
/// connection broke off; of a peer that is `Unknown`: what it did with the request cannot be told.
pub async fn read(headers: &HeaderMap, body: Incoming, max: usize, from: From) -> Result<Bytes, Fault> {
    let fault = |code: Code, text: String| match from {
        From::Caller => Fault::new(code, text),
        From::Peer if code == Code::Malformed => Fault::new(Code::Unknown, text),
        From::Peer => Fault::new(Code::BadAnswer, text),
    };
    let coded =
        headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if coded {
        return Err(fault(Code::UnsupportedMedia, "a content coding is not accepted: send it as it is".to_owned()));
    }
    let too_large = || fault(Code::TooLarge, format!("the body has more than {max} bytes"));
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
    if declared.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let patience = PATIENCE + Duration::from_secs((max / RATE) as u64);
    let collected =
        tokio::time::timeout(patience.min(Duration::from_secs(300)), collect(body, max, declared, &fault, &too_large));
    collected.await.unwrap_or_else(|_| Err(fault(Code::Slow, "the body took too long".to_owned())))
}

async fn collect(
    mut body: Incoming,
    max: usize,
    declared: Option<usize>,
    fault: &impl Fn(Code, String) -> Fault,
    too_large: &impl Fn() -> Fault,
) -> Result<Bytes, Fault> {
    let started = tokio::time::Instant::now();
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| fault(Code::Malformed, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = rest.as_ref().map_or(first.len(), BytesMut::len) + data.len();
        if length > max {
            return Err(too_large());
        }
        // A body that drips below the rate is cut before the whole patience is used up.
        if started.elapsed() > PATIENCE + Duration::from_secs((length / RATE) as u64) {
            return Err(fault(Code::Slow, "the body comes too slowly".to_owned()));
        }
        match (&mut rest, first.is_empty()) {
            (Some(rest), _) => rest.extend_from_slice(&data),
            // Mostly a body is one frame: it is handed on without a copy.
            (None, true) => first = data,
            (None, false) => {
                let mut all = BytesMut::with_capacity(declared.unwrap_or(length * 2).min(max));
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                rest = Some(all);
            }
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}
