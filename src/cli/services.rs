//! What runs beside the registry: events, health checks, the debug listener, the access log.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::{self, Events, Source};
use crate::health::{Check, Health};
use crate::http::{AccessLog, Debug, DebugServer, Surroundings};
use crate::registry::Registry;

/// How long events that wait may take to be sent when larder stops, and lines of the access log to
/// be written.
const LAST_EVENTS: Duration = Duration::from_secs(5);
const LAST_LINES: Duration = Duration::from_secs(1);

/// What of the configuration is about this. By default nothing of it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// `notifications`
    pub(super) notifications: events::Settings,
    /// `health`
    pub(super) checks: Vec<Check>,
    /// `http.debug.addr`
    pub(super) debug: Option<String>,
    /// `http.debug.prometheus`: the path, if it is enabled
    pub(super) metrics: Option<String>,
    /// `log.accesslog`, not disabled
    pub(super) access_log: bool,
}

/// All of it, running.
pub(super) struct Services {
    around: Surroundings,
    tasks: TaskTracker,
}

impl Services {
    /// Starts what is configured. `port` is where the registry listens; the debug listener ends
    /// when `stop` is cancelled, the rest when it is [stopped](Self::stop).
    pub(super) async fn start(
        settings: Settings,
        registry: &Registry,
        port: u16,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let debug = match &settings.debug {
            Some(address) => Some(DebugServer::bind(address).await.map_err(|error| {
                format!(
                    "cannot listen on {address}: {error} (set http.debug.addr to another address)"
                )
            })?),
            None => None,
        };
        let access_log = if settings.access_log {
            AccessLog::stdout().map_err(|error| format!("no access log: {error}"))?
        } else {
            AccessLog::none()
        };
        let events = Events::start(settings.notifications, Source::here(port));
        let around = Surroundings {
            events: events.map_err(|error| error.to_string())?,
            health: Health::start(settings.checks).map_err(|error| error.to_string())?,
            access_log,
        };
        let tasks = TaskTracker::new();
        if let Some(server) = debug {
            let address = server.address().map_err(|error| error.to_string())?;
            let metrics = settings.metrics;
            let also = metrics
                .as_ref()
                .map_or_else(String::new, |path| format!(", {path}"));
            tracing::info!("debug listener on http://{address} (/debug/health, /debug/vars{also})");
            let shown = Debug::new(registry.clone(), around.clone(), metrics);
            tasks.spawn(server.run(shown, stop));
        }
        Ok(Self { around, tasks })
    }

    /// What a handler works among.
    pub(super) fn around(&self) -> Surroundings {
        self.around.clone()
    }

    /// Sends and writes what waits, for a bounded time, when the last answer is out.
    pub(super) async fn stop(&self) {
        self.around.health.stop().await;
        self.around.events.stop(LAST_EVENTS).await;
        self.around.access_log.stop(LAST_LINES).await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
