//! `gatehouse connect soap`: a system's file, types and mapping skeletons from its WSDL, into the site, never over what is there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use gatehouse_core::diagnostics::Problems;
use gatehouse_soap::connect::{NewFile, Wanted};

use super::{SiteArgs, fetch, out, wsdl};

/// The folder of a site in which WSDLs stand.
const FOLDER: &str = "wsdl";

#[derive(Debug, Subcommand)]
pub(super) enum Kind {
    /// From a WSDL: systems/NAME.yaml, a JSON Schema for each body, a mapping skeleton for each operation.
    Soap(SoapArgs),
    /// From a database: lists its tables; for those that are named systems/NAME.yaml, a JSON Schema and a mapping skeleton.
    Sql(super::connect_sql::SqlArgs),
}

#[derive(Debug, Args)]
pub(super) struct SoapArgs {
    /// The WSDL; what it imports is looked for beside it. A URL (`http://…?wsdl`) where `--fetch` allows its host.
    wsdl: PathBuf,
    /// A host from which the WSDL and its imports may be fetched; may come again. Without it the network is not asked.
    #[arg(long)]
    fetch: Vec<String>,
    /// The system's name. Default: that of the WSDL's file.
    #[arg(long)]
    name: Option<String>,
    /// The operations to take up, by name. Default: all.
    #[arg(long, value_delimiter = ',')]
    operations: Vec<String>,
    /// The port. Default: the first that speaks SOAP.
    #[arg(long)]
    port: Option<String>,
    /// The system calls the gateway, on this path: `/soap/erp`. Default: the gateway calls the system.
    #[arg(long)]
    listen: Option<String>,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
    /// Say what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(kind: Kind, site: &SiteArgs) -> anyhow::Result<ExitCode> {
    let mut args = match kind {
        Kind::Soap(args) => args,
        Kind::Sql(args) => return super::connect_sql::run(args, site).await,
    };
    let fetched = tempfile::tempdir().context("a folder for what is fetched")?;
    if let Some(address) = args.wsdl.to_str().filter(|address| address.contains("://")) {
        args.wsdl = fetch::fetch(address, &args.fetch, fetched.path()).await?;
    }
    let mut problems = Problems::new();
    let description = wsdl::read(&args.wsdl, &mut problems)?;
    out::problems(problems, site.json);
    let Some(description) = description else { return Ok(ExitCode::from(out::WRONG)) };

    let stem = args.wsdl.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let system = args.name.clone().unwrap_or_else(|| stem.replace(|c: char| !c.is_alphanumeric(), "-"));
    let own_name = args.wsdl.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (kept, inside) = kept(&args.wsdl, &own_name, &site.site);
    let wanted = Wanted {
        system: system.clone(),
        wsdl: kept,
        port: args.port.clone(),
        operations: args.operations.clone(),
        listen: args.listen.clone(),
    };
    let files = match description.files_for(&wanted) {
        Ok(files) => files,
        Err(reason) => {
            out::note(format!("error: {reason}"));
            return Ok(ExitCode::from(out::WRONG));
        }
    };
    // A copy that is there already, byte for byte, needs no writing.
    let folder = wsdl::folder(&args.wsdl);
    let is_new = |name: &&str| !same(&folder.join(name), &site.site.join(FOLDER).join(name));
    let copies: Vec<&str> = if inside { Vec::new() } else { description.files().filter(is_new).collect() };
    let copied = copies.iter().map(|name| format!("{FOLDER}/{name}"));
    let taken: Vec<_> =
        files.iter().map(|file| file.path.clone()).chain(copied).filter(|path| site.site.join(path).exists()).collect();
    if !taken.is_empty() && !args.force && !args.dry_run {
        refuse(&taken.iter().map(String::as_str).collect::<Vec<_>>());
        return Ok(ExitCode::from(out::WRONG));
    }
    let verb = if args.dry_run { "would write" } else { "wrote" };
    for name in copies {
        if !args.dry_run {
            copy(&folder.join(name), &site.site.join(FOLDER).join(name))?;
        }
        out::line(format!("{verb} {FOLDER}/{name}"));
    }
    let files: Vec<_> = files.into_iter().map(|NewFile { path, text }| (path, text)).collect();
    put(&files, site, true, args.dry_run)?;
    if !args.dry_run {
        out::line(format!("next: change the mappings, add a route to or from `{system}/…`, then `gatehouse check`"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes new files into the site, never over what is there unless told; says what it wrote. Tells whether it did.
pub(super) fn put(files: &[(String, String)], site: &SiteArgs, force: bool, dry_run: bool) -> anyhow::Result<bool> {
    let taken: Vec<_> =
        files.iter().map(|(path, _)| path.as_str()).filter(|path| site.site.join(path).exists()).collect();
    if !taken.is_empty() && !force && !dry_run {
        refuse(&taken);
        return Ok(false);
    }
    let verb = if dry_run { "would write" } else { "wrote" };
    for (path, text) in files {
        if !dry_run {
            write(&site.site.join(path), text)?;
        }
        out::line(format!("{verb} {path}"));
    }
    Ok(true)
}

fn refuse(taken: &[&str]) {
    out::note(format!(
        "error: {} {} there already; nothing was written. Give the system another `--name`, or `--force`",
        taken.join(", "),
        if taken.len() == 1 { "is" } else { "are" }
    ));
}

/// Where the WSDL stands in the site, and whether it is there already.
fn kept(wsdl: &Path, name: &str, site: &Path) -> (String, bool) {
    let within = || {
        let (wsdl, site) = (wsdl.canonicalize().ok()?, site.canonicalize().ok()?);
        let relative = wsdl.strip_prefix(site).ok()?.to_str()?.replace('\\', "/");
        Some(relative)
    };
    match within() {
        Some(relative) => (relative, true),
        None => (format!("{FOLDER}/{name}"), false),
    }
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((std::fs::read(one), std::fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// The bytes as they are: their charset is theirs.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(to: &Path, text: &str) -> anyhow::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}
