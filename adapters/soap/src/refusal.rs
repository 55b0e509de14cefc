//! The no to a caller: a fault in its version of SOAP, with the status of HTTP that fits its cause.

use gatehouse_core::expr::Scope;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::xml::Element;
use gatehouse_net::door::Response;
use gatehouse_net::problem::{Problem, status};
use http::StatusCode;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::acknowledge::answer;
use crate::envelope::{self, GATEHOUSE, Version};
use crate::fault::{self, Kind};
use crate::file::{Block, Listener};

/// A no, in the caller's version.
pub(crate) struct Refusal {
    pub(crate) version: Version,
    pub(crate) kind: Kind,
    pub(crate) fault: Fault,
    /// What the caller's WSDL has in the detail.
    pub(crate) detail: Option<Element>,
    /// The header blocks that say which message it answers.
    pub(crate) related: Vec<Element>,
}

impl Refusal {
    /// Of a cause that is known before the operation is.
    pub(crate) fn new(version: Version, fault: Fault) -> Self {
        Self { version, kind: fault::kind_of(fault.code), fault, detail: None, related: Vec::new() }
    }

    /// A no to an operation that is known: with what its callers expect in a fault. Where that cannot be made, our own detail says
    /// enough.
    pub(crate) fn of(listener: &Listener, version: Version, fault: Fault) -> Self {
        let told = fault::told(&fault);
        let write = |block: &Block| block.write(version, &Scope::new().with("fault", &told)).ok();
        let detail = listener.detail.as_ref().and_then(write);
        Self { detail, ..Self::new(version, fault) }
    }

    /// The status: that of HTTP where HTTP has one for the cause, else that of the binding (SOAP 1.1 §6.2; SOAP 1.2 part 2
    /// §7.5.2.2).
    fn status(&self) -> StatusCode {
        match (self.kind, self.fault.code, self.version) {
            (Kind::MustUnderstand | Kind::VersionMismatch, ..) => StatusCode::INTERNAL_SERVER_ERROR,
            (
                _,
                code @ (Code::Unauthenticated
                | Code::Forbidden
                | Code::NotFound
                | Code::MethodNotAllowed
                | Code::Slow
                | Code::TooLarge
                | Code::UnsupportedMedia
                | Code::Throttled
                | Code::Unavailable
                | Code::Unknown
                | Code::Deadline),
                _,
            ) => status(code),
            (Kind::Sender, _, Version::V12) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn response(&self) -> Response {
        let element = |detail| fault::element(self.version, self.kind, &self.fault, detail);
        let write = |element| envelope::write(self.version, self.related.clone(), [element], Some(GATEHOUSE), "UTF-8");
        // The fault's own texts have been made writable; nothing else can fail.
        let bytes = write(element(self.detail.clone())).or_else(|_| write(element(None))).unwrap_or_default();
        let mut response = answer(self.status(), self.version, bytes);
        let problem = Problem::from(&self.fault).response();
        for name in [RETRY_AFTER, WWW_AUTHENTICATE] {
            if let Some(value) = problem.headers.get(&name) {
                response.headers.insert(name, value.clone());
            }
        }
        if self.fault.code == Code::MethodNotAllowed {
            response.headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}
