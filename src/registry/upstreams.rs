//! What is known of the upstreams, written down for those who only look at the data directory,
//! and for after a restart; and the switch that keeps all of them from being asked.

use std::time::{Duration, SystemTime};

use crate::store::{BudgetNote, UpstreamNote, UpstreamState, UpstreamsHint};
use crate::upstream::{Budget, ByKind, Upstream};

use super::{Registry, blocking};

/// How often it is looked whether there is anything new.
const INTERVAL: Duration = Duration::from_secs(2);

impl Registry {
    /// Starts to write down what is known of the upstreams whenever it changes, and to say in the
    /// log when the switch of `larder offline` is set. What was written down before counts, so that
    /// a restart does not spend requests that an upstream has just refused.
    pub fn keep_upstreams_noted(&self) {
        self.recall_upstreams(SystemTime::now());
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            let (mut noted, mut was_offline) = (UpstreamsHint::default(), false);
            loop {
                let is_offline = registry.look_at_switch(was_offline).await;
                was_offline = is_offline;
                let hint = registry.upstreams_hint();
                if hint != noted {
                    registry.note_upstreams(&hint).await;
                    noted = hint;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
    }

    /// Who wanted to be left alone still is, and the pulls that were left still are. Whether an
    /// upstream was down says nothing any more.
    fn recall_upstreams(&self, now: SystemTime) {
        let Some(hint) = self.inner.store.noted_upstreams() else {
            return;
        };
        // A clock that has been set back since would have us wait for as long as it was wrong.
        if hint.written > UpstreamsHint::seconds(now) {
            return;
        }
        for (name, upstream) in self.names().upstreams() {
            let note = hint.upstreams.get(name);
            if let Some(note) = note.filter(|note| note.asker == upstream.asker()) {
                recall(upstream, note, now);
            }
        }
    }

    /// Whether no upstream may be asked, and why.
    pub fn is_offline(&self) -> Option<&'static str> {
        self.names().is_offline()
    }

    /// Lets the next question out to upstreams that were down or wanted to be left alone.
    pub(super) fn ask_again(&self) {
        self.inner.memory.forget_refusals();
        for upstream in self.names().upstreams().values() {
            upstream.ask_again();
        }
    }

    async fn look_at_switch(&self, was_offline: bool) -> bool {
        let store = self.inner.store.clone();
        let looked = blocking(move || Ok(store.is_offline())).await;
        let is_offline = looked.unwrap_or(was_offline);
        match (was_offline, is_offline) {
            (false, true) => {
                tracing::warn!(
                    "offline: no upstream is asked, until `larder offline off` (or somebody removes larder.offline)"
                );
            }
            (true, false) => {
                tracing::info!("no longer offline: upstreams are asked");
                self.ask_again();
            }
            _ => {}
        }
        is_offline
    }

    /// What there is to tell, but for when.
    fn upstreams_hint(&self) -> UpstreamsHint {
        let names = self.names();
        let upstreams = names.upstreams().iter();
        let notes = upstreams.map(|(name, upstream)| (name.clone(), note(upstream)));
        UpstreamsHint {
            written: 0,
            offline: names.is_offline().is_some(),
            upstreams: notes.collect(),
        }
    }

    async fn note_upstreams(&self, hint: &UpstreamsHint) {
        let hint = UpstreamsHint {
            written: UpstreamsHint::seconds(SystemTime::now()),
            ..hint.clone()
        };
        let store = self.inner.store.clone();
        if let Err(error) = blocking(move || store.note_upstreams(&hint)).await {
            tracing::debug!(%error, "what is known of the upstreams is not written down");
        }
    }
}

fn recall(upstream: &Upstream, note: &UpstreamNote, now: SystemTime) {
    let limits = ByKind {
        manifests: note.limited_until,
        blobs: note.blobs_limited_until,
        tokens: note.tokens_limited_until,
    };
    let left = limits.map(|until| {
        let until = until.and_then(UpstreamsHint::time);
        let left = until.and_then(|until| until.duration_since(now).ok());
        left.unwrap_or_default()
    });
    upstream.recall(left, note.budget.as_ref().and_then(budget));
    if let Some(until) = upstream.limited_until() {
        let until = humantime::format_rfc3339_seconds(until);
        let name = upstream.name();
        tracing::warn!(
            "upstream {name} limited our requests before this start: it is left alone until {until}, or until a reload"
        );
    }
}

fn budget(note: &BudgetNote) -> Option<Budget> {
    Some(Budget {
        limit: note.limit,
        remaining: note.remaining,
        window: note.window.map(Duration::from_secs),
        source: note.source.clone(),
        seen: UpstreamsHint::time(note.seen)?,
    })
}

/// What is known of one upstream. There is nothing in it that must not be read by others.
fn note(upstream: &Upstream) -> UpstreamNote {
    let standing = upstream.standing();
    let limits = upstream.limits();
    let limits = limits.map(|until| until.map(UpstreamsHint::seconds));
    let state = match (&standing.down, standing.since) {
        (Some(_), _) => UpstreamState::Down,
        (None, Some(_)) => UpstreamState::Up,
        (None, None) => UpstreamState::Unknown,
    };
    UpstreamNote {
        state,
        since: standing.since.map(UpstreamsHint::seconds),
        reason: standing.down.map(|reason| reason.to_string()),
        limited_until: limits.manifests,
        blobs_limited_until: limits.blobs,
        tokens_limited_until: limits.tokens,
        asker: upstream.asker().to_owned(),
        budget: upstream.budget().map(|budget| budget_note(&budget)),
    }
}

fn budget_note(budget: &Budget) -> BudgetNote {
    BudgetNote {
        limit: budget.limit,
        remaining: budget.remaining,
        window: budget.window.map(|window| window.as_secs()),
        source: budget.source.clone(),
        seen: UpstreamsHint::seconds(budget.seen),
    }
}
