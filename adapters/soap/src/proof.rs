//! How a caller is known: by the head of its request, or by the security block of its envelope; how a system's answer is; and how
//! ours is known to it.

use bytes::Bytes;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::Secrets;
use gatehouse_net::auth::Accept;
use http::HeaderMap;

use crate::envelope::Envelope;
use crate::fault::PeerFault;
use crate::wsse::{
    Inspector, Once, Sealer, SignAnswersFile, SoapAcceptFile, Verifier, VerifyFile, is_security, is_signed,
};

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
                let refuse =
                    |reason| Fault::new(Code::Unauthenticated, "the signature is missing or wrong").private(reason);
                let (signed, once) = inspector.verify(bytes, charset, envelope.version).map_err(refuse)?;
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

/// How a system's answers are known to be its own.
#[derive(Clone)]
pub(crate) struct AnswerProof {
    inspector: Inspector,
    unsigned_faults: bool,
}

impl AnswerProof {
    /// Reads the certificates.
    pub(crate) fn open(file: &VerifyFile) -> Result<Self, Fault> {
        Ok(Self { inspector: Inspector::open(&file.signature)?, unsigned_faults: file.unsigned_faults })
    }

    /// Judges an answer that has been opened. What goes on is what was signed. `parts`: some of it came beside the envelope.
    ///
    /// # Errors
    /// What is wrong, for support staff.
    pub(crate) fn judge(
        &self,
        envelope: Envelope,
        bytes: &Bytes,
        charset: Option<&str>,
        parts: bool,
    ) -> Result<Envelope, String> {
        let is_fault = envelope.body.first().is_some_and(|element| PeerFault::read(element).is_some());
        if is_fault && self.unsigned_faults && !envelope.headers.iter().any(is_signed) {
            return Ok(envelope);
        }
        if parts {
            return Err("a signed answer has no parts beside its envelope here".to_owned());
        }
        let (signed, once) = self.inspector.verify(bytes, charset, envelope.version)?;
        once.keep();
        Ok(signed)
    }
}

/// How our answers are known to a system.
pub(crate) struct AnswerSeal {
    sealer: Sealer,
    faults: bool,
}

impl AnswerSeal {
    /// Reads the certificate and the key.
    pub(crate) fn open(file: &SignAnswersFile, secrets: &dyn Secrets) -> Result<Self, Fault> {
        Ok(Self { sealer: Sealer::open(&file.signature, secrets)?, faults: file.faults })
    }

    /// Signs replies.
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Signs a fault, where those are signed: only for a caller that has `proven` who it is, because signing is work, and what a fault
    /// says may be the caller's own words.
    pub(crate) fn of_fault(&self, proven: bool) -> Option<&Sealer> {
        Some(&self.sealer).filter(|_| self.faults && proven)
    }
}
