//! What becomes of the images of an archive, and what they are called when it is said.

use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::Kind;

use super::archive::{Found, Named};
use super::error::Refusal;
use super::place::Home;

/// What became of one image.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its name here, or else in the archive.
    pub name: String,
    /// What it is attached to; `None` for an image.
    pub subject: Option<Digest>,
    /// How many of those that its index lists are not in the file.
    pub absent: usize,
    /// What became of it.
    pub done: Done,
}

/// What became of an image.
#[derive(Clone, Debug)]
pub enum Done {
    /// It is here.
    In {
        /// As a mirror's or as a local one.
        kind: Kind,
        /// The upstream's repository that its name hides from now on.
        hides: Option<String>,
        /// Whether there was nothing to do: all of it was here before.
        already: bool,
    },
    /// The tag here was checked later, and names something else: it stays.
    Newer,
    /// It is not taken in.
    Refused(Refusal),
}

impl Found {
    /// The digest of the image itself.
    pub(super) fn digest(&self) -> Option<&Digest> {
        self.manifests.last().map(|listed| &listed.digest)
    }
}

/// A name for messages: the one here, or what the archive says.
pub(super) fn shown(found: &Found, home: Option<&Home>) -> String {
    let full = |name: &RepositoryName, tag: Option<&Tag>| match (tag, found.digest()) {
        (Some(tag), _) => format!("{name}:{tag}"),
        (None, Some(digest)) if found.subject.is_some() => format!("{name}@{digest}"),
        (None, _) => name.to_string(),
    };
    if let Some(home) = home {
        return full(home.repository.name(), home.tag.as_ref());
    }
    match &found.named {
        Named::Not => "an image without a name".into(),
        Named::Text(text) | Named::Docker(text) => text.escape_debug().to_string(),
        Named::Ours {
            repository, tag, ..
        } => full(repository, tag.as_ref()),
    }
}
