//! Taking over what Distribution has fetched as a pull-through cache: its repositories become
//! mirrors by being moved below their upstream's directory. Nothing is copied, nothing downloaded.
//!
//! Its tree does not say what came from elsewhere. `scheduler-state.json`, beside `docker/`, does:
//! it lists what was fetched, until that expires there. What it does not vouch for is left local, as
//! it is without all this; that is never wrong, only inconvenient, and said in the log.
//!
//! A kill or a power cut at any instant leaves either something that the next start begins afresh,
//! or something that it continues. In this order, each step durable before the next:
//!
//! 1. `_mirror/` in the repository. What has begun is told by it, and is local no more.
//! 2. `_mirror/` where it is to be.
//! 3. The links move.
//! 4. What is left of the old directory goes.
//! 5. The list gets another name, so that nothing is taken over twice: what is pushed after this
//!    under a name that it has is nobody's but the pusher's.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;

use crate::oci::{Digest, RepositoryName};

use super::collect::{Place, places};
use super::layout::{Layout, inside, link_in};
use super::{Context as _, Kind, Store, StoreError, file, publish};

/// A list that is larger was not written by Distribution: it has some 300 bytes for each thing.
const LARGEST: usize = 1 << 30;

/// What Distribution stores before it writes its list; it does so every five seconds.
const LATENESS: Duration = Duration::from_secs(10);

/// Docker Hub's own repositories, where nobody else can push.
const LIBRARY: &str = "library/";

/// Whose cache it was.
#[derive(Clone, Debug)]
pub struct OldCache {
    /// The directory of the upstream that it was a cache of.
    pub upstream: RepositoryName,
    /// Whether that is Docker Hub, where a bare name is one below `library/`.
    pub is_docker_hub: bool,
    /// The directories of all upstreams: what is in them is larder's own.
    pub mirrors: Vec<RepositoryName>,
}

/// What became of an old cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Repositories that are mirrors now, by their new names.
    pub taken: Vec<RepositoryName>,
    /// Repositories that stay local, and where they would have gone.
    pub doubtful: Vec<(RepositoryName, RepositoryName, Doubt)>,
    /// Where the list is now.
    pub list: PathBuf,
}

/// Why a repository stays local.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The list has nothing of it.
    #[error("the cache's list does not have it")]
    Unlisted,
    /// The list lacks a manifest that it has.
    #[error("it has a manifest that the cache's list does not have, {0}")]
    Manifest(Digest),
    /// Somebody was pushing to it.
    #[error("there is an unfinished upload in it")]
    Uploading,
    /// It is there already.
    #[error("there is something under its new name already")]
    Exists,
}

/// What the list vouches for.
struct List {
    known: HashMap<String, HashSet<Digest>>,
    written: SystemTime,
}

impl Store {
    /// Takes over an old cache, or goes on with that; `None` where there is none. To be called
    /// before anybody is served.
    pub fn adopt(&self, cache: &OldCache) -> Result<Option<Adopted>, StoreError> {
        let path = Layout::scheduler_state(&self.inner.root);
        let Some(list) = List::read(&path)? else {
            return Ok(None);
        };
        let mut adopted = Adopted::default();
        let begun = self.begin(cache, &list, &mut adopted)?;
        let repositories = self.layout().repositories();
        if !begun.is_empty() {
            publish::sync_file_system(repositories)?;
            for (_, to) in &begun {
                publish::make_dirs(&self.layout().mirror_marker(to))?;
            }
            publish::sync_file_system(repositories)?;
            for (from, to) in &begun {
                self.move_links(from, to)?;
            }
            publish::sync_file_system(repositories)?;
            for (from, to) in begun {
                if self.clear(&from)? {
                    adopted.taken.push(to);
                } else {
                    adopted.doubtful.push((from, to, Doubt::Exists));
                }
            }
            publish::sync_file_system(repositories)?;
        }
        // Whoever was killed while clearing up left empty directories, and no mark by which they
        // would be found.
        for name in list.known.keys().filter_map(|name| name.parse().ok()) {
            self.remove_empty(&name);
        }
        adopted.list = Layout::scheduler_state_adopted(&self.inner.root);
        publish::move_into_place(&path, &adopted.list)?;
        Ok(Some(adopted))
    }

    /// Marks what can be taken over. Returns it, with what was marked before a crash, and where it
    /// goes.
    fn begin(
        &self,
        cache: &OldCache,
        list: &List,
        adopted: &mut Adopted,
    ) -> Result<Vec<(RepositoryName, RepositoryName)>, StoreError> {
        let is_ours = |name: &RepositoryName| {
            let (first, _) = name.split_first();
            cache.mirrors.iter().any(|mirror| mirror.as_str() == first)
        };
        let mut begun = Vec::new();
        for name in list.known.keys() {
            // By the list, not by the tree: of some there may be nothing left but the mark.
            if let Ok(name) = name.parse::<RepositoryName>()
                && !is_ours(&name)
                && self.kind_of(&name) == Some(Kind::Mirror)
            {
                let to = cache.new_name(&name);
                begun.push((name, to));
            }
        }
        begun.sort();
        let mut claimed: HashSet<_> = begun.iter().map(|(_, to)| to.clone()).collect();
        let mut found = places(self)?;
        // Of `nginx` and `library/nginx` the second is the one that docker pulled.
        found.sort_by_key(|place| !place.name.contains('/'));
        for place in found {
            // What nobody could ask for is no cache's.
            let Ok(name) = place.name.parse::<RepositoryName>() else {
                continue;
            };
            if is_ours(&name) || self.kind_of(&name) != Some(Kind::Local) {
                continue;
            }
            let to = cache.new_name(&name);
            let is_taken = claimed.contains(&to) || self.layout().repository(&to).exists();
            let doubt = if is_taken {
                Some(Doubt::Exists)
            } else {
                list.doubt(cache, &place)?
            };
            if let Some(doubt) = doubt {
                adopted.doubtful.push((name, to, doubt));
                continue;
            }
            publish::make_dirs(&self.layout().mirror_marker(&name))?;
            claimed.insert(to.clone());
            begun.push((name, to));
        }
        Ok(begun)
    }

    /// Moves what is still at the old place. Repositories below it stay: each is taken by itself.
    fn move_links(&self, from: &RepositoryName, to: &RepositoryName) -> Result<(), StoreError> {
        let layout = self.layout();
        for (from, to) in [
            (layout.layers(from), layout.layers(to)),
            (layout.manifests(from), layout.manifests(to)),
        ] {
            publish::move_directory(&from, &to)?;
        }
        Ok(())
    }

    /// Removes what is left of the old directory. `false` if links are: something came to the new
    /// place before them, and what is left here is local again.
    fn clear(&self, from: &RepositoryName) -> Result<bool, StoreError> {
        let layout = self.layout();
        let is_moved = !layout.layers(from).exists() && !layout.manifests(from).exists();
        publish::remove_tree(&layout.mirror_marker(from))?;
        if is_moved {
            self.remove_empty(from);
        }
        Ok(is_moved)
    }

    /// Removes a repository's directory, and those above it, as far as there is nothing in them.
    fn remove_empty(&self, name: &RepositoryName) {
        let layout = self.layout();
        publish::remove_if_empty(&layout.uploads(name));
        let mut directory = layout.repository(name);
        while directory != layout.repositories() {
            publish::remove_if_empty(&directory);
            directory.pop();
        }
    }
}

impl OldCache {
    /// Where a repository of the cache goes.
    pub fn new_name(&self, name: &RepositoryName) -> RepositoryName {
        let library = LIBRARY.trim_end_matches('/').parse::<RepositoryName>();
        match library {
            Ok(library) if self.is_docker_hub && name.is_single() => {
                name.under(&library).under(&self.upstream)
            }
            _ => name.under(&self.upstream),
        }
    }

    /// Whether a repository is one that nobody could push to while this is the upstream.
    fn is_reserved(&self, name: &str) -> bool {
        self.is_docker_hub && name.starts_with(LIBRARY)
    }
}

impl List {
    /// Reads it; `None` where there is none. One that cannot be understood vouches for nothing.
    #[expect(clippy::zero_sized_map_values, reason = "only the keys tell something")]
    fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let Some((_, metadata)) = file::open(path)? else {
            return Ok(None);
        };
        let written = metadata.modified().context("look at", path)?;
        let bytes = file::read(path, LARGEST)?.unwrap_or_default();
        let entries: HashMap<String, IgnoredAny> =
            serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the list of an old cache cannot be read");
                HashMap::new()
            });
        let mut known: HashMap<String, HashSet<Digest>> = HashMap::new();
        for key in entries.into_keys() {
            if let Some((name, digest)) = key.rsplit_once('@')
                && let Ok(digest) = digest.parse()
            {
                known.entry(name.to_owned()).or_default().insert(digest);
            }
        }
        Ok(Some(Self { known, written }))
    }

    /// Why a repository is not taken over, if it is not.
    fn doubt(&self, cache: &OldCache, place: &Place) -> Result<Option<Doubt>, StoreError> {
        let Some(known) = self.known.get(&place.name) else {
            return Ok(Some(Doubt::Unlisted));
        };
        if !file::names_in(&inside::uploads(&place.directory))?.is_empty() {
            return Ok(Some(Doubt::Uploading));
        }
        let is_reserved = cache.is_reserved(&place.name);
        let revisions = inside::revisions(&place.directory);
        for algorithm in file::names_in(&revisions)? {
            for hex in file::names_in(&revisions.join(&algorithm))? {
                let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else {
                    continue;
                };
                if known.contains(&digest) {
                    continue;
                }
                let path = link_in(revisions.clone(), &digest);
                let Ok(metadata) = path.symlink_metadata() else {
                    continue;
                };
                // Where anybody can push, it may be somebody's. Where nobody can, it has expired
                // from the list, unless it came after that.
                let stored = metadata.modified().context("look at", &path)?;
                if !is_reserved || stored > self.written + LATENESS {
                    return Ok(Some(Doubt::Manifest(digest)));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
