//! SQL that every engine reads: one row a statement, an upsert as an update and then an insert. Identifiers are quoted as the
//! driver says, values always bound.

use gatehouse_core::Value;

use crate::file::{Mode, Table};
use crate::work::Row;

/// A statement and its values.
pub(super) type Bound = (String, Vec<Option<Vec<u8>>>);

/// How a driver quotes identifiers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote(pub(super) char);

impl Quote {
    /// An identifier, quoted.
    pub(super) fn word(self, word: &str) -> String {
        let (mark, twice) = (self.0, format!("{0}{0}", self.0));
        format!("{mark}{}{mark}", word.replace(mark, &twice))
    }

    /// A table, quoted.
    pub(super) fn table(self, table: &Table) -> String {
        let name = self.word(&table.name);
        table.schema.as_ref().map_or_else(|| name.clone(), |schema| format!("{}.{name}", self.word(schema)))
    }

    /// What inserts a row.
    pub(super) fn insert(self, row: &Row) -> Bound {
        let names: Vec<_> = row.columns.iter().map(|(name, _)| self.word(name)).collect();
        let places = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", self.table(&row.table), names.join(", "));
        (sql, row.columns.iter().map(|column| bytes(row, column)).collect())
    }

    /// What updates the row with this key; without another column it only shows whether it is there.
    pub(super) fn update(self, row: &Row) -> Bound {
        let is_key = |column: &&(String, Value)| row.key.contains(&column.0);
        let rest: Vec<_> = row.columns.iter().filter(|column| !is_key(column)).collect();
        let set: Vec<_> = if rest.is_empty() {
            row.key.iter().map(|name| format!("{0} = {0}", self.word(name))).collect()
        } else {
            rest.iter().map(|(name, _)| format!("{} = ?", self.word(name))).collect()
        };
        let (found, key) = self.found(row);
        let sql = format!("UPDATE {} SET {} WHERE {found}", self.table(&row.table), set.join(", "));
        (sql, rest.into_iter().map(|column| bytes(row, column)).chain(key).collect())
    }

    /// What deletes the row with this key.
    pub(super) fn delete(self, row: &Row) -> Bound {
        let (found, key) = self.found(row);
        (format!("DELETE FROM {} WHERE {found}", self.table(&row.table)), key)
    }

    /// What counts the rows with this key.
    pub(super) fn count(self, row: &Row) -> Bound {
        let (found, key) = self.found(row);
        (format!("SELECT COUNT(*) FROM {} WHERE {found}", self.table(&row.table)), key)
    }

    fn found(self, row: &Row) -> Bound {
        let key: Vec<_> = row.columns.iter().filter(|(name, _)| row.key.contains(name)).collect();
        let terms: Vec<_> = key.iter().map(|(name, _)| format!("{} = ?", self.word(name))).collect();
        (terms.join(" AND "), key.into_iter().map(|column| bytes(row, column)).collect())
    }

    /// What a row needs, in order; an upsert's insert only where its update found nothing.
    pub(super) fn steps(self, row: &Row) -> (Bound, Option<Bound>) {
        match row.mode {
            Mode::Insert => (self.insert(row), None),
            Mode::Update => (self.update(row), None),
            Mode::Delete => (self.delete(row), None),
            Mode::Upsert => (self.update(row), Some(self.insert(row))),
        }
    }

    /// What makes the inbox table.
    pub(super) fn create_inbox(self, inbox: &Table, product: &str) -> String {
        // In SQL Server a TIMESTAMP is no time.
        let time = if product.contains("SQL Server") { "DATETIME2" } else { "TIMESTAMP" };
        format!(
            "CREATE TABLE {} (delivery_id VARCHAR(64) NOT NULL PRIMARY KEY, message_id VARCHAR(255) NOT NULL, received_at {time} DEFAULT CURRENT_TIMESTAMP NOT NULL)",
            self.table(inbox)
        )
    }

    /// What enters a delivery.
    pub(super) fn enter(self, inbox: &Table) -> String {
        format!("INSERT INTO {} (delivery_id, message_id) VALUES (?, ?)", self.table(inbox))
    }

    /// What tells whether a delivery has been entered.
    pub(super) fn entered(self, inbox: &Table) -> String {
        format!("SELECT delivery_id FROM {} WHERE delivery_id = ?", self.table(inbox))
    }

    /// A query without rows, for the columns of a table.
    pub(super) fn nothing_of(self, table: &Table) -> String {
        format!("SELECT * FROM {} WHERE 1 = 0", self.table(table))
    }
}

/// A value as the text that the driver reads as whatever the column is.
pub(super) fn text(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Bool(flag) => Some(u8::from(*flag).to_string().into_bytes()),
        other => other.to_plain_text().map(String::into_bytes),
    }
}

/// A column's value, in the charset that is declared for it.
fn bytes(row: &Row, (column, value): &(String, Value)) -> Option<Vec<u8>> {
    row.raw(column).map_or_else(|| text(value), Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_reads_it() {
        let row = Row {
            table: Table { schema: Some("erp".to_owned()), name: "or\"ders".to_owned() },
            mode: Mode::Upsert,
            key: vec!["no".to_owned()],
            columns: vec![("no".to_owned(), Value::from("'; DROP TABLE x")), ("paid".to_owned(), Value::Bool(true))],
            raw: Vec::new(),
        };
        let quote = Quote('"');
        let (update, insert) = quote.steps(&row);
        let key = Some(b"'; DROP TABLE x".to_vec());
        assert_eq!(update.0, "UPDATE \"erp\".\"or\"\"ders\" SET \"paid\" = ? WHERE \"no\" = ?");
        assert_eq!(update.1, [Some(b"1".to_vec()), key.clone()]);
        let insert = insert.unwrap();
        assert_eq!(insert.0, "INSERT INTO \"erp\".\"or\"\"ders\" (\"no\", \"paid\") VALUES (?, ?)");
        assert_eq!(insert.1, [key, Some(b"1".to_vec())]);
        let alone = Row { columns: row.columns[..1].to_vec(), ..row };
        assert_eq!(Quote('`').update(&alone).0, "UPDATE `erp`.`or\"ders` SET `no` = `no` WHERE `no` = ?");
        assert!(quote.create_inbox(&alone.table, "Microsoft SQL Server").contains("DATETIME2"));
    }
}
