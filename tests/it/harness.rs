//! A whole gateway for one test: a site in a folder of its own, on free ports, with a REST peer that remembers what it
//! was sent and answers as it is told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse::engine::Gateway;
use gatehouse_core::diagnostics::Problems;
use gatehouse_core::site::Site;
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_net::door::{Door, DoorConfig, Mount, Request, Response, Service};
use gatehouse_store::{Filter, Letter, State, Summary};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long anything may take that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What the shop proves itself with.
pub(crate) const KEY: &str = "a-shop-key";

/// The instance, on the embedded bus and SQLite.
pub(crate) const GATEWAY: &str =
    "version: 1\nname: test\nlisten: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\nladder: [100ms, 300ms, 1s]\n";

/// The shop: orders with an id, at a path of their own.
pub(crate) const SHOP: &str = "version: 1
system: shop
adapter: rest
accept: { api_key: { header: X-Api-Key, value: \"${file:shop.secret}\" } }
limits: { body: 64KiB, timeout: 2s }
endpoints:
  orders: { receive: POST /hooks/orders, id: body orderNo }
";

/// The canonical order of these tests.
pub(crate) const ORDER: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "orderNo": { "type": "string", "minLength": 1, "maxLength": 40 },
    "status": { "enum": ["paid", "pending"] },
    "customer": { "type": "string", "minLength": 1 },
    "name": { "type": "string", "maxLength": 12, "x-sensitive": true },
    "amount": { "type": "number", "minimum": 0 },
    "seq": { "type": "number" }
  },
  "required": ["orderNo", "status", "customer", "amount"],
  "additionalProperties": false
}"#;

/// Waits until it is true; fails by name when it does not come.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < deadline, "waited {} s for {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A site's folder.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with these files, whatever they are.
    pub(crate) fn bare(files: &[(&str, &str)]) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder") };
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    /// A sound beginning (instance, shop, type `order.paid`) and these files over it.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let place = Self::bare(&[
            ("gatehouse.yaml", GATEWAY),
            ("systems/shop.yaml", SHOP),
            ("types/order.paid.schema.json", ORDER),
            ("shop.secret", KEY),
        ]);
        std::fs::create_dir_all(place.root().join("data")).expect("a data folder");
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    /// Reads and checks it, as `gatehouse check` does.
    pub(crate) fn check(&self) -> (Option<Site>, Problems) {
        gatehouse::site::load(self.root(), &gatehouse::registry::adapters(None)).expect("readable")
    }

    /// Starts a gateway on it and waits until it is ready and its systems listen at `paths`.
    pub(crate) async fn start(&self) -> Running {
        let door = door(SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let adapters = gatehouse::registry::adapters(Some(door.clone()));
        let (site, problems) = gatehouse::site::load(self.root(), &adapters).expect("readable");
        let told: Vec<_> = problems.sorted().iter().map(|problem| problem.render(false)).collect();
        let site = site.unwrap_or_else(|| panic!("the site is not sound:\n{}", told.join("\n")));
        let gateway = Gateway::start(site, self.root(), door).await.expect("starts");
        let config = ClientConfig {
            address: format!("http://{}", gateway.address),
            ca_file: None,
            max_answer: 1 << 20,
            connections: 16,
        };
        let running = Running { client: Client::new(&config).expect("a client"), gateway };
        until("the gateway to be ready", async || running.gateway.ready().await.is_ok()).await;
        // A path that nobody serves yet is a 404; any other answer shows that the shop's is mounted.
        until("the shop's path to be mounted", async || {
            running.send(Method::GET, "/hooks/orders", &[], "").await.status != 404
        })
        .await;
        running
    }
}

/// A gateway that runs.
pub(crate) struct Running {
    pub(crate) gateway: Arc<Gateway>,
    client: Client,
}

/// What a caller got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Running {
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request =
            http::Request::builder().method(method).uri(self.client.url(path).expect("a path")).header("accept", "*/*");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.client.send(request.body(body.into()).expect("a request"));
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time").expect("an answer");
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: String::from_utf8_lossy(answer.body()).into_owned(),
        }
    }

    /// The shop posts JSON.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, &[("x-api-key", KEY), ("content-type", "application/json")], body).await
    }

    /// The shop sends an order that must be accepted.
    pub(crate) async fn order(&self, number: &str, customer: &str) {
        let answer = self.post("/hooks/orders", order(number, customer)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    pub(crate) async fn letters(&self, state: State) -> Vec<Summary> {
        let filter = Filter { state: Some(state), ..Filter::default() };
        self.gateway.letters.store().letters(&filter, 500, None).await.expect("letters")
    }

    /// Waits for the one open letter.
    pub(crate) async fn one_letter(&self) -> Letter {
        until("a dead letter", async || !self.letters(State::Open).await.is_empty()).await;
        let letters = self.letters(State::Open).await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        self.gateway.letters.store().letter(letters[0].id).await.expect("the letter")
    }

    /// Waits until every queue is empty.
    pub(crate) async fn drained(&self) {
        until("the queues to be empty", async || {
            self.gateway.depths().await.is_ok_and(|depths| depths.values().all(|depth| depth.parcels == 0))
        })
        .await;
    }
}

/// A sound order.
pub(crate) fn order(number: &str, customer: &str) -> String {
    format!(r#"{{"orderNo":"{number}","status":"paid","customer":"{customer}","amount":12345678901234567.89}}"#)
}

async fn door(listen: SocketAddr) -> Arc<Door> {
    Door::bind(DoorConfig { listen, ..DoorConfig::default() }).await.expect("a free port")
}

/// A call that a peer got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// The `Idempotency-Key`: the delivery id.
    pub(crate) key: String,
    /// The `SOAPAction`, as it was sent.
    pub(crate) action: Option<String>,
    pub(crate) body: String,
    /// What it was answered.
    pub(crate) status: u16,
}

impl Got {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// What a peer says: after how long, which status, which JSON.
pub(crate) type Says = (Duration, u16, String);

/// At once, with this status.
pub(crate) fn says(status: u16) -> Says {
    (Duration::ZERO, status, format!(r#"{{"code":{status},"msg":"{status} 说了算"}}"#))
}

type Manner = Box<dyn FnMut(&Got) -> Says + Send>;

/// A stand-in REST system.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<PeerState>>,
    stop: CancellationToken,
    _mount: Mount,
}

struct PeerState {
    got: Vec<Got>,
    manner: Manner,
}

impl Peer {
    /// On a free port; well until told otherwise.
    pub(crate) async fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let door = door(address).await;
        let state = Arc::new(Mutex::new(PeerState { got: Vec::new(), manner: Box::new(|_| says(200)) }));
        let mount = door.mount("/", Arc::new(PeerService(state.clone()))).expect("mounts");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(door.clone().serve(Box::pin(async move { stopped.cancelled().await })));
        Self { address: door.addr(), state, stop, _mount: mount }
    }

    /// From now on it answers so.
    pub(crate) fn behave(&self, manner: impl FnMut(&Got) -> Says + Send + 'static) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).manner = Box::new(manner);
    }

    /// Everything that it was sent, the engine's probes left out.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).got.clone()
    }

    /// What it took: answered with a 2xx.
    pub(crate) fn took(&self) -> Vec<Got> {
        self.got().into_iter().filter(|got| (200..300).contains(&got.status)).collect()
    }

    /// A system file that calls it: `POST /orders` as `NAME/put`, more under `endpoints` of one's own.
    pub(crate) fn system(&self, name: &str, more: &str) -> String {
        format!(
            "version: 1\nsystem: {name}\nadapter: rest\naddress: http://{}\n{more}\nendpoints:\n  put: {{ call: POST /orders }}\n",
            self.address
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct PeerService(Arc<Mutex<PeerState>>);

#[async_trait]
impl Service for PeerService {
    async fn call(&self, request: Request) -> Response {
        let probe = request.method == Method::HEAD;
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (key, action) = (header("idempotency-key").unwrap_or_default(), header("soapaction"));
        let body = request.read(64 << 20).await.unwrap_or_default();
        let mut got = Got { key, action, body: String::from_utf8_lossy(&body).into_owned(), status: 0 };
        let (wait, status, text) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let said = if probe { says(200) } else { (state.manner)(&got) };
            if !probe {
                got.status = said.1;
                state.got.push(got);
            }
            said
        };
        tokio::time::sleep(wait).await;
        let mut headers = HeaderMap::new();
        let media = if text.starts_with('<') { "text/xml; charset=utf-8" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        let status = StatusCode::from_u16(status).expect("a status");
        Response { status, headers, body: Bytes::from(text) }
    }
}

/// A message with nothing in it but its id.
pub(crate) fn message(id: &str) -> gatehouse_core::Message {
    gatehouse_core::Message {
        id: id.to_owned(),
        source: "shop/orders".to_owned(),
        kind: "order.paid".to_owned(),
        subject: None,
        time: jiff::Timestamp::UNIX_EPOCH,
        data_schema: None,
        key: None,
        correlation: None,
        causation: None,
        traceparent: None,
        data: gatehouse_core::Value::Null,
    }
}

/// The first attempt at a delivery of one's own.
pub(crate) fn call<'a>(
    endpoint: &'a str,
    body: &'a gatehouse_core::Value,
    message: &'a gatehouse_core::Message,
    delivery_id: &'a str,
) -> gatehouse_core::adapter::Call<'a> {
    gatehouse_core::adapter::Call {
        endpoint,
        body,
        passed: None,
        meta: &gatehouse_core::Value::Null,
        message,
        delivery_id,
        attempt: 1,
        traceparent: None,
        deadline: PATIENCE,
    }
}
