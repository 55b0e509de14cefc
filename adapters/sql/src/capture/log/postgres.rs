//! PostgreSQL's log as changes: transactions as they were committed, each change with an id that is its place in the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::super::change::emptied;
use super::super::hand::{self, Change, Op};
use super::super::{Open, Reader};
use super::pgoutput::{self, Message, Tuple};
use super::slot::{lsn, lsn_text};
use super::tuples::{self, Known, Row};
use super::wire::{Incoming, Wire};
use super::{Log, Piece, Told};

/// How often the server hears from us while it waits; it gives up after `wal_sender_timeout`, 60 s if nothing else is said.
const AWAKE: Duration = Duration::from_secs(10);

/// How many bytes of changes are held at once.
const HELD: usize = 16 << 20;

/// Where the log is read on: behind whole transactions, and how far within the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mark {
    done: u64,
    /// The next transaction's end, and the last of its changes that was handed over: its place, and which of those there.
    within: Option<(u64, u64, u32)>,
}

impl Mark {
    fn read(value: &Value) -> Option<Self> {
        let number = |at: usize| value.as_list()?.get(at)?.as_text().and_then(lsn);
        let count = || value.as_list()?.get(3)?.to_plain_text()?.parse().ok();
        let within = number(1).zip(number(2)).zip(count()).map(|((last, at), count)| (last, at, count));
        Some(Self { done: number(0)?, within })
    }

    fn value(self) -> Value {
        let text = |place: u64| Value::from(lsn_text(place));
        let mut parts = vec![text(self.done)];
        if let Some((last, at, count)) = self.within {
            parts.extend([text(last), text(at), Value::from(i64::from(count))]);
        }
        Value::List(parts)
    }
}

/// Everything before this is durably elsewhere, as a mark says.
pub(super) fn done(mark: &Value) -> Option<u64> {
    Mark::read(mark).map(|mark| mark.done)
}

struct Postgres {
    wire: Wire,
    mark: Mark,
    /// Up to where the server was told.
    confirmed: u64,
    told: Instant,
    known: HashMap<u32, Arc<Known>>,
    /// The transaction that is being read: its end, its number, when it was committed.
    within: Option<(u64, u32, i64)>,
    /// The last change that came of it.
    last: (u64, u32),
}

/// A change as it stands in the log.
struct Raw {
    at: (u64, u32),
    known: Arc<Known>,
    /// `None`: the table was emptied.
    op: Option<Op>,
    old: Option<Row>,
    new: Option<Row>,
}

/// Opens the log of a reader's slot at a mark.
pub(super) async fn open(reader: &Reader, mark: Option<&Value>) -> Result<Box<dyn Log>, Fault> {
    let unreadable = || Fault::new(Code::Misconfigured, "the place in the log cannot be read");
    let mark = mark.map(|mark| Mark::read(mark).ok_or_else(unreadable)).transpose()?.unwrap_or_default();
    let mut wire = Wire::open(reader).await?;
    wire.start(&super::slot::name(reader), mark.done).await?;
    Ok(Box::new(Postgres {
        wire,
        mark,
        confirmed: mark.done,
        told: Instant::now(),
        known: HashMap::new(),
        within: None,
        last: (0, 0),
    }))
}

#[async_trait]
impl Log for Postgres {
    async fn next(&mut self, reader: &Reader, run: &str, most: usize, wait: Duration) -> Result<Piece, Fault> {
        let deadline = Instant::now() + wait;
        let (mut raw, mut size) = (Vec::new(), 0);
        let (mut numbers, mut committed) = (HashSet::new(), None);
        while raw.len() < most && size < HELD {
            let left = if raw.is_empty() { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let Some(incoming) = self.wire.next(left).await? else {
                if self.told.elapsed() >= AWAKE {
                    self.tell().await?;
                }
                break;
            };
            match incoming {
                Incoming::Alive { end, answer } => {
                    if self.within.is_none() && end > self.mark.done {
                        let within = self.mark.within.filter(|(last, ..)| *last >= end);
                        self.mark = Mark { done: end, within };
                    }
                    if answer {
                        self.tell().await?;
                    }
                }
                Incoming::Data { at, body } => {
                    let bytes = body.len();
                    let took = self.take(reader, at, pgoutput::read(body)?, &mut raw).await?;
                    if let (true, Some((_, xid, time))) = (took, self.within) {
                        size += bytes;
                        numbers.insert(xid);
                        committed = Some(time);
                    }
                }
            }
            // Much that is not read may stand between two changes that are.
            let late = if raw.is_empty() { deadline } else { deadline + AWAKE };
            if Instant::now() >= late {
                break;
            }
        }
        self.visible(reader, numbers).await?;
        let told = changes(reader, run, raw).await?;
        let now = jiff::Timestamp::now().as_microsecond() - 946_684_800_000_000;
        let age = committed.map(|at| Duration::from_micros(u64::try_from(now - at).unwrap_or(0)));
        Ok(Piece { told, mark: self.mark.value(), far: false, age })
    }

    async fn awake(&mut self) -> Fault {
        loop {
            tokio::time::sleep(AWAKE).await;
            if let Err(fault) = self.tell().await {
                return fault;
            }
        }
    }

    async fn confirm(&mut self, mark: &Value) -> Result<(), Fault> {
        if let Some(done) = done(mark).filter(|done| *done > self.confirmed) {
            self.confirmed = done;
            self.tell().await?;
        }
        Ok(())
    }
}

impl Postgres {
    async fn tell(&mut self) -> Result<(), Fault> {
        self.told = Instant::now();
        self.wire.status(self.confirmed).await
    }

    /// Takes a message in; tells whether a change came of it.
    async fn take(&mut self, reader: &Reader, at: u64, message: Message, raw: &mut Vec<Raw>) -> Result<bool, Fault> {
        let row = |known: &Arc<Known>, tuple: Tuple, identity_only| Row { known: known.clone(), tuple, identity_only };
        let (relation, op, old, new) = match message {
            Message::Begin { last, at, xid } => {
                self.within = Some((last, xid, at));
                self.last = (0, 0);
                return Ok(false);
            }
            Message::Commit { end } => {
                self.within = None;
                self.mark = Mark { done: end, within: None };
                return Ok(false);
            }
            Message::Relation(relation) => {
                let id = relation.id;
                let known = tuples::known(reader, relation).await?;
                self.known.insert(id, Arc::new(known));
                return Ok(false);
            }
            Message::Truncate { relations } => {
                let mut some = false;
                for relation in relations {
                    some |=
                        self.push(at, relation, raw, |known, at| Raw { at, known, op: None, old: None, new: None })?;
                }
                return Ok(some);
            }
            Message::Other => return Ok(false),
            Message::Insert { relation, new } => (relation, Op::Insert, None, Some(new)),
            Message::Update { relation, old, new } => (relation, Op::Update, old, Some(new)),
            Message::Delete { relation, old } => (relation, Op::Delete, Some(old), None),
        };
        self.push(at, relation, raw, |known, at| Raw {
            at,
            op: Some(op),
            new: new.map(|tuple| {
                let mut new = row(&known, tuple, false);
                if let Some(old) = old.as_ref().filter(|old| old.whole) {
                    new.fill(&old.tuple);
                }
                new
            }),
            old: old.map(|old| row(&known, old.tuple, !old.whole)),
            known,
        })
    }

    /// Counts a change, and keeps it if it is of a table that is read and was not handed over before.
    fn push(
        &mut self,
        at: u64,
        relation: u32,
        raw: &mut Vec<Raw>,
        make: impl FnOnce(Arc<Known>, (u64, u32)) -> Raw,
    ) -> Result<bool, Fault> {
        let odd = || Fault::new(Code::BadAnswer, "the log tells a change of no transaction or no table");
        let (end, _, _) = self.within.ok_or_else(odd)?;
        let known = self.known.get(&relation).cloned().ok_or_else(odd)?;
        let count = if self.last.0 == at { self.last.1 + 1 } else { 0 };
        self.last = (at, count);
        let before = self.mark.within.is_some_and(|(last, place, which)| last == end && (at, count) <= (place, which));
        if before {
            return Ok(false);
        }
        self.mark.within = Some((end, at, count));
        if known.table.is_none() {
            return Ok(false);
        }
        raw.push(make(known, (at, count)));
        Ok(true)
    }

    /// Waits until these transactions can be seen: the log may tell of one a moment before others see it, and what is read of
    /// a table afterwards must not be older.
    async fn visible(&mut self, reader: &Reader, numbers: HashSet<u32>) -> Result<(), Fault> {
        let mut pause = Duration::from_millis(1);
        while !numbers.is_empty() {
            let rows = reader.source.ask("SELECT pg_current_snapshot()::text", &[]).await?;
            let text = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
            let sees =
                Sees::read(&text).ok_or_else(|| Fault::new(Code::BadAnswer, "the database names no snapshot"))?;
            if numbers.iter().all(|number| sees.sees(*number)) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
            if self.told.elapsed() >= AWAKE {
                self.tell().await?;
            }
        }
        Ok(())
    }
}

/// What a snapshot sees, by `xmin:xmax:running,…`. The log has only the lower half of a transaction's number.
struct Sees {
    all_before: u32,
    none_from: u32,
    running: HashSet<u32>,
}

impl Sees {
    fn read(text: &str) -> Option<Self> {
        #[allow(clippy::cast_possible_truncation)] // the lower half is what is wanted
        let number = |text: &str| text.parse::<u64>().ok().map(|number| number as u32);
        let mut parts = text.splitn(3, ':');
        let (all_before, none_from) = (number(parts.next()?)?, number(parts.next()?)?);
        let running = parts.next()?.split(',').filter(|text| !text.is_empty()).map(number).collect::<Option<_>>()?;
        Some(Self { all_before, none_from, running })
    }

    fn sees(&self, number: u32) -> bool {
        let before = |one: u32, other: u32| one.wrapping_sub(other).cast_signed() < 0;
        before(number, self.all_before) || (before(number, self.none_from) && !self.running.contains(&number))
    }
}

/// Makes changes of what stands in the log.
async fn changes(reader: &Reader, run: &str, raw: Vec<Raw>) -> Result<Vec<Told>, Fault> {
    let rows: Vec<&Row> = raw.iter().flat_map(|raw| raw.old.iter().chain(&raw.new)).collect();
    let mut documents = tuples::documents(reader, &rows).await?.into_iter();
    let mut told = Vec::with_capacity(raw.len());
    for raw in &raw {
        let old = raw.old.as_ref().and_then(|_| documents.next());
        let new = raw.new.as_ref().and_then(|_| documents.next());
        let table = raw.known.table.clone().unwrap_or_default();
        let id = format!("{run}-{:x}-{}", raw.at.0, raw.at.1);
        let Some(open) = reader.tables.iter().find(|open| open.name() == table) else { continue };
        let Some(op) = raw.op else {
            let text = emptied(&table);
            told.push(Told::Unreadable { table, id, document: String::new(), fault: Fault::new(Code::Invalid, text) });
            continue;
        };
        match made(reader, open, op, &id, raw, old.transpose(), new.transpose()).await? {
            Ok(changes) => told.extend(changes.into_iter().map(Told::Change)),
            Err(fault) => {
                let document = raw.new.as_ref().or(raw.old.as_ref()).map(Row::raw).unwrap_or_default();
                told.push(Told::Unreadable { table, id, document, fault });
            }
        }
    }
    Ok(told)
}

type Made = Result<Option<String>, Fault>;

/// The changes that one of the log is: two where a row's key has changed.
async fn made(
    reader: &Reader,
    open: &Open,
    op: Op,
    id: &str,
    raw: &Raw,
    old: Made,
    new: Made,
) -> Result<Result<Vec<Change>, Fault>, Fault> {
    let read = |document: Made| document?.map(|text| Ok((hand::decode(&text)?, text))).transpose();
    let (old, new) = match (read(old), read(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(fault), _) | (_, Err(fault)) => return Ok(Err(fault)),
    };
    let Some((mut row, mut text)) = new else { return Ok(Ok(open.changes_of(op, id, old, None, false))) };
    let mut id = id.to_owned();
    let missing = raw.new.as_ref().map(Row::unchanged).unwrap_or_default();
    if !missing.is_empty() {
        // What it is now may be newer than this change: another look may find something else, and be another message.
        let now = tuples::look_up(reader, open, &row, &missing).await?;
        let hash = Sha256::digest(now.as_ref().map(json::encode).unwrap_or_default());
        id.push('-');
        id.push_str(&hex::encode(&hash[..6]));
        if let Some(now) = now {
            row = tuples::together(row, now);
            text = String::from_utf8_lossy(&json::encode(&row)).into_owned();
        }
    }
    let whole = raw.old.as_ref().is_some_and(|old| !old.identity_only);
    Ok(Ok(open.changes_of(op, &id, old, Some((row, text)), whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was() {
        for within in [None, Some((0x1_0000_0007, 0xffff_ffff, 3))] {
            let mark = Mark { done: 0x16_b374_8000, within };
            assert_eq!(Mark::read(&mark.value()), Some(mark));
        }
        assert_eq!(Mark::read(&Value::from("16/B3748000")), None);
    }

    #[test]
    fn a_snapshot_sees_what_was_committed_before_it() {
        let sees = Sees::read("100:105:100,103").unwrap();
        let seen: Vec<_> = (98..108).filter(|number| sees.sees(*number)).collect();
        assert_eq!(seen, [98, 99, 101, 102, 104]);
        // Around the end of the lower half.
        let sees = Sees::read("8589934590:8589934595:").unwrap();
        assert!(sees.sees(u32::MAX - 5) && sees.sees(2) && !sees.sees(3) && !sees.sees(40));
        assert!(Sees::read("1:2").is_none());
    }
}
