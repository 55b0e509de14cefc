//! Synchronous routing: a caller waits while an XML body is routed on a value at its end to an HTTP target, as it came
//! (`pass_through`) and as a message that is judged, against a forwarder on the gateway's own door and client that
//! reads nothing of the body.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_net::door::{Door, DoorConfig, Request, Response, Service};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::contest::free_port;
use crate::load::{self, Sink};
use crate::process::Contestant;
use crate::say;

/// The most that either takes.
const MAX: usize = 16 << 20;

/// An order of about `size` bytes whose last element says where it goes. Large ones have longer texts, so that the number of
/// elements stays below what a body may have.
fn body(size: usize) -> String {
    let more = "x".repeat(if size > 1 << 20 { size / 5000 } else { 0 });
    let line = |n: usize| {
        format!("<line><sku>SKU-{n}</sku><name>龙井茶 {n}{more}</name><qty>{n}</qty><price>99.90</price></line>")
    };
    let mut text = String::from("<order><no>SO-2026-112233</no>");
    for n in 1.. {
        if text.len() + more.len() + 40 >= size {
            break;
        }
        text.push_str(&line(n));
    }
    text.push_str("<route>east</route></order>");
    text
}

/// The forwarder: the role `forward LISTEN SINK`.
pub(crate) async fn forward(listen: &str, sink: &str) -> anyhow::Result<()> {
    let failed = |fault: gatehouse_core::fault::Fault| anyhow!("{fault}");
    let door = Door::bind(DoorConfig { listen: listen.parse()?, ..DoorConfig::default() }).await.map_err(failed)?;
    let config = ClientConfig { address: format!("http://{sink}"), ca_file: None, max_answer: MAX, connections: 256 };
    let forward = Arc::new(Forward { client: Client::new(&config).map_err(failed)? });
    let _mount = door.mount("/", forward).map_err(failed)?;
    door.serve(Box::pin(std::future::pending())).await;
    Ok(())
}

struct Forward {
    client: Client,
}

#[async_trait]
impl Service for Forward {
    async fn call(&self, request: Request) -> Response {
        let (status, body) = self.pass(request).await.unwrap_or((StatusCode::BAD_GATEWAY, Bytes::new()));
        let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static("text/xml"))].into_iter().collect();
        Response { status, headers, body }
    }
}

impl Forward {
    async fn pass(&self, request: Request) -> Option<(StatusCode, Bytes)> {
        let (head, bytes) = request.split(MAX).await.ok()?;
        let mut onward = http::Request::new(bytes);
        *onward.method_mut() = Method::POST;
        *onward.uri_mut() = self.client.url("/").ok()?;
        onward.headers_mut().extend(head.headers.get(CONTENT_TYPE).map(|media| (CONTENT_TYPE, media.clone())));
        let answer = self.client.send(onward).await.ok()?;
        Some((answer.status(), answer.into_body()))
    }
}

/// The site: two routes that wait, each with a condition on the last element.
fn write(root: &Path, listen: &str, admin: &str, sink: &str) -> anyhow::Result<()> {
    for folder in ["systems", "types", "data"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let put = |name: &str, text: &str| std::fs::write(root.join(name), text);
    put("gatehouse.yaml", &format!("version: 1\nlisten: {listen}\nadmin: {{ listen: {admin} }}\n"))?;
    put(
        "systems/shop.yaml",
        "version: 1\nsystem: shop\nadapter: rest\nlimits: { concurrency: 1000, body: 16MiB }\nendpoints:\n  orders: { receive: POST /orders }\n  passing: { receive: POST /passing }\n",
    )?;
    put(
        "systems/east.yaml",
        &format!(
            "version: 1\nsystem: east\nadapter: rest\naddress: http://{sink}\nlimits: {{ concurrency: 256, body: 16MiB }}\nendpoints:\n  \
             put: {{ call: POST /, send: xml, element: order }}\n"
        ),
    )?;
    put(
        "types/order.schema.json",
        r#"{"type":"object","properties":{"route":{"type":"string"}},"required":["route"]}"#,
    )?;
    put(
        "orders.yaml",
        "version: 1\nroutes:\n  - route: orders\n    from: shop/orders\n    exchange: request\n    type: order\n    to:\n      \
         - { target: east/put, when: route == \"east\" }\n  - route: passing\n    from: shop/passing\n    exchange: request\n    \
         pass_through: true\n    to:\n      - { target: east/put, when: route == \"east\" }\n",
    )?;
    Ok(())
}

/// Runs both in turn and prints the ratios.
pub(crate) async fn run(quick: bool) -> anyhow::Result<()> {
    let time = Duration::from_secs(if quick { 3 } else { 8 });
    let sink = Sink::start_saying(Bytes::from_static(b"<ok><route>east</route></ok>")).await?;
    let folder = tempfile::tempdir()?;
    let address = sink.address.to_string();
    let passing = free_port()?;
    let forward = Contestant::start(&["forward", &passing, &address], &passing).await?;
    let (listen, admin) = (free_port()?, free_port()?);
    write(folder.path(), &listen, &admin, &address)?;
    let gateway = Contestant::start(&["gateway", &folder.path().to_string_lossy()], &format!("{admin}/readyz")).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    say("XML in, routed on its last element, 64 connections; each line: answers/s, p50, p99, CPU ms, MB");
    let loads: &[(usize, usize)] = &[(64, 10 << 10), (64, 100 << 10), (4, 1 << 20), (2, 10 << 20)];
    for (connections, size) in loads {
        let body = Bytes::from(body(*size));
        let mut rates = Vec::new();
        for (name, contestant, listen, path) in [
            ("forwarder", &forward, &passing, "/"),
            ("as it came", &gateway, &listen, "/passing"),
            ("as a message", &gateway, &listen, "/orders"),
        ] {
            load::run(listen, path, body.clone(), *connections, Duration::from_millis(700)).await?;
            let cpu = contestant.cpu()?;
            let outcome = load::run(listen, path, body.clone(), *connections, time).await?;
            #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
            let count = outcome.accepted as f64;
            let rate = count / outcome.elapsed.as_secs_f64();
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            say(format!(
                "  {connections} connections, {size} bytes, {name}: {rate:.0}/s, {:.2} ms, {:.2} ms, {:.3} ms, {:.0} MB",
                ms(outcome.percentile(0.5)),
                ms(outcome.percentile(0.99)),
                (contestant.cpu()? - cpu) / count * 1000.0,
                contestant.memory()?
            ));
            rates.push(rate);
        }
        say(format!("  ratios {:.2} and {:.2}", rates[1] / rates[0], rates[2] / rates[0]));
    }
    forward.stop().await?;
    gateway.stop().await
}
