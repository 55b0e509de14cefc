//! Documents in strings, as OAs and ERPs send them: XML in an argument of SOAP, JSON in a field, and an answer of that kind.

use http::Method;

use crate::harness::{KEY, Peer, Place, until};

const OA: &str = "version: 1
system: oa
adapter: soap
accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }
endpoints:
  doCreate: { listen: /soap/oa, operation: doCreate, namespace: urn:oa, id: in0.wf.no, nested: { in0: [xml] } }
";

const ROUTES: &str = "version: 1
routes:
  - { route: oa, from: oa/doCreate, map: flat, type: any.order, key: no, to: [{ target: landray/addReview, map: to-landray, retry: { attempts: 2, first: 100ms, max: 100ms } }] }
";

const FLAT: &str = "version: 1\nmapping: flat\nto: any.order\nrows:\n  - { to: no, from: in0.wf.no }\n  - { to: customer, from: in0.wf.customer }\n  - { to: 'lines[].sku', from: 'in0.wf.line[].sku' }\n  - { to: user, from: in1 }\n";

const TO_LANDRAY: &str = "version: 1\nmapping: to-landray\nrows:\n  - { to: template, default: order }\n  - { to: formValues.no, from: no }\n  - { to: formValues.customer, from: customer }\n  - { to: 'formValues.skus[].sku', from: 'lines[].sku' }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_in_a_string_becomes_form_values_in_a_string() {
    let landray = Peer::start().await;
    let says = |text: &'static str| landray.behave(move |_| (std::time::Duration::ZERO, 200, text.to_owned()));
    let system = format!(
        "version: 1\nsystem: landray\nadapter: rest\naddress: http://{}\nendpoints:\n  addReview:\n    call: POST /review\n    nested: {{ formValues: [json] }}\n    \
         nested_reply: {{ return: [json] }}\n    success_when: reply[\"return\"].code == 1\n    error_text: reply[\"return\"].message\n",
        landray.address
    );
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("mappings/flat.yaml", FLAT),
        ("mappings/to-landray.yaml", TO_LANDRAY),
        ("types/any.order.schema.json", r#"{"type":"object"}"#),
        ("systems/oa.yaml", OA),
        ("systems/landray.yaml", &system),
    ]);
    let running = place.start().await;
    until("the path to be mounted", async || running.send(Method::GET, "/soap/oa", &[], "").await.status != 404).await;
    let send = async |inside: &str| {
        let escaped = inside.replace('&', "&amp;").replace('<', "&lt;");
        let body = format!(
            "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body><o:doCreate xmlns:o='urn:oa'><in0>{escaped}</in0>\
             <in1>7</in1></o:doCreate></s:Body></s:Envelope>"
        );
        running
            .send(Method::POST, "/soap/oa", &[("x-api-key", KEY), ("content-type", "text/xml; charset=utf-8")], body)
            .await
    };

    says(r#"{"return":"{\"code\":1,\"processId\":\"p\"}"}"#);
    let one = "<?xml version=\"1.0\" encoding=\"GB2312\"?><wf><no>F-1</no><customer>甲 &amp; 乙</customer><line><sku>茶</sku></line><line><sku>杯</sku></line></wf>";
    let answer = send(one).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    until("Landray has it", async || !landray.took().is_empty()).await;
    assert_eq!(
        landray.took()[0].json(),
        serde_json::json!({ "template": "order", "formValues": "{\"no\":\"F-1\",\"customer\":\"甲 & 乙\",\"skus\":[{\"sku\":\"茶\"},{\"sku\":\"杯\"}]}" })
    );
    running.drained().await;
    assert!(running.letters(gatehouse_store::State::Open).await.is_empty());

    // Its no is in the string as well.
    says(r#"{"return":"{\"code\":0,\"message\":\"流程模板不存在\"}"}"#);
    assert_eq!(send(&one.replace("F-1", "F-2")).await.status, 200);
    let letter = running.one_letter().await;
    assert!(letter.summary.text.contains("流程模板不存在"), "{}", letter.summary.text);

    // What cannot be opened is told to the caller, with the place inside, and goes nowhere.
    let before = landray.got().len();
    let bad = send("<wf><no>F-3</wf>").await;
    assert_eq!(bad.status, 500, "{bad:?}");
    for part in ["soap:Client", "`in0`, xml", "line 1, column 12"] {
        assert!(bad.text.contains(part), "{part}: {}", bad.text);
    }
    let bomb = send("<!DOCTYPE wf [<!ENTITY a \"aaaa\">]><wf><no>&a;</no></wf>").await;
    assert!(bomb.status == 500 && bomb.text.contains("DOCTYPE"), "{bomb:?}");
    running.drained().await;
    assert_eq!(landray.got().len(), before);
    running.gateway.stop().await;
}
