//! Pulling: from the disk where it is there, from the upstream where it is not.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::watch;

use crate::oci::manifest::media_type_of;
use crate::oci::{Digest, MediaType, Reference};
use crate::store::{Blob, StoreError, StoredManifest, TagState};
use crate::upstream::{FetchedManifest, Upstream, UpstreamError};

use super::fill::{Claim, Progress};
use super::names::{Mirror, Place};
use super::{Error, Missing, Outcome, Registry, blocking};

/// The end of an answer that is withheld until a fill is verified, in bytes.
///
/// Content no larger than this is not announced before the verdict at all.
const HELD_BACK: u64 = 64 * 1024;

/// How much is read from the disk at a time, in bytes.
const READ: u64 = 64 * 1024;

/// How often a blob is tried for that others are busy with, before giving up.
const TRIES: usize = 3;

pub(super) type FetchResult = Result<Arc<StoredManifest>, Error>;
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

/// A blob, or how large its upstream says it is.
#[derive(Clone, Debug)]
pub struct BlobAnswer {
    /// Its size in bytes.
    pub size: u64,
    /// Its content; `None` only where a description was wanted.
    pub content: Option<BlobContent>,
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
                self.mirrored_manifest(mirror, digest, want).await
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
                match blocking(move || repository.blob(&wanted)).await? {
                    Some(blob) => Ok((BlobContent::stored(blob).into(), Outcome::Hit)),
                    None => Err(place.unknown(Missing::Blob(digest.clone()))),
                }
            }
            Place::Mirror(mirror) => self.mirrored_blob(mirror, digest, want).await,
        }
    }

    async fn mirrored_manifest(
        &self,
        mirror: &Mirror,
        digest: &Digest,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), Error> {
        if let Some(stored) = self.stored_manifest(mirror, digest).await? {
            return Ok((stored.into(), Outcome::Hit));
        }
        let upstream = mirror.upstream()?;
        let reference = Reference::Digest(digest.clone());
        self.not_refused(mirror, &reference)?;
        if want == Want::Description {
            let head = upstream.head_manifest(&mirror.name, &reference).await;
            match head {
                Ok(head) => {
                    if let Some(answer) = described(digest, head.media_type, head.size) {
                        return Ok((answer, Outcome::Miss));
                    }
                }
                Err(error) if Error::is_no(&error) => {
                    return Err(self.refused(mirror, reference, error));
                }
                // An upstream that refuses HEAD may still give the thing.
                Err(error) => tracing::debug!(%digest, %error, "HEAD failed, trying GET"),
            }
        }
        let (fetched, joined) = self.fetch_manifest(mirror, upstream, reference).await?;
        Ok((fetched.into(), Outcome::fetched(joined)))
    }

    /// A mirror's manifest, if it is here. A damaged one counts as absent: it can be had again.
    pub(super) async fn stored_manifest(
        &self,
        mirror: &Mirror,
        digest: &Digest,
    ) -> Result<Option<Arc<StoredManifest>>, Error> {
        let (repository, digest) = (mirror.repository.clone(), digest.clone());
        let found = blocking(move || match repository.manifest(&digest) {
            Err(StoreError::Damaged(_)) => Ok(None),
            found => found,
        });
        Ok(found.await?.map(Arc::new))
    }

    /// Gets a manifest from the upstream and stores it, once for all who ask at the same time.
    pub(super) async fn fetch_manifest(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        reference: Reference,
    ) -> Result<(Arc<StoredManifest>, bool), Error> {
        let key = (mirror.repository.name().clone(), reference.clone());
        let work = || {
            let (registry, mirror, upstream) = (self.clone(), mirror.clone(), Arc::clone(upstream));
            async move {
                match upstream.get_manifest(&mirror.name, &reference).await {
                    Ok(fetched) => registry.take_in(&mirror, &reference, fetched).await,
                    Err(error) => Err(registry.refused(&mirror, reference, error)),
                }
            }
        };
        let shared = self.inner.manifests.share(&key, work).await;
        let shared = shared.ok_or(Error::Vanished)?;
        Ok((shared.value?, shared.joined))
    }

    /// Stores a manifest that was fetched, and moves the tags it was fetched for.
    async fn take_in(
        &self,
        mirror: &Mirror,
        reference: &Reference,
        fetched: FetchedManifest,
    ) -> FetchResult {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(_) => Digest::of(&fetched.bytes),
        };
        let media_type = media_type_of(&fetched.bytes, fetched.media_type.as_ref());
        let media_type = media_type.map_err(|error| {
            let reason = format!("sent something that is no manifest: {error}");
            let missing = Missing::Manifest(reference.clone());
            mirror.failure(missing, UpstreamError::Misbehaved { reason })
        })?;
        let manifest = Arc::new(StoredManifest {
            digest: digest.clone(),
            media_type,
            bytes: fetched.bytes.into(),
        });
        let key = (mirror.repository.name().clone(), digest.clone());
        let mut tags = self.inner.memory.take_told(&key);
        if let Reference::Tag(tag) = reference {
            tags.insert(tag.clone(), SystemTime::now());
        }
        let (repository, stored) = (mirror.repository.clone(), Arc::clone(&manifest));
        let kept = blocking(move || {
            repository.put_manifest(&stored.digest, &stored.media_type, &stored.bytes)?;
            for (tag, checked) in tags {
                // A tag that was checked later than this was told has moved on.
                let known = repository.tag_state(&tag)?;
                if known.is_none_or(|known| known.checked <= checked) {
                    let digest = stored.digest.clone();
                    let stale_since = None;
                    repository.put_tag_state(
                        &tag,
                        &TagState {
                            digest,
                            checked,
                            stale_since,
                        },
                    )?;
                }
            }
            Ok(())
        });
        if let Err(error) = kept.await {
            // A full disk fails no pull: the bytes are verified, and they are here.
            tracing::error!(repository = %mirror.repository.name(), %digest, %error, "fetched, but not kept");
        }
        Ok(manifest)
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
        let upstream = Arc::clone(mirror.upstream()?);
        self.not_refused(mirror, &Reference::Digest(digest.clone()))?;
        if want == Want::Description {
            let (size, joined) = self.upstream_size(mirror, &upstream, digest).await?;
            self.promise(mirror, digest, want);
            let content = None;
            return Ok((BlobAnswer { size, content }, Outcome::fetched(joined)));
        }
        for _ in 0..TRIES {
            let claim = self.claim_fill(mirror, &upstream, digest);
            let claim = claim.map_err(|error| Error::Store(Arc::new(error)))?;
            let (fill, outcome) = match claim {
                Claim::Stored(blob) => return Ok((BlobContent::stored(blob).into(), Outcome::Hit)),
                Claim::Unlinked => {
                    self.upstream_size(mirror, &upstream, digest).await?;
                    self.link(mirror, digest).await?;
                    continue;
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
            Err(error) => {
                if Error::is_no(&error) {
                    let reference = Reference::Digest(digest.clone());
                    let name = mirror.repository.name();
                    self.inner
                        .memory
                        .remember_no(name, &reference, error.clone());
                }
                Err(mirror.failure(Missing::Blob(digest.clone()), error))
            }
        }
    }

    async fn link(&self, mirror: &Mirror, digest: &Digest) -> Result<(), Error> {
        let (repository, digest) = (mirror.repository.clone(), digest.clone());
        blocking(move || repository.link_blob(&digest)).await
    }

    /// Links a blob into this mirror too, once another repository's fill of it is through.
    fn link_after(&self, fill: Arc<super::fill::Fill>, mirror: &Mirror, digest: &Digest) {
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

    /// Whether the upstream has not just said no to this.
    pub(super) fn not_refused(&self, mirror: &Mirror, reference: &Reference) -> Result<(), Error> {
        match self.inner.memory.no(mirror.repository.name(), reference) {
            Some(error) => Err(mirror.failure(Missing::Manifest(reference.clone()), error)),
            None => Ok(()),
        }
    }

    /// The error for a manifest that the upstream did not give; a "no" is remembered.
    pub(super) fn refused(
        &self,
        mirror: &Mirror,
        reference: Reference,
        error: UpstreamError,
    ) -> Error {
        if Error::is_no(&error) {
            let name = mirror.repository.name();
            self.inner
                .memory
                .remember_no(name, &reference, error.clone());
        }
        mirror.failure(Missing::Manifest(reference), error)
    }
}

/// An answer from a description alone, where that says all that clients insist on.
pub(super) fn described(
    digest: &Digest,
    media_type: Option<MediaType>,
    size: Option<u64>,
) -> Option<ManifestAnswer> {
    Some(ManifestAnswer {
        digest: digest.clone(),
        media_type: media_type.filter(|media_type| !media_type.is_vague())?,
        size: size.filter(|size| *size > 0)?,
        bytes: None,
    })
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

impl Mirror {
    /// The error for something that the upstream did not give. A plain "no" is an answer like a
    /// local one; that an upstream denies what our own token was good for also means "no":
    /// Docker Hub says 401 for repositories that do not exist.
    pub(super) fn failure(&self, what: Missing, error: UpstreamError) -> Error {
        let name = self.repository.name().clone();
        if Error::is_no(&error) {
            return Error::Unknown { name, what };
        }
        let upstream = match self.upstream() {
            Ok(upstream) => upstream.name().to_owned(),
            Err(_) => name.to_string(),
        };
        Error::Upstream {
            upstream,
            what,
            error,
        }
    }
}

/// A blob's content: stored, or on its way.
#[derive(Clone, Debug)]
pub struct BlobContent {
    blob: Blob,
    progress: Option<watch::Receiver<Progress>>,
}

impl From<BlobContent> for BlobAnswer {
    fn from(content: BlobContent) -> Self {
        Self {
            size: content.size(),
            content: Some(content),
        }
    }
}

impl BlobContent {
    pub(super) fn stored(blob: Blob) -> Self {
        let progress = None;
        Self { blob, progress }
    }

    pub(super) fn filling(blob: Blob, progress: watch::Receiver<Progress>) -> Self {
        let progress = Some(progress);
        Self { blob, progress }
    }

    /// The size of the whole blob in bytes.
    pub fn size(&self) -> u64 {
        self.blob.size()
    }

    /// Reads the bytes from `start` up to but not including `end`.
    pub fn read(self, start: u64, end: u64) -> BlobReader {
        BlobReader {
            content: self,
            offset: start,
            end,
        }
    }
}

/// Reads a blob at its own pace, whether it is complete or still growing.
#[derive(Debug)]
pub struct BlobReader {
    content: BlobContent,
    offset: u64,
    end: u64,
}

impl BlobReader {
    /// The next bytes; `None` at the end. An error means that the rest will never come: the
    /// answer must not end as if it were complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let readable = self.readable().await?;
        let length = (readable - self.offset).min(READ);
        let (blob, offset) = (self.content.blob.clone(), self.offset);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let read = tokio::task::spawn_blocking(move || blob.read_at(offset, length)).await;
        match read {
            Ok(Ok(bytes)) if !bytes.is_empty() => {
                self.offset += bytes.len() as u64;
                Ok(Some(Bytes::from(bytes)))
            }
            Ok(Ok(_)) => {
                tracing::error!(offset, "a stored blob ends before its size");
                Err(Error::Vanished)
            }
            Ok(Err(error)) => {
                tracing::error!(offset, %error, "a stored blob cannot be read");
                Err(Error::Vanished)
            }
            Err(_) => Err(Error::Vanished),
        }
    }

    /// Waits until there is something to read, and says up to where.
    ///
    /// Until the fill is verified, the end of what was asked for is withheld, be it the end of
    /// the blob or of a part: nothing unverified is ever a complete answer.
    async fn readable(&mut self) -> Result<u64, Error> {
        let Some(progress) = &mut self.content.progress else {
            return Ok(self.end);
        };
        let (offset, end) = (self.offset, self.end);
        let withheld = end.saturating_sub(HELD_BACK);
        let can_go_on = |progress: &Progress| match progress {
            Progress::Opening => false,
            Progress::Receiving { written, .. } => offset < withheld.min(*written),
            Progress::Committed(_) | Progress::Failed(_) => true,
        };
        // A fill that vanished without a word has failed.
        let state = progress.wait_for(can_go_on).await;
        let readable = match &*state.map_err(|_| Error::Vanished)? {
            Progress::Receiving { written, .. } => withheld.min(*written),
            Progress::Committed(_) => end,
            Progress::Failed(error) => return Err(error.clone()),
            Progress::Opening => return Err(Error::Vanished),
        };
        Ok(readable)
    }
}
