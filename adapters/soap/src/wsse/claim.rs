//! Whom a signature says that it is by: the certificate that its `KeyInfo` holds or points at (X.509 Certificate Token Profile 1.1 §3.2,
//! SOAP Message Security 1.1 §7). Nothing is believed here; [`super::trust`] judges it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bergshamra::xml::NodeId;
use sha1::{Digest, Sha1};
use x509_cert::Certificate;
use x509_cert::der::{Any, Decode, Encode};
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use super::inspect::Message;
use super::{BASE64, DSIG, WSSE};

/// What the kinds of tokens and references begin with (profile 1.0, which 1.1 keeps).
const X509: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#";

/// A reference by the SHA-1 of a certificate (SOAP Message Security 1.1 §7.3). It finds, and proves nothing.
const THUMBPRINT: &str = "http://docs.oasis-open.org/wss/oasis-wss-soap-message-security-1.1#ThumbprintSHA1";

/// The most certificates that one token or `KeyInfo` holds.
const MAX_CERTIFICATES: usize = 6;

/// Whom a signature names.
#[derive(Debug)]
pub(super) enum Claim {
    /// A certificate that came along, in DER, and others that may lead from it to somebody who is trusted.
    Sent { certificate: Vec<u8>, others: Vec<Vec<u8>> },
    /// One that is not in the message.
    Elsewhere,
}

/// By what a certificate is pointed at.
enum Mark {
    /// Its serial number, in bytes without leading zeros. Its issuer has as many spellings as there are toolkits.
    Serial(Vec<u8>),
    /// Its subject key identifier.
    Key(Vec<u8>),
    /// The SHA-1 of all of it.
    Thumbprint(Vec<u8>),
}

impl Mark {
    fn is_of(&self, der: &[u8]) -> bool {
        let Ok(certificate) = Certificate::from_der(der) else { return false };
        let known = &certificate.tbs_certificate;
        match self {
            Self::Serial(serial) => without_zeros(known.serial_number.as_bytes()) == serial.as_slice(),
            Self::Key(key) => {
                let own = known.get::<SubjectKeyIdentifier>();
                own.is_ok_and(|own| own.is_some_and(|(_, own)| own.0.as_bytes() == key))
            }
            Self::Thumbprint(digest) => Sha1::digest(der).as_slice() == digest,
        }
    }
}

impl Message<'_> {
    /// Whom the signature in the block names.
    ///
    /// # Errors
    /// Nobody, or somebody in a way that is not understood here.
    pub(super) fn claim(&self, block: NodeId, signature: NodeId) -> Result<Claim, String> {
        let info = self.only(signature, DSIG, "KeyInfo")?;
        let said = self.single(info, "the KeyInfo")?;
        if self.is(said, DSIG, "X509Data") {
            return self.data(block, said);
        }
        if !self.is(said, WSSE, "SecurityTokenReference") {
            return Err(format!("the KeyInfo holds `{}`, which is no certificate", self.local(said)));
        }
        let pointer = self.single(said, "the SecurityTokenReference")?;
        if self.is(pointer, DSIG, "X509Data") {
            return self.data(block, pointer);
        }
        if self.is(pointer, WSSE, "KeyIdentifier") {
            return self.identified(block, pointer);
        }
        if !self.is(pointer, WSSE, "Reference") {
            return Err(format!("a reference by `{}` is not taken", self.local(pointer)));
        }
        let uri = self.attribute(pointer, "URI");
        let id = uri.strip_prefix('#').ok_or("the key is not in the message")?;
        let token = self.by_id(id)?;
        if !self.elements(block).contains(&token) || !self.is(token, WSSE, "BinarySecurityToken") {
            return Err("the key is referred to as something else than a token of the security block".to_owned());
        }
        let mut certificates = self.token(token)?;
        let certificate = certificates.pop().ok_or("a token holds no certificate")?;
        Ok(Claim::Sent { certificate, others: certificates })
    }

    /// The certificates of a token, the one that it is about last.
    fn token(&self, token: NodeId) -> Result<Vec<Vec<u8>>, String> {
        let bytes = self.binary(token)?;
        let kind = self.attribute(token, "ValueType");
        match kind.strip_prefix(X509).unwrap_or(kind) {
            "" | "X509v3" => Ok(vec![bytes]),
            "X509PKIPathv1" => {
                let path = Vec::<Any>::from_der(&bytes).map_err(|error| format!("the path of a token: {error}"))?;
                if path.len() > MAX_CERTIFICATES {
                    return Err(format!("a token holds more than {MAX_CERTIFICATES} certificates"));
                }
                let written = path.iter().map(|one| one.to_der().map_err(|error| error.to_string()));
                written.collect()
            }
            other => Err(format!("a token of the kind `{other}` is not taken; X509v3 and X509PKIPathv1 are")),
        }
    }

    /// `wsse:KeyIdentifier`: the certificate itself, or what it is known by.
    fn identified(&self, block: NodeId, identifier: NodeId) -> Result<Claim, String> {
        let kind = self.attribute(identifier, "ValueType");
        let bytes = self.binary(identifier)?;
        match kind.strip_prefix(X509).unwrap_or(kind) {
            "X509v3" => Ok(Claim::Sent { certificate: bytes, others: Vec::new() }),
            "X509SubjectKeyIdentifier" => self.marked(block, &Mark::Key(bytes)),
            THUMBPRINT => self.marked(block, &Mark::Thumbprint(bytes)),
            other => Err(format!("a key identifier of the kind `{other}` is not taken")),
        }
    }

    /// `ds:X509Data`: certificates, the first of which is the one that it is about, or what one is known by.
    fn data(&self, block: NodeId, data: NodeId) -> Result<Claim, String> {
        let named = |local: &str| self.document.child_elements_by_name_ns(data, DSIG, local);
        let sent = named("X509Certificate");
        if sent.len() > MAX_CERTIFICATES {
            return Err(format!("the KeyInfo holds more than {MAX_CERTIFICATES} certificates"));
        }
        let mut sent = sent.into_iter().map(|one| self.binary(one)).collect::<Result<Vec<_>, _>>()?.into_iter();
        if let Some(certificate) = sent.next() {
            return Ok(Claim::Sent { certificate, others: sent.collect() });
        }
        let mark = match (named("X509IssuerSerial").as_slice(), named("X509SKI").as_slice()) {
            ([one], _) => {
                let serial = self.document.text_content_deep(self.only(*one, DSIG, "X509SerialNumber")?);
                Mark::Serial(serial_bytes(serial.trim()).ok_or("a serial number is no number")?)
            }
            ([], [one]) => Mark::Key(self.binary(*one)?),
            _ => return Err("the X509Data names no certificate, or more than one".to_owned()),
        };
        self.marked(block, &mark)
    }

    /// The certificate with a mark, where a token of the block holds it.
    fn marked(&self, block: NodeId, mark: &Mark) -> Result<Claim, String> {
        let mut all = Vec::new();
        for token in self.document.child_elements_by_name_ns(block, WSSE, "BinarySecurityToken") {
            all.extend(self.token(token)?);
            if all.len() > MAX_CERTIFICATES {
                return Err(format!("the security block holds more than {MAX_CERTIFICATES} certificates"));
            }
        }
        Ok(match all.iter().position(|der| mark.is_of(der)) {
            Some(found) => Claim::Sent { certificate: all.remove(found), others: all },
            None => Claim::Elsewhere,
        })
    }

    fn binary(&self, node: NodeId) -> Result<Vec<u8>, String> {
        let encoding = self.attribute(node, "EncodingType");
        if !encoding.is_empty() && encoding != BASE64 {
            return Err(format!("a token in the encoding `{encoding}` is not taken"));
        }
        let text: String = self.document.text_content_deep(node).split_ascii_whitespace().collect();
        STANDARD.decode(text).map_err(|_| format!("`{}` is not in Base64", self.local(node)))
    }

    fn single(&self, parent: NodeId, what: &str) -> Result<NodeId, String> {
        match self.elements(parent).as_slice() {
            [only] => Ok(*only),
            found => Err(format!("{what} holds {} elements instead of one", found.len())),
        }
    }

    fn attribute(&self, node: NodeId, name: &str) -> &str {
        self.document.get_attribute(node, name).unwrap_or_default().trim()
    }

    fn local(&self, node: NodeId) -> String {
        self.document.element(node).map(|element| element.name.local_name.to_string()).unwrap_or_default()
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

/// A decimal number in bytes; at most 20 of them (RFC 5280 §4.1.2.2), which is 49 digits.
fn serial_bytes(decimal: &str) -> Option<Vec<u8>> {
    if decimal.is_empty() || decimal.len() > 49 {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for digit in decimal.chars() {
        let mut carry = digit.to_digit(10)?;
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            *byte = value.to_le_bytes()[0];
            carry = value >> 8;
        }
        if carry > 0 {
            bytes.insert(0, carry.to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::serial_bytes;

    #[test]
    fn serial_numbers_in_decimal_are_bytes() {
        for (text, bytes) in [
            ("0", vec![]),
            ("255", vec![255]),
            ("256", vec![1, 0]),
            ("0018446744073709551616", vec![1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(serial_bytes(text), Some(bytes), "{text}");
        }
        let most = "1461501637330902918203684832716283019655932542975";
        assert_eq!(serial_bytes(most), Some(vec![0xFF; 20]));
        for text in ["", "-1", "0x10", "１", &"1".repeat(50)] {
            assert_eq!(serial_bytes(text), None, "{text}");
        }
    }
}
