//! `gatehouse check --live`: compares what routes give to endpoints with the tables that are there. It reads catalogues only.
//! [`catalogue`] looks, [`kind`] judges one value in one column; here the places in the site's files are found.

pub(crate) mod catalogue;
pub(crate) mod guard;
pub(crate) mod kind;

use gatehouse_core::diagnostics::{Problem, Problems};
use gatehouse_core::fault::Fault;
use gatehouse_core::outline::{Content, Field, Given, Spot};
use gatehouse_core::path::{Path, Step};
use gatehouse_core::secret::Secrets;

use crate::capture::source::{self, Source};
use crate::file::{Checked, Mode, Shape, Table};
use catalogue::{Column, Live, same_columns};
use kind::Fit;
use std::sync::Arc;

/// Compares all that a system is given.
pub(crate) async fn compare(checked: &Arc<Checked>, given: &[Given], secrets: &dyn Secrets) -> Result<Problems, Fault> {
    let (source, _) = source::open(checked, secrets).await?;
    let mut look = Look { checked, source: source.as_ref(), told: Vec::new(), problems: Problems::new() };
    if checked.remembers() && !checked.create_inbox && look.live(&checked.inbox).await?.is_none() {
        let sql = crate::statement::create_inbox(checked.database, &checked.inbox);
        let text = format!("the inbox table `{}` is not there, and may not be made", checked.inbox);
        look.tell(
            Problem::error("no-inbox", &checked.file, checked.name_at.clone(), text).help(format!("run `{sql}`")),
        );
    }
    for (name, write) in &checked.writes {
        let given: Vec<_> = given.iter().filter(|given| given.endpoint == *name).collect();
        let whole = write.batch.as_ref().map_or_else(Vec::new, |batch| each(batch.steps()));
        look.shape(&write.row, &Rows { given: &given, base: whole.clone(), word: "body" }).await?;
        if let Some(lines) = &write.lines {
            let base: Vec<_> = whole.into_iter().chain(each(lines.from.steps())).collect();
            look.shape(&lines.shape, &Rows { given: &given, base, word: "line" }).await?;
        }
    }
    Ok(look.problems)
}

/// The elements of the list at a path.
fn each(path: &[Step]) -> Vec<Step> {
    path.iter().cloned().chain([Step::Each]).collect()
}

/// Where rows come from: the bodies, the place in them, and the word for it in expressions.
struct Rows<'a> {
    given: &'a [&'a Given],
    base: Vec<Step>,
    word: &'static str,
}

struct Look<'a> {
    checked: &'a Checked,
    source: &'a dyn Source,
    /// What was told already: two routes through one mapping have one mistake.
    told: Vec<(String, String)>,
    problems: Problems,
}

impl Look<'_> {
    async fn live(&self, table: &Table) -> Result<Option<Live>, Fault> {
        catalogue::look(self.source, self.checked.database, table).await
    }

    fn tell(&mut self, problem: Problem) {
        let key = (problem.place(), problem.message.clone());
        if !self.told.contains(&key) {
            self.told.push(key);
            self.problems.push(problem);
        }
    }

    /// One table and what is written into it.
    async fn shape(&mut self, shape: &Shape, rows: &Rows<'_>) -> Result<(), Fault> {
        let file = &self.checked.file;
        let Some(live) = self.live(&shape.table).await? else {
            let text = format!("there is no table `{}`, or this user may not see it", shape.table);
            let known: Vec<_> = source::tables(self.source, self.checked.database).await?;
            let known: Vec<_> = known.iter().map(Table::to_string).collect();
            let problem = Problem::error("unknown-table", file, shape.places.table.clone(), text);
            self.tell(problem.did_you_mean(&shape.table.to_string(), known.iter().map(String::as_str)));
            return Ok(());
        };
        for (column, span) in &shape.places.key {
            self.named(shape, &live, column, &Spot { file: file.clone(), span: span.clone() });
        }
        self.key(shape, &live);
        if shape.columns.is_empty() {
            for given in rows.given {
                self.fields(shape, &live, given, rows);
            }
        } else {
            self.columns(shape, &live, rows);
        }
        Ok(())
    }

    /// The column of a name; told where it is not there or cannot be written.
    fn named<'l>(&mut self, shape: &Shape, live: &'l Live, name: &str, at: &Spot) -> Option<&'l Column> {
        let Some(column) = live.column(name) else {
            let text = format!("`{}` has no column `{name}`", shape.table);
            let problem = Problem::error("unknown-column", &at.file, at.span.clone(), text);
            self.tell(problem.did_you_mean(name, live.columns.iter().map(|column| column.name.as_str())));
            return None;
        };
        if column.computed && shape.mode != Mode::Delete {
            let text = format!("`{}.{}` is computed by the database and cannot be written", shape.table, column.name);
            let problem = Problem::error("computed-column", &at.file, at.span.clone(), text);
            self.tell(problem.help("leave it out"));
        }
        Some(column)
    }

    /// Whether the key finds one row.
    fn key(&mut self, shape: &Shape, live: &Live) {
        let Some((_, span)) = shape.places.key.first() else { return };
        // An unknown column is told already.
        if shape.key.is_empty() || shape.key.iter().any(|column| live.column(column).is_none()) {
            return;
        }
        let Some(unique) = &live.unique else { return };
        let (file, key) = (&self.checked.file, shape.key.join("`, `"));
        if !unique.iter().any(|index| same_columns(index, &shape.key)) {
            let there: Vec<_> = unique.iter().map(|index| format!("`{}`", index.join("`, `"))).collect();
            let there = if there.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there is: {}", there.join(" and "))
            };
            let help = format!("make one on (`{key}`), or write the key of one that is there; {there}");
            let text = format!("`{}` has no unique index on `{key}`", shape.table);
            let problem = match shape.mode {
                Mode::Upsert => Problem::error("no-unique-index", file, span.clone(), text),
                _ => Problem::warning(
                    "no-unique-index",
                    file,
                    span.clone(),
                    format!("{text}: several rows may be changed at once"),
                ),
            };
            self.tell(problem.help(help));
        } else if shape.mode == Mode::Upsert
            && self.checked.database == crate::file::Database::MySql
            && let Some(other) = unique.iter().find(|index| !same_columns(index, &shape.key))
        {
            let text = format!(
                "`{}` has another unique index, on `{}`: a row with the same there is overwritten too, whatever its `{key}`",
                shape.table,
                other.join("`, `")
            );
            let problem = Problem::warning("two-unique-indexes", file, span.clone(), text);
            self.tell(problem.help(
                "MariaDB and MySQL update the row that any unique index finds; `mode: update` looks at the key only",
            ));
        }
    }

    /// Columns by expressions of the endpoint.
    fn columns(&mut self, shape: &Shape, live: &Live, rows: &Rows<'_>) {
        for (name, expression) in &shape.columns {
            let span = shape.places.columns.get(name).cloned().unwrap_or_default();
            let at = Spot { file: self.checked.file.clone(), span };
            let Some(column) = self.named(shape, live, name, &at) else { continue };
            match source_of(expression.text(), rows.word) {
                Origin::Field(steps) => {
                    let path: Vec<_> = rows.base.iter().cloned().chain(steps).collect();
                    for given in rows.given {
                        self.field_of(shape, column, given, &path, &at);
                    }
                }
                Origin::Content(content) => self.fit(shape, column, name, &content, &at),
            }
        }
        let named = |name: &str| shape.columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
        let at = Spot { file: self.checked.file.clone(), span: shape.places.table.clone() };
        self.missing(shape, live, named, &at, "write it under `columns`");
    }

    /// One column from one field of one body.
    fn field_of(&mut self, shape: &Shape, column: &Column, given: &Given, path: &[Step], at: &Spot) {
        match given.body.field(path) {
            Some(field) => self.into(shape, column, field, at),
            None if given.body.closed && !given.body.fields.iter().any(|field| field.steps.starts_with(path)) => {
                let (name, within) = match path.split_last() {
                    Some((Step::Name(name), within)) => (name.as_str(), within),
                    _ => return,
                };
                let text = format!("the body that comes from {} has no `{name}`", given.at.file.name());
                let problem = Problem::error("unknown-field", &at.file, at.span.clone(), text);
                self.tell(problem.did_you_mean(name, given.body.within(within).map(|(name, _)| name)));
            }
            None => {}
        }
    }

    /// Without `columns` each field of the body is one.
    fn fields(&mut self, shape: &Shape, live: &Live, given: &Given, rows: &Rows<'_>) {
        let mut names = Vec::new();
        for (name, field) in given.body.within(&rows.base) {
            names.push(name);
            if shape.mode == Mode::Delete && !shape.key.iter().any(|key| key == name) {
                continue;
            }
            let at = field.at.as_ref().unwrap_or(&given.at);
            if let Some(column) = self.named(shape, live, name, at) {
                self.into(shape, column, field, at);
            }
        }
        if given.body.closed && !names.is_empty() {
            let named = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
            self.missing(shape, live, named, &given.at, "add a row to its mapping");
        }
    }

    /// Columns that must have a value and get none.
    fn missing(&mut self, shape: &Shape, live: &Live, named: impl Fn(&str) -> bool, at: &Spot, mend: &str) {
        if !matches!(shape.mode, Mode::Insert | Mode::Upsert) {
            return;
        }
        let needed = |column: &&Column| !column.nullable && !column.filled && !column.computed;
        for column in live.columns.iter().filter(needed).filter(|column| !named(&column.name)) {
            let text = format!(
                "`{}.{}` ({}) may not be empty and has no default, and nothing is written into it",
                shape.table, column.name, column.text
            );
            self.tell(Problem::error("missing-column", &at.file, at.span.clone(), text).help(mend));
        }
    }

    /// One field into one column.
    fn into(&mut self, shape: &Shape, column: &Column, field: &Field, at: &Spot) {
        let at = field.at.as_ref().unwrap_or(at);
        let name = match field.steps.last() {
            Some(Step::Name(name)) => name.clone(),
            _ => String::new(),
        };
        if !field.always && !column.nullable && !column.filled && shape.mode != Mode::Delete {
            let text = format!("`{name}` may be absent or empty, and `{}.{}` may not", shape.table, column.name);
            let problem = Problem::warning("may-be-empty", &at.file, at.span.clone(), text);
            self.tell(
                problem.help("add `required: true` or a `default` to the mapping's row, or require it in the type"),
            );
        }
        self.fit(shape, column, &name, &field.content, at);
    }

    fn fit(&mut self, shape: &Shape, column: &Column, name: &str, content: &Content, at: &Spot) {
        let text = |why: &str| {
            format!("`{name}` goes into `{}.{}`, which is {}: {why}", shape.table, column.name, column.text)
        };
        let problem = match column.kind.fit(self.checked.database, content) {
            Fit::Well => return,
            Fit::Perhaps(why, mend) => {
                Problem::warning("may-not-fit", &at.file, at.span.clone(), text(&why)).help(mend)
            }
            Fit::Never(why, mend) => Problem::error("does-not-fit", &at.file, at.span.clone(), text(&why)).help(mend),
        };
        self.tell(problem);
    }
}

/// What an expression takes: a field as it is, or something of which this much is known.
enum Origin {
    Field(Vec<Step>),
    Content(Content),
}

fn source_of(expression: &str, word: &str) -> Origin {
    let text = expression.trim();
    match text {
        "index" => return Origin::Content(Content::Integer),
        "message.time" => return Origin::Content(Content::Moment),
        "delivery_id" => return Origin::Content(Content::Text(Some(32))),
        _ => {}
    }
    let plain = text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    let field = text.strip_prefix(word).and_then(|rest| rest.strip_prefix('.')).filter(|_| plain);
    match field.and_then(|field| Path::parse(field).ok()) {
        Some(path) => Origin::Field(path.steps().to_vec()),
        None => Origin::Content(Content::Any),
    }
}
