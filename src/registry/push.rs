//! Pushing: upload sessions, manifests, mounts and deletes, in local repositories only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::Stream;

use crate::oci::manifest::Manifest;
use crate::oci::{Algorithm, ByteRange, Digest, MediaType, Reference, RepositoryName, Tag};
use crate::store::{Push, Pusher, Repository, Staged, UploadId, UploadProgress};

use super::names::Place;
use super::pour::pour;
use super::{Error, Missing, Registry, blocking};

/// The upload sessions that were written to since the start, and how far each is.
///
/// A session itself is on disk; what is here only spares hashing its bytes again, and keeps two
/// requests from writing to it at once.
#[derive(Default)]
pub(super) struct Sessions {
    known: Mutex<HashMap<(RepositoryName, UploadId), Arc<Session>>>,
}

/// `None` where nothing is known but what is on disk.
type Session = tokio::sync::Mutex<Option<UploadProgress>>;

impl Sessions {
    fn of(&self, repository: &Repository, id: &UploadId) -> Arc<Session> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.name().clone(), id.clone());
        Arc::clone(known.entry(key).or_default())
    }

    fn forget(&self, repository: &Repository, id: &UploadId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(repository.name().clone(), id.clone()));
    }

    /// Forgets the progress of sessions that nobody is using right now.
    pub(super) fn forget_idle(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, session| Arc::strong_count(session) > 1);
    }
}

/// Where a chunk says it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunk {
    /// Its `Content-Range`.
    pub range: Option<ByteRange>,
    /// Its length, where that is known beforehand.
    pub length: Option<u64>,
    /// The offset of the `Location` it was sent to.
    pub offset: Option<u64>,
}

impl Chunk {
    /// Whether it goes on where the upload stands.
    fn fits(self, received: u64) -> Result<(), Error> {
        let starts = [self.range.map(|range| range.start), self.offset];
        if starts.into_iter().flatten().any(|start| start != received) {
            return Err(Error::UploadRange { received });
        }
        match (self.range, self.length) {
            (Some(range), Some(length)) if range.len() != length => Err(Error::UploadSize),
            _ => Ok(()),
        }
    }
}

/// A manifest that was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Its digest.
    pub digest: Digest,
    /// The manifest it is attached to.
    pub subject: Option<Digest>,
    /// The upstream's repository that its name hides from now on, for clients that use this
    /// registry as their mirror.
    pub hides: Option<RepositoryName>,
}

impl Registry {
    /// Whether clients may push: not while the registry is read-only.
    pub(super) fn may_write(&self) -> Result<(), Error> {
        if self.policy().settings.readonly {
            return Err(Error::Unsupported(
                "this registry is read-only: storage.maintenance.readonly is on",
            ));
        }
        Ok(())
    }

    /// Starts an upload session of `pusher`, whose bytes are hashed with `algorithm` as they come.
    /// Any digest may name them in the end; one of another algorithm costs reading them again.
    pub async fn start_upload(
        &self,
        repository: &Repository,
        pusher: &Pusher,
        algorithm: Algorithm,
    ) -> Result<UploadId, Error> {
        self.may_write()?;
        let id = UploadId::random();
        let (target, name, pusher) = (repository.clone(), id.clone(), pusher.clone());
        let started = self.keeping(move || target.start_upload(&name, &pusher, SystemTime::now()));
        if let Err(error) = started.await {
            // Half of a session is nobody's.
            let (target, name) = (repository.clone(), id.clone());
            drop(blocking(move || target.cancel_upload(&name)).await);
            return Err(error);
        }
        if algorithm != Algorithm::Sha256 {
            let session = self.inner.uploads.of(repository, &id);
            *session.lock().await = Some(UploadProgress::new(algorithm));
        }
        Ok(id)
    }

    /// Takes a blob over from another repository if that one has it, or, with no `from`, if it is
    /// here at all. `false` means that it must be sent: a mount is never a reason to fail.
    ///
    /// Who asks without a `from` must be somebody who may pull from every repository.
    pub async fn mount(
        &self,
        repository: &Repository,
        from: Option<&Place>,
        digest: &Digest,
    ) -> Result<bool, Error> {
        self.may_write()?;
        let source = from.map(|place| match place {
            Place::Local(source) => source.clone(),
            Place::Mirror(mirror) => mirror.repository.clone(),
        });
        let (repository, digest) = (repository.clone(), digest.clone());
        self.keeping(move || {
            // A link whose name is not its content's (a sha512 of Distribution) cannot be mounted.
            let found = match &source {
                Some(source) => source.blob(&digest)?.is_some(),
                None => true,
            };
            let mountable = found && repository.has_data(&digest)?;
            Ok(mountable && repository.link_blob(&digest)?)
        })
        .await
    }

    /// Lets somebody go on with a session that is his, or nobody's. Another's does not exist for
    /// him: this comes before everything else, so that not even a mistake of his disturbs it.
    pub async fn continue_upload(
        &self,
        repository: &Repository,
        id: &UploadId,
        pusher: &Pusher,
    ) -> Result<(), Error> {
        if *pusher == Pusher::Anybody {
            return Ok(());
        }
        let (repository, id, pusher) = (repository.clone(), id.clone(), pusher.clone());
        if blocking(move || repository.may_continue(&id, &pusher)).await? {
            return Ok(());
        }
        Err(Error::UploadUnknown)
    }

    /// How many bytes a session has received.
    pub async fn upload_size(&self, repository: &Repository, id: &UploadId) -> Result<u64, Error> {
        let (repository, id) = (repository.clone(), id.clone());
        let size = blocking(move || repository.upload_size(&id)).await?;
        size.ok_or(Error::UploadUnknown)
    }

    /// Adds a chunk to an upload. Returns how many bytes there are now, durable.
    ///
    /// What came before a client vanished is kept: it can ask how far it got, and go on.
    pub async fn receive(
        &self,
        repository: &Repository,
        id: &UploadId,
        chunk: Chunk,
        body: impl Stream<Item = Result<Bytes, Error>>,
    ) -> Result<u64, Error> {
        self.may_write()?;
        let session = self.inner.uploads.of(repository, id);
        let mut progress = session.lock().await;
        let (staged, before) = self
            .append(repository, id, chunk, body, &mut progress)
            .await?;
        Ok(durable(staged, before, &mut progress).await?.written())
    }

    /// Adds the last chunk, which may be empty, and makes the upload a blob of the repository.
    pub async fn finish_upload(
        &self,
        repository: &Repository,
        id: &UploadId,
        chunk: Chunk,
        body: impl Stream<Item = Result<Bytes, Error>>,
        digest: &Digest,
    ) -> Result<(), Error> {
        self.may_write()?;
        let session = self.inner.uploads.of(repository, id);
        let mut progress = session.lock().await;
        let (mut staged, before) = self
            .append(repository, id, chunk, body, &mut progress)
            .await?;
        let (target, name, wanted) = (repository.clone(), id.clone(), digest.clone());
        let compared = blocking(move || {
            let matches = staged.matches(&wanted)?;
            if !matches {
                target.cancel_upload(&name)?;
            }
            Ok((staged, matches))
        });
        let (staged, matches) = compared.await?;
        if matches {
            let staged = Arc::new(staged);
            let (target, name, wanted) = (repository.clone(), id.clone(), digest.clone());
            let shared = Arc::clone(&staged);
            let committed = self
                .keeping(move || target.commit_upload(&name, &shared, &wanted))
                .await;
            if let Err(error) = committed {
                *progress = match Arc::into_inner(staged) {
                    Some(staged) => go_back(staged, before).await,
                    None => None,
                };
                return Err(error);
            }
        }
        // Whoever waits for the lock finds no session on disk any more.
        self.inner.uploads.forget(repository, id);
        if matches {
            Ok(())
        } else {
            Err(Error::DigestMismatch(digest.clone()))
        }
    }

    /// Ends an upload and throws away what it received.
    pub async fn cancel_upload(&self, repository: &Repository, id: &UploadId) -> Result<(), Error> {
        let session = self.inner.uploads.of(repository, id);
        let _writing = session.lock().await;
        let (target, name) = (repository.clone(), id.clone());
        let cancelled = blocking(move || target.cancel_upload(&name)).await;
        // Not before: until the session is gone, whoever looks for its lock must find this one.
        self.inner.uploads.forget(repository, id);
        if cancelled? {
            Ok(())
        } else {
            Err(Error::UploadUnknown)
        }
    }

    /// Writes a chunk to a session that the caller has locked. Says how many bytes there were
    /// before. What of a chunk was written on a disk that then failed is cut off again: it would
    /// only be in the way.
    async fn append(
        &self,
        repository: &Repository,
        id: &UploadId,
        chunk: Chunk,
        body: impl Stream<Item = Result<Bytes, Error>>,
        progress: &mut Option<UploadProgress>,
    ) -> Result<(Staged, u64), Error> {
        if let Err(unknown) = self.upload_size(repository, id).await {
            self.inner.uploads.forget(repository, id);
            return Err(unknown);
        }
        let (target, name, known) = (repository.clone(), id.clone(), progress.take());
        let is_known = known.is_some();
        let mut staged = blocking(move || target.open_upload(&name, known)).await?;
        *progress = Some(staged.progress());
        if !is_known && staged.written() > 0 {
            // Larder may have been killed before it could do so.
            staged = durable(staged, 0, progress).await?;
        }
        let before = staged.written();
        chunk.fits(before)?;
        let mut counted = before;
        let (staged, poured) = pour(self, staged, body, |written| {
            self.metrics().received(written.saturating_sub(counted));
            counted = written;
        })
        .await;
        *progress = staged.as_ref().map(Staged::progress);
        let staged = staged.ok_or(Error::Vanished)?;
        match poured {
            Ok(()) => Ok((staged, before)),
            Err(error @ Error::Store(_)) => {
                *progress = go_back(staged, before).await;
                Err(error)
            }
            Err(error) => {
                // It is kept, so a sync that fails later must not be the first that it is in.
                durable(staged, before, progress).await?;
                Err(error)
            }
        }
    }

    /// Stores a pushed manifest, by tag or by digest, and points `tags` at it too.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        tags: &[Tag],
        media_type: Option<&MediaType>,
        bytes: Bytes,
    ) -> Result<Pushed, Error> {
        self.may_write()?;
        let digest = match reference {
            Reference::Tag(_) => Digest::of(&bytes),
            Reference::Digest(digest) if digest.matches(&bytes) => digest.clone(),
            Reference::Digest(digest) => return Err(Error::DigestMismatch(digest.clone())),
        };
        let mut manifest = Manifest::pushed(&bytes, media_type)?;
        self.policy().settings.validation.apply(&mut manifest)?;
        let missing = self.missing(repository, &manifest.needs).await?;
        if !missing.is_empty() {
            return Err(Error::ManifestNeeds(missing));
        }
        let mut tags = tags.to_vec();
        if let Reference::Tag(tag) = reference {
            tags.push(tag.clone());
        }
        self.metrics().received(bytes.len() as u64);
        let (target, pushed, subject) =
            (repository.clone(), digest.clone(), manifest.subject.clone());
        let stored = self.keeping(move || {
            let first = target.tags()?.is_none();
            let missing = target.push_manifest(&Push {
                digest: &pushed,
                media_type: &manifest.media_type,
                bytes: &bytes,
                needs: &manifest.needs,
                subject: manifest.subject.as_ref(),
                tags: &tags,
            })?;
            Ok((first, missing))
        });
        let (first, missing) = stored.await?;
        // Collected since it was looked for: nobody had linked it to anything for too long.
        if !missing.is_empty() {
            return Err(Error::ManifestNeeds(missing));
        }
        let hides = if first {
            self.hidden_by(repository.name())
        } else {
            None
        };
        Ok(Pushed {
            digest,
            subject,
            hides,
        })
    }

    /// Removes a tag, or a manifest with all tags that name it: those are returned.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Vec<Tag>, Error> {
        self.may_delete()?;
        let (target, wanted) = (repository.clone(), reference.clone());
        let deleted = blocking(move || match &wanted {
            Reference::Tag(tag) => Ok(target.delete_tag(tag)?.then(Vec::new)),
            Reference::Digest(digest) => target.delete_manifest(digest),
        });
        deleted.await?.ok_or_else(|| Error::Unknown {
            name: repository.name().clone(),
            what: Missing::Manifest(reference.clone()),
        })
    }

    /// Removes a blob from a repository.
    pub async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.may_delete()?;
        let (target, wanted) = (repository.clone(), digest.clone());
        if blocking(move || target.delete_blob(&wanted)).await? {
            return Ok(());
        }
        Err(Error::Unknown {
            name: repository.name().clone(),
            what: Missing::Blob(digest.clone()),
        })
    }

    fn may_delete(&self) -> Result<(), Error> {
        self.may_write()?;
        if self.policy().settings.delete {
            return Ok(());
        }
        Err(Error::Unsupported(
            "deleting is switched off: set storage.delete.enabled to true in config.yml",
        ))
    }
}

/// Makes what an upload has received durable. If that fails, it goes back to what was durable
/// `before`.
async fn durable(
    staged: Staged,
    before: u64,
    progress: &mut Option<UploadProgress>,
) -> Result<Staged, Error> {
    let synced = blocking(move || {
        let synced = staged.sync();
        Ok((staged, synced))
    });
    match synced.await? {
        (staged, Ok(())) => Ok(staged),
        (staged, Err(error)) => {
            *progress = go_back(staged, before).await;
            Err(Error::Store(Arc::new(error)))
        }
    }
}

/// Cuts off what of an upload may be lost. What is left comes back; `None` means that it has to be
/// read again.
async fn go_back(mut staged: Staged, before: u64) -> Option<UploadProgress> {
    let cut = blocking(move || {
        staged.cut(before)?;
        Ok(staged)
    });
    match cut.await {
        Ok(staged) => Some(staged.progress()),
        Err(error) => {
            tracing::warn!(%error, "what came of an upload's last chunk cannot be cut off");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_session_in_use_keeps_its_lock_while_idle_ones_are_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let repository = Store::open(root.path())
            .unwrap()
            .local(&"team/app".parse().unwrap());
        let (used, idle) = (UploadId::random(), UploadId::random());
        let sessions = Sessions::default();
        let held = sessions.of(&repository, &used);
        drop(sessions.of(&repository, &idle));
        sessions.forget_idle();
        assert_eq!(sessions.known.lock().unwrap().len(), 1);
        assert!(Arc::ptr_eq(&held, &sessions.of(&repository, &used)));
    }
}
