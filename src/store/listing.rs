//! The names in a directory, in order, from wherever a page begins.
//!
//! A page needs its directory's names in order, and a directory has them in none. So the names of
//! large directories are kept, sorted, for as long as their directory looks the same: whoever adds
//! or removes a name changes its directory's times. That is looked at for every page; nothing here
//! can be older than the tree.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;

use super::publish::is_absent;
use super::{Context as _, StoreError, file};

/// How many bytes of names are kept.
const KEPT: u64 = 32 << 20;

/// A directory with no more names than this is read each time: that takes some 50 µs.
const SMALL: usize = 256;

/// Times are no finer than a file system's clock, which ticks every 10 ms or, far off, every
/// second or two. What changed a moment ago may change again without looking different.
const SETTLED: Duration = Duration::from_secs(3);

/// What is in a directory, sorted by bytes. Names that are not UTF-8 are none of ours.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Box<str>,
    /// Where each name ends.
    ends: Box<[u32]>,
}

impl Names {
    fn new(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        let mut ends = Vec::with_capacity(names.len());
        let mut length = 0;
        for name in &names {
            length += name.len();
            // A directory of 4 GB has not been seen; what is beyond is left out.
            let Ok(end) = u32::try_from(length) else {
                break;
            };
            ends.push(end);
        }
        Self {
            text: names.concat().into(),
            ends: ends.into(),
        }
    }

    fn name(&self, at: usize) -> &str {
        let end_of = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).map_or(0, end_of);
        self.text.get(start..end_of(at)).unwrap_or_default()
    }

    /// The names from `first` on, it included; all of them where there is none.
    pub(super) fn from(&self, first: Option<&str>) -> impl Iterator<Item = &str> {
        let (mut low, mut high) = (0, self.ends.len());
        while let Some(first) = first
            && low < high
        {
            let middle = low.midpoint(high);
            if self.name(middle) < first {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low..self.ends.len()).map(|at| self.name(at))
    }
}

/// What a directory was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` where there is no directory.
    fn of(directory: &Path) -> Result<Option<Self>, StoreError> {
        let of = |metadata: Metadata| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        match directory.metadata() {
            Ok(metadata) => Ok(Some(of(metadata))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).context("look at", directory),
        }
    }

    /// Whether it has been as it is for so long that any change would have shown.
    fn is_settled(&self, after: Duration) -> bool {
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        let since = Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanoseconds).unwrap_or(0),
        );
        let last = SystemTime::UNIX_EPOCH.checked_add(since);
        let age = last.and_then(|last| SystemTime::now().duration_since(last).ok());
        age.is_some_and(|age| age > after)
    }
}

#[derive(Clone, Debug)]
struct Listing {
    names: Arc<Names>,
    /// When it began to be read: it is right for whoever asked before.
    began: Instant,
    /// Until when it is right: as long as the directory is this. `None`: nobody can tell.
    while_is: Option<Stamp>,
}

/// The names of large directories. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Listings {
    known: Cache<PathBuf, Listing>,
    settled: Duration,
}

impl Default for Listings {
    fn default() -> Self {
        Self::settling(SETTLED)
    }
}

impl Listings {
    /// They are kept of directories that have been left alone for so long.
    fn settling(settled: Duration) -> Self {
        let size = |path: &PathBuf, listing: &Listing| {
            let names = &listing.names;
            let size = path.as_os_str().len() + names.text.len() + names.ends.len() * 4;
            u32::try_from(size).unwrap_or(u32::MAX)
        };
        let known = Cache::builder().weigher(size).max_capacity(KEPT).build();
        Self { known, settled }
    }
}

/// What a directory is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// All that it holds.
    Entries,
    /// The directories in it. Symbolic links are none: they may lead round in circles.
    Directories,
}

impl Listings {
    /// The names in a directory as of now; none where there is no directory.
    pub(super) fn of(&self, directory: &Path, wanted: Wanted) -> Result<Arc<Names>, StoreError> {
        let asked = Instant::now();
        let known = self.known.get(directory);
        if let Some(listing) = known
            && let Some(stamp) = listing.while_is
            && Stamp::of(directory)? == Some(stamp)
        {
            return Ok(listing.names);
        }
        let first = file::names_of(directory, Some(SMALL + 1), wanted)?;
        if first.len() <= SMALL {
            return Ok(Arc::new(Names::new(first)));
        }
        drop(first);
        // One at a time, and one for all who came meanwhile.
        let entry = self.known.entry_by_ref(directory);
        let listed = entry.and_try_compute_with(|entry| match entry {
            Some(entry) if entry.value().began >= asked => Ok(Op::Nop),
            _ => self.read(directory, wanted).map(Op::Put),
        })?;
        Ok(match listed {
            CompResult::Inserted(entry)
            | CompResult::ReplacedWith(entry)
            | CompResult::Unchanged(entry) => entry.into_value().names,
            CompResult::Removed(_) | CompResult::StillNone(_) => Arc::default(),
        })
    }

    fn read(&self, directory: &Path, wanted: Wanted) -> Result<Listing, StoreError> {
        let began = Instant::now();
        // Looked at before it is read: a change meanwhile shows afterwards.
        let stamp = Stamp::of(directory)?;
        let names = file::names_of(directory, None, wanted)?;
        Ok(Listing {
            names: Arc::new(Names::new(names)),
            began,
            while_is: stamp.filter(|stamp| stamp.is_settled(self.settled)),
        })
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]
mod tests {
    use super::*;
    use std::fs;

    use proptest::prelude::*;

    fn listed(listings: &Listings, directory: &Path) -> Vec<String> {
        let names = listings.of(directory, Wanted::Entries).unwrap();
        names.from(None).map(str::to_owned).collect()
    }

    #[test]
    fn a_change_is_seen_at_once_however_soon_it_comes() {
        let root = tempfile::tempdir().unwrap();
        let listings = Listings::default();
        for number in 0..SMALL * 2 {
            fs::write(root.path().join(format!("{number:04}")), "").unwrap();
        }
        assert_eq!(listed(&listings, root.path()).len(), SMALL * 2);
        for round in 0..100 {
            let path = root.path().join(format!("b{round}"));
            fs::write(&path, "").unwrap();
            assert_eq!(listed(&listings, root.path()).len(), SMALL * 2 + 1);
            fs::remove_file(&path).unwrap();
            assert_eq!(listed(&listings, root.path()).len(), SMALL * 2);
        }
        fs::remove_dir_all(root.path()).unwrap();
        assert!(listed(&listings, root.path()).is_empty());
    }

    #[test]
    fn what_stands_is_kept_until_it_changes() {
        let root = tempfile::tempdir().unwrap();
        let tick = Duration::from_millis(30);
        let listings = Listings::settling(tick);
        for number in 0..=SMALL {
            fs::write(root.path().join(format!("{number:04}")), "").unwrap();
        }
        let of = || listings.of(root.path(), Wanted::Entries).unwrap();
        for round in 0..3 {
            std::thread::sleep(tick * 2);
            let kept = of();
            assert!(Arc::ptr_eq(&kept, &of()), "{round}");
            fs::write(root.path().join(format!("b{round}")), "").unwrap();
            assert_eq!(of().from(Some("b")).count(), round + 1);
        }
        // Another directory in its place.
        std::thread::sleep(tick * 2);
        assert!(Arc::ptr_eq(&of(), &of()));
        let other = tempfile::tempdir().unwrap();
        fs::rename(root.path(), other.path().join("away")).unwrap();
        fs::create_dir(root.path()).unwrap();
        assert_eq!(of().from(None).count(), 0);
    }

    #[test]
    fn what_may_change_unseen_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let stamp = Stamp::of(root.path()).unwrap().unwrap();
        let is_settled = |modified, changed| {
            let stamp = Stamp {
                modified,
                changed,
                ..stamp
            };
            stamp.is_settled(SETTLED)
        };
        let (now, before) = (stamp.changed, (stamp.changed.0 - 10, 0));
        assert!(is_settled(before, before));
        assert!(!is_settled(now, before) && !is_settled(before, now));
        assert!(!is_settled((i64::MAX, 0), before));
    }

    proptest! {
        #[test]
        fn names_go_on_from_wherever_a_page_begins(
            names in prop::collection::btree_set("[a-c._-]{1,3}|ü", 0..20),
            first in "[a-d._-]{0,3}",
        ) {
            let sorted: Vec<&str> = names.iter().map(String::as_str).collect();
            let kept = Names::new(names.iter().rev().cloned().collect());
            let all: Vec<&str> = kept.from(None).collect();
            prop_assert_eq!(&all, &sorted);
            let rest: Vec<&str> = kept.from(Some(&first)).collect();
            let expected: Vec<&str> = sorted.into_iter().filter(|name| *name >= &*first).collect();
            prop_assert_eq!(rest, expected);
        }
    }
}
