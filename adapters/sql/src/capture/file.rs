//! `capture:` of an endpoint: which tables are read, which way, and what it becomes once it cannot be wrong.

use std::time::Duration;

use gatehouse_core::Value;
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::limits::{parse_bytes, parse_duration};
use gatehouse_core::yaml::Located;
use schemars::JsonSchema;
use serde::Deserialize;

use super::hours::Hours;
use crate::charsets::Charsets;
use crate::file::{Table, is_identifier};

/// How a table's rows come in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureFile {
    /// `watermark` (a column that grows with each change), `outbox` (rows are marked or deleted once they are sent),
    /// `trigger` (triggers of Gatehouse's own write every change down) or `log` (the database's own log: logical
    /// replication, binlog).
    pub by: Located<String>,
    /// The table: `orders`, `sales.orders`.
    #[serde(default)]
    pub table: Option<Located<String>>,
    /// Several tables; `*` stands for any letters: `sales.*`, `order_*`. Tables that come later are taken up too.
    #[serde(default)]
    pub tables: Vec<Located<String>>,
    /// The columns that tell rows apart. Default: the primary key.
    #[serde(default)]
    pub key: Vec<Located<String>>,
    /// The columns that are read. Default: all.
    #[serde(default)]
    pub columns: Vec<Located<String>>,
    /// How long to wait after a look that found nothing: `500ms`, `5s`. Default 2s, at most 1h.
    #[serde(default)]
    pub every: Option<Located<String>>,
    /// How many rows are read at a time. Default 500, at most 10000.
    #[serde(default)]
    pub batch: Option<Located<u32>>,
    /// Rows with the same values in these columns are handed over one after the other, others side by side. Default: the
    /// key; for an outbox every row after the one before it.
    #[serde(default)]
    pub order_by: Vec<Located<String>>,
    /// All but `outbox`: whether the rows that are there at the first start are read first. Default true.
    #[serde(default)]
    pub snapshot: Option<bool>,
    /// All but `outbox`: the hours in which such a first reading goes on, in the system's `zone`: `20:00-06:00`. Default: all.
    #[serde(default)]
    pub snapshot_hours: Option<Located<String>>,
    /// All but `log`: the hours in which the database is looked at. Default: all.
    #[serde(default)]
    pub hours: Option<Located<String>>,
    /// `watermark`: the column that grows with each change: `updated_at`, `version`.
    #[serde(default)]
    pub watermark: Option<Located<String>>,
    /// `watermark`: for how long rows may still come with an older watermark (late commits, clocks that differ). Default
    /// 10s, at most 1h.
    #[serde(default)]
    pub overlap: Option<Located<String>>,
    /// `outbox`: what happens to a row once it is sent.
    #[serde(default)]
    pub sent: Option<Located<SentFile>>,
    /// `outbox`: the column with the message's id. Default: made from the row.
    #[serde(default)]
    pub id: Option<Located<String>>,
    /// `outbox`: the column whose JSON is the body. Default: the row is.
    #[serde(default)]
    pub payload: Option<Located<String>>,
    /// `log`: what happens when the place in the log is lost, because the database has removed what was not read yet:
    /// `stop` (default; a person decides) or `anew` (every table is read from its beginning).
    #[serde(default)]
    pub lost: Option<Located<String>>,
    /// `log`: how much of its log the database may hold back for this endpoint.
    #[serde(default)]
    pub lag: LagFile,
}

/// How much of its log a database may hold back.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LagFile {
    /// In bytes: `500MiB`. Default 10GiB.
    #[serde(default)]
    pub most: Option<Located<String>>,
    /// What happens above it: `alert` (default; it is kept, and a person is told) or `anew` (it is let go, and every table is
    /// read from its beginning).
    #[serde(default)]
    pub above: Option<Located<String>>,
}

/// What happens to a row of an outbox once it is sent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum SentFile {
    /// `delete`.
    Word(String),
    /// A column tells.
    Mark(MarkFile),
}

/// A column tells which rows are sent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkFile {
    /// The column.
    pub column: String,
    /// What stands in rows that wait. Default: nothing (`NULL`).
    #[serde(default)]
    pub waiting: Option<Word>,
    /// What is written into rows that are sent; `now` is the database's time.
    pub done: Word,
}

/// A text or a whole number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Word {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

impl Word {
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Number(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_str()),
        }
    }
}

/// A checked capture.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) tables: Vec<Pattern>,
    pub(crate) how: How,
    pub(crate) key: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Columns whose texts are in a charset that the database does not know.
    pub(crate) charsets: Charsets,
    pub(crate) every: Duration,
    pub(crate) batch: u32,
    pub(crate) order_by: Vec<String>,
    pub(crate) snapshot: bool,
    pub(crate) snapshot_hours: Option<Hours>,
    pub(crate) hours: Option<Hours>,
}

/// Which way changes are found.
#[derive(Clone, Debug)]
pub(crate) enum How {
    Watermark { column: String, overlap: Duration },
    Outbox { sent: Sent, id: Option<String>, payload: Option<String> },
    Trigger,
    Log { lost: Lost, most: u64, above: Above },
}

/// What happens when the place in the log is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Stop,
    Anew,
}

/// What happens when the database holds too much of its log for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Above {
    Alert,
    Anew,
}

/// What happens to a row of an outbox once it is sent.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Delete,
    Mark { column: String, waiting: Value, done: Value },
}

/// A table's name in which `*` stands for any letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) Table);

impl Pattern {
    /// The one table that it names, where it has no `*`.
    pub(crate) fn exact(&self) -> Option<&Table> {
        let stars = |word: &str| word.contains('*');
        (!stars(&self.0.name) && !self.0.schema.as_deref().is_some_and(stars)).then_some(&self.0)
    }

    /// Whether a table of the database fits. `schema` is `None` for the one that needs no naming.
    pub(crate) fn fits(&self, table: &Table) -> bool {
        let schema = match (&self.0.schema, &table.schema) {
            (None, None) => true,
            (Some(pattern), Some(name)) => fits(pattern, name),
            _ => false,
        };
        schema && fits(&self.0.name, &table.name)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| fits(rest, &name[at..]))
        }),
    }
}

/// Checks a `capture:`.
pub(crate) fn check(
    read: &Located<CaptureFile>,
    table: impl Fn(&Located<String>, &mut Problems) -> Option<Table>,
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<Capture> {
    let before = problems.iter().count();
    let mut error = |code: &'static str, at: &std::ops::Range<usize>, text: String| {
        problems.push(Problem::error(code, file, at.clone(), text));
    };
    let by = read.by.as_str();
    let foreign: [(_, Option<&std::ops::Range<usize>>, &[&str]); 10] = [
        ("watermark", read.watermark.as_ref().map(|at| &at.span), &["watermark"]),
        ("overlap", read.overlap.as_ref().map(|at| &at.span), &["watermark"]),
        ("sent", read.sent.as_ref().map(|at| &at.span), &["outbox"]),
        ("id", read.id.as_ref().map(|at| &at.span), &["outbox"]),
        ("payload", read.payload.as_ref().map(|at| &at.span), &["outbox"]),
        ("snapshot", read.snapshot.map(|_| &read.by.span), &["watermark", "trigger", "log"]),
        ("snapshot_hours", read.snapshot_hours.as_ref().map(|at| &at.span), &["watermark", "trigger", "log"]),
        ("hours", read.hours.as_ref().map(|at| &at.span), &["watermark", "outbox", "trigger"]),
        ("lost", read.lost.as_ref().map(|at| &at.span), &["log"]),
        ("lag", read.lag.most.as_ref().or(read.lag.above.as_ref()).map(|at| &at.span), &["log"]),
    ];
    for (name, at, ways) in foreign {
        if let Some(at) = at.filter(|_| !ways.contains(&by)) {
            error("not-here", at, format!("`{name}` belongs to `by: {}`", ways.join("` or `by: ")));
        }
    }
    let named = [&read.key, &read.columns, &read.order_by].into_iter().flatten();
    for column in named.chain(read.watermark.iter()).chain(read.id.iter()).chain(read.payload.iter()) {
        if !is_identifier(column) {
            error("bad-name", &column.span, format!("`{}` cannot be a column", column.value));
        }
    }
    let how = match by {
        "watermark" => match &read.watermark {
            Some(column) => Some(How::Watermark { column: column.value.clone(), overlap: Duration::from_secs(10) }),
            None => {
                let text =
                    "`by: watermark` needs `watermark`: a column that grows with each change, such as `updated_at`";
                error("no-watermark", &read.by.span, text.to_owned());
                None
            }
        },
        "outbox" => {
            let sent = match read.sent.as_ref().map(|sent| (&sent.value, &sent.span)) {
                None => {
                    let text = "`by: outbox` needs `sent: delete`, or `sent: { column: sent_at, done: now }`";
                    error("no-sent", &read.by.span, text.to_owned());
                    None
                }
                Some((SentFile::Word(word), _)) if word == "delete" => Some(Sent::Delete),
                Some((SentFile::Word(_), at)) => {
                    error("bad-value", at, "expected `delete`, or `{ column: …, done: … }`".to_owned());
                    None
                }
                Some((SentFile::Mark(mark), at)) => {
                    if !is_identifier(&mark.column) {
                        error("bad-name", at, format!("`{}` cannot be a column", mark.column));
                    }
                    Some(Sent::Mark {
                        column: mark.column.clone(),
                        waiting: mark.waiting.as_ref().map_or(Value::Null, Word::value),
                        done: mark.done.value(),
                    })
                }
            };
            let text = |at: &Option<Located<String>>| at.as_ref().map(|at| at.value.clone());
            sent.map(|sent| How::Outbox { sent, id: text(&read.id), payload: text(&read.payload) })
        }
        "trigger" => Some(How::Trigger),
        "log" => log(read, &mut error),
        _ => {
            error("bad-value", &read.by.span, "expected `watermark`, `outbox`, `trigger` or `log`".to_owned());
            None
        }
    };
    let hours = |at: &Option<Located<String>>, problems: &mut Problems| {
        let at = at.as_ref()?;
        let hours = at.parse::<Hours>().ok();
        if hours.is_none() {
            let text = "expected hours such as `20:00-06:00`";
            problems.push(Problem::error("bad-value", file, at.span.clone(), text));
        }
        hours
    };
    let (snapshot_hours, hours) = (hours(&read.snapshot_hours, problems), hours(&read.hours, problems));
    let time = |at: &Option<Located<String>>, default: u64, problems: &mut Problems| match at {
        None => Some(Duration::from_secs(default)),
        Some(at) => {
            let time = parse_duration(at).filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600));
            if time.is_none() {
                let text = "expected a time up to 1h such as `500ms` or `5s`";
                problems.push(Problem::error("bad-value", file, at.span.clone(), text));
            }
            time
        }
    };
    let every = time(&read.every, 2, problems);
    let overlap = time(&read.overlap, 10, problems);
    let how = how.map(|how| match (how, overlap) {
        (How::Watermark { column, .. }, Some(overlap)) => How::Watermark { column, overlap },
        (how, _) => how,
    });
    if let Some(batch) = read.batch.as_ref().filter(|batch| !(1..=10_000).contains(&batch.value)) {
        problems.push(Problem::error("bad-value", file, batch.span.clone(), "expected a number from 1 to 10000"));
    }
    if read.table.is_some() != read.tables.is_empty() {
        let text = "expected either `table` or `tables`";
        problems.push(Problem::error("no-table", file, read.by.span.clone(), text));
    }
    let tables: Vec<_> =
        read.table.iter().chain(&read.tables).filter_map(|at| table(at, problems).map(Pattern)).collect();
    let names = |list: &[Located<String>]| list.iter().map(|at| at.value.clone()).collect::<Vec<_>>();
    let capture = Capture {
        tables,
        how: how?,
        key: names(&read.key),
        columns: names(&read.columns),
        charsets: Charsets::new(),
        every: every?,
        batch: read.batch.as_ref().map_or(500, |batch| batch.value),
        order_by: names(&read.order_by),
        snapshot: read.snapshot.unwrap_or(true),
        snapshot_hours,
        hours,
    };
    (problems.iter().count() == before).then_some(capture)
}

/// What `by: log` says beside the tables.
fn log(read: &CaptureFile, error: &mut impl FnMut(&'static str, &std::ops::Range<usize>, String)) -> Option<How> {
    let mut word = |at: &Option<Located<String>>, one: &str| match at.as_ref().map(|at| (at.as_str(), &at.span)) {
        None => Some(false),
        Some((word, _)) if word == one => Some(false),
        Some(("anew", _)) => Some(true),
        Some((_, span)) => {
            error("bad-value", span, format!("expected `{one}` or `anew`"));
            None
        }
    };
    let (lost, above) = (word(&read.lost, "stop"), word(&read.lag.above, "alert"));
    let most = match &read.lag.most {
        None => Some(10 << 30),
        Some(at) => {
            let most = parse_bytes(at).and_then(|most| u64::try_from(most).ok()).filter(|most| *most >= 1 << 20);
            if most.is_none() {
                error("bad-value", &at.span, "expected a size from `1MiB` on, such as `500MiB` or `10GiB`".to_owned());
            }
            most
        }
    };
    Some(How::Log {
        lost: if lost? { Lost::Anew } else { Lost::Stop },
        most: most?,
        above: if above? { Above::Anew } else { Above::Alert },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, does) in [
            ("*", "orders", true),
            ("order_*", "order_line", true),
            ("order_*", "orders", false),
            ("*_订单_*", "销售_订单_2026", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("orders", "orders", true),
        ] {
            assert_eq!(fits(pattern, name), does, "{pattern} {name}");
        }
    }
}
