//! What a person's browser shows: the page's files, and the JSON that it is filled with.
//!
//! It knows neither HTTP nor who is asking: `http` routes, admits, asks here and answers. Which
//! repositories somebody sees is a question that he brings along.

pub mod api;
mod history;
pub mod page;
mod pulls;
mod watch;

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::metrics::Totals;
use crate::registry::Registry;

pub use pulls::{Pulling, Pulls};
pub use watch::{Follower, TooMany};

/// Whether somebody may see a repository, by its full name.
pub type Sees = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Where this server is, as whoever asks has reached it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host and port, with what comes before our paths.
    pub host: String,
    /// Whether it speaks TLS there.
    pub is_tls: bool,
}

/// How clients are set up for a server at an address: a list, as the API shows it.
pub type Clients = dyn Fn(&Address) -> Value + Send + Sync;

/// What the console shows. Cheap to clone.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    registry: Registry,
    started: SystemTime,
    stop: CancellationToken,
    pulls: Arc<Pulls>,
    history: history::History,
    watch: watch::Watch,
    clients: Option<Box<Clients>>,
}

impl Console {
    /// A console of a registry. Who follows what happens is sent away when `stop` is cancelled.
    pub fn new(registry: Registry, stop: CancellationToken) -> Self {
        Self::with_clients(registry, stop, None)
    }

    /// The same, which knows how clients are set up.
    pub fn with_clients(
        registry: Registry,
        stop: CancellationToken,
        clients: Option<Box<Clients>>,
    ) -> Self {
        Self(Arc::new(Inner {
            registry,
            started: SystemTime::now(),
            stop,
            pulls: Arc::default(),
            history: history::History::default(),
            watch: watch::Watch::default(),
            clients,
        }))
    }

    /// Starts to remember what was served and fetched, minute by minute.
    pub fn keep_history(&self) {
        let console = self.clone();
        let keeping = async move { history::keep(&console).await };
        self.0.registry.in_background(keeping);
    }

    /// The answers under way.
    pub fn pulls(&self) -> &Arc<Pulls> {
        &self.0.pulls
    }

    fn totals(&self) -> Totals {
        self.0.registry.metrics().totals()
    }
}
