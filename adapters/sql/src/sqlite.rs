//! SQLite.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::number::Number;
use rusqlite::types::Value as Bound;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params_from_iter};

use crate::ask::{Asked, MAX_ROWS};
use crate::capture::source::{Query, Raw, Source};
use crate::file::{Checked, Database, Mode, Table};
use crate::outbound::{Backend, Kind, Written, fault, missing};
use crate::statement;
use crate::work::{Row, Work};

const DATABASE: Database = Database::Sqlite;

/// How long a lock of another program is waited for at most; half of an attempt's time where that is less.
const BUSY: Duration = Duration::from_secs(5);

pub(crate) struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    checked: Arc<Checked>,
}

impl Sqlite {
    pub(crate) async fn open(checked: Arc<Checked>) -> Result<Self, Fault> {
        let (path, busy) = (checked.target.clone(), checked.limits.timeout.mul_f64(0.5).min(BUSY));
        let opened = tokio::task::spawn_blocking(move || {
            // Never made here: a mistyped name would be an empty database.
            let flags = OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(busy)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            // A quoted name that is no column (it has gone) is a mistake, not a text.
            connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
            Ok::<_, rusqlite::Error>(connection)
        });
        let connection = opened.await.map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
        let connection = connection
            .map_err(|error| Fault::new(Code::Unreachable, format!("{} cannot be opened: {error}", checked.target)))?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), checked })
    }

    /// Runs something on the connection, off the runtime's workers.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let connection = self.connection.clone();
        // A panic inside leaves no transaction open: rusqlite rolls back when it is dropped.
        let run =
            tokio::task::spawn_blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner)));
        run.await.map_err(|error| Fault::new(Code::Internal, error.to_string()))?
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn write(&self, works: &[Arc<Work>]) -> Result<Vec<Written>, Fault> {
        let (inbox, works) = (self.checked.inbox.clone(), works.to_vec());
        self.run(move |connection| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|error| explain(&error))?;
            let mut outcomes = Vec::with_capacity(works.len());
            let mut kinds: HashMap<String, HashMap<String, String>> = HashMap::new();
            for work in &works {
                let entered = transaction
                    .prepare_cached(&statement::enter(DATABASE, &inbox, 1))
                    .and_then(|mut enter| enter.execute([&work.delivery_id, &work.message_id]));
                if entered.map_err(|error| explain(&error))? == 0 {
                    outcomes.push(Written::Before);
                    continue;
                }
                outcomes.push(Written::Now);
                for row in &work.rows {
                    let name = statement::table(DATABASE, &row.table);
                    if !kinds.contains_key(&name) {
                        let declared = columns(&transaction, &row.table).map_err(|error| explain(&error))?;
                        kinds.insert(name.clone(), declared.into_iter().collect());
                    }
                    let values = bind(row, kinds.get(&name))?;
                    let written = transaction
                        .prepare_cached(&statement::write(DATABASE, row, 1))
                        .and_then(|mut write| write.execute(params_from_iter(values)));
                    if written.map_err(|error| explain(&error))? == 0 && row.mode == Mode::Update {
                        return Err(missing(row));
                    }
                }
            }
            transaction.commit().map_err(|error| explain(&error))?;
            Ok(outcomes)
        })
        .await
    }

    async fn run(&self, asked: &Asked<'_>) -> Result<Option<Value>, Fault> {
        let enter = (!asked.statement.reads).then(|| statement::enter(DATABASE, &self.checked.inbox, 1));
        let entry = [asked.delivery_id.to_owned(), asked.message_id.to_owned()];
        let behavior =
            if asked.statement.reads { TransactionBehavior::Deferred } else { TransactionBehavior::Immediate };
        let mut statements = vec![(asked.sql.clone(), loose(&asked.values))];
        statements.extend(asked.statement.result.iter().map(|sql| (sql.clone(), Vec::new())));
        // The judge stays here; the connection's thread waits for its word before it commits.
        let (told, rows) = tokio::sync::oneshot::channel();
        let (say, word) = std::sync::mpsc::sync_channel::<bool>(1);
        let run = self.run(move |connection| {
            let work = || {
                let transaction = connection.transaction_with_behavior(behavior)?;
                if let Some(enter) = &enter
                    && transaction.prepare_cached(enter)?.execute(entry)? == 0
                {
                    return Ok(false);
                }
                let mut answered = (Vec::new(), 0);
                for (at, (sql, values)) in statements.into_iter().enumerate() {
                    let (rows, affected) = answer(&transaction, &sql, values)?;
                    answered = (rows, if at == 0 { affected } else { answered.1 });
                }
                let _ = told.send(answered);
                if word.recv() == Ok(true) {
                    transaction.commit()?;
                }
                Ok(true)
            };
            work().map_err(|error: rusqlite::Error| explain(&error))
        });
        let judged = async {
            let Ok((rows, affected)) = rows.await else { return None };
            let reply = asked.judge(rows, affected);
            let _ = say.send(reply.is_ok());
            Some(reply)
        };
        let (ran, judged) = futures_util::future::join(run, judged).await;
        match (ran?, judged) {
            (true, Some(reply)) => reply.map(Some),
            _ => Ok(None),
        }
    }

    async fn create_inbox(&self) -> Result<(), Fault> {
        let sql = statement::create_inbox(DATABASE, &self.checked.inbox);
        self.run(move |connection| connection.execute_batch(&sql).map_err(|error| explain(&error))).await
    }
}

/// Columns and their declared types.
fn columns(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<(String, String)>> {
    let mut query = connection.prepare_cached("SELECT name, type FROM pragma_table_info(?1, ?2)")?;
    let schema = table.schema.as_deref().unwrap_or("main");
    let rows = query.query_map([&table.name, schema], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The values of a row as parameters. Only whole numbers go as numbers; a fraction goes as text, and only into a column
/// that keeps text: any other would make a float of it (SQLite manual, "Type Affinity").
fn bind(row: &Row, kinds: Option<&HashMap<String, String>>) -> Result<Vec<Bound>, Fault> {
    let bound = statement::bound(row).into_iter().map(|(column, value)| match value {
        _ if row.raw(column).is_some() => Ok(row.raw(column).cloned().flatten().map_or(Bound::Null, Bound::Blob)),
        Value::Null => Ok(Bound::Null),
        Value::Bool(flag) => Ok(Bound::Integer(i64::from(*flag))),
        Value::Number(number) => match number.to_i64() {
            Some(int) => Ok(Bound::Integer(int)),
            None if kinds.and_then(|kinds| kinds.get(column)).is_some_and(|kind| keeps_text(kind)) => {
                Ok(Bound::Text(number.to_string()))
            }
            None => {
                let text = format!(
                    "column `{column}` of `{}` would make a float of {number}: declare it TEXT, or map whole cents",
                    row.table
                );
                Err(Fault::new(Code::Invalid, text))
            }
        },
        Value::Text(text) => Ok(Bound::Text(text.clone())),
        Value::List(_) | Value::Map(_) => Err(Fault::new(Code::Internal, "a list was planned for a column")),
    });
    bound.collect()
}

/// Whether a declared type has text (or no) affinity.
fn keeps_text(declared: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    let numeric = declared.contains("INT");
    declared.is_empty()
        || declared.contains("BLOB")
        || (!numeric && ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word)))
}

/// An error by its code (SQLite manual, "Result and Error Codes").
fn explain(error: &rusqlite::Error) -> Fault {
    let private = error.to_string();
    if let rusqlite::Error::Utf8Error(at, error) = error {
        let place = error.valid_up_to();
        let text =
            format!("column {} of the answer is not UTF-8 at byte {place} of its text: ask for `hex(…)` of it", at + 1);
        return Fault::new(Code::Malformed, text);
    }
    let Some(code) = error.sqlite_error_code() else {
        return fault(Kind::Mend, format!("the database refuses it: {private}"), private);
    };
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull | ErrorCode::SystemIoFailure => {
            fault(Kind::Again, "the database is busy, or its disk is full".to_owned(), private)
        }
        // The message names table and column, no values.
        ErrorCode::ConstraintViolation => {
            fault(Kind::Never, format!("the database refuses it: {private}"), String::new())
        }
        // The message is `datatype mismatch`.
        ErrorCode::TypeMismatch => {
            fault(Kind::Never, "the database refuses it: a value does not have the column's form".to_owned(), private)
        }
        ErrorCode::TooBig => fault(Kind::Never, "a value is too large for the database".to_owned(), private),
        _ => fault(Kind::Mend, format!("the database refuses it: {private}"), private),
    }
}

#[async_trait]
impl Source for Sqlite {
    async fn fetch(&self, query: &Query) -> Result<Vec<Raw>, Fault> {
        let (sql, values) = (query.sql.clone(), loose(&query.values));
        self.run(move |connection| {
            let read = || {
                let mut query = connection.prepare_cached(&sql)?;
                let count = query.column_count();
                let rows = query.query_map(params_from_iter(values), |row| {
                    (0..count).map(|at| Ok(bytes(row.get_ref(at)?))).collect::<rusqlite::Result<Raw>>()
                })?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            };
            read().map_err(|error| explain(&error))
        })
        .await
    }

    async fn change(&self, statements: &[Query]) -> Result<(), Fault> {
        let statements: Vec<_> = statements.iter().map(|query| (query.sql.clone(), loose(&query.values))).collect();
        self.run(move |connection| {
            let change = || {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for (sql, values) in statements {
                    transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
                }
                transaction.commit()
            };
            change().map_err(|error| explain(&error))
        })
        .await
    }

    async fn define(&self, statements: &[String]) -> Result<(), Fault> {
        let statements = statements.to_vec();
        self.run(move |connection| {
            let define = || {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for sql in statements {
                    transaction.execute_batch(&sql)?;
                }
                transaction.commit()
            };
            define().map_err(|error| explain(&error))
        })
        .await
    }

    async fn open_transactions(&self) -> Result<Option<BTreeSet<String>>, Fault> {
        // One writer at a time: what is committed later was also begun later.
        Ok(Some(BTreeSet::new()))
    }
}

/// Values as they are compared: whole numbers as such, fractions as SQLite keeps them.
fn loose(values: &[Value]) -> Vec<Bound> {
    let bind = |value: &Value| match value {
        Value::Number(number) => match (number.to_i64(), number.to_string().parse::<f64>()) {
            (Some(int), _) => Bound::Integer(int),
            (None, Ok(real)) => Bound::Real(real),
            (None, Err(_)) => Bound::Null,
        },
        other => other.to_plain_text().map_or(Bound::Null, Bound::Text),
    };
    values.iter().map(bind).collect()
}

/// A value of an answer as a text, in the bytes that it has.
fn bytes(value: rusqlite::types::ValueRef<'_>) -> Option<Vec<u8>> {
    use rusqlite::types::ValueRef as Got;
    match value {
        Got::Null => None,
        Got::Integer(number) => Some(number.to_string().into_bytes()),
        Got::Real(number) => Some(number.to_string().into_bytes()),
        Got::Text(bytes) | Got::Blob(bytes) => Some(bytes.to_vec()),
    }
}

/// The rows that a statement answers with, and how many it changed.
fn answer(connection: &Connection, sql: &str, values: Vec<Bound>) -> rusqlite::Result<(Vec<Value>, u64)> {
    let mut statement = connection.prepare_cached(sql)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    if names.is_empty() {
        let affected = statement.execute(params_from_iter(values))?;
        return Ok((Vec::new(), affected as u64));
    }
    let mut found = statement.query(params_from_iter(values))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let field = |(at, name): (usize, &String)| {
            use rusqlite::types::ValueRef as Got;
            let got = row.get_ref(at)?;
            let value = match got {
                Got::Integer(number) => Value::from(number),
                Got::Real(number) => Number::parse(&number.to_string()).map_or(Value::Null, Value::Number),
                // What is no Unicode is refused with its place, not guessed at.
                other => match bytes(other).map(String::from_utf8).transpose() {
                    Ok(text) => text.map_or(Value::Null, Value::Text),
                    Err(error) => return Err(rusqlite::Error::Utf8Error(at, error.utf8_error())),
                },
            };
            Ok((name.clone(), value))
        };
        rows.push(names.iter().enumerate().map(field).collect::<rusqlite::Result<Value>>()?);
        if rows.len() > MAX_ROWS {
            break;
        }
    }
    Ok((rows, 0))
}
