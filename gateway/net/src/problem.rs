//! Problem documents (RFC 9457) from faults: stable `code`, status by cause, nothing internal.

use std::time::Duration;

use bytes::Bytes;
use gatehouse_core::adapter::Admission;
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::{Value, json};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use crate::door::Response;

/// A fault as a caller over HTTP sees it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// How long the caller should wait.
    pub retry_after: Option<Duration>,
    members: Value,
}

/// The status that a code means, as `fault.rs` documents it.
#[must_use]
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::Malformed => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::Slow => StatusCode::REQUEST_TIMEOUT,
        Code::Conflict => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::Invalid | Code::Unrouted => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Throttled => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unavailable | Code::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        Code::Deadline => StatusCode::GATEWAY_TIMEOUT,
        Code::Unreachable | Code::Refused | Code::BadAnswer | Code::Misconfigured => StatusCode::BAD_GATEWAY,
    }
}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Self {
        let status = status(fault.code);
        let retry_after = match fault.verdict {
            Verdict::RetryAfter(wait) => Some(wait),
            Verdict::Retry if status == StatusCode::SERVICE_UNAVAILABLE => Some(Duration::from_secs(2)),
            _ => None,
        };
        let violations = fault.violations.iter().map(|violation| -> Value {
            [("pointer", violation.pointer.as_str()), ("message", violation.message.as_str())].into_iter().collect()
        });
        let mut members = vec![
            ("type", Value::from(format!("urn:gatehouse:problem:{}", fault.code))),
            ("title", Value::from(status.canonical_reason().unwrap_or("Problem"))),
            ("status", Value::from(i64::from(status.as_u16()))),
            ("detail", Value::from(fault.public.as_str())),
            ("code", Value::from(fault.code.as_str())),
        ];
        if let Some(id) = &fault.message_id {
            members.push(("message_id", Value::from(id.as_str())));
        }
        if !fault.violations.is_empty() {
            members.push(("violations", Value::List(violations.collect())));
        }
        Self { status, retry_after, members: members.into_iter().collect() }
    }
}

impl Problem {
    /// The JSON document.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        json::encode(&self.members)
    }

    /// The whole answer, `Retry-After` (whole seconds, rounded up) with it.
    #[must_use]
    pub fn response(&self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"gatehouse\", charset=\"UTF-8\""));
        }
        Response { status: self.status, headers, body: Bytes::from(self.body()) }
    }
}

/// Tells a caller of its rate (draft-ietf-httpapi-ratelimit-headers): `RateLimit-Policy` and `RateLimit`.
pub fn rate_headers(admission: &Admission, headers: &mut HeaderMap) {
    let (Some(rate), Some(remaining)) = (admission.limits.rate, admission.remaining) else { return };
    let policy = format!("\"default\";q={};w={}", rate.count, rate.per.as_secs());
    let left = format!("\"default\";r={remaining}");
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        // Digits and quotes always make a header.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_becomes_a_problem_without_its_private_side() {
        let fault = Fault::new(Code::Throttled, "too fast")
            .private("secret")
            .about("m-1")
            .verdict(Verdict::RetryAfter(Duration::from_millis(1500)));
        let response = Problem::from(&fault).response();
        assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers[RETRY_AFTER], "2");
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        assert!(
            body.contains("\"code\":\"throttled\"")
                && body.contains("\"message_id\":\"m-1\"")
                && !body.contains("secret"),
            "{body}"
        );
    }
}
