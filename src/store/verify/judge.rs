//! What manifests and tags need, and do not have.

use std::collections::HashSet;

use crate::oci::manifest::{MAX_SIZE, media_type_of};
use crate::oci::{Contents, Digest};
use crate::store::layout::{inside, link_in};
use crate::store::{Kind, Store, StoreError, file, link};

use super::walk::{Linked, Picture};
use super::{Progress, Wrong};

impl Picture {
    /// Looks into all manifests, and for what the tags name.
    ///
    /// Mirrors are sparse: what they lack has not been asked for yet.
    pub(super) fn judge(
        &mut self,
        store: &Store,
        sparse: bool,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), StoreError> {
        self.find_missing(store)?;
        let manifests = std::mem::take(&mut self.manifests);
        for (count, linked) in manifests.iter().enumerate() {
            if count % 64 == 0 {
                tell(Progress::Manifests(count));
            }
            if let Some(wrong) = self.judge_manifest(store, linked, sparse)? {
                self.find(Some(linked.digest.clone()), wrong, linked.site);
            }
        }
        let known: HashSet<(usize, &Digest)> = manifests
            .iter()
            .map(|linked| (linked.site, &linked.digest))
            .collect();
        let mut dangling = Vec::new();
        for ((site, digest), tags) in &self.tags {
            if !known.contains(&(*site, digest)) && !self.has_manifest(*site, digest)? {
                dangling.push((*site, digest.clone(), tags.clone()));
            }
        }
        for (site, digest, tags) in dangling {
            for tag in tags {
                let directory = inside::tags(&self.sites[site].directory).join(&tag);
                let current = inside::current(&directory);
                // A tag goes before its manifest: if it is still there, this is no deletion.
                if link::read(&current)?.as_ref() == Some(&digest) {
                    let wrong = Wrong::Dangling(tag);
                    self.find(Some(digest.clone()), wrong, site).path = Some(current);
                }
            }
        }
        self.manifests = manifests;
        Ok(())
    }

    fn judge_manifest(
        &self,
        store: &Store,
        linked: &Linked,
        sparse: bool,
    ) -> Result<Option<Wrong>, StoreError> {
        let site = &self.sites[linked.site];
        let path = link_in(inside::revisions(&site.directory), &linked.digest);
        // What is wrong with the data itself has been found already.
        if !self.is_sound(store, &linked.target)? {
            return Ok(None);
        }
        let bytes = file::read(&store.layout().blob_data(&linked.target), MAX_SIZE)?;
        let is_gone = || Ok::<_, StoreError>(link::read(&path)?.is_none());
        let Some(bytes) = bytes else {
            let reason = "it has more than 4 MiB".to_owned();
            return Ok((!is_gone()?).then_some(Wrong::NotAManifest(reason)));
        };
        let declared = file::read(&path.with_file_name("mediatype"), 1024)?;
        let declared = declared.and_then(|text| str::from_utf8(&text).ok()?.parse().ok());
        let contents = media_type_of(&bytes, declared.as_ref()).and_then(|_| Contents::of(&bytes));
        let contents = match contents {
            Ok(contents) => contents,
            Err(error) => return Ok(Some(Wrong::NotAManifest(error.to_string()))),
        };
        if site.kind == Kind::Mirror {
            return Ok(None);
        }
        let (parts, is_index): (Vec<_>, _) = match contents {
            Contents::Index(children) => {
                let parts = children.into_iter().map(|child| child.part);
                (parts.collect(), true)
            }
            Contents::Image { config, layers } => {
                (config.into_iter().chain(layers).collect(), false)
            }
        };
        let mut lacks = Vec::new();
        for part in parts {
            let is_there = self.reaches(store, linked.site, &part.digest, is_index)?;
            if !is_there && !lacks.contains(&part.digest) {
                lacks.push(part.digest);
            }
        }
        if lacks.is_empty() || is_gone()? {
            return Ok(None);
        }
        Ok(Some(if is_index && sparse {
            Wrong::Sparse(lacks)
        } else {
            Wrong::Lacks(lacks)
        }))
    }

    /// Whether a repository has something that is what it should be. A build cache's index lists
    /// layers, so what an index lists may be either.
    fn reaches(
        &self,
        store: &Store,
        site: usize,
        digest: &Digest,
        is_child: bool,
    ) -> Result<bool, StoreError> {
        let directory = &self.sites[site].directory;
        let mut links = vec![link_in(inside::layers(directory), digest)];
        if is_child {
            links.push(link_in(inside::revisions(directory), digest));
        }
        for path in links {
            if let Some(target) = link::read(&path)?
                && self.is_sound(store, &target)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_manifest(&self, site: usize, digest: &Digest) -> Result<bool, StoreError> {
        let directory = inside::revisions(&self.sites[site].directory);
        Ok(link::read(&link_in(directory, digest))?.is_some())
    }
}
