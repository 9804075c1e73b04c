//! What the registry and the CDN answer while nothing is wrong.

use bytes::Bytes;

use super::answer::Reply;
use super::content::{Content, Manifest};
use super::log::{Listener, Request, Target, decoded};
use super::{State, lock, token};

/// What a path means at that port.
pub(super) fn target(listener: Listener, path: &str) -> Target {
    let path = decoded(path);
    match listener {
        Listener::Token if path == "/token" => Target::Token,
        Listener::Token => Target::Other,
        Listener::Cdn => path
            .strip_prefix("/blobs/")
            .map_or(Target::Other, |digest| Target::Signed {
                digest: digest.to_owned(),
            }),
        Listener::Registry => registry_target(&path),
    }
}

fn registry_target(path: &str) -> Target {
    let Some(rest) = path.strip_prefix("/v2/") else {
        return Target::Other;
    };
    if rest.is_empty() {
        return Target::Ping;
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Target::Tags {
            name: name.to_owned(),
        };
    }
    // A name may contain anything, so the last of these words is the one that counts.
    if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
        return Target::Manifest {
            name: name.to_owned(),
            reference: reference.to_owned(),
        };
    }
    if let Some((name, digest)) = rest.rsplit_once("/referrers/") {
        return Target::Referrers {
            name: name.to_owned(),
            digest: digest.to_owned(),
        };
    }
    if let Some((name, digest)) = rest.rsplit_once("/blobs/") {
        return Target::Blob {
            name: name.to_owned(),
            digest: digest.to_owned(),
        };
    }
    Target::Other
}

/// The answer to a request, with that `Range` header.
pub(super) fn route(state: &State, request: &Request, range: Option<&str>) -> Reply {
    let range = range.filter(|_| request.method == "GET");
    match request.listener {
        Listener::Token => token::route(state, request),
        Listener::Cdn => cdn(state, request, range),
        Listener::Registry => registry(state, request, range),
    }
}

fn registry(state: &State, request: &Request, range: Option<&str>) -> Reply {
    if !["GET", "HEAD"].contains(&request.method.as_str()) {
        return Reply::error(405, "UNSUPPORTED", "this registry is read only");
    }
    if let Some(refusal) = token::refusal(state, request) {
        return refusal;
    }
    let content = &mut *lock(&state.content);
    let reply = match &request.target {
        Target::Ping => Reply::new(200).body("application/json", "{}"),
        Target::Tags { name } => tags(content, name, request),
        Target::Manifest { name, reference } => manifest(content, name, reference, request),
        Target::Blob { name, digest } => match content.blob(name, digest) {
            None => unknown(content, name, "BLOB_UNKNOWN", "blob unknown to registry"),
            Some(_) if state.config.cdn => {
                let signature = content.sign(digest);
                let cdn = state.address(Listener::Cdn);
                let location = format!("http://{cdn}/blobs/{digest}?sig={signature}");
                Reply::new(307).with("location", location)
            }
            Some(bytes) => {
                ranged(bytes, digest, request, range).with("docker-content-digest", digest)
            }
        },
        Target::Referrers { name, digest } => match state.config.referrers {
            Some(page) => referrers(content, name, digest, page, request),
            None => Reply::error(404, "UNSUPPORTED", "no such endpoint"),
        },
        Target::Token | Target::Signed { .. } | Target::Other => {
            Reply::error(404, "UNSUPPORTED", "no such endpoint")
        }
    };
    reply.with("docker-distribution-api-version", "registry/2.0")
}

fn unknown(content: &Content, name: &str, code: &str, message: &str) -> Reply {
    if content.repositories.contains_key(name) {
        Reply::error(404, code, message)
    } else {
        Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry")
    }
}

fn manifest(content: &mut Content, name: &str, reference: &str, request: &Request) -> Reply {
    let repository = content.repositories.get(name);
    let Some(manifest) = repository.and_then(|it| it.manifest(reference)) else {
        return unknown(content, name, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    // As at Docker Hub, where only a GET counts.
    content.pulls += usize::from(request.method == "GET");
    let remaining = 100_usize.saturating_sub(content.pulls);
    Reply::new(200)
        .body(&manifest.media_type, manifest.bytes)
        .with("etag", format!("\"{}\"", manifest.digest))
        .with("docker-content-digest", manifest.digest)
        .with("ratelimit-limit", "100;w=21600")
        .with("ratelimit-remaining", format!("{remaining};w=21600"))
        .with("docker-ratelimit-source", "127.0.0.1")
}

/// One page of tags: `n` of them after `last`, and where the next page is.
fn tags(content: &Content, name: &str, request: &Request) -> Reply {
    let Some(repository) = content.repositories.get(name) else {
        return unknown(content, name, "NAME_UNKNOWN", "");
    };
    let last = request.parameter("last").unwrap_or_default();
    let after: Vec<&String> = repository.tags.keys().filter(|tag| **tag > last).collect();
    let n = request.parameter("n").and_then(|n| n.parse().ok());
    let page = &after[..n.unwrap_or(after.len()).min(after.len())];
    let json = serde_json::json!({"name": name, "tags": page});
    let reply = Reply::new(200).body("application/json", json.to_string());
    match page.last() {
        Some(last) if page.len() < after.len() => {
            let next = format!("</v2/{name}/tags/list?last={last}&n={}>", page.len());
            reply.with("link", next + "; rel=\"next\"")
        }
        _ => reply,
    }
}

/// One page of what is attached to a manifest, in the order of digests.
fn referrers(
    content: &Content,
    name: &str,
    subject: &str,
    page: usize,
    request: &Request,
) -> Reply {
    let attached = |manifest: &&Manifest| {
        let json: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        json["subject"]["digest"] == subject
    };
    let repository = content.repositories.get(name);
    let manifests = repository.map(|it| it.manifests.values()).into_iter();
    let mut all: Vec<&Manifest> = manifests.flatten().filter(attached).collect();
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    let last = request.parameter("last").unwrap_or_default();
    let mut left = all.iter().filter(|manifest| manifest.digest > last);
    let entries: Vec<_> = left.by_ref().take(page).collect();
    let descriptors: Vec<_> = entries
        .iter()
        .map(|manifest| {
            let json: serde_json::Value =
                serde_json::from_slice(&manifest.bytes).unwrap_or_default();
            serde_json::json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.bytes.len(),
                "artifactType": json["artifactType"],
                "x-hub": "kept",
            })
        })
        .collect();
    let index = "application/vnd.oci.image.index.v1+json";
    let json = serde_json::json!({
        "schemaVersion": 2, "mediaType": index, "manifests": descriptors
    });
    let reply = Reply::new(200).body(index, json.to_string());
    match (entries.last(), left.next()) {
        (Some(last), Some(_)) => {
            let next = format!("</v2/{name}/referrers/{subject}?last={}>", last.digest);
            reply.with("link", next + "; rel=\"next\"")
        }
        _ => reply,
    }
}

fn cdn(state: &State, request: &Request, range: Option<&str>) -> Reply {
    // As S3 does: a signature is one way to identify oneself, and a header another.
    if request.header("authorization").is_some() {
        let text = "Only one auth mechanism allowed";
        return Reply::new(400).body("application/xml", text);
    }
    let signature = request.parameter("sig").unwrap_or_default();
    let Target::Signed { digest } = &request.target else {
        return Reply::new(404);
    };
    match lock(&state.content).signed(digest, &signature) {
        Some(bytes) => ranged(bytes, digest, request, range),
        None => Reply::new(403).body("application/xml", "<Code>SignatureDoesNotMatch</Code>"),
    }
}

/// A blob, or the part of it that was asked for.
fn ranged(bytes: Bytes, digest: &str, request: &Request, range: Option<&str>) -> Reply {
    let etag = format!("\"{digest}\"");
    let current = request.header("if-range").is_none_or(|it| it == etag);
    let size = bytes.len();
    let whole = Reply::new(200)
        .with("accept-ranges", "bytes")
        .with("etag", etag);
    let part = range
        .filter(|_| current)
        .and_then(|range| bounds(range, size));
    let Some((first, end)) = part else {
        return whole.body("application/octet-stream", bytes);
    };
    if first >= end {
        let reply = Reply::error(416, "RANGE_INVALID", "range not satisfiable");
        return reply.with("content-range", format!("bytes */{size}"));
    }
    Reply {
        status: 206,
        first,
        ..whole
    }
    .with("content-range", format!("bytes {first}-{}/{size}", end - 1))
    .body("application/octet-stream", bytes.slice(first..end))
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n` as a half-open interval, empty when nothing is there;
/// `None` for what is not a single range, which is then ignored.
fn bounds(range: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((size.saturating_sub(last.parse().ok()?), size));
    }
    let first = first.parse().ok()?;
    let last = if last.is_empty() {
        size
    } else {
        last.parse::<usize>().ok()?.saturating_add(1)
    };
    Some((first, last.min(size)))
}
