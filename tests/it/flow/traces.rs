//! One trace from the caller's context, through the bus, to the target; and its spans at a collector.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_net::door::{Door, DoorConfig, Request, Response, Service};
use http::{HeaderMap, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::harness::{GATEWAY, KEY, Place, order, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

const ROUTES: &str = "version: 1
routes:
  - { route: orders, from: shop/orders, type: order.paid, to: [{ target: crm/put }] }
";

/// Keeps what it is sent: path, `traceparent`, body.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<(String, String, Bytes)>>>);

impl Ear {
    fn heard(&self, path: &str) -> Vec<(String, Bytes)> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|one| one.0 == path).map(|one| (one.1.clone(), one.2.clone())).collect()
    }
}

#[async_trait]
impl Service for Ear {
    async fn call(&self, request: Request) -> Response {
        let path = request.path.clone();
        let context = request.headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let body = request.read(1 << 20).await.expect("a body");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((path, context, body));
        Response { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

async fn send(telemetry: impl Fn(&str) -> String) -> (Ear, String) {
    let ear = Ear::default();
    let door =
        Door::bind(DoorConfig { listen: ([127, 0, 0, 1], 0).into(), ..DoorConfig::default() }).await.expect("a port");
    let _mount = door.mount("/", Arc::new(ear.clone())).expect("mounts");
    let address = door.addr().to_string();
    let stop = CancellationToken::new();
    let _stopping = stop.clone().drop_guard();
    tokio::spawn(door.serve(Box::pin(stop.cancelled_owned())));

    let crm = format!(
        "version: 1\nsystem: crm\nadapter: rest\naddress: http://{address}\nendpoints:\n  put: {{ call: POST /orders }}\n"
    );
    let gateway = format!("{GATEWAY}{}", telemetry(&address));
    let place = Place::new(&[("orders.yaml", ROUTES), ("systems/crm.yaml", &crm), ("gatehouse.yaml", &gateway)]);
    let running = place.start().await;
    let context = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("x-api-key", KEY), ("content-type", "application/json"), ("traceparent", context.as_str())];
    let answer = running.send(Method::POST, "/hooks/orders", &headers, order("T-1", "c")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    until("the delivery", async || !ear.heard("/orders").is_empty()).await;
    running.drained().await;
    if gateway.contains("otlp") {
        until("both spans", async || spans(&ear).len() >= 2).await;
    }
    let context = ear.heard("/orders")[0].0.clone();
    (ear, context)
}

/// The spans of the trace, each as the bytes from its trace id on (OTLP `Span`: trace_id, span_id, …, parent_span_id).
fn spans(ear: &Ear) -> Vec<Vec<u8>> {
    let id = bytes_of(TRACE);
    let mut found = Vec::new();
    for (_, body) in ear.heard("/v1/traces") {
        let starts: Vec<_> = (0..body.len().saturating_sub(16)).filter(|at| body[*at..*at + 16] == id[..]).collect();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(body.len());
            found.push(body[*start..end].to_vec());
        }
    }
    found
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_the_collector_and_the_target_gets_the_last_one() {
    let (ear, context) = send(|address| format!("telemetry: {{ otlp: \"http://{address}\" }}\n")).await;
    let parts: Vec<_> = context.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"), "{context}");
    assert_ne!(parts[2], CALLER, "the target is below the gateway's own span");

    let spans = spans(&ear);
    let named =
        |name: &str| spans.iter().find(|span| contains(span, name.as_bytes())).unwrap_or_else(|| panic!("no {name}"));
    let (taken, delivered) = (named("shop/orders"), named("crm/put"));
    assert!(contains(taken, &bytes_of(CALLER)), "the arrival is below the caller's span");
    // The first bytes after the trace id are the tag and length of the span id, then the id itself.
    assert!(contains(delivered, &taken[18..26]), "the delivery is below the arrival, across the bus");
    assert_eq!(delivered[18..26], bytes_of(parts[2])[..], "and it is what the target was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_the_callers_context_passes_through() {
    let (ear, context) = send(|_| String::new()).await;
    assert_eq!(context, format!("00-{TRACE}-{CALLER}-01"));
    assert!(ear.heard("/v1/traces").is_empty());
}
