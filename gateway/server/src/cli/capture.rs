//! `gatehouse capture`: shows, makes and removes what an endpoint that reads by trigger or by log needs in its database.

use std::process::ExitCode;

use clap::Subcommand;
use gatehouse_core::adapter::SiteFiles;
use gatehouse_sql::Installer;

use super::{SiteArgs, check, out};
use crate::site::{self, ProcessSecrets};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the statements that make what is needed (triggers and their table; a publication and a slot); with `--yes` run them.
    Install {
        /// The endpoint: `finance/payments`.
        endpoint: String,
        /// Run them. Without it they are only shown, for whoever may.
        #[arg(long)]
        yes: bool,
    },
    /// Show what is there.
    Show {
        /// The endpoint: `finance/payments`.
        endpoint: String,
    },
    /// Show the statements that take it away, with the changes that were not read; with `--yes` run them.
    Remove {
        /// The endpoint: `finance/payments`.
        endpoint: String,
        /// Run them.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(verb: Verb, args: &SiteArgs) -> anyhow::Result<ExitCode> {
    if let Err(code) = check::sound(args)? {
        return Ok(code);
    }
    let (Verb::Install { endpoint: full, .. } | Verb::Show { endpoint: full } | Verb::Remove { endpoint: full, .. }) =
        &verb;
    let files = site::read(&args.site)?;
    let file = full.split_once('/').and_then(|(system, endpoint)| {
        let file = ["yaml", "yml"].iter().find_map(|ending| files.file(&format!("systems/{system}.{ending}")))?;
        Some((file, endpoint))
    });
    let Some((file, endpoint)) = file else {
        out::note(format!("error: the site has no system for `{full}`; an endpoint is named `system/endpoint`"));
        return Ok(ExitCode::from(out::WRONG));
    };
    let secrets = ProcessSecrets::new(&args.site);
    let opened = async {
        let installer = Installer::open(&file, &files, endpoint, &secrets).await?;
        let (statements, yes) = match &verb {
            Verb::Install { yes, .. } => (installer.statements().await?, *yes),
            Verb::Remove { yes, .. } => (installer.removal(), *yes),
            Verb::Show { .. } => (Vec::new(), false),
        };
        if yes {
            installer.run(&statements).await?;
        }
        let status = installer.status().await?;
        Ok::<_, gatehouse_core::fault::Fault>((statements, yes, status))
    };
    let (statements, yes, status) = match opened.await {
        Ok(opened) => opened,
        Err(fault) => return Ok(out::refused(&fault)),
    };
    if args.json {
        out::json(&serde_json::json!({
            "endpoint": full, "statements": statements, "done": yes, "whole": status.whole, "tables": status.lines,
        }));
    } else {
        if !yes {
            for statement in &statements {
                out::line(format!("{statement};"));
            }
        }
        for line in &status.lines {
            out::note(line);
        }
        if !statements.is_empty() && !yes {
            out::note("nothing was changed: add `--yes` to run these statements, or have them run by whoever may");
        }
    }
    let well = !matches!(verb, Verb::Show { .. }) || status.whole;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(out::FAILED) })
}
