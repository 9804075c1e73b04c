//! One image as it is here, and what is known of tags. No upstream is asked.

use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::oci::referrer::index_of;
use crate::oci::walk::MAX_CONFIG;
use crate::oci::{
    Contents, Digest, MediaType, Platform, PlatformName, Reference, Referrer, RepositoryName, Tag,
};
use crate::store::{Care, Kind, LastUse, Repository, StoreError, StoredManifest};

use super::{Error, Missing, Registry, blocking};

/// So many of the manifests that an index lists are looked into.
const CHILDREN: usize = 200;

/// So many referrers are told.
const REFERRERS: usize = 200;

/// An image as far as it is here.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// What was asked for.
    pub digest: Digest,
    /// What its manifest is.
    pub media_type: MediaType,
    /// Its manifest.
    pub top: Bytes,
    /// What an index lists that runs on something, and whether all of it is here.
    pub platforms: Vec<PlatformHere>,
    /// The manifest of the image that is looked into, if it is here: the same, if that is no index.
    pub manifest: Option<Bytes>,
    /// The configuration of that image, if it is here and sound.
    pub config: Option<Bytes>,
    /// Those of its layers that are here.
    pub layers: HashSet<Digest>,
    /// The bytes of all that is here of what was asked for.
    pub size: u64,
    /// What refers to it, as an index in JSON.
    pub referrers: String,
}

/// An image of an index.
#[derive(Clone, Debug)]
pub struct PlatformHere {
    /// What it runs on.
    pub name: PlatformName,
    /// Its manifest.
    pub digest: Digest,
    /// The bytes of what is here of it.
    pub size: u64,
    /// Whether all of it is here.
    pub here: bool,
}

/// What is known of a tag beside what it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagFacts {
    /// When its image was last pulled, as far as that is known. Nobody knows of local ones.
    pub used: Option<SystemTime>,
    /// When its upstream last confirmed it; of a local one, when it was pushed.
    pub dated: Option<SystemTime>,
    /// Since when its upstream could not confirm it.
    pub stale_since: Option<SystemTime>,
}

impl Registry {
    /// The repository of that full name, if there is one.
    pub async fn stored(&self, name: &RepositoryName) -> Result<Option<Repository>, Error> {
        let (store, name) = (self.inner.store.clone(), name.clone());
        blocking(move || {
            Ok(store.kind_of(&name).map(|kind| match kind {
                Kind::Local => store.local(&name),
                Kind::Mirror => store.mirror(&name),
            }))
        })
        .await
    }

    /// What is known of some tags of a repository, which name these digests.
    pub async fn tag_facts(
        &self,
        repository: &Repository,
        tags: Vec<(Tag, Digest)>,
    ) -> Result<Vec<TagFacts>, Error> {
        let (repository, accounts) = (repository.clone(), self.inner.room.accounts.clone());
        blocking(move || {
            let digests: Vec<Digest> = tags.iter().map(|(_, digest)| digest.clone()).collect();
            let uses = accounts.last_uses(repository.name(), &digests);
            let facts = tags.iter().zip(uses).map(|((tag, _), used)| {
                let (dated, stale_since) = dates(&repository, tag)?;
                Ok(TagFacts {
                    used: used.map(|used| used.time),
                    dated,
                    stale_since,
                })
            });
            facts.collect()
        })
        .await
    }

    /// When something of each of these mirrors was last pulled, as far as that is known.
    pub async fn last_used(
        &self,
        names: Vec<RepositoryName>,
    ) -> Result<HashMap<RepositoryName, LastUse>, Error> {
        let accounts = self.inner.room.accounts.clone();
        blocking(move || {
            let used = accounts.last_used(&names);
            let known = names.into_iter().zip(used);
            Ok(known
                .filter_map(|(name, used)| Some((name, used?)))
                .collect())
        })
        .await
    }

    /// When these images of a mirror were last pulled, as far as that is known.
    pub async fn last_uses(
        &self,
        name: RepositoryName,
        digests: Vec<Digest>,
    ) -> Result<Vec<Option<LastUse>>, Error> {
        let accounts = self.inner.room.accounts.clone();
        blocking(move || Ok(accounts.last_uses(&name, &digests))).await
    }

    /// Looks into an image. Of an index, into the one for a platform: the one asked for, else this
    /// machine's, else the first that is here.
    pub async fn inspect(
        &self,
        repository: &Repository,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Inspected, Error> {
        let unknown = || Error::Unknown {
            name: repository.name().clone(),
            what: Missing::Manifest(reference.clone()),
        };
        let (at, wanted, platform) = (repository.clone(), reference.clone(), platform.cloned());
        let looked = blocking(move || {
            let digest = match wanted {
                Reference::Digest(digest) => Some(digest),
                Reference::Tag(tag) => at.tag(&tag)?,
            };
            let Some(digest) = digest else {
                return Ok(None);
            };
            match sound(&at, &digest)? {
                Some(top) => look_into(&at, top, platform.as_ref()).map(Some),
                None => Ok(None),
            }
        });
        let mut inspected = looked.await?.ok_or_else(unknown)?;
        inspected.referrers = self.known_referrers(repository, &inspected.digest).await?;
        Ok(inspected)
    }

    /// What is here and refers to a manifest, and what its upstream listed when it was last asked.
    async fn known_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<String, Error> {
        let mut known = self.local_referrers(repository, subject).await?;
        let (at, wanted) = (repository.clone(), subject.clone());
        let listed = blocking(move || at.listed_referrers(&wanted)).await?;
        let listed = listed.and_then(|(bytes, _)| Referrer::read_index(&bytes).ok());
        let mut seen: HashSet<Digest> = known.iter().map(|it| it.digest.clone()).collect();
        for referrer in listed.into_iter().flatten() {
            if seen.insert(referrer.digest.clone()) {
                known.push(referrer);
            }
        }
        known.truncate(REFERRERS);
        Ok(index_of(&known))
    }
}

/// A manifest; a damaged one counts as absent.
fn sound(repository: &Repository, digest: &Digest) -> Result<Option<StoredManifest>, StoreError> {
    match repository.manifest(digest) {
        Err(StoreError::Damaged(_)) => Ok(None),
        found => found,
    }
}

fn look_into(
    repository: &Repository,
    top: StoredManifest,
    wanted: Option<&Platform>,
) -> Result<Inspected, StoreError> {
    let contents = Contents::of(&top.bytes).ok();
    let size = repository.image(&top.digest, &[], Care::Size)?.size();
    let mut platforms = Vec::new();
    let chosen = match &contents {
        Some(Contents::Index(children)) => {
            for child in children.iter().take(CHILDREN) {
                let name = child.platform.clone();
                // Attestations are listed as if they ran on something unknown.
                let name = name.filter(|name| !name.to_string().starts_with("unknown"));
                if let Some(name) = name {
                    let image = repository.image(&child.part.digest, &[], Care::Size)?;
                    platforms.push(PlatformHere {
                        name,
                        digest: child.part.digest.clone(),
                        size: image.size(),
                        here: image.is_whole(),
                    });
                }
            }
            match choose(&platforms, wanted) {
                Some(digest) => sound(repository, digest)?,
                None => None,
            }
        }
        _ => Some(top.clone()),
    };
    let parts = chosen.as_ref().and_then(|it| Contents::of(&it.bytes).ok());
    let (mut layers, mut config) = (HashSet::new(), None);
    if let Some(Contents::Image {
        config: of,
        layers: all,
    }) = parts
    {
        for layer in all {
            if repository.blob(&layer.digest)?.is_some() {
                layers.insert(layer.digest);
            }
        }
        if let Some(of) = of {
            config = small_blob(repository, &of.digest)?;
        }
    }
    Ok(Inspected {
        digest: top.digest,
        media_type: top.media_type,
        top: top.bytes,
        platforms,
        manifest: chosen.map(|chosen| chosen.bytes),
        config,
        layers,
        size,
        referrers: String::new(),
    })
}

/// The one asked for, else this machine's, else the first that is here, else the first.
fn choose<'a>(platforms: &'a [PlatformHere], wanted: Option<&Platform>) -> Option<&'a Digest> {
    let fitting = |platform: &Platform| platforms.iter().find(|it| platform.fits(&it.name));
    let chosen = match wanted {
        Some(wanted) => fitting(wanted),
        None => fitting(&Platform::of_this_machine())
            .filter(|it| it.here)
            .or_else(|| platforms.iter().find(|it| it.here))
            .or_else(|| fitting(&Platform::of_this_machine()))
            .or_else(|| platforms.first()),
    };
    chosen.map(|it| &it.digest)
}

fn small_blob(repository: &Repository, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
    let Some(blob) = repository
        .blob(digest)?
        .filter(|it| it.size() <= MAX_CONFIG)
    else {
        return Ok(None);
    };
    let length = usize::try_from(blob.size()).unwrap_or(usize::MAX);
    let bytes = blob.read_at(0, length).ok();
    Ok(bytes.filter(|bytes| digest.matches(bytes)).map(Bytes::from))
}

/// When a tag was stored or confirmed, and since when it could not be.
fn dates(
    repository: &Repository,
    tag: &Tag,
) -> Result<(Option<SystemTime>, Option<SystemTime>), StoreError> {
    let stored = repository.tagged_at(tag);
    if repository.kind() == Kind::Local {
        return Ok((stored, None));
    }
    let state = repository.tag_state(tag)?;
    let checked = state.as_ref().map(|state| state.checked);
    // A tag without a record was never checked.
    let checked = checked.filter(|checked| *checked > UNIX_EPOCH);
    Ok((
        checked.or(stored),
        state.and_then(|state| state.stale_since),
    ))
}
