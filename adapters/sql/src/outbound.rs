//! The outbound half: plans the rows, lets the database write them in one transaction, and says what came of it.

use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Outbound, Reply};
use gatehouse_core::diagnostics::closest;
use gatehouse_core::fault::{Code, Exchange, Fault, Verdict};
use gatehouse_core::secret::{Secret, Secrets};

use crate::ask::Asked;
use crate::file::{Checked, Database, Table};
use crate::work::{Row, Work};
use crate::{mysql, postgres, sqlite};

/// What a database does for this adapter.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Carries out one delivery in one transaction.
    async fn write(&self, work: Work) -> Result<Written, Fault>;
    /// Runs a statement: in one transaction with its inbox row and rolled back where its answer means no, or, where it only
    /// reads, on its own. The reply, or `None` where it had been run before.
    async fn run(&self, asked: &Asked<'_>) -> Result<Option<Value>, Fault>;
    /// Makes the inbox table.
    async fn create_inbox(&self) -> Result<(), Fault>;
    /// The columns of a table; none where it is not there.
    async fn columns(&self, table: &Table) -> Result<Vec<String>, Fault>;
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
    pub(crate) database: Box<dyn Backend>,
    pub(crate) checked: Arc<Checked>,
}

/// Connects, makes the inbox and looks whether tables and columns are there.
pub(crate) async fn open(checked: &Arc<Checked>, secrets: &dyn Secrets) -> Result<Box<dyn Backend>, Fault> {
    let password = checked.password.as_ref().map(|secret| secrets.fetch(secret)).transpose()?;
    let password = password.as_ref().map(Secret::expose);
    let database: Box<dyn Backend> = match checked.database {
        Database::Postgres => Box::new(postgres::Postgres::open(checked.clone(), password)?),
        Database::MySql => Box::new(mysql::MySql::open(checked.clone(), password)?),
        Database::Sqlite => Box::new(sqlite::Sqlite::open(checked.clone()).await?),
    };
    look(checked, database.as_ref(), true).await?;
    Ok(database)
}

/// Whether everything that the file names is there.
async fn look(checked: &Checked, database: &dyn Backend, create: bool) -> Result<(), Fault> {
    let remembers = !checked.writes.is_empty() || checked.statements.iter().any(|(_, statement)| !statement.reads);
    if remembers && database.columns(&checked.inbox).await?.is_empty() {
        if !(create && checked.create_inbox) {
            let sql = crate::statement::create_inbox(checked.database, &checked.inbox);
            return Err(Fault::new(
                Code::Misconfigured,
                format!("the inbox table `{}` is not there; make it with: {sql}", checked.inbox),
            ));
        }
        database.create_inbox().await?;
    }
    let mut shapes = Vec::new();
    for (_, write) in &checked.writes {
        shapes.push(&write.row);
        shapes.extend(write.lines.as_ref().map(|lines| &lines.shape));
    }
    for shape in shapes {
        let there = database.columns(&shape.table).await?;
        if there.is_empty() {
            return Err(Fault::new(
                Code::Misconfigured,
                format!("there is no table `{}`, or this user may not see it", shape.table),
            ));
        }
        let mut named: Vec<&String> = shape.columns.iter().map(|(column, _)| column).collect();
        named.extend(shape.key.iter());
        for column in named {
            if !there.iter().any(|known| known.eq_ignore_ascii_case(column)) {
                let help =
                    closest(column, there.iter().map(String::as_str)).map(|close| format!("; did you mean `{close}`?"));
                return Err(Fault::new(
                    Code::Misconfigured,
                    format!("`{}` has no column `{column}`{}", shape.table, help.unwrap_or_default()),
                ));
            }
        }
    }
    Ok(())
}

#[async_trait]
impl Outbound for Writer {
    async fn deliver(&self, call: Call<'_>) -> Result<Reply, Fault> {
        if let Some((_, statement)) = self.checked.statements.iter().find(|(name, _)| name == call.endpoint) {
            let asked = statement.plan(self.checked.database, &call)?;
            let values = Value::List(asked.values.clone());
            let sent = Exchange::excerpt(format!("{}\n{values}", asked.sql).as_bytes());
            let mut exchange = Exchange { sent: Some(sent), answered: None };
            let reply = self.database.run(&asked).await.map_err(|fault| fault.exchange(exchange.clone()))?;
            let repeated = reply.is_none();
            let mut body = reply.unwrap_or_else(|| [("rows", Value::List(Vec::new()))].into_iter().collect());
            if let Some(fields) = body.as_map_mut() {
                fields.insert("repeated".to_owned(), Value::Bool(repeated));
            }
            exchange.answered = Some(Exchange::excerpt(body.to_string().as_bytes()));
            return Ok(Reply { body, exchange });
        }
        let write = self.checked.writes.iter().find(|(name, _)| name == call.endpoint);
        let (_, write) = write
            .ok_or_else(|| Fault::new(Code::Misconfigured, format!("there is no endpoint `{}`", call.endpoint)))?;
        let work = Work::plan(write, &call)?;
        let tables: Vec<_> = work.rows.iter().map(|row| row.table.to_string()).collect();
        let values: Value =
            work.rows.iter().map(|row| row.columns.iter().cloned().collect::<Value>()).collect::<Vec<_>>().into();
        let sent = Exchange::excerpt(format!("into {}\n{values}", tables.join(", ")).as_bytes());
        let exchange = Exchange { sent: Some(sent), answered: None };
        let written = self.database.write(work).await.map_err(|fault| fault.exchange(exchange.clone()))?;
        let body = [
            ("rows", Value::from(i64::try_from(tables.len()).unwrap_or(i64::MAX))),
            ("repeated", Value::Bool(written == Written::Before)),
        ];
        Ok(Reply { body: body.into_iter().collect(), exchange })
    }

    async fn probe(&self) -> Result<String, Fault> {
        look(&self.checked, self.database.as_ref(), false).await?;
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

/// A COMMIT was sent and its answer lost: what a look into the inbox says.
pub(crate) fn after_lost_commit(found: Result<bool, Fault>, lost: Fault) -> Result<Written, Fault> {
    match found {
        Ok(true) => Ok(Written::Now),
        // Not (yet) there: the next attempt enters it again, or waits for the one that is still being committed.
        Ok(false) | Err(_) => Err(Fault { code: Code::Unknown, verdict: Verdict::Retry, ..lost }),
    }
}
