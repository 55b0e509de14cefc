//! By log: the database's own log of what it has committed, PostgreSQL's by logical replication, MariaDB's and MySQL's by
//! the binlog. Changes come in the order of their commits. How far it was read is saved once its changes are durably on the
//! bus, and only then told to the server, which keeps its log for us until it hears so.
//!
//! A first reading goes by pieces, as by trigger: the log is read from before the first piece, and a piece is never older
//! than a change that was handed over before it, because a change is handed over only once it can be seen.

mod binlog;
mod binlog_server;
mod cells;
mod documents;
mod guard;
mod pgoutput;
mod postgres;
mod slot;
mod tuples;
mod wire;
mod words;

use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Behind, Intake};
use gatehouse_core::fault::{Code, Fault, Verdict};
use tokio::time::Instant;

use super::file::{How, Lost};
use super::hand::{self, Change};
use super::install::Status;
use super::position::{Position, Snapshot, TablePosition};
use super::row::Unread;
use super::{Place, Reader};
use crate::file::Database;

/// How often the server is told how far it was read while nothing changes that is read, and how often its disk is looked at.
const IDLE: Duration = Duration::from_secs(10);

/// How long a look waits for the next change while a table is being read for the first time.
const GLANCE: Duration = Duration::from_millis(5);

/// What a log tells.
pub(super) enum Told {
    Change(Change),
    /// It cannot be made a change: a dead letter tells a person.
    Unreadable {
        table: String,
        id: String,
        document: String,
        fault: Fault,
    },
}

/// The next piece of a log.
pub(super) struct Piece {
    pub(super) told: Vec<Told>,
    /// Where the log is read on from once these are handed over; words of the database's own.
    pub(super) mark: Value,
    /// That is far ahead, with whatever was passed over: worth to be saved also where nothing is handed over.
    pub(super) far: bool,
    /// How long ago the last of them was committed, or of what was passed over.
    pub(super) age: Option<Duration>,
}

/// A log that is read from some place on.
#[async_trait]
pub(super) trait Log: Send {
    /// Waits for the next changes: at most so many, for the first of them at most so long.
    async fn next(&mut self, reader: &Reader, run: &str, most: usize, wait: Duration) -> Result<Piece, Fault>;

    /// Keeps the connection awake while changes are handed over; ends only when it is lost.
    async fn awake(&mut self) -> Fault;

    /// Tells the server that everything up to this mark is durably elsewhere.
    async fn confirm(&mut self, mark: &Value) -> Result<(), Fault>;
}

/// A log that is open, and what was told of it.
pub(super) struct Open {
    log: Box<dyn Log>,
    /// When the server was told last how far it was read.
    confirmed: Instant,
    guarded: Option<Instant>,
    /// The guard's last words.
    notes: Vec<String>,
    bytes: Option<u64>,
}

/// Hands over the next changes of the log; tells whether its place has moved. An error leaves no log behind: it is opened
/// again from what was saved.
pub(super) async fn drain(
    reader: &Reader,
    intake: &dyn Intake,
    place: &mut Place,
    behind: &mut Behind,
) -> Result<bool, Fault> {
    let mut open = match place.log.take() {
        Some(open) => open,
        None => begin(reader, place).await?,
    };
    if open.guarded.is_none_or(|looked| looked.elapsed() >= IDLE) {
        open.guarded = Some(Instant::now());
        let look = guard::look(reader, place.position.log.as_ref()).await?;
        if look.over && guard::drops(reader) {
            drop(open);
            anew(reader, place).await?;
            behind.notes.push(look.note.unwrap_or_default());
            return Ok(true);
        }
        open.notes = look.note.into_iter().collect();
        open.bytes = look.bytes;
    }
    behind.waiting = None;
    behind.bytes = open.bytes;
    behind.notes.extend(open.notes.iter().cloned());
    let reading = place.position.tables.values().any(|table| matches!(table.snapshot, Snapshot::After(_)));
    let wait = if reading && reader.rests().is_none() { GLANCE } else { reader.capture.every };
    let piece = open.log.next(reader, &place.position.run, reader.capture.batch as usize, wait).await?;
    behind.age = Some(piece.age.unwrap_or_default());
    let handed = !piece.told.is_empty();
    let over = hand_over(reader, intake, piece.told);
    tokio::select! {
        over = over => over?,
        lost = open.log.awake() => return Err(lost),
    }
    let mark_moved = place.position.log.as_ref() != Some(&piece.mark);
    let moved = mark_moved && (handed || piece.far || open.confirmed.elapsed() >= IDLE);
    if moved {
        place.position.log = Some(piece.mark);
    }
    place.log = Some(open);
    Ok(moved)
}

/// Tells the server how far it was read, after that was saved.
pub(super) async fn confirm(place: &mut Place) -> Result<(), Fault> {
    let Some(mark) = place.position.log.clone() else { return Ok(()) };
    let Some(mut open) = place.log.take() else { return Ok(()) };
    open.log.confirm(&mark).await?;
    open.confirmed = Instant::now();
    place.log = Some(open);
    Ok(())
}

async fn hand_over(reader: &Reader, intake: &dyn Intake, told: Vec<Told>) -> Result<(), Fault> {
    let endpoint = reader.full_name();
    let mut changes = Vec::with_capacity(told.len());
    for told in told {
        match told {
            Told::Change(change) => changes.push(change),
            Told::Unreadable { table, id, document, fault } => {
                hand::over(intake, &endpoint, std::mem::take(&mut changes)).await?;
                hand::bury(intake, &endpoint, &table, id, *Unread::whole(document, fault)).await;
            }
        }
    }
    hand::over(intake, &endpoint, changes).await
}

/// Opens the log where it was left; or from its beginning where its place is lost and that is declared.
async fn begin(reader: &Reader, place: &mut Place) -> Result<Open, Fault> {
    if let Some(why) = lost(reader, &place.position).await? {
        let declared = matches!(reader.capture.how, How::Log { lost: Lost::Anew, .. });
        // Before anything was read there is nothing that was missed.
        if !declared && place.position.log.is_some() {
            let text = format!(
                "`{}` has lost its place in the log: {why}. Changes were missed. Say `lost: anew` under `capture`, and every table is read from its beginning",
                reader.full_name()
            );
            return Err(Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold));
        }
        anew(reader, place).await?;
    }
    let log = match reader.database {
        Database::Postgres => postgres::open(reader, place.position.log.as_ref()).await?,
        Database::MySql => {
            if place.position.log.is_none() {
                // From now on; the tables are read after this is saved.
                place.position.log = Some(binlog_server::from_now_on(reader).await?.value());
                place.save().await?;
            }
            binlog::open(reader, place.position.log.as_ref()).await?
        }
        Database::Sqlite | Database::Odbc(_) => return Err(no_log()),
    };
    Ok(Open { log, confirmed: Instant::now(), guarded: None, notes: Vec::new(), bytes: None })
}

/// Why the place in the log is lost, if it is.
async fn lost(reader: &Reader, position: &Position) -> Result<Option<String>, Fault> {
    match reader.database {
        Database::Postgres => slot::lost(reader, position.log.as_ref()).await,
        Database::MySql => binlog_server::lost(reader, position.log.as_ref()).await,
        Database::Sqlite | Database::Odbc(_) => Err(no_log()),
    }
}

/// Everything is read from its beginning, as another reading of the source: its rows have new ids. That is saved before the
/// server lets go of what it keeps: whoever dies in between makes the slot when it begins, and has missed nothing.
async fn anew(reader: &Reader, place: &mut Place) -> Result<(), Fault> {
    place.position = Position { run: super::new_run(), ..Position::default() };
    place.awaited.clear();
    place.save().await?;
    match reader.database {
        Database::Postgres => slot::renew(reader).await,
        // There is nothing that the server keeps for us.
        Database::MySql => Ok(()),
        Database::Sqlite | Database::Odbc(_) => Err(no_log()),
    }
}

fn no_log() -> Fault {
    Fault::new(Code::Misconfigured, "this database has no log that can be read: read it `by: trigger`")
}

/// Lets the first reading of tables begin once every transaction has ended that was open when they were taken up: what one of
/// those has changed may not stand in the log.
pub(super) async fn settle(reader: &Reader, place: &mut Place, behind: &mut Behind) -> Result<(), Fault> {
    let waits = |name: &String| {
        reader.capture.snapshot
            && place.position.tables.get(name).is_none_or(|table| table.snapshot == Snapshot::Waiting)
    };
    let waiting: Vec<_> = reader.tables.iter().map(super::Open::name).filter(waits).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    // Whatever is committed after the place from which a binlog is read stands in it.
    let now = match reader.database {
        Database::Postgres => reader.source.open_transactions().await?,
        Database::MySql | Database::Sqlite | Database::Odbc(_) => None,
    };
    for name in waiting {
        let then = place.awaited.entry(name.clone()).or_insert_with(|| now.clone());
        if !matches!((then, &now), (Some(then), Some(now)) if !then.is_disjoint(now)) {
            place.awaited.remove(&name);
            let begun = TablePosition { snapshot: Snapshot::After(Vec::new()), floor: Value::Null };
            place.position.tables.insert(name, begun);
            place.moved = true;
        } else {
            behind.notes.push(format!(
                "the first reading of `{name}` waits until the transactions that were open at its start have ended"
            ));
        }
    }
    Ok(())
}

/// Refuses to begin where changes would go unseen; keeps the tables that can be read.
pub(super) async fn must_be_there(reader: &mut Reader) -> Result<(), Fault> {
    match reader.database {
        Database::Postgres => {
            slot::must_be_there(reader).await?;
            let mut tables = std::mem::take(&mut reader.tables);
            slot::keep_published(reader, &mut tables).await?;
            reader.tables = tables;
            Ok(())
        }
        Database::MySql => binlog_server::must_be_there(reader).await,
        Database::Sqlite | Database::Odbc(_) => Err(no_log()),
    }
}

/// Keeps of the tables that are there now those that the log tells of; a sentence for each other.
pub(super) async fn take_up(reader: &Reader, tables: &mut Vec<super::Open>) -> Result<Vec<String>, Fault> {
    match reader.database {
        Database::Postgres => slot::keep_published(reader, tables).await,
        Database::MySql | Database::Sqlite | Database::Odbc(_) => Ok(Vec::new()),
    }
}

/// The statements that make what an endpoint needs, in their order.
pub(super) async fn statements(reader: &Reader) -> Result<Vec<String>, Fault> {
    match reader.database {
        Database::Postgres => slot::statements(reader).await,
        Database::MySql => Ok(Vec::new()),
        Database::Sqlite | Database::Odbc(_) => Err(no_log()),
    }
}

/// The statements that take it away.
pub(super) fn removal(reader: &Reader) -> Vec<String> {
    match reader.database {
        Database::Postgres => slot::removal(reader),
        Database::MySql | Database::Sqlite | Database::Odbc(_) => Vec::new(),
    }
}

/// What is there.
pub(super) async fn status(reader: &Reader) -> Result<Status, Fault> {
    match reader.database {
        Database::Postgres => slot::status(reader).await,
        Database::MySql => binlog_server::status(reader).await,
        Database::Sqlite | Database::Odbc(_) => Err(no_log()),
    }
}
