//! When an answer means yes: `success_when` and `error_text` of an endpoint, judged over the answer. A 200 alone means nothing.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::expr::{Expression, Names, Scope};
use crate::fault::{Code, Fault, Verdict};
use crate::value::Value;
use crate::yaml::Located;

/// The words of an endpoint that say when an answer means yes. Adapters put these fields into their endpoint struct.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutcomeFile {
    /// An expression over `reply` (the decoded body) and `status`; false means refused. Default: the protocol's own yes.
    pub success_when: Option<Located<String>>,
    /// An expression that finds the reason in `reply` where the answer means no.
    pub error_text: Option<Located<String>>,
    /// An expression that says that a refusal is worth another try (busy, locked).
    pub retry_when: Option<Located<String>>,
    /// An expression that says that a refusal is final, whatever the protocol says. `retry_when` wins where both hold.
    pub reject_when: Option<Located<String>>,
}

/// The compiled rule.
#[derive(Clone, Debug, Default)]
pub struct OutcomeRule {
    success_when: Option<Expression>,
    error_text: Option<Expression>,
    retry_when: Option<Expression>,
    reject_when: Option<Expression>,
}

impl OutcomeFile {
    /// Compiles the expressions.
    pub fn check(&self, file: &SourceFile, problems: &mut Problems) -> OutcomeRule {
        self.check_over(&["reply", "status"], file, problems)
    }

    /// Compiles the expressions over other names, which [`OutcomeRule::judge_over`] must be given.
    pub fn check_over(&self, names: &[&str], file: &SourceFile, problems: &mut Problems) -> OutcomeRule {
        let mut compile = |text: &Option<Located<String>>| compile(text.as_ref()?, names, file, problems);
        OutcomeRule {
            success_when: compile(&self.success_when),
            error_text: compile(&self.error_text),
            retry_when: compile(&self.retry_when),
            reject_when: compile(&self.reject_when),
        }
    }
}

/// Compiles one located expression over a closed list of names, telling what is wrong at its place in the file.
pub fn compile(
    text: &Located<String>,
    names: &[&str],
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<Expression> {
    let names = Names::Closed(names.iter().map(|name| (*name).to_owned()).collect());
    match Expression::compile(text, &names) {
        Ok(expression) => Some(expression),
        Err(error) => {
            problems.push(expression_problem(text, error, file));
            None
        }
    }
}

/// A compile error at its place in the file: within the text where the text stands there unquoted, else the whole value.
#[must_use]
pub fn expression_problem(text: &Located<String>, error: crate::expr::CompileError, file: &SourceFile) -> Problem {
    let span = text.span.clone();
    let at = file.text().get(span.clone()).and_then(|raw| raw.find(text.as_str())).map(|offset| span.start + offset);
    let span = at.map_or(span, |at| at + error.span.start..at + error.span.end.max(error.span.start + 1));
    let problem = Problem::error("expression", file, span, error.message);
    match error.help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

impl OutcomeRule {
    /// Judges an answer. `protocol` is the protocol's own judgement (`None`: yes), used where `success_when` is not
    /// said, and always where `success_when` cannot be judged.
    ///
    /// # Errors
    /// `Refused` with the reason that `error_text` finds, retried where `retry_when` says so.
    pub fn judge(&self, status: i64, reply: &Value, protocol: Option<Fault>) -> Result<(), Fault> {
        let status = Value::from(status);
        self.judge_over(&Scope::new().with("reply", reply).with("status", &status), protocol)
    }

    /// As [`OutcomeRule::judge`], over the names that [`OutcomeFile::check_over`] was told of.
    ///
    /// # Errors
    /// As [`OutcomeRule::judge`].
    pub fn judge_over(&self, scope: &Scope<'_>, protocol: Option<Fault>) -> Result<(), Fault> {
        let said = self.success_when.as_ref().map(|rule| (rule, rule.test(scope)));
        let mut fault = match (said, protocol) {
            (Some((_, Ok(true))), _) | (None, None) => return Ok(()),
            (Some((rule, Ok(false))), protocol) => protocol
                .unwrap_or_else(|| Fault::new(Code::Refused, format!("the answer does not satisfy `{}`", rule.text()))),
            (Some((rule, Err(error))), protocol) => protocol.unwrap_or_else(|| {
                Fault::new(Code::BadAnswer, format!("`{}` cannot be judged over the answer: {error}", rule.text()))
            }),
            (None, Some(fault)) => fault,
        };
        if let Some(Ok(text)) = self.error_text.as_ref().map(|rule| rule.eval(scope))
            && let Some(text) = text.to_plain_text().filter(|text| !text.trim().is_empty())
        {
            fault.public = text.chars().take(500).collect();
        }
        let holds = |rule: &Option<Expression>| matches!(rule.as_ref().map(|rule| rule.test(scope)), Some(Ok(true)));
        if holds(&self.retry_when) {
            fault.verdict = Verdict::Retry;
        } else if holds(&self.reject_when) {
            fault.verdict = Verdict::Reject;
        }
        Err(fault)
    }
}
