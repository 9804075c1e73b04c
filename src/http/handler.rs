//! From a request to its answer.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::FutureExt as _;
use http::header::{EXPECT, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::oci::route::{self, Route};
use crate::registry::{Error, Outcome, Registry, Want};

use super::answer::{API_VERSION, Answer};
use super::around::{Client, Surroundings, shortened};
use super::body::{self, Body, Record};
use super::error::Refusal;
use super::server::Peer;

/// What the person at the client should know of a stale answer.
const STALE: &str = "the upstream could not be asked: this is the copy from the cache";

/// How much of a path is in a request's line in the log, in bytes.
const PATH: usize = 2048;

/// Answers requests. Cheap to clone; every connection has one.
#[derive(Clone)]
pub struct Handler {
    pub(super) registry: Registry,
    pub(super) around: Surroundings,
    shared: Arc<Shared>,
}

struct Shared {
    headers: Vec<(HeaderName, HeaderValue)>,
    base: String,
}

/// A configured header that no answer can carry.
#[derive(Debug, thiserror::Error)]
#[error("http.headers: {0:?} cannot be sent as a header")]
pub struct HandlerError(String);

/// What a request is made of, apart from its body.
pub(super) struct Asked<'a> {
    pub(super) parts: &'a Parts,
    pub(super) path: &'a str,
}

impl Handler {
    /// A handler that adds `headers` to every answer of the registry's API, and begins the URLs
    /// it hands out with `base`: nothing, or the `http.host` of the configuration.
    ///
    /// Without a base they are relative, which holds behind any proxy and believes no header.
    pub fn new(
        registry: Registry,
        headers: &[(String, String)],
        base: Option<&url::Url>,
    ) -> Result<Self, HandlerError> {
        let parse = |(name, value): &(String, String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok();
            let value = HeaderValue::from_str(value).ok();
            name.zip(value)
        };
        let headers = headers
            .iter()
            .map(|header| parse(header).ok_or_else(|| HandlerError(header.0.clone())))
            .collect::<Result<_, _>>()?;
        let base = base.map(|base| base.as_str().trim_end_matches('/').to_owned());
        Ok(Self {
            registry,
            around: Surroundings::default(),
            shared: Arc::new(Shared {
                headers,
                base: base.unwrap_or_default(),
            }),
        })
    }

    /// The same handler among those who are told of what it does.
    #[must_use]
    pub fn among(mut self, around: Surroundings) -> Self {
        self.around = around;
        self
    }

    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(super) async fn handle(self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let started = Instant::now();
        let (parts, mut incoming) = request.into_parts();
        let client = Client::of(&parts, peer.address);
        // Access control will know.
        let user: Option<&str> = None;
        let access = &self.around.access_log;
        let access = access.entry(&parts, client.address, user, SystemTime::now());
        let answering = std::panic::AssertUnwindSafe(self.answer(&parts, &mut incoming));
        // One request's bug is that request's failure.
        let (mut answer, is_api) = answering.catch_unwind().await.unwrap_or_else(|_| {
            let refusal = Refusal::Registry(Error::Vanished);
            (refusal.into_answer(&parts.method, parts.uri.path()), true)
        });
        let (news, status) = (answer.take_news(), answer.status());
        let announcement = self.announcement(news, status, &parts, &client, user).await;
        let record = Record {
            method: parts.method.clone(),
            path: shortened(parts.uri.path(), PATH).to_owned(),
            status: status.as_u16(),
            cache: answer.outcome(),
            started,
            client,
            access,
            announcement,
        };
        let mut response = answer.into_response();
        if is_api {
            let headers = response.headers_mut();
            headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
            for (name, value) in &self.shared.headers {
                headers.append(name, value.clone());
            }
        }
        // A client that waits for "100 Continue" sends nothing unless it is read.
        let unread = !http_body::Body::is_end_stream(&incoming);
        if unread && record.status >= 400 && !parts.headers.contains_key(EXPECT) {
            body::drain(incoming).await;
        }
        response.map(|body| body.recorded(record))
    }

    async fn answer(&self, parts: &Parts, body: &mut Incoming) -> (Answer, bool) {
        if let Some(closed) = self.around.closed() {
            return (closed, false);
        }
        let path = parts.uri.path();
        let asked = Asked { parts, path };
        let route = match route::parse(path, parts.uri.query()) {
            Ok(Route::Root) => {
                let no_cache = HeaderValue::from_static("no-cache");
                let answer = Answer::empty(StatusCode::OK);
                return (answer.header(http::header::CACHE_CONTROL, no_cache), false);
            }
            Ok(route) => route,
            Err(error) => {
                return (Refusal::Route(error).into_answer(&parts.method, path), true);
            }
        };
        let pulls = is_pull(&route, &parts.method);
        let answer = match self.dispatch(&asked, route, body).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into_answer(&parts.method, path),
        };
        let answer = match answer.outcome() {
            Some(Outcome::Stale) => answer.warning(STALE),
            _ => answer,
        };
        // What came to nothing was not in the cache either.
        if pulls && answer.outcome().is_none() {
            return (answer.cache(Outcome::Miss), true);
        }
        (answer, true)
    }

    async fn dispatch(
        &self,
        asked: &Asked<'_>,
        route: Route,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let method = asked.parts.method.clone();
        let allow = allowed(&route);
        if method == Method::OPTIONS {
            return Ok(Answer::empty(StatusCode::OK).allow(allow));
        }
        let (get, head) = (method == Method::GET, method == Method::HEAD);
        let want = if head {
            Want::Description
        } else {
            Want::Content
        };
        match route {
            Route::Root => Ok(Answer::empty(StatusCode::OK)),
            Route::Base => Ok(Answer::full(StatusCode::OK, "application/json", "{}")),
            Route::Catalog(page) if get => self.catalog(asked, &page).await,
            Route::Tags(target, page) if get => self.tags(asked, &target, &page).await,
            Route::Manifest(target, reference, _) if get || head => {
                self.get_manifest(asked, &target, &reference, want).await
            }
            Route::Manifest(target, reference, tags) if method == Method::PUT => {
                self.put_manifest(asked, &target, &reference, &tags, body)
                    .await
            }
            Route::Manifest(target, reference, _) if method == Method::DELETE => {
                self.delete_manifest(&target, &reference).await
            }
            Route::Blob(target, digest) if get || head => {
                self.get_blob(asked, &target, &digest, want).await
            }
            Route::Blob(target, digest) if method == Method::DELETE => {
                self.delete_blob(&target, &digest).await
            }
            Route::Uploads(target, new) if method == Method::POST => {
                self.start_upload(&target, &new, body).await
            }
            Route::Upload(target, step) => self.upload(asked, &target, &step, body, allow).await,
            Route::Referrers(target, subject, artifact_type, page) if get => {
                let artifact_type = artifact_type.as_deref();
                self.referrers(asked, &target, &subject, artifact_type, &page)
                    .await
            }
            Route::Catalog(_)
            | Route::Tags(..)
            | Route::Manifest(..)
            | Route::Blob(..)
            | Route::Uploads(..)
            | Route::Referrers(..) => Err(Refusal::Method { allow }),
        }
    }

    /// The URL of a path of this registry, as it is handed out.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.shared.base)
    }
}

/// The methods of a route, in the order in which Distribution lists them.
fn allowed(route: &Route) -> &'static str {
    match route {
        Route::Root | Route::Base => "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        Route::Catalog(_) | Route::Tags(..) | Route::Referrers(..) => "GET",
        Route::Manifest(..) => "DELETE, GET, HEAD, PUT",
        Route::Blob(..) => "DELETE, GET, HEAD",
        Route::Uploads(..) => "POST",
        Route::Upload(..) => "DELETE, GET, HEAD, PATCH, PUT",
    }
}

/// Whether the answer says in `X-Cache` how it was made.
fn is_pull(route: &Route, method: &Method) -> bool {
    let reads = *method == Method::GET || *method == Method::HEAD;
    reads
        && matches!(
            route,
            Route::Manifest(..)
                | Route::Blob(..)
                | Route::Tags(..)
                | Route::Catalog(_)
                | Route::Referrers(..)
        )
}
