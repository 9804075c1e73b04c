//! Blobs are pushed in every way that clients have, and arrive as they were sent.

use futures_util::future::join_all;

use super::raw::Raw;
use super::{
    OCI_MANIFEST, assert_refused, blob, cancel_upload, close_upload, id_of, manifest_of,
    open_upload, patch,
};
use crate::support::image::{sha256, sha512};
use crate::support::programs::Options;

#[tokio::test]
async fn a_session_is_opened_and_closed_with_the_whole_blob() {
    let larder = Options::registry().start().await;
    let (bytes, name) = (b"all of it".repeat(1000), "team/app");
    let path = format!("/v2/{name}/blobs/uploads/");
    let opened = larder.send(larder.request("POST", &path)).await;
    let location = opened.header("location").to_owned();
    assert_eq!((opened.status, opened.header("content-length")), (202, "0"));
    assert_eq!(opened.header("range"), "0-0");
    assert_eq!(opened.header("docker-upload-uuid"), id_of(&location));
    let digest = sha256(&bytes);
    let closed = close_upload(&larder, &location, &digest, &bytes).await;
    assert_eq!((closed.status, closed.header("content-length")), (201, "0"));
    assert_eq!(closed.header("docker-content-digest"), digest);
    let got = larder.get(closed.header("location")).await;
    assert_eq!((got.status, got.body), (200, bytes));
    // The session is over.
    assert_refused(&larder.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN");
    larder.finish().await;
}

#[tokio::test]
async fn a_single_request_pushes_a_whole_blob() {
    let larder = Options::registry().start().await;
    let digest = sha256(b"in one go");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let pushed = larder
        .send(larder.request("POST", &path).body("in one go"))
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    assert_eq!(pushed.header("docker-content-digest"), digest);
    assert_eq!(
        larder.get(pushed.header("location")).await.body,
        b"in one go"
    );

    let wrong = larder
        .send(larder.request("POST", &path).body("something else"))
        .await;
    assert_refused(&wrong, 400, "DIGEST_INVALID");
    let path = "/v2/a/blobs/uploads/?digest=md5:abc";
    let unreadable = larder.send(larder.request("POST", path).body("x")).await;
    assert_refused(&unreadable, 400, "DIGEST_INVALID");
    larder.finish().await;
}

#[tokio::test]
async fn a_wrong_digest_stores_nothing_and_ends_the_session() {
    let larder = Options::registry().start().await;
    let (wrong, right) = (sha256(b"other bytes"), sha256(b"these bytes"));
    let location = open_upload(&larder, "a").await;
    let refused = close_upload(&larder, &location, &wrong, b"these bytes").await;
    assert_refused(&refused, 400, "DIGEST_INVALID");
    assert_refused(&larder.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN");
    for digest in [&wrong, &right] {
        let got = larder.get(&format!("/v2/a/blobs/{digest}")).await;
        assert_refused(&got, 404, "BLOB_UNKNOWN");
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_digest_that_is_none_is_refused_and_the_session_kept() {
    let larder = Options::registry().start().await;
    let location = open_upload(&larder, "a").await;
    let upper = sha256(b"x").to_uppercase().replace("SHA256", "sha256");
    let sent = patch(&larder, &location, b"x").await;
    let location = sent.header("location");
    for parameter in [
        String::new(),
        "&digest=".to_owned(),
        "&digest=sha256:abc".to_owned(),
        "&digest=md5:9dd4e461268c8034f5c8564e155c67a6".to_owned(),
        "&digest=latest".to_owned(),
        "&digest=..%2F..%2Fetc".to_owned(),
        format!("&digest={upper}"),
    ] {
        let request = larder.request("PUT", &format!("{location}{parameter}"));
        assert_refused(&larder.send(request).await, 400, "DIGEST_INVALID");
        assert_eq!(larder.get(location).await.status, 204, "{parameter}");
    }
    let closed = close_upload(&larder, location, &sha256(b"x"), b"").await;
    assert_eq!(closed.status, 201, "{closed:?}");
    larder.finish().await;
}

#[tokio::test]
async fn a_blob_of_nothing_is_a_blob() {
    let larder = Options::registry().start().await;
    let digest = larder.push_blob("a", b"").await;
    let path = format!("/v2/a/blobs/{digest}");
    let (got, head) = (larder.get(&path).await, larder.head(&path).await);
    assert_eq!((got.status, got.header("content-length")), (200, "0"));
    assert_eq!((head.status, head.header("content-length")), (200, "0"));
    let ranged = larder.request("GET", &path).header("range", "bytes=0-5");
    assert_eq!(larder.send(ranged).await.status, 200);
    larder.finish().await;
}

#[tokio::test]
async fn sha512_is_answered_with_the_digest_that_was_asked_for() {
    let larder = Options::registry().start().await;
    let (bytes, digest) = (b"a longer hash", sha512(b"a longer hash"));
    let sent = patch(&larder, &open_upload(&larder, "a").await, bytes).await;
    let closed = close_upload(&larder, sent.header("location"), &digest, b"").await;
    assert_eq!(
        (closed.status, closed.header("docker-content-digest")),
        (201, digest.as_str())
    );
    for answer in [
        larder.get(closed.header("location")).await,
        larder.head(closed.header("location")).await,
    ] {
        assert_eq!(
            (answer.status, answer.header("docker-content-digest")),
            (200, digest.as_str())
        );
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
    }
    let manifest = manifest_of(&[&digest]).to_string();
    let name = sha512(manifest.as_bytes());
    let pushed = larder
        .put_manifest("a", &name, OCI_MANIFEST, manifest.clone())
        .await;
    assert_eq!(
        (pushed.status, pushed.header("docker-content-digest")),
        (201, name.as_str())
    );
    let got = larder.get(pushed.header("location")).await;
    assert_eq!(
        (got.status, got.header("docker-content-digest")),
        (200, name.as_str())
    );
    assert_eq!(got.body, manifest.as_bytes());
    // It is not there under a name that nobody gave it.
    let other = larder
        .get(&format!("/v2/a/manifests/{}", sha256(manifest.as_bytes())))
        .await;
    assert_refused(&other, 404, "MANIFEST_UNKNOWN");
    larder.finish().await;
}

#[tokio::test]
async fn a_mount_takes_what_the_other_repository_has_and_nothing_else() {
    let larder = Options::registry().start().await;
    let digest = larder.push_blob("from/here", b"shared").await;
    let mount = async |to: &str, digest: &str, from: &str| {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}{from}");
        larder.send(larder.request("POST", &path)).await
    };
    let mounted = mount("to/there", &digest, "&from=from/here").await;
    assert_eq!(
        (mounted.status, mounted.header("docker-content-digest")),
        (201, digest.as_str())
    );
    assert_eq!(larder.get(mounted.header("location")).await.body, b"shared");
    assert_eq!(blob(&larder, "to/there", &digest).await, b"shared");
    let unknown = sha256(b"never pushed");
    for (digest, from) in [
        (unknown.as_str(), "&from=from/here"),
        (&digest, "&from=no/such"),
        (&digest, "&from=NOT%20a%20name"),
        ("sha256:nonsense", "&from=from/here"),
    ] {
        let ordinary = mount("elsewhere", digest, from).await;
        assert_eq!(ordinary.status, 202, "{digest}{from}: {ordinary:?}");
        let cancelled = cancel_upload(&larder, ordinary.header("location")).await;
        assert_eq!(cancelled.status, 204);
    }
    let unseen = larder.get(&format!("/v2/elsewhere/blobs/{digest}")).await;
    assert_refused(&unseen, 404, "BLOB_UNKNOWN");
    larder.finish().await;
}

#[tokio::test]
async fn twenty_clients_push_the_same_blob_and_all_succeed() {
    let larder = Options::registry().start().await;
    let bytes = vec![7; 1_000_000];
    let digests = join_all((0..20).map(|_| larder.push_blob("a", &bytes))).await;
    assert_eq!(blob(&larder, "a", &digests[0]).await, bytes);
    larder.finish().await;
}

#[tokio::test]
async fn a_form_is_bytes_like_any_other() {
    let larder = Options::registry().start().await;
    let bytes = format!("digest={}&mount=x&from=y&_state=77", sha256(b"no"));
    let form = "application/x-www-form-urlencoded";
    let location = open_upload(&larder, "a").await;
    let request = larder
        .request("PATCH", &location)
        .header("content-type", form);
    let sent = larder.send(request.body(bytes.clone())).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    let digest = sha256(bytes.as_bytes());
    let closed = close_upload(&larder, sent.header("location"), &digest, b"").await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(blob(&larder, "a", &digest).await, bytes.as_bytes());
    larder.finish().await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told_to_go_on_or_refused_at_once() {
    let larder = Options::registry().start().await;
    let location = open_upload(&larder, "a").await;
    let mut raw = Raw::connect(larder.address()).await;
    let head = |location: &str| {
        format!(
            "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    raw.send(head(&location)).await;
    assert_eq!(raw.answer().await.map(|answer| answer.status), Some(100));
    raw.send("hello").await;
    let sent = raw.answer().await.expect("an answer");
    assert_eq!((sent.status, sent.header("range")), (202, "0-4"));
    // The stale Location is refused without asking for the bytes.
    raw.send(head(&location)).await;
    let refused = raw.answer().await.expect("an answer");
    assert_eq!(refused.status, 416, "{refused:?}");
    let closed = close_upload(&larder, sent.header("location"), &sha256(b"hello"), b"").await;
    assert_eq!(closed.status, 201, "{closed:?}");
    larder.finish().await;
}
