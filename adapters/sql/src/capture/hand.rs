//! Hands rows over: each as an arrival with an id of its own, side by side where their order does not matter.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Arrival, Intake};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::json;
use gatehouse_core::limits::BodyLimits;
use sha2::{Digest, Sha256};

use super::row::Unread;

/// How many rows are handed over side by side.
const LANES: usize = 64;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// It was there when the table was first read.
    Read,
    /// It is new or changed; which of both cannot be told.
    Upsert,
    Insert,
    Update,
    Delete,
}

impl Op {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Upsert => "upsert",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One change, ready to be handed over.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) table: String,
    pub(crate) id: String,
    /// The row, or the row as it was where it is gone.
    pub(crate) row: Value,
    pub(crate) before: Option<Value>,
    /// The values of its key, as one text.
    pub(crate) key: String,
    /// What it keeps its order by.
    pub(crate) lane: String,
    /// The document as the database made it.
    pub(crate) original: String,
}

/// A row's document as a value.
pub(crate) fn decode(document: &str) -> Result<Value, Fault> {
    let limits = BodyLimits { bytes: 64 << 20, text: 64 << 20, ..BodyLimits::default() };
    json::decode(document.as_bytes(), &limits).map_err(|error| {
        Fault::new(Code::Malformed, format!("the row cannot be read: {} at column {}", error.reason, error.column))
    })
}

/// The values of some columns of a row.
pub(crate) fn values(row: &Value, columns: &[String]) -> Vec<Value> {
    columns.iter().map(|column| row.field(column).cloned().unwrap_or(Value::Null)).collect()
}

/// Values as one text that tells them apart: the value itself where it is one.
pub(crate) fn words(values: &[Value]) -> String {
    match values {
        [one] => one.to_plain_text().unwrap_or_default(),
        many => String::from_utf8_lossy(&json::encode(&Value::List(many.to_vec()))).into_owned(),
    }
}

/// The id of a row's state: the same row with the same content has the same id, whenever it is read.
pub(crate) fn row_id(run: &str, table: &str, document: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [run.as_bytes(), table.as_bytes(), document] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    hash.iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

/// The arrival that a change becomes.
fn arrival(change: &Change) -> Arrival {
    let mut meta = vec![
        ("op".to_owned(), Value::from(change.op.word())),
        ("table".to_owned(), Value::from(change.table.as_str())),
        ("key".to_owned(), Value::from(change.key.as_str())),
    ];
    meta.extend(change.before.clone().map(|before| ("before".to_owned(), before)));
    Arrival {
        body: change.row.clone(),
        document: None,
        id: Some(change.id.clone()),
        meta: meta.into_iter().collect(),
        traceparent: None,
        original: Bytes::from(change.original.clone()),
        content_type: "application/json".into(),
    }
}

/// Hands changes over: those of one lane in their order, up to 64 lanes side by side. Done once all are durably somewhere.
pub(crate) async fn over(intake: &dyn Intake, endpoint: &str, changes: &[Change]) -> Result<(), Fault> {
    over_to(&Live { intake, endpoint }, changes).await
}

/// Who takes rows.
#[async_trait]
pub(crate) trait Taker: Send + Sync {
    async fn take(&self, arrival: Arrival) -> Result<(), Fault>;
}

/// The intake, for an endpoint.
struct Live<'a> {
    intake: &'a dyn Intake,
    endpoint: &'a str,
}

#[async_trait]
impl Taker for Live<'_> {
    async fn take(&self, arrival: Arrival) -> Result<(), Fault> {
        self.intake.keep(self.endpoint, arrival).await
    }
}

/// As [`over`], to whomever.
pub(crate) async fn over_to(taker: &dyn Taker, changes: &[Change]) -> Result<(), Fault> {
    let mut lanes: HashMap<&str, Vec<&Change>> = HashMap::new();
    for change in changes {
        lanes.entry(change.lane.as_str()).or_default().push(change);
    }
    let mut shared: Vec<Vec<&Change>> = Vec::new();
    for (at, lane) in lanes.into_values().enumerate() {
        match shared.get_mut(at % LANES) {
            Some(lanes) => lanes.extend(lane),
            None => shared.push(lane),
        }
    }
    let run = shared.into_iter().map(async |lane| {
        for change in lane {
            taker.take(arrival(change)).await?;
        }
        Ok(())
    });
    join_all(run).await.into_iter().collect()
}

/// Makes a dead letter of a row that cannot be read.
pub(super) async fn bury(intake: &dyn Intake, endpoint: &str, table: &str, id: String, row: Unread) {
    let fault = row.fault.clone();
    intake.bury(endpoint, unread(table, id, row), fault).await;
}

/// The arrival that a row is which cannot be read.
pub(super) fn unread(table: &str, id: String, row: Unread) -> Arrival {
    let meta = [("table".to_owned(), Value::from(table))];
    let content_type = if row.value.is_some() { "application/json" } else { "text/plain" };
    Arrival {
        body: row.value.unwrap_or_else(|| Value::from(row.document.as_str())),
        document: None,
        id: Some(id),
        meta: meta.into_iter().collect(),
        traceparent: None,
        original: Bytes::from(row.document),
        content_type: content_type.into(),
    }
}
