//! How things stand, for those who look: downloads under way, the disk, the upstreams, and what
//! would be evicted next.

use std::sync::Arc;
use std::time::SystemTime;

use crate::oci::{Digest, RepositoryName};
use crate::store::{Candidate, Space};
use crate::upstream::{Budget, Standing};

use super::{Error, MinFree, Registry, blocking};

/// A download under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillNow {
    /// For which mirror.
    pub repository: RepositoryName,
    /// From which upstream.
    pub upstream: String,
    /// What.
    pub digest: Digest,
    /// How large it is, once the upstream has said so.
    pub size: Option<u64>,
    /// How many bytes of it are here.
    pub written: u64,
    /// How many answers wait for it or are read from it.
    pub followers: usize,
    /// When it began.
    pub since: SystemTime,
}

/// What there is to store in, and how much of it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// What the file system has.
    pub space: Space,
    /// What mirrors alone hold, in bytes, if that has been counted.
    pub mirrors: Option<u64>,
    /// The most that they may hold.
    pub max_size: Option<u64>,
    /// What is to stay free, in bytes; `None` for no limit.
    pub min_free: Option<u64>,
}

/// An upstream, as far as it is known.
#[derive(Clone, Debug)]
pub struct UpstreamNow {
    /// Its name in the configuration.
    pub name: String,
    /// The directory in which its mirrors are.
    pub directory: String,
    /// Where it is asked.
    pub url: String,
    /// Since when it is up or down.
    pub standing: Standing,
    /// Until when it wants to be left alone.
    pub limited_until: Option<SystemTime>,
    /// How many pulls it still allows.
    pub budget: Option<Budget>,
}

impl Registry {
    /// The downloads under way.
    pub fn fills_now(&self) -> Vec<FillNow> {
        self.inner.fills.under_way()
    }

    /// What there is to store in, as it is now.
    pub async fn disk(&self) -> Result<Disk, Error> {
        let accounts = Arc::clone(&self.inner.room.accounts);
        let policy = self.policy();
        let keeping = &policy.settings.keeping;
        let (mirrors, space) = blocking(move || Ok((accounts.cached(), accounts.space()?))).await?;
        let min_free = match keeping.min_free {
            MinFree::Bytes(bytes) => bytes.min(space.size),
            MinFree::Percent(percent) => space.size / 100 * u64::from(percent),
        };
        Ok(Disk {
            space,
            mirrors,
            max_size: keeping.max_size,
            min_free: (min_free > 0).then_some(min_free),
        })
    }

    /// The upstreams, by their names.
    pub fn upstreams_now(&self) -> Vec<UpstreamNow> {
        let names = self.names();
        let now = |(name, upstream): (&String, &Arc<crate::upstream::Upstream>)| UpstreamNow {
            name: name.clone(),
            // A port's colon is no part of a path.
            directory: name.replace(':', "_"),
            url: upstream.url(),
            standing: upstream.standing(),
            limited_until: upstream.limited_until(),
            budget: upstream.budget(),
        };
        names.upstreams().iter().map(now).collect()
    }

    /// What would be evicted next, of the repositories that `is_shown` lets through. `None` where
    /// that is not known yet.
    pub async fn next_evictions(
        &self,
        most: usize,
        is_shown: impl Fn(&RepositoryName) -> bool + Send + 'static,
    ) -> Result<Option<Vec<Candidate>>, Error> {
        let registry = self.clone();
        blocking(move || {
            let kept = registry.kept(&registry.policy().settings.keeping);
            Ok(registry.inner.room.accounts.next(&kept, most, &is_shown))
        })
        .await
    }

    /// Whether nothing may be pushed or deleted.
    pub fn is_read_only(&self) -> bool {
        self.policy().settings.readonly
    }

    /// Whether clients may delete what was pushed.
    pub fn allows_deleting(&self) -> bool {
        self.policy().settings.delete
    }

    /// Removes a tag: of a local repository as a client would, of a mirror the cached one.
    pub async fn remove_tag(
        &self,
        repository: &crate::store::Repository,
        tag: &crate::oci::Tag,
    ) -> Result<(), Error> {
        let reference = crate::oci::Reference::Tag(tag.clone());
        if repository.kind() == crate::store::Kind::Local {
            return self.delete_manifest(repository, &reference).await.map(drop);
        }
        self.may_write()?;
        let (at, wanted) = (repository.clone(), tag.clone());
        if !blocking(move || at.delete_tag(&wanted)).await? {
            return Err(Error::Unknown {
                name: repository.name().clone(),
                what: super::Missing::Manifest(reference),
            });
        }
        // A tag that somebody wanted gone is not wanted for ever. There may be no pin.
        drop(self.pin(repository, tag, false).await);
        Ok(())
    }

    /// Runs something that ends with this registry, and that its end waits for.
    pub fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }
}
