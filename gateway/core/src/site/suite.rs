//! A site's own tests (`tests/*.yaml`): what must come out of what goes in. Run by `gatehouse test`, purely.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Files, Route, Target, outbound_body};
use crate::adapter::{SiteFiles, System};
use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::json;
use crate::limits::BodyLimits;
use crate::value::Value;
use crate::xml::{self, Element};
use crate::yaml::{self, Located};

/// A file of tests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestsFile {
    /// The format of this file: 1.
    pub version: Located<u32>,
    /// The tests.
    pub tests: Vec<TestFile>,
}

/// One test: an arrival, and what must come of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// What it shows, in a sentence.
    pub test: Located<String>,
    /// The route that it goes through.
    pub route: Located<String>,
    /// Of a route with several sources (`merge`): which of them it comes from. Default: the first.
    #[serde(default)]
    pub from: Option<Located<String>>,
    /// The arrival's body: JSON text.
    #[serde(default)]
    pub body: Option<Located<String>>,
    /// Or a file with the arrival's body, relative to the site; `.xml` is read as XML, anything else as JSON.
    #[serde(default)]
    pub file: Option<Located<String>>,
    /// What comes beside the body, as mappings and conditions see it in `meta`: path parameters, headers.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// JSON text: what the canonical body must contain (fields that are not named do not matter).
    #[serde(default)]
    pub message: Option<Located<String>>,
    /// JSON text for each target that must get it: what its body must contain. A target that is not named must not get it.
    #[serde(default)]
    pub targets: Option<BTreeMap<String, Located<String>>>,
    /// Part of the reason for which it must be refused.
    #[serde(default)]
    pub refused: Option<Located<String>>,
}

/// A checked test.
#[derive(Clone, Debug)]
pub struct RouteTest {
    /// What it shows.
    pub name: String,
    /// `tests/orders.yaml:3:5`.
    pub place: String,
    route: Arc<Route>,
    sample: Sample,
    meta: Value,
    message: Option<Value>,
    targets: Option<BTreeMap<String, Value>>,
    refused: Option<String>,
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// What it shows.
    pub name: String,
    /// Where it stands.
    pub place: String,
    /// What is not as it must be; empty where all is.
    pub failures: Vec<String>,
}

impl RouteTest {
    /// Runs it. `systems` judge what would be sent to them.
    #[must_use]
    pub fn run(&self, systems: &BTreeMap<String, Arc<dyn System>>) -> TestOutcome {
        let mut failures = Vec::new();
        match (self.plan(), &self.refused) {
            (Err(fault), Some(reason)) => {
                let said = explain(&fault);
                if !said.contains(reason.as_str()) {
                    failures.push(format!("it is refused, but not for `{reason}`: {said}"));
                }
            }
            (Err(fault), None) => failures.push(format!("it is refused: {}", explain(&fault))),
            (Ok(_), Some(reason)) => failures.push(format!("it should be refused for `{reason}`, but it is accepted")),
            (Ok(planned), None) => {
                if let Some(expected) = &self.message {
                    differ("message", expected, &planned.body, &mut failures);
                }
                if let Some(expected) = &self.targets {
                    for name in expected.keys().filter(|name| !planned.targets.iter().any(|t| t.name == **name)) {
                        failures.push(format!("{name} should get it, but its condition does not hold"));
                    }
                    for target in &planned.targets {
                        let body = match self.route.pass {
                            // As it came.
                            Some(_) => Ok(Cow::Borrowed(&self.sample.body)),
                            None => outbound_body(target, &planned.body),
                        };
                        match (expected.get(&target.name), body) {
                            (None, _) => failures.push(format!("{} gets it, but should not", target.name)),
                            (Some(_), Err(fault)) => failures.push(format!("{}: {}", target.name, explain(&fault))),
                            (Some(expected), Ok(body)) => {
                                differ(&target.name, expected, &body, &mut failures);
                                if self.route.pass.is_none()
                                    && let Err(fault) = preview(systems, target, &body)
                                {
                                    failures.push(format!("{}: {}", target.name, explain(&fault)));
                                }
                            }
                        }
                    }
                }
            }
        }
        TestOutcome { name: self.name.clone(), place: self.place.clone(), failures }
    }

    /// What the route makes of it; with `merge`, where no other source has said anything.
    fn plan(&self) -> Result<super::Planned, crate::Fault> {
        let said = self.route.plan(&self.sample.body, self.sample.document.as_ref(), &self.meta)?;
        let Some(merge) = &self.route.merge else { return Ok(said) };
        let records = [(self.route.from.clone(), said.body)].into();
        merge
            .merged(&records)
            .map_err(|conflicts| crate::merge::disagreement(&conflicts))
            .and_then(|body| self.route.judge(body))
    }
}

/// What a target's system would be sent, where it can tell.
///
/// # Errors
/// What keeps the body from being sent.
pub fn preview(
    systems: &BTreeMap<String, Arc<dyn System>>,
    target: &Target,
    body: &Value,
) -> Result<Option<String>, crate::Fault> {
    let named = target.name.split_once('/');
    named
        .and_then(|(system, endpoint)| Some((systems.get(system)?, endpoint)))
        .map_or(Ok(None), |(system, endpoint)| system.preview(endpoint, body))
}

/// A fault with its violations in one line.
fn explain(fault: &crate::Fault) -> String {
    let mut text = fault.public.clone();
    for violation in &fault.violations {
        text.push_str("; ");
        text.push_str(&violation.pointer);
        text.push_str(": ");
        text.push_str(&violation.message);
    }
    text
}

/// Tells where `actual` lacks what `expected` names. Maps may have more, lists may not.
fn differ(at: &str, expected: &Value, actual: &Value, failures: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Map(expected), Value::Map(actual)) => {
            for (name, expected) in expected {
                match actual.get(name) {
                    Some(actual) => differ(&format!("{at}.{name}"), expected, actual, failures),
                    None => failures.push(format!("{at}.{name} is absent; expected {expected}")),
                }
            }
        }
        (Value::List(expected), Value::List(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                differ(&format!("{at}[{index}]"), expected, actual, failures);
            }
        }
        _ if expected == actual => {}
        _ => failures.push(format!("{at} is {actual}; expected {expected}")),
    }
}

pub(super) fn check(files: &Files, routes: &[Arc<Route>], problems: &mut Problems) -> Vec<RouteTest> {
    let mut tests = Vec::new();
    let whole = !problems.has_errors();
    for file in files.under("tests/", ".yaml") {
        let Some(read) = yaml::read::<TestsFile>(file, problems) else { continue };
        super::gateway::check_version(&read.version, file, problems);
        for row in read.tests {
            let Some(route) = routes.iter().find(|route| route.name == row.route.value) else {
                if whole {
                    problems.push(
                        Problem::error(
                            "unknown-route",
                            file,
                            row.route.span.clone(),
                            format!("there is no route `{}`", row.route.value),
                        )
                        .did_you_mean(&row.route, routes.iter().map(|route| route.name.as_str())),
                    );
                }
                continue;
            };
            let route = match &row.from {
                None => route,
                Some(from) => {
                    let Some(route) = route.of(from) else {
                        let names = std::iter::once(route).chain(&route.others).map(|one| one.from.as_str());
                        let text = format!("`{}` is no source of route `{}`", from.value, route.name);
                        let problem = Problem::error("unknown-source", file, from.span.clone(), text);
                        problems.push(problem.did_you_mean(from, names));
                        continue;
                    };
                    route
                }
            };
            let (line, column) = file.place(row.test.span.start);
            let Some(sample) = arrival(&row, files, file, problems) else { continue };
            let message = row.message.as_ref().and_then(|text| read_json(text, file, problems));
            let targets = row.targets.as_ref().map(|targets| {
                targets
                    .iter()
                    .filter_map(|(name, text)| Some((name.clone(), read_json(text, file, problems)?)))
                    .collect()
            });
            tests.push(RouteTest {
                name: row.test.value.clone(),
                place: format!("{}:{line}:{column}", file.name()),
                route: route.clone(),
                sample,
                meta: row.meta.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect(),
                message,
                targets,
                refused: row.refused.as_ref().map(|reason| reason.value.clone()),
            });
        }
    }
    tests
}

fn arrival(row: &TestFile, files: &Files, file: &SourceFile, problems: &mut Problems) -> Option<Sample> {
    match (&row.body, &row.file) {
        (Some(text), None) => read_json(text, file, problems).map(Sample::from),
        (None, Some(path)) => {
            let Some(sample) = files.file(path) else {
                problems.push(Problem::error(
                    "missing",
                    file,
                    path.span.clone(),
                    format!("there is no file `{}` in the site", path.value),
                ));
                return None;
            };
            decode_sample(&sample)
                .map_err(|reason| {
                    problems.push(Problem::error(
                        "bad-sample",
                        file,
                        path.span.clone(),
                        format!("`{}`: {reason}", path.value),
                    ));
                })
                .ok()
        }
        _ => {
            problems.push(Problem::error(
                "bad-test",
                file,
                row.test.span.clone(),
                "a test has either a `body` or a `file`",
            ));
            None
        }
    }
}

/// What a source would send.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The decoded body.
    pub body: Value,
    /// The XML that it was read from, if it was XML.
    pub document: Option<Element>,
}

impl From<Value> for Sample {
    fn from(body: Value) -> Self {
        Self { body, document: None }
    }
}

impl From<Element> for Sample {
    fn from(document: Element) -> Self {
        Self { body: document.to_value(), document: Some(document) }
    }
}

/// Reads a sample by its name: `.xml` is XML, the rest JSON.
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn decode_sample(sample: &SourceFile) -> Result<Sample, String> {
    let bytes = sample.text().as_bytes();
    let decoded = if sample.name().ends_with(".xml") {
        xml::decode(bytes, Some("utf-8"), &BodyLimits::default()).map(Sample::from)
    } else {
        json::decode(bytes, &BodyLimits::default()).map(Sample::from)
    };
    decoded.map_err(|error| error.to_string())
}

fn read_json(text: &Located<String>, file: &SourceFile, problems: &mut Problems) -> Option<Value> {
    json::decode(text.as_bytes(), &BodyLimits::default())
        .map_err(|error| {
            problems.push(Problem::error("bad-json", file, text.span.clone(), format!("this is no JSON: {error}")));
        })
        .ok()
}
