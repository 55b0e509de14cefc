//! Routing tables: what goes from where, as what, to whom. Files directly in the site's folder, but `gatehouse.yaml`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::prefixes::{self, Step};
use super::retry::RetryPolicy;
use super::table::{RouteFile, RoutesFile, TargetFile};
use super::{Files, merge, retry, waiting};
use crate::adapter::{Direction, Endpoint, System};
use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::expr::{Expression, Names};
use crate::mapping::Mapping;
use crate::merge::Merge;
use crate::outcome::expression_problem;
use crate::path::Path;
use crate::reading::Reading;
use crate::schema::Type;
use crate::yaml::{self, Located};

/// What becomes of a message that no target wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unrouted {
    /// The caller is told.
    #[default]
    Reject,
    /// It becomes a dead letter.
    Dead,
    /// It is accepted and forgotten.
    Drop,
}

/// What happens to deliveries with order behind one that died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDead {
    /// They go on without it.
    #[default]
    GoOn,
    /// They wait as letters until it has arrived or is discarded.
    Park,
}

/// A checked route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Where messages come from.
    pub from: String,
    /// How records of several sources become one.
    pub merge: Option<Arc<Merge>>,
    /// This route as messages of its other sources go through it.
    pub others: Vec<Arc<Route>>,
    /// Whether a caller waits for the answer.
    pub request: bool,
    /// What is read of a body that goes through as it came; `None` where bodies become messages.
    pub pass: Option<Arc<Reading>>,
    /// Source shape to canonical.
    pub map: Option<Arc<Mapping>>,
    /// The canonical type.
    pub kind: Arc<Type>,
    /// Where the business key stands.
    pub key: Option<Path>,
    /// What becomes of a message that no target wants.
    pub unrouted: Unrouted,
    /// The target's answer to the caller's shape.
    pub reply: Option<Arc<Mapping>>,
    /// Who gets it.
    pub targets: Vec<Arc<Target>>,
}

/// A checked target.
#[derive(Clone, Debug)]
pub struct Target {
    /// `erp/CreateSalesOrder`.
    pub name: String,
    /// `erp`.
    pub system: String,
    /// `CreateSalesOrder`.
    pub endpoint: String,
    /// Canonical to the target's shape.
    pub map: Option<Arc<Mapping>>,
    /// Its condition.
    pub when: Option<Expression>,
    /// Its patience.
    pub retry: RetryPolicy,
    /// Where the key stands that orders its messages.
    pub order_by: Option<Path>,
    /// What happens to those behind one that died.
    pub on_dead: OnDead,
    /// Its queue: `gatehouse.work.<route>.<system>.<endpoint>`.
    pub queue: String,
    /// Where the route names it.
    pub at: crate::outline::Spot,
}

/// What routes may name.
pub(super) struct Known<'a> {
    pub(super) systems: &'a BTreeMap<String, Arc<dyn System>>,
    pub(super) types: &'a BTreeMap<String, Arc<Type>>,
    pub(super) mappings: &'a BTreeMap<String, Arc<Mapping>>,
    pub(super) files: &'a Files,
    /// Some file before could not be read: a name that is missing here may be in it.
    pub(super) incomplete: bool,
}

impl Known<'_> {
    pub(super) fn endpoint(&self, name: &str, direction: Direction) -> Option<&Endpoint> {
        let (system, endpoint) = name.split_once('/')?;
        self.systems.get(system)?.endpoints().iter().find(|e| e.name == endpoint && e.direction == direction)
    }

    fn endpoint_names(&self, direction: Direction) -> Vec<String> {
        let of = |(name, system): (&String, &Arc<dyn System>)| {
            let here = system.endpoints().iter().filter(|e| e.direction == direction);
            here.map(|e| format!("{name}/{}", e.name)).collect::<Vec<_>>()
        };
        self.systems.iter().flat_map(of).collect()
    }
}

pub(super) fn check(files: &Files, known: &Known<'_>, problems: &mut Problems) -> Vec<Arc<Route>> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut routes = Vec::new();
    for file in files.under("", ".yaml").filter(|file| file.name() != "gatehouse.yaml") {
        let Some(table) = yaml::read::<RoutesFile>(file, problems) else { continue };
        super::gateway::check_version(&table.version, file, problems);
        for row in table.routes {
            if let Some(other) = names.insert(row.route.value.clone(), file.name().to_owned()) {
                problems.push(Problem::error(
                    "duplicate",
                    file,
                    row.route.span.clone(),
                    format!("there is a route `{}` in {other} already", row.route.value),
                ));
            }
            if let Some(route) = (Checker { file, known, problems }).route(&row) {
                routes.push(Arc::new(route));
            }
        }
    }
    one_answer_per_request(&routes, files, problems);
    routes
}

/// An endpoint whose caller waits can feed one route only.
fn one_answer_per_request(routes: &[Arc<Route>], files: &Files, problems: &mut Problems) {
    for route in routes.iter().filter(|route| route.request) {
        if let Some(other) = routes.iter().find(|other| other.of(&route.from).is_some() && other.name != route.name)
            && let Some(file) =
                files.under("", ".yaml").find(|file| file.text().contains(&format!("route: {}", route.name)))
        {
            let at = file.text().find(&route.name).unwrap_or(0);
            problems.push(Problem::error(
                "two-answers",
                file,
                at..at + route.name.len(),
                format!(
                    "the caller of `{}` waits for the answer of this route, so `{}` cannot come from there too",
                    route.from, other.name
                ),
            ));
        }
    }
}

/// Checks one file's rows.
struct Checker<'a> {
    file: &'a SourceFile,
    known: &'a Known<'a>,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn error(&mut self, code: &'static str, at: &Located<String>, message: String) {
        self.problems.push(Problem::error(code, self.file, at.span.clone(), message));
    }

    fn route(&mut self, row: &RouteFile) -> Option<Route> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if row.route.is_empty() || row.route.len() > 60 || !row.route.chars().all(valid) {
            self.error(
                "bad-name",
                &row.route,
                "a route's name is 1 to 60 small letters, digits and hyphens".to_owned(),
            );
        }
        let kind = self.kind(row);
        let sources = self.sources(row);
        let key = row.key.as_ref().map(|path| self.path(path));
        let request = match row.exchange.as_ref().map(|word| word.as_str()) {
            None | Some("event") => false,
            Some("request") => true,
            Some(_) => {
                let at = row.exchange.clone()?;
                self.error("bad-value", &at, "expected `event` or `request`".to_owned());
                false
            }
        };
        let unrouted = match row.unrouted.as_ref().map(|word| word.as_str()) {
            None if row.merge.is_some() => Unrouted::Drop,
            Some("reject") if row.merge.is_some() => {
                let at = row.unrouted.clone()?;
                let text = "with `merge` a record that no target wants yet is kept: say `drop` or `dead`";
                self.error("bad-value", &at, text.to_owned());
                Unrouted::Drop
            }
            None | Some("reject") => Unrouted::Reject,
            Some("dead") => Unrouted::Dead,
            Some("drop") => Unrouted::Drop,
            Some(_) => {
                let at = row.unrouted.clone()?;
                self.error("bad-value", &at, "expected `reject`, `dead` or `drop`".to_owned());
                Unrouted::Reject
            }
        };
        let reply = self.mapping(row.reply.as_ref(), Step::Reply);
        if request {
            waiting::first_answers(row, self.file, self.problems);
        }
        waiting::passes(row, request, self.known, self.file, self.problems);
        let merge = row.merge.as_ref().map(|read| merge::check(read, kind.as_deref(), self.file, self.problems));
        if row.merge.is_some() {
            self.merges(row, request);
        }
        if row.to.is_empty() {
            self.error("no-target", &row.route, "a route needs a target".to_owned());
        }
        let names = kind.as_ref().and_then(|kind| kind.root_names()).map_or(Names::Open, Names::Closed);
        let mut queues = BTreeSet::new();
        let mut targets = Vec::new();
        for target in &row.to {
            let Some(checked) = self.target(target, &row.route, &names, request) else { continue };
            if !queues.insert(checked.queue.clone()) {
                self.error(
                    "duplicate",
                    &target.target,
                    format!("`{}` is a target of this route already", checked.name),
                );
            }
            targets.push(Arc::new(checked));
        }
        let (mut sources, merge) = (sources?.into_iter(), merge.map(|merge| merge.map(Arc::new)));
        let (from, map) = sources.next()?;
        let key = key.transpose_path()?;
        let route = Route {
            name: row.route.value.clone(),
            from,
            pass: row.passes().then(|| Arc::new(waiting::reading(&targets, key.as_ref()))),
            merge: match merge {
                None => None,
                Some(merge) => Some(merge?),
            },
            others: Vec::new(),
            request,
            map,
            kind: kind?,
            key,
            unrouted,
            reply: reply?,
            targets,
        };
        let other = |(from, map)| Arc::new(Route { from, map, ..route.clone() });
        let others = sources.map(other).collect();
        Some(Route { others, ..route })
    }

    /// Where messages come from, each with its mapping; `None` where something of it is wrong.
    fn sources(&mut self, row: &RouteFile) -> Option<Vec<(String, Option<Arc<Mapping>>)>> {
        let named: Vec<_> = match (&row.from, &row.merge) {
            (Some(from), None) => vec![(from, row.map.as_ref())],
            (None, Some(merge)) => merge.sources.iter().map(|source| (&source.from, source.map.as_ref())).collect(),
            (None, None) => {
                self.error("no-source", &row.route, "a route needs `from`, or `merge` with its sources".to_owned());
                return None;
            }
            (Some(from), Some(_)) => {
                self.error("not-here", from, "a route with `merge` names its sources there, not in `from`".to_owned());
                return None;
            }
        };
        if let (Some(map), Some(_)) = (&row.map, &row.merge) {
            self.error("not-here", map, "with `merge` each source has its own `map`".to_owned());
        }
        let mut sources = Vec::with_capacity(named.len());
        for (from, at) in named.iter().copied() {
            self.endpoint(from, Direction::Inbound);
            let map = self.mapping(at, Step::In);
            if let (Some(Some(map)), Some(at)) = (&map, at)
                && let Some(to) = map.to()
                && let Some(kind) = &row.kind
                && to != kind.value
            {
                let text = format!("mapping `{}` makes `{to}`, but the route says `type: {}`", map.name(), kind.value);
                self.error("type-mismatch", at, text);
            }
            sources.extend(map.map(|map| (from.value.clone(), map)));
        }
        (sources.len() == named.len()).then_some(sources)
    }

    /// What does not go with `merge`.
    fn merges(&mut self, row: &RouteFile, request: bool) {
        if let (true, Some(at)) = (request, &row.exchange) {
            self.error("bad-value", at, "a caller who waits for an answer cannot be one of several sources".to_owned());
        }
        for target in row.to.iter().filter(|target| target.order_by.is_none()) {
            let text = "an older merged record may overtake a newer one on its way to this target";
            let problem = Problem::warning("no-order", self.file, target.target.span.clone(), text);
            self.problems.push(problem.help("give it `order_by` with a field of the key"));
        }
    }

    fn target(&mut self, row: &TargetFile, route: &str, names: &Names, request: bool) -> Option<Target> {
        self.endpoint(&row.target, Direction::Outbound);
        let (system, endpoint) = row.target.split_once('/')?;
        let map = self.mapping(row.map.as_ref(), Step::Out);
        let when = match row.when.as_ref() {
            None => Some(None),
            Some(text) => match Expression::compile(text, names) {
                Ok(expression) => Some(Some(expression)),
                Err(error) => {
                    self.problems.push(expression_problem(text, error, self.file));
                    None
                }
            },
        };
        let order_by = row.order_by.as_ref().map(|path| self.path(path));
        if let (true, Some(at)) = (request, &row.order_by) {
            self.error(
                "bad-value",
                at,
                "a caller waits for this target's answer: `order_by` does not go with `exchange: request`".to_owned(),
            );
        }
        let on_dead = self.on_dead(row);
        let retry = retry::check(row.retry.as_ref(), self.file, self.problems);
        let kind = if request { "request" } else { "work" };
        Some(Target {
            name: row.target.value.clone(),
            system: system.to_owned(),
            endpoint: endpoint.to_owned(),
            map: map?,
            when: when?,
            retry,
            order_by: order_by.transpose_path()?,
            on_dead,
            queue: format!("gatehouse.{kind}.{route}.{system}.{endpoint}"),
            at: crate::outline::Spot { file: self.file.clone(), span: row.target.span.clone() },
        })
    }

    fn on_dead(&mut self, row: &TargetFile) -> OnDead {
        let Some(at) = &row.on_dead else { return OnDead::GoOn };
        if row.order_by.is_none() {
            let text = "nothing waits behind a delivery without `order_by`: name the field that orders them, or leave this out";
            self.error("not-here", at, text.to_owned());
        }
        match at.as_str() {
            "go_on" => OnDead::GoOn,
            "park" => OnDead::Park,
            _ => {
                self.error("bad-value", at, "expected `go_on` or `park`".to_owned());
                OnDead::GoOn
            }
        }
    }

    fn endpoint(&mut self, at: &Located<String>, direction: Direction) {
        if self.known.endpoint(at, direction).is_some() {
            return;
        }
        let system = at.split('/').next().unwrap_or("");
        if self.known.incomplete
            && !self.known.systems.contains_key(system)
            && self.known.files.get(&format!("systems/{system}.yaml")).is_some()
        {
            return;
        }
        let opposite = match direction {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        };
        if self.known.endpoint(at, opposite).is_some() {
            let what = if direction == Direction::Inbound {
                "is called by Gatehouse and sends nothing"
            } else {
                "sends to Gatehouse and receives nothing"
            };
            self.error("wrong-direction", at, format!("`{}` {what}", at.value));
            return;
        }
        let names = self.known.endpoint_names(direction);
        self.problems.push(
            Problem::error(
                "unknown-endpoint",
                self.file,
                at.span.clone(),
                format!("there is no endpoint `{}`", at.value),
            )
            .did_you_mean(at, names.iter().map(String::as_str)),
        );
    }

    /// `None`: named, but not there. `Some(None)`: not named.
    #[expect(clippy::option_option, reason = "not named, named and there, and named but missing are three things")]
    fn mapping(&mut self, at: Option<&Located<String>>, step: Step) -> Option<Option<Arc<Mapping>>> {
        let Some(at) = at else { return Some(None) };
        if let Some(mapping) = self.known.mappings.get(at.as_str()) {
            prefixes::check(mapping, step, at, self.file, self.problems);
            return Some(Some(mapping.clone()));
        }
        if self.known.files.get(&format!("mappings/{}.yaml", at.value)).is_none() {
            self.problems.push(
                Problem::error(
                    "unknown-mapping",
                    self.file,
                    at.span.clone(),
                    format!("there is no mapping `{}`", at.value),
                )
                .did_you_mean(at, self.known.mappings.keys().map(String::as_str)),
            );
        }
        None
    }

    fn kind(&mut self, row: &RouteFile) -> Option<Arc<Type>> {
        let Some(at) = &row.kind else {
            if !row.passes() {
                self.error(
                    "no-type",
                    &row.route,
                    "a route needs `type`: which canonical type its messages are of".to_owned(),
                );
                return None;
            }
            return Some(Arc::new(Type::any(&row.route)));
        };
        if let Some(kind) = self.known.types.get(at.as_str()) {
            return Some(kind.clone());
        }
        if self.known.files.get(&format!("types/{}.schema.json", at.value)).is_none() {
            self.problems.push(
                Problem::error("unknown-type", self.file, at.span.clone(), format!("there is no type `{}`", at.value))
                    .did_you_mean(at, self.known.types.keys().map(String::as_str)),
            );
        }
        None
    }

    fn path(&mut self, at: &Located<String>) -> Option<Path> {
        match Path::parse(at) {
            Ok(path) => Some(path),
            Err((_, reason)) => {
                self.error("bad-path", at, reason);
                None
            }
        }
    }
}

/// What a checked struct wants of a path: the outer `None` when a named one was wrong.
trait TransposePath {
    #[expect(clippy::option_option, reason = "not named, right, and wrong are three things")]
    fn transpose_path(self) -> Option<Option<Path>>;
}

impl TransposePath for Option<Option<Path>> {
    fn transpose_path(self) -> Option<Option<Path>> {
        self.map_or(Some(None), |path| path.map(Some))
    }
}
