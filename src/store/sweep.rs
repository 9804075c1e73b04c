//! Removing what crashes and vanished clients leave behind: abandoned uploads, fills that nobody
//! came back for, staged files that never reached their place.
//!
//! Finding, deciding and removing are apart, so that the decision is a pure function.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Store, StoreError, file, publish};

/// Something in the tree that is not yet content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    path: PathBuf,
    sort: Sort,
    touched: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Upload,
    Fill,
    Temporary,
}

/// For how long each sort of leftover may still be wanted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Uploads that nobody has added to for this long; `None` keeps them for ever.
    pub uploads: Option<Duration>,
    /// Parts of blobs that nobody has asked for again.
    pub fills: Duration,
}

/// Staged files live for moments; after this long no writer can still be at work on one.
const TEMPORARY_LIFE: Duration = Duration::from_hours(1);

/// Decides which leftovers are to go.
pub fn plan(found: Vec<Leftover>, limits: Limits, now: SystemTime) -> Vec<Leftover> {
    let too_old = |leftover: &Leftover| {
        let limit = match leftover.sort {
            Sort::Upload => limits.uploads,
            Sort::Fill => Some(limits.fills),
            Sort::Temporary => Some(TEMPORARY_LIFE),
        };
        // A time in the future means that the clock was set back: it says nothing about age.
        let age = now.duration_since(leftover.touched).unwrap_or_default();
        limit.is_some_and(|limit| age > limit)
    };
    found.into_iter().filter(too_old).collect()
}

impl Store {
    /// Walks the whole tree for leftovers. Slow on a large one: run it in the background.
    ///
    /// What cannot be read is passed over: a sweep is no reason to fail.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let mut found = Vec::new();
        look_into(self.layout().repositories(), &mut found);
        look_into(self.layout().blobs(), &mut found);
        found
    }

    /// Removes what [`plan`] decided on. Says how many went.
    pub fn sweep(&self, planned: &[Leftover]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for leftover in planned {
            let gone = match leftover.sort {
                Sort::Upload => publish::remove_tree(&leftover.path)?,
                Sort::Fill | Sort::Temporary => publish::remove_file(&leftover.path)?,
            };
            removed += usize::from(gone);
            if let Some(parent) = leftover.path.parent() {
                publish::remove_if_empty(parent);
            }
        }
        Ok(removed)
    }
}

fn look_into(directory: &Path, found: &mut Vec<Leftover>) {
    let is_uploads = directory.file_name().is_some_and(|name| name == "_uploads");
    for name in file::names_in(directory).unwrap_or_default() {
        let path = directory.join(&name);
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        if is_uploads && metadata.is_dir() {
            let touched = last_touched(&path);
            found.extend(touched.map(|touched| Leftover {
                path,
                sort: Sort::Upload,
                touched,
            }));
        } else if metadata.is_dir() {
            look_into(&path, found);
        } else if let (Some(sort), Ok(touched)) = (sort_of(&path, &name), metadata.modified()) {
            found.push(Leftover {
                path,
                sort,
                touched,
            });
        }
    }
}

/// Tells by the name; a tag's record may bear nearly any name, so both must fit wholly.
fn sort_of(path: &Path, name: &str) -> Option<Sort> {
    let is_in_blob = || {
        path.ancestors()
            .nth(4)
            .is_some_and(|blobs| blobs.ends_with("blobs"))
    };
    if name == "fill" && is_in_blob() {
        return Some(Sort::Fill);
    }
    let (_, id) = name.strip_suffix(publish::TEMPORARY)?.rsplit_once('.')?;
    uuid::Uuid::try_parse(id).is_ok().then_some(Sort::Temporary)
}

/// The newest change to a session: its directory's or its data's.
fn last_touched(upload: &Path) -> Option<SystemTime> {
    let modified = |path: &Path| {
        path.symlink_metadata()
            .and_then(|found| found.modified())
            .ok()
    };
    modified(upload).max(modified(&upload.join("data")))
}
