//! Mending what a check found, one thing at a time, each decided again with nobody linking.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::oci::Digest;
use crate::store::hold::Exclusive;
use crate::store::layout::{inside, link_in};
use crate::store::{Kind, Store, StoreError, link, publish};

use super::data::Fault;
use super::walk::Picture;
use super::{Done, Finding, Site, Wrong, may_go};

/// Mends all that can be. What fails is said in the finding.
pub(super) fn all(
    store: &Store,
    began: SystemTime,
    picture: &Picture,
    findings: &mut [Finding],
) -> Result<(), StoreError> {
    let is_unlisted = |finding: &Finding| matches!(finding.wrong, Wrong::Unlisted(_));
    let mender = Mender {
        store,
        began,
        picture,
        in_doubt: findings.iter().any(is_unlisted),
    };
    for finding in findings {
        if matches!(
            finding.wrong,
            Wrong::Lacks(_) | Wrong::Sparse(_) | Wrong::Unlisted(_)
        ) {
            continue;
        }
        let alone = store.holds().exclusive()?;
        finding.done = match mender.mend(finding, &alone) {
            Ok(done) => done,
            Err(error) => Some(Done::Failed(error.to_string())),
        };
    }
    Ok(())
}

struct Mender<'a> {
    store: &'a Store,
    began: SystemTime,
    picture: &'a Picture,
    /// Whether it is not known who links what.
    in_doubt: bool,
}

impl Mender<'_> {
    fn mend(&self, finding: &Finding, alone: &Exclusive) -> Result<Option<Done>, StoreError> {
        let mut mirrors = finding
            .sites
            .iter()
            .filter(|site| site.kind == Kind::Mirror);
        match (&finding.wrong, &finding.digest, &finding.path) {
            (Wrong::Data(fault), Some(digest), _) if !fault.is_denied() => {
                self.data(finding, digest, fault, alone).map(Some)
            }
            (Wrong::Missing(_), Some(digest), _) => self.unlink_all(mirrors, digest),
            (Wrong::NotAManifest(_), Some(digest), _) => {
                let mut removed = false;
                for site in mirrors {
                    removed |= self.revision(site, digest)?;
                }
                Ok(removed.then_some(Done::Unlinked))
            }
            (Wrong::Link, Some(_), Some(path)) if mirrors.next().is_some() => {
                let is_broken = link::read(path)?.is_none();
                Ok(Some(unlinked(is_broken && remove_link(path)?)))
            }
            (Wrong::Tag(_), _, Some(path)) if mirrors.next().is_some() => {
                let is_broken = link::read(path)?.is_none();
                Ok(Some(unlinked(is_broken && remove_tag(path)?)))
            }
            (Wrong::Dangling(_), Some(digest), Some(path)) => {
                let Some(site) = mirrors.next() else {
                    return Ok(None);
                };
                let manifest = link_in(inside::revisions(&site.directory), digest);
                let is_broken =
                    link::read(&manifest)?.is_none() && link::read(path)?.as_ref() == Some(digest);
                Ok(Some(unlinked(is_broken && remove_tag(path)?)))
            }
            _ => Ok(None),
        }
    }

    fn data(
        &self,
        finding: &Finding,
        digest: &Digest,
        fault: &Fault,
        alone: &Exclusive,
    ) -> Result<Done, StoreError> {
        let Some(seen) = may_go(finding.seen, self.began) else {
            return Ok(Done::Changed);
        };
        if self.store.file_time()? < self.began {
            let reason = "the clock was set back meanwhile: start again";
            return Ok(Done::Failed(reason.to_owned()));
        }
        let is_local = finding.sites.iter().any(|site| site.kind == Kind::Local);
        let done = if is_local || self.in_doubt || *fault == Fault::NotAFile {
            let aside = self.store.put_aside(digest, seen, alone)?;
            aside.map(|path| Done::PutAside(name_of(&path)))
        } else {
            let dropped = self.store.drop_data(digest, seen, alone)?;
            dropped.then_some(Done::Dropped)
        };
        let Some(done) = done else {
            return Ok(Done::Changed);
        };
        let mirrors = finding.sites.iter();
        self.unlink_all(mirrors.filter(|site| site.kind == Kind::Mirror), digest)?;
        Ok(done)
    }

    /// Removes mirrors' links to data that is not there.
    fn unlink_all<'a>(
        &self,
        mirrors: impl Iterator<Item = &'a Arc<Site>>,
        digest: &Digest,
    ) -> Result<Option<Done>, StoreError> {
        let (mut asked, mut removed) = (false, false);
        let is_there = self.store.has_data(digest)?;
        for site in mirrors {
            asked = true;
            if is_there {
                continue;
            }
            let layer = link_in(inside::layers(&site.directory), digest);
            if link::read(&layer)?.as_ref() == Some(digest) {
                removed |= remove_link(&layer)?;
            }
            removed |= self.revision(site, digest)?;
        }
        Ok(asked.then(|| unlinked(removed)))
    }

    /// Removes a manifest's link from a mirror, and the tags that name it: from the top.
    fn revision(&self, site: &Arc<Site>, digest: &Digest) -> Result<bool, StoreError> {
        let number = self.picture.number(site);
        let tags = number.and_then(|number| self.picture.tags.get(&(number, digest.clone())));
        for tag in tags.into_iter().flatten() {
            let current = inside::current(&inside::tags(&site.directory).join(tag));
            if link::read(&current)?.as_ref() == Some(digest) {
                remove_tag(&current)?;
            }
        }
        let path = link_in(inside::revisions(&site.directory), digest);
        publish::remove_file(&path.with_file_name("mediatype"))?;
        remove_link(&path)
    }
}

fn unlinked(removed: bool) -> Done {
    if removed {
        Done::Unlinked
    } else {
        Done::Changed
    }
}

fn remove_link(path: &Path) -> Result<bool, StoreError> {
    let removed = if path.is_dir() && !path.is_symlink() {
        publish::remove_tree(path)?
    } else {
        publish::remove_file(path)?
    };
    if let Some(directory) = path.parent() {
        publish::remove_if_empty(directory);
    }
    Ok(removed)
}

/// Removes a tag by the path of what it names.
fn remove_tag(current: &Path) -> Result<bool, StoreError> {
    match current.parent().and_then(Path::parent) {
        Some(tag) => publish::remove_tree(tag),
        None => Ok(false),
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
