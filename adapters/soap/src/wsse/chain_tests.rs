//! Trust by CA: every way to name a certificate, every link of a chain that may be rotten.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatehouse_core::secret::SecretRef;
use gatehouse_core::xml::Element;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};
use sha1::{Digest, Sha1};
use x509_cert::der::{Decode, EncodePem};

use super::file::{SignFile, TrustFile};
use super::signature_tests::{Key, cut, judge, now};
use super::{Inspector, Sealer};
use crate::envelope::Version;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A root, a CA under it, and who has a certificate of that.
struct World {
    folder: tempfile::TempDir,
    root: Authority,
    middle: Authority,
}

/// Somebody with a certificate and its key.
struct Somebody {
    der: Vec<u8>,
    /// What this party has signed, with its certificate in a token.
    message: String,
}

fn pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "CN");
    params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn end() -> CertificateParams {
    let mut params = named("oa");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(SerialNumber::from_slice(&[0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0, 0x11]));
    params
}

fn but(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}

impl World {
    fn new() -> Self {
        Self::with(authority("root"), authority("middle"))
    }

    fn with(root: CertificateParams, middle: CertificateParams) -> Self {
        let root = Authority::self_signed(root, pair()).unwrap();
        let middle = Authority::signed_by(middle, pair(), &root).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), root, middle }
    }

    fn file(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }

    fn trust(&self) -> TrustFile {
        let ca_files = vec![self.file("root.pem", &self.root.pem())];
        TrustFile { ca_files, subjects: vec!["*".to_owned()], ..TrustFile::default() }
    }

    fn judge(&self, text: &str) -> Result<(), String> {
        judge(&Inspector::open(&self.trust()).unwrap(), text).map(|_| ())
    }

    /// Somebody who has a certificate of `issuer`.
    fn somebody(&self, params: &CertificateParams, issuer: &Authority) -> Somebody {
        let key = pair();
        let certificate = params.signed_by(&key, issuer).unwrap();
        let file = SignFile {
            certificate_file: self.file("end.pem", &certificate.pem()),
            key: SecretRef::Env("K".to_owned()),
            timestamp: None,
            must_understand: true,
            headers: false,
        };
        let sealer = Sealer::open(&file, &Key(key.serialize_pem())).unwrap();
        let body = Element::new(Some("urn:o"), "Pay").with_text("10.00");
        let bytes = sealer.seal_at(Version::V11, Vec::new(), vec![body], Some("urn:o"), now()).unwrap();
        Somebody { der: certificate.der().to_vec(), message: String::from_utf8(bytes).unwrap() }
    }
}

impl Somebody {
    /// The same with another `KeyInfo`, which no signature covers.
    fn saying(&self, info: &str) -> String {
        let info = format!("<ds:KeyInfo>{info}</ds:KeyInfo>");
        self.message.replacen(cut(&self.message, "<ds:KeyInfo>", "</ds:KeyInfo>"), &info, 1)
    }

    fn referring(&self, inside: &str) -> String {
        self.saying(&format!("<wsse:SecurityTokenReference>{inside}</wsse:SecurityTokenReference>"))
    }

    /// The same with another token in the place of its own.
    fn with_token(&self, kind: &str, der: &[u8]) -> String {
        let token = cut(&self.message, "<wsse:BinarySecurityToken", "</wsse:BinarySecurityToken>");
        let begin = &token[..=token.find('>').unwrap()];
        let other = format!("{begin}{}</wsse:BinarySecurityToken>", STANDARD.encode(der)).replacen("#X509v3", kind, 1);
        self.message.replacen(token, &other, 1)
    }

    /// The same with its own token and the certificates of the CAs between.
    fn with_path(&self, between: &[&[u8]]) -> String {
        self.with_token("#X509PKIPathv1", &path(&[between, &[&self.der]].concat()))
    }
}

/// `SEQUENCE OF Certificate`, the end last.
fn path(certificates: &[&[u8]]) -> Vec<u8> {
    let inside = certificates.concat();
    let length = u16::try_from(inside.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82], length.as_slice(), &inside].concat()
}

#[test]
fn a_certificate_of_a_ca_is_good_however_it_is_named() {
    let world = World::new();
    let direct = world.somebody(&end(), &world.root);
    assert_eq!(world.judge(&direct.message), Ok(()), "a token, X509v3");
    let encoded = STANDARD.encode(&direct.der);
    let x509 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0";
    let data = format!("<ds:X509Data><ds:X509Certificate>\n{encoded}\n</ds:X509Certificate></ds:X509Data>");
    let serial = |number: &str| {
        format!(
            "<ds:X509Data><ds:X509IssuerSerial><ds:X509IssuerName>CN=root, O=\"Example, Inc.\", C=CN</ds:X509IssuerName>\
             <ds:X509SerialNumber>{number}</ds:X509SerialNumber></ds:X509IssuerSerial></ds:X509Data>"
        )
    };
    let params = x509_cert::Certificate::from_der(&direct.der);
    let known = params.unwrap().tbs_certificate.get::<x509_cert::ext::pkix::SubjectKeyIdentifier>();
    let key = STANDARD.encode(known.unwrap().unwrap().1.0.as_bytes());
    let thumbprint = STANDARD.encode(Sha1::digest(&direct.der));
    let identifier = |kind: &str, text: &str| {
        format!(
            "<wsse:KeyIdentifier EncodingType=\"{}\" ValueType=\"{kind}\">{text}</wsse:KeyIdentifier>",
            super::BASE64
        )
    };
    let sha1 = "http://docs.oasis-open.org/wss/oasis-wss-soap-message-security-1.1#ThumbprintSHA1";
    for (what, text) in [
        ("X509Data in a reference", direct.referring(&data)),
        ("X509Data", direct.saying(&data)),
        ("its serial number", direct.referring(&serial("335812727670730321937"))),
        ("its key identifier", direct.referring(&identifier(&format!("{x509}#X509SubjectKeyIdentifier"), &key))),
        ("its thumbprint", direct.referring(&identifier(sha1, &thumbprint))),
        ("itself in an identifier", direct.referring(&identifier(&format!("{x509}#X509v3"), &encoded))),
        ("a path of one", direct.with_path(&[])),
    ] {
        assert_eq!(world.judge(&text), Ok(()), "{what}: {text}");
    }
    for (what, text, reason) in [
        ("another serial number", direct.referring(&serial("1")), "neither in the message nor in the file"),
        ("no serial number", direct.referring(&serial("x")), "no number"),
        ("a bare key", direct.saying("<ds:KeyValue/>"), "`KeyValue`, which is no certificate"),
        ("a name", direct.saying("<ds:KeyName>oa</ds:KeyName>"), "`KeyName`, which is no certificate"),
        ("two of them", direct.saying(&format!("{data}{data}")), "2 elements instead of one"),
        ("a token that is not there", direct.referring("<wsse:Reference URI=\"#no\"/>"), "an id that is not there"),
        ("another message's", direct.referring("<wsse:Reference URI=\"http://x/#t\"/>"), "not in the message"),
        ("an embedded one", direct.referring("<wsse:Embedded/>"), "by `Embedded` is not taken"),
        ("PKCS#7", direct.with_token("#PKCS7", &direct.der), "`PKCS7` is not taken"),
        ("no certificate", direct.with_token("#X509v3", b"hello"), "not good"),
        ("no path", direct.with_token("#X509PKIPathv1", b"hello"), "the path of a token"),
        (
            "no Base64",
            direct
                .message
                .replacen("<wsse:BinarySecurityToken", "<wsse:BinarySecurityToken x='' ", 1)
                .replacen("MII", "!II", 1),
            "not in Base64",
        ),
    ] {
        let error = world.judge(&text).expect_err(what);
        assert!(error.contains(reason), "{what}: {error}");
    }
    // The body is no token, whatever it says.
    let body = cut(&direct.message, "<soap:Body wsu:Id=\"", "\">").split('"').nth(1).unwrap().to_owned();
    let error = world.judge(&direct.referring(&format!("<wsse:Reference URI=\"#{body}\"/>"))).unwrap_err();
    assert!(error.contains("something else than a token"), "{error}");
}

#[test]
fn a_chain_is_followed_to_a_ca_that_the_file_names() {
    let world = World::new();
    let under = world.somebody(&end(), &world.middle);
    let middle: &[u8] = world.middle.der();
    assert_eq!(world.judge(&under.with_path(&[middle])), Ok(()));
    assert_eq!(world.judge(&under.with_path(&[world.root.der(), middle])), Ok(()), "the root may come along");
    let error = world.judge(&under.message).unwrap_err();
    assert!(error.contains("leads to no CA"), "without what is between: {error}");
    // Certificates in X509Data, the end first.
    let one = |der: &[u8]| format!("<ds:X509Certificate>{}</ds:X509Certificate>", STANDARD.encode(der));
    let data = format!("<ds:X509Data>{}{}</ds:X509Data>", one(&under.der), one(middle));
    assert_eq!(world.judge(&under.referring(&data)), Ok(()));
    let many = format!("<ds:X509Data>{}</ds:X509Data>", one(middle).repeat(7));
    assert!(world.judge(&under.saying(&many)).unwrap_err().contains("more than 6 certificates"));
    assert!(world.judge(&under.with_path(&[middle; 6])).unwrap_err().contains("more than 6 certificates"));

    // The same names, other keys.
    let other = World::new();
    let error = other.judge(&under.with_path(&[middle])).unwrap_err();
    assert!(error.contains("not good") || error.contains("no CA"), "{error}");
    // A good certificate of somebody else's says nothing of this signature.
    let else_ = world.somebody(&end(), &world.middle);
    let error = world.judge(&under.with_token("#X509PKIPathv1", &path(&[middle, &else_.der]))).unwrap_err();
    assert!(error.contains("the signature is not good"), "{error}");
}

#[test]
fn no_link_of_a_chain_is_rotten() {
    let ends = [
        ("run out", but(end(), |params| params.not_after = date_time_ymd(2026, 11, 24)), "has run out"),
        ("not good yet", but(end(), |params| params.not_before = date_time_ymd(2026, 11, 25)), "not good yet"),
        (
            "for agreeing on keys",
            but(end(), |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
            "may not sign",
        ),
        ("a CA", authority("ca"), "a CA's, which signs no messages"),
    ];
    let world = World::new();
    for (what, params, reason) in ends {
        let somebody = world.somebody(&params, &world.root);
        let error = world.judge(&somebody.message).expect_err(what);
        assert!(error.contains(reason), "{what}: {error}");
    }
    for (what, params) in [
        ("non-repudiation", but(end(), |params| params.key_usages = vec![KeyUsagePurpose::ContentCommitment])),
        ("any usage", but(end(), |params| params.key_usages = Vec::new())),
        ("a purpose", but(end(), |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection])),
    ] {
        assert_eq!(world.judge(&world.somebody(&params, &world.root).message), Ok(()), "{what}");
    }
    let middles = [
        ("run out", but(authority("middle"), |params| params.not_after = date_time_ymd(2020, 1, 1)), "has run out"),
        ("no CA", but(authority("middle"), |params| params.is_ca = IsCa::ExplicitNoCa), "no CA's"),
        ("says nothing of being a CA", but(authority("middle"), |params| params.is_ca = IsCa::NoCa), "no CA's"),
        (
            "no key for it",
            but(authority("middle"), |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            "may not issue certificates",
        ),
    ];
    for (what, params, reason) in middles {
        let world = World::with(authority("root"), params);
        let error =
            world.judge(&world.somebody(&end(), &world.middle).with_path(&[world.middle.der()])).expect_err(what);
        assert!(error.contains(reason), "{what}: {error}");
    }
    // A root that allows one CA under it, and one that has run out.
    let short = but(authority("middle"), |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let world = World::with(authority("root"), short);
    let third = Authority::signed_by(authority("third"), pair(), &world.middle).unwrap();
    let text = world.somebody(&end(), &third).with_path(&[world.middle.der(), third.der()]);
    assert!(world.judge(&text).unwrap_err().contains("more CAs between"));
    let old = but(authority("root"), |params| params.not_after = date_time_ymd(2020, 1, 1));
    let world = World::with(old, authority("middle"));
    assert!(
        world.judge(&world.somebody(&end(), &world.root).message).unwrap_err().contains("CAs themselves have run out")
    );
}

#[test]
fn more_cas_in_a_row_than_anybody_needs_are_not_followed() {
    let world = World::new();
    let mut line = vec![Authority::signed_by(authority("1"), pair(), &world.root).unwrap()];
    for name in ["2", "3", "4", "5", "6", "7"] {
        let next = Authority::signed_by(authority(name), pair(), line.last().unwrap()).unwrap();
        line.push(next);
    }
    for (count, good) in [(5, true), (7, false)] {
        let somebody = world.somebody(&end(), &line[count - 1]);
        let between: Vec<&[u8]> = line[..count].iter().map(|one| -> &[u8] { one.der() }).collect();
        assert_eq!(world.judge(&somebody.with_path(&between)).is_ok(), good, "{count}");
    }
}

#[test]
fn of_those_whom_a_ca_knows_only_the_named_may_sign() {
    let world = World::new();
    let text = world.somebody(&end(), &world.root).message;
    let judged = |subjects: &[&str]| {
        let subjects = subjects.iter().map(|one| (*one).to_owned()).collect();
        judge(&Inspector::open(&TrustFile { subjects, ..world.trust() }).unwrap(), &text).map(|_| ())
    };
    let error = judged(&["CN=crm,O=Example\\, Inc.,C=CN"]).unwrap_err();
    // What it says can be written into the file as it is.
    let said = error.split('`').nth(1).unwrap();
    assert_eq!(judged(&["CN=x", said]), Ok(()), "{said}");
    assert_eq!(judged(&["CN=oa,O=Example\\, Inc.,C=CN"]), Ok(()));
    assert!(judged(&["CN=oa"]).is_err(), "a part of a name is another name");
    let no_name = TrustFile { subjects: vec!["oa".to_owned()], ..world.trust() };
    assert!(Inspector::open(&no_name).err().unwrap().public.contains("no subject"));
}

#[test]
fn named_certificates_and_cas_stand_side_by_side() {
    let world = World::new();
    let (ours, theirs) = (world.somebody(&end(), &world.root), World::new());
    let stranger = theirs.somebody(&end(), &theirs.root);
    let pem = x509_cert::Certificate::from_der(&stranger.der).unwrap();
    let pem = pem.to_pem(x509_cert::der::pem::LineEnding::LF).unwrap();
    let both = TrustFile { certificate_files: vec![world.file("stranger.pem", &pem)], ..world.trust() };
    let inspector = Inspector::open(&both).unwrap();
    assert!(judge(&inspector, &ours.message).is_ok());
    assert!(judge(&inspector, &stranger.message).is_ok());
    // Named by what is not in the message.
    let serial = "<ds:X509Data><ds:X509IssuerSerial><ds:X509SerialNumber>5</ds:X509SerialNumber></ds:X509IssuerSerial></ds:X509Data>";
    let inspector = Inspector::open(&both).unwrap();
    assert!(judge(&inspector, &stranger.referring(serial)).is_ok());
    assert!(judge(&inspector, &ours.referring(serial)).unwrap_err().contains("not good"));
}

#[test]
fn a_file_that_names_no_ca_is_told_at_the_start() {
    let world = World::new();
    let open = |path: PathBuf| match Inspector::open(&TrustFile { ca_files: vec![path], ..world.trust() }) {
        Ok(_) => panic!("opened"),
        Err(fault) => fault.public,
    };
    world.somebody(&end(), &world.root);
    let told = open(world.folder.path().join("end.pem"));
    assert!(told.contains("end.pem") && told.contains("CN=oa") && told.contains("is no CA's"), "{told}");
    assert!(open(world.file("empty.pem", "nothing")).contains("no certificate in PEM"));
    assert!(open(world.folder.path().join("gone.pem")).contains("gone.pem"));
    // A bundle.
    let bundle = world.file("bundle.pem", &format!("{}{}", World::new().root.pem(), world.root.pem()));
    let trust = TrustFile { ca_files: vec![bundle], ..world.trust() };
    let text = world.somebody(&end(), &world.root).message;
    assert!(judge(&Inspector::open(&trust).unwrap(), &text).is_ok());
}
