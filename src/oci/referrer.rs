//! Referrers: the manifests that are attached to another one by their `subject` field.
//!
//! OCI distribution specification, "Listing Referrers".

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::digest::Digest;
use super::media::{self, MediaType};

/// An entry of a referrers list: the descriptor of a manifest that has a subject. Cheap to clone.
///
/// The descriptor is kept as it was made or received: fields that nobody here knows stay in it.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The referring manifest.
    pub digest: Digest,
    /// What it is (`application/spdx+json`, …), where it says so.
    pub artifact_type: Option<Arc<str>>,
    /// The descriptor as JSON.
    json: Arc<str>,
}

/// Why bytes are not a list of referrers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an index of referrers: {0}")]
pub struct ReferrersError(String);

/// The fields of a manifest that its descriptor in the list repeats.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    subject: Option<Pointer<'a>>,
    #[serde(rename = "artifactType", borrow, default)]
    artifact_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    config: Option<Pointer<'a>>,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Pointer<'a> {
    #[serde(borrow, default)]
    digest: Option<Cow<'a, str>>,
    #[serde(rename = "mediaType", borrow, default)]
    media_type: Option<Cow<'a, str>>,
    #[serde(rename = "artifactType", borrow, default)]
    artifact_type: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Descriptor<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    digest: &'a str,
    size: usize,
    #[serde(rename = "artifactType", skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Index<'a> {
    #[serde(borrow, default)]
    manifests: Option<Vec<&'a RawValue>>,
}

impl Referrer {
    /// What a manifest is attached to, and its entry in that one's list; `None` for one without a
    /// subject.
    ///
    /// The specification's rules: the manifest's own `artifactType` counts; an image without one
    /// has its config's media type, an index without one has none; annotations are copied.
    pub fn of(digest: &Digest, media_type: &MediaType, bytes: &[u8]) -> Option<(Digest, Self)> {
        let fields: Fields<'_> = serde_json::from_slice(bytes).ok()?;
        let subject = fields.subject?.digest?.parse().ok()?;
        let is_index = [media::OCI_INDEX, media::DOCKER_LIST].contains(&media_type.as_str());
        let of_config = fields.config.and_then(|config| config.media_type);
        let artifact_type = fields.artifact_type.filter(|text| !text.is_empty());
        let artifact_type = artifact_type.or(if is_index { None } else { of_config });
        let json = serde_json::to_string(&Descriptor {
            media_type: media_type.as_str(),
            digest: digest.as_str(),
            size: bytes.len(),
            artifact_type: artifact_type.as_deref(),
            annotations: fields.annotations.filter(|raw| raw.get() != "null"),
        });
        let referrer = Self {
            digest: digest.clone(),
            artifact_type: artifact_type.map(|text| text.as_ref().into()),
            json: json.ok()?.into(),
        };
        Some((subject, referrer))
    }

    /// Reads an index of referrers, from another registry or from a referrers tag. Entries that
    /// are no descriptors are left out.
    pub fn read_index(bytes: &[u8]) -> Result<Vec<Self>, ReferrersError> {
        let index: Index<'_> =
            serde_json::from_slice(bytes).map_err(|error| ReferrersError(error.to_string()))?;
        let entries = index
            .manifests
            .ok_or_else(|| ReferrersError("it has no manifests".to_owned()))?;
        let read = |raw: &RawValue| {
            let pointer: Pointer<'_> = serde_json::from_str(raw.get()).ok()?;
            Some(Self {
                digest: pointer.digest?.parse().ok()?,
                artifact_type: pointer.artifact_type.map(|text| text.as_ref().into()),
                json: raw.get().into(),
            })
        };
        Ok(entries.into_iter().filter_map(read).collect())
    }

    /// The length of its descriptor in a list, in bytes.
    pub fn length(&self) -> usize {
        self.json.len()
    }
}

/// The list as it is sent: an OCI image index.
pub fn index_of(referrers: &[Referrer]) -> String {
    let entries: Vec<&str> = referrers.iter().map(|entry| &*entry.json).collect();
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[{}]}}",
        media::OCI_INDEX,
        entries.join(",")
    )
}

/// The tag under which clients keep the list where a registry does not: the referrers tag schema.
///
/// OCI distribution specification, "Referrers Tag Schema": the algorithm cut to 32 characters and
/// the hash to 64.
pub fn referrers_tag(subject: &Digest) -> String {
    let hex: String = subject.hex().chars().take(64).collect();
    format!("{}-{hex}", subject.algorithm().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn described(media_type: &'static str, manifest: &Value) -> Option<Value> {
        let bytes = manifest.to_string().into_bytes();
        let (_, referrer) =
            Referrer::of(&Digest::of(&bytes), &MediaType::known(media_type), &bytes)?;
        let list: Value = serde_json::from_str(&index_of(&[referrer])).unwrap();
        Some(list["manifests"][0].clone())
    }

    #[test]
    fn a_descriptor_says_what_its_manifest_says() {
        let subject = json!({ "digest": Digest::of(b"x").as_str() });
        let config = json!({ "mediaType": "application/vnd.sbom+json" });
        for (media_type, own, expected) in [
            (media::OCI_MANIFEST, Some("a/b"), json!("a/b")),
            (
                media::OCI_MANIFEST,
                None,
                json!("application/vnd.sbom+json"),
            ),
            (
                media::OCI_MANIFEST,
                Some(""),
                json!("application/vnd.sbom+json"),
            ),
            (media::OCI_INDEX, None, Value::Null),
            (media::OCI_INDEX, Some("a/b"), json!("a/b")),
        ] {
            let mut manifest =
                json!({ "subject": subject, "config": config, "annotations": { "k": "v" } });
            if let Some(own) = own {
                manifest["artifactType"] = json!(own);
            }
            let entry = described(media_type, &manifest).unwrap();
            assert_eq!(entry["artifactType"], expected);
            assert_eq!(entry["mediaType"], media_type);
            assert_eq!(entry["annotations"], json!({ "k": "v" }));
            assert_eq!(entry["size"], manifest.to_string().len());
        }
        assert_eq!(described(media::OCI_INDEX, &json!({ "config": {} })), None);
    }

    #[test]
    fn what_others_list_stays_as_it_is() {
        let entry = json!({
            "digest": Digest::of(b"x").as_str(),
            "artifactType": "a/b",
            "somethingNew": [1, 2],
        });
        let index = json!({ "manifests": [entry, 7, { "digest": "sha256:x" }, {}] });
        let read = Referrer::read_index(index.to_string().as_bytes()).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].artifact_type.as_deref(), Some("a/b"));
        let again: Value = serde_json::from_str(&index_of(&read)).unwrap();
        assert_eq!(again["manifests"], json!([entry]));
        assert!(Referrer::read_index(b"<html>").is_err());
        assert!(Referrer::read_index(b"{}").is_err());
    }

    #[test]
    fn a_referrers_tag_is_a_tag() {
        let digest: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert_eq!(referrers_tag(&digest), format!("sha512-{}", "a".repeat(64)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Referrer::read_index(&bytes);
            let media_type = MediaType::known(media::OCI_INDEX);
            let _ = Referrer::of(&Digest::of(b""), &media_type, &bytes);
        }
    }
}
