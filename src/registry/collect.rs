//! Collecting garbage, in the background, for as long as the registry runs.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::store::{CollectError, Collected, Collection, Store};

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

/// How soon it is noticed that collections have been switched on, or are to be more frequent.
const LOOK: Duration = Duration::from_mins(1);

impl Registry {
    /// Starts collecting: as often as the settings in force say. While the registry is read-only
    /// nothing is removed.
    pub fn keep_collected(&self) {
        let (registry, store) = (self.clone(), self.inner.store.clone());
        let wanted = move || {
            let policy = registry.policy();
            let settings = &policy.settings;
            settings.collecting.filter(|_| !settings.readonly)
        };
        let tasks = &self.inner.tasks;
        tasks.spawn(keep_collecting(store, wanted, tasks.stopping.clone()));
    }
}

/// Collects, one collection after the other, until it is dropped.
async fn keep_collecting(
    store: Store,
    wanted: impl Fn() -> Option<Collecting>,
    stopping: CancellationToken,
) {
    let (mut last, mut longest) = (Instant::now(), FIRST);
    loop {
        let Some(collecting) = wanted() else {
            sleep(LOOK).await;
            continue;
        };
        // A collection walks the tree; an interval of nothing would do nothing else.
        let interval = collecting.interval.max(Duration::from_secs(1)).min(longest);
        let left = interval.saturating_sub(last.elapsed());
        if left.is_zero() {
            collect(store.clone(), collecting, stopping.clone()).await;
            (last, longest) = (Instant::now(), Duration::MAX);
        } else {
            sleep(left.min(LOOK)).await;
        }
    }
}

/// Collects once. A failure or a panic is a line in the log, and the next time comes.
async fn collect(store: Store, collecting: Collecting, stopping: CancellationToken) {
    let collection = Collection {
        untagged: collecting.untagged,
        grace: collecting.grace,
        dry_run: false,
    };
    // It looks at the token itself: it goes on where nobody waits for it any more.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[tokio::test]
    async fn garbage_goes_again_and_again_until_it_is_told_to_stop() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let repository = store.local(&"team/app".parse().unwrap());
        let collecting = Collecting {
            interval: Duration::ZERO,
            grace: Duration::ZERO,
            untagged: true,
        };
        let stopping = CancellationToken::new();
        let litter = |content: &[u8]| {
            let digest = Digest::of(content);
            let mut staged = store.stage_fill(&digest).unwrap();
            staged.append(content).unwrap();
            repository.commit_blob(&staged, &digest).unwrap();
            digest
        };
        let watch = async {
            for content in [b"a", b"b"] {
                let digest = litter(content);
                while store.has_data(&digest).unwrap() {
                    sleep(Duration::from_millis(5)).await;
                }
            }
            stopping.cancel();
        };
        tokio::select! {
            () = keep_collecting(store.clone(), || Some(collecting), stopping.clone()) => {}
            () = watch => {}
        }
        let kept = litter(b"c");
        collect(store.clone(), collecting, stopping).await;
        assert!(store.has_data(&kept).unwrap());
    }
}
