//! Asking one upstream's registry: who we are, and what its answers mean.
//!
//! Everything here is read-only and may be repeated. How an answer's body is used is for
//! `manifest`, `blob` and `tags`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::availability::{Availability, Ending, Presence, Turn};
use super::budget::Budget;
use super::challenge::{self, Challenge};
use super::credentials::Account;
use super::error::{SetupError, UpstreamError};
use super::grant::{Grant, Tokens};
use super::retry::{self, ByKind, Gate};
use super::settings::{Settings, Timeouts};
use super::tls;
use super::transport::{Answer, Request, Transport};
use crate::metrics::Kind;
use crate::oci::{Digest, RepositoryName};

/// One upstream.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    /// Who we are to it, and where it is: other limits hold for another account.
    pub(super) asker: String,
    url: Url,
    /// Whose images it is asked for, if it is a mirror that is told so: `docker.io`.
    pub(super) namespace: Option<String>,
    pub(super) transport: Transport,
    pub(super) availability: Arc<Availability>,
    pub(super) tokens: Tokens,
    /// Docker Hub's pull limit is about manifests; blobs stay free, and the other way round.
    manifests: Gate,
    blobs: Gate,
    /// ECR Public answers no `HEAD` of a blob, whoever asks: not worth two tokens each time.
    pub(super) refuses_blob_heads: AtomicBool,
}

/// What a request is for, which decides the limit it is under.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    /// Manifests and tags.
    Manifests,
    Blobs,
}

/// One request to the registry.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    repository: &'a RepositoryName,
    subject: Subject,
    method: Method,
    url: Url,
    headers: HeaderMap,
    /// How often it is sent while the upstream fails it.
    pub(super) tries: u32,
    /// Goes on with what was begun: sent even if the upstream seems to be down.
    pub(super) insistent: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn new(
        subject: Subject,
        method: Method,
        repository: &'a RepositoryName,
        url: Url,
    ) -> Self {
        Self {
            repository,
            subject,
            method,
            url,
            headers: HeaderMap::new(),
            tries: retry::TRIES,
            insistent: false,
        }
    }

    #[must_use]
    pub(super) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// `first` to the end, or to `last`.
    #[must_use]
    pub(super) fn range(self, first: u64, last: Option<u64>) -> Self {
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        match HeaderValue::try_from(format!("bytes={first}-{last}")) {
            Ok(range) => self.header(RANGE, range),
            Err(_) => self,
        }
    }
}

impl Client {
    /// Touches the disk (the CA file) and no network.
    pub(super) fn new(settings: Settings, timeouts: Timeouts) -> Result<Self, SetupError> {
        let url = base(settings.url)?;
        let username = settings.credentials.as_ref().map(|it| it.username.as_str());
        let asker = Digest::of(format!("{url}\n{}", username.unwrap_or_default()).as_bytes());
        let account = settings
            .credentials
            .as_ref()
            .map(Account::new)
            .transpose()?;
        let authorities = match settings.ca {
            None => Vec::new(),
            Some(path) => tls::read_ca(&path).map_err(|reason| SetupError::Ca { path, reason })?,
        };
        let name = settings.name.clone();
        let availability = Arc::new(Availability::new(name.clone()));
        let watched = Arc::clone(&availability);
        Ok(Self {
            transport: Transport::new(watched, name, &url, authorities, timeouts),
            availability,
            tokens: Tokens::new(
                settings.name.clone(),
                url.clone(),
                account,
                settings.token_hosts,
            ),
            name: settings.name,
            asker: asker.hex().chars().take(16).collect(),
            url,
            namespace: None,
            manifests: Gate::default(),
            blobs: Gate::default(),
            refuses_blob_heads: AtomicBool::new(false),
        })
    }

    /// Counts content that came.
    pub(super) fn fetched(&self, kind: Kind, bytes: usize) {
        if let Some(source) = self.transport.source.get() {
            source.fetched(kind, bytes as u64);
        }
    }

    fn gate(&self, subject: Subject) -> &Gate {
        match subject {
            Subject::Manifests => &self.manifests,
            Subject::Blobs => &self.blobs,
        }
    }

    /// What can be expected of questions about manifests.
    pub(super) fn presence(&self) -> Presence {
        match self.manifests.check(Instant::now()) {
            Ok(()) => self.availability.presence(),
            Err(limited) => Presence::Away(limited),
        }
    }

    pub(super) fn budget(&self) -> Option<Budget> {
        self.manifests.ledger.read()
    }

    /// The URL without anything that could be a secret.
    pub(super) fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        // Neither fails where there is a host.
        _ = url.set_username("");
        _ = url.set_password(None);
        url.set_query(None);
        url.to_string()
    }

    fn gates(&self) -> ByKind<&Gate> {
        ByKind {
            manifests: &self.manifests,
            blobs: &self.blobs,
            tokens: &self.tokens.gate,
        }
    }

    pub(super) fn limits(&self) -> ByKind<Option<SystemTime>> {
        self.gates().map(Gate::closed_until)
    }

    /// Goes on with what was known earlier.
    pub(super) fn recall(&self, left_alone: ByKind<Duration>, budget: Option<Budget>) {
        let (gates, now) = (self.gates(), Instant::now());
        gates.manifests.close(now, left_alone.manifests);
        gates.blobs.close(now, left_alone.blobs);
        gates.tokens.close(now, left_alone.tokens);
        if let Some(budget) = budget {
            self.manifests.ledger.recall(budget);
        }
    }

    pub(super) fn ask_again(&self) {
        self.gates().map(Gate::open);
        self.availability.forget();
    }

    /// A path at this upstream, beside `/v2/`.
    pub(super) fn beside(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path()));
        url
    }

    /// `/v2/<rest>` at this upstream.
    pub(super) fn endpoint(&self, rest: &str) -> Url {
        let mut url = self.beside(&format!("v2/{rest}"));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// Sends a request until there is an answer that says something: any status but 401 and 403
    /// (denied), 404 (not found), 429 and 5xx.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, UpstreamError> {
        // Before a token is fetched that would be of no use.
        self.gate(ask.subject).check(Instant::now())?;
        let turn = self.availability.turn(ask.insistent).await?;
        // Some 28 KB of states: not to be carried about in every future that may have to ask.
        let asking = Box::pin(self.ask_as_somebody(ask));
        let asking = timeout(self.transport.timeouts.exchange, asking);
        let late = UpstreamError::Timeout {
            what: "no answer after all tries",
        };
        let answer = asking.await.unwrap_or(Err(late));
        let ending = ending(&turn, ask.subject, answer.as_ref().err());
        turn.ended(ending);
        let answer = answer?;
        let failure = match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => UpstreamError::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.tokens.denied(),
            _ => return Ok(answer),
        };
        answer.discard().await;
        Err(failure)
    }

    /// Sends a request with what is likely to be let in, and once more if it is not.
    async fn ask_as_somebody(&self, ask: &Ask<'_>) -> Result<Answer, UpstreamError> {
        let likely = self.tokens.likely(&self.transport, ask.repository).await?;
        let mut refused = self.send(ask, likely.as_ref()).await?;
        if !is_challenge(&refused) {
            return Ok(refused);
        }
        if let Some(grant) = &likely {
            refused.discard().await;
            self.tokens.forget(ask.repository, grant).await;
            // The challenge must come from a request without a token: nvcr.io names another
            // realm, which is of no use to anonymous readers, when a token has expired.
            refused = self.send(ask, None).await?;
            if !is_challenge(&refused) {
                return Ok(refused);
            }
        }
        let challenge = self.challenge(ask, refused).await?;
        let grant = self
            .tokens
            .grant(&self.transport, ask.repository, &challenge)
            .await?;
        let answer = self.send(ask, Some(&grant)).await?;
        // Another challenge after that is the end: a loop of them must have one.
        if is_challenge(&answer) {
            answer.discard().await;
            return Err(self.tokens.forget(ask.repository, &grant).await);
        }
        Ok(answer)
    }

    async fn send(&self, ask: &Ask<'_>, grant: Option<&Grant>) -> Result<Answer, UpstreamError> {
        let request = Request {
            method: ask.method.clone(),
            url: ask.url.clone(),
            headers: ask.headers.clone(),
            authorization: grant.map(|grant| &grant.header),
        };
        let gate = self.gate(ask.subject);
        let answer = retry::send(&self.transport, &request, gate, ask.tries).await?;
        if let Some(grant) = grant
            && !is_challenge(&answer)
        {
            self.tokens.worked(grant);
        }
        Ok(answer)
    }

    /// The body of a refusal. Asked once, with what was let in before: what comes of it is only told.
    pub(super) async fn refusal(&self, ask: &Ask<'_>) -> Option<Bytes> {
        const LONGEST: usize = 64 * 1024;
        let likely = self.tokens.likely(&self.transport, ask.repository).await;
        let likely = likely.ok()?;
        let request = Request {
            method: ask.method.clone(),
            url: ask.url.clone(),
            headers: ask.headers.clone(),
            authorization: likely.as_ref().map(|grant| &grant.header),
        };
        let answer = self.transport.send(&request).await.ok()?;
        if answer.status().is_success() {
            return None;
        }
        answer
            .bytes(LONGEST, self.transport.timeouts.idle)
            .await
            .ok()
    }

    /// The challenge of a 401. gcr.io has none in the answer to real requests, but in that to
    /// `/v2/`, where clients are meant to begin.
    async fn challenge(&self, ask: &Ask<'_>, refused: Answer) -> Result<Challenge, UpstreamError> {
        let found = challenge::choose(refused.headers(WWW_AUTHENTICATE));
        refused.discard().await;
        if let Some(challenge) = found {
            return Ok(challenge);
        }
        let ping = Ask::new(ask.subject, Method::GET, ask.repository, self.endpoint(""));
        let answer = self.send(&ping, None).await?;
        let found = challenge::choose(answer.headers(WWW_AUTHENTICATE));
        let found = found.filter(|_| is_challenge(&answer));
        answer.discard().await;
        found.ok_or(UpstreamError::Denied)
    }
}

/// What the end of a question says about whether the upstream is there.
fn ending(turn: &Turn<'_>, subject: Subject, error: Option<&UpstreamError>) -> Ending {
    match error {
        // What fails after that may be somebody else: blobs are often elsewhere.
        Some(
            UpstreamError::Unreachable { .. }
            | UpstreamError::Timeout { .. }
            | UpstreamError::Failed { status: 500.. },
        ) if matches!(subject, Subject::Blobs) && turn.was_heard() => Ending::Unasked,
        Some(error @ (UpstreamError::Unreachable { .. } | UpstreamError::Timeout { .. })) => {
            Ending::Silence(error.clone())
        }
        Some(error @ UpstreamError::Failed { status: 500.. }) => Ending::Trouble(error.clone()),
        Some(UpstreamError::Offline | UpstreamError::Exhausted { .. }) => Ending::Unasked,
        _ => Ending::Answered,
    }
}

/// A 401 from home; one from elsewhere is none of our credentials' business.
fn is_challenge(answer: &Answer) -> bool {
    answer.status() == StatusCode::UNAUTHORIZED && answer.at_home
}

/// An address that can be asked, its path ending in a slash.
fn base(mut url: Url) -> Result<Url, SetupError> {
    let wrong = |reason| Err(SetupError::Url { reason });
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return wrong("the url must begin with https:// or http:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(
            "the url must not contain the username: there are keys for it and the password",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("the url must not contain ? or #");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    // People copy the address of the API as often as that of the registry.
    let path = path.strip_suffix("/v2").unwrap_or(&path);
    url.set_path(&format!("{path}/"));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_brought_into_shape() {
        for (given, shaped) in [
            (
                "https://registry-1.docker.io",
                "https://registry-1.docker.io/",
            ),
            ("http://10.0.0.7:5000/", "http://10.0.0.7:5000/"),
            ("https://host/prefix", "https://host/prefix/"),
            ("https://host/v2/", "https://host/"),
        ] {
            assert_eq!(base(Url::parse(given).unwrap()).unwrap().as_str(), shaped);
        }
        for wrong in [
            "ftp://host/",
            "file:///x",
            "https://me@host/",
            "https://me:pw@host/",
            "http://h/?a",
            "http://h/#a",
        ] {
            assert!(base(Url::parse(wrong).unwrap()).is_err(), "{wrong}");
        }
    }
}
