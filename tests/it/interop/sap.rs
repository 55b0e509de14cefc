//! mock-sap: a BAPI over SOAP, whose 200 means nothing: what counts is in `RETURN`.

use std::process::Stdio;

use bytes::Bytes;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_store::State;
use http::{Method, Request};
use serde_json::{Value, json};

use super::{calling, folder, quiet};
use crate::harness::{PATIENCE, until};
use crate::peers::CUSTOMER;

const CREATE: &str = "BAPI_SALESORDER_CREATEFROMDAT2";

/// What is beside the product: what it is to answer, and what it got.
struct Control(Client);

impl Control {
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let request = Request::builder().method(method).uri(self.0.url(path).expect("a path"));
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.header("content-type", "application/json").body(Bytes::from(body)).expect("a request");
        let answer = tokio::time::timeout(PATIENCE, self.0.send(request)).await.expect("in time").expect("answers");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        serde_json::from_slice(answer.body()).expect("JSON")
    }

    /// The orders that it was asked to create, the first one first, each with its answer.
    async fn asked(&self) -> Vec<Value> {
        let log = self.send(Method::GET, "/_mock/rfc-log?verbose=1", None).await;
        let all = log["results"].as_array().cloned().unwrap_or_default();
        let mut asked: Vec<_> = all.into_iter().filter(|one| one["function_name"] == CREATE).collect();
        asked.sort_by_key(|one| one["id"].as_u64());
        asked
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_created_once_and_a_yes_that_means_no_is_a_no() {
    let Some(folder) = folder() else { return };
    // It takes no port 0: a free one is found, and given up just before.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut sap = quiet(folder.join("venv/bin/mock-sap"));
    sap.args(["--port", &port.to_string(), "--no-csrf", "--auth", "bus:geheim", "-q"]).stdout(Stdio::null());
    let _sap = sap.spawn().expect("starts");
    until("mock-sap listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    let address = format!("http://127.0.0.1:{port}");
    let config = ClientConfig { address: address.clone(), ca_file: None, max_answer: 1 << 20, connections: 1 };
    let control = Control(Client::new(&config).expect("a client"));

    let system = format!(
        "address: {address}/sap/bc/srt/rfc/sap/zorders/100/zorders/b\nauth: {{ basic: {{ username: bus, password: \"${{file:sap.secret}}\" }} }}\nendpoints:\n  \
         SalesOrderCreateFromDat2:\n    namespace: urn:sap-com:document:sap:soap:functions:mc-style\n    qualified: false\n    \
         success_when: reply.RETURN.item.TYPE !in [\"E\", \"A\"] && reply.SALESDOCUMENT != \"\"\n    error_text: reply.RETURN.item.MESSAGE\n"
    );
    let rows = "  - { to: OrderHeaderIn.DocType, default: OR }\n  - { to: OrderHeaderIn.PurchNoC, from: customer }\n  - { to: OrderPartners.item.PartnRole, default: AG }\n  - { to: OrderPartners.item.PartnNumb, default: '1000001' }\n  - { to: 'OrderItemsIn.item[].ShortText', from: 'items[].sku' }\n  - { to: 'OrderItemsIn.item[].TargetQty', from: 'items[].qty' }\n";
    let world = calling(&[("sap.secret", "geheim")], &system, "SalesOrderCreateFromDat2", rows).await;

    // Busy once, then well.
    let busy =
        json!({ "match": "/sap/bc/srt", "method": "POST", "status": 503, "message": "no dialog process", "count": 1 });
    control.send(Method::POST, "/_mock/faults", Some(&busy)).await;
    world.order("P-1").await;
    until("SAP has the order", async || {
        let letters = world.running.letters(State::Open).await;
        assert!(letters.is_empty(), "a dead letter instead: {letters:?}");
        !control.asked().await.is_empty()
    })
    .await;
    world.running.drained().await;
    let asked = control.asked().await;
    assert_eq!(asked.len(), 1, "once: {asked:?}");
    assert_eq!(asked[0]["request"]["OrderHeaderIn"]["PurchNoC"], json!(CUSTOMER), "{asked:?}");
    let items = json!([{ "ShortText": "茶", "TargetQty": "2" }, { "ShortText": "杯", "TargetQty": "1" }]);
    assert_eq!(asked[0]["request"]["OrderItemsIn"], items, "{asked:?}");
    assert_eq!(asked[0]["response"]["RETURN"][0]["TYPE"], "S", "{asked:?}");
    assert!(world.running.letters(State::Open).await.is_empty(), "its answer was taken for a yes");

    let no = json!({ "function": CREATE, "type": "E", "id": "V1", "number": "849", "message": "信用额度 exceeded", "count": 1 });
    control.send(Method::POST, "/_mock/bapi-behaviour", Some(&no)).await;
    world.order("P-2").await;
    let letter = world.running.one_letter().await;
    assert!(letter.summary.text.contains("信用额度 exceeded"), "{}", letter.summary.text);
    assert_eq!((letter.attempts.len(), control.asked().await.len()), (1, 2), "a no in a 200 is not asked again");
    world.running.gateway.stop().await;
}
