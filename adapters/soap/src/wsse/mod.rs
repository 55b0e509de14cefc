//! WS-Security as far as a password goes: UsernameToken with text or digest, and Timestamp (OASIS Web Services Security:
//! SOAP Message Security 1.1 and UsernameToken Profile 1.1). No signatures, no encryption: a block that holds one is refused.
//!
//! [`file`](mod@file) is what a system's file says, [`sign`] writes the block, [`verify`](mod@verify) judges one.

mod file;
mod sign;
mod verify;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatehouse_core::xml::Element;
use sha1::{Digest, Sha1};

pub(crate) use file::{SoapAcceptFile, SoapAuthFile};
pub(crate) use sign::Signer;
pub(crate) use verify::Verifier;

/// The namespace of the block and its tokens.
pub(crate) const WSSE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";

/// The namespace of times and ids.
const WSU: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";

/// What the types of passwords begin with.
const PROFILE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#";

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

/// Whether a header block is WS-Security's.
pub(crate) fn is_security(block: &Element) -> bool {
    block.name.is(Some(WSSE), "Security")
}

#[cfg(test)]
mod tests;
