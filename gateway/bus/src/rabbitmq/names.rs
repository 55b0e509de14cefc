//! What things are called on the broker, and the way between a caller's `gatehouse.…` and the configured prefix.

use std::time::Duration;

use lapin::types::ShortString;

/// What callers' queue names begin with.
const WORD: &str = "gatehouse";

/// The names of one instance's exchanges and queues. Each is at most 255 bytes: the prefix is short.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// A caller's queue name as the broker knows it; `None` where it is longer than AMQP allows (255 bytes).
    pub(super) fn on_broker(&self, queue: &str) -> Option<ShortString> {
        match queue.strip_prefix(WORD) {
            Some(rest) if rest.starts_with('.') && self.prefix != WORD => {
                ShortString::try_new(format!("{}{rest}", self.prefix)).ok()
            }
            _ => ShortString::try_new(queue).ok(),
        }
    }

    /// The way back.
    pub(super) fn for_callers(&self, name: &str) -> String {
        match name.strip_prefix(self.prefix.as_str()) {
            Some(rest) if rest.starts_with('.') => format!("{WORD}{rest}"),
            _ => name.to_owned(),
        }
    }

    pub(super) fn work(&self) -> ShortString {
        self.of("work")
    }

    pub(super) fn dlx(&self) -> ShortString {
        self.of("dlx")
    }

    pub(super) fn dead(&self) -> ShortString {
        self.of("dead")
    }

    pub(super) fn unroutable(&self) -> ShortString {
        self.of("unroutable")
    }

    pub(super) fn rpc(&self) -> ShortString {
        self.of("rpc")
    }

    pub(super) fn reply(&self) -> ShortString {
        self.of("reply")
    }

    /// The reply queue of one connection of one instance.
    pub(super) fn reply_queue(&self) -> ShortString {
        self.of(&format!("reply.{}", uuid::Uuid::new_v4().simple()))
    }

    /// Exchange and queue of one rung of the ladder.
    pub(super) fn retry(&self, delay: Duration) -> ShortString {
        self.of(&format!("retry.{}", label(delay)))
    }

    fn of(&self, what: &str) -> ShortString {
        ShortString::try_new(format!("{}.{what}", self.prefix)).unwrap_or_default()
    }
}

/// `5s`, `2m`, `1h`, `1500ms`: the largest unit that says it exactly. The delay is part of the name because a queue's
/// TTL cannot be changed: another delay is another queue, and the old one drains.
fn label(delay: Duration) -> String {
    let ms = delay.as_millis();
    match ms {
        _ if ms == 0 || ms % 1000 != 0 => format!("{ms}ms"),
        _ if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        _ if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        _ => format!("{}s", ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_reads_as_people_say_it() {
        let labels: Vec<String> = crate::LADDER.iter().map(|delay| label(*delay)).collect();
        assert_eq!(labels, ["5s", "30s", "2m", "10m", "1h"]);
        assert_eq!(label(Duration::from_millis(1500)), "1500ms");
    }

    #[test]
    fn another_prefix_goes_there_and_back() {
        let names = Names::new("t1");
        assert_eq!(names.on_broker("gatehouse.work.a.b").expect("short").as_str(), "t1.work.a.b");
        assert_eq!(names.for_callers("t1.work.a.b"), "gatehouse.work.a.b");
        assert_eq!(names.on_broker("gatehouses").expect("short").as_str(), "gatehouses");
        assert_eq!(names.for_callers("t11.work"), "t11.work");
        assert_eq!(names.dead().as_str(), "t1.dead");
        assert!(names.on_broker(&"x".repeat(256)).is_none());
        assert_eq!(Names::new("gatehouse").on_broker("gatehouse.dead").expect("short").as_str(), crate::DEAD);
    }
}
