//! What is stored is verified when it is first served after a start, or after its file changed.
//!
//! What is small is hashed before the answer begins. What is large is served while it is hashed,
//! once for all who read it, with the end of each answer withheld until the verdict, as in a fill.
//! What turns out damaged is out of everybody's way at once: a mirror fetches it again, a local
//! repository keeps it aside and wants it pushed again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::oci::Digest;
use crate::store::{Aside, Blob, Check, Stamp, StoreError, Trust, Verdict};

use super::content::{BlobContent, Progress};
use super::names::{Mirror, Place};
use super::{Error, Registry, blocking};

/// What is no larger than this is hashed before it is served, in bytes: most layers are, and it
/// takes 10 to 100 ms. dockerd goes on by Range after an answer that was cut, behind what it has; if
/// that is damaged, its pull fails in the end.
const WAITED_FOR: u64 = 16 << 20;

/// How many blobs are hashed at the same time.
const AT_ONCE: usize = 2;

/// The verifications under way, by the very file.
#[derive(Clone)]
pub(super) struct Checks {
    running: Arc<Mutex<HashMap<Key, watch::Receiver<Progress>>>>,
    turns: Arc<Semaphore>,
}

type Key = (Digest, Stamp);

impl Default for Checks {
    fn default() -> Self {
        Self {
            running: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// Takes the check out of the table, however it ends.
struct Entry {
    checks: Checks,
    key: Key,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let running = self.checks.running.lock();
        let mut running = running.unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.key);
    }
}

impl Registry {
    /// Stored content as it may be served; `None` where it is of no use and counts as absent.
    pub(super) async fn believe(
        &self,
        place: &Place,
        blob: Blob,
    ) -> Result<Option<BlobContent>, Error> {
        match blob.trust() {
            Trust::Verified => return Ok(Some(BlobContent::stored(blob))),
            Trust::Unverified => {}
            Trust::Damaged => {
                const HOW: &str = "has another size than it had";
                blob.distrust();
                match place {
                    Place::Local(_) => self.put_away(place, &blob, HOW).await,
                    Place::Mirror(mirror) => self.put_away_later(mirror, blob, HOW),
                }
                return Ok(None);
            }
        }
        let Some(mut progress) = self.check(place, &blob) else {
            return Ok(Some(BlobContent::stored(blob)));
        };
        if blob.size() > WAITED_FOR {
            return Ok(Some(BlobContent::unverified(blob, progress)));
        }
        let ended =
            |progress: &Progress| matches!(progress, Progress::Committed(_) | Progress::Failed(_));
        let state = progress.wait_for(ended).await;
        match &*state.map_err(|_| Error::Vanished)? {
            Progress::Failed(_) => Ok(None),
            _ => Ok(Some(BlobContent::stored(blob))),
        }
    }

    /// Joins the verification of a blob, or starts one.
    fn check(&self, place: &Place, blob: &Blob) -> Option<watch::Receiver<Progress>> {
        let key = (blob.digest()?.clone(), blob.stamp()?);
        let check = Check::of(blob)?;
        let checks = &self.inner.checks;
        let mut running = checks
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = running.get(&key) {
            return Some(progress.clone());
        }
        let (sender, receiver) = watch::channel(Progress::Receiving {
            content: blob.clone(),
            written: blob.size(),
        });
        running.insert(key.clone(), receiver.clone());
        // Made before the spawn: a task that never runs, or panics, leaves no entry behind.
        let entry = Entry {
            checks: checks.clone(),
            key,
        };
        let task = Task {
            registry: self.clone(),
            place: place.clone(),
            blob: blob.clone(),
            progress: sender,
        };
        self.inner.tasks.spawn(task.run(check, entry));
        Some(receiver)
    }

    /// Gets damaged data out of the way on the disk, and says so. It is out of the way in this
    /// process already.
    pub(super) async fn put_away(&self, place: &Place, blob: &Blob, how: &str) {
        let Some(digest) = blob.digest().cloned() else {
            return;
        };
        let (store, damaged) = (self.inner.store.clone(), blob.clone());
        let (repository, aside) = match place {
            Place::Local(local) => {
                let aside = blocking(move || store.quarantine(&damaged)).await;
                (local.name(), aside)
            }
            Place::Mirror(mirror) => {
                let aside = blocking(move || store.drop_damaged(&damaged)).await;
                (mirror.repository.name(), aside)
            }
        };
        match (aside, place) {
            (Ok(Aside::Quarantined(_)), Place::Local(_)) => {
                tracing::error!(%repository, %digest, "stored content {how}: it was moved aside, to damaged.* in its directory. To do: push it again");
            }
            (Ok(Aside::Quarantined(others)), Place::Mirror(_)) => {
                let others = others.join(", ");
                tracing::error!(%repository, %digest, others, "stored content {how}: it was moved aside, to damaged.* in its directory, since others link it too. It is fetched again; where that fails, push it again");
            }
            (Ok(Aside::Dropped), _) => {
                tracing::warn!(%repository, %digest, "stored content {how}: it was removed, and is fetched again");
            }
            (Ok(Aside::Changed), _) => {
                tracing::warn!(%repository, %digest, "stored content {how}, and was replaced or touched meanwhile");
            }
            (Err(error), _) => {
                tracing::error!(%repository, %digest, %error, "stored content {how}, and cannot be moved aside. It is not served");
            }
        }
    }

    /// The same in the background: whoever found it need not wait.
    pub(super) fn put_away_later(&self, mirror: &Mirror, blob: Blob, how: &'static str) {
        let (registry, place) = (self.clone(), Place::Mirror(mirror.clone()));
        self.inner.tasks.spawn(async move {
            registry.put_away(&place, &blob, how).await;
        });
    }
}

/// A verification at work.
struct Task {
    registry: Registry,
    place: Place,
    blob: Blob,
    progress: watch::Sender<Progress>,
}

impl Task {
    async fn run(self, check: Check, entry: Entry) {
        let verdict = self.hash(check).await;
        let how = match verdict {
            Ok(Verdict::Sound) => {
                drop(entry);
                let blob = self.blob.clone();
                self.progress.send_replace(Progress::Committed(blob));
                return;
            }
            Ok(Verdict::Damaged) => "is damaged",
            // It stays where it is: this may pass, and what is written anew replaces it.
            Ok(Verdict::Unreadable(error)) => {
                let digest = self.blob.digest().map(Digest::as_str).unwrap_or_default();
                tracing::error!(digest, %error, "stored content cannot be read, and counts as absent until it is written again. To do: look into the system's log; what was pushed must be pushed again");
                ""
            }
            Err(error) => {
                drop(entry);
                self.progress.send_replace(Progress::Failed(error));
                return;
            }
        };
        if let Place::Local(_) = &self.place
            && !how.is_empty()
        {
            self.registry.put_away(&self.place, &self.blob, how).await;
        }
        drop(entry);
        self.fetch_again();
        let damaged = StoreError::Damaged(self.blob.clone());
        let failed = Progress::Failed(Error::Store(Arc::new(damaged)));
        self.progress.send_replace(failed);
        if let Place::Mirror(_) = &self.place
            && !how.is_empty()
        {
            self.registry.put_away(&self.place, &self.blob, how).await;
        }
    }

    async fn hash(&self, mut check: Check) -> Result<Verdict, Error> {
        loop {
            // In steps, so that a stop need not wait for all of it, and others get their turn.
            let _turn = self.registry.inner.checks.turns.acquire().await;
            let stepped = tokio::task::spawn_blocking(move || {
                let verdict = check.step();
                (check, verdict)
            });
            let (back, verdict) = stepped.await.map_err(|_| Error::Vanished)?;
            if let Some(verdict) = verdict {
                return Ok(verdict);
            }
            check = back;
        }
    }

    /// Starts the fill at once: those whose answers are cut come back for it. Those who have waited
    /// for the verdict start it themselves.
    fn fetch_again(&self) {
        if self.blob.size() <= WAITED_FOR {
            return;
        }
        let (Place::Mirror(mirror), Some(digest)) = (&self.place, self.blob.digest()) else {
            return;
        };
        let what = super::Missing::Blob(digest.clone());
        let Ok(upstream) = mirror.upstream(what).cloned() else {
            return;
        };
        if let Err(error) = self.registry.claim_fill(mirror, &upstream, digest) {
            tracing::debug!(%digest, %error, "not fetched again");
        }
    }
}

/// What the disk does not give back counts as absent: it can be had again.
pub(super) fn if_readable<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(error) if error.is_unreadable() => {
            tracing::warn!(%error, "taken as absent");
            Ok(None)
        }
        found => found.map(Some),
    }
}
