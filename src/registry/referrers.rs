//! Referrers: signatures, bills of materials, and whatever else is attached to a manifest.
//!
//! OCI distribution specification, "Listing Referrers". Local lists are read off the manifests
//! themselves, so that there is no index that could disagree with them and data that another
//! registry stored is listed too. What is remembered is what a manifest says, which never changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use moka::sync::Cache;

use crate::oci::referrer::{index_of, referrers_tag};
use crate::oci::{Digest, Page, Referrer, RepositoryName, Tag};
use crate::store::{Repository, StoreError};
use crate::upstream::{Presence, Upstream, UpstreamError};

use super::names::{Mirror, Place};
use super::pass::NotKept;
use super::{Error, Missing, Outcome, Registry, blocking};

/// The largest page of referrers, in bytes: as large as the largest manifest, which is what
/// clients are prepared to read.
const PAGE_SIZE: usize = 4 * 1024 * 1024 - 1024;

/// How much is remembered of what manifests say about their subjects, in bytes.
const REMEMBERED: u64 = 8 * 1024 * 1024;

/// The longest that a client waits for an upstream's list when one is known.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) type ListResult = Result<Arc<Vec<Referrer>>, UpstreamError>;

/// What a manifest is attached to, and its entry in that one's list.
type Fact = Option<Arc<(Digest, Referrer)>>;

/// What the manifests seen so far are attached to, by their digests.
pub(super) struct Facts(Cache<Digest, Fact>);

impl Default for Facts {
    fn default() -> Self {
        let size = |_: &Digest, fact: &Fact| {
            let entry = fact.as_ref().map_or(0, |fact| fact.1.length() + 200);
            u32::try_from(200 + entry).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(size).max_capacity(REMEMBERED);
        Self(cache.build())
    }
}

/// A page of referrers.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// The index, as it is sent.
    pub index: String,
    /// Where the next page goes on: after this digest. `None` on the last page.
    pub next_after: Option<Digest>,
}

impl Registry {
    /// The manifests attached to `subject`, those of one artifact type where one is given.
    pub async fn referrers(
        &self,
        place: &Place,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &Page,
    ) -> Result<(Referrers, Outcome), Error> {
        let (all, outcome) = match place {
            Place::Local(repository) => (
                Arc::new(self.local_referrers(repository, subject).await?),
                Outcome::Hit,
            ),
            Place::Mirror(mirror) => {
                self.mirrored_referrers(mirror, subject, SystemTime::now())
                    .await?
            }
        };
        Ok((page_of(&all, artifact_type, page), outcome))
    }

    pub(super) async fn local_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, Error> {
        let facts = self.inner.facts.0.clone();
        let (repository, subject) = (repository.clone(), subject.clone());
        blocking(move || {
            let mut found = Vec::new();
            for digest in repository.revisions()? {
                let fact = match facts.get(&digest) {
                    Some(fact) => fact,
                    None => match read_fact(&repository, &digest)? {
                        Some(fact) => {
                            facts.insert(digest.clone(), fact.clone());
                            fact
                        }
                        None => continue,
                    },
                };
                if let Some(fact) = fact.filter(|fact| fact.0 == subject)
                    && repository.has_manifest(&digest)?
                {
                    found.push(fact.1.clone());
                }
            }
            let known: BTreeSet<Digest> = found.iter().map(|entry| entry.digest.clone()).collect();
            for entry in tagged_referrers(&repository, &subject)? {
                if !known.contains(&entry.digest) && repository.has_manifest(&entry.digest)? {
                    found.push(entry);
                }
            }
            found.sort_by(|a, b| a.digest.cmp(&b.digest));
            Ok(found)
        })
        .await
    }

    /// An upstream's list, kept for as long as its tags are, and served again when it is away.
    async fn mirrored_referrers(
        &self,
        mirror: &Mirror,
        subject: &Digest,
        now: SystemTime,
    ) -> Result<(Arc<Vec<Referrer>>, Outcome), Error> {
        let what = Missing::Referrers(subject.clone());
        let (repository, wanted) = (mirror.repository.clone(), subject.clone());
        let kept = blocking(move || repository.listed_referrers(&wanted)).await?;
        let kept = kept.and_then(|(bytes, listed)| {
            let referrers = Referrer::read_index(&bytes).ok()?;
            let fresh_for = self.policy().settings.fresh_for;
            let is_fresh = now.duration_since(listed).is_ok_and(|age| age < fresh_for);
            Some((Arc::new(referrers), is_fresh))
        });
        let upstream = match (&kept, mirror.upstream(what.clone())) {
            (Some((referrers, true)), _) | (Some((referrers, false)), Err(_)) => {
                return Ok((Arc::clone(referrers), Outcome::Hit));
            }
            (None, Err(error)) => return Err(error),
            (_, Ok(upstream)) => Arc::clone(upstream),
        };
        let Some((kept, _)) = kept else {
            self.not_refused(mirror, what)?;
            let asked = self.upstream_referrers(mirror, &upstream, subject).await;
            let (referrers, joined) = asked?;
            return Ok((referrers, Outcome::fetched(joined)));
        };
        let asked = self.referrers_briefly(mirror, &upstream, subject).await;
        let failure = match asked {
            Ok((referrers, joined)) => return Ok((referrers, Outcome::fetched(joined))),
            Err(failure) => failure,
        };
        tracing::warn!(repository = %mirror.repository.name(), %subject, "listing the referrers that are known: {failure}");
        Ok((kept, Outcome::Stale))
    }

    /// Asks for as long as a client may wait who can have the list that is known. The error says
    /// why there is nothing.
    async fn referrers_briefly(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        subject: &Digest,
    ) -> Result<(Arc<Vec<Referrer>>, bool), String> {
        let what = Missing::Referrers(subject.clone());
        let told = |error: Error| error.to_string();
        self.not_refused(mirror, what).map_err(told)?;
        match upstream.presence() {
            Presence::Here => {}
            Presence::Away(reason) => return Err(reason.to_string()),
            Presence::Due(reason) => {
                let (registry, mirror) = (self.clone(), mirror.clone());
                let (upstream, subject) = (Arc::clone(upstream), subject.clone());
                self.inner.tasks.spawn(async move {
                    let asked = registry.upstream_referrers(&mirror, &upstream, &subject);
                    drop(asked.await);
                });
                return Err(reason.to_string());
            }
        }
        let started = Instant::now();
        let asked = self.upstream_referrers(mirror, upstream, subject);
        let Ok(answer) = tokio::time::timeout(PATIENCE, asked).await else {
            upstream.waited_in_vain(started);
            return Err(format!("upstream {}: no answer yet", upstream.name()));
        };
        answer.map_err(told)
    }

    async fn upstream_referrers(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        subject: &Digest,
    ) -> Result<(Arc<Vec<Referrer>>, bool), Error> {
        let key: (RepositoryName, Digest) = (mirror.repository.name().clone(), subject.clone());
        let work = || {
            let (mirror, upstream) = (mirror.clone(), Arc::clone(upstream));
            let (registry, subject) = (self.clone(), subject.clone());
            async move {
                let mut referrers = upstream.list_referrers(&mirror.name, &subject).await?;
                referrers.sort_by(|a, b| a.digest.cmp(&b.digest));
                let index = index_of(&referrers);
                let (repository, named) = (mirror.repository.clone(), subject.clone());
                let kept = registry.keeping(move || {
                    repository.keep_listed_referrers(&named, index.as_bytes(), None)
                });
                match kept.await {
                    Ok(()) => {}
                    Err(Error::Store(error)) => {
                        registry.not_kept(&mirror, &subject, &NotKept::Failed(&error));
                    }
                    Err(error) => {
                        tracing::error!(repository = %mirror.repository.name(), %subject, %error, "the list of referrers could not be kept");
                    }
                }
                Ok(Arc::new(referrers))
            }
        };
        let shared = self.inner.referrers.share(&key, work).await;
        let shared = shared.ok_or(Error::Vanished)?;
        match shared.value {
            Ok(referrers) => Ok((referrers, shared.joined)),
            Err(error) => Err(self.refused(mirror, Missing::Referrers(subject.clone()), error)),
        }
    }
}

/// What a stored manifest says about its subject; `None` where it is not stored, or damaged.
fn read_fact(repository: &Repository, digest: &Digest) -> Result<Option<Fact>, StoreError> {
    match repository.manifest(digest) {
        Ok(Some(stored)) => {
            let fact = Referrer::of(digest, &stored.media_type, &stored.bytes);
            Ok(Some(fact.map(Arc::new)))
        }
        Ok(None) | Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What clients have listed under the referrers tag of an older registry. It counts as well, so
/// that nothing attached before the move is lost. OCI distribution specification, "Enabling the
/// Referrers API".
fn tagged_referrers(
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<Referrer>, StoreError> {
    let Ok(tag) = referrers_tag(subject).parse::<Tag>() else {
        return Ok(Vec::new());
    };
    let Some(digest) = repository.tag(&tag)? else {
        return Ok(Vec::new());
    };
    match repository.manifest(&digest) {
        Ok(Some(stored)) => Ok(Referrer::read_index(&stored.bytes).unwrap_or_default()),
        Ok(None) | Err(StoreError::Damaged(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The part of a sorted list that a page holds.
fn page_of(all: &[Referrer], artifact_type: Option<&str>, page: &Page) -> Referrers {
    let wanted = |entry: &&Referrer| {
        let fits =
            artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted));
        let after = page.last.as_deref();
        fits && after.is_none_or(|last| entry.digest.as_str() > last)
    };
    let most = page.n.filter(|n| *n > 0).unwrap_or(u64::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (mut entries, mut size) = (Vec::new(), 0);
    let mut left = all.iter().filter(wanted).peekable();
    while let Some(entry) = left.peek() {
        size += entry.length() + 1;
        // One entry is never too large: it is part of a manifest.
        if entries.len() >= most || (size > PAGE_SIZE && !entries.is_empty()) {
            break;
        }
        entries.extend(left.next().cloned());
    }
    let is_last = left.peek().is_none();
    let last = entries.last().filter(|_| !is_last);
    Referrers {
        next_after: last.map(|entry| entry.digest.clone()),
        index: index_of(&entries),
    }
}
