//! `gatehouse graph`: the routes as a picture, in Mermaid or Graphviz DOT.

use std::fmt::Write;
use std::process::ExitCode;

use gatehouse_core::site::Site;

use super::{SiteArgs, check, out};

/// How the picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For Markdown: GitHub, GitLab and many wikis draw it.
    Mermaid,
    /// For `dot -Tsvg`.
    Dot,
}

pub(super) fn run(format: Format, args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let site = match check::sound(args)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    out::line(draw(&site, format));
    Ok(ExitCode::SUCCESS)
}

/// One arrow from each endpoint through its route to each target.
fn draw(site: &Site, format: Format) -> String {
    let mut text = String::from(if format == Format::Mermaid {
        "flowchart LR"
    } else {
        "digraph gatehouse {\n  rankdir=LR;\n  node [shape=box];"
    });
    let quote = |word: &str| word.replace('"', "'");
    let node = |name: &str| name.replace(['/', '-', '.'], "_");
    for route in &site.routes {
        let kind = if route.pass.is_some() { "as it came" } else { route.kind.name() };
        let label = format!("{} : {kind}", route.name);
        for source in std::iter::once(route).chain(&route.others) {
            // Writing into a String cannot fail.
            let _ = match format {
                Format::Mermaid => write!(
                    text,
                    "\n  {0}([\"{1}\"]) --> route_{2}[\"{3}\"]",
                    node(&source.from),
                    quote(&source.from),
                    node(&route.name),
                    quote(&label)
                ),
                Format::Dot => {
                    write!(text, "\n  \"{0}\" [shape=oval];\n  \"{0}\" -> \"{1}\";", quote(&source.from), quote(&label))
                }
            };
        }
        for target in &route.targets {
            let when = target.when.as_ref().map(|when| quote(when.text()));
            let _ = match (format, when) {
                (Format::Mermaid, Some(when)) => write!(
                    text,
                    "\n  route_{} -->|\"{when}\"| {}([\"{}\"])",
                    node(&route.name),
                    node(&target.name),
                    quote(&target.name)
                ),
                (Format::Mermaid, None) => write!(
                    text,
                    "\n  route_{} --> {}([\"{}\"])",
                    node(&route.name),
                    node(&target.name),
                    quote(&target.name)
                ),
                (Format::Dot, when) => write!(
                    text,
                    "\n  \"{0}\" [shape=oval];\n  \"{1}\" -> \"{0}\"{2};",
                    quote(&target.name),
                    quote(&label),
                    when.map(|when| format!(" [label=\"{when}\"]")).unwrap_or_default()
                ),
            };
        }
    }
    if format == Format::Dot {
        text.push_str("\n}");
    }
    text
}
