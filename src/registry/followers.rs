//! Who waits for a fill, or reads from it: only counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many answers wait for a fill or are read from it: one for each [`Follower`].
#[derive(Clone, Debug, Default)]
pub(super) struct Followers(Arc<AtomicUsize>);

/// One of them, as long as it lives.
#[derive(Debug)]
pub(super) struct Follower(Followers);

impl Followers {
    /// One more.
    pub(super) fn one(&self) -> Follower {
        self.0.fetch_add(1, Ordering::Relaxed);
        Follower(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for Follower {
    fn clone(&self) -> Self {
        self.0.one()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
