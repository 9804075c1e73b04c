//! The only writer: every file and directory of the tree is made, moved and removed here.
//!
//! The order is always the same: write beside the target, sync the file, rename it into place,
//! sync the directory. Only then is anything acknowledged. After a failed sync the staged file is
//! removed and the write has failed: the kernel may have dropped the dirty pages, so that a second
//! sync would report a success that never was.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that the rule points to"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, OFlags, Timespec, Timestamps};

use super::{Context as _, StoreError};

/// Ends the name of a file that is being written; whatever bears it after a crash is a leftover.
pub(super) const TEMPORARY: &str = ".tmp";

/// A directory could not be synced since the start: see [`is_in_doubt`].
static IN_DOUBT: AtomicBool = AtomicBool::new(false);

/// Whether something may look as if it were in its place without being there durably: a directory
/// could not be synced, after a file was moved into it. Then whatever is put there is written
/// again, even if it is there already; only a new write can tell.
pub(super) fn is_in_doubt() -> bool {
    IN_DOUBT.load(Ordering::Relaxed)
}

/// Makes a directory and its missing parents, each one durable before the next.
pub(super) fn create_dir_all(path: &Path) -> Result<(), StoreError> {
    make_directory(path).context("make directory", path)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        // One that is there without being durable would be taken for durable the next time.
        Ok(()) => sync_directory_of(path).inspect_err(|_| drop(fs::remove_dir(path))),
        Err(_) if path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            make_directory(parent.ok_or(error)?)?;
            make_directory(path)
        }
        Err(error) => Err(error),
    }
}

/// Makes a directory and its missing parents without waiting for the disk, for those who make many
/// and call [`sync_file_system`] before they rely on them.
pub(super) fn make_dirs(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).context("make directory", path)
}

/// Moves a directory without waiting for the disk, likewise. `false` where there is nothing to
/// move, or something in the way.
pub(super) fn move_directory(from: &Path, to: &Path) -> Result<bool, StoreError> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(error).context("move", from),
    }
}

/// Makes everything durable that was written to the file system of a directory.
pub(super) fn sync_file_system(directory: &Path) -> Result<(), StoreError> {
    let opened = File::open(directory);
    let synced = opened.and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
    synced.context("sync the file system of", directory)
}

/// Puts a small file in place, whole or not at all, durable on return.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    write_with(&options, path, bytes)
}

fn write_with(options: &OpenOptions, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let staged = Temporary::beside(path);
    let mut file = in_directory(path, || options.open(&staged.0)).context("create", &staged.0)?;
    file.write_all(bytes).context("write", &staged.0)?;
    file.sync_all().context("sync", &staged.0)?;
    replace(&staged.0, path).context("move into place", path)
}

/// Puts a small file in place that is nobody else's to read (mode 0600): whole or not at all, durable on return.
///
/// # Errors
/// The system's, with the path.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    write_with(&options, path, bytes)
}

/// Like [`write_file`], for what may be lost with the power: it is not synced.
///
/// The rename keeps readers from ever seeing half of it; after a crash it may be old or empty.
pub(super) fn write_hint(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_hint_of(path, bytes, None)
}

/// The same of something that was true at a time, which the file's is to be; now, if none is given.
pub(super) fn write_hint_of(
    path: &Path,
    bytes: &[u8],
    time: Option<SystemTime>,
) -> Result<(), StoreError> {
    let staged = Temporary::beside(path);
    in_directory(path, || fs::write(&staged.0, bytes)).context("write", &staged.0)?;
    if let Some(time) = time {
        let file = OpenOptions::new().write(true).open(&staged.0);
        let set = file.and_then(|file| file.set_modified(time));
        set.context("set the time of", &staged.0)?;
    }
    fs::rename(&staged.0, path).context("move into place", path)
}

/// Opens a file to be filled over time, made if it is not there. Its directory is made durable.
pub(super) fn open_staged(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    in_directory(path, || options.open(path)).context("open for writing", path)
}

/// Moves a finished file to its final place, durable on return.
///
/// What stood there is replaced: the new bytes have just been verified, the old ones may have
/// been damaged since they were. Whoever has the old file open goes on reading it.
pub(super) fn move_into_place(staged: &Path, target: &Path) -> Result<(), StoreError> {
    in_directory(target, || replace(staged, target)).context("move into place", target)
}

/// Moves a file to its place. If that cannot be made durable, what replaces nothing is moved back;
/// what replaces something is either after a power cut.
fn replace(staged: &Path, target: &Path) -> io::Result<()> {
    let is_new = target.symlink_metadata().is_err();
    fs::rename(staged, target)?;
    sync_directory_of(target).inspect_err(|_| {
        if is_new {
            drop(fs::rename(target, staged));
        }
    })
}

/// Removes a file, durably. That it was not there is no error.
pub(super) fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).context("remove", path),
    }
}

/// Removes a directory with all that is in it, durably. That it was not there is no error.
pub(super) fn remove_tree(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).context("remove", path),
    }
}

/// Removes a file without waiting for the disk: after a power cut it may be back, which must do no
/// harm. Whoever removes many such files need not wait for each.
pub(super) fn unlink(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).context("remove", path),
    }
}

/// The same of a directory with all that is in it.
pub(super) fn unlink_tree(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).context("remove", path),
    }
}

/// Sets a file's times to now, and says whether there is one. Not synced: what it tells matters
/// only to those who run now.
pub(super) fn touch(path: &Path) -> Result<bool, StoreError> {
    // Both times, and by the kernel's own clock: setting only one, or to a time of our own, is
    // allowed to nobody but the file's owner.
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    match rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error.into()) => Ok(false),
        Err(error) => Err(io::Error::from(error)).context("touch", path),
    }
}

/// What time it is for the files in a directory: the clock that stamps them may be another
/// machine's, and even ours is coarser for files than for programs.
pub(super) fn file_time(directory: &Path) -> Result<SystemTime, StoreError> {
    // A file without a name leaves nothing behind, whenever we are killed.
    let nameless = OFlags::TMPFILE.bits().cast_signed();
    let mut options = OpenOptions::new();
    if let Ok(file) = options.write(true).custom_flags(nameless).open(directory) {
        return modified(&file).context("look at", directory);
    }
    // Not every file system has such files; NFS for one has none.
    named_file_time(directory)
}

fn named_file_time(directory: &Path) -> Result<SystemTime, StoreError> {
    let probe = Temporary::beside(&directory.join("time"));
    let file = File::create(&probe.0).context("create", &probe.0)?;
    modified(&file).context("look at", &probe.0)
}

fn modified(file: &File) -> io::Result<SystemTime> {
    file.metadata()?.modified()
}

/// Removes a directory if nothing is in it.
pub(super) fn remove_if_empty(path: &Path) {
    drop(fs::remove_dir(path));
}

/// Whether an error says that there is nothing at a path.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Does something in the directory of `path`, made if it is not there.
///
/// Another writer that cleans up may remove the directory just after it was made here, as long as
/// it is empty; then it is made again.
fn in_directory<T>(path: &Path, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: usize = 5;
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut result = work();
    for _ in 0..TRIES {
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directory(parent)?;
                result = work();
            }
            result => return result,
        }
    }
    result
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    sync_directory_of(path).context("sync the directory of", path)
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.inspect_err(|_| IN_DOUBT.store(true, Ordering::Relaxed))
}

/// A staged file's path; the file goes when the write did not come to its rename.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Self {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}{TEMPORARY}", uuid::Uuid::now_v7()));
        Self(path.with_file_name(name))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing left under this name.
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_the_time_of_files_leaves_none_and_is_the_same_either_way() {
        let directory = tempfile::tempdir().unwrap();
        let before = named_file_time(directory.path()).unwrap();
        let between = file_time(directory.path()).unwrap();
        let after = named_file_time(directory.path()).unwrap();
        assert!(before <= between && between <= after);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        let missing = directory.path().join("none");
        assert!(file_time(&missing).is_err());
        assert!(!missing.exists());
    }
}
