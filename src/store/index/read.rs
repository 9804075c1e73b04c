//! Reading one repository for the index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::oci::{Contents, Digest, PlatformName, Tag};
use crate::store::{Repository, StoreError, file, link};

use super::Image;
use super::data::{Data, Number};

/// How deep indexes may be nested.
const DEPTH: usize = 4;

/// The largest configuration that is read for what its image runs on, in bytes.
const MAX_CONFIG: usize = 256 * 1024;

/// What the tags of a repository name.
type Tags = BTreeMap<Tag, Digest>;

/// Reads the tags of a repository and what they lead to. What is known to be whole in `reuse` is
/// not looked at again.
pub(super) fn repository(
    repository: &Repository,
    reuse: Option<&HashMap<Digest, Image>>,
    data: &mut Data,
) -> Result<(Tags, HashMap<Digest, Image>), StoreError> {
    let mut tags = Tags::new();
    let directory = repository.store.layout().tags(repository.name());
    for name in file::names_in(&directory)? {
        if let Ok(tag) = name.parse::<Tag>()
            && let Some(digest) = repository.tag(&tag)?
        {
            tags.insert(tag, digest);
        }
    }
    let mut images = HashMap::new();
    for digest in tags.values() {
        if images.contains_key(digest) {
            continue;
        }
        let known = reuse.and_then(|known| known.get(digest));
        let image = match known.filter(|known| known.is_whole) {
            Some(known) => known.clone(),
            None => image(repository, digest, data)?,
        };
        images.insert(digest.clone(), image);
    }
    Ok((tags, images))
}

fn image(repository: &Repository, digest: &Digest, data: &mut Data) -> Result<Image, StoreError> {
    let mut reading = Reading {
        repository,
        data,
        parts: BTreeSet::new(),
        platforms: Vec::new(),
    };
    let (media_type, is_whole) = reading.manifest(digest, DEPTH)?;
    Ok(Image {
        media_type,
        platforms: reading.platforms.into(),
        parts: reading.parts.into_iter().collect(),
        is_whole,
    })
}

struct Reading<'a> {
    repository: &'a Repository,
    data: &'a mut Data,
    parts: BTreeSet<Number>,
    platforms: Vec<(String, bool)>,
}

impl Reading<'_> {
    /// Takes in a manifest with what it is made of. Says what it is, and whether all of it is here.
    fn manifest(
        &mut self,
        digest: &Digest,
        depth: usize,
    ) -> Result<(Option<crate::oci::MediaType>, bool), StoreError> {
        let manifest = match self.repository.manifest(digest) {
            Ok(Some(manifest)) => manifest,
            Ok(None) | Err(StoreError::Damaged(_)) => return Ok((None, false)),
            Err(error) => return Err(error),
        };
        let number = self.data.number(digest, manifest.bytes.len() as u64);
        self.parts.insert(number);
        let media_type = Some(manifest.media_type.clone());
        let Ok(contents) = Contents::of(&manifest.bytes) else {
            return Ok((media_type, false));
        };
        let mut is_whole = true;
        match contents {
            Contents::Index(children) => {
                for child in children.iter().filter(|_| depth > 0) {
                    let (_, is_here) = self.manifest(&child.part.digest, depth - 1)?;
                    let name = child.platform.as_ref().map(ToString::to_string);
                    // Attestations are listed as if they ran on something unknown.
                    let name = name.filter(|it| !it.starts_with("unknown"));
                    if let Some(name) = name.filter(|_| depth == DEPTH) {
                        self.platforms.push((name, is_here));
                    }
                    is_whole &= is_here;
                }
            }
            Contents::Image { config, layers } => {
                for part in config.iter().chain(&layers) {
                    is_whole &= self.blob(&part.digest)?;
                }
                let config = config.filter(|_| depth == DEPTH);
                if let Some(name) = config.and_then(|config| self.runs_on(&config.digest)) {
                    self.platforms.push((name, is_whole));
                }
            }
        }
        Ok((media_type, is_whole))
    }

    /// Takes in a layer or a configuration. Says whether it is here.
    fn blob(&mut self, digest: &Digest) -> Result<bool, StoreError> {
        let layout = self.repository.store.layout();
        let path = layout.layer_link(self.repository.name(), digest);
        let Some(target) = link::read(&path)? else {
            return Ok(false);
        };
        let size = size(&layout.blob_data(&target), &target);
        if let Some(size) = size {
            let number = self.data.number(&target, size);
            self.parts.insert(number);
        }
        Ok(size.is_some())
    }

    /// What an image without an index runs on. What cannot be read is not known.
    fn runs_on(&self, config: &Digest) -> Option<String> {
        let blob = self.repository.blob(config).ok().flatten()?;
        let length = usize::try_from(blob.size()).ok()?;
        let bytes = blob.read_at(0, length.min(MAX_CONFIG)).ok()?;
        PlatformName::of_config(&bytes).map(|name| name.to_string())
    }
}

fn size(path: &Path, digest: &Digest) -> Option<u64> {
    let metadata = path
        .symlink_metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    // What a power cut leaves is nothing.
    let size = metadata.len();
    (size > 0 || digest.matches(b"")).then_some(size)
}
