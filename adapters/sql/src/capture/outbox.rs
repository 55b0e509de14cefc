//! By outbox: an application writes what it wants to tell into a table, and each row is deleted or marked once it is sent.
//! Rows that wait are looked for by what stands in them, so a row that is committed late is not missed.

use gatehouse_core::Value;
use gatehouse_core::adapter::Intake;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::json;

use super::file::Sent;
use super::hand::{self, Change, Op};
use super::row::{Row, Unread};
use super::source::{Document, Query};
use super::sql::{self, Page};
use super::{Open, Reader};
use crate::statement::{quote, table as named};

/// One look into an outbox.
pub(super) struct Outbox<'a> {
    pub(super) reader: &'a Reader,
    pub(super) open: &'a Open,
    pub(super) sent: &'a Sent,
    pub(super) id: &'a Option<String>,
    pub(super) payload: &'a Option<String>,
    pub(super) intake: &'a dyn Intake,
}

impl Outbox<'_> {
    /// Hands over the next rows and takes them off; tells whether there may be more at once.
    pub(super) async fn run(&self, run: &str) -> Result<bool, Fault> {
        let database = self.reader.database;
        let only = match self.sent {
            Sent::Delete => None,
            Sent::Mark { column, waiting, .. } => self.open.described.column(column).map(|column| (column, waiting)),
        };
        let page = Page {
            table: &self.open.described,
            columns: self.open.columns.iter().collect(),
            order: self.open.key.iter().collect(),
            after: &[],
            only,
            filled: None,
            past: None,
            limit: self.reader.capture.batch,
        };
        let rows = self.reader.source.documents(&page.query(database), &page.columns).await?;
        let full = rows.len() >= self.reader.capture.batch as usize;
        let endpoint = self.reader.full_name();
        let mut changes = Vec::with_capacity(rows.len());
        let mut keys = Vec::with_capacity(rows.len());
        for document in rows {
            let change = match self.open.row(&document) {
                Ok(row) => {
                    keys.push(hand::values(&row.value, &self.open.key_names()));
                    self.change(run, row, &document)
                }
                Err(unread) => {
                    let Some(key) = unread.values(&self.open.key_names()) else {
                        // Its key is not known, so it cannot be taken off: a person must look, and the next rows wait.
                        let mut fault = unread.fault;
                        fault.code = Code::Misconfigured;
                        return Err(fault);
                    };
                    keys.push(key);
                    Err((hand::row_id(run, &self.open.name(), &document.bytes), unread))
                }
            };
            match change {
                Ok(change) => changes.push(change),
                Err((id, unread)) => {
                    hand::bury(self.intake, &endpoint, &self.open.name(), id, *unread).await;
                }
            }
        }
        hand::over(self.intake, &endpoint, changes).await?;
        self.take_off(&keys).await?;
        Ok(full)
    }

    /// The change that a row of an outbox is; with what it is where its payload is none.
    pub(super) fn change(&self, run: &str, row: Row, read: &Document) -> Result<Change, (String, Box<Unread>)> {
        let Row { value: row, document } = row;
        let named = self.id.as_ref().and_then(|id| row.field(id)).and_then(Value::to_plain_text);
        let id = named.unwrap_or_else(|| hand::row_id(run, &self.open.name(), &read.bytes));
        match self.body(&row) {
            Ok(None) => Ok(self.open.change_of(Op::Insert, id, row, None, document)),
            Ok(Some(body)) => {
                let payload = String::from_utf8_lossy(&json::encode(&body)).into_owned();
                let change = self.open.change_of(Op::Insert, id, row, None, payload);
                // The columns beside the payload are still to be seen, as `meta.before` is for an update.
                Ok(Change { before: Some(change.row), row: body, ..change })
            }
            Err(fault) => Err((id, Unread::whole(document, fault))),
        }
    }

    /// The body in the payload's column.
    fn body(&self, row: &Value) -> Result<Option<Value>, Fault> {
        let Some(payload) = self.payload else { return Ok(None) };
        match row.field(payload) {
            Some(Value::Text(text)) => hand::decode(text).map(Some).map_err(|mut fault| {
                fault.public = format!("column `{payload}` holds no JSON: {}", fault.public);
                fault
            }),
            Some(Value::Null) | None => Err(Fault::new(Code::Invalid, format!("column `{payload}` is empty"))),
            Some(value) => Ok(Some(value.clone())),
        }
    }

    /// Takes rows off that are durably on the bus.
    async fn take_off(&self, keys: &[Vec<Value>]) -> Result<(), Fault> {
        let database = self.reader.database;
        let from = named(database, &self.open.described.table);
        let key: Vec<_> = self.open.key.iter().collect();
        let statement = |values: &Vec<Value>| {
            let mut query = Query::default();
            match self.sent {
                Sent::Delete => {
                    query.sql = format!("DELETE FROM {from} WHERE {}", sql::by_key(database, &key, 1));
                }
                Sent::Mark { column, done, .. } => {
                    let name = quote(database, column);
                    let set = match (done.as_text(), self.open.described.column(column)) {
                        (Some("now"), _) => "CURRENT_TIMESTAMP".to_owned(),
                        (_, Some(described)) => {
                            let number = query.bind(described, done.clone());
                            sql::written(database, described, number)
                        }
                        (_, None) => "NULL".to_owned(),
                    };
                    let filter = sql::by_key(database, &key, query.values.len() + 1);
                    query.sql = format!("UPDATE {from} SET {name} = {set} WHERE {filter}");
                }
            }
            for (column, value) in key.iter().zip(values) {
                query.bind(column, value.clone());
            }
            query
        };
        let statements: Vec<_> = keys.iter().map(statement).collect();
        if statements.is_empty() { Ok(()) } else { self.reader.source.change(&statements).await }
    }
}
