//! How far sources have been read, and which gateway reads each: a lease by the server's clock, fenced by an epoch.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::GenericClient;

use super::run::{Step, Trouble, change, row};
use crate::{Held, StoreError};

/// Takes the place where its lease has passed.
pub(super) struct Take<'a> {
    pub(super) name: &'a str,
    pub(super) lease: Duration,
}

#[async_trait]
impl Step for Take<'_> {
    type Output = Option<Held>;
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Option<Held>, Trouble> {
        let sql = "INSERT INTO cursor VALUES ($1, 1, NULL, clock_timestamp() + $2::float8 * interval '1 second')
                   ON CONFLICT (name) DO UPDATE SET epoch = cursor.epoch + 1, until = excluded.until
                   WHERE cursor.until < clock_timestamp() RETURNING epoch, value";
        let held = row(db, sql, &[&self.name, &self.lease.as_secs_f64()]).await?;
        Ok(held.map(|row| Held { epoch: row.get(0), value: row.get(1) }))
    }
}

/// Saves and holds.
pub(super) struct Save<'a> {
    pub(super) name: &'a str,
    pub(super) epoch: i64,
    pub(super) value: Option<&'a str>,
    pub(super) lease: Duration,
}

#[async_trait]
impl Step for Save<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let sql = "UPDATE cursor SET value = coalesce($3, value),
                          until = clock_timestamp() + $4::float8 * interval '1 second'
                   WHERE name = $1 AND epoch = $2";
        if change(db, sql, &[&self.name, &self.epoch, &self.value, &self.lease.as_secs_f64()]).await? == 0 {
            return Err(StoreError::Conflict(format!("another reader has taken `{}`", self.name)).into());
        }
        Ok(())
    }
}

/// Gives free.
pub(super) struct Free<'a> {
    pub(super) name: &'a str,
    pub(super) epoch: i64,
}

#[async_trait]
impl Step for Free<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let sql = "UPDATE cursor SET until = '-infinity' WHERE name = $1 AND epoch = $2";
        change(db, sql, &[&self.name, &self.epoch]).await?;
        Ok(())
    }
}
