//! Notifications: what happens in the registry, told to whom the operator named.
//!
//! Owns the events' form, which is Distribution's, and their way to the endpoints: one bounded
//! queue and one task for each. Knows nothing of requests and of repositories, and nothing that
//! goes wrong here reaches a request.

mod counters;
mod event;
mod queue;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::outbound;

pub use counters::{Metrics, Report};
pub use event::{Action, Descriptor, Event, Request, Source, Target, references};

/// What `notifications` of the configuration says.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Who is told. Those that are disabled are left out.
    pub endpoints: Vec<Endpoint>,
    /// `events.includereferences`: whether a manifest's event lists what it refers to.
    pub include_references: bool,
}

/// One receiver of events.
#[derive(Clone)]
pub struct Endpoint {
    /// What it is called in the log and in the counters.
    pub name: String,
    /// Where events are sent, by POST. It may hold secrets.
    pub url: Url,
    /// Sent with each. They may be secrets.
    pub headers: Vec<(String, String)>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// After so many failures in a row there is a pause before each further attempt.
    pub threshold: u32,
    /// The pause. It doubles with each further failure, up to sixteen times as long or a minute.
    pub backoff: Duration,
    /// `ignoredmediatypes` and `ignore.mediatypes`: events about these are not sent.
    pub ignored_media_types: Vec<String>,
    /// `ignore.actions`: neither are these.
    pub ignored_actions: Vec<String>,
    /// The most events that wait; what comes then is dropped and counted.
    pub queue: usize,
}

impl Endpoint {
    /// An endpoint with Distribution's defaults.
    pub fn new(name: impl Into<String>, url: Url) -> Self {
        Self {
            name: name.into(),
            url,
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
            threshold: 10,
            backoff: Duration::from_secs(1),
            ignored_media_types: Vec::new(),
            ignored_actions: Vec::new(),
            queue: 10_000,
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let named = |list: &[String], word: &str| list.iter().any(|entry| entry == word);
        !named(&self.ignored_media_types, &event.target.media_type)
            && !named(&self.ignored_actions, event.action.as_str())
    }
}

impl fmt::Debug for Endpoint {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("url", &outbound::shown(&self.url))
            .field("timeout", &self.timeout)
            .field("threshold", &self.threshold)
            .field("backoff", &self.backoff)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// Why events cannot be sent as configured.
#[derive(Clone, Debug, thiserror::Error)]
#[error("notifications.endpoints {endpoint:?}: {reason}")]
pub struct SettingsError {
    endpoint: String,
    reason: String,
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    include_references: bool,
    source: Source,
    lines: Vec<Line>,
    tasks: TaskTracker,
    /// Nothing new is taken; what waits is still sent.
    stopping: CancellationToken,
    /// What still waits is lost.
    cut: CancellationToken,
}

/// One endpoint, and what waits for it.
struct Line {
    endpoint: Arc<Endpoint>,
    queue: queue::Sender,
}

impl Events {
    /// Nobody is told anything.
    pub fn none() -> Self {
        Self {
            inner: Arc::new(Inner {
                include_references: false,
                source: Source::default(),
                lines: Vec::new(),
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
                cut: CancellationToken::new(),
            }),
        }
    }

    /// Starts a task for each endpoint. Contacts nobody before the first event.
    ///
    /// Must be called within a runtime.
    pub fn start(settings: Settings, source: Source) -> Result<Self, SettingsError> {
        let (tasks, stopping, cut) = (
            TaskTracker::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let mut lines = Vec::new();
        for endpoint in settings.endpoints {
            let failed = |reason| SettingsError {
                endpoint: endpoint.name.clone(),
                reason,
            };
            let client = outbound::client(&endpoint.url).map_err(failed)?;
            let headers = outbound::header_map(&endpoint.headers).map_err(failed)?;
            let endpoint = Arc::new(endpoint);
            let (sender, receiver) = queue::new(endpoint.queue, endpoint.name.clone());
            let (stopping, cut) = (stopping.clone(), cut.clone());
            let worker = worker::Worker::new(&endpoint, client, headers, receiver, stopping);
            tasks.spawn(worker.run(cut));
            lines.push(Line {
                endpoint,
                queue: sender,
            });
        }
        Ok(Self {
            inner: Arc::new(Inner {
                include_references: settings.include_references,
                source,
                lines,
                tasks,
                stopping,
                cut,
            }),
        })
    }

    /// Whether anybody is told anything: if not, nobody needs to find out what there is to tell.
    pub fn are_wanted(&self) -> bool {
        !self.inner.lines.is_empty()
    }

    /// Whether a manifest's event is to list what it refers to.
    pub fn include_references(&self) -> bool {
        self.inner.include_references
    }

    /// Puts an event into the queue of each endpoint that wants it. Never waits, never fails:
    /// what a full queue does not take is dropped, and counted.
    pub fn publish(&self, event: &Event) {
        let wanting = |line: &&Line| line.endpoint.wants(event);
        let mut lines = self.inner.lines.iter().filter(wanting).peekable();
        if lines.peek().is_none() {
            return;
        }
        match event::envelope(event, &self.inner.source) {
            Ok(body) => lines.for_each(|line| line.queue.offer(&body)),
            // Cannot be: there is nothing in an event that JSON cannot hold.
            Err(error) => tracing::error!(%error, "an event could not be written"),
        }
    }

    /// The counters of each endpoint.
    pub fn reports(&self) -> Vec<Report> {
        let report = |line: &Line| Report::new(&line.endpoint, line.queue.counters());
        self.inner.lines.iter().map(report).collect()
    }

    /// Sends what waits, for at most `patience`, and returns when the last task has ended. What
    /// is lost is counted, and logged.
    pub async fn stop(&self, patience: Duration) {
        let inner = &self.inner;
        inner.stopping.cancel();
        inner.tasks.close();
        let flushed = tokio::time::timeout(patience, inner.tasks.wait()).await;
        if flushed.is_err() {
            inner.cut.cancel();
            inner.tasks.wait().await;
        }
    }
}
