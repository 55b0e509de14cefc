//! The changes that a row becomes, however they were found.

use gatehouse_core::Value;

use super::Open;
use super::hand::{self, Change, Op};
use super::row::{Row, Unread};
use super::source::Document;

/// A row as a value, and its document.
pub(super) type Read = (Value, String);

impl Open {
    pub(super) fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|column| column.name.clone()).collect()
    }

    /// The change that a row's document is.
    pub(super) fn change(&self, op: Op, id: String, document: &Document) -> Result<Change, Box<Unread>> {
        let Row { value, document } = self.row(document)?;
        Ok(self.change_of(op, id, value, None, document))
    }

    /// The change that a row is.
    pub(super) fn change_of(&self, op: Op, id: String, row: Value, before: Option<Value>, original: String) -> Change {
        let key = hand::words(&hand::values(&row, &self.key_names()));
        let lane = if self.order_by.is_empty() {
            String::new()
        } else {
            let name = self.name();
            format!("{name}\n{}", hand::words(&hand::values(&row, &self.order_by)))
        };
        Change { op, table: self.name(), id, row, before, key, lane, original }
    }

    /// The changes that one of the database is: two where a row's key has changed. `whole` tells whether the row before is all
    /// of it.
    pub(super) fn changes_of(
        &self,
        op: Op,
        id: &str,
        old: Option<Read>,
        new: Option<Read>,
        whole: bool,
    ) -> Vec<Change> {
        let key = self.key_names();
        match (old, new) {
            (Some((old, gone)), Some((new, text))) if hand::values(&old, &key) != hand::values(&new, &key) => vec![
                self.change_of(Op::Delete, format!("{id}-gone"), old, None, gone),
                self.change_of(Op::Insert, format!("{id}-here"), new, None, text),
            ],
            (old, Some((new, text))) => {
                let before = old.map(|(old, _)| old).filter(|_| whole);
                vec![self.change_of(op, id.to_owned(), new, before, text)]
            }
            (Some((old, text)), None) => vec![self.change_of(op, id.to_owned(), old, None, text)],
            (None, None) => Vec::new(),
        }
    }
}

/// The words with which a person is told that a table was emptied.
pub(super) fn emptied(table: &str) -> String {
    format!("table `{table}` was emptied with TRUNCATE, which does not tell its rows: empty the targets by hand")
}
