//! What access is configured with. Plain data; what it means is said where it is used.

use std::fmt;
use std::path::PathBuf;

/// Who may come in, and how.
#[derive(Clone)]
pub struct Settings {
    /// How callers say who they are.
    pub scheme: Scheme,
    /// What anybody may do, everywhere.
    pub anonymous: Vec<Action>,
    /// What verified users may do. Without rules, everything.
    pub rules: Vec<Rule>,
    /// Whether `/v2/` asks who does not say who they are.
    pub challenge: Challenge,
    /// `http.secret`: what our own tokens are made with. Without it a key is made at each start, and
    /// several larders behind one name do not take each other's tokens.
    pub secret: Option<String>,
}

/// Without the secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("scheme", &self.scheme)
            .field("anonymous", &self.anonymous)
            .field("rules", &self.rules)
            .field("challenge", &self.challenge)
            .finish_non_exhaustive()
    }
}

/// How callers say who they are.
#[derive(Clone, Debug)]
pub enum Scheme {
    /// They need not.
    Open,
    /// By a name and a password, RFC 7617.
    Htpasswd {
        /// What the client shows when it asks for the password.
        realm: String,
        /// Lines of `name:hash`, read again when the file changes.
        path: PathBuf,
    },
    /// By a token of a token service. Distribution, "Token Authentication Specification".
    Token(TokenSettings),
}

/// Which tokens are good, and where they are to be had.
#[derive(Clone, Debug, Default)]
pub struct TokenSettings {
    /// The address of the token service.
    pub realm: String,
    /// Our name there: the audience of a token.
    pub service: String,
    /// Its name in a token.
    pub issuer: String,
    /// A PEM file of certificates: their keys, and keys that they certify, sign tokens.
    pub root_cert_bundle: Option<PathBuf>,
    /// A JSON file of keys, RFC 7517.
    pub jwks: Option<PathBuf>,
    /// The token service is at `auto_redirect_path` of the host that was asked, not at `realm`.
    pub auto_redirect: bool,
    /// A path with a leading slash; Distribution's default is `/auth/token`.
    pub auto_redirect_path: String,
    /// Names as in RFC 7518, `RS256`. Without any, all that larder knows.
    pub signing_algorithms: Vec<String>,
}

/// What can be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read.
    Pull,
    /// Add and replace.
    Push,
    /// Remove.
    Delete,
}

impl Action {
    /// As scopes and tokens spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// One thing that is allowed: to any of `who` any of `may` in any of `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names of users, `*` for every verified user, `anonymous` for anybody.
    pub who: Vec<String>,
    /// What they may do.
    pub may: Vec<Action>,
    /// Patterns of repository names: `*` is any run of characters, slashes included; `{user}` is the
    /// caller's own name, so that it matches nothing for an anonymous caller.
    pub names: Vec<String>,
}

/// When `/v2/` asks an anonymous caller for credentials, if anonymous callers may do anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Everywhere but where clients use this registry as a mirror of another.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere: only what is not open is challenged.
    Never,
    /// At these hosts; one without a port stands for all its ports.
    Hosts(Vec<String>),
}

/// What a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// To do something with a repository, by its full name: `team/app`, `docker.io/library/nginx`.
    Repository(&'a str, Action),
    /// To list the repositories.
    Catalog,
}
