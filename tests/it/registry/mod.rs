//! larder as a registry alone, without upstreams: what is pushed, listed, pulled back, deleted, and
//! never lost.

mod bad_input;
mod crash;
mod damaged_tree;
mod deletes;
mod distribution_tree;
mod framing;
mod listing;
mod manifests;
mod pulls;
mod raw;
mod start_and_stop;
mod upload_chunks;
mod upload_interruptions;
mod uploads;

use serde_json::{Value, json};

use crate::support::image::{Image, sha256};
use crate::support::programs::{Answer, Larder};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Starts an upload session, and returns its `Location`.
pub(crate) async fn open_upload(larder: &Larder, name: &str) -> String {
    let path = format!("/v2/{name}/blobs/uploads/");
    let started = larder.send(larder.request("POST", &path)).await;
    assert_eq!(started.status, 202, "{started:?}");
    started.header("location").to_owned()
}

/// The id in a session's `Location`.
fn id_of(location: &str) -> &str {
    let (_, id) = location.rsplit_once('/').expect("a path");
    id.split('?').next().expect("an id")
}

/// Sends the next bytes of an upload, with no word on where they go.
pub(crate) async fn patch(larder: &Larder, location: &str, bytes: &[u8]) -> Answer {
    let request = larder.request("PATCH", location).body(bytes.to_vec());
    larder.send(request).await
}

/// Sends a chunk of an upload, and says where it goes.
async fn chunk(larder: &Larder, location: &str, range: &str, bytes: &[u8]) -> Answer {
    let request = larder
        .request("PATCH", location)
        .header("content-range", range);
    larder.send(request.body(bytes.to_vec())).await
}

/// Closes an upload with its last bytes, which may be none.
pub(crate) async fn close_upload(
    larder: &Larder,
    location: &str,
    digest: &str,
    bytes: &[u8],
) -> Answer {
    let request = larder.request("PUT", &format!("{location}&digest={digest}"));
    larder.send(request.body(bytes.to_vec())).await
}

async fn cancel_upload(larder: &Larder, location: &str) -> Answer {
    larder.send(larder.request("DELETE", location)).await
}

pub(crate) async fn delete(larder: &Larder, path: &str) -> Answer {
    larder.send(larder.request("DELETE", path)).await
}

/// A blob's bytes by GET, which must be there.
pub(crate) async fn blob(larder: &Larder, name: &str, digest: &str) -> Vec<u8> {
    let got = larder.get(&format!("/v2/{name}/blobs/{digest}")).await;
    assert_eq!((got.status, got.complete), (200, true), "{got:?}");
    got.body
}

/// An image can be pulled by its tag, whole and unchanged.
pub(crate) async fn assert_pullable(larder: &Larder, name: &str, reference: &str, image: &Image) {
    let got = larder
        .get(&format!("/v2/{name}/manifests/{reference}"))
        .await;
    assert_eq!(got.status, 200, "{name}:{reference}: {got:?}");
    assert_eq!(got.body, image.manifest_bytes());
    assert_eq!(got.header("content-type"), image.media_type());
    assert_eq!(got.header("docker-content-digest"), image.digest());
    for (digest, bytes) in image.blobs() {
        assert_eq!(blob(larder, name, &digest).await, bytes, "{name}@{digest}");
    }
    for child in image.children() {
        Box::pin(assert_pullable(larder, name, &child.digest(), child)).await;
    }
}

/// A refusal: its status and code, a body in the protocol's form, and nothing about the machine.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{body}"
    );
    assert_in_form(answer);
}

/// The protocol's error body, under its content type, and nothing about the machine in it.
#[track_caller]
fn assert_in_form(answer: &Answer) {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.header("content-type"), "application/json", "{body}");
    assert_eq!(
        answer.header("docker-distribution-api-version"),
        "registry/2.0"
    );
    let errors = answer.json()["errors"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(!errors.is_empty(), "{body}");
    for error in errors {
        assert!(
            error["code"].is_string() && error["message"].is_string(),
            "{body}"
        );
    }
    for secret in [
        "/tmp",
        "docker/registry",
        "repositories/",
        "_uploads",
        "panicked",
        "os error",
    ] {
        assert!(!body.contains(secret), "{secret}: {body}");
    }
}

/// An OCI manifest over blobs that are already pushed: the first is its config.
pub(crate) fn manifest_of(digests: &[&str]) -> Value {
    let descriptor = |digest: &str| json!({"mediaType": "application/octet-stream", "size": 1, "digest": digest});
    let layers: Vec<Value> = digests[1..]
        .iter()
        .map(|digest| descriptor(digest))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(digests[0]),
        "layers": layers,
    })
}

/// Pushes a manifest of one small blob, the config, and returns its bytes.
pub(crate) async fn push_small(larder: &Larder, name: &str, tag: &str, content: &str) -> Vec<u8> {
    let config = larder.push_blob(name, content.as_bytes()).await;
    let manifest = manifest_of(&[&config]).to_string().into_bytes();
    let pushed = larder
        .put_manifest(name, tag, OCI_MANIFEST, manifest.clone())
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    assert_eq!(pushed.header("docker-content-digest"), sha256(&manifest));
    manifest
}
