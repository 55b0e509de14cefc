//! The texts of a site's files by name. Reading them from a folder is the server's; this only holds them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adapter::SiteFiles;
use crate::diagnostics::SourceFile;

/// The files of a site by their path relative to it, with `/` between folders.
#[derive(Clone, Debug, Default)]
pub struct Files {
    files: BTreeMap<String, SourceFile>,
    root: PathBuf,
}

impl Files {
    /// No files yet, of a site whose folder is `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { files: BTreeMap::new(), root: root.to_owned() }
    }

    /// Adds or replaces one.
    pub fn insert(&mut self, path: impl Into<String>, text: impl Into<std::sync::Arc<str>>) {
        let path = path.into();
        self.files.insert(path.clone(), SourceFile::new(path, text));
    }

    /// One file.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.get(path)
    }

    /// The files directly in `folder` (ends with `/`, or empty for the site itself) whose names end with `ending`.
    pub fn under<'a>(&'a self, folder: &'a str, ending: &'a str) -> impl Iterator<Item = &'a SourceFile> {
        self.files.iter().filter_map(move |(path, file)| {
            let name = path.strip_prefix(folder)?;
            (!name.contains('/') && name.ends_with(ending)).then_some(file)
        })
    }
}

impl SiteFiles for Files {
    fn file(&self, path: &str) -> Option<SourceFile> {
        self.files.get(path).cloned()
    }

    fn locate(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}
