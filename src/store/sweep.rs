//! Removing what crashes and vanished clients leave behind: abandoned uploads, fills that nobody
//! came back for, staged files that never reached their place.
//!
//! Finding, deciding and removing are apart, so that the decision is a pure function.

use std::fmt;
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

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use crate::store::{Pusher, UploadId};
    use std::fs::File;

    const DAY: Duration = Duration::from_hours(24);
    const LIMITS: Limits = Limits {
        uploads: Some(Duration::from_hours(24)),
        fills: Duration::from_hours(48),
    };

    fn age(path: &Path, age: Duration) {
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn only_what_nobody_came_back_for_goes() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let repository = store.local(&"team/fill".parse().unwrap());
        let mirror = store.mirror(&"docker.io/team/app".parse().unwrap());
        let (old, new) = (UploadId::random(), UploadId::random());
        for id in [&old, &new] {
            repository
                .start_upload(id, &Pusher::named("ann"), SystemTime::now())
                .unwrap();
        }
        let upload = store.layout().upload(repository.name(), &old);
        age(&upload.join("data"), DAY * 3);
        age(&upload, DAY * 3);
        for (content, days) in [(b"a", 1), (b"b", 3)] {
            let digest = Digest::of(content);
            drop(store.stage_fill(&digest).unwrap());
            age(&store.layout().blob_fill(&digest), DAY * days);
        }
        // Names that only look like leftovers: a tag called `fill`, and its record.
        let tag = "fill".parse().unwrap();
        let digest = Digest::of(b"{}");
        mirror.put_tag(&tag, &digest).unwrap();
        let state = crate::store::TagState {
            digest,
            checked: SystemTime::now(),
            stale_since: None,
        };
        mirror.put_tag_state(&tag, &state).unwrap();
        let link = store.layout().tag_link(mirror.name(), &tag);
        let torn = link.with_file_name(format!("link.{}.tmp", uuid::Uuid::now_v7()));
        publish::write_hint(&torn, b"sha2").unwrap();
        for path in [&torn, &store.layout().mirror_tag(mirror.name(), &tag)] {
            age(path, DAY * 9);
        }

        let planned = plan(store.leftovers(), LIMITS, SystemTime::now());
        assert_eq!(store.sweep(&planned).unwrap(), 3, "{planned:?}");

        assert_eq!(repository.upload_size(&old).unwrap(), None);
        assert_eq!(repository.upload_size(&new).unwrap(), Some(0));
        assert!(store.layout().blob_fill(&Digest::of(b"a")).exists());
        assert!(!store.layout().blob_fill(&Digest::of(b"b")).exists());
        assert_eq!(mirror.tag_state(&tag).unwrap(), Some(as_recorded(state)));
        assert!(!torn.exists());
    }

    /// A record keeps microseconds.
    fn as_recorded(mut state: crate::store::TagState) -> crate::store::TagState {
        let since = state
            .checked
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        state.checked = SystemTime::UNIX_EPOCH
            + Duration::from_micros(u64::try_from(since.as_micros()).unwrap());
        state
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_old() {
        let found = vec![Leftover {
            path: "x".into(),
            sort: Sort::Upload,
            touched: SystemTime::UNIX_EPOCH + DAY * 400,
        }];
        let now = SystemTime::UNIX_EPOCH + DAY;
        assert!(plan(found.clone(), LIMITS, now).is_empty());
        let for_ever = Limits {
            uploads: None,
            ..LIMITS
        };
        assert!(plan(found, for_ever, now + DAY * 9000).is_empty());
    }
}
