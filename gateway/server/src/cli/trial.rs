//! `gatehouse try ROUTE FILE`: what a file would become, step by step. Nothing is sent.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use gatehouse_core::diagnostics::{SourceFile, closest};
use gatehouse_core::site::{Sample, decode_sample, outbound_body, preview};
use gatehouse_core::{Fault, Value};

use super::{SiteArgs, check, out};

pub(super) fn run(route: &str, file: &Path, args: &SiteArgs) -> anyhow::Result<ExitCode> {
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
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.display().to_string();
    let source = if name.ends_with(".xml") {
        // The file's own declaration says its charset, as it would on a wire that does not.
        gatehouse_core::xml::decode(&bytes, None, &gatehouse_core::limits::BodyLimits::default())
            .map(Sample::from)
            .map_err(|error| error.to_string())
    } else {
        String::from_utf8(bytes)
            .map_err(|error| error.to_string())
            .and_then(|text| decode_sample(&SourceFile::new(name.as_str(), text)))
    };
    let source = match source {
        Ok(source) => source,
        Err(reason) => {
            out::line(format!("1 decode   refused: {name}: {reason}"));
            return Ok(ExitCode::from(out::FAILED));
        }
    };
    step("1 decode", &format!("{name}, as `{}` would send it", route.from), Some(&source.body));
    let planned = match route.plan(&source.body, source.document.as_ref(), &Value::map()) {
        Ok(planned) => planned,
        Err(fault) => return Ok(refused("2 map in, validate", &fault)),
    };
    let map = route.map.as_ref().map_or("no mapping", |map| map.name());
    step(
        "2 map in",
        &format!("{map} → {}; it is a sound `{}`", route.kind.name(), route.kind.name()),
        Some(&planned.body),
    );
    step("3 key", planned.key.as_deref().unwrap_or("none"), None);
    for target in &route.targets {
        let when = target.when.as_ref().map(|when| format!(" when `{}`", when.text())).unwrap_or_default();
        if !planned.targets.iter().any(|wanted| wanted.name == target.name) {
            step("4 route", &format!("{}{when}: no", target.name), None);
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
