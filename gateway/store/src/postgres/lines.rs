//! Lines of deliveries that wait for each other.

use async_trait::async_trait;
use deadpool_postgres::GenericClient;

use super::run::{Step, Trouble, change, row, rows};
use crate::{Head, PARKED};

/// Who stands before a delivery, which then stands in the line too.
pub(super) struct Stand<'a> {
    pub(super) line: &'a str,
    pub(super) key: &'a str,
    pub(super) delivery_id: &'a str,
    pub(super) always: bool,
}

#[async_trait]
impl Step for Stand<'_> {
    type Output = Option<String>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Option<String>, Trouble> {
        let sql = "WITH ahead AS (
                     SELECT delivery_id FROM in_line WHERE line = $1 AND key = $2
                       AND seq < coalesce((SELECT seq FROM in_line WHERE delivery_id = $3), 9223372036854775807)
                     ORDER BY seq LIMIT 1),
                   put AS (
                     INSERT INTO in_line (line, key, delivery_id)
                     SELECT $1, $2, $3 WHERE $4 OR EXISTS (SELECT 1 FROM ahead)
                     ON CONFLICT (delivery_id) DO NOTHING)
                   SELECT delivery_id FROM ahead";
        let ahead = row(db, sql, &[&self.line, &self.key, &self.delivery_id, &self.always]).await?;
        Ok(ahead.map(|row| row.get(0)))
    }
}

/// Takes a delivery out of its line.
pub(super) struct Leave<'a> {
    pub(super) delivery_id: &'a str,
}

#[async_trait]
impl Step for Leave<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        change(db, "DELETE FROM in_line WHERE delivery_id = $1", &[&self.delivery_id]).await.map(drop)
    }
}

/// Those that need not wait.
pub(super) struct Heads {
    pub(super) limit: u32,
}

#[async_trait]
impl Step for Heads {
    type Output = Vec<Head>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<Head>, Trouble> {
        let sql = "SELECT i.line, i.delivery_id, l.id, l.state IN ('resolved', 'discarded')
                   FROM in_line i JOIN letter l ON l.delivery_id = i.delivery_id
                   WHERE (l.state IN ('resolved', 'discarded') OR l.cause = $1 AND l.state IN ('open', 'claimed'))
                     AND NOT EXISTS (SELECT 1 FROM in_line b WHERE b.line = i.line AND b.key = i.key AND b.seq < i.seq)
                   ORDER BY i.seq LIMIT $2";
        let heads = rows(db, sql, &[&PARKED, &i64::from(self.limit)]).await?;
        let head = |row: tokio_postgres::Row| Head {
            line: row.get(0),
            delivery_id: row.get(1),
            letter: row.get(2),
            over: row.get(3),
        };
        Ok(heads.into_iter().map(head).collect())
    }
}
