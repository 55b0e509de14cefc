//! MariaDB and MySQL.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::number::Number;
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{
    Conn, Error, IoError, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, SslOpts, Transaction, TxOpts,
};
use mysql_common::proto::codec::error::PacketCodecError;

use crate::ask::{Asked, MAX_ROWS};
use crate::capture::source::{Query, Raw, Source};
use crate::file::{Checked, Database, Mode, Table};
use crate::outbound::{Backend, GROUP_LOCK, Kind, Written, fault, missing, outcomes, rows_of, still_entered};
use crate::statement;
use crate::work::{Row, Work};

const DATABASE: Database = Database::MySql;

/// How many rows one statement writes, so that few statements are prepared.
const WIDTHS: [usize; 5] = [256, 64, 16, 4, 1];

pub(crate) struct MySql {
    pool: Pool,
    checked: Arc<Checked>,
}

impl MySql {
    pub(crate) fn open(checked: Arc<Checked>, password: Option<&str>) -> Result<Self, Fault> {
        let most = (checked.limits.concurrency as usize).max(1);
        let constraints = PoolConstraints::new(1, most).unwrap_or_default();
        // What a session was told stays as it is told below: nothing is told it but by statements of one's own.
        let pool = PoolOpts::default().with_constraints(constraints).with_reset_connection(false);
        let options = options(&checked, password).pool_opts(pool);
        Ok(Self { pool: Pool::new(options), checked })
    }

    async fn connection(&self) -> Result<Conn, Fault> {
        let place = format!("{}:{}/{}", self.checked.host, self.checked.port, self.checked.target);
        let connected = tokio::time::timeout(std::time::Duration::from_secs(5), self.pool.get_conn()).await;
        match connected {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error @ Error::Server(_))) => Err(explain(&error)),
            Ok(Err(error)) => {
                Err(Fault::new(Code::Unreachable, format!("{place} cannot be reached")).private(error.to_string()))
            }
            Err(_) => Err(Fault::new(Code::Unreachable, format!("{place} gave no connection in time"))),
        }
    }

    /// Which of these have been entered.
    async fn found(&self, ids: &[&str]) -> Result<HashSet<String>, Fault> {
        let mut connection = self.connection().await?;
        entered(&mut connection, &self.checked.inbox, ids).await
    }

    /// Enters deliveries; those that are new.
    async fn enter(&self, transaction: &mut Transaction<'_>, works: &[Arc<Work>]) -> Result<HashSet<String>, Fault> {
        let ids: Vec<&str> = works.iter().map(|work| work.delivery_id.as_str()).collect();
        // One tells by the count whether it is new; of many it must be known which.
        let known = match works {
            [_] => HashSet::new(),
            _ => entered(transaction, &self.checked.inbox, &ids).await?,
        };
        let fresh: Vec<_> = works.iter().filter(|work| !known.contains(&work.delivery_id)).collect();
        let distinct: HashSet<String> = fresh.iter().map(|work| work.delivery_id.clone()).collect();
        let mut count = 0;
        for (some, width) in padded(&fresh) {
            let values =
                some.iter().flat_map(|work| [work.delivery_id.as_str().into(), work.message_id.as_str().into()]);
            let sql = statement::enter(DATABASE, &self.checked.inbox, width);
            let entered = transaction.exec_iter(sql, Params::Positional(values.collect())).await;
            count += entered.map_err(|error| explain(&error))?.affected_rows();
        }
        match works {
            [_] => Ok(if count == 0 { HashSet::new() } else { distinct }),
            _ if count == distinct.len() as u64 => Ok(distinct),
            // Somebody else entered one of them meanwhile.
            _ => Err(fault(Kind::Again, "a delivery is being written by somebody else".to_owned(), String::new())),
        }
    }

    /// Writes rows, as many in one statement as may be.
    async fn rows(transaction: &mut Transaction<'_>, rows: Vec<&Row>) -> Result<(), Fault> {
        for run in statement::runs(rows.into_iter()) {
            for some in pieces(&run) {
                let Some(first) = some.first() else { continue };
                let bound = |row: &&Row| {
                    let given = |(column, value): &(String, Value)| bind(&row.given(column, value));
                    statement::bound(row).into_iter().map(given).collect::<Vec<_>>()
                };
                let values = some.iter().flat_map(bound).collect();
                let sql = statement::write(DATABASE, first, some.len());
                let written = transaction.exec_iter(sql, Params::Positional(values)).await;
                let found = written.map_err(|error| explain(&error))?.affected_rows();
                if first.mode == Mode::Update && found == 0 {
                    return Err(missing(first));
                }
            }
        }
        Ok(())
    }
}

/// How long a lock is waited for.
fn lock_seconds(checked: &Checked) -> u64 {
    checked.limits.timeout.mul_f64(0.5).as_secs().max(1)
}

/// How a connection is made, and what its session is told first.
pub(crate) fn options(checked: &Checked, password: Option<&str>) -> OptsBuilder {
    let lock = lock_seconds(checked);
    // A statement ends before the attempt does, so that its connection is not left behind busy. Each server reads its own of these comments.
    let statement = checked.limits.timeout.mul_f64(0.9);
    // Strict: a value that does not fit is an error, never cut.
    let setup = vec![
        "SET NAMES utf8mb4".to_owned(),
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'".to_owned(),
        format!(
            "SET SESSION /*M!100100 max_statement_time = {:.3}, */ /*!80000 max_execution_time = {}, */ innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}",
            statement.as_secs_f64(),
            statement.as_millis()
        ),
        format!("SET SESSION time_zone = '{}'", offset(&checked.zone)),
        // A server may begin its sessions otherwise: a look would see what was there at the first one, a COMMIT begin the next
        // transaction or end the session.
        "SET SESSION autocommit = 1, completion_type = 'NO_CHAIN'".to_owned(),
    ];
    let mut options = OptsBuilder::default()
        .ip_or_hostname(checked.host.clone())
        .tcp_port(checked.port)
        .db_name(Some(checked.target.clone()))
        .user(Some(checked.user.clone()))
        .pass(password.map(str::to_owned))
        // An update that changes nothing has found its row all the same.
        .client_found_rows(true)
        .setup(setup);
    if checked.tls {
        let mut tls = SslOpts::default();
        if let Some(path) = &checked.ca_file {
            tls = tls.with_root_certs(vec![path.clone().into()]);
        }
        options = options.ssl_opts(Some(tls));
    }
    options
}

#[async_trait]
impl Backend for MySql {
    async fn write(&self, works: &[Arc<Work>]) -> Result<Vec<Written>, Fault> {
        let mut connection = self.connection().await?;
        let many = works.len() > 1;
        if many {
            // One of many does not keep the others waiting for a lock: it goes alone, with all its time.
            connection.reset_connection(true);
            let soon = format!("SET SESSION innodb_lock_wait_timeout = {}", GROUP_LOCK.as_secs());
            connection.query_drop(soon).await.map_err(|error| explain(&error))?;
        }
        let mut transaction = connection.start_transaction(TxOpts::default()).await.map_err(|error| explain(&error))?;
        let written = async {
            let outcomes = outcomes(works, self.enter(&mut transaction, works).await?);
            Self::rows(&mut transaction, rows_of(works, &outcomes)).await?;
            Ok(outcomes)
        };
        let outcomes: Vec<Written> = match written.await {
            Ok(outcomes) => outcomes,
            Err(fault) => {
                let _ = transaction.rollback().await;
                return Err(fault);
            }
        };
        match transaction.commit().await {
            Ok(()) => {}
            Err(error @ Error::Server(_)) => return Err(explain(&error)),
            Err(error) => {
                drop(connection);
                let ids: Vec<&str> = works.iter().map(|work| work.delivery_id.as_str()).collect();
                still_entered(self.found(&ids).await, &ids, explain(&error))?;
                return Ok(outcomes);
            }
        }
        if many {
            let again = format!("SET SESSION innodb_lock_wait_timeout = {}", lock_seconds(&self.checked));
            let failed = connection.query_drop(again).await.is_err();
            connection.reset_connection(failed);
        }
        Ok(outcomes)
    }

    async fn run(&self, asked: &Asked<'_>) -> Result<Option<Value>, Fault> {
        let mut connection = self.connection().await?;
        // It may leave variables behind.
        connection.reset_connection(true);
        let mut transaction = connection.start_transaction(TxOpts::default()).await.map_err(|error| explain(&error))?;
        if !asked.statement.reads {
            let enter = statement::enter(DATABASE, &self.checked.inbox, 1);
            let entered = transaction.exec_iter(enter, (asked.delivery_id, asked.message_id)).await;
            let fresh = entered.map_err(|error| explain(&error))?.affected_rows() > 0;
            if !fresh {
                let _ = transaction.rollback().await;
                return Ok(None);
            }
        }
        let answered = async {
            let (mut rows, affected) = answer(&mut transaction, &asked.sql, &asked.values).await?;
            if let Some(result) = &asked.statement.result {
                rows = answer(&mut transaction, result, &[]).await?.0;
            }
            asked.judge(rows, affected)
        };
        let reply = match answered.await {
            Ok(reply) => reply,
            Err(fault) => {
                let _ = transaction.rollback().await;
                return Err(fault);
            }
        };
        match transaction.commit().await {
            Ok(()) => Ok(Some(reply)),
            Err(error) if asked.statement.reads || matches!(error, Error::Server(_)) => Err(explain(&error)),
            Err(error) => {
                drop(connection);
                let found = self.found(&[asked.delivery_id]).await;
                still_entered(found, &[asked.delivery_id], explain(&error)).map(|()| Some(reply))
            }
        }
    }

    async fn create_inbox(&self) -> Result<(), Fault> {
        let mut connection = self.connection().await?;
        connection
            .query_drop(statement::create_inbox(DATABASE, &self.checked.inbox))
            .await
            .map_err(|error| explain(&error))
    }
}

/// Which of these have been entered.
async fn entered(connection: &mut impl Queryable, inbox: &Table, ids: &[&str]) -> Result<HashSet<String>, Fault> {
    let mut found = HashSet::new();
    for (some, width) in padded(ids) {
        let values: Vec<mysql_async::Value> = some.iter().map(|id| (*id).into()).collect();
        let sql = statement::entered(DATABASE, inbox, width);
        let rows: Result<Vec<String>, Error> = connection.exec(sql, Params::Positional(values)).await;
        found.extend(rows.map_err(|error| explain(&error))?);
    }
    Ok(found)
}

/// Pieces whose length is one of [`WIDTHS`], the last one filled up with its own last: so that few statements are ever
/// prepared. Only for statements that do not mind the same twice.
fn padded<T: Copy>(all: &[T]) -> Vec<(Vec<T>, usize)> {
    let piece = |some: &[T]| {
        let width = WIDTHS.into_iter().rev().find(|width| *width >= some.len()).unwrap_or(some.len());
        let last = some.last().copied();
        let filled: Vec<T> = some.iter().copied().chain(last.into_iter().cycle().take(width - some.len())).collect();
        (filled, width)
    };
    all.chunks(WIDTHS[0]).map(piece).collect()
}

/// Pieces whose length is one of [`WIDTHS`].
fn pieces<'a, 'b>(mut run: &'b [&'a Row]) -> Vec<&'b [&'a Row]> {
    // A statement has at most 65,535 parameters.
    let columns = run.first().map_or(1, |row| row.columns.len()).max(1);
    let mut pieces = Vec::new();
    while !run.is_empty() {
        let width = WIDTHS.into_iter().find(|width| *width <= run.len() && width * columns <= 60_000).unwrap_or(1);
        let (piece, rest) = run.split_at(width);
        pieces.push(piece);
        run = rest;
    }
    pieces
}

/// A value as a parameter. Numbers go as the text that they are: the server reads them exactly.
fn bind(value: &Value) -> mysql_async::Value {
    match value {
        Value::Null => mysql_async::Value::NULL,
        Value::Bool(flag) => mysql_async::Value::Int(i64::from(*flag)),
        other => mysql_async::Value::Bytes(other.to_plain_text().unwrap_or_default().into_bytes()),
    }
}

/// A zone as an offset: servers often lack the names. One with daylight saving is taken at today's offset by the
/// server's clock only through its name, so such a name is handed over as it is.
pub(crate) fn offset(zone: &str) -> String {
    let Ok(found) = jiff::tz::TimeZone::get(zone) else { return "+00:00".to_owned() };
    match found.to_fixed_offset() {
        Ok(fixed) => format!(
            "{}{:02}:{:02}",
            if fixed.is_negative() { '-' } else { '+' },
            fixed.seconds().abs() / 3600,
            fixed.seconds().abs() % 3600 / 60
        ),
        Err(_) if zone == "Asia/Shanghai" => "+08:00".to_owned(),
        Err(_) => zone.to_owned(),
    }
}

/// An error by its number (MariaDB error codes).
pub(crate) fn explain(error: &Error) -> Fault {
    if let Error::Io(IoError::Io(error)) = error
        && let Some(PacketCodecError::PacketTooLarge) = error.get_ref().and_then(|error| error.downcast_ref())
    {
        let text = "it is larger than what the server takes at once: raise its `max_allowed_packet`";
        return fault(Kind::Never, text.to_owned(), error.to_string());
    }
    let Error::Server(server) = error else {
        return Fault::new(Code::Unreachable, "the connection to the database was lost").private(error.to_string());
    };
    let kind = match server.code {
        // Locks, deadlocks, and a row or a table that was changed meanwhile.
        1020 | 1205 | 1206 | 1213 | 1412 | 1613..=1615 | 3572 => Kind::Again,
        // A full disk or table, too little memory, too many connections or transactions at once.
        1021 | 1037 | 1038 | 1040 | 1041 | 1114 | 1135 | 1203 | 1226 | 1637 => Kind::Again,
        // It goes down, is not ready yet (Galera), takes too long, is told to end; a COMMIT that fails.
        1047 | 1053 | 1180 | 1317 | 1927 | 1969 | 3024 => Kind::Again,
        1044 | 1045 | 1049 | 1698 => Kind::Credentials,
        1054 | 1142 | 1143 | 1146 | 1290 | 1364 | 1792 | 1836 => Kind::Mend,
        _ => Kind::Never,
    };
    let said = match kind {
        // These name things of the schema, not values.
        Kind::Mend | Kind::Credentials | Kind::Again => server.message.clone(),
        Kind::Never => {
            let column = column(&server.message).map(|column| format!(", column `{column}`")).unwrap_or_default();
            format!("{}{column} {}", server.code, reason(server.code))
        }
    };
    fault(kind, format!("the database refuses it: {said}"), server.message.clone())
}

/// The column that a message names: `column 'who'`, or `` column `shop`.`orders`.`who` ``.
fn column(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("column ").or_else(|| message.split_once("Column "))?;
    if let Some(rest) = rest.strip_prefix('\'') {
        return rest.split('\'').next();
    }
    let path = rest.strip_prefix('`')?.split(" at row").next()?;
    path.trim_end().strip_suffix('`')?.rsplit("`.`").next()
}

/// The common reasons in words.
fn reason(code: u16) -> &'static str {
    match code {
        1048 => "(a value is missing)",
        1062 => "(there is such a row already)",
        1216 | 1452 => "(the row that it refers to is not there)",
        1264 => "(a number is out of range)",
        1265 | 1292 | 1366 => "(a value does not have the column's form)",
        1406 => "(a text is too long)",
        4025 => "(a check does not hold)",
        _ => "",
    }
}

#[async_trait]
impl Source for MySql {
    async fn fetch(&self, query: &Query) -> Result<Vec<Raw>, Fault> {
        let mut connection = self.connection().await?;
        let bound = match query.values.is_empty() {
            true => Params::Empty,
            false => Params::Positional(query.values.iter().map(bind).collect()),
        };
        let rows: Vec<mysql_async::Row> =
            connection.exec(query.sql.as_str(), bound).await.map_err(|error| explain(&error))?;
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(bytes).collect()).collect())
    }

    async fn change(&self, statements: &[Query]) -> Result<(), Fault> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.start_transaction(TxOpts::default()).await.map_err(|error| explain(&error))?;
        for Query { sql, values, .. } in statements {
            let done = if values.is_empty() {
                transaction.query_drop(sql).await
            } else {
                transaction.exec_drop(sql, Params::Positional(values.iter().map(bind).collect())).await
            };
            done.map_err(|error| explain(&error))?;
        }
        transaction.commit().await.map_err(|error| explain(&error))
    }

    async fn define(&self, statements: &[String]) -> Result<(), Fault> {
        let mut connection = self.connection().await?;
        connection.reset_connection(true);
        for sql in statements {
            connection.query_drop(sql).await.map_err(|error| explain(&error))?;
        }
        Ok(())
    }

    async fn open_transactions(&self) -> Result<Option<BTreeSet<String>>, Fault> {
        // Not `information_schema.innodb_trx`: its copy is renewed only where nobody has asked for 100 ms.
        let mut connection = self.connection().await?;
        let rows: Result<Vec<(String, String, String)>, Error> = connection.query("SHOW ENGINE INNODB STATUS").await;
        match rows {
            Ok(rows) => Ok(Some(rows.iter().flat_map(|(_, _, status)| active(status)).collect())),
            // Without the right PROCESS.
            Err(Error::Server(server)) if [1227, 1044, 1142].contains(&server.code) => Ok(None),
            Err(error) => Err(explain(&error)),
        }
    }
}

/// The numbers of the transactions that InnoDB's status calls active. One that has only read has none of its own: it begins
/// to change with a number, and at that moment's time.
fn active(status: &str) -> impl Iterator<Item = String> {
    let lines = status.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("---TRANSACTION ")?.split_once(", ")?;
        rest.starts_with("ACTIVE").then(|| number.to_owned())
    });
    // Cut in the middle where it is very long: then nothing can be said to have ended.
    lines.chain(status.contains("... truncated...").then(|| "truncated".to_owned()))
}

/// The first set of rows that a statement answers with, and how many it changed.
async fn answer(
    transaction: &mut mysql_async::Transaction<'_>,
    sql: &str,
    values: &[Value],
) -> Result<(Vec<Value>, u64), Fault> {
    let bound = if values.is_empty() { Params::Empty } else { Params::Positional(values.iter().map(bind).collect()) };
    let mut result = transaction.exec_iter(sql, bound).await.map_err(|error| explain(&error))?;
    let mut rows = Vec::new();
    if !result.is_empty() {
        while let Some(row) = result.next().await.map_err(|error| explain(&error))? {
            // One more than may be shows that there are too many.
            if rows.len() <= MAX_ROWS {
                rows.push(object(row)?);
            }
        }
    }
    let affected = result.affected_rows();
    result.drop_result().await.map_err(|error| explain(&error))?;
    Ok((rows, affected))
}

/// A row as an object, its numbers as numbers.
fn object(row: mysql_async::Row) -> Result<Value, Fault> {
    let columns = row.columns();
    let values = row.unwrap();
    let field = |(column, value): (&mysql_async::Column, mysql_async::Value)| {
        let kind = column.column_type();
        let exact = kind.is_numeric_type()
            || matches!(kind, ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL);
        let value = match text(value)? {
            None => Value::Null,
            Some(text) if exact => Number::parse(&text).map_or(Value::Text(text), Value::Number),
            Some(text) => Value::Text(text),
        };
        Ok((column.name_str().into_owned(), value))
    };
    columns.iter().zip(values).map(field).collect()
}

/// A value of an answer as a text.
fn text(value: mysql_async::Value) -> Result<Option<String>, Fault> {
    bytes(value)
        .map(String::from_utf8)
        .transpose()
        .map_err(|_| Fault::new(Code::Malformed, "the database sends a text that is not UTF-8"))
}

/// A value of an answer as a text, in the bytes that came.
fn bytes(value: mysql_async::Value) -> Option<Vec<u8>> {
    use mysql_async::Value as Got;
    Some(match value {
        Got::NULL => return None,
        Got::Bytes(bytes) => bytes,
        Got::Int(number) => number.to_string().into_bytes(),
        Got::UInt(number) => number.to_string().into_bytes(),
        Got::Float(number) => number.to_string().into_bytes(),
        Got::Double(number) => number.to_string().into_bytes(),
        other @ (Got::Date(..) | Got::Time(..)) => other.as_sql(true).trim_matches('\'').to_owned().into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::{active, column, padded};

    #[test]
    fn the_column_is_found_in_both_ways_of_saying_it() {
        assert_eq!(column("Data too long for column 'who' at row 1"), Some("who"));
        assert_eq!(column("Incorrect integer value: 'x' for column `shop`.`orders`.`no` at row 1"), Some("no"));
        assert_eq!(column("Column 'who' cannot be null"), Some("who"));
        assert_eq!(column("Duplicate entry"), None);
    }

    #[test]
    fn pieces_are_filled_up_with_their_last() {
        let widths: Vec<_> = padded(&(0..262).collect::<Vec<_>>())
            .into_iter()
            .map(|(all, width)| (all.len(), width, all.last().copied()))
            .collect();
        assert_eq!(widths, [(256, 256, Some(255)), (16, 16, Some(261))]);
    }

    #[test]
    fn active_transactions_are_read_from_the_status() {
        let status = "LATEST DETECTED DEADLOCK\n*** (1) TRANSACTION:\nTRANSACTION 7, ACTIVE 0 sec\n\
            LIST OF TRANSACTIONS FOR EACH SESSION:\n---TRANSACTION 3446, ACTIVE 1 sec\n1 lock struct(s)\n\
            ---TRANSACTION (0x7f07), not started\n---TRANSACTION 42152, not started\n---TRANSACTION 3451, ACTIVE (PREPARED) 0 sec\n";
        assert_eq!(active(status).collect::<Vec<_>>(), ["3446", "3451"]);
        assert_eq!(active("... truncated...\n").collect::<Vec<_>>(), ["truncated"]);
    }
}
