//! Signed calls and answers over the wire: what Gatehouse signs another Gatehouse takes, and nothing else.

#![cfg(feature = "ws-security")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use std::path::Path;

use bytes::Bytes;
use common::{PATIENCE, V11, call, envelope, listening_with, message, system};
use gatehouse_core::adapter::Reply;
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::secret::{Secret, SecretRef, Secrets};
use gatehouse_core::{Value, json};
use http::{Method, Request};

/// Whatever secret is asked for: a key, which stands for a password too.
struct Pem(String);

impl Secrets for Pem {
    fn fetch(&self, _: &SecretRef) -> Result<Secret, Fault> {
        Ok(Secret::new(&*self.0))
    }
}

/// Somebody: the file of the certificate, and the key.
fn party(folder: &Path, name: &str) -> (String, Pem) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&pair).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, certificate.pem()).unwrap();
    (path.display().to_string(), Pem(pair.serialize_pem()))
}

/// Calls `Pay` of a system; `more`: lines of its file.
async fn pay(address: &str, more: &str, endpoint: &str, key: &Pem, number: &str) -> Result<Reply, Fault> {
    let file = format!(
        "version: 1\nsystem: oa\nadapter: soap\naddress: {address}\n{more}\nendpoints:\n  Pay: {{ namespace: urn:o{endpoint} }}\n"
    );
    let outbound = system(None, &file).connect(key).await.unwrap();
    let (message, body) = (message(), [("no", number), ("to", "张三 & <co>")].into_iter().collect::<Value>());
    let call = call("Pay", &body, &message);
    tokio::time::timeout(PATIENCE, outbound.deliver(call)).await.unwrap()
}

#[tokio::test]
async fn a_signed_call_is_taken_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let ((ours, our_key), (theirs, their_key)) = (party(folder.path(), "ours.pem"), party(folder.path(), "theirs.pem"));
    let oa = format!(
        "version: 1\nsystem: oa\nadapter: soap\naccept: {{ signature: {{ certificate_files: [{ours}] }} }}\nendpoints:\n  Pay: {{ listen: /soap/oa, namespace: urn:o, \
         id_header: {{ name: DeliveryId, namespace: 'urn:gatehouse' }}, id: no }}\n"
    );
    let oa = listening_with(&oa, "/soap/oa", &Pem(String::new())).await;
    let call = async |certificate: &str, key: &Pem, more: &str| {
        let auth = format!("auth: {{ signature: {{ certificate_file: {certificate}, key: '${{env:K}}'{more} }} }}");
        pay(&oa.url("/soap/oa"), &auth, "", key, "7").await
    };
    call(&ours, &our_key, "").await.unwrap();
    let (_, arrival) = oa.engine.last();
    assert_eq!(json::encode(&arrival.body), r#"{"no":"7","to":"张三 & <co>"}"#.as_bytes());
    // The delivery id came in a block that is not signed: it does not count, and the path does.
    assert_eq!(arrival.id.as_deref(), Some("7"));
    call(&ours, &our_key, ", headers: true").await.unwrap();
    assert_eq!(oa.engine.last().1.id.as_deref(), Some("d-1"), "now it is signed");
    let fault = call(&theirs, &their_key, "").await.unwrap_err();
    assert_eq!(fault.code, Code::Misconfigured, "{fault:?}");
    let request = Request::builder().method(Method::POST).uri(oa.client.url("/soap/oa").unwrap());
    let unsigned = envelope(V11, "", "<Pay xmlns='urn:o'><no>7</no></Pay>");
    let request = request.header("content-type", "text/xml").body(Bytes::from(unsigned)).unwrap();
    let answer = tokio::time::timeout(PATIENCE, oa.client.send(request)).await.unwrap().unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(oa.engine.count(), 2);
}

#[tokio::test]
async fn an_answer_counts_only_with_the_signature_that_the_file_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let ((ours, key), (theirs, _)) = (party(folder.path(), "ours.pem"), party(folder.path(), "theirs.pem"));
    let answering = async |sign: &str| {
        let file = format!(
            "version: 1\nsystem: oa\nadapter: soap\naccept: {{ basic: {{ username: b, password: '${{env:K}}' }} }}\n{sign}endpoints:\n  \
             Pay: {{ listen: /soap/oa, namespace: urn:o, id: no, reply: {{ body: {{ Got: body.no }} }} }}\n"
        );
        listening_with(&file, "/soap/oa", &key).await
    };
    let sign = |more: &str| {
        format!("sign: {{ signature: {{ certificate_file: {ours}, key: '${{env:K}}', headers: true }}{more} }}\n")
    };
    let verify = |file: &str, more: &str| format!("verify: {{ signature: {{ certificate_files: [{file}] }}{more} }}");
    let call = async |oa: &common::Listening, verify: &str, number: &str| {
        let more = format!("auth: {{ basic: {{ username: b, password: '${{env:K}}' }} }}\n{verify}");
        let rule = ", success_when: 'headers.MessageId == \"7\" && reply.Got == \"7\"'";
        pay(&oa.url("/soap/oa"), &more, rule, &key, number).await
    };
    let refused = |fault: Fault| {
        assert_eq!((fault.code, fault.verdict), (Code::BadAnswer, Verdict::Hold), "{fault:?}");
        assert_eq!(fault.public, "the signature of the answer is missing or wrong");
        fault.private.unwrap()
    };

    let signing = answering(&sign("")).await;
    let reply = call(&signing, &verify(&ours, ""), "7").await.unwrap();
    assert_eq!(reply.body.to_string(), r#"{"Got":"7"}"#);
    call(&signing, "", "7").await.unwrap();
    assert!(refused(call(&signing, &verify(&theirs, ""), "7").await.unwrap_err()).contains("not good"));
    // A fault to somebody who is known is signed as well, and means what it says.
    let fault = call(&signing, &verify(&ours, ""), "").await.unwrap_err();
    assert_eq!((fault.code, fault.verdict), (Code::Refused, Verdict::Reject), "{fault:?}");
    assert!(fault.public.contains("own id is missing"), "{fault:?}");

    let no_faults = answering(&sign(", faults: false")).await;
    call(&no_faults, &verify(&ours, ""), "7").await.unwrap();
    assert!(refused(call(&no_faults, &verify(&ours, ""), "").await.unwrap_err()).contains("no `Header`"));
    let fault = call(&no_faults, &verify(&ours, ", unsigned_faults: true"), "").await.unwrap_err();
    assert_eq!(fault.code, Code::Refused, "{fault:?}");

    let plain = answering("").await;
    let reason = refused(call(&plain, &verify(&ours, ", unsigned_faults: true"), "7").await.unwrap_err());
    assert!(reason.contains("no `Security`"), "{reason}");
    assert_eq!(plain.engine.count(), 1, "the call was made all the same");
}

#[test]
fn what_is_said_of_the_signatures_of_answers_is_checked() {
    let cases = [
        ("verify: { signature: { certificate_files: [] } }", "Pay: { namespace: urn:o }", "no-certificate"),
        ("verify: { signature: { ca_files: [ca.pem] } }", "Pay: { namespace: urn:o }", "no-subjects"),
        (
            "verify: { signature: { certificate_files: [a.pem], subjects: ['*'] } }",
            "Pay: { namespace: urn:o }",
            "misplaced",
        ),
        ("verify: { signature: { certificate_files: [a.pem] } }", "Pay: { listen: /soap/o }", "misplaced"),
        ("sign: { signature: { certificate_file: a.pem, key: '${env:K}' } }", "Pay: { namespace: urn:o }", "misplaced"),
        (
            "sign: { signature: { certificate_file: a.pem, key: '${env:K}' } }",
            "Pay: { listen: /soap/o, attachments: { as: mtom, at: [a] } }",
            "misplaced",
        ),
        ("verify: { signature: { certificate_files: [a.pem] }, faults: true }", "Pay: { namespace: urn:o }", "yaml"),
    ];
    for (said, endpoint, code) in cases {
        let file = format!(
            "version: 1\nsystem: oa\nadapter: soap\naddress: http://127.0.0.1:9/\n{said}\nendpoints:\n  {endpoint}\n"
        );
        let (system, problems) = common::check(None, &file);
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.code, problem.message)).collect();
        assert!(system.is_none() && problems.iter().any(|one| one.code == code), "{said}: {told:?}");
    }
}
