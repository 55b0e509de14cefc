//! A mapping table as it stands in its file, and its check.

use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::clean::{self, Clean};
use super::convert::{self, Kind};
use super::namespaces::{self, Prefixes};
use super::{Mapping, Otherwise, Row};
use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::expr::{Expression, Names};
use crate::outcome::{compile as compile_expression, expression_problem};
use crate::path::{Path, Step};
use crate::value::Value;
use crate::yaml::{self, Entries, Located};

/// The most rows of a table.
const MAX_ROWS: usize = 2_000;

/// A mapping table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingFile {
    /// The format of this file: 1.
    pub version: Located<u32>,
    /// Its name, the file's name without `.yaml`.
    pub mapping: Located<String>,
    /// The canonical type that it makes; left out where it makes a target's shape.
    #[serde(default)]
    pub to: Option<Located<String>>,
    /// Prefixes for XML names that local names cannot tell apart: `{ tax: "urn:tax:2" }`. A path then writes `tax:Amount` or
    /// `@tax:rate`; a name without a prefix is found in whatever namespace it is.
    #[serde(default)]
    pub namespaces: Entries<Located<String>>,
    /// The rows, in the order in which their target fields are written.
    pub rows: Vec<RowFile>,
}

/// One row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowFile {
    /// The target field: `customer.no`, `lines[].sku`, `@currency`.
    pub to: Located<String>,
    /// The source field: `buyer.user_id`, `items[].code`, `items[0].code`.
    #[serde(default)]
    pub from: Option<Located<String>>,
    /// An expression over the source's fields and `meta`; beside `from`, over `value` (what `from` found) and its fields.
    #[serde(default)]
    pub value: Option<Located<String>>,
    /// Without a value (and a default) the whole message is refused.
    #[serde(default)]
    pub required: bool,
    /// `any` (default), `string`, `integer`, `decimal`, `decimal(n)`, `boolean`, `date` or `datetime`.
    #[serde(default, rename = "type")]
    pub kind: Option<Located<String>>,
    /// How dates are read: a strftime format, `epoch_s` or `epoch_ms`. Default: ISO 8601.
    #[serde(default)]
    pub format: Option<Located<String>>,
    /// How dates are written: a strftime format, `epoch_s` or `epoch_ms`. Default: `2026-11-24`, `2026-11-24T08:00:00+08:00`.
    #[serde(default)]
    pub write: Option<Located<String>>,
    /// The time zone of times that name none: `Asia/Shanghai`; also the zone in which they are written.
    #[serde(default)]
    pub zone: Option<Located<String>>,
    /// `half_up`: a `decimal(n)` with more digits is rounded. Default: it is refused.
    #[serde(default)]
    pub round: Option<Located<String>>,
    /// What stands there when the source has nothing: absent, null or empty text.
    #[serde(default)]
    pub default: Option<String>,
    /// A code table: source value → target value.
    #[serde(default)]
    pub values: Option<IndexMap<String, String>>,
    /// What becomes of a value that `values` does not name: `reject` (default), `keep`, `null`, or a value of its own.
    #[serde(default)]
    pub otherwise: Option<String>,
    /// Cleaning words, applied from left to right before anything else.
    #[serde(default)]
    pub clean: Vec<Located<String>>,
    /// A condition over `value`; where it does not hold, the message is refused.
    #[serde(default)]
    pub check: Option<Located<String>>,
    /// Values of this row are masked in errors.
    #[serde(default)]
    pub sensitive: bool,
    /// Pairs of source and target text: `["138 0013 8000", "+86-138-0013-8000"]`. Each pair is a test.
    #[serde(default)]
    pub example: Option<Located<Vec<String>>>,
    /// A remark for people.
    #[serde(default)]
    pub note: Option<String>,
}

pub(super) fn compile(file: &SourceFile, problems: &mut Problems) -> Option<Mapping> {
    let table: MappingFile = yaml::read(file, problems)?;
    let mut found = Problems::new();
    if table.version.value != 1 {
        found.push(
            Problem::error("version", file, table.version.span.clone(), "this program reads version 1")
                .help("write `version: 1`"),
        );
    }
    if table.rows.len() > MAX_ROWS {
        found.push(Problem::error(
            "too-large",
            file,
            table.mapping.span.clone(),
            format!("a table has at most {MAX_ROWS} rows"),
        ));
    }
    let prefixes = Prefixes::check(&table.namespaces, file, &mut found);
    let mut rows: Vec<Row> = Vec::with_capacity(table.rows.len());
    for (index, row) in table.rows.iter().enumerate() {
        let checker = Checker { file, prefixes: &prefixes, problems: &mut found };
        let Some(compiled) = checker.row(index + 1, row) else { continue };
        if table.to.is_some() && namespaces::is_qualified(&compiled.to) {
            found.push(
                Problem::error(
                    "namespace",
                    file,
                    row.to.span.clone(),
                    format!("`{}` has a namespace, and a canonical type knows none", row.to.value),
                )
                .help("write the local name here; prefixes are for `from`, and for `to` of a mapping to a target"),
            );
        }
        if let Some(other) = rows.iter().find(|other| overlap(&other.to, &compiled.to)) {
            found.push(Problem::error(
                "duplicate",
                file,
                row.to.span.clone(),
                format!("`{}` is written by {} already", row.to.value, other.label),
            ));
        }
        rows.push(compiled);
    }
    let sound = !found.has_errors();
    problems.extend(found);
    sound.then(|| Mapping {
        name: Arc::from(table.mapping.value.as_str()),
        to: table.to.map(|to| to.value),
        wanted: namespaces::wanted(&rows),
        rows,
        file: file.clone(),
    })
}

/// Whether one path is the other, or leads through it.
fn overlap(a: &[Step], b: &[Step]) -> bool {
    let shared = a.len().min(b.len());
    a[..shared] == b[..shared]
}

struct Checker<'a> {
    file: &'a SourceFile,
    prefixes: &'a Prefixes<'a>,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn error(&mut self, code: &'static str, at: &std::ops::Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem::error(code, self.file, at.clone(), message));
    }

    fn row(mut self, number: usize, row: &RowFile) -> Option<Row> {
        let before = self.problems.iter().count();
        let to = self.path(&row.to);
        let from = row.from.as_ref().and_then(|from| self.path(from));
        if row.from.is_none() && row.value.is_none() && row.default.is_none() {
            self.error("no-source", &row.to.span, "a row needs `from`, `value` or `default`");
        }
        if let (Some(to), Some(from), Some(at)) = (&to, &from, &row.from)
            && from.lists() > to.lists()
        {
            let text = format!(
                "`{}` finds lists in {} levels, but `{}` has {}",
                at.value,
                from.lists(),
                row.to.value,
                to.lists()
            );
            self.problems.push(
                Problem::error("lists", self.file, at.span.clone(), text)
                    .help("write `[]` on both sides, or `[0]` for the first element"),
            );
        }
        let value = row.value.as_ref().and_then(|text| match Expression::compile(text, &Names::Open) {
            Ok(expression) => Some(expression),
            Err(error) => {
                self.problems.push(expression_problem(text, error, self.file));
                None
            }
        });
        let check = row.check.as_ref().and_then(|text| compile_expression(text, &["value"], self.file, self.problems));
        let kind = self.kind(row);
        let clean = row.clean.iter().filter_map(|word| self.cleaner(word)).collect();
        let examples = self.examples(row);
        let typed = |text: &String| literal(text.as_str(), &kind);
        let otherwise = match row.otherwise.as_deref() {
            None | Some("reject") => Otherwise::Reject,
            Some("keep") => Otherwise::Keep,
            Some("null") => Otherwise::Null,
            Some(text) => Otherwise::Literal(Value::from(text)),
        };
        if row.otherwise.is_some() && row.values.is_none() {
            self.error("no-values", &row.to.span, "`otherwise` needs `values`");
        }
        let default = row.default.as_ref().map(typed);
        if let Some(Err(reason)) = &default {
            self.error(
                "bad-default",
                &row.to.span,
                format!("the default of `{}` does not fit its type: {reason}", row.to.value),
            );
        }
        if self.problems.iter().count() > before {
            return None;
        }
        let source = row.from.as_ref().or(row.value.as_ref()).map_or("default", |text| text.as_str());
        Some(Row {
            label: format!("row {number} (`{source}` → `{}`)", row.to.value),
            at: row.to.span.clone(),
            to: to?.steps().to_vec(),
            from: from.map(|path| path.steps().to_vec()),
            value,
            required: row.required,
            kind,
            default: default.and_then(Result::ok),
            values: row
                .values
                .as_ref()
                .map(|values| values.iter().map(|(from, to)| (from.clone(), Value::from(to.as_str()))).collect()),
            otherwise,
            clean,
            check,
            sensitive: row.sensitive,
            examples,
        })
    }

    fn path(&mut self, at: &Located<String>) -> Option<Path> {
        self.prefixes.path(at, self.problems)
    }

    fn kind(&mut self, row: &RowFile) -> Kind {
        let Some(at) = &row.kind else {
            for (word, at) in [("format", &row.format), ("write", &row.write), ("zone", &row.zone)] {
                if let Some(at) = at {
                    self.error("no-type", &at.span, format!("`{word}` needs `type: date` or `type: datetime`"));
                }
            }
            return Kind::Any;
        };
        let word = |at: &Option<Located<String>>| at.as_ref().map(|at| at.value.clone());
        match Kind::parse(
            at,
            word(&row.format),
            word(&row.write),
            row.zone.as_ref().map(|zone| zone.as_str()),
            row.round.is_some(),
        ) {
            Ok(kind) => kind,
            Err(convert::KindError::Unknown) => {
                let known = convert::TYPES.iter().map(|(word, _)| *word);
                let problem = Problem::error(
                    "unknown-type",
                    self.file,
                    at.span.clone(),
                    format!("there is no type `{}`", at.value),
                );
                self.problems.push(problem.did_you_mean(at, known));
                Kind::Any
            }
            Err(convert::KindError::Zone) => {
                let span = row.zone.as_ref().map_or(at.span.clone(), |zone| zone.span.clone());
                self.problems.push(
                    Problem::error("unknown-zone", self.file, span, "there is no such time zone")
                        .help("zones are named like `Asia/Shanghai` or `UTC`"),
                );
                Kind::Any
            }
            Err(convert::KindError::Format(reason)) => {
                let span = row.format.as_ref().or(row.write.as_ref()).map_or(at.span.clone(), |word| word.span.clone());
                self.error("bad-format", &span, reason);
                Kind::Any
            }
        }
    }

    fn cleaner(&mut self, word: &Located<String>) -> Option<Clean> {
        let found = Clean::parse(word);
        if found.is_none() {
            let problem = Problem::error(
                "unknown-cleaner",
                self.file,
                word.span.clone(),
                format!("there is no cleaning word `{}`", word.value),
            );
            self.problems.push(problem.did_you_mean(word, clean::CLEANERS.iter().map(|(known, _)| *known)));
        }
        found
    }

    fn examples(&mut self, row: &RowFile) -> Vec<(String, String)> {
        let Some(example) = &row.example else { return Vec::new() };
        if example.len() % 2 != 0 || example.is_empty() {
            self.error("bad-example", &example.span, "an example is a pair: `[\"what comes in\", \"what goes out\"]`");
            return Vec::new();
        }
        if row.from.is_none() {
            self.error("bad-example", &example.span, "only a row with `from` can have an example");
        }
        example.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }
}

/// A default as the row's type writes it.
fn literal(text: &str, kind: &Kind) -> Result<Value, String> {
    kind.convert(&Value::from(text)).map(std::borrow::Cow::into_owned)
}
