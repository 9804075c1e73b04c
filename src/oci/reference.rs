//! Tags, and references: a tag or a digest.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::digest::Digest;

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`. Always a safe file name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// Why a text is not a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tag has 1 to 128 letters, digits, dots, dashes or underscores, and begins with none of . and -"
)]
pub struct TagError;

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let Some(first) = text.bytes().next() else {
            return Err(TagError);
        };
        let rest = |byte: u8| word(byte) || byte == b'.' || byte == b'-';
        if text.len() <= 128 && word(first) && text.bytes().all(rest) {
            Ok(Self(text.into()))
        } else {
            Err(TagError)
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands behind `/manifests/`: a tag, which may move, or a digest, which never does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A movable name.
    Tag(Tag),
    /// The content's own name.
    Digest(Digest),
}

/// Why a text is neither a tag nor a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceError {
    /// It has a colon, so it was meant to be a digest.
    Digest,
    /// It was meant to be a tag.
    Tag,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// No tag has a colon and every digest has one, so that one never passes for the other.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            text.parse()
                .map(Self::Digest)
                .map_err(|_| ReferenceError::Digest)
        } else {
            text.parse().map(Self::Tag).map_err(|_| ReferenceError::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests_are_told_apart() {
        let hex = "0".repeat(64);
        for (text, expected) in [
            ("latest", Ok("latest")),
            ("v1.2_3-x", Ok("v1.2_3-x")),
            ("_", Ok("_")),
            (&format!("sha256-{hex}.sig"), Ok("tag")),
            (&hex, Ok("tag")),
            (&format!("sha256:{hex}"), Ok("digest")),
            ("sha256:short", Err(ReferenceError::Digest)),
            ("a:b", Err(ReferenceError::Digest)),
            ("", Err(ReferenceError::Tag)),
            (".hidden", Err(ReferenceError::Tag)),
            ("-x", Err(ReferenceError::Tag)),
            ("a/b", Err(ReferenceError::Tag)),
            ("..", Err(ReferenceError::Tag)),
            (&"a".repeat(128), Ok("tag")),
            (&"a".repeat(129), Err(ReferenceError::Tag)),
        ] {
            let parsed = text.parse::<Reference>();
            match expected {
                Err(error) => assert_eq!(parsed, Err(error), "{text:?}"),
                Ok("digest") => assert!(matches!(parsed, Ok(Reference::Digest(_))), "{text:?}"),
                Ok(_) => assert!(matches!(parsed, Ok(Reference::Tag(_))), "{text:?}"),
            }
        }
    }
}
