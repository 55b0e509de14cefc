//! `gatehouse check --live`: asks each system that routes send to whether it takes what they give. Nothing is written there.

use std::process::ExitCode;
use std::time::Duration;

use gatehouse_core::adapter::Direction;
use gatehouse_core::diagnostics::Problems;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::outline::Given;
use gatehouse_core::site::Site;

use super::{SiteArgs, out};
use crate::site::ProcessSecrets;

/// How long one system may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the look found.
pub(super) struct Seen {
    /// What does not fit.
    pub(super) problems: Problems,
    /// The systems that were compared.
    pub(super) compared: Vec<String>,
    /// The systems that could not be asked, and why.
    pub(super) unreached: Vec<(String, Fault)>,
}

/// Asks every system.
pub(super) async fn look(site: &Site, args: &SiteArgs) -> Seen {
    let secrets = ProcessSecrets::new(&args.site);
    let mut seen = Seen { problems: Problems::new(), compared: Vec::new(), unreached: Vec::new() };
    for (name, system) in &site.systems {
        if !system.endpoints().iter().any(|endpoint| endpoint.direction == Direction::Outbound) {
            continue;
        }
        let routes = site.routes.iter();
        let given: Vec<Given> = routes
            .flat_map(|route| route.targets.iter().map(move |target| (route, target)))
            .filter(|(_, target)| target.system == *name)
            .map(|(route, target)| route.gives(target))
            .collect();
        let compared = tokio::time::timeout(PATIENCE, system.compare(&given, &secrets)).await;
        let late = || Fault::new(Code::Deadline, format!("no answer within {} s", PATIENCE.as_secs()));
        match compared.unwrap_or_else(|_| Err(late())) {
            Ok(Some(found)) => {
                seen.problems.extend(found);
                seen.compared.push(name.clone());
            }
            // Its protocol does not tell what it takes.
            Ok(None) => {}
            Err(fault) => seen.unreached.push((name.clone(), fault)),
        }
    }
    seen
}

impl Seen {
    /// Says for people what was looked at, and what could not be.
    pub(super) fn tell(&self, json: bool) {
        if !json && !self.compared.is_empty() {
            out::line(format!("compared with what is really there: {}", self.compared.join(", ")));
        }
        for (name, fault) in &self.unreached {
            let private = fault.private.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            out::note(format!("error: system {name} could not be asked: {}{private}", fault.public));
        }
    }

    /// How the command ends where nothing is wrong with the site.
    pub(super) fn code(&self) -> ExitCode {
        if self.unreached.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(out::FAILED) }
    }
}
