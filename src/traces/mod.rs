//! Traces, for who follows a request through several programs: a span for each request that is
//! answered, and one for each that is sent to an upstream, with the `traceparent` of the one passed
//! on to the other ([W3C Trace Context]).
//!
//! Only in a larder that was built with the feature `otel`, and there only if the environment says
//! where spans go (`OTEL_EXPORTER_OTLP_ENDPOINT`). In any other these are empty types and functions
//! that do nothing.
//!
//! [W3C Trace Context]: https://www.w3.org/TR/trace-context/

#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod on;

#[cfg(not(feature = "otel"))]
pub use off::{Answering, Asking, Sending, carried, start};
#[cfg(feature = "otel")]
pub use on::{Answering, Asking, Sending, carried, start};

/// What is known of a request when it has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// What it was about: the word in the metrics.
    pub handler: &'static str,
    /// The answer's status.
    pub status: u16,
    /// What was sent of the answer's body, in bytes.
    pub bytes: u64,
    /// How the answer was made, for pulls.
    pub outcome: Option<&'static str>,
    /// Where it came from: an upstream, or `local`, or `-`.
    pub upstream: &'a str,
}
