//! Calls to a stand-in peer: what goes over the wire, and what each answer means.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Fixed, Peer, Serving, V11, V12, call, envelope, message, serving, system};
use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Outbound, Reply};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_net::door::Mount;

struct Erp {
    peer: Arc<Peer>,
    outbound: Arc<dyn Outbound>,
    _mount: Mount,
    _serving: Serving,
}

async fn erp(extra: &str) -> Erp {
    let serving = serving().await;
    let peer = Peer::new();
    let mount = serving.door.mount("/ws", peer.clone()).unwrap();
    let text = format!("version: 1\nsystem: erp\nadapter: soap\naddress: http://{}/ws\n{extra}", serving.door.addr());
    let outbound = system(None, &text).connect(&Fixed).await.unwrap();
    Erp { peer, outbound, _mount: mount, _serving: serving }
}

fn order() -> Value {
    [("no", Value::from("A<1>")), ("客户", Value::List(vec![Value::from("x"), Value::Null]))].into_iter().collect()
}

impl Erp {
    async fn call(&self, endpoint: &str) -> Result<Reply, Fault> {
        self.call_with(endpoint, &order()).await
    }

    async fn call_with(&self, endpoint: &str, body: &Value) -> Result<Reply, Fault> {
        let message = message();
        let call = Call {
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ..call(endpoint, body, &message)
        };
        tokio::time::timeout(common::PATIENCE, self.outbound.deliver(call)).await.unwrap()
    }

    async fn fault(&self, endpoint: &str) -> Fault {
        self.call(endpoint).await.expect_err(endpoint)
    }
}

const SIMPLE: &str = "endpoints:\n  Op: { namespace: urn:o }\n  Quiet: { namespace: urn:o, one_way: true }\n";

fn fault_11(code: &str, text: &str) -> String {
    envelope(
        V11,
        "",
        &format!(
            "<s:Fault><faultcode>{code}</faultcode><faultstring>{text}</faultstring><detail><stack>at com.x</stack></detail></s:Fault>"
        ),
    )
}

#[tokio::test]
async fn a_call_of_1_1_is_written_as_the_file_says() {
    let erp = erp(
        "auth: { basic: { username: bus, password: '${env:P}' } }\nendpoints:\n  Op:\n    operation: Create\n    namespace: urn:o\n    qualified: false\n    \
         headers:\n      - { name: Ctx, namespace: urn:c, must_understand: true, value: { Key: message.key, Fix: '\"&\"', No: body.no } }\n  \
         Plain: { action: 'urn:o/Plain', delivery_id: false, element: Z.Plain, path: /sub }\n",
    )
    .await;
    erp.peer.answers(200, "text/xml; charset=utf-8", &envelope(V11, "", "<r xmlns='urn:o'><x>1</x></r>"));
    let reply = erp.call("Op").await.unwrap();
    assert_eq!(reply.body, [("x", "1")].into_iter().collect());
    let got = erp.peer.last();
    assert_eq!(got.headers["content-type"], "text/xml; charset=utf-8");
    assert_eq!(got.headers["soapaction"], "\"\"");
    assert_eq!(got.headers["idempotency-key"], "d-1");
    assert!(got.headers["traceparent"].to_str().unwrap().starts_with("00-0af7"));
    assert_eq!(got.headers["authorization"], "Basic YnVzOmdlaGVpbQ==");
    let expected = "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\" \
                    xmlns:m=\"urn:o\"><soap:Header><DeliveryId xmlns=\"urn:gatehouse\">d-1</DeliveryId><Ctx xmlns=\"urn:c\" \
                    soap:mustUnderstand=\"1\"><Key>4711</Key><Fix>&amp;</Fix><No>A&lt;1&gt;</No></Ctx></soap:Header><soap:Body>\
                    <m:Create><no>A&lt;1&gt;</no><客户>x</客户><客户 xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                    xsi:nil=\"true\"/></m:Create></soap:Body></soap:Envelope>";
    assert_eq!(got.body, expected);

    erp.call("Plain").await.unwrap();
    let got = erp.peer.last();
    assert_eq!(got.path, "/ws/sub");
    assert_eq!(got.headers["soapaction"], "\"urn:o/Plain\"");
    assert!(!got.body.contains("DeliveryId") && got.body.contains("<Z.Plain>"), "{}", got.body);
}

#[tokio::test]
async fn a_call_of_1_2_has_its_action_in_the_content_type() {
    let erp = erp("soap: '1.2'\nendpoints:\n  Op: { namespace: urn:o, action: 'urn:o#Op' }\n").await;
    erp.peer.answers(200, "application/soap+xml", &envelope(V12, "", "<r/>"));
    erp.call("Op").await.unwrap();
    let got = erp.peer.last();
    assert_eq!(got.headers["content-type"], "application/soap+xml; charset=utf-8; action=\"urn:o#Op\"");
    assert!(!got.headers.contains_key("soapaction"));
    assert!(
        got.body.contains("http://www.w3.org/2003/05/soap-envelope") && got.body.contains("<m:no>"),
        "{}",
        got.body
    );
}

#[tokio::test]
async fn legacy_charsets_go_both_ways() {
    let erp = erp("charset: GBK\nendpoints:\n  Op: {}\n").await;
    let answer = envelope(V11, "", "<r><x>订单</x></r>");
    let answer = gatehouse_core::charset::encode(&answer, "gbk").unwrap();
    erp.peer.answers_with(200, &[("content-type", "text/xml; charset=gb2312")], &answer);
    assert_eq!(erp.call("Op").await.unwrap().body, [("x", "订单")].into_iter().collect());
    let got = erp.peer.last();
    assert_eq!(got.headers["content-type"], "text/xml; charset=gbk");
    assert!(got.body.contains("encoding=\"GBK\""), "{}", got.body);
}

#[tokio::test]
async fn a_fault_is_never_a_yes() {
    let erp = erp(SIMPLE).await;
    let twelve = |code: &str| {
        envelope(
            V12,
            "",
            &format!(
                "<s:Fault><s:Code><s:Value>s:{code}</s:Value></s:Code><s:Reason><s:Text xml:lang='en'>no</s:Text></s:Reason></s:Fault>"
            ),
        )
    };
    let cases = [
        (200, fault_11("s:Client", "no"), Code::Refused, Verdict::Reject),
        (500, fault_11("s:Client.Auth", "no"), Code::Refused, Verdict::Reject),
        (200, fault_11("s:Server", "no"), Code::Refused, Verdict::Retry),
        (500, fault_11("s:Server", "no"), Code::Refused, Verdict::Retry),
        (500, fault_11("E17", "no"), Code::Refused, Verdict::Retry),
        (400, fault_11("E17", "no"), Code::Refused, Verdict::Reject),
        (500, fault_11("s:MustUnderstand", "no"), Code::Misconfigured, Verdict::Hold),
        (500, fault_11("s:VersionMismatch", "no"), Code::Misconfigured, Verdict::Hold),
        (400, twelve("Sender"), Code::Refused, Verdict::Reject),
        (500, twelve("Receiver"), Code::Refused, Verdict::Retry),
    ];
    for (status, body, code, verdict) in cases {
        erp.peer.answers(status, "text/xml", &body);
        let fault = erp.fault("Op").await;
        assert_eq!((fault.code, fault.verdict, fault.public.as_str()), (code, verdict, "no"), "{status} {body}");
        assert!(fault.exchange.unwrap().answered.unwrap().contains("Fault"));
    }
    // The peer's stack trace is for support staff only.
    erp.peer.answers(500, "text/xml", &fault_11("s:Server", "no"));
    let fault = erp.fault("Op").await;
    assert!(fault.private.unwrap().contains("at com.x") && !fault.public.contains("com.x"));
}

#[tokio::test]
async fn what_is_no_soap_answer_is_no_yes() {
    let erp = erp(SIMPLE).await;
    let fine = envelope(V11, "", "<r/>");
    let cases: [(u16, &str, &str, Code, Verdict); 13] = [
        (200, "text/html", "<html>login</html>", Code::BadAnswer, Verdict::Retry),
        (200, "text/xml", "", Code::BadAnswer, Verdict::Retry),
        (204, "text/xml", "", Code::BadAnswer, Verdict::Retry),
        (202, "text/xml", "", Code::BadAnswer, Verdict::Retry),
        (200, "text/xml", "<html/>", Code::BadAnswer, Verdict::Retry),
        (200, "multipart/related; boundary=x", "--x", Code::BadAnswer, Verdict::Retry),
        (200, "application/json", "{}", Code::BadAnswer, Verdict::Retry),
        (200, "text/xml", "<!DOCTYPE a><a/>", Code::BadAnswer, Verdict::Retry),
        (500, "text/xml", &fine, Code::BadAnswer, Verdict::Retry),
        (502, "text/html", "<html>proxy</html>", Code::BadAnswer, Verdict::Retry),
        (404, "text/html", "<html>no</html>", Code::Refused, Verdict::Retry),
        (400, "text/plain", "no", Code::Refused, Verdict::Reject),
        (401, "text/html", "no", Code::Misconfigured, Verdict::Hold),
    ];
    for (status, media, body, code, verdict) in cases {
        erp.peer.answers(status, media, body);
        let fault = erp.fault("Op").await;
        assert_eq!((fault.code, fault.verdict), (code, verdict), "{status} {media} {body}: {fault}");
    }
    erp.peer.answers(403, "text/xml", &fault_11("s:Client", "locked out"));
    let fault = erp.fault("Op").await;
    assert_eq!((fault.code, fault.verdict), (Code::Misconfigured, Verdict::Hold));
    assert!(fault.public.ends_with("(HTTP 403): locked out"), "{fault}");
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_is_no_yes() {
    let erp = erp(SIMPLE).await;
    let fine = envelope(V11, "<h/>", "<r xmlns='urn:o'><x>订单</x></r>");
    for cut in 0..fine.len() {
        erp.peer.answers_with(200, &[("content-type", "text/xml")], &fine.as_bytes()[..cut]);
        assert_eq!(erp.fault("Op").await.code, Code::BadAnswer, "cut at {cut}");
    }
    erp.peer.answers(200, "text/xml", &fine);
    assert!(erp.call("Op").await.is_ok());
}

#[tokio::test]
async fn a_busy_system_says_when_to_come_again() {
    let erp = erp(SIMPLE).await;
    for status in [429, 503] {
        erp.peer.answers_with(status, &[("retry-after", "7")], b"");
        assert_eq!(erp.fault("Op").await.verdict, Verdict::RetryAfter(Duration::from_secs(7)));
        erp.peer.answers(status, "text/xml", &fault_11("s:Client", "slow down"));
        let fault = erp.fault("Op").await;
        assert_eq!(fault.verdict, Verdict::Retry);
        assert!(fault.public.ends_with("slow down"), "{fault}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let erp = erp(SIMPLE).await;
    erp.peer.answers_with(302, &[("location", "http://169.254.169.254/")], b"");
    let fault = erp.fault("Op").await;
    assert_eq!((fault.code, fault.verdict), (Code::Misconfigured, Verdict::Hold));
    assert_eq!(erp.peer.got.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_one_way_call_needs_no_answer() {
    let erp = erp(SIMPLE).await;
    for status in [200, 202, 204] {
        erp.peer.answers(status, "text/xml", "");
        assert_eq!(erp.call("Quiet").await.unwrap().body, Value::Null);
    }
    erp.peer.answers(500, "text/xml", "");
    assert_eq!(erp.fault("Quiet").await.code, Code::BadAnswer);
    erp.peer.answers(200, "text/xml", &fault_11("s:Client", "no"));
    assert_eq!(erp.fault("Quiet").await.code, Code::Refused);
}

#[tokio::test]
async fn success_is_what_the_system_says_it_is() {
    let erp = erp("endpoints:\n  Op:\n    success_when: reply.RETURN?.TYPE != \"E\"\n    error_text: reply?.RETURN?.MESSAGE ?? reply.faultstring\n    \
                   retry_when: reply.RETURN.ID == \"LOCKED\"\n")
    .await;
    let answer = |kind: &str, id: &str| {
        envelope(
            V11,
            "",
            &format!("<r><RETURN><TYPE>{kind}</TYPE><ID>{id}</ID><MESSAGE>客户 C-1 被锁定</MESSAGE></RETURN></r>"),
        )
    };
    erp.peer.answers(200, "text/xml", &answer("S", ""));
    assert!(erp.call("Op").await.is_ok());
    erp.peer.answers(200, "text/xml", &answer("E", "BLOCKED"));
    let fault = erp.fault("Op").await;
    assert_eq!((fault.code, fault.verdict, fault.public.as_str()), (Code::Refused, Verdict::Reject, "客户 C-1 被锁定"));
    erp.peer.answers(200, "text/xml", &answer("E", "LOCKED"));
    assert_eq!(erp.fault("Op").await.verdict, Verdict::Retry);
    // The rule holds for a fault too, read as an answer; it has no say there.
    erp.peer.answers(200, "text/xml", &fault_11("s:Client", "no such operation"));
    let fault = erp.fault("Op").await;
    assert_eq!(
        (fault.code, fault.verdict, fault.public.as_str()),
        (Code::Refused, Verdict::Reject, "no such operation")
    );
}

#[tokio::test]
async fn a_rule_for_answers_cannot_take_a_fault_for_a_yes() {
    let erp = erp("endpoints:\n  Op: { success_when: status == 200, error_text: reply.faultstring }\n").await;
    erp.peer.answers(200, "text/xml", &envelope(V11, "", "<r/>"));
    assert!(erp.call("Op").await.is_ok());
    erp.peer.answers(200, "text/xml", &fault_11("s:Client", "no"));
    assert_eq!(erp.fault("Op").await.public, "no");
}

#[tokio::test]
async fn what_xml_cannot_carry_is_the_messages_fault() {
    let erp = erp(SIMPLE).await;
    let message = message();
    let body = [("a b", "x")].into_iter().collect();
    let call = call("Op", &body, &message);
    let fault = erp.outbound.deliver(call).await.unwrap_err();
    assert_eq!((fault.code, fault.verdict), (Code::Invalid, Verdict::Reject));
    assert!(fault.public.contains("`Op.a b` is no XML name"), "{fault}");
    assert!(erp.peer.got.lock().unwrap().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_probe_leaves_no_trace() {
    let erp = erp(SIMPLE).await;
    erp.peer.answers(405, "text/plain", "");
    assert_eq!(erp.outbound.probe().await.unwrap(), "answers (HTTP 405 to GET)");
    assert!(erp.peer.last().body.is_empty());
    erp.peer.answers(401, "text/plain", "");
    assert_eq!(erp.outbound.probe().await.unwrap_err().verdict, Verdict::Hold);
    erp.peer.answers(503, "text/plain", "");
    assert_eq!(erp.outbound.probe().await.unwrap_err().verdict, Verdict::Retry);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let outbound =
        system(None, &format!("version: 1\nsystem: erp\nadapter: soap\naddress: http://127.0.0.1:1/ws\n{SIMPLE}"))
            .connect(&Fixed)
            .await
            .unwrap();
    let fault = outbound.probe().await.unwrap_err();
    assert_eq!((fault.code, fault.verdict), (Code::Unreachable, Verdict::Retry));
}

#[tokio::test]
async fn bytes_are_sent_as_parts_where_the_file_says_so() {
    let erp = erp("endpoints:\n  Mtom: { namespace: urn:o, attachments: { as: mtom, at: [doc.scan] } }\n  \
                  Swa: { namespace: urn:o, attachments: { as: swa, above: 1KiB, at: [doc.scan] } }\n")
    .await;
    erp.peer.answers(200, "text/xml", &envelope(V11, "", "<r/>"));
    let body: Value =
        [("no", Value::from("1")), ("doc", [("scan", "aGVsbG8=")].into_iter().collect())].into_iter().collect();
    erp.call_with("Mtom", &body).await.unwrap();
    let got = erp.peer.last();
    let media = got.headers["content-type"].to_str().unwrap();
    assert!(media.starts_with("multipart/related; type=\"application/xop+xml\"; start=\"<envelope."), "{media}");
    assert!(media.contains("start-info=\"text/xml\""), "{media}");
    assert_eq!(got.headers["soapaction"], "\"\"");
    assert_eq!(got.headers["accept"], "text/xml, multipart/related");
    assert!(got.body.contains("<scan xmlns=\"urn:o\"><Include") || got.body.contains("scan><Include"), "{}", got.body);
    assert!(got.body.contains("\r\n\r\nhello\r\n--") && !got.body.contains("aGVsbG8="), "{}", got.body);
    erp.call_with("Swa", &body).await.unwrap();
    let got = erp.peer.last();
    assert_eq!(got.headers["content-type"], "text/xml; charset=utf-8");
    assert!(got.body.contains("aGVsbG8="), "it is small and stays: {}", got.body);

    let bad: Value = [("doc", [("scan", "no Base64!")].into_iter().collect::<Value>())].into_iter().collect();
    let fault = erp.call_with("Mtom", &bad).await.unwrap_err();
    assert_eq!((fault.code, fault.verdict), (Code::Invalid, Verdict::Reject));
    assert!(fault.public.contains("what is in `scan` is no Base64"), "{}", fault.public);
}

/// What only the system may know has stars in what people are shown, whatever charset the call is in, and whoever says it.
#[tokio::test]
async fn a_secret_is_not_shown_in_any_charset() {
    let call = "auth: { username_token: { username: bus, password: '${env:P}' } }\nlogin: { endpoint: In, body: '1', token: reply.Id, \
        header: { name: Session, namespace: 'urn:s', must_understand: true, value: { Id: token } } }\nendpoints:\n  In: { namespace: 'urn:o' }\n  \
        Op: { namespace: 'urn:o', success_when: '1 == 2' }\n";
    for charset in ["UTF-8", "GBK", "UTF-16", "windows-1252"] {
        let erp = erp(&format!("charset: {charset}\n{call}")).await;
        let token = "令牌 & co";
        let answer = envelope(V11, "", "<In><Id>令牌 &amp; co</Id></In>");
        let answer = gatehouse_core::charset::encode(&answer, "GB18030").unwrap();
        erp.peer.answers_with(200, &[("content-type", "text/xml; charset=GB18030")], &answer);
        let exchange = erp.call_with("Op", &Value::map()).await.unwrap_err().exchange.unwrap();
        let (sent, answered) = (exchange.sent.unwrap(), exchange.answered.unwrap());
        // As `Exchange` shows bytes.
        let shown = |text: &str, charset: &str| {
            let bytes = gatehouse_core::charset::encode(text, charset).unwrap_or_default();
            let mark = gatehouse_core::charset::encode("", charset).unwrap().len();
            String::from_utf8_lossy(bytes.get(mark..).unwrap_or_default()).into_owned()
        };
        assert_eq!(sent.matches(&shown("***", charset)).count(), 2, "{sent}");
        for secret in [token, "令牌 &amp; co", "&#20196;", "geheim"].map(|text| shown(text, charset)) {
            assert!(secret.is_empty() || !sent.contains(&secret), "{charset}: {secret:?} in {sent}");
        }
        assert!(!answered.contains(&shown("令牌", "GB18030")) && answered.contains("***"), "{charset}: {answered}");
    }
}

/// The block that a login fills is written as any other, with what the file says of it.
#[tokio::test]
async fn the_block_of_a_login_is_a_header_block() {
    let erp = erp("login: { endpoint: In, body: '1', token: reply.Id, header: { name: Session, namespace: 'urn:s', must_understand: true, \
         value: { Id: token } } }\nendpoints:\n  In: { namespace: 'urn:o' }\n  Op: { namespace: 'urn:o' }\n")
    .await;
    erp.peer.answers(200, "text/xml", &envelope(V11, "", "<In><Id>t-1</Id></In>"));
    erp.call("Op").await.unwrap();
    let sent = erp.peer.last().body;
    assert!(sent.contains("<Session xmlns=\"urn:s\" soap:mustUnderstand=\"1\"><Id>t-1</Id></Session>"), "{sent}");
}
