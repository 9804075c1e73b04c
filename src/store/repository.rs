//! What one repository has: its blobs, manifests and tags, each by a link.
//!
//! The order is: data first, then the link that makes it visible, then the tag that names it. A
//! crash in between leaves something unreachable, never something that is missing.
//!
//! Every link is told to the journal before it is written: who keeps account of them may know of
//! one that did not come about, but never lacks one that did.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::oci::manifest::{MAX_SIZE, Need, media_type_of};
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

use super::changes::Change;
use super::hold::Shared;
use super::listing::Wanted;
use super::{Blob, Context as _, Staged, Store, StoreError, file, link, publish};

/// Whose content a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What somebody pushed.
    Local,
    /// What was filled from an upstream.
    Mirror,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Mirror => "mirror",
        })
    }
}

/// A repository of the tree. Cheap to clone; it exists as soon as something is put into it.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(super) store: Store,
    pub(super) name: RepositoryName,
    kind: Kind,
}

/// A manifest as it is stored: byte for byte what was pushed or mirrored.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// The name it was asked for by.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: MediaType,
    /// The bytes.
    pub bytes: Bytes,
    /// What those who serve it have made of it.
    pub prepared: Prepared,
}

impl StoredManifest {
    /// A manifest as it is stored, or is about to be.
    pub fn new(digest: Digest, media_type: MediaType, bytes: Bytes) -> Self {
        let prepared = Prepared::default();
        Self {
            digest,
            media_type,
            bytes,
            prepared,
        }
    }
}

/// Something that is made once, by whoever has a use for it, and kept with what it is made of.
#[derive(Clone, Default)]
pub struct Prepared(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

impl Prepared {
    /// What was made, or is made now. `None` where somebody else has made something else of it.
    pub fn get<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        let kept = self.0.get_or_init(|| Box::new(make()));
        kept.downcast_ref()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

/// A manifest that somebody pushes, with what has to be true when it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// Its digest, against which `bytes` have been verified.
    pub digest: &'a Digest,
    /// What it is to be served as.
    pub media_type: &'a MediaType,
    /// The bytes.
    pub bytes: &'a [u8],
    /// What must be in the repository.
    pub needs: &'a [Need],
    /// What it is attached to, which may be missing.
    pub subject: Option<&'a Digest>,
    /// The tags that are to name it.
    pub tags: &'a [Tag],
}

/// How long a question waits for a collection; it can be answered without having waited.
const SHORTLY: Duration = Duration::from_millis(500);

impl Repository {
    pub(super) fn new(store: Store, name: RepositoryName, kind: Kind) -> Self {
        Self { store, name, kind }
    }

    /// The name of its directory.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Local or mirror.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Opens a blob that this repository links.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        match link::read(&self.store.layout().layer_link(&self.name, digest))? {
            // Distribution links a sha512 to the sha256 it stores under: the link decides.
            Some(target) => self.store.open_data(&target),
            None => Ok(None),
        }
    }

    /// Whether the data of a blob is stored under its own name, and not only under another hash.
    pub fn has_data(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.store.has_data(digest)
    }

    /// Whether this repository has a manifest, without reading it.
    pub fn has_manifest(&self, digest: &Digest) -> Result<bool, StoreError> {
        match link::read(&self.store.layout().revision_link(&self.name, digest))? {
            Some(target) => self.store.has_data(&target),
            None => Ok(false),
        }
    }

    /// Reads a manifest that this repository links.
    ///
    /// The bytes are checked: a manifest is small, and clients that pull by tag trust it blindly.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<StoredManifest>, StoreError> {
        let layout = self.store.layout();
        let Some(target) = link::read(&layout.revision_link(&self.name, digest))? else {
            return Ok(None);
        };
        let Some(blob) = self.store.open_data(&target)? else {
            return Ok(None);
        };
        let path = layout.blob_data(&target);
        let size = usize::try_from(blob.size()).unwrap_or(usize::MAX);
        if size > MAX_SIZE {
            tracing::warn!(repository = %self.name, %digest, "linked as a manifest, but too large for one");
            return Ok(None);
        }
        let bytes = blob.read_at(0, size).context("read", &path)?;
        if !target.matches(&bytes) {
            return Err(StoreError::Damaged(blob));
        }
        let stored_type = file::read(&layout.revision_media_type(&self.name, digest), 1024)?;
        let stored_type = stored_type.and_then(|text| str::from_utf8(&text).ok()?.parse().ok());
        match media_type_of(&bytes, stored_type.as_ref()) {
            Ok(media_type) => {
                let manifest = StoredManifest::new(digest.clone(), media_type, bytes.into());
                Ok(Some(manifest))
            }
            Err(error) => {
                tracing::warn!(repository = %self.name, %digest, %error, "linked as a manifest, but is none");
                Ok(None)
            }
        }
    }

    /// What a tag names.
    pub fn tag(&self, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        link::read(&self.store.layout().tag_link(&self.name, tag))
    }

    /// When a tag was last made to name something, as far as the file system tells.
    pub fn tagged_at(&self, tag: &Tag) -> Option<SystemTime> {
        let path = self.store.layout().tag_link(&self.name, tag);
        path.symlink_metadata()
            .and_then(|link| link.modified())
            .ok()
    }

    /// All tags that name something, in byte order; `None` where the repository is unknown.
    pub fn tags(&self) -> Result<Option<Vec<Tag>>, StoreError> {
        self.tags_after(None, usize::MAX)
    }

    /// At most `limit` of them that come after `last`. Only these are looked into.
    pub fn tags_after(
        &self,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, StoreError> {
        let layout = self.store.layout();
        if !layout.manifests(&self.name).is_dir() {
            return Ok(None);
        }
        let directory = layout.tags(&self.name);
        let names = self.store.listings().of(&directory, Wanted::Entries)?;
        let mut tags = Vec::new();
        for name in names.from(last).filter(|name| Some(*name) != last) {
            if tags.len() >= limit {
                break;
            }
            let Ok(tag) = name.parse::<Tag>() else {
                continue;
            };
            if self.tag(&tag)?.is_some() {
                tags.push(tag);
            }
        }
        Ok(Some(tags))
    }

    /// Opens a blob that this repository links, for somebody who will rely on its being here, and
    /// not send it.
    ///
    /// It counts as just pushed from then on, as far as that can be noted.
    pub fn rely_on_blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        if let Ok(held) = self.store.holds().shared_within(SHORTLY)
            && let Err(error) = self.rely_on(&Need::Blob(digest.clone()), &held)
        {
            tracing::debug!(repository = %self.name, %digest, %error, "asked for, but not touched");
        }
        self.blob(digest)
    }

    /// The same for a manifest.
    pub fn rely_on_manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<Arc<StoredManifest>>, StoreError> {
        if let Ok(held) = self.store.holds().shared_within(SHORTLY)
            && let Err(error) = self.rely_on(&Need::Manifest(digest.clone()), &held)
        {
            tracing::debug!(repository = %self.name, %digest, %error, "asked for, but not touched");
        }
        Ok(self.manifest(digest)?.map(Arc::new))
    }

    /// Takes note that something of this repository is relied on from now on: its link and its
    /// data are touched. Says whether both are here.
    pub(super) fn rely_on(&self, need: &Need, held: &Shared) -> Result<bool, StoreError> {
        let layout = self.store.layout();
        let path = match need {
            Need::Blob(digest) => layout.layer_link(&self.name, digest),
            Need::Manifest(digest) => layout.revision_link(&self.name, digest),
        };
        match link::read(&path)? {
            Some(target) => Ok(publish::touch(&path)? && self.store.rely_on_data(&target, held)?),
            None => Ok(false),
        }
    }

    /// Makes a received and verified blob this repository's.
    pub fn commit_blob(&self, staged: &Staged, digest: &Digest) -> Result<(), StoreError> {
        // The disk's time is not spent with a hold.
        staged.sync()?;
        let held = self.store.holds().shared()?;
        self.claim()?;
        self.store.commit(staged, digest, &held)?;
        let journal = self.store.journal();
        journal.layer(&self.name, self.kind, digest, staged.written());
        link::write(&self.layer_link(digest), digest, &held)?;
        self.store.changed(&self.name, Change::Added);
        Ok(())
    }

    /// Makes a blob whose data is already stored this repository's too. The caller has made sure
    /// that whoever asks may have it. `false` means that the data is not here (any more).
    pub fn link_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        let held = self.store.holds().shared()?;
        if !self.store.rely_on_data(digest, &held)? {
            return Ok(false);
        }
        self.claim()?;
        let size = self.store.open_data(digest)?.map_or(0, |blob| blob.size());
        let journal = self.store.journal();
        journal.layer(&self.name, self.kind, digest, size);
        link::write(&self.layer_link(digest), digest, &held)?;
        self.store.changed(&self.name, Change::Added);
        Ok(true)
    }

    /// Stores what somebody pushes, and points its tags at it. What it needs and does not find
    /// here is returned; then nothing was stored.
    ///
    /// All of it is one step for a collection: what was there when it was looked for is there when
    /// the push is acknowledged.
    pub fn push_manifest(&self, push: &Push<'_>) -> Result<Vec<Digest>, StoreError> {
        let held = self.store.holds().shared()?;
        let mut missing = Vec::new();
        for need in push.needs {
            if !self.rely_on(need, &held)? {
                let (Need::Blob(digest) | Need::Manifest(digest)) = need;
                missing.push(digest.clone());
            }
        }
        if !missing.is_empty() {
            return Ok(missing);
        }
        if let Some(subject) = push.subject {
            self.rely_on(&Need::Manifest(subject.clone()), &held)?;
        }
        self.store_manifest(push.digest, push.media_type, push.bytes, &held)?;
        for tag in push.tags {
            self.point_tag(tag, push.digest, &held)?;
        }
        Ok(missing)
    }

    /// Stores a manifest under its digest, whatever of what it names is here. `bytes` have been
    /// verified against it.
    pub fn put_manifest(
        &self,
        digest: &Digest,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let held = self.store.holds().shared()?;
        self.store_manifest(digest, media_type, bytes, &held)
    }

    fn store_manifest(
        &self,
        digest: &Digest,
        media_type: &MediaType,
        bytes: &[u8],
        held: &Shared,
    ) -> Result<(), StoreError> {
        self.claim()?;
        let layout = self.store.layout();
        self.store.put_data(digest, bytes, held)?;
        // Only what the bytes do not say themselves is written beside them.
        if media_type_of(bytes, None).ok().as_ref() != Some(media_type) {
            let path = layout.revision_media_type(&self.name, digest);
            publish::write_file(&path, media_type.as_str().as_bytes())?;
        }
        let journal = self.store.journal();
        journal.manifest(&self.name, self.kind, digest, bytes);
        link::write(&layout.revision_link(&self.name, digest), digest, held)?;
        self.store.changed(&self.name, Change::Added);
        Ok(())
    }

    /// Points a tag at a manifest that is already stored. The last writer wins, whole.
    pub fn put_tag(&self, tag: &Tag, digest: &Digest) -> Result<(), StoreError> {
        let held = self.store.holds().shared()?;
        self.rely_on(&Need::Manifest(digest.clone()), &held)?;
        self.point_tag(tag, digest, &held)
    }

    fn point_tag(&self, tag: &Tag, digest: &Digest, held: &Shared) -> Result<(), StoreError> {
        self.claim()?;
        let layout = self.store.layout();
        link::write(&layout.tag_history(&self.name, tag, digest), digest, held)?;
        let journal = self.store.journal();
        journal.tag(&self.name, self.kind, tag, digest);
        link::write(&layout.tag_link(&self.name, tag), digest, held)?;
        self.store.changed(&self.name, Change::Added);
        Ok(())
    }

    fn layer_link(&self, digest: &Digest) -> PathBuf {
        self.store.layout().layer_link(&self.name, digest)
    }

    /// Removes a tag; the manifest stays. Says whether there was one.
    pub fn delete_tag(&self, tag: &Tag) -> Result<bool, StoreError> {
        if self.tag(tag)?.is_none() {
            return Ok(false);
        }
        let removed = publish::remove_tree(&self.store.layout().tag(&self.name, tag));
        self.store.changed(&self.name, Change::Added);
        removed
    }

    /// Removes a manifest and every tag that names it. Says which tags those were; `None` where
    /// there was no such manifest.
    pub fn delete_manifest(&self, digest: &Digest) -> Result<Option<Vec<Tag>>, StoreError> {
        let mut removed = Vec::new();
        for tag in self.tags()?.unwrap_or_default() {
            // Read again just before: a tag that has moved on meanwhile stays.
            if self.tag(&tag)?.as_ref() == Some(digest) {
                publish::remove_tree(&self.store.layout().tag(&self.name, &tag))?;
                removed.push(tag);
            }
        }
        let layout = self.store.layout();
        publish::remove_file(&layout.revision_media_type(&self.name, digest))?;
        let was_there = publish::remove_file(&layout.revision_link(&self.name, digest))?;
        self.store.changed(&self.name, Change::Removed);
        Ok(was_there.then_some(removed))
    }

    /// Removes a blob from this repository; others that link it keep it. Says whether it had it.
    pub fn delete_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.store.layout().layer_link(&self.name, digest);
        let linked = link::read(&path)?.is_some();
        let removed = publish::remove_file(&path)?;
        self.store.changed(&self.name, Change::Removed);
        Ok(removed && linked)
    }

    /// Makes sure that what is about to be linked is of this repository's kind.
    ///
    /// The marker of a mirror is durable before its first link, so that no crash turns mirrored
    /// content into local content or the reverse.
    pub(super) fn claim(&self) -> Result<(), StoreError> {
        match (self.kind, self.store.kind_of(&self.name)) {
            (Kind::Local, None | Some(Kind::Local)) | (Kind::Mirror, Some(Kind::Mirror)) => Ok(()),
            (Kind::Mirror, None) => {
                publish::create_dir_all(&self.store.layout().mirror_marker(&self.name))
            }
            (Kind::Local, Some(Kind::Mirror)) | (Kind::Mirror, Some(Kind::Local)) => {
                Err(StoreError::WrongKind(self.name.clone(), self.kind))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn a_mirror_is_never_taken_for_local_while_its_first_blobs_come() {
        const AT_ONCE: usize = 4;
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digests = [b"1", b"2", b"3", b"4"].map(|bytes| {
            let digest = Digest::of(bytes);
            let mut staged = store.stage_fill(&digest).unwrap();
            staged.append(bytes).unwrap();
            let other = store.mirror(&"docker.io/library/other".parse().unwrap());
            other.commit_blob(&staged, &digest).unwrap();
            digest
        });
        for round in 0..300 {
            let name = format!("docker.io/library/app{round}").parse().unwrap();
            let (mirror, barrier) = (store.mirror(&name), Barrier::new(AT_ONCE));
            thread::scope(|threads| {
                for digest in &digests {
                    threads.spawn(|| {
                        barrier.wait();
                        assert!(mirror.link_blob(digest).unwrap());
                    });
                }
            });
        }
    }
}
