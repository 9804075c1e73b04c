//! What the larder that serves a directory knows of its upstreams, for those who only look at the
//! directory, and for the one that serves it next. A hint: it may be old, or missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::{Store, StoreError, file, publish};

/// More than this is not ours.
const LARGEST: usize = 1 << 20;

/// `larder.upstreams`. Times are whole seconds since 1970, durations whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamsHint {
    /// When it was written.
    pub written: u64,
    /// Whether no upstream was asked at that time.
    #[serde(default)]
    pub offline: bool,
    /// The upstreams by their names in the configuration.
    #[serde(default)]
    pub upstreams: BTreeMap<String, UpstreamNote>,
}

/// What is known of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamNote {
    /// Whether it answered when it was last asked.
    pub state: UpstreamState,
    /// Since when it is up or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when it wants to be left alone with manifests and tags: it said so with a 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_until: Option<u64>,
    /// The same with blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs_limited_until: Option<u64>,
    /// The same of its token service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_limited_until: Option<u64>,
    /// As whom it was asked: another mark for another address or account.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asker: String,
    /// What is left of the pulls that it allows, if it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetNote>,
}

impl UpstreamNote {
    /// Until when it wants to be left alone, with whatever it is.
    pub fn limited(&self) -> Option<SystemTime> {
        let others = self.blobs_limited_until.max(self.tokens_limited_until);
        UpstreamsHint::time(self.limited_until.max(others)?)
    }
}

/// Whether an upstream answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamState {
    /// It was not asked since larder was started.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// A pull limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetNote {
    /// How many pulls are allowed in each window.
    pub limit: u64,
    /// How many of them were left.
    pub remaining: u64,
    /// How long a window is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Whom it counts for: an address, or an account's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When the upstream said so.
    pub seen: u64,
}

impl UpstreamsHint {
    /// Reads the hint in a data directory; `None` where there is none, or none that can be read.
    pub fn read(root: &Path) -> Option<Self> {
        let bytes = file::read(&Layout::upstreams(root), LARGEST).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// A time as it stands in here.
    pub fn seconds(time: SystemTime) -> u64 {
        let since = time.duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// A time that stands in here; `None` if no clock goes so far.
    pub fn time(seconds: u64) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }
}

impl Store {
    /// The hint that was left.
    pub fn noted_upstreams(&self) -> Option<UpstreamsHint> {
        UpstreamsHint::read(&self.inner.root)
    }

    /// Leaves a hint for those who look at the directory.
    pub fn note_upstreams(&self, hint: &UpstreamsHint) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(hint).unwrap_or_default();
        publish::write_hint(&Layout::upstreams(&self.inner.root), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_read_as_it_was_written_and_garbage_is_none() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(UpstreamsHint::read(root.path()), None);
        let budget = BudgetNote {
            limit: 100,
            remaining: 7,
            window: Some(21_600),
            source: Some("203.0.113.7".to_owned()),
            seen: 5,
        };
        let note = UpstreamNote {
            state: UpstreamState::Down,
            since: Some(3),
            reason: Some("it does not answer".to_owned()),
            limited_until: Some(9),
            blobs_limited_until: Some(8),
            tokens_limited_until: Some(7),
            asker: "0123".to_owned(),
            budget: Some(budget),
        };
        let hint = UpstreamsHint {
            written: 7,
            offline: true,
            upstreams: [("docker.io".to_owned(), note)].into(),
        };
        let until = hint.upstreams["docker.io"].limited();
        assert_eq!(until, UpstreamsHint::time(9));
        store.note_upstreams(&hint).unwrap();
        assert_eq!(UpstreamsHint::read(root.path()), Some(hint));
        for garbage in ["", "{", "[]", r#"{"written":-1}"#, "\0\0"] {
            publish::write_hint(&Layout::upstreams(root.path()), garbage.as_bytes()).unwrap();
            assert_eq!(UpstreamsHint::read(root.path()), None, "{garbage:?}");
        }
        let sparse = r#"{"written":1,"upstreams":{"x":{"state":"up","new":1}},"later":2}"#;
        publish::write_hint(&Layout::upstreams(root.path()), sparse.as_bytes()).unwrap();
        let read = UpstreamsHint::read(root.path()).unwrap();
        assert_eq!(read.upstreams["x"].state, UpstreamState::Up);
    }
}
