//! How the fills under way stand, for those who count and those who look.

use std::sync::{Arc, PoisonError};

use crate::oci::Digest;
use crate::registry::content::Progress;
use crate::registry::standing::FillNow;

use super::{Fill, Fills};

impl Fills {
    /// How many answers depend on those under way.
    pub(in crate::registry) fn followers(&self) -> usize {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().map(|fill| fill.followers()).sum()
    }

    /// How far each is.
    pub(in crate::registry) fn under_way(&self) -> Vec<FillNow> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let now = |(digest, fill): (&Digest, &Arc<Fill>)| {
            let (size, written) = match &*fill.progress.borrow() {
                Progress::Opening | Progress::Failed(_) => (None, 0),
                Progress::Receiving { content, written } => (Some(content.size()), *written),
                Progress::Committed(blob) => (Some(blob.size()), blob.size()),
                Progress::Passing(passing) => (Some(passing.size()), 0),
            };
            FillNow {
                followers: fill.followers(),
                repository: fill.source.clone(),
                upstream: fill.upstream.clone(),
                digest: digest.clone(),
                size,
                written,
                since: fill.since,
            }
        };
        running.iter().map(now).collect()
    }
}
