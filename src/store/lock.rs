//! One process to a data directory.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::layout::Layout;
use super::{Context as _, StoreError, publish};

/// Held for as long as this process serves the directory; the kernel lets go of it when the
/// process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(root: &Path) -> Result<Result<Self, String>, StoreError> {
        let path = Layout::lock(root);
        let mut file = publish::open_staged(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // It may be empty if the other has only just started.
                drop((&file).take(40).read_to_string(&mut holder));
                let holder = holder.trim();
                return Ok(Err(
                    if holder.is_empty() { "unknown" } else { holder }.to_owned()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error).context("lock", &path),
        }
        file.set_len(0).context("write", &path)?;
        file.rewind().context("write", &path)?;
        writeln!(file, "{}", std::process::id()).context("write", &path)?;
        Ok(Ok(Self { _file: file }))
    }
}
