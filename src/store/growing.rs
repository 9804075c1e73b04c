//! A file that grows at its end, and what of it is safe.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::trust::Stamp;
use super::{Context as _, StoreError, publish};

/// The file of a [`super::Staged`], to which bytes are added while others are hashed.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    file: Arc<File>,
    written: u64,
    /// The file is not what it should be. A sync has failed: the kernel may have dropped what was
    /// written, and a second sync would report a success that never was. Or half of a failed write
    /// is in it.
    is_lost: AtomicBool,
}

/// What has been written so far, on its way to the disk.
///
/// The system reports a failure to the first who asks, and to nobody after. So whoever runs it
/// waits for its end before anybody syncs the file, and takes a failure for the file's own:
/// [`Growing::lose`].
#[derive(Debug)]
#[must_use]
pub struct Flush {
    path: PathBuf,
    file: Arc<File>,
}

impl Growing {
    /// Opens `path`, made if it is not there, with all that it holds.
    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let file = publish::open_staged(&path)?;
        let written = file.metadata().context("look at", &path)?.len();
        Ok(Self {
            path,
            file: Arc::new(file),
            written,
            is_lost: AtomicBool::new(false),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How many bytes there are.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds pieces at the end, as one write: all of them, or none.
    pub fn append(&mut self, pieces: &[impl AsRef<[u8]>]) -> Result<(), StoreError> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(lost()).context("write", &self.path);
        }
        match write_all(&self.file, pieces) {
            Ok(count) => {
                self.written += count;
                Ok(())
            }
            Err(error) => {
                // A part may be there, and what is written next would come behind it.
                let cut = self.file.set_len(self.written);
                if cut.is_err() {
                    self.lose();
                }
                Err(error).context("write", &self.path)
            }
        }
    }

    /// The way to the disk for what is there, to go beside what is still being added: the less
    /// there is left for the last sync, the sooner that ends.
    pub fn flush(&self) -> Flush {
        Flush {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
        }
    }

    /// Makes the bytes durable. Once that has failed it fails for ever.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let synced = if self.is_lost.load(Ordering::Relaxed) {
            Err(lost())
        } else {
            self.file.sync_all()
        };
        synced
            .inspect_err(|_| self.lose())
            .context("sync", &self.path)
    }

    /// Goes back to the first `length` bytes. A file that has been moved to its place is nobody's
    /// to cut any more.
    pub(super) fn cut(&mut self, length: u64) -> Result<(), StoreError> {
        let open = self.file.metadata().context("look at", &self.path)?;
        if Stamp::at(&self.path)? != Some(Stamp::of(&open)) {
            let moved = io::ErrorKind::NotFound.into();
            return Err(moved).context("cut", &self.path);
        }
        self.truncate(length)
    }

    /// The same of a file that cannot have been moved.
    pub(super) fn truncate(&mut self, length: u64) -> Result<(), StoreError> {
        self.file.set_len(length).context("cut", &self.path)?;
        self.written = length;
        Ok(())
    }

    /// Takes note of how many bytes there turned out to be.
    pub(super) fn found(&mut self, written: u64) {
        self.written = written;
    }

    /// Nothing of it is ever called good again.
    pub fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }
}

impl Flush {
    /// Waits for the disk.
    pub fn run(self) -> Result<(), StoreError> {
        self.file.sync_data().context("sync", &self.path)
    }
}

/// Writes pieces one behind the other, in as few calls as the system allows. Returns how many
/// bytes they are.
fn write_all(mut file: &File, pieces: &[impl AsRef<[u8]>]) -> io::Result<u64> {
    let mut slices: Vec<_> = pieces
        .iter()
        .map(|piece| IoSlice::new(piece.as_ref()))
        .collect();
    let size = slices.iter().map(|slice| slice.len() as u64).sum();
    let mut left = slices.as_mut_slice();
    // Empty ones are none that could be written.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(size)
}

fn lost() -> io::Error {
    io::Error::other("an earlier write or sync has failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other_however_many_and_however_small_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let mut growing = Growing::open(path.clone()).unwrap();
        growing.append(&[""; 0]).unwrap();
        growing.append(&["", "a", "", "bc", ""]).unwrap();
        let many: Vec<[u8; 3]> = (0..3000_u16)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                [high, low, 0]
            })
            .collect();
        growing.append(&many).unwrap();
        assert_eq!(growing.written(), 3 + 9000);
        let mut expected = b"abc".to_vec();
        expected.extend(many.as_flattened());
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }
}
