//! SOAP at both ends: an operation that arrives, the ERP that is called, and faults in the caller's version.

use gatehouse::demo::Erp;
use gatehouse_store::State;
use http::Method;

use crate::harness::{Answer, Place, Running, until};

const V11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const V12: &str = "http://www.w3.org/2003/05/soap-envelope";

const ROUTES: &str = "version: 1
routes:
  - { route: to-erp, from: oa/Submit, map: submit, type: order.paid, key: orderNo, to: [{ target: erp/CreateSalesOrder, map: to-erp }] }
  - { route: shop, from: shop/orders, type: order.paid, key: orderNo, to: [{ target: erp/CreateSalesOrder, map: to-erp }] }
";

const SUBMIT: &str = "version: 1\nmapping: submit\nto: order.paid\nrows:\n  - { to: orderNo, from: No, type: string, required: true }\n  - { to: status, default: paid }\n  - { to: customer, from: Customer, type: string, required: true }\n  - { to: name, from: Material, type: string }\n  - { to: amount, from: Total, type: decimal, required: true, sensitive: true }\n";

const TO_ERP: &str = "version: 1\nmapping: to-erp\nrows:\n  - { to: HEADER.ORDER_NO, from: orderNo }\n  - { to: HEADER.TOTAL, from: amount, type: string }\n  - { to: ITEMS.item.MATERIAL, from: name, default: M-1 }\n";

const OA: &str = "version: 1
system: oa
adapter: soap
accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }
endpoints:
  Submit: { listen: /soap/oa, operation: Submit, namespace: urn:oa, id: No, reply: { body: { Got: message_id } } }
";

async fn start() -> (Place, Erp, Running) {
    let erp = Erp::start().await.expect("a port");
    let system = format!(
        "version: 1\nsystem: erp\nadapter: soap\naddress: http://{}/ws/sales\nendpoints:\n  CreateSalesOrder:\n    namespace: urn:example:erp:sales\n    success_when: reply.RETURN.TYPE !in [\"E\", \"A\"]\n    error_text: reply.RETURN.MESSAGE\n",
        erp.address()
    );
    let place = Place::new(&[
        ("orders.yaml", ROUTES),
        ("mappings/submit.yaml", SUBMIT),
        ("mappings/to-erp.yaml", TO_ERP),
        ("systems/oa.yaml", OA),
        ("systems/erp.yaml", &system),
    ]);
    let running = place.start().await;
    until("the OA's path to be mounted", async || running.send(Method::GET, "/soap/oa", &[], "").await.status != 404)
        .await;
    (place, erp, running)
}

async fn submit(running: &Running, version: &str, inner: &str) -> Answer {
    let media = if version == V11 { "text/xml; charset=utf-8" } else { "application/soap+xml; charset=utf-8" };
    let body = format!(
        "<s:Envelope xmlns:s='{version}'><s:Body><o:Submit xmlns:o='urn:oa'>{inner}</o:Submit></s:Body></s:Envelope>"
    );
    let headers = [("x-api-key", crate::harness::KEY), ("content-type", media)];
    let answer = running.send(Method::POST, "/soap/oa", &headers, body).await;
    assert!(answer.text.contains(version), "it is answered in its version: {answer:?}");
    answer
}

fn inner(number: &str, material: &str) -> String {
    format!(
        "<No>{number}</No><Customer>客户</Customer><Material>{material}</Material><Total>12345678901234567.89</Total>"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_becomes_an_order_in_the_erp() {
    let (_place, erp, running) = start().await;
    for (version, number) in [(V11, "OA-1"), (V12, "OA-2"), (V11, "OA-1")] {
        let answer = submit(&running, version, &inner(number, "M-1")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text.contains("SubmitResponse") && answer.text.contains(number), "{answer:?}");
    }
    running.order("SO-1", "c").await;
    until("three orders in the ERP", async || erp.orders().len() == 3).await;
    assert_eq!(erp.orders().keys().collect::<Vec<_>>(), ["OA-1", "OA-2", "SO-1"]);
    assert!(running.letters(State::Open).await.is_empty());
    running.gateway.stop().await;
}

/// A sender's toolkit makes new addresses at each attempt, and signs anew: it is the same order all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_with_other_header_blocks_is_the_same_message() {
    let (_place, erp, running) = start().await;
    let send = async |attempt: &str, material: &str| {
        let block = format!("<a:MessageID xmlns:a='http://www.w3.org/2005/08/addressing'>uuid:{attempt}</a:MessageID>");
        let body = format!(
            "<s:Envelope xmlns:s='{V11}'><s:Header>{block}</s:Header><s:Body><o:Submit xmlns:o='urn:oa'>{}</o:Submit></s:Body></s:Envelope>",
            inner("OA-7", material)
        );
        let headers = [("x-api-key", crate::harness::KEY), ("content-type", "text/xml")];
        running.send(Method::POST, "/soap/oa", &headers, body).await
    };
    for (attempt, repeated) in [("1", ""), ("2", "true"), ("3", "true")] {
        let answer = send(attempt, "M-1").await;
        assert_eq!((answer.status, answer.header("gatehouse-repeated")), (200, repeated), "{answer:?}");
        assert!(answer.text.contains(&format!("uuid:{attempt}")), "{answer:?}");
    }
    let answer = send("4", "M-2").await;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.text.contains("came before with another body"), "{answer:?}");
    until("one order in the ERP", async || erp.orders().len() == 1).await;
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_business_no_in_a_200_is_a_dead_letter() {
    let (_place, erp, running) = start().await;
    let answer = submit(&running, V11, &inner("OA-3", "OLD-404")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let letter = running.one_letter().await;
    assert_eq!((letter.summary.cause.as_str(), letter.summary.key.as_deref()), ("refused", Some("OA-3")));
    assert!(letter.summary.text.contains("物料 OLD-404 已停产"), "{}", letter.summary.text);
    let sent = letter.attempts[0].sent.as_deref().expect("what was sent");
    assert!(sent.contains("12345678901234567.89"), "{sent}");
    assert!(erp.orders().is_empty());
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violation_is_a_fault_in_the_callers_version() {
    let (_place, erp, running) = start().await;
    let bad = "<No>OA-4</No><Customer></Customer><Total>a lot of 6222</Total>";
    for (version, status, code) in [(V11, 500, "soap:Client"), (V12, 400, "soap:Sender")] {
        let answer = submit(&running, version, bad).await;
        assert_eq!(answer.status, status, "{answer:?}");
        for part in ["Fault", code, "Total", "OA-4"] {
            assert!(answer.text.contains(part), "{part} in {answer:?}");
        }
        assert!(!answer.text.contains("6222"), "payload in {answer:?}");
    }
    running.drained().await;
    assert!(erp.orders().is_empty());
    running.gateway.stop().await;
}
