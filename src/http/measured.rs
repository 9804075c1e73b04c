//! What is counted of requests, and the page that shows it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::metrics::{
    self, Answered, EndpointNow, Format, Handler, InFlight, Kind, Metrics, Now, Source,
};
use crate::oci::Route;
use crate::registry::{Outcome, Registry};

use super::answer::Answer;
use super::around::Surroundings;

/// What is counted of one request. In flight for as long as it lives.
pub(super) struct Measured {
    in_flight: InFlight,
    method: metrics::Method,
    received: u64,
    source: Option<Source>,
    content: Option<Kind>,
}

/// What kind of request that is; none where there is no such endpoint.
pub(super) fn handler(route: Option<&Route>) -> Handler {
    match route {
        None => Handler::Other,
        Some(Route::Root) => Handler::Root,
        Some(Route::Asset(_)) => Handler::Page,
        Some(Route::Api(_)) => Handler::Api,
        Some(Route::Base) => Handler::Base,
        Some(Route::Token { .. }) => Handler::Token,
        Some(Route::Metrics) => Handler::Metrics,
        Some(Route::Catalog(_)) => Handler::Catalog,
        Some(Route::Tags(..)) => Handler::Tags,
        Some(Route::Manifest(..)) => Handler::Manifest,
        Some(Route::Blob(..)) => Handler::Blob,
        Some(Route::Uploads(..)) => Handler::BlobUpload,
        Some(Route::Upload(..)) => Handler::BlobUploadChunk,
        Some(Route::Referrers(..)) => Handler::Referrers,
    }
}

impl Measured {
    /// A request has come, with a body of so many bytes as far as that is known.
    pub(super) fn begin(
        metrics: &Metrics,
        handler: Handler,
        method: &Method,
        received: Option<u64>,
    ) -> Self {
        Self {
            in_flight: metrics.begun(handler),
            method: metrics::Method::of(method.as_str()),
            received: received.unwrap_or(0),
            source: None,
            content: None,
        }
    }

    /// Its answer is there, and comes from `source`, if from anywhere.
    pub(super) fn answer(
        &mut self,
        status: StatusCode,
        source: Option<Source>,
        outcome: Option<Outcome>,
    ) {
        if status == StatusCode::INSUFFICIENT_STORAGE {
            self.in_flight.metrics().push_refused();
        }
        let kind = match self.in_flight.handler() {
            Handler::Manifest => Some(Kind::Manifest),
            Handler::Blob => Some(Kind::Blob),
            _ => None,
        };
        let is_good = status.as_u16() < 400;
        if let (Some(source), Some(kind), Some(outcome), true) = (&source, kind, outcome, is_good) {
            source.pulled(kind, outcome);
            self.content = Some(kind);
        }
        self.source = source;
    }

    /// Some of the answer went out.
    pub(super) fn sent(&self, bytes: u64) {
        if let (Some(source), Some(kind)) = (&self.source, self.content) {
            source.served(kind, bytes);
        }
    }

    /// What kind of request it is, as a word.
    pub(super) fn handler(&self) -> &'static str {
        self.in_flight.handler().as_str()
    }

    /// Where the answer came from, for the log.
    pub(super) fn source(&self) -> &str {
        self.source.as_ref().map_or("-", Source::name)
    }

    /// All is out that will go out.
    pub(super) fn finish(&self, status: u16, took: Duration, sent: u64) {
        self.in_flight.metrics().answered(&Answered {
            handler: self.in_flight.handler(),
            method: self.method,
            status,
            took,
            received: self.received,
            sent,
        });
    }
}

/// The page, in the format that whoever asks for it reads.
pub(super) async fn page(
    registry: &Registry,
    around: &Surroundings,
    headers: &HeaderMap,
) -> Answer {
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|line| line.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    let mut now = registry.now().await;
    add(&mut now, around);
    let text = registry.metrics().render(now, format);
    Answer::full(StatusCode::OK, format.content_type(), text)
        .header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .header(header::VARY, HeaderValue::from_static("accept"))
}

/// What surrounds the registry.
fn add(now: &mut Now, around: &Surroundings) {
    now.failing_checks = around.health.failing().len() as u64;
    now.unwritten_lines = around.access_log.dropped();
    now.endpoints = around
        .events
        .reports()
        .into_iter()
        .map(|report| {
            let counted = report.metrics;
            EndpointNow {
                name: report.name,
                pending: counted.pending,
                events: counted.events,
                successes: counted.successes,
                failures: counted.failures,
                errors: counted.errors,
                dropped: counted.dropped,
                statuses: counted.statuses,
            }
        })
        .collect();
}
