//! MariaDB's and MySQL's binlog as changes: transactions as they were committed, each change with an id that is its place in
//! the log. A transaction's rows are held until the log says that it was committed: what a crash has cut off was not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault};
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event, EventData, QueryEvent, RotateEvent, RowsEventData};
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::super::Reader;
use super::super::change::emptied;
use super::super::hand::Op;
use super::cells::{self, Cells, Charsets, Shape};
use super::{Log, Piece, Told, documents, words};
use crate::mysql;

/// After how long without a word from the server the connection counts as lost; it is asked to speak each 10 s.
const SILENCE: Duration = Duration::from_secs(35);

/// How many bytes of changes are handed over at once.
const HELD: usize = 16 << 20;

/// How many bytes of the log are passed over before what was found until then is handed over, and the place saved.
const PASSED: usize = 16 << 20;

/// How many bytes of a transaction are held before its end is known. A larger one is read twice.
const UNSURE: usize = 64 << 20;

/// Where the log is read on: behind whole transactions, and how far within the next one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mark {
    pub(super) file: String,
    pub(super) place: u64,
    /// When this file was begun, in seconds: the same name may be another file.
    pub(super) begun: u32,
    /// The last row that was handed over: the end of its event, and which of those there.
    within: Option<(u64, u64)>,
}

impl Mark {
    pub(super) fn new(file: String, place: u64, begun: u32) -> Self {
        Self { file, place, begun, within: None }
    }

    pub(super) fn read(value: &Value) -> Option<Self> {
        let list = value.as_list()?;
        let number = |at: usize| list.get(at)?.to_plain_text()?.parse::<u64>().ok();
        Some(Self {
            file: list.first()?.as_text()?.to_owned(),
            place: number(1)?,
            begun: u32::try_from(number(2)?).ok()?,
            within: number(3).zip(number(4)),
        })
    }

    pub(super) fn value(&self) -> Value {
        let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
        let mut list = vec![Value::from(self.file.as_str()), number(self.place), number(self.begun.into())];
        if let Some((place, row)) = self.within {
            list.extend([number(place), number(row)]);
        }
        Value::List(list)
    }
}

/// What is to be handed over next, or moves the mark.
enum Next {
    Row(Raw),
    /// A person must know: a table was emptied, a statement stands in the log.
    Words {
        table: String,
        at: u64,
        document: String,
        text: String,
    },
    /// A transaction ends here.
    End(u64),
    File {
        name: String,
        place: u64,
    },
    Begun(u32),
}

/// A row as it stands in the log.
struct Raw {
    file: Arc<str>,
    at: (u64, u64),
    shape: Arc<Shape>,
    op: Op,
    before: Option<Cells>,
    after: Option<Cells>,
    committed: u32,
    size: usize,
}

struct Binlog {
    stream: BinlogStream,
    charsets: Charsets,
    mark: Mark,
    /// The file that is being read.
    file: Arc<str>,
    next: VecDeque<Next>,
    /// The rows of a transaction whose end was not seen yet.
    unsure: Option<Vec<Next>>,
    size: usize,
    /// It was too large to hold, and its end is being looked for.
    seeking: bool,
    /// Up to here in this file everything is known to be committed.
    sure: u64,
    shapes: HashMap<u64, Option<Arc<Shape>>>,
    /// The stream has said which form its events have.
    formed: bool,
    heard: Instant,
    /// How many bytes of the log were taken in since something was handed over.
    passed: usize,
}

/// Opens the binlog at a mark.
pub(super) async fn open(reader: &Reader, mark: Option<&Value>) -> Result<Box<dyn Log>, Fault> {
    let unreadable = || Fault::new(Code::Misconfigured, "the place in the log cannot be read");
    let mark = mark.and_then(Mark::read).ok_or_else(unreadable)?;
    let (stream, charsets) = (stream(reader, &mark, number(reader)).await?, Charsets::ask(reader).await?);
    let file = mark.file.as_str().into();
    Ok(Box::new(Binlog {
        stream,
        charsets,
        mark,
        file,
        next: VecDeque::new(),
        unsure: None,
        size: 0,
        seeking: false,
        sure: 0,
        shapes: HashMap::new(),
        formed: false,
        heard: Instant::now(),
        passed: 0,
    }))
}

/// A stream of the log from a mark on.
pub(super) async fn stream(reader: &Reader, mark: &Mark, number: u32) -> Result<BinlogStream, Fault> {
    let password = reader.password.as_ref().map(gatehouse_core::secret::Secret::expose);
    let opened = async {
        // A row may be larger than what the server takes from a client.
        let options = mysql::options(&reader.checked, password).max_allowed_packet(Some(1 << 30));
        let mut connection = Conn::new(options).await?;
        // It is to speak each 10 s; and not to give up while what it said is being handed over.
        connection
            .query_drop("SET @master_heartbeat_period = 10000000000, @source_heartbeat_period = 10000000000")
            .await?;
        connection.query_drop("SET SESSION /*M! max_statement_time = 0, */ net_write_timeout = 3600").await?;
        let request = BinlogStreamRequest::new(number).with_filename(mark.file.as_bytes()).with_pos(mark.place);
        connection.get_binlog_stream(request).await
    };
    match tokio::time::timeout(Duration::from_secs(10), opened).await {
        Ok(opened) => opened.map_err(|error| super::binlog_server::explain(&error)),
        Err(_) => Err(Fault::new(Code::Unreachable, "the log's connection was not ready in time")),
    }
}

/// A further number, for looks beside a reader that may be at work.
pub(super) fn beside(reader: &Reader) -> u32 {
    number(reader) ^ 0x4000_0000
}

/// The number by which the server knows an endpoint's reader: always the same, so that a connection that was left behind is
/// ended by the next one, and hardly any replica's.
fn number(reader: &Reader) -> u32 {
    let hash = Sha256::digest(format!("{}\n{}", reader.checked.target, reader.full_name()));
    hash.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) | 0x8000_0000
}

#[async_trait]
impl Log for Binlog {
    async fn next(&mut self, reader: &Reader, run: &str, most: usize, wait: Duration) -> Result<Piece, Fault> {
        let deadline = Instant::now() + wait;
        let (mut rows, mut said, mut size) = (Vec::new(), Vec::new(), 0);
        // When the last of the log was written, where the server has more.
        let mut last = None;
        while rows.len() < most && size < HELD && said.is_empty() && (self.passed < PASSED || !self.next.is_empty()) {
            if let Some(next) = self.next.pop_front() {
                match next {
                    Next::Row(raw) => {
                        size += raw.size;
                        self.mark.within = Some(raw.at);
                        rows.push(raw);
                    }
                    Next::Words { table, at, document, text } => {
                        let id = format!("{run}-{}-{at}", self.mark.file);
                        let fault = Fault::new(Code::Invalid, text);
                        said.push(Told::Unreadable { table, id, document, fault });
                    }
                    Next::End(place) => {
                        self.mark.place = place;
                        self.mark.within = None;
                    }
                    Next::File { name, place } if name == self.mark.file && place <= self.mark.place => {}
                    Next::File { name, place } => self.mark = Mark::new(name, place, 0),
                    Next::Begun(begun) => self.mark.begun = begun,
                }
                continue;
            }
            let waits = rows.is_empty();
            let left = if waits { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match tokio::time::timeout(left, self.stream.next()).await {
                Ok(Some(Ok(event))) => {
                    self.heard = Instant::now();
                    self.passed += event.data().len();
                    last = Some(event.header().timestamp()).filter(|at| *at > 0).or(last);
                    self.take(reader, &event).await?;
                }
                Ok(Some(Err(error))) => return Err(super::binlog_server::explain(&error)),
                Ok(None) => return Err(Fault::new(Code::Unreachable, "the server ended the log")),
                Err(_) if self.heard.elapsed() >= SILENCE => {
                    return Err(Fault::new(Code::Unreachable, "the log's connection is silent"));
                }
                Err(_) => {
                    last = None;
                    break;
                }
            }
            if waits && self.next.is_empty() && Instant::now() >= deadline {
                break;
            }
        }
        let age = rows.last().map(|raw| raw.committed).or(last).map(age);
        let mut told = self.changes(reader, run, rows).await?;
        told.extend(said);
        let far = self.passed >= PASSED;
        if far || !told.is_empty() {
            self.passed = 0;
        }
        Ok(Piece { told, mark: self.mark.value(), far, age })
    }

    async fn awake(&mut self) -> Fault {
        // The server waits until more of the log is taken.
        std::future::pending().await
    }

    async fn confirm(&mut self, _mark: &Value) -> Result<(), Fault> {
        Ok(())
    }
}

fn age(committed: u32) -> Duration {
    let now = jiff::Timestamp::now().as_second();
    Duration::from_secs(u64::try_from(now - i64::from(committed)).unwrap_or(0))
}

fn broken(error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadAnswer, "the log says something that is not understood").private(error.to_string())
}

impl Binlog {
    /// Takes an event in.
    async fn take(&mut self, reader: &Reader, event: &Event) -> Result<(), Fault> {
        use EventType::{FORMAT_DESCRIPTION_EVENT, QUERY_EVENT, ROTATE_EVENT, XA_PREPARE_LOG_EVENT, XID_EVENT};
        let header = event.header();
        let at = u64::from(header.log_pos());
        // One that is not known is none of those that matter: MariaDB's own, and what is for replicas.
        let Ok(kind) = header.event_type() else { return Ok(()) };
        match kind {
            // The first one only says what was asked for; and before the log's form is known, its checksum is taken for a part of
            // the name.
            ROTATE_EVENT if !self.formed => {}
            ROTATE_EVENT => {
                let rotate: RotateEvent<'_> = event.read_event().map_err(broken)?;
                // What was not ended in the file before was cut off by a crash, and never committed.
                self.forget();
                self.shapes.clear();
                if *self.file != *rotate.name() {
                    self.file = rotate.name().into();
                    self.sure = 0;
                }
                self.next.push_back(Next::File { name: rotate.name().into_owned(), place: rotate.position() });
            }
            FORMAT_DESCRIPTION_EVENT => {
                self.formed = true;
                self.next.push_back(Next::Begun(header.timestamp()));
            }
            QUERY_EVENT => {
                let query: QueryEvent<'_> = event.read_event().map_err(broken)?;
                self.query(reader, at, &query).await?;
            }
            XID_EVENT => self.end(reader, at).await?,
            XA_PREPARE_LOG_EVENT => {
                let tables: Vec<_> = reader.tables.iter().map(super::super::Open::name).collect();
                self.forget();
                self.push(Next::Words {
                    table: tables.join(", "),
                    at,
                    document: String::new(),
                    text: "a distributed transaction (XA) was prepared: what it changes is not followed".to_owned(),
                });
                self.end(reader, at).await?;
            }
            _ => {
                if let Some(EventData::RowsEvent(rows)) = rows_of(event, kind)? {
                    self.rows(reader, at, header.timestamp(), &rows, event.data().len()).await?;
                }
            }
        }
        Ok(())
    }

    async fn query(&mut self, reader: &Reader, at: u64, query: &QueryEvent<'_>) -> Result<(), Fault> {
        let (text, schema) = (query.query(), query.schema());
        match words::read(&text) {
            words::Said::Begin => {
                self.forget();
                self.unsure = Some(Vec::new());
            }
            words::Said::Commit => self.end(reader, at).await?,
            words::Said::Rollback => {
                self.forget();
                self.end(reader, at).await?;
            }
            words::Said::Truncate { schema: named, table } => {
                let schema = named.as_deref().unwrap_or(&schema);
                if let Some(open) = cells::open(reader, schema, &table) {
                    let (table, text) = (open.name(), emptied(&open.name()));
                    self.push(Next::Words { table, at, document: String::new(), text });
                }
                self.standing(reader, at).await?;
            }
            words::Said::Statement => {
                if schema == reader.checked.target.as_str() {
                    let text = "a statement stands in the log instead of the rows that it has changed (a session with `binlog_format` STATEMENT or MIXED): look whether it was one of the tables that are read";
                    let document = text_of(&query.query());
                    self.push(Next::Words { table: String::new(), at, document, text: text.to_owned() });
                }
                self.standing(reader, at).await?;
            }
            words::Said::Other => self.standing(reader, at).await?,
        }
        Ok(())
    }

    /// Behind a statement that is a transaction of its own.
    async fn standing(&mut self, reader: &Reader, at: u64) -> Result<(), Fault> {
        if self.unsure.is_none() && at > 0 { self.end(reader, at).await } else { Ok(()) }
    }

    fn push(&mut self, next: Next) {
        match &mut self.unsure {
            Some(unsure) => unsure.push(next),
            None => self.next.push_back(next),
        }
    }

    /// The rows that are held were not committed.
    fn forget(&mut self) {
        self.unsure = None;
        self.size = 0;
        self.seeking = false;
    }

    /// A transaction ends here, committed.
    async fn end(&mut self, reader: &Reader, at: u64) -> Result<(), Fault> {
        if std::mem::take(&mut self.seeking) {
            // Once more from its beginning: now it is known that it was.
            self.unsure = None;
            self.size = 0;
            self.next.clear();
            self.sure = at;
            self.stream = stream(reader, &self.mark, number(reader)).await?;
            self.shapes.clear();
            self.formed = false;
            return Ok(());
        }
        self.next.extend(self.unsure.take().into_iter().flatten());
        self.size = 0;
        self.next.push_back(Next::End(at));
        Ok(())
    }

    async fn rows(
        &mut self,
        reader: &Reader,
        at: u64,
        committed: u32,
        rows: &RowsEventData<'_>,
        size: usize,
    ) -> Result<(), Fault> {
        if self.seeking {
            return Ok(());
        }
        let Some(map) = self.stream.get_tme(rows.table_id()) else {
            return Err(broken("rows of a table that was not named"));
        };
        let shape = match self.shapes.get(&rows.table_id()) {
            Some(shape) => shape.clone(),
            None => {
                let shape = cells::shape(reader, map, &self.charsets).await?.map(Arc::new);
                self.shapes.insert(rows.table_id(), shape.clone());
                shape
            }
        };
        let Some(shape) = shape else { return Ok(()) };
        let mut found = Vec::new();
        for (row, read) in shape.rows(rows)?.into_iter().enumerate() {
            let (place, (before, after)) = ((at, row as u64), read);
            if self.mark.file == *self.file && self.mark.within.is_some_and(|within| place <= within) {
                continue;
            }
            let op = match (&before, &after) {
                (None, Some(_)) => Op::Insert,
                (Some(_), None) => Op::Delete,
                _ => Op::Update,
            };
            let file = self.file.clone();
            found.push(Next::Row(Raw { file, at: place, shape: shape.clone(), op, before, after, committed, size: 0 }));
        }
        if let Some(Next::Row(raw)) = found.first_mut() {
            raw.size = size;
        }
        if at <= self.sure {
            self.next.extend(found);
            return Ok(());
        }
        self.size += size;
        if self.size > UNSURE {
            self.seeking = true;
            self.unsure = Some(Vec::new());
        } else {
            self.unsure.get_or_insert_default().extend(found);
        }
        Ok(())
    }

    async fn changes(&mut self, reader: &Reader, run: &str, rows: Vec<Raw>) -> Result<Vec<Told>, Fault> {
        let all: Vec<_> =
            rows.iter().flat_map(|raw| raw.before.iter().chain(&raw.after).map(|cells| (&raw.shape, cells))).collect();
        let mut documents = documents::documents(reader, &all).await?.into_iter();
        let mut told = Vec::with_capacity(rows.len());
        for raw in &rows {
            let mut read = |there: bool| there.then(|| documents.next()).flatten();
            let (before, after) = (read(raw.before.is_some()), read(raw.after.is_some()));
            let id = format!("{run}-{}-{}-{}", raw.file, raw.at.0, raw.at.1);
            let Some(open) = reader.tables.iter().find(|open| open.name() == raw.shape.table) else { continue };
            match (before, after) {
                (Some(Err((_, fault))), Some(Ok((_, document)) | Err((document, _))))
                | (Some(Err((document, fault))), None)
                | (_, Some(Err((document, fault)))) => {
                    told.push(Told::Unreadable { table: open.name(), id, document, fault });
                }
                (before, after) => {
                    let (before, after) = (before.and_then(Result::ok), after.and_then(Result::ok));
                    told.extend(open.changes_of(raw.op, &id, before, after, true).into_iter().map(Told::Change));
                }
            }
        }
        Ok(told)
    }
}

/// The rows of an event, where it has some.
fn rows_of(event: &Event, kind: EventType) -> Result<Option<EventData<'_>>, Fault> {
    use EventType::{
        DELETE_ROWS_EVENT, DELETE_ROWS_EVENT_V1, PARTIAL_UPDATE_ROWS_EVENT, TRANSACTION_PAYLOAD_EVENT,
        UPDATE_ROWS_EVENT, UPDATE_ROWS_EVENT_V1, WRITE_ROWS_EVENT, WRITE_ROWS_EVENT_V1,
    };
    match kind {
        WRITE_ROWS_EVENT | WRITE_ROWS_EVENT_V1 | UPDATE_ROWS_EVENT | UPDATE_ROWS_EVENT_V1 | DELETE_ROWS_EVENT
        | DELETE_ROWS_EVENT_V1 => event.read_data().map_err(broken),
        PARTIAL_UPDATE_ROWS_EVENT => Err(Fault::new(
            Code::Misconfigured,
            "the log has only parts of rows: SET GLOBAL binlog_row_value_options = '', and let sessions begin anew",
        )),
        TRANSACTION_PAYLOAD_EVENT => Err(Fault::new(
            Code::Misconfigured,
            "the log has compressed transactions: SET GLOBAL binlog_transaction_compression = OFF, and let sessions begin anew",
        )),
        _ => Ok(None),
    }
}

/// A statement, no longer than a letter shows.
fn text_of(query: &str) -> String {
    query.chars().take(4000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was() {
        for within in [None, Some((5_000_000_000, 7))] {
            let mark = Mark { file: "binlog.000007".into(), place: 4, begun: 1_764_000_000, within };
            assert_eq!(Mark::read(&mark.value()), Some(mark));
        }
        assert_eq!(Mark::read(&Value::List(vec![Value::from("binlog.000007")])), None);
    }
}
