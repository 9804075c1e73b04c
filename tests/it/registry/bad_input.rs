//! Malformed requests: a clear refusal in the protocol's form, never a failure of the server's.

use serde_json::json;

use super::raw::Raw;
use super::{OCI_MANIFEST, assert_in_form, assert_refused, push_small};
use crate::support::image::sha256;
use crate::support::programs::Options;

/// Names that break the grammar, between spaces.
const BAD_NAMES: &str = "UPPER a/UPPER -a a- _a a___b a..b a/.b a%20b a%00b %2e%2e/%2e%2e/etc \
    a/%2e%2e/b ..%2f..%2fetc%2fpasswd a%0d%0ab %C3%BC a%5Cb a@b a* $(id) :";

/// What is neither a tag nor a digest.
const BAD_REFERENCES: &str = "sha256:abc sha256: : md5:d41d8cd98f00b204e9800998ecf8427e sha256:%00 \
    -tag .tag %2e%2e a%20b a%00 %C3%BC tag@ a%2Bb";

/// Where there is nothing, whatever the method.
const NOWHERE: &str = "/v1/ /v2/a /v2/a/ /v3/ /v2/_catalog/x /v2/a/tags /v2/a/tags/list/x \
    /v2/manifests/x /v2/tags/list /v2/_oci/ext/discover /index.html * \
    /%2e%2e/%2e%2e/etc/passwd /v2/..%2f..%2f..%2fetc%2fpasswd /v2%2f..%2f /%00 /%FF \
    /v2/a/blobs/uploads/x/y /docker/registry/v2/repositories/a/_manifests \
    /etc/passwd/v2/a/tags/list /no.such.upstream/v2/a/tags/list \
    /v2/a/tags/list?ns=no.such.upstream /v2/a/tags/list?ns=%2e%2e%2f";

/// Paths of every kind that name nothing there can be, and the status that each gets.
fn bad_paths() -> Vec<(u16, String)> {
    let digest = sha256(b"{}");
    let (long, deep) = ("a".repeat(256), vec!["a"; 129].join("/"));
    let names = BAD_NAMES.split_whitespace().chain([long.as_str(), &deep]);
    let names = names.map(|name| (400, name));
    let mut paths: Vec<(u16, String)> = Vec::new();
    for (status, name) in names.chain([(301, "a//b%2F"), (404, "%FF"), (404, "a:5000/b")]) {
        paths.extend([
            (status, format!("/v2/{name}/tags/list")),
            (status, format!("/v2/{name}/manifests/latest")),
            (status, format!("/v2/{name}/manifests/{digest}")),
            (status, format!("/v2/{name}/blobs/{digest}")),
        ]);
    }
    let (tag, upper) = ("t".repeat(129), digest.to_uppercase());
    let (short, twice) = (
        &digest[..digest.len() - 1],
        format!("{digest}{}", &digest[7..]),
    );
    let references = BAD_REFERENCES.split_whitespace();
    for reference in references.chain([tag.as_str(), &upper, short, &twice]) {
        paths.push((400, format!("/v2/a/manifests/{reference}")));
        paths.push((400, format!("/v2/a/blobs/{reference}")));
    }
    paths.push((400, "/v2/a/blobs/latest".to_owned()));
    paths.extend(
        NOWHERE
            .split_whitespace()
            .map(|path| (404, path.to_owned())),
    );
    paths
}

#[tokio::test]
async fn every_malformed_path_is_refused_in_the_protocols_form() {
    let larder = Options::registry().start().await;
    push_small(&larder, "a", "v1", "{}").await;
    let paths = bad_paths();
    assert!(paths.len() > 150, "{}", paths.len());
    // A library would tidy the paths up first.
    let mut raw = Raw::connect(larder.address()).await;
    for (status, path) in paths {
        for method in ["GET", "PUT", "PATCH", "DELETE", "POST"] {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
            raw.send(head).await;
            let answer = raw.answer().await.expect("an answer");
            let body = String::from_utf8_lossy(&answer.body);
            assert!(
                (300..500).contains(&answer.status),
                "{method} {path}: {body}"
            );
            assert!(
                method != "GET" || answer.status == status,
                "{path}: {status}, not {body}"
            );
            assert_in_form(&answer);
        }
        raw.send(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        let head = raw.head().await.expect("an answer");
        assert!(
            [status, 405].contains(&head.status),
            "HEAD {path}: {head:?}"
        );
    }
    assert_eq!(larder.get("/v2/a/manifests/v1").await.status, 200);
    let catalog = larder.get("/v2/_catalog").await;
    assert_eq!(catalog.json(), json!({"repositories": ["a"]}));
    larder.finish().await;
}

#[tokio::test]
async fn the_longest_names_and_tags_that_are_allowed_work() {
    let larder = Options::registry().start().await;
    let digest = sha256(b"{}");
    let tag = "t".repeat(128);
    let deep = vec!["a"; 128].join("/");
    for name in [
        "n".repeat(255),
        "n".repeat(100) + "/" + &"m".repeat(154),
        deep,
    ] {
        assert_eq!(name.len(), 255);
        push_small(&larder, &name, &tag, "{}").await;
        assert_eq!(
            larder
                .get(&format!("/v2/{name}/blobs/{digest}"))
                .await
                .status,
            200
        );
        assert_eq!(
            larder.get(&format!("/v2/{name}/tags/list")).await.json()["tags"],
            json!([tag])
        );
    }
    for name in [
        "blobs/uploads",
        "manifests",
        "tags/list",
        "v2",
        "a/blobs",
        "Host.example/a",
    ] {
        push_small(&larder, name, "v1", "{}").await;
        assert_eq!(
            larder.get(&format!("/v2/{name}/manifests/v1")).await.status,
            200,
            "{name}"
        );
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_method_that_is_not_offered_is_told_which_are() {
    let larder = Options::registry().start().await;
    let digest = sha256(b"{}");
    let upload = "/v2/a/blobs/uploads/00000000-0000-7000-8000-000000000000";
    for (path, allowed) in [
        ("/v2/_catalog".to_owned(), "GET"),
        ("/v2/a/tags/list".to_owned(), "GET"),
        ("/v2/a/manifests/v1".to_owned(), "DELETE, GET, HEAD, PUT"),
        (
            format!("/v2/a/manifests/{digest}"),
            "DELETE, GET, HEAD, PUT",
        ),
        (format!("/v2/a/blobs/{digest}"), "DELETE, GET, HEAD"),
        ("/v2/a/blobs/uploads/".to_owned(), "POST"),
        (upload.to_owned(), "DELETE, GET, HEAD, PATCH, PUT"),
    ] {
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get",
        ] {
            if allowed.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let refused = larder.send(larder.request(method, &path).body("x")).await;
            assert_refused(&refused, 405, "UNSUPPORTED");
            assert_eq!(refused.header("allow"), allowed, "{method} {path}");
        }
        let options = larder.send(larder.request("OPTIONS", &path)).await;
        assert_eq!((options.status, options.header("allow")), (200, allowed));
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_path_that_is_not_clean_is_moved_and_stays_on_this_host() {
    let larder = Options::registry().start().await;
    for (path, to) in [
        ("/v2//a/tags/list?n=1", "/v2/a/tags/list?n=1"),
        ("//evil.example/v2/", "/evil.example/v2/"),
        ("///evil.example", "/evil.example"),
        ("/v2/a//manifests//v1", "/v2/a/manifests/v1"),
    ] {
        let moved = larder.get(&format!("{}{path}", larder.url())).await;
        assert_eq!(
            (moved.status, moved.header("location")),
            (301, to),
            "{path}"
        );
        assert_in_form(&moved);
    }
    larder.finish().await;
}

#[tokio::test]
async fn odd_headers_and_parameters_are_no_failure() {
    let larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "v1", "{}").await;
    let (blob, long) = (
        format!("/v2/a/blobs/{}", sha256(b"{}")),
        "x,".repeat(10_000),
    );
    for name in [
        "accept",
        "if-none-match",
        "if-match",
        "if-range",
        "range",
        "content-range",
        "content-type",
        "authorization",
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-proto",
        "expect",
        "te",
    ] {
        for value in [
            "", "\u{fc}", "\"", "*", ",,,;;;", "bytes=-", "a b c", "../../x", &long,
        ] {
            for path in ["/v2/", "/v2/a/manifests/v1", "/v2/_catalog", &blob] {
                let answer = larder
                    .send(larder.request("GET", path).header(name, value))
                    .await;
                assert!(
                    answer.status < 500,
                    "{name}: {value:.20} {path}: {answer:?}"
                );
                // No header that any client can send ends up in what others are told.
                assert!(!answer.header("location").contains(value) || value.is_empty());
            }
            let put = larder
                .request("PUT", "/v2/a/manifests/v2")
                .header(name, value);
            let put = put.body(manifest.clone());
            let put = if name == "content-type" {
                put
            } else {
                put.header("content-type", OCI_MANIFEST)
            };
            assert!(larder.send(put).await.status < 500, "{name}: {value:.20}");
        }
    }
    let host = larder
        .request("GET", "/v2/")
        .header("host", "evil.example/x?y");
    assert!(larder.send(host).await.status < 500);
    larder.finish().await;
}
