//! What is needed to list referrers: the manifests of a repository, and what an upstream listed.

use std::io::Read as _;
use std::time::SystemTime;

use crate::oci::{Algorithm, Digest};

use super::{Context as _, Repository, StoreError, file, publish};

/// The largest list that is kept of an upstream, in bytes: as large as one that is fetched.
const MAX_LIST: u64 = 32 * 1024 * 1024;

impl Repository {
    /// The digests of all manifests this repository links, or once linked: a deleted one may leave
    /// its directory.
    pub fn revisions(&self) -> Result<Vec<Digest>, StoreError> {
        let revisions = self.store.layout().revisions(&self.name);
        let mut digests = Vec::new();
        for algorithm in Algorithm::ALL {
            let names = file::names_in(&revisions.join(algorithm.as_str()))?;
            let digest = |hex: String| format!("{}:{hex}", algorithm.as_str()).parse().ok();
            digests.extend(names.into_iter().filter_map(digest));
        }
        Ok(digests)
    }

    /// The referrers of a manifest as the upstream last listed them, an index, and when that was.
    pub fn listed_referrers(
        &self,
        subject: &Digest,
    ) -> Result<Option<(Vec<u8>, SystemTime)>, StoreError> {
        let path = self.store.layout().mirror_referrers(&self.name, subject);
        let Some((file, metadata)) = file::open(&path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let reading = file.take(MAX_LIST).read_to_end(&mut bytes);
        reading.context("read", &path)?;
        let listed = metadata.modified().context("look at", &path)?;
        Ok(Some((bytes, listed)))
    }

    /// Keeps what the upstream listed. The file's time says when: now, if nothing else is said.
    pub fn keep_listed_referrers(
        &self,
        subject: &Digest,
        index: &[u8],
        listed: Option<SystemTime>,
    ) -> Result<(), StoreError> {
        self.claim()?;
        let path = self.store.layout().mirror_referrers(&self.name, subject);
        // Losing it costs one request to the upstream, so it is not worth a sync.
        publish::write_hint_of(&path, index, listed)
    }
}
