//! What a database's catalogue says of a table that is written to: its columns and what they hold, and by which columns its
//! rows are told apart.

use gatehouse_core::Value;
use gatehouse_core::fault::Fault;

use super::kind::Kind;
use crate::capture::source::{Source, Texts};
use crate::file::{Database, Table};
use crate::statement;

/// A table as it is.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) columns: Vec<Column>,
    /// The columns of each unique index that counts for every row; `None` where the database does not tell.
    pub(crate) unique: Option<Vec<Vec<String>>>,
}

/// A column as it is.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type, as the database writes it: `varchar(40)`.
    pub(crate) text: String,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// Where nothing is written, it has a value all the same: a default, a counter.
    pub(crate) filled: bool,
    /// It is computed, and cannot be written.
    pub(crate) computed: bool,
}

impl Live {
    /// A column; databases do not tell small letters from large ones in most names.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        let same = self.columns.iter().find(|column| column.name == name);
        same.or_else(|| self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)))
    }
}

/// Whether two lists name the same columns, in whatever order.
pub(crate) fn same_columns(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|name| b.iter().any(|other| other.eq_ignore_ascii_case(name)))
}

/// Looks at a table; `None` where it is not there.
pub(crate) async fn look(source: &dyn Source, database: Database, table: &Table) -> Result<Option<Live>, Fault> {
    if database.is_odbc() {
        return Ok(source.described(table).await?.map(|(live, _)| live));
    }
    let values = match database {
        Database::Postgres => vec![Value::from(statement::table(database, table))],
        Database::MySql | Database::Sqlite | Database::Odbc(_) => {
            vec![table.schema.as_deref().map_or(Value::Null, Value::from), Value::from(table.name.as_str())]
        }
    };
    let rows = source.ask(columns(database), &values).await?;
    let column = |row: Texts| {
        let [name, text, nullable, filled, computed] = <[Option<String>; 5]>::try_from(row).ok()?;
        let (text, is) = (text?, |flag: Option<String>| flag.as_deref() == Some("1"));
        let kind = Kind::parse(database, &text);
        Some(Column { name: name?, kind, text, nullable: is(nullable), filled: is(filled), computed: is(computed) })
    };
    let columns: Vec<_> = rows.into_iter().filter_map(column).collect();
    if columns.is_empty() {
        return Ok(None);
    }
    let mut unique: Vec<(String, Vec<Option<String>>)> = Vec::new();
    for row in source.ask(indexes(database), &values).await? {
        let Ok([Some(index), column]) = <[Option<String>; 2]>::try_from(row) else { continue };
        match unique.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => unique.push((index, vec![column])),
        }
    }
    // An index with an expression in it is unique by more than columns.
    let unique = unique.into_iter().filter_map(|(_, columns)| columns.into_iter().collect()).collect();
    Ok(Some(Live { columns, unique: Some(unique) }))
}

/// Asks for name, type, and whether it may be empty, is filled by itself, is computed, of each column.
fn columns(database: Database) -> &'static str {
    match database {
        Database::Postgres => {
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)::text, CASE WHEN a.attnotnull THEN '0' ELSE '1' END,
                    CASE WHEN a.atthasdef OR a.attidentity <> '' THEN '1' ELSE '0' END,
                    CASE WHEN a.attgenerated <> '' OR a.attidentity = 'a' THEN '1' ELSE '0' END
             FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        }
        Database::MySql => {
            "SELECT column_name, column_type, IF(is_nullable = 'YES', '1', '0'),
                    IF(column_default IS NOT NULL OR extra LIKE '%auto_increment%', '1', '0'),
                    IF(COALESCE(generation_expression, '') <> '', '1', '0')
             FROM information_schema.columns
             WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? ORDER BY ordinal_position"
        }
        Database::Sqlite | Database::Odbc(_) => {
            "SELECT name, type, CASE WHEN \"notnull\" = 0 AND pk = 0 THEN '1' ELSE '0' END,
                    CASE WHEN dflt_value IS NOT NULL OR (pk = 1 AND upper(type) = 'INTEGER') THEN '1' ELSE '0' END,
                    CASE WHEN hidden IN (2, 3) THEN '1' ELSE '0' END
             FROM pragma_table_xinfo(?2, coalesce(?1, 'main')) WHERE hidden <> 1 ORDER BY cid"
        }
    }
}

/// Asks for name and column of each unique index, the columns of one behind one another.
fn indexes(database: Database) -> &'static str {
    match database {
        Database::Postgres => {
            "SELECT i.indexrelid::text, a.attname::text
             FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (num, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
             WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
               AND i.indexprs IS NULL AND k.place <= i.indnkeyatts ORDER BY 1, k.place"
        }
        Database::MySql => {
            "SELECT index_name, column_name FROM information_schema.statistics
             WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0 ORDER BY 1, seq_in_index"
        }
        Database::Sqlite | Database::Odbc(_) => {
            "SELECT l.name, c.name FROM pragma_index_list(?2, coalesce(?1, 'main')) l
               JOIN pragma_index_info(l.name, coalesce(?1, 'main')) c WHERE l.\"unique\" = 1 AND l.partial = 0
             UNION ALL SELECT '', name FROM pragma_table_info(?2, coalesce(?1, 'main')) WHERE pk > 0 ORDER BY 1"
        }
    }
}
