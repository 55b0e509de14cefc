//! Limits: what a system, an endpoint and a body may take. Every limit has a default; none can be switched off.
//!
//! The types here only say and check them; the engine and the doors keep them.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::yaml::Located;

/// What a body may be at most before decoding stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of the body as it came, and of the text it decodes to.
    pub bytes: usize,
    /// Nested lists, maps or elements.
    pub depth: usize,
    /// Keys in one map, attributes and namespaces of one element are capped lower by the XML codec.
    pub keys: usize,
    /// Values or elements in all.
    pub nodes: usize,
    /// Bytes of one text, name or number.
    pub text: usize,
}

impl Default for BodyLimits {
    /// 1 MiB, 64 deep, 10,000 keys a map, 100,000 nodes, 1 MiB of text.
    fn default() -> Self {
        Self { bytes: 1 << 20, depth: 64, keys: 10_000, nodes: 100_000, text: 1 << 20 }
    }
}

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In this time: a second, a minute, an hour or a day.
    pub per: Duration,
}

impl Rate {
    /// So many a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64().max(0.001)
    }
}

/// As [`parse_rate`] reads it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            86_400 => "d",
            3600 => "h",
            60 => "m",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// What the engine keeps around one system or endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls (outbound) or arrivals (inbound) in a time; `None` where the site names none: then nothing is throttled.
    pub rate: Option<Rate>,
    /// How many may come at once before the rate bites.
    pub burst: u32,
    /// Calls at the same time.
    pub concurrency: u32,
    /// One attempt in all: connect, send, wait, read.
    pub timeout: Duration,
    /// The largest body that is taken or read, in bytes.
    pub body: usize,
}

impl Default for Limits {
    /// No rate, 64 at once, 30 s an attempt, 1 MiB a body.
    fn default() -> Self {
        Self { rate: None, burst: 1, concurrency: 64, timeout: Duration::from_secs(30), body: 1 << 20 }
    }
}

/// `limits:` of a system or an endpoint, as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// How many calls in a time: `50/s`, `600/m`, `10000/h`, `200000/d`. Default: not throttled.
    pub rate: Option<Located<String>>,
    /// How many calls may come at once before the rate bites. Default: one second's worth of the rate, at least 1.
    pub burst: Option<Located<u32>>,
    /// How many calls at the same time. Default 64, at most 10000.
    pub concurrency: Option<Located<u32>>,
    /// How long one attempt may take: `500ms`, `10s`, `2m`. Default 30s, at most 10m.
    pub timeout: Option<Located<String>>,
    /// The largest body in bytes, or with a unit: `512KiB`, `4MiB`. Default 1MiB, at most 64MiB.
    pub body: Option<Located<String>>,
}

impl LimitsFile {
    /// Checks the words, taking from `base` what is not said.
    pub fn check(&self, base: Limits, file: &SourceFile, problems: &mut Problems) -> Limits {
        let mut limits = base;
        if let Some(rate) = take(
            self.rate.as_ref(),
            |text: &String| parse_rate(text),
            "a rate such as `50/s`, `600/m` or `10000/h`",
            file,
            problems,
        ) {
            limits.rate = Some(rate);
            limits.burst =
                u32::try_from(u128::from(rate.count) * 1000 / rate.per.as_millis().max(1)).unwrap_or(u32::MAX).max(1);
        }
        let count = |n: &u32| (1..=1_000_000).contains(n).then_some(*n);
        if let Some(burst) = take(self.burst.as_ref(), count, "a number from 1 to 1000000", file, problems) {
            limits.burst = burst;
        }
        let few = |n: &u32| (1..=10_000).contains(n).then_some(*n);
        if let Some(concurrency) = take(self.concurrency.as_ref(), few, "a number from 1 to 10000", file, problems) {
            limits.concurrency = concurrency;
        }
        let short = |s: &String| parse_duration(s).filter(|d| !d.is_zero() && *d <= Duration::from_secs(600));
        if let Some(timeout) =
            take(self.timeout.as_ref(), short, "a time up to 10m such as `500ms` or `10s`", file, problems)
        {
            limits.timeout = timeout;
        }
        let bytes = |s: &String| parse_bytes(s).filter(|n| (1..=64 << 20).contains(n));
        if let Some(body) = take(self.body.as_ref(), bytes, "a size up to 64MiB such as `512KiB`", file, problems) {
            limits.body = body;
        }
        limits
    }
}

/// When a system counts as down, and how it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// Failures in a row (not rejections) that open the circuit.
    pub open_after: u32,
    /// How long it stays open before one probe.
    pub retry_after: Duration,
}

impl Default for Circuit {
    /// 20 in a row, one probe every 10 s.
    fn default() -> Self {
        Self { open_after: 20, retry_after: Duration::from_secs(10) }
    }
}

/// `circuit:` of a system, as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitFile {
    /// Failures in a row that open the circuit; rejections by the system do not count. Default 20.
    pub open_after: Option<Located<u32>>,
    /// How long it stays open before one call probes it. Default 10s, at most 1h.
    pub retry_after: Option<Located<String>>,
}

impl CircuitFile {
    /// Checks the words.
    pub fn check(&self, file: &SourceFile, problems: &mut Problems) -> Circuit {
        let mut circuit = Circuit::default();
        let count = |n: &u32| (1..=10_000).contains(n).then_some(*n);
        if let Some(open_after) = take(self.open_after.as_ref(), count, "a number from 1 to 10000", file, problems) {
            circuit.open_after = open_after;
        }
        let short = |s: &String| parse_duration(s).filter(|d| !d.is_zero() && *d <= Duration::from_secs(3600));
        if let Some(wait) = take(self.retry_after.as_ref(), short, "a time up to 1h such as `30s`", file, problems) {
            circuit.retry_after = wait;
        }
        circuit
    }
}

/// `10s`, `500ms`, `2m`, `1h`, `1d`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "ms" => return Some(Duration::from_millis(count)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    count.checked_mul(unit).map(Duration::from_secs)
}

/// `50/s`, `600/m`, `10000/h`, `200000/d`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let per = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let count = count.trim().parse().ok().filter(|count| *count > 0)?;
    Some(Rate { count, per: Duration::from_secs(per) })
}

/// `1048576`, `512KiB`, `4MiB`.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<usize> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: usize = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// Reads one located word, or tells what it should have been.
fn take<T, U>(
    word: Option<&Located<T>>,
    read: impl Fn(&T) -> Option<U>,
    expected: &str,
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<U> {
    let word = word?;
    let read = read(&word.value);
    if read.is_none() {
        problems.push(Problem::error("bad-value", file, word.span.clone(), format!("expected {expected}")));
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("10"), None);
        assert_eq!(parse_rate("600/m"), Some(Rate { count: 600, per: Duration::from_secs(60) }));
        assert_eq!(parse_rate("0/s"), None);
        assert_eq!(parse_bytes("4MiB"), Some(4 << 20));
    }
}
