//! `cache.warm`: rounds over the configured images, for as long as the registry runs.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::oci::{Image, Platform};

use super::super::Registry;
use super::super::pace::Pace;
use super::{News, Source, Warmed, Wishes, warm};

/// How many layers a round fetches at once: people who pull meanwhile have the larger share.
const JOBS: usize = 2;

/// When an image that failed is tried again, after the end of a round or of the last try. Then it
/// waits for the next round.
const AGAIN: [Duration; 3] = [
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
];

/// The shortest time between two rounds: each asks for every image.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is fetched on a schedule: `cache.warm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warm {
    /// The images. None: nothing is done.
    pub images: Vec<Image>,
    /// What they are to run on. None: all that they come for.
    pub platforms: Vec<Platform>,
    /// How long after the begin of one round the next begins.
    pub every: Duration,
}

impl Registry {
    /// Starts warming: now, then as often as the settings in force say, and when they change. While
    /// the registry is offline nothing is done.
    pub fn keep_warm(&self) {
        let registry = self.clone();
        let changes = self.inner.reloads.subscribe();
        self.inner.tasks.spawn(keep_warming(registry, changes));
    }

    async fn warm_round(&self, settings: &Warm, images: Vec<Image>) -> Vec<Image> {
        let wishes = Wishes {
            images,
            platforms: settings.platforms.clone(),
            jobs: JOBS,
        };
        let listener = |news: News<'_>| {
            if let News::Done(warmed) = news {
                tell(warmed);
            }
        };
        let source = Source::Registry(self.clone());
        let warmed = warm(&source, &wishes, &listener).await;
        let failed = warmed.into_iter().filter(|warmed| warmed.failure.is_some());
        failed.map(|warmed| warmed.image).collect()
    }
}

async fn keep_warming(registry: Registry, mut changes: watch::Receiver<u64>) {
    loop {
        changes.mark_unchanged();
        let settings = registry.policy().settings.warm.clone();
        let next = Instant::now() + settings.every.max(SHORTEST);
        let mut failed = if settings.images.is_empty() {
            Vec::new()
        } else if registry.is_offline().is_some() {
            tracing::info!("offline: nothing is fetched ahead (cache.warm)");
            Vec::new()
        } else {
            let images = settings.images.clone();
            registry.warm_round(&settings, images).await
        };
        let mut again = AGAIN.into_iter();
        loop {
            let pause = again.next().filter(|_| !failed.is_empty());
            let until = pause.map_or(next, |pause| (Instant::now() + pause).min(next));
            let is_other = has_changed(&registry, &settings, &mut changes, until).await;
            if is_other || until == next {
                break;
            }
            failed = registry.warm_round(&settings, failed).await;
        }
    }
}

/// Waits until then, or until other settings hold.
async fn has_changed(
    registry: &Registry,
    settings: &Warm,
    changes: &mut watch::Receiver<u64>,
    until: Instant,
) -> bool {
    let is_other = || {
        let policy = registry.policy();
        policy.settings.warm != *settings
    };
    loop {
        match timeout_at(until, changes.changed()).await {
            Ok(Ok(())) if is_other() => return true,
            Ok(Ok(())) => {}
            // The registry is gone, and this task with it.
            Ok(Err(_)) => sleep_until(until).await,
            Err(_) => return false,
        }
    }
}

fn tell(warmed: &Warmed) {
    let Warmed {
        image,
        done,
        failure,
        took,
    } = warmed;
    let (fetched, here) = (done.fetched.bytes, done.here.bytes);
    let Pace { seconds } = Pace::over(*took);
    if let Some(error) = failure {
        tracing::warn!(%image, fetched, here, seconds, "could not be fetched ahead: {error}");
    } else {
        tracing::info!(%image, fetched, here, seconds, "warm");
    }
}
