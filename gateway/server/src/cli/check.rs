//! `gatehouse check`: every problem of the site, and nothing else. Pure: no network, no secrets.

use std::process::ExitCode;

use super::{SiteArgs, out};
use gatehouse_core::site::Site;

pub(super) fn run(args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let (site, problems) = crate::site::load(&args.site, &crate::registry::adapters(None))?;
    let count = problems.iter().count();
    let stops = out::problems(problems, args.json);
    if args.json {
        return Ok(if stops { ExitCode::from(out::WRONG) } else { ExitCode::SUCCESS });
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
            Ok(ExitCode::SUCCESS)
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
