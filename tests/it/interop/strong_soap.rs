//! strong-soap at both ends: it writes its XML with line breaks and indentation, and an empty header.

use std::path::Path;

use gatehouse_store::State;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{call, called, calling, folder, quiet, script, temp};
use crate::harness::KEY;
use crate::peers::{CUSTOMER, ORDER_ROWS, Server, WSDL, XSD, exact, order};

fn node(folder: &Path, name: &str) -> Command {
    let mut node = quiet("node");
    node.env("NODE_PATH", folder.join("node/node_modules")).arg(script(name));
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_calls_in_both_versions() {
    let Some(folder) = folder() else { return };
    let world = called().await;
    for (count, port) in [(1, "Orders11"), (2, "Orders12")] {
        let client = |call: &Value| {
            let mut client = node(&folder, "strong_client.js");
            client.args([&world.url("/soap/oa"), port, KEY, "-", "-", &call.to_string()]);
            client
        };
        let number = format!("S-{count}");
        let mut sent = order(&number);
        sent["Total"] = json!("12345678901234567.89");
        sent["Lines"]["Line"][0]["Tag"] = json!(["a", "<b>"]);
        let answer = call(client(&sent)).await;
        assert_eq!(
            (&answer["ok"]["Got"], answer["ok"]["Count"].to_string().trim_matches('"')),
            (&json!(number), "2"),
            "{answer}"
        );
        let arrived = world.arrived(count).await;
        assert!(world.crm.took()[count - 1].body.contains("\"Total\":12345678901234567.89"), "{arrived}");
        assert_eq!((&arrived["Customer"], &arrived["Note"]), (&json!(CUSTOMER), &json!(null)), "{arrived}");
        assert_eq!(arrived["Lines"]["Line"], sent["Lines"]["Line"], "{arrived}");
        sent["Kind"] = json!("whenever");
        let fault = call(client(&sent)).await;
        let code = if port == "Orders11" { "Client" } else { "Sender" };
        assert!(fault["code"].as_str().is_some_and(|found| found.ends_with(code)), "{fault}");
        assert!(fault.to_string().contains("/Kind"), "{fault}");
    }
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_password_digest_is_known() {
    let Some(folder) = folder() else { return };
    let world = called().await;
    let client = |password: &str, number: &str| {
        let mut client = node(&folder, "strong_client.js");
        let call = exact(&order(number)).replace("12345678901234567.89", "1.50");
        client.args([&world.url("/soap/safe"), "Orders11", "none", "oa", password, &call]);
        client
    };
    let answer = call(client(KEY, "S-1")).await;
    assert_eq!(answer["ok"]["Got"], "S-1", "{answer}");
    world.arrived(1).await;
    let refused = call(client("wrong", "S-2")).await;
    assert!(refused["fault"].as_str().is_some_and(|text| text.contains("missing or wrong")), "{refused}");
    assert_eq!(world.crm.got().len(), 1);
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_called_with_a_header_block() {
    let Some(folder) = folder() else { return };
    let (place, log) = temp();
    std::fs::write(place.path().join("order.wsdl"), WSDL).expect("writes");
    std::fs::write(place.path().join("order.xsd"), XSD).expect("writes");
    let mut serve = node(&folder, "strong_server.js");
    serve.arg(place.path().join("order.wsdl")).arg(&log);
    let server = Server::start(serve, log).await;
    let system = format!(
        "wsdl: wsdl/order.wsdl\nport: Orders11\naddress: http://127.0.0.1:{}/orders\nendpoints:\n  Submit:\n    delivery_id: false\n    headers: [{{ name: Token, namespace: 'urn:t', value: {{ Key: \
         message.key }} }}]\n    success_when: reply.Count == 2\n    error_text: reply.fault.detail.Refused.Why\n",
        server.port
    );
    let world = calling(&[("wsdl/order.wsdl", WSDL), ("wsdl/order.xsd", XSD)], &system, "Submit", ORDER_ROWS).await;
    world.order("S-1").await;
    world.reached(&server).await;
    let got = &server.got()[0];
    assert_eq!((&got["order"]["No"], &got["order"]["Customer"]), (&json!("S-1"), &json!(CUSTOMER)), "{got}");
    assert_eq!(got["order"]["Total"].to_string().trim_matches('"'), "12345678901234567.89", "{got}");
    assert_eq!(got["order"]["Lines"]["Line"][1]["Sku"], "杯", "{got}");
    assert_eq!(got["header"]["Token"]["Key"], "S-1", "{got}");
    world.running.drained().await;
    assert!(world.running.letters(State::Open).await.is_empty());
    world.order("BAD-1").await;
    let letter = world.running.one_letter().await;
    assert!(letter.summary.text.contains("<none> & nothing"), "{}", letter.summary.text);
    assert_eq!(letter.attempts.len(), 1, "a Client fault is not tried again");
    world.running.gateway.stop().await;
}
