//! More real SOAP toolkits at both ends, those that take minutes to install: JAX-WS RI (MTOM), Axis 1.4 (rpc/encoded, multiRef), gSOAP,
//! SOAP::Lite, suds; and in modules of their own strong-soap, Mono, zeep with signatures, mock-sap. Run by `./test interop`, which names
//! their folder; skipped, loudly, elsewhere.

mod dotnet;
mod sap;
mod signed;
mod strong_soap;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use crate::harness::{KEY, Peer, Place, until};
use crate::peers::{CUSTOMER, Server, call, called, calling, fetch, temp};

/// What bytes have to survive.
const BYTES: &str = "AQINCg0KLS0A";

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("GATEHOUSE_TEST_INTEROP").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: GATEHOUSE_TEST_INTEROP is not set: see `./test interop`");
    }
    folder
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/interop").join(name)
}

fn quiet(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Java with the classes of one of the toolkits: each brings an API of its own time.
fn java(folder: &Path, toolkit: &str) -> Command {
    let classpath = std::fs::read_to_string(folder.join("java").join(toolkit)).expect("the class path");
    let mut java = quiet("java");
    java.current_dir(folder.join("java")).args(["-Dfile.encoding=UTF-8", "-cp", &format!("{classpath}.")]);
    java
}

async fn jax(folder: &Path, log: PathBuf) -> Server {
    let mut serve = java(folder, "jax");
    serve.args(["Jax", "serve"]).arg(&log);
    Server::start(serve, log).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jax_ws_takes_bytes_as_parts() {
    let Some(folder) = folder() else { return };
    let (_folder, log) = temp();
    let server = jax(&folder, log).await;
    let wsdl = fetch(server.port, "/files?wsdl").await;
    let system = format!(
        "wsdl: wsdl/jax.wsdl\naddress: http://127.0.0.1:{}/files\nendpoints:\n  upload: {{ attachments: {{ as: mtom }}, success_when: 'reply.back == \"{BYTES}\"' }}\n",
        server.port
    );
    let rows = format!("  - {{ to: name, from: customer }}\n  - {{ to: content, default: '{BYTES}' }}\n");
    let world = calling(&[("wsdl/jax.wsdl", &wsdl)], &system, "upload", &rows).await;
    world.order("J-1").await;
    world.reached(&server).await;
    assert_eq!(server.got()[0], json!({ "name": CUSTOMER, "content": BYTES, "media": "multipart/related" }));
    // Done: its answer, in parts too, holds the same bytes.
    world.running.drained().await;
    assert!(world.running.letters(gatehouse_store::State::Open).await.is_empty());
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jax_ws_sends_parts_in_chunks_and_reads_those_of_the_reply() {
    let Some(folder) = folder() else { return };
    let (_folder, log) = temp();
    let server = jax(&folder, log).await;
    let wsdl = fetch(server.port, "/files?wsdl").await;
    let crm = Peer::start().await;
    let system = "version: 1\nsystem: files\nadapter: soap\nwsdl: wsdl/jax.wsdl\naccept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }\n\
        endpoints:\n  upload: { listen: /soap/files, attachments: { as: mtom }, reply: { body: { back: body.content } } }\n";
    let routes =
        "version: 1\nroutes:\n  - { route: files, from: files/upload, type: any.file, to: [{ target: crm/put }] }\n";
    let place = Place::new(&[
        ("orders.yaml", routes),
        (
            "types/any.file.schema.json",
            r#"{"type":"object","properties":{"name":{"type":"string","maxLength":30}},"required":["name"]}"#,
        ),
        ("wsdl/jax.wsdl", &wsdl),
        ("systems/files.yaml", system),
        ("systems/crm.yaml", &crm.system("crm", "")),
    ]);
    let running = place.start().await;
    until("the path to be mounted", async || {
        running.send(http::Method::GET, "/soap/files", &[], "").await.status != 404
    })
    .await;
    // The client reads the WSDL without a key, from the server; where it calls the gateway that WSDL says.
    let local = wsdl.replace(
        &format!("http://127.0.0.1:{}/files", server.port),
        &format!("http://{}/soap/files", running.gateway.address),
    );
    assert_ne!(local, wsdl);
    place.write("local.wsdl", &local);
    let client = |name: &str| {
        let mut client = java(&folder, "jax");
        let url = format!("file://{}", place.root().join("local.wsdl").display());
        client.args(["Jax", "call", &url, KEY, name, BYTES]);
        client
    };
    assert_eq!(call(client(CUSTOMER)).await, json!({ "ok": BYTES }));
    until("the CRM has it", async || !crm.took().is_empty()).await;
    assert_eq!(crm.took()[0].json(), json!({ "name": CUSTOMER, "content": BYTES }));
    let fault = call(client("a name of more than thirty characters")).await;
    assert!(fault["fault"].as_str().is_some_and(|text| text.contains("SOAP Fault")), "{fault}");
    running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axis_takes_rpc_encoded_calls_and_answers_with_references() {
    let Some(folder) = folder() else { return };
    let (_folder, log) = temp();
    // SimpleAxisServer takes no port 0: a free one is found, and given up just before.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut axis = java(&folder, "axis");
    axis.arg(format!("-Dlog={}", log.display()))
        .args(["org.apache.axis.transport.http.SimpleAxisServer", "-p", &port.to_string()])
        .stdout(Stdio::null());
    let server = Server { _child: axis.spawn().expect("starts"), port, log };
    until("Axis listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    let wsdl = fetch(port, "/axis/services/OldOrders?wsdl").await;
    let system = format!(
        "wsdl: wsdl/axis.wsdl\naddress: http://127.0.0.1:{port}/axis/services/OldOrders\nendpoints:\n  submit: {{ success_when: 'reply.submitReturn.lines[1].qty == 1 && \
         reply.submitReturn.customer == \"{}\" && reply.submitReturn.total == 12345678901234567.89' }}\n",
        CUSTOMER.replace('"', "\\\"").replace('\'', "''")
    );
    let rows = "  - { to: in0, default: t }\n  - { to: in1.no, from: orderNo }\n  - { to: in1.customer, from: customer }\n  - { to: in1.total, from: amount }\n  - { to: in1.paid, from: paid }\n  - { to: 'in1.lines[].sku', from: 'items[].sku' }\n  - { to: 'in1.lines[].qty', from: 'items[].qty' }\n";
    let world = calling(&[("wsdl/axis.wsdl", &wsdl)], &system, "submit", rows).await;
    world.order("A-1").await;
    world.reached(&server).await;
    assert_eq!(
        server.got()[0],
        json!({ "token": "t", "no": "A-1", "customer": CUSTOMER, "total": "12345678901234567.89", "paid": true,
            "lines": [{ "sku": "茶", "qty": 2 }, { "sku": "杯", "qty": 1 }] })
    );
    world.running.drained().await;
    assert!(
        world.running.letters(gatehouse_store::State::Open).await.is_empty(),
        "its answer, in references, was read"
    );
    world.order("BAD-1").await;
    let letter = world.running.one_letter().await;
    assert!(letter.summary.text.contains("没有这个客户"), "{}", letter.summary.text);
    world.running.gateway.stop().await;
}

/// A caller of the document service: told a number and a kind, it sends the order of these tests.
async fn document_caller(what: &str, client: impl Fn(&str, &str, &str) -> Command) {
    let world = called().await;
    let answer = call(client(&world.url("/soap/oa"), "D-1", "urgent")).await;
    assert_eq!((&answer["ok"]["Got"], &answer["ok"]["Count"]), (&json!("D-1"), &json!(2)), "{what}: {answer}");
    let arrived = world.arrived(1).await;
    assert!(world.crm.took()[0].body.contains("\"Total\":12345678901234567.89"), "{what}: {arrived}");
    assert_eq!(arrived["Customer"], json!(CUSTOMER), "{what}");
    let lines = json!([{ "Sku": "茶", "Qty": 2, "Tag": ["a", "<b>"] }, { "Sku": "杯", "Qty": 1 }]);
    assert_eq!(arrived["Lines"]["Line"], lines, "{what}: {arrived}");
    let fault = call(client(&world.url("/soap/oa"), "D-2", "whenever")).await;
    assert!(fault["fault"].as_str().is_some_and(|text| text.contains("Submit")), "{what}: {fault}");
    assert_eq!(world.crm.got().len(), 1, "{what}");
    world.running.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gsoap_calls() {
    let Some(folder) = folder() else { return };
    document_caller("gSOAP", |url, number, kind| {
        let mut client = quiet(folder.join("gsoap/client"));
        client.args([url.trim_end_matches("?wsdl"), KEY, number, CUSTOMER, kind]);
        client
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suds_calls() {
    let Some(folder) = folder() else { return };
    document_caller("suds", |url, number, kind| {
        let mut client = quiet(folder.join("venv/bin/python"));
        client.arg(script("suds_client.py")).args([url, KEY, number, CUSTOMER, kind]);
        client
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soap_lite_calls_without_a_wsdl() {
    let Some(_) = folder() else { return };
    let world = called().await;
    let client = |number: &str| {
        let mut client = quiet("perl");
        client.arg(script("soaplite_client.pl"));
        client.args([world.url("/soap/old").trim_end_matches("?wsdl"), KEY, number, CUSTOMER]);
        client
    };
    assert_eq!(call(client("P-1")).await, json!({ "ok": "P-1" }));
    let arrived = world.arrived(1).await;
    assert_eq!(arrived["order"]["customer"], json!(CUSTOMER));
    assert_eq!(arrived["order"]["lines"], json!([{ "sku": "茶", "qty": 2 }, { "sku": "杯", "qty": 1 }]), "{arrived}");
    assert!(world.crm.took()[0].body.contains("\"total\":12345678901234567.89"), "{arrived}");
    let fault = call(client("BAD-1")).await;
    assert!(fault["code"].as_str().is_some_and(|code| code.ends_with("Client")), "{fault}");
    world.running.gateway.stop().await;
}
