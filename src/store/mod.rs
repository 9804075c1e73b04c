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

mod blob;
mod catalog;
mod collect;
mod file;
mod hold;
mod layout;
mod link;
mod lock;
mod mirror;
mod publish;
mod referrers;
mod repository;
mod staged;
mod sweep;
mod upload;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::oci::{Digest, RepositoryName};

pub use blob::Blob;
pub use collect::{CollectError, Collected, Collection, Eligible, Step};
pub use mirror::TagState;
pub use repository::{Kind, Push, Repository, StoredManifest};
pub use staged::Staged;
pub use sweep::{Leftover, Limits, plan};
pub use upload::{UploadId, UploadProgress};

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
    /// Stored bytes are not what their digest says.
    #[error("the stored content of {0} is damaged")]
    Damaged(Digest),
    /// A push to a mirror's directory, or a fill into a local repository's: they never mix.
    #[error("{0} is not a {1} repository")]
    WrongKind(RepositoryName, Kind),
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
    /// Whether this process is the one that serves the directory.
    lock: Option<lock::Lock>,
}

impl Store {
    /// Opens the tree under `root`, made if it is not there, and keeps other processes out.
    ///
    /// A root on a read-only file system opens too, unlocked: what it holds can still be served.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let lock = match publish::create_dir_all(root).and_then(|()| lock::Lock::take(root)) {
            Ok(Ok(lock)) => Some(lock),
            Ok(Err(holder)) => {
                return Err(OpenError::InUse {
                    root: root.to_owned(),
                    holder,
                });
            }
            Err(StoreError::ReadOnly(failure)) => {
                tracing::warn!("{failure}: serving what is stored, nothing new can be kept");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let holds = match &lock {
            Some(_) => Holds::make(root)?,
            None => Holds::none(),
        };
        Ok(Self::new(root, holds, lock))
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

    /// Opens the tree under `root` to look at it. Nothing is locked, and nothing is made: what is
    /// looked at may go while it is. A directory that is not there is an error.
    pub fn open_to_read(root: &Path) -> Result<Self, OpenError> {
        root.read_dir().context("list", root)?;
        Ok(Self::new(root, Holds::none(), None))
    }

    /// Whether no other process serves this directory.
    pub fn is_alone(&self) -> bool {
        self.inner.lock.is_some() || self.holds().are_needless()
    }

    fn new(root: &Path, holds: Holds, lock: Option<lock::Lock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                layout: Layout::new(root),
                holds,
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
        if layout.mirror_marker(name).is_dir() {
            Some(Kind::Mirror)
        } else if layout.manifests(name).is_dir() || layout.layers(name).is_dir() {
            Some(Kind::Local)
        } else {
            None
        }
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
}

impl StoreError {
    fn of(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let kind = source.kind();
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
            _ => Self::Io(failure),
        }
    }
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
