//! WS-Security: UsernameToken with text or digest, Timestamp, and with the feature `ws-security` signatures by X.509 (OASIS Web Services
//! Security: SOAP Message Security 1.1, UsernameToken Profile 1.1, X.509 Certificate Token Profile 1.1). No encryption: a block that
//! holds some is refused.
//!
//! [`file`](mod@file) is what a system's file says and [`check`] its check, [`sign`] writes a password's block, [`verify`](mod@verify) judges one; [`seal`] signs,
//! [`inspect`] judges a signature, [`claim`] reads whose it says that it is and [`trust`] whether that is somebody, [`once`] remembers what
//! was taken.

mod check;
#[cfg(feature = "ws-security")]
mod claim;
mod file;
#[cfg(feature = "ws-security")]
mod inspect;
mod once;
#[cfg(feature = "ws-security")]
mod seal;
mod sign;
#[cfg(feature = "ws-security")]
mod trust;
#[cfg(not(feature = "ws-security"))]
mod unsigned;
mod verify;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatehouse_core::xml::Element;
use sha1::{Digest, Sha1};

pub(crate) use check::{check_accept, check_auth, check_sign, check_verify};
pub(crate) use file::{SignAnswersFile, SoapAcceptFile, SoapAuthFile, VerifyFile};
#[cfg(feature = "ws-security")]
pub(crate) use inspect::Inspector;
pub(crate) use once::Once;
#[cfg(feature = "ws-security")]
pub(crate) use seal::Sealer;
pub(crate) use sign::Signer;
#[cfg(not(feature = "ws-security"))]
pub(crate) use unsigned::{Inspector, Sealer};
pub(crate) use verify::Verifier;

use crate::envelope::{self, Version};

/// The namespace of the block and its tokens.
pub(crate) const WSSE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";

/// The namespace of times and ids.
const WSU: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";

/// What the types of passwords begin with.
const PROFILE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#";

/// The namespace of signatures.
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// How a nonce is written.
const BASE64: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary";

/// `Base64(SHA-1(nonce + created + password))` (UsernameToken Profile 1.1 §3.1).
fn digest(nonce: &[u8], created: &str, password: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(nonce);
    hash.update(created.as_bytes());
    hash.update(password.as_bytes());
    STANDARD.encode(hash.finalize())
}

/// Whether a block of WS-Security holds a signature.
pub(crate) fn is_signed(block: &Element) -> bool {
    is_security(block) && block.child_in(Some(DSIG), "Signature").is_some()
}

/// Whether a header block is WS-Security's.
pub(crate) fn is_security(block: &Element) -> bool {
    block.name.is(Some(WSSE), "Security")
}

/// A header block without the id that a signature refers to it by, which is nothing that its sender says.
pub(crate) fn without_id(block: &Element) -> Cow<'_, Element> {
    if block.attribute(Some(WSU), "Id").is_none() {
        return Cow::Borrowed(block);
    }
    let mut block = block.clone();
    block.attributes.retain(|attribute| !attribute.name.is(Some(WSU), "Id"));
    Cow::Owned(block)
}

/// The bytes of an envelope: signed where there is a `sealer`, which writes UTF-8 whatever the `charset`.
///
/// # Errors
/// Why it cannot be written.
pub(crate) fn write(
    sealer: Option<&Sealer>,
    version: Version,
    headers: Vec<Element>,
    body: Vec<Element>,
    namespace: Option<&str>,
    charset: &str,
) -> Result<Vec<u8>, String> {
    match sealer {
        Some(sealer) => sealer.seal(version, headers, body, namespace),
        None => envelope::write(version, headers, body, namespace, charset).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[cfg(feature = "ws-security")]
mod chain_tests;
#[cfg(test)]
#[cfg(feature = "ws-security")]
mod signature_tests;
