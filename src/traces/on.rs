//! Spans by OpenTelemetry, sent as OTLP over HTTP.

use std::collections::HashMap;
use std::env;

use opentelemetry::context::FutureExt as _;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::Answered;

/// The variables of OpenTelemetry's specification that say where spans go. Without either, nowhere.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// The headers of W3C Trace Context.
const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// What spans are made by, for who reads them.
const NAME: &str = "larder";

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct Sending(Option<SdkTracerProvider>);

/// The span of a request that is being answered.
#[derive(Debug)]
pub struct Answering {
    context: Context,
    method: String,
}

/// The span of a request that is being sent.
#[derive(Debug)]
pub struct Asking(Context);

/// Starts to send spans, if the environment says where to.
pub fn start() -> Result<Sending, String> {
    if ENDPOINTS.iter().all(|name| env::var_os(name).is_none()) {
        return Ok(Sending(None));
    }
    // The client insists on one. Where there is one already, that will do.
    _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| format!("traces cannot be sent: {error}"))?;
    let mut resource = Resource::builder();
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(NAME);
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.with_attribute(version).build())
        .build();
    global::set_tracer_provider(provider.clone());
    // Not where to: the address may hold a password.
    tracing::info!("traces are sent to where OTEL_EXPORTER_OTLP_ENDPOINT says");
    Ok(Sending(Some(provider)))
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Work that goes on apart from the request that it is done for, and still belongs to it.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

impl Answering {
    /// A request has come. `header` gives the first value of a header of that name.
    pub fn begin<'h>(method: &str, path: &str, header: impl Fn(&str) -> Option<&'h str>) -> Self {
        let headers = HEADERS.iter();
        let sent = headers.filter_map(|name| Some(((*name).to_owned(), header(name)?.to_owned())));
        let sent: HashMap<String, String> = sent.collect();
        let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &sent);
        let tracer = global::tracer(NAME);
        let span = tracer
            .span_builder(method.to_owned())
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method.to_owned()),
                KeyValue::new("url.path", path.to_owned()),
            ])
            .start_with_context(&tracer, &caller);
        Self {
            context: caller.with_span(span),
            method: method.to_owned(),
        }
    }

    /// What is done to answer it.
    pub fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.context.clone())
    }

    /// All is out.
    pub fn end(&self, answered: &Answered<'_>) {
        let span = self.context.span();
        span.update_name(format!("{} {}", self.method, answered.handler));
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let status = KeyValue::new("http.response.status_code", i64::from(answered.status));
        span.set_attribute(status);
        let bytes = number(answered.bytes);
        span.set_attribute(KeyValue::new("http.response.body.size", bytes));
        if let Some(outcome) = answered.outcome {
            span.set_attribute(KeyValue::new("larder.outcome", outcome));
            let upstream = answered.upstream.to_owned();
            span.set_attribute(KeyValue::new("larder.upstream", upstream));
        }
        if answered.status >= 500 {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

impl Asking {
    /// A request to an upstream is sent.
    pub fn begin(upstream: &str, method: &str, host: Option<&str>) -> Self {
        let (tracer, current) = (global::tracer(NAME), Context::current());
        let span = tracer
            .span_builder(format!("{method} {upstream}"))
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("http.request.method", method.to_owned()),
                KeyValue::new("server.address", host.unwrap_or_default().to_owned()),
                KeyValue::new("larder.upstream", upstream.to_owned()),
            ])
            .start_with_context(&tracer, &current);
        Self(current.with_span(span))
    }

    /// The headers that tell the upstream of it.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let mut headers = HashMap::<String, String>::new();
        TraceContextPropagator::new().inject_context(&self.0, &mut headers);
        let filled = HEADERS
            .into_iter()
            .filter_map(move |name| Some((name, headers.remove(name)?)));
        filled.filter(|(_, value)| !value.is_empty())
    }

    /// The head of its answer is there, or there will be none.
    pub fn end(self, status: Option<u16>) {
        let span = self.0.span();
        match status {
            Some(status) => {
                let status = KeyValue::new("http.response.status_code", i64::from(status));
                span.set_attribute(status);
            }
            None => span.set_status(Status::error("no answer")),
        }
        span.end();
    }
}
