//! Pulling: from the disk where it is there, from the upstream where it is not.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::oci::{Digest, MediaType, Reference};
use crate::store::{Blob, Moment, Repository, StoreError, StoredManifest, Trust};
use crate::upstream::{Presence, Upstream, UpstreamError};

use super::belief::if_readable;
use super::content::BlobContent;
use super::fill::{Claim, End, Fill};
use super::names::{Mirror, Place};
use super::pass::NotKept;
use super::{Error, Missing, Outcome, Registry, arrival, blocking};

/// The longest that somebody who may be about to push waits to hear what need not be sent.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a blob is tried for that others are busy with, before giving up.
const TRIES: usize = 4;

pub(super) type SizeResult = Result<u64, UpstreamError>;

/// Whether the content itself is wanted, or only what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// GET
    Content,
    /// HEAD
    Description,
}

/// A manifest, or what its upstream says about it.
#[derive(Clone, Debug)]
pub struct ManifestAnswer {
    /// Its digest.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes; `None` only where a description was wanted.
    pub bytes: Option<Arc<StoredManifest>>,
}

impl From<Arc<StoredManifest>> for ManifestAnswer {
    fn from(stored: Arc<StoredManifest>) -> Self {
        Self {
            digest: stored.digest.clone(),
            media_type: stored.media_type.clone(),
            size: stored.bytes.len() as u64,
            bytes: Some(stored),
        }
    }
}

/// A blob, or how large its upstream says it is.
#[derive(Clone, Debug)]
pub struct BlobAnswer {
    /// Its size in bytes.
    pub size: u64,
    /// Its content; `None` only where a description was wanted.
    pub content: Option<BlobContent>,
}

impl From<BlobContent> for BlobAnswer {
    fn from(content: BlobContent) -> Self {
        Self {
            size: content.size(),
            content: Some(content),
        }
    }
}

impl Registry {
    /// Finds a manifest.
    pub async fn manifest(
        &self,
        place: &Place,
        reference: &Reference,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), Error> {
        if let Place::Local(repository) = place
            && let Some(stored) = self.recalled(repository, reference, want)
        {
            return Ok((stored.into(), Outcome::Hit));
        }
        // What has to be waited for needs more room than most requests do.
        Box::pin(self.found_manifest(place, reference, want)).await
    }

    async fn found_manifest(
        &self,
        place: &Place,
        reference: &Reference,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), Error> {
        match (place, reference) {
            (Place::Local(repository), _) => {
                let (repository, wanted) = (repository.clone(), reference.clone());
                let found = blocking(move || match wanted {
                    // Who asks may be about to push, and then does not send what is here.
                    Reference::Digest(digest) if want == Want::Description => {
                        repository.rely_on_manifest(&digest)
                    }
                    Reference::Digest(digest) => repository.keep_manifest(&digest),
                    Reference::Tag(tag) => match repository.keep_tag(&tag)? {
                        Some(state) => repository.keep_manifest(&state.digest),
                        None => Ok(None),
                    },
                });
                match self.sound(place, found.await).await? {
                    Some(stored) => Ok((stored.into(), Outcome::Hit)),
                    None => Err(place.unknown(Missing::Manifest(reference.clone()))),
                }
            }
            (Place::Mirror(mirror), Reference::Tag(tag)) => {
                let found = self.mirrored_tag(mirror, tag, want, SystemTime::now());
                let found = found.await?;
                self.note_pull(mirror, &found.0);
                Ok(found)
            }
            (Place::Mirror(mirror), Reference::Digest(digest)) => {
                let found = self.mirrored_manifest(mirror, digest, want).await?;
                self.promise(mirror, digest, want);
                self.note_pull(mirror, &found.0);
                Ok(found)
            }
        }
    }

    /// A local manifest that is in memory, where asking for it leaves nothing to note.
    fn recalled(
        &self,
        repository: &Repository,
        reference: &Reference,
        want: Want,
    ) -> Option<Arc<StoredManifest>> {
        let since = self.inline()?;
        match reference {
            Reference::Digest(_) if want == Want::Description => None,
            Reference::Digest(digest) => repository.recalled_manifest(digest, since),
            Reference::Tag(tag) => {
                let state = repository.recalled_tag(tag, since)?;
                repository.recalled_manifest(&state.digest, since)
            }
        }
    }

    /// Since when a look counts for who is asking, where the disk can be looked at at once.
    pub(super) fn inline(&self) -> Option<Moment> {
        self.inner.store.looks_are_quick().then(arrival::since)
    }

    /// A local manifest that can be believed. One that is damaged is moved aside and counts as
    /// absent, so that whoever pushes sends it again.
    async fn sound(
        &self,
        place: &Place,
        found: Result<Option<Arc<StoredManifest>>, Error>,
    ) -> Result<Option<Arc<StoredManifest>>, Error> {
        match found {
            Err(Error::Store(error)) if error.is_unreadable() => {
                tracing::error!(%error, "a stored manifest cannot be read, and counts as absent. To do: look into the system's log, and push it again");
                Ok(None)
            }
            Err(Error::Store(error)) => {
                let StoreError::Damaged(blob) = &*error else {
                    return Err(Error::Store(error));
                };
                self.put_away(place, blob, "is damaged").await;
                Ok(None)
            }
            found => found,
        }
    }

    /// Finds a blob.
    pub async fn blob(
        &self,
        place: &Place,
        digest: &Digest,
        want: Want,
    ) -> Result<(BlobAnswer, Outcome), Error> {
        match place {
            Place::Local(_) => match self.hit(place, digest, want).await? {
                Some(answer) => Ok((answer, Outcome::Hit)),
                None => Err(place.unknown(Missing::Blob(digest.clone()))),
            },
            Place::Mirror(mirror) => Box::pin(self.mirrored_blob(mirror, digest, want)).await,
        }
    }

    /// What is stored of a blob, and can be believed.
    async fn hit(
        &self,
        place: &Place,
        digest: &Digest,
        want: Want,
    ) -> Result<Option<BlobAnswer>, Error> {
        let repository = match place {
            Place::Local(repository) => repository,
            Place::Mirror(mirror) => &mirror.repository,
        };
        // Who asks may be about to push, and then does not send what is here.
        let is_relied_on = matches!((place, want), (Place::Local(_), Want::Description));
        let since = self.inline().filter(|_| !is_relied_on);
        let open = since.and_then(|since| repository.recalled_blob(digest, since));
        let found = if let Some((blob, trust)) = open {
            if trust == Trust::Verified {
                return Ok(Some(BlobContent::stored(blob).into()));
            }
            Some(blob)
        } else {
            let (repository, wanted) = (repository.clone(), digest.clone());
            let found = blocking(move || {
                if_readable(if is_relied_on {
                    repository.rely_on_blob(&wanted)
                } else {
                    repository.keep_blob(&wanted)
                })
            });
            found.await?.flatten()
        };
        match (found, want) {
            (None, _) => Ok(None),
            (Some(blob), Want::Description) => {
                let is_there = blob.trust() != Trust::Damaged;
                Ok(is_there.then(|| BlobContent::stored(blob).into()))
            }
            (Some(blob), Want::Content) => {
                let content = Box::pin(self.believe(place, blob)).await?;
                Ok(content.map(BlobAnswer::from))
            }
        }
    }

    async fn mirrored_blob(
        &self,
        mirror: &Mirror,
        digest: &Digest,
        want: Want,
    ) -> Result<(BlobAnswer, Outcome), Error> {
        let place = Place::Mirror(mirror.clone());
        if let Some(answer) = self.hit(&place, digest, want).await? {
            self.promise(mirror, digest, want);
            return Ok((answer, Outcome::Hit));
        }
        let what = Missing::Blob(digest.clone());
        let upstream = Arc::clone(mirror.upstream(what.clone())?);
        self.not_refused(mirror, what)?;
        if want == Want::Description {
            return self.described_blob(mirror, &upstream, digest).await;
        }
        for _ in 0..TRIES {
            let claim = self.claim_fill(mirror, &upstream, digest);
            let claim = claim.map_err(|error| Error::Store(Arc::new(error)))?;
            let (stored, outcome) = match claim {
                Claim::Started(fill) => {
                    return Ok(answered(fill.content().await?, Outcome::Miss));
                }
                Claim::Running(fill) => {
                    match self.joined(mirror, &upstream, digest, &fill).await? {
                        Some(answer) => return Ok(answer),
                        None => continue,
                    }
                }
                Claim::Stored(blob) => (Some(blob), Outcome::Hit),
                Claim::Unlinked => {
                    self.upstream_size(mirror, &upstream, digest).await?;
                    (self.link(mirror, digest).await?, Outcome::Revalidated)
                }
            };
            // Removed meanwhile, or of no use: it has to be fetched after all.
            if let Some(blob) = stored
                && let Some(content) = self.believe(&place, blob).await?
            {
                return Ok((content.into(), outcome));
            }
        }
        Err(Error::Vanished)
    }

    /// The answer from a fill that another request has started; `None` where that one's upstream
    /// does not give it, and this one's may.
    async fn joined(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        digest: &Digest,
        fill: &Arc<Fill>,
    ) -> Result<Option<(BlobAnswer, Outcome)>, Error> {
        let foreign = fill.source != *mirror.repository.name();
        if foreign {
            // Another repository's download: that it is under way may only be seen by those
            // whose own upstream would give them the blob as well.
            self.upstream_size(mirror, upstream, digest).await?;
            self.link_after(Arc::clone(fill), mirror, digest);
        }
        match fill.content().await {
            Ok(content) => Ok(Some(answered(content, Outcome::Joined))),
            Err(error) if foreign => {
                tracing::debug!(%digest, %error, "trying for itself");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A blob that is not here, as the upstream describes it.
    ///
    /// Who asks under a name that could be pushed to may be about to push, and wants to know what
    /// need not be sent: that is not worth a long wait, and "send it" is never wrong.
    async fn described_blob(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        digest: &Digest,
    ) -> Result<(BlobAnswer, Outcome), Error> {
        let asked = self.upstream_size(mirror, upstream, digest);
        let (size, joined) = if mirror.bare.is_some() {
            let unknown = || Place::Mirror(mirror.clone()).unknown(Missing::Blob(digest.clone()));
            if let Presence::Away(reason) = upstream.presence()
                && !matches!(reason, UpstreamError::RateLimited { .. })
            {
                return Err(unknown());
            }
            let started = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, asked).await;
            answer
                .map_err(|_| {
                    upstream.waited_in_vain(started);
                    unknown()
                })?
                .map_err(|error| match error {
                    Error::Upstream { .. } => {
                        tracing::debug!(%digest, %error, "taken as absent");
                        unknown()
                    }
                    error => error,
                })?
        } else {
            asked.await?
        };
        self.promise(mirror, digest, Want::Description);
        let content = None;
        Ok((BlobAnswer { size, content }, Outcome::fetched(joined)))
    }

    /// How large the upstream says a blob is: proof that it would give it.
    async fn upstream_size(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        digest: &Digest,
    ) -> Result<(u64, bool), Error> {
        let key = (mirror.repository.name().clone(), digest.clone());
        let work = || {
            let (upstream, name, digest) =
                (Arc::clone(upstream), mirror.name.clone(), digest.clone());
            async move { upstream.blob_size(&name, &digest).await }
        };
        let shared = self.inner.sizes.share(&key, work).await;
        let shared = shared.ok_or(Error::Vanished)?;
        match shared.value {
            Ok(size) => Ok((size, shared.joined)),
            Err(error) => Err(self.refused(mirror, Missing::Blob(digest.clone()), error)),
        }
    }

    /// Links a blob whose data is here, and opens it.
    async fn link(&self, mirror: &Mirror, digest: &Digest) -> Result<Option<Blob>, Error> {
        let (repository, wanted) = (mirror.repository.clone(), digest.clone());
        let linked = self.keeping(move || {
            if repository.link_blob(&wanted)? {
                repository.blob(&wanted)
            } else {
                Ok(None)
            }
        });
        match linked.await {
            // It is here, and the upstream would give it: only the link cannot be kept.
            Err(Error::Store(error)) if error.keeps_nothing() => {
                self.not_kept(mirror, digest, &NotKept::Failed(&error));
                let (store, wanted) = (self.inner.store.clone(), digest.clone());
                blocking(move || store.open_data(&wanted)).await
            }
            linked => linked,
        }
    }

    /// Links a blob into this mirror too, once another repository's fill of it is through.
    fn link_after(&self, fill: Arc<Fill>, mirror: &Mirror, digest: &Digest) {
        let (registry, mirror, digest) = (self.clone(), mirror.clone(), digest.clone());
        self.inner.tasks.spawn(async move {
            if let Ok(End::Stored(_)) = fill.ended().await
                && let Err(error) = registry.link(&mirror, &digest).await
            {
                tracing::warn!(repository = %mirror.repository.name(), %digest, %error, "not linked");
            }
        });
    }

    /// A manifest that is kept here was used. That its blobs are asked for says nothing more: who
    /// has them already does not ask.
    fn note_pull(&self, mirror: &Mirror, answer: &ManifestAnswer) {
        if answer.bytes.is_some() {
            self.note_use(mirror.repository.name(), &answer.digest);
        }
    }

    /// A client that is told of a blob under a name that is not local yet may be about to push
    /// there, and will then not send it.
    fn promise(&self, mirror: &Mirror, digest: &Digest, want: Want) {
        if let (Some(bare), Want::Description) = (&mirror.bare, want) {
            self.inner.memory.remember_promise(bare, digest);
        }
    }
}

/// The answer from a fill, however that goes on.
fn answered(content: BlobContent, outcome: Outcome) -> (BlobAnswer, Outcome) {
    let outcome = if content.is_passing() {
        Outcome::Pass
    } else {
        outcome
    };
    (content.into(), outcome)
}

impl Place {
    fn unknown(&self, what: Missing) -> Error {
        let name = match self {
            Self::Local(repository) => repository.name(),
            Self::Mirror(mirror) => mirror.repository.name(),
        };
        Error::Unknown {
            name: name.clone(),
            what,
        }
    }
}
