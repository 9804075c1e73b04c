//! Collecting garbage, in the background, for as long as the registry runs.

use std::time::Duration;

use crate::store::{CollectError, Collected, Collection};

use super::Registry;

/// The longest that the first collection waits: one who restarts more often than the interval
/// lasts would else never see one.
const FIRST: Duration = Duration::from_mins(10);

/// When garbage is collected, and what counts as such: `storage.maintenance.garbagecollect`.
#[derive(Clone, Copy, Debug)]
pub struct Collecting {
    /// How long after one collection the next begins. The first comes after this time too, but
    /// after ten minutes at the latest.
    pub interval: Duration,
    /// What was touched in this time before it stays.
    pub grace: Duration,
    /// Manifests that no tag leads to go too.
    pub untagged: bool,
}

impl Registry {
    /// Starts collecting, if that is wanted.
    pub fn keep_collected(&self) {
        let Some(collecting) = self.inner.settings.collecting else {
            return;
        };
        let registry = self.clone();
        // A collection walks the tree; an interval of nothing would do nothing else.
        let interval = collecting.interval.max(Duration::from_secs(1));
        self.inner.tasks.spawn(async move {
            let mut pause = interval.min(FIRST);
            loop {
                tokio::time::sleep(pause).await;
                registry.collect(collecting).await;
                pause = interval;
            }
        });
    }

    /// Collects once. A failure or a panic is a line in the log, and the next time comes.
    async fn collect(&self, collecting: Collecting) {
        if self.inner.settings.readonly {
            return;
        }
        let collection = Collection {
            untagged: collecting.untagged,
            grace: collecting.grace,
            dry_run: false,
        };
        let (store, stopping) = (self.inner.store.clone(), self.inner.tasks.stopping.clone());
        // It looks at the token itself: when this task is cancelled it is not.
        let collected = tokio::task::spawn_blocking(move || {
            store.collect(collection, &|| stopping.is_cancelled(), &mut |_| ())
        });
        match collected.await {
            Ok(Ok(collected)) => tell(collected),
            Ok(Err(CollectError::Running)) => {
                tracing::info!("garbage is being collected by hand: not this time");
            }
            Ok(Err(CollectError::Stopped)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "garbage could not be collected"),
            Err(error) => tracing::error!(%error, "a garbage collection broke off"),
        }
    }
}

fn tell(collected: Collected) {
    let Collected {
        manifests,
        links,
        blobs,
        bytes,
        doubtful,
    } = collected;
    tracing::info!(
        manifests,
        links,
        blobs,
        bytes,
        doubtful,
        "collected garbage"
    );
}
