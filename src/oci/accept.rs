//! Which manifest a client can be given, by its `Accept`.

use super::media::{self, MediaType};

/// What a client accepts that says nothing of media types.
const WILDCARDS: [&str; 3] = ["*/*", "application/*", "application/json"];

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

/// Decides for a manifest of type `stored`, asked for by tag or by digest, from all `Accept` header
/// lines of a request: the media types that its client says it understands.
///
/// Weights (`;q=`) are left out of account, as in Distribution: there is one manifest to give, not a
/// choice of several.
pub fn offer<'a>(lines: impl Iterator<Item = &'a str>, stored: &MediaType, by_tag: bool) -> Offer {
    let (mut takes_anything, mut takes_images) = (true, false);
    for taken in lines
        .flat_map(|line| line.split(','))
        .map(without_parameters)
    {
        let is = |media_type: &str| taken.eq_ignore_ascii_case(media_type);
        if is(stored.as_str()) || WILDCARDS.into_iter().any(is) {
            return Offer::Stored;
        }
        takes_anything &= taken.is_empty();
        takes_images |= is(media::DOCKER_MANIFEST);
    }
    match stored.as_str() {
        _ if takes_anything => Offer::Stored,
        media::OCI_MANIFEST => Offer::NotAcceptable,
        media::DOCKER_LIST if by_tag && takes_images => Offer::LinuxAmd64,
        _ => Offer::Stored,
    }
}

fn without_parameters(accepted: &str) -> &str {
    accepted.split(';').next().unwrap_or_default().trim()
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
            let offer = offer([accept].into_iter(), &MediaType::known(stored), by_tag);
            assert_eq!(offer, expected, "{accept:?} for {stored}");
        }
    }
}
