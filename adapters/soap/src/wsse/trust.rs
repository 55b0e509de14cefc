//! Whose signatures are good: certificates that a file names one by one, and those that a CA that it names has issued to somebody that it
//! names. A chain is judged by the library that judges those of TLS (`webpki`, RFC 5280): dates, basic constraints, path lengths,
//! names, at most six CAs on the way. What that leaves out is judged here: what a key may be used for, and that a CA has not
//! run out itself. Revocation lists are not read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bergshamra::keys::loader;
use bergshamra::{DsigContext, Key, KeysManager};
use gatehouse_core::fault::{Code, Fault};
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::aws_lc_rs as by;
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;

use super::claim::Claim;
use super::file::TrustFile;

/// By what a CA may have signed: no SHA-1, and no RSA key below 2048 bits.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 15] = [
    by::ECDSA_P256_SHA256,
    by::ECDSA_P256_SHA384,
    by::ECDSA_P256_SHA512,
    by::ECDSA_P384_SHA256,
    by::ECDSA_P384_SHA384,
    by::ECDSA_P384_SHA512,
    by::ECDSA_P521_SHA256,
    by::ECDSA_P521_SHA384,
    by::ECDSA_P521_SHA512,
    by::RSA_PKCS1_2048_8192_SHA256,
    by::RSA_PKCS1_2048_8192_SHA384,
    by::RSA_PKCS1_2048_8192_SHA512,
    by::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    by::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    by::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Stands in `subjects` for everybody whom a CA has given a certificate.
const ANYBODY: &str = "*";

/// Whose signatures are good.
pub(super) struct Trust {
    /// Certificates in DER.
    named: Vec<Vec<u8>>,
    /// With their keys; `None` where the file names none.
    by_name: Option<Arc<DsigContext>>,
    authorities: Vec<Authority>,
    /// As RFC 4514 writes them; empty: anybody.
    subjects: Vec<String>,
}

/// A CA, and from when until when its certificate is good, in seconds since 1970.
struct Authority {
    anchor: TrustAnchor<'static>,
    from: Duration,
    until: Duration,
}

impl Trust {
    /// Reads the certificates.
    ///
    /// # Errors
    /// `Misconfigured`: one that is not there, is none, or may not be what the file says; a subject that is no name.
    pub(super) fn open(file: &TrustFile) -> Result<Self, Fault> {
        let mut keys = KeysManager::new();
        let mut named = Vec::new();
        for path in &file.certificate_files {
            let certificate = read(path)?.into_iter().next().ok_or_else(|| none(path))?;
            let key = loader::load_x509_cert_der(&certificate).map_err(|_| unreadable(path))?;
            keys.add_key(key);
            named.push(certificate.to_vec());
        }
        let mut authorities = Vec::new();
        for path in &file.ca_files {
            let all = read(path)?;
            if all.is_empty() {
                return Err(none(path));
            }
            for certificate in all {
                authorities.push(Authority::of(path, &certificate)?);
            }
        }
        let subjects = if file.subjects.iter().any(|subject| subject == ANYBODY) {
            Vec::new()
        } else {
            file.subjects.iter().map(|subject| written(subject)).collect::<Result<_, _>>()?
        };
        let by_name = (!named.is_empty()).then(|| Arc::new(context(keys)));
        Ok(Self { named, by_name, authorities, subjects })
    }

    /// The keys by one of which a message must be signed that names whom it `claims` to be by.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn keys(
        &self,
        claim: impl FnOnce() -> Result<Claim, String>,
        now: Timestamp,
    ) -> Result<Arc<DsigContext>, String> {
        let by_name = |reason: String| self.by_name.clone().ok_or(reason);
        if self.authorities.is_empty() {
            return by_name("nobody may sign".to_owned());
        }
        match claim() {
            Ok(Claim::Sent { certificate, .. }) if self.named.contains(&certificate) => by_name(String::new()),
            Ok(Claim::Sent { certificate, others }) => {
                let mut keys = KeysManager::new();
                keys.add_key(self.issued(certificate, others, now)?);
                Ok(Arc::new(context(keys)))
            }
            Ok(Claim::Elsewhere) => by_name("its certificate is neither in the message nor in the file".to_owned()),
            Err(reason) => by_name(reason),
        }
    }

    /// The key of a certificate that one of the CAs has issued, to sign, to one of the subjects.
    fn issued(&self, certificate: Vec<u8>, others: Vec<Vec<u8>>, now: Timestamp) -> Result<Key, String> {
        let since = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
        let good = self.authorities.iter().filter(|authority| (authority.from..=authority.until).contains(&since));
        let anchors: Vec<_> = good.map(|authority| authority.anchor.clone()).collect();
        if anchors.is_empty() {
            return Err("the certificates of the CAs themselves have run out".to_owned());
        }
        let certificate = CertificateDer::from(certificate);
        let others: Vec<_> = others.into_iter().map(CertificateDer::from).collect();
        let end = EndEntityCert::try_from(&certificate).map_err(|error| told(&error))?;
        let path = end
            .verify_for_usage(&ALGORITHMS, &anchors, &others, UnixTime::since_unix_epoch(since), AnyPurpose, None, None)
            .map_err(|error| told(&error))?;
        for between in path.intermediate_certificates() {
            let may = usage(&parsed(&between.der())?)?.is_none_or(|usage| usage.key_cert_sign());
            may.then_some(()).ok_or("the key of a CA on the way may not issue certificates")?;
        }
        let end = parsed(&certificate)?;
        let may = usage(&end)?.is_none_or(|usage| usage.digital_signature() || usage.non_repudiation());
        may.then_some(()).ok_or("the key of the certificate may not sign")?;
        let subject = end.tbs_certificate.subject.to_string();
        if !self.subjects.is_empty() && !self.subjects.contains(&subject) {
            return Err(format!("the certificate is of `{subject}`, whom the file does not name"));
        }
        loader::load_x509_cert_der(&certificate).map_err(|error| error.to_string())
    }
}

impl Authority {
    fn of(path: &Path, der: &CertificateDer<'_>) -> Result<Self, Fault> {
        let certificate = Certificate::from_der(der).map_err(|_| unreadable(path))?;
        let known = &certificate.tbs_certificate;
        let is_ca = known.get::<BasicConstraints>().is_ok_and(|found| found.is_some_and(|(_, basic)| basic.ca));
        let may = usage(&certificate).is_ok_and(|usage| usage.is_none_or(|usage| usage.key_cert_sign()));
        if !is_ca || !may {
            let text = format!("the certificate of `{}` is no CA's; name it in `certificate_files`", known.subject);
            return Err(wrong(path, &text));
        }
        let anchor = webpki::anchor_from_trusted_cert(der).map_err(|_| unreadable(path))?.to_owned();
        let (from, until) = (known.validity.not_before, known.validity.not_after);
        Ok(Self { anchor, from: from.to_unix_duration(), until: until.to_unix_duration() })
    }
}

/// WS-Security has no purpose of its own (`ExtendedKeyUsage`); what there is must be well-formed.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        purposes.try_for_each(|purpose| purpose.map(|_| ()))
    }
}

fn context(keys: KeysManager) -> DsigContext {
    // The strict mode wants what is signed beside the signature; in WS-Security it is not. `inspect` judges where it must stand.
    DsigContext::new(keys).with_trusted_keys_only(true).with_strict_verification(false)
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = std::fs::read(path).map_err(|error| wrong(path, &error.to_string()))?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| unreadable(path))
}

fn wrong(path: &Path, text: &str) -> Fault {
    Fault::new(Code::Misconfigured, format!("{}: {text}", path.display()))
}

fn none(path: &Path) -> Fault {
    wrong(path, "there is no certificate in PEM")
}

fn unreadable(path: &Path) -> Fault {
    wrong(path, "the certificate cannot be read")
}

/// A subject as the certificates have it.
fn written(subject: &str) -> Result<String, Fault> {
    let name: Name = subject.parse().map_err(|_| {
        let text = format!("`{subject}` is no subject of a certificate, such as `CN=oa,O=Example,C=CN`");
        Fault::new(Code::Misconfigured, text)
    })?;
    Ok(name.to_string())
}

fn parsed(der: &[u8]) -> Result<Certificate, String> {
    Certificate::from_der(der).map_err(|error| format!("the certificate cannot be read: {error}"))
}

/// What a key may be used for; `None`: for anything.
fn usage(certificate: &Certificate) -> Result<Option<KeyUsage>, String> {
    let found = certificate.tbs_certificate.get::<KeyUsage>();
    found.map(|found| found.map(|(_, usage)| usage)).map_err(|error| format!("the usage of a key: {error}"))
}

/// Why a chain is not good, for people.
fn told(error: &Error) -> String {
    match error {
        Error::CertExpired { .. } => "the certificate, or one on the way to a CA, has run out".to_owned(),
        Error::CertNotValidYet { .. } => "the certificate, or one on the way to a CA, is not good yet".to_owned(),
        Error::UnknownIssuer => "the certificate leads to no CA that the file names".to_owned(),
        Error::CaUsedAsEndEntity => "the certificate is a CA's, which signs no messages".to_owned(),
        Error::EndEntityUsedAsCa => "the certificate was issued by one that is no CA's".to_owned(),
        Error::PathLenConstraintViolated | Error::MaximumPathDepthExceeded => {
            "there are more CAs between the certificate and one that is trusted than there may be".to_owned()
        }
        other => format!("the certificate is not good: {other:?}"),
    }
}
