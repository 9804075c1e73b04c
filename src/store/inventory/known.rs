//! What all who read for one inventory know together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::oci::{Contents, Digest};

/// What all readers have found out about data: each piece is looked at once.
#[derive(Default)]
pub(super) struct Known {
    data: Mutex<Data>,
}

#[derive(Default)]
pub(super) struct Data {
    pub(super) numbers: HashMap<Digest, usize>,
    /// By number; `None` where there is no data.
    pub(super) sizes: Vec<Option<u64>>,
    /// By the number of a manifest's data.
    pub(super) contents: HashMap<usize, Option<Arc<Contents>>>,
}

impl Known {
    pub(super) fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.data)
    }

    pub(super) fn sizes(self) -> Vec<u64> {
        let data = self.data.into_inner();
        let data = data.unwrap_or_else(PoisonError::into_inner);
        let sizes = data.sizes.into_iter();
        sizes.map(Option::unwrap_or_default).collect()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
