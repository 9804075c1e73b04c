//! A file that is being received: hashed while it grows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::{Algorithm, Digest, Hasher};

use super::blob::read_at;
use super::growing::Growing;
use super::{Blob, Context as _, StoreError, publish};

/// The bytes received so far, on disk, and their hash up to here.
///
/// Dropping it leaves the file: it may be continued later. [`Staged::discard`] removes it.
#[derive(Debug)]
pub struct Staged {
    growing: Growing,
    hashing: Hashing,
}

/// The hash of a staged file's first bytes, apart from the file: it may lag behind.
#[derive(Debug)]
pub struct Hashing {
    hasher: Hasher,
    hashed: u64,
}

impl Hashing {
    /// Takes in bytes that have been written.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += bytes.len() as u64;
    }
}

impl Staged {
    /// Opens `path`, made if it is not there, and hashes what it already holds.
    pub(super) fn resume(path: PathBuf, algorithm: Algorithm) -> Result<Self, StoreError> {
        let mut staged = Self {
            growing: Growing::open(path)?,
            hashing: Hashing {
                hasher: Hasher::new(algorithm),
                hashed: 0,
            },
        };
        staged.rehash(algorithm)?;
        Ok(staged)
    }

    /// Opens `path` whose first `written` bytes are already in `hasher`; bytes beyond are cut off.
    pub(super) fn reopen(path: PathBuf, hasher: Hasher, written: u64) -> Result<Self, StoreError> {
        let mut growing = Growing::open(path)?;
        if growing.written() > written {
            growing.truncate(written)?;
        }
        let hashing = Hashing {
            hasher,
            hashed: written,
        };
        Self::join(growing, hashing)
    }

    /// Takes it apart, so that bytes can be hashed while the next are written.
    pub fn split(self) -> (Growing, Hashing) {
        (self.growing, self.hashing)
    }

    /// Puts it together again. If not just what was written was hashed, the file is read.
    pub fn join(growing: Growing, hashing: Hashing) -> Result<Self, StoreError> {
        let is_whole = growing.written() == hashing.hashed;
        let algorithm = hashing.hasher.algorithm();
        let mut staged = Self { growing, hashing };
        if !is_whole {
            staged.rehash(algorithm)?;
        }
        Ok(staged)
    }

    pub(super) fn path(&self) -> &Path {
        self.growing.path()
    }

    /// How many bytes there are.
    pub fn written(&self) -> u64 {
        self.growing.written()
    }

    /// The file's growing content, for readers that keep their own offsets. `size` is what it
    /// will have in the end.
    pub fn reader(&self, size: u64) -> Blob {
        Blob::arriving(Arc::clone(self.growing.file()), size)
    }

    /// Adds bytes at the end: all of them, or none.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.growing.append(&[bytes])?;
        self.hashing.update(bytes);
        Ok(())
    }

    /// Whether the bytes are those that `digest` names. Reads them again if they were hashed with
    /// another algorithm so far.
    pub fn matches(&mut self, digest: &Digest) -> Result<bool, StoreError> {
        if self.hasher().algorithm() != digest.algorithm() {
            self.rehash(digest.algorithm())?;
        }
        Ok(self.hasher().clone().finish() == *digest)
    }

    /// The state of the hash, from which [`Staged::reopen`] goes on.
    pub(super) fn hasher(&self) -> &Hasher {
        &self.hashing.hasher
    }

    /// Starts over with an empty file.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.growing.truncate(0)?;
        self.hashing = Hashing {
            hasher: Hasher::new(self.hasher().algorithm()),
            hashed: 0,
        };
        Ok(())
    }

    /// Goes back to the first `length` bytes. A file that has been moved to its place is nobody's
    /// to cut any more.
    pub fn cut(&mut self, length: u64) -> Result<(), StoreError> {
        self.growing.cut(length)?;
        self.rehash(self.hasher().algorithm())
    }

    /// Makes the bytes durable. Once that has failed it fails for ever.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.growing.sync()
    }

    /// Removes the file. The directory goes too where nothing else is in it.
    pub fn discard(self) -> Result<(), StoreError> {
        let path = self.path();
        publish::remove_file(path)?;
        if let Some(parent) = path.parent() {
            publish::remove_if_empty(parent);
        }
        Ok(())
    }

    fn rehash(&mut self, algorithm: Algorithm) -> Result<(), StoreError> {
        let mut hashing = Hashing {
            hasher: Hasher::new(algorithm),
            hashed: 0,
        };
        loop {
            let read = read_at(self.growing.file(), hashing.hashed, PIECE);
            let bytes = read.context("read", self.path())?;
            if bytes.is_empty() {
                break;
            }
            hashing.update(&bytes);
        }
        self.growing.found(hashing.hashed);
        self.hashing = hashing;
        Ok(())
    }
}

/// How much is read at a time to be hashed.
const PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, UploadProgress};

    #[test]
    fn what_failed_once_is_never_called_good() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mut staged = store.stage_fill(&Digest::of(b"ab")).unwrap();
        staged.append(b"a").unwrap();
        staged.sync().unwrap();
        staged.growing.lose();
        assert!(matches!(staged.sync(), Err(StoreError::Failing(_))));
        assert!(staged.append(b"b").is_err());
    }

    #[test]
    fn a_file_that_has_been_moved_to_its_place_is_not_cut() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = Digest::of(b"ab");
        let mut staged = store.stage_fill(&digest).unwrap();
        staged.append(b"ab").unwrap();
        staged.cut(1).unwrap();
        assert_eq!(
            (staged.written(), staged.matches(&Digest::of(b"a")).unwrap()),
            (1, true)
        );
        staged.append(b"b").unwrap();
        let local = store.local(&"a".parse().unwrap());
        local.commit_blob(&staged, &digest).unwrap();
        assert!(staged.cut(0).is_err());
        assert_eq!(local.blob(&digest).unwrap().unwrap().size(), 2);
    }

    #[test]
    fn a_hash_that_lags_behind_its_file_is_made_good_from_the_file() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = Digest::of(b"abc");
        for hashed in ["", "b", "bc"] {
            let mut staged = store.stage_fill(&digest).unwrap();
            staged.restart().unwrap();
            staged.append(b"a").unwrap();
            let (mut growing, mut hashing) = staged.split();
            growing.append(&["b", "c"]).unwrap();
            hashing.update(hashed.as_bytes());
            let mut staged = Staged::join(growing, hashing).unwrap();
            assert_eq!(staged.written(), 3);
            assert!(staged.matches(&digest).unwrap(), "{hashed:?} was hashed");
            // The next request goes on from here.
            let UploadProgress { hasher, written } = staged.progress();
            let reopened = Staged::reopen(staged.path().to_owned(), hasher, written);
            assert!(reopened.unwrap().matches(&digest).unwrap());
        }
    }
}
