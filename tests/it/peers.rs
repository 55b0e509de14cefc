//! Real SOAP toolkits at both ends: zeep, node-soap and PHP call the gateway by the WSDL that it serves; the gateway calls spyne,
//! node-soap and PHP by theirs. Skipped, loudly, where they are not installed (`tests/peers/install.sh`).

use std::path::{Path, PathBuf};
use std::process::Stdio;

use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_store::State;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{KEY, PATIENCE, Peer, Place, Running, until};

pub(crate) const WSDL: &str = include_str!("../peers/order.wsdl");
pub(crate) const XSD: &str = include_str!("../peers/order.xsd");
const RPC: &str = include_str!("../peers/rpc.wsdl");
const TYPE: &str = include_str!("../peers/offer.schema.json");
const REPLY_TYPE: &str = include_str!("../peers/offer_reply.schema.json");
const FILES: &str = include_str!("../peers/files.wsdl");

/// What only texts and exact numbers carry unharmed.
pub(crate) const CUSTOMER: &str = "张三 & <söhne> \"'";

/// From the shop's order to the body of the order service.
pub(crate) const ORDER_ROWS: &str = "  - { to: No, from: orderNo }\n  - { to: Customer, from: customer }\n  - { to: Total, from: amount }\n  - { to: Paid, from: paid }\n  - { to: Due, default: 2026-02-28 }\n  - { to: 'Lines.Line[].Sku', from: 'items[].sku' }\n  - { to: 'Lines.Line[].Qty', from: 'items[].qty' }\n";

/// Where the toolkits are.
fn peers() -> Option<PathBuf> {
    let folder = std::env::var_os("GATEHOUSE_TEST_PEERS").map(PathBuf::from);
    let quick = std::env::var_os("GATEHOUSE_SKIP_SERVERS").is_some();
    if folder.is_none() || quick {
        let required = std::env::var("GATEHOUSE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "GATEHOUSE_TEST_PEERS is not set, and GATEHOUSE_REQUIRE_SERVERS=1: see `./test servers`");
        eprintln!("SKIPPED: GATEHOUSE_TEST_PEERS is not set (or GATEHOUSE_SKIP_SERVERS is): see `./test servers`");
        return None;
    }
    folder
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// A command for a script, in the language that its name says.
fn command(peers: &Path, name: &str) -> Command {
    let mut command = match name.rsplit('.').next() {
        Some("py") => Command::new(peers.join("venv/bin/python")),
        Some("js") => {
            let mut node = Command::new("node");
            node.env("NODE_PATH", peers.join("node/node_modules"));
            node
        }
        _ => Command::new("php"),
    };
    command.arg(script(name)).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Runs a client to its end and reads what it says.
pub(crate) async fn call(mut command: Command) -> Value {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"))
}

/// A server that runs until this is dropped.
pub(crate) struct Server {
    pub(crate) _child: Child,
    pub(crate) port: u16,
    pub(crate) log: PathBuf,
}

impl Server {
    /// Starts one that says `ready PORT`.
    pub(crate) async fn start(mut command: Command, log: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.expect("reads") {
                if let Some(port) = line.strip_prefix("ready ") {
                    return port.trim().parse().expect("a port");
                }
            }
            panic!("the server ended before it was ready");
        });
        let port = port.await.expect("ready in time");
        Self { _child: child, port, log }
    }

    /// What it has logged, a JSON value a line.
    pub(crate) fn got(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// A gateway that a peer calls.
pub(crate) struct Called {
    _place: Place,
    pub(crate) crm: Peer,
    pub(crate) running: Running,
}

pub(crate) async fn called() -> Called {
    let crm = Peer::start().await;
    let accept = "accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }";
    let oa = format!(
        "version: 1\nsystem: oa\nadapter: soap\nwsdl: wsdl/order.wsdl\n{accept}\nendpoints:\n  Submit: {{ listen: /soap/oa, id: No, \
         reply: {{ body: {{ Got: message_id, Count: body.Lines.Line.len() }} }} }}\n"
    );
    let old = format!(
        "version: 1\nsystem: old\nadapter: soap\nwsdl: wsdl/rpc.wsdl\n{accept}\nendpoints:\n  submit: {{ listen: /soap/old, id: order.no, \
         reply: {{ body: {{ result: message_id }} }} }}\n"
    );
    let safe = "version: 1\nsystem: safe\nadapter: soap\nwsdl: wsdl/order.wsdl\naccept: { username_token: { username: oa, password: \"${file:shop.secret}\" } }\n\
        endpoints:\n  Submit: { listen: /soap/safe, id: No, reply: { body: { Got: message_id, Count: body.Lines.Line.len() } } }\n";
    let direct = format!(
        "version: 1\nsystem: direct\nadapter: soap\n{accept}\nendpoints:\n  Submit: {{ listen: /soap/direct, type: direct.order, id: No, \
         reply: {{ type: direct.reply, body: {{ Got: message_id, Count: body.Line.len() }} }} }}\n  \
         Note: {{ listen: /soap/direct, type: direct.reply }}\n"
    );
    let routes = "version: 1\nroutes:\n  - { route: from-direct, from: direct/Submit, type: direct.order, key: No, to: [{ target: crm/put }] }\n  \
        - { route: note-direct, from: direct/Note, type: direct.reply, key: Got, to: [{ target: crm/put }] }\n  - { route: from-safe, from: safe/Submit, type: any.order, key: No, to: [{ target: crm/put }] }\n  - { route: from-oa, from: oa/Submit, type: any.order, key: No, to: [{ target: crm/put }] }\n  - { route: from-old, from: old/submit, type: any.order, key: order.no, to: [{ target: crm/put }] }\n";
    let place = Place::new(&[
        ("orders.yaml", routes),
        ("types/any.order.schema.json", r#"{"type":"object"}"#),
        ("wsdl/order.wsdl", WSDL),
        ("wsdl/order.xsd", XSD),
        ("wsdl/rpc.wsdl", RPC),
        ("systems/oa.yaml", &oa),
        ("systems/old.yaml", &old),
        ("systems/safe.yaml", safe),
        ("systems/direct.yaml", &direct),
        ("types/direct.order.schema.json", TYPE),
        ("types/direct.reply.schema.json", REPLY_TYPE),
        ("systems/crm.yaml", &crm.system("crm", "")),
    ]);
    let running = place.start().await;
    until("the paths to be mounted", async || {
        running.send(http::Method::GET, "/soap/oa", &[], "").await.status != 404
            && running.send(http::Method::GET, "/soap/safe", &[], "").await.status != 404
            && running.send(http::Method::GET, "/soap/direct", &[], "").await.status != 404
            && running.send(http::Method::GET, "/soap/old", &[], "").await.status != 404
    })
    .await;
    Called { _place: place, crm, running }
}

impl Called {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}?wsdl", self.running.gateway.address)
    }

    /// What the CRM got for an order.
    pub(crate) async fn arrived(&self, count: usize) -> Value {
        until("the CRM has it", async || self.crm.took().len() >= count).await;
        serde_json::from_str(&self.crm.took()[count - 1].body).expect("JSON")
    }
}

pub(crate) fn order(number: &str) -> Value {
    json!({
        "No": number, "Customer": CUSTOMER, "Note": null, "Total": 0, "Paid": true, "Due": "2026-02-28", "Kind": "urgent",
        "Lines": { "Line": [{ "Sku": "茶", "Qty": 2, "Tag": ["a", "b"] }, { "Sku": "杯", "Qty": 1 }] },
    })
}

/// The call as text, with a total that no float holds.
pub(crate) fn exact(order: &Value) -> String {
    order.to_string().replace("\"Total\":0", "\"Total\":12345678901234567.89")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeep_calls_in_both_versions() {
    let Some(peers) = peers() else { return };
    let world = called().await;
    for (count, port) in [(1, "Orders11"), (2, "Orders12")] {
        let number = format!("Z-{count}");
        let zeep = |call: &str| {
            let mut zeep = command(&peers, "zeep_client.py");
            zeep.args([&world.url("/soap/oa"), port, KEY, "-", "-", call]);
            zeep
        };
        let answer = call(zeep(&exact(&order(&number)))).await;
        assert_eq!(answer["ok"], json!({ "Got": number, "Count": 2 }), "{answer}");
        let arrived = world.arrived(count).await;
        assert!(world.crm.took()[count - 1].body.contains("\"Total\":12345678901234567.89"), "{arrived}");
        assert_eq!((&arrived["Customer"], &arrived["Note"]), (&json!(CUSTOMER), &Value::Null));
        assert_eq!(arrived["Lines"]["Line"], order("")["Lines"]["Line"], "{arrived}");

        let mut bad = order("Z-BAD");
        bad["Kind"] = json!("whenever");
        let fault = call(zeep(&exact(&bad))).await;
        let code = if port == "Orders11" { "soap:Client" } else { "soap:Sender" };
        assert!(fault["code"].as_str().is_some_and(|found| found.ends_with(code)), "{fault}");
        assert!(fault["detail"].as_str().is_some_and(|detail| detail.contains("/Kind")), "{fault}");
    }
    assert_eq!(world.crm.got().len(), 2);
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_soap_calls_in_both_versions() {
    let Some(peers) = peers() else { return };
    let world = called().await;
    for (count, port) in [(1, "Orders11"), (2, "Orders12")] {
        let number = format!("N-{count}");
        let node = |call: &Value| {
            let mut node = command(&peers, "node_client.js");
            node.args([&world.url("/soap/oa"), port, KEY, "-", "-", &call.to_string()]);
            node
        };
        let mut sent = order(&number);
        // A double of its own; what JavaScript cannot hold it cannot send.
        sent["Total"] = json!("1234567.89");
        sent.as_object_mut().expect("a map").remove("Note");
        let answer = call(node(&sent)).await;
        assert_eq!(answer["ok"]["Got"], json!(number), "{answer}");
        let arrived = world.arrived(count).await;
        assert_eq!((&arrived["Customer"], &arrived["Total"]), (&json!(CUSTOMER), &json!(1_234_567.89)), "{arrived}");
        assert_eq!(arrived["Lines"]["Line"], order("")["Lines"]["Line"], "{arrived}");
        sent["Due"] = json!("yesterday");
        let fault = call(node(&sent)).await;
        assert!(fault.to_string().contains("/Due"), "{fault}");
    }
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_digests_of_zeep_and_node_soap_are_known() {
    let Some(peers) = peers() else { return };
    let world = called().await;
    let url = world.url("/soap/safe");
    let mut sent = order("W-0");
    sent["Total"] = json!("1.50");
    sent.as_object_mut().expect("a map").remove("Note");
    for (index, name) in ["zeep_client.py", "node_client.js"].iter().enumerate() {
        let with = |password: &str, sent: &Value| {
            let mut client = command(&peers, name);
            client.args([&url, "Orders11", "none", "oa", password, &sent.to_string()]);
            client
        };
        sent["No"] = json!(format!("W-{index}"));
        let answer = call(with(KEY, &sent)).await;
        assert_eq!(answer["ok"]["Got"], sent["No"], "{name}: {answer}");
        world.arrived(index + 1).await;
        let refused = call(with("wrong", &sent)).await;
        assert!(refused["fault"].as_str().is_some_and(|text| text.contains("missing or wrong")), "{name}: {refused}");
    }
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn php_calls_with_references_and_arrays() {
    let Some(peers) = peers() else { return };
    let world = called().await;
    let php = |call: &Value| {
        let mut php = command(&peers, "php_client.php");
        php.args([&world.url("/soap/old"), KEY, "submit", &call.to_string()]);
        php
    };
    let order = json!({ "no": "P-1", "customer": CUSTOMER, "total": "12345678901234567.89", "paid": true, "lines": [{ "sku": "茶", "qty": 2 }] });
    let answer = call(php(&json!(["t", order]))).await;
    assert_eq!(answer["ok"], "P-1", "{answer}");
    let arrived = world.arrived(1).await;
    assert_eq!(arrived["order"]["customer"], json!(CUSTOMER));
    assert_eq!(arrived["order"]["lines"], json!([{ "sku": "茶", "qty": 2 }, { "sku": "茶", "qty": 2 }]));
    assert!(world.crm.took()[0].body.contains("\"total\":12345678901234567.89"), "{arrived}");
    world.running.gateway.stop().await;
}

/// An order as the contract has it that is made of a type.
fn direct(number: &str) -> Value {
    json!({
        "No": number, "Customer": CUSTOMER, "Note": null, "Total": 0, "Paid": true, "Due": "2026-02-28", "Kind": "urgent", "Weight": 12,
        "Buyer": { "Name": "甲", "Parent": { "Name": "乙" } },
        "Line": [{ "Sku": "茶", "Qty": 2, "Tag": ["a", "b"] }, { "Sku": "杯", "Qty": 1, "Tag": [] }],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeep_calls_by_a_contract_that_is_made_of_a_type() {
    let Some(peers) = peers() else { return };
    let world = called().await;
    for (count, port) in [(1, "direct11"), (2, "direct12")] {
        let number = format!("ZD-{count}");
        let zeep = |call: &Value| {
            let mut zeep = command(&peers, "zeep_client.py");
            zeep.args([&world.url("/soap/direct"), port, KEY, "-", "-", &exact(call)]);
            zeep
        };
        let answer = call(zeep(&direct(&number))).await;
        assert_eq!(answer["ok"], json!({ "Got": number, "Count": 2 }), "{answer}");
        let arrived = world.arrived(2 * count - 1).await;
        assert!(world.crm.took()[2 * count - 2].body.contains("\"Total\":12345678901234567.89"), "{arrived}");
        let mut expected = direct(&number);
        expected["Total"] = arrived["Total"].clone();
        assert_eq!(arrived, expected);

        let mut bad = direct("ZD-BAD");
        bad["Kind"] = json!("whenever");
        let fault = call(zeep(&bad)).await;
        let code = if port == "direct11" { "soap:Client" } else { "soap:Sender" };
        assert!(fault["code"].as_str().is_some_and(|found| found.ends_with(code)), "{fault}");
        let subcodes = if port == "direct11" { json!([]) } else { json!(["{urn:gatehouse}invalid"]) };
        assert_eq!(fault["subcodes"], subcodes, "{fault}");
        assert!(fault["detail"].as_str().is_some_and(|detail| detail.contains("/Kind")), "{fault}");

        // An operation without a type for its reply answers the message's id.
        let answer = call(zeep(&json!({ "$operation": "Note", "Got": format!("g{count}"), "Count": 5 }))).await;
        assert!(answer["ok"].as_str().is_some_and(|id| id.len() == 36), "{answer}");
        assert_eq!(world.arrived(2 * count).await, json!({ "Got": format!("g{count}"), "Count": 5 }));
    }
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_soap_and_php_call_by_a_contract_that_is_made_of_a_type() {
    let Some(peers) = peers() else { return };
    let world = called().await;
    let url = world.url("/soap/direct");
    let node = |port: &str, call: &Value| {
        let mut node = command(&peers, "node_client.js");
        node.args([&url, port, KEY, "-", "-", &call.to_string()]);
        node
    };
    let php = |call: &Value| {
        let mut php = command(&peers, "php_client.php");
        php.args([&url, KEY, "Submit", &json!([call]).to_string()]);
        php
    };
    for (count, name) in ["direct11", "direct12", "php"].iter().enumerate() {
        let mut sent = direct(&format!("ND-{count}"));
        sent["Total"] = json!("1234567.89");
        sent.as_object_mut().expect("a map").remove("Note");
        let client = |sent: &Value| if *name == "php" { php(sent) } else { node(name, sent) };
        let answer = call(client(&sent)).await;
        assert_eq!((&answer["ok"]["Got"], &answer["ok"]["Count"]), (&sent["No"], &json!(2)), "{name}: {answer}");
        let arrived = world.arrived(count + 1).await;
        sent["Total"] = json!(1_234_567.89);
        assert_eq!(arrived, sent, "{name}");
        sent["Due"] = json!("yesterday");
        let fault = call(client(&sent)).await;
        // PHP leaves attributes away where an element has text; the text names the value.
        assert!(fault.to_string().contains("`yesterday` is not a date"), "{name}: {fault}");
    }
    world.running.gateway.stop().await;
}

/// A gateway that calls a peer.
pub(crate) struct Calling {
    _place: Place,
    pub(crate) running: Running,
}

/// `system`: the lines of its file beyond the head; `map`: the rows from the shop's order to the operation's body.
pub(crate) async fn calling(files: &[(&str, &str)], system: &str, operation: &str, map: &str) -> Calling {
    let routes = format!(
        "version: 1\nroutes:\n  - {{ route: shop, from: shop/orders, type: any.order, key: orderNo, to: [{{ target: erp/{operation}, map: to-erp, \
         retry: {{ attempts: 3, first: 100ms, max: 300ms }} }}] }}\n"
    );
    let file = format!("version: 1\nsystem: erp\nadapter: soap\n{system}");
    let map = format!("version: 1\nmapping: to-erp\nrows:\n{map}");
    let mut all = vec![
        ("orders.yaml", routes.as_str()),
        ("types/any.order.schema.json", r#"{"type":"object"}"#),
        ("mappings/to-erp.yaml", map.as_str()),
        ("systems/erp.yaml", file.as_str()),
    ];
    all.extend_from_slice(files);
    let place = Place::new(&all);
    let running = place.start().await;
    Calling { _place: place, running }
}

impl Calling {
    pub(crate) async fn order(&self, number: &str) {
        let text = json!({ "orderNo": number, "customer": CUSTOMER, "paid": true, "items": [{ "sku": "茶", "qty": 2 }, { "sku": "杯", "qty": 1 }] });
        let text = text.to_string().replace("\"paid\"", "\"amount\":12345678901234567.89,\"paid\"");
        let answer = self.running.post("/hooks/orders", text).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

impl Calling {
    /// Waits until the peer has got something; a dead letter says why it has not.
    pub(crate) async fn reached(&self, server: &Server) {
        until("the peer has it", async || {
            let letters = self.running.letters(State::Open).await;
            assert!(letters.is_empty(), "a dead letter instead: {letters:?}");
            !server.got().is_empty()
        })
        .await;
    }
}

pub(crate) fn temp() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("got.jsonl");
    (folder, log)
}

/// spyne in a version of SOAP, and its WSDL.
async fn spyne(peers: &Path, version: &str) -> (tempfile::TempDir, Server, String) {
    let (folder, log) = temp();
    let mut spyne = command(peers, "spyne_server.py");
    spyne.args([version, &log.to_string_lossy()]);
    let server = Server::start(spyne, log).await;
    let wsdl = fetch(server.port, "/?wsdl").await;
    (folder, server, wsdl)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spyne_is_called_by_its_own_wsdl() {
    let Some(peers) = peers() else { return };
    for version in ["11", "12"] {
        let (_folder, server, wsdl) = spyne(&peers, version).await;
        let system = format!(
            "wsdl: wsdl/spyne.wsdl\naddress: http://127.0.0.1:{}/\nsoap: \"1.{}\"\nendpoints:\n  submit:\n    delivery_id: false\n    headers: [{{ name: Token, \
             namespace: urn:spyne, value: {{ value: message.key }} }}]\n",
            server.port,
            &version[1..]
        );
        let rows = "  - { to: order.no, from: orderNo }\n  - { to: order.customer, from: customer }\n  - { to: order.total, from: amount }\n  - { to: order.paid, from: paid }\n  - { to: order.due, default: 2026-02-28 }\n  - { to: 'order.lines.Line[].sku', from: 'items[].sku' }\n  - { to: 'order.lines.Line[].qty', from: 'items[].qty' }\n";
        let world = calling(&[("wsdl/spyne.wsdl", &wsdl)], &system, "submit", rows).await;
        world.order("S-1").await;
        world.reached(&server).await;
        assert_eq!(
            server.got()[0],
            json!({
                "no": "S-1", "customer": CUSTOMER, "note": null, "total": "12345678901234567.89", "paid": true, "due": "2026-02-28",
                "lines": [{ "sku": "茶", "qty": 2, "tag": null }, { "sku": "杯", "qty": 1, "tag": null }], "token": "S-1",
            })
        );
        world.order("BAD-1").await;
        let letter = world.running.one_letter().await;
        assert!(letter.summary.text.contains("客户不存在"), "{}", letter.summary.text);
        assert_eq!(letter.attempts.len(), 1, "a Client fault is not tried again");
        world.running.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spyne_takes_bytes_as_parts() {
    let Some(peers) = peers() else { return };
    for version in ["11", "12"] {
        let (_folder, server, wsdl) = spyne(&peers, version).await;
        let system = format!(
            "wsdl: wsdl/spyne.wsdl\naddress: http://127.0.0.1:{}/\nsoap: \"1.{}\"\nendpoints:\n  upload: {{ delivery_id: false, attachments: {{ as: mtom }} }}\n",
            server.port,
            &version[1..]
        );
        let rows = "  - { to: name, from: customer }\n  - { to: content, default: 'AQINCg0KLS0A' }\n";
        let world = calling(&[("wsdl/spyne.wsdl", &wsdl)], &system, "upload", rows).await;
        world.order("F-1").await;
        world.reached(&server).await;
        assert_eq!(
            server.got()[0],
            json!({ "name": CUSTOMER, "content": "AQINCg0KLS0A", "media": "multipart/related" })
        );
        world.running.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeep_reads_a_reply_with_parts() {
    let Some(peers) = peers() else { return };
    let crm = Peer::start().await;
    let files = "version: 1\nsystem: files\nadapter: soap\nwsdl: wsdl/files.wsdl\naccept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }\n\
        endpoints:\n  Exchange: { listen: /soap/files, attachments: { as: mtom }, reply: { body: { Name: body.Name, Content: body.Content } } }\n";
    let routes =
        "version: 1\nroutes:\n  - { route: files, from: files/Exchange, type: any.file, to: [{ target: crm/put }] }\n";
    let place = Place::new(&[
        ("orders.yaml", routes),
        ("types/any.file.schema.json", r#"{"type":"object"}"#),
        ("wsdl/files.wsdl", FILES),
        ("systems/files.yaml", files),
        ("systems/crm.yaml", &crm.system("crm", "")),
    ]);
    let running = place.start().await;
    until("the path to be mounted", async || {
        running.send(http::Method::GET, "/soap/files", &[], "").await.status != 404
    })
    .await;
    let url = format!("http://{}/soap/files?wsdl", running.gateway.address);
    let sent = json!({ "$operation": "Exchange", "Name": CUSTOMER, "Content": ["AQINCg0KLS0A", "aGVsbG8="] });
    for port in ["Files11", "Files12"] {
        let mut zeep = command(&peers, "zeep_client.py");
        zeep.args([&url, port, KEY, "-", "-", &sent.to_string()]);
        let answer = call(zeep).await;
        assert_eq!(answer["ok"], json!({ "Name": CUSTOMER, "Content": ["AQINCg0KLS0A", "aGVsbG8="] }), "{answer}");
    }
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_soap_is_called_and_refuses_in_a_200() {
    let Some(peers) = peers() else { return };
    let (folder, log) = temp();
    std::fs::write(folder.path().join("order.wsdl"), WSDL).expect("writes");
    std::fs::write(folder.path().join("order.xsd"), XSD).expect("writes");
    let mut node = command(&peers, "node_server.js");
    node.args([folder.path().join("order.wsdl"), log.clone()]);
    let server = Server::start(node, log).await;
    let system = format!(
        "wsdl: wsdl/order.wsdl\nport: Orders11\naddress: http://127.0.0.1:{}/orders\nendpoints:\n  Submit: {{}}\n",
        server.port
    );
    let world = calling(&[("wsdl/order.wsdl", WSDL), ("wsdl/order.xsd", XSD)], &system, "Submit", ORDER_ROWS).await;
    world.order("N-1").await;
    world.reached(&server).await;
    let got = &server.got()[0];
    assert_eq!((&got["No"], &got["Customer"]), (&json!("N-1"), &json!(CUSTOMER)), "{got}");
    assert_eq!(got["Lines"]["Line"][1]["Sku"], "杯", "{got}");
    world.running.drained().await;
    assert!(world.running.letters(State::Open).await.is_empty());

    world.order("BAD200-1").await;
    let letter = world.running.one_letter().await;
    assert!(letter.summary.text.contains("库存不足"), "{}", letter.summary.text);
    assert_eq!(letter.attempts.len(), 1);
    world.order("BAD500-1").await;
    until("the second letter", async || world.running.letters(State::Open).await.len() == 2).await;
    let tries = server.got().iter().filter(|got| got["No"] == "BAD500-1").count();
    assert_eq!(tries, 3, "a Server fault is tried again");
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_php_server_takes_rpc_encoded_calls() {
    let Some(_) = peers() else { return };
    let (folder, log) = temp();
    let wsdl = folder.path().join("rpc.wsdl");
    std::fs::write(&wsdl, RPC).expect("writes");
    // `php -S` takes no port 0: a free one is found, and given up just before.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut php = Command::new("php");
    php.args(["-q", "-S", &format!("127.0.0.1:{port}")])
        .arg(script("php_server.php"))
        .env("PEER_LOG", &log)
        .env("PEER_WSDL", &wsdl);
    let child = php
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let server = Server { _child: child, port, log };
    until("PHP listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    let system = format!("wsdl: wsdl/rpc.wsdl\naddress: http://127.0.0.1:{port}/\nendpoints:\n  submit: {{}}\n");
    let rows = "  - { to: token, default: t }\n  - { to: order.no, from: orderNo }\n  - { to: order.customer, from: customer }\n  - { to: order.total, from: amount }\n  - { to: order.paid, from: paid }\n  - { to: 'order.lines[].sku', from: 'items[].sku' }\n  - { to: 'order.lines[].qty', from: 'items[].qty' }\n";
    let world = calling(&[("wsdl/rpc.wsdl", RPC)], &system, "submit", rows).await;
    world.order("P-1").await;
    world.reached(&server).await;
    assert_eq!(
        server.got()[0],
        json!({ "token": "t", "order": { "no": "P-1", "customer": CUSTOMER, "total": "12345678901234567.89", "paid": true,
            "lines": [{ "sku": "茶", "qty": 2 }, { "sku": "杯", "qty": 1 }] } })
    );
    world.order("BAD-1").await;
    let letter = world.running.one_letter().await;
    assert!(letter.summary.text.contains("没有这个客户"), "{}", letter.summary.text);
    world.running.gateway.stop().await;
}

/// A document of a peer.
pub(crate) async fn fetch(port: u16, path: &str) -> String {
    let address = format!("http://127.0.0.1:{port}");
    let config = ClientConfig { address, ca_file: None, max_answer: 1 << 20, connections: 1 };
    let client = Client::new(&config).expect("a client");
    let uri = client.url(path).expect("a path");
    let request = http::Request::builder().uri(uri).body(bytes::Bytes::new()).expect("a request");
    let answer = client.send(request);
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("in time").expect("answers");
    assert_eq!(answer.status(), 200);
    String::from_utf8(answer.into_body().to_vec()).expect("UTF-8")
}
