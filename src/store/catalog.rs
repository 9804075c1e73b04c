//! Listing the repositories.

use std::path::Path;

use crate::oci::RepositoryName;

use super::{Store, StoreError, file};

impl Store {
    /// At most `limit` repositories after `last`, in Distribution's order: component by component,
    /// a repository before those below it.
    ///
    /// A repository is a directory that has `_manifests`. Directories that lie wholly before
    /// `last` are not entered.
    pub fn repositories(
        &self,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        let mut walk = Walk {
            after: last.map(|last| last.split('/').collect()),
            limit,
            found: Vec::new(),
        };
        let mut path = Vec::new();
        walk.descend(self.layout().repositories(), &mut path)?;
        Ok(walk.found)
    }
}

struct Walk<'a> {
    after: Option<Vec<&'a str>>,
    limit: usize,
    found: Vec<RepositoryName>,
}

impl Walk<'_> {
    fn descend(&mut self, directory: &Path, path: &mut Vec<String>) -> Result<(), StoreError> {
        for name in file::directories_in(directory)? {
            if self.found.len() >= self.limit {
                return Ok(());
            }
            if name.starts_with('_') {
                continue;
            }
            path.push(name);
            if self.may_hold_more(path) {
                let inner = directory.join(path.last().map_or("", String::as_str));
                self.visit(&inner, path)?;
            }
            path.pop();
        }
        Ok(())
    }

    fn visit(&mut self, directory: &Path, path: &mut Vec<String>) -> Result<(), StoreError> {
        if self.is_after(path) && directory.join("_manifests").is_dir() {
            self.found.extend(path.join("/").parse::<RepositoryName>());
        }
        self.descend(directory, path)
    }

    /// Whether the directory, or something below it, comes after where the listing goes on.
    fn may_hold_more(&self, path: &[String]) -> bool {
        self.after.as_ref().is_none_or(|after| {
            let depth = path.len().min(after.len());
            path[..depth]
                .iter()
                .map(String::as_str)
                .ge(after[..depth].iter().copied())
        })
    }

    fn is_after(&self, path: &[String]) -> bool {
        self.after
            .as_ref()
            .is_none_or(|after| path.iter().map(String::as_str).gt(after.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store_with(names: &[String]) -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = crate::oci::Digest::of(b"{}");
        for name in names {
            let repository = store.local(&name.parse().unwrap());
            repository.put_tag(&"1".parse().unwrap(), &digest).unwrap();
        }
        (root, store)
    }

    #[test]
    fn names_come_component_by_component() {
        let names = ["a-b", "a/b", "a", "b/c/d", "a/b/c"].map(str::to_owned);
        let (_root, store) = store_with(&names);
        let listed = store.repositories(None, 100).unwrap();
        let listed: Vec<_> = listed.iter().map(RepositoryName::as_str).collect();
        assert_eq!(listed, ["a", "a/b", "a/b/c", "a-b", "b/c/d"]);
        assert_eq!(
            store.repositories(Some("a/a\0"), 1).unwrap()[0].as_str(),
            "a/b"
        );
        assert!(store.repositories(None, 0).unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn pages_together_are_the_whole(
            names in prop::collection::hash_set("[ab]{1,2}(/[ab]{1,2}){0,2}", 1..12),
            size in 1usize..5,
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let (_root, store) = store_with(&names);
            let whole = store.repositories(None, usize::MAX).unwrap();
            prop_assert_eq!(whole.len(), names.len());
            let mut paged: Vec<RepositoryName> = Vec::new();
            loop {
                let last = paged.last().map(|name| name.as_str().to_owned());
                let page = store.repositories(last.as_deref(), size).unwrap();
                if page.is_empty() { break; }
                paged.extend(page);
            }
            prop_assert_eq!(paged, whole);
        }
    }
}
