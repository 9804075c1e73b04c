//! The text that Prometheus reads: [OpenMetrics] 1.0.
//!
//! [OpenMetrics]: https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md

use std::array;
use std::fmt::Result;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{Kind, Label as _};
use super::now::{EndpointNow, UpstreamNow};
use super::process::{Process, seconds};
use super::source::{Counters, Source};
use super::{Metrics, Now};

/// One page in the making.
#[derive(Debug)]
struct Page {
    metrics: Metrics,
    sources: Vec<Source>,
    now: Now,
}

/// All metrics as text.
pub(super) fn render(metrics: &Metrics, now: Now) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page {
        metrics: metrics.clone(),
        sources: metrics.sources(),
        now,
    }));
    let mut out = String::with_capacity(64 * 1024);
    // Text takes in everything: this cannot fail.
    _ = text::encode(&mut out, &registry);
    out
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let mut out = Out(encoder);
        self.requests(&mut out)?;
        self.proxy(&mut out)?;
        self.pulls(&mut out)?;
        self.fills(&mut out)?;
        self.upstreams(&mut out)?;
        self.disk(&mut out)?;
        self.notifications(&mut out)?;
        self.house(&mut out)?;
        self.process(&mut out)
    }
}

impl Page {
    fn requests(&self, out: &mut Out<'_>) -> Result {
        let requests = &self.metrics.0.requests;
        let handlers = || requests.handlers();
        let methods = requests.methods();
        let codes = methods.flat_map(|([handler, method], per)| {
            let codes = per.codes();
            codes.map(move |(code, count)| ([handler, code, method], count))
        });
        out.counters(
            "registry_http_requests",
            "Requests that were answered",
            ["handler", "code", "method"],
            codes,
        )?;
        out.gauges(
            "registry_http_in_flight_requests",
            "Requests whose answer is not out yet",
            ["handler"],
            handlers().map(|(handler, per)| ([handler.as_str()], per.in_flight.get())),
        )?;
        out.histograms(
            "registry_http_request_duration_seconds",
            "Time from a request to the last byte of its answer",
            ["handler", "method"],
            requests
                .methods()
                .map(|(labels, per)| (labels, &per.duration)),
        )?;
        out.histograms(
            "registry_http_request_size_bytes",
            "Announced sizes of requests' bodies",
            ["handler"],
            handlers().map(|(handler, per)| ([handler.as_str()], &per.received)),
        )?;
        out.histograms(
            "registry_http_response_size_bytes",
            "Sizes of answers' bodies, as far as they were sent",
            ["handler"],
            handlers().map(|(handler, per)| ([handler.as_str()], &per.sent)),
        )
    }

    /// What Distribution counts of a pull-through cache: all upstreams together.
    fn proxy(&self, out: &mut Out<'_>) -> Result {
        let sum = |count: &dyn Fn(&Counters, Kind) -> u64| {
            let mirrors = self.sources.iter().map(Source::counters);
            let mirrors: Vec<_> = mirrors.filter(|source| !source.is_local).collect();
            let of = |kind: Kind| mirrors.iter().map(|source| count(source, kind)).sum();
            let totals = Kind::ALL.iter().map(|kind| ([kind.as_str()], of(*kind)));
            totals.collect::<Vec<_>>()
        };
        let pulls = |is_hit: Option<bool>| {
            move |source: &Counters, kind: Kind| {
                let outcomes = source.kinds.of(kind).pulls.iter();
                let counted = outcomes.filter(|(outcome, _)| {
                    is_hit.is_none_or(|is_hit| outcome.is_from_disk() == is_hit)
                });
                counted.map(|(_, count)| count.get()).sum()
            }
        };
        let labels = ["type"];
        let text = "Pulls from mirrors";
        out.counters("registry_proxy_requests", text, labels, sum(&pulls(None)))?;
        let text = "Pulls from mirrors that were answered from the disk";
        out.counters("registry_proxy_hits", text, labels, sum(&pulls(Some(true))))?;
        let text = "Pulls from mirrors for which something was fetched";
        let misses = sum(&pulls(Some(false)));
        out.counters("registry_proxy_misses", text, labels, misses)?;
        let text = "Bytes of content fetched from upstreams";
        let pulled = sum(&|source, kind| source.kinds.of(kind).fetched.get());
        out.counters("registry_proxy_pulled_bytes", text, labels, pulled)?;
        let text = "Bytes of mirrored content sent to clients";
        let pushed = sum(&|source, kind| source.kinds.of(kind).served.get());
        out.counters("registry_proxy_pushed_bytes", text, labels, pushed)
    }

    fn pulls(&self, out: &mut Out<'_>) -> Result {
        let kinds = || {
            let sources = self.sources.iter().map(Source::counters);
            sources.flat_map(|source| {
                let kinds = source.kinds.iter();
                kinds.map(move |(kind, per)| (source.name.as_str(), kind.as_str(), per))
            })
        };
        let pulls = kinds().flat_map(|(name, kind, per)| {
            let outcomes = per.pulls.iter();
            outcomes.map(move |(outcome, count)| ([name, kind, outcome.as_str()], count.get()))
        });
        out.counters(
            "larder_pulls",
            "Manifests and blobs that clients were answered with, by how that was made",
            ["upstream", "type", "outcome"],
            pulls,
        )?;
        let labels = ["upstream", "type"];
        out.counters(
            "larder_served_bytes",
            "Bytes of manifests and blobs sent to clients",
            labels,
            kinds().map(|(name, kind, per)| ([name, kind], per.served.get())),
        )?;
        let mirrored = kinds().filter(|(name, ..)| *name != super::LOCAL);
        out.counters(
            "larder_fetched_bytes",
            "Bytes of manifests and blobs fetched from upstreams",
            labels,
            mirrored.map(|(name, kind, per)| ([name, kind], per.fetched.get())),
        )?;
        let inner = &self.metrics.0;
        out.counter(
            "larder_received_bytes",
            "Bytes of manifests and blobs received in pushes",
            inner.received.get(),
        )?;
        out.counter(
            "larder_pushes_refused",
            "Pushes refused with 507 because the disk did not take them",
            inner.refused.get(),
        )
    }

    fn mirrors(&self) -> impl Iterator<Item = &Counters> {
        let sources = self.sources.iter().map(Source::counters);
        sources.filter(|source| !source.is_local)
    }

    fn fills(&self, out: &mut Out<'_>) -> Result {
        out.gauges(
            "larder_fills_running",
            "Blobs that are being fetched",
            ["upstream"],
            self.mirrors()
                .map(|source| ([source.name.as_str()], source.fills_running.get())),
        )?;
        out.gauge(
            "larder_fill_followers",
            "Answers that wait for a running fill or are read from it",
            self.now.followers,
        )?;
        let ends = self.mirrors().flat_map(|source| {
            let ends = source.fills.iter();
            ends.map(|(end, count)| ([source.name.as_str(), end.as_str()], count.get()))
        });
        let labels = ["upstream", "result"];
        out.counters("larder_fills", "Fills that have ended", labels, ends)?;
        out.histograms(
            "larder_fill_duration_seconds",
            "How long fills took",
            ["upstream"],
            self.mirrors()
                .map(|source| ([source.name.as_str()], &source.fill_durations)),
        )?;
        out.counter(
            "larder_passed",
            "Blobs and manifests that were fetched and passed on but could not be kept",
            self.now.passed,
        )
    }

    fn upstreams(&self, out: &mut Out<'_>) -> Result {
        let results = self.mirrors().flat_map(|source| {
            let results = source.asked.iter();
            results.map(|(result, count)| ([source.name.as_str(), result.as_str()], count.get()))
        });
        out.counters(
            "larder_upstream_requests",
            "Requests sent to upstreams, those for tokens and after redirects included, by what came of them",
            ["upstream", "result"],
            results,
        )?;
        let label = ["upstream"];
        out.histograms(
            "larder_upstream_request_duration_seconds",
            "Time from a request to the head of its answer",
            label,
            self.mirrors()
                .map(|source| ([source.name.as_str()], &source.latencies)),
        )?;
        let rows = |value: fn(&UpstreamNow) -> Option<u64>| {
            let upstreams = self.now.upstreams.iter();
            upstreams.filter_map(move |it| Some(([it.name.as_str()], value(it)?)))
        };
        let text = "Whether an upstream answered when it was last asked";
        let up = rows(|it| it.is_up.map(u64::from));
        out.gauges("larder_upstream_up", text, label, up)?;
        let text = "Whether an upstream has limited our requests and is left alone";
        let limited = rows(|it| Some(u64::from(it.is_limited)));
        out.gauges("larder_upstream_limited", text, label, limited)?;
        let text = "Pulls that an upstream allows in each window";
        let limit = rows(|it| it.pulls.map(|(limit, _)| limit));
        out.gauges("larder_upstream_pulls_limit", text, label, limit)?;
        let text = "Pulls that are left of those";
        let left = rows(|it| it.pulls.map(|(_, left)| left));
        out.gauges("larder_upstream_pulls_remaining", text, label, left)?;
        let text = "Whether no upstream is asked at all";
        out.gauge("larder_offline", text, u64::from(self.now.offline))
    }

    fn disk(&self, out: &mut Out<'_>) -> Result {
        let disk = self.now.disk;
        let text = "Size of the file system of the data directory";
        out.known("larder_disk_size_bytes", text, disk.map(|disk| disk.size))?;
        let text = "What of it is free";
        out.known("larder_disk_free_bytes", text, disk.map(|disk| disk.free))?;
        let (images, bytes) = self.now.mirrored.unzip();
        let text = "What mirrors hold, once it has been counted";
        out.known("larder_mirrored_bytes", text, bytes)?;
        let text = "Images that mirrors hold, once they have been counted";
        out.known("larder_mirrored_images", text, images)?;
        let (images, bytes) = self.now.evicted;
        out.counter("larder_evicted_images", "Images evicted", images)?;
        out.counter("larder_evicted_bytes", "Bytes freed by evictions", bytes)
    }

    fn notifications(&self, out: &mut Out<'_>) -> Result {
        let endpoints = || self.now.endpoints.iter();
        let counts = endpoints().flat_map(|it: &EndpointNow| {
            [
                ("Events", it.events),
                ("Successes", it.successes),
                ("Failures", it.failures),
                ("Errors", it.errors),
            ]
            .map(|(what, count)| ([what, it.name.as_str()], count))
        });
        out.counters(
            "registry_notifications_events",
            "Events, and attempts to send them",
            ["type", "endpoint"],
            counts,
        )?;
        out.gauges(
            "registry_notifications_pending_total",
            "Events that wait to be sent",
            ["endpoint"],
            endpoints().map(|it| ([it.name.as_str()], it.pending)),
        )?;
        let statuses = endpoints().flat_map(|it| {
            let statuses = it.statuses.iter();
            statuses.map(|(code, count)| ([code.as_str(), it.name.as_str()], *count))
        });
        out.counters(
            "registry_notifications_status",
            "Answers of the endpoints",
            ["code", "endpoint"],
            statuses,
        )?;
        out.counters(
            "larder_notifications_dropped",
            "Events that were given up",
            ["endpoint"],
            endpoints().map(|it| ([it.name.as_str()], it.dropped)),
        )
    }

    fn house(&self, out: &mut Out<'_>) -> Result {
        let failing = self.now.failing_checks;
        let text = "Whether requests are answered: no health check fails";
        out.gauge("larder_health_up", text, u64::from(failing == 0))?;
        let text = "Health checks that fail";
        out.gauge("larder_health_failing_checks", text, failing)?;
        let text = "Fills, questions and sweeps that run in the background";
        out.gauge("larder_background_tasks", text, self.now.tasks)?;
        let text = "Lines of the access log that could not be written";
        out.counter(
            "larder_access_log_dropped_lines",
            text,
            self.now.unwritten_lines,
        )?;
        let text = "The version that runs";
        let version = [([env!("CARGO_PKG_VERSION")], 1)];
        out.gauges("larder_build_info", text, ["version"], version)
    }

    /// The names that Prometheus's clients give these in all languages.
    fn process(&self, out: &mut Out<'_>) -> Result {
        let process = Process::look();
        let cpu = out.0.encode_descriptor(
            "process_cpu_seconds",
            "Time spent on processors",
            None,
            MetricType::Counter,
        )?;
        if let Some(seconds) = process.cpu {
            ConstCounter::new(seconds).encode(cpu)?;
        }
        let text = "Bytes in memory";
        out.known("process_resident_memory_bytes", text, process.resident)?;
        let text = "Bytes of address space";
        out.known("process_virtual_memory_bytes", text, process.virtual_size)?;
        let text = "Open files and sockets";
        out.known("process_open_fds", text, process.open_files)?;
        let text = "The most that may be open";
        out.known("process_max_fds", text, process.most_files)?;
        let started = seconds(self.metrics.0.started);
        let text = "When the process started, in seconds since 1970";
        out.known("process_start_time_seconds", text, Some(started))
    }
}

/// Writes families of metrics.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, count: u64) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(count).encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result {
        self.known(name, help, Some(value))
    }

    /// A gauge whose value may not be known.
    fn known<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: Option<V>) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        match value {
            Some(value) => ConstGauge::new(value).encode(encoder),
            None => Ok(()),
        }
    }

    fn counters<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], u64)>,
    ) -> Result {
        let rows = rows.into_iter();
        let rows = rows.map(|(values, count)| (values, ConstCounter::new(count)));
        self.family(name, help, MetricType::Counter, labels, rows)
    }

    fn gauges<'r, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], V)>,
    ) -> Result {
        let rows = rows.into_iter();
        let rows = rows.map(|(values, value)| (values, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, labels, rows)
    }

    fn histograms<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        rows: impl IntoIterator<Item = ([&'r str; N], &'r Histogram)>,
    ) -> Result {
        let rows = rows.into_iter();
        let rows = rows.map(|(values, histogram)| (values, histogram.clone()));
        self.family(name, help, MetricType::Histogram, labels, rows)
    }

    fn family<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        labels: [&'static str; N],
        rows: impl Iterator<Item = ([&'r str; N], impl EncodeMetric)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (values, metric) in rows {
            let labels: [_; N] = array::from_fn(|at| (labels[at], values[at]));
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
