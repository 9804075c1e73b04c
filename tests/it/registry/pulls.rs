//! Pulling what was pushed: conditions, ranges, and what each client can read.

use serde_json::json;

use super::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, assert_refused, push_small};
use crate::support::image::{Image, sha256};
use crate::support::programs::{Answer, Larder, Options};

/// A GET or HEAD with headers.
async fn ask(larder: &Larder, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = larder.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    larder.send(request).await
}

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let larder = Options::registry().start().await;
    for path in ["/v2/", "/v2"] {
        let base = larder.get(path).await;
        assert_eq!(
            (base.status, base.body.as_slice()),
            (200, b"{}".as_slice()),
            "{path}"
        );
        assert_eq!(base.header("content-type"), "application/json");
        assert_eq!(
            base.header("docker-distribution-api-version"),
            "registry/2.0"
        );
        assert_eq!(larder.head(path).await.header("content-length"), "2");
    }
    let root = larder.get("/").await;
    assert_eq!(
        (root.status, root.header("cache-control")),
        (200, "no-cache")
    );
    let options = ask(&larder, "OPTIONS", "/v2/a/blobs/uploads/", &[]).await;
    assert_eq!((options.status, options.header("allow")), (200, "POST"));
    larder.finish().await;
}

#[tokio::test]
async fn a_blob_and_its_head_say_what_it_is() {
    let larder = Options::registry().start().await;
    let digest = larder.push_blob("team/app", b"0123456789").await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let (got, head) = (larder.get(&path).await, larder.head(&path).await);
    assert_eq!(
        (got.body.as_slice(), head.body.len()),
        (b"0123456789".as_slice(), 0)
    );
    for answer in [got, head] {
        assert_eq!(
            (answer.status, answer.header("content-length")),
            (200, "10")
        );
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        assert_eq!(answer.header("cache-control"), "max-age=31536000");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.cache(), "hit");
    }
    let unknown = format!("/v2/team/app/blobs/{}", sha256(b"other"));
    let refused = larder.get(&unknown).await;
    assert_refused(&refused, 404, "BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"], sha256(b"other"));
    let head = larder.head(&unknown).await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(
        head.header("content-length"),
        refused.body.len().to_string()
    );
    larder.finish().await;
}

/// What is small is read, the rest is sent in pieces of a MiB by the kernel, and the last of them may
/// be small.
#[tokio::test]
async fn a_blob_is_whole_whatever_its_size() {
    const MIB: usize = 1 << 20;
    const SMALL: usize = 16 << 10;
    for disabled in [false, true] {
        let options = Options::registry().set(&["http", "sendfile", "disabled"], json!(disabled));
        let larder = options.start().await;
        for size in [
            1,
            SMALL,
            SMALL + 1,
            MIB,
            MIB + 1,
            2 * MIB + SMALL,
            2 * MIB + SMALL + 1,
        ] {
            let byte = |at: usize| u8::try_from((at / 7 + at / 4096) % 251).unwrap();
            let content: Vec<u8> = (0..size).map(byte).collect();
            let path = format!("/v2/a/blobs/{}", larder.push_blob("a", &content).await);
            let whole = larder.get(&path).await;
            assert!(whole.body == content, "{size}: {}", whole.body.len());
            let range = [("range", "bytes=-1000000")];
            let part = ask(&larder, "GET", &path, &range).await;
            let from = size.saturating_sub(1_000_000);
            assert!(part.body == content[from..], "{size}: {}", part.body.len());
        }
        larder.finish().await;
    }
}

#[tokio::test]
async fn ranges_are_served_cut_or_refused() {
    let larder = Options::registry().start().await;
    let bytes: Vec<u8> = (0..2048_u32).map(|n| (n % 251) as u8).collect();
    let digest = larder.push_blob("a", &bytes).await;
    let path = format!("/v2/a/blobs/{digest}");
    for (range, start, end) in [
        ("bytes=0-0", 0, 0),
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 2047),
        ("bytes=-500", 1548, 2047),
        ("bytes=-1000000", 0, 2047),
        ("bytes=2000-5000", 2000, 2047),
        ("bytes=2047-2047", 2047, 2047),
        ("bytes=0-18446744073709551615", 0, 2047),
    ] {
        let part = ask(&larder, "GET", &path, &[("range", range)]).await;
        assert_eq!(part.status, 206, "{range}: {part:?}");
        assert_eq!(part.body, bytes[start..=end], "{range}");
        assert_eq!(
            part.header("content-range"),
            format!("bytes {start}-{end}/2048")
        );
        assert_eq!(part.header("content-length"), (end - start + 1).to_string());
        assert_eq!(part.header("docker-content-digest"), digest);
    }
    for range in [
        "bytes=500-0",
        "bytes=2048-",
        "bytes=5000-10000",
        "bytes=18446744073709551615-",
        "bytes=99999999999999999999-",
        "bytes=-0",
        "bytes=-",
        "bytes=",
        "bytes=x-y",
        "bytes=+1-2",
        "bytes=0x1-0x2",
        "bytes=1.5-2",
        "items=0-5",
        "0-5",
        "\u{fc}",
    ] {
        let refused = ask(&larder, "GET", &path, &[("range", range)]).await;
        assert_refused(&refused, 416, "RANGE_INVALID");
        assert_eq!(refused.header("content-range"), "bytes */2048", "{range}");
    }
    let many = format!("bytes={}", vec!["0-1"; 2000].join(","));
    for range in ["bytes=0-1,5-6", &many] {
        let whole = ask(&larder, "GET", &path, &[("range", range)]).await;
        assert_eq!(
            (whole.status, whole.body.as_slice()),
            (200, bytes.as_slice())
        );
    }
    // RFC 9110 §14.2: only a GET has ranges.
    let head = ask(&larder, "HEAD", &path, &[("range", "bytes=0-9")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, "2048"));
    larder.finish().await;
}

#[tokio::test]
async fn conditions_on_blobs_are_honoured() {
    let larder = Options::registry().start().await;
    let digest = larder.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let (etag, other) = (format!("\"{digest}\""), format!("\"{}\"", sha256(b"other")));
    let (weak, list) = (format!("W/{etag}"), format!("{other}, {etag}"));
    for value in [etag.as_str(), &weak, &list, "*"] {
        for method in ["GET", "HEAD"] {
            let known = ask(&larder, method, &path, &[("if-none-match", value)]).await;
            assert_eq!((known.status, known.body.len()), (304, 0), "{value}");
            assert_eq!(known.header("etag"), etag);
            assert_eq!(known.header("docker-content-digest"), digest);
        }
    }
    let new = ask(&larder, "GET", &path, &[("if-none-match", &other)]).await;
    assert_eq!(
        (new.status, new.body.as_slice()),
        (200, b"0123456789".as_slice())
    );
    let same = ask(&larder, "GET", &path, &[("if-match", &etag)]).await;
    assert_eq!(same.status, 200);
    let changed = ask(&larder, "GET", &path, &[("if-match", &other)]).await;
    assert_eq!((changed.status, changed.complete), (412, true));
    for (value, status, body) in [(&etag, 206, "234"), (&other, 200, "0123456789")] {
        let headers = [("range", "bytes=2-4"), ("if-range", value.as_str())];
        let answer = ask(&larder, "GET", &path, &headers).await;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (status, body.as_bytes())
        );
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_that_the_client_has_is_not_sent_again() {
    let larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "v1", "{}").await;
    let digest = sha256(&manifest);
    let (etag, other) = (format!("\"{digest}\""), format!("\"{}\"", sha256(b"other")));
    for reference in ["v1", &digest] {
        let path = format!("/v2/a/manifests/{reference}");
        for (value, status) in [
            (etag.as_str(), 304),
            (&digest, 304),
            ("*", 304),
            (&other, 200),
        ] {
            let answer = ask(&larder, "GET", &path, &[("if-none-match", value)]).await;
            assert_eq!(answer.status, status, "{reference} {value}");
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(answer.header("docker-content-digest"), digest);
        }
        // Ranges are for blobs.
        let whole = ask(&larder, "GET", &path, &[("range", "bytes=0-3")]).await;
        assert_eq!(
            (whole.status, whole.body.as_slice()),
            (200, manifest.as_slice())
        );
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_client_gets_the_manifest_it_can_read() {
    let larder = Options::registry().start().await;
    let oci = Image::random(1, &[3000]).oci();
    let children = vec![
        (Image::random(2, &[3000]), "arm64"),
        (Image::random(3, &[3000]), "amd64"),
    ];
    let list = Image::index(children);
    let index = Image::index(vec![(Image::random(4, &[3000]), "amd64")]).oci();
    for (tag, image) in [("oci", &oci), ("list", &list), ("index", &index)] {
        larder.push("a", tag, image).await;
    }
    let amd64 = list.children()[1].digest();
    let both = format!("{DOCKER_MANIFEST}, {DOCKER_LIST};q=0.5");
    for (tag, accept, served) in [
        ("oci", OCI_MANIFEST, Some(oci.digest())),
        ("oci", "*/*", Some(oci.digest())),
        ("oci", "application/*", Some(oci.digest())),
        ("oci", "application/json", Some(oci.digest())),
        (
            "oci",
            &format!("text/html, {OCI_MANIFEST};q=0.1"),
            Some(oci.digest()),
        ),
        ("oci", DOCKER_MANIFEST, None),
        ("oci", "text/html", None),
        (&oci.digest(), DOCKER_MANIFEST, None),
        ("list", DOCKER_LIST, Some(list.digest())),
        ("list", &both, Some(list.digest())),
        ("list", OCI_INDEX, Some(list.digest())),
        ("list", DOCKER_MANIFEST, Some(amd64.clone())),
        (&list.digest(), DOCKER_MANIFEST, Some(list.digest())),
        ("index", DOCKER_MANIFEST, Some(index.digest())),
    ] {
        let path = format!("/v2/a/manifests/{tag}");
        let got = ask(&larder, "GET", &path, &[("accept", accept)]).await;
        let head = ask(&larder, "HEAD", &path, &[("accept", accept)]).await;
        assert_eq!(got.status, head.status);
        match served {
            Some(digest) => {
                assert_eq!(
                    (got.status, got.header("docker-content-digest")),
                    (200, digest.as_str())
                );
                assert_eq!(sha256(&got.body), digest, "{tag} for {accept}");
                assert_eq!(head.header("docker-content-digest"), digest);
                assert_eq!(head.header("content-length"), got.body.len().to_string());
                assert_eq!(head.header("content-type"), got.header("content-type"));
            }
            None => assert_refused(&got, 404, "MANIFEST_UNKNOWN"),
        }
        // Without the header, and over two lines.
        let any = larder.get(&path).await;
        assert_eq!(any.status, 200);
        let lines = [
            ("accept", "text/html"),
            ("accept", any.header("content-type")),
        ];
        assert_eq!(ask(&larder, "GET", &path, &lines).await.body, any.body);
    }
    larder.finish().await;
}

#[tokio::test]
async fn an_old_client_is_not_given_a_list_without_its_platform() {
    let larder = Options::registry().start().await;
    let list = Image::index(vec![(Image::random(2, &[3000]), "arm64")]);
    larder.push("a", "list", &list).await;
    let old = [("accept", DOCKER_MANIFEST)];
    let refused = ask(&larder, "GET", "/v2/a/manifests/list", &old).await;
    assert_refused(&refused, 404, "MANIFEST_UNKNOWN");
    larder.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_unknown() {
    let larder = Options::registry().start().await;
    push_small(&larder, "a", "v1", "{}").await;
    let digest = sha256(b"no such thing");
    for (path, code, detail) in [
        (
            "/v2/a/manifests/v2".to_owned(),
            "MANIFEST_UNKNOWN",
            json!("v2"),
        ),
        (
            format!("/v2/a/manifests/{digest}"),
            "MANIFEST_UNKNOWN",
            json!(digest),
        ),
        (
            "/v2/b/manifests/v1".to_owned(),
            "MANIFEST_UNKNOWN",
            json!("v1"),
        ),
        (
            format!("/v2/a/blobs/{digest}"),
            "BLOB_UNKNOWN",
            json!(digest),
        ),
        // What one repository has, another has not.
        (
            format!("/v2/b/blobs/{}", sha256(b"{}")),
            "BLOB_UNKNOWN",
            json!(sha256(b"{}")),
        ),
        (
            "/v2/b/tags/list".to_owned(),
            "NAME_UNKNOWN",
            json!({"name": "b"}),
        ),
    ] {
        let refused = larder.get(&path).await;
        assert_refused(&refused, 404, code);
        assert_eq!(refused.json()["errors"][0]["detail"], detail);
    }
    larder.finish().await;
}
