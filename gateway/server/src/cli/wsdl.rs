//! `gatehouse wsdl show`: services, operations and fields of a WSDL as a tree. A file of this machine; the network is not asked.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::xml;
use gatehouse_soap::connect::Description;

use super::out;

/// The largest file of a WSDL that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print services, ports, operations and fields as a tree.
    Show {
        /// The WSDL; what it imports is looked for beside it.
        file: PathBuf,
        /// Only these operations, by name.
        #[arg(long, value_delimiter = ',')]
        operations: Vec<String>,
        /// Fields at most so deep.
        #[arg(long, default_value_t = 6)]
        depth: usize,
    },
}

pub(super) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let Verb::Show { file, operations, depth } = verb;
    let mut problems = Problems::new();
    let description = read(&file, &mut problems)?;
    // The remarks first: the tree is what stays in sight.
    out::problems(problems, false);
    let Some(description) = description else { return Ok(ExitCode::from(out::WRONG)) };
    out::line(description.tree(&operations, depth).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Reads a WSDL of this machine, named as it will be in a site: relative to its folder.
///
/// # Errors
/// It is not there, too large, or not in the charset that it declares.
pub(super) fn read(file: &Path, problems: &mut Problems) -> anyhow::Result<Option<Description>> {
    let folder = folder(file);
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let root = source(&folder, &name)?;
    let find = |path: &str| source(&folder, path).ok();
    Ok(Description::read(root, &find, problems))
}

/// The folder that a WSDL and its imports stand in.
pub(super) fn folder(file: &Path) -> PathBuf {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn source(folder: &Path, name: &str) -> anyhow::Result<SourceFile> {
    let path = folder.join(name);
    let failed = |reason: String| anyhow::anyhow!("cannot read {}: {reason}", path.display());
    let size = path.metadata().map_err(|e| failed(e.to_string()))?.len();
    if size > MAX_FILE {
        return Err(failed(format!("{size} bytes; {MAX_FILE} are allowed")));
    }
    let bytes = std::fs::read(&path).map_err(|e| failed(e.to_string()))?;
    let text = xml::text_of(&bytes, None).map_err(|e| failed(e.to_string()))?;
    Ok(SourceFile::new(name, text))
}
