//! Upload sessions: a push under way, on disk, so that it survives a restart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::oci::{Algorithm, Digest, Hasher};

use super::{Repository, Staged, StoreError, file, publish};

/// An upload session's name: unguessable, and a safe path step. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UploadId(Arc<str>);

impl UploadId {
    /// A fresh name. The time comes first, so that listings are in order of age.
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UploadId {
    type Err = ();

    /// Distribution's ids are UUIDs as well, of several versions.
    fn from_str(text: &str) -> Result<Self, ()> {
        let id: uuid::Uuid = text.parse().map_err(drop)?;
        // One spelling only: the others are names of the same session, not of the same file.
        if id.to_string() == text {
            Ok(Self(text.into()))
        } else {
            Err(())
        }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far an upload has come, without its file: what is kept between two requests so that the
/// bytes need not be hashed again.
#[derive(Clone, Debug)]
pub struct UploadProgress {
    pub(super) hasher: Hasher,
    pub(super) written: u64,
}

impl UploadProgress {
    /// An upload that has not received anything, and will be named by this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            hasher: Hasher::new(algorithm),
            written: 0,
        }
    }
}

/// Who starts a session or goes on with it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pusher {
    /// Whoever it is: nobody is asked for a name here, and everybody may go on with everything.
    Anybody,
    /// Somebody without a name. What such a one starts is nobody's.
    Nameless,
    /// Somebody whose name has this digest. On disk it is as long for every name, and tells none.
    Named(Digest),
}

impl Pusher {
    /// Somebody of that name.
    pub fn named(name: &str) -> Self {
        Self::Named(Digest::of(name.as_bytes()))
    }
}

impl Repository {
    /// Starts a session. It is a directory with the start's time, as Distribution's purge wants it.
    pub fn start_upload(
        &self,
        id: &UploadId,
        pusher: &Pusher,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let directory = self.store.layout().upload(&self.name, id);
        publish::open_staged(&directory.join("data"))?;
        // Before the time, without which there is no session: no crash leaves one to everybody.
        if let Pusher::Named(owner) = pusher {
            publish::write_file(&directory.join("owner"), owner.as_str().as_bytes())?;
        }
        let started = humantime::format_rfc3339_seconds(now).to_string();
        publish::write_file(&directory.join("startedat"), started.as_bytes())
    }

    /// Whether somebody may go on with a session: who started it, and with one of Distribution, or
    /// one that nobody in particular started, everybody.
    ///
    /// That never changes, so it may be asked before it is known whether there is such a session.
    pub fn may_continue(&self, id: &UploadId, pusher: &Pusher) -> Result<bool, StoreError> {
        if *pusher == Pusher::Anybody {
            return Ok(true);
        }
        let directory = self.store.layout().upload(&self.name, id);
        let owner = file::read(&directory.join("owner"), 1024)?;
        Ok(owner.is_none_or(|owner| match pusher {
            Pusher::Named(name) => owner == name.as_str().as_bytes(),
            Pusher::Anybody | Pusher::Nameless => false,
        }))
    }

    /// How many bytes a session has received; `None` where there is no such session.
    pub fn upload_size(&self, id: &UploadId) -> Result<Option<u64>, StoreError> {
        let directory = self.store.layout().upload(&self.name, id);
        if file::open(&directory.join("startedat"))?.is_none() {
            return Ok(None);
        }
        let data = file::open(&directory.join("data"))?;
        Ok(Some(data.map_or(0, |(_, metadata)| metadata.len())))
    }

    /// Opens a session to go on with it, from the progress of its last request where that is
    /// still known, else by reading what is on disk.
    pub fn open_upload(
        &self,
        id: &UploadId,
        progress: Option<UploadProgress>,
    ) -> Result<Staged, StoreError> {
        let path = self.store.layout().upload(&self.name, id).join("data");
        match progress {
            Some(progress) => Staged::reopen(path, progress.hasher, progress.written),
            None => Staged::resume(path, Algorithm::Sha256),
        }
    }

    /// Makes what a session has received this repository's blob, and ends the session.
    pub fn commit_upload(
        &self,
        id: &UploadId,
        staged: &Staged,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        self.commit_blob(staged, digest)?;
        // The blob is safe by now. A session that stays is swept.
        if let Err(error) = self.cancel_upload(id) {
            tracing::warn!(%error, upload = %id, "a finished upload's session could not be removed");
        }
        Ok(())
    }

    /// Ends a session and removes what it received. Says whether there was one.
    pub fn cancel_upload(&self, id: &UploadId) -> Result<bool, StoreError> {
        let layout = self.store.layout();
        let removed = publish::remove_tree(&layout.upload(&self.name, id))?;
        publish::remove_if_empty(&layout.uploads(&self.name));
        Ok(removed)
    }
}

impl Staged {
    /// What to remember until the session's next request.
    pub fn progress(&self) -> UploadProgress {
        UploadProgress {
            hasher: self.hasher().clone(),
            written: self.written(),
        }
    }
}
