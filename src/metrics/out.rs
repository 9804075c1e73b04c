//! Families of metrics, written row by row.

use std::array;
use std::fmt::Result;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;

/// Writes families of metrics.
pub(super) struct Out<'a>(DescriptorEncoder<'a>);

impl<'a> Out<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }
}

impl Out<'_> {
    /// A counter of seconds, whose value may not be known.
    pub(super) fn seconds(&mut self, name: &str, help: &str, seconds: Option<f64>) -> Result {
        let kind = MetricType::Counter;
        let encoder = self.0.encode_descriptor(name, help, None, kind)?;
        match seconds {
            Some(seconds) => ConstCounter::new(seconds).encode(encoder),
            None => Ok(()),
        }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, count: u64) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(count).encode(encoder)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result {
        self.known(name, help, Some(value))
    }

    /// A gauge whose value may not be known.
    pub(super) fn known<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: Option<V>,
    ) -> Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        match value {
            Some(value) => ConstGauge::new(value).encode(encoder),
            None => Ok(()),
        }
    }

    pub(super) fn counters<'r, const N: usize>(
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

    pub(super) fn gauges<'r, const N: usize, V: EncodeGaugeValue>(
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

    pub(super) fn histograms<'r, const N: usize>(
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
