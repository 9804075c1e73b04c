//! Evicting mirrored content, in the background, for as long as the registry runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::oci::{Digest, RepositoryName, Target};
use crate::store::{Evicted, Kept, Order, SurveyError, Totals};

use super::keeping::Keeping;
use super::names::Place;
use super::pace::Pace;
use super::room::Turn;
use super::{Registry, blocking};

/// How often what was used is written down, and the disk is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often unused images are looked for, and the clock is written down.
const LOOK: Duration = Duration::from_mins(1);

/// How long nothing is tried after it was found that nothing may go.
const REST: Duration = Duration::from_secs(10);

/// How long a start is left alone before the tree is walked: somebody waits for its first answer.
const SETTLING: Duration = Duration::from_millis(100);

/// How often the whole tree is walked.
const SURVEY: Duration = Duration::from_hours(24);

/// How long after a walk that failed the next is tried.
const AGAIN: Duration = Duration::from_mins(10);

/// What mirrors hold, and what was evicted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// What they hold, if that is known yet.
    pub held: Option<Totals>,
    /// Images that were evicted.
    pub evicted_images: u64,
    /// Bytes that were evicted.
    pub evicted_bytes: u64,
}

impl Registry {
    /// Starts keeping account of mirrored content, and evicting what is too much.
    pub fn keep_within_limits(&self) {
        let (surveying, keeping) = (self.clone(), self.clone());
        let tasks = &self.inner.tasks;
        tasks.spawn(async move { surveying.keep_surveyed().await });
        tasks.spawn(async move { keeping.keep_evicting().await });
    }

    /// What mirrors hold, and what was evicted.
    pub async fn usage(&self) -> Usage {
        let room = &self.inner.room;
        let accounts = Arc::clone(&room.accounts);
        Usage {
            held: blocking(move || Ok(accounts.totals())).await.ok().flatten(),
            evicted_images: room.evicted_images.load(Ordering::Relaxed),
            evicted_bytes: room.evicted_bytes.load(Ordering::Relaxed),
        }
    }

    /// Notes that a mirrored manifest was pulled: its image is in use.
    pub(super) fn note_use(&self, repository: &RepositoryName, manifest: &Digest) {
        self.inner.room.accounts.note_use(repository, manifest);
    }

    /// Writes down what the next start has to know.
    pub(super) async fn write_accounts(&self) {
        let accounts = Arc::clone(&self.inner.room.accounts);
        let written = blocking(move || accounts.tick().and_then(|()| accounts.save_clock()));
        if let Err(error) = written.await {
            tracing::debug!(%error, "when images were used could not be written down");
        }
    }

    /// Walks the tree soon, then daily, and whenever somebody else has linked something into it.
    async fn keep_surveyed(self) {
        sleep(SETTLING).await;
        loop {
            if !self.names().mirrors_anything() {
                sleep(LOOK).await;
                continue;
            }
            let started = Instant::now();
            let accounts = Arc::clone(&self.inner.room.accounts);
            let stopping = self.inner.tasks.stopping.clone();
            let walk = move || accounts.survey(&|| stopping.is_cancelled());
            let next = match tokio::task::spawn_blocking(walk).await {
                Ok(Ok(Totals { images, bytes })) => {
                    let Pace { seconds } = Pace::over(started.elapsed());
                    // What a killed eviction left goes at once.
                    let turn = self.inner.room.turn().await;
                    self.evict(Order::default(), turn).await;
                    self.evict_unused().await;
                    tracing::info!(images, bytes, seconds, "counted what mirrors hold");
                    SURVEY
                }
                Ok(Err(SurveyError::Stopped)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "what mirrors hold could not be counted: nothing more is evicted until it can");
                    AGAIN
                }
                Err(error) => {
                    tracing::error!(%error, "counting what mirrors hold broke off");
                    AGAIN
                }
            };
            let walked = started.elapsed();
            // Cut short when the tree is no longer what was seen; but not one walk after the other.
            drop(timeout(next, self.inner.room.stale.notified()).await);
            sleep(walked.max(TICK)).await;
        }
    }

    async fn keep_evicting(self) {
        let mut looked = Instant::now();
        let mut rests_until = Instant::now();
        loop {
            sleep(TICK).await;
            let accounts = Arc::clone(&self.inner.room.accounts);
            if let Err(error) = blocking(move || accounts.tick()).await {
                tracing::debug!(%error, "when images were used could not be written down");
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.write_accounts().await;
                self.evict_unused().await;
            }
            if Instant::now() >= rests_until && self.evict_too_much().await == Some(0) {
                rests_until = Instant::now() + REST;
            }
        }
    }

    /// Returns to the limits. How many images went, where some had to.
    async fn evict_too_much(&self) -> Option<usize> {
        let (room, policy) = (&self.inner.room, self.policy());
        let keeping = &policy.settings.keeping;
        let turn = room.turn().await;
        let standing = room.standing().await?.without_fills();
        standing.cached?;
        let shortage = keeping.shortage(&standing);
        if shortage.is_none() {
            room.is_well();
            return None;
        }
        if shortage.over == 0 && room.was_just_relieved() {
            return None;
        }
        let evicted = self.relieve(keeping, (&shortage, &standing.space), turn);
        let evicted = evicted.await;
        Some(evicted.map_or(0, |evicted| evicted.images))
    }

    /// Evicts what nobody has used for `cache.keepfor`. Not while it could not be fetched again.
    async fn evict_unused(&self) {
        let policy = self.policy();
        if let (Some(unused), false) = (
            policy.settings.keeping.keep_for,
            policy.names.is_offline().is_some(),
        ) {
            let order = Order {
                unused_for: Some(unused),
                why: "unused for cache.keepfor",
                ..Order::default()
            };
            let turn = self.inner.room.turn().await;
            self.evict(order, turn).await;
        }
    }

    /// Evicts. `None` where nothing may go at all: while the registry is read-only.
    pub(super) async fn evict(&self, order: Order, turn: Turn) -> Option<Evicted> {
        let (room, policy) = (&self.inner.room, self.policy());
        if policy.settings.readonly || room.accounts.is_read_only() {
            return None;
        }
        let registry = self.clone();
        let kept = move || registry.kept(&policy.settings.keeping);
        let (accounts, stopping) = (
            Arc::clone(&room.accounts),
            self.inner.tasks.stopping.clone(),
        );
        let started = std::time::Instant::now();
        // It goes on, and keeps its turn, where nobody waits for it any more.
        let evicting = blocking(move || {
            let _turn = turn;
            accounts.evict(order, &kept(), &|| stopping.is_cancelled())
        });
        match evicting.await {
            Ok(evicted) => {
                let images = evicted.images as u64;
                if images > 0 {
                    let (bytes, pace) = (evicted.bytes, Pace::since(started));
                    let (seconds, speed) = (pace.seconds, pace.of(bytes));
                    let longest_hold = evicted.longest_hold;
                    tracing::info!(
                        images,
                        bytes,
                        seconds,
                        speed,
                        ?longest_hold,
                        "room was made"
                    );
                }
                room.evicted_images.fetch_add(images, Ordering::Relaxed);
                room.evicted_bytes
                    .fetch_add(evicted.bytes, Ordering::Relaxed);
                if evicted.is_stale {
                    room.stale.notify_one();
                }
                Some(evicted)
            }
            Err(error) => {
                tracing::warn!(%error, "an eviction did not come to its end");
                None
            }
        }
    }

    /// What is not to go, whenever it was used.
    pub(super) fn kept(&self, keeping: &Keeping) -> Kept {
        let names = self.names();
        let marks = self.inner.marks.all(&self.inner.store);
        let held = |(target, digest): &(Target, Digest)| match names.for_pull(target).ok()?.place {
            Place::Mirror(mirror) => Some((mirror.repository.name().clone(), digest.clone())),
            Place::Local(_) => None,
        };
        let held = keeping.holds.iter().filter_map(held);
        Kept {
            pins: keeping.pins.clone(),
            pinned: marks.pinned().collect(),
            held: held.chain(marks.held()).collect(),
            arriving: self.inner.fills.running(),
        }
    }
}
