//! `merge:` of a route: several sources, one record a key. What it means is [`crate::merge`]; here it is read and checked.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::merge::{Merge, Rule, Source};
use crate::path::{Path, Step};
use crate::schema::Type;
use crate::yaml::{Entries, Located};

/// `merge:` of a route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeFile {
    /// Paths in the canonical body: records with the same values there are of one thing.
    pub key: Vec<Located<String>>,
    /// Path in the canonical body to what says which record is newer: a moment with its offset, or a number.
    pub latest: Located<String>,
    /// Where records come from, the most trusted source first. One source: the newest of its records stands.
    pub sources: Vec<MergeSourceFile>,
    /// What holds for fields that are not named: `latest` (default), `priority` or `agree`.
    #[serde(default)]
    pub otherwise: Option<Located<RuleFile>>,
    /// What holds for a field of the canonical body, by its name.
    #[serde(default)]
    pub fields: Entries<Located<RuleFile>>,
}

/// One source of merged records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeSourceFile {
    /// The endpoint: `crm/customers`.
    pub from: Located<String>,
    /// The mapping from its shape to the canonical body. Default: the body is canonical as it comes.
    #[serde(default)]
    pub map: Option<Located<String>>,
    /// Stands before the first field of the key, so that an id of this source is never taken for another source's.
    #[serde(default)]
    pub prefix: Option<Located<String>>,
}

/// Which source's value survives.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum RuleFile {
    /// `latest`: of the newest record that has one; `priority`: of the first source that has one; `agree`: all that have one must
    /// have the same, else it is a dead letter.
    Word(String),
    /// A priority of its own.
    Prefer(PreferFile),
}

/// A priority of a field's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferFile {
    /// The sources, the most trusted first; the others follow in their order.
    pub prefer: Vec<String>,
}

/// Checks all but what the routes know: endpoints and mappings.
pub(super) fn check(
    read: &MergeFile,
    kind: Option<&Type>,
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<Merge> {
    let before = problems.iter().filter(|problem| problem.severity == crate::diagnostics::Severity::Error).count();
    let names = kind.and_then(Type::root_names);
    let field = |at: &Located<String>, problems: &mut Problems| {
        let path = match Path::parse(at) {
            Ok(path) if path.steps().iter().all(|step| matches!(step, Step::Name(_))) => path,
            Ok(_) => {
                problems.push(Problem::error(
                    "bad-path",
                    file,
                    at.span.clone(),
                    "expected one field, not an element of a list",
                ));
                return None;
            }
            Err((_, reason)) => {
                problems.push(Problem::error("bad-path", file, at.span.clone(), reason));
                return None;
            }
        };
        if let Some(Step::Name(root)) = path.steps().first() {
            known(root, &at.span, names.as_deref(), kind, file, problems);
        }
        Some(path)
    };
    let key: Vec<_> = read.key.iter().filter_map(|at| field(at, problems)).collect();
    let latest = field(&read.latest, problems);
    if read.key.is_empty() {
        let text = "`merge` needs a `key`: the fields that say which records are of one thing";
        problems.push(Problem::error("no-key", file, read.latest.span.clone(), text));
    }
    if read.sources.is_empty() {
        let text = "`merge` needs `sources`: where records come from, the most trusted first";
        problems.push(Problem::error("no-source", file, read.latest.span.clone(), text));
    }
    let endpoints: Vec<String> = read.sources.iter().map(|source| source.from.value.clone()).collect();
    for (at, source) in read.sources.iter().enumerate() {
        if endpoints.iter().take(at).any(|other| *other == source.from.value) {
            let text = format!("`{}` is a source of this route already", source.from.value);
            problems.push(Problem::error("duplicate", file, source.from.span.clone(), text));
        }
        if let Some(prefix) = source.prefix.as_ref().filter(|prefix| prefix.is_empty() || prefix.len() > 40) {
            let text = "expected 1 to 40 characters such as `E-`";
            problems.push(Problem::error("bad-value", file, prefix.span.clone(), text));
        }
    }
    let rule = |at: &Located<RuleFile>, problems: &mut Problems| rule(at, &endpoints, file, problems);
    let otherwise = read.otherwise.as_ref().map_or(Some(Rule::Latest), |at| rule(at, problems));
    let mut fields: Vec<(String, Rule)> = Vec::new();
    for (name, at) in &read.fields.0 {
        known(name, &name.span, names.as_deref(), kind, file, problems);
        fields.extend(rule(at, problems).map(|rule| (name.value.clone(), rule)));
    }
    let after = problems.iter().filter(|problem| problem.severity == crate::diagnostics::Severity::Error).count();
    let source = |source: &MergeSourceFile| Source {
        endpoint: source.from.value.clone(),
        prefix: source.prefix.as_ref().map(|prefix| prefix.value.clone()),
    };
    let sources = read.sources.iter().map(source).collect();
    (before == after).then_some(Merge { key, latest: latest?, sources, otherwise: otherwise?, fields })
}

/// Tells where a name is no field of the type, as far as the type closes its fields.
fn known(
    name: &str,
    span: &std::ops::Range<usize>,
    names: Option<&[String]>,
    kind: Option<&Type>,
    file: &SourceFile,
    problems: &mut Problems,
) {
    let Some(names) = names.filter(|names| !names.iter().any(|known| known == name)) else { return };
    let text = format!("`{}` has no field `{name}`", kind.map_or("the type", Type::name));
    let problem = Problem::error("unknown-field", file, span.clone(), text);
    problems.push(problem.did_you_mean(name, names.iter().map(String::as_str)));
}

fn rule(at: &Located<RuleFile>, endpoints: &[String], file: &SourceFile, problems: &mut Problems) -> Option<Rule> {
    match &at.value {
        RuleFile::Word(word) => match word.as_str() {
            "latest" => Some(Rule::Latest),
            "priority" => Some(Rule::Prefer(endpoints.to_vec())),
            "agree" => Some(Rule::Agree),
            _ => {
                let text = "expected `latest`, `priority`, `agree`, or `{ prefer: [SOURCE, …] }`";
                let problem = Problem::error("bad-value", file, at.span.clone(), text);
                problems.push(problem.did_you_mean(word, ["latest", "priority", "agree"]));
                None
            }
        },
        RuleFile::Prefer(read) => {
            let strange = read.prefer.iter().find(|name| !endpoints.contains(name));
            if let Some(name) = strange {
                let text = format!("`{name}` is no source of this route");
                let problem = Problem::error("unknown-source", file, at.span.clone(), text);
                problems.push(problem.did_you_mean(name, endpoints.iter().map(String::as_str)));
                return None;
            }
            if read.prefer.is_empty() {
                problems.push(Problem::error("no-source", file, at.span.clone(), "`prefer` names no source"));
                return None;
            }
            Some(Rule::Prefer(read.prefer.clone()))
        }
    }
}
