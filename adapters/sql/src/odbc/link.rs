//! One connection by ODBC, and what goes over it. Its calls block: they run on threads of their own ([`super`]).

use std::cell::Cell;

use gatehouse_core::fault::{Code, Fault};
use odbc_api::Nullability;
use odbc_api::parameter::{InputParameter, VarCharBox, WithDataType};
use odbc_api::{Connection, ConnectionOptions, DataType, Error, ResultSetMetadata};

use super::read::{Answer, describe, read};
use super::sql::Quote;
use crate::dialect::Dialect;
use crate::file::{Database, Table};
use crate::live::catalogue::{Column, Live};
use crate::live::kind::Kind as Holds;
use crate::outbound::{Kind, fault};

/// How long a log-in may take, in seconds.
const LOGIN: u32 = 5;

/// A connection, and what its driver says of itself.
pub(super) struct Link {
    connection: Connection<'static>,
    pub(super) quote: Quote,
    /// The database's name as the driver says it: `PostgreSQL`, `Oracle`.
    pub(super) product: String,
    /// A transaction in it did not end as it should.
    spoiled: Cell<bool>,
}

impl Link {
    /// Logs in; times without a zone of their own are in `zone`, in databases that are told so in a known way.
    pub(super) fn open(text: &str, zone: &str) -> Result<Self, Fault> {
        let options = ConnectionOptions { login_timeout_sec: Some(LOGIN), ..ConnectionOptions::default() };
        let connection = odbc_api::environment()
            .and_then(|environment| environment.connect_with_connection_string(text, options))
            .map_err(|error| unreachable(&error))?;
        let quote = connection.identifier_quote_char().ok().flatten().unwrap_or('"');
        let product = connection.database_management_system_name().unwrap_or_default();
        if let Some(sql) = crate::dialect::set_zone(&product, zone) {
            connection.execute(&sql, (), Some(LOGIN as usize)).map_err(|error| explain(&error))?;
        }
        Ok(Self { connection, quote: Quote(quote), product, spoiled: Cell::new(false) })
    }

    /// Whether it can be used again, as far as its driver tells.
    pub(super) fn is_well(&self) -> bool {
        !self.spoiled.get() && !self.connection.is_dead().unwrap_or(false)
    }

    /// Runs something as one transaction: kept where it says `Ok`.
    ///
    /// # Errors
    /// Its own, or that of the COMMIT, which may then have happened: told by [`Code::Unknown`].
    pub(super) fn transaction<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.connection.set_autocommit(false).map_err(|error| explain(&error))?;
        // Until it has ended well: to switch autocommit on again would commit what is open, so it goes with its connection.
        self.spoiled.set(true);
        let value = match work() {
            Ok(value) => value,
            Err(fault) => {
                self.ended(self.connection.rollback());
                return Err(fault);
            }
        };
        match self.connection.commit() {
            Ok(()) => {
                self.ended(Ok(()));
                Ok(value)
            }
            Err(error) => {
                let told = explain(&error);
                Err(if told.code == Code::Unreachable { Fault { code: Code::Unknown, ..told } } else { told })
            }
        }
    }

    /// A transaction has ended; the connection is as it was before.
    fn ended(&self, outcome: Result<(), Error>) {
        if outcome.and_then(|()| self.connection.set_autocommit(true)).is_ok() {
            self.spoiled.set(false);
        }
    }

    /// Runs a statement; at most `most` rows of its answer.
    pub(super) fn ask(
        &self,
        sql: &str,
        values: &[Option<Vec<u8>>],
        most: usize,
        seconds: usize,
    ) -> Result<Answer, Fault> {
        self.ask_typed(sql, values, &[], most, seconds)
    }

    /// The same, each value bound as the type of the column that it belongs to, where that is known.
    pub(super) fn ask_typed(
        &self,
        sql: &str,
        values: &[Option<Vec<u8>>],
        kinds: &[String],
        most: usize,
        seconds: usize,
    ) -> Result<Answer, Fault> {
        let ask = || -> Result<Answer, Error> {
            let mut statement = self.connection.preallocate()?;
            // Not every driver has it; the engine's deadline holds all the same.
            let _ = statement.set_query_timeout_sec(seconds);
            let bound: Vec<Box<dyn InputParameter>> = values
                .iter()
                .enumerate()
                .map(|(at, value)| bound(value.as_deref(), kinds.get(at).map(String::as_str)))
                .collect();
            let mut answer = Answer::default();
            if let Some(mut cursor) = statement.execute(sql, bound.as_slice())? {
                read(&mut cursor, &mut answer, most)?;
                return Ok(answer);
            }
            answer.affected = statement.row_count()?.unwrap_or(0) as u64;
            Ok(answer)
        };
        ask().map_err(|error| explain(&error))
    }

    /// The columns of a table; `None` where it is not there.
    pub(super) fn live(&self, table: &Table) -> Result<Option<Live>, Fault> {
        let look = || -> Result<Live, Error> {
            let mut columns = Vec::new();
            if let Some(mut cursor) = self.connection.execute(&self.quote.nothing_of(table), (), None)? {
                for at in 1..=u16::try_from(cursor.num_result_cols()?).unwrap_or(0) {
                    let column = describe(&mut cursor, at)?;
                    columns.push(Column {
                        name: column.name_to_string().unwrap_or_default(),
                        text: words(&column.data_type),
                        kind: self.holds(&column.data_type),
                        nullable: column.nullability != Nullability::NoNulls,
                        // What fills a column by itself is not told here.
                        filled: true,
                        computed: false,
                    });
                }
            }
            Ok(Live { columns, unique: None })
        };
        match look() {
            Ok(live) => Ok(Some(live)),
            Err(error) => {
                let told = explain(&error);
                // A table that is not there, in the words of each driver.
                let private = told.private.as_deref().unwrap_or_default().to_lowercase();
                let absent = ["42S02", "42P01"].contains(&state(&error).as_str())
                    || ["no such table", "does not exist", "not found", "doesn't exist", "ora-00942"]
                        .iter()
                        .any(|word| private.contains(word));
                if absent { Ok(None) } else { Err(told) }
            }
        }
    }

    fn holds(&self, kind: &DataType) -> Holds {
        // SQLite keeps what it likes in a column, whatever the driver calls it.
        if self.product.eq_ignore_ascii_case("sqlite") {
            return match kind {
                DataType::Integer | DataType::SmallInt | DataType::BigInt | DataType::TinyInt => Holds::Loose,
                DataType::Numeric { .. } | DataType::Decimal { .. } => Holds::Loose,
                DataType::Float { .. } | DataType::Real | DataType::Double => Holds::Loose,
                _ => Holds::Other,
            };
        }
        Holds::parse(Database::Odbc(Dialect::default()), &words(kind))
    }

    /// Every table that this user sees.
    pub(super) fn tables(&self) -> Result<Vec<Table>, Fault> {
        let list = || -> Result<Vec<Table>, Error> {
            let mut found = Vec::new();
            for row in self.connection.tables("", "", "", "TABLE")? {
                let row = row?;
                let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
                let name = row.table.as_str().ok().and_then(text);
                let schema = row.schema.as_str().ok().and_then(text);
                found.extend(name.map(|name| Table { schema, name }));
            }
            Ok(found)
        };
        list().map_err(|error| explain(&error))
    }

    /// The columns of a table's primary key, in order.
    pub(super) fn primary_key(&self, table: &Table) -> Result<Vec<String>, Fault> {
        let list = || -> Result<Vec<String>, Error> {
            let rows = self.connection.primary_keys(None, table.schema.as_deref(), &table.name)?;
            let mut found = Vec::new();
            for row in rows {
                let row = row?;
                found.extend(row.column.as_str().ok().flatten().map(|name| (row.key_seq, name.to_owned())));
            }
            found.sort();
            Ok(found.into_iter().map(|(_, name)| name).collect())
        };
        list().map_err(|error| explain(&error))
    }
}

/// A value as a parameter. A text is text everywhere; what is compared with a time or a number is bound as one, so that the
/// driver reads it in ODBC's own form and not in one that the session is set to.
fn bound(value: Option<&[u8]>, kind: Option<&str>) -> Box<dyn InputParameter> {
    let parameter = value.map_or_else(VarCharBox::null, |bytes| VarCharBox::from_vec(bytes.to_vec()));
    let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let (Some(kind), Some(text)) = (kind, text) else { return Box::new(parameter) };
    let fraction = i16::try_from(text.split_once('.').map_or(0, |(_, fraction)| fraction.len())).unwrap_or(9);
    let data_type = match kind.split(['(', ' ']).next().unwrap_or_default() {
        "integer" | "smallint" | "tinyint" | "bigint" => DataType::BigInt,
        "numeric" => DataType::Numeric { precision: text.len(), scale: fraction },
        "double" => DataType::Double,
        "date" => DataType::Date,
        "time" => DataType::Time { precision: fraction },
        "timestamp" => DataType::Timestamp { precision: fraction },
        _ => return Box::new(parameter),
    };
    Box::new(WithDataType::new(parameter, data_type))
}

/// A type in words that [`Holds::parse`] reads.
fn words(kind: &DataType) -> String {
    let sized = |word: &str, length: &Option<std::num::NonZeroUsize>| match length {
        Some(length) => format!("{word}({length})"),
        None => word.to_owned(),
    };
    match kind {
        DataType::Char { length } | DataType::WChar { length } => sized("char", length),
        DataType::Varchar { length } | DataType::WVarchar { length } => sized("varchar", length),
        DataType::LongVarchar { .. } | DataType::WLongVarchar { .. } => "text".to_owned(),
        DataType::Numeric { precision, scale } | DataType::Decimal { precision, scale } => {
            format!("numeric({precision},{scale})")
        }
        DataType::Integer => "integer".to_owned(),
        DataType::SmallInt => "smallint".to_owned(),
        DataType::BigInt => "bigint".to_owned(),
        DataType::TinyInt => "tinyint".to_owned(),
        DataType::Float { .. } | DataType::Real | DataType::Double => "double precision".to_owned(),
        DataType::Date => "date".to_owned(),
        DataType::Time { .. } => "time".to_owned(),
        DataType::Timestamp { .. } => "timestamp".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The SQLSTATE of an error; empty where it has none.
fn state(error: &Error) -> String {
    match error {
        Error::Diagnostics { record, .. } => record.state.as_str().to_owned(),
        _ => String::new(),
    }
}

fn unreachable(error: &Error) -> Fault {
    let told = explain(error);
    if told.code == Code::Misconfigured {
        return told;
    }
    Fault::new(Code::Unreachable, format!("the database cannot be reached ({})", state(error)))
        .private(error.to_string())
}

/// An error by its SQLSTATE (ODBC Programmer's Reference, appendix A). Many drivers say HY000 for everything: then by its words.
pub(super) fn explain(error: &Error) -> Fault {
    let private = error.to_string();
    let state = state(error);
    let lower = private.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let class = state.get(..2).unwrap_or_default();
    if class == "08" {
        return Fault::new(Code::Unreachable, "the connection to the database was lost").private(private);
    }
    let kind = match class {
        "40" | "53" | "55" | "57" | "58" => Kind::Again,
        "28" | "IM" => Kind::Credentials,
        "22" | "23" | "07" | "44" => Kind::Never,
        "42" | "3F" | "25" => Kind::Mend,
        _ if state.starts_with("HYT") => Kind::Again,
        _ if says(&["constraint", "violat", "too long", "out of range", "invalid input", "overflow"]) => Kind::Never,
        _ if says(&["no such", "does not exist", "denied", "permission", "read-only", "readonly"]) => Kind::Mend,
        _ => Kind::Again,
    };
    let column = private.split_once("column \"").and_then(|(_, rest)| rest.split('"').next());
    let column = column.map(|column| format!(" at column `{column}`")).unwrap_or_default();
    fault(kind, format!("the database refuses it{column}: {state} {}", reason(&state)).trim_end().to_owned(), private)
}

/// The common reasons in words.
fn reason(state: &str) -> &'static str {
    match state {
        "22001" => "(a text is too long)",
        "22003" => "(a number is out of range)",
        "22007" | "22008" | "22018" | "22P02" => "(a value does not have the column's form)",
        "23502" => "(a value is missing)",
        "23503" => "(the row that it refers to is not there)",
        "23505" => "(there is such a row already)",
        "23514" => "(a check does not hold)",
        "23000" => "(a constraint does not hold)",
        "42S02" | "42P01" => "(no such table)",
        "42S22" | "42703" => "(no such column)",
        "IM002" => "(there is no such data source or driver on this machine)",
        _ => "",
    }
}
