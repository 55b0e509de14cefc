//! The house rules that a reader would otherwise have to check by eye: heads, sizes, directions, purity, documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines that a file may have before its tests.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file of the repository that ends so, but what cargo makes.
fn files(ending: &str) -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let found: Vec<_> = names
        .lines()
        .filter(|name| name.ends_with(ending))
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)))
        .collect();
    assert!(!found.is_empty(), "there are files that end with {ending}");
    found
}

fn fail(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let headless = files(".rs").into_iter().filter(|(_, text)| !text.starts_with("//!"));
    fail(&headless.map(|(name, _)| format!("{name} does not begin with `//!`")).collect::<Vec<_>>());
}

#[test]
fn no_file_holds_more_than_one_idea() {
    let long = files(".rs").into_iter().filter_map(|(name, text)| {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        (lines > MAX_LINES && !name.contains("tests"))
            .then(|| format!("{name} has {lines} lines before its tests; {MAX_LINES} is the most"))
    });
    fail(&long.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_behind() {
    // Put together here, so that this file does not find itself.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let left = [".rs", ".md", ".yaml", ".sh"].into_iter().flat_map(files);
    let left = left.filter(|(_, text)| words.iter().any(|word| text.contains(word.as_str())));
    fail(&left.map(|(name, _)| format!("{name} leaves something behind")).collect::<Vec<_>>());
}

/// What each of our crates depends on among ourselves, by `cargo metadata`; dev-dependencies do not count.
fn directions() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON");
    let ours = |name: &str| name == "gatehouse" || name.starts_with("gatehouse-");
    let packages = metadata["packages"].as_array().unwrap().iter().map(|package| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str());
        (package["name"].as_str().unwrap().to_owned(), normal.filter(|name| ours(name)).map(str::to_owned).collect())
    });
    packages.collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = [
        ("gatehouse-core", &[][..]),
        ("gatehouse-net", &["gatehouse-core"]),
        ("gatehouse-bus", &["gatehouse-core"]),
        ("gatehouse-store", &["gatehouse-core"]),
        ("gatehouse-rest", &["gatehouse-core", "gatehouse-net"]),
        ("gatehouse-soap", &["gatehouse-core", "gatehouse-net"]),
        ("gatehouse-sql", &["gatehouse-core", "gatehouse-net"]),
    ]
    .into();
    let mut wrong = Vec::new();
    for (name, dependencies) in directions() {
        let Some(allowed) = allowed.get(name.as_str()) else { continue };
        wrong.extend(
            dependencies
                .iter()
                .filter(|dependency| !allowed.contains(&dependency.as_str()))
                .map(|dependency| format!("{name} must not depend on {dependency}")),
        );
    }
    fail(&wrong);
}

#[test]
fn core_is_pure() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "gatehouse-core", "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("gatehouse-core"), "cargo tree answers");
    let impure = ["tokio", "hyper", "lapin", "rusqlite", "tokio-postgres", "mysql_async", "tracing", "axum", "rustls"];
    let found = tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| impure.contains(name));
    fail(&found.map(|name| format!("core pulls {name}")).collect::<Vec<_>>());
}

#[test]
fn core_names_no_adapter() {
    let names = ["\"rest\"", "\"soap\"", "\"sql\"", "gatehouse_rest", "gatehouse_soap", "gatehouse_sql"];
    let core =
        files(".rs").into_iter().filter(|(name, _)| name.starts_with("gateway/core/src/") && !name.contains("tests"));
    let mut wrong = Vec::new();
    for (name, text) in core {
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        wrong.extend(
            code.filter(|line| names.iter().any(|word| line.contains(word))).map(|line| format!("{name}: {line}")),
        );
    }
    fail(&wrong);
}

#[test]
fn every_metric_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let missing = gatehouse::engine::metrics::Metrics::NAMES.iter().filter(|name| !text.contains(**name));
    fail(&missing.map(|name| format!("docs/operations.md does not name {name}")).collect::<Vec<_>>());
}

#[test]
fn every_mapping_word_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/mappings.md")).unwrap();
    let words = gatehouse_core::mapping::TYPES
        .iter()
        .chain(gatehouse_core::mapping::CLEANERS)
        .chain(gatehouse_core::expr::FUNCTIONS);
    let missing = words.filter(|(word, _)| !text.contains(&format!("`{word}")));
    fail(&missing.map(|(word, _)| format!("docs/mappings.md does not name `{word}`")).collect::<Vec<_>>());
}

#[test]
fn both_readmes_name_the_two_commands() {
    for name in ["README.md", "README.zh-CN.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        assert!(text.contains("cargo run --release -- demo") && text.contains("./test"), "{name}");
    }
}

#[test]
fn every_adapters_example_is_sound() {
    let files = gatehouse_core::site::Files::default();
    for adapter in gatehouse::registry::adapters(None) {
        let mut problems = gatehouse_core::diagnostics::Problems::new();
        let file = gatehouse_core::diagnostics::SourceFile::new("systems/example.yaml", adapter.example());
        assert!(adapter.check(&file, &files, &mut problems).is_some(), "{}: {problems:?}", adapter.name());
    }
}

#[test]
fn the_example_site_is_sound_and_passes_its_own_tests() {
    let adapters = gatehouse::registry::adapters(None);
    let (site, problems) = gatehouse::site::load(&root().join("routes"), &adapters).unwrap();
    let site = site.unwrap_or_else(|| panic!("{:?}", problems.sorted()));
    let failures = site.tests.iter().map(|test| test.run(&site.systems)).flat_map(|outcome| outcome.failures);
    let examples =
        site.mappings.values().flat_map(|mapping| mapping.run_examples()).filter_map(|example| example.failure);
    fail(&failures.chain(examples).collect::<Vec<_>>());
    assert!(site.tests.len() >= 6);
}
