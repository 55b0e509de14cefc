//! Header blocks and faults that a WSDL declares, in both directions: written and read by their schemas, seen by the rules.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{
    Fixed, Listening, PATIENCE, Peer, Serving, V11, V12, call, check, envelope, listening, message, serving, system,
};
use gatehouse_core::Value;
use gatehouse_core::adapter::{Outbound, Reply};
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::fault::{Code, Fault, Verdict, Violation};
use gatehouse_net::door::Mount;
use gatehouse_soap::connect::Description;
use http::{Method, Request};

const OUT: &str = "wsdl: wsdl/place.wsdl
endpoints:
  Place:
    delivery_id: false
    headers: [{ name: Session, must_understand: true, value: { Role: '[\"a\", \"b\"]', Level: '7', Id: message.key } }]
    understands: [{ name: Known, namespace: 'urn:k' }]
    success_when: headers?.Usage?.Left != 0
    error_text: reply.fault.detail.Refused.Text
    retry_when: reply.fault.detail.Refused.Code >= 500 || reply.fault.subcodes.contains(\"Busy\")
    reject_when: reply.fault.code == \"Server\" && reply.fault.detail.Refused.Line.len() == 2
";

struct Erp {
    peer: Arc<Peer>,
    outbound: Arc<dyn Outbound>,
    _mount: Mount,
    _serving: Serving,
}

async fn erp(version: &str, file: &str) -> Erp {
    let serving = serving().await;
    let peer = Peer::new();
    let mount = serving.door.mount("/ws", peer.clone()).unwrap();
    let address = serving.door.addr();
    let text =
        format!("version: 1\nsystem: erp\nadapter: soap\nsoap: '{version}'\naddress: http://{address}/ws\n{file}");
    let outbound = system(None, &text).connect(&Fixed).await.unwrap();
    Erp { peer, outbound, _mount: mount, _serving: serving }
}

impl Erp {
    async fn call(&self) -> Result<Reply, Fault> {
        let (message, body) = (message(), [("No", "1")].into_iter().collect::<Value>());
        let call = call("Place", &body, &message);
        tokio::time::timeout(PATIENCE, self.outbound.deliver(call)).await.unwrap()
    }

    async fn answered(&self, version: &str, status: u16, header: &str, body: &str) -> Result<Reply, Fault> {
        let media = if version == V11 { "text/xml" } else { "application/soap+xml" };
        self.peer.answers(status, media, &envelope(version, header, body));
        self.call().await
    }
}

const YES: &str = "<p:PlaceResponse xmlns:p='urn:place'><p:Id>7</p:Id></p:PlaceResponse>";

#[tokio::test]
async fn a_declared_block_is_written_by_its_schema() {
    let erp = erp("1.1", OUT).await;
    let reply = erp.answered(V11, 200, "", YES).await.unwrap();
    assert_eq!(reply.body.to_string(), r#"{"Id":7}"#);
    let sent = erp.peer.last().body;
    // In the order and the namespace of the schema, whatever the file says.
    let block = "<m:Session soap:mustUnderstand=\"1\"><m:Id>4711</m:Id><m:Level>7</m:Level><m:Role>a</m:Role><m:Role>b</m:Role></m:Session>";
    assert!(sent.contains(block), "{sent}");

    let wrong = OUT.replace("Level: '7'", "Level: '\"high\"'");
    let fault = erp_with(&wrong).await.call().await.unwrap_err();
    assert_eq!((fault.code, fault.verdict), (Code::Invalid, Verdict::Reject));
    assert_eq!(fault.violations[0].pointer, "/Level", "{fault:?}");
}

async fn erp_with(file: &str) -> Erp {
    erp("1.1", file).await
}

#[tokio::test]
async fn an_answers_blocks_are_typed_and_what_must_be_understood_is() {
    let erp = erp("1.1", OUT).await;
    let usage =
        |left: &str| format!("<p:Usage xmlns:p='urn:place' s:mustUnderstand='1'><p:Left>{left}</p:Left></p:Usage>");
    erp.answered(V11, 200, &usage("3"), YES).await.unwrap();
    // A number, not a text: the rule compares with 0.
    let fault = erp.answered(V11, 200, &usage("00"), YES).await.unwrap_err();
    assert!(fault.public.contains("headers?.Usage"), "{fault}");
    let known = "<k:Known xmlns:k='urn:k' s:mustUnderstand='1'/><a:Action xmlns:a='http://www.w3.org/2005/08/addressing' s:mustUnderstand='1'>x</a:Action>\
        <o:Other xmlns:o='urn:o' s:mustUnderstand='1' s:actor='urn:somebody'/><o:Free xmlns:o='urn:o' s:mustUnderstand='0'/>";
    erp.answered(V11, 200, known, YES).await.unwrap();
    for body in [YES, ""] {
        let strange = "<o:Other xmlns:o='urn:o' s:mustUnderstand='1'/>";
        let fault = erp.answered(V11, 200, strange, body).await.unwrap_err();
        assert_eq!((fault.code, fault.verdict), (Code::BadAnswer, Verdict::Reject), "it is not called again");
        assert!(fault.public.contains("{urn:o}Other") && fault.public.contains("understands"), "{fault}");
    }
    // A fault is a no, whatever stands around it (WCF marks a block there).
    let fault = "<s:Fault><faultcode>s:Client</faultcode><faultstring>no</faultstring></s:Fault>";
    let fault = erp.answered(V11, 500, "<o:Other xmlns:o='urn:o' s:mustUnderstand='1'/>", fault).await.unwrap_err();
    assert_eq!((fault.code, fault.verdict), (Code::Refused, Verdict::Reject));
}

#[tokio::test]
async fn a_faults_detail_is_typed_and_decides_the_verdict_in_both_versions() {
    for (version, number) in [(V11, "1.1"), (V12, "1.2")] {
        let erp = erp(number, OUT).await;
        let fault = |code: &str, subcode: &str, detail: &str| match version {
            V11 => format!(
                "<s:Fault><faultcode>s:{code}</faultcode><faultstring>no</faultstring><detail>{detail}</detail></s:Fault>"
            ),
            _ => {
                let code = if code == "Client" { "Sender" } else { "Receiver" };
                format!(
                    "<s:Fault><s:Code><s:Value>s:{code}</s:Value><s:Subcode><s:Value>x:{subcode}</s:Value></s:Subcode></s:Code>\
                     <s:Reason><s:Text xml:lang='en'>no</s:Text></s:Reason><s:Detail>{detail}</s:Detail></s:Fault>"
                )
            }
        };
        let detail = |code: &str, lines: &str| {
            format!(
                "<p:Refused xmlns:p='urn:place'><p:Code>{code}</p:Code><p:Text>库存不足</p:Text>{lines}</p:Refused>"
            )
        };
        // 500 is compared as a number; the Client's fault is tried again because the rule says so.
        for (code, verdict) in [("499", Verdict::Reject), ("500", Verdict::Retry)] {
            let fault = erp.answered(version, 500, "", &fault("Client", "Out", &detail(code, ""))).await.unwrap_err();
            assert_eq!((fault.public.as_str(), fault.verdict), ("库存不足", verdict), "{number} {code}");
        }
        if version == V12 {
            let busy = erp.answered(version, 400, "", &fault("Client", "Busy", &detail("1", ""))).await.unwrap_err();
            assert_eq!(busy.verdict, Verdict::Retry);
            assert!(busy.private.as_deref().unwrap().contains("Sender / Busy"), "{busy:?}");
            continue;
        }
        let lines = "<p:Line>1</p:Line><p:Line>2</p:Line>";
        let business = erp.answered(version, 500, "", &fault("Server", "", &detail("1", lines))).await.unwrap_err();
        assert_eq!(business.verdict, Verdict::Reject, "the receiver says that it is to blame; the rule knows better");
        let plain = erp.answered(version, 500, "", &fault("Server", "", "<stack>at x</stack>")).await.unwrap_err();
        assert_eq!((plain.public.as_str(), plain.verdict), ("no", Verdict::Retry));
    }
}

/// WSDL 1.1 §3.7: what is wrong with a header block stands in a header block.
#[tokio::test]
async fn a_declared_header_fault_is_typed_and_decides_the_verdict_in_both_versions() {
    let rules = OUT
        .replace("reply.fault.detail.Refused.Text", "reply.fault.header.SessionRefused.Field[0]")
        .replace("reply.fault.detail.Refused.Code >= 500", "reply.fault.header.SessionRefused.Code >= 500")
        .replace(
            "reply.fault.code == \"Server\" && reply.fault.detail.Refused.Line.len() == 2",
            "headers?.SessionRefused?.Code == 17",
        );
    for (version, number) in [(V11, "1.1"), (V12, "1.2")] {
        let erp = erp(number, &rules).await;
        let code = if version == V11 { "Client" } else { "Sender" };
        let fault = match version {
            V11 => format!("<s:Fault><faultcode>s:{code}</faultcode><faultstring>no</faultstring></s:Fault>"),
            _ => format!(
                "<s:Fault><s:Code><s:Value>s:{code}</s:Value></s:Code><s:Reason><s:Text xml:lang='en'>no</s:Text></s:Reason></s:Fault>"
            ),
        };
        // Marked as WCF does; a number and a list by the schema, though it comes once.
        let block = |code: &str| {
            format!(
                "<p:SessionRefused xmlns:p='urn:place' s:mustUnderstand='1'><p:Code>{code}</p:Code><p:Field>级别</p:Field></p:SessionRefused>\
                 <o:Other xmlns:o='urn:o'>1</o:Other>"
            )
        };
        for (code, verdict) in [("499", Verdict::Reject), ("0500", Verdict::Retry), ("17", Verdict::Reject)] {
            let fault = erp.answered(version, 500, &block(code), &fault).await.unwrap_err();
            assert_eq!((fault.public.as_str(), fault.verdict), ("级别", verdict), "{number} {code}");
            let private = fault.private.as_deref().unwrap();
            assert!(
                private.contains("SessionRefused") && private.contains("级别") && !private.contains("Other"),
                "{private}"
            );
        }
        let plain = erp.answered(version, 500, "", &fault).await.unwrap_err();
        assert_eq!(plain.public, "no", "nothing is in the header, and the rules bear it");
    }
}

#[test]
fn header_faults_are_shown() {
    let mut problems = Problems::new();
    let file = SourceFile::new("place.wsdl", include_str!("common/wsdl/place.wsdl"));
    let tree = Description::read(file, &|_| None, &mut problems).expect("it loads").tree(&["Place".to_owned()], 3);
    let shown = tree.split("header fault of Session {urn:place}SessionRefused").collect::<Vec<_>>();
    // In the port of either version, with its fields.
    assert_eq!(shown.len(), 3, "{tree}");
    assert!(shown[1].trim_start().starts_with("Code") && shown[1].contains("Field[]"), "{tree}");
}

const IN: &str = "version: 1
system: oa
adapter: soap
wsdl: wsdl/place.wsdl
accept: { api_key: { header: X-Api-Key, value: '${env:K}' } }
endpoints:
  Place:
    listen: /soap/place
    reply: { body: { Id: '7' }, headers: [{ name: Usage, value: { Left: body.No.len() } }] }
    fault: { name: Refused, body: { Line: '[4, 5]', Code: '17', Text: 'fault.code + \": \" + fault.text' } }
    header_faults: [{ name: SessionRefused, body: { Code: '3', Field: 'fault.violations[0].pointer' } }]
  Note: { listen: /soap/place }
";

async fn called() -> Called {
    Called(listening(IN, "/soap/place").await)
}

/// The system listens.
struct Called(Listening);

impl Called {
    async fn send(&self, version: &str, header: &str, body: &str) -> (u16, String) {
        let media = if version == V11 { "text/xml" } else { "application/soap+xml" };
        let request = Request::builder().method(Method::POST).uri(self.0.client.url("/soap/place").unwrap());
        let request = request.header("x-api-key", "geheim").header("content-type", media);
        let request = request.body(Bytes::from(envelope(version, header, body))).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.0.client.send(request)).await.unwrap().unwrap();
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    }
}

const PLACE: &str = "<p:Place xmlns:p='urn:place'><p:No>123</p:No></p:Place>";

fn session(level: &str) -> String {
    format!(
        "<p:Session xmlns:p='urn:place' s:mustUnderstand='1'><p:Id>s</p:Id><p:Level>{level}</p:Level><p:Role>a</p:Role></p:Session>"
    )
}

#[tokio::test]
async fn a_declared_block_arrives_typed_and_the_answer_has_its_own() {
    let called = called().await;
    // The id by which a signature would refer to it is nobody's business.
    let wsu = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
    let block = session("7").replacen("<p:Session", &format!("<p:Session xmlns:u='{wsu}' u:Id='s-1'"), 1);
    let (status, text) = called.send(V11, &block, PLACE).await;
    assert_eq!(status, 200, "{text}");
    assert!(
        text.contains("<Usage xmlns=\"urn:place\"><Left>3</Left></Usage>") || text.contains("Usage><m:Left>3</m:Left>"),
        "{text}"
    );
    let meta = called.0.engine.last().1.meta;
    assert_eq!(meta.field("headers").unwrap().to_string(), r#"{"Session":{"Id":"s","Level":7,"Role":["a"]}}"#);
    assert_eq!(called.0.engine.count(), 1);
}

/// SOAP 1.1 §4.4: a fault about a header block says so in a header block, and has no detail.
#[tokio::test]
async fn a_fault_about_a_block_says_so_in_the_block_that_the_wsdl_declares() {
    let called = called().await;
    for version in [V11, V12] {
        let (_, text) = called.send(version, &session("high"), PLACE).await;
        let (header, body) = text.split_once("<soap:Body>").unwrap();
        assert!(header.contains("<Code>3</Code><Field>/headers/Session/Level</Field></SessionRefused>"), "{text}");
        assert!(
            header.contains("pointer=\"/headers/Session/Level\"") && header.contains("<m:code>invalid</m:code>"),
            "{text}"
        );
        assert!(body.contains("a header block does not fit") && !body.to_lowercase().contains("detail"), "{text}");
        // What is wrong with the body stands in the detail, as before.
        let (_, text) = called.send(version, &session("7"), "<p:Place xmlns:p='urn:place'/>").await;
        let (header, body) = text.split_once("<soap:Body>").unwrap();
        assert!(!header.contains("SessionRefused") && body.contains("<Code>17</Code>"), "{text}");
    }
    assert_eq!(called.0.engine.count(), 0);
}

#[tokio::test]
async fn a_fault_says_what_the_callers_wsdl_declares_and_its_subcode() {
    let called = called().await;
    for (version, code) in
        [(V11, "<faultcode>soap:Client</faultcode>"), (V12, "<soap:Subcode><soap:Value>m:invalid</soap:Value>")]
    {
        let (_, text) = called.send(version, "", "<p:Place xmlns:p='urn:place'><p:Nr>1</p:Nr></p:Place>").await;
        assert!(text.contains(code) && text.contains("xmlns:m=\"urn:gatehouse\""), "{text}");
        let detail = "<Refused xmlns=\"urn:place\"><Code>17</Code><Text>invalid: the request does not fit `Place` of the WSDL</Text><Line>4</Line><Line>5</Line></Refused><m:fault>";
        assert!(text.contains(detail), "{text}");
    }
    let refused = Fault::new(Code::Unavailable, "later").about("m-9").violations(Vec::<Violation>::new());
    *called.0.engine.refuses.lock().unwrap() = Some(refused);
    let (status, text) = called.send(V11, "", PLACE).await;
    assert!(status == 503 && text.contains("<Text>unavailable: later</Text>") && text.contains("m-9"), "{text}");
}

#[tokio::test]
async fn an_operation_without_an_answer_gets_none() {
    let called = called().await;
    let (status, text) = called.send(V11, "", "<p:Note xmlns:p='urn:place'>hello</p:Note>").await;
    assert_eq!((status, text.as_str()), (202, ""));
    assert_eq!(called.0.engine.last().1.body, Value::from("hello"));
    // A no is told all the same.
    let (_, text) = called.send(V11, "", "<p:Note xmlns:p='urn:place'><x/></p:Note>").await;
    assert!(text.contains("Fault"), "{text}");
}

#[test]
fn blocks_and_details_are_found_in_the_wsdl_or_say_their_namespace() {
    let file = |endpoint: &str| {
        let accept = "accept: { api_key: { header: K, value: '${env:K}' } }";
        format!(
            "version: 1\nsystem: oa\nadapter: soap\nwsdl: wsdl/place.wsdl\n{accept}\nendpoints:\n  Place: {endpoint}\n"
        )
    };
    let cases = [
        ("{ headers: [{ name: Sesion, value: '1' }] }", "no-namespace", "Session"),
        ("{ listen: /p, reply: { headers: [{ name: Session, value: '1' }] } }", "no-namespace", "Usage"),
        ("{ listen: /p, fault: { name: Refusal, body: '1' } }", "no-namespace", "Refused"),
        ("{ listen: /p, header_faults: [{ name: Refused, body: '1' }] }", "no-namespace", "SessionRefused"),
        ("{ header_faults: [] }", "misplaced", "listen"),
        ("{ fault: { name: Refused, body: '1' } }", "misplaced", "listen"),
        ("{ listen: /p, understands: [{ name: A }] }", "misplaced", "listen"),
        ("{ headers: [{ name: Session, value: missing.x }] }", "expression", ""),
        ("{ reject_when: repl.x == 1 }", "expression", "did you mean `reply`?"),
    ];
    for (endpoint, code, help) in cases {
        let (system, problems) = check(None, &file(endpoint));
        let told: Vec<_> = problems.iter().map(|problem| problem.render(false)).collect();
        let found =
            problems.iter().any(|one| one.code == code && one.help.as_deref().unwrap_or_default().contains(help));
        assert!(system.is_none() && found, "{endpoint}: {}", told.join("\n"));
    }
    let (system, problems) = check(None, &file("{ headers: [{ name: Other, namespace: 'urn:o', value: '1' }] }"));
    assert!(system.is_some(), "{problems:?}");
}
