//! The list of what is here, kept in memory for those who look.
//!
//! It is made in the background after the start. What this process changes is taken in when somebody
//! looks; what others change is looked for every few seconds, less often in a large tree, for as long
//! as somebody does. While nobody looks, nothing is done.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::oci::RepositoryName;
use crate::store::{Index, Outdated, Stamps};

use super::{Error, Registry, blocking};

/// How long after the start the list is made, if nobody looks before.
const AFTER_START: Duration = Duration::from_secs(2);

/// How often it is looked for what others have changed.
const LOOK: Duration = Duration::from_secs(5);

/// How much longer the next look waits for each directory that is looked at: who leaves a page open
/// is to cost the clients of a large tree nothing. It takes about a hundredth of that to look.
const PER_DIRECTORY: Duration = Duration::from_micros(400);

/// How many directories a repository has that are looked at, beside one for each tag.
const DIRECTORIES: usize = 10;

/// The longest wait for a look.
const LONGEST: Duration = Duration::from_mins(1);

/// For how long somebody counts as looking.
const LOOKING: Duration = Duration::from_secs(30);

/// How long somebody waits for the list who can do without.
const SOON: Duration = Duration::from_millis(100);

/// How many repositories are read again before those who look get their turn.
const AT_ONCE: usize = 16;

/// How many names of repositories that changed are kept for those who follow.
const NEWS: usize = 256;

/// The list, and who looks at it.
pub(super) struct Catalogue {
    index: RwLock<Option<Index>>,
    /// One at a time makes it or brings it up to date.
    turn: tokio::sync::Mutex<()>,
    looked: Mutex<Option<Instant>>,
    news: Mutex<News>,
}

/// The repositories that changed last.
#[derive(Default)]
struct News {
    /// How many there were in all.
    count: u64,
    last: VecDeque<RepositoryName>,
}

/// What changed since somebody last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// What to ask with the next time.
    pub upto: u64,
    /// The repositories; `None` if there were too many to name.
    pub repositories: Option<Vec<RepositoryName>>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            index: RwLock::new(None),
            turn: tokio::sync::Mutex::new(()),
            looked: Mutex::new(None),
            news: Mutex::default(),
        }
    }
}

impl Catalogue {
    fn look(&self) {
        *lock(&self.looked) = Some(Instant::now());
    }

    fn is_looked_at(&self) -> bool {
        lock(&self.looked).is_some_and(|at| at.elapsed() < LOOKING)
    }

    fn tell(&self, outdated: &Outdated) {
        let mut news = lock(&self.news);
        for name in outdated.names() {
            news.count += 1;
            if news.last.len() == NEWS {
                news.last.pop_front();
            }
            news.last.push_back(name.clone());
        }
    }
}

impl Registry {
    /// Starts to keep the list of what is here.
    pub fn keep_indexed(&self) {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            if let Err(error) = registry.read_marks().await {
                tracing::warn!(%error, "pins and holds could not be read");
            }
            sleep(AFTER_START).await;
            if let Err(error) = registry.indexed().await {
                tracing::warn!(%error, "what is here could not be listed");
            }
            let mut pause = LOOK;
            loop {
                sleep(pause).await;
                pause = LOOK;
                if registry.inner.catalogue.is_looked_at() {
                    match registry.look_for_others().await {
                        Ok(directories) => pause = until_next_look(directories),
                        Err(error) => {
                            tracing::debug!(%error, "what others changed could not be looked for");
                        }
                    }
                }
            }
        });
    }

    /// Looks at the list of what is here, as it is now. `work` is run where blocking is allowed.
    pub async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Index) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.catalogue.look();
        if !self.is_indexed() {
            self.begin_index().await.map_err(|_| Error::Vanished)?;
        }
        self.catch_up().await?;
        let registry = self.clone();
        let done = blocking(move || {
            let index = registry.inner.catalogue.index.read();
            let index = index.unwrap_or_else(PoisonError::into_inner);
            Ok(index.as_ref().map(work))
        });
        done.await?.ok_or(Error::Vanished)
    }

    /// The same for somebody who can do without, if there is no list yet and it takes long to make.
    pub async fn look_soon<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Index) -> T + Send + 'static,
    ) -> Option<T> {
        if !self.is_indexed() {
            // Nobody minds how this ends, but for whether there is a list by then.
            drop(timeout(SOON, self.begin_index()).await);
        }
        if self.is_indexed() {
            self.look(work).await.ok()
        } else {
            None
        }
    }

    /// Has the list made, whoever goes away meanwhile, and says when there is one.
    fn begin_index(&self) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            match registry.indexed().await {
                // Whoever waited may have gone.
                Ok(()) => drop(done.send(())),
                Err(error) => tracing::warn!(%error, "what is here could not be listed"),
            }
        });
        is_done
    }

    /// Whether there is a list yet.
    pub fn is_indexed(&self) -> bool {
        let index = self.inner.catalogue.index.try_read();
        index.is_ok_and(|index| index.is_some())
    }

    /// Which repositories changed since `since`, for somebody who follows.
    pub async fn changed(&self, since: u64) -> Changed {
        self.inner.catalogue.look();
        if self.is_indexed()
            && let Err(error) = self.catch_up().await
        {
            tracing::debug!(%error, "what has changed could not be read");
        }
        let news = lock(&self.inner.catalogue.news);
        let missed = usize::try_from(news.count.saturating_sub(since)).unwrap_or(usize::MAX);
        let repositories = news.last.len().checked_sub(missed).map(|from| {
            let mut names: Vec<_> = news.last.iter().skip(from).cloned().collect();
            names.sort();
            names.dedup();
            names
        });
        Changed {
            upto: news.count,
            repositories,
        }
    }

    /// Makes the list, if there is none.
    async fn indexed(&self) -> Result<(), Error> {
        let catalogue = &self.inner.catalogue;
        if self.is_indexed() {
            return Ok(());
        }
        let _turn = catalogue.turn.lock().await;
        let has = catalogue
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if has {
            return Ok(());
        }
        let started = Instant::now();
        let (store, stopping) = (self.inner.store.clone(), self.inner.tasks.stopping.clone());
        let read = blocking(move || Index::read(&store, &|| stopping.is_cancelled()));
        let index = read.await?.ok_or(Error::Vanished)?;
        let repositories = index.repositories().len();
        tracing::debug!(repositories, took = ?started.elapsed(), "listed what is here");
        let mut place = catalogue
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(index);
        Ok(())
    }

    /// Takes in what this process has changed.
    async fn catch_up(&self) -> Result<(), Error> {
        let _turn = self.inner.catalogue.turn.lock().await;
        let outdated = self.inner.store.take_changes();
        self.renew(outdated, None).await
    }

    /// Reads these again, a few at a time: whoever looks meanwhile is not to wait for all of them.
    async fn renew(&self, outdated: Outdated, seen: Option<Stamps>) -> Result<(), Error> {
        if outdated.is_empty() && seen.is_none() {
            return Ok(());
        }
        let registry = self.clone();
        blocking(move || {
            let catalogue = &registry.inner.catalogue;
            let change = |work: &mut dyn FnMut(&mut Index)| {
                let index = catalogue.index.write();
                let mut index = index.unwrap_or_else(PoisonError::into_inner);
                if let Some(index) = index.as_mut() {
                    work(index);
                }
            };
            for some in outdated.parts(AT_ONCE) {
                change(&mut |index| index.catch_up(&some));
            }
            // Behind that: who changes one of them by hand from now on is found by looking again.
            let (marks, store) = (&registry.inner.marks, &registry.inner.store);
            for name in outdated.names() {
                if let Err(error) = marks.look_again(&store.mirror(name)) {
                    tracing::warn!(repository = %name, %error, "pins and holds could not be read again");
                }
            }
            if let Some(seen) = &seen {
                change(&mut |index| index.seen(seen));
            }
            catalogue.tell(&outdated);
            Ok(())
        })
        .await
    }

    /// Takes in what others have changed. Nobody waits for it: what this process changes meanwhile
    /// is at worst read twice. Says how many directories were looked at.
    async fn look_for_others(&self) -> Result<usize, Error> {
        let registry = self.clone();
        let looked = blocking(move || {
            let store = &registry.inner.store;
            let known = {
                let index = registry.inner.catalogue.index.read();
                let index = index.unwrap_or_else(PoisonError::into_inner);
                index
                    .as_ref()
                    .map(|index| (index.stamps(), directories(index)))
            };
            let Some((known, directories)) = known else {
                return Ok(None);
            };
            let now = Stamps::beside_now(store);
            let outdated = Index::changed_by_others(store, &known)?;
            Ok(Some((outdated, now, directories)))
        });
        let Some((outdated, now, directories)) = looked.await? else {
            return Ok(0);
        };
        self.renew(outdated, Some(now)).await?;
        Ok(directories)
    }
}

/// How many directories tell whether somebody else has changed what is in a list.
fn directories(index: &Index) -> usize {
    let all = index.repositories().values();
    all.map(|it| DIRECTORIES + it.tags.len()).sum()
}

fn until_next_look(directories: usize) -> Duration {
    let directories = u32::try_from(directories).unwrap_or(u32::MAX);
    PER_DIRECTORY
        .saturating_mul(directories)
        .clamp(LOOK, LONGEST)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_a_tree_is_the_less_often_it_is_looked_through() {
        assert_eq!(until_next_look(0), LOOK);
        assert_eq!(until_next_look(10_000), LOOK);
        assert_eq!(until_next_look(30_000), Duration::from_secs(12));
        assert_eq!(until_next_look(usize::MAX), LONGEST);
    }
}
