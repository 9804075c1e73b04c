//! Data that is not what its digest says: out of the way at once, for everybody, and gone for good
//! only where it can be had again.
//!
//! The links to it stay. Who looks through one finds nothing, as if the data had never come: a
//! mirror fetches it again, a push is told to send it, and either makes it whole for all who link
//! it.

use std::path::Path;

use crate::oci::{Algorithm, Digest};

use super::collect::{Place, places};
use super::layout::{inside, link_in};
use super::trust::Stamp;
use super::{Blob, Store, StoreError, file, link, publish};

/// What was done about damaged data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Nothing: it has been replaced or removed meanwhile, or was touched since it was looked at.
    Changed,
    /// It is kept beside its place, as `damaged.<uuid>`: somebody has pushed it, and these
    /// repositories link it, as far as that was looked for.
    Quarantined(Vec<String>),
    /// It is removed: only mirrors link it.
    Dropped,
}

impl Store {
    /// Moves damaged data to `damaged.<uuid>` in its directory, durably. Nothing is deleted, and
    /// whoever links it finds nothing there.
    ///
    /// Waits until nobody is linking anything, and must not be called by somebody who is.
    pub fn quarantine(&self, damaged: &Blob) -> Result<Aside, StoreError> {
        Ok(match self.move_aside(damaged)? {
            Some(_) => Aside::Quarantined(Vec::new()),
            None => Aside::Changed,
        })
    }

    /// The same, and what is kept of it goes if no local repository links it: what mirrors link
    /// can be fetched again. In doubt it stays.
    ///
    /// Walks all repositories, without keeping anybody waiting.
    pub fn drop_damaged(&self, damaged: &Blob) -> Result<Aside, StoreError> {
        let Some(stored) = damaged.stored() else {
            return Ok(Aside::Changed);
        };
        let Some(aside) = self.move_aside(damaged)? else {
            return Ok(Aside::Changed);
        };
        // Who links it from now on has looked for the data first, and not found it.
        let locals = self.locals_with(&stored.digest)?;
        if !locals.is_empty() {
            return Ok(Aside::Quarantined(locals));
        }
        publish::remove_file(&aside)?;
        if let Some(directory) = aside.parent() {
            publish::remove_if_empty(directory);
        }
        Ok(Aside::Dropped)
    }

    /// Where the data went; `None` where it is not what was found damaged.
    fn move_aside(&self, damaged: &Blob) -> Result<Option<std::path::PathBuf>, StoreError> {
        let Some(stored) = damaged.stored() else {
            return Ok(None);
        };
        let path = self.layout().blob_data(&stored.digest);
        let aside = self.layout().blob_damaged(&stored.digest);
        let _alone = self.holds().exclusive()?;
        // A push or a fill may have put sound data there since.
        if Stamp::at(&path)? != Some(stored.stamp) {
            return Ok(None);
        }
        publish::move_into_place(&path, &aside)?;
        Ok(Some(aside))
    }

    /// Moves what cannot be replaced out of the way of new data: a directory.
    pub(super) fn make_way(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.layout().blob_data(digest);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            tracing::warn!(%digest, "a directory where data should be: moved aside");
            publish::move_into_place(&path, &self.layout().blob_damaged(digest))?;
        }
        Ok(())
    }

    /// The repositories without a mirror's mark that link a digest.
    fn locals_with(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let mut locals = Vec::new();
        for Place { name, directory } in places(self)? {
            if !inside::mirror_marker(&directory).is_dir() && links(&directory, digest)? {
                locals.push(name);
            }
        }
        Ok(locals)
    }
}

/// Whether a repository links data, under its own digest or under another.
fn links(repository: &Path, digest: &Digest) -> Result<bool, StoreError> {
    for kind in [inside::layers(repository), inside::revisions(repository)] {
        if link_in(kind.clone(), digest).symlink_metadata().is_ok() {
            return Ok(true);
        }
        // Distribution links a sha512 to the sha256 it stores under.
        let others = Algorithm::ALL.into_iter();
        for algorithm in others.filter(|other| *other != digest.algorithm()) {
            let directory = kind.join(algorithm.as_str());
            for hex in file::names_in(&directory)? {
                let path = directory.join(hex).join("link");
                if link::read(&path)?.as_ref() == Some(digest) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}
