//! What is not there, what is malformed, what is too much, and what is warned about.

use serde_json::json;

use super::journey::put;
use super::push::{self, Api};
use super::wire::{ask, assert_refused, delete, get, head};
use super::{Algorithm, OCI_INDEX, OCI_MANIFEST, data};
use crate::support::hub::Hub;
use crate::support::programs::{Larder, Options};

const NAME: &str = "conformance/errors";

/// What looks like a digest and is none.
fn bad_digests() -> Vec<String> {
    let hex = Algorithm::Sha256.digest(b"x").replace("sha256:", "");
    vec![
        "sha256:baddigeststring".to_owned(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha512:{hex}"),
        format!("sha1024:{hex}"),
        "md5:9dd4e461268c8034f5c8564e155c67a6".to_owned(),
    ]
}

/// Pushes an image, so that its repository is there.
async fn push_image(larder: &Larder) {
    let set = data::image(Algorithm::Sha256);
    for (digest, bytes) in &set.blobs {
        push::blob(larder, NAME, digest, bytes, Api::PostPut).await;
    }
    let bytes = set.manifests[0].bytes.clone();
    let stored = larder.put_manifest(NAME, "v1", OCI_MANIFEST, bytes).await;
    assert_eq!(stored.status, 201, "{stored:?}");
}

#[tokio::test]
async fn a_registry_says_that_it_is_one() {
    let larder = Options::registry().start().await;
    let ping = get(&larder, "/v2/").await;
    assert_eq!((ping.status, ping.body.as_slice()), (200, b"{}".as_slice()));
    larder.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_in_known_and_unknown_repositories() {
    let larder = Options::registry().start().await;
    push_image(&larder).await;
    for name in [NAME, "nobody/knows"] {
        let mut cases = vec![("manifests/missing".to_owned(), "MANIFEST_UNKNOWN")];
        for algorithm in Algorithm::BOTH {
            let digest = algorithm.digest(b"never pushed");
            cases.push((format!("manifests/{digest}"), "MANIFEST_UNKNOWN"));
            cases.push((format!("blobs/{digest}"), "BLOB_UNKNOWN"));
        }
        for (what, code) in cases {
            let path = format!("/v2/{name}/{what}");
            assert_refused(&get(&larder, &path).await, 404, code);
            assert_eq!(head(&larder, &path).await.status, 404, "{path}");
            assert_refused(&delete(&larder, &path).await, 404, code);
        }
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let digest = Algorithm::Sha256.digest(b"");
            let path = format!("/v2/{name}/blobs/uploads/nobody-knows?digest={digest}");
            let refused = ask(&larder, larder.request(method, &path)).await;
            assert_eq!(refused.status, 404, "{method} {path}: {refused:?}");
        }
    }
    let tags = get(&larder, "/v2/nobody/knows/tags/list").await;
    assert_refused(&tags, 404, "NAME_UNKNOWN");
    larder.finish().await;
}

#[tokio::test]
async fn a_digest_that_is_none_is_never_a_tag() {
    let larder = Options::registry().start().await;
    push_image(&larder).await;
    let manifest = data::image(Algorithm::Sha256).manifests[0].clone();
    for digest in bad_digests() {
        let path = format!("/v2/{NAME}/manifests/{digest}");
        let request = larder.request("PUT", &path);
        let request = request.header("content-type", OCI_MANIFEST);
        let refused = ask(&larder, request.body(manifest.bytes.clone())).await;
        assert_refused(&refused, 400, "DIGEST_INVALID");
        for path in [path, format!("/v2/{NAME}/blobs/{digest}")] {
            let got = get(&larder, &path).await;
            assert!([400, 404].contains(&got.status), "{path}: {got:?}");
        }
        let post = format!("/v2/{NAME}/blobs/uploads/?digest={digest}");
        let refused = ask(&larder, larder.request("POST", &post).body("x")).await;
        assert_refused(&refused, 400, "DIGEST_INVALID");
    }
    let tags = get(&larder, &format!("/v2/{NAME}/tags/list")).await;
    assert_eq!(tags.json()["tags"], json!(["v1"]));
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_whose_bytes_are_others_than_its_digest_says_is_refused() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        let set = data::image(algorithm);
        for (digest, bytes) in &set.blobs {
            push::blob(&larder, NAME, digest, bytes, Api::PostPut).await;
        }
        let manifest = &set.manifests[0];
        let mut bytes = manifest.bytes.clone();
        bytes.extend_from_slice(b"  ");
        let refused = larder
            .put_manifest(NAME, &manifest.digest, OCI_MANIFEST, bytes.clone())
            .await;
        assert_refused(&refused, 400, "DIGEST_INVALID");
        for digest in [manifest.digest.clone(), algorithm.digest(&bytes)] {
            let got = get(&larder, &format!("/v2/{NAME}/manifests/{digest}")).await;
            assert_refused(&got, 404, "MANIFEST_UNKNOWN");
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_needs_what_it_names() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        for set in [data::image, data::artifact, data::index] {
            let manifest = set(algorithm).manifests.pop().expect("a manifest");
            let path = format!("/v2/{NAME}/manifests/{}", manifest.digest);
            let request = larder.request("PUT", &path);
            let request = request.header("content-type", manifest.media_type);
            let refused = ask(&larder, request.body(manifest.bytes)).await;
            assert_refused(&refused, 400, "MANIFEST_BLOB_UNKNOWN");
            assert_eq!(head(&larder, &path).await.status, 404);
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_over_the_limit_is_too_large_and_one_at_the_limit_is_not() {
    let larder = Options::registry().start().await;
    let limit = 4 * 1024 * 1024;
    let mut index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": {"a": ""},
    });
    let filling = limit - index.to_string().len();
    for (length, status) in [(filling, 201), (filling + 1, 413)] {
        index["annotations"]["a"] = json!("A".repeat(length));
        let bytes = index.to_string().into_bytes();
        for reference in ["large".to_owned(), Algorithm::Sha512.digest(&bytes)] {
            let path = format!("/v2/{NAME}/manifests/{reference}");
            let request = larder.request("PUT", &path);
            let request = request.header("content-type", OCI_INDEX);
            let answer = ask(&larder, request.body(bytes.clone())).await;
            assert_eq!(answer.status, status, "{reference}: {answer:?}");
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let larder = Options::registry().start().await;
    let long = "a".repeat(256);
    for name in ["a..b", "a/_b", "-a", "a_", "a/b.", &long] {
        let digest = Algorithm::Sha256.digest(b"x");
        for (method, what) in [
            ("GET", "tags/list".to_owned()),
            ("GET", "manifests/latest".to_owned()),
            ("PUT", "manifests/latest".to_owned()),
            ("GET", format!("blobs/{digest}")),
            ("POST", "blobs/uploads/".to_owned()),
            ("GET", format!("referrers/{digest}")),
        ] {
            let path = format!("/v2/{name}/{what}");
            // A path that fits no route is plain HTTP, as with Distribution.
            let refused = larder.send(larder.request(method, &path)).await;
            let status = refused.status;
            assert!([400, 404].contains(&status), "{method} {path}: {refused:?}");
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn deleting_is_unsupported_where_it_is_off() {
    let options = Options::registry().set(&["storage", "delete", "enabled"], json!(false));
    let larder = options.start().await;
    push_image(&larder).await;
    let set = data::image(Algorithm::Sha256);
    for what in [
        "manifests/v1".to_owned(),
        format!("manifests/{}", set.manifests[0].digest),
        format!("blobs/{}", set.blobs[0].0),
    ] {
        let path = format!("/v2/{NAME}/{what}");
        assert_refused(&delete(&larder, &path).await, 405, "UNSUPPORTED");
        assert_eq!(head(&larder, &path).await.status, 200, "{path}");
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_first_push_hides_is_said_in_a_warning() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub).start().await;
    let set = data::image(Algorithm::Sha256);
    for (digest, bytes) in &set.blobs {
        push::blob(&larder, "labs/nginx", digest, bytes, Api::PostPut).await;
    }
    // The warning's form is looked at whenever larder is asked anything.
    for (tag, warned) in [("1", true), ("2", false)] {
        let stored = put(&larder, "labs/nginx", tag, &set.manifests[0]).await;
        let warning = stored.header("warning");
        assert_eq!(
            warning.contains("docker.io/labs/nginx"),
            warned,
            "{warning}"
        );
    }
    larder.finish().await;
}
