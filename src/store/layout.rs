//! Where everything is. Every path of the tree is built here and nowhere else.
//!
//! ```text
//! <root>/larder.lock                                   who serves this directory
//! <root>/larder.hold, .turn, .collect                  empty: locks, see `hold`
//! <root>/larder.offline                                empty: no upstream is asked
//! <root>/larder.upstreams                              what is known of the upstreams: a hint
//! <root>/larder.clock                                  what the age clock said last, see `usage`
//! <root>/larder.evicting                               what is being evicted, see `usage`
//! <root>/larder.beside                                 touched by those who link beside a server
//! <root>/scheduler-state.json                          what an old pull-through cache knew, see `adopt`
//! <root>/scheduler-state.json.adopted                  the same, when its repositories are mirrors
//! <root>/docker/registry/v2/
//!   blobs/<alg>/<2 hex>/<hex>/data                     a blob's or a manifest's bytes
//!   blobs/<alg>/<2 hex>/<hex>/fill                     the same, while they arrive from an upstream
//!   blobs/<alg>/<2 hex>/<hex>/damaged.<id>             what was `data` once, and is not what it should be
//!   blobs/<alg>/<2 hex>/<hex>/data.<uuid>.tmp          the same, while they arrive from a bundle
//!   repositories/<name>/
//!     _layers/<alg>/<hex>/link                         this repository has that blob
//!     _manifests/revisions/<alg>/<hex>/link            this repository has that manifest
//!     _manifests/revisions/<alg>/<hex>/mediatype       served as, where the bytes do not tell
//!     _manifests/tags/<tag>/current/link               what the tag names
//!     _manifests/tags/<tag>/index/<alg>/<hex>/link     what the tag ever named
//!     _uploads/<id>/data, startedat                    a push that is under way
//!     _uploads/<id>/owner                              the digest of the name of who started it
//!     _mirror/                                         this repository is a mirror
//!     _mirror/tags/<tag>                               when the tag was last checked upstream
//!     _mirror/referrers/<alg>/<hex>                    what the upstream last said refers to it
//!     _mirror/used/<alg>/<hex>                         when the manifest was last pulled
//!     _mirror/pins/<tag>                               empty: what the tag names is not evicted
//!     _mirror/holds/<tag>                              the digest at which the tag stays
//! ```
//!
//! All but `larder.*`, `fill`, `damaged.*`, `mediatype`, `owner` and `_mirror` is Distribution's layout, and its
//! walkers pass over these: it ignores unknown files in the directory of a revision, a blob or an
//! upload, and directories of a repository that begin with an underscore.
//!
//! Names, tags and digests are safe path steps by their types; upload ids by theirs.

use std::path::{Path, PathBuf};

use crate::oci::{Digest, RepositoryName, Tag};

use super::upload::UploadId;

/// Begins the name of data that was put aside.
pub(super) const DAMAGED: &str = "damaged.";

/// The paths under one root.
#[derive(Debug)]
pub(super) struct Layout {
    blobs: PathBuf,
    repositories: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        let base = root.join("docker/registry/v2");
        Self {
            blobs: base.join("blobs"),
            repositories: base.join("repositories"),
        }
    }

    pub(super) fn lock(root: &Path) -> PathBuf {
        root.join("larder.lock")
    }

    pub(super) fn hold(root: &Path) -> PathBuf {
        root.join("larder.hold")
    }

    pub(super) fn turn(root: &Path) -> PathBuf {
        root.join("larder.turn")
    }

    pub(super) fn collect(root: &Path) -> PathBuf {
        root.join("larder.collect")
    }

    pub(super) fn offline(root: &Path) -> PathBuf {
        root.join("larder.offline")
    }

    pub(super) fn upstreams(root: &Path) -> PathBuf {
        root.join("larder.upstreams")
    }

    /// How the clock by which uses are told goes with the wall's: a hint.
    pub(super) fn clock(root: &Path) -> PathBuf {
        root.join("larder.clock")
    }

    /// What Distribution, run as a pull-through cache, knows of what it has fetched.
    pub(super) fn scheduler_state(root: &Path) -> PathBuf {
        root.join("scheduler-state.json")
    }

    pub(super) fn scheduler_state_adopted(root: &Path) -> PathBuf {
        root.join("scheduler-state.json.adopted")
    }

    pub(super) fn evicting(root: &Path) -> PathBuf {
        root.join("larder.evicting")
    }

    pub(super) fn beside(root: &Path) -> PathBuf {
        root.join("larder.beside")
    }

    pub(super) fn blobs(&self) -> &Path {
        &self.blobs
    }

    pub(super) fn repositories(&self) -> &Path {
        &self.repositories
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.blobs.join(digest.algorithm().as_str());
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    pub(super) fn blob_data(&self, digest: &Digest) -> PathBuf {
        self.blob(digest).join("data")
    }

    pub(super) fn blob_fill(&self, digest: &Digest) -> PathBuf {
        self.blob(digest).join("fill")
    }

    /// A name of its own for each time that data is put aside.
    pub(super) fn blob_damaged(&self, digest: &Digest) -> PathBuf {
        let id = uuid::Uuid::now_v7();
        self.blob(digest).join(format!("{DAMAGED}{id}"))
    }

    /// A place of its own for each who brings it, named as what [`publish`](super::publish) stages.
    pub(super) fn blob_brought(&self, digest: &Digest) -> PathBuf {
        let name = format!("data.{}{}", uuid::Uuid::now_v7(), super::publish::TEMPORARY);
        self.blob(digest).join(name)
    }

    pub(super) fn repository(&self, name: &RepositoryName) -> PathBuf {
        self.repositories.join(name.as_str())
    }

    pub(super) fn layers(&self, name: &RepositoryName) -> PathBuf {
        self.repository(name).join("_layers")
    }

    pub(super) fn layer_link(&self, name: &RepositoryName, digest: &Digest) -> PathBuf {
        link_in(self.layers(name), digest)
    }

    pub(super) fn manifests(&self, name: &RepositoryName) -> PathBuf {
        self.repository(name).join("_manifests")
    }

    pub(super) fn revisions(&self, name: &RepositoryName) -> PathBuf {
        self.manifests(name).join("revisions")
    }

    pub(super) fn revision_link(&self, name: &RepositoryName, digest: &Digest) -> PathBuf {
        link_in(self.revisions(name), digest)
    }

    pub(super) fn revision_media_type(&self, name: &RepositoryName, digest: &Digest) -> PathBuf {
        self.revision_link(name, digest).with_file_name("mediatype")
    }

    pub(super) fn tags(&self, name: &RepositoryName) -> PathBuf {
        self.manifests(name).join("tags")
    }

    pub(super) fn tag(&self, name: &RepositoryName, tag: &Tag) -> PathBuf {
        self.tags(name).join(tag.as_str())
    }

    pub(super) fn tag_link(&self, name: &RepositoryName, tag: &Tag) -> PathBuf {
        self.tag(name, tag).join("current/link")
    }

    pub(super) fn tag_history(&self, name: &RepositoryName, tag: &Tag, digest: &Digest) -> PathBuf {
        link_in(self.tag(name, tag).join("index"), digest)
    }

    pub(super) fn uploads(&self, name: &RepositoryName) -> PathBuf {
        self.repository(name).join("_uploads")
    }

    pub(super) fn upload(&self, name: &RepositoryName, id: &UploadId) -> PathBuf {
        self.uploads(name).join(id.as_str())
    }

    pub(super) fn mirror_marker(&self, name: &RepositoryName) -> PathBuf {
        self.repository(name).join("_mirror")
    }

    pub(super) fn mirror_tag(&self, name: &RepositoryName, tag: &Tag) -> PathBuf {
        let mut path = self.mirror_marker(name);
        path.push("tags");
        path.push(tag.as_str());
        path
    }

    pub(super) fn mirror_pins(&self, name: &RepositoryName) -> PathBuf {
        self.mirror_marker(name).join("pins")
    }

    pub(super) fn mirror_pin(&self, name: &RepositoryName, tag: &Tag) -> PathBuf {
        self.mirror_pins(name).join(tag.as_str())
    }

    pub(super) fn mirror_holds(&self, name: &RepositoryName) -> PathBuf {
        self.mirror_marker(name).join("holds")
    }

    pub(super) fn mirror_hold(&self, name: &RepositoryName, tag: &Tag) -> PathBuf {
        self.mirror_holds(name).join(tag.as_str())
    }

    pub(super) fn mirror_referrers(&self, name: &RepositoryName, subject: &Digest) -> PathBuf {
        let mut path = self.mirror_marker(name);
        path.push("referrers");
        path.push(subject.algorithm().as_str());
        path.push(subject.hex());
        path
    }

    pub(super) fn mirror_used(&self, name: &RepositoryName, manifest: &Digest) -> PathBuf {
        let mut path = self.mirror_marker(name);
        path.push("used");
        path.push(manifest.algorithm().as_str());
        path.push(manifest.hex());
        path
    }
}

/// Where a repository's links are, below its directory. A collection finds repositories by their
/// directories: some have names that nobody could ask for, and what they link is theirs too.
pub(super) mod inside {
    use std::path::{Path, PathBuf};

    pub(in crate::store) fn uploads(repository: &Path) -> PathBuf {
        repository.join("_uploads")
    }

    pub(in crate::store) fn layers(repository: &Path) -> PathBuf {
        repository.join("_layers")
    }

    pub(in crate::store) fn mirror_marker(repository: &Path) -> PathBuf {
        repository.join("_mirror")
    }

    pub(in crate::store) fn manifests(repository: &Path) -> PathBuf {
        repository.join("_manifests")
    }

    pub(in crate::store) fn revisions(repository: &Path) -> PathBuf {
        manifests(repository).join("revisions")
    }

    pub(in crate::store) fn tags(repository: &Path) -> PathBuf {
        manifests(repository).join("tags")
    }

    /// What a tag of that name names, and below its sibling `index` what it ever named.
    pub(in crate::store) fn current(tag: &Path) -> PathBuf {
        tag.join("current/link")
    }

    pub(in crate::store) fn history(tag: &Path) -> PathBuf {
        tag.join("index")
    }
}

pub(super) fn link_in(mut directory: PathBuf, digest: &Digest) -> PathBuf {
    directory.push(digest.algorithm().as_str());
    directory.push(digest.hex());
    directory.push("link");
    directory
}
