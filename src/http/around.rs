//! What surrounds the handling of a request: who is told of it, whether anything is answered at
//! all, and who asks.

use std::net::SocketAddr;

use http::header::{HeaderName, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::events::Events;
use crate::health::Health;

use super::accesslog::AccessLog;
use super::answer::Answer;
use super::server::Peer;

/// How much of a `User-Agent` is in a request's line in the log, in bytes.
const AGENT: usize = 200;

/// What is answered while a health check fails: Distribution's body to the byte, for monitors that
/// look for it.
const CLOSED: &str = concat!(
    r#"{"errors":[{"code":"UNAVAILABLE","message":"service unavailable","#,
    r#""detail":"health check failed: please see /debug/health"}]}"#,
    "\n"
);

/// What a handler works among. Cheap to clone. By default there is nothing.
#[derive(Clone)]
pub struct Surroundings {
    /// Who is told of pushes, pulls, mounts and deletes.
    pub events: Events,
    /// Whether requests are answered at all.
    pub health: Health,
    /// The access log.
    pub access_log: AccessLog,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            events: Events::none(),
            health: Health::none(),
            access_log: AccessLog::none(),
        }
    }
}

impl Surroundings {
    /// The answer to everything while a health check fails.
    pub(super) fn closed(&self) -> Option<Answer> {
        if self.health.is_up() {
            return None;
        }
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Some(Answer::full(status, "application/json", CLOSED))
    }
}

/// Who asks.
///
/// The address is the connection's. `X-Forwarded-For` can be sent by anybody, and is believed from
/// nobody.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    /// For the log: nothing where there is none.
    pub(super) agent: String,
    /// By which scheme: `http` or `https`.
    pub(super) scheme: &'static str,
}

impl Client {
    pub(super) fn of(parts: &Parts, peer: Peer, is_logged: bool) -> Self {
        let address = peer.address;
        let agent = if is_logged {
            header(&parts.headers, &USER_AGENT, AGENT).unwrap_or_else(|| "-".to_owned())
        } else {
            String::new()
        };
        Self {
            // One socket serves both families, and shows IPv4 as a kind of IPv6.
            address: SocketAddr::new(address.ip().to_canonical(), address.port()),
            agent,
            scheme: if peer.is_tls { "https" } else { "http" },
        }
    }
}

/// At most `limit` bytes of a header, as text; what is no UTF-8 is replaced.
pub(super) fn header(headers: &HeaderMap, name: &HeaderName, limit: usize) -> Option<String> {
    let bytes = headers.get(name)?.as_bytes();
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]);
    Some(shortened(&text, limit).to_owned())
}

/// At most `limit` bytes of a text.
pub(super) fn shortened(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_cut_and_mended() {
        let long = [&[0xff; 3], [b'a'; 300].as_slice()].concat();
        let headers = HeaderMap::from_iter([(USER_AGENT, long.as_slice().try_into().unwrap())]);
        let agent = header(&headers, &USER_AGENT, 200).unwrap();
        assert_eq!(agent.len(), 200);
        assert!(agent.starts_with("\u{fffd}\u{fffd}\u{fffd}aaa"));
    }
}
