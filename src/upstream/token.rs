//! Tokens: from a challenge to the `Authorization` header that meets it.
//!
//! The realm of a challenge is the upstream's choice, so it does not decide where the password
//! goes (CVE-2026-33540): that is for the configuration, and elsewhere tokens are asked for
//! anonymously. A token is fetched once however many requests need it, and belongs to one
//! repository. Distribution, "Token Authentication Specification".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method};
use moka::Expiry;
use moka::future::Cache;
use moka::ops::compute::Op;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use super::challenge::{Bearer, Challenge};
use super::credentials::{Account, Refusal, secret};
use super::error::UpstreamError;
use super::retry::{self, Gate};
use super::transport::{Request, Transport};
use crate::oci::RepositoryName;

/// Docker Hub's answer has about 4 KB, ECR's tokens about 2.
const MAX_ANSWER: usize = 64 * 1024;
/// The specification's default.
const UNSAID_LIFETIME: f64 = 60.0;
/// Nobody's token lives longer, and clocks of long-running processes are not to be trusted.
const MAX_LIFETIME: f64 = 86_400.0;
/// Tokens are fetched anew when this much of their life is over.
const USABLE: f64 = 0.8;
/// Enough for every repository of a busy mirror; a token has up to 4 KB.
const MAX_TOKENS: u64 = 2000;

/// What meets a challenge. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// The `Authorization` header.
    pub(super) header: HeaderValue,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// `of` is what tells a token from the one that replaced it.
    Token {
        lifetime: Duration,
        of: Arc<()>,
    },
    Basic,
}

impl Grant {
    fn is(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Token { of, .. }, Kind::Token { of: other, .. }) => Arc::ptr_eq(of, other),
            _ => false,
        }
    }
}

/// One upstream's tokens, and the account that gets them.
#[derive(Debug)]
pub(super) struct Tokens {
    /// For the log.
    name: String,
    /// The upstream's own address.
    url: Url,
    account: Option<Account>,
    hosts: Vec<String>,
    cache: Cache<RepositoryName, Grant>,
    /// The last challenge that was met, and for which repository: the next repository is likely
    /// to need the same, and saves a round trip.
    met: Mutex<Option<(RepositoryName, Challenge)>>,
    gate: Gate,
    warned: AtomicBool,
}

struct Lifetime;

impl Expiry<RepositoryName, Grant> for Lifetime {
    fn expire_after_create(
        &self,
        _: &RepositoryName,
        grant: &Grant,
        _: Instant,
    ) -> Option<Duration> {
        match grant.kind {
            Kind::Token { lifetime, .. } => Some(lifetime),
            Kind::Basic => Some(Duration::ZERO),
        }
    }

    fn expire_after_update(
        &self,
        name: &RepositoryName,
        grant: &Grant,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(name, grant, now)
    }
}

impl Tokens {
    pub(super) fn new(
        name: String,
        url: Url,
        account: Option<Account>,
        hosts: Vec<String>,
    ) -> Self {
        let cache = Cache::builder()
            .max_capacity(MAX_TOKENS)
            .expire_after(Lifetime)
            .build();
        Self {
            name,
            url,
            account,
            hosts,
            cache,
            met: Mutex::default(),
            gate: Gate::default(),
            warned: AtomicBool::new(false),
        }
    }

    /// What is likely to be let in for this repository, before it was asked.
    pub(super) async fn likely(
        &self,
        transport: &Transport,
        name: &RepositoryName,
    ) -> Result<Option<Grant>, UpstreamError> {
        if let Some(grant) = self.cache.get(name).await {
            return Ok(Some(grant));
        }
        let met = self.met().clone();
        let Some((for_name, challenge)) = met else {
            return Ok(None);
        };
        match self
            .grant(transport, name, &challenge.adapted(&for_name, name))
            .await
        {
            Ok(grant) => Ok(Some(grant)),
            Err(error) => {
                // nvcr.io's realm changes: what was met once need not be what is asked for now.
                *self.met() = None;
                match error {
                    UpstreamError::Timeout { .. }
                    | UpstreamError::Unreachable { .. }
                    | UpstreamError::RateLimited { .. }
                    | UpstreamError::Failed { .. } => Err(error),
                    _ => Ok(None),
                }
            }
        }
    }

    fn met(&self) -> std::sync::MutexGuard<'_, Option<(RepositoryName, Challenge)>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Meets a challenge.
    pub(super) async fn grant(
        &self,
        transport: &Transport,
        name: &RepositoryName,
        challenge: &Challenge,
    ) -> Result<Grant, UpstreamError> {
        let grant = match challenge {
            Challenge::Basic => self.basic()?,
            Challenge::Bearer(bearer) => {
                let fetching = self.fetch(transport, name, bearer);
                let fetched = self.cache.try_get_with_by_ref(name, fetching).await;
                fetched.map_err(|error| (*error).clone())?
            }
        };
        *self.met() = Some((name.clone(), challenge.clone()));
        Ok(grant)
    }

    /// Takes note that a grant was good for nothing: drops that very token, not the one that
    /// another request has fetched since. Says what to tell whoever asked.
    pub(super) async fn forget(&self, name: &RepositoryName, grant: &Grant) -> UpstreamError {
        if let Kind::Basic = grant.kind {
            *self.met() = None;
            self.note_refusal();
        }
        let dropping = self.cache.entry_by_ref(name).and_compute_with(|entry| {
            let same = entry.is_some_and(|entry| entry.value().is(grant));
            std::future::ready(if same { Op::Remove } else { Op::Nop })
        });
        dropping.await;
        self.denied()
    }

    /// Why somebody is not let in: our credentials, if they are known to be wrong.
    pub(super) fn denied(&self) -> UpstreamError {
        match &self.account {
            Some(account) if account.is_refused(Instant::now()) => {
                UpstreamError::CredentialsRefused
            }
            _ => UpstreamError::Denied,
        }
    }

    /// The registry took what it was given.
    pub(super) fn worked(&self, grant: &Grant) {
        if let (Kind::Basic, Some(account)) = (&grant.kind, &self.account) {
            account.accepted(Instant::now());
        }
    }

    /// Basic is only ever asked for at home: credentials in hand, they are what to send.
    fn basic(&self) -> Result<Grant, UpstreamError> {
        let account = self.account.as_ref().ok_or(UpstreamError::Denied)?;
        let header = account
            .usable(Instant::now())
            .ok_or(UpstreamError::CredentialsRefused)?;
        Ok(Grant {
            header: header.clone(),
            kind: Kind::Basic,
        })
    }

    fn note_refusal(&self) {
        let Some(account) = &self.account else {
            return;
        };
        if account.refused(Instant::now()) == (Refusal::Wrong { news: true }) {
            tracing::error!(
                "upstream {} refused its username and password: check them in config.yml; \
                 continuing anonymously",
                self.name
            );
        }
    }

    async fn fetch(
        &self,
        transport: &Transport,
        name: &RepositoryName,
        bearer: &Bearer,
    ) -> Result<Grant, UpstreamError> {
        let realm = realm(bearer)?;
        transport.check_hop(&self.url, &realm)?;
        let asking = async {
            let url = token_url(&realm, bearer, name);
            if let Some(account) = self.account_for(&realm)
                && let Some(header) = account.usable(Instant::now())
            {
                match self.request(transport, url.clone(), Some(header)).await {
                    Err(UpstreamError::Denied) => self.note_refusal(),
                    answer => {
                        if answer.is_ok() {
                            account.accepted(Instant::now());
                        }
                        return answer;
                    }
                }
            }
            match self.request(transport, url, None).await {
                Err(UpstreamError::Denied) => Err(self.denied()),
                answer => answer,
            }
        };
        let fetched = timeout(transport.timeouts.token, asking).await;
        fetched.unwrap_or(Err(UpstreamError::Timeout {
            what: "no token from its token service",
        }))
    }

    /// The account, where the token service may see it.
    fn account_for(&self, realm: &Url) -> Option<&Account> {
        let account = self.account.as_ref()?;
        if is_trusted(realm, &self.url, &self.hosts) {
            return Some(account);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "upstream {} has its token service at {}, which is not one of its tokenhosts: it \
                 gets no username and password",
                self.name,
                realm.host_str().unwrap_or_default(),
            );
        }
        None
    }

    /// [`UpstreamError::Denied`] here means 401 or 403 from the token service.
    async fn request(
        &self,
        transport: &Transport,
        url: Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Grant, UpstreamError> {
        let asked = Instant::now();
        let request = Request {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            authorization,
        };
        let answer = retry::send(transport, &request, &self.gate, retry::TRIES).await?;
        let status = answer.status();
        if retry::is_refusal(status) {
            answer.discard().await;
            return Err(UpstreamError::Denied);
        }
        if !status.is_success() {
            return Err(UpstreamError::Failed {
                status: status.as_u16(),
            });
        }
        answer.check_content()?;
        let body = answer.bytes(MAX_ANSWER, transport.timeouts.idle).await?;
        let token = Token::parse(&body)?;
        let lifetime = token.usable().saturating_sub(asked.elapsed());
        Ok(Grant {
            header: token.header,
            kind: Kind::Token {
                lifetime,
                of: Arc::default(),
            },
        })
    }
}

impl Challenge {
    /// The same challenge for another repository.
    fn adapted(&self, from: &RepositoryName, to: &RepositoryName) -> Self {
        let Self::Bearer(bearer) = self else {
            return self.clone();
        };
        let (from, to) = (format!("repository:{from}:"), format!("repository:{to}:"));
        let scope = bearer.scope.as_ref().map(|scope| scope.replace(&from, &to));
        Self::Bearer(Bearer {
            scope,
            ..bearer.clone()
        })
    }
}

fn realm(bearer: &Bearer) -> Result<Url, UpstreamError> {
    let mut url = Url::parse(&bearer.realm)
        .map_err(|_| UpstreamError::misbehaved("the realm of its challenge is no address"))?;
    url.set_fragment(None);
    Ok(url)
}

/// Whether a token service may see the upstream's credentials: at the upstream's own host and
/// port, or at a host that the configuration names; there at the scheme's own port, unless it
/// names another. That the scheme is not downgraded was checked before.
fn is_trusted(realm: &Url, upstream: &Url, hosts: &[String]) -> bool {
    let (Some(host), Some(port)) = (realm.host_str(), realm.port_or_known_default()) else {
        return false;
    };
    let at_home =
        upstream.host_str() == Some(host) && upstream.port_or_known_default() == Some(port);
    at_home
        || hosts.iter().any(|trusted| {
            let trusted = trusted.to_ascii_lowercase();
            trusted == format!("{host}:{port}") || (realm.port().is_none() && trusted == host)
        })
}

fn token_url(realm: &Url, bearer: &Bearer, name: &RepositoryName) -> Url {
    let mut url = realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = &bearer.service {
        query.append_pair("service", service);
    }
    let default = format!("repository:{name}:pull");
    // A list of scopes is a parameter for each, as all clients do it.
    for scope in bearer
        .scope
        .as_ref()
        .unwrap_or(&default)
        .split_ascii_whitespace()
    {
        query.append_pair("scope", scope);
    }
    drop(query);
    url
}

/// A token as it came.
struct Token {
    header: HeaderValue,
    seconds: f64,
}

impl Token {
    fn parse(body: &[u8]) -> Result<Self, UpstreamError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<serde_json::Value>,
        }
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|_| UpstreamError::misbehaved("its token service answers with no JSON"))?;
        let token = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or_else(|| {
                UpstreamError::misbehaved("its token service answers without a token")
            })?;
        let header = secret(HeaderValue::from_str(&format!("Bearer {token}")))
            .ok_or_else(|| UpstreamError::misbehaved("its token cannot be sent"))?;
        let seconds = answer.expires_in.and_then(|value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        });
        Ok(Self {
            header,
            seconds: seconds.unwrap_or(UNSAID_LIFETIME),
        })
    }

    /// How long it is used, by our own clock: servers' `issued_at` is by theirs.
    fn usable(&self) -> Duration {
        let seconds = self.seconds.clamp(0.0, MAX_LIFETIME) * USABLE;
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn bearer(service: Option<&str>, scope: Option<&str>) -> Bearer {
        Bearer {
            realm: "https://auth.example.com/token?x=1#y".to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn credentials_go_home_or_where_the_configuration_says() {
        let upstream = url("https://registry.example.com");
        let hosts = [
            "auth.example.com".to_owned(),
            "Other.example.com:8443".to_owned(),
        ];
        for realm in [
            "https://registry.example.com/token",
            "https://registry.example.com:443/token",
            "https://auth.example.com/token",
            "https://auth.example.com:443/t",
            "https://other.example.com:8443/t",
            "https://AUTH.example.com/t",
        ] {
            assert!(is_trusted(&url(realm), &upstream, &hosts), "{realm}");
        }
        for realm in [
            "https://registry.example.com:444/token",
            "https://registry.example.com.evil.org/token",
            "https://evil.org/registry.example.com",
            "https://auth.example.com./token",
            "https://auth.example.com:8443/token",
            "https://other.example.com/token",
            "https://\u{430}uth.example.com/token",
            "https://1.2.3.4/token",
            "file:///etc/passwd",
            "https://example.com/token",
            "https://sub.auth.example.com/",
        ] {
            assert!(!is_trusted(&url(realm), &upstream, &hosts), "{realm}");
        }
    }

    #[test]
    fn a_token_is_asked_for_as_the_challenge_says() {
        let name = "library/x".parse().unwrap();
        let asked = |bearer: &Bearer| token_url(&realm(bearer).unwrap(), bearer, &name).to_string();
        assert_eq!(
            asked(&bearer(Some("a b"), Some("repository:library/x:pull"))),
            "https://auth.example.com/token?x=1&service=a+b&scope=repository%3Alibrary%2Fx%3Apull"
        );
        assert_eq!(
            asked(&bearer(None, None)),
            "https://auth.example.com/token?x=1&scope=repository%3Alibrary%2Fx%3Apull"
        );
        assert_eq!(
            asked(&bearer(None, Some("aws  b"))),
            "https://auth.example.com/token?x=1&scope=aws&scope=b"
        );
    }

    #[test]
    fn a_challenge_is_adapted_to_another_repository() {
        let (one, two) = ("a/one".parse().unwrap(), "two".parse().unwrap());
        let scope = |scope: &str| Challenge::Bearer(bearer(None, Some(scope)));
        assert_eq!(
            scope("repository:a/one:pull,push").adapted(&one, &two),
            scope("repository:two:pull,push")
        );
        assert_eq!(scope("aws").adapted(&one, &two), scope("aws"));
        assert_eq!(Challenge::Basic.adapted(&one, &two), Challenge::Basic);
    }

    #[test]
    fn answers_of_token_services_are_read() {
        for (body, token, seconds) in [
            (
                r#"{"token":"a","access_token":"b","expires_in":300,"issued_at":"x"}"#,
                "a",
                240,
            ),
            (r#"{"access_token":"b"}"#, "b", 48),
            (
                r#"{"token":"","access_token":"b","expires_in":"50"}"#,
                "b",
                40,
            ),
            (
                r#"{"token":"a","access_token":null,"expires_in":10.0}"#,
                "a",
                8,
            ),
            (r#"{"token":"a","expires_in":-5}"#, "a", 0),
            (r#"{"token":"a","expires_in":1e300}"#, "a", 69_120),
            (r#"{"token":"a","expires_in":null}"#, "a", 48),
            (r#"{"token":"a","expires_in":[]}"#, "a", 48),
        ] {
            let read = Token::parse(body.as_bytes()).unwrap();
            assert_eq!(read.header, format!("Bearer {token}"), "{body}");
            assert!(read.header.is_sensitive());
            assert_eq!(read.usable().as_secs(), seconds, "{body}");
        }
        for body in [
            "",
            "{}",
            "[]",
            r#"{"token":5}"#,
            r#"{"token":"a\nb"}"#,
            r#"{"token":""}"#,
            "<html>",
        ] {
            assert!(
                matches!(
                    Token::parse(body.as_bytes()),
                    Err(UpstreamError::Misbehaved { .. })
                ),
                "{body}"
            );
        }
    }
}
