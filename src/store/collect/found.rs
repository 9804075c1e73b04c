//! Looking at what there is, for a collection: repositories, their links, what their manifests
//! refer to.
//!
//! What cannot be listed ends the collection: what is not seen would count as not there. What can
//! be seen but not read is noted as such.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::oci::{Digest, References, RepositoryName};
use crate::store::layout::inside;
use crate::store::publish::is_absent;
use crate::store::{Context as _, Kind, Store, StoreError, file, link};

/// What a file was when it was seen: whoever relied on it or replaced it since has changed this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) modified: SystemTime,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            // Where there are no times everything is new.
            modified: metadata.modified().unwrap_or_else(|_| SystemTime::now()),
        }
    }

    /// The same of what is at a path now, if it is a regular file.
    pub(super) fn at(path: &Path) -> Result<Option<Self>, StoreError> {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => Ok(Some(Self::of(&metadata))),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).context("look at", path),
        }
    }
}

/// A link as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The data it leads to. Distribution links a sha512 to the sha256 it stores under.
    pub(super) target: Digest,
    pub(super) seen: Stamp,
}

/// A manifest as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub(super) link: Link,
    /// `None` where they cannot be known.
    pub(super) references: Option<References>,
}

/// What one repository has.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) revisions: BTreeMap<Digest, Revision>,
    /// What each tag names; `None` where that cannot be read.
    pub(super) tags: BTreeMap<String, Option<Digest>>,
    /// Which tags have ever named a manifest.
    pub(super) history: HashMap<Digest, Vec<String>>,
    pub(super) layers: BTreeMap<Digest, Link>,
}

/// A directory that holds a repository.
#[derive(Clone, Debug)]
pub(in crate::store) struct Place {
    /// Its path below `repositories`, as text.
    pub(in crate::store) name: String,
    pub(in crate::store) directory: PathBuf,
}

impl Place {
    /// Its name, if what is in it may be collected: a mirror's content is not, nor that of
    /// directories that nobody could push to.
    pub(super) fn local(&self, store: &Store) -> Option<RepositoryName> {
        let name: RepositoryName = self.name.parse().ok()?;
        (store.kind_of(&name) == Some(Kind::Local)).then_some(name)
    }
}

/// One allocation for each digest, however many links and manifests name it.
#[derive(Debug, Default)]
pub(super) struct Interned(HashSet<Digest>);

impl Interned {
    fn one(&mut self, digest: Digest) -> Digest {
        if let Some(known) = self.0.get(&digest) {
            return known.clone();
        }
        self.0.insert(digest.clone());
        digest
    }
}

/// Every directory that has links, in the order of the catalog. Symbolic links to directories are
/// followed, as they are when their content is asked for, but no directory is entered twice.
pub(in crate::store) fn places(store: &Store) -> Result<Vec<Place>, StoreError> {
    let mut walk = Walk::default();
    walk.descend(store.layout().repositories(), "")?;
    Ok(walk.places)
}

#[derive(Default)]
struct Walk {
    entered: BTreeSet<(u64, u64)>,
    places: Vec<Place>,
}

impl Walk {
    fn descend(&mut self, directory: &Path, name: &str) -> Result<(), StoreError> {
        for step in file::names_in(directory)? {
            let inner = directory.join(&step);
            let metadata = match inner.metadata() {
                Ok(metadata) => metadata,
                // Removed just now, or a symbolic link that leads nowhere.
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error).context("look at", &inner),
            };
            let mut is_new = || self.entered.insert((metadata.dev(), metadata.ino()));
            if step.starts_with('_') || !metadata.is_dir() || !is_new() {
                continue;
            }
            let name = match name {
                "" => step,
                outer => format!("{outer}/{step}"),
            };
            if inside::layers(&inner).is_dir() || inside::manifests(&inner).is_dir() {
                self.places.push(Place {
                    name: name.clone(),
                    directory: inner.clone(),
                });
            }
            self.descend(&inner, &name)?;
        }
        Ok(())
    }
}

/// The links of one kind that a repository has.
pub(super) fn links(
    directory: &Path,
    names: &mut Interned,
) -> Result<BTreeMap<Digest, Link>, StoreError> {
    let mut links = BTreeMap::new();
    for algorithm in file::names_in(directory)? {
        let inner = directory.join(&algorithm);
        for hex in file::names_in(&inner)? {
            let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else {
                continue;
            };
            let path = inner.join(hex).join("link");
            let Some(seen) = Stamp::at(&path)? else {
                continue;
            };
            let digest = names.one(digest);
            // One that cannot be read most likely led where its own name says.
            let target = link::read(&path)?.unwrap_or_else(|| digest.clone());
            let target = names.one(target);
            links.insert(digest, Link { target, seen });
        }
    }
    Ok(links)
}

/// Everything of a local repository.
pub(super) fn look(
    store: &Store,
    name: &RepositoryName,
    place: &Place,
    names: &mut Interned,
) -> Result<Found, StoreError> {
    let directory = &place.directory;
    let mut found = Found {
        layers: links(&inside::layers(directory), names)?,
        ..Found::default()
    };
    let repository = store.local(name);
    for (digest, link) in links(&inside::revisions(directory), names)? {
        let read = repository.manifest(&digest);
        let references = read.ok().flatten().and_then(|manifest| {
            let mut references = References::of(&manifest.bytes).ok()?;
            for named in &mut references.named {
                *named = names.one(named.clone());
            }
            Some(references)
        });
        let path = store.layout().revision_link(name, &digest);
        // Deleted while it was looked at: that is no doubt.
        if references.is_none() && Stamp::at(&path)?.is_none() {
            continue;
        }
        found
            .revisions
            .insert(digest, Revision { link, references });
    }
    let tags = inside::tags(directory);
    for tag in file::names_in(&tags)? {
        let directory = tags.join(&tag);
        for digest in links(&inside::history(&directory), names)?.into_keys() {
            found.history.entry(digest).or_default().push(tag.clone());
        }
        let current = inside::current(&directory);
        if Stamp::at(&current)?.is_some() {
            found.tags.insert(tag, link::read(&current)?);
        }
    }
    Ok(found)
}

/// Stored data as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Data {
    pub(super) digest: Digest,
    pub(super) seen: Stamp,
    pub(super) size: u64,
}

/// All stored data for which `wanted` says yes.
pub(super) fn data(
    store: &Store,
    mut wanted: impl FnMut(&Data) -> bool,
) -> Result<Vec<Data>, StoreError> {
    let blobs = store.layout().blobs();
    let mut found = Vec::new();
    for algorithm in file::names_in(blobs)? {
        let algorithm_path = blobs.join(&algorithm);
        for shard in file::names_in(&algorithm_path)? {
            for hex in file::names_in(&algorithm_path.join(&shard))? {
                let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else {
                    continue;
                };
                // From its digest: what lies in another's shard is none of ours.
                let path = store.layout().blob_data(&digest);
                let metadata = match path.symlink_metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if is_absent(&error) => continue,
                    Err(error) => return Err(error).context("look at", &path),
                };
                let data = Data {
                    digest,
                    seen: Stamp::of(&metadata),
                    size: metadata.len(),
                };
                if metadata.is_file() && wanted(&data) {
                    found.push(data);
                }
            }
        }
    }
    Ok(found)
}
