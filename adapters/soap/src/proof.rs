//! How a caller is known: by the head of its request, or by the security block of its envelope.

use gatehouse_core::fault::Fault;
use gatehouse_core::secret::Secrets;
use gatehouse_net::auth::Accept;
use http::HeaderMap;

use crate::envelope::Envelope;
use crate::wsse::{SoapAcceptFile, Verifier, is_security};

/// How a caller is known.
#[derive(Clone)]
pub(crate) struct Proof {
    http: Accept,
    /// Whether HTTP can prove anything.
    has_http: bool,
    token: Option<Verifier>,
}

impl Proof {
    /// Fetches the secrets.
    pub(crate) fn open(file: &SoapAcceptFile, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let token = file.username_token.as_ref().map(|token| Verifier::open(token, secrets)).transpose()?;
        Ok(Self { http: file.http().open(secrets)?, has_http: file.has_http(), token })
    }

    /// Judges the head: whether the caller is known by it. One that is not may still be by its envelope.
    pub(crate) fn at_head(&self, headers: &HeaderMap) -> Result<bool, Fault> {
        match (self.http.verify(headers), &self.token) {
            (Ok(()), None) => Ok(true),
            (Ok(()), Some(_)) => Ok(self.has_http),
            (Err(_), Some(_)) => Ok(false),
            (Err(fault), None) => Err(fault),
        }
    }

    /// Judges the envelope of a caller that its head did not prove; whether its security block was understood.
    pub(crate) fn in_envelope(&self, proven: bool, envelope: &Envelope) -> Result<bool, Fault> {
        let has_block = envelope.headers.iter().any(is_security);
        match &self.token {
            Some(token) if has_block || !proven => token.verify(envelope.version, &envelope.headers).map(|()| true),
            _ => Ok(false),
        }
    }
}
