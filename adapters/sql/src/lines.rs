//! `lines:` of an endpoint: rows of a second table from a list of the message, in the same transaction.

use gatehouse_core::diagnostics::Problem;
use gatehouse_core::outcome::compile;
use gatehouse_core::path::Path;
use gatehouse_core::yaml::Located;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::{Checker, Mode, Places, Shape};

/// Rows of a second table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinesFile {
    /// Path in the body to the list: `lines`.
    pub from: Located<String>,
    /// The table.
    pub table: Located<String>,
    /// `insert` (default) or `upsert`.
    #[serde(default)]
    pub mode: Option<Located<String>>,
    /// On `upsert`: the columns of the unique key that finds the row.
    #[serde(default)]
    pub key: Vec<Located<String>>,
    /// Columns that say which rows belong to the message, such as the order's number: those rows are deleted first, so that a
    /// changed order has its new lines and no others. They stand in `columns`, without `line` or `index`.
    #[serde(default)]
    pub replace: Vec<Located<String>>,
    /// An expression for each column, over `line`, `index` (from 1), `body`, `message` and `delivery_id`. Default: each
    /// field of the line is a column.
    #[serde(default)]
    pub columns: IndexMap<String, Located<String>>,
    /// As an endpoint's `charset`.
    #[serde(default)]
    pub charset: IndexMap<String, Located<String>>,
}

/// Rows of a second table.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) from: Path,
    pub(crate) shape: Shape,
    /// What finds the rows that are deleted first.
    pub(crate) replace: Option<Shape>,
}

impl Checker<'_> {
    /// What a second table gets.
    pub(crate) fn lines(&mut self, lines: &LinesFile, around: &[&str]) -> Option<Lines> {
        let names: Vec<_> = ["line", "index"].iter().chain(around).copied().collect();
        let mode = (lines.mode.as_ref(), ["insert", "upsert"].as_slice());
        let shape = self.shape(&lines.table, mode, &lines.key, &lines.columns, &names);
        let finds: Vec<_> = lines.key.iter().chain(&lines.replace).collect();
        let charsets = self.charsets(&lines.charset, &finds);
        let (from, shape) = (self.path(&lines.from)?, Shape { charsets, ..shape? });
        let replace = if lines.replace.is_empty() { None } else { Some(self.replace(lines, &shape, around)?) };
        Some(Lines { from, shape, replace })
    }

    /// What finds the lines that are replaced.
    fn replace(&mut self, lines: &LinesFile, shape: &Shape, around: &[&str]) -> Option<Shape> {
        let mut columns = Vec::new();
        for column in &lines.replace {
            let Some(text) = lines.columns.get(column.as_str()) else {
                let text = format!("`{}` is not among `columns`", column.value);
                let problem = Problem::error("unknown-column", self.file, column.span.clone(), text);
                self.problems.push(problem.did_you_mean(column, lines.columns.keys().map(String::as_str)));
                return None;
            };
            let expression = compile(text, around, self.file, self.problems)?;
            columns.push((column.value.clone(), expression));
        }
        let key = columns.iter().map(|(column, _)| column.clone()).collect();
        let places = Places { table: shape.places.table.clone(), ..Places::default() };
        Some(Shape { table: shape.table.clone(), mode: Mode::Delete, key, columns, charsets: Vec::new(), places })
    }
}
