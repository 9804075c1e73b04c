//! The OCI distribution specification on the wire: every request that its conformance program
//! makes, and what the specification says beyond it, against the real larder.
//!
//! The sections are those of the specification's development text of 2026. Everything is done
//! with both digest algorithms.

mod blobs;
mod chunks;
mod data;
mod errors;
mod journey;
mod push;
mod referrers;
mod tags;
mod wire;

use crate::support::image::{sha256, sha512};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A digest algorithm that a registry must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    const BOTH: [Self; 2] = [Self::Sha256, Self::Sha512];

    fn other(self) -> Self {
        match self {
            Self::Sha256 => Self::Sha512,
            Self::Sha512 => Self::Sha256,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn digest(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256 => sha256(bytes),
            Self::Sha512 => sha512(bytes),
        }
    }
}
