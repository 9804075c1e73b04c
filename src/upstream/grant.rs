//! Grants: what is sent to be let in, kept for as long as it is good.
//!
//! A token is fetched once however many requests need it, and belongs to one repository. What a
//! token is, and who may be asked for one, is in `token`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moka::Expiry;
use moka::future::Cache;
use moka::ops::compute::Op;
use tokio::time::timeout;
use url::Url;

use super::challenge::{Bearer, Challenge};
use super::credentials::{Account, Refusal};
use super::error::UpstreamError;
use super::retry::{self, Gate};
use super::token::{Token, is_trusted, realm, token_url};
use super::transport::{Request, Transport};
use crate::oci::RepositoryName;

/// Docker Hub's answer has about 4 KB, ECR's tokens about 2.
const MAX_ANSWER: usize = 64 * 1024;
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
    /// Closed while the token service wants to be left alone.
    pub(super) gate: Gate,
    /// Held by whoever tries credentials that are not proven yet, so that wrong ones are tried once.
    proving: tokio::sync::Mutex<()>,
    warned: AtomicBool,
}

/// What a token service says to one request.
enum Reply {
    Granted(Grant),
    /// 401, or 403 if `forbidden`.
    Refused {
        forbidden: bool,
    },
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
            proving: tokio::sync::Mutex::default(),
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
                *self.met() = None;
                match error {
                    // Another realm may do better: nvcr.io's changes.
                    UpstreamError::Misbehaved { .. }
                    | UpstreamError::Failed { .. }
                    | UpstreamError::Unreachable { .. }
                    | UpstreamError::NotFound => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    fn met(&self) -> MutexGuard<'_, Option<(RepositoryName, Challenge)>> {
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
            self.note_refusal(false);
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
    pub(super) fn basic(&self) -> Result<Grant, UpstreamError> {
        let account = self.account.as_ref().ok_or(UpstreamError::Denied)?;
        let header = account
            .usable(Instant::now())
            .ok_or(UpstreamError::CredentialsRefused)?;
        Ok(Grant {
            header: header.clone(),
            kind: Kind::Basic,
        })
    }

    fn note_refusal(&self, forbidden: bool) {
        let Some(account) = &self.account else {
            return;
        };
        if account.refused(Instant::now(), forbidden) == (Refusal::Wrong { news: true }) {
            tracing::error!(
                "upstream {} refused its username and password: check them in the configuration; \
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
        let url = token_url(&realm, bearer, name);
        let asking = async {
            if let Some(account) = self.account_for(&realm)
                && let Some(grant) = self.fetch_for(account, transport, &url).await?
            {
                return Ok(grant);
            }
            match self.request(transport, url, None).await? {
                Reply::Granted(grant) => Ok(grant),
                Reply::Refused { .. } => Err(self.denied()),
            }
        };
        let fetched = timeout(transport.timeouts.token, asking).await;
        fetched.unwrap_or(Err(UpstreamError::Timeout {
            what: "no token from its token service",
        }))
    }

    /// A token for the account; `None` if it is refused, or was a moment ago.
    async fn fetch_for(
        &self,
        account: &Account,
        transport: &Transport,
        url: &Url,
    ) -> Result<Option<Grant>, UpstreamError> {
        let proving = if account.is_proven() {
            None
        } else {
            Some(self.proving.lock().await)
        };
        let Some(header) = account.usable(Instant::now()) else {
            return Ok(None);
        };
        let reply = self.request(transport, url.clone(), Some(header)).await?;
        let granted = match reply {
            Reply::Granted(grant) => {
                account.accepted(Instant::now());
                Some(grant)
            }
            Reply::Refused { forbidden } => {
                self.note_refusal(forbidden);
                None
            }
        };
        drop(proving);
        Ok(granted)
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

    async fn request(
        &self,
        transport: &Transport,
        url: Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, UpstreamError> {
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
            return Ok(Reply::Refused {
                forbidden: status == StatusCode::FORBIDDEN,
            });
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
        let kind = Kind::Token {
            lifetime,
            of: Arc::default(),
        };
        Ok(Reply::Granted(Grant {
            header: token.header,
            kind,
        }))
    }
}
