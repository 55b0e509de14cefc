//! What one delivery writes: rows with their values, computed before any connection is taken.

use std::borrow::Cow;

use gatehouse_core::Value;
use gatehouse_core::adapter::Call;
use gatehouse_core::expr::{Expression, Scope};
use gatehouse_core::fault::{Code, Fault, Violation};

use crate::charsets::encode;
use crate::file::{Mode, Shape, Table, Write, is_identifier};
use crate::lines::Lines;

/// The most rows of one delivery.
pub(crate) const MAX_ROWS: usize = 10_000;

/// One delivery's work.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) delivery_id: String,
    pub(crate) message_id: String,
    pub(crate) rows: Vec<Row>,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) mode: Mode,
    /// The columns of the unique key; none for an insert.
    pub(crate) key: Vec<String>,
    pub(crate) columns: Vec<(String, Value)>,
    /// The bytes of columns whose texts are in a charset that the database does not know.
    pub(crate) raw: Vec<(String, Option<Vec<u8>>)>,
}

impl Row {
    /// The bytes that are written into a column, where they are not the database's to make.
    pub(crate) fn raw(&self, column: &str) -> Option<&Option<Vec<u8>>> {
        self.raw.iter().find(|(name, _)| name == column).map(|(_, bytes)| bytes)
    }

    /// What a statement is given for a column: its value, or the digits of which the statement makes its bytes.
    pub(crate) fn given<'a>(&self, column: &str, value: &'a Value) -> Cow<'a, Value> {
        match self.raw(column) {
            Some(bytes) => Cow::Owned(bytes.as_ref().map_or(Value::Null, |bytes| Value::from(hex::encode(bytes)))),
            None => Cow::Borrowed(value),
        }
    }
}

/// What all rows of a call see beside their own body.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    message_id: &'a str,
    message: Value,
    whole: Option<&'a Value>,
}

impl<'a> Context<'a> {
    /// Of a call; `whole` is the body around the rows, where one delivery brings many.
    pub(crate) fn new(write: &Write, call: &Call<'a>, whole: Option<&'a Value>) -> Self {
        // With all of its data: made only where an expression may look at it.
        let message = if write.names_message() { call.message.to_value(call.attempt) } else { Value::Null };
        Self { message_id: &call.message.id, message, whole }
    }
}

impl Work {
    /// Computes every row.
    ///
    /// # Errors
    /// `Invalid` with the column that cannot be computed, or that is no single value.
    pub(crate) fn plan(write: &Write, body: &Value, delivery_id: &str, context: &Context<'_>) -> Result<Self, Fault> {
        let id = Value::from(delivery_id);
        let scope = || {
            let scope = Scope::new().with("body", body).with("message", &context.message).with("delivery_id", &id);
            match context.whole {
                Some(whole) => scope.with("whole", whole),
                None => scope,
            }
        };
        let gone = match &write.delete_when {
            None => false,
            Some(when) => when.test(&scope()).map_err(|reason| {
                Fault::new(Code::Invalid, format!("the condition `{}` cannot be judged: {reason}", when.text()))
            })?,
        };
        let mode = if gone { Mode::Delete } else { write.row.mode };
        let mut rows = vec![row(&write.row, mode, body, &scope())?];
        if let Some(replace) = write.lines.as_ref().and_then(|lines| lines.replace.as_ref()) {
            rows.push(row(replace, Mode::Delete, body, &scope())?);
        }
        if let Some(Lines { from: path, shape, .. }) = write.lines.as_ref().filter(|_| mode != Mode::Delete) {
            let list = match path.find(body) {
                None | Some(Value::Null) => &[],
                Some(Value::List(list)) => list.as_slice(),
                Some(one) => std::slice::from_ref(one),
            };
            if list.len() > MAX_ROWS {
                return Err(Fault::new(
                    Code::TooLarge,
                    format!("`{path}` has {} lines; one delivery writes at most {MAX_ROWS}", list.len()),
                ));
            }
            for (index, line) in list.iter().enumerate() {
                let index = Value::from(i64::try_from(index + 1).unwrap_or(i64::MAX));
                rows.push(row(shape, shape.mode, line, &scope().with("line", line).with("index", &index))?);
            }
        }
        Ok(Self { delivery_id: delivery_id.to_owned(), message_id: context.message_id.to_owned(), rows })
    }
}

fn row(shape: &Shape, mode: Mode, fields: &Value, scope: &Scope<'_>) -> Result<Row, Fault> {
    let bad = |column: &str, reason: String| {
        let violation = Violation { pointer: format!("{}.{column}", shape.table), message: reason.clone() };
        Fault::new(Code::Invalid, format!("column `{column}` of `{}`: {reason}", shape.table))
            .violations(vec![violation])
    };
    let computed = |(column, expression): &(String, Expression)| {
        let value =
            expression.eval(scope).map_err(|reason| bad(column, format!("`{}`: {reason}", expression.text())))?;
        Ok((column.clone(), value))
    };
    // To delete a row takes its key; what else there would be may not even be said.
    let wanted = |name: &str| mode != Mode::Delete || shape.key.iter().any(|key| key == name);
    let columns: Vec<(String, Value)> = if shape.columns.is_empty() {
        let fields = fields
            .as_map()
            .ok_or_else(|| bad("*", format!("it is {}, not an object with a field for each column", fields.kind())))?;
        fields.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.to_string(), value.clone())).collect()
    } else {
        shape.columns.iter().filter(|(name, _)| wanted(name)).map(computed).collect::<Result<_, Fault>>()?
    };
    if columns.is_empty() {
        return Err(bad("*", "there is nothing to write".to_owned()));
    }
    for (column, value) in &columns {
        if !is_identifier(column) {
            return Err(bad(column, "this cannot be a column's name".to_owned()));
        }
        if matches!(value, Value::List(_) | Value::Map(_)) {
            return Err(bad(
                column,
                format!(
                    "it is {}, and a column holds one value; map it to one, or write a list with `lines`",
                    value.kind()
                ),
            ));
        }
        if value.as_text().is_some_and(|text| text.contains('\0')) {
            return Err(bad(column, "the text holds a NUL, which no database text can".to_owned()));
        }
    }
    for key in &shape.key {
        let there = columns.iter().any(|(column, value)| column == key && *value != Value::Null);
        if !there && mode != Mode::Insert {
            return Err(bad(key, "it is part of the key and is empty".to_owned()));
        }
    }
    let mut raw = Vec::new();
    for (column, label) in &shape.charsets {
        let Some((_, value)) = columns.iter().find(|(name, _)| name == column) else { continue };
        let bytes = value.to_plain_text().map(|text| encode(&text, label)).transpose();
        raw.push((column.clone(), bytes.map_err(|reason| bad(column, reason))?));
    }
    Ok(Row { table: shape.table.clone(), mode, key: shape.key.clone(), columns, raw })
}
