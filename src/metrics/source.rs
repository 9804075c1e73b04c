//! What is counted of one upstream, or of what is local.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::Outcome;
use super::labels::{Asked, Each, FillEnd, Kind};

/// Until the head of an answer is there, in seconds.
const LATENCIES: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0,
];

/// Where content comes from: an upstream, or what was pushed here. Its counters are found once; to
/// count is an addition then. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source(Arc<Counters>);

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) name: String,
    pub(super) is_local: bool,
    pub(super) kinds: Each<Kind, PerKind>,
    pub(super) fills_running: Gauge,
    pub(super) fills: Each<FillEnd, Counter>,
    pub(super) fill_durations: Histogram,
    pub(super) asked: Each<Asked, Counter>,
    pub(super) latencies: Histogram,
}

#[derive(Debug, Default)]
pub(super) struct PerKind {
    pub(super) pulls: Each<Outcome, Counter>,
    pub(super) served: Counter,
    pub(super) fetched: Counter,
}

/// A fill under way. Without a word it has failed.
#[derive(Debug)]
pub struct Filling {
    source: Source,
    end: FillEnd,
    started: std::time::Instant,
}

impl Source {
    pub(super) fn new(name: &str, is_local: bool) -> Self {
        Self(Arc::new(Counters {
            name: name.to_owned(),
            is_local,
            kinds: Each::default(),
            fills_running: Gauge::default(),
            fills: Each::default(),
            // 10 ms to 44 minutes.
            fill_durations: Histogram::new(exponential_buckets(0.01, 4.0, 10)),
            asked: Each::default(),
            latencies: Histogram::new(LATENCIES),
        }))
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0
    }

    /// The upstream's name, as in `docker.io`, or `local`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Counts a pull that was answered.
    pub fn pulled(&self, kind: Kind, outcome: Outcome) {
        self.0.kinds.of(kind).pulls.of(outcome).inc();
    }

    /// Counts bytes of content that went out to a client.
    pub fn served(&self, kind: Kind, bytes: u64) {
        self.0.kinds.of(kind).served.inc_by(bytes);
    }

    /// Counts bytes of content that came from the upstream.
    pub fn fetched(&self, kind: Kind, bytes: u64) {
        self.0.kinds.of(kind).fetched.inc_by(bytes);
    }

    /// Counts one request to the upstream, and how long the head of its answer took.
    pub fn asked(&self, asked: Asked, took: Duration) {
        self.0.asked.of(asked).inc();
        self.0.latencies.observe(took.as_secs_f64());
    }

    /// A fill begins.
    pub fn filling(&self) -> Filling {
        self.0.fills_running.inc();
        Filling {
            source: self.clone(),
            end: FillEnd::Failed,
            started: std::time::Instant::now(),
        }
    }
}

impl Filling {
    /// How it ends.
    pub fn ends(&mut self, end: FillEnd) {
        self.end = end;
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let counters = &self.source.0;
        counters.fills_running.dec();
        counters.fills.of(self.end).inc();
        let took = self.started.elapsed();
        counters.fill_durations.observe(took.as_secs_f64());
    }
}
