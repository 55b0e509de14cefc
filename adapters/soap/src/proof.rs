//! How a caller is known: by the head of its request, or by the security block of its envelope.

use bytes::Bytes;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::Secrets;
use gatehouse_net::auth::Accept;
use http::HeaderMap;

use crate::envelope::Envelope;
use crate::wsse::{Inspector, Once, SoapAcceptFile, Verifier, is_security, is_signed};

/// How a caller is known.
#[derive(Clone)]
pub(crate) struct Proof {
    http: Accept,
    /// Whether HTTP can prove anything.
    has_http: bool,
    token: Option<Verifier>,
    inspector: Option<Inspector>,
}

impl Proof {
    /// Fetches the secrets.
    pub(crate) fn open(file: &SoapAcceptFile, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let token = file.username_token.as_ref().map(|token| Verifier::open(token, secrets)).transpose()?;
        let inspector = file.signature.as_ref().map(Inspector::open).transpose()?;
        Ok(Self { http: file.http().open(secrets)?, has_http: file.has_http(), token, inspector })
    }

    /// Judges the head: whether the caller is known by it. One that is not may still be by its envelope.
    pub(crate) fn at_head(&self, headers: &HeaderMap) -> Result<bool, Fault> {
        match (self.http.verify(headers), self.token.is_some() || self.inspector.is_some()) {
            (Ok(()), false) => Ok(true),
            (Ok(()), true) => Ok(self.has_http),
            (Err(_), true) => Ok(false),
            (Err(fault), false) => Err(fault),
        }
    }

    /// Judges the envelope of a caller that its head did not prove. Of a signed message only what was signed stays in the
    /// envelope. `parts`: some of it came beside the envelope.
    pub(crate) fn in_envelope(
        &self,
        proven: bool,
        envelope: &mut Envelope,
        bytes: &Bytes,
        charset: Option<&str>,
        parts: bool,
    ) -> Result<Judged, Fault> {
        let has_block = envelope.headers.iter().any(is_security);
        let is_signed = envelope.headers.iter().any(is_signed);
        match (&self.inspector, &self.token) {
            (Some(_), _) if is_signed && parts => {
                Err(Fault::new(Code::Unauthenticated, "a signed message has no parts beside its envelope here"))
            }
            (Some(inspector), token) if is_signed || (token.is_none() && (has_block || !proven)) => {
                let (signed, once) = inspector.verify(bytes, charset, envelope.version)?;
                *envelope = signed;
                Ok(Judged { understood: true, once })
            }
            (_, Some(token)) if has_block || !proven => {
                let once = token.verify(envelope.version, &envelope.headers)?;
                Ok(Judged { understood: true, once })
            }
            _ => Ok(Judged { understood: false, once: Once::unmarked() }),
        }
    }
}

/// What an envelope proves.
pub(crate) struct Judged {
    /// Whether its security block was understood.
    pub(crate) understood: bool,
    /// Its place among what was taken.
    pub(crate) once: Once,
}
