//! Signed calls over the wire: what Gatehouse signs another Gatehouse takes, and nobody else may come in.

#![cfg(feature = "ws-security")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Engine, PATIENCE, V11, client, envelope, message, serving, system};
use gatehouse_core::adapter::Call;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::{Secret, SecretRef, Secrets};
use gatehouse_core::{Value, json};
use http::{Method, Request};
use tokio::sync::oneshot;

struct Pem(String);

impl Secrets for Pem {
    fn fetch(&self, _: &SecretRef) -> Result<Secret, Fault> {
        Ok(Secret::new(&*self.0))
    }
}

#[tokio::test]
async fn a_signed_call_is_taken_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let party = |name: &str| {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&pair).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, certificate.pem()).unwrap();
        (path.display().to_string(), pair.serialize_pem())
    };
    let ((ours, our_key), (theirs, their_key)) = (party("ours.pem"), party("theirs.pem"));
    let serving = serving().await;
    let oa = system(
        Some(serving.door.clone()),
        &format!(
            "version: 1\nsystem: oa\nadapter: soap\naccept: {{ signature: {{ certificate_files: [{ours}] }} }}\nendpoints:\n  Pay: {{ listen: /soap/oa, namespace: urn:o, \
             id_header: {{ name: DeliveryId, namespace: 'urn:gatehouse' }}, id: no }}\n"
        ),
    );
    let engine = Arc::new(Engine::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let inbound = oa.listen(None, &Pem(String::new())).await.unwrap();
    let running = tokio::spawn(inbound.run(
        engine.clone(),
        Box::pin(async move {
            let _ = stopped.await;
        }),
    ));
    let address = format!("http://{}/soap/oa", serving.door.addr());
    let plain = client(&address);
    let post = async |body: String| {
        let request =
            Request::builder().method(Method::POST).uri(plain.url("").unwrap()).header("content-type", "text/xml");
        let request = request.body(Bytes::from(body)).unwrap();
        tokio::time::timeout(PATIENCE, plain.send(request)).await.unwrap().unwrap()
    };
    let start = Instant::now();
    while post(String::new()).await.status() == 404 {
        assert!(start.elapsed() < PATIENCE, "the system does not listen");
        tokio::task::yield_now().await;
    }

    let call = async |certificate: &str, key: &str| {
        let file = format!(
            "version: 1\nsystem: oa\nadapter: soap\naddress: {address}\nauth: {{ signature: {{ certificate_file: {certificate}, key: '${{env:K}}' }} }}\n\
             endpoints:\n  Pay: {{ namespace: urn:o }}\n"
        );
        let outbound = system(None, &file).connect(&Pem(key.to_owned())).await.unwrap();
        let (message, body) = (message(), [("no", "7"), ("to", "张三 & <co>")].into_iter().collect::<Value>());
        let call = Call {
            endpoint: "Pay",
            body: &body,
            passed: None,
            meta: &Value::Null,
            message: &message,
            delivery_id: "d-1",
            attempt: 1,
            traceparent: None,
            deadline: Duration::from_secs(5),
        };
        tokio::time::timeout(PATIENCE, outbound.deliver(call)).await.unwrap()
    };
    call(&ours, &our_key).await.unwrap();
    let (_, arrival) = engine.last();
    assert_eq!(json::encode(&arrival.body), r#"{"no":"7","to":"张三 & <co>"}"#.as_bytes());
    // The delivery id came in a block that is not signed: it does not count, and the path does.
    assert_eq!(arrival.id.as_deref(), Some("7"));
    let fault = call(&theirs, &their_key).await.unwrap_err();
    assert_eq!(fault.code, Code::Misconfigured, "{fault:?}");
    let answer = post(envelope(V11, "", "<Pay xmlns='urn:o'><no>7</no></Pay>")).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(engine.count(), 1);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
