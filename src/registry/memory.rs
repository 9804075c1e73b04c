//! What is remembered for a short time, in memory only: losing it costs a question, no content.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::upstream::UpstreamError;

use super::Missing;

/// A manifest of a mirror.
pub(super) type ManifestKey = (RepositoryName, Reference);
/// A tag of a mirror.
pub(super) type TagKey = (RepositoryName, Tag);
/// A blob of a mirror, or a manifest by its digest.
pub(super) type BlobKey = (RepositoryName, Digest);

/// For how long an upstream's "no" is believed, and a failed revalidation not repeated. Short: a
/// signature or an image that was just pushed upstream must appear.
const NO_LIFE: Duration = Duration::from_secs(10);

/// For how long a client that was told of a tag's digest may take to come for it.
const TOLD_LIFE: Duration = Duration::from_mins(10);

/// For how long a push may rely on having been told that a blob need not be sent.
const PROMISE_LIFE: Duration = Duration::from_hours(1);

pub(super) struct Memory {
    no: Cache<(RepositoryName, Missing), UpstreamError>,
    failed: Cache<TagKey, ()>,
    told: Cache<BlobKey, BTreeMap<Tag, SystemTime>>,
    promised: Cache<BlobKey, ()>,
    tag_lists: Cache<RepositoryName, (Arc<[Tag]>, Instant)>,
}

impl Default for Memory {
    fn default() -> Self {
        // Names in here are a client's to choose: every table is bounded.
        fn bounded<K, V>(entries: u64, life: Duration) -> Cache<K, V>
        where
            K: std::hash::Hash + Eq + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            Cache::builder()
                .max_capacity(entries)
                .time_to_live(life)
                .build()
        }
        Self {
            no: bounded(10_000, NO_LIFE),
            failed: bounded(10_000, NO_LIFE),
            told: bounded(10_000, TOLD_LIFE),
            promised: bounded(100_000, PROMISE_LIFE),
            tag_lists: bounded(200, Duration::from_hours(24)),
        }
    }
}

impl Memory {
    /// The upstream's recent "no" to a question.
    pub(super) fn no(&self, name: &RepositoryName, what: &Missing) -> Option<UpstreamError> {
        self.no.get(&(name.clone(), what.clone()))
    }

    pub(super) fn remember_no(&self, name: &RepositoryName, what: &Missing, no: UpstreamError) {
        self.no.insert((name.clone(), what.clone()), no);
    }

    /// Forgets what upstreams refused and failed: they may be others now, or know us better.
    pub(super) fn forget_refusals(&self) {
        self.no.invalidate_all();
        self.failed.invalidate_all();
    }

    /// Whether asking about a cached tag has just failed.
    pub(super) fn has_failed(&self, key: &TagKey) -> bool {
        self.failed.contains_key(key)
    }

    pub(super) fn remember_failure(&self, key: &TagKey) {
        self.failed.insert(key.clone(), ());
    }

    /// Notes that clients were told, at `when`, that the upstream's `tag` is `digest`. They come
    /// for the digest next; by then it must be known which tag to move.
    pub(super) fn remember_told(&self, key: &BlobKey, tag: &Tag, when: SystemTime) {
        self.told.entry(key.clone()).and_compute_with(|entry| {
            let mut tags = entry.map(moka::Entry::into_value).unwrap_or_default();
            tags.insert(tag.clone(), when);
            Op::Put(tags)
        });
    }

    /// The tags that `key` was told for, forgotten with the asking.
    pub(super) fn take_told(&self, key: &BlobKey) -> BTreeMap<Tag, SystemTime> {
        self.told.remove(key).unwrap_or_default()
    }

    /// Notes that a client asked for a blob under a name that is not local yet, and was told
    /// that it is there: should it be pushing, it will not send it.
    pub(super) fn remember_promise(&self, name: &RepositoryName, digest: &Digest) {
        self.promised.insert((name.clone(), digest.clone()), ());
    }

    pub(super) fn has_promised(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.promised.contains_key(&(name.clone(), digest.clone()))
    }

    /// The upstream's tags as last listed, in byte order, and whether that is fresh.
    pub(super) fn tag_list(
        &self,
        name: &RepositoryName,
        fresh_for: Duration,
    ) -> Option<(Arc<[Tag]>, bool)> {
        let (tags, listed) = self.tag_lists.get(name)?;
        Some((tags, listed.elapsed() < fresh_for))
    }

    pub(super) fn remember_tag_list(&self, name: &RepositoryName, tags: Arc<[Tag]>) {
        self.tag_lists.insert(name.clone(), (tags, Instant::now()));
    }
}
