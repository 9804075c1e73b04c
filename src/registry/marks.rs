//! Pins and holds that people set while larder runs.
//!
//! The files are the truth (`store/marks.rs`). What is here spares each pull and each eviction a
//! look at them: one atomic read where nobody has set any.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::{self, Repository, Store};

use super::names::Mirror;
use super::{Error, Registry, blocking};

/// Nobody has looked yet.
const UNREAD: u8 = 0;
/// There are none.
const NONE: u8 = 1;
/// There are some.
const SOME: u8 = 2;

/// All pins and holds, once they have been read.
#[derive(Default)]
pub(super) struct Marks {
    state: AtomicU8,
    known: RwLock<Arc<All>>,
    /// Who reads or changes the files.
    changing: Mutex<()>,
}

/// The pins and holds of all mirrors.
#[derive(Clone, Debug, Default)]
pub(super) struct All(BTreeMap<RepositoryName, store::Marks>);

/// Whether a tag is held, as far as can be told without the disk.
enum Known {
    Not,
    At(Digest),
    Unread,
}

impl All {
    /// The tags whose images stay.
    pub(super) fn pinned(&self) -> impl Iterator<Item = (RepositoryName, Tag)> {
        let all = self.0.iter();
        all.flat_map(|(name, marks)| marks.pins.iter().map(|tag| (name.clone(), tag.clone())))
    }

    /// The manifests that stay, as tags are held at them.
    pub(super) fn held(&self) -> impl Iterator<Item = (RepositoryName, Digest)> {
        let all = self.0.iter();
        all.flat_map(|(name, marks)| {
            let digests = marks.holds.values();
            digests.map(|digest| (name.clone(), digest.clone()))
        })
    }

    fn of(&self, name: &RepositoryName) -> store::Marks {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

impl Marks {
    /// All of them, read if nobody has yet. It blocks.
    pub(super) fn all(&self, store: &Store) -> Arc<All> {
        if self.state.load(Ordering::Acquire) == UNREAD {
            let _only = self.changing();
            if self.state.load(Ordering::Acquire) == UNREAD {
                match store.marks() {
                    Ok(found) => self.set(All(found)),
                    Err(error) => {
                        tracing::warn!(%error, "pins and holds could not be read: try again later");
                    }
                }
            }
        }
        self.known()
    }

    /// Reads those of one mirror again: others may have changed them. It blocks.
    pub(super) fn look_again(&self, repository: &Repository) -> Result<(), store::StoreError> {
        let _only = self.changing();
        self.renew(repository)
    }

    /// Reads those of one mirror again: somebody has changed them.
    fn renew(&self, repository: &Repository) -> Result<(), store::StoreError> {
        if self.state.load(Ordering::Acquire) == UNREAD {
            return Ok(());
        }
        let (marks, known) = (repository.marks()?, self.known());
        if known.of(repository.name()) == marks {
            return Ok(());
        }
        let mut all = (*known).clone();
        all.0.remove(repository.name());
        if !marks.is_empty() {
            all.0.insert(repository.name().clone(), marks);
        }
        self.set(all);
        Ok(())
    }

    fn set(&self, all: All) {
        let state = if all.0.is_empty() { NONE } else { SOME };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(all);
        drop(known);
        self.state.store(state, Ordering::Release);
    }

    fn known(&self) -> Arc<All> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, name: &RepositoryName, tag: &Tag) -> Known {
        match self.state.load(Ordering::Acquire) {
            UNREAD => Known::Unread,
            NONE => Known::Not,
            _ => {
                let known = self.known();
                let marks = known.0.get(name);
                let digest = marks.and_then(|marks| marks.holds.get(tag));
                digest.cloned().map_or(Known::Not, Known::At)
            }
        }
    }
}

/// Why a tag cannot be pinned or held, or that be taken away.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MarkError {
    /// The configuration says so.
    #[error("{0} in the configuration says so: change it there")]
    Configured(&'static str),
    /// It is not mirrored.
    #[error("{0} was pushed here: it is never evicted and never replaced")]
    Local(RepositoryName),
    /// There is none to be taken away.
    #[error("{0} is not set for {1}:{2}")]
    Unset(&'static str, RepositoryName, Tag),
    /// There is nothing that it could be about.
    #[error("there is no {0} here")]
    Unknown(String),
    /// The registry says why.
    #[error(transparent)]
    Registry(#[from] Error),
}

impl Registry {
    /// At which digest a mirrored tag is held, also where the files have to be asked.
    pub(super) async fn held_now(
        &self,
        mirror: &Mirror,
        tag: &Tag,
    ) -> Result<Option<Digest>, Error> {
        let name = mirror.repository.name();
        if let Some(digest) = self.held(name, tag) {
            return Ok(Some(digest));
        }
        if !matches!(self.inner.marks.hold(name, tag), Known::Unread) {
            return Ok(None);
        }
        let (repository, tag) = (mirror.repository.clone(), tag.clone());
        blocking(move || repository.held(&tag)).await
    }

    /// At which digest somebody holds a mirrored tag, as far as that has been read.
    pub(super) fn marked_hold(&self, name: &RepositoryName, tag: &Tag) -> Option<Digest> {
        match self.inner.marks.hold(name, tag) {
            Known::At(digest) => Some(digest),
            Known::Not | Known::Unread => None,
        }
    }

    /// The tags of a mirror that somebody holds at a digest.
    pub(super) fn marked_at(&self, name: &RepositoryName, digest: &Digest) -> Vec<Tag> {
        if self.inner.marks.state.load(Ordering::Acquire) != SOME {
            return Vec::new();
        }
        let marks = self.inner.marks.known().of(name);
        let holds = marks.holds.into_iter();
        holds
            .filter(|(_, at)| at == digest)
            .map(|(tag, _)| tag)
            .collect()
    }

    /// Reads all pins and holds, if nobody has yet.
    pub(super) async fn read_marks(&self) -> Result<(), Error> {
        let registry = self.clone();
        let read = move || {
            registry.inner.marks.all(&registry.inner.store);
            Ok(())
        };
        blocking(read).await
    }

    /// The pins and holds of a mirror that were set while larder ran.
    pub async fn marks(&self, name: &RepositoryName) -> Result<store::Marks, Error> {
        let (registry, name) = (self.clone(), name.clone());
        blocking(move || Ok(registry.inner.marks.all(&registry.inner.store).of(&name))).await
    }

    /// Whether `cache.pin` says that a mirrored tag is never evicted.
    pub fn is_pinned(&self, name: &RepositoryName, tag: &Tag) -> bool {
        let policy = self.policy();
        let pins = policy.settings.keeping.pins.iter();
        pins.into_iter().any(|pin| pin.fits(name, tag))
    }

    /// Whether `cache.hold` says at which digest a mirrored tag stays.
    pub fn is_held_by_configuration(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.policy().holds.get(name, tag).is_some()
    }

    /// Pins a mirrored tag, or takes the pin away.
    pub async fn pin(
        &self,
        repository: &Repository,
        tag: &Tag,
        pinned: bool,
    ) -> Result<(), MarkError> {
        self.may_mark(repository)?;
        if !pinned && self.is_pinned(repository.name(), tag) {
            return Err(MarkError::Configured("cache.pin"));
        }
        let wanted = tag.clone();
        let done = self.mark(repository, move |repository| {
            if !pinned {
                return repository.unpin(&wanted);
            }
            Ok(repository.tag(&wanted)?.is_some() && repository.pin(&wanted)?)
        });
        match (done.await?, pinned) {
            (true, _) => Ok(()),
            (false, true) => Err(unknown(repository, tag)),
            (false, false) => Err(unset("a pin", repository, tag)),
        }
    }

    /// Holds a mirrored tag at a digest, or no longer.
    pub async fn hold(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: Option<&Digest>,
    ) -> Result<(), MarkError> {
        self.may_mark(repository)?;
        if self.is_held_by_configuration(repository.name(), tag) {
            return Err(MarkError::Configured("cache.hold"));
        }
        let (wanted, digest) = (tag.clone(), digest.cloned());
        let holds = digest.is_some();
        let done = self.mark(repository, move |repository| match digest {
            Some(digest) => repository.hold(&wanted, &digest),
            None => repository.unhold(&wanted),
        });
        match (done.await?, holds) {
            (true, _) => Ok(()),
            (false, true) => Err(unknown(repository, tag)),
            (false, false) => Err(unset("a hold", repository, tag)),
        }
    }

    fn may_mark(&self, repository: &Repository) -> Result<(), MarkError> {
        if repository.kind() == store::Kind::Local {
            return Err(MarkError::Local(repository.name().clone()));
        }
        Ok(self.may_write()?)
    }

    /// Changes the files, and what is known of them.
    async fn mark(
        &self,
        repository: &Repository,
        change: impl FnOnce(&Repository) -> Result<bool, store::StoreError> + Send + 'static,
    ) -> Result<bool, Error> {
        let (registry, repository) = (self.clone(), repository.clone());
        blocking(move || {
            let marks = &registry.inner.marks;
            let _only = marks.changing();
            let done = change(&repository)?;
            marks.renew(&repository)?;
            Ok(done)
        })
        .await
    }
}

fn unknown(repository: &Repository, tag: &Tag) -> MarkError {
    MarkError::Unknown(format!("{}:{tag}", repository.name()))
}

fn unset(what: &'static str, repository: &Repository, tag: &Tag) -> MarkError {
    MarkError::Unset(what, repository.name().clone(), tag.clone())
}
