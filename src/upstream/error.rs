//! What can go wrong upstream, by what a caller can do about it.
//!
//! The texts are for people: no address's query, no header, no secret. They leave out the
//! upstream's name, which the caller knows ([`super::Upstream::name`]).

use std::path::PathBuf;
use std::time::Duration;

/// Why an upstream did not give what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The registry itself said 404 for this very thing.
    #[error("the upstream does not have it")]
    NotFound,
    /// 401 or 403 although our token was fresh: private, or not there, which many registries
    /// do not tell apart.
    #[error("the upstream denies access to it, or does not have it")]
    Denied,
    /// The token service, or the registry, refused the configured username and password.
    #[error("the upstream refused its username and password: check them in the configuration")]
    CredentialsRefused,
    /// 429. Until then, requests of the same kind fail without being sent.
    #[error("the upstream may not be asked so often: try again in {}", seconds(.retry_after))]
    RateLimited {
        /// How long the upstream wants to be left alone.
        retry_after: Duration,
    },
    /// Nobody may be asked: the switch of `larder offline`, or the configuration.
    #[error("this larder is offline")]
    Offline,
    /// Nothing came for too long.
    #[error("the upstream did not answer in time: {what}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// No connection (DNS, TCP, TLS), or none that lasts until an answer.
    #[error("the upstream cannot be reached: {reason}")]
    Unreachable {
        /// The cause, in the system's words.
        reason: String,
    },
    /// No connection, for want of files to open or of memory here: the upstream has no part in it.
    #[error("this larder has too much open: {reason}")]
    Exhausted {
        /// The cause, in the system's words.
        reason: String,
    },
    /// 5xx after all retries, or another status that says nothing about the thing asked for.
    #[error("the upstream failed with status {status}")]
    Failed {
        /// The status of the last answer.
        status: u16,
    },
    /// An answer that no registry should give, none of which may be used.
    #[error("the upstream misbehaved: {reason}")]
    Misbehaved {
        /// What is wrong with it.
        reason: String,
    },
}

impl UpstreamError {
    pub(super) fn misbehaved(reason: impl Into<String>) -> Self {
        Self::Misbehaved {
            reason: reason.into(),
        }
    }

    pub(super) fn unreachable(reason: impl Into<String>) -> Self {
        Self::Unreachable {
            reason: reason.into(),
        }
    }
}

fn seconds(pause: &Duration) -> String {
    format!("{} s", pause.as_secs().max(1))
}

/// Why the settings of an upstream cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The address is none that can be asked.
    #[error("{reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The username or password cannot be sent.
    #[error("the username has a colon, or username or password have control characters")]
    Credentials,
    /// The file with the certificate authority is no use.
    #[error("{}: {reason}", .path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
