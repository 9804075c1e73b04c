//! Pulling: from the disk where it is there, from the upstream where it is not.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::oci::{Digest, MediaType, Reference};
use crate::store::{Blob, StoredManifest};
use crate::upstream::{Presence, Upstream, UpstreamError};

use super::content::{BlobContent, HELD_BACK};
use super::fill::{Claim, Fill};
use super::names::{Mirror, Place};
use super::{Error, Missing, Outcome, Registry, blocking};

/// The longest that somebody who may be about to push waits to hear what need not be sent.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a blob is tried for that others are busy with, before giving up.
const TRIES: usize = 3;

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
        match (place, reference) {
            (Place::Local(repository), _) => {
                let (repository, wanted) = (repository.clone(), reference.clone());
                let found = blocking(move || match wanted {
                    // Who asks may be about to push, and then does not send what is here.
                    Reference::Digest(digest) if want == Want::Description => {
                        repository.rely_on_manifest(&digest)
                    }
                    Reference::Digest(digest) => repository.manifest(&digest),
                    Reference::Tag(tag) => match repository.tag(&tag)? {
                        Some(digest) => repository.manifest(&digest),
                        None => Ok(None),
                    },
                });
                match found.await? {
                    Some(stored) => Ok((Arc::new(stored).into(), Outcome::Hit)),
                    None => Err(place.unknown(Missing::Manifest(reference.clone()))),
                }
            }
            (Place::Mirror(mirror), Reference::Tag(tag)) => {
                self.mirrored_tag(mirror, tag, want, SystemTime::now())
                    .await
            }
            (Place::Mirror(mirror), Reference::Digest(digest)) => {
                let found = self.mirrored_manifest(mirror, digest, want).await?;
                self.promise(mirror, digest, want);
                Ok(found)
            }
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
            Place::Local(repository) => {
                let (repository, wanted) = (repository.clone(), digest.clone());
                let found = blocking(move || match want {
                    Want::Content => repository.blob(&wanted),
                    // Who asks may be about to push, and then does not send what is here.
                    Want::Description => repository.rely_on_blob(&wanted),
                });
                match found.await? {
                    Some(blob) => Ok((BlobContent::stored(blob).into(), Outcome::Hit)),
                    None => Err(place.unknown(Missing::Blob(digest.clone()))),
                }
            }
            Place::Mirror(mirror) => self.mirrored_blob(mirror, digest, want).await,
        }
    }

    async fn mirrored_blob(
        &self,
        mirror: &Mirror,
        digest: &Digest,
        want: Want,
    ) -> Result<(BlobAnswer, Outcome), Error> {
        let (repository, wanted) = (mirror.repository.clone(), digest.clone());
        if let Some(blob) = blocking(move || repository.blob(&wanted)).await? {
            self.promise(mirror, digest, want);
            return Ok((BlobContent::stored(blob).into(), Outcome::Hit));
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
            let (fill, outcome) = match claim {
                Claim::Stored(blob) => return Ok((BlobContent::stored(blob).into(), Outcome::Hit)),
                Claim::Unlinked => {
                    self.upstream_size(mirror, &upstream, digest).await?;
                    match self.link(mirror, digest).await? {
                        Some(blob) => {
                            return Ok((BlobContent::stored(blob).into(), Outcome::Revalidated));
                        }
                        // Removed meanwhile: it has to be fetched after all.
                        None => continue,
                    }
                }
                Claim::Started(fill) => (fill, Outcome::Miss),
                Claim::Running(fill) => (fill, Outcome::Joined),
            };
            let foreign = fill.source != *mirror.repository.name();
            if foreign {
                // Another repository's download: that it is under way may only be seen by those
                // whose own upstream would give them the blob as well.
                self.upstream_size(mirror, &upstream, digest).await?;
                self.link_after(Arc::clone(&fill), mirror, digest);
            }
            let content = match fill.content().await {
                Ok(content) if content.size() <= HELD_BACK => {
                    fill.committed().await.map(BlobContent::stored)
                }
                content => content,
            };
            match content {
                Ok(content) => return Ok((content.into(), outcome)),
                // What another repository's upstream would not give, this one's may.
                Err(error) if foreign => tracing::debug!(%digest, %error, "trying for itself"),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Vanished)
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
        let (repository, digest) = (mirror.repository.clone(), digest.clone());
        blocking(move || {
            if repository.link_blob(&digest)? {
                repository.blob(&digest)
            } else {
                Ok(None)
            }
        })
        .await
    }

    /// Links a blob into this mirror too, once another repository's fill of it is through.
    fn link_after(&self, fill: Arc<Fill>, mirror: &Mirror, digest: &Digest) {
        let (registry, mirror, digest) = (self.clone(), mirror.clone(), digest.clone());
        self.inner.tasks.spawn(async move {
            if fill.committed().await.is_ok()
                && let Err(error) = registry.link(&mirror, &digest).await
            {
                tracing::warn!(repository = %mirror.repository.name(), %digest, %error, "not linked");
            }
        });
    }

    /// A client that is told of a blob under a name that is not local yet may be about to push
    /// there, and will then not send it.
    fn promise(&self, mirror: &Mirror, digest: &Digest, want: Want) {
        if let (Some(bare), Want::Description) = (&mirror.bare, want) {
            self.inner.memory.remember_promise(bare, digest);
        }
    }
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
