//! Rates, kept for a system and for each of its endpoints.

use std::num::NonZeroU32;
use std::time::Duration;

use gatehouse_core::limits::Limits;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// A token bucket that tells how many are left.
#[derive(Debug)]
pub struct Limiter(Option<RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>>);

impl Limiter {
    /// By the declared rate and burst; without a rate nothing is ever held back.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let quota = limits.rate.and_then(|rate| {
            let period = rate.per.checked_div(rate.count)?;
            Some(Quota::with_period(period)?.allow_burst(NonZeroU32::new(limits.burst)?))
        });
        Self(quota.map(|quota| RateLimiter::direct(quota).with_middleware()))
    }

    /// Takes one: how many are left (`None` where no rate is set), or how long to wait.
    ///
    /// # Errors
    /// How long until one is free.
    pub fn take(&self) -> Result<Option<u32>, Duration> {
        let Some(limiter) = &self.0 else { return Ok(None) };
        match limiter.check() {
            Ok(state) => Ok(Some(state.remaining_burst_capacity())),
            Err(not_until) => Err(not_until.wait_time_from(DefaultClock::default().now())),
        }
    }

    /// Waits until one is free, and takes it.
    pub async fn wait(&self) {
        while let Err(wait) = self.take() {
            tokio::time::sleep(wait).await;
        }
    }
}
