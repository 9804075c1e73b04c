//! How what was read once proves that the disk still says it.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Stat, lstat, stat};
use rustix::io::Errno;

use crate::store::{Context as _, StoreError};

/// How long a file must have looked the same before what is read of it can be told from what is
/// written into it afterwards. Files are stamped by a clock that ticks, every 10 ms at the slowest;
/// some file systems have only seconds.
const SETTLED: Duration = Duration::from_millis(100);
const SETTLED_SECONDS: Duration = Duration::from_secs(3);

/// What a file was when it was looked at. Whoever replaces it, writes to it, moves it or touches it
/// changes this: nobody can set the time of the last change (`ctime`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: i128,
    inode: i128,
    size: i128,
    changed: (i128, i128),
    written: (i128, i128),
}

impl Mark {
    fn of(stat: &Stat) -> Self {
        Self {
            device: wide(stat.st_dev),
            inode: wide(stat.st_ino),
            size: wide(stat.st_size),
            changed: (wide(stat.st_ctime), wide(stat.st_ctime_nsec)),
            written: (wide(stat.st_mtime), wide(stat.st_mtime_nsec)),
        }
    }
}

/// What the system says in a type of its own on each processor.
fn wide(number: impl Into<i128>) -> i128 {
    number.into()
}

/// What is at a path: nothing, or what looked like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// As the system takes it.
    path: CString,
    look: Look,
    mark: Option<Mark>,
}

/// Whether a symbolic link is itself what counts, or what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    At,
    Through,
}

impl Look {
    fn mark(self, path: &CStr) -> io::Result<Option<Mark>> {
        let looked = match self {
            Self::At => lstat(path),
            Self::Through => stat(path),
        };
        match looked {
            Ok(stat) => Ok(Some(Mark::of(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Proof {
    /// What is at a path now. To be taken before the file is read: what is written in between is
    /// then newer than its proof, and is read once more.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        Self::looking(Look::At, path)
    }

    /// The same of a directory, which a symbolic link may stand for: which entries it has.
    pub(super) fn of_directory(path: &Path) -> Result<Self, StoreError> {
        Self::looking(Look::Through, path)
    }

    fn looking(look: Look, path: &Path) -> Result<Self, StoreError> {
        let text = CString::new(path.as_os_str().as_bytes());
        let text = text.map_err(io::Error::from);
        let marked = text.and_then(|path| Ok((look.mark(&path)?, path)));
        let (mark, path) = marked.context("look at", path)?;
        Ok(Self { path, look, mark })
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    pub(super) fn is_there(&self) -> bool {
        self.mark.is_some()
    }

    /// Whether it is still so: one look at the disk.
    fn holds(&self) -> bool {
        let now = self.look.mark(&self.path);
        now.is_ok_and(|now| now == self.mark)
    }

    fn ticks_in_seconds(&self) -> bool {
        self.mark.is_none_or(|mark| mark.changed.1 == 0)
    }
}

/// A moment in the life of this process: each is later than those that were taken before it.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

static LATEST: AtomicU64 = AtomicU64::new(0);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self(LATEST.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// Something that was read, with what proves that it would be read again.
#[derive(Debug)]
pub(super) struct Kept<T> {
    proofs: Vec<Proof>,
    /// Since when the files are known to look like this.
    since: Instant,
    /// It was read when they had looked so for long enough.
    is_settled: bool,
    /// The latest moment at which a look began that found nothing changed.
    proved: AtomicU64,
    value: T,
}

impl<T> Kept<T> {
    /// What was read from `reading` on, after these proofs were taken. `before`: what was kept of
    /// the same until now.
    pub(super) fn new(
        proofs: Vec<Proof>,
        before: Option<&Self>,
        reading: Instant,
        value: T,
    ) -> Self {
        let before = before.filter(|before| before.proofs == proofs);
        let since = before.map_or(reading, |before| before.since);
        let settled = match () {
            // What is not there looks different as soon as it is.
            () if !proofs.iter().any(Proof::is_there) => Duration::ZERO,
            () if proofs.iter().all(Proof::ticks_in_seconds) => SETTLED_SECONDS,
            () => SETTLED,
        };
        Self {
            is_settled: reading.duration_since(since) >= settled,
            proofs,
            since,
            proved: AtomicU64::new(0),
            value,
        }
    }

    /// What was read, if somebody who asked at that moment would read the same: the disk has been
    /// looked at by somebody else since.
    pub(super) fn proven_by_others(&self, since: Moment) -> Option<&T> {
        let is_proven = self.is_settled && self.proved.load(Ordering::SeqCst) > since.0;
        is_proven.then_some(&self.value)
    }

    /// The same after a look at the disk of our own, if that is necessary.
    pub(super) fn proven(&self, since: Moment) -> Option<&T> {
        if !self.is_settled {
            return None;
        }
        if let Some(value) = self.proven_by_others(since) {
            return Some(value);
        }
        let began = Moment::now();
        if !self.proofs.iter().all(Proof::holds) {
            return None;
        }
        self.proved.fetch_max(began.0, Ordering::SeqCst);
        Some(&self.value)
    }

    pub(super) fn value(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "others write in the tree too")]
    use super::*;
    use std::fs;

    /// What a file holds, read as those do who keep it.
    fn read(path: &Path, before: Option<&Kept<String>>) -> Kept<String> {
        let reading = Instant::now();
        let proof = Proof::of(path).unwrap();
        let text = fs::read_to_string(path).unwrap_or_default();
        Kept::new(vec![proof], before, reading, text)
    }

    fn settled(path: &Path) -> Kept<String> {
        let mut kept = read(path, None);
        while !kept.is_settled {
            std::thread::sleep(Duration::from_millis(20));
            kept = read(path, Some(&kept));
        }
        kept
    }

    #[test]
    fn what_was_just_written_is_not_relied_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        fs::write(&path, "a").unwrap();
        let kept = read(&path, None);
        assert!(kept.proven(Moment::now()).is_none());
        assert_eq!(settled(&path).proven(Moment::now()).unwrap(), "a");
    }

    #[test]
    fn a_clock_that_ticks_in_seconds_is_given_more_time() {
        let read = |nanoseconds, after| {
            let mark = Mark {
                device: 1,
                inode: 1,
                size: 1,
                changed: (1, nanoseconds),
                written: (1, nanoseconds),
            };
            let proof = Proof {
                path: CString::default(),
                look: Look::At,
                mark: Some(mark),
            };
            let began = Instant::now();
            let before = Kept::new(vec![proof.clone()], None, began, ());
            assert!(!before.is_settled);
            Kept::new(vec![proof], Some(&before), began + after, ()).is_settled
        };
        assert!(read(1, SETTLED));
        assert!(!read(1, SETTLED / 2));
        assert!(!read(0, SETTLED));
        assert!(read(0, SETTLED_SECONDS));
    }

    #[test]
    fn every_change_is_seen_whoever_made_it_and_whatever_he_says_of_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        let other = directory.path().join("other");
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(&path, "b").unwrap(),
            &|| fs::remove_file(&path).unwrap(),
            &|| {
                // As rsync does: the same size, and the old times.
                let times = fs::metadata(&path).unwrap().modified().unwrap();
                fs::write(&other, "c").unwrap();
                let file = fs::File::options().write(true).open(&other).unwrap();
                file.set_modified(times).unwrap();
                fs::rename(&other, &path).unwrap();
            },
            &|| {
                let times = fs::metadata(&path).unwrap().modified().unwrap();
                let file = fs::File::options().write(true).open(&path).unwrap();
                std::io::Write::write_all(&mut &file, b"d").unwrap();
                file.set_modified(times).unwrap();
            },
            &|| {
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("other", &path).unwrap();
            },
            &|| fs::rename(directory.path(), directory.path().with_extension("moved")).unwrap(),
        ];
        for change in changes {
            let _ = fs::remove_file(&path);
            fs::write(&path, "a").unwrap();
            let kept = settled(&path);
            assert!(kept.proven(Moment::now()).is_some());
            change();
            assert!(kept.proven(Moment::now()).is_none());
        }
        fs::rename(directory.path().with_extension("moved"), directory.path()).unwrap();
    }

    #[test]
    fn a_look_proves_for_those_who_asked_before_it_and_for_nobody_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        fs::write(&path, "a").unwrap();
        let kept = settled(&path);
        let (early, late) = (Moment::now(), Moment::now());
        assert!(kept.proven(late).is_some());
        fs::remove_file(&path).unwrap();
        assert!(
            kept.proven(early).is_some(),
            "it was there when it was asked for"
        );
        assert!(kept.proven(Moment::now()).is_none());
    }

    #[test]
    fn what_is_absent_is_seen_when_it_comes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        let kept = settled(&path);
        assert!(kept.proven(Moment::now()).is_some());
        fs::create_dir(directory.path().join("a")).unwrap();
        assert!(kept.proven(Moment::now()).is_some());
        fs::write(&path, "").unwrap();
        assert!(kept.proven(Moment::now()).is_none());
    }
}
