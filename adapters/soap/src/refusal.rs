//! The no to a caller: a fault in its version of SOAP, with the status of HTTP that fits its cause.

use gatehouse_core::expr::Scope;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::xml::Element;
use gatehouse_net::door::Response;
use gatehouse_net::problem::{Problem, status};
use http::StatusCode;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::acknowledge::answer;
use crate::envelope::{GATEHOUSE, Version};
use crate::fault::{self, Kind};
use crate::file::{Block, HeaderFault, Listener};
use crate::wsse::{self, Sealer};

/// A no, in the caller's version.
pub(crate) struct Refusal {
    pub(crate) version: Version,
    pub(crate) kind: Kind,
    pub(crate) fault: Fault,
    /// What the caller's WSDL has in the detail, or in the header where that is `about_header`.
    pub(crate) declared: Vec<Element>,
    /// Whether a header block is what is wrong, and the WSDL has a block that says so: then there is no detail.
    pub(crate) about_header: bool,
    /// The header blocks that say which message it answers.
    pub(crate) related: Vec<Element>,
    /// Whether the caller has proven who it is.
    pub(crate) proven: bool,
}

impl Refusal {
    /// Of a cause that is known before the operation is.
    pub(crate) fn new(version: Version, fault: Fault) -> Self {
        Self {
            version,
            kind: fault::kind_of(fault.code),
            fault,
            declared: Vec::new(),
            about_header: false,
            related: Vec::new(),
            proven: false,
        }
    }

    /// A no to an operation that is known: with what its callers expect in a fault. Where that cannot be made, our own detail says
    /// enough.
    pub(crate) fn of(listener: &Listener, version: Version, fault: Fault) -> Self {
        let told = fault::told(&fault);
        let write = |block: &Block| block.write(version, &Scope::new().with("fault", &told)).ok();
        let declared = listener.detail.as_ref().and_then(write).into_iter().collect();
        Self { declared, ..Self::new(version, fault) }
    }

    /// A no to a header block, which the fault's violations name.
    pub(crate) fn of_header(listener: &Listener, version: Version, fault: Fault) -> Self {
        let told = fault::told(&fault);
        let wrong: Vec<_> = fault.violations.iter().filter_map(|one| one.pointer.split('/').nth(2)).collect();
        let is_about =
            |one: &&HeaderFault| one.about.is_empty() || one.about.iter().any(|about| wrong.contains(&about.as_str()));
        let write = |one: &HeaderFault| one.block.write(version, &Scope::new().with("fault", &told)).ok();
        let declared: Vec<_> = listener.header_faults.iter().filter(is_about).filter_map(write).collect();
        match declared.is_empty() {
            true => Self::of(listener, version, fault),
            false => Self { declared, about_header: true, ..Self::new(version, fault) },
        }
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

    /// The answer; `sealer`: what signs it, where it is signed.
    pub(crate) fn response(&self, sealer: Option<&Sealer>) -> Response {
        let write = |declared: &[Element]| {
            let mut told = declared.to_vec();
            told.push(fault::detail(&self.fault));
            let mut headers = self.related.clone();
            if self.about_header {
                headers.append(&mut told);
            }
            let element = fault::element(self.version, self.kind, &self.fault, told);
            wsse::write(sealer, self.version, headers, vec![element], Some(GATEHOUSE), "UTF-8")
        };
        // The fault's own texts have been made writable; nothing else can fail.
        let bytes = write(&self.declared).or_else(|_| write(&[])).unwrap_or_default();
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
