//! The file: SQLite, WAL, `synchronous=FULL`, locked for this process alone. It knows rows and counts, not consumers,
//! limits or retries; each method is one step inside a transaction that the writer begins and commits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};

use super::clock::Millis;
use super::place::{Place, QueueId};
use super::row::{self, Found, Written};
use super::trouble::Trouble;

/// "GHBU": `file` and our own check tell a bus from any other SQLite file.
const APPLICATION_ID: i64 = 0x4748_4255;
const SCHEMA_VERSION: i64 = 1;

/// How long an opening waits for the process before it to let go: a restart, not a second gateway.
const LOCK_WAIT: Duration = Duration::from_millis(1500);

/// Files up to this size are checked whole at each start; larger ones row by row as they are read.
const CHECK_MAX: u64 = 4 * 1024 * 1024;

const SCHEMA: &str = "
CREATE TABLE queue (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    single  INTEGER NOT NULL,           -- one consumer at a time
    delay   INTEGER,                    -- a rung of the retry ladder: ms that each parcel waits here
    parcels INTEGER NOT NULL DEFAULT 0, -- kept with every change, so that opening need not count
    bytes   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE parcel (
    place        INTEGER PRIMARY KEY,   -- queue.id * 2^40 + position
    at           INTEGER NOT NULL,      -- ms since 1970, when it came to this queue
    size         INTEGER NOT NULL,
    message      TEXT NOT NULL,
    content_type TEXT NOT NULL,
    headers      TEXT NOT NULL,         -- JSON
    body         BLOB NOT NULL,
    crc          INTEGER NOT NULL,      -- over the four before
    home         INTEGER,               -- on a rung: the queue to go back to
    due          INTEGER                -- on a rung: ms since 1970
) STRICT;
";

const COLUMNS: &str = "place, at, size, message, content_type, headers, body, crc";

/// What is kept of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueRow {
    pub(super) id: QueueId,
    pub(super) name: String,
    pub(super) single: bool,
    pub(super) delay: Option<Duration>,
    pub(super) parcels: u64,
    pub(super) bytes: u64,
    /// The last position in use, 0 for none.
    pub(super) last: i64,
}

/// A parcel that waits on a rung.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) place: Place,
    pub(super) home: QueueId,
    pub(super) due: Millis,
    pub(super) size: u64,
}

pub(super) struct File {
    connection: Connection,
    path: PathBuf,
}

impl File {
    /// Opens or makes the file, recovers what the last process left, and proves that it can be written: what the
    /// log holds is moved into the file and synced before anything of it is believed (a failed fsync may have left
    /// pages that only look written).
    pub(super) fn open(path: &Path, page_limit: Option<u32>) -> Result<Self, Trouble> {
        let trouble = |error: rusqlite::Error| Trouble::of(&error, path);
        let connection = Connection::open(path).map_err(trouble)?;
        connection.busy_timeout(LOCK_WAIT).map_err(trouble)?;
        connection.set_prepared_statement_cache_capacity(32);
        // A crash and a drop leave the same; only `close` moves the log into the file.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(trouble)?;
        // Exclusive: one gateway a file, and no shared-memory file that a full disk could tear under us.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = 8192; PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cell_size_check = ON;
                 PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864;",
            )
            .map_err(trouble)?;
        if let Some(pages) = page_limit {
            connection.pragma_update(None, "max_page_count", pages).map_err(trouble)?;
        }
        let file = Self { connection, path: path.to_owned() };
        file.begin()?;
        let made = file.schema();
        match made {
            Ok(()) => file.commit()?,
            Err(trouble) => {
                file.rollback();
                return Err(trouble);
            }
        }
        file.empty_log()?;
        file.check()?;
        Ok(file)
    }

    fn schema(&self) -> Result<(), Trouble> {
        let pragma = |name: &str| -> Result<i64, Trouble> {
            self.connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| self.trouble(&error))
        };
        let (application, version) = (pragma("application_id")?, pragma("user_version")?);
        let path = self.path.display();
        if application == APPLICATION_ID && version == SCHEMA_VERSION {
            return Ok(());
        }
        if application == APPLICATION_ID {
            let text = format!(
                "{path} has format {version}, this Gatehouse knows {SCHEMA_VERSION}: use the Gatehouse that wrote it"
            );
            return Err(Trouble::Damaged(text));
        }
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|error| self.trouble(&error))?;
        if application != 0 || tables != 0 {
            let text = format!("{path} is a database, but not a Gatehouse bus: name another file");
            return Err(Trouble::Damaged(text));
        }
        self.run(SCHEMA)?;
        self.run(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}"))
    }

    fn check(&self) -> Result<(), Trouble> {
        if std::fs::metadata(&self.path).map_or(u64::MAX, |meta| meta.len()) > CHECK_MAX {
            return Ok(());
        }
        let said: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.trouble(&error))?;
        if said == "ok" {
            return Ok(());
        }
        let path = self.path.display();
        Err(Trouble::Damaged(format!(
            "{path} is damaged ({said}): keep a copy, then restore it from a backup or try `sqlite3 {path} .recover`"
        )))
    }

    pub(super) fn begin(&self) -> Result<(), Trouble> {
        self.cached("BEGIN IMMEDIATE", []).map(drop)
    }

    /// Returns once the log is synced.
    pub(super) fn commit(&self) -> Result<(), Trouble> {
        self.cached("COMMIT", []).map(drop)
    }

    /// SQLite may have rolled back by itself already.
    pub(super) fn rollback(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, file = %self.path.display(), "a transaction could not be rolled back");
        }
    }

    /// Moves the log into the file, synced both; the log is written from its beginning again.
    pub(super) fn checkpoint(&self) -> Result<(), Trouble> {
        self.move_log("PRAGMA wal_checkpoint(RESTART)")
    }

    /// [`File::checkpoint`], and empties the log: what is read next comes from the file itself.
    pub(super) fn empty_log(&self) -> Result<(), Trouble> {
        self.move_log("PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn move_log(&self, sql: &str) -> Result<(), Trouble> {
        let busy: i64 = self.connection.query_row(sql, [], |row| row.get(0)).map_err(|error| self.trouble(&error))?;
        if busy == 0 { Ok(()) } else { Err(Trouble::Busy(format!("{} has a reader", self.path.display()))) }
    }

    pub(super) fn queues(&self) -> Result<Vec<QueueRow>, Trouble> {
        let mut queues =
            self.rows("SELECT id, name, single, delay, parcels, bytes FROM queue ORDER BY id", [], |row| {
                Ok(QueueRow {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    single: row.get(2)?,
                    delay: row.get::<_, Option<u32>>(3)?.map(|delay| Duration::from_millis(delay.into())),
                    parcels: row.get::<_, i64>(4)?.unsigned_abs(),
                    bytes: row.get::<_, i64>(5)?.unsigned_abs(),
                    last: 0,
                })
            })?;
        for queue in &mut queues {
            let last = "SELECT place FROM parcel WHERE place < ?1 ORDER BY place DESC LIMIT 1";
            let last = self.row(last, [Place::end(queue.id).0], |row| Ok(Place(row.get(0)?)))?;
            queue.last = last.filter(|place| place.queue() == queue.id).map_or(0, Place::position);
        }
        Ok(queues)
    }

    pub(super) fn add_queue(&self, name: &str, single: bool, delay: Option<Duration>) -> Result<QueueRow, Trouble> {
        let delay_ms = delay.map(super::clock::millis);
        self.cached("INSERT INTO queue (name, single, delay) VALUES (?1, ?2, ?3)", params![name, single, delay_ms])?;
        let id = self.connection.last_insert_rowid();
        Ok(QueueRow { id, name: name.to_owned(), single, delay, parcels: 0, bytes: 0, last: 0 })
    }

    pub(super) fn set_single(&self, queue: QueueId, single: bool) -> Result<(), Trouble> {
        self.cached("UPDATE queue SET single = ?2 WHERE id = ?1", params![queue, single]).map(drop)
    }

    pub(super) fn count(&self, counts: &BTreeMap<QueueId, (u64, u64)>) -> Result<(), Trouble> {
        for (queue, (parcels, bytes)) in counts {
            let counts = params![queue, parcels.cast_signed(), bytes.cast_signed()];
            self.cached("UPDATE queue SET parcels = ?2, bytes = ?3 WHERE id = ?1", counts)?;
        }
        Ok(())
    }

    pub(super) fn put(
        &self,
        place: Place,
        at: Millis,
        written: &Written,
        wait: Option<(QueueId, Millis)>,
    ) -> Result<(), Trouble> {
        let (home, due) = wait.unzip();
        let Written { parcel, headers, sum } = written;
        let (size, body) = (written.size().cast_signed(), parcel.body.as_ref());
        self.cached(
            "INSERT INTO parcel (place, at, size, message, content_type, headers, body, crc, home, due)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![place.0, at, size, parcel.id, parcel.content_type, headers, body, sum, home, due],
        )
        .map(drop)
    }

    /// Whether it was there.
    pub(super) fn remove(&self, place: Place) -> Result<bool, Trouble> {
        self.cached("DELETE FROM parcel WHERE place = ?1", [place.0]).map(|rows| rows > 0)
    }

    /// To the end of another queue, as it is. Whether it was there.
    pub(super) fn shift(&self, from: Place, to: Place, at: Millis) -> Result<bool, Trouble> {
        let to = params![from.0, to.0, at];
        let sql = "UPDATE parcel SET place = ?2, at = ?3, home = NULL, due = NULL WHERE place = ?1";
        self.cached(sql, to).map(|rows| rows > 0)
    }

    /// The next parcels of a queue behind a position, in order: at most `most`, and no more after `bytes` are full.
    pub(super) fn page(
        &self,
        queue: QueueId,
        behind: i64,
        most: usize,
        bytes: u64,
    ) -> Result<(Vec<Found>, bool), Trouble> {
        let sql = format!("SELECT {COLUMNS} FROM parcel WHERE place > ?1 AND place < ?2 ORDER BY place");
        let failed = |error: rusqlite::Error| self.trouble(&error);
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query([Place::new(queue, behind).0, Place::end(queue).0]).map_err(failed)?;
        let (mut found, mut size) = (Vec::new(), 0);
        while let Some(row) = rows.next().map_err(failed)? {
            if found.len() >= most || size >= bytes {
                return Ok((found, true));
            }
            let row = row::read(row).map_err(failed)?;
            size += row.size;
            found.push(row);
        }
        Ok((found, false))
    }

    pub(super) fn one(&self, place: Place) -> Result<Option<Found>, Trouble> {
        self.row(&format!("SELECT {COLUMNS} FROM parcel WHERE place = ?1"), [place.0], row::read)
    }

    /// When the first parcel behind a position came.
    pub(super) fn oldest(&self, queue: QueueId, behind: i64) -> Result<Option<Millis>, Trouble> {
        let range = [Place::new(queue, behind).0, Place::end(queue).0];
        self.row("SELECT at FROM parcel WHERE place > ?1 AND place < ?2 ORDER BY place LIMIT 1", range, |row| {
            row.get(0)
        })
    }

    /// The parcels of a rung that come next.
    pub(super) fn waiting(&self, rung: QueueId, most: u32) -> Result<Vec<Waiting>, Trouble> {
        let sql = "SELECT place, home, due, size FROM parcel WHERE place > ?1 AND place < ?2 ORDER BY place LIMIT ?3";
        let range = params![Place::new(rung, 0).0, Place::end(rung).0, most];
        self.rows(sql, range, |row| {
            let size = row.get::<_, i64>(3)?.unsigned_abs();
            Ok(Waiting { place: Place(row.get(0)?), home: row.get(1)?, due: row.get(2)?, size })
        })
    }

    /// After the system clock was set back between two runs: nothing waits longer than its rung.
    pub(super) fn cap_due(&self, rung: QueueId, latest: Millis) -> Result<(), Trouble> {
        let range = params![Place::new(rung, 0).0, Place::end(rung).0, latest];
        self.cached("UPDATE parcel SET due = ?3 WHERE place > ?1 AND place < ?2 AND due > ?3", range).map(drop)
    }

    /// Writes and takes away a few pages: whether there is room again.
    pub(super) fn probe(&self) -> Result<(), Trouble> {
        self.run(
            "CREATE TABLE IF NOT EXISTS probe (room BLOB NOT NULL) STRICT; INSERT INTO probe VALUES (zeroblob(65536))",
        )?;
        self.run("DROP TABLE probe")
    }

    fn run(&self, sql: &str) -> Result<(), Trouble> {
        self.connection.execute_batch(sql).map_err(|error| self.trouble(&error))
    }

    fn cached(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, Trouble> {
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map_err(|error| self.trouble(&error))
    }

    fn row<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Trouble> {
        let run = || self.connection.prepare_cached(sql)?.query_row(params, read).optional();
        run().map_err(|error| self.trouble(&error))
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Trouble> {
        let run = || self.connection.prepare_cached(sql)?.query_map(params, read)?.collect::<Result<Vec<_>, _>>();
        run().map_err(|error| self.trouble(&error))
    }

    fn trouble(&self, error: &rusqlite::Error) -> Trouble {
        Trouble::of(error, &self.path)
    }
}
