//! Operations that listen: what arrives, what is answered, and every refusal in the caller's own version.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Engine, Fixed, PATIENCE, Serving, V11, V12, client, envelope, listening, serving, system};
use gatehouse_core::fault::{Code, Fault, Verdict, Violation};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::{self, Element};
use gatehouse_core::{Value, json};
use gatehouse_net::client::Client;
use http::{HeaderMap, Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const FILE: &str = "version: 1\nsystem: erp\nadapter: soap\naccept: { api_key: { header: X-Api-Key, value: '${env:K}' } }\nendpoints:\n  \
    Status: { listen: /soap/erp, operation: Status, namespace: urn:e, action: 'urn:e/Status', id: Head.No, \
    reply: { body: { Got: message_id, Doc: body.Head.No } } }\n  \
    Cancel: { listen: /soap/erp, operation: Cancel, namespace: urn:e, id_header: { name: MessageID, namespace: 'urn:wsa' }, limits: { body: 2KiB } }\n  \
    Scan: { listen: /soap/erp, operation: Scan, namespace: urn:e, attachments: { as: mtom, at: ['Doc[].File'] }, \
    reply: { body: { Doc: body.Doc } } }\n  \
    Alone: { listen: /soap/alone, operation: Alone, limits: { body: 64KiB } }\n";

struct Erp {
    engine: Arc<Engine>,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Fault>>,
    serving: Serving,
}

async fn erp() -> Erp {
    let serving = serving().await;
    let inbound = system(Some(serving.door.clone()), FILE).listen(None, &Fixed).await.unwrap();
    let engine = Arc::new(Engine::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(inbound.run(
        engine.clone(),
        Box::pin(async move {
            let _ = stopped.await;
        }),
    ));
    let client = client(&format!("http://{}", serving.door.addr()));
    let erp = Erp { engine, client, stop: Some(stop), running, serving };
    // Mounted once it answers anything but "nothing is here".
    let start = Instant::now();
    while erp.send(Method::GET, "/soap/erp", &[], b"").await.status() == 404 {
        assert!(start.elapsed() < PATIENCE, "the system does not listen");
        tokio::task::yield_now().await;
    }
    erp
}

impl Erp {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response<Bytes> {
        let mut request = Request::builder().method(method).uri(self.client.url(path).unwrap());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::copy_from_slice(body)).unwrap();
        tokio::time::timeout(PATIENCE, self.client.send(request)).await.unwrap().unwrap()
    }

    async fn post(&self, media: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post_with(media, &[], body).await
    }

    async fn post_with(&self, media: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let mut all = vec![("x-api-key", "geheim"), ("content-type", media)];
        all.extend_from_slice(headers);
        Answer::read(self.send(Method::POST, "/soap/erp", &all, body.as_ref()).await)
    }
}

/// An answer, which must be a SOAP envelope.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
    namespace: String,
    header: Option<Element>,
    body: Element,
}

impl Answer {
    fn read(response: Response<Bytes>) -> Self {
        let (parts, bytes) = response.into_parts();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let root = xml::decode(&bytes, None, &BodyLimits::default()).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(&*root.name.local, "Envelope", "{text}");
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text,
            namespace: root.name.namespace.as_deref().unwrap().to_owned(),
            header: root.child("Header").cloned(),
            body: root.child("Body").unwrap().elements().next().unwrap().clone(),
        }
    }

    /// Version, fault code and reason.
    fn fault(&self) -> (&str, String, String) {
        assert!(self.body.name.is(Some(&self.namespace), "Fault"), "{}", self.text);
        let text = |path: &[&str]| path.iter().fold(&self.body, |element, name| element.child(name).unwrap()).text();
        if self.namespace == V11 {
            assert_eq!(self.headers["content-type"], "text/xml; charset=utf-8");
            ("1.1", text(&["faultcode"]), text(&["faultstring"]))
        } else {
            assert_eq!(self.headers["content-type"], "application/soap+xml; charset=utf-8");
            ("1.2", text(&["Code", "Value"]), text(&["Reason", "Text"]))
        }
    }

    fn is_fault(&self, status: u16, version: &str, code: &str) -> String {
        let (found, fault, reason) = self.fault();
        let code = format!("soap:{code}");
        assert_eq!((self.status, found, fault.as_str()), (status, version, code.as_str()), "{}", self.text);
        reason
    }

    fn detail(&self) -> &Element {
        let detail = self.body.child("detail").or_else(|| self.body.child("Detail")).unwrap();
        detail.child_in(Some("urn:gatehouse"), "fault").unwrap()
    }
}

fn status(no: &str) -> String {
    format!(
        "<e:Status xmlns:e='urn:e'><e:Head><e:No>{no}</e:No></e:Head><e:Line>1</e:Line><e:Line>订单</e:Line></e:Status>"
    )
}

#[tokio::test]
async fn an_operation_arrives_and_is_acknowledged_in_its_version() {
    let erp = erp().await;
    for (namespace, media) in [(V11, "text/xml; charset=utf-8"), (V12, "application/soap+xml; action=\"urn:e/Status\"")]
    {
        let text = envelope(namespace, "<t:Ctx xmlns:t='urn:t'>c</t:Ctx>", &status("D-1"));
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let answer = erp.post_with(media, &[("traceparent", trace)], &text).await;
        assert_eq!((answer.status, answer.namespace.as_str()), (200, namespace), "{}", answer.text);
        assert!(answer.body.name.is(Some("urn:e"), "StatusResponse"));
        assert_eq!(answer.body.to_value(), [("Got", "D-1"), ("Doc", "D-1")].into_iter().collect());
        assert_eq!(answer.header.unwrap().child_in(Some("urn:gatehouse"), "MessageId").unwrap().text(), "D-1");
        let (endpoint, arrival) = erp.engine.last();
        assert_eq!(endpoint, "erp/Status");
        assert_eq!(arrival.id.as_deref(), Some("D-1"));
        assert_eq!(json::encode(&arrival.body), r#"{"Head":{"No":"D-1"},"Line":["1","订单"]}"#.as_bytes());
        assert_eq!(arrival.original, text.as_bytes());
        assert_eq!(arrival.content_type, media);
        assert_eq!(arrival.traceparent.as_deref(), Some(trace));
        assert_eq!(arrival.meta.field("headers").unwrap().field("Ctx"), Some(&Value::from("c")));
    }
}

#[tokio::test]
async fn operations_on_one_path_are_told_apart_by_the_body() {
    let erp = erp().await;
    let cancel = envelope(
        V11,
        "<w:MessageID xmlns:w='urn:wsa' s:mustUnderstand='1'> id-7 </w:MessageID>",
        "<Cancel xmlns='urn:e'/>",
    );
    let answer = erp.post_with("text/xml", &[("soapaction", "\"\"")], &cancel).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.body.name.is(Some("urn:e"), "CancelResponse") && answer.body.children.is_empty());
    let (endpoint, arrival) = erp.engine.last();
    assert_eq!((endpoint.as_str(), arrival.id.as_deref()), ("erp/Cancel", Some("id-7")));

    assert_eq!(answer.headers["gatehouse-message-id"], "id-7");

    // The route's reply goes back, where the endpoint declares none of its own.
    *erp.engine.reply.lock().unwrap() = Some([("ok", "yes")].into_iter().collect());
    let answer = erp.post("text/xml", &cancel).await;
    assert_eq!(answer.body.to_value(), [("ok", "yes")].into_iter().collect());

    // Where an id is declared it must come: what is sent twice without one would be taken twice.
    let reason =
        erp.post("text/xml", envelope(V11, "", "<Cancel xmlns='urn:e'/>")).await.is_fault(500, "1.1", "Client");
    assert_eq!(reason, "the message's own id is missing in the header block `{urn:wsa}MessageID`");
    let reason = erp.post("text/xml", envelope(V11, "", &status(" "))).await.is_fault(500, "1.1", "Client");
    assert_eq!(reason, "the message's own id is missing at `Head.No` of the body");

    for body in ["<Cancel/>", "<Other xmlns='urn:e'/>"] {
        let reason = erp.post("text/xml", envelope(V11, "", body)).await.is_fault(500, "1.1", "Client");
        assert!(reason.starts_with("there is no operation"), "{reason}");
    }
    erp.post("text/xml", envelope(V11, "", "")).await.is_fault(500, "1.1", "Client");
    erp.post("text/xml", envelope(V11, "", "<Cancel xmlns='urn:e'/><x/>")).await.is_fault(500, "1.1", "Client");
    assert_eq!(erp.engine.count(), 2);
}

#[tokio::test]
async fn an_action_that_names_another_operation_is_refused() {
    let erp = erp().await;
    let id = "<w:MessageID xmlns:w='urn:wsa'>7</w:MessageID>";
    let text = envelope(V11, id, "<Cancel xmlns='urn:e'/>");
    for action in ["\"urn:e/Status\"", "urn:e/Status", "\"http://x/y#Status\""] {
        let answer = erp.post_with("text/xml", &[("soapaction", action)], &text).await;
        assert!(answer.is_fault(500, "1.1", "Client").contains("does not belong"), "{action}");
    }
    let answer =
        erp.post_with("text/xml", &[("soapaction", "\"urn:e/Cancel\"")], envelope(V11, "", &status("1"))).await;
    answer.is_fault(500, "1.1", "Client");
    let answer =
        erp.post("application/soap+xml; action=\"urn:e/Status\"", envelope(V12, "", "<Cancel xmlns='urn:e'/>")).await;
    answer.is_fault(400, "1.2", "Sender");
    let twice = [("soapaction", "\"a\""), ("soapaction", "\"b\"")];
    erp.post_with("text/xml", &twice, &text).await.is_fault(500, "1.1", "Client");
    assert_eq!(erp.engine.count(), 0);
    for action in ["", "\"\"", "\"urn:e/Cancel\"", "\"whatever\""] {
        assert_eq!(erp.post_with("text/xml", &[("soapaction", action)], &text).await.status, 200, "{action}");
    }
}

#[tokio::test]
async fn header_blocks_that_must_be_understood_are_understood_or_refused() {
    let erp = erp().await;
    let with = |namespace: &str, attributes: &str| {
        envelope(namespace, &format!("<w:Security xmlns:w='urn:wsse' {attributes}/>"), &status("1"))
    };
    for attributes in
        ["s:mustUnderstand='1'", "s:mustUnderstand='1' s:actor='http://schemas.xmlsoap.org/soap/actor/next'"]
    {
        let reason = erp.post("text/xml", with(V11, attributes)).await.is_fault(500, "1.1", "MustUnderstand");
        assert!(reason.contains("{urn:wsse}Security"), "{reason}");
    }
    let answer = erp.post("application/soap+xml", with(V12, "s:mustUnderstand='true'")).await;
    answer.is_fault(500, "1.2", "MustUnderstand");
    assert_eq!(erp.engine.count(), 0);
    for attributes in ["", "s:mustUnderstand='0'", "mustUnderstand='1'", "s:mustUnderstand='1' s:actor='urn:else'"] {
        assert_eq!(erp.post("text/xml", with(V11, attributes)).await.status, 200, "{attributes}");
    }
}

#[tokio::test]
async fn versions_that_do_not_match_are_told() {
    let erp = erp().await;
    let unknown = envelope("urn:soap-2", "", &status("1"));
    assert!(erp.post("text/xml", &unknown).await.is_fault(500, "1.1", "VersionMismatch").contains("urn:soap-2"));
    erp.post("application/soap+xml", &unknown).await.is_fault(500, "1.1", "VersionMismatch");
    erp.post("application/soap+xml", envelope(V11, "", &status("1"))).await.is_fault(500, "1.1", "VersionMismatch");
    erp.post("text/xml", envelope(V12, "", &status("1"))).await.is_fault(500, "1.2", "VersionMismatch");
    assert_eq!(erp.engine.count(), 0);
}

#[tokio::test]
async fn malformed_xml_is_a_client_fault_with_its_place() {
    let erp = erp().await;
    let fine = envelope(V11, "", &status("1"));
    let bad: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{}".to_vec(),
        b"<html/>".to_vec(),
        format!("{fine}<x/>").into_bytes(),
        format!("{fine} trailing").into_bytes(),
        fine.replace("D-", "\0").replace('1', "\0").into_bytes(),
        fine.replace("<e:Line>1", "<e:Line>&#0;").into_bytes(),
        fine.replace("<e:Line>1", "<q:Line>1").into_bytes(),
        fine.replace("<e:Status ", "<e:Status a='' a='' ").into_bytes(),
        fine.replace("<e:Status ", "<e:Status xmlns:f='urn:e' e:a='' f:a='' ").into_bytes(),
        [fine.as_bytes(), b"\xFF"].concat(),
        fine.replace("<s:Body>", "<s:Body>text").into_bytes(),
        gatehouse_core::charset::encode(&fine, "utf-16").unwrap(),
    ];
    for body in &bad {
        let media = "text/xml; charset=utf-8";
        let shown = String::from_utf8_lossy(body).into_owned();
        let answer = erp.post(media, body).await;
        assert!(!answer.is_fault(500, "1.1", "Client").is_empty(), "{shown}");
        let answer = erp.post("application/soap+xml; charset=utf-8", body).await;
        // An envelope of 1.1 that cannot be read to its end is answered in the version of its content type.
        assert!(matches!(answer.status, 400 | 500), "{shown}");
    }
    for doctype in [
        "<!DOCTYPE x [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>",
        "<!DOCTYPE x SYSTEM 'http://127.0.0.1:1/x.dtd'>",
        "<!DOCTYPE l [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;'>]>",
    ] {
        let answer = erp.post("text/xml", format!("{doctype}{}", fine.replace("<e:Line>1", "<e:Line>&x;"))).await;
        assert!(answer.is_fault(500, "1.1", "Client").contains("DOCTYPE"));
        assert!(!answer.text.contains("root:"));
    }
    let answer = erp.post("application/soap+xml", "<a><b></a>").await;
    assert_eq!(answer.is_fault(400, "1.2", "Sender"), "`</a>` where `</b>` is due (line 1, column 7)");
    assert_eq!(erp.engine.count(), 0);
}

#[tokio::test]
async fn a_request_cut_at_any_byte_is_never_accepted() {
    let erp = erp().await;
    let fine = envelope(V11, "<h/>", &status("D-1"));
    for cut in 0..fine.len() {
        erp.post("text/xml", &fine.as_bytes()[..cut]).await.is_fault(500, "1.1", "Client");
    }
    assert_eq!(erp.engine.count(), 0);
    assert_eq!(erp.post("text/xml", &fine).await.status, 200);
}

#[tokio::test]
async fn addressing_is_understood_and_answers_never_go_elsewhere() {
    let erp = erp().await;
    let wsa = |more: &str| {
        format!(
            "<a:Action xmlns:a='http://www.w3.org/2005/08/addressing' s:mustUnderstand='1' xmlns:s='{V11}'>urn:e/Status</a:Action>\
         <a:MessageID xmlns:a='http://www.w3.org/2005/08/addressing'>uuid:7</a:MessageID>\
         <a:To xmlns:a='http://www.w3.org/2005/08/addressing' s:mustUnderstand='1' xmlns:s='{V11}'>http://me/</a:To>{more}"
        )
    };
    let answer = erp.post("text/xml", envelope(V11, &wsa(""), &status("W-1"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let header = answer.header.unwrap();
    let own = |local: &str| header.child_in(Some("http://www.w3.org/2005/08/addressing"), local).unwrap().text();
    assert_eq!((own("RelatesTo").as_str(), own("Action").as_str()), ("uuid:7", "urn:e/StatusResponse"));
    let elsewhere = "<a:ReplyTo xmlns:a='http://www.w3.org/2005/08/addressing'><a:Address>http://169.254.169.254/</a:Address></a:ReplyTo>";
    let answer = erp.post("text/xml", envelope(V11, &wsa(elsewhere), &status("W-2"))).await;
    assert!(answer.is_fault(500, "1.1", "Client").contains("same connection"), "{}", answer.text);
    let answer =
        erp.post_with("text/xml", &[("soapaction", "\"urn:e/Cancel\"")], envelope(V11, &wsa(""), &status("W-3"))).await;
    answer.is_fault(500, "1.1", "Client");
    // A fault says which message it answers.
    let answer = erp.post("text/xml", envelope(V11, &wsa(""), &status(""))).await;
    answer.is_fault(500, "1.1", "Client");
    let header = answer.header.unwrap();
    let own = |local: &str| header.child_in(Some("http://www.w3.org/2005/08/addressing"), local).unwrap().text();
    assert_eq!(own("RelatesTo"), "uuid:7");
    assert_eq!(own("Action"), "http://www.w3.org/2005/08/addressing/soap/fault");
    assert_eq!(erp.engine.count(), 1);
}

#[tokio::test]
async fn attachments_arrive_in_the_body() {
    let erp = erp().await;
    let include = "<t:Status xmlns:t='urn:e'><Head><No>M-1</No></Head><File><i:Include xmlns:i='http://www.w3.org/2004/08/xop/include' href='cid:f1'/></File></t:Status>";
    for (namespace, media, inner) in [
        (V11, "application/xop+xml", "text/xml"),
        (V12, "application/xop+xml", "application/soap+xml"),
        (V11, "text/xml", "text/xml"),
    ] {
        let text = envelope(namespace, "", include);
        let body = format!(
            "--b\r\nContent-Type: {media}; charset=UTF-8; type=\"{inner}\"\r\nContent-ID: <root>\r\n\r\n{text}\r\n--b\r\nContent-Id: <f1>\r\n\
             Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n\u{1}\u{2}\r\n\r\n--b--\r\n"
        );
        let outer =
            format!("multipart/related; boundary=b; type=\"{media}\"; start=\"<root>\"; start-info=\"{inner}\"");
        let answer = erp.post(&outer, body).await;
        assert_eq!((answer.status, answer.namespace.as_str()), (200, namespace), "{}", answer.text);
        let (_, arrival) = erp.engine.last();
        assert_eq!(json::encode(&arrival.body), r#"{"Head":{"No":"M-1"},"File":"AQINCg=="}"#.as_bytes());
    }
    let count = erp.engine.count();
    let missing = format!("--b\r\n\r\n{}\r\n--b--", envelope(V11, "", include));
    let answer = erp.post("multipart/related; boundary=b; type=\"text/xml\"", missing).await;
    assert!(answer.is_fault(500, "1.1", "Client").contains("cid:f1"), "{}", answer.text);
    assert_eq!(erp.engine.count(), count, "nothing of it was published");
}

/// What differs from attempt to attempt does not make another message of it: its body is what its id is held against.
#[tokio::test]
async fn what_comes_again_is_told_by_its_body() {
    let erp = erp().await;
    let parts = |boundary: &str, no: &str| {
        let include = format!(
            "<t:Status xmlns:t='urn:e'><Head><No>{no}</No></Head><File><i:Include xmlns:i='http://www.w3.org/2004/08/xop/include' href='cid:{boundary}'/></File></t:Status>"
        );
        let text = envelope(V11, "", &include);
        let body = format!(
            "--{boundary}\r\nContent-Type: application/xop+xml; charset=UTF-8; type=\"text/xml\"\r\nContent-ID: <root>\r\n\r\n{text}\r\n--{boundary}\r\n\
             Content-Id: <{boundary}>\r\n\r\nbytes\r\n--{boundary}--\r\n"
        );
        (
            format!(
                "multipart/related; boundary={boundary}; type=\"application/xop+xml\"; start=\"<root>\"; start-info=\"text/xml\""
            ),
            body,
        )
    };
    let addressed = |id: &str, no: &str| {
        let id = format!("<a:MessageID xmlns:a='http://www.w3.org/2005/08/addressing'>{id}</a:MessageID>");
        ("text/xml".to_owned(), envelope(V11, &id, &status(no)))
    };
    let secured = |nonce: &str, no: &str| {
        let wsse = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
        let block = format!("<w:Security xmlns:w='{wsse}'><w:Nonce>{nonce}</w:Nonce></w:Security>");
        ("text/xml".to_owned(), envelope(V11, &block, &status(no)))
    };
    let original = async |(media, body): (String, String)| {
        let answer = erp.post(&media, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let (_, arrival) = erp.engine.last();
        assert_eq!(
            (arrival.original.as_ref(), &*arrival.content_type),
            (&*json::encode(&arrival.body), "application/json")
        );
        arrival.original
    };
    let attempts = [("one", "D-1"), ("two", "D-1"), ("one", "D-2")];
    for [first, second, other] in [
        attempts.map(|(attempt, no)| parts(attempt, no)),
        attempts.map(|(attempt, no)| addressed(attempt, no)),
        attempts.map(|(attempt, no)| secured(attempt, no)),
    ] {
        let first = original(first).await;
        assert_eq!(original(second).await, first);
        assert_ne!(original(other).await, first);
    }
}

/// A password in a security block is for the judge of it alone: mappings do not see it, and letters do not keep it.
#[tokio::test]
async fn what_proves_a_caller_goes_no_further() {
    let erp = erp().await;
    let wsse = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    let block = format!(
        "<w:Security xmlns:w='{wsse}'><w:UsernameToken><w:Username>bus</w:Username><w:Password>streng geheim</w:Password></w:UsernameToken></w:Security>\
         <t:Ctx xmlns:t='urn:t'>c</t:Ctx>"
    );
    assert_eq!(erp.post("text/xml", envelope(V11, &block, &status("D-1"))).await.status, 200);
    let (_, arrival) = erp.engine.last();
    let headers: Value = [("Ctx", "c")].into_iter().collect();
    assert_eq!(arrival.meta.field("headers"), Some(&headers));
    assert!(!format!("{arrival:?}").contains("streng"), "{arrival:?}");
}

/// A token whose message the engine could not take is good once more.
#[tokio::test]
async fn a_digest_is_good_until_its_message_is_taken() {
    let file = "version: 1\nsystem: erp\nadapter: soap\naccept: { username_token: { username: bus, password: '${env:P}', text: true } }\nendpoints:\n  \
        Op: { listen: /soap/op, namespace: 'urn:o', id: No }\n";
    let erp = listening(file, "/soap/op").await;
    let wsse = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    let block = format!(
        "<w:Security xmlns:w='{wsse}'><w:UsernameToken><w:Username>bus</w:Username><w:Password>geheim</w:Password><w:Nonce>bm9uY2U=</w:Nonce></w:UsernameToken></w:Security>"
    );
    let post = async |body: &str| {
        let request = Request::builder().method(Method::POST).uri(erp.client.url("/soap/op").unwrap());
        let request = request.header("content-type", "text/xml").body(envelope(V11, &block, body).into()).unwrap();
        tokio::time::timeout(PATIENCE, erp.client.send(request)).await.unwrap().unwrap().status().as_u16()
    };
    let fine = "<Op xmlns='urn:o'><No>1</No></Op>";
    assert_eq!(post("<Op xmlns='urn:o'/>").await, 500, "no id");
    *erp.engine.refuses.lock().unwrap() = Some(Fault::new(Code::Unavailable, "later"));
    assert_eq!(post(fine).await, 503);
    *erp.engine.refuses.lock().unwrap() = None;
    assert_eq!(post(fine).await, 200);
    assert_eq!(post(fine).await, 401, "sent again");
    assert_eq!(erp.engine.count(), 1);
}

/// As others write it: the envelope last, `start` without quotes or brackets, `Content-Id`, in chunks of seven bytes. The reply's bytes go
/// as parts, and what a peer reads of them is what was sent.
#[tokio::test]
async fn attachments_come_in_chunks_and_go_as_parts() {
    let erp = erp().await;
    let doc = "<Doc><File>cid:f%201</File></Doc><Doc><File><i:Include xmlns:i='http://www.w3.org/2004/08/xop/include' href='cid:f2'/></File></Doc>";
    let text = envelope(V12, "", &format!("<t:Scan xmlns:t='urn:e'>{doc}</t:Scan>"));
    let body = format!(
        "--b\r\nContent-Id: <f 1>\r\n\r\none\r\n--b\r\ncontent-id: f2\r\nContent-Transfer-Encoding: base64\r\n\r\ndHdv\r\n--b\r\nContent-ID: <root>\r\n\
         Content-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"\r\n\r\n{text}\r\n--b--"
    );
    let mut request = "POST /soap/erp HTTP/1.1\r\nHost: x\r\nX-Api-Key: geheim\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/related; \
        start=root; type=\"application/xop+xml\"; start-info=\"application/soap+xml\"; boundary=b\r\n\r\n"
        .to_owned()
        .into_bytes();
    for chunk in body.as_bytes().chunks(7) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let mut stream = tokio::net::TcpStream::connect(erp.serving.door.addr()).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (_, arrival) = erp.engine.last();
    assert_eq!(json::encode(&arrival.body), br#"{"Doc":[{"File":"b25l"},{"File":"dHdv"}]}"#, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("start-info=\"application/soap+xml\""), "{answer}");
    for part in ["one", "two"] {
        assert!(answer.contains(&format!("\r\n\r\n{part}\r\n--gatehouse-")), "{answer}");
    }
    assert_eq!(answer.matches("href=\"cid:part").count(), 2, "{answer}");
}

#[tokio::test]
async fn a_connection_cut_at_any_byte_brings_no_arrival() {
    let erp = erp().await;
    let body = envelope(V11, "", &status("D-1"));
    let head = format!(
        "POST /soap/erp HTTP/1.1\r\nHost: x\r\nX-Api-Key: geheim\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = format!("{head}{body}");
    for cut in (0..request.len()).step_by(7) {
        let mut stream = tokio::net::TcpStream::connect(erp.serving.door.addr()).await.unwrap();
        stream.write_all(&request.as_bytes()[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Closed without an answer, or with a no; a reset is fine too.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "cut at {cut}");
    }
    assert_eq!(erp.engine.count(), 0);
}

#[tokio::test]
async fn http_has_its_own_refusals() {
    let erp = erp().await;
    let key = ("x-api-key", "geheim");
    let fine = envelope(V11, "", &status("1"));
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = Answer::read(erp.send(method, "/soap/erp", &[key], b"").await);
        answer.is_fault(405, "1.1", "Client");
        assert_eq!(answer.headers["allow"], "POST");
    }
    for media in ["application/json", "application/xml", "multipart/form-data; boundary=x", ""] {
        let reason = erp.post(media, &fine).await.is_fault(415, "1.1", "Client");
        assert!(reason.contains("text/xml"), "{reason}");
    }
    erp.post_with("text/xml", &[("content-encoding", "gzip")], &fine).await.is_fault(415, "1.1", "Client");
    Answer::read(erp.send(Method::GET, "/soap/erp", &[], b"").await).is_fault(401, "1.1", "Client");
    for headers in [&[("content-type", "text/xml")][..], &[("content-type", "text/xml"), ("x-api-key", "falsch")]] {
        let answer = Answer::read(erp.send(Method::POST, "/soap/erp", headers, fine.as_bytes()).await);
        answer.is_fault(401, "1.1", "Client");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let headers = [key, ("content-type", "text/xml")];
    Answer::read(erp.send(Method::POST, "/soap/erp/below", &headers, fine.as_bytes()).await)
        .is_fault(404, "1.1", "Client");
    assert_eq!(erp.engine.count(), 0);
}

#[tokio::test]
async fn limits_are_those_of_the_operation() {
    let erp = erp().await;
    let long = "x".repeat(3000);
    // The path takes what its largest operation takes; the operation itself takes less.
    let answer = erp.post("text/xml", envelope(V11, "", &format!("<Cancel xmlns='urn:e'>{long}</Cancel>"))).await;
    answer.is_fault(413, "1.1", "Client");
    assert_eq!(erp.post("text/xml", envelope(V11, "", &status(&long[..200]))).await.status, 200);
    let answer = erp.post("text/xml", envelope(V11, "", &status(&long))).await;
    assert!(answer.is_fault(500, "1.1", "Client").contains("message id"));
    let headers = [("x-api-key", "geheim"), ("content-type", "text/xml")];
    let alone = envelope(V11, "", &format!("<Alone>{}</Alone>", "x".repeat(65 << 10)));
    Answer::read(erp.send(Method::POST, "/soap/alone", &headers, alone.as_bytes()).await)
        .is_fault(413, "1.1", "Client");
    let alone = envelope(V11, "", "<Alone/>");
    assert_eq!(erp.send(Method::POST, "/soap/alone", &headers, alone.as_bytes()).await.status(), 200);
    // It declares no id, so the engine makes one.
    assert_eq!(erp.engine.last().1.id, None);
    assert_eq!(erp.engine.count(), 2);
}

#[tokio::test]
async fn hostile_envelopes_are_cut_short() {
    let erp = erp().await;
    let attributes: String = (0..80_000).map(|n| format!(" a{n}=''")).collect();
    let namespaces: String = (0..300).map(|n| format!(" xmlns:n{n}='u'")).collect();
    for body in [
        "<a>".repeat(100_000),
        format!("<a{attributes}/>"),
        format!("<a{namespaces}/>"),
        format!("<{}/>", "n".repeat(900_000)),
        "<h/>".repeat(200_000),
    ] {
        let start = Instant::now();
        let answer = erp.post("text/xml", envelope(V11, &body, "")).await;
        answer.is_fault(413, "1.1", "Client");
        assert!(start.elapsed() < Duration::from_secs(5), "{:.20} took {:?}", body, start.elapsed());
    }
    assert_eq!(erp.engine.count(), 0);
}

#[tokio::test]
async fn the_engines_no_is_told_in_the_callers_version() {
    let erp = erp().await;
    let say = |fault: Fault| *erp.engine.refuses.lock().unwrap() = Some(fault);
    let (one, two) = (envelope(V11, "", &status("D-1")), envelope(V12, "", &status("D-1")));
    let violations = vec![Violation { pointer: "/no".to_owned(), message: "</x> is \"bad\"".to_owned() }];
    say(Fault::new(Code::Invalid, "the body <breaks> its type ]]> & more")
        .private("SELECT secret")
        .violations(violations));
    let answer = erp.post("text/xml", &one).await;
    assert_eq!(answer.is_fault(500, "1.1", "Client"), "the body <breaks> its type ]]> & more");
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    let detail = answer.detail();
    assert_eq!(detail.child("code").unwrap().text(), "invalid");
    assert_eq!(detail.child("messageId").unwrap().text(), "D-1");
    assert_eq!(detail.child("violation").unwrap().text(), "</x> is \"bad\"");
    erp.post("application/soap+xml", &two).await.is_fault(400, "1.2", "Sender");

    let unavailable = Fault::new(Code::Unavailable, "later").verdict(Verdict::RetryAfter(Duration::from_secs(9)));
    let cases = [
        (unavailable.clone().about("m-9"), 503, "Server", "Receiver", Some("9")),
        (Fault::new(Code::Unknown, "?").about("m-9"), 503, "Server", "Receiver", Some("2")),
        (Fault::new(Code::Deadline, "too late").about("m-9"), 504, "Server", "Receiver", None),
        (Fault::new(Code::Internal, "oops").about("m-9"), 500, "Server", "Receiver", None),
    ];
    for (fault, status, code_11, code_12, wait) in cases {
        say(fault);
        for (media, text, version, code) in
            [("text/xml", &one, "1.1", code_11), ("application/soap+xml", &two, "1.2", code_12)]
        {
            let answer = erp.post(media, text).await;
            answer.is_fault(status, version, code);
            assert_eq!(answer.detail().child("messageId").unwrap().text(), "m-9");
            assert_eq!(answer.headers.get("retry-after").map(|value| value.to_str().unwrap()), wait);
        }
    }
    // Before anything is read.
    *erp.engine.closed.lock().unwrap() = Some(unavailable);
    assert_eq!(erp.post("text/xml", &one).await.headers["retry-after"], "9");
    let throttled = Fault::new(Code::Throttled, "slow").verdict(Verdict::RetryAfter(Duration::from_secs(1)));
    *erp.engine.closed.lock().unwrap() = Some(throttled);
    let answer = erp.post("text/xml", &one).await;
    answer.is_fault(429, "1.1", "Server");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(erp.engine.count(), 0);
}

#[tokio::test]
async fn legacy_charsets_arrive() {
    let erp = erp().await;
    let text = format!("<?xml version=\"1.0\" encoding=\"GBK\"?>{}", envelope(V11, "", &status("D-1")));
    for (media, label) in
        [("text/xml", "gbk"), ("text/xml; charset=gb2312", "gbk"), ("text/xml; charset=utf-16", "utf-16")]
    {
        let answer = erp.post(media, gatehouse_core::charset::encode(&text, label).unwrap()).await;
        assert_eq!(answer.status, 200, "{media}: {}", answer.text);
        let lines = erp.engine.last().1.body.field("Line").cloned();
        assert_eq!(lines, Some(Value::from(vec!["1", "订单"])));
    }
    erp.post("text/xml; charset=utf-7", &text).await.is_fault(500, "1.1", "Client");
}

#[tokio::test]
async fn a_reply_that_cannot_be_made_is_still_a_yes() {
    let erp = erp().await;
    // The message is with the engine: a fault would bring it a second time.
    *erp.engine.reply.lock().unwrap() = Some([("a b", "x")].into_iter().collect());
    let text = envelope(V11, "<w:MessageID xmlns:w='urn:wsa'>7</w:MessageID>", "<Cancel xmlns='urn:e'/>");
    let answer = erp.post("text/xml", text).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.name.is(Some("urn:e"), "CancelResponse") && answer.body.children.is_empty());
    let header = answer.header.unwrap();
    assert!(header.child_in(Some("urn:gatehouse"), "ReplyError").unwrap().text().contains("`CancelResponse.a b`"));
}

/// What cannot be written is found late, when the reply is put into its envelope: its blocks go all the same, its parts do not.
#[tokio::test]
async fn a_yes_says_what_is_wrong_with_its_reply() {
    let file = "version: 1\nsystem: erp\nadapter: soap\nendpoints:\n  Op: { listen: /soap/op, namespace: 'urn:o', type: paper, attachments: { as: swa }, \
        reply: { type: paper, body: { text: reply, file: '\"AQI=\"' }, headers: [{ name: H, namespace: 'urn:h', value: message_id }] } }\n";
    let erp = listening(file, "/soap/op").await;
    let id = "<a:MessageID xmlns:a='http://www.w3.org/2005/08/addressing'>uuid:7</a:MessageID>";
    let send = async |reply: &str| {
        *erp.engine.reply.lock().unwrap() = Some(Value::from(reply));
        let request = Request::builder().method(Method::POST).uri(erp.client.url("/soap/op").unwrap());
        let text = envelope(V11, id, "<Op xmlns='urn:o'><text>x</text></Op>");
        let request = request.header("content-type", "text/xml").body(Bytes::from(text)).unwrap();
        tokio::time::timeout(PATIENCE, erp.client.send(request)).await.unwrap().unwrap()
    };
    let fine = send("fine").await;
    assert!(fine.headers()["content-type"].to_str().unwrap().starts_with("multipart/related"), "{fine:?}");
    let answer = Answer::read(send("\u{1}").await);
    assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, "text/xml; charset=utf-8"));
    assert!(answer.body.name.is(Some("urn:o"), "OpResponse") && answer.body.children.is_empty());
    let header = answer.header.expect("header blocks");
    let own = |namespace: &str, local: &str| header.child_in(Some(namespace), local).unwrap().text();
    assert_eq!(own("urn:gatehouse", "ReplyError"), "U+0001 is no character of XML");
    assert_eq!(own("http://www.w3.org/2005/08/addressing", "RelatesTo"), "uuid:7");
    let blocks = [("urn:gatehouse", "MessageId"), ("urn:h", "H")];
    assert_eq!(blocks.map(|(namespace, local)| own(namespace, local)), ["generated", "generated"]);
}

#[tokio::test]
async fn a_system_that_stops_is_gone_from_the_door() {
    let mut erp = erp().await;
    erp.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(PATIENCE, &mut erp.running).await.unwrap().unwrap().unwrap();
    assert_eq!(erp.send(Method::POST, "/soap/erp", &[], b"").await.status(), 404);
}
