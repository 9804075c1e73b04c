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
        self.let_go();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Check, Trust, Verdict};
    use std::path::PathBuf;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        (root, store)
    }

    fn put(store: &Store, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let held = store.holds().shared().unwrap();
        store.put_data(&digest, bytes, &held).unwrap();
        digest
    }

    fn linked(store: &Store, link: &Path, digest: &Digest) {
        let held = store.holds().shared().unwrap();
        link::write(link, digest, &held).unwrap();
    }

    fn damage(store: &Store, digest: &Digest) -> Blob {
        publish::write_file(&store.layout().blob_data(digest), b"wrong").unwrap();
        let blob = store.open_data(digest).unwrap().unwrap();
        assert!(matches!(Check::of(&blob).unwrap().run(), Verdict::Damaged));
        blob
    }

    fn beside(store: &Store, digest: &Digest) -> Vec<String> {
        let data: PathBuf = store.layout().blob_data(digest);
        file::names_in(data.parent().unwrap()).unwrap()
    }

    #[test]
    fn what_only_mirrors_link_goes_and_what_anybody_pushed_stays() {
        let (_root, store) = store();
        let digest = put(&store, b"right");
        let mirror = "docker.io/library/a".parse().unwrap();
        store.mirror(&mirror).claim().unwrap();
        linked(
            &store,
            &store.layout().layer_link(&mirror, &digest),
            &digest,
        );
        let blob = damage(&store, &digest);
        assert!(store.open_data(&digest).unwrap().is_none());
        assert_eq!(store.drop_damaged(&blob).unwrap(), Aside::Dropped);
        assert!(beside(&store, &digest).is_empty());

        // A blob, a manifest, and a link that is named by another hash.
        let local = "team/app".parse().unwrap();
        let layout = store.layout();
        let other: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
        for link in [
            layout.layer_link(&local, &digest),
            layout.revision_link(&local, &digest),
            layout.layer_link(&local, &other),
        ] {
            linked(&store, &link, &digest);
            put(&store, b"right");
            let blob = damage(&store, &digest);
            let kept = Aside::Quarantined(vec!["team/app".to_owned()]);
            assert_eq!(store.drop_damaged(&blob).unwrap(), kept);
            let [name] = &beside(&store, &digest)[..] else {
                panic!("one file");
            };
            assert!(name.starts_with("damaged."));
            let aside = layout.blob_data(&digest).with_file_name(name);
            publish::remove_file(&aside).unwrap();
            publish::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn what_was_put_right_meanwhile_is_left_alone() {
        let (_root, store) = store();
        let digest = put(&store, b"right");
        let blob = damage(&store, &digest);
        put(&store, b"right");
        assert_eq!(store.quarantine(&blob).unwrap(), Aside::Changed);
        assert_eq!(store.drop_damaged(&blob).unwrap(), Aside::Changed);
        let blob = store.open_data(&digest).unwrap().unwrap();
        assert_eq!(blob.trust(), Trust::Verified);
    }

    #[test]
    fn a_touch_of_our_own_changes_no_verdict_and_anybody_elses_does() {
        let (_root, store) = store();
        let digest = put(&store, b"right");
        let trust = || store.open_data(&digest).unwrap().unwrap().trust();
        assert!(store.touch_data(&digest).unwrap());
        assert_eq!(trust(), Trust::Verified);
        let path = store.layout().blob_data(&digest);
        let file = std::fs::File::open(&path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(trust(), Trust::Unverified);
        assert!(store.touch_data(&digest).unwrap());
        assert_eq!(trust(), Trust::Unverified);
        // A digest has one size.
        put(&store, b"right");
        store.trust_data(&digest);
        publish::write_file(&path, b"righ").unwrap();
        assert_eq!(trust(), Trust::Damaged);
        assert!(!store.has_data(&digest).unwrap());
    }
}
