//! Mono, which is what is nearest to .NET here: its ASMX client calls, its WCF is called.

use gatehouse_store::State;
use serde_json::json;

use super::{call, called, calling, fetch, folder, quiet, temp};
use crate::harness::KEY;
use crate::peers::{CUSTOMER, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_asmx_client_calls() {
    let Some(folder) = folder() else { return };
    let world = called().await;
    let client = |number: &str| {
        let mut client = quiet("mono");
        client.arg(folder.join("mono/client.exe"));
        client.args([world.url("/soap/oa").trim_end_matches("?wsdl"), KEY, number, CUSTOMER, "urgent"]);
        client
    };
    assert_eq!(call(client("M-1")).await, json!({ "ok": { "Got": "M-1", "Count": 2 } }));
    let arrived = world.arrived(1).await;
    assert!(world.crm.took()[0].body.contains("\"Total\":12345678901234567.89"), "{arrived}");
    let lines = json!([{ "Sku": "茶", "Qty": 2, "Tag": ["a", "<b>"] }, { "Sku": "杯", "Qty": 1 }]);
    assert_eq!((&arrived["Customer"], &arrived["Lines"]["Line"]), (&json!(CUSTOMER), &lines), "{arrived}");
    // A null of C# is `xsi:nil` where the schema allows it.
    assert_eq!(
        (&arrived["Note"], &arrived["Kind"], &arrived["Due"]),
        (&json!(null), &json!("urgent"), &json!("2026-02-28"))
    );
    let fault = call(client("")).await;
    assert_eq!(fault["code"], "Client", "{fault}");
    assert!(fault["fault"].as_str().is_some_and(|text| text.contains("own id is missing at `No`")), "{fault}");
    assert!(fault["detail"].as_str().is_some_and(|text| text.contains("malformed")), "{fault}");
    assert_eq!(world.crm.got().len(), 1);
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wcf_is_called_by_its_own_wsdl() {
    let Some(folder) = folder() else { return };
    let (_folder, log) = temp();
    let mut serve = quiet("mono");
    serve.arg(folder.join("mono/server.exe")).arg(&log);
    let server = Server::start(serve, log).await;
    // A WSDL in two files and three schemas, which refer to each other by addresses.
    let mut files = Vec::new();
    for (path, name) in [
        ("/orders?wsdl", "wsdl/orders.wsdl"),
        ("/orders?wsdl=wsdl0", "wsdl/orders_wsdl_wsdl0.wsdl"),
        ("/orders?xsd=xsd0", "wsdl/orders_xsd_xsd0.xsd"),
        ("/orders?xsd=xsd1", "wsdl/orders_xsd_xsd1.xsd"),
        ("/orders?xsd=xsd2", "wsdl/orders_xsd_xsd2.xsd"),
    ] {
        files.push((name, fetch(server.port, path).await));
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let system = format!(
        "wsdl: wsdl/orders.wsdl\naddress: http://127.0.0.1:{}/orders\nendpoints:\n  Submit:\n    success_when: 'reply.SubmitResult.Lines.Line[1].Qty == 1 && \
         reply.SubmitResult.Got == \"{}\" && reply.SubmitResult.Total == 12345678901234567.89'\n    error_text: reply.fault.detail.Refused.Why\n",
        server.port,
        CUSTOMER.replace('"', "\\\"").replace('\'', "''")
    );
    let rows = "  - { to: order.No, from: orderNo }\n  - { to: order.Customer, from: customer }\n  - { to: order.Total, from: amount }\n  - { to: order.Paid, from: paid }\n  - { to: order.Due, default: '2026-02-28T00:00:00' }\n  - { to: 'order.Lines.Line[].Sku', from: 'items[].sku' }\n  - { to: 'order.Lines.Line[].Qty', from: 'items[].qty' }\n";
    let world = calling(&files, &system, "Submit", rows).await;
    world.order("W-1").await;
    world.reached(&server).await;
    assert_eq!(
        server.got()[0],
        json!({ "No": "W-1", "Customer": CUSTOMER, "Note": null, "Total": "12345678901234567.89", "Paid": true, "Due": "2026-02-28",
            "Lines": [{ "Sku": "茶", "Qty": 2, "Tags": null }, { "Sku": "杯", "Qty": 1, "Tags": null }] })
    );
    world.running.drained().await;
    assert!(world.running.letters(State::Open).await.is_empty(), "its answer was read");
    // Its fault has a header block that must be understood, and says `Sender` in SOAP 1.1.
    world.order("BAD-1").await;
    let letter = world.running.one_letter().await;
    assert!(letter.summary.text.contains("库存不足 & <none>"), "{}", letter.summary.text);
    assert_eq!(letter.attempts.len(), 1, "the sender is to blame");
    world.running.gateway.stop().await;
}
