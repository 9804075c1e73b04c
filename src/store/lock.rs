//! One process to a data directory.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::layout::Layout;
use super::{Context as _, StoreError, publish};

/// Held for as long as this process serves the directory; the kernel lets go of it when the
/// process ends, however it ends.
///
/// Both the file and the directory itself are locked. On a full disk the file may not be made, and
/// some file systems lock no directories.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<File>,
    _directory: Option<File>,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(root: &Path) -> Result<Result<Self, String>, StoreError> {
        let path = Layout::lock(root);
        let directory = File::open(root).context("open", root)?;
        let directory = match directory.try_lock() {
            Ok(()) => Some(directory),
            Err(TryLockError::WouldBlock) => return Ok(Err(holder(&path))),
            Err(TryLockError::Error(_)) => None,
        };
        let mut writer = match publish::open_staged(&path) {
            Err(StoreError::Full(failure)) if directory.is_some() => {
                tracing::warn!("{failure}: only the directory is locked");
                return Ok(Ok(Self {
                    _file: None,
                    _directory: directory,
                }));
            }
            opened => opened?,
        };
        // What is held is open for reading only: nothing of an idle larder keeps the file system
        // from being made read-only.
        let file = File::open(&path).context("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(holder(&path))),
            Err(TryLockError::Error(error)) => return Err(error).context("lock", &path),
        }
        // Who has it is told for people to read. On a full disk it stays untold.
        drop(
            writer
                .set_len(0)
                .and_then(|()| writeln!(writer, "{}", std::process::id())),
        );
        Ok(Ok(Self {
            _file: Some(file),
            _directory: directory,
        }))
    }

    /// For a directory that cannot be written to now: many may serve it, but should it become
    /// writable, nobody can take it for his own as long as they do.
    pub(super) fn share(root: &Path) -> Option<Self> {
        let directory = File::open(root).ok()?;
        directory.try_lock_shared().ok()?;
        Some(Self {
            _file: None,
            _directory: Some(directory),
        })
    }
}

/// The process that has the lock. The file is empty if the other has only just started, or has no
/// room to write.
fn holder(path: &Path) -> String {
    let mut holder = String::new();
    if let Ok(file) = File::open(path) {
        drop(file.take(40).read_to_string(&mut holder));
    }
    let holder = holder.trim();
    if holder.is_empty() { "unknown" } else { holder }.to_owned()
}
