//! The tables of the two files, and the steps that bring an older file to this version. A file of a newer version is left
//! alone: an older gateway that writes into it could lose what it does not know.

use rusqlite::{Connection, TransactionBehavior};

use super::lane::Trouble;
use crate::StoreError;

/// The steps of one file; step `n` brings it from version `n` to `n + 1`. A step that was released is never changed.
#[derive(Debug)]
pub(super) struct Schema {
    name: &'static str,
    steps: &'static [&'static str],
}

/// `store.db`.
pub(super) static LETTERS: Schema = Schema {
    name: "store",
    steps: &[
        include_str!("letters.1.sql"),
        include_str!("letters.2.sql"),
        include_str!("letters.3.sql"),
        include_str!("letters.4.sql"),
    ],
};

/// `store.ledger.db`.
pub(super) static LEDGER: Schema =
    Schema { name: "ledger", steps: &[include_str!("ledger.1.sql"), include_str!("ledger.2.sql")] };

impl Schema {
    /// Brings a file to this version, each step in a transaction of its own.
    pub(super) fn bring(&self, db: &mut Connection) -> Result<(), Trouble> {
        let newest = self.steps.len();
        if self.version(db)? == Some(newest) {
            return Ok(());
        }
        loop {
            // Looked at again under the lock: another process may have been faster.
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(
                "CREATE TABLE IF NOT EXISTS gatehouse_version (version INTEGER PRIMARY KEY, at TEXT NOT NULL) STRICT",
            )?;
            let version = self.version(&transaction)?.unwrap_or(0);
            let Some(step) = self.steps.get(version) else {
                transaction.commit()?;
                if version == newest {
                    return Ok(());
                }
                let text = format!(
                    "the {} is of version {version}, this gateway knows up to {newest}: start the newer gateway again, or restore the copy from before it",
                    self.name
                );
                return Err(StoreError::Damaged(text).into());
            };
            transaction.execute_batch(step)?;
            transaction.execute(
                "INSERT INTO gatehouse_version (version, at) VALUES (?1, strftime('%Y-%m-%dT%H:%M:%SZ'))",
                [version + 1],
            )?;
            transaction.commit()?;
        }
    }

    fn version(&self, db: &Connection) -> Result<Option<usize>, Trouble> {
        if !db.table_exists(None, "gatehouse_version")? {
            return Ok(None);
        }
        Ok(db.query_row("SELECT max(version) FROM gatehouse_version", [], |row| row.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_file_is_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        LETTERS.bring(&mut db).unwrap();
        db.execute("INSERT INTO gatehouse_version VALUES (9, 'later')", []).unwrap();
        match LETTERS.bring(&mut db) {
            Err(Trouble::Refused(StoreError::Damaged(text))) => assert!(text.contains("version 9"), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        static BROKEN: Schema =
            Schema { name: "test", steps: &["CREATE TABLE good (x)", "CREATE TABLE half (x); CREATE TABLE good (x)"] };
        let mut db = Connection::open_in_memory().unwrap();
        assert!(BROKEN.bring(&mut db).is_err());
        assert!(db.table_exists(None, "good").unwrap());
        assert!(!db.table_exists(None, "half").unwrap());
        assert!(matches!(BROKEN.version(&db), Ok(Some(1))));
    }
}
