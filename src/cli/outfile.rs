//! A large file that a command writes for somebody: there whole, or not at all.
#![expect(
    clippy::disallowed_methods,
    reason = "the rule is about the tree; this file is the caller's, wherever he wants it"
)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

/// `FILE.part`, until it is `FILE`. Dropped before, it is removed.
pub(super) struct OutFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
    replace: bool,
    is_done: bool,
}

impl OutFile {
    /// Opens it. One that is there is replaced in the end, or else refused now.
    pub(super) fn create(path: &Path, replace: bool) -> Result<Self, String> {
        // A device, above all, must not be replaced, and a link only by what it leads to.
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(format!("{} is there, and is not a file", path.display()));
        }
        if !replace && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let leads_to = path.is_symlink().then(|| path.canonicalize().ok());
        let leads_to = leads_to.flatten();
        let path = leads_to.as_deref().unwrap_or(path);
        let mut name = path
            .file_name()
            .ok_or_else(|| format!("{} is not a file's name", path.display()))?
            .to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let wrong = |error: io::Error| format!("cannot write {}: {error}", part.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(&part).map_err(wrong)?;
        // What is there was left by one that was killed, unless that one still runs.
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{} is being written by another", path.display()));
            }
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        file.set_len(0).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            part: part.clone(),
            file,
            replace,
            is_done: false,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How many bytes are free where it is, if that can be known.
    pub(super) fn room(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Gives the file its name. Its content is durable already.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let wrong = |error: io::Error| format!("cannot write {}: {error}", self.path.display());
        let flags = if self.replace {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        match rustix::fs::renameat_with(CWD, &self.part, CWD, &self.path, flags) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists(&self.path)),
            // A file system that cannot promise it: it was not there just now.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::rename(&self.part, &self.path).map_err(wrong)?;
            }
            Err(error) => return Err(wrong(error.into())),
        }
        self.is_done = true;
        let directory = self.path.parent().filter(|it| *it != Path::new(""));
        let directory = File::open(directory.unwrap_or(Path::new(".")));
        directory.and_then(|it| it.sync_all()).map_err(wrong)
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if !self.is_done {
            drop(fs::remove_file(&self.part));
        }
    }
}

fn exists(path: &Path) -> String {
    format!("{} is there already: --force replaces it", path.display())
}
