//! Where a mapping with prefixes can stand: names with namespaces are there while a message is XML, which is on its way
//! in before the first mapping and on its way out after the last.

use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::mapping::Mapping;
use crate::yaml::Located;

/// Which step of a route a mapping does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// From the source's shape to the canonical body.
    In,
    /// From the canonical body to a target's shape.
    Out,
    /// From the target's answer to what the caller gets.
    Reply,
}

/// Tells where a mapping that is named at `at` asks for namespaces that cannot be there.
pub(super) fn check(mapping: &Mapping, step: Step, at: &Located<String>, file: &SourceFile, problems: &mut Problems) {
    let name = mapping.name();
    let mut tell = |text: String, help: &str| {
        problems.push(Problem::error("namespace", file, at.span.clone(), text).help(help));
    };
    if mapping.reads_namespaces() && step != Step::In {
        let what = if step == Step::Out { "the canonical body" } else { "the target's answer" };
        tell(
            format!("mapping `{name}` reads names with a prefix, and {what} has lost its namespaces"),
            "write local names in its `from`; prefixes are read by the `map` of a route",
        );
    }
    if mapping.writes_namespaces() && step == Step::In {
        tell(
            format!("mapping `{name}` writes names with a prefix, and a canonical body has no namespaces"),
            "write local names in its `to`; prefixes are written by the `map` of a target",
        );
    }
}
