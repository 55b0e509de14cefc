//! Merged records: each is changed by one gateway at a time, by a lease of the server's clock, fenced by an epoch.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::GenericClient;

use super::run::{Step, Trouble, change, row};
use crate::{Held, StoreError};

/// Takes a record where nobody holds it.
pub(super) struct Take<'a> {
    pub(super) route: &'a str,
    pub(super) key: &'a str,
    pub(super) lease: Duration,
}

#[async_trait]
impl Step for Take<'_> {
    type Output = Option<Held>;
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Option<Held>, Trouble> {
        let sql = "INSERT INTO merged VALUES ($1, $2, 1, NULL, clock_timestamp() + $3::float8 * interval '1 second')
                   ON CONFLICT (route, key) DO UPDATE SET epoch = merged.epoch + 1, until = excluded.until
                   WHERE merged.until < clock_timestamp() RETURNING epoch, value";
        let held = row(db, sql, &[&self.route, &self.key, &self.lease.as_secs_f64()]).await?;
        Ok(held.map(|row| Held { epoch: row.get(0), value: row.get(1) }))
    }
}

/// Saves a record and gives it free.
pub(super) struct Save<'a> {
    pub(super) route: &'a str,
    pub(super) key: &'a str,
    pub(super) epoch: i64,
    pub(super) value: Option<&'a str>,
}

#[async_trait]
impl Step for Save<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let sql = "UPDATE merged SET value = coalesce($4, value), until = '-infinity'
                   WHERE route = $1 AND key = $2 AND epoch = $3";
        if change(db, sql, &[&self.route, &self.key, &self.epoch, &self.value]).await? == 0 {
            let text = format!("another has taken the record `{}` of `{}`", self.key, self.route);
            return Err(StoreError::Conflict(text).into());
        }
        Ok(())
    }
}
