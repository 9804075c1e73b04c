//! The configured username and password: how they are sent, and when they had better not be.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::error::SetupError;

/// For so long, what was refused is not tried again: Docker Hub locks accounts.
const REST: Duration = Duration::from_secs(30);
/// For so long, success proves that credentials are good, whatever a 401 says,
const PROOF: Duration = Duration::from_mins(5);
/// unless they were refused so often since: somebody has changed the password.
const DOUBTS: u32 = 5;

/// A username and a password, or a token in its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// As the registry knows it; `$oauthtoken` at nvcr.io, `AWS` at ECR.
    pub username: String,
    /// Never shown, not even by `Debug`.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            username,
            password: _,
        } = self;
        write!(f, "Credentials({username}, …)")
    }
}

impl Credentials {
    /// RFC 7617 §2.
    fn basic(&self) -> Result<HeaderValue, SetupError> {
        let Self { username, password } = self;
        let unfit = |text: &str| text.chars().any(char::is_control);
        if username.contains(':') || unfit(username) || unfit(password) {
            return Err(SetupError::Credentials);
        }
        let encoded = STANDARD.encode(format!("{username}:{password}"));
        let value = HeaderValue::from_str(&format!("Basic {encoded}"));
        secret(value).ok_or(SetupError::Credentials)
    }
}

/// Marked so that nothing prints it.
pub(super) fn secret<E>(value: Result<HeaderValue, E>) -> Option<HeaderValue> {
    let mut value = value.ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Credentials in use.
#[derive(Debug)]
pub(super) struct Account {
    header: HeaderValue,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    refused: Option<Instant>,
    accepted: Option<Instant>,
    /// 401s since then.
    doubts: u32,
    /// Whether somebody was told that they are wrong.
    told: bool,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The credentials are wrong; `news` the first time since they were right.
    Wrong { news: bool },
    /// They were right a moment ago, so that it is this repository that they do not open.
    NotForThis,
}

impl Account {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, SetupError> {
        Ok(Self {
            header: credentials.basic()?,
            standing: Mutex::default(),
        })
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The header to send, unless it was refused a moment ago.
    pub(super) fn usable(&self, now: Instant) -> Option<&HeaderValue> {
        (!self.is_refused(now)).then_some(&self.header)
    }

    pub(super) fn is_refused(&self, now: Instant) -> bool {
        let refused = self.standing().refused;
        refused.is_some_and(|then| now.saturating_duration_since(then) < REST)
    }

    /// Whether they were ever accepted.
    pub(super) fn is_proven(&self) -> bool {
        self.standing().accepted.is_some()
    }

    pub(super) fn accepted(&self, now: Instant) {
        *self.standing() = Standing {
            accepted: Some(now),
            ..Standing::default()
        };
    }

    /// Takes note of a 401, or, if `forbidden`, of a 403, which ghcr.io gives for a repository
    /// that does not exist: that must not shut out all others.
    pub(super) fn refused(&self, now: Instant, forbidden: bool) -> Refusal {
        let standing = &mut *self.standing();
        let recent = |then| now.saturating_duration_since(then) < PROOF;
        let good = if forbidden {
            standing.accepted.is_some()
        } else {
            standing.doubts = standing.doubts.saturating_add(1);
            standing.accepted.is_some_and(recent) && standing.doubts < DOUBTS
        };
        if good {
            return Refusal::NotForThis;
        }
        standing.refused = Some(now);
        let news = !standing.told;
        standing.told = true;
        Refusal::Wrong { news }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(username: &str, password: &str) -> Credentials {
        Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn they_are_never_printed() {
        let secret = credentials("me", "hunter2");
        let account = Account::new(&secret).unwrap();
        let printed = format!("{secret:?} {account:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("bWU6"),
            "{printed}"
        );
        assert_eq!(account.header, "Basic bWU6aHVudGVyMg==");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        assert!(Account::new(&credentials("$oauthtoken", "a:b é")).is_ok());
        for (username, password) in [("a:b", "x"), ("a\n", "x"), ("a", "x\r\ny")] {
            assert!(Account::new(&credentials(username, password)).is_err());
        }
    }

    #[test]
    fn wrong_ones_rest_and_are_reported_once() {
        let (account, now) = (
            Account::new(&credentials("me", "no")).unwrap(),
            Instant::now(),
        );
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(account.usable(now).is_some());
        assert_eq!(account.refused(now, false), Refusal::Wrong { news: true });
        assert!(account.usable(after(29)).is_none());
        assert!(account.usable(after(30)).is_some());
        assert_eq!(
            account.refused(after(30), false),
            Refusal::Wrong { news: false }
        );
        assert!(account.usable(after(59)).is_none());
        account.accepted(after(60));
        assert!(account.usable(after(60)).is_some());
        assert_eq!(
            account.refused(after(1000), false),
            Refusal::Wrong { news: true }
        );
    }

    #[test]
    fn right_ones_may_be_refused_for_one_repository() {
        let (account, now) = (
            Account::new(&credentials("me", "yes")).unwrap(),
            Instant::now(),
        );
        account.accepted(now);
        assert_eq!(
            account.refused(now + Duration::from_secs(299), false),
            Refusal::NotForThis
        );
        assert!(account.usable(now + Duration::from_secs(299)).is_some());
        let later = now + PROOF;
        assert_eq!(account.refused(later, true), Refusal::NotForThis);
        assert_eq!(account.refused(later, false), Refusal::Wrong { news: true });
        let never = Account::new(&credentials("me", "no")).unwrap();
        assert_eq!(never.refused(now, true), Refusal::Wrong { news: true });
    }

    #[test]
    fn right_ones_become_wrong_when_nothing_takes_them_any_more() {
        let (account, now) = (
            Account::new(&credentials("me", "old")).unwrap(),
            Instant::now(),
        );
        account.accepted(now);
        for _ in 1..DOUBTS {
            assert_eq!(account.refused(now, false), Refusal::NotForThis);
        }
        assert_eq!(account.refused(now, false), Refusal::Wrong { news: true });
        assert!(account.usable(now).is_none());
    }
}
