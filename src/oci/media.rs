//! Media types of manifests.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A media type without parameters, in the spelling it came in. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaType(Arc<str>);

/// Docker's image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list: one image for several platforms.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The image manifest of the OCI.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The image index of the OCI.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's signed schema 1, which old tags still have; never written, only passed on.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The manifest types that may be pushed and that upstreams are asked for.
pub const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Why a text is not a media type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a media type")]
pub struct MediaTypeError;

impl MediaType {
    /// One of the constants of this module.
    pub fn known(text: &'static str) -> Self {
        Self(text.into())
    }

    /// The type as text, as in `application/json`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the four manifest types that clients speak.
    pub fn is_manifest(&self) -> bool {
        MANIFESTS.contains(&self.as_str())
    }

    /// Whether it says nothing about which kind of manifest it is.
    ///
    /// Upstreams and caches in between send these where they should have named the manifest.
    pub fn is_vague(&self) -> bool {
        !self.0.starts_with("application/vnd.")
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    /// Parameters (`; charset=utf-8`) are dropped: RFC 9110 §8.3.1 lets senders add them, and
    /// clients compare the bare type.
    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let bare = text.split(';').next().unwrap_or_default().trim();
        let token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        match bare.split_once('/') {
            Some((kind, subtype)) if token(kind) && token(subtype) && bare.len() <= 255 => {
                Ok(Self(bare.into()))
            }
            _ => Err(MediaTypeError),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
