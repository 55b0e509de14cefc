//! Signs a call or an answer: its body, a Timestamp and, where asked for, its header blocks, by an X.509 certificate that is sent along (X.509
//! Certificate Token Profile 1.1).

use std::time::Duration;

use bergshamra::keys::loader;
use bergshamra::{DsigContext, Key, KeysManager};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::Secrets;
use gatehouse_core::xml::{Element, Node, WriteOptions};
use jiff::Timestamp;

use super::file::SignFile;
use super::sign::stamp;
use super::verify::WINDOW;
use super::{BASE64, DSIG, WSSE, WSU};
use crate::envelope::{self, Version};

/// Exclusive canonicalization: what is above an element does not change its signature.
pub(super) const EXC_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

pub(super) const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";

/// The type of a certificate that is sent along.
const X509V3: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3";

/// Signs calls and answers.
pub(crate) struct Sealer {
    context: DsigContext,
    /// DER in Base64.
    certificate: String,
    algorithm: &'static str,
    lifetime: Duration,
    must_understand: bool,
    headers: bool,
}

impl Sealer {
    /// Reads the certificate and the key.
    ///
    /// # Errors
    /// `Misconfigured`: what is wrong with them, without a byte of the key.
    pub(crate) fn open(file: &SignFile, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let wrong = |text: String| Fault::new(Code::Misconfigured, text);
        let path = file.certificate_file.display();
        let pem = std::fs::read_to_string(&file.certificate_file).map_err(|error| wrong(format!("{path}: {error}")))?;
        let certificate =
            first_certificate(&pem).ok_or_else(|| wrong(format!("{path} holds no certificate in PEM")))?;
        let public = loader::load_x509_cert_pem(certificate.as_bytes());
        let public = public.map_err(|_| wrong(format!("the certificate in {path} cannot be read")))?;
        let secret = secrets.fetch(&file.key)?;
        let key = loader::load_pem_auto(secret.expose().as_bytes(), None).ok().filter(Key::has_private_key);
        let key = key.ok_or_else(|| wrong("the key of the signature is no private key in PEM".to_owned()))?;
        if key.to_spki_der() != public.to_spki_der() {
            return Err(wrong(format!("the key of the signature is not that of the certificate in {path}")));
        }
        let algorithm = match key.algorithm_name() {
            "RSA" => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            "EC-P256" => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
            "EC-P384" => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
            other => return Err(wrong(format!("keys of the kind {other} do not sign here; RSA, P-256 and P-384 do"))),
        };
        let mut keys = KeysManager::new();
        keys.add_key(key);
        Ok(Self {
            context: DsigContext::new(keys),
            certificate: bare(&certificate),
            algorithm,
            lifetime: file.timestamp.map_or(WINDOW, |seconds| Duration::from_secs(seconds.into())),
            must_understand: file.must_understand,
            headers: file.headers,
        })
    }

    /// A signed envelope in UTF-8, of this moment.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(crate) fn seal(
        &self,
        version: Version,
        headers: Vec<Element>,
        body: Vec<Element>,
        namespace: Option<&str>,
    ) -> Result<Vec<u8>, String> {
        self.seal_at(version, headers, body, namespace, Timestamp::now())
    }

    pub(super) fn seal_at(
        &self,
        version: Version,
        mut headers: Vec<Element>,
        body: Vec<Element>,
        namespace: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<u8>, String> {
        // Ids that nothing in the body can have.
        let mark: u128 = rand::random();
        let [body_id, time_id, token_id] = ["body", "time", "token"].map(|what| format!("{what}-{mark:032x}"));
        let mut signed = vec![body_id.clone(), time_id.clone()];
        if self.headers {
            for (index, block) in headers.iter_mut().enumerate() {
                let id = format!("block{index}-{mark:032x}");
                *block = std::mem::replace(block, Element::new(None, "e")).with_attribute(Some(WSU), "Id", &*id);
                signed.push(id);
            }
        }
        headers.push(self.block(version, now, &signed, &time_id, &token_id));
        let mut envelope = envelope::assemble(version, headers, body);
        if let Some(Node::Element(last)) = envelope.children.last_mut() {
            *last = std::mem::replace(last, Element::new(None, "e")).with_attribute(Some(WSU), "Id", body_id);
        }
        let mut prefixes = envelope::prefixes(version, namespace);
        prefixes.extend([("wsse", WSSE), ("wsu", WSU), ("ds", DSIG)]);
        let options = WriteOptions { prefixes: &prefixes, declaration: false, ..WriteOptions::default() };
        let bytes = envelope.encode_with(&options).map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        let signed = bergshamra::dsig::sign::sign_owned(&self.context, text);
        signed.map(String::into_bytes).map_err(|error| format!("it cannot be signed: {error}"))
    }

    /// The block with a signature that is still to be made, over what has the ids `signed`.
    fn block(&self, version: Version, now: Timestamp, signed: &[String], time_id: &str, token_id: &str) -> Element {
        let wsse = |local: &str| Element::new(Some(WSSE), local);
        let ds = |local: &str| Element::new(Some(DSIG), local);
        let by = |local: &str, algorithm: &str| ds(local).with_attribute(None, "Algorithm", algorithm);
        let time = |local: &str, at: Timestamp| Element::new(Some(WSU), local).with_text(stamp(at));
        let until = now.saturating_add(self.lifetime).unwrap_or(now);
        let reference = |id: &str| {
            ds("Reference")
                .with_attribute(None, "URI", format!("#{id}"))
                .with_child(ds("Transforms").with_child(by("Transform", EXC_C14N)))
                .with_child(by("DigestMethod", SHA256))
                .with_child(ds("DigestValue"))
        };
        let info = ds("SignedInfo")
            .with_child(by("CanonicalizationMethod", EXC_C14N))
            .with_child(by("SignatureMethod", self.algorithm));
        let info = signed.iter().fold(info, |info, id| info.with_child(reference(id)));
        let token = wsse("BinarySecurityToken")
            .with_attribute(None, "EncodingType", BASE64)
            .with_attribute(None, "ValueType", X509V3)
            .with_attribute(Some(WSU), "Id", token_id)
            .with_text(&*self.certificate);
        let to_token = wsse("Reference").with_attribute(None, "URI", format!("#{token_id}")).with_attribute(
            None,
            "ValueType",
            X509V3,
        );
        let key = ds("KeyInfo").with_child(wsse("SecurityTokenReference").with_child(to_token));
        let mut block = wsse("Security");
        if self.must_understand {
            block = block.with_attribute(Some(version.namespace()), "mustUnderstand", version.yes());
        }
        block
            .with_child(token)
            .with_child(
                Element::new(Some(WSU), "Timestamp")
                    .with_attribute(Some(WSU), "Id", time_id)
                    .with_child(time("Created", now))
                    .with_child(time("Expires", until)),
            )
            .with_child(ds("Signature").with_child(info).with_child(ds("SignatureValue")).with_child(key))
    }
}

/// The first certificate of a PEM file, whatever stands around it.
fn first_certificate(pem: &str) -> Option<String> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (inside, _) = rest.split_once("-----END CERTIFICATE-----")?;
    Some(format!("-----BEGIN CERTIFICATE-----{inside}-----END CERTIFICATE-----"))
}

/// What is between the lines of a PEM text.
fn bare(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect()
}
