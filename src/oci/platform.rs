//! Platforms: what an image runs on.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// What an image runs on, as a person names it: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// As in `linux`.
    pub os: String,
    /// As in `amd64`.
    pub architecture: String,
    /// As in `v7`. Without one, every variant is meant.
    pub variant: Option<String>,
}

/// What an image runs on, as an index or its config says; each may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct PlatformName {
    /// As in `linux`.
    pub os: Option<String>,
    /// As in `amd64`.
    pub architecture: Option<String>,
    /// As in `v7`.
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform is an operating system and an architecture, as in linux/amd64 or linux/arm/v7")]
pub struct PlatformError;

impl Platform {
    /// The platform of this machine, as container images name it. They are Linux's wherever docker
    /// runs, but for those of Windows.
    pub fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// Whether a child that an index describes so is for this platform.
    pub fn fits(&self, child: &PlatformName) -> bool {
        child.os.as_ref() == Some(&self.os)
            && child.architecture.as_ref() == Some(&self.architecture)
            && (self.variant.is_none() || child.variant == self.variant)
    }
}

impl PlatformName {
    /// What an image's config says; `None` where it is none, or leaves it out. OCI image
    /// specification, "Image Configuration".
    pub fn of_config(bytes: &[u8]) -> Option<Self> {
        let mut name: Self = serde_json::from_slice(bytes).ok()?;
        name.variant = name.variant.filter(|variant| !variant.is_empty());
        name.is_known().then_some(name)
    }

    /// Whether an operating system and an architecture are said.
    pub(super) fn is_known(&self) -> bool {
        let is_said = |part: &Option<String>| part.as_ref().is_some_and(|part| !part.is_empty());
        is_said(&self.os) && is_said(&self.architecture)
    }

    /// Whether it stands for what does not run: an image's attestations are listed so.
    pub(super) fn is_unknown(&self) -> bool {
        let is_unknown = |part: &Option<String>| part.as_deref() == Some("unknown");
        is_unknown(&self.os) && is_unknown(&self.architecture)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let part = |text: &str| {
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_word);
            fits.then(|| text.to_ascii_lowercase()).ok_or(PlatformError)
        };
        let mut parts = text.split('/');
        let mut next = || parts.next().map(part).transpose();
        let (os, architecture, variant) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(PlatformError);
        }
        Ok(Self {
            os: os.ok_or(PlatformError)?,
            architecture: architecture.ok_or(PlatformError)?,
            variant,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".into());
        write!(
            f,
            "{}/{}",
            or_unknown(&self.os),
            or_unknown(&self.architecture)
        )?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_and_fit() {
        let name = |os: &str, architecture: &str, variant: Option<&str>| PlatformName {
            os: Some(os.into()),
            architecture: Some(architecture.into()),
            variant: variant.map(str::to_owned),
        };
        let arm: Platform = "linux/arm".parse().unwrap();
        let arm_v7: Platform = "Linux/ARM/v7".parse().unwrap();
        assert_eq!(arm_v7.to_string(), "linux/arm/v7");
        for (platform, child, fits) in [
            (&arm, name("linux", "arm", Some("v6")), true),
            (&arm, name("linux", "arm", None), true),
            (&arm_v7, name("linux", "arm", Some("v7")), true),
            (&arm_v7, name("linux", "arm", None), false),
            (&arm_v7, name("windows", "arm", Some("v7")), false),
            (&arm, PlatformName::default(), false),
        ] {
            assert_eq!(platform.fits(&child), fits, "{platform} {child}");
        }
        for wrong in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64"] {
            assert_eq!(wrong.parse::<Platform>(), Err(PlatformError), "{wrong:?}");
        }
    }
}
