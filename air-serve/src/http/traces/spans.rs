//! Spans over OpenTelemetry's SDK: begun when a request comes, ended with its answer, sent in batches by a thread of the SDK.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::http::{HeaderValue, Request};
use bytes::Bytes;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::TracesConfig;
use crate::error::{CallError, ServeError};

/// What begins spans, and sends what has ended. Dropping it sends the last ones, within the time the collector has.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    timeout: Duration,
}

/// A span of a request's trace, for others to be its children. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    tracer: SdkTracer,
    context: SpanContext,
}

/// The span of a request that a model works on. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Traced {
    trace: Trace,
    span: opentelemetry_sdk::trace::Span,
}

/// The span of a request under way.
pub(crate) struct Span {
    inner: opentelemetry_sdk::trace::Span,
    begun: SystemTime,
    method: String,
    path: String,
}

impl Traces {
    /// Starts tracing, if that is configured.
    pub(crate) fn start(config: &TracesConfig) -> Result<Option<Self>, ServeError> {
        let Some(url) = config.url()? else { return Ok(None) };
        let timeout = Duration::from_secs_f64(config.timeout_s);
        let agent = ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(agent.build().into()))
            .with_endpoint(url)
            .with_timeout(timeout)
            .with_protocol(Protocol::HttpBinary)
            .with_headers(HashMap::new())
            .build()
            .map_err(|error| ServeError::config(format!("traces: {error}")))?;
        let resource = Resource::builder().with_service_name(config.service_name.clone()).build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample))))
            .build();
        let tracer = provider.tracer("air-serve");
        Ok(Some(Traces { provider, tracer, propagator: TraceContextPropagator::new(), timeout }))
    }

    /// Begins the span of a request, if it is sampled; and says what trace it belongs to, if it is, or its caller has decided that it is not.
    pub(crate) fn begin<B>(&self, request: &Request<B>) -> (Option<Span>, Option<Trace>) {
        let parent =
            self.propagator.extract_with_context(&Context::new(), &HeaderExtractor(request.headers()));
        let begun = SystemTime::now();
        let method = request.method().as_str().to_owned();
        let path: String = request.uri().path().chars().take(128).collect();
        let builder = SpanBuilder::from_name(method.clone())
            .with_kind(SpanKind::Server)
            .with_start_time(begun)
            .with_attributes([
                KeyValue::new("http.request.method", method.clone()),
                KeyValue::new("url.path", path.clone()),
            ]);
        let span = self.tracer.build_with_context(builder, &parent);
        let context = span.span_context().clone();
        let is_known = span.is_recording() || parent.span().span_context().is_valid();
        let trace = is_known.then(|| Trace { tracer: self.tracer.clone(), context });
        (span.is_recording().then_some(Span { inner: span, begun, method, path }), trace)
    }
}

impl Trace {
    fn child(&self, builder: SpanBuilder) -> opentelemetry_sdk::trace::Span {
        let parent = Context::new().with_remote_span_context(self.context.clone());
        self.tracer.build_with_context(builder.with_kind(SpanKind::Internal), &parent)
    }

    /// Records that the request has waited in a deployment's queue for so long until now.
    pub(crate) fn waited(&self, deployment: &str, time: Duration) {
        if !self.context.is_sampled() {
            return;
        }
        let now = SystemTime::now();
        let builder = SpanBuilder::from_name(format!("queue {deployment}"))
            .with_start_time(now.checked_sub(time).unwrap_or(now))
            .with_attributes([KeyValue::new("air.serve.deployment", deployment.to_owned())]);
        self.child(builder).end_with_timestamp(now);
    }

    /// Begins the span of its execution by a replica, in a batch of so many requests.
    pub(crate) fn execute(&self, deployment: &str, replica: &str, batch: usize) -> Traced {
        let batch = i64::try_from(batch).unwrap_or(i64::MAX);
        let builder = SpanBuilder::from_name(format!("execute {deployment}")).with_attributes([
            KeyValue::new("air.serve.deployment", deployment.to_owned()),
            KeyValue::new("air.serve.replica", replica.to_owned()),
            KeyValue::new("air.serve.batch_items", batch),
        ]);
        let span = self.child(builder);
        let trace = Trace { tracer: self.tracer.clone(), context: span.span_context().clone() };
        Traced { trace, span }
    }

    /// As the header of that name has it, for requests that a model makes itself.
    pub(crate) fn traceparent(&self) -> String {
        let (trace, span) = (self.context.trace_id(), self.context.span_id());
        format!("00-{trace}-{span}-{:02x}", u8::from(self.context.is_sampled()))
    }
}

impl Traced {
    /// Its span, for those of the calls that the model makes.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Ends it: that the request failed, with the status that its caller is told.
    pub(crate) fn fail(mut self, error: &CallError) {
        self.span.set_attribute(KeyValue::new("error.type", error.status().to_string()));
        self.span.set_status(Status::error(error.to_string()));
    }
}

impl Span {
    /// Ends it with what the request was answered, by the
    /// [conventions for HTTP](https://opentelemetry.io/docs/specs/semconv/http/http-spans/). It is named for its path only
    /// where that is the route of a deployment: there are few of these.
    pub(crate) fn end(mut self, deployment: Option<&str>, status: u16, id: &HeaderValue, took: Duration) {
        if let Some(deployment) = deployment {
            self.inner.update_name(format!("{} {}", self.method, self.path));
            self.inner.set_attribute(KeyValue::new("http.route", self.path));
            self.inner.set_attribute(KeyValue::new("air.serve.deployment", deployment.to_owned()));
        }
        self.inner.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        let id = id.to_str().unwrap_or_default().to_owned();
        self.inner.set_attribute(KeyValue::new("http.request.header.x-request-id", id));
        if status >= 500 {
            self.inner.set_attribute(KeyValue::new("error.type", status.to_string()));
            self.inner.set_status(Status::error(""));
        }
        self.inner.end_with_timestamp(self.begun + took);
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(self.timeout) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// Sends spans with the HTTP client the command has anyway. The SDK calls it from a thread of its own, so it may block.
#[derive(Debug)]
struct Client(ureq::Agent);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<axum::http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let answer = self.0.run(Request::from_parts(head, body.to_vec()))?;
        let (head, mut body) = answer.into_parts();
        Ok(axum::http::Response::from_parts(head, body.read_to_vec()?.into()))
    }
}
