//! Reading once more: slices of a table that an operator asked for, a piece at a time in the reader's own loop, so that a
//! change that is handed over after a piece is newer than what the piece said of its row.
//!
//! Rows have the ids of the first reading (and, by watermark, of every look); events of an outbox have their own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use gatehouse_core::adapter::{Archive, Arrival, Backfill, Intake};
use gatehouse_core::backfill::{Due, Piece, Slice, Span};
use gatehouse_core::diagnostics::closest;
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::{Value, json};

use super::file::How;
use super::hand::{self, Op};
use super::outbox::Outbox;
use super::source::{self, Column, Source};
use super::sql::{self, Page, Within};
use super::{Open, Reader, snapshot};
use crate::file::{Checked, Database};

/// Rows that go in side by side.
const SIDE_BY_SIDE: usize = 64;

/// Reads the piece that is due, if any; tells after how long to ask again, `None` where nothing is to be read.
pub(super) async fn step(reader: &Reader, run: &str, intake: &dyn Intake) -> Result<Option<Duration>, Fault> {
    let Some(backfill) = intake.backfill(&reader.full_name()) else { return Ok(None) };
    let piece = match backfill.due().await {
        Due::In(wait) => return Ok(Some(wait)),
        Due::Now(piece) => piece,
    };
    match read(reader, run, &piece, backfill.as_ref(), intake).await {
        Ok(()) => Ok(Some(Duration::ZERO)),
        // What it cannot read must not keep changes from being read.
        Err(fault) if matches!(fault.verdict, Verdict::Reject | Verdict::Hold) => {
            backfill.stop(fault).await;
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

async fn read(
    reader: &Reader,
    run: &str,
    piece: &Piece,
    backfill: &dyn Backfill,
    intake: &dyn Intake,
) -> Result<(), Fault> {
    let open = reader.tables.iter().find(|open| open.name() == piece.slice.table);
    let open = open.ok_or_else(|| misconfigured(format!("table `{}` is not read here any more", piece.slice.table)))?;
    let by = cutter(open, &piece.slice.by)?;
    let mut order = vec![by];
    order.extend(open.key.iter().filter(|key| key.name != by.name));
    let names: Vec<_> = order.iter().map(|column| column.name.clone()).collect();
    let after = place(piece.after.as_deref())?;
    let page = Page {
        table: &open.described,
        columns: open.columns.iter().collect(),
        order,
        after: &after,
        only: None,
        filled: None,
        past: None,
        limit: piece.rows,
    };
    let within = Within { column: by, from: piece.slice.from.as_deref(), to: piece.slice.to.as_deref() };
    let rows = reader.source.documents(&snapshot::query(reader, &page, Some(within)), &page.columns).await?;
    let full = rows.len() >= piece.rows as usize;
    let outbox = match &reader.capture.how {
        How::Outbox { sent, id, payload } => Some(Outbox { reader, open, sent, id, payload, intake }),
        _ => None,
    };
    let (mut changes, mut last) = (Vec::with_capacity(rows.len()), None);
    for document in rows {
        let row = open.row(&document);
        last = match &row {
            Ok(row) => Some(hand::values(&row.value, &names)),
            Err(unread) => unread.values(&names).or(last),
        };
        let id = || hand::row_id(run, &open.name(), &document.bytes);
        let change = match (row, &outbox) {
            (Ok(row), Some(outbox)) => outbox.change(run, row, &document),
            (Ok(row), None) => Ok(open.change_of(Op::Read, id(), row.value, None, row.document)),
            (Err(unread), _) => Err((id(), unread)),
        };
        match change {
            Ok(change) => changes.push(change),
            Err((id, unread)) => {
                let fault = unread.fault.clone();
                backfill.bury(hand::unread(&open.name(), id, *unread), fault).await;
            }
        }
    }
    let keep = async |line: Vec<Arrival>| {
        for arrival in line {
            backfill.keep(arrival).await?;
        }
        Ok::<_, Fault>(())
    };
    // A backfill is no faster than its rate: more at once would only wait.
    let lines: Vec<_> = hand::lines(changes).into_iter().map(keep).collect();
    stream::iter(lines).buffer_unordered(SIDE_BY_SIDE).try_collect::<()>().await?;
    match last {
        Some(last) if full && last == after => return Err(super::stuck(open)),
        Some(last) if full => {
            let text = String::from_utf8_lossy(&json::encode(&Value::List(last))).into_owned();
            backfill.save(Some(&text)).await;
        }
        None if full => return Err(super::unreadable(open)),
        _ => backfill.save(None).await,
    }
    Ok(())
}

fn misconfigured(text: String) -> Fault {
    Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold)
}

/// The column that cuts a table: one of those that are read, because the place of a row is found in it.
fn cutter<'a>(open: &'a Open, name: &str) -> Result<&'a Column, Fault> {
    if let Some(column) = open.columns.iter().find(|column| column.name == name) {
        return Ok(column);
    }
    if open.described.column(name).is_some() {
        let text = format!("`columns` of the endpoint leaves `{name}` out: slices are cut by a column that is read");
        return Err(misconfigured(text));
    }
    let close = closest(name, open.columns.iter().map(|column| column.name.as_str()));
    let help = close.map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
    Err(misconfigured(format!("`{}` has no column `{name}`{help}", open.name())))
}

/// The values after which a piece begins.
fn place(after: Option<&str>) -> Result<Vec<Value>, Fault> {
    let Some(after) = after else { return Ok(Vec::new()) };
    match json::decode(after.as_bytes(), &BodyLimits { bytes: 16 << 20, ..BodyLimits::default() }) {
        Ok(Value::List(values)) => Ok(values),
        _ => {
            Err(misconfigured("the place in the slice cannot be read; a newer gateway may have written it".to_owned()))
        }
    }
}

/// What an endpoint's tables still hold.
pub(crate) struct Shelf {
    database: Database,
    /// The column that cuts, where the endpoint names one.
    by: Option<String>,
    source: Arc<dyn Source>,
    tables: Vec<Open>,
}

impl Shelf {
    /// Looks at the tables of an endpoint.
    pub(crate) async fn open(checked: &Arc<Checked>, endpoint: &str, source: Arc<dyn Source>) -> Result<Self, Fault> {
        let capture = checked.captures.iter().find(|(name, _)| name == endpoint).map(|(_, capture)| capture);
        let capture = capture.ok_or_else(|| misconfigured(format!("`{}/{endpoint}` reads nothing", checked.name)))?;
        let by = match &capture.how {
            How::Watermark { column, .. } => Some(column.clone()),
            _ => None,
        };
        let database = source.speaks(checked.database).await?;
        let tables = super::look(checked, database, capture, source.as_ref()).await?;
        Ok(Self { database, by, source, tables })
    }

    async fn span(&self, open: &Open, by: &Column) -> Result<Span, Fault> {
        let database = self.database;
        let rows = self.source.ask(&sql::span(database, &open.described, by), &[]).await?;
        let mut texts = rows.into_iter().next().unwrap_or_default().into_iter();
        let (least, largest) = (texts.next().flatten(), texts.next().flatten());
        let numbers = match database {
            Database::Sqlite => texts.next().flatten().as_deref() == Some("integerinteger"),
            _ => sql::is_whole(database, by),
        };
        Ok(Span { table: open.name(), by: by.name.clone(), numbers, least, largest })
    }
}

#[async_trait]
impl Archive for Shelf {
    async fn spans(&self, table: Option<&str>, by: Option<&str>) -> Result<Vec<Span>, Fault> {
        let named: Vec<_> = self.tables.iter().filter(|open| table.is_none_or(|name| open.name() == name)).collect();
        if let (true, Some(name)) = (named.is_empty(), table) {
            let names: Vec<_> = self.tables.iter().map(Open::name).collect();
            let close = closest(name, names.iter().map(String::as_str));
            let help = close.map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
            return Err(misconfigured(format!("the endpoint reads no table `{name}`{help}")));
        }
        let mut spans = Vec::with_capacity(named.len());
        for open in named {
            let by = match by.or(self.by.as_deref()).or(open.key.first().map(|key| key.name.as_str())) {
                Some(name) => cutter(open, name)?,
                None => continue,
            };
            spans.push(self.span(open, by).await?);
        }
        Ok(spans)
    }

    async fn count(&self, slice: &Slice) -> Result<u64, Fault> {
        let open = self.tables.iter().find(|open| open.name() == slice.table);
        let open = open.ok_or_else(|| misconfigured(format!("there is no table `{}`", slice.table)))?;
        let within = Within { column: cutter(open, &slice.by)?, from: slice.from.as_deref(), to: slice.to.as_deref() };
        let rows = self.source.fetch(&sql::count(self.database, &open.described, within)).await?;
        let rows = rows.into_iter().map(source::texts).collect::<Result<Vec<_>, _>>()?;
        let count = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }
}
