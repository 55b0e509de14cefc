//! Why something failed: what, whose side, what to do about it, and what may be said about it to whom.
//!
//! A fault is made where the error is known (an adapter, a codec, a mapping) and acted on in one place (the engine; the
//! inbound half that answers a caller). There are no string-typed errors between rooms.

use std::fmt;
use std::time::Duration;

/// What kind of thing went wrong. Stable: callers, dead letters and metrics show [`Code::as_str`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The bytes are not what their content type says. HTTP 400.
    Malformed,
    /// No credentials, or wrong ones. HTTP 401.
    Unauthenticated,
    /// Known, but not allowed. HTTP 403.
    Forbidden,
    /// No such endpoint. HTTP 404.
    NotFound,
    /// The endpoint exists, the method does not. HTTP 405.
    MethodNotAllowed,
    /// The caller took too long to send. HTTP 408.
    Slow,
    /// The same message id came before with another body. HTTP 409.
    Conflict,
    /// Over a size limit. HTTP 413.
    TooLarge,
    /// A content type, charset or content coding that is not spoken here. HTTP 415.
    UnsupportedMedia,
    /// Well-formed, but it breaks the mapping or the type. HTTP 422, with violations.
    Invalid,
    /// Over a rate limit. HTTP 429.
    Throttled,
    /// A bug of ours, or a full disk. HTTP 500.
    Internal,
    /// The bus or the store cannot take it now; nothing was accepted. HTTP 503.
    Unavailable,
    /// It may or may not have happened: a confirm or an answer never came. HTTP 503 towards a caller.
    Unknown,
    /// The deadline passed before an answer came. HTTP 504.
    Deadline,
    /// The peer could not be reached: refused, reset, DNS, TLS. Nothing was sent. HTTP 502.
    Unreachable,
    /// The peer answered that it will not do this (a business error, a 4xx, a fault). HTTP 502.
    Refused,
    /// The peer answered something that is not an answer (HTML page, empty body, broken XML). HTTP 502.
    BadAnswer,
    /// No target wants the message and the route says `unrouted: reject`. HTTP 422.
    Unrouted,
    /// The site is configured in a way that cannot work (bad credentials of ours, missing column). HTTP 502.
    Misconfigured,
}

impl Code {
    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Slow => "slow",
            Self::Conflict => "conflict",
            Self::TooLarge => "too-large",
            Self::UnsupportedMedia => "unsupported-media",
            Self::Invalid => "invalid",
            Self::Throttled => "throttled",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Deadline => "deadline",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::BadAnswer => "bad-answer",
            Self::Unrouted => "unrouted",
            Self::Misconfigured => "misconfigured",
        }
    }

    /// Whose mistake it is when nothing else is said.
    #[must_use]
    pub fn side(self) -> Side {
        match self {
            Self::Internal | Self::Unavailable | Self::Unknown => Side::Us,
            Self::Misconfigured => Side::Config,
            Self::Deadline | Self::Unreachable | Self::Refused | Self::BadAnswer => Side::Receiver,
            _ => Side::Sender,
        }
    }

    /// What to do when nothing else is said.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Slow
            | Self::Throttled
            | Self::Internal
            | Self::Unavailable
            | Self::Unknown
            | Self::Deadline
            | Self::Unreachable
            | Self::BadAnswer => Verdict::Retry,
            Self::Misconfigured => Verdict::Hold,
            _ => Verdict::Reject,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose side the fault is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who sent the message.
    Sender,
    /// Who should receive it.
    Receiver,
    /// Gatehouse.
    Us,
    /// The site's configuration.
    Config,
}

/// What the engine does next with the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Try again by the target's retry policy.
    Retry,
    /// Try again, but not before this has passed (a `Retry-After`). The engine caps it at one hour.
    RetryAfter(Duration),
    /// Never try again: to the dead letters.
    Reject,
    /// Stop trying until a person has looked: to the dead letters, and the circuit of the system opens.
    Hold,
}

/// One thing that is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where: a JSON Pointer (RFC 6901) into the body, or a source path of a mapping row.
    pub pointer: String,
    /// What and why, for a person. Values that are marked sensitive are masked.
    pub message: String,
}

/// What went over the wire, cut to [`Exchange::MAX`] bytes a side; for the dead letter, never for a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// What was sent.
    pub sent: Option<String>,
    /// What was answered.
    pub answered: Option<String>,
}

impl Exchange {
    /// The most that is kept of each side, in bytes.
    pub const MAX: usize = 8 * 1024;

    /// Cuts bytes to an excerpt of text; a cut is marked with how much was left out.
    #[must_use]
    pub fn excerpt(bytes: &[u8]) -> String {
        if bytes.len() <= Self::MAX {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        let kept = String::from_utf8_lossy(&bytes[..Self::MAX]);
        format!("{kept}… ({} of {} bytes shown)", Self::MAX, bytes.len())
    }
}

/// Why something failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {public}")]
pub struct Fault {
    /// What kind.
    pub code: Code,
    /// Whose side.
    pub side: Side,
    /// What to do.
    pub verdict: Verdict,
    /// For the other party: says what, where and the smallest mend; no internals, no payload, no secrets.
    pub public: String,
    /// For support staff and dead letters only.
    pub private: Option<String>,
    /// What is wrong with the body, one by one.
    pub violations: Vec<Violation>,
    /// The message this is about, once it has an id.
    pub message_id: Option<String>,
    /// What went over the wire, if anything did.
    pub exchange: Option<Box<Exchange>>,
}

impl Fault {
    /// A fault of this kind, with the side and verdict that the kind implies.
    #[must_use]
    pub fn new(code: Code, public: impl Into<String>) -> Self {
        Self {
            code,
            side: code.side(),
            verdict: code.verdict(),
            public: public.into(),
            private: None,
            violations: Vec::new(),
            message_id: None,
            exchange: None,
        }
    }

    /// With another verdict.
    #[must_use]
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// On another side.
    #[must_use]
    pub fn side(mut self, side: Side) -> Self {
        self.side = side;
        self
    }

    /// With the text that only support staff may read.
    #[must_use]
    pub fn private(mut self, private: impl Into<String>) -> Self {
        self.private = Some(private.into());
        self
    }

    /// With what is wrong in the body.
    #[must_use]
    pub fn violations(mut self, violations: Vec<Violation>) -> Self {
        self.violations = violations;
        self
    }

    /// About this message.
    #[must_use]
    pub fn about(mut self, message_id: impl Into<String>) -> Self {
        self.message_id = Some(message_id.into());
        self
    }

    /// With what went over the wire.
    #[must_use]
    pub fn exchange(mut self, exchange: Exchange) -> Self {
        self.exchange = Some(Box::new(exchange));
        self
    }

    /// What counts as the same cause when dead letters are grouped: the code and the text with its numbers and quoted
    /// values taken out.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = String::with_capacity(self.public.len());
        let mut quoted = false;
        for c in self.public.chars() {
            match c {
                '"' | '`' => {
                    quoted = !quoted;
                    if quoted {
                        text.push('…');
                    }
                }
                _ if quoted => {}
                c if c.is_numeric() => {
                    if !text.ends_with('#') {
                        text.push('#');
                    }
                }
                c => text.push(c),
            }
        }
        format!("{}: {}", self.code, text.chars().take(200).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cause_has_the_same_fingerprint() {
        let a = Fault::new(Code::Refused, "customer \"C-17\" is blocked since 2026-01-02");
        let b = Fault::new(Code::Refused, "customer \"C-4711\" is blocked since 2025-11-30");
        assert_eq!(a.fingerprint(), b.fingerprint());
        assert_eq!(a.fingerprint(), "refused: customer … is blocked since #-#-#");
    }
}
