//! Rows of PostgreSQL's log as the documents that every other way makes of them. The log has each value as the text that its
//! type writes; the server itself reads those texts again and makes the JSON, so that a row says the same whichever way it
//! comes.

use std::collections::HashMap;
use std::sync::Arc;

use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::{Value, json};

use super::super::{Open, Reader, hand, sql};
use super::pgoutput::{Cell, Relation, Tuple};
use crate::file::Database;
use crate::statement::{quote, table as named};

/// A table as it was at some place in the log.
#[derive(Debug)]
pub(super) struct Known {
    /// The name under which it is read; `None` where it is not.
    pub(super) table: Option<String>,
    pub(super) relation: Relation,
    /// Of each column its type in words, and whether it is wanted.
    columns: Vec<(String, bool)>,
}

/// A row, or what of it stands in the log.
pub(super) struct Row {
    pub(super) known: Arc<Known>,
    pub(super) tuple: Tuple,
    /// Only what tells rows apart is there.
    pub(super) identity_only: bool,
}

/// Asks what a table of the log is to us.
pub(super) async fn known(reader: &Reader, relation: Relation) -> Result<Known, Fault> {
    let mut open = None;
    for candidate in reader.tables.iter().filter(|open| open.described.table.name == relation.name) {
        if schema(reader, candidate).await? == relation.schema {
            open = Some(candidate);
        }
    }
    let kinds: Value =
        relation.columns.iter().map(|column| Value::from(i64::from(column.kind))).collect::<Vec<_>>().into();
    // With -1: `character` alone would be one character long.
    let sql = "SELECT CASE WHEN t.oid IS NULL THEN 'text' ELSE format_type(t.oid, -1)::text END
               FROM jsonb_array_elements_text($1::text::jsonb) WITH ORDINALITY AS x(e, n)
               LEFT JOIN pg_type t ON t.oid = x.e::oid ORDER BY n";
    let kinds = reader.source.ask(sql, &[Value::from(kinds.to_string())]).await?;
    let wanted = |name: &str| {
        reader.capture.columns.is_empty()
            || open.is_some_and(|open| open.columns.iter().any(|column| column.name == name))
    };
    let columns = relation.columns.iter().zip(kinds).map(|(column, kind)| {
        (kind.into_iter().next().flatten().unwrap_or_else(|| "text".to_owned()), wanted(&column.name))
    });
    Ok(Known { table: open.map(Open::name), columns: columns.collect(), relation })
}

/// The schema that a table is found in.
async fn schema(reader: &Reader, open: &Open) -> Result<String, Fault> {
    if let Some(schema) = &open.described.table.schema {
        return Ok(schema.clone());
    }
    let sql = "SELECT coalesce((SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                WHERE c.oid = to_regclass($1)), current_schema()::text)";
    let values = [Value::from(named(Database::Postgres, &open.described.table))];
    let rows = reader.source.ask(sql, &values).await?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default())
}

impl Row {
    /// The columns whose values stand here.
    fn present(&self) -> Vec<usize> {
        let columns = self.known.columns.iter().zip(&self.known.relation.columns).zip(&self.tuple).enumerate();
        let there = columns.filter(|(_, (((_, wanted), named), cell))| {
            *wanted && **cell != Cell::Unchanged && (!self.identity_only || named.identity)
        });
        there.map(|(at, _)| at).collect()
    }

    /// The columns that are wanted and do not stand here because they did not change.
    pub(super) fn unchanged(&self) -> Vec<&str> {
        let columns = self.known.columns.iter().zip(&self.known.relation.columns).zip(&self.tuple);
        let missing = columns.filter(|(((_, wanted), _), cell)| *wanted && **cell == Cell::Unchanged);
        missing.map(|((_, named), _)| named.name.as_str()).collect()
    }

    /// Fills in what did not change from the row as it was.
    pub(super) fn fill(&mut self, old: &Tuple) {
        for (cell, old) in self.tuple.iter_mut().zip(old) {
            if *cell == Cell::Unchanged {
                cell.clone_from(old);
            }
        }
    }

    /// The texts of some columns.
    fn texts(&self, present: &[usize]) -> Result<Value, Fault> {
        let text = |at: &usize| match self.tuple.get(*at) {
            Some(Cell::Text(bytes)) => std::str::from_utf8(bytes).map(Value::from).map_err(|_| {
                Fault::new(Code::Malformed, "the row cannot be read: the database holds a text that is not UTF-8")
            }),
            _ => Ok(Value::Null),
        };
        present.iter().map(text).collect::<Result<Vec<_>, _>>().map(Value::List)
    }

    /// The row as a letter shows it that cannot be made a document.
    pub(super) fn raw(&self) -> String {
        let text = |cell: &Cell| match cell {
            Cell::Text(bytes) => Value::from(String::from_utf8_lossy(bytes).into_owned()),
            Cell::Null | Cell::Unchanged => Value::Null,
        };
        let names = self.known.relation.columns.iter().map(|column| column.name.clone());
        names.zip(self.tuple.iter().map(text)).collect::<Value>().to_string()
    }
}

/// The documents of rows, in their order; those of one shape are asked for together.
pub(super) async fn documents(reader: &Reader, rows: &[&Row]) -> Result<Vec<Result<String, Fault>>, Fault> {
    let mut shapes: HashMap<(usize, Vec<usize>), Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        shapes.entry((Arc::as_ptr(&row.known).addr(), row.present())).or_default().push(at);
    }
    let mut made: Vec<Option<Result<String, Fault>>> = rows.iter().map(|_| None).collect();
    for ((_, present), members) in shapes {
        let Some(first) = members.first().and_then(|at| rows.get(*at)) else { continue };
        let sql = question(&first.known, &present);
        let mut asked: Vec<(usize, Value)> = Vec::new();
        for at in members {
            match rows.get(at).map(|row| row.texts(&present)) {
                Some(Ok(texts)) => asked.push((at, texts)),
                Some(Err(fault)) => made.iter_mut().skip(at).take(1).for_each(|slot| *slot = Some(Err(fault.clone()))),
                None => {}
            }
        }
        let all: Vec<Value> = asked.iter().map(|(_, texts)| texts.clone()).collect();
        let answers = match ask(reader, &sql, all).await {
            Ok(documents) => documents.into_iter().map(Ok).collect(),
            Err(fault) if may_pass(&fault) => return Err(fault),
            // One of them cannot be read again: each on its own shows which.
            Err(_) => {
                let mut answers = Vec::new();
                for (_, texts) in &asked {
                    let one = ask(reader, &sql, vec![texts.clone()]).await;
                    answers.push(match one.map(|mut documents| documents.pop()) {
                        Ok(Some(document)) => Ok(document),
                        Ok(None) => Err(Fault::new(Code::Internal, "the database made no document of a row")),
                        Err(fault) if may_pass(&fault) => return Err(fault),
                        Err(fault) => Err(fault),
                    });
                }
                answers
            }
        };
        for ((at, _), answer) in asked.into_iter().zip(answers) {
            made.iter_mut().skip(at).take(1).for_each(|slot| *slot = Some(answer.clone()));
        }
    }
    let none = || Err(Fault::new(Code::Internal, "the database made no document of a row"));
    Ok(made.into_iter().map(|document| document.unwrap_or_else(none)).collect())
}

fn may_pass(fault: &Fault) -> bool {
    matches!(fault.verdict, Verdict::Retry | Verdict::RetryAfter(_))
}

/// The query that makes documents of texts in one shape.
fn question(known: &Known, present: &[usize]) -> String {
    let column = |(place, at): (usize, &usize)| {
        let (kind, name) = (known.columns.get(*at)?, known.relation.columns.get(*at)?);
        Some(format!("(x.e->>{place})::{} AS {}", kind.0, quote(Database::Postgres, &name.name)))
    };
    let columns: Vec<_> = present.iter().enumerate().filter_map(column).collect();
    format!(
        "SELECT (SELECT to_jsonb(r) FROM (SELECT {}) r)::text FROM jsonb_array_elements($1::text::jsonb) WITH ORDINALITY AS x(e, n) ORDER BY x.n",
        columns.join(", ")
    )
}

async fn ask(reader: &Reader, sql: &str, rows: Vec<Value>) -> Result<Vec<String>, Fault> {
    let wanted = rows.len();
    let text = String::from_utf8_lossy(&json::encode(&Value::List(rows))).into_owned();
    let rows = reader.source.ask(sql, &[Value::from(text)]).await?;
    let documents: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    if documents.len() == wanted {
        Ok(documents)
    } else {
        Err(Fault::new(Code::BadAnswer, "rows are missing in an answer"))
    }
}

/// Looks up columns that did not change and so do not stand in the log: the row as it is now, or `None` where it is gone.
pub(super) async fn look_up(
    reader: &Reader,
    open: &Open,
    row: &Value,
    columns: &[&str],
) -> Result<Option<Value>, Fault> {
    let key: Vec<_> = open.key.iter().collect();
    let list: Vec<_> = columns.iter().map(|column| quote(Database::Postgres, column)).collect();
    let sql = format!(
        "SELECT to_jsonb(r)::text FROM (SELECT {} FROM {} WHERE {}) r",
        list.join(", "),
        named(Database::Postgres, &open.described.table),
        sql::by_key(Database::Postgres, &key, 1)
    );
    let rows = match reader.source.ask(&sql, &hand::values(row, &open.key_names())).await {
        Ok(rows) => rows,
        // The column or the table is gone by now.
        Err(fault) if fault.code == Code::Misconfigured => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let document = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    document.map(|document| hand::decode(&document)).transpose()
}

/// A row with more fields, in the order that the database gives them: by length, then by bytes.
pub(super) fn together(row: Value, more: Value) -> Value {
    let (Value::Map(row), Value::Map(more)) = (row, more) else { return Value::Null };
    let mut fields: Vec<_> = row.into_iter().chain(more).collect();
    fields.sort_by(|(one, _), (other, _)| (one.len(), one.as_bytes()).cmp(&(other.len(), other.as_bytes())));
    fields.into_iter().collect()
}
