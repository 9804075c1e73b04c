//! Collecting garbage: content that nobody refers to, removed while others push and pull.
//!
//! What goes: data that no link leads to; layer links of local repositories that none of their
//! manifests needs; with `untagged` also manifests that no tag leads to. Mirrors keep what they
//! link, and uploads and fills are none of this.
//!
//! What is kept is *marked* without a hold, however long that takes, while others push. This is
//! safe by three rules:
//!
//! 1. Whoever links content, or relies on its being there, does so under a shared hold, and touches
//!    what he relies on before he is told that it is done ([`super::hold`], `rely_on`).
//! 2. A collection begins under an exclusive hold, so that each such step was either wholly done
//!    before, and its links are seen, or is begun after, and what it touches is newer.
//! 3. Each removal is decided again under an exclusive hold: only what was last touched before the
//!    collection began, and is still what was seen, goes.
//!
//! So nothing that was acknowledged since a collection began is collected, whatever the grace
//! period. The period is for what clients rely on without saying so: blobs sent before their
//! manifest, and blobs they were told need not be sent.
//!
//! What goes, goes from the top: what a tag once named, manifests (indexes before their children),
//! layer links, then data. A crash leaves what the next collection removes.

pub(super) mod found;
mod plan;
mod remove;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::oci::{Digest, RepositoryName};

use super::layout::inside;
use super::{Store, StoreError};
use found::{Found, Interned};
pub(super) use found::{Place, places};
use plan::{Marking, Rules};
use remove::Remover;

/// What is to be collected.
#[derive(Clone, Copy, Debug)]
pub struct Collection {
    /// Manifests that no tag leads to, neither directly nor through an index or a subject, go too.
    pub untagged: bool,
    /// What was touched in this time before the collection began stays.
    pub grace: Duration,
    /// Only find out.
    pub dry_run: bool,
}

/// What a collection tells while it runs, in this order.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A repository is looked at.
    Repository(&'a str),
    /// It keeps a manifest.
    Manifest(&'a str, &'a Digest),
    /// It keeps something that a manifest names, and that nobody had named before.
    Blob(&'a str, &'a Digest),
    /// A manifest may go; these tags named it once.
    EligibleManifest(&'a str, &'a Digest, &'a [String]),
    /// All is known.
    Found(Eligible),
    /// Data may go.
    EligibleBlob(&'a Digest),
    /// A layer link may go.
    EligibleLink(&'a str, &'a Digest),
    /// So much data of that which may go has been dealt with; nobody is kept waiting meanwhile.
    Blobs(usize),
}

/// How much was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eligible {
    /// Digests that are referred to.
    pub marked: usize,
    /// Data that may go.
    pub blobs: usize,
    /// Manifests that may go.
    pub manifests: usize,
}

/// How much went, or would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests.
    pub manifests: usize,
    /// Layer links.
    pub links: usize,
    /// Files of data.
    pub blobs: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Repositories of which nothing went, because something in them cannot be read.
    pub doubtful: usize,
}

/// Why a collection did not come to its end. What it had removed by then was garbage all the same.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// There is one already.
    #[error("another collection of this directory is under way")]
    Running,
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
    /// Times no longer tell what is new.
    #[error("the clock was set back meanwhile: start again")]
    ClockSetBack,
    /// All data would look like garbage.
    #[error("{} is missing, but there is data: is a disk not mounted?", .0.display())]
    NoRepositories(PathBuf),
    /// Something cannot be listed, read or removed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Collects garbage. Slow on a large tree: run it in the background. `stop` is asked again and
    /// again whether to give up.
    pub fn collect(
        &self,
        collection: Collection,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<Collected, CollectError> {
        let Some(_only) = self.holds().collecting()? else {
            return Err(CollectError::Running);
        };
        let began = {
            let _alone = self.holds().exclusive()?;
            self.file_time()
        };
        let began = match began {
            // Nobody can write, so nobody does.
            Err(StoreError::ReadOnly(_)) if collection.dry_run => SystemTime::now(),
            began => began?,
        };
        let mut run = Run {
            remover: Remover {
                store: self,
                began,
                stop,
                dry_run: collection.dry_run,
            },
            rules: Rules::new(collection.untagged, began, collection.grace),
            names: Interned::default(),
            marked: HashSet::new(),
            linked: HashSet::new(),
            manifests: Vec::new(),
            links: Vec::new(),
            collected: Collected::default(),
        };
        for place in found::places(self)? {
            run.remover.go_on()?;
            tell(Step::Repository(&place.name));
            match place.local(self) {
                Some(name) => run.local(&name, &place, tell)?,
                None => run.keep_all(&place, tell)?,
            }
        }
        run.data(tell)?;
        Ok(run.collected)
    }
}

/// A collection under way.
struct Run<'a> {
    remover: Remover<'a>,
    rules: Rules,
    names: Interned,
    /// What manifests refer to.
    marked: HashSet<Digest>,
    /// What other links lead to.
    linked: HashSet<Digest>,
    manifests: Vec<(String, Digest, Vec<String>)>,
    links: Vec<(String, Digest)>,
    collected: Collected,
}

impl Run<'_> {
    /// Everything that a mirror links is kept, and whatever nobody could have pushed.
    fn keep_all(
        &mut self,
        place: &Place,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), CollectError> {
        let revisions = found::links(&inside::revisions(&place.directory), &mut self.names)?;
        let layers = found::links(&inside::layers(&place.directory), &mut self.names)?;
        for (digest, link) in revisions {
            tell(Step::Manifest(&place.name, &digest));
            self.marked.extend([digest, link.target]);
        }
        for (digest, link) in layers {
            if self.marked.insert(digest.clone()) {
                tell(Step::Blob(&place.name, &digest));
            }
            self.marked.insert(link.target);
        }
        Ok(())
    }

    fn local(
        &mut self,
        name: &RepositoryName,
        place: &Place,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), CollectError> {
        let found = found::look(self.remover.store, name, place, &mut self.names)?;
        let mut marking = Marking::new(&found, self.rules);
        for (digest, target, named) in marking.kept() {
            tell(Step::Manifest(&place.name, digest));
            self.marked.extend([digest.clone(), target.clone()]);
            for named in named {
                if self.marked.insert(named.clone()) {
                    tell(Step::Blob(&place.name, named));
                }
            }
        }
        let condemned = marking.condemned();
        for (digest, _) in &condemned {
            let tags = found.history.get(digest).cloned().unwrap_or_default();
            self.manifests
                .push((place.name.clone(), (*digest).clone(), tags));
        }
        self.collected.manifests +=
            self.remover
                .manifests(name, &found, &mut marking, condemned)?;
        self.report(place, &found, &marking);
        // Those too that were saved meanwhile.
        for (digest, target, named) in marking.kept() {
            self.linked.extend([digest.clone(), target.clone()]);
            self.linked.extend(named.iter().cloned());
        }
        let layers = marking.layers();
        for (digest, link) in layers.kept {
            self.linked.extend([digest.clone(), link.target.clone()]);
        }
        for (digest, _) in &layers.condemned {
            self.links.push((place.name.clone(), (*digest).clone()));
        }
        let removed = self
            .remover
            .layers(name, layers.condemned, &mut self.linked)?;
        self.collected.links += removed;
        Ok(())
    }

    /// Says what keeps a repository from being collected.
    fn report(&mut self, place: &Place, found: &Found, marking: &Marking<'_>) {
        for digest in marking.doubts() {
            tracing::warn!(
                "{}: the manifest {digest} cannot be read, so nothing of this repository is collected: push it again, or delete it",
                place.name
            );
        }
        let unreadable = found.tags.iter().filter(|(_, named)| named.is_none());
        for (tag, _) in unreadable.filter(|_| self.rules.untagged) {
            tracing::warn!(
                "{}: the tag {tag} cannot be read, so no manifest of this repository is collected: push it again, or delete it",
                place.name
            );
        }
        self.collected.doubtful += usize::from(!marking.doubts().is_empty());
    }

    fn data(&mut self, tell: &mut dyn FnMut(Step<'_>)) -> Result<(), CollectError> {
        for (name, digest, tags) in &self.manifests {
            tell(Step::EligibleManifest(name, digest, tags));
        }
        let (marked, linked, rules) = (&self.marked, &self.linked, self.rules);
        let condemned = found::data(self.remover.store, |data| {
            let is_used = marked.contains(&data.digest) || linked.contains(&data.digest);
            !is_used && rules.is_old(data.seen)
        })?;
        let repositories = self.remover.store.layout().repositories();
        if !condemned.is_empty() && !repositories.is_dir() {
            return Err(CollectError::NoRepositories(repositories.to_owned()));
        }
        tell(Step::Found(Eligible {
            marked: marked.len(),
            blobs: condemned.len(),
            manifests: self.manifests.len(),
        }));
        for data in &condemned {
            tell(Step::EligibleBlob(&data.digest));
        }
        for (name, digest) in &self.links {
            tell(Step::EligibleLink(name, digest));
        }
        let (blobs, bytes) = self.remover.data(condemned, tell)?;
        self.collected.blobs = blobs;
        self.collected.bytes = bytes;
        Ok(())
    }
}

#[cfg(test)]
#[path = "collect/tests.rs"]
mod tests;
