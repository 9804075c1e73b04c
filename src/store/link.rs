//! Links: small files that hold a digest. Their presence is what makes content a repository's.

use std::path::Path;

use crate::oci::Digest;

use super::hold::Shared;
use super::{StoreError, file, publish};

/// Reads a link. One that is empty or unreadable is absent, and logged: older Distributions wrote
/// links in place, so that a crash could leave half of one.
pub(super) fn read(path: &Path) -> Result<Option<Digest>, StoreError> {
    let Some(bytes) = file::read(path, 1024)? else {
        return Ok(None);
    };
    let digest = str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim_end().parse().ok());
    if digest.is_none() {
        tracing::warn!(path = %path.display(), "a link without a digest: taken as absent");
    }
    Ok(digest)
}

/// Writes a link. One that already says the same is touched: from then on it is as good as new.
pub(super) fn write(path: &Path, digest: &Digest, _held: &Shared) -> Result<(), StoreError> {
    let is_there = read(path)?.as_ref() == Some(digest);
    if is_there && !publish::is_in_doubt() && publish::touch(path)? {
        return Ok(());
    }
    publish::write_file(path, digest.as_str().as_bytes())
}
