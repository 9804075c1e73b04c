//! What mirrors hold and what it takes up, in memory: made by a walk, kept current by events.
//!
//! It may know of links that are gone. It never lacks one that is there: whatever it says nobody
//! links can be removed.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::Kind;

use super::clock::Age;
use super::journal::{Change, Event, What};
use super::table::{Id, IdMap, NONE, Table};

/// A repository's number.
pub(super) type Place = u32;

#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) digests: Table,
    data: Vec<Datum>,
    pub(super) repositories: Vec<Repository>,
    by_name: HashMap<String, Place>,
    /// The size of what mirrors link and nobody else, in bytes.
    cached: u64,
}

/// Stored data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Datum {
    pub(super) size: u64,
    /// The time of its file when it was last seen, in microseconds since 1970. `u64::MAX`: this
    /// process has touched it since, and knows why.
    pub(super) seen: u64,
    /// How many links of mirrors lead to it.
    mirrors: u32,
    /// How many others.
    others: u32,
}

impl Datum {
    /// Whether it may ever come free by evicting.
    pub(super) fn is_mirrored_only(&self) -> bool {
        self.others == 0
    }

    pub(super) fn links(&self) -> u32 {
        self.mirrors + self.others
    }
}

/// What one repository has.
#[derive(Debug)]
pub(super) struct Repository {
    /// Its directory below `repositories`.
    pub(super) name: String,
    /// The same, if it is a mirror.
    pub(super) mirror: Option<RepositoryName>,
    /// Something in it cannot be read: all of it stays.
    pub(super) is_doubtful: bool,
    pub(super) revisions: IdMap<Revision>,
    pub(super) names: IdMap<Name>,
    pub(super) tags: BTreeMap<Tag, Id>,
    /// Layers that no manifest here names, and when they came.
    pub(super) orphans: IdMap<Age>,
}

/// A manifest.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    /// The data it is in.
    pub(super) target: Id,
    /// When it was last used: itself, or something that is reached from here.
    pub(super) used: Age,
    /// What it is attached to.
    pub(super) subject: Id,
    /// What it names, each once.
    pub(super) named: Box<[Id]>,
}

/// What a repository has under a digest, or would have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// How many of its manifests name it.
    pub(super) namers: u32,
    /// The data that its layer link leads to, if it has one.
    pub(super) layer: Id,
}

impl Default for Name {
    fn default() -> Self {
        Self {
            namers: 0,
            layer: NONE,
        }
    }
}

impl Repository {
    pub(super) fn namers(&self, id: Id) -> u32 {
        self.names.get(&id).map_or(0, |name| name.namers)
    }

    /// The data of a layer.
    pub(super) fn layer(&self, id: Id) -> Option<Id> {
        let target = self.names.get(&id)?.layer;
        (target != NONE).then_some(target)
    }

    /// Whether it has nothing any more.
    pub(super) fn is_empty(&self) -> bool {
        let mut layers = self.names.values().filter(|name| name.layer != NONE);
        self.revisions.is_empty() && self.tags.is_empty() && layers.next().is_none()
    }
}

impl Picture {
    pub(super) fn cached(&self) -> u64 {
        self.cached
    }

    /// The mirrors of which something may go.
    pub(super) fn mirrors(&self) -> impl Iterator<Item = (Place, &Repository)> {
        let numbered = (0..).zip(&self.repositories);
        numbered.filter(|(_, it)| it.mirror.is_some() && !it.is_doubtful)
    }

    pub(super) fn repository(&self, place: Place) -> Option<&Repository> {
        self.repositories.get(place as usize)
    }

    pub(super) fn datum(&self, id: Id) -> Datum {
        self.data.get(id as usize).copied().unwrap_or_default()
    }

    pub(super) fn known(&self, name: &RepositoryName) -> Option<Place> {
        self.by_name.get(name.as_str()).copied()
    }

    pub(super) fn id(&mut self, digest: &Digest) -> Id {
        let id = self.digests.id(digest);
        let count = self.digests.len();
        if self.data.len() < count {
            self.data.resize(count, Datum::default());
        }
        id
    }

    /// A repository's number; `mirror` is its name if it is one.
    pub(super) fn place(&mut self, name: &str, mirror: Option<RepositoryName>) -> Place {
        if let Some(place) = self.by_name.get(name).copied() {
            if mirror.is_none() {
                self.make_local(place);
            }
            return place;
        }
        let place = Place::try_from(self.repositories.len()).unwrap_or(Place::MAX);
        self.by_name.insert(name.to_owned(), place);
        self.repositories.push(Repository {
            name: name.to_owned(),
            mirror,
            is_doubtful: false,
            revisions: IdMap::default(),
            names: IdMap::default(),
            tags: BTreeMap::new(),
            orphans: IdMap::default(),
        });
        place
    }

    /// Somebody pushes where a mirror was: from now on all of it is his.
    fn make_local(&mut self, place: Place) {
        if !self.is_mirror(place) {
            return;
        }
        let Some(repository) = self.repository(place) else {
            return;
        };
        let layers = repository.names.values().map(|name| name.layer);
        let manifests = repository.revisions.values().map(|it| it.target);
        let linked = layers.filter(|layer| *layer != NONE).chain(manifests);
        let linked: Vec<Id> = linked.collect();
        for target in &linked {
            self.unlink(place, *target);
        }
        if let Some(repository) = self.repositories.get_mut(place as usize) {
            repository.mirror = None;
        }
        for target in linked {
            self.link(place, target);
        }
    }

    /// Takes in something that happened at `now`.
    pub(super) fn change(&mut self, change: &Change, now: Age) {
        let place = |name: &str| self.by_name.get(name).copied();
        match change {
            Change::Linked(event) => self.apply(event, now),
            Change::Used(name, digest, used) => {
                if let (Some(place), Some(id)) = (place(name.as_str()), self.digests.known(digest))
                {
                    self.renew(place, id, *used);
                }
            }
            Change::Manifest(name, digest) => {
                if let (Some(place), Some(id)) = (place(name), self.digests.known(digest)) {
                    self.remove_manifest(place, id);
                }
            }
            Change::Layer(name, digest) => {
                if let (Some(place), Some(id)) = (place(name), self.digests.known(digest)) {
                    self.remove_layer(place, id);
                }
            }
            Change::Tag(name, tag) => {
                if let Some(place) = place(name) {
                    self.remove_tag(place, tag);
                }
            }
        }
    }

    fn apply(&mut self, event: &Event, now: Age) {
        let mirror = (event.kind == Kind::Mirror).then(|| event.repository.clone());
        let place = self.place(event.repository.as_str(), mirror);
        let id = self.id(&event.digest);
        match &event.what {
            What::Layer(size) => {
                self.set_data(id, *size, u64::MAX);
                self.add_layer(place, id, id, now);
            }
            What::Manifest(size, references) => {
                self.set_data(id, *size, u64::MAX);
                let mut named: Vec<Id> = references.named.iter().map(|it| self.id(it)).collect();
                named.sort_unstable();
                named.dedup();
                let subject = references.subject.as_ref().map_or(NONE, |it| self.id(it));
                let revision = Revision {
                    target: id,
                    used: now,
                    subject,
                    named: named.into(),
                };
                self.add_manifest(place, id, revision);
            }
            What::Tag(tag) => {
                // What a tag is made to name is touched.
                if let Some(datum) = self.data.get_mut(id as usize) {
                    datum.seen = u64::MAX;
                }
                self.add_tag(place, tag.clone(), id);
            }
        }
    }

    pub(super) fn set_data(&mut self, id: Id, size: u64, seen: u64) {
        let Some(datum) = self.data.get_mut(id as usize) else {
            return;
        };
        if datum.mirrors > 0 && datum.others == 0 {
            self.cached = self.cached + size - datum.size.min(self.cached);
        }
        (datum.size, datum.seen) = (size, seen);
    }

    pub(super) fn add_tag(&mut self, place: Place, tag: Tag, id: Id) {
        if let Some(repository) = self.repositories.get_mut(place as usize) {
            repository.tags.insert(tag, id);
        }
    }

    pub(super) fn add_layer(&mut self, place: Place, id: Id, target: Id, came: Age) {
        let Some(repository) = self.repositories.get_mut(place as usize) else {
            return;
        };
        let name = repository.names.entry(id).or_default();
        if name.layer != NONE {
            return;
        }
        name.layer = target;
        if name.namers == 0 && repository.mirror.is_some() {
            repository.orphans.insert(id, came);
        }
        self.link(place, target);
    }

    /// Takes in a manifest, or what it turned out to be after all.
    pub(super) fn add_manifest(&mut self, place: Place, id: Id, revision: Revision) {
        let used = revision.used;
        self.insert_manifest(place, id, revision);
        self.renew_namers(place, id, used);
    }

    /// The same without a word to those that name it.
    pub(super) fn insert_manifest(&mut self, place: Place, id: Id, revision: Revision) {
        let Some(repository) = self.repositories.get_mut(place as usize) else {
            return;
        };
        for named in &revision.named {
            repository.names.entry(*named).or_default().namers += 1;
            repository.orphans.remove(named);
        }
        let (target, used) = (revision.target, revision.used);
        let before = repository.revisions.insert(id, revision);
        match before {
            Some(before) => {
                self.drop_names(place, &before.named, used);
                if before.target != target {
                    self.unlink(place, before.target);
                    self.link(place, target);
                }
            }
            None => self.link(place, target),
        }
    }

    /// Forgets a manifest. What nobody here names any more is returned.
    pub(super) fn remove_manifest(&mut self, place: Place, id: Id) -> Vec<Id> {
        let Some(repository) = self.repositories.get_mut(place as usize) else {
            return Vec::new();
        };
        let Some(revision) = repository.revisions.remove(&id) else {
            return Vec::new();
        };
        self.unlink(place, revision.target);
        self.drop_names(place, &revision.named, revision.used)
    }

    /// Forgets a layer, and says in which data it was.
    pub(super) fn remove_layer(&mut self, place: Place, id: Id) -> Option<Id> {
        let repository = self.repositories.get_mut(place as usize)?;
        let target = repository.layer(id)?;
        repository.orphans.remove(&id);
        let name = repository.names.entry(id).or_default();
        name.layer = NONE;
        if name.namers == 0 {
            repository.names.remove(&id);
        }
        self.unlink(place, target);
        Some(target)
    }

    pub(super) fn remove_tag(&mut self, place: Place, tag: &Tag) {
        if let Some(repository) = self.repositories.get_mut(place as usize) {
            repository.tags.remove(tag);
        }
    }

    /// One who named these is gone. Those of them that are still here and that nobody names now.
    fn drop_names(&mut self, place: Place, named: &[Id], used: Age) -> Vec<Id> {
        let Some(repository) = self.repositories.get_mut(place as usize) else {
            return Vec::new();
        };
        let mut free = Vec::new();
        for id in named {
            let Some(name) = repository.names.get_mut(id) else {
                continue;
            };
            name.namers = name.namers.saturating_sub(1);
            if name.namers > 0 {
                continue;
            }
            if name.layer == NONE {
                repository.names.remove(id);
            } else {
                repository.orphans.insert(*id, used);
            }
            if repository.orphans.contains_key(id) || repository.revisions.contains_key(id) {
                free.push(*id);
            }
        }
        free
    }

    /// Notes when a manifest was used. Whatever leads to it was used too.
    pub(super) fn renew(&mut self, place: Place, id: Id, used: Age) {
        let repository = self.repositories.get_mut(place as usize);
        let revision = repository.and_then(|it| it.revisions.get_mut(&id));
        if let Some(revision) = revision
            && revision.used < used
        {
            revision.used = used;
            self.renew_namers(place, id, used);
        }
    }

    fn renew_namers(&mut self, place: Place, id: Id, used: Age) {
        let Some(repository) = self.repositories.get_mut(place as usize) else {
            return;
        };
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            if repository.namers(id) == 0 {
                continue;
            }
            for (namer, revision) in &mut repository.revisions {
                if revision.used < used && revision.named.contains(&id) {
                    revision.used = used;
                    waiting.push(*namer);
                }
            }
        }
    }

    fn link(&mut self, place: Place, target: Id) {
        let is_mirror = self.is_mirror(place);
        let Some(datum) = self.data.get_mut(target as usize) else {
            return;
        };
        if is_mirror {
            datum.mirrors += 1;
            if datum.mirrors == 1 && datum.others == 0 {
                self.cached += datum.size;
            }
        } else {
            datum.others += 1;
            if datum.others == 1 && datum.mirrors > 0 {
                self.cached = self.cached.saturating_sub(datum.size);
            }
        }
    }

    fn unlink(&mut self, place: Place, target: Id) {
        let is_mirror = self.is_mirror(place);
        let Some(datum) = self.data.get_mut(target as usize) else {
            return;
        };
        if is_mirror {
            datum.mirrors = datum.mirrors.saturating_sub(1);
            if datum.mirrors == 0 && datum.others == 0 {
                self.cached = self.cached.saturating_sub(datum.size);
            }
        } else {
            datum.others = datum.others.saturating_sub(1);
            if datum.others == 0 && datum.mirrors > 0 {
                self.cached += datum.size;
            }
        }
    }

    fn is_mirror(&self, place: Place) -> bool {
        self.repository(place).is_some_and(|it| it.mirror.is_some())
    }
}

/// A file's time as a [`Datum`] has it.
pub(super) fn stamp(modified: SystemTime) -> u64 {
    Age::of(modified).0
}
