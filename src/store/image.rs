//! Whether all of an image is here.

use std::collections::HashMap;

use crate::oci::walk::MAX_CONFIG;
use crate::oci::{
    Anatomy, Digest, Hasher, ImagePart, Platform, PlatformName, Role, Walk, WalkError,
};

use super::{Blob, Repository, StoreError};

/// How closely an image's blobs are looked at. Manifests are always read and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// They are linked, and as large as their manifest says.
    Size,
    /// They hash to their names, too.
    Content,
}

/// How a part of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Here, and this repository's.
    Here,
    /// Not here, or not this repository's.
    Missing,
    /// It has so many bytes, and should have another number of them.
    WrongSize(u64),
    /// Its bytes are not those of its digest.
    Damaged,
}

/// A part of an image, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHere {
    /// The part.
    pub part: ImagePart,
    /// Whether it is here.
    pub state: State,
}

/// An image as far as it is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageHere {
    /// What it needs for the platforms asked for: manifests before what they name. Of a manifest
    /// that is missing it is not known what it would name.
    pub parts: Vec<PartHere>,
    /// What it comes for, wanted or not.
    pub listed: Vec<PlatformName>,
    /// The platforms asked for that it does not come for.
    pub unlisted: Vec<Platform>,
    /// What it runs on, if it has no index and that is none of the platforms asked for.
    pub other: Option<PlatformName>,
    /// A manifest that cannot be understood.
    pub fault: Option<WalkError>,
}

impl Repository {
    /// Looks for all parts of an image that its digest leads to. No platforms: for all that it
    /// comes for.
    pub fn image(
        &self,
        top: &Digest,
        platforms: &[Platform],
        care: Care,
    ) -> Result<ImageHere, StoreError> {
        let mut walk = Walk::new(platforms, top.clone());
        let mut damaged = Vec::new();
        while let Some(ask) = walk.ask() {
            let digest = &ask.part.digest;
            let bytes = if ask.role == Role::Config {
                self.config(digest)?
            } else {
                match self.manifest(digest) {
                    Ok(manifest) => manifest.map(|manifest| manifest.bytes.to_vec()),
                    Err(StoreError::Damaged(_)) => {
                        damaged.push(digest.clone());
                        None
                    }
                    Err(error) => return Err(error),
                }
            };
            walk.found(ask, bytes.as_deref());
        }
        let Anatomy {
            parts,
            listed,
            unlisted,
            other,
            fault,
        } = walk.finish();
        let mut looked = Looked {
            repository: self,
            care,
            states: HashMap::new(),
        };
        let parts = parts.into_iter().map(|part| {
            let state = looked.at(&part, &damaged)?;
            Ok(PartHere { part, state })
        });
        Ok(ImageHere {
            parts: parts.collect::<Result<_, StoreError>>()?,
            listed,
            unlisted,
            other,
            fault,
        })
    }

    /// A config's bytes, as far as they are of use.
    fn config(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(blob) = self.blob(digest)? else {
            return Ok(None);
        };
        let length = usize::try_from(blob.size().min(MAX_CONFIG)).unwrap_or(usize::MAX);
        // One that cannot be read is as good as missing: its own turn comes.
        Ok(blob.read_at(0, length).ok())
    }
}

/// What has been looked at: platforms share layers, and hashing takes its time.
struct Looked<'a> {
    repository: &'a Repository,
    care: Care,
    states: HashMap<Digest, State>,
}

impl Looked<'_> {
    fn at(&mut self, part: &ImagePart, damaged: &[Digest]) -> Result<State, StoreError> {
        let digest = &part.part.digest;
        if matches!(part.role, Role::Index | Role::Manifest) {
            return Ok(if damaged.contains(digest) {
                State::Damaged
            } else if self.repository.has_manifest(digest)? {
                State::Here
            } else {
                State::Missing
            });
        }
        if let Some(known) = self.states.get(digest) {
            return Ok(*known);
        }
        let state = match self.repository.blob(digest)? {
            None => State::Missing,
            Some(blob) if part.part.size > 0 && blob.size() != part.part.size => {
                State::WrongSize(blob.size())
            }
            Some(blob) if self.care == Care::Content && !is_sound(&blob, digest) => State::Damaged,
            Some(_) => State::Here,
        };
        self.states.insert(digest.clone(), state);
        Ok(state)
    }
}

/// Whether a blob can be read and hashes to its name.
fn is_sound(blob: &Blob, digest: &Digest) -> bool {
    const PIECE: usize = 1 << 20;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut offset = 0;
    loop {
        match blob.read_at(offset, PIECE) {
            Ok(bytes) if bytes.is_empty() => return hasher.finish() == *digest,
            Ok(bytes) => {
                hasher.update(&bytes);
                offset += bytes.len() as u64;
            }
            Err(error) => {
                tracing::warn!(%digest, %error, "a stored blob cannot be read");
                return false;
            }
        }
    }
}

impl ImageHere {
    /// Whether nothing is missing: somebody with one of the platforms asked for can pull it with
    /// no network.
    pub fn is_whole(&self) -> bool {
        self.fault.is_none() && self.unlisted.is_empty() && self.lacking().next().is_none()
    }

    /// The parts that are not here as they should be. One that platforms share comes once for each.
    pub fn lacking(&self) -> impl Iterator<Item = &PartHere> {
        let parts = self.parts.iter();
        parts.filter(|part| part.state != State::Here)
    }

    /// What the image comes for, of what was asked for, and whether all of that is here. Without
    /// what runs nowhere, as attestations.
    pub fn platforms(&self) -> Vec<(PlatformName, bool)> {
        let whole = |platform: &PlatformName| {
            let mut parts = self.parts.iter().filter(|here| {
                let own = here.part.platform.as_ref();
                own.is_none_or(|own| own == platform)
            });
            parts.all(|here| here.state == State::Here)
        };
        let is_asked_for = |platform: &&PlatformName| {
            let mut parts = self.parts.iter();
            parts.any(|here| here.part.platform.as_ref() == Some(*platform))
        };
        let platforms = self.listed.iter().filter(is_asked_for);
        platforms
            .map(|platform| (platform.clone(), whole(platform)))
            .collect()
    }

    /// The bytes of all its parts that are here, each part counted once.
    pub fn size(&self) -> u64 {
        let mut seen = std::collections::HashSet::new();
        let here = self.parts.iter().filter(|here| here.state == State::Here);
        here.filter(|here| seen.insert(&here.part.part.digest))
            .map(|here| here.part.part.size)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use crate::store::Store;
    use serde_json::json;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    fn put_manifest(repository: &Repository, kind: &str, value: &serde_json::Value) -> Digest {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let kind: MediaType = kind.parse().unwrap();
        repository.put_manifest(&digest, &kind, &bytes).unwrap();
        digest
    }

    fn put_blob(repository: &Repository, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut staged = repository.store.stage_fill(&digest).unwrap();
        staged.append(bytes).unwrap();
        repository.commit_blob(&staged, &digest).unwrap();
        digest
    }

    const CONFIG: &[u8] = br#"{"os":"linux","architecture":"arm64"}"#;

    /// The manifest of an image with one layer.
    fn image(config: &Digest, layer: &Digest, size: usize) -> serde_json::Value {
        json!({
            "mediaType": MANIFEST,
            "config": { "digest": config.as_str(), "size": CONFIG.len() },
            "layers": [{ "digest": layer.as_str(), "size": size }],
        })
    }

    fn index(children: &[(&Digest, &str)]) -> serde_json::Value {
        let child = |(digest, architecture): &(&Digest, &str)| {
            json!({
                "digest": digest.as_str(), "size": 1,
                "platform": { "os": "linux", "architecture": architecture },
            })
        };
        let children: Vec<_> = children.iter().map(child).collect();
        json!({ "mediaType": INDEX, "manifests": children })
    }

    #[test]
    fn an_image_is_whole_when_every_part_is_linked_and_of_its_size() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mirror = store.mirror(&"docker.io/library/x".parse().unwrap());
        let config = put_blob(&mirror, CONFIG);
        let layer = Digest::of(b"layer");
        let arm = put_manifest(&mirror, MANIFEST, &image(&config, &layer, 5));
        let amd = Digest::of(b"not here");
        let children = [(&amd, "amd64"), (&arm, "arm64")];
        let index = put_manifest(&mirror, INDEX, &index(&children));
        let arm64: [Platform; 1] = ["linux/arm64".parse().unwrap()];
        let look = |top: &Digest, platforms: &[Platform], care| {
            let here = mirror.image(top, platforms, care).unwrap();
            let lacking = here.lacking().map(|lacks| (lacks.part.role, lacks.state));
            (here.is_whole(), lacking.collect::<Vec<_>>())
        };
        let missing = |role| vec![(role, State::Missing)];
        assert_eq!(
            look(&index, &arm64, Care::Size),
            (false, missing(Role::Layer))
        );
        // Its data alone, in another repository, is not enough.
        let other = store.mirror(&"docker.io/library/y".parse().unwrap());
        put_blob(&other, b"layer");
        assert_eq!(
            look(&index, &arm64, Care::Size),
            (false, missing(Role::Layer))
        );
        mirror.link_blob(&layer).unwrap();
        for top in [&index, &arm] {
            assert_eq!(look(top, &arm64, Care::Content), (true, vec![]));
        }
        let all = mirror.image(&index, &[], Care::Size).unwrap();
        let platforms = all.platforms().into_iter();
        let platforms: Vec<_> = platforms.map(|(name, is)| (name.to_string(), is)).collect();
        let expected = [
            ("linux/amd64".to_owned(), false),
            ("linux/arm64".to_owned(), true),
        ];
        assert_eq!(platforms, expected);
        assert_eq!(
            look(&index, &[], Care::Size),
            (false, missing(Role::Manifest))
        );
        let wrong = put_manifest(&mirror, MANIFEST, &image(&config, &layer, 6));
        let expected = vec![(Role::Layer, State::WrongSize(5))];
        assert_eq!(look(&wrong, &arm64, Care::Size), (false, expected));
        let data = store.layout().blob_data(&layer);
        #[expect(clippy::disallowed_methods, reason = "damage on purpose")]
        std::fs::write(&data, b"LAYER").unwrap();
        assert!(look(&index, &arm64, Care::Size).0);
        let expected = vec![(Role::Layer, State::Damaged)];
        assert_eq!(look(&index, &arm64, Care::Content), (false, expected));
        let gone = mirror.image(&amd, &arm64, Care::Size).unwrap();
        assert!(!gone.is_whole());
    }
}
