//! Hands rows over: each as an arrival with an id of its own, in lines where their order matters.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Arrival, Intake};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::json;
use gatehouse_core::limits::BodyLimits;
use sha2::{Digest, Sha256};

use super::row::Unread;

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
    hex::encode(&hash.finalize()[..20])
}

/// The arrival that a change becomes.
fn arrival(change: Change) -> Arrival {
    let mut meta = vec![
        ("op".to_owned(), Value::from(change.op.word())),
        ("table".to_owned(), Value::from(change.table)),
        ("key".to_owned(), Value::from(change.key)),
    ];
    meta.extend(change.before.map(|before| ("before".to_owned(), before)));
    Arrival {
        body: change.row,
        document: None,
        id: Some(change.id),
        meta: meta.into_iter().collect(),
        traceparent: None,
        original: Bytes::from(change.original),
        content_type: "application/json".into(),
    }
}

/// Hands changes over: those of one lane in their order, lanes side by side. Done once all are durably somewhere.
pub(crate) async fn over(intake: &dyn Intake, endpoint: &str, changes: Vec<Change>) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    intake.keep(endpoint, lines(changes)).await
}

/// The arrivals of each lane, in the order in which the lanes begin.
pub(crate) fn lines(changes: Vec<Change>) -> Vec<Vec<Arrival>> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(changes.len());
    let mut lines: Vec<Vec<Arrival>> = Vec::with_capacity(changes.len());
    for mut change in changes {
        match places.entry(std::mem::take(&mut change.lane)) {
            Entry::Occupied(known) => lines[*known.get()].push(arrival(change)),
            Entry::Vacant(new) => {
                new.insert(lines.len());
                lines.push(vec![arrival(change)]);
            }
        }
    }
    lines
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
