//! What the repositories link, and what of it leads nowhere.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::oci::Digest;
use crate::store::collect::{Place, places};
use crate::store::layout::{DAMAGED, inside, link_in};
use crate::store::{Kind, Store, StoreError, file, link};

use super::data::{Fault, Listed, Seen};
use super::{Finding, Progress, Site, Wrong};

/// A manifest that a repository links.
pub(super) struct Linked {
    pub(super) site: usize,
    pub(super) digest: Digest,
    pub(super) target: Digest,
}

/// Everything that a check has to know at once.
#[derive(Default)]
pub(super) struct Picture {
    pub(super) sites: Vec<Arc<Site>>,
    /// Which repositories link data.
    users: HashMap<Digest, BTreeSet<usize>>,
    pub(super) manifests: Vec<Linked>,
    /// Which tags of a repository name a manifest.
    pub(super) tags: HashMap<(usize, Digest), Vec<String>>,
    /// Data that was there at the beginning.
    listed: HashSet<Digest>,
    /// Data that is linked and not there.
    missing: HashMap<Digest, BTreeSet<usize>>,
    /// Data that is not what it should be.
    pub(super) bad: HashSet<Digest>,
    found: Vec<Finding>,
}

impl Picture {
    /// Looks at all repositories. One that cannot be read is a finding.
    pub(super) fn take(
        store: &Store,
        listed: &[Listed],
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, StoreError> {
        let listed = listed.iter().map(|listed| listed.digest.clone());
        let mut picture = Self {
            listed: listed.collect(),
            ..Self::default()
        };
        for place in places(store)? {
            tell(Progress::Repository(&place.name));
            let site = picture.add(store, place);
            if let Err(error) = picture.look(store, site) {
                picture.find(None, Wrong::Unlisted(error.to_string()), site);
            }
        }
        Ok(picture)
    }

    fn add(&mut self, store: &Store, place: Place) -> usize {
        let known = place.name.parse().ok();
        let kind = known.and_then(|name| store.kind_of(&name));
        self.sites.push(Arc::new(Site {
            name: place.name,
            // Doubt counts as local.
            kind: kind.unwrap_or(Kind::Local),
            directory: place.directory,
        }));
        self.sites.len() - 1
    }

    fn look(&mut self, store: &Store, site: usize) -> Result<(), StoreError> {
        let directory = self.sites[site].directory.clone();
        self.links(store, site, &inside::layers(&directory), false)?;
        self.links(store, site, &inside::revisions(&directory), true)?;
        let tags = inside::tags(&directory);
        for tag in file::names_in(&tags)? {
            let current = inside::current(&tags.join(&tag));
            if current.symlink_metadata().is_err() {
                continue;
            }
            match link::read(&current)? {
                Some(named) => self.tags.entry((site, named)).or_default().push(tag),
                None => {
                    self.find(None, Wrong::Tag(tag), site).path = Some(current);
                }
            }
        }
        Ok(())
    }

    fn links(
        &mut self,
        store: &Store,
        site: usize,
        directory: &Path,
        are_manifests: bool,
    ) -> Result<(), StoreError> {
        for algorithm in file::names_in(directory)? {
            for hex in file::names_in(&directory.join(&algorithm))? {
                let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else {
                    continue;
                };
                let path = link_in(directory.to_owned(), &digest);
                // What is deleted leaves its directory.
                if path.symlink_metadata().is_err() {
                    continue;
                }
                let Some(target) = link::read(&path)? else {
                    // It most likely led where its own name says.
                    self.users.entry(digest.clone()).or_default().insert(site);
                    self.find(Some(digest), Wrong::Link, site).path = Some(path);
                    continue;
                };
                // Data goes after its last link: if the link is still there, this is no deletion.
                let is_there = self.has(store, &target)?;
                if !is_there && link::read(&path)?.as_ref() == Some(&target) {
                    let missing = self.missing.entry(target.clone()).or_default();
                    missing.insert(site);
                }
                self.users.entry(target.clone()).or_default().insert(site);
                if are_manifests {
                    self.manifests.push(Linked {
                        site,
                        digest,
                        target,
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether there is data under that name, whatever it is.
    pub(super) fn has(&self, store: &Store, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.listed.contains(digest) || store.has_data(digest)?)
    }

    /// Whether there is data under that name that is what it should be.
    pub(super) fn is_sound(&self, store: &Store, digest: &Digest) -> Result<bool, StoreError> {
        Ok(!self.bad.contains(digest) && self.has(store, digest)?)
    }

    pub(super) fn find(
        &mut self,
        digest: Option<Digest>,
        wrong: Wrong,
        site: usize,
    ) -> &mut Finding {
        let sites = vec![Arc::clone(&self.sites[site])];
        let at = self.found.len();
        self.found.push(Finding::new(digest, wrong, sites));
        &mut self.found[at]
    }

    /// Takes down that data is not what it should be.
    pub(super) fn damaged(&mut self, listed: &Listed, seen: Option<Seen>, fault: Fault) {
        self.bad.insert(listed.digest.clone());
        let users = self.users.get(&listed.digest);
        let sites = self.named(users.into_iter().flatten());
        let digest = Some(listed.digest.clone());
        let mut finding = Finding::new(digest, Wrong::Data(fault), sites);
        finding.size = listed.size;
        finding.seen = seen;
        self.found.push(finding);
    }

    fn named<'a>(&self, sites: impl Iterator<Item = &'a usize>) -> Vec<Arc<Site>> {
        sites.map(|site| Arc::clone(&self.sites[*site])).collect()
    }

    /// Takes down which links lead to nothing.
    pub(super) fn find_missing(&mut self, store: &Store) -> Result<(), StoreError> {
        for (digest, sites) in std::mem::take(&mut self.missing) {
            if store.has_data(&digest)? {
                continue;
            }
            let directory = store.layout().blob_data(&digest);
            let mut aside = match directory.parent() {
                Some(directory) => file::names_in(directory)?,
                None => Vec::new(),
            };
            aside.retain(|name| name.starts_with(DAMAGED));
            let sites = self.named(sites.iter());
            let finding = Finding::new(Some(digest), Wrong::Missing(aside), sites);
            self.found.push(finding);
        }
        Ok(())
    }

    /// The number of a repository that something was found in.
    pub(super) fn number(&self, site: &Arc<Site>) -> Option<usize> {
        self.sites.iter().position(|known| Arc::ptr_eq(known, site))
    }

    /// What was found, with the tags that it concerns.
    pub(super) fn findings(&mut self) -> Vec<Finding> {
        let mut found = std::mem::take(&mut self.found);
        for finding in &mut found {
            let Some(digest) = &finding.digest else {
                continue;
            };
            for site in &finding.sites {
                let Some(number) = self.number(site) else {
                    continue;
                };
                let tags = self.tags.get(&(number, digest.clone()));
                let image = |tag| format!("{}:{tag}", site.name);
                finding.images.extend(tags.into_iter().flatten().map(image));
            }
        }
        found
    }
}
