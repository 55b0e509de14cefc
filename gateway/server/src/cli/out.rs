//! Writing to the terminal. A closed pipe or a full disk ends the output quietly, never with a panic.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use gatehouse_core::diagnostics::{Problems, Severity};
use gatehouse_core::fault::Fault;

/// It did not work.
pub(crate) const FAILED: u8 = 1;

/// The site or the command line is wrong.
pub(crate) const WRONG: u8 = 2;

/// Problems that are drawn for a person; programs get them all.
const MAX_SHOWN: usize = 100;

/// Writes one line.
pub(crate) fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
}

/// Writes one line for people beside the answer.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// Writes a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Tells why a command did not work.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    note(format!("error: {error:#}"));
    ExitCode::from(FAILED)
}

/// Tells what a system said to a command that reached it.
pub(crate) fn refused(fault: &Fault) -> ExitCode {
    let private = fault.private.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    note(format!("error: {}{private}", fault.public));
    ExitCode::from(FAILED)
}

/// Whether ANSI colours are wanted (`NO_COLOR` is honoured).
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A problem as programs read it.
#[derive(serde::Serialize)]
struct ProblemView<'a> {
    severity: &'static str,
    code: &'a str,
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
    help: Option<&'a str>,
}

/// Tells every problem; returns whether any stops the site.
pub(crate) fn problems(problems: Problems, as_json: bool) -> bool {
    let stops = problems.has_errors();
    let sorted = problems.sorted();
    let word = |severity| if severity == Severity::Error { "error" } else { "warning" };
    if as_json {
        let views: Vec<_> = sorted
            .iter()
            .map(|problem| {
                let (line, column) = problem.file.place(problem.span.start);
                ProblemView {
                    severity: word(problem.severity),
                    code: problem.code,
                    file: problem.file.name(),
                    line,
                    column,
                    message: &problem.message,
                    help: problem.help.as_deref(),
                }
            })
            .collect();
        json(&views);
        return stops;
    }
    for problem in sorted.iter().take(MAX_SHOWN) {
        line(problem.render(colour()));
        line("");
    }
    if sorted.len() > MAX_SHOWN {
        line(format!("… and {} more: `--json` tells them all", sorted.len() - MAX_SHOWN));
    }
    stops
}
