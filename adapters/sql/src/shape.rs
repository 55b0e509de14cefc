//! How one row of one table is made: its columns, what finds it, what is done with it; and the check of that.

use std::collections::HashMap;
use std::ops::Range;

use gatehouse_core::diagnostics::Problem;
use gatehouse_core::expr::Expression;
use gatehouse_core::outcome::compile;
use gatehouse_core::yaml::Located;
use indexmap::IndexMap;

use crate::charsets::Charsets;
use crate::file::{Checker, Table, is_identifier};

/// How a row is made.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) table: Table,
    pub(crate) mode: Mode,
    /// The columns of the unique key; none for an insert.
    pub(crate) key: Vec<String>,
    pub(crate) columns: Vec<(String, Expression)>,
    /// Columns whose texts are in a charset that the database does not know.
    pub(crate) charsets: Charsets,
    pub(crate) places: Places,
}

/// Where the parts of a row stand in the file, as byte ranges.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) table: Range<usize>,
    pub(crate) key: Vec<(String, Range<usize>)>,
    pub(crate) columns: HashMap<String, Range<usize>>,
}

/// What is done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Insert,
    Upsert,
    Update,
    Delete,
}

impl Checker<'_> {
    /// Checks the words that say how a row is made.
    pub(crate) fn shape(
        &mut self,
        at: &Located<String>,
        mode: (Option<&Located<String>>, &[&str]),
        key: &[Located<String>],
        columns: &IndexMap<String, Located<String>>,
        names: &[&str],
    ) -> Option<Shape> {
        let table = self.table(at);
        let (word, words) = mode;
        let mode = match word.map_or("insert", |word| word.as_str()) {
            known if !words.contains(&known) => {
                let span = word.map_or(0..0, |word| word.span.clone());
                self.error("bad-value", &span, format!("expected `{}`", words.join("`, `")));
                Mode::Insert
            }
            "upsert" => Mode::Upsert,
            "update" => Mode::Update,
            "delete" => Mode::Delete,
            _ => Mode::Insert,
        };
        match (mode, key.first(), word) {
            (Mode::Upsert | Mode::Update | Mode::Delete, None, Some(word)) => {
                let text = format!("`{}` needs `key`: the columns of the unique key that finds the row", word.value);
                self.error("no-key", &word.span, text);
            }
            (Mode::Insert, Some(key), _) => {
                self.error("no-upsert", &key.span, "`key` belongs to `mode: upsert`, `update` or `delete`");
            }
            _ => {}
        }
        let mut shaped = Vec::new();
        for (column, text) in columns {
            if !is_identifier(column) {
                self.error("bad-name", &text.span, format!("`{column}` cannot be a column"));
            }
            shaped
                .extend(compile(text, names, self.file, self.problems).map(|expression| (column.clone(), expression)));
        }
        for column in key {
            if !columns.is_empty() && !columns.contains_key(column.as_str()) {
                let problem = Problem::error(
                    "unknown-column",
                    self.file,
                    column.span.clone(),
                    format!("the key's column `{}` is not among `columns`", column.value),
                );
                self.problems.push(problem.did_you_mean(column, columns.keys().map(String::as_str)));
            }
        }
        let places = Places {
            table: at.span.clone(),
            key: key.iter().map(|column| (column.value.clone(), column.span.clone())).collect(),
            columns: columns.iter().map(|(column, text)| (column.clone(), text.span.clone())).collect(),
        };
        let key = key.iter().map(|column| column.value.clone()).collect();
        Some(Shape { table: table?, mode, key, columns: shaped, charsets: Charsets::new(), places })
    }
}
