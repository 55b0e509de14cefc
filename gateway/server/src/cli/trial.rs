//! `gatehouse try ROUTE FILE`: what a file would become, step by step. Nothing is sent.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use gatehouse_core::diagnostics::{SourceFile, closest};
use gatehouse_core::merge::{Merge, Records, Rule, disagreement};
use gatehouse_core::site::{Planned, Route, Sample, decode_sample, outbound_body, preview};
use gatehouse_core::{Fault, Value};

use super::{SiteArgs, check, out};

/// Who sends what, and what comes beside it.
pub(super) struct Sources {
    /// Who sends the file.
    pub(super) from: Option<String>,
    /// What others have said before: `ENDPOINT=FILE`.
    pub(super) before: Vec<String>,
    /// What comes beside the body: `NAME=VALUE`.
    pub(super) meta: Vec<String>,
}

pub(super) fn run(route: &str, file: &Path, sources: &Sources, args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let site = match check::sound(args)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let Some(route) = site.routes.iter().find(|known| known.name == route) else {
        let close = closest(route, site.routes.iter().map(|route| route.name.as_str()));
        let help = close.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        out::note(format!("error: there is no route `{route}`{help}"));
        return Ok(ExitCode::from(out::WRONG));
    };
    let Some(route) = of(route, sources.from.as_deref()) else { return Ok(ExitCode::from(out::WRONG)) };
    let name = file.display().to_string();
    let source = match decode(file)? {
        Ok(source) => source,
        Err(reason) => {
            out::line(format!("1 decode   refused: {name}: {reason}"));
            return Ok(ExitCode::from(out::FAILED));
        }
    };
    step("1 decode", &format!("{name}, as `{}` would send it", route.from), Some(&source.body));
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').with_context(|| format!("`{word}`: expected `--meta NAME=VALUE`"))?;
        Ok((name.to_owned(), Value::from(value)))
    };
    let meta: Value = sources.meta.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?.into_iter().collect();
    let mut planned = match route.plan(&source.body, source.document.as_ref(), &meta) {
        Ok(planned) => planned,
        Err(fault) => return Ok(refused("2 map in, validate", &fault)),
    };
    let map = route.map.as_ref().map_or("no mapping", |map| map.name());
    match route.pass {
        Some(_) => step("2 map in", "nothing: it goes through as it came", None),
        None => step(
            "2 map in",
            &format!("{map} → {}; it is a sound `{}`", route.kind.name(), route.kind.name()),
            Some(&planned.body),
        ),
    }
    if let Some(merge) = &route.merge {
        planned = match merged(route, merge, planned, &sources.before)? {
            Ok(planned) => planned,
            Err(fault) => return Ok(refused("2 merge", &fault)),
        };
    }
    step("3 key", planned.key.as_deref().unwrap_or("none"), None);
    let mut reached = false;
    for target in &route.targets {
        let when = target.when.as_ref().map(|when| format!(" when `{}`", when.text())).unwrap_or_default();
        if !planned.targets.iter().any(|wanted| wanted.name == target.name) {
            let answered = route.request && reached;
            let word = if answered { "not asked: the caller has its answer" } else { "no" };
            step("4 route", &format!("{}{when}: {word}", target.name), None);
            continue;
        }
        reached = true;
        if route.pass.is_some() {
            step("4 route", &format!("{}{when}: yes, as it came", target.name), None);
            continue;
        }
        let map = target.map.as_ref().map_or("as it is", |map| map.name());
        match outbound_body(target, &planned.body) {
            Ok(body) => {
                step("4 route", &format!("{}{when}: yes, mapped by {map} to", target.name), Some(&body));
                match preview(&site.systems, target, &body) {
                    Ok(None) => {}
                    Ok(Some(text)) => {
                        step("5 render", &format!("{} would be sent", target.name), None);
                        text.lines().for_each(|line| out::line(format!("           {line}")));
                    }
                    Err(fault) => return Ok(refused("5 render", &fault)),
                }
            }
            Err(fault) => return Ok(refused("4 map out", &fault)),
        }
    }
    if planned.targets.is_empty() {
        step("4 route", &format!("no target wants it: unrouted is {:?}", route.unrouted), None);
    }
    out::line("nothing was sent");
    Ok(ExitCode::SUCCESS)
}

/// The route as an endpoint's messages go through it.
fn of<'a>(route: &'a Arc<Route>, from: Option<&str>) -> Option<&'a Arc<Route>> {
    let Some(from) = from else { return Some(route) };
    let found = route.of(from);
    if found.is_none() {
        let names: Vec<_> = std::iter::once(route).chain(&route.others).map(|one| one.from.as_str()).collect();
        let close = closest(from, names.iter().copied());
        let help = close.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        out::note(format!("error: `{from}` is no source of route `{}`{help}", route.name));
    }
    found
}

/// A sample by its name; `Err` inside: why it is none.
fn decode(file: &Path) -> anyhow::Result<Result<Sample, String>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.display().to_string();
    Ok(if name.ends_with(".xml") {
        // The file's own declaration says its charset, as it would on a wire that does not.
        gatehouse_core::xml::decode(&bytes, None, &gatehouse_core::limits::BodyLimits::default())
            .map(Sample::from)
            .map_err(|error| error.to_string())
    } else {
        String::from_utf8(bytes)
            .map_err(|error| error.to_string())
            .and_then(|text| decode_sample(&SourceFile::new(name.as_str(), text)))
    })
}

/// What becomes of it and of what other sources have said before.
fn merged(
    route: &Arc<Route>,
    merge: &Merge,
    said: Planned,
    before: &[String],
) -> anyhow::Result<Result<Planned, Fault>> {
    let key = match merge.key(&said.body) {
        Ok(key) => key,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut records = Records::new();
    for word in before {
        let (from, file) = word.split_once('=').context("expected `--before ENDPOINT=FILE`")?;
        let source = of(route, Some(from)).with_context(|| format!("`{from}` is no source"))?;
        let sample = decode(Path::new(file))?.map_err(|reason| anyhow::anyhow!("{file}: {reason}"))?;
        let other = match source.plan(&sample.body, sample.document.as_ref(), &Value::map()) {
            Ok(other) => other,
            Err(fault) => return Ok(Err(fault)),
        };
        if merge.key(&other.body).is_ok_and(|other| other == key) {
            merge.join(&mut records, from, other.body);
        } else {
            step("2 merge", &format!("{file} has another key: it is another record"), None);
        }
    }
    if !merge.join(&mut records, &route.from, said.body) {
        step("2 merge", &format!("`{}` has said something newer of `{key}`: this changes nothing", route.from), None);
    }
    let of: Vec<_> = records.keys().map(|source| format!("`{source}`")).collect();
    let body = match merge.merged(&records) {
        Ok(body) => body,
        Err(conflicts) => return Ok(Err(disagreement(&conflicts))),
    };
    step("2 merge", &format!("record `{key}` of {}", of.join(", ")), Some(&body));
    for name in body.as_map().into_iter().flat_map(|fields| fields.keys()) {
        let has = |record: &Value| record.field(name).is_some_and(|value| *value != Value::Null);
        if records.values().filter(|record| has(record)).count() > 1 {
            let rule = match merge.rule(name) {
                Rule::Latest => "the newest".to_owned(),
                Rule::Prefer(order) => format!("the first of {}", order.join(", ")),
                Rule::Agree => "all agree".to_owned(),
            };
            step("", &format!("{name}: {rule}"), None);
        }
    }
    Ok(route.judge(body))
}

fn step(name: &str, text: &str, value: Option<&Value>) {
    out::line(format!("{name:<10} {text}"));
    if let Some(value) = value {
        let pretty = serde_json::from_str::<serde_json::Value>(&value.to_string())
            .and_then(|value| serde_json::to_string_pretty(&value));
        for line in pretty.unwrap_or_else(|_| value.to_string()).lines() {
            out::line(format!("           {line}"));
        }
    }
}

fn refused(name: &str, fault: &Fault) -> ExitCode {
    out::line(format!("{name:<10} refused: {}", fault.public));
    for violation in &fault.violations {
        out::line(format!("           {}: {}", violation.pointer, violation.message));
    }
    ExitCode::from(out::FAILED)
}
