//! Which repositories this process has changed, for those who keep a list of what is here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::oci::RepositoryName;

/// How much of what is known of a repository still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Something came, or a tag moved or went: what was whole is whole.
    Added,
    /// Something may have gone.
    Removed,
}

/// The changes since they were last taken; none are kept before somebody wants them. There is at
/// most one for each repository.
#[derive(Debug, Default)]
pub(super) struct Changes {
    is_wanted: AtomicBool,
    noted: Mutex<HashMap<RepositoryName, Change>>,
}

impl Changes {
    /// Notes from now on.
    pub(super) fn open(&self) {
        self.is_wanted.store(true, Ordering::SeqCst);
    }

    /// To be called when it is done: who takes it looks at once.
    pub(super) fn note(&self, name: &RepositoryName, change: Change) {
        if !self.is_wanted.load(Ordering::SeqCst) {
            return;
        }
        let mut noted = self.lock();
        match noted.get_mut(name) {
            Some(known) => *known = change.max(*known),
            None => drop(noted.insert(name.clone(), change)),
        }
    }

    pub(super) fn take(&self) -> HashMap<RepositoryName, Change> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RepositoryName, Change>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
