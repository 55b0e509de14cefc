//! By watermark: a column grows with each change, and rows above a floor are read again and again until none can come below
//! it any more.
//!
//! A row that is committed late has a watermark below what was read before. So the floor follows only to a value that was
//! the newest at an earlier pass, once (a) the overlap has passed since, for clocks that differ, and (b) every
//! transaction that was open then has ended, where the database tells. Rows above the floor that were handed over already
//! are known by their ids.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use gatehouse_core::Value;
use gatehouse_core::adapter::Intake;
use gatehouse_core::fault::{Code, Fault};
use tokio::time::Instant;

use super::ahead::Pace;
use super::hand::{self, Change, Op};
use super::position::{Snapshot, TablePosition};
use super::row::Unread;
use super::source::Column;
use super::sql::{self, Page};
use super::{Open, Reader};

/// What is remembered of a table between passes; a new reader begins without.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Rows above the floor that were handed over.
    seen: HashSet<String>,
    earlier: VecDeque<Earlier>,
    /// The transactions that were open after the last pass.
    open: Option<BTreeSet<String>>,
    /// When they were asked for.
    asked: Option<Instant>,
}

/// A pass that was made.
#[derive(Debug)]
struct Earlier {
    at: Instant,
    newest: Value,
    open: Option<BTreeSet<String>>,
}

/// One pass over a table.
pub(super) struct Pass<'a> {
    pub(super) reader: &'a Reader,
    pub(super) open: &'a Open,
    pub(super) column: &'a str,
    pub(super) overlap: Duration,
    pub(super) intake: &'a dyn Intake,
}

/// Rows that were read.
#[derive(Debug, Default)]
struct Look {
    changes: Vec<Change>,
    /// Rows that cannot be read, with their ids.
    unread: Vec<(String, Unread)>,
    bytes: usize,
    /// The newest watermark among them that is not in the future.
    newest: Option<Value>,
    /// The watermark and the key of the last whose watermark and key can be read.
    last: Option<Vec<Value>>,
    /// There may be more behind them.
    full: bool,
}

/// What a pass came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// There may be more at once.
    pub(super) busy: bool,
    /// The place has moved and should be saved.
    pub(super) moved: bool,
    /// What a person should know.
    pub(super) note: Option<String>,
}

impl Pass<'_> {
    /// Hands over what is new and lets the floor follow.
    pub(super) async fn run(
        &self,
        run: &str,
        place: &mut TablePosition,
        marks: &mut Marks,
        pace: &mut Pace,
    ) -> Result<Found, Fault> {
        if place.snapshot == Snapshot::Waiting {
            return self.begin(place, marks).await;
        }
        let column = self.open.described.column(self.column);
        let column = column.ok_or_else(|| Fault::new(Code::Misconfigured, format!("no column `{}`", self.column)))?;
        if place.floor == Value::Null && !self.reader.capture.snapshot && marks.earlier.is_empty() {
            // From now on.
            place.floor = self.newest().await?;
        }
        let mut newest = place.floor.clone();
        let mut seen = HashSet::new();
        let mut after = if place.floor == Value::Null { Vec::new() } else { vec![place.floor.clone()] };
        let mut look = self.look(run, column, &after).await?;
        loop {
            newest = look.newest.take().unwrap_or(newest);
            seen.extend(look.changes.iter().map(|change| change.id.clone()));
            seen.extend(look.unread.iter().map(|(id, _)| id.clone()));
            look.changes.retain(|change| !marks.seen.contains(&change.id));
            look.unread.retain(|(id, _)| !marks.seen.contains(id));
            let (full, last) = (look.full, look.last.take());
            let Some(next) = last.as_ref().filter(|last| full && **last != after) else {
                self.hand_over(look).await?;
                return match last {
                    _ if !full => break,
                    Some(_) => Err(super::stuck(self.open)),
                    None => Err(super::unreadable(self.open)),
                };
            };
            let ahead = pace.allows(look.bytes).then(|| self.look(run, column, next));
            look = match pace.both(self.hand_over(look), ahead).await? {
                Some(next) => next?,
                None => self.look(run, column, next).await?,
            };
            after = last.unwrap_or_default();
        }
        marks.seen = seen;
        let moved = self.follow(place, marks);
        self.note(newest, marks).await?;
        Ok(Found { busy: false, moved, note: None })
    }

    /// Reads the rows behind a place.
    async fn look(&self, run: &str, column: &Column, after: &[Value]) -> Result<Look, Fault> {
        let mut order = vec![column];
        order.extend(&self.open.key);
        let mut names = vec![column.name.clone()];
        names.extend(self.open.key_names());
        let page = Page {
            table: &self.open.described,
            columns: self.open.columns.iter().collect(),
            order,
            after,
            only: None,
            filled: Some(column),
            past: Some(column),
            limit: self.reader.capture.batch,
        };
        let rows = self.reader.source.documents(&page.query(self.reader.database), &page.columns).await?;
        let mut look = Look { full: rows.len() >= self.reader.capture.batch as usize, ..Look::default() };
        for document in rows {
            look.bytes += document.bytes.len();
            let id = hand::row_id(run, &self.open.name(), &document.bytes);
            let change = self.open.change(Op::Upsert, id.clone(), &document);
            let place = match &change {
                Ok(change) => Some(hand::values(&change.row, &names)),
                Err(unread) => unread.values(&names),
            };
            if let Some(place) = place {
                if document.past {
                    look.newest = place.first().cloned();
                }
                look.last = Some(place);
            }
            match change {
                Ok(change) => look.changes.push(change),
                Err(unread) => look.unread.push((id, *unread)),
            }
        }
        Ok(look)
    }

    async fn hand_over(&self, look: Look) -> Result<(), Fault> {
        let (endpoint, table) = (self.reader.full_name(), self.open.name());
        for (id, row) in look.unread {
            hand::bury(self.intake, &endpoint, &table, id, row).await;
        }
        hand::over(self.intake, &endpoint, look.changes).await
    }

    /// Before the first reading: waits until no row can come below the newest watermark of now.
    async fn begin(&self, place: &mut TablePosition, marks: &mut Marks) -> Result<Found, Fault> {
        if self.follow(place, marks) {
            place.snapshot = Snapshot::After(Vec::new());
            return Ok(Found { busy: true, moved: true, note: None });
        }
        if marks.earlier.is_empty() {
            let newest = self.newest().await?;
            if newest == Value::Null {
                place.snapshot = Snapshot::After(Vec::new());
                return Ok(Found { busy: true, moved: true, note: None });
            }
            self.note(newest, marks).await?;
        } else if marks.asked.is_none_or(|asked| asked.elapsed() >= self.overlap / 20) {
            marks.open = self.reader.source.open_transactions().await?;
            marks.asked = Some(Instant::now());
        }
        let late = marks.earlier.front().is_some_and(|first| {
            let open = matches!((&first.open, &marks.open), (Some(then), Some(now)) if !then.is_disjoint(now));
            open && first.at.elapsed() > self.overlap * 2
        });
        let (table, overlap) = (self.open.name(), self.overlap);
        let note = if late {
            format!(
                "the first reading of `{table}` waits until the transactions that were open at its start have ended"
            )
        } else {
            format!("the first reading of `{table}` begins once its `overlap` of {overlap:?} has passed")
        };
        Ok(Found { note: Some(note), ..Found::default() })
    }

    async fn newest(&self) -> Result<Value, Fault> {
        let Some(column) = self.open.described.column(self.column) else { return Ok(Value::Null) };
        let query = sql::newest(self.reader.database, &self.open.described, column);
        let rows = self.reader.source.documents(&query, &[column]).await?;
        let Some(document) = rows.first() else { return Ok(Value::Null) };
        let row = self.open.row(document).map_err(|unread| unread.fault)?;
        Ok(row.value.field(self.column).cloned().unwrap_or(Value::Null))
    }

    /// Lets the floor follow to where nothing can come below any more; tells whether it moved.
    fn follow(&self, place: &mut TablePosition, marks: &mut Marks) -> bool {
        let mut moved = false;
        while let Some(first) = marks.earlier.front() {
            let ended = match (&first.open, &marks.open) {
                (Some(then), Some(now)) => then.is_disjoint(now),
                _ => true,
            };
            if first.at.elapsed() < self.overlap || !ended {
                break;
            }
            if let Some(first) = marks.earlier.pop_front()
                && first.newest != Value::Null
                && first.newest != place.floor
            {
                place.floor = first.newest;
                moved = true;
            }
        }
        moved
    }

    /// Remembers a pass. Passes that follow each other quickly are remembered as one, and the database is not asked more
    /// often: what was open at an older moment holds the floor back longer, never less.
    async fn note(&self, newest: Value, marks: &mut Marks) -> Result<(), Fault> {
        if marks.asked.is_some_and(|asked| asked.elapsed() < self.overlap / 20) {
            return Ok(());
        }
        let open = self.reader.source.open_transactions().await?;
        marks.asked = Some(Instant::now());
        marks.open.clone_from(&open);
        marks.earlier.push_back(Earlier { at: Instant::now(), newest, open });
        Ok(())
    }
}
