//! The switch that is an empty file: while it is there, no upstream is asked.
//!
//! A file needs no conversation with whoever serves the directory: it holds at once, and after a
//! restart, and can be made and removed by hand.

use std::path::Path;

use super::layout::Layout;
use super::{Store, StoreError, publish};

/// Whether the switch of this data directory is on.
pub fn is_offline(root: &Path) -> bool {
    Layout::offline(root).symlink_metadata().is_ok()
}

/// Sets the switch, durably, and says whether it was set otherwise before.
pub fn set_offline(root: &Path, offline: bool) -> Result<bool, StoreError> {
    if !offline {
        return publish::remove_file(&Layout::offline(root));
    }
    if is_offline(root) {
        return Ok(false);
    }
    publish::write_file(&Layout::offline(root), b"").map(|()| true)
}

impl Store {
    /// Whether the switch is on: one look at the disk.
    pub fn is_offline(&self) -> bool {
        is_offline(&self.inner.root)
    }
}
