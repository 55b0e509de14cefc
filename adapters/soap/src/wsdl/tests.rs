//! Every WSDL of the corpus, against what an existing client says of it.

use std::path::{Path, PathBuf};

use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::xml;

use super::*;

/// The folder of real files, or `None`, told loudly.
pub(crate) fn corpus(part: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GATEHOUSE_CORPUS").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let folder = named.unwrap_or_else(beside).join(part);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: the corpus is not at {}", folder.display());
    None
}

/// Reads a WSDL from a folder as the site would.
pub(crate) fn load(folder: &Path, name: &str) -> Result<Wsdl, String> {
    let find = |path: &str| {
        let bytes = std::fs::read(folder.join(path)).ok()?;
        Some(SourceFile::new(path, xml::text_of(&bytes, None).ok()?))
    };
    let mut problems = Problems::new();
    let wsdl = read(find(name).ok_or("not there")?, &find, &mut problems);
    let told = problems.iter().map(|problem| problem.render(false)).collect::<Vec<_>>().join("\n");
    wsdl.ok_or(told)
}

#[test]
fn the_corpus_loads_with_the_same_operations() {
    let Some(folder) = corpus("wsdl") else { return };
    let oracle = std::fs::read_to_string(folder.join("ORACLE.tsv")).unwrap();
    let mut wrong = Vec::new();
    for line in oracle.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        let (file, verdict, counts) = (cells[0], cells[5], cells[6]);
        match (verdict, load(&folder, file)) {
            ("loads", Ok(wsdl)) => {
                let ports: Vec<_> = wsdl.services.iter().flat_map(|service| &service.ports).collect();
                let operations: usize = ports.iter().map(|port| port.operations.len()).sum();
                let ours = format!("{}/{}/{operations}", wsdl.services.len(), ports.len());
                if ours != counts {
                    wrong.push(format!("{file}: {ours} instead of {counts}"));
                }
            }
            ("loads", Err(told)) => wrong.push(format!("{file}: {told}")),
            (_, Ok(_)) => println!("{file}: loads here, and not there"),
            (_, Err(told)) => assert!(told.contains(&format!("{file}:")), "{file}: {told}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
