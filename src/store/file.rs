//! Reading files of a tree that others may have touched.

use std::fs::{DirEntry, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::listing::Wanted;
use super::publish::is_absent;
use super::{Context as _, StoreError};

/// Opens a regular file, or says that there is none.
///
/// A symbolic link, a pipe or a directory in a file's place counts as absent, and is logged:
/// without `O_NONBLOCK` a pipe would hang the reader for ever.
pub(super) fn open(path: &Path) -> Result<Option<(File, Metadata)>, StoreError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            tracing::warn!(path = %path.display(), "a symbolic link where a file should be: ignored");
            return Ok(None);
        }
        Err(error) => return Err(error).context("open", path),
    };
    let metadata = file.metadata().context("look at", path)?;
    if metadata.is_file() {
        Ok(Some((file, metadata)))
    } else {
        tracing::warn!(path = %path.display(), "not a regular file: ignored");
        Ok(None)
    }
}

/// Reads a small file whole, or says that there is none. Over `limit` bytes it is not small.
pub(super) fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let Some((file, metadata)) = open(path)? else {
        return Ok(None);
    };
    if metadata.len() > limit as u64 {
        let too_large = io::Error::from(io::ErrorKind::FileTooLarge);
        tracing::warn!(path = %path.display(), "{too_large}: ignored");
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(limit as u64)
        .read_to_end(&mut bytes)
        .context("read", path)?;
    Ok(Some(bytes))
}

/// The names in a directory, sorted by their bytes; none where there is no directory.
///
/// Names that are not UTF-8 are none of ours.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = names_of(path, None, Wanted::Entries)?;
    names.sort_unstable();
    Ok(names)
}

/// The same in no order, and no more than so many.
pub(super) fn names_of(
    path: &Path,
    most: Option<usize>,
    wanted: Wanted,
) -> Result<Vec<String>, StoreError> {
    let entries = match path.read_dir() {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).context("list", path),
    };
    let is_wanted = |entry: &DirEntry| match wanted {
        Wanted::Entries => Ok(true),
        Wanted::Directories => Ok(entry.file_type()?.is_dir()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.context("list", path)?;
        if is_wanted(&entry).context("list", path)? {
            names.extend(entry.file_name().into_string());
        }
        if most == Some(names.len()) {
            break;
        }
    }
    Ok(names)
}
