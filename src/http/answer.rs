//! Building answers.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, LOCATION,
    WARNING,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::metrics::Source;
use crate::oci::Digest;
use crate::registry::{Listed, Outcome};

use super::body::Body;
use super::events::News;

pub(super) const API_VERSION: HeaderName =
    HeaderName::from_static("docker-distribution-api-version");
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(super) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
pub(super) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

type Query = url::form_urlencoded::Serializer<'static, String>;

/// An answer in the making: hyper's response, with the few things that differ between ours.
pub(super) struct Answer {
    response: Response<Body>,
    outcome: Option<Outcome>,
    source: Option<Source>,
    news: Option<News>,
}

impl Answer {
    /// An answer without a body, whose length is said.
    pub(super) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        // RFC 9110 §8.6: neither of these two may announce a length of their own.
        if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        Self {
            response,
            outcome: None,
            source: None,
            news: None,
        }
    }

    /// An answer with a body whose length nobody knows yet.
    pub(super) fn of(status: StatusCode, body: Body) -> Self {
        let mut answer = Self::empty(status).body(body);
        answer.response.headers_mut().remove(CONTENT_LENGTH);
        answer
    }

    /// An answer whose body is at hand.
    pub(super) fn full(
        status: StatusCode,
        content_type: &'static str,
        bytes: impl Into<Bytes>,
    ) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        let answer = Self::empty(status).length(length);
        answer
            .header(CONTENT_TYPE, HeaderValue::from_static(content_type))
            .body(Body::full(bytes))
    }

    pub(super) fn body(mut self, body: Body) -> Self {
        *self.response.body_mut() = body;
        self
    }

    /// The length of the body, or of the one that a GET would have had.
    pub(super) fn length(self, length: u64) -> Self {
        self.header(CONTENT_LENGTH, HeaderValue::from(length))
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().insert(name, value);
        self
    }

    /// A header whose value is made of parsed types: names, digests and numbers are all visible
    /// ASCII. Anything else is left out rather than sent broken.
    pub(super) fn text(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.header(name, value),
            Err(_) => self,
        }
    }

    /// One more line of a header that may have several.
    pub(super) fn line(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.response.headers_mut().append(name, value);
        }
        self
    }

    /// A message for the person at the client. OCI distribution specification, "Warnings".
    pub(super) fn warning(self, text: &str) -> Self {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        self.line(WARNING, &format!("299 - \"{text}\""))
    }

    pub(super) fn location(self, location: &str) -> Self {
        self.text(LOCATION, location)
    }

    pub(super) fn allow(self, methods: &'static str) -> Self {
        self.header(ALLOW, HeaderValue::from_static(methods))
    }

    pub(super) fn digest(self, digest: &Digest) -> Self {
        self.text(CONTENT_DIGEST, digest.as_str())
    }

    /// The validator of content that is named by its digest.
    pub(super) fn etag(self, digest: &Digest) -> Self {
        self.text(ETAG, &etag(digest))
    }

    /// Content that is named by its digest never changes: a year, as Distribution says.
    pub(super) fn immutable(self) -> Self {
        self.header(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"))
            .header(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
    }

    /// How the answer was made.
    pub(super) fn cache(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self.header(X_CACHE, HeaderValue::from_static(outcome.as_str()))
    }

    /// Where it comes from: an upstream, or what was pushed here.
    pub(super) fn from(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    pub(super) fn namespace(self, namespace: Option<&str>) -> Self {
        match namespace {
            Some(namespace) => self.text(NAMESPACE, namespace),
            None => self,
        }
    }

    /// A page of a list, under `key`, with the link to the next one where this one is full.
    ///
    /// The link is relative, so that it holds behind whatever proxy the client came through.
    pub(super) fn page(
        path: &str,
        mut json: serde_json::Value,
        key: &str,
        listed: &Listed,
    ) -> Self {
        json[key] = listed.entries.clone().into();
        let answer = Self::full(StatusCode::OK, "application/json", format!("{json}\n"));
        match (listed.full, listed.entries.last()) {
            (Some(n), Some(last)) => answer.next_page(path, |query| {
                query
                    .append_pair("last", last)
                    .append_pair("n", &n.to_string());
            }),
            _ => answer,
        }
    }

    /// The link to the next page of what is at `path`.
    pub(super) fn next_page(self, path: &str, query: impl FnOnce(&mut Query)) -> Self {
        let mut serializer = Query::new(String::new());
        query(&mut serializer);
        self.text(
            LINK,
            &format!("<{path}?{}>; rel=\"next\"", serializer.finish()),
        )
    }

    /// What there is to tell of the request.
    pub(super) fn news(mut self, news: News) -> Self {
        self.news = Some(news);
        self
    }

    pub(super) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    pub(super) fn take_source(&mut self) -> Option<Source> {
        self.source.take()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn into_response(self) -> Response<Body> {
        self.response
    }
}

pub(super) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}
