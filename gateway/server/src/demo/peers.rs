//! Stand-in peers: an ERP that speaks SOAP 1.1, a CRM with a REST API, a finance database. They remember what they
//! were sent by idempotency key, as good peers do. The tests use them too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::{self, Element};
use gatehouse_core::{Value, json};
use gatehouse_net::door::{Door, DoorConfig, Mount, Request, Response, Service};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

/// SOAP 1.1's envelope.
const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";

/// The stand-in ERP's namespace.
const SALES: &str = "urn:example:erp:sales";

/// The material that the ERP does not know.
const DISCONTINUED: &str = "OLD-404";

/// A stand-in ERP: creates sales orders, and refuses discontinued materials with a business error in a 200.
pub struct Erp {
    orders: Arc<Mutex<BTreeMap<String, String>>>,
    address: SocketAddr,
    _mount: Mount,
}

/// How the CRM feels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrmMood {
    /// Answers at once.
    Well,
    /// So many calls find it overloaded (503), then it is well.
    Overloaded(u32),
}

/// A stand-in CRM.
pub struct Crm {
    state: Arc<Mutex<CrmState>>,
    address: SocketAddr,
    _mount: Mount,
}

struct CrmState {
    mood: CrmMood,
    orders: BTreeMap<String, Value>,
    refused: u32,
}

async fn door() -> anyhow::Result<Arc<Door>> {
    let config = DoorConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..DoorConfig::default() };
    let door = Door::bind(config).await.map_err(|fault| anyhow::anyhow!(fault.public))?;
    tokio::spawn(door.clone().serve(Box::pin(std::future::pending())));
    Ok(door)
}

impl Erp {
    /// Starts it on a free port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> anyhow::Result<Self> {
        let door = door().await?;
        let orders = Arc::default();
        let mount = door
            .mount("/ws/sales", Arc::new(ErpService { orders: Arc::clone(&orders) }))
            .map_err(|fault| anyhow::anyhow!(fault.public))?;
        Ok(Self { orders, address: door.addr(), _mount: mount })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The order numbers that it has, with the delivery id of each.
    #[must_use]
    pub fn orders(&self) -> BTreeMap<String, String> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct ErpService {
    orders: Arc<Mutex<BTreeMap<String, String>>>,
}

#[async_trait]
impl Service for ErpService {
    async fn call(&self, request: Request) -> Response {
        let Ok((head, body)) = request.split(1 << 20).await else { return soap(fault("soap:Client", "no body")) };
        let key = head.headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let Ok(envelope) = xml::decode(&body, None, &BodyLimits::default()) else {
            return soap(fault("soap:Client", "no XML"));
        };
        let order =
            envelope.child_in(Some(ENVELOPE), "Body").and_then(|body| body.elements().next()).map(Element::to_value);
        let Some(order) = order else { return soap(fault("soap:Client", "an empty body")) };
        let text = |value: &Value, path: &str| {
            gatehouse_core::path::Path::parse(path)
                .ok()
                .and_then(|path| path.find(value).and_then(Value::to_plain_text))
        };
        let number = text(&order, "HEADER.ORDER_NO").unwrap_or_default();
        let items = order.field("ITEMS").and_then(|items| items.field("item")).cloned().unwrap_or_default();
        let items = if let Value::List(list) = items { list } else { vec![items] };
        let unknown = items.iter().any(|item| item.field("MATERIAL").and_then(Value::as_text) == Some(DISCONTINUED));
        let answer: Value = if unknown {
            let text = format!("物料 {DISCONTINUED} 已停产 (material {DISCONTINUED} is discontinued)");
            [("TYPE", Value::from("E")), ("MESSAGE", Value::from(text))].into_iter().collect()
        } else {
            let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            orders.entry(number.clone()).or_insert(key);
            [("TYPE", Value::from("S")), ("MESSAGE", Value::from(format!("order {number} created")))]
                .into_iter()
                .collect()
        };
        let reply =
            Element::from_value("CreateSalesOrderResponse", Some(SALES), &[("RETURN", answer)].into_iter().collect());
        match reply {
            Ok(reply) => soap(reply),
            Err(reason) => soap(fault("soap:Server", &reason)),
        }
    }
}

fn fault(code: &str, text: &str) -> Element {
    Element::new(Some(ENVELOPE), "Fault")
        .with_child(Element::new(None, "faultcode").with_text(code))
        .with_child(Element::new(None, "faultstring").with_text(text))
}

/// A body in its envelope. Business errors come with a 200, as real ERPs do it.
fn soap(body: Element) -> Response {
    let status = if &*body.name.local == "Fault" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    let envelope =
        Element::new(Some(ENVELOPE), "Envelope").with_child(Element::new(Some(ENVELOPE), "Body").with_child(body));
    response(status, "text/xml; charset=utf-8", envelope.encode())
}

fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Response { status, headers, body: Bytes::from(body) }
}

impl Crm {
    /// Starts it on a free port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(mood: CrmMood) -> anyhow::Result<Self> {
        let door = door().await?;
        let state = Arc::new(Mutex::new(CrmState { mood, orders: BTreeMap::new(), refused: 0 }));
        let mount = door
            .mount("/api", Arc::new(CrmService { state: Arc::clone(&state) }))
            .map_err(|fault| anyhow::anyhow!(fault.public))?;
        Ok(Self { state, address: door.addr(), _mount: mount })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has, by order number.
    #[must_use]
    pub fn orders(&self) -> BTreeMap<String, Value> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).orders.clone()
    }

    /// How often it was overloaded.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    /// Changes how it feels.
    pub fn feel(&self, mood: CrmMood) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).mood = mood;
    }
}

struct CrmService {
    state: Arc<Mutex<CrmState>>,
}

#[async_trait]
impl Service for CrmService {
    async fn call(&self, request: Request) -> Response {
        let path = request.path.clone();
        let Ok(body) = request.read(1 << 20).await else {
            return response(StatusCode::BAD_REQUEST, "text/plain", Vec::new());
        };
        let busy = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let busy = match state.mood {
                CrmMood::Well => false,
                CrmMood::Overloaded(0 | 1) => {
                    state.mood = CrmMood::Well;
                    true
                }
                CrmMood::Overloaded(left) => {
                    state.mood = CrmMood::Overloaded(left - 1);
                    true
                }
            };
            state.refused += u32::from(busy);
            busy
        };
        if busy {
            tokio::time::sleep(Duration::from_millis(300)).await;
            return response(
                StatusCode::SERVICE_UNAVAILABLE,
                "application/json",
                br#"{"code":503,"msg":"overloaded"}"#.to_vec(),
            );
        }
        if body.is_empty() {
            return response(StatusCode::OK, "application/json", br#"{"code":0}"#.to_vec());
        }
        let Ok(body) = json::decode(&body, &BodyLimits::default()) else {
            return response(StatusCode::BAD_REQUEST, "application/json", br#"{"code":400,"msg":"no JSON"}"#.to_vec());
        };
        let order = path.rsplit('/').next().unwrap_or("").to_owned();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).orders.insert(order, body);
        response(StatusCode::OK, "application/json", br#"{"code":0,"msg":"ok"}"#.to_vec())
    }
}

/// Makes the finance database: money in TEXT columns, so that SQLite makes no floats of it.
///
/// # Errors
/// The file cannot be written.
pub fn finance(path: &Path) -> anyhow::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE IF NOT EXISTS receivable (order_no TEXT PRIMARY KEY, customer_no TEXT NOT NULL, customer_name TEXT,
             amount TEXT NOT NULL, currency TEXT NOT NULL, paid_at TEXT NOT NULL);
         CREATE TABLE IF NOT EXISTS receivable_line (order_no TEXT NOT NULL, line_no INTEGER NOT NULL, sku TEXT NOT NULL,
             qty TEXT NOT NULL, price TEXT, PRIMARY KEY (order_no, line_no));
         CREATE TABLE IF NOT EXISTS customer (no TEXT PRIMARY KEY, name TEXT, phone TEXT, level TEXT, tax_no TEXT, city TEXT,
             changed_at TEXT NOT NULL);",
    )?;
    Ok(connection)
}
