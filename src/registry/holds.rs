//! Tags that stay at a digest, whatever their upstream says: by `cache.hold`, or since somebody said
//! so while larder ran (`marks`).
//!
//! A hold is about a mirrored tag. It is answered by the digest alone, so its upstream is never
//! asked for the tag, and for the digest only while that is not here. The tag's link on the disk
//! follows as soon as there is something to link, as one that was never checked: when the hold goes,
//! the upstream is asked again.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use crate::oci::{Digest, Image, Reference, RepositoryName, Tag};
use crate::store::TagState;

use super::names::{Mirror, Names, Place};
use super::pull::{ManifestAnswer, Want};
use super::{Error, Outcome, Registry, blocking};

/// The held tags, by the full names of their mirrors: `docker.io/library/node`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds(BTreeMap<(RepositoryName, Tag), Digest>);

/// Why a hold cannot be kept. The text names its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cache.hold: {image}: {reason}")]
pub struct HoldError {
    image: String,
    reason: String,
}

impl Holds {
    /// Finds out which tags are meant.
    pub(super) fn resolve(names: &Names, holds: &[(Image, Digest)]) -> Result<Self, HoldError> {
        let mut held = BTreeMap::new();
        for (image, digest) in holds {
            let wrong = |reason: String| HoldError {
                image: image.to_string(),
                reason,
            };
            let Reference::Tag(tag) = &image.reference else {
                return Err(wrong("write the tag that is to be held".to_owned()));
            };
            let mirror = match names.for_pull(&image.target) {
                Ok(resolved) => match resolved.place {
                    Place::Mirror(mirror) => mirror,
                    Place::Local(_) => {
                        return Err(wrong(
                            "this is a local repository, and only mirrored tags can be held: write the name with its registry, as in docker.io/library/node:20".to_owned(),
                        ));
                    }
                },
                Err(error) => return Err(wrong(error.to_string())),
            };
            // A name on Docker Hub has no dot in its first part; a registry that is missing here
            // has one.
            let (first, rest) = mirror.name.split_first();
            if mirror.bare.is_some() && rest.is_some() && first.contains('.') {
                return Err(wrong(Error::UnknownUpstream(first.to_owned()).to_string()));
            }
            let key = (mirror.repository.name().clone(), tag.clone());
            let before = held.insert(key, digest.clone());
            if before.is_some_and(|before| before != *digest) {
                return Err(wrong(
                    "the same tag is held at another digest, too: leave one".to_owned(),
                ));
            }
        }
        Ok(Self(held))
    }

    pub(super) fn get(&self, name: &RepositoryName, tag: &Tag) -> Option<&Digest> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(name.clone(), tag.clone()))
    }
}

impl Registry {
    /// The digest at which a mirrored tag is held. `name` is the mirror's full name, as the
    /// catalog lists it: `docker.io/library/node`.
    pub fn held(&self, name: &RepositoryName, tag: &Tag) -> Option<Digest> {
        let configured = self.policy().holds.get(name, tag).cloned();
        configured.or_else(|| self.marked_hold(name, tag))
    }

    /// All tags that are held, with the full names of their mirrors.
    pub fn all_held(&self) -> Vec<(RepositoryName, Tag, Digest)> {
        let policy = self.policy();
        let held = policy.holds.0.iter();
        held.map(|((name, tag), digest)| (name.clone(), tag.clone(), digest.clone()))
            .collect()
    }

    /// The tags of a mirror that are held at a digest.
    pub(super) fn held_at(&self, name: &RepositoryName, digest: &Digest) -> Vec<Tag> {
        let policy = self.policy();
        let fits = |(held, at): (&(RepositoryName, Tag), &Digest)| {
            (held.0 == *name && at == digest).then(|| held.1.clone())
        };
        let mut tags: Vec<Tag> = policy.holds.0.iter().filter_map(fits).collect();
        tags.extend(self.marked_at(name, digest));
        tags
    }

    /// A held tag, which is what its digest names.
    pub(super) async fn held_tag(
        &self,
        mirror: &Mirror,
        tag: &Tag,
        digest: &Digest,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), Error> {
        let name = mirror.repository.name();
        let found = self.mirrored_manifest(mirror, digest, want).await;
        let (answer, outcome) = found.map_err(|error| match error {
            Error::Unknown { .. } => Error::HeldUnknown {
                name: name.clone(),
                tag: tag.clone(),
                digest: digest.clone(),
            },
            error => error,
        })?;
        if outcome == Outcome::Hit {
            self.point_held_tag(mirror, tag, digest).await;
        }
        Ok((answer, outcome))
    }

    /// Lets the tag on the disk be what it is held at, if it is not.
    async fn point_held_tag(&self, mirror: &Mirror, tag: &Tag, digest: &Digest) {
        let (repository, name) = (mirror.repository.clone(), tag.clone());
        let state = unchecked(digest);
        let pointed = blocking(move || {
            let known = repository.tag_state(&name)?;
            if known.is_some_and(|known| known.digest == state.digest) {
                return Ok(());
            }
            repository.put_tag_state(&name, &state)
        });
        if let Err(error) = pointed.await {
            tracing::error!(repository = %mirror.repository.name(), %tag, %error, "the held tag could not be kept");
        }
    }
}

/// The state of a tag that no upstream has confirmed.
pub(super) fn unchecked(digest: &Digest) -> TagState {
    TagState {
        digest: digest.clone(),
        checked: UNIX_EPOCH,
        stale_since: None,
    }
}
