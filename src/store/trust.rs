//! Which stored data is known to be what its digest says.
//!
//! Disks flip bits, and others write in the tree. Data is hashed when it is first served after a
//! start or after its file changed; what came of it is remembered here, in memory only.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::oci::{Digest, Hasher};

use super::publish::is_absent;
use super::{Blob, Context as _, Store, StoreError, is_exhaustion, publish};

/// How many verdicts are remembered: some 20 MB. One that is forgotten costs hashing once more.
const REMEMBERED: u64 = 100_000;

/// How much is hashed in one step, in bytes.
const STEP: usize = 8 << 20;

/// How much is read at a time, in bytes.
const READ: usize = 1 << 20;

/// How far stored bytes can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// This process has hashed them, or has written them after hashing them.
    Verified,
    /// Nobody has looked since the start, or since the file changed.
    Unverified,
    /// They were found damaged or unreadable, or have another size than when they were right.
    Damaged,
}

/// What a file was when it was looked at: whoever writes to it or replaces it changes this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }

    /// The same of what is at a path now, whatever it is.
    pub(super) fn at(path: &Path) -> Result<Option<Self>, StoreError> {
        match path.symlink_metadata() {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).context("look at", path),
        }
    }
}

/// The verdicts of this process, by digest.
#[derive(Debug)]
pub(super) struct Verdicts(Cache<Digest, (Stamp, Trust)>);

impl Default for Verdicts {
    fn default() -> Self {
        let cache = Cache::builder().max_capacity(REMEMBERED);
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }
}

impl Verdicts {
    /// What is known of data that looks like this now.
    pub(super) fn of(&self, digest: &Digest, stamp: Stamp) -> Trust {
        match self.0.get(digest) {
            Some((known, trust)) if known == stamp => trust,
            // A digest has one size.
            Some((known, Trust::Verified)) if known.size != stamp.size => Trust::Damaged,
            _ => Trust::Unverified,
        }
    }

    /// Whether data that looks like this was found to be of no use.
    pub(super) fn is_bad(&self, digest: &Digest, stamp: Stamp) -> bool {
        self.0.get(digest) == Some((stamp, Trust::Damaged))
    }

    pub(super) fn note(&self, digest: &Digest, stamp: Stamp, trust: Trust) {
        self.0.insert(digest.clone(), (stamp, trust));
    }

    /// Something changed a file's times, and nothing else.
    fn moved(&self, digest: &Digest, before: Stamp, after: Stamp) {
        if let Some((known, trust)) = self.0.get(digest)
            && known == before
            && (before.inode, before.size) == (after.inode, after.size)
        {
            self.note(digest, after, trust);
        }
    }
}

impl Store {
    /// Sets the times of data to now, and says whether there is any. It is as well known as before.
    pub(super) fn touch_data(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.layout().blob_data(digest);
        let before = Stamp::at(&path)?;
        let touched = publish::touch(&path)?;
        if let (Some(before), Some(after)) = (before, Stamp::at(&path)?) {
            self.verdicts().moved(digest, before, after);
        }
        Ok(touched)
    }

    /// Takes note that what was just put in place has been verified.
    pub(super) fn trust_data(&self, digest: &Digest) {
        // Where it cannot be looked at it is only hashed once more.
        if let Ok(Some(stamp)) = Stamp::at(&self.layout().blob_data(digest)) {
            self.verdicts().note(digest, stamp, Trust::Verified);
        }
    }
}

/// What came of hashing stored data.
#[derive(Debug)]
pub enum Verdict {
    /// It is what its digest says.
    Sound,
    /// It is something else.
    Damaged,
    /// The disk does not give it back.
    Unreadable(io::Error),
}

/// Stored data that is being hashed, step by step.
pub struct Check {
    blob: Blob,
    hasher: Hasher,
    offset: u64,
}

impl Check {
    /// A check that has not begun; `None` of what is not stored data.
    pub fn of(blob: &Blob) -> Option<Self> {
        let hasher = Hasher::new(blob.stored()?.digest.algorithm());
        let (blob, offset) = (blob.clone(), 0);
        Some(Self {
            blob,
            hasher,
            offset,
        })
    }

    /// Goes on for a while, and says what came of it when it is through. The store takes note.
    pub fn step(&mut self) -> Option<Verdict> {
        let until = self.offset + STEP as u64;
        while self.offset < until {
            match self.blob.read_at(self.offset, READ) {
                Ok(bytes) if bytes.is_empty() => return Some(self.verdict()),
                Ok(bytes) => {
                    self.hasher.update(&bytes);
                    self.offset += bytes.len() as u64;
                }
                Err(error) => {
                    if !is_exhaustion(&error) {
                        self.blob.distrust();
                    }
                    return Some(Verdict::Unreadable(error));
                }
            }
        }
        None
    }

    fn verdict(&self) -> Verdict {
        let digest = self.blob.stored().map(|stored| &stored.digest);
        if Some(&self.hasher.clone().finish()) == digest && self.offset == self.blob.size() {
            self.blob.note(Trust::Verified);
            Verdict::Sound
        } else {
            self.blob.distrust();
            Verdict::Damaged
        }
    }

    /// All of it at once. Takes as long as reading the data does.
    pub fn run(mut self) -> Verdict {
        loop {
            if let Some(verdict) = self.step() {
                return verdict;
            }
        }
    }
}
