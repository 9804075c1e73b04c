//! What is in a bundle beside the blobs: `oci-layout` and `index.json`. OCI image specification,
//! "Image Layout".

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::oci::Digest;

/// The file that says that this is an image layout.
pub(super) const LAYOUT: &str = "oci-layout";
/// The file that lists the images.
pub(super) const INDEX: &str = "index.json";
/// What `docker save` writes, and `docker load` reads.
pub(super) const DOCKER: &str = "manifest.json";

/// What is attached to the images. It has a file of its own: whoever loads all that the index lists
/// would take a signature for an image.
pub(super) const ATTACHED: &str = "larder.attached.json";

/// The only version of the layout.
pub(super) const LAYOUT_VERSION: &str = "1.0.0";

/// The name by which skopeo finds an image: `oci-archive:FILE:NAME`. The full one, since one file
/// has images of many repositories.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The name by which containerd and docker know an image.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// On the whole index: this is a bundle of larder's.
pub(super) const BUNDLE: &str = "dev.larder.bundle";
/// On the whole index: the digest of the index of the bundle that this one completes.
pub(super) const SINCE: &str = "dev.larder.since";
/// `mirror` or `local`.
pub(super) const ORIGIN: &str = "dev.larder.origin";
/// The repository's directory, as the catalog lists it.
pub(super) const REPOSITORY: &str = "dev.larder.repository";
/// The tag.
pub(super) const TAG: &str = "dev.larder.tag";
/// When the upstream last said that the tag names this, as in RFC 3339.
pub(super) const CHECKED: &str = "dev.larder.checked";
/// Of an index: the platforms that are in the file.
pub(super) const PLATFORMS: &str = "dev.larder.platforms";

/// What it is attached to.
pub(super) const SUBJECT: &str = "dev.larder.subject";

pub(super) const MIRROR: &str = "mirror";
pub(super) const LOCAL: &str = "local";

/// `oci-layout`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    pub(super) version: String,
}

/// `index.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(rename = "schemaVersion")]
    pub(super) schema_version: u8,
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<Annotations>,
}

pub(super) type Annotations = BTreeMap<String, String>;

/// One image in `index.json`, or a child of an index.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<Annotations>,
}

/// `larder.attached.json`: what is attached to the images, and to what is attached to them. Each
/// comes after what it is attached to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Attached {
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
    #[serde(default)]
    pub(super) lists: Vec<List>,
}

/// What an upstream says is attached to a manifest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct List {
    /// The repository's directory.
    pub(super) repository: String,
    pub(super) subject: String,
    /// When it said so, as in RFC 3339.
    pub(super) listed: String,
    /// The list as it is kept: an index.
    pub(super) index: Box<RawValue>,
}

/// An image in `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(rename = "Config")]
    pub(super) config: String,
    #[serde(rename = "RepoTags", default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    pub(super) layers: Option<Vec<String>>,
}

impl Index {
    /// An annotation of the whole.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }
}

impl Descriptor {
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }
}

/// Where content is in an image layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

pub(super) fn time_to_text(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

/// A time that has not come yet says nothing: it is taken for now.
pub(super) fn time_of_text(text: &str, now: SystemTime) -> Option<SystemTime> {
    let time = humantime::parse_rfc3339(text).ok()?;
    Some(time.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written_and_none_is_still_to_come() {
        use std::time::Duration;
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(time_of_text(&time_to_text(now), now), Some(now));
        let later = time_to_text(now + Duration::from_secs(1));
        assert_eq!(time_of_text(&later, now), Some(now));
        assert_eq!(time_of_text("yesterday", now), None);
    }
}
