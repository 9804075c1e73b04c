//! Why a bundle cannot be written, or is not taken in.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::oci::Digest;
use crate::store::StoreError;

/// Why an archive is refused as a whole. Nothing of it has been taken in.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// It is a pipe, a directory or a device.
    #[error(
        "it is not a file: an archive is judged before anything of it is taken in, so write what comes by a pipe to a file first, and a directory with tar"
    )]
    NotAFile,
    /// It is packed, with what this program unpacks.
    #[error("it is compressed: unpack it first, with {0}")]
    Compressed(&'static str),
    /// It does not begin as a tar archive does.
    #[error("it is not a tar archive")]
    NotTar,
    /// It is no tar archive any more from some place on.
    #[error("damaged: what follows the entry {} is no tar header", Shown(after))]
    Header {
        /// The last sound entry.
        after: String,
    },
    /// Something follows the end.
    #[error("something follows the mark that ends the archive")]
    BehindTheEnd,
    /// An entry is not as it must be.
    #[error("entry {}: {bad}", Shown(entry))]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        bad: Bad,
    },
    /// It is some other archive.
    #[error(
        "it holds no images: neither an OCI image layout (oci-layout, index.json) nor what docker save writes (manifest.json)"
    )]
    NoImages,
    /// The layout's version is not one that we know.
    #[error("its oci-layout is of version {0:?}: larder knows 1.0.0")]
    Version(String),
    /// Its manifests are too large together.
    #[error("its manifests have more than {0} MiB together")]
    TooMuch(u64),
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// The archive ends within it, or behind it without the whole mark that ends archives.
    #[error("the archive is cut off here")]
    Truncated,
    /// Its name is not text.
    #[error("its name is no text")]
    Name,
    /// Its name begins with a slash.
    #[error("an absolute path")]
    Absolute,
    /// Its name has a step up.
    #[error("its path contains ..")]
    Upward,
    /// It is a symbolic link.
    #[error("a symbolic link")]
    SymbolicLink,
    /// It is a hard link.
    #[error("a hard link")]
    HardLink,
    /// It is a device or a pipe.
    #[error("a device or a pipe")]
    Device,
    /// It has holes.
    #[error("a file with holes")]
    Sparse,
    /// It is of a kind that we do not know.
    #[error("neither a file nor a directory")]
    Kind,
    /// There are two of that name.
    #[error("there are two entries of this name")]
    Twice,
    /// What is said of it before its header makes no sense.
    #[error("its extended header makes no sense")]
    Extension,
    /// Its size is not a number.
    #[error("its size is unknown")]
    UnknownSize,
    /// One of too many.
    #[error("the archive has more than {0} entries")]
    TooMany(usize),
    /// One of too many small ones.
    #[error("the archive has more than {0} entries of less than 512 bytes")]
    TooManyTiny(usize),
    /// It has more bytes than such an entry may have.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// It is not what it must be.
    #[error("{0}")]
    Content(String),
    /// Its bytes do not hash to its name.
    #[error("damaged: its content is not what its digest says")]
    Digest,
    /// It has another size than the manifest says that needs it.
    #[error("damaged: it has {found} bytes, and the manifest that needs it says {said}")]
    Size {
        /// What it has.
        found: u64,
        /// What it should have.
        said: u64,
    },
    /// It is referred to, and is not there.
    #[error("it is not in the archive")]
    Missing,
    /// Indexes list indexes that list indexes.
    #[error("indexes are nested too deep in it")]
    Nested,
}

impl Bad {
    pub(super) fn at(self, entry: &str) -> ArchiveError {
        ArchiveError::Entry {
            entry: entry.to_owned(),
            bad: self,
        }
    }
}

/// A name that somebody else chose, fit for a terminal.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars().take(300) {
            if char.is_control() {
                write!(f, "{}", char.escape_default())?;
            } else {
                write!(f, "{char}")?;
            }
        }
        Ok(())
    }
}

/// Why a bundle is not written. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no such image.
    #[error("{0} is not in the store")]
    Unknown(String),
    /// The name cannot be resolved.
    #[error("{image}: {reason}")]
    Name {
        /// The image as it was named.
        image: String,
        /// Why not.
        reason: String,
    },
    /// It is not for a platform that was asked for.
    #[error("{image} is not for {platform}")]
    Platform {
        /// The image.
        image: String,
        /// The platform.
        platform: String,
    },
    /// It was never pulled as a whole, or was damaged.
    #[error(
        "{image} is not wholly here: {missing} is missing{} (pull it, or export the platforms that are here with --platform)",
        platform.as_ref().map_or_else(String::new, |name| format!(" for {name}"))
    )]
    Incomplete {
        /// The image.
        image: String,
        /// The platform, where it has several.
        platform: Option<String>,
        /// What of it.
        missing: Digest,
    },
    /// It was removed meanwhile.
    #[error("{image} was removed while it was exported: {digest} is gone")]
    Gone {
        /// The image.
        image: String,
        /// What of it.
        digest: Digest,
    },
    /// Stored bytes are not what their digest says.
    #[error("{image}: the stored content of {digest} is damaged")]
    Damaged {
        /// The image.
        image: String,
        /// What of it.
        digest: Digest,
    },
    /// A manifest in the store cannot be read.
    #[error("{image}: {reason}")]
    Manifest {
        /// The image.
        image: String,
        /// Why not.
        reason: String,
    },
    /// There is nothing to be written.
    #[error("there is nothing to export")]
    Nothing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// Somebody asked for the end.
    #[error("interrupted")]
    Stopped,
}

/// Why an import ended.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is not enough room.
    #[error(
        "there is not enough room: {needed} bytes are to be stored and {free} are free; {} bytes more must be freed",
        needed.saturating_sub(*free)
    )]
    NoRoom {
        /// How many bytes are not here yet.
        needed: u64,
        /// How many are free.
        free: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `--as` was given for an archive of several images.
    #[error("--as names one image, and there are {0} in the archive")]
    As(usize),
    /// Somebody asked for the end.
    #[error("interrupted; what is stored already is used when it is imported again")]
    Stopped,
}

/// Why one image is not taken in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The archive does not say what it is called.
    #[error("it has no name in the archive: give it one with --as name:tag")]
    Nameless,
    /// Its name is none that it could have here.
    #[error("{0}; give it another name with --as name:tag")]
    Name(String),
    /// Its index is all that the archive has of it.
    #[error("nothing of what its index lists is in the file")]
    Empty,
    /// A pushed tag names something else.
    #[error("the tag is here and names {0}: --force replaces it")]
    Taken(Digest),
    /// The repository is a mirror here and was local there, or the reverse.
    #[error("the repository {0} is a {1} here: import it with --as another name")]
    Kind(String, &'static str),
    /// The archive has only what another one has not.
    #[error(
        "{missing} (and {more} more) is neither in the file nor in the store{}",
        if *since { ": it was made with --since, so import the bundle before it first" } else { "" }
    )]
    Missing {
        /// What is missing.
        missing: Digest,
        /// How much else.
        more: usize,
        /// Whether the archive builds on another.
        since: bool,
    },
    /// What was found in the store is damaged.
    #[error("{0} is not in the file, and damaged in the store")]
    Damaged(Digest),
    /// Somebody kept removing what was brought.
    #[error("its content was removed again while it was imported")]
    Vanished,
    /// The store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
}
