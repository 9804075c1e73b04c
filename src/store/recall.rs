//! What was read lately, and is still what the disk says.
//!
//! Files are the truth, and others write in the tree too: collections and imports beside the server,
//! Distribution, rsync, people. So nothing here is believed because this process has not changed it.
//! Each thing is kept with what its files were when they were read, down to the time of their last
//! change, and counts only if they are found the same: a few looks at the disk (`stat`) instead of
//! opening, reading, parsing and hashing. Where the files are not the same, they are read again.
//!
//! Two things need care. A file system's clock ticks: what is written in the same tick in which it
//! was read would look the same. So a thing counts only once it was read when its files had looked
//! so for a while ([`proof`]). And looks are not free: of those who ask at the same time, one looks
//! for all. A look proves for everybody who had asked before it began; see [`Moment`].

mod files;
mod proof;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;

use crate::oci::{Digest, RepositoryName, Tag};

use super::{Blob, Kind, Repository, Store, StoreError, StoredManifest, TagState, Trust, link};
use files::OpenFiles;
pub use proof::Moment;
use proof::{Kept, Proof};

/// How much is kept of manifests, in bytes, with what they are kept with.
const MANIFESTS: u64 = 16 << 20;

/// The same of tags, and of repositories.
const TAGS: u64 = 6 << 20;
const KINDS: u64 = 2 << 20;

/// What an entry takes beside its content: paths of some 200 bytes each, mostly.
const MANIFEST_ENTRY: usize = 1200;
const TAG_ENTRY: usize = 800;
const KIND_ENTRY: usize = 400;

/// A look at the disk that takes this long is one at a disk that hangs, or is behind a network.
const SLOW: Duration = Duration::from_millis(250);

/// How long looks are made where waiting is allowed after that.
const WARY: Duration = Duration::from_secs(10);

type Entries<K, V> = Cache<K, Arc<Kept<V>>>;

/// What is kept of one store.
#[derive(Debug)]
pub(super) struct Recall {
    manifests: Entries<(RepositoryName, Digest), Arc<StoredManifest>>,
    tags: Entries<(RepositoryName, Tag), TagState>,
    kinds: Entries<RepositoryName, Option<Kind>>,
    files: OpenFiles,
    started: Instant,
    /// Up to when the disk is taken for slow, in milliseconds since the start.
    wary_until: AtomicU64,
}

impl Default for Recall {
    fn default() -> Self {
        let weight = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            manifests: Cache::builder()
                .max_capacity(MANIFESTS)
                .weigher(move |_, kept: &Arc<Kept<Arc<StoredManifest>>>| {
                    weight(kept.value().bytes.len() + MANIFEST_ENTRY)
                })
                .build(),
            tags: Cache::builder()
                .max_capacity(TAGS)
                .weigher(move |_, _| weight(TAG_ENTRY))
                .build(),
            kinds: Cache::builder()
                .max_capacity(KINDS)
                .weigher(move |_, _| weight(KIND_ENTRY))
                .build(),
            files: OpenFiles::default(),
            started: Instant::now(),
            wary_until: AtomicU64::new(0),
        }
    }
}

impl Recall {
    /// What was read, if it still is what would be; takes note if the disk takes its time over a
    /// look.
    fn proven<'k, T>(&self, kept: &'k Kept<T>, since: Moment) -> Option<&'k T> {
        let proven = kept.proven_by_others(since);
        if proven.is_some() {
            return proven;
        }
        let began = Instant::now();
        let looked = kept.proven(since);
        if began.elapsed() > SLOW {
            let until = self.started.elapsed() + WARY;
            let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
            self.wary_until.store(until, Ordering::Relaxed);
        }
        looked
    }
}

impl Store {
    /// Whether the disk can be looked at where nobody may be kept waiting: what is kept was read not
    /// long ago, so that a look takes microseconds. A disk that hangs is found out by the first
    /// look; from then on it is looked at where waiting is allowed.
    pub fn looks_are_quick(&self) -> bool {
        let until = self.recall().wary_until.load(Ordering::Relaxed);
        until == 0 || self.recall().started.elapsed() > Duration::from_millis(until)
    }

    /// What is known to be at that name, as [`Store::kind_of`] says; from memory if it is there.
    pub fn kind_since(&self, name: &RepositoryName, since: Moment) -> Option<Kind> {
        let kinds = &self.recall().kinds;
        let before = kinds.get(name);
        if let Some(before) = &before
            && let Some(kind) = self.recall().proven(before, since)
        {
            return *kind;
        }
        let reading = Instant::now();
        let path = self.layout().repository(name);
        match Proof::of_directory(&path) {
            // Names are a client's to choose: what is not there is not kept.
            Ok(proof) if !proof.is_there() => None,
            Ok(proof) => {
                let kind = self.kind_of(name);
                let kept = Kept::new(vec![proof], before.as_deref(), reading, kind);
                kinds.insert(name.clone(), Arc::new(kept));
                kind
            }
            Err(_) => self.kind_of(name),
        }
    }

    /// Lets go of open files that were removed meanwhile, so that the disk gets their room back, and
    /// of those that nobody needs. To be called after a removal, and about every second.
    pub fn let_go(&self) {
        self.recall().files.let_go();
    }
}

impl Repository {
    /// A manifest, if it is in memory and what would be read now. A few looks at the disk at most.
    pub fn recalled_manifest(&self, digest: &Digest, since: Moment) -> Option<Arc<StoredManifest>> {
        let recall = self.store.recall();
        let kept = recall.manifests.get(&(self.name.clone(), digest.clone()))?;
        let manifest = recall.proven(&kept, since)?;
        Some(Arc::clone(manifest))
    }

    /// Reads a manifest as [`Repository::manifest`] does, and keeps it in memory.
    pub fn keep_manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<Arc<StoredManifest>>, StoreError> {
        let (layout, manifests) = (self.store.layout(), &self.store.recall().manifests);
        let key = (self.name.clone(), digest.clone());
        let reading = Instant::now();
        let mut proofs = vec![
            Proof::of(&layout.revision_link(&self.name, digest))?,
            Proof::of(&layout.revision_media_type(&self.name, digest))?,
        ];
        let Some(target) = link::read(proofs[0].path())? else {
            return Ok(None);
        };
        proofs.push(Proof::of(&layout.blob_data(&target))?);
        let Some(manifest) = self.manifest(digest)?.map(Arc::new) else {
            return Ok(None);
        };
        let before = manifests.get(&key);
        let kept = Kept::new(proofs, before.as_deref(), reading, Arc::clone(&manifest));
        manifests.insert(key, Arc::new(kept));
        Ok(Some(manifest))
    }

    /// What a tag names, if that is in memory and what would be read now.
    pub fn recalled_tag(&self, tag: &Tag, since: Moment) -> Option<TagState> {
        let recall = self.store.recall();
        let kept = recall.tags.get(&(self.name.clone(), tag.clone()))?;
        let state = recall.proven(&kept, since)?;
        Some(state.clone())
    }

    /// Reads what a tag names as [`Repository::tag_state`] does, and keeps it in memory. In a local
    /// repository nothing was ever checked.
    pub fn keep_tag(&self, tag: &Tag) -> Result<Option<TagState>, StoreError> {
        let (layout, tags) = (self.store.layout(), &self.store.recall().tags);
        let key = (self.name.clone(), tag.clone());
        let reading = Instant::now();
        let mut proofs = vec![Proof::of(&layout.tag_link(&self.name, tag))?];
        if self.kind() == Kind::Mirror {
            proofs.push(Proof::of(&layout.mirror_tag(&self.name, tag))?);
        }
        let Some(state) = self.tag_state(tag)? else {
            return Ok(None);
        };
        let before = tags.get(&key);
        let kept = Kept::new(proofs, before.as_deref(), reading, state.clone());
        tags.insert(key, Arc::new(kept));
        Ok(Some(state))
    }

    /// A blob, if it is open and what would be opened now, and how far it can be believed.
    pub fn recalled_blob(&self, digest: &Digest, since: Moment) -> Option<(Blob, Trust)> {
        let (recall, key) = (self.store.recall(), (self.name.clone(), digest.clone()));
        let kept = recall.files.asked_for(&key)?;
        let blob = recall.proven(&kept, since)?;
        let trust = blob.trust();
        // What cannot be read is absent, as when it is opened.
        (trust != Trust::Damaged).then(|| (blob.clone(), trust))
    }

    /// Opens a blob as [`Repository::blob`] does, and keeps it open for a while.
    pub fn keep_blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let (layout, files) = (self.store.layout(), &self.store.recall().files);
        let key = (self.name.clone(), digest.clone());
        let reading = Instant::now();
        let link = Proof::of(&layout.layer_link(&self.name, digest))?;
        let opened = match link::read(link.path())? {
            Some(target) => {
                let data = Proof::of(&layout.blob_data(&target))?;
                let opened = self.store.open_data(&target)?;
                opened.map(|blob| (vec![link, data], blob))
            }
            None => None,
        };
        let Some((proofs, blob)) = opened else {
            files.remove(&key);
            return Ok(None);
        };
        let before = files.get(&key);
        let kept = Kept::new(proofs, before.as_deref(), reading, blob.clone());
        files.insert(key, kept);
        Ok(Some(blob))
    }
}

#[cfg(test)]
mod tests;
