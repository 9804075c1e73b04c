//! Manifests of mirrors: fetched whole, verified, and kept.

use std::sync::Arc;
use std::time::SystemTime;

use crate::oci::manifest::media_type_of;
use crate::oci::{Digest, MediaType, Reference};
use crate::store::{Blob, StoreError, StoredManifest, TagState};
use crate::upstream::{FetchedManifest, Upstream, UpstreamError};

use super::belief::if_readable;
use super::holds::unchecked;
use super::names::{self, Mirror, Place, Source};
use super::pass::NotKept;
use super::pull::{ManifestAnswer, Want};
use super::{Error, Missing, Outcome, Registry, blocking};

/// A manifest, and whether it is kept.
pub(super) type FetchResult = Result<(Arc<StoredManifest>, bool), Error>;

impl Registry {
    pub(super) async fn mirrored_manifest(
        &self,
        mirror: &Mirror,
        digest: &Digest,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), Error> {
        if let Some(stored) = self.stored_manifest(mirror, digest).await? {
            return Ok((stored.into(), Outcome::Hit));
        }
        let reference = Reference::Digest(digest.clone());
        let what = Missing::Manifest(reference.clone());
        let upstream = mirror.upstream(what.clone())?;
        self.not_refused(mirror, what)?;
        if want == Want::Description {
            let head = upstream.head_manifest(&mirror.name, &reference).await;
            match head {
                Ok(head) => {
                    if let Some(answer) = described(digest, head.media_type, head.size) {
                        return Ok((answer, Outcome::Miss));
                    }
                }
                Err(error) if Error::is_no(&error) => {
                    return Err(self.refused(mirror, Missing::Manifest(reference), error));
                }
                // An upstream that refuses HEAD may still give the thing.
                Err(error) => tracing::debug!(%digest, %error, "HEAD failed, trying GET"),
            }
        }
        let (fetched, outcome) = self.fetch_manifest(mirror, upstream, reference).await?;
        Ok((fetched.into(), outcome))
    }

    /// A mirror's manifest, if it is here. A damaged one counts as absent: it can be had again.
    pub(super) async fn stored_manifest(
        &self,
        mirror: &Mirror,
        digest: &Digest,
    ) -> Result<Option<Arc<StoredManifest>>, Error> {
        if let Some(since) = self.inline()
            && let Some(manifest) = mirror.repository.recalled_manifest(digest, since)
        {
            return Ok(Some(manifest));
        }
        let (repository, wanted) = (mirror.repository.clone(), digest.clone());
        let digest = digest.clone();
        let found = blocking(move || match repository.keep_manifest(&digest) {
            Err(StoreError::Damaged(blob)) => Ok(Err(blob)),
            found => if_readable(found).map(|found| Ok(found.flatten())),
        });
        Ok(match found.await? {
            Ok(found) => found,
            Err(blob) => {
                self.mend_manifest_later(mirror, wanted, blob);
                None
            }
        })
    }

    /// Gets a damaged manifest out of the way and fetches it again, in the background: who only
    /// asked what it is does not come for it, and dockerd has its own copy.
    fn mend_manifest_later(&self, mirror: &Mirror, digest: Digest, damaged: Blob) {
        let (registry, mirror) = (self.clone(), mirror.clone());
        self.inner.tasks.spawn(async move {
            let place = Place::Mirror(mirror.clone());
            registry.put_away(&place, &damaged, "is damaged").await;
            let reference = Reference::Digest(digest);
            let what = Missing::Manifest(reference.clone());
            let Ok(upstream) = mirror.upstream(what).cloned() else {
                return;
            };
            if let Err(error) = registry.fetch_manifest(&mirror, &upstream, reference).await {
                tracing::debug!(%error, "not fetched again");
            }
        });
    }

    /// Gets a manifest from the upstream and stores it, once for all who ask at the same time.
    pub(super) async fn fetch_manifest(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        reference: Reference,
    ) -> Result<(Arc<StoredManifest>, Outcome), Error> {
        let key = (mirror.repository.name().clone(), reference.clone());
        let work = || {
            let (registry, mirror, upstream) = (self.clone(), mirror.clone(), Arc::clone(upstream));
            async move {
                // The last flight may have landed between the caller's look and this one's start.
                if let Some(stored) = registry.landed(&mirror, &reference).await {
                    return Ok((stored, true));
                }
                match upstream.get_manifest(&mirror.name, &reference).await {
                    Ok(fetched) => registry.take_in(&mirror, &reference, fetched).await,
                    Err(error) => {
                        Err(registry.refused(&mirror, Missing::Manifest(reference), error))
                    }
                }
            }
        };
        let shared = self.inner.manifests.share(&key, work).await;
        let shared = shared.ok_or(Error::Vanished)?;
        let (manifest, is_kept) = shared.value?;
        let outcome = if is_kept {
            Outcome::fetched(shared.joined)
        } else {
            Outcome::Pass
        };
        Ok((manifest, outcome))
    }

    /// What is asked for by digest and has been stored meanwhile.
    async fn landed(&self, mirror: &Mirror, reference: &Reference) -> Option<Arc<StoredManifest>> {
        let Reference::Digest(digest) = reference.clone() else {
            return None;
        };
        let repository = mirror.repository.clone();
        let found = blocking(move || Ok(repository.manifest(&digest).ok().flatten()));
        found.await.ok().flatten().map(Arc::new)
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
        let manifest = StoredManifest::new(digest.clone(), media_type, fetched.bytes);
        let manifest = Arc::new(manifest);
        let key = (mirror.repository.name().clone(), digest.clone());
        let mut tags = self.inner.memory.take_told(&key);
        if let Reference::Tag(tag) = reference {
            tags.insert(tag.clone(), SystemTime::now());
        }
        let name = mirror.repository.name();
        tags.retain(|tag, _| self.held(name, tag).is_none());
        let held = self.held_at(name, &digest);
        let (repository, stored) = (mirror.repository.clone(), Arc::clone(&manifest));
        let kept = self.keeping(move || {
            repository.put_manifest(&stored.digest, &stored.media_type, &stored.bytes)?;
            for tag in &held {
                repository.put_tag_state(tag, &unchecked(&stored.digest))?;
            }
            for (tag, checked) in &tags {
                // A tag that was checked later than this was told has moved on.
                let known = repository.tag_state(tag)?;
                if known.is_none_or(|known| known.checked <= *checked) {
                    let digest = stored.digest.clone();
                    let stale_since = None;
                    let checked = *checked;
                    repository.put_tag_state(
                        tag,
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
        // A full disk fails no pull: the bytes are verified, and they are here.
        let kept = kept.await;
        match &kept {
            Err(Error::Store(error)) if error.keeps_nothing() => {
                self.not_kept(mirror, &digest, &NotKept::Failed(error));
            }
            Err(error) => {
                tracing::error!(repository = %mirror.repository.name(), %digest, %error, "fetched, but not kept");
            }
            Ok(()) => {}
        }
        Ok((manifest, kept.is_ok()))
    }

    /// Whether the upstream has not just said no to this.
    pub(super) fn not_refused(&self, mirror: &Mirror, what: Missing) -> Result<(), Error> {
        match self.inner.memory.no(mirror.repository.name(), &what) {
            Some(error) => Err(mirror.failure(what, error)),
            None => Ok(()),
        }
    }

    /// The error for what the upstream did not give; a "no" is remembered.
    pub(super) fn refused(&self, mirror: &Mirror, what: Missing, error: UpstreamError) -> Error {
        if Error::is_no(&error) {
            let name = mirror.repository.name();
            self.inner.memory.remember_no(name, &what, error.clone());
        }
        mirror.failure(what, error)
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

impl Mirror {
    /// The error for something that the upstream did not give. A plain "no" is an answer like a
    /// local one; that an upstream denies what our own token was good for also means "no":
    /// Docker Hub says 401 for repositories that do not exist.
    pub(super) fn failure(&self, what: Missing, error: UpstreamError) -> Error {
        let name = self.repository.name().clone();
        if Error::is_no(&error) {
            return Error::Unknown { name, what };
        }
        if error == UpstreamError::Offline {
            let reason = names::OFFLINE;
            return Error::NotCached { name, what, reason };
        }
        let upstream = match &self.source {
            Source::Upstream(upstream) => upstream.name().to_owned(),
            Source::Nowhere(_) => name.to_string(),
        };
        Error::Upstream {
            upstream,
            what,
            error,
        }
    }
}
