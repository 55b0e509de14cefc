//! The documents of a binlog's rows: their values by name, those among them that the server makes asked for many at a time. A row
//! with a value that cannot be read does not keep the others.

use std::sync::Arc;

use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::{Value, json};

use super::super::change::Read;
use super::super::{Reader, hand};
use super::cells::{Cell, Cells, Shape};

/// How many values the server is asked for at once.
const ASKED: usize = 500;

/// A row; or what stands in the log of one that cannot be read, and why.
pub(super) type Document = Result<Read, (String, Fault)>;

/// The documents of rows, in their order.
///
/// # Errors
/// What is no row's own: a lost connection.
pub(super) async fn documents(reader: &Reader, rows: &[(&Arc<Shape>, &Cells)]) -> Result<Vec<Document>, Fault> {
    let asked: Vec<_> = rows
        .iter()
        .flat_map(|(_, cells)| cells.iter())
        .filter_map(|cell| if let Cell::Ask(expression, value) = cell { Some((expression, value)) } else { None })
        .collect();
    let mut answers = Vec::with_capacity(asked.len());
    for some in asked.chunks(ASKED) {
        match ask(reader, some).await {
            Ok(list) => answers.extend(list.into_iter().map(Ok)),
            // One of them is wrong.
            Err(fault) if is_its_own(&fault) => {
                for one in some.chunks(1) {
                    match ask(reader, one).await {
                        Ok(list) => answers.extend(list.into_iter().map(Ok)),
                        Err(fault) if is_its_own(&fault) => answers.push(Err(fault)),
                        Err(fault) => return Err(fault),
                    }
                }
            }
            Err(fault) => return Err(fault),
        }
    }
    let mut answers = answers.into_iter();
    Ok(rows.iter().map(|(shape, cells)| document(shape, cells, &mut answers)).collect())
}

/// Whether a fault is of a value, and not of the server.
fn is_its_own(fault: &Fault) -> bool {
    fault.verdict == Verdict::Reject && fault.code != Code::Misconfigured
}

/// What the server makes of values.
async fn ask(reader: &Reader, asked: &[(&String, &String)]) -> Result<Vec<Value>, Fault> {
    let expressions: Vec<_> = asked.iter().map(|(expression, _)| expression.as_str()).collect();
    let values: Vec<_> = asked.iter().map(|(_, value)| Value::from(value.as_str())).collect();
    let sql = format!("SELECT JSON_ARRAY({})", expressions.join(", "));
    let answer = reader.source.ask(&sql, &values).await?;
    let answer = answer.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    match hand::decode(&answer.unwrap_or_default())? {
        Value::List(list) if list.len() == asked.len() => Ok(list),
        _ => Err(Fault::new(Code::BadAnswer, "values are missing in an answer")),
    }
}

fn document(shape: &Shape, cells: &Cells, answers: &mut impl Iterator<Item = Result<Value, Fault>>) -> Document {
    let (mut names, mut fields, mut bad) = (shape.names().cloned(), Vec::with_capacity(cells.len()), None);
    for cell in cells {
        let value = match cell {
            Cell::Made(value) => value.clone(),
            Cell::Ask(_, given) => match answers.next() {
                Some(Ok(value)) => value,
                Some(Err(fault)) => {
                    bad.get_or_insert(fault);
                    Value::from(given.as_str())
                }
                None => Value::Null,
            },
            Cell::Bad(there, fault) => {
                bad.get_or_insert_with(|| fault.as_ref().clone());
                Value::from(there.as_str())
            }
        };
        // The one behind which nothing is known may be of a column that is not read.
        fields.extend(names.next().map(|name| (name, value)));
    }
    let row: Value = fields.into_iter().collect();
    let text = String::from_utf8_lossy(&json::encode(&row)).into_owned();
    match bad {
        None => Ok((row, text)),
        Some(fault) => Err((text, fault)),
    }
}
