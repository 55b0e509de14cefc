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
mod trigger;
mod watermark;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Behind, Cursor, Inbound, Intake, Stop};
use gatehouse_core::diagnostics::closest;
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::secret::Secret;
use tokio::time::Instant;

use crate::charsets;
use crate::file::{Checked, Database, Table};
use ahead::Pace;
use file::{Capture, How};
use hours::Hours;
use position::{Position, Snapshot, TablePosition};
use source::{Column, Described, Source};

pub(crate) use install::CHANGES;
pub(crate) use slice::Shelf;

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

/// A table that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) described: Described,
    /// The columns that are read.
    pub(crate) columns: Vec<Column>,
    /// The columns that tell rows apart.
    pub(crate) key: Vec<Column>,
    /// The columns by which rows keep their order; none: every row after the one before.
    pub(crate) order_by: Vec<String>,
}

/// A whole piece of a table cannot be read: going on would pass over what stands behind it.
fn unreadable(open: &Open) -> Fault {
    let text =
        format!("none of the next rows of `{}` can be read; they are dead letters: mend them there", open.name());
    Fault::new(Code::Misconfigured, text)
}

/// A page ends where it began: a driver that rounds times would be asked for the same rows for ever.
fn stuck(open: &Open) -> Fault {
    let text = format!(
        "the next rows of `{}` cannot be told from those before: its key or its watermark reads less exactly than it is kept, or many rows have the same",
        open.name()
    );
    Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold)
}

impl Open {
    pub(crate) fn name(&self) -> String {
        self.described.table.to_string()
    }
}

/// Opens an endpoint for reading: the tables are there, with every column that is named.
pub(crate) async fn open(
    checked: &Arc<Checked>,
    endpoint: &str,
    source: Arc<dyn Source>,
    password: Option<Secret>,
) -> Result<Reader, Fault> {
    let capture = checked.captures.iter().find(|(name, _)| name == endpoint).map(|(_, capture)| capture.clone());
    let capture = capture
        .ok_or_else(|| Fault::new(Code::Misconfigured, format!("`{}/{endpoint}` reads nothing", checked.name)))?;
    let database = source.speaks(checked.database).await?;
    let tables = look(checked, database, &capture, source.as_ref()).await?;
    for open in &tables {
        filled(database, open, source.as_ref()).await?;
    }
    let (checked, endpoint) = (checked.clone(), endpoint.to_owned());
    let mut reader = Reader { checked, database, endpoint, capture, source, password, tables };
    match reader.capture.how {
        How::Trigger => install::must_be_there(&reader).await?,
        How::Log { .. } => log::must_be_there(&mut reader).await?,
        How::Watermark { .. } | How::Outbox { .. } => {}
    }
    Ok(reader)
}

/// Refuses a key that is empty in some row: such rows would be passed over.
async fn filled(database: Database, open: &Open, source: &dyn Source) -> Result<(), Fault> {
    for column in open.key.iter().filter(|column| column.nullable) {
        if !source.ask(&sql::empty(database, &open.described, column), &[]).await?.is_empty() {
            let text = format!(
                "`{}` has rows whose `{}` is empty, so it does not tell them apart: say other columns with `key`",
                open.name(),
                column.name
            );
            return Err(Fault::new(Code::Misconfigured, text));
        }
    }
    Ok(())
}

/// The tables that a capture names, as the catalogue describes them now.
pub(crate) async fn look(
    checked: &Checked,
    database: Database,
    capture: &Capture,
    source: &dyn Source,
) -> Result<Vec<Open>, Fault> {
    let misconfigured = |text: String| Fault::new(Code::Misconfigured, text);
    let mut named: Vec<Table> = Vec::new();
    let all = if capture.tables.iter().all(|pattern| pattern.exact().is_some()) {
        Vec::new()
    } else {
        source::tables(source, database).await?
    };
    for pattern in &capture.tables {
        match pattern.exact() {
            Some(table) => named.push(table.clone()),
            None => {
                let own = |table: &Table| table.name == CHANGES || table.name == checked.inbox.name;
                // By ODBC every table has a schema, and none is said to be this user's own.
                let bare = database.is_odbc() && pattern.0.schema.is_none();
                let fits = |table: &&Table| match bare {
                    true => pattern.fits(&Table { schema: None, name: table.name.clone() }),
                    false => pattern.fits(table),
                };
                named.extend(all.iter().filter(fits).filter(|table| !own(table)).cloned());
            }
        }
    }
    let mut tables: Vec<Open> = Vec::new();
    for table in named {
        if tables.iter().any(|open| open.described.table == table) {
            continue;
        }
        let by_name = capture.tables.iter().any(|pattern| pattern.exact() == Some(&table));
        let mut described = match source::describe(source, database, &table).await? {
            Some(described) => described,
            None if by_name => {
                let help = likely(source, database, &table).await.unwrap_or_default();
                return Err(misconfigured(format!("there is no table `{table}`, or this user may not see it{help}")));
            }
            // It went between the list and this look.
            None => continue,
        };
        let mut finds = capture.key.clone();
        match &capture.how {
            How::Watermark { column, .. } | How::Outbox { sent: file::Sent::Mark { column, .. }, .. } => {
                finds.extend(if finds.is_empty() { described.key.clone() } else { Vec::new() });
                finds.push(column.clone());
            }
            How::Outbox { .. } | How::Trigger | How::Log { .. } => {}
        }
        charsets::declare(&mut described, &capture.charsets, &finds)?;
        let column = |name: &String| -> Result<Column, Fault> {
            described.column(name).cloned().ok_or_else(|| {
                let close = closest(name, described.columns.iter().map(|column| column.name.as_str()));
                let help = close.map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
                misconfigured(format!("`{table}` has no column `{name}`{help}"))
            })
        };
        let key_names = if capture.key.is_empty() { &described.key } else { &capture.key };
        let key = key_names.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        if key.is_empty() {
            let text = format!("`{table}` has no primary key: say with `key` which columns tell its rows apart");
            return Err(misconfigured(text));
        }
        let mut columns = Vec::new();
        if capture.columns.is_empty() {
            columns.clone_from(&described.columns);
        } else {
            let mut wanted: Vec<String> = key_names.clone();
            wanted.extend(capture.columns.iter().cloned());
            wanted.extend(capture.order_by.iter().cloned());
            match &capture.how {
                How::Watermark { column, .. } => wanted.push(column.clone()),
                How::Outbox { id, payload, .. } => wanted.extend(id.iter().chain(payload).cloned()),
                How::Trigger | How::Log { .. } => {}
            }
            for name in wanted {
                if !columns.iter().any(|known: &Column| known.name == name) {
                    columns.push(column(&name)?);
                }
            }
        }
        let named = match &capture.how {
            How::Watermark { column, .. } => vec![column],
            How::Outbox { sent, id, payload } => {
                let mut named: Vec<&String> = id.iter().chain(payload).collect();
                if let file::Sent::Mark { column, .. } = sent {
                    named.push(column);
                }
                named
            }
            How::Trigger | How::Log { .. } => Vec::new(),
        };
        for name in named.into_iter().chain(&capture.order_by) {
            column(name)?;
        }
        let order_by = match (&capture.how, capture.order_by.is_empty()) {
            (How::Outbox { .. }, true) => Vec::new(),
            (_, true) => key_names.clone(),
            (_, false) => capture.order_by.clone(),
        };
        tables.push(Open { columns, key, order_by, described });
    }
    if !tables.is_empty() {
        let columns = tables.iter().flat_map(|open| &open.columns).map(|column| column.name.as_str());
        charsets::known(&capture.charsets, columns)?;
    }
    Ok(tables)
}

/// What was probably meant by a table that is not there: first the same name in other letters (some databases write all of them
/// large), also in another schema.
async fn likely(source: &dyn Source, database: Database, table: &Table) -> Option<String> {
    let tables = source::tables(source, database).await.ok()?;
    let schema = |other: &&Table| table.schema.is_none() || table.schema == other.schema;
    let same = |other: &&Table| other.name.eq_ignore_ascii_case(&table.name);
    let names = || tables.iter().filter(schema).map(|other| other.name.as_str());
    let close = || closest(&table.name, names());
    let found = tables.iter().filter(schema).find(same);
    let found =
        found.or_else(|| close().and_then(|name| tables.iter().filter(schema).find(|other| other.name == name)));
    found.map(|found| format!("; did you mean `{found}`?"))
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
