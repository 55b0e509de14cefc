//! Spans over OTLP, and the W3C trace context that travels with a message. Without a collector nothing is recorded and
//! a caller's context is passed on as it came.

use gatehouse_core::Fault;
use gatehouse_core::site::Telemetry;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::courier::Courier;

/// Which side of a hop a span tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A system called us.
    Server,
    /// We call a system.
    Client,
}

/// Makes spans, or nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Recorder>);

#[derive(Clone)]
struct Recorder {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// A span under way.
pub struct Span(opentelemetry_sdk::trace::Span);

impl Tracer {
    /// By the site's `telemetry`; without `otlp` it makes nothing.
    ///
    /// # Errors
    /// The exporter cannot be built (a bad URL).
    pub fn new(telemetry: &Telemetry, instance: &str) -> anyhow::Result<Self> {
        let Some(base) = &telemetry.otlp else { return Ok(Self(None)) };
        let endpoint = format!("{}/v1/traces", base.trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Courier::new(base).map_err(|fault| anyhow::anyhow!("telemetry.otlp: {fault}"))?)
            .with_endpoint(endpoint)
            .build()?;
        let share = f64::from(telemetry.sample_percent) / 100.0;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(
                Resource::builder()
                    .with_service_name("gatehouse")
                    .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
                    .build(),
            )
            .build();
        let tracer = provider.tracer("gatehouse");
        Ok(Self(Some(Recorder { provider, tracer })))
    }

    /// Starts a span below a caller's context.
    #[must_use]
    pub fn start(&self, kind: Kind, name: &str, traceparent: Option<&str>) -> Option<Span> {
        let recorder = self.0.as_ref()?;
        let parent = traceparent
            .and_then(parse)
            .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let kind = match kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        };
        let builder = recorder.tracer.span_builder(name.to_owned()).with_kind(kind);
        Some(Span(recorder.tracer.build_with_context(builder, &parent)))
    }

    /// Sends what is recorded and stops. Blocking: call it off the runtime's workers.
    pub fn shutdown(&self) {
        if let Some(recorder) = &self.0
            && let Err(error) = recorder.provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

impl Span {
    /// The context to pass on.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let context = self.0.span_context();
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
    }

    /// Ends it.
    pub fn end(mut self, fault: Option<&Fault>) {
        if let Some(fault) = fault {
            self.0.set_attribute(KeyValue::new("error.type", fault.code.as_str()));
            self.0.set_status(Status::error(fault.code.as_str()));
        }
        self.0.end();
    }
}

/// A `traceparent` (W3C Trace Context, version 00).
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed =
        version.len() == 2 && version != "ff" && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
    if !well_formed {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_or_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(parse(good).is_some_and(|context| context.is_sampled() && context.is_remote()));
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-xyz-00f067aa0ba902b7-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
