//! What a pushed manifest may name: `validation` of the configuration.

use regex::Regex;
use url::Url;

use crate::oci::manifest::{Manifest, ManifestError, Need};
use crate::oci::{Platform, PlatformName};

use super::Error;

/// What is looked at in pushed manifests, beyond their form.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// What the URLs of layers must match, one of these; `None` takes every URL. Nothing is ever
    /// fetched from them here.
    pub urls_allow: Option<Vec<Regex>>,
    /// What they must not match.
    pub urls_deny: Vec<Regex>,
    /// Which children of an index must have been pushed before it.
    pub children: Children,
}

/// Which children of an index must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Children {
    /// All.
    #[default]
    All,
    /// None: the index may be a sparse one.
    None,
    /// Those for these platforms.
    Platforms(Vec<Platform>),
}

impl Validation {
    /// Refuses a manifest whose layers are where they should not be, and takes out of its needs
    /// what may be missing.
    pub(super) fn apply(&self, manifest: &mut Manifest) -> Result<(), Error> {
        if let Some(url) = manifest.urls.iter().find(|url| !self.takes(url)) {
            let url: String = url.chars().take(200).collect();
            let problem = format!(
                "a layer's URL {url:?} is not allowed: see validation.manifests.urls in the configuration"
            );
            return Err(ManifestError::Content(problem).into());
        }
        let mut platforms = std::mem::take(&mut manifest.platforms).into_iter();
        manifest.needs.retain(|need| match need {
            Need::Blob(_) => true,
            Need::Manifest(_) => self.children.include(&platforms.next().unwrap_or_default()),
        });
        Ok(())
    }

    fn takes(&self, url: &str) -> bool {
        if self.urls_allow.is_none() && self.urls_deny.is_empty() {
            return true;
        }
        let is_web = Url::parse(url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.fragment().is_none());
        let is_any = |list: &[Regex]| list.iter().any(|pattern| pattern.is_match(url));
        is_web && self.urls_allow.as_deref().is_none_or(is_any) && !is_any(&self.urls_deny)
    }
}

impl Children {
    fn include(&self, child: &PlatformName) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Platforms(platforms) => platforms.iter().any(|platform| platform.fits(child)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType, media};
    use serde_json::json;

    fn pushed(media_type: &'static str, json: &serde_json::Value) -> Manifest {
        let media_type = MediaType::known(media_type);
        Manifest::pushed(json.to_string().as_bytes(), Some(&media_type)).unwrap()
    }

    fn patterns(texts: &[&str]) -> Vec<Regex> {
        texts.iter().map(|text| Regex::new(text).unwrap()).collect()
    }

    #[test]
    fn urls_are_taken_or_refused_by_the_lists() {
        let digest = Digest::of(b"x");
        let manifest = |url: &str| {
            pushed(
                media::OCI_MANIFEST,
                &json!({
                    "schemaVersion": 2, "config": { "digest": digest.as_str() },
                    "layers": [{
                        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
                        "digest": digest.as_str(), "urls": [url],
                    }],
                }),
            )
        };
        let allow = |texts| Validation {
            urls_allow: Some(patterns(texts)),
            ..Validation::default()
        };
        let deny = Validation {
            urls_deny: patterns(&["evil"]),
            ..Validation::default()
        };
        for (validation, url, taken) in [
            (&Validation::default(), "https://a/x", true),
            (&Validation::default(), "file:///etc/passwd", true),
            (&allow(&["^https://ok/"]), "https://ok/x", true),
            (&allow(&["^https://ok/"]), "https://other/x", false),
            (&allow(&["ok"]), "ftp://ok/x", false),
            (&allow(&["ok"]), "https://ok/x#y", false),
            (&allow(&[]), "https://ok/x", false),
            (&deny, "https://evil/x", false),
            (&deny, "https://good/x", true),
        ] {
            let result = validation.apply(&mut manifest(url));
            assert_eq!(result.is_ok(), taken, "{url}");
        }
    }

    #[test]
    fn a_sparse_index_may_lack_what_is_not_asked_for() {
        let (amd64, arm64, none) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let index = || {
            pushed(
                media::OCI_INDEX,
                &json!({ "schemaVersion": 2, "manifests": [
                    { "digest": amd64.as_str(), "platform": { "os": "linux", "architecture": "amd64" } },
                    { "digest": arm64.as_str(), "platform": { "os": "linux", "architecture": "arm64" } },
                    { "digest": none.as_str() },
                ]}),
            )
        };
        let need = |digest: &Digest| Need::Manifest(digest.clone());
        let linux_arm64 = Platform {
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            variant: None,
        };
        for (children, needed) in [
            (Children::All, vec![need(&amd64), need(&arm64), need(&none)]),
            (Children::None, vec![]),
            (Children::Platforms(vec![linux_arm64]), vec![need(&arm64)]),
        ] {
            let (mut index, validation) = (
                index(),
                Validation {
                    children,
                    ..Validation::default()
                },
            );
            validation.apply(&mut index).unwrap();
            assert_eq!(index.needs, needed);
        }
    }
}
