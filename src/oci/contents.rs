//! What an image is made of, with sizes: for those who fetch, count, carry or check it as a whole.

use std::borrow::Cow;

use serde::Deserialize;

use super::digest::Digest;
use super::manifest::ManifestError;
use super::platform::PlatformName;

/// The layers that registries do not hold: their licence forbids it. OCI image specification,
/// "Non-Distributable Layers", and Docker's older form.
const FOREIGN: [&str; 2] = ["nondistributable", "foreign"];

/// What one manifest is made of. Read leniently: what a mirror holds may be older than the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// An index: one manifest for each platform, and what else it lists.
    Index(Vec<Child>),
    /// An image, or an artifact.
    Image {
        /// Its configuration.
        config: Option<Part>,
        /// Its layers, bottom first. One that registries do not hold is left out.
        layers: Vec<Part>,
    },
}

/// A manifest that an index lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// What it is.
    pub part: Part,
    /// What it runs on, where the index says so.
    pub platform: Option<PlatformName>,
}

/// Something by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as the manifest claims; zero where it does not say.
    pub size: u64,
}

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow, default)]
    manifests: Option<Vec<Descriptor<'a>>>,
    #[serde(borrow, default)]
    config: Option<Descriptor<'a>>,
    #[serde(borrow, default)]
    layers: Option<Vec<Descriptor<'a>>>,
}

#[derive(Deserialize)]
struct Descriptor<'a> {
    #[serde(rename = "mediaType", borrow, default)]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    #[serde(default)]
    size: Option<u64>,
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

impl Contents {
    /// Reads them from a manifest's bytes.
    pub fn of(bytes: &[u8]) -> Result<Self, ManifestError> {
        // A list would pass for an object whose fields are all left out.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ManifestError::Json("it begins with something else".into()));
        }
        let top: Top<'_> = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Json(error.to_string()))?;
        if let Some(manifests) = &top.manifests {
            let children = manifests.iter().map(Descriptor::child);
            return Ok(Self::Index(children.collect::<Result<_, _>>()?));
        }
        let layers = top.layers.iter().flatten();
        let layers = layers.filter(|layer| !layer.is_foreign());
        Ok(Self::Image {
            config: top.config.as_ref().map(Descriptor::part).transpose()?,
            layers: layers.map(Descriptor::part).collect::<Result<_, _>>()?,
        })
    }
}

impl Descriptor<'_> {
    fn part(&self) -> Result<Part, ManifestError> {
        let digest = self.digest.parse();
        let wrong = || ManifestError::Content(format!("{:?} is no digest", self.digest));
        Ok(Part {
            digest: digest.map_err(|_| wrong())?,
            size: self.size.unwrap_or(0),
        })
    }

    fn child(&self) -> Result<Child, ManifestError> {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        Ok(Child {
            part: self.part()?,
            platform: self.platform.as_ref().map(|platform| PlatformName {
                os: text(&platform.os),
                architecture: text(&platform.architecture),
                variant: text(&platform.variant),
            }),
        })
    }

    fn is_foreign(&self) -> bool {
        let media_type = self.media_type.as_deref().unwrap_or_default();
        FOREIGN.iter().any(|word| media_type.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_is_made_of_its_config_and_what_registries_hold_of_its_layers() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let image = json!({
            "config": { "digest": a.as_str(), "size": 1 },
            "layers": [
                { "mediaType": layer, "digest": b.as_str(), "size": 2 },
                { "mediaType": foreign, "digest": a.as_str(), "size": 3 },
            ],
        });
        let part = |digest: &Digest, size| Part {
            digest: digest.clone(),
            size,
        };
        let expected = Contents::Image {
            config: Some(part(&a, 1)),
            layers: vec![part(&b, 2)],
        };
        assert_eq!(Contents::of(image.to_string().as_bytes()), Ok(expected));
        let index = json!({ "manifests": [
            { "digest": a.as_str(), "size": 1, "platform": { "os": "linux", "architecture": "arm", "variant": "v7" } },
            { "digest": b.as_str() },
        ]});
        let Ok(Contents::Index(children)) = Contents::of(index.to_string().as_bytes()) else {
            panic!("an index");
        };
        let platforms = children.iter().map(|child| child.platform.as_ref());
        let platforms: Vec<_> = platforms
            .map(|found| found.map(ToString::to_string))
            .collect();
        assert_eq!(platforms, [Some("linux/arm/v7".into()), None]);
    }

    #[test]
    fn what_is_no_manifest_has_no_contents() {
        for wrong in [
            "",
            "[]",
            r#"{"layers":[{"digest":"x"}]}"#,
            r#"{"manifests":[{}]}"#,
        ] {
            assert!(Contents::of(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
