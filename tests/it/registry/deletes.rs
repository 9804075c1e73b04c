//! Deleting: at once, only what was meant, and only where it is allowed.

use serde_json::json;

use super::{OCI_MANIFEST, assert_refused, blob, delete, manifest_of, push_small};
use crate::support::image::sha256;
use crate::support::programs::Options;

#[tokio::test]
async fn deleting_a_tag_leaves_the_manifest_and_the_other_tags() {
    let larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "one", "{}").await;
    push_small(&larder, "a", "two", "{}").await;
    let deleted = delete(&larder, "/v2/a/manifests/one").await;
    assert_eq!(
        (deleted.status, deleted.header("content-length")),
        (202, "0")
    );
    assert_refused(
        &larder.get("/v2/a/manifests/one").await,
        404,
        "MANIFEST_UNKNOWN",
    );
    for reference in ["two", &sha256(&manifest)] {
        let got = larder.get(&format!("/v2/a/manifests/{reference}")).await;
        assert_eq!(
            (got.status, got.body.as_slice()),
            (200, manifest.as_slice())
        );
    }
    assert_eq!(
        larder.get("/v2/a/tags/list").await.json()["tags"],
        json!(["two"])
    );
    for path in [
        "/v2/a/manifests/one",
        "/v2/a/manifests/never",
        "/v2/no/such/manifests/one",
    ] {
        assert_refused(&delete(&larder, path).await, 404, "MANIFEST_UNKNOWN");
    }
    larder.finish().await;
}

#[tokio::test]
async fn deleting_a_manifest_takes_every_tag_that_names_it_and_no_other() {
    let larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "one", "first").await;
    push_small(&larder, "a", "also-one", "first").await;
    let other = push_small(&larder, "a", "two", "second").await;
    // Named it once, but names the other now.
    push_small(&larder, "a", "moved", "first").await;
    push_small(&larder, "a", "moved", "second").await;
    let path = format!("/v2/a/manifests/{}", sha256(&manifest));
    assert_eq!(delete(&larder, &path).await.status, 202);
    assert_eq!(
        larder.get("/v2/a/tags/list").await.json()["tags"],
        json!(["moved", "two"])
    );
    assert_refused(&larder.get(&path).await, 404, "MANIFEST_UNKNOWN");
    assert_eq!(larder.head("/v2/a/manifests/one").await.status, 404);
    assert_eq!(larder.get("/v2/a/manifests/moved").await.body, other);
    assert_refused(&delete(&larder, &path).await, 404, "MANIFEST_UNKNOWN");
    // Pushed again, it is there again.
    assert_eq!(push_small(&larder, "a", "one", "first").await, manifest);
    assert_eq!(larder.get(&path).await.body, manifest);
    larder.finish().await;
}

#[tokio::test]
async fn deleting_a_blob_takes_it_from_one_repository_only() {
    let larder = Options::registry().start().await;
    let digest = larder.push_blob("a", b"shared").await;
    larder.push_blob("b", b"shared").await;
    let path = format!("/v2/a/blobs/{digest}");
    let deleted = delete(&larder, &path).await;
    assert_eq!(
        (deleted.status, deleted.header("content-length")),
        (202, "0")
    );
    assert_refused(&larder.get(&path).await, 404, "BLOB_UNKNOWN");
    assert_eq!(larder.head(&path).await.status, 404);
    assert_eq!(blob(&larder, "b", &digest).await, b"shared");
    assert_refused(&delete(&larder, &path).await, 404, "BLOB_UNKNOWN");
    let manifest = manifest_of(&[&digest]).to_string();
    let refused = larder.put_manifest("a", "v1", OCI_MANIFEST, manifest).await;
    assert_refused(&refused, 400, "MANIFEST_BLOB_UNKNOWN");
    larder.push_blob("a", b"shared").await;
    assert_eq!(blob(&larder, "a", &digest).await, b"shared");
    larder.finish().await;
}

#[tokio::test]
async fn a_repository_whose_tags_are_all_deleted_is_still_known() {
    let larder = Options::registry().start().await;
    push_small(&larder, "a", "only", "{}").await;
    assert_eq!(delete(&larder, "/v2/a/manifests/only").await.status, 202);
    let tags = larder.get("/v2/a/tags/list").await;
    assert_eq!(
        (tags.status, tags.json()),
        (200, json!({"name": "a", "tags": []}))
    );
    assert_eq!(
        larder.get("/v2/_catalog").await.json()["repositories"],
        json!(["a"])
    );
    larder.finish().await;
}

#[tokio::test]
async fn where_deleting_is_off_nothing_is_deleted() {
    let larder = Options::registry();
    let larder = larder
        .set(&["storage", "delete", "enabled"], json!(false))
        .start()
        .await;
    let manifest = push_small(&larder, "a", "v1", "{}").await;
    let (by_digest, config) = (sha256(&manifest), sha256(b"{}"));
    for path in [
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/manifests/{by_digest}"),
        format!("/v2/a/blobs/{config}"),
    ] {
        assert_refused(&delete(&larder, &path).await, 405, "UNSUPPORTED");
        assert_eq!(larder.get(&path).await.status, 200);
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_read_only_registry_serves_and_takes_nothing() {
    let mut larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "v1", "{}").await;
    larder.kill().await;
    let readonly = Options::registry().on(larder.root());
    let readonly = readonly.set(
        &["storage", "maintenance"],
        json!({"readonly": {"enabled": true}}),
    );
    let readonly = readonly.start().await;
    assert_eq!(readonly.get("/v2/a/manifests/v1").await.body, manifest);
    let digest = sha256(b"new");
    let uploads = "/v2/a/blobs/uploads/";
    for (method, path) in [
        ("POST", uploads.to_owned()),
        ("POST", format!("{uploads}?digest={digest}")),
        ("POST", format!("{uploads}?mount={}&from=a", sha256(b"{}"))),
        ("DELETE", "/v2/a/manifests/v1".to_owned()),
        ("DELETE", format!("/v2/a/blobs/{}", sha256(b"{}"))),
    ] {
        let refused = readonly
            .send(readonly.request(method, &path).body("new"))
            .await;
        assert_refused(&refused, 405, "UNSUPPORTED");
    }
    let refused = readonly
        .put_manifest("a", "v2", OCI_MANIFEST, manifest)
        .await;
    assert_refused(&refused, 405, "UNSUPPORTED");
    assert_eq!(
        readonly.get("/v2/a/tags/list").await.json()["tags"],
        json!(["v1"])
    );
    readonly.finish().await;
}

#[tokio::test]
async fn a_download_under_way_outlives_the_deletion_of_its_blob() {
    let larder = Options::registry().start().await;
    let bytes: Vec<u8> = (0..30_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = larder.push_blob("a", &bytes).await;
    let path = format!("/v2/a/blobs/{digest}");
    let mut download = larder
        .request("GET", &path)
        .send()
        .await
        .expect("an answer");
    let first = download.chunk().await.expect("bytes").expect("some");
    assert_eq!(delete(&larder, &path).await.status, 202);
    assert_refused(&larder.get(&path).await, 404, "BLOB_UNKNOWN");
    let mut got = first.to_vec();
    while let Some(piece) = download.chunk().await.expect("the rest") {
        got.extend_from_slice(&piece);
    }
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    larder.finish().await;
}
