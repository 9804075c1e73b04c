//! What goes into a bundle: the images that were asked for, with all that they need, each thing
//! once.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::oci::{Digest, Image, Platform, Reference, RepositoryName, Tag};
use crate::registry::{Names, Place};
use crate::store::{Kind, Repository, Store, StoreError, StoredManifest};

use super::attached::Attachments;
use super::error::{ArchiveError, ExportError};
use super::form;
use super::gather::{Gathered, Gathering};
use super::tree::DEPTH;
use super::{Archive, attached, docker};

/// An image that is to be exported.
#[derive(Clone, Debug)]
pub struct Picked {
    pub(super) repository: Repository,
    pub(super) reference: Reference,
}

/// How images are chosen and cut.
#[derive(Debug, Default)]
pub struct Choice {
    /// The platforms to take; all that are here, if there is none.
    pub platforms: Vec<Platform>,
    /// Leave out, and report, what is not wholly here, instead of failing.
    pub lenient: bool,
    /// The bundles whose blobs are left out.
    pub since: Vec<Since>,
}

/// What an earlier bundle has.
#[derive(Debug)]
pub struct Since {
    names: HashSet<String>,
    index: Digest,
}

/// An image that goes into the bundle.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Its full name.
    pub name: String,
    /// The platforms that go with it; none for an image that is for one only.
    pub platforms: Vec<String>,
    /// The platforms that its index lists and that stay out.
    pub left_out: Vec<String>,
    /// How many things go with it that are attached to it.
    pub attached: usize,
    /// How many are attached to it and stay out: they are not here, or too many.
    pub left_behind: usize,
}

/// Everything that goes into one bundle.
#[derive(Debug)]
pub struct Plan {
    /// The images, in the order in which they were asked for.
    pub images: Vec<Carried>,
    /// What was asked for leniently and stays out, and why.
    pub skipped: Vec<ExportError>,
    /// How many blobs stay out since an earlier bundle has them.
    pub known: usize,
    pub(super) index: form::Index,
    pub(super) saved: Vec<form::Saved>,
    pub(super) attached: form::Attached,
    pub(super) manifests: Vec<Item>,
    pub(super) blobs: Vec<Item>,
}

/// Content that goes into the bundle.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Which image first wanted it.
    pub(super) image: usize,
}

impl Picked {
    /// What a name stands for, as a pull would find it. No upstream is asked.
    pub fn named(names: &Names, image: &Image) -> Result<Self, ExportError> {
        let resolved = names
            .for_pull(&image.target)
            .map_err(|error| ExportError::Name {
                image: image.to_string(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            repository: match resolved.place {
                Place::Local(repository) => repository,
                Place::Mirror(mirror) => mirror.repository,
            },
            reference: image.reference.clone(),
        })
    }

    /// Every tag of every repository. What is attached to others comes after them.
    pub fn all(store: &Store) -> Result<Vec<Self>, ExportError> {
        let mut all = Vec::new();
        for name in store.repositories(None, usize::MAX)? {
            let repository = match store.kind_of(&name) {
                Some(Kind::Mirror) => store.mirror(&name),
                _ => store.local(&name),
            };
            for tag in repository.tags()?.unwrap_or_default() {
                all.push(Self {
                    repository: repository.clone(),
                    reference: Reference::Tag(tag),
                });
            }
        }
        all.sort_by_key(|picked| attached::subject_of(&picked.reference).is_some());
        Ok(all)
    }

    /// Its full name, with the registry's as it is written in names.
    pub(super) fn name(&self) -> String {
        let name = self.repository.name();
        let name = match (self.repository.kind(), name.split_first()) {
            // Directories have no colons, and hosts no underscores.
            (Kind::Mirror, (host, Some(rest))) => format!("{}/{rest}", host.replace('_', ":")),
            _ => name.to_string(),
        };
        match &self.reference {
            Reference::Tag(tag) => format!("{name}:{tag}"),
            Reference::Digest(digest) => format!("{name}@{digest}"),
        }
    }
}

impl Since {
    /// Reads which entries a bundle has.
    pub fn read(path: &Path) -> Result<Self, ArchiveError> {
        let (names, index) = Archive::names(path)?;
        Ok(Self { names, index })
    }
}

impl Plan {
    /// Looks at everything that is to go into the bundle.
    pub fn of(picked: &[Picked], choice: &Choice) -> Result<Self, ExportError> {
        let mut annotations = form::Annotations::new();
        annotations.insert(form::BUNDLE.into(), "1".into());
        if let Some(since) = choice.since.last() {
            annotations.insert(form::SINCE.into(), since.index.to_string());
        }
        let mut planning = Planning {
            choice,
            seen: HashSet::new(),
            names: HashSet::new(),
            subjects: HashSet::new(),
            attachments: HashMap::new(),
            plan: Self {
                images: Vec::new(),
                skipped: Vec::new(),
                known: 0,
                index: form::Index {
                    schema_version: 2,
                    media_type: Some(crate::oci::media::OCI_INDEX.into()),
                    manifests: Vec::new(),
                    annotations: Some(annotations),
                },
                saved: Vec::new(),
                attached: form::Attached::default(),
                manifests: Vec::new(),
                blobs: Vec::new(),
            },
        };
        for picked in picked {
            match planning.image(picked).map_err(|error| named(error, picked)) {
                Err(
                    error @ (ExportError::Incomplete { .. }
                    | ExportError::Platform { .. }
                    | ExportError::Manifest { .. }
                    | ExportError::Unknown(_)),
                ) if choice.lenient => planning.plan.skipped.push(error),
                done => done?,
            }
        }
        if planning.plan.images.is_empty() {
            let why = planning.plan.skipped.into_iter().next();
            return Err(why.unwrap_or(ExportError::Nothing));
        }
        Ok(planning.plan)
    }
}

/// Of damaged content it is also said whose it is.
fn named(error: ExportError, picked: &Picked) -> ExportError {
    match error {
        ExportError::Store(StoreError::Damaged(blob)) => match blob.digest() {
            Some(digest) => ExportError::Damaged {
                image: picked.name(),
                digest: digest.clone(),
            },
            None => ExportError::Store(StoreError::Damaged(blob)),
        },
        error => error,
    }
}

pub(super) struct Planning<'a> {
    choice: &'a Choice,
    seen: HashSet<Digest>,
    /// What has been looked at, by its full name.
    pub(super) names: HashSet<String>,
    /// The manifests for which it was asked what is attached to them.
    pub(super) subjects: HashSet<(RepositoryName, Digest)>,
    pub(super) attachments: HashMap<RepositoryName, Attachments>,
    pub(super) plan: Plan,
}

impl Planning<'_> {
    fn image(&mut self, picked: &Picked) -> Result<(), ExportError> {
        let name = picked.name();
        if !self.names.insert(name.clone()) {
            return Ok(());
        }
        let (stored, mut gathered) = gather(picked, &name, &self.choice.platforms)?;
        let annotations = annotations(picked, &name, &gathered)?;
        let descriptor = described(&stored, annotations);
        self.plan.index.manifests.push(descriptor);
        // Without all layers there is nothing that docker could load.
        if let (Some(bytes), true) = (&gathered.runnable, self.choice.since.is_empty()) {
            self.plan.saved.extend(docker::saved(bytes, &name));
        }
        self.plan.images.push(Carried {
            name,
            platforms: std::mem::take(&mut gathered.platforms),
            left_out: std::mem::take(&mut gathered.left_out),
            attached: 0,
            left_behind: 0,
        });
        let manifests = gathered.digests();
        self.keep(&picked.repository, gathered);
        self.attached(&picked.repository, manifests)
    }

    /// Takes what belongs to the last image, each thing once.
    pub(super) fn keep(&mut self, repository: &Repository, gathered: Gathered) {
        let image = self.plan.images.len().saturating_sub(1);
        let item = |(digest, size)| Item {
            repository: repository.clone(),
            digest,
            size,
            image,
        };
        for found in gathered.manifests {
            if self.seen.insert(found.0.clone()) {
                self.plan.manifests.push(item(found));
            }
        }
        for found in gathered.blobs {
            if !self.seen.insert(found.0.clone()) {
                continue;
            }
            let entry = form::blob_name(&found.0);
            if self.choice.since.iter().any(|it| it.names.contains(&entry)) {
                self.plan.known += 1;
            } else {
                self.plan.blobs.push(item(found));
            }
        }
    }
}

/// Reads what a name stands for, and all that it needs.
pub(super) fn gather(
    picked: &Picked,
    name: &str,
    platforms: &[Platform],
) -> Result<(StoredManifest, Gathered), ExportError> {
    let repository = &picked.repository;
    let digest = match &picked.reference {
        Reference::Tag(tag) => repository.tag(tag)?,
        Reference::Digest(digest) => Some(digest.clone()),
    };
    let unknown = || ExportError::Unknown(name.to_owned());
    let stored = repository.manifest(&digest.ok_or_else(unknown)?)?;
    let stored = stored.ok_or_else(unknown)?;
    let mut gathered = Gathered::default();
    let gathering = Gathering {
        repository,
        platforms,
        image: name,
    };
    gathering.manifest(&stored, None, DEPTH, &mut gathered)?;
    Ok((stored, gathered))
}

/// A manifest as a list has it.
pub(super) fn described(
    stored: &StoredManifest,
    annotations: form::Annotations,
) -> form::Descriptor {
    form::Descriptor {
        media_type: Some(stored.media_type.to_string()),
        digest: stored.digest.to_string(),
        size: stored.bytes.len() as u64,
        annotations: Some(annotations),
    }
}

fn annotations(
    picked: &Picked,
    name: &str,
    gathered: &Gathered,
) -> Result<form::Annotations, ExportError> {
    let repository = &picked.repository;
    let mut annotations = place(picked)?;
    let mut say = |key: &str, value: String| annotations.insert(key.into(), value);
    say(form::REF_NAME, name.to_owned());
    // A bare name means Docker Hub's to those who read this.
    let full = if repository.kind() == Kind::Mirror {
        name.to_owned()
    } else {
        docker::full_name(name, repository.name())
    };
    say(form::CONTAINERD_NAME, full);
    if !gathered.platforms.is_empty() {
        say(form::PLATFORMS, gathered.platforms.join(","));
    }
    Ok(annotations)
}

/// Where it was.
pub(super) fn place(picked: &Picked) -> Result<form::Annotations, ExportError> {
    let repository = &picked.repository;
    let is_mirror = repository.kind() == Kind::Mirror;
    let origin = if is_mirror { form::MIRROR } else { form::LOCAL };
    let mut annotations = form::Annotations::new();
    let mut say = |key: &str, value: String| annotations.insert(key.into(), value);
    say(form::ORIGIN, origin.to_owned());
    say(form::REPOSITORY, repository.name().to_string());
    if let Reference::Tag(tag) = &picked.reference {
        say(form::TAG, tag.to_string());
        if let Some(checked) = checked(repository, tag)? {
            say(form::CHECKED, checked);
        }
    }
    Ok(annotations)
}

/// When a mirrored tag was last checked, if it ever was.
fn checked(repository: &Repository, tag: &Tag) -> Result<Option<String>, ExportError> {
    if repository.kind() == Kind::Local {
        return Ok(None);
    }
    let checked = repository.tag_state(tag)?.map(|state| state.checked);
    let checked = checked.filter(|checked| *checked > UNIX_EPOCH);
    Ok(checked.map(form::time_to_text))
}

/// The first step of a name looks like a registry's.
pub(super) fn names_a_registry(name: &RepositoryName) -> bool {
    match name.split_first() {
        (host, Some(_)) => host.contains(['.', '_']) || host == "localhost",
        (_, None) => false,
    }
}
