//! Lists of repositories and of tags, page by page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::oci::{Page, RepositoryName, Tag};
use crate::store::Repository;
use crate::upstream::{Presence, Upstream, UpstreamError};

use super::names::{Mirror, Place};
use super::{Error, Missing, Outcome, Registry, blocking};

/// The longest that a client waits for an upstream's list when some tags are known.
const PATIENCE: Duration = Duration::from_secs(10);

/// The catalog's page where a client does not say how many it wants, as in Distribution.
const CATALOG_PAGE: usize = 100;

/// In byte order, each once.
pub(super) type UpstreamTags = Result<Arc<[Tag]>, UpstreamError>;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entries, in order.
    pub entries: Vec<String>,
    /// How many were asked for, if the page is full: there may be more after the last entry.
    pub full: Option<usize>,
}

impl Listed {
    fn of(entries: Vec<String>, limit: Option<usize>) -> Self {
        let full = limit.filter(|limit| *limit > 0 && entries.len() == *limit);
        Self { entries, full }
    }
}

/// Which tags of a list are wanted.
struct Part {
    /// Those after this one.
    last: Option<String>,
    /// So many of them.
    most: usize,
}

impl Part {
    /// Those that are kept here, if the repository is known.
    async fn of(&self, repository: Repository) -> Result<Option<Vec<Tag>>, Error> {
        let (last, most) = (self.last.clone(), self.most);
        blocking(move || repository.tags_after(last.as_deref(), most)).await
    }

    /// These together with those of an upstream's list, which is in order.
    fn merged(&self, mut kept: Vec<Tag>, listed: &[Tag]) -> Vec<Tag> {
        let is_before = |tag: &Tag| (self.last.as_deref()).is_some_and(|last| tag.as_str() <= last);
        let start = listed.partition_point(is_before);
        kept.extend(listed[start..].iter().take(self.most).cloned());
        kept.sort_unstable();
        kept.dedup();
        kept.truncate(self.most);
        kept
    }
}

impl Registry {
    /// The repositories that are here, local ones and mirrors, by their full names; of those the
    /// ones that are `visible`.
    pub async fn catalog(
        &self,
        page: &Page,
        visible: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Listed, Error> {
        let most = self.policy().settings.catalog_limit;
        let limit = match page.n {
            None => CATALOG_PAGE.min(most),
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| *n <= most)
                .ok_or(Error::PageTooLarge(most))?,
        };
        let (mut entries, mut last) = (Vec::new(), page.last.clone());
        let mut round = limit;
        while entries.len() < limit {
            let (store, after) = (self.inner.store.clone(), last.clone());
            let names = blocking(move || store.repositories(after.as_deref(), round)).await?;
            let seen = names.iter().filter(|name| visible(name));
            entries.extend(seen.map(ToString::to_string).take(limit - entries.len()));
            last = names.last().map(ToString::to_string);
            if names.len() < round {
                break;
            }
            // Not one by one where few of many are visible.
            round = limit.max(CATALOG_PAGE);
        }
        Ok(Listed::of(entries, Some(limit)))
    }

    /// The tags of a repository; of a mirror those of the upstream as well as those kept here.
    pub async fn tags(&self, place: &Place, page: &Page) -> Result<(Listed, Outcome), Error> {
        let limit = page.n.map(|n| {
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            n.min(self.policy().settings.tags_limit)
        });
        if limit == Some(0) {
            return Ok((Listed::of(Vec::new(), limit), Outcome::Hit));
        }
        let part = Part {
            last: page.last.clone(),
            most: limit.unwrap_or(usize::MAX),
        };
        let (tags, outcome) = match place {
            Place::Local(repository) => {
                let (repository, name) = (repository.clone(), repository.name().clone());
                let what = Missing::Tags;
                let tags = part.of(repository).await?;
                (tags.ok_or(Error::Unknown { name, what })?, Outcome::Hit)
            }
            Place::Mirror(mirror) => self.mirrored_tags(mirror, &part).await?,
        };
        let entries = tags.iter().map(Tag::to_string).collect();
        Ok((Listed::of(entries, limit), outcome))
    }

    async fn mirrored_tags(
        &self,
        mirror: &Mirror,
        part: &Part,
    ) -> Result<(Vec<Tag>, Outcome), Error> {
        let kept = part.of(mirror.repository.clone()).await?;
        let name = mirror.repository.name();
        let fresh_for = self.policy().settings.fresh_for;
        let listed = self.inner.memory.tag_list(name, fresh_for);
        let known = kept.is_some() || listed.is_some();
        let kept = kept.unwrap_or_default();
        let merged = |listed: &[Tag]| part.merged(kept.clone(), listed);
        let (stale, upstream) = match (listed, mirror.upstream(Missing::Tags)) {
            (Some((tags, true)), _) | (Some((tags, false)), Err(_)) => {
                return Ok((merged(&tags), Outcome::Hit));
            }
            (listed, Ok(upstream)) => (listed.map(|(tags, _)| tags), Arc::clone(upstream)),
            (None, Err(_)) if known => return Ok((kept, Outcome::Hit)),
            (None, Err(error)) => return Err(error),
        };
        let answer = match upstream.presence() {
            Presence::Here if known => self.upstream_tags_briefly(mirror, &upstream).await,
            Presence::Away(reason) if known => Err(mirror.failure(Missing::Tags, reason)),
            Presence::Due(reason) if known => {
                let (registry, behind) = (self.clone(), mirror.clone());
                self.inner.tasks.spawn(async move {
                    drop(registry.upstream_tags(&behind, &upstream).await);
                });
                Err(mirror.failure(Missing::Tags, reason))
            }
            _ => self.upstream_tags(mirror, &upstream).await,
        };
        match answer {
            Ok((tags, joined)) => Ok((merged(&tags), Outcome::fetched(joined))),
            Err(error) if known => {
                tracing::warn!(repository = %name, %error, "listing the tags that are known");
                Ok((merged(stale.as_deref().unwrap_or_default()), Outcome::Stale))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for as long as a client may wait who can have the tags that are known.
    async fn upstream_tags_briefly(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
    ) -> Result<(Arc<[Tag]>, bool), Error> {
        let started = Instant::now();
        let asked = self.upstream_tags(mirror, upstream);
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        answer.unwrap_or_else(|_| {
            upstream.waited_in_vain(started);
            let what = "the list of tags";
            Err(mirror.failure(Missing::Tags, UpstreamError::Timeout { what }))
        })
    }

    async fn upstream_tags(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
    ) -> Result<(Arc<[Tag]>, bool), Error> {
        let key: RepositoryName = mirror.repository.name().clone();
        let work = || {
            let (registry, name) = (self.clone(), mirror.name.clone());
            let (upstream, key) = (Arc::clone(upstream), key.clone());
            async move {
                let mut tags = upstream.list_tags(&name).await?;
                tags.sort_unstable();
                tags.dedup();
                let tags: Arc<[Tag]> = tags.into();
                registry
                    .inner
                    .memory
                    .remember_tag_list(&key, Arc::clone(&tags));
                Ok(tags)
            }
        };
        let shared = self.inner.lists.share(&key, work).await;
        let shared = shared.ok_or(Error::Vanished)?;
        match shared.value {
            Ok(tags) => Ok((tags, shared.joined)),
            Err(error) => Err(mirror.failure(Missing::Tags, error)),
        }
    }
}
