//! Images, as people name them on a command line and in a configuration.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::name::{NameError, RepositoryName};
use super::reference::{Reference, Tag};
use super::route::Target;

/// The tag that is meant where none is written.
const LATEST: &str = "latest";

/// Docker Hub, which is meant where no registry is written.
const DOCKER_HUB: &str = "docker.io";

/// An image as people name it: `python`, `ghcr.io/org/app:1`, `team/app@sha256:…`.
///
/// Which repository is meant is for the resolver to say, as it is with names that come over the
/// wire. A tag beside a digest is a remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The repository.
    pub target: Target,
    /// Which of its manifests.
    pub reference: Reference,
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// What stands before the tag is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What stands behind the colon is no tag.
    #[error("what stands behind the colon is no tag")]
    Tag,
    /// What stands behind the @ is no digest.
    #[error("what stands behind the @ is no digest: write sha256: or sha512: and the hash in hex")]
    Digest,
}

impl FromStr for Image {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|_| ImageError::Digest)?;
                (named, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(named);
        let tag: Tag = tag.unwrap_or(LATEST).parse().map_err(|_| ImageError::Tag)?;
        let (host, name) = match name.split_once('/') {
            Some((host, rest)) if host.contains(':') => (Some(host.to_owned()), rest),
            _ => (None, name),
        };
        let target = Target {
            name: name.parse()?,
            prefix: None,
            host,
            ns: None,
        };
        let reference = digest.map_or(Reference::Tag(tag), Reference::Digest);
        Ok(Self { target, reference })
    }
}

/// A colon before the last slash is a port's.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.target.host {
            write!(f, "{host}/")?;
        }
        let name = &self.target.name;
        match &self.reference {
            Reference::Tag(tag) => write!(f, "{name}:{tag}"),
            Reference::Digest(digest) => write!(f, "{name}@{digest}"),
        }
    }
}

/// Mirrored images that are meant together: `docker.io/library/python:*`, `ghcr.io/org/*`.
///
/// A star stands for any characters, slashes among them. Without a tag all tags are meant; a name
/// without a registry means Docker Hub's, as docker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePattern {
    name: String,
    tag: String,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is an image's name with its registry, in which * stands for anything: docker.io/library/python:*"
)]
pub struct PatternError;

impl ImagePattern {
    /// Whether a mirrored tag is meant. `name` is the repository's full name, as the catalog lists
    /// it: `docker.io/library/python`.
    pub fn fits(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.fits_name(name) && glob(self.tag.as_bytes(), tag.as_str().as_bytes())
    }

    /// The registry that it is about, if it is about one alone: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> Option<String> {
        let (first, _) = self.name.split_once('/')?;
        (!first.contains('*')).then(|| first.replace('_', ":"))
    }

    /// Whether any tag of a repository may be meant.
    pub fn fits_name(&self, name: &RepositoryName) -> bool {
        glob(self.name.as_bytes(), name.as_str().as_bytes())
    }
}

impl FromStr for ImagePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let is_written = |byte: u8| byte.is_ascii_alphanumeric() || b"*._-/:".contains(&byte);
        if text.is_empty() || text.starts_with('/') || !text.bytes().all(is_written) {
            return Err(PatternError);
        }
        let (name, tag) = split_tag(text);
        if tag == Some("") {
            return Err(PatternError);
        }
        let first = name.split('/').next().unwrap_or_default();
        let has_registry = name.contains('/') && first.contains(['.', ':', '*'])
            || first == "localhost"
            || name == "*";
        let name = match (has_registry, name.contains('/')) {
            (true, _) => name.to_owned(),
            (false, true) => format!("{DOCKER_HUB}/{name}"),
            (false, false) => format!("{DOCKER_HUB}/library/{name}"),
        };
        Ok(Self {
            // Directories have no colons: a port is written with an underscore there.
            name: name.replace(':', "_"),
            tag: tag.unwrap_or("*").to_owned(),
        })
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.registry(), self.name.split_once('/')) {
            (Some(registry), Some((_, rest))) => write!(f, "{registry}/{rest}:{}", self.tag),
            _ => write!(f, "{}:{}", self.name, self.tag),
        }
    }
}

/// Whether a pattern with stars fits the whole of a text. Linear but for backtracking to the last
/// star, so that no pattern is expensive.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, from));
            at += 1;
        } else if pattern.get(at) == Some(&text[from]) {
            at += 1;
            from += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            at = star_at + 1;
            from = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn images_are_named_as_docker_names_them() {
        let hex = "0".repeat(64);
        let digest = format!("sha256:{hex}");
        for (text, host, name, reference) in [
            ("python", None, "python", "latest"),
            ("python:3.12", None, "python", "3.12"),
            ("ghcr.io/org/app:1", None, "ghcr.io/org/app", "1"),
            (
                "localhost:5000/app",
                Some("localhost:5000"),
                "app",
                "latest",
            ),
            ("10.0.0.7:5000/a/b:2", Some("10.0.0.7:5000"), "a/b", "2"),
            (&format!("a/b@{digest}"), None, "a/b", &digest),
            (&format!("a/b:1@{digest}"), None, "a/b", &digest),
        ] {
            let image: Image = text.parse().unwrap();
            assert_eq!(image.target.host.as_deref(), host, "{text}");
            assert_eq!(image.target.name.as_str(), name, "{text}");
            assert_eq!(image.reference.to_string(), reference, "{text}");
            assert_eq!(image.to_string().parse::<Image>(), Ok(image));
        }
        for (text, error) in [
            ("", ImageError::Name(NameError::Grammar)),
            ("Python", ImageError::Name(NameError::Grammar)),
            ("a:", ImageError::Tag),
            ("a@b", ImageError::Digest),
            ("../a", ImageError::Name(NameError::Grammar)),
        ] {
            assert_eq!(text.parse::<Image>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn patterns_mean_what_docker_would() {
        let python: RepositoryName = "docker.io/library/python".parse().unwrap();
        let app: RepositoryName = "ghcr.io/org/app".parse().unwrap();
        let tag: Tag = "3.12-slim".parse().unwrap();
        for (pattern, is_python, is_app) in [
            ("docker.io/library/python:*", true, false),
            ("python", true, false),
            ("python:3.*", true, false),
            ("python:3.12", false, false),
            ("python:*-slim", true, false),
            ("library/*", true, false),
            ("ghcr.io/*", false, true),
            ("lab:5000/*", false, false),
            ("*/app", false, true),
            ("*", true, true),
            ("*:3.12-slim", true, true),
        ] {
            let pattern: ImagePattern = pattern.parse().unwrap();
            assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
            assert_eq!(pattern.fits(&python, &tag), is_python, "{pattern}");
            assert_eq!(pattern.fits(&app, &tag), is_app, "{pattern}");
        }
        for wrong in ["", "a b", "python:", "/x", "a@sha256:0"] {
            assert_eq!(
                wrong.parse::<ImagePattern>(),
                Err(PatternError),
                "{wrong:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_anything(text in "[ab/]{0,12}", start in 0usize..12, end in 0usize..12) {
            let (start, end) = (start.min(text.len()), end.min(text.len()));
            let (start, end) = (start.min(end), start.max(end));
            let pattern = format!("{}*{}", &text[..start], &text[end..]);
            prop_assert!(glob(pattern.as_bytes(), text.as_bytes()));
            prop_assert_eq!(glob(text.as_bytes(), b"c"), text.bytes().all(|b| b == b'*') && !text.is_empty());
        }
    }
}
