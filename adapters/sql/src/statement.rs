//! The SQL of a row, for each database. Identifiers are always quoted, values always bound.

use std::collections::HashSet;

use gatehouse_core::Value;

use crate::dialect::Dialect;
use crate::file::{Database, Mode, Table};
use crate::work::Row;

/// Types of PostgreSQL whose names a table may well have.
const TYPES: [&str; 20] = [
    "box",
    "bit",
    "circle",
    "date",
    "inet",
    "interval",
    "json",
    "line",
    "lseg",
    "money",
    "name",
    "numeric",
    "path",
    "point",
    "polygon",
    "text",
    "time",
    "timestamp",
    "uuid",
    "xml",
];

/// An identifier, quoted.
pub(crate) fn quote(database: Database, word: &str) -> String {
    match database {
        Database::MySql => format!("`{}`", word.replace('`', "``")),
        Database::Postgres | Database::Sqlite => format!("\"{}\"", word.replace('"', "\"\"")),
        Database::Odbc(Dialect { mark, .. }) => {
            format!("{mark}{}{mark}", word.replace(mark, &format!("{mark}{mark}")))
        }
    }
}

/// A table, quoted.
pub(crate) fn table(database: Database, table: &Table) -> String {
    let name = quote(database, &table.name);
    match &table.schema {
        Some(schema) => format!("{}.{name}", quote(database, schema)),
        None => name,
    }
}

/// The values of a row in the order of [`write`]'s parameters. PostgreSQL takes them all as one document.
pub(crate) fn bound(row: &Row) -> Vec<&(String, Value)> {
    let is_key = |column: &&(String, Value)| row.key.contains(&column.0);
    match row.mode {
        Mode::Insert | Mode::Upsert => row.columns.iter().collect(),
        Mode::Update => {
            row.columns.iter().filter(|column| !is_key(column)).chain(row.columns.iter().filter(is_key)).collect()
        }
        Mode::Delete => row.columns.iter().filter(is_key).collect(),
    }
}

/// Rows that one statement writes: those that follow each other and are of one shape. PostgreSQL does not take a key twice in
/// one upsert.
pub(crate) fn runs<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Vec<&'a Row>> {
    let mut runs: Vec<Vec<&Row>> = Vec::new();
    let mut keys = HashSet::new();
    for row in rows {
        let fits = runs.last().and_then(|run| run.first()).is_some_and(|first| {
            matches!(row.mode, Mode::Insert | Mode::Upsert)
                && (row.mode, &row.table, &row.key) == (first.mode, &first.table, &first.key)
                && row.columns.iter().map(|(name, _)| name).eq(first.columns.iter().map(|(name, _)| name))
        });
        let key: Vec<_> =
            row.columns.iter().filter(|(name, _)| row.key.contains(name)).map(|(_, value)| value.to_string()).collect();
        if !fits {
            keys.clear();
        }
        let again = row.mode == Mode::Upsert && !keys.insert(key.clone());
        match runs.last_mut().filter(|_| fits && !again) {
            Some(run) => run.push(row),
            None => {
                keys = HashSet::from([key]);
                runs.push(vec![row]);
            }
        }
    }
    runs
}

/// The statement that writes `count` rows like this one; more than one only of inserts and upserts. PostgreSQL takes the rows
/// as one JSON parameter, so that every column's type does its own reading and no digit is lost; the others take one
/// parameter a column, as [`bound`] orders them.
pub(crate) fn write(database: Database, row: &Row, count: usize) -> String {
    let into = table(database, &row.table);
    let named = |key: bool| {
        let columns = row.columns.iter().filter(move |(column, _)| row.key.contains(column) == key);
        columns.map(|(column, _)| quote(database, column)).collect::<Vec<_>>()
    };
    let (key, rest) = (named(true), named(false));
    // A table may be named as a type that PostgreSQL has itself; then only a query finds the table's.
    let shape = if row.table.schema.is_none() && TYPES.contains(&row.table.name.as_str()) {
        format!("(SELECT t FROM {into} AS t LIMIT 0)")
    } else {
        format!("NULL::{into}")
    };
    let (many, raw) = (matches!(row.mode, Mode::Insert | Mode::Upsert), !row.raw.is_empty());
    let from = match (many, raw) {
        (true, false) => format!("jsonb_populate_recordset({shape}, $1::text::jsonb) AS r"),
        (false, false) => format!("jsonb_populate_record({shape}, $1::text::jsonb) AS r"),
        // Digits of bytes are longer than a column may be: they go beside its row.
        (_, true) => {
            let documents = if many { "jsonb_array_elements($1::text::jsonb)" } else { "(SELECT $1::text::jsonb)" };
            let without = row.raw.iter().map(|(column, _)| format!(" - {}", literal(column))).collect::<String>();
            format!("{documents} AS d (d) CROSS JOIN LATERAL jsonb_populate_record({shape}, d.d{without}) AS r")
        }
    };
    // What stands for a column's value.
    let value = |column: &str| match (database, row.raw(column).is_some()) {
        (Database::Postgres, true) => {
            format!("convert_from(decode(d.d ->> {}, 'hex'), 'SQL_ASCII')", literal(column))
        }
        (Database::Postgres, false) => format!("r.{}", quote(database, column)),
        (Database::MySql, true) => "UNHEX(?)".to_owned(),
        (Database::Sqlite, true) => "CAST(? AS TEXT)".to_owned(),
        _ => "?".to_owned(),
    };
    match row.mode {
        Mode::Insert | Mode::Upsert => {
            let names: Vec<_> = row.columns.iter().map(|(column, _)| quote(database, column)).collect();
            let list = names.join(", ");
            let mut sql = match database {
                Database::Postgres => {
                    let values = row.columns.iter().map(|(column, _)| value(column)).collect::<Vec<_>>().join(", ");
                    format!("INSERT INTO {into} ({list}) SELECT {values} FROM {from}")
                }
                Database::MySql | Database::Sqlite | Database::Odbc(_) => {
                    let places = row.columns.iter().map(|(column, _)| value(column)).collect::<Vec<_>>();
                    let one = format!("({})", places.join(", "));
                    format!("INSERT INTO {into} ({list}) VALUES {}", vec![one; count].join(", "))
                }
            };
            if row.mode == Mode::Upsert {
                sql.push_str(&conflict(database, &key, &rest));
            }
            sql
        }
        Mode::Update => {
            // Without another column it only asks whether the row is there.
            let is = |key: bool, alias: &str, joint: &str| {
                let columns = row.columns.iter().filter(|(column, _)| row.key.contains(column) == key);
                let one = |column: &str| format!("{alias}{} = {}", quote(database, column), value(column));
                columns.map(|(column, _)| one(column)).collect::<Vec<_>>().join(joint)
            };
            match (database, rest.is_empty()) {
                (Database::Postgres, alone) => {
                    format!(
                        "UPDATE {into} AS w SET {} FROM {from} WHERE {}",
                        is(alone, "", ", "),
                        is(true, "w.", " AND ")
                    )
                }
                (_, false) => format!("UPDATE {into} SET {} WHERE {}", is(false, "", ", "), is(true, "", " AND ")),
                (_, true) => {
                    let same = key.iter().map(|name| format!("{name} = {name}")).collect::<Vec<_>>().join(", ");
                    format!("UPDATE {into} SET {same} WHERE {}", is(true, "", " AND "))
                }
            }
        }
        Mode::Delete => match database {
            Database::Postgres => {
                let found = key.iter().map(|name| format!("w.{name} = r.{name}")).collect::<Vec<_>>().join(" AND ");
                format!("DELETE FROM {into} AS w USING {from} WHERE {found}")
            }
            Database::MySql | Database::Sqlite | Database::Odbc(_) => {
                let found = key.iter().map(|name| format!("{name} = ?")).collect::<Vec<_>>().join(" AND ");
                format!("DELETE FROM {into} WHERE {found}")
            }
        },
    }
}

/// A name as a text in SQL.
fn literal(word: &str) -> String {
    format!("'{}'", word.replace('\'', "''"))
}

/// PostgreSQL's query that reads one column of a row's document as the table's own type, and does nothing else.
pub(crate) fn reads(row: &Row, column: &str) -> String {
    let name = quote(Database::Postgres, column);
    let into = table(Database::Postgres, &row.table);
    format!("SELECT r.{name} FROM jsonb_populate_record((SELECT t FROM {into} AS t LIMIT 0), $1::text::jsonb) AS r")
}

/// What an upsert does where the row is there.
fn conflict(database: Database, key: &[String], rest: &[String]) -> String {
    match database {
        Database::Postgres | Database::Sqlite | Database::Odbc(_) => {
            let set = rest.iter().map(|name| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ");
            let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
            format!(" ON CONFLICT ({}) DO {action}", key.join(", "))
        }
        Database::MySql => {
            // Without another column the key is set to itself: nothing changes, and nothing fails.
            let names = if rest.is_empty() { key } else { rest };
            let set = names.iter().map(|name| format!("{name} = VALUES({name})")).collect::<Vec<_>>().join(", ");
            format!(" ON DUPLICATE KEY UPDATE {set}")
        }
    }
}

/// The statement that makes the inbox table.
pub(crate) fn create_inbox(database: Database, inbox: &Table) -> String {
    let name = table(database, inbox);
    let (id, text, time) = match database {
        Database::Postgres => ("text", "text", "timestamptz NOT NULL DEFAULT now()"),
        Database::MySql => {
            ("varchar(64) CHARACTER SET ascii", "varchar(255)", "timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)")
        }
        Database::Odbc(_) => ("varchar(64) NOT NULL", "varchar(255)", "timestamp DEFAULT CURRENT_TIMESTAMP NOT NULL"),
        Database::Sqlite => ("text", "text", "text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))"),
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {name} (delivery_id {id} PRIMARY KEY, message_id {text} NOT NULL, received_at {time})"
    )
}

/// The statement that enters `count` deliveries; it changes nothing where a delivery has been entered before. PostgreSQL takes
/// two lists, and answers with the ids that are new.
pub(crate) fn enter(database: Database, inbox: &Table, count: usize) -> String {
    let name = table(database, inbox);
    let values = vec!["(?, ?)"; count].join(", ");
    match database {
        Database::Postgres => format!(
            "INSERT INTO {name} (delivery_id, message_id) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT (delivery_id) DO NOTHING RETURNING delivery_id"
        ),
        Database::MySql => format!("INSERT IGNORE INTO {name} (delivery_id, message_id) VALUES {values}"),
        Database::Sqlite | Database::Odbc(_) => {
            format!("INSERT OR IGNORE INTO {name} (delivery_id, message_id) VALUES {values}")
        }
    }
}

/// The query that tells which of `count` deliveries have been entered. PostgreSQL takes a list.
pub(crate) fn entered(database: Database, inbox: &Table, count: usize) -> String {
    let found = match database {
        Database::Postgres => "= ANY($1::text[])".to_owned(),
        Database::MySql | Database::Sqlite | Database::Odbc(_) => format!("IN ({})", vec!["?"; count].join(", ")),
    };
    format!("SELECT delivery_id FROM {} WHERE delivery_id {found}", table(database, inbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_and_values_bound() {
        let row = Row {
            table: Table { schema: Some("ar".to_owned()), name: "收款".to_owned() },
            mode: Mode::Upsert,
            key: vec!["no".to_owned()],
            columns: vec![("no".to_owned(), Value::from("'; DROP TABLE x")), ("amount".to_owned(), Value::Null)],
            raw: Vec::new(),
        };
        assert_eq!(
            write(Database::Sqlite, &row, 1),
            "INSERT INTO \"ar\".\"收款\" (\"no\", \"amount\") VALUES (?, ?) ON CONFLICT (\"no\") DO UPDATE SET \"amount\" = excluded.\"amount\""
        );
        assert!(
            write(Database::MySql, &row, 1)
                .ends_with("VALUES (?, ?) ON DUPLICATE KEY UPDATE `amount` = VALUES(`amount`)")
        );
        assert!(
            write(Database::Postgres, &row, 1)
                .contains("jsonb_populate_recordset(NULL::\"ar\".\"收款\", $1::text::jsonb)")
        );
        assert_eq!(quote(Database::MySql, "a`b"), "`a``b`");
        let row = Row { mode: Mode::Update, ..row };
        assert_eq!(write(Database::Sqlite, &row, 1), "UPDATE \"ar\".\"收款\" SET \"amount\" = ? WHERE \"no\" = ?");
        assert_eq!(bound(&row).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["amount", "no"]);
        let raw = Row { raw: vec![("amount".to_owned(), Some(vec![0xd5, 0xc5]))], ..row };
        assert_eq!(write(Database::MySql, &raw, 1), "UPDATE `ar`.`收款` SET `amount` = UNHEX(?) WHERE `no` = ?");
        assert_eq!(
            write(Database::Postgres, &raw, 1),
            "UPDATE \"ar\".\"收款\" AS w SET \"amount\" = convert_from(decode(d.d ->> 'amount', 'hex'), 'SQL_ASCII') \
             FROM (SELECT $1::text::jsonb) AS d (d) CROSS JOIN LATERAL jsonb_populate_record(NULL::\"ar\".\"收款\", d.d - 'amount') AS r \
             WHERE w.\"no\" = r.\"no\""
        );
        let row = Row { mode: Mode::Delete, raw: Vec::new(), ..raw };
        assert_eq!(write(Database::MySql, &row, 1), "DELETE FROM `ar`.`收款` WHERE `no` = ?");
        assert_eq!(bound(&row).len(), 1);
    }

    #[test]
    fn rows_of_one_shape_go_together_and_a_key_only_once() {
        let row = |table: &str, mode, no: &str| Row {
            table: Table { schema: None, name: table.to_owned() },
            mode,
            key: if mode == Mode::Insert { Vec::new() } else { vec!["no".to_owned()] },
            columns: vec![("no".to_owned(), Value::from(no)), ("x".to_owned(), Value::from(1))],
            raw: Vec::new(),
        };
        let rows = [
            row("a", Mode::Upsert, "1"),
            row("a", Mode::Upsert, "2"),
            row("a", Mode::Upsert, "1"),
            row("b", Mode::Insert, "1"),
            row("b", Mode::Insert, "1"),
            row("b", Mode::Update, "1"),
            row("b", Mode::Update, "2"),
        ];
        let runs: Vec<_> = runs(rows.iter()).iter().map(Vec::len).collect();
        assert_eq!(runs, [2, 1, 2, 1, 1]);
        let two = write(Database::MySql, &rows[3], 2);
        assert_eq!(two, "INSERT INTO `b` (`no`, `x`) VALUES (?, ?), (?, ?)");
    }
}
