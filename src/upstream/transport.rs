//! One request and its answer: connections, deadlines, redirects.
//!
//! Redirects are followed by hand, because where they lead is decided by others: never from https
//! to http, never to an address the policy forbids, and without credentials as soon as they leave
//! home. What an answer means, and whether to ask again, is decided elsewhere.

use std::error::Error as StdError;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response, redirect};
use rustls::pki_types::CertificateDer;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use url::Url;

use crate::metrics::{Asked, Source};

use super::address::{Forbidden, Policy, Resolver, proxies_of_environment};
use super::availability::Availability;
use super::error::UpstreamError;
use super::line::Line;
use super::settings::Timeouts;
use super::tls;

/// Harbor and registry.k8s.io need one, registry.k8s.io's mirrors two.
const MAX_REDIRECTS: usize = 5;
/// So much of an answer that nobody wants is read, to keep the connection: another TLS handshake
/// costs more.
const DRAINED: usize = 64 * 1024;
/// As long as cloud load balancers keep an idle connection, at least.
const POOL_IDLE: Duration = Duration::from_mins(1);

/// How a cache says how an answer was made.
pub(super) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    /// `GET` or `HEAD`.
    pub(super) method: Method,
    /// Where it begins; its origin is the home that `authorization` is for.
    pub(super) url: Url,
    /// Sent to wherever redirects lead.
    pub(super) headers: HeaderMap,
    /// Sent as long as the request has not left home.
    pub(super) authorization: Option<&'a HeaderValue>,
}

/// An answer that is no redirect.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response,
    /// Whether it came from the origin that was asked, and not from where that sent us.
    pub(super) at_home: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke before the answer was complete: the next may do better.
    Broken(String),
    /// Asking again at once would not help.
    Final(UpstreamError),
}

impl From<UpstreamError> for Fault {
    fn from(error: UpstreamError) -> Self {
        Self::Final(error)
    }
}

impl From<Fault> for UpstreamError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Broken(reason) => Self::unreachable(reason),
            Fault::Final(error) => error,
        }
    }
}

/// One upstream's connections.
#[derive(Debug)]
pub(super) struct Transport {
    /// For the log.
    pub(super) name: String,
    /// Where signs of life are counted as such.
    home: url::Origin,
    availability: Arc<Availability>,
    pub(super) line: Line,
    /// Where is counted what is done here, if anywhere.
    pub(super) source: OnceLock<Source>,
    client: OnceCell<Client>,
    own_authorities: Vec<CertificateDer<'static>>,
    policy: Arc<Policy>,
    pub(super) timeouts: Timeouts,
}

impl Transport {
    /// Connections to the upstream at `url`; none is made yet.
    pub(super) fn new(
        availability: Arc<Availability>,
        name: String,
        url: &Url,
        own_authorities: Vec<CertificateDer<'static>>,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            name,
            home: url.origin(),
            availability,
            line: Line::default(),
            source: OnceLock::new(),
            client: OnceCell::new(),
            own_authorities,
            policy: Arc::new(Policy::new(url, proxies_of_environment())),
            timeouts,
        }
    }

    /// Sends a request and follows redirects until there is an answer.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Answer, Fault> {
        let home = request.url.origin();
        let mut url = request.url.clone();
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            let authorization = request.authorization.filter(|_| at_home);
            self.line.check()?;
            let response = self.send_once(request, &url, authorization).await;
            if url.origin() == self.home && !matches!(response, Err(Fault::Final(_))) {
                self.availability.heard();
            }
            let response = response?;
            if !is_redirect(response.status()) {
                return Ok(Answer { response, at_home });
            }
            let next = self.next_hop(&url, response.headers().get(LOCATION))?;
            Answer { response, at_home }.discard().await;
            // Once away it stays away: who sends it back may have chosen the path.
            at_home &= next.origin() == home;
            url = next;
        }
        let reason = format!("more than {MAX_REDIRECTS} redirects");
        Err(UpstreamError::misbehaved(reason).into())
    }

    fn next_hop(&self, here: &Url, location: Option<&HeaderValue>) -> Result<Url, UpstreamError> {
        let location =
            location.ok_or_else(|| UpstreamError::misbehaved("a redirect to nowhere"))?;
        let next = here
            .join(&String::from_utf8_lossy(location.as_bytes()))
            .map_err(|_| UpstreamError::misbehaved("a redirect to something that is no address"))?;
        self.check_hop(here, &next)?;
        Ok(next)
    }

    /// Whether a request may go on from here to there, with or without credentials.
    pub(super) fn check_hop(&self, here: &Url, there: &Url) -> Result<(), UpstreamError> {
        let refused = match (here.scheme(), there.scheme()) {
            ("https", "http") => Some("it sends requests from https to http"),
            (_, "http" | "https") if !there.has_host() => Some("it sends requests to no host"),
            // They would become an Authorization header.
            (_, "http" | "https") if !there.username().is_empty() || there.password().is_some() => {
                Some("it sends requests to an address with a username in it")
            }
            (_, "http" | "https") => None,
            _ => Some("it sends requests to something that is neither http nor https"),
        };
        if let Some(reason) = refused {
            return Err(UpstreamError::misbehaved(reason));
        }
        self.policy
            .check(there)
            .map_err(|forbidden| (&forbidden).into())
    }

    async fn send_once(
        &self,
        request: &Request<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Fault> {
        let mut hop = reqwest::Request::new(request.method.clone(), url.clone());
        *hop.headers_mut() = request.headers.clone();
        // A body that was encoded underway is not what its digest names.
        hop.headers_mut()
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(value) = authorization {
            hop.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let client = self.client().await?;
        let started = Instant::now();
        let answered = timeout(self.timeouts.headers, client.execute(hop)).await;
        let result = match answered {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(fault(&error.without_url())),
            Err(_) => Err(Fault::Final(UpstreamError::Timeout {
                what: "no answer to a request",
            })),
        };
        if let Some(source) = self.source.get() {
            source.asked(became(&result), started.elapsed());
        }
        tracing::debug!(
            upstream = self.name,
            method = %request.method,
            host = url.host_str(),
            // Elsewhere the path may be a secret as well as the query.
            path = (url.origin() == request.url.origin()).then(|| url.path()),
            status = result.as_ref().ok().map(|response| response.status().as_u16()),
            fault = result.as_ref().err().map(tracing::field::debug),
            milliseconds = started.elapsed().as_millis(),
            "asked"
        );
        result
    }

    async fn client(&self) -> Result<&Client, UpstreamError> {
        let made = self.client.get_or_try_init(|| async {
            // Some 20 ms of reading and parsing roots, the first time.
            let own = self.own_authorities.clone();
            let making = tokio::task::spawn_blocking(move || tls::client_config(&own));
            let config = making
                .await
                .map_err(|error| UpstreamError::unreachable(error.to_string()))?;
            let config = config.map_err(|error| UpstreamError::unreachable(error.to_string()))?;
            let client = Client::builder();
            // As in Go's client: no proxy is asked for this machine itself.
            let client = if self.policy.is_this_machine() {
                client.no_proxy()
            } else {
                client
            };
            client
                .tls_backend_preconfigured(config)
                .dns_resolver(Resolver(Arc::clone(&self.policy)))
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(self.timeouts.connect)
                .pool_idle_timeout(POOL_IDLE)
                .tcp_nodelay(true)
                .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| UpstreamError::unreachable(root_cause(&error)))
        });
        made.await
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header as text; one that is not ASCII is no better than none.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// All lines of a header.
    pub(super) fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        let lines = self.response.headers().get_all(name).into_iter();
        lines.filter_map(|line| line.to_str().ok())
    }

    /// The length that was declared, also by the answer to a `HEAD`.
    pub(super) fn declared_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// Refuses what no registry sends: the page of a captive portal, or encoded content.
    pub(super) fn check_content(&self) -> Result<(), UpstreamError> {
        let bare = |text: &str| {
            text.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        };
        let kind = self.header(CONTENT_TYPE).map(bare).unwrap_or_default();
        if kind == "text/html" || kind == "application/xhtml+xml" {
            return Err(UpstreamError::misbehaved(
                "it answers with an HTML page: is there a captive portal or a wrong url?",
            ));
        }
        let mut encodings = self.headers(CONTENT_ENCODING);
        if encodings.any(|encoding| !["", "identity"].contains(&bare(encoding).as_str())) {
            return Err(UpstreamError::misbehaved(
                "it encodes content although identity was asked for",
            ));
        }
        Ok(())
    }

    /// The next bytes of the body, `None` at its end.
    pub(super) async fn chunk(&mut self, patience: Duration) -> Result<Option<Bytes>, Fault> {
        match timeout(patience, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(Fault::Broken(root_cause(&error.without_url()))),
            Err(_) => Err(Fault::Broken("nothing came any more".to_owned())),
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    pub(super) async fn bytes(mut self, limit: usize, patience: Duration) -> Result<Bytes, Fault> {
        let too_long =
            || UpstreamError::misbehaved(format!("an answer of more than {limit} bytes"));
        let declared = self.declared_length().unwrap_or(0);
        if declared > limit as u64 {
            return Err(too_long().into());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk(patience).await? {
            if body.len() + chunk.len() > limit {
                return Err(too_long().into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Reads what little is left, so that the connection can be used again.
    pub(super) async fn discard(self) {
        // It did not matter, so neither does what goes wrong with it.
        let drained = timeout(
            Duration::from_secs(1),
            self.bytes(DRAINED, Duration::from_secs(1)),
        );
        drained.await.ok();
    }
}

/// What came of a request, in the words of the metrics.
fn became(result: &Result<Response, Fault>) -> Asked {
    match result {
        Ok(response) => Asked::status(response.status().as_u16()),
        Err(Fault::Final(UpstreamError::Timeout { .. })) => Asked::Timeout,
        Err(Fault::Final(UpstreamError::Misbehaved { .. })) => Asked::Misbehaved,
        Err(Fault::Broken(_) | Fault::Final(_)) => Asked::Unreachable,
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn fault(error: &reqwest::Error) -> Fault {
    if let Some(forbidden) = cause::<Forbidden>(error) {
        return Fault::Final(forbidden.into());
    }
    if error.is_timeout() {
        return Fault::Final(UpstreamError::Timeout {
            what: "no connection",
        });
    }
    let reason = root_cause(error);
    if error.is_connect() || error.is_builder() {
        return Fault::Final(UpstreamError::Unreachable { reason });
    }
    if cause::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        return Fault::Final(UpstreamError::misbehaved(format!(
            "its answer is not HTTP ({reason})"
        )));
    }
    Fault::Broken(reason)
}

/// The first cause of that type.
fn cause<E: StdError + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref::<E>())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// The innermost cause says what happened; those around it say who noticed.
fn root_cause(error: &reqwest::Error) -> String {
    causes(error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_on_to_where_they_may() {
        let allowed = |from: &str, to: &str| {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            let upstream = Url::parse("https://registry.example.com").unwrap();
            let timeouts = Timeouts::default();
            let availability = Arc::new(Availability::new(String::new()));
            let name = "test".to_owned();
            let transport = Transport::new(availability, name, &upstream, Vec::new(), timeouts);
            transport.check_hop(&from, &to).is_ok()
        };
        for (from, to) in [
            (
                "https://registry.example.com/",
                "https://cdn.example.com/x?sig=y",
            ),
            ("http://registry.example.com/", "https://cdn.example.com/"),
            ("http://registry.example.com/", "http://cdn.example.com/"),
            (
                "https://registry.example.com/",
                "https://registry.example.com:8443/",
            ),
        ] {
            assert!(allowed(from, to), "{from} {to}");
        }
        for (from, to) in [
            (
                "https://registry.example.com/",
                "http://registry.example.com/",
            ),
            ("https://registry.example.com/", "http://cdn.example.com/"),
            ("https://registry.example.com/", "https://127.0.0.1/"),
            (
                "https://registry.example.com/",
                "https://me@cdn.example.com/",
            ),
            (
                "https://registry.example.com/",
                "https://:pw@cdn.example.com/",
            ),
            ("http://registry.example.com/", "ws://cdn.example.com/"),
            ("http://registry.example.com/", "data:text/plain,x"),
        ] {
            assert!(!allowed(from, to), "{from} {to}");
        }
    }
}
