//! The tables, and the steps that bring an older schema to this version. A newer one is left alone.

use async_trait::async_trait;
use deadpool_postgres::GenericClient;

use super::run::{Step, Trouble, row};
use crate::StoreError;

/// Step `n` brings a schema from version `n` to `n + 1`. A step that was released is never changed.
const STEPS: &[&str] = &[
    include_str!("schema.1.sql"),
    include_str!("schema.2.sql"),
    include_str!("schema.3.sql"),
    include_str!("schema.4.sql"),
    include_str!("schema.5.sql"),
];

/// Makes the schema, or brings it to this version; all or nothing.
pub(super) struct Bring<'a> {
    pub(super) schema: &'a str,
}

#[async_trait]
impl Step for Bring<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        // Several gateways may start at once; the lock is given back with the transaction.
        db.query("SELECT pg_advisory_xact_lock(hashtext('gatehouse ' || $1))", &[&self.schema]).await?;
        // Asked first: CREATE SCHEMA IF NOT EXISTS wants the right to make one even where nothing is made.
        if db.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&self.schema]).await?.is_empty() {
            db.batch_execute(&format!("CREATE SCHEMA {}", self.schema)).await?;
        }
        if db.query("SELECT 1 WHERE to_regclass('gatehouse_version') IS NOT NULL", &[]).await?.is_empty() {
            let table =
                "CREATE TABLE gatehouse_version (version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";
            db.batch_execute(table).await?;
        }
        let version: i64 = db.query_one("SELECT coalesce(max(version), 0) FROM gatehouse_version", &[]).await?.get(0);
        let newest = STEPS.len();
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        if version > newest {
            let text = format!(
                "the schema {} is of version {version}, this gateway knows up to {newest}: start the newer gateway again, or restore the copy from before it",
                self.schema
            );
            return Err(StoreError::Damaged(text).into());
        }
        for (step, number) in STEPS.iter().zip(1_i64..).skip(version) {
            db.batch_execute(step).await?;
            db.execute("INSERT INTO gatehouse_version (version) VALUES ($1)", &[&number]).await?;
        }
        Ok(())
    }
}

/// Whether it answers, and what it is.
pub(super) struct Ping<'a> {
    pub(super) schema: &'a str,
}

#[async_trait]
impl Step for Ping<'_> {
    type Output = String;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<String, Trouble> {
        let sql = "SELECT current_setting('server_version'), current_database()::text,
                          (SELECT count(*) FROM letter WHERE state = 'open')";
        let row = row(db, sql, &[]).await?.ok_or(Trouble::Raced)?;
        let (version, database): (String, String) = (row.get(0), row.get(1));
        Ok(format!("PostgreSQL {version}, {database}.{}, open dead letters: {}", self.schema, row.get::<_, i64>(2)))
    }
}
