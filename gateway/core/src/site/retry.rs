//! `retry:` of a target: how often and how long a delivery is tried.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::{Problem, Problems, SourceFile};
use crate::limits::parse_duration;
use crate::yaml::Located;

/// `retry:` of a target.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryFile {
    /// Attempts in all, the first included. Default 8, at most 100.
    pub attempts: Option<Located<u32>>,
    /// The wait before the second attempt; it doubles each time. Default `5s`.
    pub first: Option<Located<String>>,
    /// The longest wait. Default `1h`, which is the most.
    pub max: Option<Located<String>>,
}

/// How often and how long a delivery is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all.
    pub attempts: u32,
    /// The wait before the second.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 8, first: Duration::from_secs(5), max: Duration::from_secs(3600) }
    }
}

impl RetryPolicy {
    /// The wait after attempt `attempt` (from 1) has failed; `None` when it was the last. Doubles from `first`, capped.
    #[must_use]
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let factor = 1_u32.checked_shl(attempt.saturating_sub(1).min(31)).unwrap_or(u32::MAX);
        Some(self.first.saturating_mul(factor).min(self.max))
    }
}

/// Checks the words.
pub(super) fn check(row: Option<&RetryFile>, file: &SourceFile, problems: &mut Problems) -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    let Some(row) = row else { return policy };
    if let Some(attempts) = &row.attempts {
        if (1..=100).contains(&attempts.value) {
            policy.attempts = attempts.value;
        } else {
            problems.push(Problem::error("bad-value", file, attempts.span.clone(), "expected a number from 1 to 100"));
        }
    }
    for (word, slot) in [(&row.first, &mut policy.first), (&row.max, &mut policy.max)] {
        let Some(word) = word else { continue };
        match parse_duration(word).filter(|wait| !wait.is_zero() && *wait <= Duration::from_secs(3600)) {
            Some(wait) => *slot = wait,
            None => problems.push(Problem::error(
                "bad-value",
                file,
                word.span.clone(),
                "expected a time up to `1h` such as `5s`",
            )),
        }
    }
    policy
}
