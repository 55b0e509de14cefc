//! The largest WSDL of the corpus in memory. A test binary of its own: what others allocate is not counted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

use std::path::PathBuf;

use gatehouse_core::adapter::{Adapter, SiteFiles};
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_soap::Soap;

/// What loading a WSDL may take, in KiB.
const MOST: u64 = 200 << 10;

struct Corpus(PathBuf);

impl SiteFiles for Corpus {
    fn file(&self, path: &str) -> Option<SourceFile> {
        Some(SourceFile::new(path, std::fs::read_to_string(self.0.join(path)).ok()?))
    }

    fn locate(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

#[test]
fn the_largest_wsdl_of_the_corpus_loads_below_200_mb() {
    let named = std::env::var_os("GATEHOUSE_CORPUS").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let folder = named.unwrap_or_else(beside).join("wsdl");
    if !folder.join("ews/services.wsdl").is_file() {
        println!("SKIPPED: the corpus is not at {}", folder.display());
        return;
    }
    let text = "version: 1\nsystem: ews\nadapter: soap\naddress: http://h/\nwsdl: ews/services.wsdl\nendpoints:\n  FindItem: {}\n  CreateItem: {}\n";
    let mut problems = Problems::new();
    let file = SourceFile::new("systems/ews.yaml", text);
    let system = Soap::new(None).check(&file, &Corpus(folder), &mut problems);
    let told: Vec<_> = problems.iter().map(|problem| problem.render(false)).collect();
    assert!(system.is_some(), "{}", told.join("\n"));
    // The most that was resident since the process began (proc(5)).
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells it");
    let most: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("{} MiB resident at most", most >> 10);
    assert!(most < MOST, "{most} KiB");
}
