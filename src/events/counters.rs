//! What became of the events for one endpoint.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::outbound;

use super::Endpoint;

/// How often one thing is said in the log at most.
const SELDOM: Duration = Duration::from_mins(1);

/// One endpoint's counters, as they grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) pending: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) dropped: AtomicU64,
    statuses: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn status(&self, status: String) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        *statuses.entry(status).or_default() += 1;
    }

    fn metrics(&self) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        Metrics {
            pending: read(&self.pending),
            events: read(&self.events),
            successes: read(&self.successes),
            failures: read(&self.failures),
            errors: read(&self.errors),
            dropped: read(&self.dropped),
            statuses: statuses.clone(),
        }
    }
}

/// One endpoint's counters at one moment, spelt as Distribution's `/debug/vars` spells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metrics {
    /// Events that wait, the one being sent included.
    pub pending: u64,
    /// Events that were to be sent, dropped ones included.
    pub events: u64,
    /// Events that were taken.
    pub successes: u64,
    /// Attempts that were answered with a status of 400 or more.
    pub failures: u64,
    /// Attempts that got no answer.
    pub errors: u64,
    /// Events that were given up: the queue was full, or larder stopped. Ours.
    pub dropped: u64,
    /// The answers, by status (`200 OK`).
    pub statuses: BTreeMap<String, u64>,
}

/// One endpoint, with its counters, as in `registry.notifications.endpoints` of Distribution's
/// `/debug/vars`. Headers, and all of the address that may be secret, are left out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// The name.
    #[serde(rename = "name")]
    pub name: String,
    /// Scheme, host and port.
    #[serde(rename = "url")]
    pub url: String,
    timeout: u128,
    threshold: u32,
    backoff: u128,
    ignored_media_types: Vec<String>,
    ignore: Ignore,
    /// The counters.
    pub metrics: Metrics,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ignore {
    actions: Vec<String>,
}

impl Report {
    pub(super) fn new(endpoint: &Endpoint, counters: &Counters) -> Self {
        Self {
            name: endpoint.name.clone(),
            url: outbound::shown(&endpoint.url),
            // Go writes durations in nanoseconds.
            timeout: endpoint.timeout.as_nanos(),
            threshold: endpoint.threshold,
            backoff: endpoint.backoff.as_nanos(),
            ignored_media_types: endpoint.ignored_media_types.clone(),
            ignore: Ignore {
                actions: endpoint.ignored_actions.clone(),
            },
            metrics: counters.metrics(),
        }
    }
}

/// Lets one line into the log each minute.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= SELDOM);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert!(seldom.is_due(start));
        assert!(!seldom.is_due(start + Duration::from_secs(59)));
        assert!(seldom.is_due(start + Duration::from_mins(1)));
        assert!(!seldom.is_due(start + Duration::from_secs(61)));
    }
}
