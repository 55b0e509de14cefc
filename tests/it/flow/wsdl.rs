//! Systems that are described by a WSDL: what arrives and what is called is typed, in order, and told where it is wrong.

use http::Method;

use crate::harness::{Peer, Place, Running, until};

const WSDL: &str = include_str!("../../peers/order.wsdl");
const XSD: &str = include_str!("../../peers/order.xsd");
const RPC: &str = include_str!("../../peers/rpc.wsdl");

const V11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const ENC: &str = "http://schemas.xmlsoap.org/soap/encoding/";

const OA: &str = "version: 1
system: oa
adapter: soap
wsdl: wsdl/order.wsdl
accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }
endpoints:
  Submit: { listen: /soap/oa, id: No, reply: { body: { Got: message_id, Count: body.Lines.Line.len() } } }
";

const OLD: &str = "version: 1
system: old
adapter: soap
wsdl: wsdl/rpc.wsdl
accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }
endpoints:
  submit: { listen: /soap/old, id: order.no, reply: { body: { result: message_id } } }
";

const ROUTES: &str = "version: 1
routes:
  - { route: from-oa, from: oa/Submit, type: any.order, key: No, to: [{ target: crm/put }, { target: erp/Submit }, { target: mainframe/submit, map: to-old }] }
  - { route: from-old, from: old/submit, type: any.order, key: order.no, to: [{ target: crm/put }] }
";

const TO_OLD: &str = "version: 1\nmapping: to-old\nrows:\n  - { to: token, default: t }\n  - { to: order.no, from: No }\n  - { to: order.customer, from: Customer }\n  - { to: order.total, from: Total }\n  - { to: order.paid, from: Paid }\n  - { to: 'order.lines[].sku', from: 'Lines.Line[].Sku' }\n  - { to: 'order.lines[].qty', from: 'Lines.Line[].Qty' }\n";

struct World {
    _place: Place,
    crm: Peer,
    erp: Peer,
    mainframe: Peer,
    running: Running,
}

async fn start() -> World {
    let (crm, erp, mainframe) = (Peer::start().await, Peer::start().await, Peer::start().await);
    for (peer, answer) in [
        (&erp, "<o:SubmitResponse xmlns:o='urn:oa'><o:Got>1</o:Got><o:Count>1</o:Count></o:SubmitResponse>"),
        (&mainframe, "<r:submitResponse xmlns:r='urn:old'><result>1</result></r:submitResponse>"),
    ] {
        let answer = format!("<s:Envelope xmlns:s='{V11}'><s:Body>{answer}</s:Body></s:Envelope>");
        peer.behave(move |_| (std::time::Duration::ZERO, 200, answer.clone()));
    }
    let soap = |name: &str, peer: &Peer, wsdl: &str, operation: &str| {
        format!(
            "version: 1\nsystem: {name}\nadapter: soap\nwsdl: wsdl/{wsdl}\naddress: http://{}/ws\nendpoints:\n  {operation}: {{}}\n",
            peer.address
        )
    };
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("mappings/to-old.yaml", TO_OLD),
        (
            "types/any.order.schema.json",
            r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}"#,
        ),
        ("wsdl/order.wsdl", WSDL),
        ("wsdl/order.xsd", XSD),
        ("wsdl/rpc.wsdl", RPC),
        ("systems/oa.yaml", OA),
        ("systems/old.yaml", OLD),
        ("systems/crm.yaml", &crm.system("crm", "")),
        ("systems/erp.yaml", &soap("erp", &erp, "order.wsdl", "Submit")),
        ("systems/mainframe.yaml", &soap("mainframe", &mainframe, "rpc.wsdl", "submit")),
    ]);
    let running = place.start().await;
    until("the OA's path to be mounted", async || running.send(Method::GET, "/soap/oa", &[], "").await.status != 404)
        .await;
    World { _place: place, crm, erp, mainframe, running }
}

impl World {
    async fn post(&self, path: &str, inner: &str) -> crate::harness::Answer {
        let body = format!(
            "<s:Envelope xmlns:s='{V11}' xmlns:e='{ENC}' xmlns:i='http://www.w3.org/2001/XMLSchema-instance' \
             xmlns:d='http://www.w3.org/2001/XMLSchema' xmlns:o='urn:oa' xmlns:l='urn:old'><s:Body>{inner}</s:Body></s:Envelope>"
        );
        let headers = [("x-api-key", crate::harness::KEY), ("content-type", "text/xml; charset=utf-8")];
        self.running.send(Method::POST, path, &headers, body).await
    }
}

fn submit(number: &str, lines: &str) -> String {
    format!(
        "<o:Submit><o:No>{number}</o:No><o:Customer>甲 &amp; 乙</o:Customer><o:Note i:nil='true'/><o:Total>12345678901234567.890</o:Total>\
         <o:Paid>1</o:Paid><o:Due>2026-02-28</o:Due><o:Lines>{lines}</o:Lines></o:Submit>"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_is_typed_and_what_is_called_fits_the_schema() {
    let world = start().await;
    let answer = world.post("/soap/oa", &submit("A-1", "<o:Line><o:Sku>茶</o:Sku><o:Qty>2</o:Qty></o:Line>")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for part in ["urn:oa", "SubmitResponse", "Got>A-1</", "Count>1</"] {
        assert!(answer.text.contains(part), "{part}: {}", answer.text);
    }
    until("the CRM has it", async || !world.crm.took().is_empty()).await;
    assert_eq!(
        world.crm.took()[0].body,
        r#"{"No":"A-1","Customer":"甲 & 乙","Note":null,"Total":12345678901234567.890,"Paid":true,"Due":"2026-02-28","Lines":{"Line":[{"Sku":"茶","Qty":2}]}}"#
    );
    until("the ERP has it", async || !world.erp.took().is_empty()).await;
    let erp = &world.erp.took()[0];
    assert_eq!(erp.action.as_deref(), Some("\"urn:oa/Submit\""));
    assert!(
        erp.body.contains("<m:Submit><m:No>A-1</m:No><m:Customer>甲 &amp; 乙</m:Customer><m:Note "),
        "{}",
        erp.body
    );
    assert!(
        erp.body.contains("nil=\"true\"/><m:Total>12345678901234567.890</m:Total><m:Paid>true</m:Paid>"),
        "{}",
        erp.body
    );
    until("the mainframe has it", async || !world.mainframe.took().is_empty()).await;
    let old = world.mainframe.took()[0].body.clone();
    for part in [
        "encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"",
        "arrayType=",
        "Line[1]",
        "12345678901234567.890",
    ] {
        assert!(old.contains(part), "{part}: {old}");
    }
    world.running.drained().await;
    assert!(world.running.letters(gatehouse_store::State::Open).await.is_empty());
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_breaks_its_schema_is_told_field_by_field() {
    let world = start().await;
    let bad = submit("A-2", "<o:Line><o:Sku>x</o:Sku><o:Qty>two</o:Qty></o:Line><o:Lime/>")
        .replace("2026-02-28", "2026-02-30");
    let answer = world.post("/soap/oa", &bad).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    for part in [
        "soap:Client",
        "pointer=\"/Due\"",
        "pointer=\"/Lines/Line/0/Qty\"",
        "pointer=\"/Lines/Lime\"",
        "did you mean `Line`?",
    ] {
        assert!(answer.text.contains(part), "{part}: {}", answer.text);
    }
    world.running.drained().await;
    assert!(world.crm.got().is_empty());
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_caller_refers_to_what_it_has_said() {
    let world = start().await;
    let axis = "<l:submit s:encodingStyle='http://schemas.xmlsoap.org/soap/encoding/'><token i:type='d:string'>t</token><order href='#id0'/></l:submit>\
        <multiRef id='id0' e:root='0' i:type='l:Order'><no i:type='d:string'>B-1</no><customer>客户</customer><total href='#id1'/>\
        <paid i:type='d:boolean'>true</paid><lines i:type='e:Array' e:arrayType='l:Line[2]'><lines href='#id2'/><lines href='#id2'/></lines></multiRef>\
        <multiRef id='id1' i:type='d:decimal'>1.50</multiRef><multiRef id='id2' i:type='l:Line'><sku>s</sku><qty>3</qty></multiRef>";
    let answer = world.post("/soap/old", axis).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text.contains("submitResponse") && answer.text.contains(">B-1</result>"), "{}", answer.text);
    until("the CRM has it", async || !world.crm.took().is_empty()).await;
    assert_eq!(
        world.crm.took()[0].body,
        r#"{"token":"t","order":{"no":"B-1","customer":"客户","total":1.50,"paid":true,"lines":[{"sku":"s","qty":3},{"sku":"s","qty":3}]}}"#
    );
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wsdl_is_served_with_this_address_and_its_imports() {
    let world = start().await;
    let key = [("x-api-key", crate::harness::KEY)];
    let answer = world.running.send(Method::GET, "/soap/oa?wsdl", &key, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.text.matches("/soap/oa\"").count(), 2, "both ports are here: {}", answer.text);
    assert!(!answer.text.contains("old.example.com"), "{}", answer.text);
    let import = answer.text.split("schemaLocation=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(import.ends_with("/soap/oa?xsd=1"), "{import}");
    let xsd = world.running.send(Method::GET, "/soap/oa?xsd=1", &key, "").await;
    assert!(xsd.status == 200 && xsd.text.contains("SubmitResponse"), "{xsd:?}");
    // Not to everybody, and nothing else.
    assert_eq!(world.running.send(Method::GET, "/soap/oa?wsdl", &[], "").await.status, 401);
    assert_eq!(world.running.send(Method::GET, "/soap/oa?xsd=99", &key, "").await.status, 405);
    assert_eq!(world.running.send(Method::GET, "/soap/oa?passwd", &key, "").await.status, 405);
    world.running.gateway.stop().await;
}

const ASK: &str = "version: 1
routes:
  - { route: ask, from: oa/Submit, exchange: request, type: any.order, key: No, reply: to-caller, to: [{ target: erp/Submit }] }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_waits_for_the_answer_of_another_soap_system() {
    let erp = Peer::start().await;
    let says = |inner: &str, status| {
        let text = format!("<s:Envelope xmlns:s='{V11}'><s:Body>{inner}</s:Body></s:Envelope>");
        erp.behave(move |_| (std::time::Duration::ZERO, status, text.clone()));
    };
    let erp_file = format!(
        "version: 1\nsystem: erp\nadapter: soap\nwsdl: wsdl/order.wsdl\naddress: http://{}/ws\nendpoints:\n  Submit: {{}}\n",
        erp.address
    );
    let oa = OA.replace(", reply: { body: { Got: message_id, Count: body.Lines.Line.len() } }", "");
    let to_caller = "version: 1\nmapping: to-caller\nrows:\n  - { to: Got, from: Got, clean: [upper] }\n  - { to: Count, from: Count }\n";
    let place = Place::new(&[
        ("orders.yaml", ASK),
        ("mappings/to-caller.yaml", to_caller),
        ("types/any.order.schema.json", r#"{"type":"object"}"#),
        ("wsdl/order.wsdl", WSDL),
        ("wsdl/order.xsd", XSD),
        ("systems/oa.yaml", &oa),
        ("systems/erp.yaml", &erp_file),
    ]);
    let running = place.start().await;
    until("the path to be mounted", async || running.send(Method::GET, "/soap/oa", &[], "").await.status != 404).await;
    let (crm, mainframe) = (Peer::start().await, Peer::start().await);
    let world = World { _place: place, crm, erp: Peer::start().await, mainframe, running };
    let line = "<o:Line><o:Sku>x</o:Sku><o:Qty>1</o:Qty></o:Line>";

    says("<o:SubmitResponse xmlns:o='urn:oa'><o:Got>so-7</o:Got><o:Count>3</o:Count></o:SubmitResponse>", 200);
    let answer = world.post("/soap/oa", &submit("R-1", line)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text.contains("Got>SO-7</") && answer.text.contains("Count>3</"), "{}", answer.text);

    let fault = "<s:Fault><faultcode>s:Client</faultcode><faultstring>没有这个客户</faultstring></s:Fault>";
    says(fault, 500);
    let refused = world.post("/soap/oa", &submit("R-2", line)).await;
    assert!(refused.text.contains("没有这个客户") && refused.text.contains("R-2"), "{refused:?}");
    assert!(refused.text.contains("Fault"), "{refused:?}");
    assert_eq!(erp.got().len(), 2, "a question is asked once");
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wsdl_is_fetched_from_a_host_that_is_named_and_from_no_other() {
    let open = OA.replace("accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }\n", "");
    let routes =
        "version: 1\nroutes:\n  - { route: oa, from: oa/Submit, type: any.order, to: [{ target: crm/put }] }\n";
    let crm = Peer::start().await;
    let place = Place::new(&[
        ("orders.yaml", routes),
        ("types/any.order.schema.json", r#"{"type":"object"}"#),
        ("wsdl/order.wsdl", WSDL),
        ("wsdl/order.xsd", XSD),
        ("systems/oa.yaml", &open),
        ("systems/crm.yaml", &crm.system("crm", "")),
    ]);
    let running = place.start().await;
    until("the path to be mounted", async || running.send(Method::GET, "/soap/oa", &[], "").await.status != 404).await;
    let url = format!("http://{}/soap/oa?wsdl", running.gateway.address);
    let site = tempfile::tempdir().expect("a folder");
    let connect = async |more: &[&str]| {
        let folder = site.path().to_str().expect("a path").to_owned();
        let words = ["gatehouse", "connect", "soap", url.as_str(), "--name", "far", "--site", folder.as_str()];
        let words: Vec<std::ffi::OsString> = words.iter().chain(more).map(Into::into).collect();
        let ran = tokio::task::spawn_blocking(move || format!("{:?}", gatehouse::cli::run_line(words))).await;
        ran.expect("runs") == format!("{:?}", std::process::ExitCode::SUCCESS)
    };
    assert!(!connect(&[]).await, "no host is allowed");
    assert!(!connect(&["--fetch", "example.com"]).await, "another host is");
    assert!(!site.path().join("systems").exists());
    assert!(connect(&["--fetch", "127.0.0.1"]).await);
    let written =
        |name: &str| std::fs::read_to_string(site.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(written("systems/far.yaml").contains("wsdl: wsdl/oa_wsdl.wsdl"), "{}", written("systems/far.yaml"));
    assert!(written("wsdl/oa_xsd_1.xsd").contains("SubmitResponse"));
    assert!(written("mappings/to-far-Submit.yaml").contains("Lines.Line[].Sku"));
    running.gateway.stop().await;
}
