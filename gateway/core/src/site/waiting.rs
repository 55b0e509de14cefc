//! Routes whose caller waits: who is asked; and with `pass_through`, what does not go with bodies that go through as they
//! came, and what is read of them all the same.

use std::sync::Arc;

use super::routes::{Known, Target};
use super::table::RouteFile;
use crate::adapter::Direction;
use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::path::Path;
use crate::reading::Reading;
use crate::yaml::Located;

/// Tells what of a row does not go with `pass_through`.
pub(super) fn passes(row: &RouteFile, request: bool, known: &Known<'_>, file: &SourceFile, problems: &mut Problems) {
    let Some(flag) = row.pass_through.as_ref().filter(|flag| flag.value) else { return };
    let mut tell = |at: &std::ops::Range<usize>, text: String| {
        problems.push(Problem::error("not-here", file, at.clone(), text));
    };
    if !request {
        let text = "a body goes through as it came only where its caller waits: add `exchange: request`";
        tell(&flag.span, text.to_owned());
    }
    let shapes = [("type", &row.kind), ("map", &row.map), ("reply", &row.reply)];
    for (word, at) in shapes.into_iter().filter_map(|(word, at)| Some((word, at.as_ref()?))) {
        tell(&at.span, format!("`{word}` shapes or judges a body, and with `pass_through` it goes as it came"));
    }
    if let Some(merge) = &row.merge {
        let at = merge.sources.first().map_or(&flag.span, |source| &source.from.span);
        tell(at, "what is merged cannot go through as it came".to_owned());
    }
    for at in row.to.iter().filter_map(|target| target.map.as_ref()) {
        tell(&at.span, "`map` shapes a body, and with `pass_through` it goes as it came".to_owned());
    }
    let ends = row.from.iter().map(|from| (from, Direction::Inbound));
    let ends = ends.chain(row.to.iter().map(|target| (&target.target, Direction::Outbound)));
    for (at, direction) in ends {
        if known.endpoint(at, direction).is_some_and(|endpoint| !endpoint.passes) {
            let text =
                format!("no body can go through `{}` as it came: its adapter reads and writes all of it", at.value);
            tell(&at.span, text);
        }
    }
}

/// What is read of a body that goes through.
pub(super) fn reading(targets: &[Arc<Target>], key: Option<&Path>) -> Reading {
    let mut reading = Reading::default();
    for when in targets.iter().filter_map(|target| target.when.as_ref()) {
        when.read_into(&mut reading, &["meta"]);
    }
    if let Some(key) = key {
        reading.add(key);
    }
    reading
}

/// Tells which targets of a waiting caller's route are never asked, because one before them always is.
pub(super) fn first_answers(row: &RouteFile, file: &SourceFile, problems: &mut Problems) {
    let mut targets = row.to.iter();
    let Some(always) = targets.find(|target| target.when.is_none()) else { return };
    for Located { value, span } in targets.map(|target| &target.target) {
        let text = format!(
            "`{value}` is never asked: the caller gets the answer of the first target whose condition holds, and `{}` has none",
            always.target.value
        );
        problems.push(Problem::error("never-asked", file, span.clone(), text));
    }
}
