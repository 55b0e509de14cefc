//! Tokens with known digests; what is sent again, too old, twice or for somebody else.

use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::secret::{Secret, SecretRef, Secrets};
use gatehouse_core::xml;
use jiff::{SignedDuration, Timestamp};

use super::file::{AcceptTokenFile, SendTokenFile};
use super::*;
use crate::envelope::Version;

struct Fixed;

impl Secrets for Fixed {
    fn fetch(&self, _: &SecretRef) -> Result<Secret, Fault> {
        Ok(Secret::new("密码 secret"))
    }
}

fn signer(digest: bool) -> Signer {
    let password = SecretRef::Env("P".to_owned());
    let file =
        SendTokenFile { username: "bus".to_owned(), password, digest, timestamp: Some(60), must_understand: true };
    Signer::open(&file, &Fixed).unwrap()
}

fn verifier(text: bool) -> Verifier {
    let password = SecretRef::Env("P".to_owned());
    Verifier::open(&AcceptTokenFile { username: "bus".to_owned(), password, text, window: None }, &Fixed).unwrap()
}

fn now() -> Timestamp {
    "2026-11-24T10:00:00.000Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn block(digest: bool) -> Element {
    signer(digest).block_at(Version::V11, now(), b"0123456789abcdef")
}

/// The block as it comes over the wire, with something changed.
fn changed(digest: bool, change: impl Fn(String) -> String) -> Element {
    let text = String::from_utf8(block(digest).encode()).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "the change changes something");
    xml::decode(changed.as_bytes(), None, &BodyLimits::default()).unwrap()
}

#[test]
fn the_digest_is_that_of_the_profile() {
    // sha1("0123456789abcdef" + "2026-11-24T10:00:00.000Z" + "密码 secret"), made with another tool.
    assert_eq!(digest(b"0123456789abcdef", "2026-11-24T10:00:00.000Z", "密码 secret"), "j9ZWwN+ZCLhBoH5lLvi9nHIEnAg=");
    let text = String::from_utf8(block(true).encode()).unwrap();
    for part in [
        "j9ZWwN+ZCLhBoH5lLvi9nHIEnAg=",
        "MDEyMzQ1Njc4OWFiY2RlZg==",
        "PasswordDigest",
        "2026-11-24T10:00:00.000Z",
        "2026-11-24T10:01:00.000Z",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_token_is_good_once_and_not_for_long() {
    let verifier = verifier(false);
    let judge = |block: &Element, at| verifier.verify_at(Version::V11, std::slice::from_ref(block), at);
    judge(&block(true), after(10)).unwrap().keep();
    assert_eq!(judge(&block(true), after(11)).unwrap_err().code, Code::Unauthenticated, "sent again");
    let other = |nonce: &[u8; 16]| signer(true).block_at(Version::V11, now(), nonce);
    assert!(judge(&other(b"1123456789abcdef"), after(59)).is_ok());
    assert!(judge(&other(b"2123456789abcdef"), after(61)).is_err(), "its timestamp is over");
    assert!(judge(&other(b"3123456789abcdef"), after(-61)).is_err(), "of the future");
    let untimed = changed(true, |text| {
        let (start, end) = (text.find("<Timestamp").unwrap_or(0), text.find("</Timestamp>").map_or(0, |at| at + 12));
        format!("{}{}", &text[..start], &text[end..])
    });
    assert!(verifier.verify_at(Version::V11, &[untimed], after(301)).is_err(), "too old");
}

#[test]
fn a_token_whose_message_came_to_nothing_is_good_again() {
    let verifier = verifier(false);
    let judge = || verifier.verify_at(Version::V11, &[block(true)], after(10));
    let once = judge().unwrap();
    assert!(judge().is_err(), "while it is being worked on it has been sent already");
    drop(once);
    judge().unwrap().keep();
    assert!(judge().is_err());
}

#[test]
fn whatever_is_wrong_gets_the_same_answer() {
    let verifier = verifier(false);
    let refused = |blocks: &[Element]| verifier.verify_at(Version::V11, blocks, now()).unwrap_err();
    let token = |text: &str| {
        let start = text.find("<UsernameToken").unwrap();
        let end = text.find("</UsernameToken>").unwrap() + "</UsernameToken>".len();
        text[start..end].to_owned()
    };
    let bad = [
        vec![],
        vec![block(false)],
        vec![block(true), block(true)],
        vec![changed(true, |text| text.replace(">bus<", ">boss<"))],
        vec![changed(true, |text| text.replace("MDEy", "MDEz"))],
        vec![changed(true, |text| {
            text.replace("10:00:00.000Z</Created><Expires", "09:00:00.000Z</Created><Expires").replace("Nonce", "Once")
        })],
        vec![changed(true, |text| {
            let token = token(&text);
            text.replace(&token, &format!("{token}{token}"))
        })],
        vec![changed(true, |text| {
            text.replace(
                "<UsernameToken>",
                "<x:Signature xmlns:x='http://www.w3.org/2000/09/xmldsig#'/><UsernameToken>",
            )
        })],
        vec![block(true).with_attribute(Some(Version::V11.namespace()), "actor", "urn:somebody")],
    ];
    for blocks in bad {
        assert_eq!(refused(&blocks).public, "the credentials are missing or wrong", "{blocks:?}");
    }
    // None of them has used up the nonce.
    assert!(verifier.verify_at(Version::V11, &[block(true)], now()).is_ok());
}

#[test]
fn a_password_in_clear_is_taken_where_the_file_says_so() {
    assert!(verifier(true).verify_at(Version::V12, &[block(false)], now()).is_ok());
    assert!(verifier(true).verify_at(Version::V12, &[block(true)], now()).is_ok());
    let wrong = changed(false, |text| text.replace("密码", "密马"));
    assert!(verifier(true).verify_at(Version::V12, &[wrong], now()).is_err());
}
