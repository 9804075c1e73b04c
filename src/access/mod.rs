//! Who is asking, and what may they do.
//!
//! Owns users, passwords, tokens and rights. Header values come and go as text: this module knows
//! neither HTTP nor the configuration file, and it decides nothing about what an answer looks like.
//!
//! [`Access::identify`] tells from an `Authorization` header who the caller is, [`Access::may`] what
//! that caller may do, and [`Access::challenge`] what to say to a caller who needs to be asked. What
//! is known of Distribution's ways is in its `registry/auth` packages; where larder differs, the
//! reason is in `docs/adr/0013-access.md`.

mod authorization;
mod caller;
mod challenge;
mod der;
mod error;
pub mod htpasswd;
mod json;
pub mod jwt;
mod keys;
mod own_token;
mod passwords;
mod provision;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use self::authorization::Given;
use self::caller::Who;
use self::jwt::Verifier;
use self::own_token::Mint;
use self::passwords::Passwords;
use self::rules::Policy;
use self::users::UserFile;

pub use self::caller::Caller;
pub use self::challenge::{AskedAt, Why};
pub use self::error::{AccessError, Unidentified};
pub use self::own_token::Token;
pub use self::settings::{Action, Challenge, Rule, Scheme, Settings, TokenSettings, Wanted};

/// Where our own token endpoint is, under the host that the client asked.
pub const TOKEN_PATH: &str = "/token";

/// The token of a caller who has no name. It opens what is open anyway, so it needs no secret.
const ANONYMOUS_TOKEN: &str = "anonymous";

/// Who may do what, and how callers say who they are. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    means: Means,
    policy: Policy,
    challenge: Challenge,
}

/// How a caller is recognised.
enum Means {
    Open,
    Htpasswd(Box<Htpasswd>),
    Token(Box<TokenService>),
}

struct TokenService {
    settings: TokenSettings,
    verifier: Verifier,
}

struct Htpasswd {
    realm: String,
    users: Arc<UserFile>,
    passwords: Passwords,
    mint: Mint,
}

impl Htpasswd {
    async fn with_password(&self, name: String, password: Vec<u8>) -> Result<Caller, Unidentified> {
        let users = self.users.current(Instant::now()).await;
        let users = users.ok_or(Unidentified::Broken)?;
        if !self.passwords.verify(&name, password, &users).await? {
            return Err(Unidentified::BadCredentials);
        }
        let hash = users.hash(&name).ok_or(Unidentified::BadCredentials)?;
        let line = self.mint.line(&name, hash);
        Ok(Caller::user(name, line, None))
    }

    async fn with_token(&self, token: &str) -> Result<Caller, Unidentified> {
        let pass = self.mint.open(token, SystemTime::now());
        let pass = pass.ok_or(Unidentified::InvalidToken)?;
        let users = self.users.current(Instant::now()).await;
        let users = users.ok_or(Unidentified::Broken)?;
        let hash = users.hash(&pass.name).ok_or(Unidentified::InvalidToken)?;
        // Whoever was given a new password, or was removed and made again, is somebody else.
        if self.mint.line(&pass.name, hash) != pass.line {
            return Err(Unidentified::InvalidToken);
        }
        Ok(Caller::user(pass.name, pass.line, Some(pass.issued)))
    }
}

impl Access {
    /// Reads the files that `settings` name. A htpasswd file that is not there is made, with the user
    /// `docker` and a random password that is logged once, as Distribution does.
    pub fn new(settings: Settings) -> Result<Self, AccessError> {
        let Settings {
            scheme,
            anonymous,
            rules,
            challenge,
            secret,
        } = settings;
        let policy = Policy::new(&anonymous, &rules)?;
        let means = match scheme {
            Scheme::Open => Means::Open,
            Scheme::Htpasswd { realm, path } => {
                required("auth.htpasswd.realm", &realm)?;
                Means::Htpasswd(Box::new(Htpasswd {
                    realm,
                    users: Arc::new(UserFile::open(path, SystemTime::now())?),
                    passwords: Passwords::new()?,
                    mint: Mint::new(secret.as_deref())?,
                }))
            }
            Scheme::Token(_) if !rules.is_empty() => return Err(AccessError::RulesWithToken),
            Scheme::Token(settings) => {
                required("auth.token.issuer", &settings.issuer)?;
                required("auth.token.service", &settings.service)?;
                if !settings.auto_redirect {
                    required("auth.token.realm", &settings.realm)?;
                }
                let verifier = Verifier::new(&settings)?;
                Means::Token(Box::new(TokenService { settings, verifier }))
            }
        };
        Ok(Self(Arc::new(Inner {
            means,
            policy,
            challenge,
        })))
    }

    /// Whether nobody is asked anything.
    pub fn is_open(&self) -> bool {
        matches!(self.0.means, Means::Open)
    }

    /// Whether callers come with tokens of a token service, which say what they may do.
    pub fn goes_by_tokens(&self) -> bool {
        matches!(self.0.means, Means::Token(..))
    }

    /// Whether the challenge sends clients to our own token endpoint, [`TOKEN_PATH`].
    ///
    /// So it is when passwords are asked for and anonymous callers have rights too: dockerd decides
    /// by the answer to `GET /v2/` alone how it identifies itself, and with `Basic` it cannot pull
    /// anything without a password.
    pub fn issues_tokens(&self) -> bool {
        matches!(self.0.means, Means::Htpasswd(_)) && self.0.policy.admits_anonymous()
    }

    /// Who sent this `Authorization` header.
    ///
    /// No header, an empty one, a Basic one without name and password (`Og==`) and the Bearer token
    /// `anonymous` make an anonymous caller. Only a password that was not seen in the last minutes
    /// costs anything: it is hashed, away from the event loop.
    pub async fn identify(&self, authorization: Option<&str>) -> Result<Caller, Unidentified> {
        let given = authorization::parse(authorization);
        match (&self.0.means, given) {
            (Means::Open, _) | (_, Given::Nothing) => Ok(Caller::anonymous()),
            (Means::Htpasswd(htpasswd), Given::Basic { name, password }) => {
                htpasswd.with_password(name, password).await
            }
            (Means::Htpasswd(htpasswd), Given::Bearer(token)) if self.issues_tokens() => {
                htpasswd.with_token(token).await
            }
            (Means::Token(service), Given::Bearer(token)) => {
                let grant = service.verifier.verify(token, SystemTime::now());
                let grant = grant.map_err(|flaw| {
                    tracing::debug!("a token was refused: {flaw}");
                    Unidentified::InvalidToken
                })?;
                Ok(Caller::token(grant))
            }
            (_, Given::Bearer(_)) => Err(Unidentified::InvalidToken),
            (_, Given::Basic { .. } | Given::Unreadable) => Err(Unidentified::BadCredentials),
        }
    }

    /// Whether `caller` may do that.
    ///
    /// What anonymous callers may do, everybody may. Beyond it a token's claims decide alone; verified
    /// users may do everything if there are no rules, and what some rule allows if there are.
    pub fn may(&self, caller: &Caller, wanted: &Wanted<'_>) -> bool {
        if self.is_open() || self.0.policy.anonymous_may(wanted) {
            return true;
        }
        match caller.who() {
            Who::Anonymous => false,
            Who::User { name, .. } => self.0.policy.user_may(name, wanted),
            Who::Token(grant) => grant.allows(wanted),
        }
    }

    /// Whether there is a repository with which `caller` may do that, as far as names tell.
    pub fn may_somewhere(&self, caller: &Caller, action: Action) -> bool {
        if self.is_open() || self.0.policy.anonymous_may_somewhere(action) {
            return true;
        }
        match caller.who() {
            Who::Anonymous => false,
            Who::User { name, .. } => self.0.policy.user_may_somewhere(name, action),
            Who::Token(grant) => grant.allows_somewhere(action.as_str()),
        }
    }

    /// The value of `WWW-Authenticate` for who wanted that. It may hold UTF-8, if the realm does.
    ///
    /// Nothing that is open challenges anybody; asked all the same, it gives a Basic challenge.
    pub fn challenge(&self, wanted: &[Wanted<'_>], why: Why, asked: &AskedAt<'_>) -> String {
        match &self.0.means {
            Means::Open => challenge::basic("larder"),
            Means::Htpasswd(htpasswd) if self.issues_tokens() => {
                let realm = asked.url(TOKEN_PATH);
                challenge::bearer(&realm, &htpasswd.realm, wanted, why)
            }
            Means::Htpasswd(htpasswd) => challenge::basic(&htpasswd.realm),
            Means::Token(service) => {
                let token = &service.settings;
                if token.auto_redirect {
                    let realm = asked.url(&token.auto_redirect_path);
                    challenge::bearer(&realm, &token.service, wanted, why)
                } else {
                    challenge::bearer(&token.realm, &token.service, wanted, why)
                }
            }
        }
    }

    /// The value of `WWW-Authenticate` at our own token endpoint, where a password is asked for;
    /// `None` where there is no such endpoint.
    pub fn token_endpoint_challenge(&self) -> Option<String> {
        match &self.0.means {
            Means::Htpasswd(htpasswd) if self.issues_tokens() => {
                Some(challenge::basic(&htpasswd.realm))
            }
            _ => None,
        }
    }

    /// Whether `/v2/` asks an anonymous caller for credentials.
    ///
    /// `host` is the host that the client asked, with its port if it named one. `is_mirror` says
    /// whether that is a host which clients use as a mirror of another registry: a challenged dockerd
    /// would answer it with the user's password for that registry.
    pub fn challenges_base(&self, host: &str, is_mirror: bool) -> bool {
        if self.is_open() {
            return false;
        }
        if !self.0.policy.admits_anonymous() {
            return true;
        }
        match &self.0.challenge {
            Challenge::Auto => !is_mirror,
            Challenge::Always => true,
            Challenge::Never => false,
            Challenge::Hosts(hosts) => hosts.iter().any(|listed| challenge::is_host(listed, host)),
        }
    }

    /// A token of our own for a caller who was identified; an anonymous one gets `anonymous`.
    ///
    /// It says who the caller is and nothing else: what that caller may do is decided at each use. A
    /// token got for a token ends when that one does.
    pub fn issue_token(&self, caller: &Caller) -> Token {
        let now = SystemTime::now();
        match (&self.0.means, caller.who()) {
            (Means::Htpasswd(htpasswd), Who::User { name, line, since }) => {
                htpasswd.mint.issue(name, *line, *since, now)
            }
            _ => Token::new(ANONYMOUS_TOKEN.to_owned(), now, own_token::LIFETIME),
        }
    }
}

fn required(key: &'static str, value: &str) -> Result<(), AccessError> {
    if value.is_empty() {
        return Err(AccessError::Required(key));
    }
    Ok(())
}

/// Only the kind: everything else is, or leads to, a secret.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0.means {
            Means::Open => "open",
            Means::Htpasswd(_) => "htpasswd",
            Means::Token(_) => "token",
        };
        f.debug_tuple("Access").field(&kind).finish()
    }
}
