//! PostgreSQL.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Transaction};
use futures_util::future::{join3, try_join_all};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::{Value, json};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Config, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::ask::{Asked, MAX_ROWS, is_query};
use crate::capture::source::{Query, Raw, Source};
use crate::file::{Checked, Database, Mode};
use crate::live::catalogue;
use crate::outbound::{Backend, GROUP_LOCK, Kind, Written, fault, missing, outcomes, rows_of, still_entered};
use crate::statement;
use crate::work::{Row, Work};

const DATABASE: Database = Database::Postgres;

/// Statements that are sent before the answer to the first is read.
const PIPELINED: usize = 256;

/// Rows of a refused delivery that are looked at for the column that is wrong.
const MOST_LOOKED_AT: usize = 100;

pub(crate) struct Postgres {
    pool: Pool,
    checked: Arc<Checked>,
}

impl Postgres {
    pub(crate) fn open(checked: Arc<Checked>, password: Option<&str>) -> Result<Self, Fault> {
        let mut config = Config::new();
        // A statement ends before the attempt does, so that its connection is not left behind busy.
        let statement = checked.limits.timeout.mul_f64(0.9).as_millis();
        let lock = checked.limits.timeout.mul_f64(0.5).as_millis();
        config
            .host(&checked.host)
            .port(checked.port)
            .dbname(&checked.target)
            .user(&checked.user)
            .application_name("gatehouse")
            .connect_timeout(Duration::from_secs(3))
            .keepalives_idle(Duration::from_secs(30))
            .options(format!("-c statement_timeout={statement} -c lock_timeout={lock} -c timezone={}", checked.zone));
        if let Some(password) = password {
            config.password(password);
        }
        let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if checked.tls {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            Manager::from_config(config, MakeRustlsConnect::new(tls(&checked)?), settings)
        } else {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            Manager::from_config(config, NoTls, settings)
        };
        let pool = Pool::builder(manager)
            .max_size(checked.limits.concurrency as usize)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(Duration::from_secs(5)));
        let pool = pool.build().map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
        Ok(Self { pool, checked })
    }

    async fn client(&self) -> Result<Object, Fault> {
        let place = format!("{}:{}/{}", self.checked.host, self.checked.port, self.checked.target);
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) if error.as_db_error().is_some() => explain(&error),
            PoolError::Backend(error) => {
                Fault::new(Code::Unreachable, format!("{place} cannot be reached")).private(causes(&error))
            }
            other => Fault::new(Code::Unreachable, format!("{place} gave no connection: {other}")),
        })
    }

    /// Which of these have been entered.
    async fn found(&self, ids: &[&str]) -> Result<HashSet<String>, Fault> {
        let client = self.client().await?;
        let sql = statement::entered(DATABASE, &self.checked.inbox, ids.len());
        let rows = client.query(&sql, &[&ids]).await.map_err(|error| explain(&error))?;
        Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
    }

    /// Enters deliveries into the inbox, and right behind it sends rows, where there are any: what became of each delivery,
    /// and of the rows. The inbox is asked first, so that it is not the rows' fault that its answer tells.
    async fn enter(
        &self,
        transaction: &Transaction<'_>,
        works: &[Arc<Work>],
        rows: Option<Vec<&Row>>,
    ) -> Result<(Vec<Written>, Result<(), Fault>), Fault> {
        let ids: Vec<&str> = works.iter().map(|work| work.delivery_id.as_str()).collect();
        let messages: Vec<&str> = works.iter().map(|work| work.message_id.as_str()).collect();
        let enter = transaction.prepare_cached(&statement::enter(DATABASE, &self.checked.inbox, ids.len())).await;
        let enter = enter.map_err(|error| explain(&error))?;
        let soon = async {
            if works.len() > 1 {
                // One of many does not keep the others waiting for a lock: it goes alone, with all its time.
                let soon = format!("SET LOCAL lock_timeout = {}", GROUP_LOCK.as_millis());
                transaction.batch_execute(&soon).await?;
            }
            Ok(())
        };
        let write = async {
            match rows {
                Some(rows) => Self::rows(transaction, rows).await,
                None => Ok(()),
            }
        };
        // Each is sent as it is first polled, in this order.
        let (soon, entered, written) = join3(soon, transaction.query(&enter, &[&ids, &messages]), write).await;
        let entered = soon.and(entered).map_err(|error: tokio_postgres::Error| explain(&error))?;
        let fresh = entered.iter().filter_map(|row| row.try_get(0).ok()).collect();
        Ok((outcomes(works, fresh), written))
    }

    /// Writes rows, as many in one statement as may be, and without waiting for the answer to one before the next is sent.
    async fn rows(transaction: &Transaction<'_>, rows: Vec<&Row>) -> Result<(), Fault> {
        let runs = statement::runs(rows.into_iter());
        let mut statements = Vec::with_capacity(runs.len());
        for run in &runs {
            let Some(first) = run.first() else { continue };
            let sql = statement::write(DATABASE, first, run.len());
            let prepared = transaction.prepare_cached(&sql).await.map_err(|error| explain(&error))?;
            statements.push((prepared, document(run), *first));
        }
        let write = async |(prepared, document, first): &(Statement, String, &Row)| {
            let found = transaction.execute(prepared, &[document]).await.map_err(|error| explain(&error))?;
            if first.mode == Mode::Update && found == 0 { Err(missing(first)) } else { Ok(()) }
        };
        for some in statements.chunks(PIPELINED) {
            try_join_all(some.iter().map(write)).await?;
        }
        Ok(())
    }

    /// The column that makes a row be refused, where the server does not name it: each is read on its own.
    async fn culprit(client: &Object, rows: &[&Row]) -> Option<String> {
        for row in rows.iter().take(MOST_LOOKED_AT) {
            for (column, value) in row.columns.iter().filter(|(column, _)| row.raw(column).is_none()) {
                let alone = [(column.clone(), value.clone())].into_iter().collect::<Value>();
                let sql = statement::reads(row, column);
                if let Err(error) = client.query(&sql, &[&text_of(&alone)]).await {
                    return error.as_db_error().map(|_| format!("`{}`, column `{column}`", row.table));
                }
            }
        }
        None
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn write(&self, works: &[Arc<Work>]) -> Result<Vec<Written>, Fault> {
        let mut client = self.client().await?;
        let ids: Vec<&str> = works.iter().map(|work| work.delivery_id.as_str()).collect();
        // All of them are new, nearly always: their rows are sent without waiting for the inbox to say so.
        let mut transaction = client.transaction().await.map_err(|error| explain(&error))?;
        let all: Vec<&Row> = works.iter().flat_map(|work| &work.rows).collect();
        let (mut outcomes, mut written) = self.enter(&transaction, works, Some(all.clone())).await?;
        let mut rows = all;
        if outcomes.contains(&Written::Before) {
            // Some were written before, and now perhaps twice: all of it is taken back, and then only the new ones are written.
            transaction.rollback().await.map_err(|error| explain(&error))?;
            transaction = client.transaction().await.map_err(|error| explain(&error))?;
            (outcomes, _) = self.enter(&transaction, works, None).await?;
            if !outcomes.contains(&Written::Now) {
                return Ok(outcomes);
            }
            rows = rows_of(works, &outcomes);
            written = Self::rows(&transaction, rows.clone()).await;
        }
        if let Err(mut fault) = written {
            drop(transaction);
            if works.len() == 1
                && fault.code == Code::Refused
                && !fault.public.contains(" at ")
                && let Some(column) = Self::culprit(&client, &rows).await
            {
                fault.public = fault.public.replacen("refuses it", &format!("refuses it at {column}"), 1);
            }
            return Err(fault);
        }
        match transaction.commit().await {
            Ok(()) => Ok(outcomes),
            // The server said no: it is rolled back.
            Err(error) if error.as_db_error().is_some() => Err(explain(&error)),
            Err(error) => {
                drop(client);
                still_entered(self.found(&ids).await, &ids, explain(&error)).map(|()| outcomes)
            }
        }
    }

    async fn run(&self, asked: &Asked<'_>) -> Result<Option<Value>, Fault> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(|error| explain(&error))?;
        if !asked.statement.reads {
            let enter = transaction.prepare_cached(&statement::enter(DATABASE, &self.checked.inbox, 1)).await;
            let enter = enter.map_err(|error| explain(&error))?;
            let (ids, messages) = ([asked.delivery_id], [asked.message_id]);
            let entered = transaction.query(&enter, &[&ids.as_slice(), &messages.as_slice()]).await;
            if entered.map_err(|error| explain(&error))?.is_empty() {
                return Ok(None);
            }
        }
        let (mut rows, affected) = answer(&transaction, &asked.sql, &asked.values, asked.is_query()).await?;
        if let Some(result) = &asked.statement.result {
            rows = answer(&transaction, result, &[], is_query(result)).await?.0;
        }
        // Dropped where the answer means no, the transaction is rolled back.
        let reply = asked.judge(rows, affected)?;
        match transaction.commit().await {
            Ok(()) => Ok(Some(reply)),
            Err(error) if asked.statement.reads || error.as_db_error().is_some() => Err(explain(&error)),
            Err(error) => {
                drop(client);
                let found = self.found(&[asked.delivery_id]).await;
                still_entered(found, &[asked.delivery_id], explain(&error)).map(|()| Some(reply))
            }
        }
    }

    async fn create_inbox(&self) -> Result<(), Fault> {
        let client = self.client().await?;
        let made = client.batch_execute(&statement::create_inbox(DATABASE, &self.checked.inbox)).await;
        match made {
            Ok(()) => Ok(()),
            // Two gateways at once: the other one has made it.
            Err(_) if catalogue::look(self, DATABASE, &self.checked.inbox).await?.is_some() => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }
}

/// Rows of one shape as one JSON document: a list where they are inserted.
fn document(rows: &[&Row]) -> String {
    let object = |row: &&Row| {
        let given = |(column, value): &(String, Value)| (column.clone(), row.given(column, value).into_owned());
        row.columns.iter().map(given).collect::<Value>()
    };
    match rows {
        [row] if matches!(row.mode, Mode::Update | Mode::Delete) => text_of(&object(row)),
        rows => text_of(&Value::List(rows.iter().map(object).collect())),
    }
}

fn text_of(value: &Value) -> String {
    String::from_utf8_lossy(&json::encode(value)).into_owned()
}

pub(crate) fn tls(checked: &Checked) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    match &checked.ca_file {
        Some(path) => {
            let bad = |error: String| Fault::new(Code::Misconfigured, format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
                roots
                    .add(certificate.map_err(|error| bad(error.to_string()))?)
                    .map_err(|error| bad(error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// An error by its SQLSTATE (PostgreSQL manual, appendix A).
fn explain(error: &tokio_postgres::Error) -> Fault {
    let Some(db) = error.as_db_error() else {
        if error.to_string().starts_with("error deserializing column") {
            return Fault::new(Code::Internal, "an answer of the database is not what was asked for")
                .private(causes(error));
        }
        return Fault::new(Code::Unreachable, "the connection to the database was lost").private(causes(error));
    };
    let state = db.code().code();
    let column = db.column().map(|column| format!(", column `{column}`")).unwrap_or_default();
    let constraint = db.constraint().map(|name| format!(", constraint `{name}`")).unwrap_or_default();
    let place = db.table().map(|table| format!(" at table `{table}`{column}{constraint}")).unwrap_or_default();
    let private = format!("{}{}", db.message(), db.detail().map(|detail| format!("; {detail}")).unwrap_or_default());
    let kind = match (&state[..2], state) {
        ("40" | "53" | "55" | "57" | "58" | "08", _) => Kind::Again,
        ("28", _) | (_, "3D000") => Kind::Credentials,
        (_, "25006") | ("42", _) | (_, "3F000") => Kind::Mend,
        _ => Kind::Never,
    };
    let said = match kind {
        // These name things of the schema, not values.
        Kind::Mend | Kind::Credentials | Kind::Again => db.message().to_owned(),
        Kind::Never => db.code().code().to_owned() + " " + reason(state),
    };
    fault(kind, format!("the database refuses it{place}: {said}"), private)
}

/// The common reasons in words.
fn reason(state: &str) -> &'static str {
    match state {
        "23502" => "(a value is missing)",
        "23503" => "(the row that it refers to is not there)",
        "23505" => "(there is such a row already)",
        "23514" => "(a check does not hold)",
        "22001" => "(a text is too long)",
        "22003" => "(a number is out of range)",
        "22P02" | "22007" | "22008" => "(a value does not have the column's form)",
        "22P05" => "(a character that the database cannot hold)",
        "22021" => {
            "(bytes that are no text of its charset; where they stand in a column, say with `charset` what they are)"
        }
        _ => "",
    }
}

fn causes(error: &tokio_postgres::Error) -> String {
    use std::error::Error;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[async_trait]
impl Source for Postgres {
    async fn fetch(&self, query: &Query) -> Result<Vec<Raw>, Fault> {
        let client = self.client().await?;
        let statement = client.prepare_cached(&query.sql).await.map_err(|error| explain(&error))?;
        let texts = texts(&query.values);
        let bound: Vec<_> = texts.iter().map(|text| text as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
        let rows = client.query(&statement, &bound).await.map_err(|error| explain(&error))?;
        let raw = |row: &tokio_postgres::Row| {
            let column = |at| row.try_get::<_, Option<&str>>(at).map(|text| text.map(|text| text.as_bytes().to_vec()));
            (0..row.len()).map(column).collect::<Result<Raw, _>>()
        };
        rows.iter().map(|row| raw(row).map_err(|error| explain(&error))).collect()
    }

    async fn change(&self, statements: &[Query]) -> Result<(), Fault> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(|error| explain(&error))?;
        for Query { sql, values, .. } in statements {
            let texts = texts(values);
            let bound: Vec<_> = texts.iter().map(|text| text as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
            // A statement with numbers of its own in it is not worth keeping.
            let statement =
                if values.is_empty() { transaction.prepare(sql).await } else { transaction.prepare_cached(sql).await };
            let statement = statement.map_err(|error| explain(&error))?;
            transaction.execute(&statement, &bound).await.map_err(|error| explain(&error))?;
        }
        transaction.commit().await.map_err(|error| explain(&error))
    }

    async fn define(&self, statements: &[String]) -> Result<(), Fault> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(|error| explain(&error))?;
        for sql in statements {
            transaction.batch_execute(sql).await.map_err(|error| explain(&error))?;
        }
        transaction.commit().await.map_err(|error| explain(&error))
    }

    async fn open_transactions(&self) -> Result<Option<BTreeSet<String>>, Fault> {
        // Every transaction locks its own virtual id, and everybody may see that; a prepared one has none.
        let sql = "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE pid IS DISTINCT FROM pg_backend_pid()
                   AND (locktype = 'virtualxid' OR locktype = 'transactionid')";
        let rows = self.ask(sql, &[]).await?;
        Ok(Some(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()))
    }
}

/// Values as the texts that the statements cast.
fn texts(values: &[Value]) -> Vec<Option<String>> {
    values.iter().map(Value::to_plain_text).collect()
}

/// A statement's answer. A query's rows are made JSON by the server, so that every type reads exactly; a procedure's
/// columns are few and simple.
async fn answer(
    transaction: &deadpool_postgres::Transaction<'_>,
    sql: &str,
    values: &[Value],
    query: bool,
) -> Result<(Vec<Value>, u64), Fault> {
    let sql = if query {
        format!("SELECT to_jsonb(r)::text FROM ({}) r LIMIT {}", sql.trim_end_matches([';', ' ', '\n']), MAX_ROWS + 1)
    } else {
        sql.to_owned()
    };
    let statement = transaction.prepare_cached(&sql).await.map_err(|error| explain(&error))?;
    let bound: Vec<_> = texts(values).into_iter().map(AnyText).collect();
    let bound: Vec<_> = bound.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
    if statement.columns().is_empty() {
        let affected = transaction.execute(&statement, &bound).await.map_err(|error| explain(&error))?;
        return Ok((Vec::new(), affected));
    }
    let rows = transaction.query(&statement, &bound).await.map_err(|error| explain(&error))?;
    let row = |row: &tokio_postgres::Row| {
        if query {
            let text: String = row.try_get(0).map_err(|error| explain(&error))?;
            let limits = BodyLimits { bytes: 64 << 20, text: 64 << 20, ..BodyLimits::default() };
            return json::decode(text.as_bytes(), &limits)
                .map_err(|error| Fault::new(Code::BadAnswer, format!("a row cannot be read: {}", error.reason)));
        }
        let column = |(at, column): (usize, &tokio_postgres::Column)| {
            let value = simple(row, at, column.type_()).ok_or_else(|| {
                let text = format!("the result `{}` is of type {}: cast it to text", column.name(), column.type_());
                Fault::new(Code::Misconfigured, text).verdict(Verdict::Reject)
            });
            value.map(|value| (column.name().to_owned(), value))
        };
        row.columns().iter().enumerate().map(column).collect::<Result<Value, Fault>>()
    };
    let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let count = rows.len() as u64;
    Ok((rows, count))
}

/// A result of a procedure.
fn simple(row: &tokio_postgres::Row, at: usize, kind: &Type) -> Option<Value> {
    let value = match *kind {
        Type::BOOL => row.try_get::<_, Option<bool>>(at).ok()?.map(Value::Bool),
        Type::INT2 => row.try_get::<_, Option<i16>>(at).ok()?.map(|number| Value::from(i64::from(number))),
        Type::INT4 => row.try_get::<_, Option<i32>>(at).ok()?.map(|number| Value::from(i64::from(number))),
        Type::INT8 => row.try_get::<_, Option<i64>>(at).ok()?.map(Value::from),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => {
            row.try_get::<_, Option<String>>(at).ok()?.map(Value::from)
        }
        _ => return None,
    };
    Some(value.unwrap_or(Value::Null))
}

/// A text that the server reads as whatever type it wants there.
#[derive(Debug)]
struct AnyText(Option<String>);

impl ToSql for AnyText {
    fn to_sql(&self, _kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            None => IsNull::Yes,
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                IsNull::No
            }
        })
    }

    fn accepts(_kind: &Type) -> bool {
        true
    }

    fn encode_format(&self, _kind: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}
