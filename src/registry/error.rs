//! What can go wrong, as far as a caller can act on it.

use std::sync::Arc;
use std::time::Duration;

use crate::oci::manifest::ManifestError;
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::store::StoreError;
use crate::upstream::UpstreamError;

/// What was asked for, where it cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// A manifest, by tag or by digest.
    Manifest(Reference),
    /// A blob.
    Blob(Digest),
    /// The tags of a repository.
    Tags,
    /// The list of what refers to a manifest.
    Referrers(Digest),
}

/// Why the registry does not do what it was asked.
///
/// Clonable, since one failure is everybody's who waited for the same thing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing: nobody pushed it, or its upstream says that it has none.
    #[error("{} is unknown", name)]
    Unknown {
        /// The repository asked for.
        name: RepositoryName,
        /// What of it.
        what: Missing,
    },
    /// A tag is held at a digest that its upstream does not have.
    #[error("{name}:{tag} is held at {digest} by cache.hold, which its upstream does not have")]
    HeldUnknown {
        /// The repository asked for.
        name: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What it is held at.
        digest: Digest,
    },
    /// It is not stored, and its upstream could not be made to give it.
    #[error("upstream {upstream}: {error}")]
    Upstream {
        /// The upstream's name in the configuration.
        upstream: String,
        /// What of it.
        what: Missing,
        /// Why not.
        error: UpstreamError,
    },
    /// It is not stored, and no upstream may be asked.
    #[error("{name}{} is not in the cache, and {reason}", rest(what))]
    NotCached {
        /// The repository asked for.
        name: RepositoryName,
        /// What of it.
        what: Missing,
        /// Why nobody is asked.
        reason: &'static str,
    },
    /// The `ns` parameter or the path names a registry that is not configured.
    #[error(
        "{0:?} is not an upstream of this registry: add it under upstreams in the configuration"
    )]
    UnknownUpstream(String),
    /// The name belongs to an upstream.
    #[error("{name} is kept for what is mirrored from {upstream}; push it under {instead} instead")]
    Reserved {
        /// The name pushed to.
        name: String,
        /// Whose it is.
        upstream: String,
        /// A name that can be pushed to.
        instead: String,
    },
    /// Deleting is switched off, or all writing is.
    #[error("{0}")]
    Unsupported(&'static str),
    /// There is no such upload session in this repository.
    #[error("there is no such upload: start a new one")]
    UploadUnknown,
    /// The bytes sent do not go on where the upload stands.
    #[error("the upload stands at {received} bytes: go on from there")]
    UploadRange {
        /// How many bytes there are.
        received: u64,
    },
    /// The length announced is not the range announced.
    #[error("the length of the body is not that of its Content-Range")]
    UploadSize,
    /// The client went away, or sent no more, before its body's end.
    #[error("the body ended early")]
    BodyCutShort,
    /// A digest given is none, or none that is supported.
    #[error("{0:?} is not a digest: write sha256: or sha512: and the hash in lower-case hex")]
    DigestInvalid(String),
    /// The content does not hash to the digest given.
    #[error("the content hashes to something else than {0}")]
    DigestMismatch(Digest),
    /// A pushed manifest breaks the rules.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A pushed manifest refers to content that the repository does not have.
    #[error("the manifest refers to {} things that were not pushed before it", .0.len())]
    ManifestNeeds(Vec<Digest>),
    /// More entries were asked for in one page than are given.
    #[error("n is at most {0}")]
    PageTooLarge(usize),
    /// The store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A task ended without a result: a panic, or the shutdown.
    #[error("the work was interrupted")]
    Vanished,
}

/// What stands behind a repository's name for what was asked of it.
fn rest(what: &Missing) -> String {
    match what {
        Missing::Manifest(Reference::Tag(tag)) => format!(":{tag}"),
        Missing::Manifest(Reference::Digest(digest)) | Missing::Blob(digest) => {
            format!("@{digest}")
        }
        Missing::Tags | Missing::Referrers(_) => String::new(),
    }
}

impl Error {
    /// How long to wait before asking again, where the upstream told.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upstream {
                error: UpstreamError::RateLimited { retry_after },
                ..
            } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether the upstream answered, and its answer was no.
    pub(super) fn is_no(error: &UpstreamError) -> bool {
        matches!(error, UpstreamError::NotFound | UpstreamError::Denied)
    }
}
