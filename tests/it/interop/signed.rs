//! Signatures of WS-Security with zeep and xmlsec, at both ends: trusted by a CA and one by one, answers signed and judged.

use std::path::Path;

use gatehouse_store::State;
use serde_json::json;
use tokio::process::Command;

use super::{call, calling, folder, quiet, script, temp};
use crate::harness::{Peer, Place, until};
use crate::peers::{CUSTOMER, ORDER_ROWS, Server, WSDL, XSD};

/// Keys and certificates in a folder: `ca`, and under it `oa` and `stranger`; `bus` of its own.
fn parties() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let key = || rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let params = |name: &str| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("writes");
    let mut authority = params("ca");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, key()).expect("a CA");
    write("ca.pem", authority.pem());
    for name in ["oa", "stranger"] {
        let key = key();
        write(&format!("{name}.pem"), params(name).signed_by(&key, &authority).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let key = key();
    write("bus.pem", params("bus").self_signed(&key).expect("a certificate").pem());
    write("bus.key", key.serialize_pem());
    folder
}

fn python(folder: &Path, arguments: &[&str]) -> Command {
    let mut python = quiet(folder.join("venv/bin/python"));
    python.arg(script("signed.py")).args(arguments);
    python
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeep_signs_and_reads_signed_answers() {
    let Some(folder) = folder() else { return };
    let parties = parties();
    let at = |name: &str| parties.path().join(name).display().to_string();
    let crm = Peer::start().await;
    let system = format!(
        "version: 1\nsystem: oa\nadapter: soap\nwsdl: wsdl/order.wsdl\naccept: {{ signature: {{ ca_files: [{}], subjects: [CN=oa] }} }}\n\
         sign: {{ signature: {{ certificate_file: {}, key: \"${{file:{}}}\" }} }}\nendpoints:\n  Submit: {{ listen: /soap/signed, id: No, \
         reply: {{ body: {{ Got: message_id, Count: body.Lines.Line.len() }} }} }}\n",
        at("ca.pem"),
        at("bus.pem"),
        at("bus.key"),
    );
    let routes = "version: 1\nroutes:\n  - { route: orders, from: oa/Submit, type: any.order, key: No, to: [{ target: crm/put }] }\n";
    let place = Place::new(&[
        ("orders.yaml", routes),
        ("types/any.order.schema.json", r#"{"type":"object"}"#),
        ("wsdl/order.wsdl", WSDL),
        ("wsdl/order.xsd", XSD),
        ("systems/oa.yaml", &system),
        ("systems/crm.yaml", &crm.system("crm", "")),
    ]);
    let running = place.start().await;
    until("the path to be mounted", async || {
        running.send(http::Method::GET, "/soap/signed", &[], "").await.status != 404
    })
    .await;
    let url = format!("http://{}/soap/signed?wsdl", running.gateway.address);
    let client = |who: &str, theirs: &str, kind: &str, number: &str| {
        let (key, cert) = (at(&format!("{who}.key")), at(&format!("{who}.pem")));
        python(&folder, &["call", &url, &key, &cert, &at(theirs), kind, number])
    };
    // The certificate in a token of its own; in the KeyInfo, with its issuer and number.
    for (count, kind) in ["binary", "data"].iter().enumerate() {
        let number = format!("Z-{count}");
        let answer = call(client("oa", "bus.pem", kind, &number)).await;
        assert_eq!(answer, json!({ "ok": { "Got": number, "Count": 2 } }), "{kind}");
        until("the CRM has it", async || crm.took().len() == count + 1).await;
        assert_eq!(crm.took()[count].json()["Customer"], json!(CUSTOMER));
        assert!(crm.took()[count].body.contains("\"Total\":12345678901234567.89"));
        // A fault to one who is known is signed, or zeep would not read it.
        let fault = call(client("oa", "bus.pem", kind, "")).await;
        assert!(fault["fault"].as_str().is_some_and(|text| text.contains("own id is missing")), "{fault}");
        // The same CA, somebody else; and the oracle tells good from bad.
        assert_eq!(call(client("stranger", "bus.pem", kind, "Z-9")).await, json!({ "unsigned": true }));
        assert_eq!(call(client("oa", "oa.pem", kind, &number)).await, json!({ "unsigned": true }));
    }
    assert_eq!(crm.took().len(), 2);
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeep_takes_signed_calls_and_its_answers_are_judged() {
    let Some(folder) = folder() else { return };
    let parties = parties();
    let at = |name: &str| parties.path().join(name).display().to_string();
    let (_folder, log) = temp();
    let serve = python(&folder, &["serve", &log.display().to_string(), &at("oa.key"), &at("oa.pem"), &at("bus.pem")]);
    let server = Server::start(serve, log).await;
    let system = format!(
        "wsdl: wsdl/order.wsdl\nport: Orders11\naddress: http://127.0.0.1:{}/orders\nauth: {{ signature: {{ certificate_file: {}, key: \"${{file:{}}}\" }} }}\n\
         verify: {{ signature: {{ ca_files: [{}], subjects: [CN=oa] }} }}\nendpoints:\n  Submit: {{ success_when: reply.Count == 2 }}\n",
        server.port,
        at("bus.pem"),
        at("bus.key"),
        at("ca.pem"),
    );
    let world = calling(&[("wsdl/order.wsdl", WSDL), ("wsdl/order.xsd", XSD)], &system, "Submit", ORDER_ROWS).await;
    world.order("Z-1").await;
    world.reached(&server).await;
    assert_eq!(server.got(), [json!({ "number": "Z-1", "customer": CUSTOMER })]);
    world.running.drained().await;
    assert!(world.running.letters(State::Open).await.is_empty(), "its answer was taken");
    world.order("BAD-1").await;
    let letter = world.running.one_letter().await;
    assert!(letter.summary.text.contains("signature of the answer"), "{}", letter.summary.text);
    assert_eq!(letter.attempts.len(), 1, "a person looks first");
    world.running.gateway.stop().await;
}
