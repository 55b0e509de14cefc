//! `namespaces:` of a mapping: prefixes for the few XML names that local names cannot tell apart.
//!
//! A path of the table writes `tax:Amount`; a compiled path has James Clark's notation, `{urn:tax}Amount`, which no local
//! name and no prefix of a document can be mistaken for. Reading finds such a name where [`Element::lay_names`] has put
//! it; writing is undone by [`Element::from_value`].

use std::borrow::Cow;

use crate::diagnostics::{Problem, Problems, SourceFile, closest};
use crate::path::{Path, Step};
use crate::value::Value;
use crate::xml::{self, Element, WantedNames, XML};
use crate::yaml::{Entries, Located};

use super::Row;

/// Prefixes that the standard binds, and nobody else may.
const RESERVED: [&str; 2] = ["xml", "xmlns"];

/// The declared prefixes, checked.
pub(super) struct Prefixes<'a> {
    file: &'a SourceFile,
    declared: Vec<(&'a str, &'a str)>,
}

impl<'a> Prefixes<'a> {
    /// Checks the declarations; every mistake is told.
    pub(super) fn check(entries: &'a Entries<Located<String>>, file: &'a SourceFile, problems: &mut Problems) -> Self {
        let mut declared: Vec<(&str, &str)> = Vec::new();
        for (prefix, namespace) in &entries.0 {
            let mut bad = |at: &Located<String>, reason: String, help: &str| {
                problems.push(Problem::error("bad-namespace", file, at.span.clone(), reason).help(help));
            };
            if RESERVED.contains(&prefix.as_str()) {
                let reason = format!("the prefix `{}` belongs to XML itself", prefix.value);
                bad(prefix, reason, "take another one; `xml:lang` needs no declaration");
            } else if !xml::is_name(prefix) {
                let help = "letters, digits, `-`, `_` and `.`, beginning with a letter, such as `tax`";
                bad(prefix, format!("`{}` cannot be a prefix", prefix.value), help);
            }
            if namespace.trim().is_empty() || namespace.contains(['{', '}']) {
                let reason = format!("`{}` is no namespace", namespace.value);
                bad(namespace, reason, "write it as the document declares it after `xmlns:…=`, such as `urn:tax:2`");
            }
            declared.push((prefix.as_str(), namespace.as_str()));
        }
        Self { file, declared }
    }

    /// Compiles a path: prefixes stand for their namespaces. A name in backticks is taken as it is written.
    pub(super) fn path(&self, at: &Located<String>, problems: &mut Problems) -> Option<Path> {
        let mut unknown = Vec::new();
        let parsed = Path::parse_with(at, |name| self.expand(name, &mut unknown));
        for prefix in &unknown {
            let text = format!("the prefix `{prefix}` of `{}` is not declared", at.value);
            let near = closest(prefix, self.declared.iter().map(|(known, _)| *known));
            let help = near.map_or_else(
                || {
                    format!(
                        "declare it beside `rows`: `namespaces: {{ {prefix}: \"urn:…\" }}`; where the colon is part of a \
                         name, write the name in backticks"
                    )
                },
                |near| format!("did you mean `{near}`?"),
            );
            problems.push(Problem::error("unknown-prefix", self.file, at.span.clone(), text).help(help));
        }
        match parsed {
            Ok(path) => unknown.is_empty().then_some(path),
            Err((_, reason)) => {
                let text = format!("`{}` is no path: {reason}", at.value);
                problems.push(Problem::error("bad-path", self.file, at.span.clone(), text));
                None
            }
        }
    }

    fn expand(&self, name: &str, unknown: &mut Vec<String>) -> String {
        let (mark, bare) = name.strip_prefix('@').map_or(("", name), |bare| ("@", bare));
        let Some((prefix, local)) = bare.split_once(':') else { return name.to_owned() };
        let namespace = match self.declared.iter().find(|(known, _)| *known == prefix) {
            Some((_, namespace)) => namespace,
            None if prefix == "xml" => XML,
            None => {
                unknown.push(prefix.to_owned());
                return name.to_owned();
            }
        };
        format!("{mark}{{{namespace}}}{local}")
    }
}

/// Whether a path has a name with a namespace.
pub(super) fn is_qualified(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Name(name) if xml::clark(name).is_some()))
}

/// The names with a namespace that the rows read.
pub(super) fn wanted(rows: &[Row]) -> WantedNames {
    let mut wanted = WantedNames::default();
    for from in rows.iter().filter_map(|row| row.from.as_deref()).filter(|from| is_qualified(from)) {
        wanted.add(from);
    }
    wanted
}

/// What a mapping reads: the source, and beside its local names those with a namespace that the mapping asks for.
pub(super) fn seen<'a>(source: &'a Value, document: Option<&Element>, wanted: &WantedNames) -> Cow<'a, Value> {
    match document {
        Some(document) if !wanted.is_empty() => {
            let mut seen = source.clone();
            document.lay_names(&mut seen, wanted);
            Cow::Owned(seen)
        }
        _ => Cow::Borrowed(source),
    }
}
