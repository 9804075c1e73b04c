//! Health: what is looked at from time to time, and whether all of it is well.
//!
//! Owns the checks of Distribution's `health`, their counting and their tasks. What an unhealthy
//! registry answers is not decided here.

mod check;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use self::check::Prober;

/// One thing to look at.
#[derive(Clone, Debug)]
pub struct Check {
    /// What.
    pub what: What,
    /// How often; the first time after one interval.
    pub interval: Duration,
    /// After so many failures in a row it counts as failing; 0 and 1 mean at once. A file's
    /// existence always counts at once, as in Distribution.
    pub threshold: u32,
}

/// What can be looked at.
#[derive(Clone, Debug)]
pub enum What {
    /// The data directory can be looked at; that it is missing is no failure.
    Storage {
        /// Where it is.
        root: PathBuf,
    },
    /// There is no such file: an operator takes a registry out of service by making it.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// A HEAD is answered with that status.
    Http {
        /// What is asked. It may hold secrets.
        uri: Url,
        /// Sent with it. They may be secrets.
        headers: Headers,
        /// The status that means well.
        status: u16,
        /// How long the answer may take.
        timeout: Duration,
    },
    /// A connection can be made.
    Tcp {
        /// Host and port.
        addr: String,
        /// How long that may take.
        timeout: Duration,
    },
}

/// Headers, which are not shown.
#[derive(Clone, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} headers", self.0.len())
    }
}

/// Why a check cannot be made as configured.
#[derive(Clone, Debug, thiserror::Error)]
#[error("health: {name}: {reason}")]
pub struct SettingsError {
    name: String,
    reason: String,
}

/// How the registry is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    state: Arc<State>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Default)]
struct State {
    /// How many checks fail now: what every request looks at.
    down: AtomicUsize,
    /// Why, by the check's number.
    failing: Mutex<BTreeMap<usize, Failing>>,
}

struct Failing {
    name: String,
    reason: String,
}

impl Health {
    /// Nothing is looked at, so all is well.
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts a task for each check. Until one has failed, all is well.
    ///
    /// Must be called within a runtime.
    pub fn start(checks: Vec<Check>) -> Result<Self, SettingsError> {
        let health = Self::default();
        for (number, check) in checks.into_iter().enumerate() {
            let name = check.what.name();
            let prober = Prober::new(&check.what);
            let prober = prober.map_err(|reason| SettingsError {
                name: name.clone(),
                reason,
            })?;
            let watch = Watch {
                number,
                name,
                threshold: check.threshold(),
                failures: 0,
                state: Arc::clone(&health.state),
            };
            let stopping = health.stopping.clone();
            health.tasks.spawn(async move {
                tokio::select! {
                    () = watch.run(prober, check.interval) => {}
                    () = stopping.cancelled() => {}
                }
            });
        }
        Ok(health)
    }

    /// Whether all is well.
    pub fn is_up(&self) -> bool {
        self.state.down.load(Ordering::Relaxed) == 0
    }

    /// What fails, and why: the object of Distribution's `/debug/health`.
    pub fn failing(&self) -> BTreeMap<String, String> {
        let failing = self.state.lock();
        let each = failing.values();
        each.map(|it| (it.name.clone(), it.reason.clone()))
            .collect()
    }

    /// Stops looking. Returns when the last task has ended.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Check {
    fn threshold(&self) -> u32 {
        match self.what {
            What::File { .. } => 1,
            _ => self.threshold.max(1),
        }
    }
}

impl What {
    /// The check's name, as Distribution's `/debug/health` has it; without what may be secret.
    fn name(&self) -> String {
        match self {
            Self::Storage { .. } => "storagedriver_filesystem".to_owned(),
            Self::File { path } => path.display().to_string(),
            Self::Http { uri, .. } => {
                let origin = uri.origin().ascii_serialization();
                format!("{origin}{}", uri.path())
            }
            Self::Tcp { addr, .. } => addr.clone(),
        }
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One check's counting.
struct Watch {
    number: usize,
    name: String,
    threshold: u32,
    failures: u32,
    state: Arc<State>,
}

impl Watch {
    async fn run(mut self, mut prober: Prober, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            let found = prober.probe().await;
            self.record(found);
        }
    }

    fn record(&mut self, found: Result<(), String>) {
        let mut failing = self.state.lock();
        match found {
            Ok(()) => {
                self.failures = 0;
                if failing.remove(&self.number).is_some() {
                    tracing::info!(check = self.name, "healthy again");
                }
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures < self.threshold {
                    tracing::debug!(check = self.name, reason, "a health check failed");
                    return;
                }
                let now = Failing {
                    name: self.name.clone(),
                    reason: reason.clone(),
                };
                if failing.insert(self.number, now).is_none() {
                    tracing::warn!(
                        check = self.name,
                        reason,
                        "unhealthy: every request is answered with 503 until this check succeeds"
                    );
                }
            }
        }
        self.state.down.store(failing.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_failures_in_a_row_are_a_failure_and_one_success_is_a_success() {
        let health = Health::none();
        let mut watch = Watch {
            number: 0,
            name: "n".into(),
            threshold: 3,
            failures: 0,
            state: Arc::clone(&health.state),
        };
        let bad = || Err("bad".to_owned());
        for found in [bad(), bad(), Ok(()), bad(), bad()] {
            watch.record(found);
            assert!(health.is_up());
        }
        watch.record(bad());
        assert!(!health.is_up());
        assert_eq!(health.failing()["n"], "bad");
        watch.record(Ok(()));
        assert!(health.is_up() && health.failing().is_empty());
        watch.record(bad());
        assert!(health.is_up(), "counting begins again");
    }

    #[test]
    fn a_name_shows_no_secret() {
        let what = What::Http {
            uri: "http://user:word@h:8080/ping?key=1".parse().unwrap(),
            headers: Headers(vec![("authorization".into(), "secret".into())]),
            status: 200,
            timeout: Duration::from_secs(1),
        };
        assert_eq!(what.name(), "http://h:8080/ping");
        let check = Check {
            what,
            interval: Duration::from_secs(1),
            threshold: 0,
        };
        assert_eq!(check.threshold(), 1);
        let Check {
            what: What::Http { headers, .. },
            ..
        } = check
        else {
            unreachable!()
        };
        assert_eq!(format!("{headers:?}"), "1 headers");
    }
}
