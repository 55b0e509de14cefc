//! The numbers that `/metrics` shows. Handles are resolved once a route and target, so that counting costs nanoseconds.
//!
//! `docs/operations.md` lists every name; [`Metrics::NAMES`] is what its test compares.

use gatehouse_core::adapter::Behind;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Seconds: from half a millisecond to a minute.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// All numbers of one gateway.
pub struct Metrics {
    registry: Registry,
    received: IntCounterVec,
    accept_seconds: HistogramVec,
    published: IntCounterVec,
    delivered: IntCounterVec,
    recognised: IntCounterVec,
    retried: IntCounterVec,
    dead: IntCounterVec,
    unsettled: IntCounterVec,
    in_flight: IntGaugeVec,
    delivery_seconds: HistogramVec,
    queue_depth: IntGaugeVec,
    queue_oldest: IntGaugeVec,
    /// Letters by state.
    pub letters: IntGaugeVec,
    /// 1 while a system's circuit is not closed.
    pub circuit_open: IntGaugeVec,
    /// 1 while the bus takes messages.
    pub bus_ready: IntGauge,
    source_waiting: IntGaugeVec,
    source_oldest: IntGaugeVec,
    source_log: IntGaugeVec,
}

/// An attempt under way: counted until it is dropped, however it ends.
pub struct UnderWay<'a>(&'a IntGauge);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What one target counts.
#[derive(Clone)]
pub struct TargetMetrics {
    /// Deliveries that the bus confirmed.
    pub published: IntCounter,
    /// Deliveries that the target took.
    pub delivered: IntCounter,
    /// Deliveries that came again and were known to be done.
    pub recognised: IntCounter,
    /// Failed attempts that will be repeated.
    pub retried: IntCounter,
    /// Deliveries that became dead letters.
    pub dead: IntCounter,
    /// Answers that the bus did not take: the delivery comes again.
    pub unsettled: IntCounter,
    /// Attempts under way.
    pub in_flight: IntGauge,
    /// How long attempts took.
    pub seconds: Histogram,
}

impl TargetMetrics {
    /// One more attempt is under way.
    #[must_use]
    pub fn under_way(&self) -> UnderWay<'_> {
        self.in_flight.inc();
        UnderWay(&self.in_flight)
    }
}

impl Metrics {
    /// Every metric's name.
    pub const NAMES: [&str; 18] = [
        "gatehouse_received_total",
        "gatehouse_accept_seconds",
        "gatehouse_published_total",
        "gatehouse_delivered_total",
        "gatehouse_recognised_total",
        "gatehouse_retried_total",
        "gatehouse_dead_total",
        "gatehouse_unsettled_total",
        "gatehouse_in_flight",
        "gatehouse_delivery_seconds",
        "gatehouse_queue_depth",
        "gatehouse_queue_oldest_seconds",
        "gatehouse_letters",
        "gatehouse_circuit_open",
        "gatehouse_bus_ready",
        "gatehouse_source_waiting",
        "gatehouse_source_oldest_seconds",
        "gatehouse_source_log_bytes",
    ];

    /// All at zero.
    ///
    /// # Errors
    /// A name or label that is not valid, which is a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone())).map(|()| vec)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone())).map(|()| vec)
        };
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            let vec = HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels)?;
            registry.register(Box::new(vec.clone())).map(|()| vec)
        };
        let target = ["route", "target"];
        let bus_ready = IntGauge::new("gatehouse_bus_ready", "1 while the bus takes messages.")?;
        registry.register(Box::new(bus_ready.clone()))?;
        Ok(Self {
            received: counter(
                "gatehouse_received_total",
                "Arrivals by endpoint and outcome.",
                &["endpoint", "outcome"],
            )?,
            accept_seconds: histogram(
                "gatehouse_accept_seconds",
                "From a decoded arrival to its receipt.",
                &["endpoint"],
            )?,
            published: counter("gatehouse_published_total", "Deliveries that the bus confirmed.", &target)?,
            delivered: counter("gatehouse_delivered_total", "Deliveries that the target took.", &target)?,
            recognised: counter(
                "gatehouse_recognised_total",
                "Deliveries that came again and were known to be done.",
                &target,
            )?,
            retried: counter("gatehouse_retried_total", "Failed attempts that will be repeated.", &target)?,
            dead: counter("gatehouse_dead_total", "Deliveries that became dead letters.", &target)?,
            unsettled: counter(
                "gatehouse_unsettled_total",
                "Answers that the bus did not take; the delivery comes again.",
                &target,
            )?,
            in_flight: gauge("gatehouse_in_flight", "Attempts under way.", &target)?,
            delivery_seconds: histogram("gatehouse_delivery_seconds", "How long attempts took.", &target)?,
            queue_depth: gauge("gatehouse_queue_depth", "Deliveries on a queue.", &["queue"])?,
            source_waiting: gauge(
                "gatehouse_source_waiting",
                "Changes that wait in a source that is read, where it can tell.",
                &["endpoint"],
            )?,
            source_log: gauge(
                "gatehouse_source_log_bytes",
                "Bytes of its log that a source holds back for an endpoint",
                &["endpoint"],
            )?,
            source_oldest: gauge(
                "gatehouse_source_oldest_seconds",
                "How long the oldest change has waited in a source that is read.",
                &["endpoint"],
            )?,
            queue_oldest: gauge(
                "gatehouse_queue_oldest_seconds",
                "How long the oldest delivery has waited, where the bus can tell.",
                &["queue"],
            )?,
            letters: gauge("gatehouse_letters", "Dead letters by state.", &["state"])?,
            circuit_open: gauge("gatehouse_circuit_open", "1 while a system's circuit is not closed.", &["system"])?,
            bus_ready,
            registry,
        })
    }

    /// The handles of one target.
    #[must_use]
    pub fn target(&self, route: &str, target: &str) -> TargetMetrics {
        let labels = [route, target];
        TargetMetrics {
            published: self.published.with_label_values(&labels),
            delivered: self.delivered.with_label_values(&labels),
            recognised: self.recognised.with_label_values(&labels),
            retried: self.retried.with_label_values(&labels),
            dead: self.dead.with_label_values(&labels),
            unsettled: self.unsettled.with_label_values(&labels),
            in_flight: self.in_flight.with_label_values(&labels),
            seconds: self.delivery_seconds.with_label_values(&labels),
        }
    }

    /// Counts one arrival.
    pub fn received(&self, endpoint: &str, outcome: &str) {
        self.received.with_label_values(&[endpoint, outcome]).inc();
    }

    /// The handle of an endpoint's accept time.
    #[must_use]
    pub fn accept_seconds(&self, endpoint: &str) -> Histogram {
        self.accept_seconds.with_label_values(&[endpoint])
    }

    /// Notes how far behind its source a reader is.
    pub fn behind(&self, endpoint: &str, behind: &Behind) {
        if let Some(waiting) = behind.waiting {
            self.source_waiting.with_label_values(&[endpoint]).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        if let Some(age) = behind.age {
            self.source_oldest.with_label_values(&[endpoint]).set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
        if let Some(bytes) = behind.bytes {
            self.source_log.with_label_values(&[endpoint]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Writes down how full the queues are.
    pub fn depths(&self, depths: &std::collections::BTreeMap<String, gatehouse_bus::Depth>) {
        for (queue, depth) in depths {
            self.queue_depth.with_label_values(&[queue]).set(i64::try_from(depth.parcels).unwrap_or(i64::MAX));
            if let Some(oldest) = depth.oldest {
                self.queue_oldest.with_label_values(&[queue]).set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
            }
        }
    }

    /// The Prometheus text format.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Encoding into memory fails only where a family is inconsistent, which `new` rules out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_rendered() {
        let metrics = Metrics::new().unwrap();
        let target = metrics.target("r", "t");
        target.published.inc();
        target.seconds.observe(0.1);
        metrics.received("shop/orders", "accepted");
        metrics.accept_seconds("shop/orders").observe(0.1);
        let depth = gatehouse_bus::Depth { oldest: Some(std::time::Duration::from_secs(3)), ..Default::default() };
        metrics.depths(&[("q".to_owned(), depth)].into());
        metrics.letters.with_label_values(&["open"]).set(1);
        metrics.circuit_open.with_label_values(&["erp"]).set(0);
        let age = Some(std::time::Duration::from_secs(3));
        metrics.behind("finance/payments", &Behind { waiting: Some(7), age, bytes: Some(4096), notes: Vec::new() });
        let text = String::from_utf8(metrics.render()).unwrap();
        for name in Metrics::NAMES {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing");
        }
    }
}
