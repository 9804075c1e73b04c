//! What images there are, in memory: for those who look often, and want an answer at once.
//!
//! It is read off the tree like an [inventory](super::Inventory), but repository by repository: who
//! changes one has only that one read again. The files stay the truth; what is here is as old as
//! the last look.

mod data;
mod read;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, statat};

use crate::oci::{Digest, MediaType, RepositoryName, Tag};

use super::changes::Change;
use super::usage::Beside;
use super::{Kind, Store, StoreError, file};
use data::{Data, Number};

/// All tagged images of a tree.
#[derive(Debug)]
pub struct Index {
    store: Store,
    repositories: BTreeMap<RepositoryName, Indexed>,
    data: Data,
    beside: Beside,
}

/// What is known of a repository.
#[derive(Debug)]
pub struct Indexed {
    /// Local or mirror.
    pub kind: Kind,
    /// What its tags name.
    pub tags: BTreeMap<Tag, Digest>,
    /// The bytes of all that its tags lead to and that is here, each piece counted once.
    pub bytes: u64,
    images: HashMap<Digest, Image>,
    stamp: u64,
}

/// What a tag names, as far as it is here.
#[derive(Clone, Debug)]
struct Image {
    media_type: Option<MediaType>,
    platforms: Box<[(String, bool)]>,
    parts: Box<[Number]>,
    is_whole: bool,
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedImage {
    /// What its manifest is; `None` if that is not here.
    pub media_type: Option<MediaType>,
    /// What it runs on, and whether all of that is here.
    pub platforms: Vec<(String, bool)>,
    /// The bytes that no other image uses: what would be freed.
    pub own: u64,
    /// The bytes that others use too.
    pub shared: u64,
}

/// What the tagged images of a tree take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupied {
    /// The bytes that local images use.
    pub local: u64,
    /// The bytes that mirrored ones alone use.
    pub mirrors: u64,
}

/// Repositories that are to be read again.
#[derive(Debug, Default)]
pub struct Outdated(Vec<(RepositoryName, Change)>);

impl Outdated {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, so many at a time.
    pub fn parts(&self, most: usize) -> impl Iterator<Item = Self> {
        self.0.chunks(most.max(1)).map(|some| Self(some.to_vec()))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &RepositoryName> {
        self.0.iter().map(|(name, _)| name)
    }
}

impl Store {
    /// The repositories that this process has changed since this was last asked; none before an
    /// index was begun.
    pub fn take_changes(&self) -> Outdated {
        Outdated(self.inner.changes.take().into_iter().collect())
    }
}

impl Index {
    /// Reads the whole tree. Slow; `stop` is asked again and again whether to give up, and then
    /// there is none.
    pub fn read(store: &Store, stop: &dyn Fn() -> bool) -> Result<Option<Self>, StoreError> {
        store.inner.changes.open();
        let mut index = Self {
            store: store.clone(),
            repositories: BTreeMap::new(),
            data: Data::default(),
            beside: Beside::of(store),
        };
        for name in store.repositories(None, usize::MAX)? {
            if stop() {
                return Ok(None);
            }
            index.renew(&name, Change::Removed);
        }
        Ok(Some(index))
    }

    /// Reads these again.
    pub fn catch_up(&mut self, outdated: &Outdated) {
        for (name, change) in &outdated.0 {
            self.renew(name, *change);
        }
    }

    /// What others have changed: a look at the directories, which takes a while on a large tree.
    /// `known` is what [`Self::stamps`] said.
    pub fn changed_by_others(store: &Store, known: &Stamps) -> Result<Outdated, StoreError> {
        let is_foreign = Beside::of(store) != known.beside;
        let mut outdated = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for name in store.repositories(None, usize::MAX)? {
            let stamp = stamp(store, &name);
            if is_foreign || known.repositories.get(&name) != Some(&stamp) {
                outdated.push((name.clone(), Change::Removed));
            }
            seen.insert(name);
        }
        let gone = known
            .repositories
            .keys()
            .filter(|name| !seen.contains(*name));
        outdated.extend(gone.map(|name| (name.clone(), Change::Removed)));
        Ok(Outdated(outdated))
    }

    /// How the directories looked when they were read.
    pub fn stamps(&self) -> Stamps {
        let stamps = self.repositories.iter();
        Stamps {
            beside: self.beside,
            repositories: stamps.map(|(name, it)| (name.clone(), it.stamp)).collect(),
        }
    }

    /// Takes note that all that others did before was looked at.
    pub fn seen(&mut self, then: &Stamps) {
        self.beside = then.beside;
    }

    /// All repositories, in the order of their names.
    pub fn repositories(&self) -> &BTreeMap<RepositoryName, Indexed> {
        &self.repositories
    }

    /// What an image takes up, and what it is for. `None` if no tag of that repository names it.
    pub fn image(&self, name: &RepositoryName, digest: &Digest) -> Option<IndexedImage> {
        let image = self.repositories.get(name)?.images.get(digest)?;
        let (mut own, mut shared) = (0, 0);
        for part in &image.parts {
            let datum = self.data.get(*part);
            if datum.uses() == 1 {
                own += datum.size;
            } else {
                shared += datum.size;
            }
        }
        Some(IndexedImage {
            media_type: image.media_type.clone(),
            platforms: image.platforms.to_vec(),
            own,
            shared,
        })
    }

    /// What all of it takes up, and what is shared counted once.
    pub fn occupied(&self) -> Occupied {
        let mut occupied = Occupied::default();
        for datum in self.data.all() {
            if datum.local > 0 {
                occupied.local += datum.size;
            } else if datum.mirrors > 0 {
                occupied.mirrors += datum.size;
            }
        }
        occupied
    }

    /// The bytes of some repositories, and what is shared counted once.
    pub fn size_of<'a>(&self, names: impl IntoIterator<Item = &'a RepositoryName>) -> u64 {
        let repositories = names
            .into_iter()
            .filter_map(|name| self.repositories.get(name));
        let images = repositories.flat_map(|it| it.images.values());
        let parts = images.flat_map(|image| image.parts.iter().copied());
        let parts: std::collections::HashSet<Number> = parts.collect();
        parts.into_iter().map(|part| self.data.get(part).size).sum()
    }

    /// Reads a repository again. What cannot be read stays as it was known.
    fn renew(&mut self, name: &RepositoryName, change: Change) {
        let stamp = stamp(&self.store, name);
        let repository = match self.store.kind_of(name) {
            Some(Kind::Local) => self.store.local(name),
            Some(Kind::Mirror) => self.store.mirror(name),
            None => return self.forget(name),
        };
        if !self.store.layout().manifests(name).is_dir() {
            return self.forget(name);
        }
        let known = self.repositories.get(name);
        let reuse =
            known.filter(|known| change == Change::Added && known.kind == repository.kind());
        let reuse = reuse.map(|known| &known.images);
        let read = read::repository(&repository, reuse, &mut self.data);
        match read {
            Ok((tags, images)) => {
                for image in images.values() {
                    self.data.add(&image.parts, repository.kind());
                }
                self.forget(name);
                let parts = images
                    .values()
                    .flat_map(|image| image.parts.iter().copied());
                let parts: std::collections::HashSet<Number> = parts.collect();
                let bytes = parts.into_iter().map(|part| self.data.get(part).size).sum();
                let indexed = Indexed {
                    kind: repository.kind(),
                    tags,
                    bytes,
                    images,
                    stamp,
                };
                self.repositories.insert(name.clone(), indexed);
            }
            Err(error) => {
                tracing::debug!(repository = %name, %error, "not read again");
            }
        }
        self.data.tidy();
    }

    fn forget(&mut self, name: &RepositoryName) {
        if let Some(old) = self.repositories.remove(name) {
            for image in old.images.values() {
                self.data.remove(&image.parts, old.kind);
            }
        }
    }
}

/// How the directories of a tree looked.
#[derive(Clone, Debug)]
pub struct Stamps {
    beside: Beside,
    repositories: HashMap<RepositoryName, u64>,
}

impl Stamps {
    /// How they look now, as far as those are concerned who say that they changed something.
    pub fn beside_now(store: &Store) -> Self {
        Self {
            beside: Beside::of(store),
            repositories: HashMap::new(),
        }
    }
}

/// The times of a repository's directories, as one number: what is put into one or removed from it
/// changes its time.
fn stamp(store: &Store, name: &RepositoryName) -> u64 {
    let layout = store.layout();
    let mut hasher = DefaultHasher::new();
    let mut look = |path: &Path| {
        let time = path.symlink_metadata().and_then(|it| it.modified());
        time.unwrap_or(SystemTime::UNIX_EPOCH).hash(&mut hasher);
    };
    let tags = layout.tags(name);
    let (pins, holds) = (layout.mirror_pins(name), layout.mirror_holds(name));
    for directory in [&tags, &layout.mirror_marker(name), &pins, &holds] {
        look(directory);
    }
    for parent in [layout.revisions(name), layout.layers(name)] {
        for algorithm in crate::oci::Algorithm::ALL {
            look(&parent.join(algorithm.as_str()));
        }
    }
    // By way of the directory: where there are many tags, the way to each would be most of the work.
    let inside = rustix::fs::open(&tags, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    for tag in file::names_in(&tags).unwrap_or_default() {
        let found = inside.as_ref().ok().and_then(|inside| {
            let current = format!("{tag}/current");
            statat(inside, current, AtFlags::SYMLINK_NOFOLLOW).ok()
        });
        let time = found.map(|it| (it.st_mtime, it.st_mtime_nsec));
        (tag, time).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
