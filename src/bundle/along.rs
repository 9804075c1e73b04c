//! What a bundle has beside its images: what is attached to them. It comes in with them, and never
//! without.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::oci::{Digest, Referrer, RepositoryName};
use crate::store::{Kind, Repository, StoreError};

use super::archive::{Form, Found, Named, Reading};
use super::error::{ArchiveError, Bad};
use super::form;

/// The largest `larder.attached.json`.
const LARGEST: u64 = 32 << 20;

/// What is attached to the images of a bundle.
#[derive(Debug, Default)]
pub(super) struct Along {
    pub(super) manifests: Vec<Found>,
    pub(super) lists: Vec<List>,
}

/// What an upstream said is attached to a manifest.
#[derive(Debug)]
pub(super) struct List {
    repository: RepositoryName,
    subject: Digest,
    listed: SystemTime,
    index: String,
}

impl Along {
    /// Judges it as closely as the images.
    pub(super) fn read(reading: &mut Reading<'_>, now: SystemTime) -> Result<Self, ArchiveError> {
        let wrong = |text: String| Bad::Content(text).at(form::ATTACHED);
        let attached: form::Attached = reading.json(form::ATTACHED, LARGEST)?;
        let mut along = Self::default();
        for descriptor in &attached.manifests {
            let subject = descriptor.annotation(form::SUBJECT).unwrap_or_default();
            let subject = subject.parse();
            let subject = subject.map_err(|error| wrong(format!("{}: {error}", form::SUBJECT)))?;
            let found = reading.found(descriptor, form::ATTACHED, Form::Bundle, now)?;
            if !matches!(found.named, Named::Ours { .. }) {
                return Err(wrong(format!("{} has no repository", descriptor.digest)));
            }
            along.manifests.push(Found {
                subject: Some(subject),
                ..found
            });
        }
        for list in attached.lists {
            along.lists.push(List::of(&list, now).map_err(wrong)?);
        }
        Ok(along)
    }
}

impl List {
    fn of(list: &form::List, now: SystemTime) -> Result<Self, String> {
        let index = list.index.get();
        Referrer::read_index(index.as_bytes()).map_err(|error| error.to_string())?;
        let repository = list.repository.parse();
        let subject = list.subject.parse();
        Ok(Self {
            repository: repository.map_err(|error| format!("{:?}: {error}", list.repository))?,
            subject: subject.map_err(|error| format!("{:?}: {error}", list.subject))?,
            listed: form::time_of_text(&list.listed, now).unwrap_or(UNIX_EPOCH),
            index: index.to_owned(),
        })
    }

    /// Keeps it for a mirror, unless a later one is here.
    pub(super) fn keep(&self, repository: &Repository) -> Result<(), StoreError> {
        if !repository.has_manifest(&self.subject)? {
            return Ok(());
        }
        let here = repository.listed_referrers(&self.subject)?;
        if here.is_some_and(|(_, listed)| listed >= self.listed) {
            return Ok(());
        }
        let index = self.index.as_bytes();
        repository.keep_listed_referrers(&self.subject, index, Some(self.listed))
    }
}

/// Where the manifests of the images that come in belong, by where they were.
#[derive(Default)]
pub(super) struct Expected(HashMap<(RepositoryName, Digest), Repository>);

impl Expected {
    /// Something comes in, and with it what is attached to it.
    pub(super) fn add(&mut self, found: &Found, home: &Repository) {
        if let Named::Ours { repository, .. } = &found.named {
            for listed in &found.manifests {
                let key = (repository.clone(), listed.digest.clone());
                self.0.entry(key).or_insert_with(|| home.clone());
            }
        }
    }

    /// Whether what something is attached to comes in.
    pub(super) fn has_subject_of(&self, found: &Found) -> bool {
        match (&found.named, &found.subject) {
            (Named::Ours { repository, .. }, Some(subject)) => {
                let key = (repository.clone(), subject.clone());
                self.0.contains_key(&key)
            }
            _ => false,
        }
    }

    /// The mirror for which a list is to be kept.
    pub(super) fn mirror_of(&self, list: &List) -> Option<Repository> {
        let key = (list.repository.clone(), list.subject.clone());
        let home = self.0.get(&key)?;
        (home.kind() == Kind::Mirror).then(|| home.clone())
    }
}
