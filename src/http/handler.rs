//! From a request to its answer.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use url::Url;

use crate::access::Access;
use crate::console::Console;
use crate::oci::route::{self, Route, RouteError};
use crate::registry::{Error, Outcome, Registry, Want, arrived};
use crate::traces::Answering;

use super::admission::{self, Admitted};
use super::answer::Answer;
use super::around::{Client, Surroundings, shortened};
use super::asked::Asked;
use super::body::{self, Body, Record};
use super::console;
use super::error::Refusal;
use super::measured::{self, Measured};
use super::methods::{allowed, is_pull};
use super::server::Peer;

/// What the person at the client should know of a stale answer.
const STALE: &str = "the upstream could not be asked: this is the copy from the cache";

/// How much of a path is in a request's line in the log, in bytes.
const PATH: usize = 2048;

/// For how long what still comes of a refused request is read away before it is answered.
const DRAIN: Duration = Duration::from_secs(2);

/// Answers requests. Cheap to clone; every connection has one.
#[derive(Clone)]
pub struct Handler(Arc<RwLock<Arc<Turn>>>);

/// Answers requests, until the configuration is another. A reload meanwhile changes nothing for a
/// request: it is let in, answered and signed by the same manners.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) registry: Registry,
    pub(super) console: Console,
    pub(super) around: Surroundings,
    /// What the configuration says, as a whole.
    pub(super) manners: Arc<Manners>,
    /// Cancelled when there are other manners, for what lasts long.
    pub(super) replaced: CancellationToken,
}

/// How answers look, and who gets them.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Who may do what.
    pub access: Access,
    /// Headers added to every answer of the registry's API.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What the URLs begin with that are handed out. Without it they are relative, which holds
    /// behind any proxy and believes no header.
    pub base: Option<Url>,
    /// Whether `/metrics` is shown.
    pub metrics: bool,
    /// The path that everything is under, with slashes at both ends.
    pub prefix: Option<String>,
    /// How long a client may send nothing in the middle of a body.
    pub stall: Duration,
}

/// A configured header that no answer can carry.
#[derive(Debug, thiserror::Error)]
#[error("http.headers: {0:?} cannot be sent as a header")]
pub struct HeaderError(String);

/// Reads the headers of the configuration.
pub fn headers(pairs: &[(String, String)]) -> Result<Vec<(HeaderName, HeaderValue)>, HeaderError> {
    let parse = |(name, value): &(String, String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = HeaderValue::from_str(value).ok();
        name.zip(value)
    };
    let header = |pair| parse(pair).ok_or_else(|| HeaderError(pair.0.clone()));
    pairs.iter().map(header).collect()
}

/// An answer, and what is known of it.
struct Answered {
    answer: Answer,
    /// Whether it is one of the registry's API.
    is_api: bool,
    /// Who asked.
    user: Option<String>,
    measured: Option<Measured>,
}

impl Answered {
    fn of(answer: Answer, user: Option<String>) -> Self {
        let is_api = true;
        Self {
            answer,
            is_api,
            user,
            measured: None,
        }
    }

    /// An answer that no header says more of.
    fn outside(answer: Answer) -> Self {
        let (is_api, user) = (false, None);
        Self {
            answer,
            is_api,
            user,
            measured: None,
        }
    }
}

impl Handler {
    /// A handler for a registry.
    pub fn new(registry: Registry, manners: Manners) -> Self {
        Self::of(Turn {
            console: Console::new(registry.clone(), CancellationToken::new()),
            registry,
            around: Surroundings::default(),
            manners: Arc::new(manners),
            replaced: CancellationToken::new(),
        })
    }

    fn of(turn: Turn) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(turn))))
    }

    /// Goes on with other manners. Requests under way are answered as they were begun.
    pub fn reload(&self, manners: Manners) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let turn = Turn {
            manners: Arc::new(manners),
            replaced: CancellationToken::new(),
            ..Turn::clone(&current)
        };
        std::mem::replace(&mut *current, Arc::new(turn))
            .replaced
            .cancel();
    }

    /// The same handler with another console.
    #[must_use]
    pub fn with_console(self, console: Console) -> Self {
        let turn = Turn::clone(&self.turn());
        Self::of(Turn { console, ..turn })
    }

    /// The same handler among those who are told of what it does.
    #[must_use]
    pub fn among(self, around: Surroundings) -> Self {
        let turn = Turn::clone(&self.turn());
        Self::of(Turn { around, ..turn })
    }

    /// What answers the next request.
    pub(super) fn turn(&self) -> Arc<Turn> {
        let current = self.0.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }
}

impl Turn {
    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Response<Body> {
        let started = Instant::now();
        let (mut parts, mut incoming) = request.into_parts();
        name_host(&mut parts);
        let is_logged = tracing::enabled!(tracing::Level::INFO);
        let client = Client::of(&parts, peer, is_logged);
        let access = &self.around.access_log;
        let now = access.is_kept().then(SystemTime::now);
        let span = begin_span(&parts);
        let asked = Asked::new(&parts, peer, started);
        let answered = self.answer_even_so(&asked, &span, &mut incoming).await;
        let Answered {
            mut answer,
            is_api,
            user,
            measured,
        } = answered;
        let user = user.as_deref();
        let entry = |now| access.entry(&parts, client.address, user, now);
        let access = now.and_then(entry);
        let (news, status) = (answer.take_news(), answer.status());
        let announcement = self.announcement(news, status, &parts, &client, user).await;
        let path = is_logged.then(|| shortened(parts.uri.path(), PATH));
        let mut measured = measured.unwrap_or_else(|| self.measure(&parts, None));
        let source = answer.take_source().or_else(|| asked.looked_in_vain());
        measured.answer(status, source, answer.outcome());
        let record = Record {
            measured,
            span,
            method: parts.method.clone(),
            path: path.unwrap_or_default().to_owned(),
            status: status.as_u16(),
            cache: answer.outcome(),
            started,
            client,
            access,
            announcement,
        };
        if is_api {
            answer.sign(&self.manners.headers);
        }
        let mut response = answer.into_response();
        // A client that waits for "100 Continue" sends nothing unless it is read.
        let unread = !http_body::Body::is_end_stream(&incoming);
        let refused = record.status >= 400 && !parts.headers.contains_key(EXPECT);
        let mut rest = (unread && refused).then_some(incoming);
        if parts.version < Version::HTTP_2
            && let Some(rest) = rest.take()
        {
            Box::pin(body::drain(rest, DRAIN)).await;
        }
        if parts.method == Method::HEAD {
            // On HTTP/2 it would be sent.
            *response.body_mut() = Body::empty();
        }
        response.map(|body| body.recorded(record).leaving(rest))
    }

    /// One request's bug is that request's failure.
    async fn answer_even_so(
        &self,
        asked: &Asked<'_>,
        span: &Answering,
        body: &mut Incoming,
    ) -> Answered {
        // Pinned here, it is not moved into each of those that are put around it.
        let answering = pin!(self.answer(asked, body));
        let answering = AssertUnwindSafe(span.around(answering));
        answering.catch_unwind().await.unwrap_or_else(|_| {
            let refusal = Refusal::Registry(Error::Vanished);
            Answered::of(refusal.into_answer(&asked.parts.method, asked.path), None)
        })
    }

    async fn answer(&self, asked: &Asked<'_>, body: &mut Incoming) -> Answered {
        let parts = asked.parts;
        if let Some(closed) = self.around.closed() {
            return Answered::outside(closed);
        }
        let route = self.route(asked.path, parts.uri.query());
        let measured = self.measure(parts, route.as_ref().ok());
        let answered = self.answer_route(asked, route, body).await;
        Answered {
            measured: Some(measured),
            ..answered
        }
    }

    async fn answer_route(
        &self,
        asked: &Asked<'_>,
        route: Result<Route, RouteError>,
        body: &mut Incoming,
    ) -> Answered {
        let Asked { parts, path, .. } = *asked;
        let route = match route {
            Ok(Route::Root) => return Answered::outside(self.root(asked)),
            Ok(Route::Asset(name)) => {
                let answer = console::asset(asked, &name);
                let refused = |refusal: Refusal| refusal.into_answer(&parts.method, path);
                return Answered::outside(answer.unwrap_or_else(refused));
            }
            Ok(route) => route,
            Err(error) => {
                let refusal = Refusal::Route(error);
                return Answered::of(refusal.into_answer(&parts.method, path), None);
            }
        };
        let pulls = is_pull(&route, &parts.method);
        let is_api = !matches!(route, Route::Api(_));
        let mut user = None;
        let answered = {
            let answering = pin!(async {
                let admitted = self.admit(asked, &route).await?;
                user = admitted.caller.name().map(str::to_owned);
                self.dispatch(asked, admitted, route, body).await
            });
            arrived(asked.started, pulls, answering).await
        };
        let answer = answered.unwrap_or_else(|refusal| refusal.into_answer(&parts.method, path));
        let answer = match answer.outcome() {
            Some(Outcome::Stale) => answer.warning(STALE),
            // What came to nothing was not in the cache either.
            None if pulls => answer.cache(Outcome::Miss),
            _ => answer,
        };
        Answered {
            // What is configured for the registry's clients may let foreign pages in.
            is_api,
            ..Answered::of(answer, user)
        }
    }

    /// Begins to count a request, by what it announces.
    fn measure(&self, parts: &Parts, route: Option<&Route>) -> Measured {
        let length = parts.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|it| it.to_str().ok()?.parse().ok());
        let handler = measured::handler(route);
        Measured::begin(self.registry.metrics(), handler, &parts.method, length)
    }

    /// What is asked for, under the prefix if there is one. Load balancers ask `/` all the same.
    fn route(&self, path: &str, query: Option<&str>) -> Result<Route, RouteError> {
        let Some(prefix) = self.manners.prefix.as_deref().filter(|_| path != "/") else {
            return route::parse(path, query);
        };
        let prefix = prefix.trim_end_matches('/');
        let inner = path.strip_prefix(prefix).filter(|it| it.starts_with('/'));
        let inner = inner.ok_or(RouteError::NotFound)?;
        route::parse(inner, query).map_err(|error| match error {
            RouteError::Moved(to) => RouteError::Moved(format!("{prefix}{to}")),
            error => error,
        })
    }

    async fn dispatch(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        route: Route,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let method = &asked.parts.method;
        if *method == Method::OPTIONS {
            return Ok(Answer::empty(StatusCode::OK).allow(allowed(&route)));
        }
        let (get, head) = (*method == Method::GET, *method == Method::HEAD);
        let want = if head {
            Want::Description
        } else {
            Want::Content
        };
        match route {
            Route::Manifest(target, reference, _) if get || head => {
                self.get_manifest(asked, admitted, &target, &reference, want)
                    .await
            }
            Route::Blob(target, digest) if get || head => {
                self.get_blob(asked, admitted, &target, &digest, want).await
            }
            // What is asked for less often, and needs more room while it is waited for.
            route => Box::pin(self.dispatch_rest(asked, admitted, route, body)).await,
        }
    }

    async fn dispatch_rest(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        route: Route,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let method = &asked.parts.method;
        let (allow, caller) = (allowed(&route), &admitted.caller);
        let (get, head) = (*method == Method::GET, *method == Method::HEAD);
        match route {
            Route::Root => Ok(Answer::empty(StatusCode::OK)),
            Route::Base => Ok(Answer::full(StatusCode::OK, "application/json", "{}")),
            Route::Api(route) => self.api(asked, admitted, route, body).await,
            Route::Token { is_scoped } if get => self.token(asked, is_scoped).await,
            Route::Metrics if !self.manners.metrics => Err(Refusal::Route(RouteError::NotFound)),
            Route::Metrics if get || head => {
                let headers = &asked.parts.headers;
                Ok(measured::page(&self.registry, &self.around, headers).await)
            }
            Route::Catalog(page) if get => self.catalog(asked, caller, &page).await,
            Route::Tags(target, page) if get => self.tags(asked, admitted, &target, &page).await,
            Route::Manifest(target, reference, tags) if *method == Method::PUT => {
                self.put_manifest(asked, &target, &reference, &tags, body)
                    .await
            }
            Route::Manifest(target, reference, _) if *method == Method::DELETE => {
                self.delete_manifest(&target, &reference).await
            }
            Route::Blob(target, digest) if *method == Method::DELETE => {
                self.delete_blob(&target, &digest).await
            }
            Route::Uploads(target, new) if *method == Method::POST => {
                self.start_upload(caller, &target, &new, body).await
            }
            Route::Upload(target, step) => self.upload(asked, caller, &target, &step, body).await,
            Route::Referrers(target, subject, artifact_type, page) if get => {
                let artifact_type = artifact_type.as_deref();
                self.referrers(asked, admitted, &target, &subject, artifact_type, &page)
                    .await
            }
            Route::Asset(_)
            | Route::Token { .. }
            | Route::Metrics
            | Route::Catalog(_)
            | Route::Tags(..)
            | Route::Manifest(..)
            | Route::Blob(..)
            | Route::Uploads(..)
            | Route::Referrers(..) => Err(Refusal::Method { allow }),
        }
    }

    /// The URL of a path of this registry, as it is handed out.
    pub(super) fn url(&self, path: &str) -> String {
        let manners = &self.manners;
        let base = manners.base.as_ref().map_or("", Url::as_str);
        let prefix = manners.prefix.as_deref().unwrap_or_default();
        let (base, prefix) = (base.trim_end_matches('/'), prefix.trim_end_matches('/'));
        format!("{base}{prefix}{path}")
    }

    /// The scheme and the host by which a client reaches this registry, with what comes before
    /// its own paths: as configured, else as asked.
    pub(super) fn own_address(&self, asked: &Asked<'_>) -> (&'static str, String) {
        let manners = &self.manners;
        let prefix = manners.prefix.as_deref().unwrap_or_default();
        let prefix = prefix.trim_end_matches('/');
        let scheme = |is_tls| if is_tls { "https" } else { "http" };
        if let Some(base) = &manners.base {
            let host = &base[url::Position::BeforeHost..];
            let host = host.trim_end_matches('/');
            (scheme(base.scheme() == "https"), format!("{host}{prefix}"))
        } else {
            let host = admission::host(&asked.parts.headers);
            (scheme(asked.peer.is_tls), format!("{host}{prefix}"))
        }
    }
}

/// Puts the host that a request's target names where the other readers look for it: in `Host`.
///
/// HTTP/2 has it in `:authority` alone. Where both are there the target counts: RFC 9112 §3.2.2.
fn name_host(parts: &mut Parts) {
    let Some(authority) = parts.uri.authority() else {
        return;
    };
    // RFC 9110 §4.2.4: a username in it is a trick.
    let host = authority.as_str().rsplit('@').next();
    if let Ok(host) = HeaderValue::from_str(host.unwrap_or_default()) {
        parts.headers.insert(HOST, host);
    }
}

/// The span of a request, for who follows it through several programs.
fn begin_span(parts: &Parts) -> Answering {
    let header = |name: &str| parts.headers.get(name)?.to_str().ok();
    let path = shortened(parts.uri.path(), PATH);
    Answering::begin(parts.method.as_str(), path, header)
}
