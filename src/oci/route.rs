//! From a path and a query to what is asked for.
//!
//! One enum and one pure function; the routes are those of the OCI distribution specification,
//! "Endpoints", with Distribution's `_catalog`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::api::{self, ApiRoute};
use super::digest::Digest;
use super::name::{NameError, RepositoryName};
use super::reference::{Reference, ReferenceError, Tag};

/// What a request is about. The method is not looked at here: it decides what is done, not what
/// is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`, which load balancers ask.
    Root,
    /// `/assets/<file>`: a file of the page that browsers get at `/`
    Asset(String),
    /// `/api/v1/…`: what the page shows, as JSON
    Api(ApiRoute),
    /// `/v2/`, where clients find out whether this is a registry.
    Base,
    /// `/token`, where clients that are sent there get a token.
    Token {
        /// The token is for something (`scope`), not for a login alone.
        is_scoped: bool,
    },
    /// `/metrics`, which Prometheus reads.
    Metrics,
    /// `/v2/_catalog`
    Catalog(Page),
    /// `/v2/<name>/tags/list`
    Tags(Target, Page),
    /// `/v2/<name>/manifests/<reference>`, with the tags of `?tag=…&tag=…`
    Manifest(Target, Reference, Vec<Tag>),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Target, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Target, NewUpload),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Target, UploadStep),
    /// `/v2/<name>/referrers/<digest>`, of one artifact type where one is given
    Referrers(Target, Digest, Option<String>, Page),
}

/// The repository a request names, in all the ways that clients have of naming one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name as asked for, without what is in `prefix` and `host`.
    pub name: RepositoryName,
    /// `ghcr.io` of `/ghcr.io/v2/…`.
    pub prefix: Option<String>,
    /// A first component with a port (`10.0.0.7:5000/app`), which no repository name can have.
    pub host: Option<String>,
    /// The `ns` parameter, by which containerd says which registry it means.
    pub ns: Option<String>,
}

/// Where a listing goes on and how much of it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most so many entries; `None` leaves it to the server.
    pub n: Option<u64>,
    /// Only what comes after this entry, which need not exist.
    pub last: Option<String>,
}

/// The parameters of starting an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUpload {
    /// Take this blob over instead of receiving it. Unreadable text counts as not given, since a
    /// mount that cannot be is an ordinary upload.
    pub mount: Option<Digest>,
    /// From that repository.
    pub from: MountFrom,
    /// The body is the whole blob, and this is its digest as given.
    pub digest: Option<String>,
    /// What the upload will be hashed with (`digest-algorithm`), as given.
    pub algorithm: Option<String>,
}

/// Where a blob is to be mounted from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MountFrom {
    /// It is not said: from wherever it is.
    #[default]
    Anywhere,
    /// From this repository.
    Repository(RepositoryName),
    /// What is said is no repository's name.
    Nowhere,
}

/// The parameters of going on with an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStep {
    /// Which session, as given: unreadable ids are unknown sessions.
    pub id: String,
    /// Closes the upload: what the bytes must hash to, as given.
    pub digest: Option<String>,
    /// How many bytes the client thinks there are, from the `Location` it was last given.
    pub offset: Option<u64>,
}

/// So many segments a path has at most, mostly.
const SEGMENTS: usize = 8;

/// Why a path is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No endpoint has this form.
    #[error("there is no such endpoint")]
    NotFound,
    /// The same path in its clean form: no empty and no dot segments.
    #[error("moved to {0}")]
    Moved(String),
    /// The repository name breaks the grammar.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The reference is meant as a digest and is none.
    #[error("{0:?} is not a digest")]
    Digest(String),
    /// The reference is meant as a tag and is none.
    #[error("{0:?} is not a tag")]
    Tag(String),
    /// `n` is not a number of entries.
    #[error("n must be a whole number, not {0:?}")]
    Pagination(String),
    /// A parameter is missing, or cannot be read.
    #[error("the parameter {0} is missing or cannot be read")]
    Parameter(&'static str),
}

/// Reads a request's path and query.
pub fn parse(path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    if path == "/" {
        return Ok(Route::Root);
    }
    if let Some(clean) = cleaned(path) {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        return Err(RouteError::Moved(format!("{clean}{query}")));
    }
    let decoded = decoded(path)?;
    let decoded = decoded.strip_suffix('/').unwrap_or(&decoded);
    let mut segments = Vec::with_capacity(SEGMENTS);
    segments.extend(decoded.split('/').skip(1));
    let query = Query::parse(query.unwrap_or_default());
    match segments.as_slice() {
        ["token"] => Ok(Route::Token {
            is_scoped: query.get("scope").is_some_and(|scope| !scope.is_empty()),
        }),
        ["metrics"] => Ok(Route::Metrics),
        ["v2", rest @ ..] => endpoint(rest, None, &query),
        [prefix, "v2", rest @ ..] => endpoint(rest, Some(prefix), &query),
        ["api", "v1", rest @ ..] => api::parse(rest, &query).map(Route::Api),
        ["assets", file] => Ok(Route::Asset((*file).to_owned())),
        _ => Err(RouteError::NotFound),
    }
}

/// The endpoint is told by how the path ends: a name may hold `blobs` or `tags` as components.
fn endpoint(segments: &[&str], prefix: Option<&str>, query: &Query) -> Result<Route, RouteError> {
    let target = |name: &[&str]| Target::parse(name, prefix, query);
    match segments {
        [] => Ok(Route::Base),
        ["_catalog"] => Ok(Route::Catalog(query.page()?)),
        [name @ .., "tags", "list"] => Ok(Route::Tags(target(name)?, query.page()?)),
        [name @ .., "manifests", reference] => {
            let (target, reference) = (target(name)?, parse_reference(reference)?);
            Ok(Route::Manifest(target, reference, query.tags()?))
        }
        [name @ .., "blobs", "uploads"] => Ok(Route::Uploads(target(name)?, query.new_upload())),
        [name @ .., "blobs", "uploads", id] => {
            Ok(Route::Upload(target(name)?, query.upload_step(id)))
        }
        [name @ .., "blobs", digest] => Ok(Route::Blob(target(name)?, parse_digest(digest)?)),
        [name @ .., "referrers", digest] => {
            let artifact_type = query.get("artifactType").filter(|text| !text.is_empty());
            Ok(Route::Referrers(
                target(name)?,
                parse_digest(digest)?,
                artifact_type.map(str::to_owned),
                query.page()?,
            ))
        }
        _ => Err(RouteError::NotFound),
    }
}

impl Target {
    fn parse(name: &[&str], prefix: Option<&str>, query: &Query) -> Result<Self, RouteError> {
        let (host, name) = match name {
            [] => return Err(RouteError::NotFound),
            [host, rest @ ..] if host.contains(':') && !rest.is_empty() => (Some(*host), rest),
            _ => (None, name),
        };
        Ok(Self {
            name: name.join("/").parse()?,
            prefix: prefix.map(str::to_owned),
            host: host.map(str::to_owned),
            ns: query.get("ns").map(str::to_owned),
        })
    }
}

pub(super) fn parse_reference(text: &str) -> Result<Reference, RouteError> {
    text.parse().map_err(|error| match error {
        ReferenceError::Digest => RouteError::Digest(shortened(text)),
        ReferenceError::Tag => RouteError::Tag(shortened(text)),
    })
}

fn parse_digest(text: &str) -> Result<Digest, RouteError> {
    text.parse()
        .map_err(|_| RouteError::Digest(shortened(text)))
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The path with its percent signs read, of which most have none.
fn decoded(path: &str) -> Result<Cow<'_, str>, RouteError> {
    if !path.as_bytes().contains(&b'%') {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = percent_decode_str(path).decode_utf8();
    decoded.map_err(|_| RouteError::NotFound)
}

/// The path without empty and dot segments, where it has any. The result begins with exactly one
/// slash, so it never names another host.
fn cleaned(path: &str) -> Option<String> {
    // Such a segment begins with one of these, and next to no path has any.
    let mut pairs = path.as_bytes().windows(2);
    if !pairs.any(|pair| matches!(pair, b"//" | b"/.")) {
        return None;
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let (last, inner) = segments.split_last()?;
    let is_dot = |segment: &&str| matches!(*segment, "." | "..");
    // Browsers read a backslash as a slash: no `Location` is made from a path that has one.
    if path.contains('\\') {
        return None;
    }
    if !inner
        .iter()
        .any(|segment| segment.is_empty() || is_dot(segment))
        && !is_dot(last)
    {
        return None;
    }
    let mut clean: Vec<&str> = Vec::new();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    let slash = if path.ends_with('/') && !clean.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{slash}", clean.join("/")))
}

/// A query's parameters; of a repeated one the first counts.
///
/// Only the query string is read, never a body that looks like a form: an upload's bytes are
/// bytes whatever their `Content-Type`.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        Self(
            url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(name, _)| name == key);
        values.next().map(|(_, value)| value.as_str())
    }

    pub(super) fn page(&self) -> Result<Page, RouteError> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let parsed = digits.then(|| text.parse().ok()).flatten();
            parsed.ok_or_else(|| RouteError::Pagination(shortened(text)))
        };
        Ok(Page {
            n: self.get("n").map(number).transpose()?,
            last: self.get("last").map(str::to_owned),
        })
    }

    /// All `tag` parameters, each once.
    fn tags(&self) -> Result<Vec<Tag>, RouteError> {
        let mut tags: Vec<Tag> = Vec::new();
        for (_, text) in self.0.iter().filter(|(name, _)| name == "tag") {
            let tag = text.parse().map_err(|_| RouteError::Tag(shortened(text)))?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    fn new_upload(&self) -> NewUpload {
        let from = match self.get("from").map(str::parse) {
            None => MountFrom::Anywhere,
            Some(Ok(name)) => MountFrom::Repository(name),
            Some(Err(_)) => MountFrom::Nowhere,
        };
        NewUpload {
            mount: self.get("mount").and_then(|text| text.parse().ok()),
            from,
            digest: self.get("digest").map(str::to_owned),
            algorithm: self.get("digest-algorithm").map(str::to_owned),
        }
    }

    fn upload_step(&self, id: &str) -> UploadStep {
        UploadStep {
            id: id.to_owned(),
            digest: self.get("digest").map(str::to_owned),
            offset: self.get("_state").and_then(|text| text.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn target(name: &str) -> Target {
        Target {
            name: name.parse().unwrap(),
            prefix: None,
            host: None,
            ns: None,
        }
    }

    #[test]
    fn every_endpoint_is_found_by_how_its_path_ends() {
        let blob: Digest = D.parse().unwrap();
        let tag = |text: &str| Reference::Tag(text.parse().unwrap());
        for (path, expected) in [
            ("/", Route::Root),
            ("/v2", Route::Base),
            ("/token", Route::Token { is_scoped: false }),
            ("/v2/", Route::Base),
            ("/assets/v2/", Route::Base),
            ("/assets/page.js", Route::Asset("page.js".to_owned())),
            ("/ghcr.io/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog(Page::default())),
            (
                "/v2/a/b/tags/list",
                Route::Tags(target("a/b"), Page::default()),
            ),
            (
                "/v2/a%2Fb/tags/list/",
                Route::Tags(target("a/b"), Page::default()),
            ),
            (
                "/v2/tags/list/tags/list",
                Route::Tags(target("tags/list"), Page::default()),
            ),
            (
                "/v2/a/manifests/v1",
                Route::Manifest(target("a"), tag("v1"), vec![]),
            ),
            (
                &format!("/v2/a/blobs/{D}"),
                Route::Blob(target("a"), blob.clone()),
            ),
            (
                &format!("/v2/a/blobs/blobs/{D}"),
                Route::Blob(target("a/blobs"), blob.clone()),
            ),
            (
                "/v2/a/blobs/uploads",
                Route::Uploads(target("a"), NewUpload::default()),
            ),
            (
                "/v2/a/blobs/uploads/",
                Route::Uploads(target("a"), NewUpload::default()),
            ),
            (
                &format!("/v2/a/referrers/{D}"),
                Route::Referrers(target("a"), blob, None, Page::default()),
            ),
        ] {
            assert_eq!(parse(path, None), Ok(expected), "{path}");
        }
    }

    #[test]
    fn all_ways_of_naming_a_registry_are_kept_apart() {
        let route = parse(
            "/ghcr.io/v2/org/app/tags/list",
            Some("ns=quay.io&n=5&last=x"),
        )
        .unwrap();
        let Route::Tags(target, page) = route else {
            panic!("{route:?}")
        };
        assert_eq!(target.prefix.as_deref(), Some("ghcr.io"));
        assert_eq!((target.ns.as_deref(), target.host), (Some("quay.io"), None));
        assert_eq!((page.n, page.last.as_deref()), (Some(5), Some("x")));
        let route = parse("/v2/10.0.0.7:5000/app/tags/list", None).unwrap();
        let Route::Tags(target, _) = route else {
            panic!("{route:?}")
        };
        assert_eq!(target.host.as_deref(), Some("10.0.0.7:5000"));
        assert_eq!(target.name.as_str(), "app");
    }

    #[test]
    fn an_uploads_parameters_are_read() {
        let query = format!("mount={D}&from=a/b&digest=sha256:x&_state=42");
        let Ok(Route::Uploads(_, new)) = parse("/v2/a/blobs/uploads/", Some(&query)) else {
            panic!()
        };
        assert_eq!(new.mount, Some(D.parse().unwrap()));
        assert_eq!(new.from, MountFrom::Repository("a/b".parse().unwrap()));
        let Ok(Route::Upload(_, step)) = parse("/v2/a/blobs/uploads/u-1", Some(&query)) else {
            panic!()
        };
        assert_eq!((step.id.as_str(), step.offset), ("u-1", Some(42)));
        assert_eq!(step.digest.as_deref(), Some("sha256:x"));
    }

    #[test]
    fn a_manifest_can_be_pushed_with_many_tags() {
        let path = format!("/v2/a/manifests/{D}");
        let Ok(Route::Manifest(_, _, tags)) = parse(&path, Some("tag=b&tag=a&x=y&tag=b")) else {
            panic!()
        };
        let tags: Vec<_> = tags.iter().map(Tag::as_str).collect();
        assert_eq!(tags, ["b", "a"]);
        let wrong = parse(&path, Some("tag=a&tag=.b"));
        assert_eq!(wrong, Err(RouteError::Tag(".b".into())));
    }

    #[test]
    fn referrers_can_be_filtered() {
        let query = Some("artifactType=application%2Fspdx%2Bjson&n=2");
        let route = parse(&format!("/v2/a/referrers/{D}"), query);
        let Ok(Route::Referrers(_, _, artifact_type, page)) = route else {
            panic!()
        };
        assert_eq!(artifact_type.as_deref(), Some("application/spdx+json"));
        assert_eq!(page.n, Some(2));
    }

    #[test]
    fn what_is_no_route_says_why() {
        let moved = |to: &str| RouteError::Moved(to.to_owned());
        for (path, expected) in [
            ("/v1/search", RouteError::NotFound),
            ("/v2/tags/list", RouteError::NotFound),
            ("/v2/a/b", RouteError::NotFound),
            ("/\\evil/./v2/", RouteError::NotFound),
            ("/v2/A/tags/list", RouteError::Name(NameError::Grammar)),
            (
                "/v2/a/..%2f..%2fetc/tags/list",
                RouteError::Name(NameError::Grammar),
            ),
            ("/v2/a%00/tags/list", RouteError::Name(NameError::Grammar)),
            ("/v2/a/manifests/.x", RouteError::Tag(".x".into())),
            (
                "/v2/a/manifests/sha256:x",
                RouteError::Digest("sha256:x".into()),
            ),
            ("/v2/a/blobs/x", RouteError::Digest("x".into())),
            ("//evil/v2/", moved("/evil/v2/")),
            ("/v2/a/../b/tags/list", moved("/v2/b/tags/list")),
            ("/v2/a//tags/list", moved("/v2/a/tags/list")),
            ("/../../etc/passwd", moved("/etc/passwd")),
        ] {
            assert_eq!(parse(path, None), Err(expected), "{path}");
        }
        for n in ["abc", "-1", "", "+1", "99999999999999999999999999999999"] {
            let result = parse("/v2/_catalog", Some(&format!("n={n}")));
            assert!(matches!(result, Err(RouteError::Pagination(_))), "{n:?}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_the_parser_panic(path in "/.*", query in ".*") {
            let _ = parse(&path, Some(&query));
        }

        #[test]
        fn a_clean_path_is_clean(path in "/[a./]{0,20}") {
            if let Some(clean) = cleaned(&path) {
                prop_assert!(clean.starts_with('/') && !clean.starts_with("//"));
                prop_assert_eq!(cleaned(&clean), None);
            }
        }
    }
}
