//! Manifests: asked for with the same headers whoever wants them, and verified.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::time::sleep;

use super::client::{Ask, Client, Subject};
use super::error::UpstreamError;
use super::retry::{TRIES, backoff};
use super::transport::{Answer, Fault, X_CACHE};
use crate::metrics::Kind;
use crate::oci::manifest::MAX_SIZE;
use crate::oci::media::MANIFESTS;
use crate::oci::{Digest, MediaType, Reference, RepositoryName};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What an upstream says of a manifest without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest of what the reference names now; some registries do not tell.
    pub digest: Option<Digest>,
    /// Its media type.
    pub media_type: Option<MediaType>,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// A manifest as an upstream sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedManifest {
    /// Its bytes, which are those of the digest that was asked for.
    pub bytes: Bytes,
    /// Its media type, if the upstream told.
    pub media_type: Option<MediaType>,
    /// What an upstream that is itself a cache says of how its answer was made: `X-Cache`.
    pub from_cache: Option<String>,
}

/// What a reference names, without fetching it: free at Docker Hub, where a GET counts.
pub(super) async fn head(
    client: &Client,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<ManifestHead, UpstreamError> {
    let answer = client
        .ask(&ask(client, Method::HEAD, name, reference))
        .await?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            let FetchedManifest {
                bytes, media_type, ..
            } = get(client, name, reference).await?;
            return Ok(ManifestHead {
                digest: Some(named(reference).unwrap_or_else(|| Digest::of(&bytes))),
                media_type,
                size: Some(bytes.len() as u64),
            });
        }
        status => {
            return Err(UpstreamError::Failed {
                status: status.as_u16(),
            });
        }
    }
    answer.check_content()?;
    let declared = declared_digest(&answer);
    if let (Some(named), Some(declared)) = (named(reference), &declared)
        && named.algorithm() == declared.algorithm()
        && named != *declared
    {
        return Err(UpstreamError::misbehaved(format!(
            "asked for {named}, it has {declared}"
        )));
    }
    Ok(ManifestHead {
        digest: named(reference).or(declared),
        media_type: media_type(&answer),
        // Some proxies say 0 of what has no body.
        size: answer.declared_length().filter(|size| *size > 0),
    })
}

/// The words in which the registry refuses a manifest, for people; `None` where there are none.
pub(super) async fn complaint(
    client: &Client,
    name: &RepositoryName,
    reference: &Reference,
) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Complaint>,
    }
    #[derive(Deserialize)]
    struct Complaint {
        message: String,
    }
    let body = client
        .refusal(&ask(client, Method::GET, name, reference))
        .await?;
    let body: Body = serde_json::from_slice(&body).ok()?;
    let first = body.errors.into_iter().next()?.message;
    // It is somebody else's text, and goes to a terminal.
    let shown: String = first
        .chars()
        .filter(|c| !c.is_control())
        .take(500)
        .collect();
    (!shown.is_empty()).then_some(shown)
}

/// A whole manifest, in memory.
pub(super) async fn get(
    client: &Client,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<FetchedManifest, UpstreamError> {
    let mut failures = 0;
    loop {
        let answer = client
            .ask(&ask(client, Method::GET, name, reference))
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(UpstreamError::Failed {
                status: answer.status().as_u16(),
            });
        }
        answer.check_content()?;
        let declared = declared_digest(&answer);
        let media_type = media_type(&answer);
        let from_cache = answer.header(X_CACHE).map(str::to_owned);
        let timeouts = &client.transport.timeouts;
        match answer.bytes(MAX_SIZE, timeouts.idle).await {
            Ok(bytes) => {
                client.fetched(Kind::Manifest, bytes.len());
                // The digest asked for is what counts; a header may be of another algorithm.
                let expected = named(reference).or(declared);
                if let Some(expected) = expected.filter(|digest| !digest.matches(&bytes)) {
                    let reason = format!("a manifest whose bytes are not those of {expected}");
                    return Err(UpstreamError::misbehaved(reason));
                }
                return Ok(FetchedManifest {
                    bytes,
                    media_type,
                    from_cache,
                });
            }
            Err(Fault::Broken(reason)) if failures + 1 < TRIES => {
                tracing::info!(
                    "upstream {}: a manifest broke off ({reason}): asking again",
                    client.name
                );
                sleep(backoff(timeouts.backoff, failures)).await;
                failures += 1;
            }
            Err(fault) => return Err(fault.into()),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "media types are visible ASCII, as `media` tests"
)]
fn accept() -> HeaderValue {
    // All of them, whatever the client at our end can read: a registry that finds none of its
    // types here converts to schema 1, which has another digest.
    HeaderValue::try_from(MANIFESTS.join(", ")).expect("visible ASCII")
}

fn ask<'a>(
    client: &Client,
    method: Method,
    name: &'a RepositoryName,
    reference: &Reference,
) -> Ask<'a> {
    let url = client.endpoint(&format!("{name}/manifests/{reference}"));
    Ask::new(Subject::Manifests, method, name, url).header(ACCEPT, accept())
}

fn named(reference: &Reference) -> Option<Digest> {
    match reference {
        Reference::Digest(digest) => Some(digest.clone()),
        Reference::Tag(_) => None,
    }
}

fn declared_digest(answer: &Answer) -> Option<Digest> {
    answer.header(CONTENT_DIGEST)?.parse().ok()
}

fn media_type(answer: &Answer) -> Option<MediaType> {
    answer.header(CONTENT_TYPE)?.parse().ok()
}
