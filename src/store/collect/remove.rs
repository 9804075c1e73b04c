//! Removing what a collection decided on: each thing looked at once more, with nobody linking.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::oci::{Digest, RepositoryName};
use crate::store::changes::Change;
use crate::store::layout::{inside, link_in};
use crate::store::{Store, StoreError, file, link, publish};

use super::found::{Data, Found, Link, Stamp};
use super::plan::Marking;
use super::{CollectError, Step};

/// For how long pushes are kept waiting at a time.
const BATCH: Duration = Duration::from_millis(20);

/// How many removed files are kept open at most, see [`Remover::data`].
const OPEN: usize = 256;

/// What has become of something that was to go.
enum Now {
    /// It is as it was.
    Same,
    /// Somebody relies on it since.
    Touched,
    /// Somebody else has removed it.
    Gone,
}

impl Now {
    fn of(path: &Path, seen: Stamp) -> Result<Self, StoreError> {
        Ok(match Stamp::at(path)? {
            Some(now) if now == seen => Self::Same,
            Some(_) => Self::Touched,
            None => Self::Gone,
        })
    }
}

pub(super) struct Remover<'a> {
    pub(super) store: &'a Store,
    pub(super) began: SystemTime,
    pub(super) stop: &'a dyn Fn() -> bool,
    pub(super) dry_run: bool,
}

impl Remover<'_> {
    /// Whether to go on.
    pub(super) fn go_on(&self) -> Result<(), CollectError> {
        if (self.stop)() {
            return Err(CollectError::Stopped);
        }
        Ok(())
    }

    /// Removes manifests that nobody has come back to. Those that somebody has are kept after all,
    /// with everything that comes with them. Says how many went.
    pub(super) fn manifests<'f>(
        &self,
        name: &RepositoryName,
        found: &'f Found,
        marking: &mut Marking<'f>,
        condemned: Vec<(&'f Digest, &'f Link)>,
    ) -> Result<usize, CollectError> {
        let path = |digest: &Digest| self.store.layout().revision_link(name, digest);
        let removed = self.links(condemned, path, |digest, path, now| {
            if marking.keeps(digest) {
                return Ok(false);
            }
            match now {
                Now::Touched => marking.keep(digest),
                Now::Gone => {}
                Now::Same => {
                    self.forget_history(name, found, digest)?;
                    publish::unlink(path)?;
                    publish::unlink(&self.store.layout().revision_media_type(name, digest))?;
                    return Ok(true);
                }
            }
            Ok(false)
        });
        self.store.changed(name, Change::Removed);
        removed
    }

    /// Removes what tags once named.
    fn forget_history(
        &self,
        name: &RepositoryName,
        found: &Found,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let tags = self.store.layout().tags(name);
        for tag in found.history.get(digest).into_iter().flatten() {
            let path = link_in(inside::history(&tags.join(tag)), digest);
            publish::unlink(&path)?;
            remove_directory_of(&path);
        }
        Ok(())
    }

    /// Removes layer links that nobody has come back to; those that somebody has lead to what is
    /// then `linked`. Says how many went.
    pub(super) fn layers(
        &self,
        name: &RepositoryName,
        condemned: Vec<(&Digest, &Link)>,
        linked: &mut HashSet<Digest>,
    ) -> Result<usize, CollectError> {
        let path = |digest: &Digest| self.store.layout().layer_link(name, digest);
        let removed = self.links(condemned, path, |_, path, now| {
            match now {
                Now::Touched => linked.extend(link::read(path)?),
                Now::Gone => {}
                Now::Same => return publish::unlink(path),
            }
            Ok(false)
        });
        self.store.changed(name, Change::Removed);
        removed
    }

    /// Looks at links once more, with nobody linking: `remove` is told what has become of each, and
    /// says whether it went. Says how many went.
    fn links<'f>(
        &self,
        condemned: Vec<(&'f Digest, &'f Link)>,
        path_of: impl Fn(&Digest) -> PathBuf,
        mut remove: impl FnMut(&'f Digest, &Path, Now) -> Result<bool, StoreError>,
    ) -> Result<usize, CollectError> {
        if self.dry_run {
            return Ok(condemned.len());
        }
        let mut removed = 0;
        let look = |(digest, link): (&'f Digest, &'f Link)| {
            let path = path_of(digest);
            if remove(digest, &path, Now::of(&path, link.seen)?)? {
                remove_directory_of(&path);
                removed += 1;
            }
            Ok(None)
        };
        self.in_batches(condemned, look, |_| ())?;
        Ok(removed)
    }

    /// Removes data that nobody has come back to. Says how many files and bytes went.
    ///
    /// Each is still open when its name goes. The time that the disk takes to give back a large
    /// file is so spent after the hold.
    pub(super) fn data(
        &self,
        condemned: Vec<Data>,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<(usize, u64), CollectError> {
        if self.dry_run {
            let bytes = condemned.iter().map(|data| data.size).sum();
            return Ok((condemned.len(), bytes));
        }
        let (mut removed, mut bytes) = (0, 0);
        let remove = |data: Data| {
            let path = self.store.layout().blob_data(&data.digest);
            if !matches!(Now::of(&path, data.seen)?, Now::Same) {
                return Ok(None);
            }
            let open = file::open(&path).ok().flatten().map(|(file, _)| file);
            publish::unlink(&path)?;
            remove_directory_of(&path);
            removed += 1;
            bytes += data.size;
            Ok(open)
        };
        self.in_batches(condemned, remove, |done| tell(Step::Blobs(done)))?;
        Ok((removed, bytes))
    }

    /// Does something to each item with nobody linking meanwhile, for a moment at a time. What the
    /// work returns is dropped after the hold. Between them `tell` hears how many are done; it may
    /// take its time.
    fn in_batches<T>(
        &self,
        items: Vec<T>,
        mut work: impl FnMut(T) -> Result<Option<File>, StoreError>,
        mut tell: impl FnMut(usize),
    ) -> Result<(), CollectError> {
        let count = items.len();
        let mut items = items.into_iter();
        while items.len() > 0 {
            self.go_on()?;
            tell(count - items.len());
            let mut open = Vec::new();
            let started;
            {
                let _alone = self.store.holds().exclusive()?;
                if self.store.file_time()? < self.began {
                    return Err(CollectError::ClockSetBack);
                }
                started = Instant::now();
                while started.elapsed() < BATCH && open.len() < OPEN {
                    let Some(item) = items.next() else { break };
                    open.extend(work(item)?);
                }
            }
            drop(open);
            // Those who wait get their turn; the disk may be busy with what was removed.
            if items.len() > 0 {
                sleep(started.elapsed().clamp(BATCH / 4, BATCH * 4));
            }
        }
        Ok(())
    }
}

/// Removes the directory of a link or of data, if nothing else is in it.
fn remove_directory_of(path: &Path) {
    if let Some(directory) = path.parent() {
        publish::remove_if_empty(directory);
    }
}
