//! From what went wrong to what the client is told: one exhaustive match.
//!
//! A client's mistake names itself. What is ours or an upstream's names what to do and a request
//! id by which the log can be searched, never a path or a cause.

use std::time::Duration;

use http::header::{LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};

use crate::oci::error::{ErrorEntry, error_body};
use crate::oci::manifest::ManifestError;
use crate::oci::route::RouteError;
use crate::oci::{ErrorCode, Reference};
use crate::registry::{Error, MarkError, Missing, WarmRefused};
use crate::store::StoreError;
use crate::upstream::UpstreamError;

use super::answer::Answer;
use super::api::{self, ApiRefusal};

/// The longest that a client is told to wait. Podman sleeps for as long as it is told, four times
/// over; what is told is when to ask us again, and we know by then.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Why a request is not done, as far as HTTP knows more than the registry.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The path is none.
    Route(RouteError),
    /// The method is none of the route's.
    Method { allow: &'static str },
    /// A header cannot be read.
    Header {
        name: &'static str,
        code: ErrorCode,
        status: StatusCode,
    },
    /// The client takes no manifest of this type.
    NotAcceptable { media_type: String },
    /// The range cannot be had.
    Range { size: u64 },
    /// The precondition fails.
    Precondition,
    /// It is not known who is asking, or that he may.
    Unauthorized {
        /// What to say to whom.
        challenge: Option<HeaderValue>,
        /// What was wanted, as Distribution lists it.
        detail: serde_json::Value,
    },
    /// It is known, and he may not.
    Forbidden { what: String },
    /// Too many passwords are being verified.
    Busy,
    /// There is nothing to verify passwords with.
    UsersUnreadable,
    /// The API says no.
    Api(ApiRefusal),
    /// The registry says no.
    Registry(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Registry(error)
    }
}

pub(super) struct Told {
    status: StatusCode,
    entries: Vec<ErrorEntry>,
}

impl Told {
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        let entries = vec![ErrorEntry::new(code, message)];
        Self { status, entries }
    }

    fn about(mut self, detail: impl Into<serde_json::Value>) -> Self {
        if let Some(entry) = self.entries.first_mut() {
            entry.detail = detail.into();
        }
        self
    }
}

impl Refusal {
    /// The answer, and its line in the log where it is not the client's doing.
    pub(super) fn into_answer(self, method: &Method, path: &str) -> Answer {
        let told = match &self {
            Self::Registry(error) => registry_error(error),
            Self::Route(error) => route_error(error),
            Self::Api(refusal) => api::told(refusal),
            Self::Method { .. } => Told::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                format!("{method} is not offered here"),
            ),
            Self::Header { name, code, status } => {
                Told::new(*status, *code, format!("the header {name} cannot be read"))
            }
            Self::NotAcceptable { media_type } => Told::new(
                StatusCode::NOT_FOUND,
                ErrorCode::ManifestUnknown,
                format!("the manifest is of type {media_type}, which the Accept header leaves out"),
            ),
            Self::Range { size } => Told::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::RangeInvalid,
                format!("there are {size} bytes: ask for a range among them"),
            ),
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Busy
            | Self::UsersUnreadable => not_admitted(&self),
            Self::Precondition => Told::new(
                StatusCode::PRECONDITION_FAILED,
                ErrorCode::Unsupported,
                "the content is another than If-Match names",
            ),
        };
        let (status, challenge) = (told.status, self.challenge());
        let entries = self.with_request_id(told, method, path);
        let mut answer = Answer::full(status, "application/json", error_body(&entries));
        if let Self::Method { allow } = &self {
            answer = answer.allow(allow);
        }
        if let Self::Range { size } = &self {
            answer = answer.text(http::header::CONTENT_RANGE, &format!("bytes */{size}"));
        }
        if let Self::Route(RouteError::Moved(to)) = &self {
            answer = answer.text(LOCATION, to);
        }
        if let Some(challenge) = challenge {
            answer = answer.header(WWW_AUTHENTICATE, challenge);
        }
        let is_full = matches!(self, Self::Api(ApiRefusal::Follow(_)));
        if status == StatusCode::TOO_MANY_REQUESTS || is_full {
            answer = answer.header(RETRY_AFTER, HeaderValue::from(self.wait()));
        }
        answer
    }

    fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::Unauthorized { challenge, .. } => challenge.clone(),
            _ => None,
        }
    }

    fn wait(&self) -> u64 {
        let wait = match self {
            Self::Registry(error) => error.retry_after().unwrap_or_default(),
            _ => Duration::ZERO,
        };
        wait.clamp(Duration::from_secs(1), LONGEST_WAIT).as_secs()
    }

    /// Failures that are not the client's get an id, in the answer and in the log.
    fn with_request_id(&self, told: Told, method: &Method, path: &str) -> Vec<ErrorEntry> {
        let cause = match self {
            Self::Registry(error)
            | Self::Api(
                ApiRefusal::Mark(MarkError::Registry(error))
                | ApiRefusal::Warm(WarmRefused::Registry(error)),
            ) if is_worth_logging(error) => error,
            _ => return told.entries,
        };
        let id = uuid::Uuid::now_v7().simple().to_string();
        let status = told.status.as_u16();
        tracing::error!(%method, path, status, request = %id, error = %cause, "request failed");
        let with_id = |mut entry: ErrorEntry| {
            entry.message = format!("{} (request {id})", entry.message);
            entry
        };
        told.entries.into_iter().map(with_id).collect()
    }
}

/// Who is not let in, and why.
fn not_admitted(refusal: &Refusal) -> Told {
    match refusal {
        Refusal::Unauthorized { detail, .. } => Told::new(
            StatusCode::UNAUTHORIZED,
            ErrorCode::Unauthorized,
            "authentication required",
        )
        .about(detail.clone()),
        Refusal::Forbidden { what } => {
            Told::new(StatusCode::FORBIDDEN, ErrorCode::Denied, what.clone())
        }
        Refusal::Busy => Told::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooManyRequests,
            "too many passwords are being verified: try again",
        ),
        _ => Told::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            "the registry cannot read its list of users: see its log",
        ),
    }
}

fn is_worth_logging(error: &Error) -> bool {
    matches!(
        error,
        Error::Upstream { .. } | Error::Store(_) | Error::Vanished
    )
}

fn route_error(error: &RouteError) -> Told {
    let (status, code) = match error {
        RouteError::NotFound => (StatusCode::NOT_FOUND, ErrorCode::Unsupported),
        RouteError::Moved(_) => (StatusCode::MOVED_PERMANENTLY, ErrorCode::Unsupported),
        RouteError::Name(_) => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
        RouteError::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        RouteError::Tag(_) => (StatusCode::BAD_REQUEST, ErrorCode::TagInvalid),
        RouteError::Pagination(_) => (StatusCode::BAD_REQUEST, ErrorCode::PaginationNumberInvalid),
        RouteError::Parameter(_) => (StatusCode::BAD_REQUEST, ErrorCode::Unsupported),
    };
    Told::new(status, code, error.to_string())
}

pub(super) fn registry_error(error: &Error) -> Told {
    match error {
        Error::Unknown { name, what } => unknown(name.as_str(), what),
        Error::NotCached { name, what, .. } => {
            let mut told = unknown(name.as_str(), what);
            told.entries
                .iter_mut()
                .for_each(|entry| entry.message = error.to_string());
            told
        }
        Error::Upstream {
            upstream,
            what,
            error,
        } => upstream_error(upstream, what, error),
        Error::Store(error) => store_error(error),
        Error::ManifestNeeds(missing) => Told {
            status: StatusCode::BAD_REQUEST,
            entries: missing
                .iter()
                .map(|digest| {
                    let message = format!("push {digest} to this repository first");
                    ErrorEntry::new(ErrorCode::ManifestBlobUnknown, message).about(digest.as_str())
                })
                .collect(),
        },
        Error::DigestMismatch(digest) => {
            let code = ErrorCode::DigestInvalid;
            Told::new(StatusCode::BAD_REQUEST, code, error.to_string()).about(digest.as_str())
        }
        Error::UnknownUpstream(_)
        | Error::HeldUnknown { .. }
        | Error::Reserved { .. }
        | Error::Unsupported(_)
        | Error::UploadUnknown
        | Error::UploadRange { .. }
        | Error::UploadSize
        | Error::BodyCutShort
        | Error::DigestInvalid(_)
        | Error::Manifest(_)
        | Error::PageTooLarge(_)
        | Error::Vanished => {
            let (status, code) = plain(error);
            Told::new(status, code, error.to_string())
        }
    }
}

/// The failures that their own message tells in full.
fn plain(error: &Error) -> (StatusCode, ErrorCode) {
    match error {
        Error::UnknownUpstream(_) => (StatusCode::NOT_FOUND, ErrorCode::NameUnknown),
        Error::Reserved { .. } => (StatusCode::FORBIDDEN, ErrorCode::Denied),
        Error::Unsupported(_) => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported),
        Error::HeldUnknown { .. } => (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown),
        Error::UploadUnknown => (StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown),
        Error::UploadRange { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::RangeInvalid),
        Error::UploadSize => (StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid),
        Error::BodyCutShort => (StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid),
        Error::Manifest(ManifestError::TooLarge) => {
            (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::ManifestInvalid)
        }
        Error::DigestInvalid(_) | Error::Manifest(ManifestError::Digest { .. }) => {
            (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid)
        }
        Error::Manifest(_) => (StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid),
        Error::PageTooLarge(_) => (StatusCode::BAD_REQUEST, ErrorCode::PaginationNumberInvalid),
        Error::Vanished
        | Error::Unknown { .. }
        | Error::NotCached { .. }
        | Error::Upstream { .. }
        | Error::DigestMismatch(_)
        | Error::ManifestNeeds(_)
        | Error::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown),
    }
}

fn unknown(name: &str, what: &Missing) -> Told {
    let not_found = |code, message| Told::new(StatusCode::NOT_FOUND, code, message);
    match what {
        Missing::Manifest(reference) => {
            let message = match reference {
                Reference::Tag(tag) => format!("{name} has no tag {tag}"),
                Reference::Digest(digest) => format!("{name} has no manifest {digest}"),
            };
            not_found(ErrorCode::ManifestUnknown, message).about(reference.to_string())
        }
        Missing::Blob(digest) => {
            let message = format!("{name} has no blob {digest}");
            not_found(ErrorCode::BlobUnknown, message).about(digest.as_str())
        }
        // Not NAME_UNKNOWN: clients go on with the referrers tag, and that is asked for by itself.
        Missing::Referrers(subject) => {
            let message =
                format!("the upstream lists no referrers of {subject}: use the referrers tag");
            not_found(ErrorCode::Unsupported, message).about(subject.as_str())
        }
        Missing::Tags => {
            let detail = serde_json::json!({ "name": name });
            let message = format!("there is no repository {name}");
            not_found(ErrorCode::NameUnknown, message).about(detail)
        }
    }
}

/// What an upstream would not give.
///
/// For a blob that cannot be fetched now, dockerd goes to its next registry at once on a 404,
/// but retries a 5xx for 75 seconds. An upstream that sends what it should not is a 502 for both:
/// there, haste would hide the damage.
fn upstream_error(upstream: &str, what: &Missing, error: &UpstreamError) -> Told {
    let (status, message) = match error {
        UpstreamError::RateLimited { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "upstream {upstream} limits our requests: wait, or set its username and password in config.yml"
            ),
        ),
        UpstreamError::Timeout { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            format!("upstream {upstream} does not answer: try again"),
        ),
        UpstreamError::Unreachable { .. } => (
            StatusCode::BAD_GATEWAY,
            format!(
                "upstream {upstream} cannot be reached: check its url in config.yml and the network"
            ),
        ),
        UpstreamError::CredentialsRefused => (
            StatusCode::BAD_GATEWAY,
            format!("upstream {upstream} refused: check its username and password in config.yml"),
        ),
        UpstreamError::Failed { .. } => (
            StatusCode::BAD_GATEWAY,
            format!("upstream {upstream} failed: try again"),
        ),
        UpstreamError::Misbehaved { .. } => (
            StatusCode::BAD_GATEWAY,
            format!("upstream {upstream} sent something else than was asked for"),
        ),
        // That nobody may be asked is told before it comes to this.
        UpstreamError::NotFound | UpstreamError::Denied | UpstreamError::Offline => {
            return unknown(upstream, what);
        }
    };
    let misbehaved = matches!(error, UpstreamError::Misbehaved { .. });
    match what {
        Missing::Blob(digest) if status.is_server_error() && !misbehaved => {
            Told::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, message).about(digest.as_str())
        }
        _ if status == StatusCode::TOO_MANY_REQUESTS => {
            Told::new(status, ErrorCode::TooManyRequests, message)
        }
        _ => Told::new(status, ErrorCode::Unavailable, message),
    }
}

fn store_error(error: &StoreError) -> Told {
    match error {
        StoreError::Full(_) => not_stored(
            "the registry's disk is full: nothing was stored. Make room there (space, inodes or a quota), then push again",
        ),
        StoreError::ReadOnly(_) => not_stored(
            "the registry's disk is read-only: nothing was stored. Make it writable, then push again",
        ),
        StoreError::Failing(_) => not_stored(
            "the registry's disk fails to write: nothing was stored. Look into its log and replace the disk, then push again",
        ),
        StoreError::Damaged(_) => Told::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unknown,
            "the stored content is damaged: push it again",
        ),
        StoreError::WrongKind(name, _) => Told::new(
            StatusCode::FORBIDDEN,
            ErrorCode::Denied,
            format!("{name} holds content of another kind: use another name"),
        ),
        StoreError::Io(_) => Told::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unknown,
            "the registry's disk failed: see its log",
        ),
    }
}

/// Nothing that a client could mend by asking again soon, so no `Retry-After` goes with it.
fn not_stored(message: &str) -> Told {
    let status = StatusCode::INSUFFICIENT_STORAGE;
    Told::new(status, ErrorCode::Unavailable, message)
}
