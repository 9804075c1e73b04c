//! Checking the whole store: every byte, every link, every tag, every manifest; and mending what a
//! check finds.
//!
//! It runs beside the process that serves the directory, or alone. What it sees may be changed
//! while it looks, so nothing is reported before it was looked at twice, in the order in which
//! others write and remove: links go before data, and come after it.
//!
//! Mending is for mirrors: what is wrong there goes, and is fetched again when somebody wants it.
//! What is local may be the only copy. Its data is put aside under another name, and its links stay,
//! so that it is found missing until it is pushed again. Data that a local repository links is local,
//! whoever else links it; so is all data when a repository cannot be read.
//!
//! A check that mends begins under an exclusive hold, as a collection does, and for the same reason
//! ([`super::collect`]): whoever begins to rely on something after that makes it newer, and then it
//! is left alone.

mod data;
mod judge;
mod repair;
mod walk;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use crate::oci::Digest;

use super::{Kind, Store, StoreError};
use data::{Listed, Seen};
use walk::Picture;

pub use data::Fault;

/// How many files are read at the same time: one keeps a disk busy, two a processor.
const READERS: usize = 2;

/// How often it is told how far it is.
const PAUSE: Duration = Duration::from_millis(100);

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Checking {
    /// Mend what is found.
    pub repair: bool,
    /// Local indexes may lack children: the configuration lets them be pushed so.
    pub sparse: bool,
}

/// What a check tells while it runs, in this order.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// So much data is there.
    Listed {
        /// How many files.
        files: usize,
        /// Their size.
        bytes: u64,
    },
    /// A repository is looked at.
    Repository(&'a str),
    /// So many bytes have been read.
    Read(u64),
    /// So many manifests have been looked into.
    Manifests(usize),
}

/// What a check looked at and found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files of data.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Repositories.
    pub repositories: usize,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// A repository that something was found in.
#[derive(Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name, or its path below `repositories` if that is none.
    pub name: String,
    /// Local or mirror.
    pub kind: Kind,
    directory: PathBuf,
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Finding {
    /// What it is about; none for a tag or a repository that cannot be read.
    pub digest: Option<Digest>,
    /// The size of its data, where there is any.
    pub size: u64,
    /// What is wrong.
    pub wrong: Wrong,
    /// The repositories that have it.
    pub sites: Vec<Arc<Site>>,
    /// Of its tags, those that can be pulled: `team/app:1`.
    pub images: Vec<String>,
    /// What was done about it.
    pub done: Option<Done>,
    /// The data, as it was when it was read.
    seen: Option<Seen>,
    /// The link that is broken.
    path: Option<PathBuf>,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The data.
    Data(Fault),
    /// It is linked, but its data is not there. Data that was put aside earlier is named.
    Missing(Vec<String>),
    /// The link itself says nothing.
    Link,
    /// A tag that says nothing.
    Tag(String),
    /// A tag that names a manifest that is not there.
    Dangling(String),
    /// It is linked as a manifest, but is none: the reason.
    NotAManifest(String),
    /// A local image that lacks these.
    Lacks(Vec<Digest>),
    /// A local index without these children, which may be meant so.
    Sparse(Vec<Digest>),
    /// A repository that cannot be read.
    Unlisted(String),
}

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Something that somebody pushed is damaged.
    Local,
    /// Something is damaged that can be fetched again.
    Mirror,
    /// Data is damaged that no repository has.
    Nobody,
    /// No damage, but worth knowing.
    Note,
}

/// What was done about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The data now has this name, in the same directory.
    PutAside(String),
    /// The data was removed, and the links that led to it.
    Dropped,
    /// The links or tags that led nowhere were removed.
    Unlinked,
    /// Nothing: somebody changed it, or began to rely on it, meanwhile.
    Changed,
    /// Nothing, for this reason.
    Failed(String),
}

impl Finding {
    fn new(digest: Option<Digest>, wrong: Wrong, sites: Vec<Arc<Site>>) -> Self {
        Self {
            digest,
            size: 0,
            wrong,
            sites,
            images: Vec::new(),
            done: None,
            seen: None,
            path: None,
        }
    }

    /// What it means: whatever a local repository has is local.
    pub fn standing(&self) -> Standing {
        let has = |kind| self.sites.iter().any(|site| site.kind == kind);
        if matches!(self.wrong, Wrong::Sparse(_)) {
            Standing::Note
        } else if has(Kind::Local) {
            Standing::Local
        } else if has(Kind::Mirror) {
            Standing::Mirror
        } else {
            Standing::Nobody
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Mirror => "mirror",
            Self::Nobody => "unused",
            Self::Note => "note",
        })
    }
}

impl Store {
    /// Checks everything. Reads all data: this may take hours. `tell` hears how far it is.
    ///
    /// Mending needs a store that was opened for it, see [`Store::open_to_repair`].
    pub fn check(
        &self,
        checking: Checking,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Checked, StoreError> {
        let began = if checking.repair {
            let _alone = self.holds().exclusive()?;
            Some(self.file_time()?)
        } else {
            None
        };
        let listed = data::listing(self)?;
        let bytes = listed.iter().map(|listed| listed.size).sum();
        tell(Progress::Listed {
            files: listed.len(),
            bytes,
        });
        let mut picture = Picture::take(self, &listed, tell)?;
        self.read_all(&listed, &mut picture, tell);
        picture.judge(self, checking.sparse, tell)?;
        let mut findings = picture.findings();
        if let Some(began) = began {
            repair::all(self, began, &picture, &mut findings)?;
        }
        findings.sort_by_cached_key(|finding| {
            let name = finding.sites.first().map(|site| site.name.clone());
            (finding.standing(), name, finding.digest.clone())
        });
        Ok(Checked {
            files: listed.len(),
            bytes,
            repositories: picture.sites.len(),
            findings,
        })
    }

    /// Reads all data, and takes down what is wrong with it.
    fn read_all(
        &self,
        listed: &[Listed],
        picture: &mut Picture,
        tell: &mut dyn FnMut(Progress<'_>),
    ) {
        let (next, read) = (AtomicUsize::new(0), AtomicU64::new(0));
        let work = |found: &mpsc::Sender<_>| {
            while let Some(listed) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = self.layout().blob_data(&listed.digest);
                let looked = data::look(&path, &listed.digest, &mut |bytes| {
                    read.fetch_add(bytes, Ordering::Relaxed);
                });
                let wrong = match looked {
                    Ok(Some((_, None)) | None) => continue,
                    Ok(Some((seen, Some(fault)))) => (Some(seen), fault),
                    Err(error) => (
                        None,
                        Fault::Unreadable {
                            reason: error.to_string(),
                            denied: false,
                        },
                    ),
                };
                drop(found.send((listed, wrong)));
            }
        };
        std::thread::scope(|threads| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..READERS {
                let (sender, work) = (sender.clone(), &work);
                threads.spawn(move || work(&sender));
            }
            drop(sender);
            loop {
                match receiver.recv_timeout(PAUSE) {
                    Ok((listed, (seen, fault))) => picture.damaged(listed, seen, fault),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                tell(Progress::Read(read.load(Ordering::Relaxed)));
            }
        });
    }
}

/// Whether a file of that age may be taken away by a check that began then.
fn may_go(seen: Option<Seen>, began: SystemTime) -> Option<Seen> {
    seen.filter(|seen| seen.is_older(began))
}

#[cfg(test)]
#[path = "verify/tests.rs"]
mod tests;
