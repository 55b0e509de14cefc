//! `gatehouse connect sql`: lists a database's tables, or writes the first files of a system from them.

use std::process::ExitCode;

use clap::Args;
use gatehouse_core::diagnostics::Problems;
use gatehouse_core::site::Files;
use gatehouse_sql::connect::{Catalogue, Wanted};

use super::{SiteArgs, connect, out};
use crate::site::ProcessSecrets;

#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// The database: `postgres://user@host:5432/name`, `mysql://user@host:3306/name`, `sqlite:data/books.db`, `odbc:Driver={…};Server=…;UID=user`. No password.
    url: String,
    /// The tables to take up, by name or with `*`: `orders,sales.*`. Without it: they are listed, and nothing is written.
    #[arg(long, value_delimiter = ',')]
    tables: Vec<String>,
    /// The system's name. Default: that of the database.
    #[arg(long)]
    name: Option<String>,
    /// Where the password stands: `env:NAME` or `file:PATH` (from the site). Default: `env:NAME_PASSWORD` for the system's NAME.
    #[arg(long)]
    password: Option<String>,
    /// The gateway writes into the tables. Default: it reads them.
    #[arg(long)]
    write: bool,
    /// How they are read: `watermark`, `outbox`, `trigger` or `log`. Default: by watermark where a column looks like one, else by trigger.
    #[arg(long)]
    by: Option<String>,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
    /// Say what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: SqlArgs, site: &SiteArgs) -> anyhow::Result<ExitCode> {
    let wanted = match wanted(&args) {
        Ok(wanted) => wanted,
        Err(reason) => {
            out::note(format!("error: {reason}"));
            return Ok(ExitCode::from(out::WRONG));
        }
    };
    let mut problems = Problems::new();
    let read = wanted.read(&Files::new(&site.site), &ProcessSecrets::new(&site.site), &mut problems).await;
    out::problems(problems, site.json);
    let catalogue = match read {
        Ok(Some(catalogue)) => catalogue,
        Ok(None) => return Ok(ExitCode::from(out::WRONG)),
        Err(fault) => return Ok(out::refused(&fault)),
    };
    if args.tables.is_empty() {
        list(&catalogue, site.json);
        return Ok(ExitCode::SUCCESS);
    }
    let files = match catalogue.files(&wanted) {
        Ok(files) => files,
        Err(reason) => {
            out::note(format!("error: {reason}"));
            return Ok(ExitCode::from(out::WRONG));
        }
    };
    let files: Vec<_> = files.into_iter().map(|file| (file.path, file.text)).collect();
    let written = connect::put(&files, site, args.force, args.dry_run)?;
    if written && !args.dry_run {
        let system = &wanted.system;
        let way = if args.write { "to" } else { "from" };
        out::line(format!("next: change the mappings, add a route {way} `{system}/…`, then `gatehouse check`"));
        if files.first().is_some_and(|(_, text)| text.contains("by: trigger") || text.contains("by: log")) {
            out::line(format!(
                "      and `gatehouse capture install {system}/…` for the tables that are read by trigger or by log"
            ));
        }
    }
    Ok(if written { ExitCode::SUCCESS } else { ExitCode::from(out::WRONG) })
}

fn wanted(args: &SqlArgs) -> Result<Wanted, String> {
    let shape = "expected `postgres://user@host:5432/name`, `mysql://user@host:3306/name`, `sqlite:FILE` or `odbc:Driver={…};Server=…;UID=user`";
    let (scheme, rest) = args.url.split_once(':').ok_or(shape)?;
    let database = match scheme {
        "postgres" | "postgresql" => "postgres",
        "mysql" | "mariadb" => "mysql",
        "sqlite" => "sqlite",
        "odbc" => "odbc",
        _ => return Err(shape.to_owned()),
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (user, address) = match rest.rsplit_once('@') {
        _ if database == "odbc" => without_user(rest),
        Some((user, address)) if database != "sqlite" => (Some(user.to_owned()), address.to_owned()),
        _ => (None, rest.to_owned()),
    };
    if user.as_deref().is_some_and(|user| user.contains(':')) {
        return Err("a URL holds no password: name its place with `--password env:NAME`".to_owned());
    }
    let stem = address.rsplit(['/', '=']).next().unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default().to_lowercase();
    let system = args.name.clone().unwrap_or_else(|| stem.replace(|c: char| !c.is_alphanumeric(), "-"));
    let default = || {
        let word = system.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        format!("env:{word}_PASSWORD")
    };
    let place = args.password.clone().unwrap_or_else(default);
    if !place.starts_with("env:") && !place.starts_with("file:") {
        return Err("`--password` names where the password stands: `env:NAME` or `file:PATH`".to_owned());
    }
    let password = user.is_some().then(|| format!("${{{place}}}"));
    Ok(Wanted {
        system,
        database: database.to_owned(),
        address,
        user,
        password,
        tables: args.tables.clone(),
        write: args.write,
        by: args.by.clone(),
    })
}

/// A connection string without its user, and the user.
fn without_user(text: &str) -> (Option<String>, String) {
    let is_user = |pair: &&str| pair.split_once('=').is_some_and(|(word, _)| word.trim().eq_ignore_ascii_case("uid"));
    let (users, rest): (Vec<&str>, Vec<&str>) = text.split(';').partition(is_user);
    let user = users.first().and_then(|pair| pair.split_once('=')).map(|(_, user)| user.trim().to_owned());
    (user, rest.join(";"))
}

fn list(catalogue: &Catalogue, json: bool) {
    let listed = catalogue.listed();
    if json {
        let table = |table: &gatehouse_sql::connect::Listed| {
            let columns: Vec<_> = table
                .columns
                .iter()
                .map(|(name, kind, about)| serde_json::json!({ "name": name, "type": kind, "about": about }))
                .collect();
            serde_json::json!({ "table": table.name, "columns": columns })
        };
        return out::json(&listed.iter().map(table).collect::<Vec<_>>());
    }
    for table in &listed {
        out::line(&table.name);
        for (name, kind, about) in &table.columns {
            out::line(format!("  {name}  {kind}  {about}").trim_end());
        }
    }
    out::note(format!("{} tables; take some up with `--tables NAME,NAME`", listed.len()));
}
