//! Mirrored tags: when the upstream is asked, and what is served when it does not answer.
//!
//! On Docker Hub a HEAD is free and a GET counts as a pull, so a tag costs a GET only when it has
//! moved to a digest that is not here. What was served once is served again: any failure of the
//! upstream ends in the cached copy, marked stale.
//!
//! An upstream that is down or wants to be left alone keeps nobody waiting who can have a copy: the
//! copy is served at once, and whether the upstream is back is found out behind it. The fewer pulls
//! an upstream still allows, the longer a tag stays fresh.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::oci::{Digest, Reference, Tag};
use crate::store::{StoredManifest, TagState};
use crate::upstream::{Budget, ManifestHead, Presence, Share, Upstream, UpstreamError};

use super::manifests::described;
use super::names::Mirror;
use super::pass::NotKept;
use super::pull::{ManifestAnswer, Want};
use super::{Error, Missing, Outcome, Registry, blocking};

/// The longest that a client waits for a revalidation when there is a copy to serve.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest that a tag stays fresh because its upstream allows few pulls.
const LONGEST_STRETCH: Duration = Duration::from_hours(24);

/// What the upstream said when asked for a tag.
#[derive(Clone)]
pub(super) enum Said {
    /// It names what is stored here already; the tag has been moved to it.
    Stored(Arc<StoredManifest>),
    /// It names something that is not here.
    New(ManifestHead),
}

pub(super) type HeadResult = Result<Said, UpstreamError>;

/// A tag as it is cached.
struct Cached {
    state: TagState,
    manifest: Arc<StoredManifest>,
}

impl TagState {
    /// Whether the upstream need not be asked again. A check in the future means that the clock
    /// was set back: nothing is known of its age then.
    fn is_fresh(&self, fresh_for: Duration, now: SystemTime) -> bool {
        now.duration_since(self.checked)
            .is_ok_and(|age| age < fresh_for)
    }
}

/// For how long a tag stays fresh at an upstream that still allows so many pulls.
///
/// The question itself is free at Docker Hub; what it costs is that everybody who hears of a moved
/// tag comes for what it names now. So it is the question that is held back, never a pull of
/// something that is not here. Who has tags asked for each time (zero) has decided otherwise.
fn stretched(fresh_for: Duration, budget: Option<&Budget>) -> Duration {
    let factor = match budget.map(Budget::share) {
        None | Some(Share::Most) => return fresh_for,
        Some(Share::Half) => 4,
        Some(Share::Quarter) => 12,
        Some(Share::Tenth | Share::None) => 72,
    };
    let stretched = fresh_for.saturating_mul(factor).min(LONGEST_STRETCH);
    stretched.max(fresh_for)
}

impl Registry {
    pub(super) async fn mirrored_tag(
        &self,
        mirror: &Mirror,
        tag: &Tag,
        want: Want,
        now: SystemTime,
    ) -> Result<(ManifestAnswer, Outcome), Error> {
        if let Some(digest) = self.held_now(mirror, tag).await? {
            return self.held_tag(mirror, tag, &digest, want).await;
        }
        let what = Missing::Manifest(Reference::Tag(tag.clone()));
        let Some(cached) = self.cached_tag(mirror, tag).await? else {
            let upstream = Arc::clone(mirror.upstream(what.clone())?);
            self.not_refused(mirror, what)?;
            return self.ask(mirror, &upstream, tag, want).await;
        };
        let served = |cached: Cached, outcome| Ok((cached.manifest.into(), outcome));
        let Ok(upstream) = mirror.upstream(what).cloned() else {
            return served(cached, Outcome::Hit);
        };
        let fresh_for = self.policy().settings.fresh_for;
        let fresh_for = stretched(fresh_for, upstream.budget().as_ref());
        if cached.state.is_fresh(fresh_for, now) {
            return served(cached, Outcome::Hit);
        }
        let key = (mirror.repository.name().clone(), tag.clone());
        if self.inner.memory.has_failed(&key) {
            return served(cached, Outcome::Stale);
        }
        let failure = match upstream.presence() {
            Presence::Here => match self.ask_briefly(mirror, &upstream, tag, want).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            },
            Presence::Away(reason) => reason.to_string(),
            Presence::Due(reason) => {
                self.ask_behind(mirror, &upstream, tag);
                reason.to_string()
            }
        };
        if cached.state.stale_since.is_none() {
            self.mark_stale(mirror, tag, &cached.manifest.digest, now, &failure)
                .await;
        }
        served(cached, Outcome::Stale)
    }

    /// Asks for as long as a client may wait who can have a copy. The error says why there is
    /// nothing.
    async fn ask_briefly(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        tag: &Tag,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), String> {
        let asked = Instant::now();
        let key = (mirror.repository.name().clone(), tag.clone());
        let asking = self.ask(mirror, upstream, tag, want);
        let Ok(answer) = tokio::time::timeout(PATIENCE, asking).await else {
            upstream.waited_in_vain(asked);
            self.inner.memory.remember_failure(&key);
            return Err(format!("upstream {}: no answer yet", upstream.name()));
        };
        answer.map_err(|error| {
            // What is the upstream's failure and not the tag's is over when it is back.
            if upstream.presence() == Presence::Here {
                self.inner.memory.remember_failure(&key);
            }
            error.to_string()
        })
    }

    /// Finds out what a tag names now, and whether its upstream is back, while nobody waits.
    fn ask_behind(&self, mirror: &Mirror, upstream: &Arc<Upstream>, tag: &Tag) {
        let (registry, mirror) = (self.clone(), mirror.clone());
        let (upstream, tag) = (Arc::clone(upstream), tag.clone());
        self.inner.tasks.spawn(async move {
            let asked = registry.ask(&mirror, &upstream, &tag, Want::Description);
            if let Err(error) = asked.await {
                tracing::debug!(%tag, %error, "asked behind an answer");
            }
        });
    }

    /// The tag as it is on disk, if its manifest is there too.
    async fn cached_tag(&self, mirror: &Mirror, tag: &Tag) -> Result<Option<Cached>, Error> {
        let (repository, tag) = (mirror.repository.clone(), tag.clone());
        let Some(state) = blocking(move || repository.tag_state(&tag)).await? else {
            return Ok(None);
        };
        let manifest = self.stored_manifest(mirror, &state.digest).await?;
        Ok(manifest.map(|manifest| Cached { state, manifest }))
    }

    /// Asks the upstream what a tag names, and gets that if it is wanted and not here.
    async fn ask(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        tag: &Tag,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), Error> {
        let key = (mirror.repository.name().clone(), tag.clone());
        let work = || {
            let (registry, mirror) = (self.clone(), mirror.clone());
            let (upstream, tag) = (Arc::clone(upstream), tag.clone());
            async move { registry.head(&mirror, &upstream, &tag).await }
        };
        let shared = self.inner.tags.share(&key, work).await;
        let shared = shared.ok_or(Error::Vanished)?;
        let by_tag = Reference::Tag(tag.clone());
        let reference = match shared.value {
            Ok(Said::Stored(manifest)) => return Ok((manifest.into(), Outcome::Revalidated)),
            Ok(Said::New(ManifestHead {
                digest: Some(digest),
                media_type,
                size,
            })) => {
                if want == Want::Description
                    && let Some(answer) = described(&digest, media_type, size)
                {
                    return Ok((answer, Outcome::fetched(shared.joined)));
                }
                Reference::Digest(digest)
            }
            // Without a digest, or without HEAD, only the content tells what the tag names.
            Ok(Said::New(_)) => by_tag,
            Err(UpstreamError::Failed { status: 405 | 501 } | UpstreamError::Misbehaved { .. }) => {
                by_tag
            }
            Err(error) => return Err(self.refused(mirror, Missing::Manifest(by_tag), error)),
        };
        let told = matches!(reference, Reference::Digest(_));
        let (manifest, outcome) = match self.fetch_manifest(mirror, upstream, reference).await {
            // The tag has moved on since, or the upstream told a digest that it does not have.
            Err(Error::Unknown { .. }) if told => {
                let by_tag = Reference::Tag(tag.clone());
                self.fetch_manifest(mirror, upstream, by_tag).await?
            }
            fetched => fetched?,
        };
        Ok((manifest.into(), outcome))
    }

    /// One HEAD, and what it means here. Runs detached: it finishes even when nobody waits.
    async fn head(&self, mirror: &Mirror, upstream: &Upstream, tag: &Tag) -> HeadResult {
        let reference = Reference::Tag(tag.clone());
        let head = upstream.head_manifest(&mirror.name, &reference).await?;
        let checked = SystemTime::now();
        let Some(digest) = &head.digest else {
            return Ok(Said::New(head));
        };
        if let Ok(Some(manifest)) = self.stored_manifest(mirror, digest).await {
            let state = TagState {
                digest: digest.clone(),
                checked,
                stale_since: None,
            };
            self.put_tag_state(mirror, tag, state).await;
            return Ok(Said::Stored(manifest));
        }
        // Whoever asked comes for the digest next, and only then is there something to tag.
        let key = (mirror.repository.name().clone(), digest.clone());
        self.inner.memory.remember_told(&key, tag, checked);
        Ok(Said::New(head))
    }

    async fn mark_stale(
        &self,
        mirror: &Mirror,
        tag: &Tag,
        digest: &Digest,
        now: SystemTime,
        failure: &str,
    ) {
        let name = mirror.repository.name();
        let (repository, stale, named) = (mirror.repository.clone(), tag.clone(), digest.clone());
        match blocking(move || repository.mark_stale(&stale, &named, now)).await {
            Ok(true) => {
                tracing::warn!(repository = %name, %tag, "serving the cached copy: {failure}");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(repository = %name, %tag, %error, "not marked stale"),
        }
    }

    /// A tag's state is worth a log line, but no failed pull.
    async fn put_tag_state(&self, mirror: &Mirror, tag: &Tag, state: TagState) {
        let (repository, name) = (mirror.repository.clone(), tag.clone());
        let digest = state.digest.clone();
        let put = self.keeping(move || repository.put_tag_state(&name, &state));
        match put.await {
            Ok(()) => {}
            Err(Error::Store(error)) => {
                self.not_kept(mirror, &digest, &NotKept::Failed(&error));
            }
            Err(error) => {
                tracing::error!(repository = %mirror.repository.name(), %tag, %error, "the tag could not be kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewer_pulls_are_left_the_longer_a_tag_stays_fresh() {
        let budget = |remaining| Budget {
            limit: 100,
            remaining,
            window: None,
            source: None,
            seen: SystemTime::now(),
        };
        let minutes = |minutes| Duration::from_mins(minutes);
        for (fresh_for, remaining, expected) in [
            (minutes(5), 100, minutes(5)),
            (minutes(5), 50, minutes(20)),
            (minutes(5), 25, minutes(60)),
            (minutes(5), 10, minutes(360)),
            (minutes(5), 0, minutes(360)),
            (minutes(60), 10, minutes(24 * 60)),
            (minutes(60 * 24 * 30), 0, minutes(60 * 24 * 30)),
            (Duration::ZERO, 0, Duration::ZERO),
        ] {
            let stretched = stretched(fresh_for, Some(&budget(remaining)));
            assert_eq!(stretched, expected, "{fresh_for:?} {remaining}");
        }
        assert_eq!(stretched(minutes(5), None), minutes(5));
    }
}
