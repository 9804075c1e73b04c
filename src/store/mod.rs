//! The tree on disk: CNCF Distribution's layout, read and written.
//!
//! The files are the truth; there is nothing beside them that could disagree. Everything here is
//! synchronous `std`: callers run it where blocking is allowed, and since a write sequence is one
//! call, a dropped future cannot tear it. This module knows nothing of HTTP, of upstreams, or of
//! which name a client used.
//!
//! A repository is *local* (somebody pushed it) or a *mirror* (it was filled from an upstream),
//! never both: a mirror has a `_mirror/` directory, made and synced before its first link. What
//! has none counts as local, and nothing but a push ever changes it.

mod adopt;
mod blob;
mod catalog;
mod changes;
mod collect;
mod damage;
mod file;
mod growing;
mod hold;
mod image;
mod index;
mod inventory;
mod layout;
mod link;
mod listing;
mod lock;
mod marks;
mod mirror;
mod offline;
mod publish;
mod recall;
mod referrers;
mod repository;
mod staged;
mod sweep;
mod trust;
mod upload;
mod upstreams_hint;
mod usage;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;

use crate::oci::{Digest, RepositoryName};

pub use adopt::{Adopted, Doubt, OldCache};
pub use blob::Blob;
pub use collect::{CollectError, Collected, Collection, Eligible, Step};
pub use damage::Aside;
pub use growing::{Flush, Growing};
pub use image::{Care, ImageHere, PartHere, State};
pub use index::{Index, Indexed, IndexedImage, Occupied, Outdated, Stamps};
pub use inventory::{Inventory, StoredImage};
pub use marks::Marks;
pub use mirror::TagState;
pub use offline::{is_offline, set_offline};
pub use publish::write_secret;
pub use recall::Moment;
pub use repository::{Kind, Prepared, Push, Repository, StoredManifest};
pub use staged::{Hashing, Staged};
pub use sweep::{Leftover, Limits, plan};
pub use trust::{Check, Stamp, Trust, Verdict};
pub use upload::{Pusher, UploadId, UploadProgress};
pub use upstreams_hint::{BudgetNote, UpstreamNote, UpstreamState, UpstreamsHint};
pub use usage::{
    Accounts, Age, Candidate, Evicted, Kept, LastUse, Order, Space, SurveyError, Totals,
};
pub use verify::{Checked, Checking, Done, Fault, Finding, Progress, Site, Standing, Wrong};

use hold::Holds;
use layout::Layout;

/// What a caller can act on when the disk says no.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, the quota or the inodes are used up: room must be made.
    #[error("no space left: {0}")]
    Full(Failure),
    /// The file system takes no writes.
    #[error("the file system is read-only: {0}")]
    ReadOnly(Failure),
    /// The disk does not take what is written, or loses it.
    #[error("the disk fails: {0}")]
    Failing(Failure),
    /// Stored bytes are not what their digest says.
    #[error("the stored content of {} is damaged", .0.digest().map_or("something", Digest::as_str))]
    Damaged(Blob),
    /// A push to a mirror's directory, or a fill into a local repository's: they never mix.
    #[error("{0} is not a {1} repository")]
    WrongKind(RepositoryName, Kind),
    /// There are no more files to open, or no memory: nothing is wrong with what is stored, and it
    /// can be had when others are done.
    #[error("{0}")]
    Exhausted(Failure),
    /// Anything else.
    #[error("{0}")]
    Io(Failure),
}

/// Which file operation failed, on what, and how. For the log only: it names paths.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct Failure {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves this directory.
    #[error(
        "{} is in use by another larder (process {holder}): stop it first, or give this one another storage.filesystem.rootdirectory",
        root.display()
    )]
    InUse {
        /// The data directory.
        root: PathBuf,
        /// The other's process id, as far as it told.
        holder: String,
    },
    /// The process that serves this directory does not know of collections beside it.
    #[error(
        "{} is in use by another larder (process {holder}) that is too old to be collected beside: stop it first",
        root.display()
    )]
    TooOld {
        /// The data directory.
        root: PathBuf,
        /// The other's process id, as far as it told.
        holder: String,
    },
    /// The directory cannot be made or read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A data directory, held by this process alone. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    layout: Layout,
    holds: Holds,
    /// What is linked, for those who keep account of it.
    journal: usage::Journal,
    /// Which repositories were changed, for those who keep a list.
    changes: changes::Changes,
    verdicts: Arc<trust::Verdicts>,
    listings: listing::Listings,
    recall: recall::Recall,
    /// Whether this process is the one that serves the directory.
    lock: Option<lock::Lock>,
}

impl Store {
    /// Opens the tree under `root`, made if it is not there, and keeps other processes out.
    ///
    /// A root on a read-only file system opens too, unlocked: what it holds can still be served.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let lock = match publish::create_dir_all(root).and_then(|()| lock::Lock::take(root)) {
            Ok(Ok(lock)) => lock,
            Ok(Err(holder)) => {
                return Err(OpenError::InUse {
                    root: root.to_owned(),
                    holder,
                });
            }
            Err(StoreError::ReadOnly(failure)) => {
                tracing::warn!("{failure}: serving what is stored, nothing new can be kept");
                return Ok(Self::new(root, Holds::of(root), lock::Lock::share(root)));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self::new(root, Holds::make(root)?, Some(lock)))
    }

    /// Opens the tree under `root` for a collection, beside the larder that serves it if there is
    /// one. Nothing may be pushed into a store that was opened so.
    pub fn open_to_collect(root: &Path) -> Result<Self, OpenError> {
        match Self::open(root) {
            Err(OpenError::InUse { root, holder }) => match Holds::beside(&root) {
                Some(holds) => Ok(Self::new(&root, holds, None)),
                None => Err(OpenError::TooOld { root, holder }),
            },
            opened => opened,
        }
    }

    /// Opens the tree under `root` to bring content in, beside the larder that serves it if there is
    /// one. That larder is told that there is more than it knows of.
    pub fn open_beside(root: &Path) -> Result<Self, OpenError> {
        match Self::open(root) {
            Err(OpenError::InUse { root, holder }) => match Holds::beside(&root) {
                Some(holds) => Ok(Self::new(&root, holds.telling(&root), None)),
                None => Err(OpenError::TooOld { root, holder }),
            },
            opened => opened,
        }
    }

    /// Opens the tree under `root` to be read and nothing else, whoever serves it meanwhile: nothing
    /// is locked, made or changed. A directory that is not there is an error.
    pub fn open_to_read(root: &Path) -> Result<Self, OpenError> {
        root.read_dir().context("list", root)?;
        Ok(Self::new(root, Holds::of(root), None))
    }

    /// Opens the tree under `root` to mend it, whoever serves it meanwhile, or begins to. What is
    /// changed must be changed under an exclusive hold. A directory that is not there is an error.
    pub fn open_to_repair(root: &Path) -> Result<Self, OpenError> {
        root.read_dir().context("list", root)?;
        let holds = match lock::Lock::take(root)? {
            // Let go of at once: a larder may start while this one reads, for hours perhaps.
            Ok(_alone) => Holds::make(root)?,
            Err(holder) => Holds::beside(root).ok_or_else(|| OpenError::TooOld {
                root: root.to_owned(),
                holder,
            })?,
        };
        Ok(Self::new(root, holds, None))
    }

    /// Whether no other process serves this directory.
    pub fn is_alone(&self) -> bool {
        self.inner.lock.is_some()
    }

    fn new(root: &Path, holds: Holds, lock: Option<lock::Lock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                layout: Layout::new(root),
                holds,
                journal: usage::Journal::default(),
                changes: changes::Changes::default(),
                verdicts: Arc::default(),
                listings: listing::Listings::default(),
                recall: recall::Recall::default(),
                lock,
            }),
        }
    }

    /// The local repository of that name, whether or not anything is in it yet.
    pub fn local(&self, name: &RepositoryName) -> Repository {
        Repository::new(self.clone(), name.clone(), Kind::Local)
    }

    /// The mirror kept in the directory of that name, whether or not anything is in it yet.
    pub fn mirror(&self, directory: &RepositoryName) -> Repository {
        Repository::new(self.clone(), directory.clone(), Kind::Mirror)
    }

    /// What is known to be at that name: `None` where nobody has pushed or mirrored anything.
    ///
    /// Doubt counts as local: pushed blobs make a repository local before any manifest does.
    pub fn kind_of(&self, name: &RepositoryName) -> Option<Kind> {
        let layout = &self.inner.layout;
        let is_marked = || layout.mirror_marker(name).is_dir();
        if is_marked() {
            return Some(Kind::Mirror);
        }
        if !layout.manifests(name).is_dir() && !layout.layers(name).is_dir() {
            return None;
        }
        // A mirror's marker is made before anything else of it: if somebody made both since the
        // first look, it is found now.
        Some(if is_marked() {
            Kind::Mirror
        } else {
            Kind::Local
        })
    }

    fn verdicts(&self) -> &Arc<trust::Verdicts> {
        &self.inner.verdicts
    }

    fn listings(&self) -> &listing::Listings {
        &self.inner.listings
    }

    fn recall(&self) -> &recall::Recall {
        &self.inner.recall
    }

    fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// What time it is for the files of the tree; the earliest, if its parts are on file systems
    /// with clocks of their own.
    fn file_time(&self) -> Result<SystemTime, StoreError> {
        let parts = [self.layout().blobs(), self.layout().repositories()];
        let parts = parts.into_iter().filter(|part| part.is_dir());
        let times: Result<Vec<_>, _> = parts.map(publish::file_time).collect();
        match times?.into_iter().min() {
            Some(earliest) => Ok(earliest),
            None => publish::file_time(&self.inner.root),
        }
    }

    fn holds(&self) -> &Holds {
        &self.inner.holds
    }

    /// Takes note that a repository was changed, after it was.
    fn changed(&self, name: &RepositoryName, change: changes::Change) {
        self.inner.changes.note(name, change);
    }

    fn journal(&self) -> &usage::Journal {
        &self.inner.journal
    }
}

impl StoreError {
    /// Whether nobody can write here.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly(_))
    }

    /// Whether something is there that the disk does not give back.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Io(failure) if READING.contains(&failure.doing) && is_the_disks(&failure.source))
    }

    /// Whether it is the disk that does not keep what it is given, for whatever reason.
    pub fn keeps_nothing(&self) -> bool {
        match self {
            Self::Full(_)
            | Self::ReadOnly(_)
            | Self::Failing(_)
            | Self::Exhausted(_)
            | Self::Io(_) => true,
            Self::Damaged(_) | Self::WrongKind(..) => false,
        }
    }

    fn of(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let kind = source.kind();
        let writes = !READING.contains(&doing);
        let exhausted = is_exhaustion(&source);
        let failing = writes && (doing.starts_with("sync") || is_the_disks(&source));
        let failure = Failure {
            doing,
            path: path.to_owned(),
            source,
        };
        match kind {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full(failure),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(failure),
            _ if exhausted => Self::Exhausted(failure),
            _ if failing => Self::Failing(failure),
            _ => Self::Io(failure),
        }
    }
}

/// What is done without writing.
const READING: [&str; 4] = ["open", "look at", "read", "list"];

/// Whether an error is the disk's own, and no matter of rights or limits.
fn is_the_disks(error: &io::Error) -> bool {
    let disks = [
        Errno::IO,
        Errno::NXIO,
        Errno::NODEV,
        Errno::UCLEAN,
        Errno::REMOTEIO,
        Errno::STALE,
    ];
    let number = error.raw_os_error();
    disks.iter().any(|it| number == Some(it.raw_os_error()))
}

/// Whether an error is for want of what others hold just now.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|errno| wants.contains(&errno))
}

/// Says what was being done, and to which file, when an operation fails.
trait Context<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::of(doing, path, source))
    }
}
