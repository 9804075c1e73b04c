//! One request, as its answer needs it.

use std::sync::OnceLock;
use std::time::Instant;

use http::request::Parts;

use crate::metrics::Source;
use crate::registry::Error;

use super::error::Refusal;
use super::server::Peer;

/// What a request is made of, apart from its body.
pub(super) struct Asked<'a> {
    pub(super) parts: &'a Parts,
    /// As it was sent, any prefix included.
    pub(super) path: &'a str,
    pub(super) peer: Peer,
    pub(super) started: Instant,
    /// Where something was looked for that could not be had, if anywhere.
    in_vain: OnceLock<Source>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(parts: &'a Parts, peer: Peer, started: Instant) -> Self {
        Self {
            parts,
            path: parts.uri.path(),
            peer,
            started,
            in_vain: OnceLock::new(),
        }
    }

    /// Takes note of where something was looked for in vain: the request's line in the log says it.
    pub(super) fn in_vain(&self, source: Source, error: Error) -> Refusal {
        // A request looks in one place only.
        _ = self.in_vain.set(source);
        error.into()
    }

    /// That place.
    pub(super) fn looked_in_vain(self) -> Option<Source> {
        self.in_vain.into_inner()
    }
}
