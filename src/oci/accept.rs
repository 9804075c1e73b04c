//! Which manifest a client can be given, by its `Accept`.

use super::media::{self, MediaType};

/// The media types a client says it understands.
///
/// Weights (`;q=`) are left out of account, as in Distribution: there is one manifest to give,
/// not a choice of several.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    types: Vec<String>,
}

/// What to do with a stored manifest for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Serve it as it is.
    Stored,
    /// The client would not understand it.
    NotAcceptable,
    /// Serve the list's `linux/amd64` image instead: an old client that asked by tag and knows
    /// single images only.
    LinuxAmd64,
}

impl Accept {
    /// Reads all `Accept` header lines of a request.
    pub fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let bare = |part: &str| part.split(';').next().unwrap_or_default().trim().to_owned();
        let types = lines.flat_map(|line| line.split(',')).map(bare);
        Self {
            types: types.filter(|text| !text.is_empty()).collect(),
        }
    }

    /// Decides for a manifest of type `stored`, asked for by tag or by digest.
    pub fn offer(&self, stored: &MediaType, by_tag: bool) -> Offer {
        if self.takes_anything() || self.names(stored.as_str()) {
            return Offer::Stored;
        }
        match stored.as_str() {
            media::OCI_MANIFEST => Offer::NotAcceptable,
            media::DOCKER_LIST if by_tag && self.names(media::DOCKER_MANIFEST) => Offer::LinuxAmd64,
            _ => Offer::Stored,
        }
    }

    fn takes_anything(&self) -> bool {
        let wildcards = ["*/*", "application/*", "application/json"];
        self.types.is_empty() || wildcards.into_iter().any(|wildcard| self.names(wildcard))
    }

    fn names(&self, media_type: &str) -> bool {
        self.types
            .iter()
            .any(|own| own.eq_ignore_ascii_case(media_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_what_it_can_read() {
        for (accept, stored, by_tag, expected) in [
            ("", media::OCI_MANIFEST, true, Offer::Stored),
            ("*/*", media::OCI_MANIFEST, true, Offer::Stored),
            (
                media::OCI_MANIFEST,
                media::OCI_MANIFEST,
                true,
                Offer::Stored,
            ),
            (
                media::DOCKER_MANIFEST,
                media::OCI_MANIFEST,
                false,
                Offer::NotAcceptable,
            ),
            (
                media::OCI_INDEX,
                media::DOCKER_MANIFEST,
                true,
                Offer::Stored,
            ),
            (
                media::DOCKER_MANIFEST,
                media::DOCKER_LIST,
                true,
                Offer::LinuxAmd64,
            ),
            (
                media::DOCKER_MANIFEST,
                media::DOCKER_LIST,
                false,
                Offer::Stored,
            ),
            (
                media::DOCKER_MANIFEST,
                media::OCI_INDEX,
                true,
                Offer::Stored,
            ),
            (
                "application/json;q=0.5, text/html",
                media::OCI_MANIFEST,
                true,
                Offer::Stored,
            ),
        ] {
            let offer = Accept::of([accept].into_iter()).offer(&MediaType::known(stored), by_tag);
            assert_eq!(offer, expected, "{accept:?} for {stored}");
        }
    }
}
