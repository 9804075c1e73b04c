//! Manifests: read, never written. The bytes that came are the bytes that go.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::digest::Digest;
use super::media::{self, MediaType};
use super::platform::PlatformName;

/// The largest manifest that is taken, in bytes: 4 MiB, as in Distribution.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

/// What a pushed manifest says about itself and what it refers to.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is served as.
    pub media_type: MediaType,
    /// What must be in the repository before it.
    pub needs: Vec<Need>,
    /// The manifest it is attached to, which may be missing.
    pub subject: Option<Digest>,
    /// Of an index: what its children run on, in the order of `needs`.
    pub platforms: Vec<PlatformName>,
    /// Where its layers may be had elsewhere.
    pub urls: Vec<String>,
}

/// Content that a manifest refers to and that its repository must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A config or a layer.
    Blob(Digest),
    /// A child of an index.
    Manifest(Digest),
}

/// Why bytes are not a manifest that can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Over [`MAX_SIZE`].
    #[error("a manifest has at most 4 MiB")]
    TooLarge,
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// It could be read as two different things (CVE-2021-41190), so it is read as neither.
    #[error("ambiguous: {0}")]
    Ambiguous(String),
    /// The type it came with is not one that can be pushed.
    #[error("media type {0:?} is not a manifest's: push an OCI or Docker image manifest or index")]
    MediaType(String),
    /// It breaks the rules of its own type.
    #[error("{0}")]
    Content(String),
    /// A reference in it is not a digest.
    #[error("{field}: {text:?} is not a digest")]
    Digest {
        /// Which field.
        field: &'static str,
        /// What it holds.
        text: String,
    },
}

/// One reference inside a manifest.
#[derive(Deserialize)]
struct Descriptor<'a> {
    #[serde(rename = "mediaType", borrow, default)]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    urls: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    platform: Option<Platform<'a>>,
}

#[derive(Deserialize)]
struct Platform<'a> {
    #[serde(borrow, default)]
    os: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    architecture: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    variant: Option<Cow<'a, str>>,
}

impl Descriptor<'_> {
    fn digest(&self, field: &'static str) -> Result<Digest, ManifestError> {
        let text = self.digest.as_deref().unwrap_or_default();
        text.parse().map_err(|_| ManifestError::Digest {
            field,
            text: text.chars().take(200).collect(),
        })
    }

    /// Layers that are fetched from elsewhere by those who may: they need not be here.
    fn is_elsewhere(&self) -> bool {
        let named_elsewhere = self.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        let media_type = self.media_type.as_deref().unwrap_or_default();
        named_elsewhere
            && (media_type.contains(".nondistributable.")
                || media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    }
}

impl Manifest {
    /// Reads a manifest that is being pushed with the given `Content-Type`.
    ///
    /// The rules are Distribution's (distribution-spec "Pushing Manifests" leaves them open),
    /// but a client's mistake is always an error of the client.
    pub fn pushed(bytes: &[u8], declared: Option<&MediaType>) -> Result<Self, ManifestError> {
        let top = Top::read(bytes)?;
        let declared = declared.map_or("", MediaType::as_str);
        let media_type = media::MANIFESTS
            .into_iter()
            .find(|known| *known == declared)
            .ok_or_else(|| ManifestError::MediaType(declared.to_owned()))?;
        let docker = [media::DOCKER_MANIFEST, media::DOCKER_LIST].contains(&media_type);
        match &top.media_type {
            Some(own) if own != media_type => {
                return Err(ManifestError::Content(format!(
                    "sent as {media_type}, but its mediaType says {own:?}"
                )));
            }
            None if docker => {
                return Err(ManifestError::Content(
                    "a Docker manifest needs its mediaType".into(),
                ));
            }
            _ => {}
        }
        if top.schema_version != Some(2) {
            return Err(ManifestError::Content("schemaVersion must be 2".into()));
        }
        let mut manifest = Self {
            media_type: MediaType::known(media_type),
            needs: Vec::new(),
            subject: top.subject()?,
            platforms: Vec::new(),
            urls: Vec::new(),
        };
        if [media::OCI_INDEX, media::DOCKER_LIST].contains(&media_type) {
            top.children(&mut manifest)?;
        } else {
            top.config_and_layers(&mut manifest)?;
        }
        Ok(manifest)
    }
}

/// The type that stored or mirrored manifest bytes are to be served with.
///
/// `declared` is what they came with; a vague one (`text/plain`, `application/json`) is set aside
/// for what the bytes themselves say, as Distribution infers it.
pub fn media_type_of(
    bytes: &[u8],
    declared: Option<&MediaType>,
) -> Result<MediaType, ManifestError> {
    let top = Top::read(bytes)?;
    if let Some(declared) = declared.filter(|declared| !declared.is_vague()) {
        return Ok(declared.clone());
    }
    if let Some(own) = top.media_type.as_deref().and_then(|own| own.parse().ok()) {
        return Ok(own);
    }
    Ok(MediaType::known(match top {
        Top {
            schema_version: Some(1),
            ..
        } => media::DOCKER_SCHEMA1,
        Top {
            manifests: Some(_), ..
        } => media::OCI_INDEX,
        Top {
            config: None,
            layers: None,
            ..
        } => {
            return Err(ManifestError::Content(
                "neither an image nor an index".into(),
            ));
        }
        _ => media::OCI_MANIFEST,
    }))
}

/// The child of a manifest list that clients without lists are given: `linux/amd64`.
pub fn linux_amd64_child(bytes: &[u8]) -> Option<Digest> {
    let top = Top::read(bytes).ok()?;
    let children: Vec<Descriptor<'_>> = serde_json::from_str(top.manifests?.get()).ok()?;
    children.into_iter().find_map(|child| {
        let platform = child.platform.as_ref()?;
        let fits = platform.os.as_deref() == Some("linux")
            && platform.architecture.as_deref() == Some("amd64");
        fits.then(|| child.digest("manifests").ok()).flatten()
    })
}

/// The top level of a manifest: only the fields that decide what it is.
#[derive(Default)]
struct Top<'a> {
    media_type: Option<String>,
    schema_version: Option<u64>,
    config: Option<&'a RawValue>,
    layers: Option<&'a RawValue>,
    manifests: Option<&'a RawValue>,
    subject: Option<&'a RawValue>,
}

impl<'a> Top<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_SIZE {
            return Err(ManifestError::TooLarge);
        }
        let json = |error: serde_json::Error| ManifestError::Json(error.to_string());
        let Fields(fields) = serde_json::from_slice(bytes).map_err(json)?;
        let mut top = Top::default();
        let mut seen: Vec<&'static str> = Vec::new();
        for (key, value) in fields {
            let Some(name) = KNOWN
                .into_iter()
                .find(|name| name.eq_ignore_ascii_case(&key))
            else {
                continue;
            };
            // Go's JSON reader, which most clients use, takes "Layers" for "layers".
            if key != name || seen.contains(&name) {
                return Err(ManifestError::Ambiguous(format!("{key:?} beside {name:?}")));
            }
            seen.push(name);
            if value.get() == "null" {
                continue;
            }
            match name {
                "mediaType" => top.media_type = serde_json::from_str(value.get()).map_err(json)?,
                "schemaVersion" => top.schema_version = serde_json::from_str(value.get()).ok(),
                "config" => top.config = Some(value),
                "layers" => top.layers = Some(value),
                "manifests" => top.manifests = Some(value),
                _ => top.subject = Some(value),
            }
        }
        if top.manifests.is_some() && (top.layers.is_some() || top.config.is_some()) {
            return Err(ManifestError::Ambiguous(
                "both an index (manifests) and an image (config, layers)".into(),
            ));
        }
        Ok(top)
    }

    fn children(&self, manifest: &mut Manifest) -> Result<(), ManifestError> {
        for child in descriptors(self.manifests, "manifests")? {
            manifest
                .needs
                .push(Need::Manifest(child.digest("manifests")?));
            let platform = child.platform.as_ref();
            let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
            manifest.platforms.push(PlatformName {
                os: platform.and_then(|platform| text(&platform.os)),
                architecture: platform.and_then(|platform| text(&platform.architecture)),
                variant: platform.and_then(|platform| text(&platform.variant)),
            });
        }
        Ok(())
    }

    fn config_and_layers(&self, manifest: &mut Manifest) -> Result<(), ManifestError> {
        let config = self.config.ok_or_else(|| missing("config"))?;
        let config: Descriptor<'_> = serde_json::from_str(config.get())
            .map_err(|error| ManifestError::Content(format!("config: {error}")))?;
        manifest.needs.push(Need::Blob(config.digest("config")?));
        // Artifacts without layers leave the field out.
        if self.layers.is_some() {
            for layer in descriptors(self.layers, "layers")? {
                let digest = layer.digest("layers")?;
                if !layer.is_elsewhere() {
                    manifest.needs.push(Need::Blob(digest));
                }
                let urls = layer.urls.unwrap_or_default().into_iter();
                manifest.urls.extend(urls.map(Cow::into_owned));
            }
        }
        Ok(())
    }

    fn subject(&self) -> Result<Option<Digest>, ManifestError> {
        let Some(subject) = self.subject else {
            return Ok(None);
        };
        let subject: Descriptor<'_> = serde_json::from_str(subject.get())
            .map_err(|error| ManifestError::Content(format!("subject: {error}")))?;
        subject.digest("subject").map(Some)
    }
}

const KNOWN: [&str; 6] = [
    "mediaType",
    "schemaVersion",
    "config",
    "layers",
    "manifests",
    "subject",
];

fn missing(field: &str) -> ManifestError {
    ManifestError::Content(format!("{field} is missing"))
}

fn descriptors<'a>(
    raw: Option<&'a RawValue>,
    field: &'static str,
) -> Result<Vec<Descriptor<'a>>, ManifestError> {
    let raw = raw.ok_or_else(|| missing(field))?;
    serde_json::from_str(raw.get())
        .map_err(|error| ManifestError::Content(format!("{field}: {error}")))
}

/// An object's fields in order, doubles included: a map would hide them.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Collect).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn push(media_type: &'static str, json: &str) -> Result<Manifest, ManifestError> {
        Manifest::pushed(json.as_bytes(), Some(&MediaType::known(media_type)))
    }

    #[test]
    fn an_image_needs_its_config_and_layers() {
        let json = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{A}"}},"layers":[{{"digest":"{B}"}},
            {{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"{A}",
              "urls":["https://store.example.com/x"]}}],"subject":{{"digest":"{B}"}},"x":1}}"#
        );
        let manifest = push(media::OCI_MANIFEST, &json).unwrap();
        let blob = |text: &str| Need::Blob(text.parse().unwrap());
        assert_eq!(manifest.needs, [blob(A), blob(B)]);
        assert_eq!(manifest.subject, Some(B.parse().unwrap()));
    }

    #[test]
    fn an_index_needs_its_children_and_may_be_empty() {
        let json = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{A}"}}]}}"#);
        let manifest = push(media::OCI_INDEX, &json).unwrap();
        assert_eq!(manifest.needs, [Need::Manifest(A.parse().unwrap())]);
        assert!(push(media::OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#).is_ok());
    }

    #[test]
    fn what_could_be_read_as_two_things_is_read_as_neither() {
        let image = format!(r#""config":{{"digest":"{A}"}},"layers":[]"#);
        for json in [
            format!(r#"{{"schemaVersion":2,{image},"manifests":[]}}"#),
            format!(r#"{{"schemaVersion":2,{image},"Layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,{image},"layers":[]}}"#),
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned(),
            format!(r#"{{"SchemaVersion":2,{image}}}"#),
        ] {
            let result = push(media::OCI_MANIFEST, &json);
            assert!(
                matches!(result, Err(ManifestError::Ambiguous(_))),
                "{json}: {result:?}"
            );
            assert!(media_type_of(json.as_bytes(), None).is_err(), "{json}");
        }
    }

    #[test]
    fn a_broken_manifest_is_refused_with_its_reason() {
        let image = format!(r#""config":{{"digest":"{A}"}},"layers":[]"#);
        for (media_type, json, said) in [
            (media::OCI_MANIFEST, "[]".to_owned(), "JSON object"),
            (media::OCI_MANIFEST, "<html>".to_owned(), "JSON object"),
            (media::OCI_MANIFEST, format!("{{{image}}}"), "schemaVersion"),
            (
                media::OCI_MANIFEST,
                r#"{"schemaVersion":2}"#.to_owned(),
                "config is missing",
            ),
            (
                media::OCI_INDEX,
                r#"{"schemaVersion":2}"#.to_owned(),
                "manifests is missing",
            ),
            (
                media::DOCKER_MANIFEST,
                format!(r#"{{"schemaVersion":2,{image}}}"#),
                "mediaType",
            ),
            (
                media::OCI_MANIFEST,
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{}",{image}}}"#,
                    media::DOCKER_MANIFEST
                ),
                "mediaType says",
            ),
            (
                media::OCI_MANIFEST,
                r#"{"schemaVersion":2,"config":{"digest":"../../x"}}"#.to_owned(),
                "is not a digest",
            ),
            (
                "application/json",
                format!(r#"{{"schemaVersion":2,{image}}}"#),
                "not a manifest's",
            ),
        ] {
            let error = push(media_type, &json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
    }

    #[test]
    fn the_type_of_stored_bytes_is_inferred_as_distribution_does() {
        for (json, expected) in [
            (r#"{"manifests":[]}"#, media::OCI_INDEX),
            (r#"{"config":{},"layers":[]}"#, media::OCI_MANIFEST),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#,
                media::DOCKER_SCHEMA1,
            ),
            (
                r#"{"mediaType":"application/vnd.x+json"}"#,
                "application/vnd.x+json",
            ),
        ] {
            let vague: MediaType = "text/plain; charset=utf-8".parse().unwrap();
            let inferred = media_type_of(json.as_bytes(), Some(&vague)).unwrap();
            assert_eq!(inferred.as_str(), expected, "{json}");
        }
        assert!(media_type_of(b"{}", None).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = media_type_of(&bytes, None);
            let _ = Manifest::pushed(&bytes, Some(&MediaType::known(media::OCI_MANIFEST)));
            let _ = linux_amd64_child(&bytes);
        }
    }
}
