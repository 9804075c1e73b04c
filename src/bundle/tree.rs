//! What one manifest needs, as bundles count it: broader than what a pull does, since everything
//! that is carried must be whole at its other end.

use std::collections::HashSet;

use serde::Deserialize;

use crate::oci::contents::Part;
use crate::oci::{Contents, Digest, MediaType, PlatformName, References};

/// How deep indexes may be nested.
pub(super) const DEPTH: usize = 3;

/// What a manifest is made of.
pub(super) enum Made {
    /// Of other manifests.
    Children(Vec<Child>),
    /// Of blobs: those that it cannot do without, and those that may be elsewhere.
    Blobs {
        /// Its config and its layers.
        needed: Vec<Part>,
        /// Layers that registries need not hold, and whatever else it names.
        welcome: Vec<Digest>,
    },
}

/// A manifest that an index lists.
pub(super) struct Child {
    pub(super) part: Part,
    pub(super) platform: Option<PlatformName>,
    /// What the index says that it is.
    pub(super) media_type: Option<MediaType>,
}

#[derive(Deserialize)]
struct Types {
    manifests: Vec<Typed>,
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
}

impl Made {
    /// Reads it from a manifest's bytes. The error is for people.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, String> {
        match Contents::of(bytes).map_err(|error| error.to_string())? {
            Contents::Index(children) => {
                let types: Types =
                    serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
                let types = types.manifests.into_iter();
                let types = types.map(|typed| typed.media_type?.parse().ok());
                let children = children.into_iter().zip(types);
                let child = |(child, media_type): (crate::oci::contents::Child, _)| Child {
                    part: child.part,
                    platform: child.platform,
                    media_type,
                };
                Ok(Self::Children(children.map(child).collect()))
            }
            Contents::Image { config, layers } => {
                let mut needed: Vec<Part> = config.into_iter().chain(layers).collect();
                let mut seen = HashSet::new();
                needed.retain(|part| seen.insert(part.digest.clone()));
                let named = References::of(bytes).map_err(|error| error.to_string())?;
                let mut named = named.named;
                if needed.is_empty() {
                    // Docker's schema 1, and artifacts of other forms: all that they name.
                    named.retain(|digest| seen.insert(digest.clone()));
                    let part = |digest| Part { digest, size: 0 };
                    needed = named.drain(..).map(part).collect();
                }
                named.retain(|digest| seen.insert(digest.clone()));
                Ok(Self::Blobs {
                    needed,
                    welcome: named,
                })
            }
        }
    }
}
