//! Reading a site's folder, and fetching the secrets that it names. What the files mean is core's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gatehouse_core::adapter::Adapter;
use gatehouse_core::diagnostics::Problems;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::{Secret, SecretRef, Secrets};
use gatehouse_core::site::{Files, Site};

/// Folders of a site that are not read: what the gateway keeps, and what editors and git leave.
const SKIPPED: [&str; 2] = ["data", "target"];

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The most files of a site.
const MAX_FILES: usize = 10_000;

/// Why a folder cannot be read as a site.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the site at {path}: {reason}")]
pub struct ReadError {
    path: PathBuf,
    reason: String,
}

/// Reads every text file of a site: four levels deep, no links, nothing hidden.
///
/// # Errors
/// The folder is not there, a file is not readable, not UTF-8 or too large.
pub fn read(root: &Path) -> Result<Files, ReadError> {
    let mut files = Files::new(root);
    let mut count = 0;
    walk(root, "", 4, &mut files, &mut count)?;
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, levels: u8, files: &mut Files, count: &mut usize) -> Result<(), ReadError> {
    let error = |path: &Path, reason: String| ReadError { path: path.to_owned(), reason };
    let entries = std::fs::read_dir(folder).map_err(|e| error(folder, e.to_string()))?;
    for entry in entries {
        let entry = entry.map_err(|e| error(folder, e.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(|e| error(&entry.path(), e.to_string()))?;
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            if levels > 0 && !(prefix.is_empty() && SKIPPED.contains(&name.as_str())) {
                walk(&entry.path(), &format!("{path}/"), levels - 1, files, count)?;
            }
            continue;
        }
        let known = [".yaml", ".yml", ".json", ".xml", ".wsdl", ".xsd", ".txt"];
        // A ConfigMap mounts its files as links; what they point to is read, a link to a folder is not.
        if !known.iter().any(|ending| name.ends_with(ending)) || !entry.path().is_file() {
            continue;
        }
        *count += 1;
        if *count > MAX_FILES {
            return Err(error(folder, format!("more than {MAX_FILES} files; is this the right folder?")));
        }
        let size = entry.path().metadata().map_err(|e| error(&entry.path(), e.to_string()))?.len();
        if size > MAX_FILE {
            return Err(error(&entry.path(), format!("{size} bytes; a file of a site may have {MAX_FILE}")));
        }
        let bytes = std::fs::read(entry.path()).map_err(|e| error(&entry.path(), e.to_string()))?;
        match String::from_utf8(bytes) {
            Ok(text) => files.insert(path, text),
            Err(bad) if name.ends_with(".yaml") || name.ends_with(".yml") => {
                return Err(error(&entry.path(), format!("it is not UTF-8: {}; save it as UTF-8", bad.utf8_error())));
            }
            Err(bad) if name.ends_with(".wsdl") || name.ends_with(".xsd") => {
                let text = gatehouse_core::xml::text_of(bad.as_bytes(), None).map(std::borrow::Cow::into_owned);
                files.insert(path, text.map_err(|e| error(&entry.path(), e.to_string()))?);
            }
            // A sample in another charset is data, not configuration.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Reads and checks a site.
///
/// # Errors
/// As [`read`]. What is wrong *in* the files comes back as problems.
pub fn load(root: &Path, adapters: &[Arc<dyn Adapter>]) -> Result<(Option<Site>, Problems), ReadError> {
    let files = read(root)?;
    Ok(Site::check(&files, adapters))
}

/// Fetches secrets from the environment and from files.
#[derive(Clone, Debug)]
pub struct ProcessSecrets {
    root: PathBuf,
}

impl ProcessSecrets {
    /// Relative `${file:…}` paths are taken from `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl Secrets for ProcessSecrets {
    fn fetch(&self, secret: &SecretRef) -> Result<Secret, Fault> {
        let missing = |reason: String| Fault::new(Code::Misconfigured, format!("the secret {secret} {reason}"));
        let value = match secret {
            SecretRef::Env(name) => {
                std::env::var(name).map_err(|_| missing("is not set in the environment".to_owned()))?
            }
            SecretRef::File(path) => {
                let text = std::fs::read_to_string(self.root.join(path))
                    .map_err(|e| missing(format!("cannot be read: {e}")))?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                text.strip_suffix('\r').unwrap_or(text).to_owned()
            }
        };
        if value.is_empty() {
            return Err(missing("is empty".to_owned()));
        }
        Ok(Secret::new(value))
    }
}
