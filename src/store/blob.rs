//! Blobs: content under its digest, shared by all repositories that link it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags};

use crate::oci::Digest;

use super::hold::Shared;
use super::trust::{Stamp, Trust, Verdicts};
use super::{Staged, Store, StoreError, file, publish};

/// What `statfs(2)` calls the file systems that are nothing but memory, tmpfs and ramfs.
const MEMORY: [i128; 2] = [0x0102_1994, 0x8584_58f6];

/// A blob's bytes, open. They stay readable when they are deleted or replaced meanwhile. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Blob {
    file: Arc<File>,
    size: u64,
    /// `None` of bytes that are still arriving.
    stored: Option<Arc<Stored>>,
}

/// Which data a blob is.
#[derive(Debug)]
pub(super) struct Stored {
    /// Not the store itself, which keeps blobs open.
    verdicts: Arc<Verdicts>,
    pub(super) digest: Digest,
    pub(super) stamp: Stamp,
}

impl Blob {
    /// Bytes that are still arriving.
    pub(super) fn arriving(file: Arc<File>, size: u64) -> Self {
        let stored = None;
        Self { file, size, stored }
    }

    pub(super) fn stored(&self) -> Option<&Stored> {
        self.stored.as_deref()
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The open file, for those who can send it without reading it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The digest that the bytes are stored under.
    pub fn digest(&self) -> Option<&Digest> {
        Some(&self.stored()?.digest)
    }

    /// What the file was when it was opened; `None` of bytes that are still arriving.
    pub fn stamp(&self) -> Option<Stamp> {
        Some(self.stored()?.stamp)
    }

    /// How far the bytes can be believed.
    pub fn trust(&self) -> Trust {
        match self.stored() {
            Some(stored) => stored.verdicts.of(&stored.digest, stored.stamp),
            None => Trust::Unverified,
        }
    }

    /// Takes note that the bytes are damaged, or cannot be read: they count as absent until the
    /// file changes.
    pub fn distrust(&self) {
        self.note(Trust::Damaged);
    }

    pub(super) fn note(&self, trust: Trust) {
        if let Some(stored) = self.stored() {
            let (digest, stamp) = (&stored.digest, stored.stamp);
            stored.verdicts.note(digest, stamp, trust);
        }
    }

    /// Reads at `offset` what is in memory, without waiting for the disk: how many bytes that were;
    /// `None` where there are none, or where the file system cannot tell.
    pub fn read_in_memory(&self, offset: u64, bytes: &mut [u8]) -> Option<usize> {
        let mut slices = [io::IoSliceMut::new(bytes)];
        let flags = ReadWriteFlags::NOWAIT;
        let read = match rustix::io::preadv2(&self.file, &mut slices, offset, flags) {
            Err(Errno::OPNOTSUPP) if self.is_on_memory() => self.file.read_at(bytes, offset).ok(),
            read => read.ok(),
        };
        read.filter(|count| *count > 0)
    }

    /// Whether there is no disk to wait for. Such file systems need not tell what is in memory.
    fn is_on_memory(&self) -> bool {
        let about = rustix::fs::fstatfs(&self.file);
        about.is_ok_and(|about| MEMORY.contains(&i128::from(about.f_type)))
    }

    /// Reads up to `length` bytes at `offset`. Fewer only at the end of the file.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read_at(&self.file, offset, length)
    }

    /// Reads at `offset` into a buffer that is used again, and says how many bytes there were.
    /// Fewer than fit only at the end of the file.
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_into(&self.file, offset, buffer)
    }
}

/// Reads up to `length` bytes at `offset`, wherever other readers of the same file are.
pub(super) fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let filled = read_into(file, offset, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

fn read_into(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Store {
    /// Opens a blob's bytes, whoever links them. What is returned may only reach those who have a
    /// link: see [`super::Repository::blob`].
    ///
    /// Bytes that were found damaged or unreadable are absent. Those of a wrong size are returned,
    /// for [`Store::drop_damaged`]; their [`Blob::trust`] says so.
    pub fn open_data(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let path = self.layout().blob_data(digest);
        let Some((file, metadata)) = file::open(&path)? else {
            return Ok(None);
        };
        if metadata.len() == 0 && !digest.matches(b"") {
            // What a power cut leaves of a file that was renamed before it was synced.
            tracing::warn!(%digest, "stored without its content: taken as absent");
            return Ok(None);
        }
        let stamp = Stamp::of(&metadata);
        if self.verdicts().is_bad(digest, stamp) {
            return Ok(None);
        }
        let stored = Stored {
            verdicts: Arc::clone(self.verdicts()),
            digest: digest.clone(),
            stamp,
        };
        Ok(Some(Blob {
            file: Arc::new(file),
            size: metadata.len(),
            stored: Some(Arc::new(stored)),
        }))
    }

    /// Whether the blob's bytes are here, in whichever repository.
    pub(crate) fn has_data(&self, digest: &Digest) -> Result<bool, StoreError> {
        let found = self.open_data(digest)?;
        Ok(found.is_some_and(|blob| blob.trust() != Trust::Damaged))
    }

    fn is_verified(&self, digest: &Digest) -> Result<bool, StoreError> {
        let found = self.open_data(digest)?;
        Ok(found.is_some_and(|blob| blob.trust() == Trust::Verified))
    }

    /// Opens the place where a blob arrives from an upstream, with what an earlier attempt left.
    pub fn stage_fill(&self, digest: &Digest) -> Result<Staged, StoreError> {
        let path = self.layout().blob_fill(digest);
        match Staged::resume(path.clone(), digest.algorithm()) {
            // A part that cannot be read any more is worth nothing.
            Err(error) if error.is_unreadable() => {
                tracing::warn!(%digest, %error, "the part of an earlier fill is thrown away");
                publish::remove_file(&path)?;
                Staged::resume(path, digest.algorithm())
            }
            staged => staged,
        }
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
        if !publish::touch(staged.path())? && self.is_verified(digest)? {
            // An earlier try came so far, and had no room for its link.
            return self.touch_data(digest).map(drop);
        }
        self.make_way(digest)?;
        publish::move_into_place(staged.path(), &self.layout().blob_data(digest))?;
        self.let_go();
        self.trust_data(digest);
        Ok(())
    }

    /// Takes note that somebody relies on a blob's bytes from now on. Says whether they are here.
    pub(super) fn rely_on_data(&self, digest: &Digest, _held: &Shared) -> Result<bool, StoreError> {
        Ok(self.has_data(digest)? && self.touch_data(digest)?)
    }

    /// Stores small content under its digest, for manifests.
    pub(super) fn put_data(
        &self,
        digest: &Digest,
        bytes: &[u8],
        _held: &Shared,
    ) -> Result<(), StoreError> {
        // What is there and cannot be read is written anew.
        let present = self.open_data(digest).ok().flatten();
        let is_whole = present.is_some_and(|blob| {
            blob.read_at(0, bytes.len() + 1)
                .is_ok_and(|stored| stored == bytes)
        });
        if is_whole && !publish::is_in_doubt() && self.touch_data(digest)? {
            return Ok(());
        }
        self.make_way(digest)?;
        publish::write_file(&self.layout().blob_data(digest), bytes)?;
        self.trust_data(digest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_there_without_waiting(directory: &std::path::Path) -> bool {
        let root = tempfile::tempdir_in(directory).unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = Digest::of(b"content");
        let held = store.holds().shared().unwrap();
        store.put_data(&digest, b"content", &held).unwrap();
        let blob = store.open_data(&digest).unwrap().unwrap();
        let mut bytes = [0; 7];
        let read = blob.read_in_memory(0, &mut bytes);
        assert!(read.is_none() || (read == Some(7) && bytes == *b"content"));
        assert_eq!(blob.read_in_memory(7, &mut bytes), None, "its end");
        read.is_some()
    }

    #[test]
    fn what_is_in_memory_is_read_without_waiting_on_a_disk_and_where_there_is_none() {
        assert!(is_there_without_waiting(&std::env::temp_dir()));
        // tmpfs does not know how to answer.
        assert!(is_there_without_waiting(std::path::Path::new("/dev/shm")));
    }
}
