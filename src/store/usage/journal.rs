//! What this process links, and what is pulled: told here at once, taken into the picture later.
//!
//! Both are short inserts under a lock that nobody holds for long. A link is told before it is
//! written, under the same shared hold: whoever has the exclusive hold and has read the journal
//! knows every link that this process made.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::oci::{Digest, References, RepositoryName, Tag};
use crate::store::Kind;

use super::clock::Age;

/// Something was linked.
#[derive(Clone, Debug)]
pub(in crate::store) struct Event {
    pub(super) repository: RepositoryName,
    pub(super) kind: Kind,
    pub(super) digest: Digest,
    pub(super) what: What,
}

/// What changes a picture.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Something was linked.
    Linked(Event),
    /// A manifest was used.
    Used(RepositoryName, Digest, Age),
    /// A manifest of that repository was evicted,
    Manifest(String, Digest),
    /// or a layer,
    Layer(String, Digest),
    /// or a tag.
    Tag(String, Tag),
}

/// As what.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// As a layer, of so many bytes.
    Layer(u64),
    /// As a manifest, of so many bytes, that names and is attached to this.
    Manifest(u64, References),
    /// As what a tag names.
    Tag(Tag),
}

/// Events since they were last taken; none are kept before somebody wants them.
#[derive(Debug, Default)]
pub(in crate::store) struct Journal(Mutex<Option<Vec<Event>>>);

impl Journal {
    /// Notes from now on.
    pub(super) fn open(&self) {
        self.lock().get_or_insert_default();
    }

    pub(super) fn take(&self) -> Vec<Event> {
        let mut events = self.lock();
        events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The bytes of what was linked since; what was there before counts too.
    pub(super) fn bytes(&self) -> u64 {
        let events = self.lock();
        let bytes = events.iter().flatten().map(|event| match &event.what {
            What::Layer(size) | What::Manifest(size, _) => *size,
            What::Tag(_) => 0,
        });
        bytes.sum()
    }

    pub(in crate::store) fn layer(
        &self,
        repository: &RepositoryName,
        kind: Kind,
        digest: &Digest,
        size: u64,
    ) {
        self.note(repository, kind, digest, || What::Layer(size));
    }

    pub(in crate::store) fn manifest(
        &self,
        repository: &RepositoryName,
        kind: Kind,
        digest: &Digest,
        bytes: &[u8],
    ) {
        if self.lock().is_none() {
            return;
        }
        // Nothing of a local repository is ever evicted, so nobody needs to know what it needs.
        let references = match kind {
            Kind::Mirror => References::of(bytes).unwrap_or_default(),
            Kind::Local => References::default(),
        };
        self.note(repository, kind, digest, || {
            What::Manifest(bytes.len() as u64, references)
        });
    }

    pub(in crate::store) fn tag(
        &self,
        repository: &RepositoryName,
        kind: Kind,
        tag: &Tag,
        digest: &Digest,
    ) {
        self.note(repository, kind, digest, || What::Tag(tag.clone()));
    }

    fn note(
        &self,
        repository: &RepositoryName,
        kind: Kind,
        digest: &Digest,
        what: impl FnOnce() -> What,
    ) {
        if let Some(events) = &mut *self.lock() {
            events.push(Event {
                repository: repository.clone(),
                kind,
                digest: digest.clone(),
                what: what(),
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Event>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When something was used.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// Just now, in this process.
    At(Instant),
    /// As it is to be written down.
    Age(Age),
}

type ByRepository = HashMap<RepositoryName, HashMap<Digest, When>>;

/// The manifests that were pulled and are not written down yet, by repository.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Those that the picture has not been told of yet.
    untold: ByRepository,
    /// The others. There are very many where the disk does not take them, or after the first walk:
    /// nobody is to go through all of them again and again.
    told: ByRepository,
}

impl Uses {
    /// Notes what is not noted already, and what the picture knows.
    pub(super) fn note_older(&self, repository: &RepositoryName, digest: &Digest, when: When) {
        let mut uses = self.lock();
        let of_repository = uses.told.entry(repository.clone()).or_default();
        of_repository.entry(digest.clone()).or_insert(when);
    }

    pub(super) fn note(&self, repository: &RepositoryName, digest: &Digest, when: When) {
        let mut uses = self.lock();
        let untold = &mut uses.untold;
        // A manifest that everybody pulls is in there already: nothing is copied then.
        if let Some(noted) = untold.get_mut(repository).and_then(|it| it.get_mut(digest)) {
            *noted = when;
        } else {
            let of_repository = untold.entry(repository.clone()).or_default();
            of_repository.insert(digest.clone(), when);
        }
    }

    /// Those that the picture has not been told of yet; it is told of them now.
    pub(super) fn tell(&self) -> Vec<(RepositoryName, Digest, When)> {
        let uses = &mut *self.lock();
        let untold = list(&uses.untold);
        add(&mut uses.told, std::mem::take(&mut uses.untold));
        untold
    }

    /// All of them, for a new picture.
    pub(super) fn tell_all(&self) -> Vec<(RepositoryName, Digest, When)> {
        let uses = &mut *self.lock();
        add(&mut uses.told, std::mem::take(&mut uses.untold));
        list(&uses.told)
    }

    /// All of them, which go.
    pub(super) fn take(&self) -> Vec<(RepositoryName, Digest, When)> {
        let Noted { untold, mut told } = std::mem::take(&mut *self.lock());
        add(&mut told, untold);
        let each = told.into_iter().flat_map(|(repository, digests)| {
            let each = digests.into_iter();
            each.map(move |(digest, when)| (repository.clone(), digest, when))
        });
        each.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds what was noted later.
fn add(uses: &mut ByRepository, later: ByRepository) {
    for (repository, digests) in later {
        uses.entry(repository).or_default().extend(digests);
    }
}

fn list(uses: &ByRepository) -> Vec<(RepositoryName, Digest, When)> {
    let each = uses.iter().flat_map(|(repository, digests)| {
        let each = digests.iter();
        each.map(|(digest, when)| (repository.clone(), digest.clone(), *when))
    });
    each.collect()
}
