//! Metrics: what is counted, for those who watch a registry from afar.
//!
//! A leaf: nothing here knows of requests, repositories or upstreams. Whoever does something counts
//! it by a method that says what happened; labels are words that are known beforehand, or the names
//! of configured upstreams, whose counters are found once. To count is to add to a number.
//!
//! What somebody keeps anyway (the disk, the queues) is not counted a second time: it comes in as
//! [`Now`] when the page is asked for. Names, units and meanings are in `docs/metrics.md`, which a
//! test compares with the page.

mod format;
mod labels;
mod now;
mod out;
mod outcome;
mod page;
mod process;
mod requests;
mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;

pub use format::Format;
pub use labels::{Asked, FillEnd, Handler, Kind, Method};
pub use now::{Disk, EndpointNow, Now, UpstreamNow};
pub use outcome::Outcome;
pub use requests::Answered;
pub use source::{Filling, Source};

/// The name of what was pushed here, among those of upstreams.
const LOCAL: &str = "local";

/// All that is counted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: SystemTime,
    requests: requests::Requests,
    local: Source,
    upstreams: RwLock<BTreeMap<String, Source>>,
    received: Counter,
    refused: Counter,
}

/// The sums that people like to see. Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of manifests and blobs sent to clients.
    pub served_bytes: u64,
    /// What of that came from mirrors. Less what was fetched, it is what larder saved.
    pub served_mirrored_bytes: u64,
    /// Bytes of manifests and blobs fetched from upstreams.
    pub fetched_bytes: u64,
    /// Pulls by how they were answered.
    pub pulls: Pulls,
}

/// How many pulls were answered in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulls([u64; Outcome::ALL.len()]);

impl Pulls {
    /// How many in this way.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }
}

/// A request that is not answered yet, as long as it lives.
#[derive(Debug)]
pub struct InFlight {
    metrics: Metrics,
    handler: Handler,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Inner {
            started: SystemTime::now(),
            requests: requests::Requests::default(),
            local: Source::new(LOCAL, true),
            upstreams: RwLock::default(),
            received: Counter::default(),
            refused: Counter::default(),
        }))
    }
}

impl Metrics {
    /// A request has come.
    pub fn begun(&self, handler: Handler) -> InFlight {
        self.0.requests.handler(handler).in_flight.inc();
        let metrics = self.clone();
        InFlight { metrics, handler }
    }

    /// A request has been answered.
    pub fn answered(&self, answered: &Answered) {
        self.0.requests.answered(answered);
    }

    /// What was pushed here, as a source of pulls.
    pub fn local(&self) -> &Source {
        &self.0.local
    }

    /// An upstream as a source of pulls. Names are those of the configuration, or of what is on
    /// the disk: clients must not be able to make them up.
    pub fn upstream(&self, name: &str) -> Source {
        let known = self.0.upstreams.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = known.get(name) {
            return source.clone();
        }
        drop(known);
        let known = self.0.upstreams.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let made = || Source::new(name, false);
        known.entry(name.to_owned()).or_insert_with(made).clone()
    }

    /// Counts bytes of content that came in a push.
    pub fn received(&self, bytes: u64) {
        self.0.received.inc_by(bytes);
    }

    /// Counts a push for which there was no room.
    pub fn push_refused(&self) {
        self.0.refused.inc();
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for source in self.sources() {
            let counters = source.counters();
            for (_, per) in counters.kinds.iter() {
                totals.served_bytes += per.served.get();
                if !counters.is_local {
                    totals.served_mirrored_bytes += per.served.get();
                }
                totals.fetched_bytes += per.fetched.get();
                for (outcome, count) in per.pulls.iter() {
                    totals.pulls.0[outcome as usize] += count.get();
                }
            }
        }
        totals
    }

    /// The page for Prometheus.
    pub fn render(&self, now: Now, format: Format) -> String {
        let page = page::render(self, now);
        match format {
            Format::Open => page,
            Format::Plain => format::plain(&page),
        }
    }

    fn sources(&self) -> Vec<Source> {
        let known = self.0.upstreams.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let all = [&self.0.local].into_iter().chain(known.values());
        all.cloned().collect()
    }
}

impl InFlight {
    /// What it is about.
    pub fn handler(&self) -> Handler {
        self.handler
    }

    /// Where it is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics
            .0
            .requests
            .handler(self.handler)
            .in_flight
            .dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn totals_are_sums_over_upstreams_and_what_is_local() {
        let metrics = Metrics::default();
        let hub = metrics.upstream("docker.io");
        hub.pulled(Kind::Blob, Outcome::Hit);
        metrics
            .upstream("docker.io")
            .pulled(Kind::Manifest, Outcome::Hit);
        metrics.local().pulled(Kind::Blob, Outcome::Hit);
        hub.served(Kind::Blob, 70);
        metrics.local().served(Kind::Manifest, 7);
        hub.fetched(Kind::Blob, 30);
        let totals = metrics.totals();
        assert_eq!((totals.served_bytes, totals.fetched_bytes), (77, 30));
        assert_eq!(totals.served_mirrored_bytes, 70);
        assert_eq!(totals.pulls.of(Outcome::Hit), 3);
        assert_eq!(totals.pulls.of(Outcome::Miss), 0);
    }

    #[test]
    fn the_page_tells_what_was_counted() {
        let metrics = Metrics::default();
        let request = metrics.begun(Handler::Blob);
        let hub = metrics.upstream("docker.io");
        hub.pulled(Kind::Blob, Outcome::Joined);
        hub.asked(Asked::status(200), Duration::from_millis(30));
        hub.filling().ends(FillEnd::Stored);
        metrics.answered(&Answered {
            handler: Handler::Blob,
            method: Method::of("GET"),
            status: 299,
            took: Duration::from_secs(2),
            received: 0,
            sent: 5000,
        });
        let now = Now {
            endpoints: vec![EndpointNow {
                name: "a\"b\n".to_owned(),
                pending: 3,
                ..EndpointNow::default()
            }],
            mirrored: Some((2, 1 << 40)),
            ..Now::default()
        };
        let page = metrics.render(now, Format::Open);
        drop(request);
        for line in [
            "registry_http_requests_total{handler=\"blob\",code=\"other\",method=\"get\"} 1",
            "registry_http_in_flight_requests{handler=\"blob\"} 1",
            "registry_http_request_duration_seconds_bucket{le=\"2.5\",handler=\"blob\",method=\"get\"} 1",
            "registry_http_response_size_bytes_sum{handler=\"blob\"} 5000.0",
            "registry_proxy_misses_total{type=\"blob\"} 1",
            "registry_proxy_hits_total{type=\"blob\"} 0",
            "larder_pulls_total{upstream=\"docker.io\",type=\"blob\",outcome=\"joined\"} 1",
            "larder_fills_total{upstream=\"docker.io\",result=\"stored\"} 1",
            "larder_fills_running{upstream=\"docker.io\"} 0",
            "larder_upstream_requests_total{upstream=\"docker.io\",result=\"2xx\"} 1",
            "larder_mirrored_bytes 1099511627776",
            "registry_notifications_pending_total{endpoint=\"a\\\"b\\n\"} 3",
            "larder_health_up 1",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
        let unknown = page
            .lines()
            .find(|line| line.starts_with("larder_disk_free_bytes"));
        assert_eq!(unknown, None);
        let after = metrics.render(Now::default(), Format::Open);
        assert!(after.contains("registry_http_in_flight_requests{handler=\"blob\"} 0\n"));
    }

    #[test]
    fn a_fill_without_a_word_has_failed() {
        let metrics = Metrics::default();
        drop(metrics.upstream("x.io").filling());
        let page = metrics.render(Now::default(), Format::Open);
        assert!(page.contains("larder_fills_total{upstream=\"x.io\",result=\"failed\"} 1\n"));
    }
}
