//! Where tests find real files that nobody here wrote; only in tests. Absent on most machines, and then it says so.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A folder of the corpus: of `GATEHOUSE_CORPUS`, else of `../shared/corpus` beside the workspace. `None`, said loudly,
/// where there is none; a folder that the variable names must be there.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GATEHOUSE_CORPUS").map(PathBuf::from);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let beside = [workspace.join("../shared/corpus"), workspace.join("../../shared/corpus")];
    let must = named.is_some();
    let found = named.into_iter().chain(beside).map(|root| root.join(name)).find(|folder| folder.is_dir());
    assert!(found.is_some() || !must, "GATEHOUSE_CORPUS has no folder `{name}`");
    if found.is_none() {
        // Past the test runner's capture, so that a skip is seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no corpus `{name}`; set GATEHOUSE_CORPUS to run this test");
    }
    found
}

/// The files below a folder whose names end so, sorted.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
