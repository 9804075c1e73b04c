//! What can go wrong at the start, and with one caller.

use std::path::PathBuf;

/// Why access cannot be set up. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A value that must be there is not.
    #[error("{0} must be set")]
    Required(&'static str),
    /// The htpasswd file is there and cannot be read.
    #[error(
        "auth.htpasswd.path: cannot read {}: {what} (make it a file that larder's user may read, with a line for each user as `htpasswd -nB USER` prints it)", path.display()
    )]
    ReadUsers {
        /// The file.
        path: PathBuf,
        /// What the system says.
        what: String,
    },
    /// There is no htpasswd file, and it cannot be made.
    #[error(
        "auth.htpasswd.path: {} is not there and cannot be made: {what} (make it yourself, with a line for each user as `htpasswd -nB USER` prints it)", path.display()
    )]
    MakeUsers {
        /// The file.
        path: PathBuf,
        /// What the system says.
        what: String,
    },
    /// A rule that cannot be meant.
    #[error("auth: rule {number}: {what}")]
    Rule {
        /// Which one, from 1.
        number: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// Rules beside a token service.
    #[error(
        "auth: rules do not go with auth.token, where the token service decides who may do what: remove the rules, or use auth.htpasswd"
    )]
    RulesWithToken,
    /// A token service without keys.
    #[error("auth.token: set rootcertbundle or jwks, so that tokens can be told from forged ones")]
    NoKeys,
    /// A file of keys or certificates that cannot be used.
    #[error("auth.token.{key}: {}: {what}", path.display())]
    Keys {
        /// Which setting names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An algorithm that larder does not know.
    #[error("auth.token.signingalgorithms: {0:?} is not one of {known}", known = super::keys::ALGORITHMS)]
    Algorithm(String),
    /// The system gives no random numbers.
    #[error("cannot get random numbers from the system")]
    Random,
}

/// Why it is not known who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// Unknown name, wrong password, or a header that cannot be read. Nothing tells which.
    #[error("wrong name or password")]
    BadCredentials,
    /// A token that is not, or no longer, good.
    #[error("the token is not valid")]
    InvalidToken,
    /// Too many passwords are waiting to be verified. Nothing is known about this one: it is worth
    /// trying again in a second.
    #[error("too many passwords are being verified")]
    TooBusy,
    /// There are no users to compare with, since their file was never readable. The log says why.
    #[error("passwords cannot be verified")]
    Broken,
}
