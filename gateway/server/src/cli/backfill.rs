//! `gatehouse backfill`: rows that a source still holds are read once more for one route. The gateway does it; this asks it to,
//! and shows how it goes.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use gatehouse_store::{Backfill, BackfillState, Tally};
use indicatif::{ProgressBar, ProgressStyle};

use super::api::{Api, DeskArgs};
use super::{SiteArgs, check, out};
use crate::admin::backfills::TurnRequest;
use crate::engine::backfill::{Begun, View, Wish};

/// How often the gateway is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Slices that are listed for people; programs get them all.
const MAX_SHOWN: usize = 40;

/// What to read once more.
#[derive(Clone, Debug, Args)]
pub(crate) struct StartArgs {
    /// The route that gets the rows.
    route: String,
    /// Of a route with several sources (`merge`): which of them is read.
    #[arg(long)]
    source: Option<String>,
    /// From this value on: `2026-08-01`, `100000`. Default: from the first row.
    #[arg(long)]
    from: Option<String>,
    /// Up to this value, without it. Default: what is there now.
    #[arg(long)]
    to: Option<String>,
    /// The column that is cut into slices. Default: the endpoint's watermark, else the first column of the key.
    #[arg(long)]
    by: Option<String>,
    /// One of the endpoint's tables. Default: all of them.
    #[arg(long)]
    table: Option<String>,
    /// How wide a slice is: `1d` or `6h` of times, `10000` of numbers. Default: a day, ten thousand, or more where that makes many.
    #[arg(long)]
    slice: Option<String>,
    /// At most so many rows in a time: `25/s`, `600/m`. Default: a quarter of the endpoint's rate, or 100/s.
    #[arg(long)]
    rate: Option<String>,
    /// Also to targets that have taken a row before: with new delivery ids, so that they act once more.
    #[arg(long)]
    again: bool,
    /// Only count and show the slices.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    detach: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// List backfills, newest first.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show one with its slices.
    Show {
        /// Its number.
        id: i64,
        /// Wait until it is done, with a bar.
        #[arg(long)]
        follow: bool,
    },
    /// Hold one; it goes on from there.
    Pause {
        /// Its number.
        id: i64,
    },
    /// Let a paused one go on.
    Resume {
        /// Its number.
        id: i64,
    },
    /// End one. What was sent stays sent.
    Cancel {
        /// Its number.
        id: i64,
    },
}

pub(super) async fn run(
    verb: Option<Verb>,
    start: Option<StartArgs>,
    args: &SiteArgs,
    desk: &DeskArgs,
) -> anyhow::Result<ExitCode> {
    let site = match check::sound(args)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let api = Api::of(&site, args)?;
    match (verb, start) {
        (None, Some(start)) => begin(&api, start, args, desk).await,
        (Some(Verb::List { limit }), _) => list(&api, limit, args.json).await,
        (Some(Verb::Show { id, follow }), _) => {
            if follow {
                watch(&api, id).await?;
            }
            show(&api, id, args.json).await
        }
        (Some(Verb::Pause { id }), _) => turn(&api, id, "pause", args, desk).await,
        (Some(Verb::Resume { id }), _) => turn(&api, id, "resume", args, desk).await,
        (Some(Verb::Cancel { id }), _) => turn(&api, id, "cancel", args, desk).await,
        (None, None) => anyhow::bail!("name a route, or one of list, show, pause, resume, cancel"),
    }
}

async fn begin(api: &Api, start: StartArgs, args: &SiteArgs, desk: &DeskArgs) -> anyhow::Result<ExitCode> {
    let wish = Wish {
        route: start.route,
        source: start.source,
        from: start.from,
        to: start.to,
        by: start.by,
        table: start.table,
        slice: start.slice,
        rate: start.rate,
        again: start.again,
        dry_run: start.dry_run,
        actor: desk.actor.clone(),
    };
    let begun: Begun = api.send("POST", "/api/v1/backfills", Some(&wish)).await?;
    let Some(id) = begun.id else {
        if args.json {
            out::json(&begun);
            return Ok(ExitCode::SUCCESS);
        }
        for slice in begun.slices.iter().take(MAX_SHOWN) {
            out::line(format!("{} {}", slice.table, bounds(slice)));
        }
        more(begun.slices.len());
        let rows = begun.expected.map_or_else(|| "? ".to_owned(), |rows| rows.to_string());
        out::line(format!("{rows} rows in {} slices, at most {}; nothing was read", begun.slices.len(), begun.rate));
        return Ok(ExitCode::SUCCESS);
    };
    if start.detach {
        if args.json {
            out::json(&begun);
        } else {
            out::line(format!("backfill {id} runs in the gateway: `gatehouse backfill show {id} --follow`"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    out::note(format!(
        "backfill {id} runs in the gateway, also when this ends: `gatehouse backfill pause {id}` holds it"
    ));
    watch(api, id).await?;
    show(api, id, args.json).await
}

/// Draws a bar until the gateway has done it, or somebody holds it.
async fn watch(api: &Api, id: i64) -> anyhow::Result<()> {
    let view: View = api.get(&format!("/api/v1/backfills/{id}")).await?;
    let bar = ProgressBar::new(view.backfill.expected.unwrap_or(view.backfill.slices));
    let (counts, what) =
        (view.backfill.expected.is_some(), if view.backfill.expected.is_some() { "rows" } else { "slices" });
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}, {{eta}} left, {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    loop {
        let view: View = api.get(&format!("/api/v1/backfills/{id}")).await?;
        let found = &view.backfill;
        let position = if counts { found.tally.read } else { found.slices_done };
        // Rows that came meanwhile are read too.
        bar.set_length(bar.length().unwrap_or(0).max(position));
        bar.set_position(position);
        bar.set_message(format!("slice {} of {}, {} refused", found.slices_done, found.slices, found.tally.refused));
        if found.state != BackfillState::Running {
            bar.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn show(api: &Api, id: i64, as_json: bool) -> anyhow::Result<ExitCode> {
    let view: View = api.get(&format!("/api/v1/backfills/{id}")).await?;
    if as_json {
        out::json(&view);
        return Ok(outcome(&view.backfill));
    }
    for slice in view.slices.iter().take(MAX_SHOWN) {
        let state = if slice.done {
            "done"
        } else if slice.after.is_some() {
            "begun"
        } else {
            "waits"
        };
        out::line(format!(
            "{:>5}  {state:<5}  {} {}: {}",
            slice.number,
            slice.slice.table,
            bounds(&slice.slice),
            counts(&slice.tally)
        ));
    }
    more(view.slices.len());
    out::line(line(&view.backfill));
    Ok(outcome(&view.backfill))
}

async fn list(api: &Api, limit: u32, as_json: bool) -> anyhow::Result<ExitCode> {
    let found: Vec<Backfill> = api.get(&format!("/api/v1/backfills?limit={limit}")).await?;
    if as_json {
        out::json(&found);
    } else if found.is_empty() {
        out::line("no backfills");
    } else {
        found.iter().for_each(|backfill| out::line(line(backfill)));
    }
    Ok(ExitCode::SUCCESS)
}

async fn turn(api: &Api, id: i64, verb: &str, args: &SiteArgs, desk: &DeskArgs) -> anyhow::Result<ExitCode> {
    let request = TurnRequest { actor: desk.actor.clone() };
    let found: Backfill = api.send("POST", &format!("/api/v1/backfills/{id}/{verb}"), Some(&request)).await?;
    if args.json {
        out::json(&found);
    } else {
        out::line(line(&found));
    }
    Ok(ExitCode::SUCCESS)
}

/// Well where all of it was read and nothing became a letter, or it still runs.
fn outcome(found: &Backfill) -> ExitCode {
    let well = match found.state {
        BackfillState::Running => true,
        BackfillState::Done => found.tally.refused == 0,
        BackfillState::Paused | BackfillState::Cancelled => false,
    };
    if well { ExitCode::SUCCESS } else { ExitCode::from(out::FAILED) }
}

fn line(found: &Backfill) -> String {
    let problem = found.problem.as_ref().map(|problem| format!("; it cannot go on: {problem}")).unwrap_or_default();
    format!(
        "backfill {} of {} ({}) is {}: {} of {} slices, {}{problem}",
        found.id,
        found.route,
        found.rate,
        found.state.as_str(),
        found.slices_done,
        found.slices,
        counts(&found.tally)
    )
}

fn counts(tally: &Tally) -> String {
    let mut text = format!("{} rows", tally.read);
    let parts = [
        (tally.accepted, "accepted"),
        (tally.recognised, "recognised"),
        (tally.dropped, "dropped"),
        (tally.refused, "refused, see `gatehouse letters list`"),
    ];
    for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    text
}

fn bounds(slice: &gatehouse_core::backfill::Slice) -> String {
    let bound = |value: &Option<String>| value.clone().unwrap_or_else(|| "…".to_owned());
    format!("{} {} to {}", slice.by, bound(&slice.from), bound(&slice.to))
}

fn more(slices: usize) {
    if slices > MAX_SHOWN {
        out::line(format!("… and {} more slices: `--json` tells them all", slices - MAX_SHOWN));
    }
}
