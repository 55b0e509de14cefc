//! What a database does for reading: a query whose answers are texts, a change, and what its catalogue says. The SQL is made
//! in [`super::sql`]; a database only carries it out. Rows come as bytes first: what an old table holds need not be Unicode.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::{Secret, Secrets};

use crate::file::{Checked, Database, Table};
use crate::live::catalogue::Live;

/// A row of texts.
pub(crate) type Texts = Vec<Option<String>>;

/// A row of texts as they came, whatever their charset.
pub(crate) type Raw = Vec<Option<Vec<u8>>>;

/// A statement and its values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
    /// The types of the columns that the values belong to, as the database names them; none where that does not matter.
    pub(crate) kinds: Vec<String>,
}

impl Query {
    /// Binds a value that belongs to a column; tells its number.
    pub(crate) fn bind(&mut self, column: &Column, value: Value) -> usize {
        self.values.push(value);
        self.kinds.push(column.kind.clone());
        self.values.len()
    }
}

/// A row as one JSON document.
#[derive(Debug)]
pub(crate) struct Document {
    /// The document; a text in it need not be UTF-8.
    pub(crate) bytes: Vec<u8>,
    /// What was asked of the row is not in the future.
    pub(crate) past: bool,
}

/// A database that is read.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Asks; every column of the answer is a text, in the bytes that the database has.
    async fn fetch(&self, query: &Query) -> Result<Vec<Raw>, Fault>;

    /// Asks; every column of the answer is a text.
    async fn ask(&self, sql: &str, values: &[Value]) -> Result<Vec<Texts>, Fault> {
        let query = Query { sql: sql.to_owned(), values: values.to_vec(), kinds: Vec::new() };
        self.fetch(&query).await?.into_iter().map(texts).collect()
    }

    /// Asks for rows as documents of these columns. Where the database makes them itself, the answer is the document, and
    /// perhaps whether something is past.
    async fn documents(&self, query: &Query, _columns: &[&Column]) -> Result<Vec<Document>, Fault> {
        let document = |row: Raw| {
            let mut row = row.into_iter();
            let bytes = row.next().flatten()?;
            Some(Document { bytes, past: row.next().flatten().as_deref() == Some(b"1") })
        };
        Ok(self.fetch(query).await?.into_iter().filter_map(document).collect())
    }

    /// Changes something, all of it in one transaction.
    async fn change(&self, statements: &[Query]) -> Result<(), Fault>;

    /// How its SQL is spoken; by ODBC only its driver knows.
    async fn speaks(&self, declared: Database) -> Result<Database, Fault> {
        Ok(declared)
    }

    /// Runs statements that define something, as they are, one after the other.
    async fn define(&self, statements: &[String]) -> Result<(), Fault>;

    /// A table as the driver describes it, and its primary key, where no catalogue is asked in SQL.
    async fn described(&self, _table: &Table) -> Result<Option<(Live, Vec<String>)>, Fault> {
        Ok(None)
    }

    /// Every table as the driver lists them, where no catalogue is asked in SQL.
    async fn listed(&self) -> Result<Vec<Table>, Fault> {
        Ok(Vec::new())
    }

    /// The transactions that are open now and may still commit, by names of the database's own; `None` where this user may
    /// not see them.
    async fn open_transactions(&self) -> Result<Option<BTreeSet<String>>, Fault>;
}

/// Opens the database of a system for reading; gives back what a further connection logs in with.
pub(crate) async fn open(
    checked: &Arc<Checked>,
    secrets: &dyn Secrets,
) -> Result<(Arc<dyn Source>, Option<Secret>), Fault> {
    let database: Arc<dyn Source> = crate::outbound::database(checked, secrets).await?;
    let secret = checked.password.as_ref().map(|secret| secrets.fetch(secret)).transpose()?;
    Ok((database, secret))
}

/// A row as texts.
pub(crate) fn texts(row: Raw) -> Result<Texts, Fault> {
    let text = |(at, bytes): (usize, Option<Vec<u8>>)| {
        bytes.map(String::from_utf8).transpose().map_err(|_| {
            let text = format!("column {} of the database's answer is not UTF-8", at + 1);
            Fault::new(Code::Malformed, text)
        })
    };
    row.into_iter().enumerate().map(text).collect()
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type, as the database names it.
    pub(crate) kind: String,
    /// Whether it may be empty.
    pub(crate) nullable: bool,
    /// The charset that its bytes are in, where the site says that the database does not know it.
    pub(crate) charset: Option<String>,
}

/// A table as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) table: Table,
    pub(crate) columns: Vec<Column>,
    /// The columns of the primary key, in their order.
    pub(crate) key: Vec<String>,
}

impl Described {
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// What the catalogue says of a table; `None` where it is not there.
pub(crate) async fn describe(
    source: &dyn Source,
    database: Database,
    table: &Table,
) -> Result<Option<Described>, Fault> {
    if database.is_odbc() {
        let column = |live: crate::live::catalogue::Column| Column {
            name: live.name,
            kind: live.text,
            nullable: live.nullable,
            charset: None,
        };
        let described = source.described(table).await?;
        return Ok(described.map(|(live, key)| Described {
            table: table.clone(),
            columns: live.columns.into_iter().map(column).collect(),
            key,
        }));
    }
    let (sql, values) = super::sql::describe(database, table);
    let rows = source.ask(sql, &values).await?;
    let mut key = Vec::new();
    let mut columns = Vec::new();
    for row in rows {
        let [Some(name), Some(kind), place, nullable] = <[Option<String>; 4]>::try_from(row).unwrap_or_default() else {
            continue;
        };
        if let Some(place) = place.and_then(|place| place.parse::<u32>().ok()).filter(|place| *place > 0) {
            key.push((place, name.clone()));
        }
        columns.push(Column { name, kind, nullable: nullable.as_deref() != Some("0"), charset: None });
    }
    key.sort();
    let key = key.into_iter().map(|(_, name)| name).collect();
    Ok((!columns.is_empty()).then(|| Described { table: table.clone(), columns, key }))
}

/// Every table that this user sees; `schema` is `None` in the one that needs no naming.
pub(crate) async fn tables(source: &dyn Source, database: Database) -> Result<Vec<Table>, Fault> {
    if database.is_odbc() {
        return source.listed().await;
    }
    let rows = source.ask(super::sql::tables(database), &[]).await?;
    let table = |row: Texts| {
        let [schema, name] = <[Option<String>; 2]>::try_from(row).ok()?;
        Some(Table { schema, name: name? })
    };
    Ok(rows.into_iter().filter_map(table).collect())
}
