//! `gatehouse check`: every problem of the site, and nothing else. Pure: no network, no secrets; but with `--live` it also
//! asks the systems.

use std::process::ExitCode;

use super::{SiteArgs, live, out};
use gatehouse_core::site::Site;

pub(super) async fn run(args: &SiteArgs, ask: bool) -> anyhow::Result<ExitCode> {
    let (site, mut problems) = crate::site::load(&args.site, &crate::registry::adapters(None))?;
    let mut seen = None;
    if let (true, Some(site)) = (ask, &site) {
        let mut found = live::look(site, args).await;
        problems.extend(std::mem::take(&mut found.problems));
        seen = Some(found);
    }
    let count = problems.iter().count();
    let stops = out::problems(problems, args.json);
    if let Some(seen) = &seen {
        seen.tell(args.json);
    }
    let well = seen.map_or(ExitCode::SUCCESS, |seen| seen.code());
    if args.json {
        return Ok(if stops { ExitCode::from(out::WRONG) } else { well });
    }
    match site {
        Some(site) if !stops => {
            out::line(format!(
                "{} is sound: {} systems, {} routes, {} mappings, {} types, {} tests",
                args.site.display(),
                site.systems.len(),
                site.routes.len(),
                site.mappings.len(),
                site.types.len(),
                site.tests.len()
            ));
            Ok(well)
        }
        _ => {
            out::line(format!("{count} problem{} in {}", if count == 1 { "" } else { "s" }, args.site.display()));
            Ok(ExitCode::from(out::WRONG))
        }
    }
}

/// Loads a site that must be sound for what comes next; its problems are told if it is not.
pub(super) fn sound(args: &SiteArgs) -> anyhow::Result<Result<Site, ExitCode>> {
    let (site, problems) = crate::site::load(&args.site, &crate::registry::adapters(None))?;
    match site {
        Some(site) => Ok(Ok(site)),
        None => {
            out::problems(problems, args.json);
            Ok(Err(ExitCode::from(out::WRONG)))
        }
    }
}
