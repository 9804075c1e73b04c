//! Tokens of our own, for registries that anybody may pull from and some may push to.
//!
//! A token is opaque to clients: a version, when it was issued, which line of the htpasswd file its
//! user had, the user's name, and an HMAC over all that. It lives for five minutes, and less if the
//! line changes or goes.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use serde::Serialize;

use super::error::AccessError;

/// How long a token is good. dockerd takes a shorter life than a minute for a minute.
pub(super) const LIFETIME: Duration = Duration::from_mins(5);
/// By so much the clock of another larder with the same secret may be ahead.
const LEEWAY: u64 = 60;

const VERSION: u8 = 1;
const TAG: usize = 32;
const HEAD: usize = 1 + 8 + LINE;
const LINE: usize = 16;
/// Longer ones are not looked at.
const LONGEST: usize = 4096;

/// What is left of a user's line when nothing can be learnt from it any more.
pub(super) type Line = [u8; LINE];

/// The body of a token endpoint's answer. Distribution, "Token Authentication Specification".
#[derive(Clone, Serialize)]
pub struct Token {
    /// What to send as `Authorization: Bearer`.
    pub token: String,
    /// The same: OAuth 2 calls it so.
    pub access_token: String,
    /// Seconds from `issued_at` on.
    pub expires_in: u64,
    /// RFC 3339, in UTC.
    pub issued_at: String,
}

impl Token {
    pub(super) fn new(token: String, now: SystemTime, lifetime: Duration) -> Self {
        Self {
            access_token: token.clone(),
            token,
            expires_in: lifetime.as_secs(),
            issued_at: humantime::format_rfc3339_seconds(now).to_string(),
        }
    }
}

/// Without the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires_in", &self.expires_in)
            .field("issued_at", &self.issued_at)
            .finish_non_exhaustive()
    }
}

/// What a good token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) name: String,
    pub(super) line: Line,
    /// In seconds since 1970.
    pub(super) issued: u64,
}

/// Makes tokens and knows them again.
pub(super) struct Mint {
    tokens: hmac::Key,
    lines: hmac::Key,
}

impl Mint {
    /// With a secret, tokens outlive a restart and count at every larder that has it.
    pub(super) fn new(secret: Option<&str>) -> Result<Self, AccessError> {
        let root = match secret.filter(|secret| !secret.is_empty()) {
            Some(secret) => hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            None => hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .map_err(|_| AccessError::Random)?,
        };
        // A key for each purpose: the secret serves others too.
        let derived = |purpose: &[u8]| {
            let key = hmac::sign(&root, purpose);
            hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
        };
        Ok(Self {
            tokens: derived(b"larder: tokens"),
            lines: derived(b"larder: lines of a htpasswd file"),
        })
    }

    /// What tells this line from the one that comes after it.
    pub(super) fn line(&self, name: &str, hash: &str) -> Line {
        // No name has a colon.
        let tag = hmac::sign(&self.lines, format!("{name}:{hash}").as_bytes());
        let mut line = Line::default();
        line.copy_from_slice(&tag.as_ref()[..LINE]);
        line
    }

    /// A token, which ends when one that was issued at `since` does.
    pub(super) fn issue(
        &self,
        name: &str,
        line: Line,
        since: Option<u64>,
        now: SystemTime,
    ) -> Token {
        let now_seconds = seconds(now);
        let issued = since.unwrap_or(now_seconds);
        let mut bytes = vec![VERSION];
        bytes.extend(issued.to_be_bytes());
        bytes.extend(line);
        bytes.extend(name.as_bytes());
        let tag = hmac::sign(&self.tokens, &bytes);
        bytes.extend(tag.as_ref());
        let end = issued.saturating_add(LIFETIME.as_secs());
        let left = end.saturating_sub(now_seconds).clamp(1, LIFETIME.as_secs());
        Token::new(
            URL_SAFE_NO_PAD.encode(bytes),
            now,
            Duration::from_secs(left),
        )
    }

    /// What a token says; `None` if it is not of ours, or too old.
    pub(super) fn open(&self, token: &str, now: SystemTime) -> Option<Pass> {
        if token.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (content, tag) = bytes.split_last_chunk::<TAG>()?;
        // In constant time.
        hmac::verify(&self.tokens, content, tag).ok()?;
        let (head, name) = content.split_first_chunk::<HEAD>()?;
        let (version, head) = head.split_first()?;
        let (issued, line) = head.split_first_chunk::<8>()?;
        let pass = Pass {
            name: str::from_utf8(name).ok()?.to_owned(),
            line: line.try_into().ok()?,
            issued: u64::from_be_bytes(*issued),
        };
        let now = seconds(now);
        let begun = pass.issued <= now.saturating_add(LEEWAY);
        let ended = now >= pass.issued.saturating_add(LIFETIME.as_secs());
        (*version == VERSION && begun && !ended).then_some(pass)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_says_who_for_five_minutes() {
        let mint = Mint::new(None).unwrap();
        let line = mint.line("ann", "hash");
        let token = mint.issue("ann", line, None, at(1_000_000));
        assert_eq!(token.expires_in, 300);
        assert_eq!(token.issued_at, "1970-01-12T13:46:40Z");
        let pass = Pass {
            name: "ann".to_owned(),
            line,
            issued: 1_000_000,
        };
        for (now, good) in [
            (1_000_000, true),
            (1_000_299, true),
            (1_000_300, false),
            (999_940, true),
            (999_939, false),
            (0, false),
        ] {
            let opened = mint.open(&token.token, at(now));
            assert_eq!(opened.as_ref() == Some(&pass), good, "{now}");
        }
    }

    #[test]
    fn a_token_for_a_token_does_not_live_longer() {
        let mint = Mint::new(None).unwrap();
        let token = mint.issue("ann", [7; LINE], Some(1000), at(1200));
        assert_eq!(token.expires_in, 100);
        assert!(mint.open(&token.token, at(1299)).is_some());
        assert!(mint.open(&token.token, at(1300)).is_none());
    }

    #[test]
    fn a_secret_is_shared_and_its_absence_is_not() {
        let mint = |secret| Mint::new(secret).unwrap();
        let token = mint(Some("s")).issue("ann", [0; LINE], None, at(0)).token;
        assert!(mint(Some("s")).open(&token, at(0)).is_some());
        assert!(mint(Some("t")).open(&token, at(0)).is_none());
        assert!(mint(None).open(&token, at(0)).is_none());
        let token = mint(Some("")).issue("ann", [0; LINE], None, at(0)).token;
        assert!(
            mint(Some("")).open(&token, at(0)).is_none(),
            "an empty secret is none"
        );
        assert_eq!(
            mint(Some("s")).line("a", "b"),
            mint(Some("s")).line("a", "b")
        );
        assert_ne!(
            mint(Some("s")).line("a", "b"),
            mint(Some("s")).line("a", "c")
        );
    }

    #[test]
    fn every_changed_bit_makes_it_worthless() {
        let mint = Mint::new(None).unwrap();
        let token = mint.issue("ann", [1; LINE], None, at(9)).token;
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at_byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at_byte] ^= 1 << bit;
                assert!(
                    mint.open(&URL_SAFE_NO_PAD.encode(&changed), at(9))
                        .is_none()
                );
            }
            assert!(
                mint.open(&URL_SAFE_NO_PAD.encode(&bytes[..at_byte]), at(9))
                    .is_none()
            );
        }
        assert!(mint.open(&token, at(9)).is_some());
    }

    #[test]
    fn it_is_not_shown() {
        let token = Mint::new(None)
            .unwrap()
            .issue("ann", [1; LINE], None, at(9));
        assert!(!format!("{token:?}").contains(&token.token));
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name: String, issued in 0..1_u64 << 37) {
            let mint = Mint::new(Some("secret")).unwrap();
            prop_assume!(name.len() < 2000);
            let token = mint.issue(&name, [3; LINE], None, at(issued));
            prop_assert_eq!(mint.open(&token.token, at(issued)).unwrap().name, name);
        }

        #[test]
        fn any_text_is_no_token(text in "[A-Za-z0-9_-]{0,200}|\\PC*") {
            let mint = Mint::new(Some("secret")).unwrap();
            prop_assert_eq!(mint.open(&text, at(0)), None);
        }
    }
}
