//! Taking damaged data away: put aside where it may be somebody's only copy, removed where it can
//! be fetched again.
//!
//! Data is looked at without a hold, however long that takes. Whether it is still the same file is
//! then decided under an exclusive one: somebody may have replaced it meanwhile, or begun to rely
//! on it.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::oci::{Digest, Hasher};

use crate::store::hold::Exclusive;
use crate::store::publish::is_absent;
use crate::store::{Context as _, Store, StoreError, blob, file, publish};

/// How much of a file is read at a time.
const PIECE: usize = 256 * 1024;

/// Which file was seen, and when it was last touched: whoever relied on it or replaced it since has
/// changed this. Unlike a collection's, it is of whatever stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    modified: SystemTime,
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            // Where there are no times everything is new.
            modified: metadata.modified().unwrap_or_else(|_| SystemTime::now()),
        }
    }

    fn at(path: &Path) -> Result<Option<Self>, StoreError> {
        match path.symlink_metadata() {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).context("look at", path),
        }
    }

    /// Whether it had been left alone before `began`, so that whoever relies on it is known.
    pub(super) fn is_older(self, began: SystemTime) -> bool {
        self.modified < began
    }
}

/// What is wrong with stored data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It hashes to something else.
    Damaged,
    /// It is empty, and should not be: what a power cut leaves of a file that was not synced.
    Empty,
    /// It is a directory, a symbolic link or a pipe.
    NotAFile,
    /// The system does not give it: its own words.
    Unreadable {
        /// Why not.
        reason: String,
        /// Whether that only means that the wrong user asks.
        denied: bool,
    },
}

impl Store {
    /// Renames data that is still the file that was seen. Says where to.
    pub(super) fn put_aside(
        &self,
        digest: &Digest,
        seen: Seen,
        _alone: &Exclusive,
    ) -> Result<Option<PathBuf>, StoreError> {
        let path = self.layout().blob_data(digest);
        if Seen::at(&path)? != Some(seen) {
            return Ok(None);
        }
        let aside = self.layout().blob_damaged(digest);
        publish::move_into_place(&path, &aside)?;
        Ok(Some(aside))
    }

    /// Removes data that is still the file that was seen. Says whether it did.
    pub(super) fn drop_data(
        &self,
        digest: &Digest,
        seen: Seen,
        alone: &Exclusive,
    ) -> Result<bool, StoreError> {
        let path = self.layout().blob_data(digest);
        // A directory is not removed with all that somebody may have put into it.
        if path.is_dir() {
            return Ok(self.put_aside(digest, seen, alone)?.is_some());
        }
        Ok(Seen::at(&path)? == Some(seen) && publish::remove_file(&path)?)
    }
}

impl Fault {
    /// Whether nothing is known but that the wrong user asks.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unreadable { denied: true, .. })
    }
}

/// Reads data to its end: which file it was, and what is wrong with it. `None` where there is
/// none. `tell` hears how many bytes were read.
pub(super) fn look(
    path: &Path,
    digest: &Digest,
    tell: &mut dyn FnMut(u64),
) -> Result<Option<(Seen, Option<Fault>)>, StoreError> {
    let Some(seen) = Seen::at(path)? else {
        return Ok(None);
    };
    let unreadable = |error: &dyn std::fmt::Display, denied| {
        let reason = error.to_string();
        Ok(Some((seen, Some(Fault::Unreadable { reason, denied }))))
    };
    let (file, metadata) = match file::open(path) {
        Ok(Some(opened)) => opened,
        // It is there, but is no file; unless it has gone just now.
        Ok(None) => {
            let still = Seen::at(path)?;
            return Ok(still.map(|seen| (seen, Some(Fault::NotAFile))));
        }
        Err(StoreError::Io(failure)) => {
            let denied = failure.source.kind() == std::io::ErrorKind::PermissionDenied;
            return unreadable(&failure.source, denied);
        }
        // That says nothing of the data.
        Err(error @ StoreError::Exhausted(_)) => return Err(error),
        Err(error) => return unreadable(&error, false),
    };
    let seen = Seen::of(&metadata);
    if metadata.len() == 0 && !digest.matches(b"") {
        return Ok(Some((seen, Some(Fault::Empty))));
    }
    match hash(&file, digest, tell) {
        Ok(found) => Ok(Some((seen, (found != *digest).then_some(Fault::Damaged)))),
        Err(error) => unreadable(&error, false),
    }
}

fn hash(file: &File, digest: &Digest, tell: &mut dyn FnMut(u64)) -> std::io::Result<Digest> {
    // Pages that nobody but us wants should not push out those that clients are served from.
    let advice = rustix::fs::Advice::NoReuse;
    // Where that cannot be said, nothing is lost.
    rustix::fs::fadvise(file, 0, None, advice).ok();
    let mut hasher = Hasher::new(digest.algorithm());
    let mut offset = 0;
    loop {
        let piece = blob::read_at(file, offset, PIECE)?;
        hasher.update(&piece);
        offset += piece.len() as u64;
        tell(piece.len() as u64);
        if piece.len() < PIECE {
            return Ok(hasher.finish());
        }
    }
}

/// Data as a listing finds it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) digest: Digest,
    pub(super) size: u64,
    inode: u64,
}

/// All stored data, whatever it is, in the order in which it most likely lies on the disk.
pub(super) fn listing(store: &Store) -> Result<Vec<Listed>, StoreError> {
    let blobs = store.layout().blobs();
    let mut found = Vec::new();
    for algorithm in file::names_in(blobs)? {
        let directory = blobs.join(&algorithm);
        for shard in file::names_in(&directory)? {
            for hex in file::names_in(&directory.join(&shard))? {
                let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else {
                    continue;
                };
                let path = store.layout().blob_data(&digest);
                match path.symlink_metadata() {
                    Ok(metadata) => found.push(Listed {
                        digest,
                        size: metadata.len(),
                        inode: metadata.ino(),
                    }),
                    Err(error) if is_absent(&error) => {}
                    Err(error) => return Err(error).context("look at", &path),
                }
            }
        }
    }
    found.sort_unstable_by_key(|listed| listed.inode);
    Ok(found)
}
