//! The SQL of reading, for each database. Rows come as one JSON document each, made by the database itself, so that a
//! snapshot, a later look and a trigger say the same of a row. Identifiers are always quoted, values always bound.

use gatehouse_core::Value;

use super::source::{Column, Described, Query};
use crate::dialect::{Dialect, Like};
use crate::file::{Database, Table};
use crate::statement::{quote, table as named};

/// Asks for name, type, place in the primary key and whether it may be empty, of each column.
pub(crate) fn describe(database: Database, table: &Table) -> (&'static str, Vec<Value>) {
    let schema = || table.schema.as_deref().map_or(Value::Null, Value::from);
    match database {
        Database::Postgres => (
            "SELECT a.attname::text, format_type(a.atttypid, NULL)::text, (array_position(i.indkey::int2[], a.attnum) + 1)::text,
                    CASE WHEN a.attnotnull THEN '0' ELSE '1' END
             FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
             WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            vec![Value::from(named(database, table))],
        ),
        Database::MySql => (
            "SELECT c.column_name, c.column_type, s.seq_in_index, IF(c.is_nullable = 'YES', '1', '0')
             FROM information_schema.columns c LEFT JOIN information_schema.statistics s
               ON s.table_schema = c.table_schema AND s.table_name = c.table_name
              AND s.column_name = c.column_name AND s.index_name = 'PRIMARY'
             WHERE c.table_schema = COALESCE(?, DATABASE()) AND c.table_name = ? ORDER BY c.ordinal_position",
            vec![schema(), Value::from(table.name.as_str())],
        ),
        Database::Sqlite | Database::Odbc(_) => (
            "SELECT name, type, pk, NOT \"notnull\" FROM pragma_table_info(?, coalesce(?, 'main')) ORDER BY cid",
            vec![Value::from(table.name.as_str()), schema()],
        ),
    }
}

/// Asks for schema and name of every table.
pub(crate) fn tables(database: Database) -> &'static str {
    match database {
        Database::Postgres => {
            "SELECT CASE WHEN n.nspname = current_schema() THEN NULL ELSE n.nspname::text END, c.relname::text
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\\_temp%'
               AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1 NULLS FIRST, 2"
        }
        Database::MySql => {
            "SELECT NULLIF(table_schema, DATABASE()), table_name FROM information_schema.tables
             WHERE table_type = 'BASE TABLE'
               AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1, 2"
        }
        Database::Sqlite | Database::Odbc(_) => {
            "SELECT NULL, name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 2"
        }
    }
}

/// The expression that makes a row's JSON document in a list of `name, value` pairs; `of` stands before each column
/// (`NEW.`). Not for PostgreSQL, which makes documents of whole rows.
pub(crate) fn object(database: Database, columns: &[&Column], of: &str) -> String {
    let pairs = columns.iter().map(|column| {
        let (name, value) = (text(database, &column.name), format!("{of}{}", quote(database, &column.name)));
        let kind = column.kind.to_ascii_lowercase();
        let is = |words: &[&str]| words.iter().any(|word| kind.starts_with(word));
        let value = match database {
            _ if column.charset.is_some() => bytes_of(database, &value),
            Database::MySql if is(&["binary", "varbinary"]) || kind.contains("blob") => {
                format!("CONCAT(CHAR(92 USING utf8mb4), 'x', LOWER(HEX({value})))")
            }
            Database::MySql if is(&["bit"]) => format!("CAST({value} AS UNSIGNED)"),
            Database::MySql if is(&["date", "time"]) => format!("CAST({value} AS CHAR)"),
            Database::MySql if is(&["char", "varchar", "enum", "set"]) || kind.contains("text") => {
                format!("CONVERT({value} USING utf8mb4)")
            }
            Database::MySql if is(&["geometry", "point", "line", "poly", "multi"]) => format!("ST_AsText({value})"),
            Database::Sqlite | Database::Odbc(_) => {
                format!("CASE typeof({value}) WHEN 'blob' THEN char(92) || 'x' || lower(hex({value})) ELSE {value} END")
            }
            Database::MySql | Database::Postgres => value,
        };
        format!("{name}, {value}")
    });
    let pairs = pairs.collect::<Vec<_>>().join(", ");
    match database {
        Database::Sqlite | Database::Odbc(_) => format!("json_object({pairs})"),
        Database::MySql | Database::Postgres => format!("JSON_OBJECT({pairs})"),
    }
}

/// The expression that makes hexadecimal digits of a text's bytes, as they are.
pub(crate) fn bytes_of(database: Database, value: &str) -> String {
    match database {
        // A text without a charset takes any bytes, and gives them back.
        Database::Postgres => format!("'\\x' || encode(convert_to({value}::text, 'SQL_ASCII'), 'hex')"),
        Database::MySql => format!("CONCAT(CHAR(92 USING utf8mb4), 'x', LOWER(HEX({value})))"),
        Database::Sqlite | Database::Odbc(_) => format!(
            "CASE WHEN typeof({value}) IN ('text', 'blob') THEN char(92) || 'x' || lower(hex({value})) ELSE {value} END"
        ),
    }
}

/// A text in SQL. Only names of columns, tables and endpoints come here.
pub(crate) fn text(database: Database, word: &str) -> String {
    let word = if database == Database::MySql { word.replace('\\', "\\\\") } else { word.to_owned() };
    format!("'{}'", word.replace('\'', "''"))
}

/// A parameter that is compared with a column, in the column's own type.
fn parameter(database: Database, kind: &str, number: usize) -> String {
    let lower = kind.to_ascii_lowercase();
    match database {
        Database::Postgres => {
            let kind = if lower == "character" { "bpchar" } else { kind };
            format!("${number}::text::{kind}")
        }
        Database::MySql => {
            let base = lower.split(['(', ' ']).next().unwrap_or_default();
            match base {
                "tinyint" | "smallint" | "mediumint" | "int" | "bigint" if lower.contains("unsigned") => {
                    "CAST(? AS UNSIGNED)".to_owned()
                }
                "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => "CAST(? AS SIGNED)".to_owned(),
                "decimal" => "CAST(? AS DECIMAL(65, 30))".to_owned(),
                "datetime" | "timestamp" => "CAST(? AS DATETIME(6))".to_owned(),
                "date" => "CAST(? AS DATE)".to_owned(),
                "time" => "CAST(? AS TIME(6))".to_owned(),
                "binary" | "varbinary" => "UNHEX(SUBSTR(?, 3))".to_owned(),
                _ => "?".to_owned(),
            }
        }
        Database::Sqlite | Database::Odbc(_) => "?".to_owned(),
    }
}

/// Which rows of a table are asked for.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) table: &'a Described,
    pub(crate) columns: Vec<&'a Column>,
    /// The columns that the rows are sorted by.
    pub(crate) order: Vec<&'a Column>,
    /// Only rows after these values of the first columns of `order`.
    pub(crate) after: &'a [Value],
    /// Only rows with this in a column.
    pub(crate) only: Option<(&'a Column, &'a Value)>,
    /// Only rows in which this column is not empty.
    pub(crate) filled: Option<&'a Column>,
    /// Also tell of each row whether this column is not in the future of the database's clock.
    pub(crate) past: Option<&'a Column>,
    pub(crate) limit: u32,
}

/// Bounds of a column: from a value on, up to another without it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within<'a> {
    pub(crate) column: &'a Column,
    pub(crate) from: Option<&'a str>,
    pub(crate) to: Option<&'a str>,
}

impl Within<'_> {
    /// The terms of a condition, its values added to those that are bound already.
    fn terms(&self, database: Database, query: &mut Query) -> Vec<String> {
        let name = quote(database, &self.column.name);
        let bounds = [(">=", self.from), ("<", self.to)];
        let bounded = bounds.into_iter().filter_map(|(sign, bound)| Some((sign, bound?)));
        let mut terms: Vec<_> = bounded
            .map(|(sign, bound)| {
                let number = query.bind(self.column, bound_value(database, self.column, bound));
                format!("{name} {sign} {}", parameter(database, &self.column.kind, number))
            })
            .collect();
        terms.push(format!("{name} IS NOT NULL"));
        terms
    }
}

/// A bound as it is compared. A column of SQLite may hold anything: what is a number is compared as one, but in a text's column.
fn bound_value(database: Database, column: &Column, bound: &str) -> Value {
    let kind = column.kind.to_ascii_lowercase();
    let is_text = ["char", "clob", "text"].iter().any(|word| kind.contains(word));
    match (database, bound.parse::<i64>()) {
        (Database::Sqlite, Ok(number)) if !is_text => Value::from(number),
        _ => Value::from(bound),
    }
}

impl Page<'_> {
    /// The query: one JSON document a row, and a second text where `past` is asked.
    pub(crate) fn query(&self, database: Database) -> Query {
        self.query_within(database, None)
    }

    /// The same, between bounds.
    pub(crate) fn query_within(&self, database: Database, within: Option<Within<'_>>) -> Query {
        let mut query = Query::default();
        let mut terms = within.map(|within| within.terms(database, &mut query)).unwrap_or_default();
        let name = |column: &Column| quote(database, &column.name);
        let bind = |column: &Column, value: &Value, query: &mut Query| {
            let number = query.bind(column, value.clone());
            parameter(database, &column.kind, number)
        };
        if !self.after.is_empty() {
            // (a, b) > (x, y), spelt out so that an index serves it everywhere.
            let mut ways = Vec::new();
            for at in 0..self.after.len().min(self.order.len()) {
                let mut way = Vec::new();
                for (column, value) in self.order.iter().zip(self.after).take(at) {
                    way.push(format!("{} = {}", name(column), bind(column, value, &mut query)));
                }
                if let (Some(column), Some(value)) = (self.order.get(at), self.after.get(at)) {
                    way.push(format!("{} > {}", name(column), bind(column, value, &mut query)));
                }
                ways.push(format!("({})", way.join(" AND ")));
            }
            // The first column alone bounds all of it: what an index can be entered by.
            if let ([first, ..], [value, ..], true) = (self.order.as_slice(), self.after, self.after.len() > 1) {
                terms.push(format!("{} >= {}", name(first), bind(first, value, &mut query)));
                let bound = terms.pop().unwrap_or_default();
                terms.push(format!("({})", ways.join(" OR ")));
                terms.push(bound);
            } else {
                terms.push(format!("({})", ways.join(" OR ")));
            }
        }
        if let Some((column, value)) = &self.only {
            match value {
                Value::Null => terms.push(format!("{} IS NULL", name(column))),
                value => terms.push(format!("{} = {}", name(column), bind(column, value, &mut query))),
            }
        }
        terms.extend(self.filled.map(|column| format!("{} IS NOT NULL", name(column))));
        let filter = if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) };
        let order = self.order.iter().map(|column| name(column)).collect::<Vec<_>>().join(", ");
        let sorted = if order.is_empty() { String::new() } else { format!(" ORDER BY {order}") };
        let from = named(database, &self.table.table);
        let past = self.past.map(|column| match database {
            Database::Postgres if is_time(column) => {
                format!(", CASE WHEN {} <= now() THEN '1' ELSE '0' END", name(column))
            }
            Database::MySql if is_time(column) => format!(", IF({} <= NOW(6), '1', '0')", name(column)),
            Database::Odbc(dialect) => match is_moment(dialect, column) {
                true => {
                    format!(", CASE WHEN {} <= CURRENT_TIMESTAMP THEN 1 ELSE 0 END AS gatehouse_past", name(column))
                }
                false => ", 1 AS gatehouse_past".to_owned(),
            },
            _ => ", '1'".to_owned(),
        });
        let past = past.unwrap_or_default();
        let limit = self.limit;
        query.sql = match database {
            Database::Postgres => {
                let one = |column: &&Column| match column.charset {
                    None => name(column),
                    Some(_) => format!("{} AS {}", bytes_of(database, &name(column)), name(column)),
                };
                let list = self.columns.iter().map(one).collect::<Vec<_>>().join(", ");
                format!(
                    "SELECT to_jsonb(r)::text{past} FROM (SELECT {list} FROM {from}{filter}{sorted} LIMIT {limit}) r{sorted}"
                )
            }
            Database::MySql | Database::Sqlite => {
                let document = object(database, &self.columns, "");
                format!("SELECT {document}{past} FROM {from}{filter}{sorted} LIMIT {limit}")
            }
            Database::Odbc(dialect) => {
                let list = self.columns.iter().map(|column| name(column)).collect::<Vec<_>>().join(", ");
                dialect.limited(&format!("{list}{past}"), &format!("FROM {from}{filter}{sorted}"), limit)
            }
        };
        query
    }
}

/// Asks for one row in which a column is empty.
pub(crate) fn empty(database: Database, table: &Described, column: &Column) -> String {
    let (from, name) = (named(database, &table.table), quote(database, &column.name));
    match database {
        Database::Odbc(dialect) => dialect.limited("'1' AS found", &format!("FROM {from} WHERE {name} IS NULL"), 1),
        _ => format!("SELECT '1' FROM {from} WHERE {name} IS NULL LIMIT 1"),
    }
}

/// Counts the rows between bounds.
pub(crate) fn count(database: Database, table: &Described, within: Within<'_>) -> Query {
    let mut query = Query::default();
    let filter = within.terms(database, &mut query).join(" AND ");
    let count = if database == Database::Postgres { "count(*)::text" } else { "count(*)" };
    query.sql = format!("SELECT {count} FROM {} WHERE {filter}", named(database, &table.table));
    query
}

/// The least and the largest value of a column, each as the texts that a bound is.
pub(crate) fn span(database: Database, table: &Described, column: &Column) -> String {
    let (from, name) = (named(database, &table.table), quote(database, &column.name));
    match database {
        Database::Postgres => format!("SELECT min({name})::text, max({name})::text FROM {from}"),
        Database::MySql => format!("SELECT CAST(min({name}) AS CHAR), CAST(max({name}) AS CHAR) FROM {from}"),
        Database::Odbc(_) => format!("SELECT min({name}), max({name}) FROM {from}"),
        Database::Sqlite => {
            format!("SELECT min({name}), max({name}), typeof(min({name})) || typeof(max({name})) FROM {from}")
        }
    }
}

/// Whether a column's values sort as whole numbers, by its type alone; SQLite's types promise nothing.
pub(crate) fn is_whole(database: Database, column: &Column) -> bool {
    let kind = column.kind.to_ascii_lowercase();
    let base = kind.split(['(', ' ']).next().unwrap_or_default();
    database != Database::Sqlite
        && matches!(base, "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "year")
}

/// The largest value of a column, as a JSON document with that one field.
pub(crate) fn newest(database: Database, table: &Described, column: &Column) -> Query {
    let (from, name) = (named(database, &table.table), quote(database, &column.name));
    let past = match database {
        Database::Postgres if is_time(column) => format!(" WHERE {name} <= now()"),
        Database::MySql if is_time(column) => format!(" WHERE {name} <= NOW(6)"),
        Database::Odbc(dialect) if is_moment(dialect, column) => format!(" WHERE {name} <= CURRENT_TIMESTAMP"),
        _ => String::new(),
    };
    let newest = format!("SELECT max({name}) AS {name} FROM {from}{past}");
    let sql = match database {
        Database::Postgres => format!("SELECT to_jsonb(r)::text FROM ({newest}) r"),
        Database::MySql | Database::Sqlite => {
            format!("SELECT {} FROM ({newest}) r", object(database, &[column], ""))
        }
        Database::Odbc(_) => newest,
    };
    Query { sql, ..Query::default() }
}

/// Whether a column by ODBC is compared with the database's clock: not a text, and not SQLite's, where every time is one.
fn is_moment(dialect: Dialect, column: &Column) -> bool {
    dialect.like != Some(Like::Sqlite) && column.kind.starts_with("timestamp")
}

fn is_time(column: &Column) -> bool {
    let kind = column.kind.to_ascii_lowercase();
    kind.starts_with("date") || kind.starts_with("timestamp")
}

/// `WHERE` of one row by its key; `first` is the number of its first parameter.
pub(crate) fn by_key(database: Database, key: &[&Column], first: usize) -> String {
    let term = |(at, column): (usize, &&Column)| {
        format!("{} = {}", quote(database, &column.name), parameter(database, &column.kind, first + at))
    };
    key.iter().enumerate().map(term).collect::<Vec<_>>().join(" AND ")
}

/// A parameter that is written into a column.
pub(crate) fn written(database: Database, column: &Column, number: usize) -> String {
    parameter(database, &column.kind, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_by_all_of_the_key() {
        let column =
            |name: &str, kind: &str| Column { name: name.into(), kind: kind.into(), nullable: false, charset: None };
        let described = Described {
            table: Table { schema: Some("销售".into()), name: "or\"ders".into() },
            columns: vec![column("a", "bigint"), column("b", "character varying")],
            key: vec!["a".into(), "b".into()],
        };
        let columns: Vec<_> = described.columns.iter().collect();
        let after = [Value::from(7), Value::from("'; DROP TABLE x --")];
        let page = Page {
            table: &described,
            columns: columns.clone(),
            order: columns,
            after: &after,
            only: None,
            filled: None,
            past: None,
            limit: 10,
        };
        let Query { sql, values, .. } = page.query(Database::Postgres);
        assert_eq!(
            sql,
            "SELECT to_jsonb(r)::text FROM (SELECT \"a\", \"b\" FROM \"销售\".\"or\"\"ders\" WHERE ((\"a\" > $1::text::bigint) OR \
             (\"a\" = $2::text::bigint AND \"b\" > $3::text::character varying)) AND \"a\" >= $4::text::bigint ORDER BY \"a\", \"b\" \
             LIMIT 10) r ORDER BY \"a\", \"b\""
        );
        assert_eq!(values.len(), 4);
        assert!(!sql.contains("DROP"));
        let dialect = Dialect { mark: '`', limit: crate::dialect::RowLimit::Top, like: None };
        let Query { sql, values, kinds } = page.query(Database::Odbc(dialect));
        assert_eq!(
            sql,
            "SELECT TOP 10 `a`, `b` FROM `销售`.`or\"ders` WHERE ((`a` > ?) OR (`a` = ? AND `b` > ?)) AND `a` >= ? ORDER BY `a`, `b`"
        );
        assert_eq!((values.len(), kinds.join(" ")), (4, "bigint bigint character varying bigint".to_owned()));
    }
}
