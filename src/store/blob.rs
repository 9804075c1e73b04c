//! Blobs: content under its digest, shared by all repositories that link it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::oci::Digest;

use super::hold::Shared;
use super::{Staged, Store, StoreError, file, publish};

/// A stored blob, open. It stays readable when it is deleted or replaced meanwhile. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    file: Arc<File>,
    size: u64,
}

impl Blob {
    pub(super) fn new(file: Arc<File>, size: u64) -> Self {
        Self { file, size }
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads up to `length` bytes at `offset`. Fewer only at the end of the file.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read_at(&self.file, offset, length)
    }
}

/// Reads up to `length` bytes at `offset`, wherever other readers of the same file are.
pub(super) fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl Store {
    /// Opens a blob's bytes, whoever links them. What is returned may only reach those who have a
    /// link: see [`super::Repository::blob`].
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let path = self.layout().blob_data(digest);
        let Some((file, metadata)) = file::open(&path)? else {
            return Ok(None);
        };
        if metadata.len() == 0 && !digest.matches(b"") {
            // What a power cut leaves of a file that was renamed before it was synced.
            tracing::warn!(%digest, "stored without its content: taken as absent");
            return Ok(None);
        }
        Ok(Some(Blob::new(Arc::new(file), metadata.len())))
    }

    /// Whether the blob's bytes are here, in whichever repository.
    pub(crate) fn has_data(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.open_blob(digest)?.is_some())
    }

    /// Opens the place where a blob arrives from an upstream, with what an earlier attempt left.
    pub fn stage_fill(&self, digest: &Digest) -> Result<Staged, StoreError> {
        Staged::resume(self.layout().blob_fill(digest), digest.algorithm())
    }

    /// Opens a place where a blob is brought in by hand. Two who bring the same do not meet.
    pub fn stage_brought(&self, digest: &Digest) -> Result<Staged, StoreError> {
        Staged::resume(self.layout().blob_brought(digest), digest.algorithm())
    }

    /// Keeps a completely received and verified blob for a repository that is going to link it.
    /// Until one does, it is nobody's, and may be collected.
    pub fn keep_brought(&self, staged: &Staged, digest: &Digest) -> Result<(), StoreError> {
        // The disk's time is not spent with a hold.
        staged.sync()?;
        let held = self.holds().shared()?;
        self.commit(staged, digest, &held)
    }

    /// Makes a completely received and verified file the blob of that digest. Nobody can see it
    /// before a repository links it.
    ///
    /// It may have been received long ago: only now it is in use.
    pub(super) fn commit(
        &self,
        staged: &Staged,
        digest: &Digest,
        _held: &Shared,
    ) -> Result<(), StoreError> {
        publish::touch(staged.path())?;
        publish::move_into_place(staged.path(), &self.layout().blob_data(digest))
    }

    /// Takes note that somebody relies on a blob's bytes from now on. Says whether they are here.
    pub(super) fn rely_on_data(&self, digest: &Digest, _held: &Shared) -> Result<bool, StoreError> {
        Ok(self.has_data(digest)? && publish::touch(&self.layout().blob_data(digest))?)
    }

    /// Stores small content under its digest, for manifests.
    pub(super) fn put_data(
        &self,
        digest: &Digest,
        bytes: &[u8],
        _held: &Shared,
    ) -> Result<(), StoreError> {
        let path = self.layout().blob_data(digest);
        let present = self.open_blob(digest)?;
        let is_whole = present.is_some_and(|blob| {
            blob.read_at(0, bytes.len() + 1)
                .is_ok_and(|stored| stored == bytes)
        });
        if is_whole && publish::touch(&path)? {
            return Ok(());
        }
        publish::write_file(&path, bytes)
    }
}
