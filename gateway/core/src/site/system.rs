//! `systems/*.yaml`: finds each file's adapter and lets it check the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::Files;
use crate::adapter::{Adapter, System};
use crate::diagnostics::{Problem, Problems, closest};
use crate::yaml::{self, Located};

/// What every system file begins with; the rest is its adapter's to read.
#[derive(Deserialize)]
struct Head {
    version: Located<u32>,
    system: Located<String>,
    adapter: Located<String>,
}

pub(super) fn check(
    files: &Files,
    adapters: &[Arc<dyn Adapter>],
    problems: &mut Problems,
) -> BTreeMap<String, Arc<dyn System>> {
    let mut systems = BTreeMap::new();
    for file in files.under("systems/", ".yaml") {
        let Some(head) = yaml::read::<Head>(file, problems) else { continue };
        super::gateway::check_version(&head.version, file, problems);
        let expected = file.name().trim_start_matches("systems/").trim_end_matches(".yaml");
        if head.system.value != expected {
            problems.push(
                Problem::error(
                    "name",
                    file,
                    head.system.span.clone(),
                    format!("the file is `{expected}.yaml` but the system is called `{}`", head.system.value),
                )
                .help(format!("rename the file to `{}.yaml`, or write `system: {expected}`", head.system.value)),
            );
        }
        let Some(adapter) = adapters.iter().find(|adapter| adapter.name() == head.adapter.value) else {
            let known: Vec<_> = adapters.iter().map(|adapter| adapter.name()).collect();
            let help = match closest(&head.adapter, known.iter().copied()) {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("there are: {}", known.join(", ")),
            };
            problems.push(
                Problem::error(
                    "unknown-adapter",
                    file,
                    head.adapter.span.clone(),
                    format!("there is no adapter `{}`", head.adapter.value),
                )
                .help(help),
            );
            continue;
        };
        if let Some(system) = adapter.check(file, files, problems) {
            systems.insert(system.name().to_owned(), system);
        }
    }
    systems
}
