//! What the SOAP tests share: a site without files, fixed secrets, an engine that remembers, a peer that answers as told.

#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::adapter::{
    Adapter, Admission, Arrival, Behind, Call, Cursor, Intake, Outcome, Receipt, SiteFiles, System, Wants,
};
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::fault::Fault;
use gatehouse_core::limits::Limits;
use gatehouse_core::secret::{Secret, SecretRef, Secrets};
use gatehouse_core::{Message, Value};
use gatehouse_net::client::{Client, ClientConfig};
use gatehouse_net::door::{Door, DoorConfig, Request, Response, Service};
use gatehouse_soap::Soap;
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

/// How long anything in a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct ExampleSite;

impl SiteFiles for ExampleSite {
    fn file(&self, path: &str) -> Option<SourceFile> {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        // What only tests need stands beside them.
        let found = ["../../routes", "tests/common"]
            .iter()
            .find_map(|folder| std::fs::read_to_string(here.join(folder).join(path)).ok());
        Some(SourceFile::new(path, found?))
    }

    fn locate(&self, path: &str) -> PathBuf {
        PathBuf::from(path)
    }
}

pub(crate) struct Fixed;

impl Secrets for Fixed {
    fn fetch(&self, _: &SecretRef) -> Result<Secret, Fault> {
        Ok(Secret::new("geheim"))
    }
}

pub(crate) fn check(door: Option<Arc<Door>>, text: &str) -> (Option<Arc<dyn System>>, Vec<Problem>) {
    let mut problems = Problems::new();
    let file = SourceFile::new("systems/erp.yaml", text);
    let system = Soap::new(door).check(&file, &ExampleSite, &mut problems);
    (system, problems.sorted())
}

pub(crate) fn system(door: Option<Arc<Door>>, text: &str) -> Arc<dyn System> {
    let (system, problems) = check(door, text);
    let drawn: Vec<String> = problems.iter().map(|problem| problem.render(false)).collect();
    system.unwrap_or_else(|| panic!("{}", drawn.join("\n")))
}

/// A door that serves until it is dropped.
pub(crate) struct Serving {
    pub(crate) door: Arc<Door>,
    _stop: oneshot::Sender<()>,
}

pub(crate) async fn serving() -> Serving {
    let listen = "127.0.0.1:0".parse().unwrap();
    let door = Door::bind(DoorConfig { listen, ..DoorConfig::default() }).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(door.clone().serve(Box::pin(async move {
        let _ = stopped.await;
    })));
    Serving { door, _stop: stop }
}

/// What a peer got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A peer that answers as it was last told, and remembers what it got.
pub(crate) struct Peer {
    answer: Mutex<Response>,
    pub(crate) got: Mutex<Vec<Got>>,
}

impl Peer {
    pub(crate) fn new() -> Arc<Self> {
        let empty = Response { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new() };
        Arc::new(Self { answer: Mutex::new(empty), got: Mutex::default() })
    }

    pub(crate) fn answers(&self, status: u16, media: &str, body: &str) {
        self.answers_with(status, &[("content-type", media)], body.as_bytes());
    }

    pub(crate) fn answers_with(&self, status: u16, headers: &[(&'static str, &str)], body: &[u8]) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let status = StatusCode::from_u16(status).unwrap();
        *self.answer.lock().unwrap() = Response { status, headers, body: Bytes::copy_from_slice(body) };
    }

    pub(crate) fn last(&self) -> Got {
        self.got.lock().unwrap().last().expect("the peer was called").clone()
    }
}

#[async_trait]
impl Service for Peer {
    async fn call(&self, request: Request) -> Response {
        let (head, body) = request.split(1 << 20).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        self.got.lock().unwrap().push(Got { path: head.path, headers: head.headers, body });
        self.answer.lock().unwrap().clone()
    }
}

/// An engine that takes everything, or answers as told, and remembers.
#[derive(Default)]
pub(crate) struct Engine {
    pub(crate) arrivals: Mutex<Vec<(String, Arrival)>>,
    pub(crate) refuses: Mutex<Option<Fault>>,
    pub(crate) closed: Mutex<Option<Fault>>,
    pub(crate) reply: Mutex<Option<Value>>,
}

impl Engine {
    pub(crate) fn count(&self) -> usize {
        self.arrivals.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> (String, Arrival) {
        self.arrivals.lock().unwrap().last().expect("something arrived").clone()
    }
}

#[async_trait]
impl Intake for Engine {
    fn admit(&self, endpoint: &str) -> Result<Admission, Fault> {
        match self.closed.lock().unwrap().clone() {
            Some(fault) => Err(fault),
            None => Ok(Admission {
                endpoint: endpoint.into(),
                limits: Limits::default(),
                remaining: None,
                wants: Wants::default(),
            }),
        }
    }

    async fn accept(&self, admission: Admission, arrival: Arrival) -> Result<Receipt, Fault> {
        if let Some(fault) = self.refuses.lock().unwrap().clone() {
            return Err(fault);
        }
        let message_id = arrival.id.clone().unwrap_or_else(|| "generated".to_owned());
        self.arrivals.lock().unwrap().push((admission.endpoint.to_string(), arrival));
        Ok(Receipt { message_id, outcome: Outcome::Accepted, reply: self.reply.lock().unwrap().clone(), passed: None })
    }

    async fn keep(&self, _endpoint: &str, _lines: Vec<Vec<Arrival>>) -> Result<(), Fault> {
        unreachable!("a caller waits for its answer")
    }

    async fn cursor(&self, _endpoint: &str) -> Result<Box<dyn Cursor>, Fault> {
        unreachable!("a caller is not read")
    }

    async fn bury(&self, _endpoint: &str, _arrival: Arrival, _fault: Fault) {
        unreachable!("a caller is told no")
    }

    fn behind(&self, _endpoint: &str, _behind: Behind) {}
}

pub(crate) fn message() -> Message {
    Message {
        id: "m-1".to_owned(),
        source: "shop/orders".to_owned(),
        kind: "order.paid".to_owned(),
        subject: None,
        time: "2026-01-02T03:04:05Z".parse().unwrap(),
        data_schema: None,
        key: Some("4711".to_owned()),
        correlation: None,
        causation: None,
        traceparent: None,
        data: Value::Null,
    }
}

/// The first attempt at a delivery.
pub(crate) fn call<'a>(endpoint: &'a str, body: &'a Value, message: &'a Message) -> Call<'a> {
    Call {
        endpoint,
        body,
        passed: None,
        meta: &Value::Null,
        message,
        delivery_id: "d-1",
        attempt: 1,
        traceparent: None,
        deadline: Duration::from_secs(5),
    }
}

pub(crate) fn client(address: &str) -> Client {
    let address = address.to_owned();
    Client::new(&ClientConfig { address, ca_file: None, max_answer: 1 << 20, connections: 4 }).unwrap()
}

pub(crate) fn envelope(namespace: &str, header: &str, body: &str) -> String {
    format!("<s:Envelope xmlns:s=\"{namespace}\"><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>")
}

pub(crate) const V11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
pub(crate) const V12: &str = "http://www.w3.org/2003/05/soap-envelope";

/// A system that listens until this is dropped, with the engine that takes what it brings.
pub(crate) struct Listening {
    pub(crate) engine: Arc<Engine>,
    pub(crate) client: Client,
    _stop: oneshot::Sender<()>,
    serving: Serving,
}

impl Listening {
    /// Where a path of it is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.serving.door.addr())
    }
}

/// Lets a system listen; `path` is one of its own.
pub(crate) async fn listening(file: &str, path: &str) -> Listening {
    listening_with(file, path, &Fixed).await
}

/// The same with secrets of its own.
pub(crate) async fn listening_with(file: &str, path: &str, secrets: &dyn Secrets) -> Listening {
    let serving = serving().await;
    let inbound = system(Some(serving.door.clone()), file).listen(None, secrets).await.unwrap();
    let engine = Arc::new(Engine::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let done = Box::pin(async move {
        let _ = stopped.await;
    });
    tokio::spawn(inbound.run(engine.clone(), done));
    let client = client(&format!("http://{}", serving.door.addr()));
    let start = std::time::Instant::now();
    // Mounted once it answers anything but "nothing is here".
    loop {
        let request = http::Request::builder().uri(client.url(path).unwrap()).body(Bytes::new()).unwrap();
        if tokio::time::timeout(PATIENCE, client.send(request)).await.unwrap().unwrap().status() != 404 {
            return Listening { engine, client, _stop: stop, serving };
        }
        assert!(start.elapsed() < PATIENCE, "the system does not listen");
        tokio::task::yield_now().await;
    }
}
