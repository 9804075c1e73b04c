//! Repository names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name that is accepted, in bytes, as in Distribution.
const MAX_LENGTH: usize = 255;

/// A repository name as in `library/nginx`: components of lower-case letters and digits, joined
/// by slashes. OCI distribution specification, "Pulling manifests".
///
/// The first component may have the looks of a host (`Reg.example.com/team/app`), as Distribution
/// allows, but no port: every name is also a safe relative path in the tree. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

/// Why a text is not a repository name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Some component breaks the grammar.
    #[error(
        "a repository name is made of lower-case letters and digits, separated by . _ __ - or /"
    )]
    Grammar,
    /// Longer than 255 bytes.
    #[error("a repository name has at most {MAX_LENGTH} characters")]
    TooLong,
}

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first component, and the rest where there is one.
    pub fn split_first(&self) -> (&str, Option<Self>) {
        match self.0.split_once('/') {
            Some((first, rest)) => (first, Some(Self(rest.into()))),
            None => (&self.0, None),
        }
    }

    /// Whether it has a single component, as in `nginx`.
    pub fn is_single(&self) -> bool {
        !self.0.contains('/')
    }

    /// The name `directory/self`, for a `directory` that is itself a valid first component.
    ///
    /// The result may be longer than a name that a client may ask for: the limit is one of the
    /// wire, the directory is ours.
    #[must_use]
    pub fn under(&self, directory: &RepositoryName) -> Self {
        Self(format!("{directory}/{self}").into())
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_LENGTH {
            return Err(NameError::TooLong);
        }
        let mut components = text.as_bytes().split(|byte| *byte == b'/');
        let first = components.next().unwrap_or_default();
        let first_is_valid = is_component(first) || (first.len() < text.len() && is_host(first));
        if first_is_valid && components.all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Grammar)
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(bytes: &[u8]) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    word(*first)
        && word(*last)
        && bytes
            .split(|byte| word(*byte))
            .all(|separator| match separator {
                b"" | b"." | b"_" | b"__" => true,
                dashes => dashes.iter().all(|byte| *byte == b'-'),
            })
}

/// A host name without a port: `[A-Za-z0-9.-]+`, and not one that is a path step.
fn is_host(bytes: &[u8]) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.' || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_specification_are_accepted() {
        for text in [
            "a",
            "nginx",
            "library/nginx",
            "a/b/c/d",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "docker.io/library/nginx",
            "10.0.0.7_5000/app",
            "UPPER/name",
            "blobs/uploads",
            "0",
        ] {
            assert!(text.parse::<RepositoryName>().is_ok(), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a/B",
            "..",
            "a/..",
            ".a",
            "a.",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "a b",
            "a\0",
            "é",
            "host:5000/a",
            "_mirror",
            "a/_mirror",
            "./a",
            "a/%2e%2e",
            "-HOST/a",
            "HOST./a",
        ] {
            assert_eq!(
                text.parse::<RepositoryName>(),
                Err(NameError::Grammar),
                "{text:?}"
            );
        }
        assert_eq!(
            "a".repeat(256).parse::<RepositoryName>(),
            Err(NameError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn a_name_is_always_a_safe_relative_path(text in "[a-zA-Z0-9._/-]{0,30}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                for step in name.as_str().split('/') {
                    prop_assert!(!step.is_empty() && !step.starts_with(['.', '_']));
                }
            }
        }
    }
}
