//! What is attached to the images that go into a bundle: signatures, bills of materials, and what
//! is attached to those in turn.
//!
//! Two ways lead from a manifest to what is attached to it: a `subject` in what is attached, which
//! a mirror knows from its upstream's list too, and a tag that is made of the manifest's digest, as
//! clients make it where a registry has no such lists (OCI distribution specification, "Referrers
//! Tag Schema"), and cosign does with `.sig`, `.att` and `.sbom` behind it.

use std::collections::{HashMap, VecDeque};

use serde_json::value::RawValue;

use crate::oci::referrer::referrers_tag;
use crate::oci::{Digest, Reference, References, Referrer, Tag};
use crate::store::{Kind, Repository, StoreError};

use super::error::ExportError;
use super::form;
use super::gather::Gathered;
use super::plan::{Picked, Planning, described, gather, place};

/// How long a chain may be: the signature of an attestation of a bill of materials.
const LEVELS: usize = 3;

/// How many things may go with one image. Some sign an image at every build.
const MOST: usize = 1000;

/// What is attached to the manifests of one repository, as far as it is here.
pub(super) struct Attachments {
    by_subject: HashMap<Digest, Vec<Digest>>,
    /// By the tag under which a list would be.
    by_tag: HashMap<String, Vec<Tag>>,
}

impl Attachments {
    fn of(repository: &Repository) -> Result<Self, StoreError> {
        let mut found = Self {
            by_subject: HashMap::new(),
            by_tag: HashMap::new(),
        };
        for digest in repository.revisions()? {
            let stored = match repository.manifest(&digest) {
                Ok(Some(stored)) => stored,
                Ok(None) => continue,
                Err(StoreError::Damaged(_)) => {
                    tracing::warn!(repository = %repository.name(), %digest, "damaged: if it is attached to an image, it stays behind");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let references = References::of(&stored.bytes).ok();
            if let Some(subject) = references.and_then(|found| found.subject) {
                found.by_subject.entry(subject).or_default().push(digest);
            }
        }
        for tag in repository.tags()?.unwrap_or_default() {
            if let Some(list) = of_digest(&tag) {
                found.by_tag.entry(list.to_owned()).or_default().push(tag);
            }
        }
        Ok(found)
    }

    fn to(&self, subject: &Digest) -> Vec<Reference> {
        let digests = self.by_subject.get(subject).into_iter().flatten();
        let tags = self.by_tag.get(&referrers_tag(subject));
        let tags = tags.into_iter().flatten();
        let digests = digests.cloned().map(Reference::Digest);
        digests.chain(tags.cloned().map(Reference::Tag)).collect()
    }
}

/// The tag under which the list would be to which a tag belongs, if it is made of a digest.
fn of_digest(tag: &Tag) -> Option<&str> {
    let list = tag.as_str().split('.').next()?;
    let (algorithm, hex) = list.split_once('-')?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && algorithm.starts_with("sha")).then_some(list)
}

/// The tag of the list to which what somebody names belongs, if it is attached to something.
pub(super) fn subject_of(reference: &Reference) -> Option<&str> {
    match reference {
        Reference::Tag(tag) => of_digest(tag),
        Reference::Digest(_) => None,
    }
}

impl Planning<'_> {
    /// Takes along what is attached to the manifests of the last image. What is not wholly here
    /// stays behind: nobody asked for it by name.
    pub(super) fn attached(
        &mut self,
        repository: &Repository,
        manifests: Vec<Digest>,
    ) -> Result<(), ExportError> {
        let (mut carried, mut behind) = (0, 0);
        let manifests = manifests.into_iter().map(|digest| (digest, LEVELS));
        let mut waiting: VecDeque<_> = manifests.collect();
        while let Some((subject, levels)) = waiting.pop_front() {
            let known = (repository.name().clone(), subject.clone());
            if !self.subjects.insert(known) {
                continue;
            }
            let (references, absent) = self.references(repository, &subject)?;
            behind += absent;
            for reference in references {
                let picked = Picked {
                    repository: repository.clone(),
                    reference,
                };
                if self.names.contains(&picked.name()) {
                    continue;
                }
                let fits = levels > 0 && carried < MOST;
                let taken = if fits {
                    self.along(&picked, &subject)?
                } else {
                    None
                };
                if let Some(gathered) = taken {
                    let next = gathered.digests().into_iter();
                    waiting.extend(next.map(|digest| (digest, levels - 1)));
                    self.keep(repository, gathered);
                    carried += 1;
                } else {
                    behind += 1;
                }
            }
        }
        if let Some(image) = self.plan.images.last_mut() {
            (image.attached, image.left_behind) = (carried, behind);
        }
        Ok(())
    }

    /// What is here and attached to a manifest, and how much else its upstream lists. The list
    /// itself goes along.
    fn references(
        &mut self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<(Vec<Reference>, usize), ExportError> {
        let name = repository.name();
        if !self.attachments.contains_key(name) {
            let found = Attachments::of(repository)?;
            self.attachments.insert(name.clone(), found);
        }
        let mut references = match self.attachments.get(name) {
            Some(found) => found.to(subject),
            None => Vec::new(),
        };
        let mut absent = 0;
        if repository.kind() == Kind::Mirror
            && let Some((list, listed)) = listed(repository, subject)?
        {
            for entry in listed {
                let entry = Reference::Digest(entry.digest);
                match &entry {
                    _ if references.contains(&entry) => {}
                    Reference::Digest(digest) if !repository.has_manifest(digest)? => absent += 1,
                    _ => references.push(entry),
                }
            }
            self.plan.attached.lists.push(list);
        }
        Ok((references, absent))
    }

    /// One thing that is attached to a manifest, if it is wholly here.
    fn along(
        &mut self,
        picked: &Picked,
        subject: &Digest,
    ) -> Result<Option<Gathered>, ExportError> {
        let name = picked.name();
        let (stored, gathered) = match gather(picked, &name, &[]) {
            Ok(found) => found,
            Err(
                ExportError::Incomplete { .. }
                | ExportError::Manifest { .. }
                | ExportError::Unknown(_),
            ) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut annotations = place(picked)?;
        annotations.insert(form::SUBJECT.into(), subject.to_string());
        let descriptor = described(&stored, annotations);
        self.plan.attached.manifests.push(descriptor);
        self.names.insert(name);
        Ok(Some(gathered))
    }
}

/// What an upstream listed, if it can be read.
fn listed(
    repository: &Repository,
    subject: &Digest,
) -> Result<Option<(form::List, Vec<Referrer>)>, StoreError> {
    let Some((bytes, listed)) = repository.listed_referrers(subject)? else {
        return Ok(None);
    };
    let read = Referrer::read_index(&bytes).ok();
    let text = String::from_utf8(bytes).ok();
    let index = text.and_then(|text| RawValue::from_string(text).ok());
    Ok(index.zip(read).map(|(index, read)| {
        let list = form::List {
            repository: repository.name().to_string(),
            subject: subject.to_string(),
            listed: form::time_to_text(listed),
            index,
        };
        (list, read)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_made_of_a_digest_belongs_to_it() {
        let hex = "a".repeat(64);
        let list = format!("sha256-{hex}");
        for end in ["", ".sig", ".att", ".sbom"] {
            let tag: Tag = format!("{list}{end}").parse().unwrap();
            assert_eq!(of_digest(&tag), Some(list.as_str()), "{tag}");
        }
        for other in ["1.0", "sha256-abc.sig", "v1-sha256", &format!("x-{hex}")] {
            assert_eq!(of_digest(&other.parse().unwrap()), None, "{other}");
        }
    }
}
