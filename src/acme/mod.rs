//! Certificates from an ACME authority such as Let's Encrypt: got, kept in a file, renewed.
//!
//! Owns the account, the one certificate for all configured names, and the answers by which the
//! authority sees that the names are ours: handshakes with the protocol `acme-tls/1` (RFC 8737).
//! Nobody else's handshake leads to an order: what is asked for is what the configuration names.
//! Knows nothing of HTTP's server; that shows what is [resolved](Acme) here.

mod cache;
mod order;
mod validity;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use url::Url;

use cache::Kept;
pub use validity::Validity;

/// The protocol of the handshakes with which an authority looks. RFC 8737 §6.2.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// How long to wait after a first failure, where the authority could not be asked, and where it
/// said no: authorities count the attempts of an hour.
const UNREACHABLE: Duration = Duration::from_secs(5);
const REFUSED: Duration = Duration::from_mins(2);

/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_hours(6);

/// How often the clock is looked at: a suspended machine's timers stand still.
const LOOK: Duration = Duration::from_hours(1);

/// Whom to ask for what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The names to be certified.
    pub hosts: Vec<String>,
    /// Where the authority writes to.
    pub email: Option<String>,
    /// The authority's directory. RFC 8555 §7.1.1.
    pub directory: Url,
    /// Where account, certificate and key are kept: a file, or a directory for it.
    pub cache: PathBuf,
}

/// The certificate in force, and those that answer challenges. Cheap to clone.
#[derive(Clone)]
pub struct Acme {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    current: RwLock<Option<Current>>,
    challenges: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    /// That there is no certificate yet has been said.
    missed: AtomicBool,
}

#[derive(Clone)]
struct Current {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The authority, or the way to it.
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    /// What it was to see.
    #[error("{0}")]
    Refused(String),
    /// What came is no certificate with its key.
    #[error("what came cannot be used: {0}")]
    Unusable(String),
    /// It cannot be asked at all.
    #[error("{0}")]
    Client(String),
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not what it holds: keys.
        f.debug_struct("Acme").finish_non_exhaustive()
    }
}

impl Acme {
    /// With the certificate that was kept, if there is one that can be used. Reads a file, and asks
    /// nobody.
    pub fn open(settings: Settings) -> Self {
        let kept = cache::read(&settings);
        let current = kept.as_ref().and_then(|kept| match usable(kept) {
            Ok(current) => current,
            Err(error) => {
                cache::complain(&settings, &error.to_string());
                None
            }
        });
        Self {
            inner: Arc::new(Inner {
                settings,
                current: RwLock::new(current),
                challenges: Mutex::default(),
                missed: AtomicBool::new(false),
            }),
        }
    }

    /// Gets the certificate where there is none, and renews it when two thirds of its life are
    /// over, until told to stop. Failures are logged, and tried again later and later.
    pub async fn keep(self, stop: CancellationToken) {
        stop.run_until_cancelled_owned(async move {
            let mut failures = 0;
            loop {
                self.due().await;
                match self.renew().await {
                    Ok(until) => {
                        failures = 0;
                        let until = humantime::format_rfc3339_seconds(until);
                        let hosts = self.inner.settings.hosts.join(", ");
                        tracing::info!(%until, "a certificate for {hosts} has been got");
                    }
                    Err(error) => {
                        let wait = pause(&error, failures);
                        failures += 1;
                        let directory = self.inner.settings.directory.as_str();
                        let again = humantime::format_duration(wait);
                        tracing::error!(
                            %error, directory,
                            "no certificate could be got: trying again in {again} (the authority must reach every one of http.tls.letsencrypt.hosts at port 443)"
                        );
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        })
        .await;
    }

    /// Waits until a certificate is wanted.
    async fn due(&self) {
        loop {
            let current = self.current();
            let Some(at) = current.map(|current| current.validity.renewal()) else {
                return;
            };
            let Ok(left) = at.duration_since(SystemTime::now()) else {
                return;
            };
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    /// Gets a certificate, keeps it, and shows it from now on. Says how long it holds.
    async fn renew(&self) -> Result<SystemTime, Failure> {
        let settings = self.inner.settings.clone();
        let reading = tokio::task::spawn_blocking(move || cache::read(&settings));
        let account = reading.await.ok().flatten().and_then(|kept| kept.account);
        let ordered = order::order(self, account).await;
        self.challenges().clear();
        let kept = ordered?;
        let current = usable(&kept)?;
        let current = current.ok_or_else(|| Failure::Unusable("it has expired".to_owned()))?;
        let until = current.validity.end;
        *self
            .inner
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(current);
        let settings = self.inner.settings.clone();
        // What fails is in the log: the certificate is shown all the same.
        _ = tokio::task::spawn_blocking(move || cache::write(&settings, &kept)).await;
        Ok(until)
    }

    fn current(&self) -> Option<Current> {
        let current = self.inner.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn challenges(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<CertifiedKey>>> {
        let challenges = self.inner.challenges.lock();
        challenges.unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Acme {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut protocols = hello.alpn().into_iter().flatten();
        if protocols.any(|protocol| protocol == PROTOCOL) {
            let name = hello.server_name()?;
            return self.challenges().get(name).cloned();
        }
        if let Some(current) = self.current() {
            return Some(current.key);
        }
        if !self.inner.missed.swap(true, Ordering::Relaxed) {
            tracing::warn!("there is no certificate yet: TLS connections fail until it is there");
        }
        None
    }
}

/// How long to wait after one more failure.
fn pause(error: &Failure, failures: u32) -> Duration {
    let unreachable = matches!(error, Failure::Authority(instant_acme::Error::Other(_)));
    let first = if unreachable { UNREACHABLE } else { REFUSED };
    first.saturating_mul(1 << failures.min(16)).min(LONGEST)
}

/// What is kept, ready to be shown; `None` where nothing is kept, or it has expired.
fn usable(kept: &Kept) -> Result<Option<Current>, Failure> {
    let Some(pair) = &kept.pair else {
        return Ok(None);
    };
    let unusable = |error: &dyn std::fmt::Display| Failure::Unusable(error.to_string());
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    let first = chain.first().ok_or_else(|| unusable(&"no certificate"))?;
    let validity = Validity::of(first).ok_or_else(|| unusable(&"no dates in it"))?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes());
    let key = key.map_err(|_| unusable(&"no private key"))?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    let key = Arc::new(key.map_err(|error| unusable(&error))?);
    Ok((validity.end > SystemTime::now()).then_some(Current { key, validity }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end() {
        let refused = Failure::Refused(String::new());
        let gone = Failure::Authority(instant_acme::Error::Other("gone".into()));
        assert_eq!(pause(&gone, 0), UNREACHABLE);
        assert_eq!(pause(&gone, 2), UNREACHABLE * 4);
        assert_eq!(pause(&refused, 1), REFUSED * 2);
        assert_eq!(pause(&refused, 1000), LONGEST);
    }
}
