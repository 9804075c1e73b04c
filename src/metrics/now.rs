//! What is not counted but looked at when somebody asks: it is kept elsewhere already.

use std::collections::BTreeMap;

/// How things stand. What is not known is `None`, and is left out.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Each upstream that is configured.
    pub upstreams: Vec<UpstreamNow>,
    /// Whether no upstream is asked at all.
    pub offline: bool,
    /// Answers that wait for a fill or read from it while it runs.
    pub followers: u64,
    /// Blobs and manifests that were fetched and not kept.
    pub passed: u64,
    /// What runs in the background.
    pub tasks: u64,
    /// The file system of the data directory.
    pub disk: Option<Disk>,
    /// What mirrors hold, once it has been counted: images and bytes.
    pub mirrored: Option<(u64, u64)>,
    /// What was evicted: images and bytes.
    pub evicted: (u64, u64),
    /// How many health checks fail.
    pub failing_checks: u64,
    /// Lines of the access log that were not written.
    pub unwritten_lines: u64,
    /// Who is told of events.
    pub endpoints: Vec<EndpointNow>,
}

/// One upstream.
#[derive(Clone, Debug, Default)]
pub struct UpstreamNow {
    /// Its name.
    pub name: String,
    /// Whether it answered when it was last asked.
    pub is_up: Option<bool>,
    /// Whether it wants to be left alone, after a 429.
    pub is_limited: bool,
    /// How many pulls it allows in each window, and how many of them are left.
    pub pulls: Option<(u64, u64)>,
}

/// A file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Its size, in bytes.
    pub size: u64,
    /// What of it larder could still use, in bytes.
    pub free: u64,
}

/// One endpoint of the notifications, with Distribution's counters.
#[derive(Clone, Debug, Default)]
pub struct EndpointNow {
    /// Its name.
    pub name: String,
    /// Events that wait.
    pub pending: u64,
    /// Events that were to be sent.
    pub events: u64,
    /// Events that were taken.
    pub successes: u64,
    /// Attempts that were answered with a failure.
    pub failures: u64,
    /// Attempts that got no answer.
    pub errors: u64,
    /// Events that were given up.
    pub dropped: u64,
    /// Answers by status (`200 OK`).
    pub statuses: BTreeMap<String, u64>,
}
