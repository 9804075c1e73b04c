//! Sweeping up leftovers, in the background, for as long as the registry runs.

use std::time::{Duration, SystemTime};

use crate::store::{Limits, plan};

use super::{Registry, blocking};

/// For how long a part of a blob waits for somebody to ask for the rest.
const FILL_LIFE: Duration = Duration::from_hours(7 * 24);

/// How often leftovers are looked for where the configuration does not say.
const INTERVAL: Duration = Duration::from_hours(24);

/// What happens to uploads that nobody finishes: `storage.maintenance.uploadpurging`.
#[derive(Clone, Copy, Debug)]
pub struct Purging {
    /// Sessions untouched for this long go.
    pub age: Duration,
    /// How often they are looked for.
    pub interval: Duration,
    /// Only say which uploads would go.
    pub dry_run: bool,
}

impl Registry {
    /// Starts sweeping: now, and then again and again.
    pub fn keep_swept(&self) {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            loop {
                registry.sweep(SystemTime::now()).await;
                let purging = registry.policy().settings.purging;
                let interval = purging.map_or(INTERVAL, |purging| purging.interval);
                // A sweep walks the tree; an interval of nothing would do nothing else.
                tokio::time::sleep(interval.max(Duration::from_secs(1))).await;
            }
        });
    }

    async fn sweep(&self, now: SystemTime) {
        self.inner.uploads.forget_idle();
        let purging = self.policy().settings.purging;
        let dry_run = purging.is_some_and(|purging| purging.dry_run);
        let limits = Limits {
            uploads: purging.filter(|_| !dry_run).map(|purging| purging.age),
            fills: FILL_LIFE,
        };
        let store = self.inner.store.clone();
        let swept = blocking(move || {
            let found = store.leftovers();
            if let Some(purging) = purging.filter(|_| dry_run) {
                let uploads = Some(purging.age);
                for leftover in plan(found.clone(), Limits { uploads, ..limits }, now) {
                    tracing::info!("would remove {leftover}");
                }
            }
            store.sweep(&plan(found, limits, now))
        });
        match swept.await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "swept up leftovers"),
            Err(error) => tracing::warn!(%error, "leftovers could not be swept up"),
        }
    }
}
