//! The inbound half: reads the tables of one endpoint and hands each change over, with an id that stays the same however
//! often it is read. Nothing counts as read before it is durably on the bus.
//!
//! [`watermark`], [`outbox`], [`trigger`] and [`log`] find changes, each in its way; [`snapshot`] reads what was there before.
//! One loop goes round them, so that what is handed over of one row keeps its order.

mod ahead;
mod by_hand;
mod change;
pub(crate) mod file;
mod hand;
mod hours;
pub(crate) mod install;
mod log;
mod outbox;
mod position;
mod row;
mod slice;
mod snapshot;
pub(crate) mod source;
pub(crate) mod sql;
mod tables;
mod trigger;
mod watermark;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Behind, Cursor, Inbound, Intake, Stop};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::secret::Secret;
use tokio::time::Instant;

use crate::file::{Checked, Database};
use ahead::Pace;
use file::{Capture, How};
use hours::Hours;
use position::{Position, Snapshot, TablePosition};
use source::Source;

pub(crate) use install::CHANGES;
pub(crate) use slice::Shelf;
pub(crate) use tables::{Open, look, open};
use tables::{stuck, unreadable};

/// After how long the catalogue is looked at for tables and columns that came, went or changed, at the latest after so many
/// looks for rows.
const LOOK_AGAIN: (Duration, u32) = (Duration::from_secs(60), 30);

/// How often the clock is looked at outside of the hours in which something is read.
const REST: Duration = Duration::from_secs(5);

/// How long pieces of first readings may follow each other before changes are looked for again.
const STRETCH: Duration = Duration::from_secs(1);

/// How often changes that wait are counted while there are many: the count goes through all of them.
const COUNT_AGAIN: Duration = Duration::from_secs(10);

/// Reads for one endpoint.
pub(crate) struct Reader {
    pub(crate) checked: Arc<Checked>,
    /// Whose SQL is spoken.
    pub(crate) database: Database,
    /// The endpoint's name within the system.
    pub(crate) endpoint: String,
    pub(crate) capture: Capture,
    pub(crate) source: Arc<dyn Source>,
    /// What the log's own connection logs in with.
    pub(crate) password: Option<Secret>,
    pub(crate) tables: Vec<Open>,
}

#[async_trait]
impl Inbound for Reader {
    async fn run(self: Box<Self>, intake: Arc<dyn Intake>, stop: Stop) -> Result<(), Fault> {
        // What is under way when it stops was not saved as read: it comes again, with the same ids.
        tokio::select! {
            biased;
            () = stop => Ok(()),
            outcome = self.read(intake.as_ref()) => outcome,
        }
    }
}

/// Where a reader stands.
struct Place {
    cursor: Box<dyn Cursor>,
    position: Position,
    marks: HashMap<String, watermark::Marks>,
    log: Option<log::Open>,
    /// By log: the transactions that must end before a table's first reading begins.
    awaited: HashMap<String, Option<BTreeSet<String>>>,
    /// When changes that wait were counted.
    counted: Option<Instant>,
    /// It stands elsewhere than is saved.
    moved: bool,
    /// How fast pieces are handed over.
    pace: Pace,
}

impl Place {
    async fn save(&mut self) -> Result<(), Fault> {
        self.cursor.save(&self.position.text()).await?;
        self.moved = false;
        Ok(())
    }
}

/// A word that tells one reading of a source from another.
fn new_run() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl Reader {
    /// `system/endpoint`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.checked.name, self.endpoint)
    }

    /// The hours of first readings, where it is none of them now.
    fn rests(&self) -> Option<Hours> {
        self.capture.snapshot_hours.filter(|hours| !hours.now(&self.checked.zone))
    }

    /// The hours in which the database is looked at, where it is none of them now.
    fn sleeps(&self) -> Option<Hours> {
        self.capture.hours.filter(|hours| !hours.now(&self.checked.zone))
    }

    async fn read(mut self: Box<Self>, intake: &dyn Intake) -> Result<(), Fault> {
        let endpoint = self.full_name();
        let cursor = intake.cursor(&endpoint).await?;
        let position = Position::read(cursor.value())?;
        let (marks, awaited) = (HashMap::new(), HashMap::new());
        let pace = Pace::default();
        let mut place = Place { cursor, position, marks, log: None, awaited, counted: None, moved: false, pace };
        if place.position.run.is_empty() {
            place.position.run = new_run();
            place.save().await?;
        }
        let mut looked = Instant::now();
        let mut notes: Vec<String> = Vec::new();
        loop {
            let mut behind = Behind { waiting: Some(0), age: Some(Duration::ZERO), ..Behind::default() };
            if let Some(hours) = self.sleeps() {
                behind = Behind { notes: vec![format!("it is read in the hours {hours} only")], ..Behind::default() };
                intake.behind(&endpoint, behind);
                tokio::time::sleep(REST).await;
                continue;
            }
            let busy = match self.round(intake, &mut place, &mut behind).await {
                Ok(busy) => busy,
                Err(fault) if fault.code == Code::Misconfigured => {
                    // A column or a table may have gone since the last look: then it goes on with what is there.
                    let before = self.tables.clone();
                    notes = self.look_again(&mut place).await?;
                    if self.tables == before {
                        return Err(fault);
                    }
                    true
                }
                Err(fault) => return Err(fault),
            };
            if looked.elapsed() >= LOOK_AGAIN.0.min(self.capture.every * LOOK_AGAIN.1) {
                looked = Instant::now();
                notes = self.look_again(&mut place).await?;
            }
            behind.notes.extend(notes.iter().cloned());
            intake.behind(&endpoint, behind);
            let due = slice::step(&self, &place.position.run, intake).await?;
            if !busy {
                tokio::time::sleep(due.unwrap_or(self.capture.every).min(self.capture.every)).await;
            }
        }
    }

    /// Once round everything that is read; tells whether there may be more at once.
    async fn round(&self, intake: &dyn Intake, place: &mut Place, behind: &mut Behind) -> Result<bool, Fault> {
        if !place.cursor.is_held() {
            return Err(Fault::new(Code::Conflict, "another gateway reads this now").verdict(Verdict::Retry));
        }
        let mut busy = false;
        let mut installed = Vec::new();
        if let How::Trigger = self.capture.how {
            let count = place.counted.is_none_or(|counted| counted.elapsed() >= COUNT_AGAIN);
            if count {
                place.counted = Some(Instant::now());
            }
            let drained = trigger::drain(self, intake, behind, count).await?;
            busy |= drained.busy;
            installed = drained.installed;
            for (_, table) in &installed {
                // Of a table that is not read at this moment: when it is, it is read from its beginning.
                if !self.tables.iter().any(|open| open.name() == *table) {
                    place.moved |= place.position.tables.remove(table).is_some();
                }
            }
        }
        if let How::Log { .. } = self.capture.how {
            place.moved |= log::drain(self, intake, place, behind).await?;
            log::settle(self, place, behind).await?;
            // It has waited already where there was nothing.
            busy = true;
        }
        let until = Instant::now() + STRETCH;
        for open in &self.tables {
            let fresh = || TablePosition {
                snapshot: if self.capture.snapshot { Snapshot::Waiting } else { Snapshot::Done },
                floor: Value::Null,
            };
            let position = &mut place.position;
            let table = position.tables.entry(open.name()).or_insert_with(fresh);
            match &self.capture.how {
                How::Watermark { column, overlap } => {
                    let marks = place.marks.entry(open.name()).or_default();
                    let pass = watermark::Pass { reader: self, open, column, overlap: *overlap, intake };
                    let found = pass.run(&position.run, table, marks, &mut place.pace).await?;
                    busy |= found.busy;
                    place.moved |= found.moved;
                    behind.notes.extend(found.note);
                }
                How::Outbox { sent, id, payload } => {
                    let outbox = outbox::Outbox { reader: self, open, sent, id, payload, intake };
                    busy |= outbox.run(&position.run).await?;
                    continue;
                }
                How::Trigger => {
                    let anew = installed.iter().any(|(_, table)| *table == open.name());
                    if self.capture.snapshot && (anew || table.snapshot == Snapshot::Waiting) {
                        table.snapshot = Snapshot::After(Vec::new());
                        position.run = new_run();
                        place.moved = true;
                        continue;
                    }
                }
                How::Log { .. } => {}
            }
            if let (Snapshot::After(_), Some(hours)) = (&table.snapshot, self.rests()) {
                behind.notes.push(format!("the first reading of `{}` goes on in the hours {hours} only", open.name()));
            } else if matches!(table.snapshot, Snapshot::After(_)) {
                snapshot::step(self, open, place, intake, until).await?;
            }
        }
        if place.moved {
            place.save().await?;
            log::confirm(place).await?;
            busy = true;
        }
        trigger::delete(self, installed.into_iter().map(|(seq, _)| seq)).await?;
        Ok(busy)
    }

    /// Takes up what has changed in the catalogue, and tells what a person should do.
    async fn look_again(&mut self, place: &mut Place) -> Result<Vec<String>, Fault> {
        let mut notes = Vec::new();
        let mut now = look(&self.checked, self.database, &self.capture, self.source.as_ref()).await?;
        if let How::Log { .. } = self.capture.how {
            notes.extend(log::take_up(self, &mut now).await?);
        }
        for open in &now {
            let before = self.tables.iter().find(|before| before.described.table == open.described.table);
            let Some(before) = before else {
                notes.push(format!("table `{}` is new and is read from now on", open.name()));
                continue;
            };
            for column in &open.described.columns {
                match before.described.column(&column.name) {
                    None => notes.push(format!(
                        "column `{}` of `{}` is new: map it where it is wanted",
                        column.name,
                        open.name()
                    )),
                    Some(was) if was.kind != column.kind => notes.push(format!(
                        "column `{}` of `{}` was {} and is {} now: look at its mapping",
                        column.name,
                        open.name(),
                        was.kind,
                        column.kind
                    )),
                    Some(_) => {}
                }
            }
            for gone in before.described.columns.iter().filter(|was| open.described.column(&was.name).is_none()) {
                notes.push(format!("column `{}` of `{}` is gone: look at its mapping", gone.name, open.name()));
            }
        }
        for gone in self.tables.iter().filter(|was| !now.iter().any(|open| open.described.table == was.described.table))
        {
            notes.push(format!("table `{}` is gone and is not read any more", gone.name()));
        }
        if self.tables != now {
            // It knows by now what its tables are: it is opened again, where it was left.
            place.log = None;
        }
        self.tables = now;
        if let How::Trigger = self.capture.how {
            notes.extend(install::drift(self).await?);
        }
        Ok(notes)
    }
}
