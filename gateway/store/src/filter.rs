//! A [`Filter`] as the condition of a statement. SQLite and PostgreSQL differ in two spellings only.

use jiff::Timestamp;

use crate::{Filter, text};

/// What stands for a place in the statement.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Text(String),
    Time(Timestamp),
    Id(i64),
}

/// How a database spells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// What a numbered place begins with.
    pub(crate) place: char,
    /// The function that finds a text within a text, as it is: no wildcards, no folding of case.
    pub(crate) find: &'static str,
}

/// A condition (`true` where everything matches) and what fills its places, from 1 on.
pub(crate) fn condition(filter: &Filter, after: Option<i64>, dialect: Dialect) -> (String, Vec<Argument>) {
    let mut parts = Vec::new();
    let mut arguments = Vec::new();
    let mut add = |part: &str, argument: Argument| {
        arguments.push(argument);
        parts.push(part.replace('#', &format!("{}{}", dialect.place, arguments.len())));
    };
    let text = |value: &str| Argument::Text(text::clean(value));
    if let Some(state) = filter.state {
        add("state = #", text(state.as_str()));
    }
    if let Some(route) = &filter.route {
        add("route = #", text(route));
    }
    if let Some(target) = &filter.target {
        add("target = #", text(target));
    }
    if let Some(system) = &filter.system {
        add("(source_system = # OR target_system = #)", text(system));
    }
    if let Some(cause) = &filter.cause {
        add(&format!("(cause = # OR {}(fingerprint, #) > 0)", dialect.find), text(cause));
    }
    if let Some(key) = &filter.key {
        add("key = #", text(key));
    }
    if let Some(message_id) = &filter.message_id {
        add("message_id = #", Argument::Text(text::id(message_id)));
    }
    if let Some(since) = filter.since {
        add("created >= #", Argument::Time(since));
    }
    if let Some(until) = filter.until {
        add("created < #", Argument::Time(until));
    }
    if let Some(after) = after {
        add("id < #", Argument::Id(after));
    }
    let condition = if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") };
    (condition, arguments)
}
