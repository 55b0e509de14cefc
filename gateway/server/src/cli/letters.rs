//! `gatehouse letters`: what support staff do with dead letters, over the admin listener of the running gateway.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use gatehouse_store::{Filter, State, Summary};
use indicatif::{ProgressBar, ProgressStyle};

use super::api::{Api, DeskArgs};
use super::{SiteArgs, check, out};
use crate::admin::{DiscardRequest, EditRequest, LetterView, MAX_PAGE, ReplayRequest};
use crate::engine::letters::Replayed;

/// How many letters one call replays, so that the progress is seen.
const BATCH: usize = 50;

/// Which letters.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// In this state: open, claimed, published, resolved or discarded.
    #[arg(long)]
    state: Option<String>,
    /// Of this route.
    #[arg(long)]
    route: Option<String>,
    /// For this target: `erp/CreateSalesOrder`.
    #[arg(long)]
    target: Option<String>,
    /// For or from this system.
    #[arg(long)]
    system: Option<String>,
    /// With this cause: `refused`, or part of its text.
    #[arg(long)]
    cause: Option<String>,
    /// With this business key.
    #[arg(long)]
    key: Option<String>,
    /// Of this message.
    #[arg(long)]
    message: Option<String>,
    /// Died at or after: `2026-11-24T08:00:00Z`.
    #[arg(long)]
    since: Option<jiff::Timestamp>,
    /// Died before.
    #[arg(long)]
    until: Option<jiff::Timestamp>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// List letters, newest first.
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one letter whole: every attempt, what was sent and answered, the body.
    Show {
        /// Its number.
        id: i64,
    },
    /// Send letters again, each to the target it failed at, with the delivery id it had.
    Replay {
        /// Their numbers; or a filter.
        ids: Vec<i64>,
        #[command(flatten)]
        filter: FilterArgs,
        /// Every open letter that the filter finds (needed where no number is given).
        #[arg(long)]
        all: bool,
    },
    /// Give an open letter a new body; it is judged by its type first.
    Edit {
        /// Its number.
        id: i64,
        /// The file with the new body (JSON). Without it, `$EDITOR` opens the body as it stands.
        #[arg(long)]
        file: Option<std::path::PathBuf>,
    },
    /// Decide that a letter need not arrive.
    Discard {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Write letters, whole, as JSON lines.
    Export {
        #[command(flatten)]
        filter: FilterArgs,
    },
}

pub(super) async fn run(verb: Verb, args: &SiteArgs, desk: &DeskArgs) -> anyhow::Result<ExitCode> {
    let site = match check::sound(args)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let api = Api::of(&site, args)?;
    match verb {
        Verb::List { filter, limit } => list(&api, &filter.check()?, limit, args.json).await,
        Verb::Show { id } => show(&api, id, args.json).await,
        Verb::Replay { ids, filter, all } => replay(&api, ids, filter.check()?, all, desk, args.json).await,
        Verb::Edit { id, file } => edit(&api, id, file, desk).await,
        Verb::Discard { ids, reason } => {
            for id in &ids {
                let request = DiscardRequest { reason: reason.clone(), actor: desk.actor.clone() };
                api.send::<_, ()>("POST", &format!("/api/v1/letters/{id}/discard"), Some(&request)).await?;
                out::line(format!("letter {id} is discarded: {reason}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Export { filter } => export(&api, &filter.check()?).await,
    }
}

impl FilterArgs {
    fn check(self) -> anyhow::Result<Filter> {
        let state = self.state.as_deref().map(|word| {
            serde_json::from_value::<State>(serde_json::Value::String(word.to_owned()))
                .map_err(|_| anyhow::anyhow!("`{word}` is no state: open, claimed, published, resolved or discarded"))
        });
        Ok(Filter {
            state: state.transpose()?,
            route: self.route,
            target: self.target,
            system: self.system,
            cause: self.cause,
            key: self.key,
            message_id: self.message,
            since: self.since,
            until: self.until,
        })
    }
}

async fn list(api: &Api, filter: &Filter, limit: u32, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut letters = api.all(filter, limit as usize + 1).await?;
    let more = letters.len() > limit as usize;
    letters.truncate(limit as usize);
    if as_json {
        out::json(&letters);
        return Ok(ExitCode::SUCCESS);
    }
    if letters.is_empty() {
        out::line("no letters");
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format!(
        "{:>6}  {:<9}  {:<16}  {:<14}  {:<28}  {:>3}  why",
        "letter", "state", "since", "key", "target", "try"
    ));
    for letter in &letters {
        let since = letter.created.strftime("%m-%d %H:%M:%S").to_string();
        let target = letter.target.as_deref().unwrap_or("-");
        let key = letter.key.as_deref().unwrap_or("-");
        let state = serde_json::to_value(letter.state)
            .ok()
            .and_then(|word| word.as_str().map(str::to_owned))
            .unwrap_or_default();
        let why: String = letter.text.chars().take(80).collect();
        out::line(format!(
            "{:>6}  {state:<9}  {since:<16}  {key:<14}  {target:<28}  {:>3}  {}: {why}",
            letter.id, letter.attempts, letter.cause
        ));
    }
    if more {
        out::line(format!("there are more: --limit {}", limit * 4));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(api: &Api, id: i64, as_json: bool) -> anyhow::Result<ExitCode> {
    let view: LetterView = api.get(&format!("/api/v1/letters/{id}")).await?;
    if as_json {
        out::json(&view);
        return Ok(ExitCode::SUCCESS);
    }
    let letter = &view.letter;
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    out::line(format!("letter   {} ({:?}), revision {}", letter.id, letter.state, letter.revision));
    out::line(format!(
        "message  {} of type {}, key {}",
        letter.message_id,
        or_dash(&letter.kind),
        or_dash(&letter.key)
    ));
    out::line(format!("way      {} → {} by route {}", letter.source, or_dash(&letter.target), or_dash(&letter.route)));
    out::line(format!("delivery {}", letter.delivery_id));
    if let Some(reason) = &letter.discarded {
        out::line(format!("discarded because: {reason}"));
    }
    for attempt in &view.attempts {
        out::line(format!(
            "attempt {} at {} by {}: {}: {}",
            attempt.number, attempt.at, attempt.instance, attempt.code, attempt.text
        ));
        for (what, text) in [("sent", &attempt.sent), ("answered", &attempt.answered)] {
            for (index, line) in text.as_deref().unwrap_or_default().lines().enumerate() {
                out::line(format!("  {:<9} {line}", if index == 0 { what } else { "" }));
            }
        }
    }
    out::line(format!("body ({})", view.content_type));
    out::line(pretty(&view.body));
    Ok(ExitCode::SUCCESS)
}

async fn replay(
    api: &Api,
    ids: Vec<i64>,
    filter: Filter,
    all: bool,
    desk: &DeskArgs,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let named = filter != Filter::default();
    let ids = match (ids.is_empty(), all) {
        (false, false) if !named => ids,
        (false, _) => bail!("give either numbers or a filter with --all"),
        (true, false) => bail!("give the letters' numbers, or --all with a filter such as `--route shop-order-paid`"),
        (true, true) => {
            let mut ids = Vec::new();
            // A claim whose gateway died can be claimed again once its lease has passed.
            for state in [State::Open, State::Claimed] {
                let found = api.all(&Filter { state: Some(state), ..filter.clone() }, usize::MAX).await?;
                ids.extend(found.into_iter().map(|letter| letter.id));
            }
            ids
        }
    };
    let bar = ProgressBar::new(ids.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} letters, {eta} left") {
        bar.set_style(style);
    }
    let mut outcomes: Vec<Replayed> = Vec::new();
    for batch in ids.chunks(BATCH) {
        let request = ReplayRequest { ids: batch.to_vec(), actor: desk.actor.clone() };
        outcomes.extend(api.send::<_, Vec<Replayed>>("POST", "/api/v1/letters/replay", Some(&request)).await?);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let refused = outcomes.iter().filter(|outcome| outcome.refused.is_some()).count();
    if as_json {
        out::json(&outcomes);
    } else {
        for outcome in &outcomes {
            if let Some(reason) = &outcome.refused {
                out::line(format!("letter {} was not sent: {reason}", outcome.id));
            }
        }
        out::line(format!("{} on their way again, {refused} not", outcomes.len() - refused));
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(out::FAILED) })
}

async fn edit(api: &Api, id: i64, file: Option<std::path::PathBuf>, desk: &DeskArgs) -> anyhow::Result<ExitCode> {
    let view: LetterView = api.get(&format!("/api/v1/letters/{id}")).await?;
    let body = match file {
        Some(path) => std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?,
        None => in_editor(id, &pretty(&view.body))?,
    };
    if pretty(&body) == pretty(&view.body) {
        out::line("nothing changed");
        return Ok(ExitCode::SUCCESS);
    }
    let request = EditRequest { revision: view.letter.revision, body, actor: desk.actor.clone() };
    api.send::<_, ()>("PUT", &format!("/api/v1/letters/{id}/body"), Some(&request)).await?;
    out::line(format!("letter {id} has a new body; send it with `gatehouse letters replay {id}`"));
    Ok(ExitCode::SUCCESS)
}

/// Lets a person change a text in their editor.
fn in_editor(id: i64, text: &str) -> anyhow::Result<String> {
    let editor = std::env::var("EDITOR").context("set EDITOR, or give the new body with --file")?;
    // The body may be personal data: its own file, readable by its owner only, gone afterwards.
    use std::os::unix::fs::OpenOptionsExt;
    let path = std::env::temp_dir().join(format!("gatehouse-letter-{id}-{}.json", uuid::Uuid::new_v4().simple()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    let status =
        std::process::Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&path).status();
    let changed = std::fs::read_to_string(&path);
    let _ = std::fs::remove_file(&path);
    if !status?.success() {
        bail!("{editor} ended with an error; nothing was changed");
    }
    Ok(changed?)
}

async fn export(api: &Api, filter: &Filter) -> anyhow::Result<ExitCode> {
    for summary in api.all(filter, usize::MAX).await? {
        let view: LetterView = api.get(&format!("/api/v1/letters/{}", summary.id)).await?;
        out::line(serde_json::to_string(&view)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn pretty(body: &str) -> String {
    let parsed = serde_json::from_str::<serde_json::Value>(body);
    parsed.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or_else(|_| body.to_owned())
}

impl Api {
    /// Every letter that a filter finds, page by page, at most `most`.
    async fn all(&self, filter: &Filter, most: usize) -> anyhow::Result<Vec<Summary>> {
        let mut letters: Vec<Summary> = Vec::new();
        loop {
            let limit = (most - letters.len()).min(MAX_PAGE as usize);
            let mut query = query(filter)?;
            query.push_str(&format!("&limit={limit}"));
            if let Some(last) = letters.last() {
                query.push_str(&format!("&after={}", last.id));
            }
            let page: Vec<Summary> = self.get(&format!("/api/v1/letters?{query}")).await?;
            let full = page.len() == limit;
            letters.extend(page);
            if !full || letters.len() >= most {
                return Ok(letters);
            }
        }
    }
}

/// A filter as a query string.
fn query(filter: &Filter) -> anyhow::Result<String> {
    let serde_json::Value::Object(fields) = serde_json::to_value(filter)? else { bail!("a filter is an object") };
    let pairs = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
    Ok(serde_urlencoded::to_string(pairs.collect::<Vec<_>>())?)
}
