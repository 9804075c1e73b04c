//! What is remembered about a mirrored tag, beside the link that says what it names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Tag};

use super::{Repository, StoreError, file, publish};

/// A mirrored tag: what it named when the upstream was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagState {
    /// What it names.
    pub digest: Digest,
    /// When the upstream last said so.
    pub checked: SystemTime,
    /// Since when the upstream could not be asked, or said that the tag is gone.
    pub stale_since: Option<SystemTime>,
}

/// The file's form: microseconds since 1970. Seconds would not tell which of two answers of a busy
/// moment came later.
#[derive(Serialize, Deserialize)]
struct Record {
    digest: String,
    checked: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stale_since: Option<u64>,
}

impl Repository {
    /// What is known of a mirrored tag. A tag without a sound record is one that was never
    /// checked: the link is the truth, the record only says how fresh it is.
    pub fn tag_state(&self, tag: &Tag) -> Result<Option<TagState>, StoreError> {
        match self.tag(tag)? {
            Some(digest) => self.state_of(tag, digest).map(Some),
            None => Ok(None),
        }
    }

    /// The same of a tag that has just been read: it names `digest`.
    pub(super) fn state_of(&self, tag: &Tag, digest: Digest) -> Result<TagState, StoreError> {
        let path = self.store.layout().mirror_tag(&self.name, tag);
        let record = file::read(&path, 4096)?
            .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
            .filter(|record| record.digest == digest.as_str());
        let time = |micros| UNIX_EPOCH + Duration::from_micros(micros);
        Ok(TagState {
            digest,
            checked: time(record.as_ref().map_or(0, |record| record.checked)),
            stale_since: record.and_then(|record| record.stale_since).map(time),
        })
    }

    /// Points a mirrored tag at a stored manifest, as the upstream just said.
    pub fn put_tag_state(&self, tag: &Tag, state: &TagState) -> Result<(), StoreError> {
        self.put_tag(tag, &state.digest)?;
        self.put_record(tag, state)
    }

    /// Notes since when the upstream cannot confirm what a tag names. Says whether that is news:
    /// `false` where it was noted before, or where the tag has moved on meanwhile.
    pub fn mark_stale(
        &self,
        tag: &Tag,
        digest: &Digest,
        since: SystemTime,
    ) -> Result<bool, StoreError> {
        let Some(state) = self.tag_state(tag)? else {
            return Ok(false);
        };
        if state.digest != *digest || state.stale_since.is_some() {
            return Ok(false);
        }
        let stale_since = Some(since);
        self.put_record(
            tag,
            &TagState {
                stale_since,
                ..state
            },
        )?;
        Ok(true)
    }

    fn put_record(&self, tag: &Tag, state: &TagState) -> Result<(), StoreError> {
        let micros = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        };
        let record = Record {
            digest: state.digest.to_string(),
            checked: micros(state.checked),
            stale_since: state.stale_since.map(micros),
        };
        let path = self.store.layout().mirror_tag(&self.name, tag);
        // Two numbers and a text can be written. An empty record would count as none.
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        // Losing it costs one request to the upstream, so it is not worth a sync.
        publish::write_hint(&path, &bytes)
    }
}
