//! The SQL of a row, for each database. Identifiers are always quoted, values always bound.

use crate::file::{Database, Table};
use crate::work::Row;

/// An identifier, quoted.
pub(crate) fn quote(database: Database, word: &str) -> String {
    match database {
        Database::MySql => format!("`{}`", word.replace('`', "``")),
        Database::Postgres | Database::Sqlite => format!("\"{}\"", word.replace('"', "\"\"")),
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

/// The statement that writes a row. PostgreSQL takes the row as one JSON parameter, so that every column's type does its
/// own reading and no digit is lost; the others take one parameter a column.
pub(crate) fn write(database: Database, row: &Row) -> String {
    let into = table(database, &row.table);
    let names: Vec<_> = row.columns.iter().map(|(column, _)| quote(database, column)).collect();
    let list = names.join(", ");
    let mut sql = match database {
        Database::Postgres => {
            let from = names.iter().map(|name| format!("r.{name}")).collect::<Vec<_>>().join(", ");
            format!(
                "INSERT INTO {into} ({list}) SELECT {from} FROM jsonb_populate_record(NULL::{into}, $1::text::jsonb) AS r"
            )
        }
        Database::MySql | Database::Sqlite => {
            format!("INSERT INTO {into} ({list}) VALUES ({})", vec!["?"; names.len()].join(", "))
        }
    };
    let Some(key) = &row.key else { return sql };
    let rest: Vec<_> = row
        .columns
        .iter()
        .filter(|(column, _)| !key.contains(column))
        .map(|(column, _)| quote(database, column))
        .collect();
    match database {
        Database::Postgres | Database::Sqlite => {
            let key = key.iter().map(|column| quote(database, column)).collect::<Vec<_>>().join(", ");
            let set = rest.iter().map(|name| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ");
            let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
            sql.push_str(&format!(" ON CONFLICT ({key}) DO {action}"));
        }
        Database::MySql => {
            // Without another column the key is set to itself: nothing changes, and nothing fails.
            let rest = if rest.is_empty() { key.iter().map(|column| quote(database, column)).collect() } else { rest };
            let set = rest.iter().map(|name| format!("{name} = VALUES({name})")).collect::<Vec<_>>().join(", ");
            sql.push_str(&format!(" ON DUPLICATE KEY UPDATE {set}"));
        }
    }
    sql
}

/// The statement that makes the inbox table.
pub(crate) fn create_inbox(database: Database, inbox: &Table) -> String {
    let name = table(database, inbox);
    let (id, text, time) = match database {
        Database::Postgres => ("text", "text", "timestamptz NOT NULL DEFAULT now()"),
        Database::MySql => {
            ("varchar(64) CHARACTER SET ascii", "varchar(255)", "timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)")
        }
        Database::Sqlite => ("text", "text", "text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))"),
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {name} (delivery_id {id} PRIMARY KEY, message_id {text} NOT NULL, received_at {time})"
    )
}

/// The statement that enters a delivery; it changes nothing where the delivery has been entered before.
pub(crate) fn enter(database: Database, inbox: &Table) -> String {
    let name = table(database, inbox);
    match database {
        Database::Postgres => {
            format!("INSERT INTO {name} (delivery_id, message_id) VALUES ($1, $2) ON CONFLICT (delivery_id) DO NOTHING")
        }
        Database::MySql => format!("INSERT IGNORE INTO {name} (delivery_id, message_id) VALUES (?, ?)"),
        Database::Sqlite => format!("INSERT OR IGNORE INTO {name} (delivery_id, message_id) VALUES (?, ?)"),
    }
}

/// The query that tells whether a delivery has been entered.
pub(crate) fn entered(database: Database, inbox: &Table) -> String {
    let parameter = if database == Database::Postgres { "$1" } else { "?" };
    format!("SELECT 1 FROM {} WHERE delivery_id = {parameter}", table(database, inbox))
}

#[cfg(test)]
mod tests {
    use gatehouse_core::Value;

    use super::*;

    #[test]
    fn identifiers_are_quoted_and_values_bound() {
        let row = Row {
            table: Table { schema: Some("ar".to_owned()), name: "收款".to_owned() },
            key: Some(vec!["no".to_owned()]),
            columns: vec![("no".to_owned(), Value::from("'; DROP TABLE x")), ("amount".to_owned(), Value::Null)],
        };
        assert_eq!(
            write(Database::Sqlite, &row),
            "INSERT INTO \"ar\".\"收款\" (\"no\", \"amount\") VALUES (?, ?) ON CONFLICT (\"no\") DO UPDATE SET \"amount\" = excluded.\"amount\""
        );
        assert!(
            write(Database::MySql, &row).ends_with("VALUES (?, ?) ON DUPLICATE KEY UPDATE `amount` = VALUES(`amount`)")
        );
        assert!(
            write(Database::Postgres, &row).contains("jsonb_populate_record(NULL::\"ar\".\"收款\", $1::text::jsonb)")
        );
        assert_eq!(quote(Database::MySql, "a`b"), "`a``b`");
    }
}
