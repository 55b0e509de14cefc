//! The outbound half: plans the rows, lets the database write them in one transaction, and says what came of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Outbound, Reply};
use gatehouse_core::diagnostics::closest;
use gatehouse_core::fault::{Code, Exchange, Fault, Verdict};
use gatehouse_core::secret::{Secret, Secrets};

use crate::ask::Asked;
use crate::capture::source::Source;
use crate::file::{Checked, Database, Table};
use crate::group::Lane;
use crate::live::catalogue::{self, Live};
use crate::live::guard;
use crate::work::{Context, Row, Work};
use crate::{mysql, postgres, sqlite};

/// How long one write of many waits for a lock, before it is written alone.
pub(crate) const GROUP_LOCK: Duration = Duration::from_secs(1);

/// The most rows that an exchange shows.
const MOST_SHOWN: usize = 50;

/// What a database does for this adapter.
#[async_trait]
pub(crate) trait Backend: Source {
    /// Carries out deliveries in one transaction: all of them, or, where one fails, none. What became of each.
    async fn write(&self, works: &[Arc<Work>]) -> Result<Vec<Written>, Fault>;
    /// Runs a statement: in one transaction with its inbox row and rolled back where its answer means no, or, where it only
    /// reads, on its own. The reply, or `None` where it had been run before.
    async fn run(&self, asked: &Asked<'_>) -> Result<Option<Value>, Fault>;
    /// Makes the inbox table.
    async fn create_inbox(&self) -> Result<(), Fault>;
}

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is written.
    Now,
    /// It had been written before: nothing was changed.
    Before,
}

/// Writes for one system.
pub(crate) struct Writer {
    pub(crate) database: Arc<dyn Backend>,
    pub(crate) checked: Arc<Checked>,
    /// The tables as they were when they were last looked at, by their names.
    tables: RwLock<HashMap<String, Arc<Live>>>,
    /// Deliveries that wait, by endpoint.
    lanes: HashMap<String, Lane>,
}

/// The database of a system, to be read or written to.
pub(crate) async fn database(checked: &Arc<Checked>, secrets: &dyn Secrets) -> Result<Arc<dyn Backend>, Fault> {
    let password = checked.password.as_ref().map(|secret| secrets.fetch(secret)).transpose()?;
    let password = password.as_ref().map(Secret::expose);
    Ok(match checked.database {
        Database::Postgres => Arc::new(postgres::Postgres::open(checked.clone(), password)?),
        Database::MySql => Arc::new(mysql::MySql::open(checked.clone(), password)?),
        Database::Sqlite => Arc::new(sqlite::Sqlite::open(checked.clone()).await?),
        #[cfg(feature = "odbc")]
        Database::Odbc(_) => Arc::new(crate::odbc::Odbc::open(checked.clone(), password)),
        #[cfg(not(feature = "odbc"))]
        Database::Odbc(_) => return Err(crate::by_odbc::absent()),
    })
}

/// Connects, makes the inbox and looks whether tables and columns are there.
pub(crate) async fn open(checked: &Arc<Checked>, secrets: &dyn Secrets) -> Result<Writer, Fault> {
    let database = database(checked, secrets).await?;
    let lanes = checked.writes.iter().map(|(name, _)| {
        let limits = checked.endpoints.iter().find(|endpoint| endpoint.name == *name).map(|endpoint| endpoint.limits);
        (name.clone(), Lane::new(limits.unwrap_or(checked.limits).concurrency))
    });
    let lanes = lanes.collect();
    let writer = Writer { database, checked: checked.clone(), tables: RwLock::default(), lanes };
    writer.look(true).await?;
    Ok(writer)
}

impl Writer {
    /// Whether everything that the file names is there.
    async fn look(&self, create: bool) -> Result<(), Fault> {
        let checked = &self.checked;
        if checked.remembers() && self.live(&checked.inbox).await?.is_none() {
            if !(create && checked.create_inbox) {
                let sql = crate::statement::create_inbox(checked.database, &checked.inbox);
                return Err(Fault::new(
                    Code::Misconfigured,
                    format!("the inbox table `{}` is not there; make it with: {sql}", checked.inbox),
                ));
            }
            self.database.create_inbox().await?;
        }
        let mut shapes = Vec::new();
        for (_, write) in &checked.writes {
            shapes.push(&write.row);
            shapes.extend(write.lines.as_ref().map(|lines| &lines.shape));
        }
        for shape in shapes {
            let Some(live) = self.live(&shape.table).await? else {
                return Err(Fault::new(
                    Code::Misconfigured,
                    format!("there is no table `{}`, or this user may not see it", shape.table),
                ));
            };
            let mut named: Vec<&String> = shape.columns.iter().map(|(column, _)| column).collect();
            named.extend(shape.key.iter());
            if let Some(column) = named.into_iter().find(|column| live.column(column).is_none()) {
                let help = closest(column, live.columns.iter().map(|known| known.name.as_str()));
                let help = help.map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
                let text = format!("`{}` has no column `{column}`{help}", shape.table);
                return Err(Fault::new(Code::Misconfigured, text));
            }
        }
        Ok(())
    }

    /// A table as it is now, kept for the rows that come.
    async fn live(&self, table: &Table) -> Result<Option<Arc<Live>>, Fault> {
        let source: &dyn Source = self.database.as_ref();
        let live = catalogue::look(source, self.checked.database, table).await?.map(Arc::new);
        if let Some(live) = &live {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            tables.insert(table.to_string(), live.clone());
        }
        Ok(live)
    }

    /// Whether every row can be written as it is. `looked` has the tables that were looked at for this delivery.
    pub(crate) async fn judge(&self, work: &Work, looked: &mut HashSet<String>) -> Result<(), Fault> {
        for row in &work.rows {
            let name = row.table.to_string();
            let known = {
                let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
                tables.get(&name).cloned()
            };
            let Some(Err(refused)) = known.map(|live| guard::judge(row, &live)) else { continue };
            // The table may have been changed since: a no is only said by what is there now.
            if !looked.insert(name) {
                return Err(refused);
            }
            match self.live(&row.table).await? {
                Some(live) => guard::judge(row, &live)?,
                None => return Err(refused),
            }
        }
        Ok(())
    }
}

/// The rows as a person is shown them.
pub(crate) fn sent<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let (mut tables, mut values, mut count): (Vec<String>, Vec<Value>, usize) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        count += 1;
        if values.len() < MOST_SHOWN {
            let table = row.table.to_string();
            if !tables.contains(&table) {
                tables.push(table);
            }
            values.push(row.columns.iter().cloned().collect());
        }
    }
    let more = if count > MOST_SHOWN { format!(" (the first {MOST_SHOWN} of {count} rows)") } else { String::new() };
    Exchange::excerpt(format!("into {}{more}\n{}", tables.join(", "), Value::List(values)).as_bytes())
}

#[async_trait]
impl Outbound for Writer {
    async fn deliver(&self, call: Call<'_>) -> Result<Reply, Fault> {
        if let Some((_, statement)) = self.checked.statements.iter().find(|(name, _)| name == call.endpoint) {
            let asked = statement.plan(self.checked.database, &call)?;
            let shown = |fault: Fault| {
                let values = Value::List(asked.values.clone());
                let sent = Exchange::excerpt(format!("{}\n{values}", asked.sql).as_bytes());
                fault.exchange(Exchange { sent: Some(sent), answered: None })
            };
            let reply = self.database.run(&asked).await.map_err(shown)?;
            let repeated = reply.is_none();
            let mut body = reply.unwrap_or_else(|| [("rows", Value::List(Vec::new()))].into_iter().collect());
            if let Some(fields) = body.as_map_mut() {
                fields.insert("repeated".to_owned(), Value::Bool(repeated));
            }
            return Ok(Reply { body, ..Reply::default() });
        }
        let write = self.checked.writes.iter().find(|(name, _)| name == call.endpoint);
        let (_, write) = write
            .ok_or_else(|| Fault::new(Code::Misconfigured, format!("there is no endpoint `{}`", call.endpoint)))?;
        if let Some(batch) = &write.batch {
            return self.deliver_parts(write, batch, &call).await;
        }
        let context = Context::new(write, &call, None);
        let work = Arc::new(Work::plan(write, call.body, call.delivery_id, &context)?);
        // Nobody reads what was sent where all went well, and it costs as much as to write it.
        let shown = |fault: Fault| fault.exchange(Exchange { sent: Some(sent(work.rows.iter())), answered: None });
        self.judge(&work, &mut HashSet::new()).await.map_err(shown)?;
        let rows = i64::try_from(work.rows.len()).unwrap_or(i64::MAX);
        let lane = self.lanes.get(call.endpoint);
        let written = match lane {
            Some(lane) => lane.write(self.database.as_ref(), work.clone()).await,
            None => Err(Fault::new(Code::Internal, "an endpoint that is written to has no lane")),
        };
        let written = written.map_err(shown)?;
        let body = [("rows", Value::from(rows)), ("repeated", Value::Bool(written == Written::Before))];
        Ok(Reply { body: body.into_iter().collect(), ..Reply::default() })
    }

    async fn probe(&self) -> Result<String, Fault> {
        self.look(false).await?;
        Ok("it answers; tables and columns are there".to_owned())
    }
}

/// An update found no row: refused, because nothing that comes later would tell.
pub(crate) fn missing(row: &Row) -> Fault {
    let key: Vec<_> = row.key.iter().map(String::as_str).collect();
    let text = format!("`{}` has no row with this {}: nothing was updated", row.table, key.join(", "));
    Fault::new(Code::Refused, text)
}

/// A fault of the database's own making, by what can be done about it.
pub(crate) enum Kind {
    /// Try the whole transaction again: deadlock, serialization, lock or statement time-out, going down.
    Again,
    /// This message can never be written: a constraint, a value that does not fit.
    Never,
    /// A person must mend the database or the file: no such column, read-only.
    Mend,
    /// The credentials are wrong.
    Credentials,
}

/// Makes the fault. `public` names what and where; the database's own words stay private, because they hold values.
pub(crate) fn fault(kind: Kind, public: String, private: String) -> Fault {
    let fault = match kind {
        Kind::Again => Fault::new(Code::Refused, public).verdict(Verdict::Retry),
        Kind::Never => Fault::new(Code::Refused, public),
        Kind::Mend => Fault::new(Code::Misconfigured, public).verdict(Verdict::Reject),
        Kind::Credentials => Fault::new(Code::Misconfigured, public),
    };
    fault.private(private)
}

/// What becomes of each, where these ids were new: one that stands in a group twice is written once.
pub(crate) fn outcomes(works: &[Arc<Work>], mut fresh: HashSet<String>) -> Vec<Written> {
    let outcome = |work: &Arc<Work>| if fresh.remove(&work.delivery_id) { Written::Now } else { Written::Before };
    works.iter().map(outcome).collect()
}

/// The rows of those that are new.
pub(crate) fn rows_of<'a>(works: &'a [Arc<Work>], outcomes: &[Written]) -> Vec<&'a Row> {
    let new = works.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Written::Now);
    new.flat_map(|(work, _)| &work.rows).collect()
}

/// A COMMIT was sent and its answer lost: what a look into the inbox says. One transaction is there whole or not at all.
pub(crate) fn still_entered(found: Result<HashSet<String>, Fault>, ids: &[&str], lost: Fault) -> Result<(), Fault> {
    match found {
        Ok(found) if ids.iter().all(|id| found.contains(*id)) => Ok(()),
        // Not (yet) there: the next attempt enters it again, or waits for the one that is still being committed.
        Ok(_) | Err(_) => Err(Fault { code: Code::Unknown, verdict: Verdict::Retry, ..lost }),
    }
}
