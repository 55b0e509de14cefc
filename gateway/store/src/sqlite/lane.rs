//! One thread with one connection. What waits is done together in one transaction and answered after its commit (group
//! commit): sixteen writers at once share one sync of the disk, a lonely one waits for nobody.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::schema::Schema;
use crate::StoreError;

/// The most pieces of work in one transaction.
const TOGETHER: usize = 64;

/// How many pieces of work may wait; more wait to wait.
const WAITING: usize = 1024;

/// How long a piece of work may take in all, waiting included.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long another process may hold the file before we give up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a lane does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// Writes; `durable`: each commit is on the disk before it is answered.
    Write {
        /// `synchronous=FULL`.
        durable: bool,
        /// What the file holds.
        schema: &'static Schema,
    },
    /// Reads only.
    Read,
}

/// Why a piece of work was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was refused; the others of its transaction are not touched.
    Refused(StoreError),
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// The way to the thread. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Lane {
    jobs: mpsc::Sender<Box<dyn Job>>,
}

impl Lane {
    /// Opens the file and starts the thread.
    pub(super) fn open(path: &Path, role: Role) -> Result<Self, StoreError> {
        let mut worker = Worker { path: path.to_owned(), role, connection: None };
        worker.connection()?;
        let (jobs, inbox) = mpsc::channel(WAITING);
        let name = if matches!(role, Role::Read) { "store-read" } else { "store-write" };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || worker.work(inbox));
        thread.map_err(|error| StoreError::Unavailable(format!("no thread can be started: {error}")))?;
        Ok(Self { jobs })
    }

    /// Does a piece of work; `Ok` only after its commit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { work: Some(work), outcome: None, reply });
        let done = tokio::time::timeout(DEADLINE, async {
            self.jobs.send(job).await.ok()?;
            answer.await.ok()
        });
        match done.await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(StoreError::Unavailable("its thread has ended; restart the gateway".to_owned())),
            Err(_) => {
                let text = format!(
                    "the disk has not answered for {} s; whether it was written is unknown",
                    DEADLINE.as_secs()
                );
                Err(StoreError::Unavailable(text))
            }
        }
    }
}

/// A piece of work whose type is hidden.
trait Job: Send {
    /// Nobody waits for it any more.
    fn abandoned(&self) -> bool;
    /// Does it; tells how it went.
    fn run(&mut self, db: &Connection) -> Outcome;
    /// Tells who waits: `Ok` where the transaction was committed.
    fn answer(self: Box<Self>, committed: Result<(), &StoreError>);
}

/// How a piece of work went.
enum Outcome {
    Done,
    /// What it wrote is taken back; the transaction goes on.
    Refused,
    /// The whole transaction is taken back.
    Failed(rusqlite::Error),
}

struct Task<F, T> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Task<F, T>
where
    F: FnOnce(&Connection) -> Result<T, Trouble> + Send,
    T: Send,
{
    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, db: &Connection) -> Outcome {
        let Some(work) = self.work.take() else { return Outcome::Refused };
        match work(db) {
            Ok(value) => {
                self.outcome = Some(Ok(value));
                Outcome::Done
            }
            Err(Trouble::Refused(error)) => {
                self.outcome = Some(Err(error));
                Outcome::Refused
            }
            Err(Trouble::Sql(error)) => Outcome::Failed(error),
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), &StoreError>) {
        let outcome = match (self.outcome, committed) {
            (Some(Err(refused)), _) => Err(refused),
            (_, Err(error)) => Err(copy(error)),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(StoreError::Unavailable("it was not done".to_owned())),
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(outcome);
    }
}

struct Worker {
    path: PathBuf,
    role: Role,
    /// `None` after a failure that makes it worth opening the file anew.
    connection: Option<Connection>,
}

impl Worker {
    fn work(mut self, mut inbox: mpsc::Receiver<Box<dyn Job>>) {
        let mut jobs = Vec::with_capacity(TOGETHER);
        while let Some(first) = inbox.blocking_recv() {
            jobs.push(first);
            while jobs.len() < TOGETHER {
                let Ok(next) = inbox.try_recv() else { break };
                jobs.push(next);
            }
            jobs.retain(|job| !job.abandoned());
            let committed = self.together(&mut jobs);
            for job in jobs.drain(..) {
                job.answer(committed.as_ref().copied());
            }
        }
    }

    /// All of them in one transaction.
    fn together(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let role = self.role;
        let db = self.connection()?;
        let Err(error) = transaction(db, role, jobs) else { return Ok(()) };
        // What SQLite has not taken back itself.
        let in_order = db.is_autocommit() || db.execute_batch("ROLLBACK").is_ok();
        if !in_order || is_lost(&error) {
            // After a failed write the connection's view of the file is not trusted: the next one reads it anew.
            self.connection = None;
        }
        Err(explain(&self.path, &error))
    }

    fn connection(&mut self) -> Result<&Connection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open(&self.path, self.role)?,
        };
        Ok(self.connection.insert(connection))
    }
}

fn transaction(db: &Connection, role: Role, jobs: &mut [Box<dyn Job>]) -> Result<(), rusqlite::Error> {
    let writes = matches!(role, Role::Write { .. });
    db.prepare_cached(if writes { "BEGIN IMMEDIATE" } else { "BEGIN DEFERRED" })?.execute([])?;
    for job in jobs {
        if writes {
            db.prepare_cached("SAVEPOINT job")?.execute([])?;
        }
        let outcome = job.run(db);
        if let Outcome::Failed(error) = outcome {
            return Err(error);
        }
        if writes {
            if matches!(outcome, Outcome::Refused) {
                db.prepare_cached("ROLLBACK TO job")?.execute([])?;
            }
            db.prepare_cached("RELEASE job")?.execute([])?;
        }
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

fn open(path: &Path, role: Role) -> Result<Connection, StoreError> {
    let connect = || -> Result<Connection, rusqlite::Error> {
        let db = Connection::open(path)?;
        db.busy_timeout(PATIENCE)?;
        db.set_prepared_statement_cache_capacity(64);
        db.pragma_update(None, "cell_size_check", true)?;
        // Checkpoints of 16 MiB; what the log grew to in a rush is given back.
        db.pragma_update(None, "wal_autocheckpoint", 4096)?;
        db.pragma_update(None, "journal_size_limit", 64 << 20)?;
        match role {
            Role::Write { durable, .. } => {
                db.pragma_update(None, "journal_mode", "wal")?;
                db.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
                db.pragma_update(None, "foreign_keys", true)?;
                // KiB, taken only as it is used: the ledger's ids come in no order and touch pages everywhere.
                db.pragma_update(None, "cache_size", -16_384)?;
            }
            Role::Read => db.pragma_update(None, "query_only", true)?,
        }
        Ok(db)
    };
    let mut db = connect().map_err(|error| explain(path, &error))?;
    if let Role::Write { schema, .. } = role {
        schema.bring(&mut db).map_err(|trouble| match trouble {
            Trouble::Refused(error) => error,
            Trouble::Sql(error) => explain(path, &error),
        })?;
    }
    Ok(db)
}

/// Whether the file may not be what the connection thinks it is.
fn is_lost(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DatabaseCorrupt, FileLockingProtocolFailed, NotADatabase, SystemIoFailure};
    let lost = [CannotOpen, DatabaseCorrupt, FileLockingProtocolFailed, NotADatabase, SystemIoFailure];
    error.sqlite_error_code().is_some_and(|code| lost.contains(&code))
}

/// A failure of SQLite in the store's words.
fn explain(path: &Path, error: &rusqlite::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) | None => {
            StoreError::Damaged(text)
        }
        Some(ErrorCode::DiskFull) => StoreError::Unavailable(format!("{text}; make space, it goes on by itself")),
        Some(_) => StoreError::Unavailable(text),
    }
}

/// The same error for everybody who shared the transaction.
fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(text.clone()),
        StoreError::Damaged(text) => StoreError::Damaged(text.clone()),
        StoreError::Conflict(text) => StoreError::Conflict(text.clone()),
        StoreError::Missing(id) => StoreError::Missing(*id),
        StoreError::MissingBackfill(id) => StoreError::MissingBackfill(*id),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{LEDGER, LETTERS};
    use super::*;

    fn lane(folder: &Path) -> Lane {
        Lane::open(&folder.join("store.db"), Role::Write { durable: true, schema: &LETTERS }).unwrap()
    }

    fn note(db: &Connection, size: usize) -> Result<(), Trouble> {
        db.execute("INSERT INTO audit_head (one, hash) VALUES (1, zeroblob(?1))", [size])?;
        Ok(())
    }

    async fn notes(lane: &Lane) -> u64 {
        lane.run(|db| Ok(db.query_row("SELECT count(*) FROM audit_head", [], |row| row.get(0))?)).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_answered_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Lane::open(&folder.path().join("l.db"), Role::Write { durable: false, schema: &LEDGER }).unwrap();
        for (lane, synchronous) in [(lane(folder.path()), 2), (ledger, 1)] {
            let modes = lane.run(|db| {
                let synchronous: i64 = db.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
                let journal: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
                Ok((synchronous, journal))
            });
            assert_eq!(modes.await.unwrap(), (synchronous, "wal".to_owned()));
        }
    }

    #[tokio::test]
    async fn one_refusal_takes_back_its_own_writes_only() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(folder.path());
        let refused = lane.run(|db| {
            note(db, 1)?;
            Err::<(), _>(StoreError::Missing(7).into())
        });
        let marker = lane.run(|db| Ok(db.execute_batch("CREATE TABLE beside (x)")?));
        let (refused, marker) = tokio::join!(refused, marker);
        assert!(matches!(refused, Err(StoreError::Missing(7))));
        marker.unwrap();
        assert_eq!(notes(&lane).await, 0);
        lane.run(|db| Ok(db.execute_batch("DROP TABLE beside")?)).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_it_goes_on_when_there_is_space() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(folder.path());
        let limit = |pages: u32| {
            lane.run(move |db| Ok(db.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))?))
        };
        limit(1).await.unwrap(); // SQLite raises it to what is used already.
        let full = lane.run(|db| note(db, 1 << 20)).await.unwrap_err();
        assert!(matches!(&full, StoreError::Unavailable(text) if text.contains("full")), "{full}");
        assert_eq!(notes(&lane).await, 0);
        limit(1_000_000).await.unwrap();
        lane.run(|db| note(db, 1 << 20)).await.unwrap();
        assert_eq!(notes(&lane).await, 1);
    }

    #[tokio::test]
    async fn an_io_failure_opens_the_file_anew() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(folder.path());
        lane.run(|db| Ok(db.execute_batch("CREATE TEMP TABLE of_this_connection (x)")?)).await.unwrap();
        let failed = lane.run(|_| {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            Err::<(), _>(rusqlite::Error::SqliteFailure(code, None).into())
        });
        assert!(matches!(failed.await, Err(StoreError::Unavailable(_))));
        let temporary =
            lane.run(|db| Ok(db.query_row("SELECT count(*) FROM temp.sqlite_schema", [], |row| row.get::<_, u64>(0))?));
        assert_eq!(temporary.await.unwrap(), 0, "still the old connection");
        lane.run(|db| note(db, 8)).await.unwrap();
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(folder.path());
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let holding = lane.run(move |_| {
            let _ = held.recv_timeout(Duration::from_secs(5));
            Ok(())
        });
        let mut holding = Box::pin(holding);
        let mut abandoned = Box::pin(lane.run(|db| note(db, 1)));
        // Both are handed over; then the second one's caller goes away.
        assert!(tokio::time::timeout(Duration::from_millis(50), holding.as_mut()).await.is_err());
        assert!(tokio::time::timeout(Duration::from_millis(50), abandoned.as_mut()).await.is_err());
        drop(abandoned);
        release.send(()).unwrap();
        holding.await.unwrap();
        assert_eq!(notes(&lane).await, 0);
    }
}
