//! How statements are run: each as a step under one deadline, taken from the pool, repeated whole where the server asks for
//! it. Repeats after a lost connection only where a second time does no harm.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Object, Pool, PoolError};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::StoreError;

/// How long one call may take in all, repeats included.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// How often a step is tried.
const TRIES: u32 = 5;

/// One thing to do with the database.
#[async_trait]
pub(super) trait Step: Sync {
    /// What comes of it.
    type Output: Send;
    /// Whether doing it twice is the same as doing it once: then it is also repeated where the connection was lost and
    /// nobody knows whether it was done.
    const HARMLESS_TWICE: bool;
    /// Does it.
    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Self::Output, Trouble>;
}

/// Why a step was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was refused.
    Refused(StoreError),
    /// Somebody else did something at the same moment: try again.
    Raced,
    /// The server or the way to it failed.
    Postgres(tokio_postgres::Error),
    /// No connection could be had; nothing was sent.
    Pool(PoolError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<PoolError> for Trouble {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl Trouble {
    /// Whether a second try of the whole step may go better, and can do no harm.
    fn is_worth_another_try(&self, harmless_twice: bool) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Raced => true,
            Self::Pool(error) => matches!(error, PoolError::Backend(_)),
            Self::Postgres(error) => match error.code() {
                Some(code) if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) => {
                    true
                }
                Some(code) => harmless_twice && is_going_away(code),
                None => harmless_twice,
            },
        }
    }

    fn explain(self) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Raced => {
                StoreError::Unavailable("others changed the same rows again and again; try again".to_owned())
            }
            Self::Pool(PoolError::Backend(error)) | Self::Postgres(error) => explain(&error),
            Self::Pool(PoolError::Timeout(_)) => {
                StoreError::Unavailable("PostgreSQL: no connection became free or could be made in time".to_owned())
            }
            Self::Pool(error) => StoreError::Unavailable(format!("PostgreSQL: {error}")),
        }
    }
}

/// Runs a step of one statement.
pub(super) async fn perform<S: Step>(pool: &Pool, step: &S) -> Result<S::Output, StoreError> {
    repeat(pool, step, false).await
}

/// Runs a step in one transaction.
pub(super) async fn perform_together<S: Step>(pool: &Pool, step: &S) -> Result<S::Output, StoreError> {
    repeat(pool, step, true).await
}

async fn repeat<S: Step>(pool: &Pool, step: &S, together: bool) -> Result<S::Output, StoreError> {
    let tries = async {
        let mut tried = 1;
        loop {
            let trouble = match once(pool, step, together).await {
                Ok(output) => return Ok(output),
                Err(trouble) => trouble,
            };
            if tried >= TRIES || !trouble.is_worth_another_try(S::HARMLESS_TWICE) {
                return Err(trouble.explain());
            }
            tokio::time::sleep(pause(tried)).await;
            tried += 1;
        }
    };
    tokio::time::timeout(DEADLINE, tries).await.unwrap_or_else(|_| {
        let text =
            format!("PostgreSQL has not answered for {} s; whether it was written is unknown", DEADLINE.as_secs());
        Err(StoreError::Unavailable(text))
    })
}

async fn once<S: Step>(pool: &Pool, step: &S, together: bool) -> Result<S::Output, Trouble> {
    let mut db: Object = pool.get().await?;
    if !together {
        return step.run(&db).await;
    }
    let transaction = db.transaction().await?;
    let output = step.run(&transaction).await?;
    transaction.commit().await?;
    Ok(output)
}

/// 20 ms, doubled each time, and up to as much again by chance, so that those who collided do not meet again.
fn pause(tried: u32) -> Duration {
    let base = 20_000_u64 << tried.min(5);
    let chance = u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs()) % base;
    Duration::from_micros(base + chance)
}

/// The server stops, restarts or has thrown us out.
fn is_going_away(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    class == "08" || [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
}

/// A failure of PostgreSQL in the store's words: its message and code, never its detail, which may hold what was written.
pub(super) fn explain(error: &tokio_postgres::Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        let why = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
        let mend = if why.contains("certificate") {
            "; name who signed it as `ca_file` (a PEM file), or use a host name that it bears"
        } else {
            ""
        };
        return StoreError::Unavailable(format!("PostgreSQL: {error}{why}{mend}"));
    };
    let text = format!("PostgreSQL: {} ({})", said.message(), said.code().code());
    match &said.code().code()[..2] {
        // Data that it cannot hold, a broken rule, tables that are not there, damaged pages.
        "22" | "23" | "42" | "XX" if *said.code() != SqlState::INSUFFICIENT_PRIVILEGE => StoreError::Damaged(text),
        _ => StoreError::Unavailable(text),
    }
}

/// The rows of a prepared statement.
pub(super) async fn rows<C: GenericClient + Sync>(
    db: &C,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Trouble> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.query(&statement, values).await?)
}

/// The only row of a prepared statement, if there is one.
pub(super) async fn row<C: GenericClient + Sync>(
    db: &C,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, Trouble> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.query_opt(&statement, values).await?)
}

/// How many rows a prepared statement changed.
pub(super) async fn change<C: GenericClient + Sync>(
    db: &C,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, Trouble> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.execute(&statement, values).await?)
}
