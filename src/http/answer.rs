//! Building answers.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, LOCATION,
    WARNING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::events::Events;
use crate::metrics::Source;
use crate::oci::Digest;
use crate::registry::{Listed, ManifestAnswer, Outcome};

use super::body::Body;
use super::events::News;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const V2: HeaderValue = HeaderValue::from_static("registry/2.0");
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(super) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
pub(super) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// So many headers an answer has, mostly.
const HEADERS: usize = 10;

/// How an answer is made whose head is at hand, mostly.
const PREPARED: Outcome = Outcome::Hit;

type Query = url::form_urlencoded::Serializer<'static, String>;

/// An answer in the making: hyper's response, with the few things that differ between ours.
pub(super) struct Answer {
    response: Response<Body>,
    outcome: Option<Outcome>,
    source: Option<Source>,
    news: Option<Box<News>>,
    /// Whether it says already which API it is of.
    is_signed: bool,
}

impl Answer {
    /// An answer without a body, whose length is said.
    pub(super) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        response.headers_mut().reserve(HEADERS);
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
            is_signed: false,
        }
    }

    /// An answer that describes a manifest. Whose one it is can be added, and how it was made.
    pub(super) fn described(described: &Described) -> Self {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = described.head.clone();
        Self {
            response,
            outcome: Some(PREPARED),
            source: None,
            news: None,
            is_signed: true,
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

    /// The digest of content, and the validator that is made of it.
    pub(super) fn named(self, named: &Named) -> Self {
        self.header(CONTENT_DIGEST, named.digest.clone())
            .header(ETAG, named.etag.clone())
    }

    /// Content that is named by its digest never changes: a year, as Distribution says.
    pub(super) fn immutable(self) -> Self {
        self.header(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"))
            .header(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
    }

    /// How the answer was made.
    pub(super) fn cache(mut self, outcome: Outcome) -> Self {
        if self.outcome == Some(outcome) {
            return self;
        }
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

    /// What there is to tell of the request, if anybody wants to know.
    pub(super) fn news_for(self, events: &Events, news: impl FnOnce() -> News) -> Self {
        if events.are_wanted() {
            self.news(news())
        } else {
            self
        }
    }

    /// What there is to tell of the request.
    pub(super) fn news(mut self, news: News) -> Self {
        self.news = Some(Box::new(news));
        self
    }

    pub(super) fn take_news(&mut self) -> Option<Box<News>> {
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

    /// The headers that every answer of the registry's API has: which it is, and what is configured.
    pub(super) fn sign(&mut self, configured: &[(HeaderName, HeaderValue)]) {
        let headers = self.response.headers_mut();
        if !self.is_signed {
            headers.insert(API_VERSION, V2);
        }
        for (name, value) in configured {
            headers.append(name, value.clone());
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        self.response
    }
}

/// What the headers of content say that is named by its digest.
#[derive(Clone, Debug)]
pub(super) struct Named {
    digest: HeaderValue,
    /// The same in quotes.
    etag: HeaderValue,
}

impl Named {
    pub(super) fn of(digest: &Digest) -> Self {
        let quoted = Bytes::from(["\"", digest.as_str(), "\""].concat());
        let bare = quoted.slice(1..quoted.len() - 1);
        // Digests are visible ASCII.
        let value = |bytes| HeaderValue::from_maybe_shared(bytes);
        let empty = || HeaderValue::from_static("");
        Self {
            digest: value(bare).unwrap_or_else(|_| empty()),
            etag: value(quoted).unwrap_or_else(|_| empty()),
        }
    }

    /// The validator, with its quotes.
    pub(super) fn etag(&self) -> &str {
        self.etag.to_str().unwrap_or_default()
    }
}

/// What the headers of a manifest say, made once for all answers.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) named: Named,
    head: HeaderMap,
}

impl Described {
    pub(super) fn of(manifest: &ManifestAnswer) -> Self {
        let media_type = HeaderValue::from_str(manifest.media_type.as_str());
        // Its type has let only visible ASCII in.
        let media_type = media_type.unwrap_or_else(|_| HeaderValue::from_static(""));
        let named = Named::of(&manifest.digest);
        let head = [
            (CONTENT_LENGTH, HeaderValue::from(manifest.size)),
            (CONTENT_TYPE, media_type),
            (CONTENT_DIGEST, named.digest.clone()),
            (ETAG, named.etag.clone()),
            (X_CACHE, HeaderValue::from_static(PREPARED.as_str())),
            (API_VERSION, V2),
        ];
        let head = HeaderMap::from_iter(head);
        Self { named, head }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_was_prepared_says_each_thing_once_and_as_it_is() {
        let digest = Digest::of(b"{}");
        let described = Described::of(&ManifestAnswer {
            digest: digest.clone(),
            media_type: crate::oci::MediaType::known("application/x"),
            size: 2,
            bytes: None,
        });
        let etag = format!("\"{digest}\"");
        for (outcome, word) in [(Outcome::Hit, "hit"), (Outcome::Stale, "stale")] {
            let mut answer = Answer::described(&described).cache(outcome);
            assert_eq!(answer.outcome(), Some(outcome));
            answer.sign(&[(NAMESPACE, V2)]);
            let response = answer.into_response();
            let said = response.headers().iter();
            let said = said.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            let expected = [
                ("content-length", "2"),
                ("content-type", "application/x"),
                ("docker-content-digest", digest.as_str()),
                ("etag", etag.as_str()),
                ("x-cache", word),
                ("docker-distribution-api-version", "registry/2.0"),
                ("oci-namespace", "registry/2.0"),
            ];
            assert_eq!(said.collect::<Vec<_>>(), expected);
        }
    }
}
