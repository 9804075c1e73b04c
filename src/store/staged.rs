//! A file that is being received: hashed while it grows.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::oci::{Algorithm, Digest, Hasher};

use super::blob::read_at;
use super::trust::Stamp;
use super::{Blob, Context as _, StoreError, publish};

/// The bytes received so far, on disk, and their hash up to here.
///
/// Dropping it leaves the file: it may be continued later. [`Staged::discard`] removes it.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    file: Arc<File>,
    hasher: Hasher,
    written: u64,
    /// The file is not what it should be. A sync has failed: the kernel may have dropped what was
    /// written, and a second sync would report a success that never was. Or half of a failed write
    /// is in it.
    is_lost: AtomicBool,
}

impl Staged {
    /// Opens `path`, made if it is not there, and hashes what it already holds.
    pub(super) fn resume(path: PathBuf, algorithm: Algorithm) -> Result<Self, StoreError> {
        let file = publish::open_staged(&path)?;
        let mut staged = Self {
            path,
            file: Arc::new(file),
            hasher: Hasher::new(algorithm),
            written: 0,
            is_lost: AtomicBool::new(false),
        };
        staged.rehash(algorithm)?;
        Ok(staged)
    }

    /// Opens `path` whose first `written` bytes are already in `hasher`; bytes beyond are cut off.
    pub(super) fn reopen(path: PathBuf, hasher: Hasher, written: u64) -> Result<Self, StoreError> {
        let file = publish::open_staged(&path)?;
        let length = file.metadata().context("look at", &path)?.len();
        if length < written {
            drop(file);
            return Self::resume(path, hasher.algorithm());
        }
        if length > written {
            file.set_len(written).context("cut", &path)?;
        }
        Ok(Self {
            path,
            file: Arc::new(file),
            hasher,
            written,
            is_lost: AtomicBool::new(false),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes there are.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The file's growing content, for readers that keep their own offsets. `size` is what it
    /// will have in the end.
    pub fn reader(&self, size: u64) -> Blob {
        Blob::arriving(Arc::clone(&self.file), size)
    }

    /// Adds bytes at the end: all of them, or none.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(lost()).context("write", &self.path);
        }
        if let Err(error) = (&*self.file).write_all(bytes) {
            // A part of them may be there, and what is written next would come behind it.
            let cut = self.file.set_len(self.written);
            self.is_lost.store(cut.is_err(), Ordering::Relaxed);
            return Err(error).context("write", &self.path);
        }
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Whether the bytes are those that `digest` names. Reads them again if they were hashed with
    /// another algorithm so far.
    pub fn matches(&mut self, digest: &Digest) -> Result<bool, StoreError> {
        if self.hasher.algorithm() != digest.algorithm() {
            self.rehash(digest.algorithm())?;
        }
        Ok(self.hasher.clone().finish() == *digest)
    }

    /// The state of the hash, from which [`Staged::reopen`] goes on.
    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Starts over with an empty file.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).context("cut", &self.path)?;
        self.hasher = Hasher::new(self.hasher.algorithm());
        self.written = 0;
        Ok(())
    }

    /// Goes back to the first `length` bytes. A file that has been moved to its place is nobody's
    /// to cut any more.
    pub fn cut(&mut self, length: u64) -> Result<(), StoreError> {
        let open = self.file.metadata().context("look at", &self.path)?;
        if Stamp::at(&self.path)? != Some(Stamp::of(&open)) {
            let moved = io::ErrorKind::NotFound.into();
            return Err(moved).context("cut", &self.path);
        }
        self.file.set_len(length).context("cut", &self.path)?;
        self.rehash(self.hasher.algorithm())
    }

    /// Makes the bytes durable. Once that has failed it fails for ever.
    pub fn sync(&self) -> Result<(), StoreError> {
        let synced = if self.is_lost.load(Ordering::Relaxed) {
            Err(lost())
        } else {
            self.file.sync_all()
        };
        synced
            .inspect_err(|_| self.is_lost.store(true, Ordering::Relaxed))
            .context("sync", &self.path)
    }

    /// Removes the file. The directory goes too where nothing else is in it.
    pub fn discard(self) -> Result<(), StoreError> {
        publish::remove_file(&self.path)?;
        if let Some(parent) = self.path.parent() {
            publish::remove_if_empty(parent);
        }
        Ok(())
    }

    fn rehash(&mut self, algorithm: Algorithm) -> Result<(), StoreError> {
        let mut hasher = Hasher::new(algorithm);
        let mut offset = 0;
        loop {
            let bytes = read_at(&self.file, offset, 1 << 20).context("read", &self.path)?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(&bytes);
            offset += bytes.len() as u64;
        }
        self.hasher = hasher;
        self.written = offset;
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::other("an earlier write or sync has failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn what_failed_once_is_never_called_good() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mut staged = store.stage_fill(&Digest::of(b"ab")).unwrap();
        staged.append(b"a").unwrap();
        staged.sync().unwrap();
        staged.is_lost.store(true, Ordering::Relaxed);
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
}
