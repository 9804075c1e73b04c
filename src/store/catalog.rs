//! Listing the repositories.

use std::path::Path;

use crate::oci::RepositoryName;

use super::listing::{Listings, Wanted};
use super::{Store, StoreError};

impl Store {
    /// At most `limit` repositories after `last`, in Distribution's order: component by component,
    /// a repository before those below it.
    ///
    /// A repository is a directory that has `_manifests`. What lies wholly before `last` is not
    /// looked at: a page costs what is on it, and a look at the directories that it begins in.
    pub fn repositories(
        &self,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        let mut walk = Walk {
            listings: self.listings(),
            limit,
            path: Vec::new(),
            found: Vec::new(),
        };
        let after: Option<Vec<&str>> = last.map(|last| last.split('/').collect());
        walk.descend(
            self.layout().repositories(),
            after.as_deref().unwrap_or(&[]),
        )?;
        Ok(walk.found)
    }
}

struct Walk<'a> {
    listings: &'a Listings,
    limit: usize,
    /// The directories from the tree's top to where the walk is.
    path: Vec<String>,
    found: Vec<RepositoryName>,
}

impl Walk<'_> {
    /// Goes through what is in a directory and comes after the path `after` in it; with no such
    /// path, through all of it.
    fn descend(&mut self, directory: &Path, after: &[&str]) -> Result<(), StoreError> {
        if self.found.len() >= self.limit {
            return Ok(());
        }
        let names = self.listings.of(directory, Wanted::Directories)?;
        for name in names.from(after.first().copied()) {
            if self.found.len() >= self.limit {
                break;
            }
            if name.starts_with('_') {
                continue;
            }
            let inner = directory.join(name);
            self.path.push(name.to_owned());
            match after {
                // `last` itself, or what it is below.
                [first, rest @ ..] if name == *first => self.descend(&inner, rest)?,
                _ => self.visit(&inner)?,
            }
            self.path.pop();
        }
        Ok(())
    }

    fn visit(&mut self, directory: &Path) -> Result<(), StoreError> {
        if directory.join("_manifests").is_dir() {
            self.found
                .extend(self.path.join("/").parse::<RepositoryName>());
        }
        self.descend(directory, &[])
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]
mod tests {
    use super::*;
    use std::fs;

    use proptest::prelude::*;

    /// All repositories as a plain walk finds them.
    fn naive(directory: &Path, name: &str) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let component = entry.file_name().into_string().unwrap();
            if component.starts_with('_') || !entry.file_type().unwrap().is_dir() {
                continue;
            }
            let full = format!("{name}/{component}");
            if entry.path().join("_manifests").is_dir() {
                found.push(full[1..].split('/').map(str::to_owned).collect());
            }
            found.extend(naive(&entry.path(), &full));
        }
        found.sort_unstable();
        found
    }

    /// What somebody does in the tree.
    #[derive(Clone, Debug)]
    enum Change {
        Add(String),
        Remove(String),
    }

    fn name() -> impl Strategy<Value = String> {
        // Separators that come before and after the slash in byte order.
        "[ab](-a|[.]a)?(/[ab](-a|[.]a)?){0,2}".prop_map(|name| format!("x/{name}"))
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            name().prop_map(Change::Add),
            name().prop_map(Change::Remove)
        ];
        prop::collection::vec(change, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn pages_are_what_a_plain_walk_finds_whatever_others_do_meanwhile(
            changes in changes(),
            last in prop_oneof![name(), "[a-x/.-]{0,4}"],
            size in 1usize..6,
        ) {
            let (_root, store) = store_with(&[]);
            let top = store.layout().repositories().to_owned();
            // More than are read each time, on both sides of those that change.
            for number in 0..300 {
                let side = if number % 2 == 0 { "a" } else { "y" };
                let path = top.join(format!("x/{side}{number}/_manifests"));
                fs::create_dir_all(path).unwrap();
                fs::create_dir_all(top.join(format!("{side}{number}"))).unwrap();
            }
            for change in changes {
                match &change {
                    Change::Add(name) => {
                        fs::create_dir_all(top.join(name).join("_manifests")).unwrap();
                    }
                    Change::Remove(name) => drop(fs::remove_dir_all(top.join(name))),
                }
                let walked = naive(&top, "");
                let last: Vec<String> = last.split('/').map(str::to_owned).collect();
                let expected: Vec<String> = walked
                    .into_iter()
                    .filter(|found| *found > last)
                    .map(|found| found.join("/"))
                    .take(size)
                    .collect();
                let page = store.repositories(Some(&last.join("/")), size).unwrap();
                let page: Vec<_> = page.iter().map(ToString::to_string).collect();
                prop_assert_eq!(page, expected, "{:?}", change);
            }
        }
    }

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
