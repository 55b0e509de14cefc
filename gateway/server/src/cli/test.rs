//! `gatehouse test`: the examples of every mapping row and the route tests of the site.

use std::process::ExitCode;

use super::{SiteArgs, check, out};

/// How one test went, as programs read it.
#[derive(serde::Serialize)]
struct Outcome {
    name: String,
    place: String,
    failures: Vec<String>,
}

pub(super) fn run(args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let site = match check::sound(args)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let mut outcomes = Vec::new();
    for (name, mapping) in &site.mappings {
        for example in mapping.run_examples() {
            outcomes.push(Outcome {
                name: format!("mapping {name}: {}", example.row),
                place: format!("mappings/{name}.yaml"),
                failures: example.failure.into_iter().collect(),
            });
        }
    }
    for test in &site.tests {
        let outcome = test.run(&site.systems);
        outcomes.push(Outcome { name: outcome.name, place: outcome.place, failures: outcome.failures });
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    if args.json {
        out::json(&outcomes);
    } else {
        for outcome in &outcomes {
            out::line(format!(
                "{} {} ({})",
                if outcome.failures.is_empty() { "ok  " } else { "FAIL" },
                outcome.name,
                outcome.place
            ));
            for failure in &outcome.failures {
                out::line(format!("       {failure}"));
            }
        }
        out::line(format!("{} passed, {failed} failed", outcomes.len() - failed));
        if outcomes.is_empty() {
            out::line(
                "this site has no examples and no tests: add `example:` to a mapping row, or a file under tests/",
            );
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(out::FAILED) })
}
