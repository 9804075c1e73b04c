//! What an upstream is configured with. Plain data; what it means is said where it is used.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::credentials::Credentials;

/// What must be known to ask an upstream.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is called in messages, as in `docker.io`.
    pub name: String,
    /// Where its API is; `/v2/` comes after it.
    pub url: Url,
    /// Who we are there; nobody without.
    pub credentials: Option<Credentials>,
    /// A PEM file with certificates that are trusted in addition to the machine's, here only.
    pub ca: Option<PathBuf>,
    /// Hosts, or hosts with ports, of token services that may see the credentials. The
    /// upstream's own host and port always may.
    pub token_hosts: Vec<String>,
}

/// How long the parts of a request may take. There is no limit on a whole transfer.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// From a request to the end of the answer's headers, connecting included.
    pub headers: Duration,
    /// From the first request to the answer that counts: tokens, redirects and retries included.
    pub exchange: Duration,
    /// Between two parts of a body.
    pub idle: Duration,
    /// For a token.
    pub token: Duration,
    /// The pause before the second try; it doubles from there.
    pub backoff: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_secs(15),
            exchange: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            token: Duration::from_secs(10),
            backoff: Duration::from_millis(200),
        }
    }
}
