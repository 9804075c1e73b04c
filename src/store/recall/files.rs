//! Blobs that are kept open, so that serving them again needs no opening.
//!
//! An open file keeps its room on the disk when its name is gone. So what was removed or replaced is
//! let go of at once by those of this process who remove, and within about a second when it was
//! another; what nobody asks for goes after half a minute.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::oci::{Digest, RepositoryName};
use crate::store::Blob;

use super::proof::Kept;

/// The most that are kept open; fewer where the process may not open many files.
const MOST: usize = 512;

/// How long one is kept that nobody asks for.
const IDLE: Duration = Duration::from_secs(30);

/// Each has a lock of its own.
const SHARDS: usize = 16;

type Key = (RepositoryName, Digest);

#[derive(Debug)]
pub(super) struct OpenFiles {
    shards: [Mutex<HashMap<Key, Open>>; SHARDS],
    hashed: RandomState,
    /// The most in each shard.
    most: usize,
}

#[derive(Debug)]
struct Open {
    kept: Arc<Kept<Blob>>,
    asked: Instant,
}

impl Default for OpenFiles {
    fn default() -> Self {
        // A quarter is for these: the rest is for connections and for what is written.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        let most = usize::try_from(limit).map_or(MOST, |limit| limit.min(MOST));
        Self {
            shards: Default::default(),
            hashed: RandomState::new(),
            most: most / SHARDS,
        }
    }
}

impl OpenFiles {
    /// What is kept, which is then not closed for a while. Nothing is looked at: the lock is held.
    pub(super) fn asked_for(&self, key: &Key) -> Option<Arc<Kept<Blob>>> {
        let mut shard = self.shard(key);
        let open = shard.get_mut(key)?;
        open.asked = Instant::now();
        Some(Arc::clone(&open.kept))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Kept<Blob>>> {
        Some(Arc::clone(&self.shard(key).get(key)?.kept))
    }

    pub(super) fn insert(&self, key: Key, kept: Kept<Blob>) {
        let mut shard = self.shard(&key);
        if shard.len() >= self.most && !shard.contains_key(&key) {
            let oldest = shard.iter().min_by_key(|(_, open)| open.asked);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            shard.remove(&oldest);
        }
        let asked = Instant::now();
        let kept = Arc::new(kept);
        shard.insert(key, Open { kept, asked });
    }

    pub(super) fn remove(&self, key: &Key) {
        self.shard(key).remove(key);
    }

    /// Lets go of what has no name any more, and of what nobody has asked for.
    pub(super) fn let_go(&self) {
        for shard in &self.shards {
            let mut gone = Vec::new();
            lock(shard).retain(|_, open| {
                let stays = open.asked.elapsed() < IDLE && has_a_name(open.kept.value());
                if !stays {
                    gone.push(Arc::clone(&open.kept));
                }
                stays
            });
            // Giving back a large file takes the disk its time: not with the lock.
            drop(gone);
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Open>> {
        let hash = self.hashed.hash_one(key);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        lock(&self.shards[index])
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

fn has_a_name(blob: &Blob) -> bool {
    blob.file().metadata().is_ok_and(|found| found.nlink() > 0)
}

fn lock(shard: &Mutex<HashMap<Key, Open>>) -> MutexGuard<'_, HashMap<Key, Open>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
