//! Requests, as Distribution counts them.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::labels::{Each, Handler, Method};

/// Distribution's, in seconds.
const DURATIONS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0,
];

/// The statuses that are answered, the usual ones first. Any other is counted as `other`.
const CODES: [u16; 30] = [
    200, 404, 206, 201, 202, 304, 401, 204, 307, 400, 403, 405, 406, 409, 410, 412, 413, 415, 416,
    428, 429, 500, 501, 502, 503, 504, 507, 301, 302, 308,
];
const WORDS: [&str; CODES.len()] = [
    "200", "404", "206", "201", "202", "304", "401", "204", "307", "400", "403", "405", "406",
    "409", "410", "412", "413", "415", "416", "428", "429", "500", "501", "502", "503", "504",
    "507", "301", "302", "308",
];

/// What is counted of requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    handlers: Each<Handler, OnceLock<PerHandler>>,
}

/// One handler's. Made when it is first asked for something.
#[derive(Debug)]
pub(super) struct PerHandler {
    pub(super) in_flight: Gauge,
    pub(super) received: Histogram,
    pub(super) sent: Histogram,
    pub(super) methods: Each<Method, OnceLock<PerMethod>>,
}

/// One handler's and method's.
#[derive(Debug)]
pub(super) struct PerMethod {
    pub(super) duration: Histogram,
    codes: [Counter; CODES.len() + 1],
}

/// A request that has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// What it was about.
    pub handler: Handler,
    /// Its method.
    pub method: Method,
    /// The answer's status.
    pub status: u16,
    /// From the request's head to the last byte of the answer, or to the client's end.
    pub took: Duration,
    /// The length of the request's body, in bytes, where it was announced.
    pub received: u64,
    /// What was sent of the answer's body, in bytes.
    pub sent: u64,
}

impl Default for PerHandler {
    fn default() -> Self {
        // Distribution's: 1 KiB to 2 GiB.
        let sizes = || Histogram::new(exponential_buckets(1024.0, 2.0, 22));
        Self {
            in_flight: Gauge::default(),
            received: sizes(),
            sent: sizes(),
            methods: Each::default(),
        }
    }
}

impl Default for PerMethod {
    fn default() -> Self {
        Self {
            duration: Histogram::new(DURATIONS),
            codes: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl PerMethod {
    /// How often each status was answered that was answered at all.
    pub(super) fn codes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let words = WORDS.into_iter().chain(["other"]);
        let counted = words.zip(self.codes.iter().map(Counter::get));
        counted.filter(|(_, count)| *count > 0)
    }
}

impl Requests {
    pub(super) fn handler(&self, handler: Handler) -> &PerHandler {
        self.handlers.of(handler).get_or_init(PerHandler::default)
    }

    /// Those that were asked for anything.
    pub(super) fn handlers(&self) -> impl Iterator<Item = (Handler, &PerHandler)> {
        let asked = self.handlers.iter();
        asked.filter_map(|(handler, cell)| Some((handler, cell.get()?)))
    }

    /// All that was asked with a method.
    pub(super) fn methods(&self) -> impl Iterator<Item = ([&'static str; 2], &PerMethod)> {
        self.handlers().flat_map(|(handler, per)| {
            let asked = per.methods.iter();
            asked.filter_map(move |(method, cell)| {
                Some(([handler.as_str(), method.as_str()], cell.get()?))
            })
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a histogram of sizes is no account of them"
    )]
    pub(super) fn answered(&self, answered: &Answered) {
        let handler = self.handler(answered.handler);
        handler.received.observe(answered.received as f64);
        handler.sent.observe(answered.sent as f64);
        let method = handler.methods.of(answered.method);
        let method = method.get_or_init(PerMethod::default);
        method.duration.observe(answered.took.as_secs_f64());
        let place = CODES.iter().position(|code| *code == answered.status);
        method.codes[place.unwrap_or(CODES.len())].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_word() {
        for (code, word) in CODES.iter().zip(WORDS) {
            assert_eq!(code.to_string(), word);
        }
    }
}
