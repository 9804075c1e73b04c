//! Lists of repositories and of tags, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::oci::{Page, RepositoryName, Tag};
use crate::upstream::{Presence, Upstream, UpstreamError};

use super::names::{Mirror, Place};
use super::{Error, Missing, Outcome, Registry, blocking};

/// The longest that a client waits for an upstream's list when some tags are known.
const PATIENCE: Duration = Duration::from_secs(10);

/// The catalog's page where a client does not say how many it wants, as in Distribution.
const CATALOG_PAGE: usize = 100;

pub(super) type UpstreamTags = Result<Vec<Tag>, UpstreamError>;

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
        while entries.len() < limit {
            let (store, after) = (self.inner.store.clone(), last.clone());
            let names = blocking(move || store.repositories(after.as_deref(), limit)).await?;
            let seen = names.iter().filter(|name| visible(name));
            entries.extend(seen.map(ToString::to_string).take(limit - entries.len()));
            last = names.last().map(ToString::to_string);
            if names.len() < limit {
                break;
            }
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
        let (tags, outcome) = match place {
            Place::Local(repository) => {
                let (repository, name) = (repository.clone(), repository.name().clone());
                let tags = blocking(move || repository.tags()).await?;
                let what = Missing::Tags;
                (tags.ok_or(Error::Unknown { name, what })?, Outcome::Hit)
            }
            Place::Mirror(mirror) => self.mirrored_tags(mirror).await?,
        };
        let is_after = |tag: &Tag| page.last.as_deref().is_none_or(|last| tag.as_str() > last);
        let entries = tags.iter().filter(|tag| is_after(tag)).map(Tag::to_string);
        let entries = entries.take(limit.unwrap_or(usize::MAX)).collect();
        Ok((Listed::of(entries, limit), outcome))
    }

    async fn mirrored_tags(&self, mirror: &Mirror) -> Result<(Vec<Tag>, Outcome), Error> {
        let repository = mirror.repository.clone();
        let kept = blocking(move || repository.tags()).await?;
        let name = mirror.repository.name();
        let fresh_for = self.policy().settings.fresh_for;
        let listed = self.inner.memory.tag_list(name, fresh_for);
        let known = kept.is_some() || listed.is_some();
        let kept = kept.unwrap_or_default();
        let merged = |listed: Vec<Tag>| {
            let all: BTreeSet<Tag> = kept.iter().cloned().chain(listed).collect();
            all.into_iter().collect::<Vec<Tag>>()
        };
        let (stale, upstream) = match (listed, mirror.upstream(Missing::Tags)) {
            (Some((tags, true)), _) | (Some((tags, false)), Err(_)) => {
                return Ok((merged(tags), Outcome::Hit));
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
            Ok((tags, joined)) => Ok((merged(tags), Outcome::fetched(joined))),
            Err(error) if known => {
                tracing::warn!(repository = %name, %error, "listing the tags that are known");
                Ok((merged(stale.unwrap_or_default()), Outcome::Stale))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for as long as a client may wait who can have the tags that are known.
    async fn upstream_tags_briefly(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
    ) -> Result<(Vec<Tag>, bool), Error> {
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
    ) -> Result<(Vec<Tag>, bool), Error> {
        let key: RepositoryName = mirror.repository.name().clone();
        let work = || {
            let (registry, name) = (self.clone(), mirror.name.clone());
            let (upstream, key) = (Arc::clone(upstream), key.clone());
            async move {
                let tags = upstream.list_tags(&name).await?;
                registry.inner.memory.remember_tag_list(&key, tags.clone());
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
