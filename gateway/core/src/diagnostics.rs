//! What is wrong with a site's files, told to a person: what, where (file:line:column, the line shown), why, and the
//! smallest mend.
//!
//! A [`Problem`] is data; [`Problem::render`] draws it for a terminal. Programs read the same as JSON by the server.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A file of the site: its name, as shown to people, and its text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    name: Arc<str>,
    text: Arc<str>,
    /// Where each line begins; found once, at the first question.
    lines: Arc<OnceLock<Vec<usize>>>,
}

impl SourceFile {
    /// A file with this name (relative to the site) and text.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into(), lines: Arc::default() }
    }

    /// The name, relative to the site: `systems/erp.yaml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column, both from 1, of a byte offset; the column counts characters.
    #[must_use]
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let end = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = self.lines().partition_point(|start| *start <= end);
        let start = self.lines().get(line - 1).copied().unwrap_or(0);
        (line, self.text[start..end].chars().count() + 1)
    }

    /// The byte offset of a line and a column, both from 1.
    #[must_use]
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.lines().get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        self.text[start..].char_indices().nth(column.saturating_sub(1)).map_or(self.text.len(), |(at, _)| start + at)
    }

    /// The lines that a span touches: where they begin in the text, and the number of the first, from 1.
    fn around(&self, span: &Range<usize>) -> (Range<usize>, usize) {
        let (first, _) = self.place(span.start);
        let (last, _) = self.place(span.end);
        let start = self.lines().get(first - 1).copied().unwrap_or(0);
        let end = self.lines().get(last).copied().unwrap_or(self.text.len());
        (start..end, first)
    }

    fn lines(&self) -> &[usize] {
        self.lines
            .get_or_init(|| std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }
}

/// Whether a problem stops the site from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It runs, but it is probably not what was meant.
    Warning,
    /// It cannot run.
    Error,
}

/// One thing that is wrong in one place.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Stops the site or not.
    pub severity: Severity,
    /// A stable word for programs and for searching the docs: `unknown-target`.
    pub code: &'static str,
    /// The file it is in.
    pub file: SourceFile,
    /// Byte range in that file.
    pub span: Range<usize>,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// The smallest mend, where one is known: `did you mean `crm/upsert-order`?`.
    pub help: Option<String>,
}

impl Problem {
    /// A problem that stops the site.
    #[must_use]
    pub fn error(code: &'static str, file: &SourceFile, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code, file: file.clone(), span, message: message.into(), help: None }
    }

    /// A problem that does not.
    #[must_use]
    pub fn warning(code: &'static str, file: &SourceFile, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, file, span, message) }
    }

    /// With the smallest mend.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With `did you mean …?` where one of `known` is close to `word`.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match closest(word, known) {
            Some(close) => self.help(format!("did you mean `{close}`?")),
            None => self,
        }
    }

    /// `systems/erp.yaml:4:9`.
    #[must_use]
    pub fn place(&self) -> String {
        let (line, column) = self.file.place(self.span.start);
        format!("{}:{line}:{column}", self.file.name())
    }

    /// The whole problem with the line it is about, for a terminal; `colour` switches ANSI codes on.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let len = self.file.text().len();
        let start = self.span.start.min(len);
        let span = start..self.span.end.clamp(start, len);
        // Only the lines it is about: a file can be long, and have many problems.
        let (shown, first) = self.file.around(&span);
        let span = span.start - shown.start..span.end - shown.start;
        let mut group = level.primary_title(self.message.as_str()).id(self.code).element(
            Snippet::source(&self.file.text()[shown])
                .line_start(first)
                .path(self.file.name())
                .annotation(AnnotationKind::Primary.span(span)),
        );
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// Everything that is wrong: a check goes on after the first and tells them all.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// All of another check's.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether anything stops the site.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there is nothing at all to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by file and place.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Problem> {
        self.0.sort_by(|a, b| (a.file.name(), a.span.start).cmp(&(b.file.name(), b.span.start)));
        self.0
    }

    /// All of them, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

/// The one of `known` that `word` was probably meant to be.
#[must_use]
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_and_mend() {
        let file = SourceFile::new("orders.yaml", "version: 1\nroutes:\n  - 路由: crm/upsert-ordr\n");
        let at = file.text().find("crm").unwrap();
        let problem = Problem::error("unknown-target", &file, at..at + 15, "there is no endpoint `crm/upsert-ordr`")
            .did_you_mean("crm/upsert-ordr", ["crm/upsert-order", "erp/CreateSalesOrder"]);
        assert_eq!(problem.place(), "orders.yaml:3:9");
        let drawn = problem.render(false);
        assert!(drawn.contains("error[unknown-target]: there is no endpoint"), "{drawn}");
        assert!(drawn.contains("- 路由: crm/upsert-ordr"), "{drawn}");
        assert!(drawn.contains("help: did you mean `crm/upsert-order`?"), "{drawn}");
    }
}
