//! What people said of mirrored tags while larder ran: pins and holds.
//!
//! Each is a file of its own in the mirror's `_mirror/`, so that it is durable, goes with the
//! repository, and can be looked at and removed by hand. A pin is empty; a hold is a link.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::oci::{Digest, RepositoryName, Tag};

use super::changes::Change;
use super::{Kind, Repository, Store, StoreError, file, link, publish};

/// The pins and holds of one mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Tags whose images are never evicted.
    pub pins: BTreeSet<Tag>,
    /// Tags that stay at a digest.
    pub holds: BTreeMap<Tag, Digest>,
}

impl Marks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.holds.is_empty()
    }
}

impl Repository {
    /// Pins a tag of a mirror, durably. Says whether there is such a mirror.
    pub fn pin(&self, tag: &Tag) -> Result<bool, StoreError> {
        // No eviction takes the mirror away meanwhile.
        let _held = self.store.holds().shared()?;
        if !self.is_mirror_here() {
            return Ok(false);
        }
        let path = self.store.layout().mirror_pin(self.name(), tag);
        publish::write_file(&path, b"")?;
        self.store.changed(self.name(), Change::Added);
        Ok(true)
    }

    /// Takes a pin away. Says whether there was one.
    pub fn unpin(&self, tag: &Tag) -> Result<bool, StoreError> {
        let removed = publish::remove_file(&self.store.layout().mirror_pin(self.name(), tag))?;
        self.store.changed(self.name(), Change::Added);
        Ok(removed)
    }

    /// Holds a tag of a mirror at a digest, durably. Says whether there is such a mirror.
    pub fn hold(&self, tag: &Tag, digest: &Digest) -> Result<bool, StoreError> {
        let held = self.store.holds().shared()?;
        if !self.is_mirror_here() {
            return Ok(false);
        }
        let path = self.store.layout().mirror_hold(self.name(), tag);
        link::write(&path, digest, &held)?;
        self.store.changed(self.name(), Change::Added);
        Ok(true)
    }

    /// Takes a hold away. Says whether there was one.
    pub fn unhold(&self, tag: &Tag) -> Result<bool, StoreError> {
        let removed = publish::remove_file(&self.store.layout().mirror_hold(self.name(), tag))?;
        self.store.changed(self.name(), Change::Added);
        Ok(removed)
    }

    /// At which digest a tag is held.
    pub fn held(&self, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        link::read(&self.store.layout().mirror_hold(self.name(), tag))
    }

    /// All of them.
    pub fn marks(&self) -> Result<Marks, StoreError> {
        let layout = self.store.layout();
        let tags = |directory: &Path| {
            let names = file::names_in(directory)?;
            let tags = names.into_iter().filter_map(|name| name.parse().ok());
            Ok::<Vec<Tag>, StoreError>(tags.collect())
        };
        let mut marks = Marks {
            pins: tags(&layout.mirror_pins(self.name()))?
                .into_iter()
                .collect(),
            holds: BTreeMap::new(),
        };
        for tag in tags(&layout.mirror_holds(self.name()))? {
            if let Some(digest) = self.held(&tag)? {
                marks.holds.insert(tag, digest);
            }
        }
        Ok(marks)
    }

    fn is_mirror_here(&self) -> bool {
        self.store.kind_of(self.name()) == Some(Kind::Mirror)
    }
}

impl Store {
    /// The pins and holds of all mirrors that have some.
    pub fn marks(&self) -> Result<BTreeMap<RepositoryName, Marks>, StoreError> {
        let mut found = BTreeMap::new();
        let root = self.layout().repositories().to_owned();
        self.find_marks(&root, &mut Vec::new(), &mut found)?;
        Ok(found)
    }

    fn find_marks(
        &self,
        directory: &Path,
        path: &mut Vec<String>,
        found: &mut BTreeMap<RepositoryName, Marks>,
    ) -> Result<(), StoreError> {
        for name in file::directories_in(directory)? {
            if name == "_mirror" {
                if let Ok(name) = path.join("/").parse::<RepositoryName>() {
                    let marks = self.mirror(&name).marks()?;
                    if !marks.is_empty() {
                        found.insert(name, marks);
                    }
                }
            } else if !name.starts_with('_') {
                let inner = directory.join(&name);
                path.push(name);
                self.find_marks(&inner, path, found)?;
                path.pop();
            }
        }
        Ok(())
    }

    /// Whether somebody pinned or held something of a mirror.
    pub(super) fn has_marks(&self, name: &RepositoryName) -> Result<bool, StoreError> {
        self.mirror(name).marks().map(|marks| !marks.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_files_of_the_mirror_and_of_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let name: RepositoryName = "docker.io/library/x".parse().unwrap();
        let (mirror, tag): (_, Tag) = (store.mirror(&name), "1".parse().unwrap());
        let digest = Digest::of(b"{}");
        assert!(!mirror.pin(&tag).unwrap() && !mirror.hold(&tag, &digest).unwrap());
        assert!(store.marks().unwrap().is_empty());
        mirror.put_tag(&tag, &digest).unwrap();
        assert!(mirror.pin(&tag).unwrap() && mirror.hold(&tag, &digest).unwrap());
        let marks = Marks {
            pins: [tag.clone()].into(),
            holds: [(tag.clone(), digest.clone())].into(),
        };
        assert_eq!(store.marks().unwrap(), [(name, marks)].into());
        assert_eq!(mirror.held(&tag).unwrap(), Some(digest.clone()));
        assert!(mirror.unpin(&tag).unwrap() && mirror.unhold(&tag).unwrap());
        assert!(!mirror.unpin(&tag).unwrap() && !mirror.unhold(&tag).unwrap());
        assert!(mirror.marks().unwrap().is_empty());
        let local = store.local(&"team/app".parse().unwrap());
        local.put_tag(&tag, &digest).unwrap();
        assert!(!local.pin(&tag).unwrap(), "what was pushed has no marks");
    }
}
