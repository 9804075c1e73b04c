//! Verifying passwords: slow on purpose, so never on the event loop and never without bound.
//!
//! docker sends its password with every request, so what was verified is remembered for a while, and
//! what was refused for a moment. Neither the password nor anything to guess it by is kept: the key is
//! a keyed hash over the name, the password and the line that it was compared with, with a key that
//! lives and dies with the process. A line that changes is another key.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::error::{AccessError, Unidentified};
use super::htpasswd::Users;

/// For so long a right password is not hashed again.
const RIGHT_FOR: Duration = Duration::from_mins(5);
/// For so long a wrong one is not: a client that repeats itself costs nothing.
const WRONG_FOR: Duration = Duration::from_secs(10);
/// So many passwords may be verified or wait for it; the next one is told to come again.
const QUEUE: usize = 64;
/// So many answers are remembered.
const REMEMBERED: u64 = 10_000;

type Fingerprint = [u8; 32];

/// What verifies.
pub(super) struct Passwords {
    key: hmac::Key,
    /// Whether the password was right. Who asks while it is being found out waits for that.
    known: Cache<Fingerprint, bool>,
    queue: Arc<Semaphore>,
    processors: Arc<Semaphore>,
}

struct Lifetimes;

impl Expiry<Fingerprint, bool> for Lifetimes {
    fn expire_after_create(&self, _: &Fingerprint, right: &bool, _: Instant) -> Option<Duration> {
        Some(if *right { RIGHT_FOR } else { WRONG_FOR })
    }
}

impl Passwords {
    pub(super) fn new() -> Result<Self, AccessError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        // Half of the processors stay for those who are let in already.
        let all = thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self::with(
            key.map_err(|_| AccessError::Random)?,
            (all / 2).max(1),
        ))
    }

    fn with(key: hmac::Key, processors: usize) -> Self {
        Self {
            key,
            known: Cache::builder()
                .max_capacity(REMEMBERED)
                .expire_after(Lifetimes)
                .build(),
            queue: Arc::new(Semaphore::new(QUEUE)),
            processors: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Whether that is the password of that user.
    ///
    /// An unknown user's is hashed just the same, at the cost that most users have.
    pub(super) async fn verify(
        &self,
        name: &str,
        password: Vec<u8>,
        users: &Users,
    ) -> Result<bool, Unidentified> {
        let stored = users.hash(name);
        let hash = stored.map_or_else(|| users.nobodys_hash(), str::to_owned);
        // To bcrypt a NUL is the end of a password, so that one after it would go unseen. RFC 7617
        // forbids them, and no program makes a hash of one.
        let possible = stored.is_some() && !password.contains(&0);
        let fingerprint = self.fingerprint(name, &password, stored);
        let known = self.known.try_get_with(fingerprint, async {
            let matches = self.hash(password, hash).await?;
            Ok::<_, Unidentified>(matches && possible)
        });
        known.await.map_err(|error| *error)
    }

    async fn hash(&self, password: Vec<u8>, hash: String) -> Result<bool, Unidentified> {
        let place = Arc::clone(&self.queue).try_acquire_owned();
        let place = place.map_err(|_| Unidentified::TooBusy)?;
        let turn = Arc::clone(&self.processors).acquire_owned().await;
        let turn = turn.map_err(|_| Unidentified::Broken)?;
        // Whoever hangs up does not make room for the next one before the work is done.
        let work = move || {
            let _held = (place, turn);
            bcrypt::verify(password, &hash)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(matches)) => Ok(matches),
            Ok(Err(error)) => {
                tracing::error!("cannot verify a password: {error}");
                Err(Unidentified::Broken)
            }
            Err(error) => {
                tracing::error!("cannot verify a password: {error}");
                Err(Unidentified::Broken)
            }
        }
    }

    fn fingerprint(&self, name: &str, password: &[u8], stored: Option<&str>) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [
            name.as_bytes(),
            password,
            stored.unwrap_or_default().as_bytes(),
        ] {
            // The length keeps `a` + `bc` from being `ab` + `c`.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::super::htpasswd;
    use super::*;
    use futures_util::future::join_all;

    fn users(password: &[u8], cost: u32) -> Users {
        let hash = bcrypt::hash(password, cost).unwrap();
        htpasswd::parse(format!("ann:{hash}").as_bytes()).0
    }

    fn passwords() -> Passwords {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Passwords::with(key.unwrap(), 1)
    }

    #[tokio::test]
    async fn a_password_is_right_or_wrong() {
        let (passwords, users) = (passwords(), users(b"secret", 4));
        let verify = |name, password: &[u8]| passwords.verify(name, password.to_vec(), &users);
        // Twice: the second time from memory.
        for _ in 0..2 {
            assert_eq!(verify("ann", b"secret").await, Ok(true));
            assert_eq!(verify("ann", b"Secret").await, Ok(false));
            assert_eq!(verify("ann", b"").await, Ok(false));
            assert_eq!(verify("bob", b"secret").await, Ok(false));
            assert_eq!(verify("", b"secret").await, Ok(false));
        }
    }

    #[tokio::test]
    async fn long_passwords_and_odd_bytes_are_taken_as_bcrypt_takes_them() {
        let long = [b'x'; 100];
        let (passwords, users) = (passwords(), users(&long, 4));
        let verify = |password: &[u8]| passwords.verify("ann", password.to_vec(), &users);
        assert_eq!(verify(&long).await, Ok(true));
        assert_eq!(verify(&long[..72]).await, Ok(true), "only 72 bytes count");
        assert_eq!(verify(&long[..71]).await, Ok(false));
        assert_eq!(verify(&vec![b'x'; 1 << 16]).await, Ok(true));
        assert_eq!(verify(&[0xff; 100]).await, Ok(false));
        let users = super::tests::users(b"a", 4);
        let verify = |password: &[u8]| passwords.verify("ann", password.to_vec(), &users);
        assert_eq!(verify(b"a").await, Ok(true));
        // To bcrypt itself these are the same password.
        assert_eq!(verify(b"a\0a").await, Ok(false));
        assert_eq!(verify(b"a\0").await, Ok(false));
    }

    #[tokio::test]
    async fn a_changed_line_is_out_at_once() {
        let passwords = passwords();
        let (old, new) = (users(b"old", 4), users(b"new", 4));
        assert_eq!(
            passwords.verify("ann", b"old".to_vec(), &old).await,
            Ok(true)
        );
        assert_eq!(
            passwords.verify("ann", b"new".to_vec(), &old).await,
            Ok(false)
        );
        assert_eq!(
            passwords.verify("ann", b"old".to_vec(), &new).await,
            Ok(false)
        );
        assert_eq!(
            passwords.verify("ann", b"new".to_vec(), &new).await,
            Ok(true)
        );
        let none = Users::default();
        assert_eq!(
            passwords.verify("ann", b"new".to_vec(), &none).await,
            Ok(false)
        );
    }

    #[tokio::test]
    async fn one_password_is_hashed_once_and_too_many_are_refused() {
        let (passwords, users) = (passwords(), users(b"secret", 4));
        let same = (0..3 * QUEUE).map(|_| passwords.verify("ann", b"secret".to_vec(), &users));
        let same = join_all(same).await;
        assert!(same.iter().all(|verdict| *verdict == Ok(true)));

        let turn = Arc::clone(&passwords.processors).acquire_owned().await;
        let others = (0..2 * QUEUE).map(|i| passwords.verify("ann", vec![b'a'; i + 1], &users));
        let known = async {
            // What is remembered needs no turn.
            assert_eq!(
                passwords.verify("ann", b"secret".to_vec(), &users).await,
                Ok(true)
            );
            drop(turn);
        };
        let (others, ()) = futures_util::future::join(join_all(others), known).await;
        let refused = others
            .iter()
            .filter(|it| **it == Err(Unidentified::TooBusy))
            .count();
        assert_eq!(refused, QUEUE);
        assert_eq!(passwords.queue.available_permits(), QUEUE);
        // And being refused is not remembered.
        assert_eq!(
            passwords.verify("ann", vec![b'a'; 2 * QUEUE], &users).await,
            Ok(false)
        );
    }

    #[tokio::test]
    async fn an_unknown_user_is_as_slow_as_a_wrong_password() {
        const SAMPLES: usize = 200;
        let (passwords, users) = (passwords(), users(b"secret", 6));
        let mut times = [Vec::new(), Vec::new()];
        for i in 0..SAMPLES {
            for (name, times) in ["ann", "bob"].into_iter().zip(&mut times) {
                let password = format!("{i}").into_bytes();
                let start = Instant::now();
                assert_eq!(passwords.verify(name, password, &users).await, Ok(false));
                times.push(start.elapsed());
            }
        }
        // The shortest: what else the machine does only ever adds to a time.
        let shortest = |times: Vec<Duration>| times.into_iter().min().unwrap_or_default();
        let [known, unknown] = times.map(|times| shortest(times).as_secs_f64());
        assert!(
            (unknown / known - 1.0).abs() < 0.05,
            "known {known}, unknown {unknown}"
        );
    }
}
