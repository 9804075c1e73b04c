//! Manifests are taken as they are, or not at all.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, assert_pullable, assert_refused,
    manifest_of, push_small,
};
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};

const LIMIT: usize = 4 * 1024 * 1024;

#[tokio::test]
async fn images_and_indexes_of_both_kinds_are_pushed_and_pulled_unchanged() {
    let larder = Options::registry().start().await;
    let image = |seed| Image::random(seed, &[20_000, 3_000]);
    let children = vec![(image(3), "amd64"), (image(4), "arm64")];
    let index = Image::index(children);
    for (tag, image) in [
        ("docker", image(1)),
        ("oci", image(2).oci()),
        ("list", index.clone()),
        ("index", index.oci()),
    ] {
        larder.push("team/app", tag, &image).await;
        assert_pullable(&larder, "team/app", tag, &image).await;
        assert_pullable(&larder, "team/app", &image.digest(), &image).await;
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_under_the_same_headers() {
    let larder = Options::registry().start().await;
    let config = larder.push_blob("a", b"{}").await;
    // Odd white space, unknown fields, escapes, a number that no float holds.
    let odd = format!(
        "{{ \"x\" : 12345678901234567890123 ,\r\n\t\"annotations\":{{\"\\u0061\":\"\u{e9}\\/\"}},\"layers\":[ ] ,
        \"schemaVersion\":2, \"config\":{{\"digest\":\"{config}\",\"size\":2,\"Digest\":\"x\"}}  }}\n\n"
    );
    let digest = sha256(odd.as_bytes());
    let by_tag = larder
        .put_manifest("a", "v1", OCI_MANIFEST, odd.clone())
        .await;
    let by_digest = larder
        .put_manifest("a", &digest, OCI_MANIFEST, odd.clone())
        .await;
    for pushed in [by_tag, by_digest] {
        assert_eq!((pushed.status, pushed.header("content-length")), (201, "0"));
        assert_eq!(pushed.header("docker-content-digest"), digest);
        assert_eq!(
            pushed.header("location"),
            format!("/v2/a/manifests/{digest}")
        );
    }
    for reference in ["v1", &digest] {
        let path = format!("/v2/a/manifests/{reference}");
        let (got, head) = (larder.get(&path).await, larder.head(&path).await);
        assert_eq!(got.body, odd.as_bytes());
        assert!(head.body.is_empty());
        for answer in [got, head] {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), OCI_MANIFEST);
            assert_eq!(answer.header("content-length"), odd.len().to_string());
            assert_eq!(answer.header("docker-content-digest"), digest);
            assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            assert_eq!(
                answer.header("docker-distribution-api-version"),
                "registry/2.0"
            );
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn pushing_again_changes_nothing_and_a_tag_follows_the_last_push() {
    let larder = Options::registry().start().await;
    let first = push_small(&larder, "a", "latest", "one").await;
    for _ in 0..3 {
        assert_eq!(push_small(&larder, "a", "latest", "one").await, first);
    }
    let second = push_small(&larder, "a", "latest", "two").await;
    assert_eq!(larder.get("/v2/a/manifests/latest").await.body, second);
    let old = larder
        .get(&format!("/v2/a/manifests/{}", sha256(&first)))
        .await;
    assert_eq!((old.status, old.body), (200, first));
    larder.finish().await;
}

#[tokio::test]
async fn of_two_manifests_pushed_to_one_tag_at_once_one_wins_whole() {
    let larder = Options::registry().start().await;
    let manifests = [
        push_small(&larder, "a", "one", "one").await,
        push_small(&larder, "a", "two", "two").await,
    ];
    let push = |at: usize| {
        let bytes = manifests[at % 2].clone();
        larder.put_manifest("a", "latest", OCI_MANIFEST, bytes)
    };
    let pushed = join_all((0..20).map(push)).await;
    assert!(
        pushed.iter().all(|answer| answer.status == 201),
        "{pushed:?}"
    );
    let got = larder.get("/v2/a/manifests/latest").await;
    assert!(manifests.contains(&got.body));
    assert_eq!(got.header("docker-content-digest"), sha256(&got.body));
    larder.finish().await;
}

#[tokio::test]
async fn every_blob_that_is_missing_is_named() {
    let larder = Options::registry().start().await;
    let here = larder.push_blob("a", b"here").await;
    let elsewhere = larder.push_blob("b", b"in another repository").await;
    let nowhere = sha256(b"nowhere");
    let manifest = manifest_of(&[&here, &elsewhere, &nowhere]).to_string();
    let refused = larder.put_manifest("a", "v1", OCI_MANIFEST, manifest).await;
    assert_refused(&refused, 400, "MANIFEST_BLOB_UNKNOWN");
    let errors = refused.json()["errors"]
        .as_array()
        .cloned()
        .expect("a list");
    let codes: Vec<_> = errors.iter().map(|error| error["code"].clone()).collect();
    assert_eq!(codes, ["MANIFEST_BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"]);
    let details: Vec<_> = errors.iter().map(|error| error["detail"].clone()).collect();
    assert_eq!(details, [elsewhere, nowhere]);
    assert_refused(
        &larder.get("/v2/a/manifests/v1").await,
        404,
        "MANIFEST_UNKNOWN",
    );
    larder.finish().await;
}

#[tokio::test]
async fn an_index_needs_its_children_and_may_be_empty_or_nested() {
    let larder = Options::registry().start().await;
    let child = push_small(&larder, "a", "child", "{}").await;
    let entry = |bytes: &[u8], media_type: &str| json!({"mediaType": media_type, "size": bytes.len(), "digest": sha256(bytes)});
    let index = |entries: Value| {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string()
    };
    let inner = index(json!([entry(&child, OCI_MANIFEST)]));
    let outer = index(json!([entry(inner.as_bytes(), OCI_INDEX)]));
    for (tag, bytes) in [
        ("inner", inner),
        ("outer", outer),
        ("empty", index(json!([]))),
    ] {
        let pushed = larder
            .put_manifest("a", tag, OCI_INDEX, bytes.clone())
            .await;
        assert_eq!(pushed.status, 201, "{tag}: {pushed:?}");
        let got = larder.get(&format!("/v2/a/manifests/{tag}")).await;
        assert_eq!(
            (got.header("content-type"), got.body.as_slice()),
            (OCI_INDEX, bytes.as_bytes())
        );
    }
    let missing = index(json!([
        entry(&child, OCI_MANIFEST),
        entry(b"not there", OCI_MANIFEST)
    ]));
    let refused = larder
        .put_manifest("a", "missing", OCI_INDEX, missing)
        .await;
    assert_refused(&refused, 400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"], sha256(b"not there"));
    // A child that another repository has is not this one's.
    let other = index(json!([entry(&child, OCI_MANIFEST)]));
    let refused = larder.put_manifest("b", "v1", OCI_INDEX, other).await;
    assert_refused(&refused, 400, "MANIFEST_BLOB_UNKNOWN");
    larder.finish().await;
}

#[tokio::test]
async fn a_subject_is_acknowledged_whether_or_not_it_is_there() {
    let larder = Options::registry().start().await;
    let config = larder.push_blob("a", b"{}").await;
    let subject = sha256(b"not pushed yet");
    let mut manifest = manifest_of(&[&config]);
    manifest["subject"] = json!({"mediaType": OCI_MANIFEST, "size": 3, "digest": subject});
    let bytes = manifest.to_string();
    for reference in ["signature", &sha256(bytes.as_bytes())] {
        let pushed = larder
            .put_manifest("a", reference, OCI_MANIFEST, bytes.clone())
            .await;
        assert_eq!(
            (pushed.status, pushed.header("oci-subject")),
            (201, subject.as_str())
        );
    }
    let plain = push_small(&larder, "a", "plain", "{}").await;
    let pushed = larder.put_manifest("a", "plain", OCI_MANIFEST, plain).await;
    assert!(!pushed.headers.contains_key("oci-subject"));
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_has_at_most_four_mebibytes() {
    let larder = Options::registry().start().await;
    let config = larder.push_blob("a", b"{}").await;
    let of_size = |size: usize| {
        let mut manifest = manifest_of(&[&config]);
        manifest["annotations"] = json!({"x": ""});
        let filler = "x".repeat(size - manifest.to_string().len());
        manifest["annotations"] = json!({"x": filler});
        manifest.to_string()
    };
    let fits = of_size(LIMIT);
    let pushed = larder
        .put_manifest("a", "large", OCI_MANIFEST, fits.clone())
        .await;
    assert_eq!((fits.len(), pushed.status), (LIMIT, 201), "{pushed:?}");
    assert_eq!(
        larder.get("/v2/a/manifests/large").await.body,
        fits.as_bytes()
    );
    let put = || {
        let request = larder.request("PUT", "/v2/a/manifests/larger");
        request.header("content-type", OCI_MANIFEST)
    };
    for size in [LIMIT + 1, 2 * LIMIT + 77] {
        let known = larder.send(put().body(of_size(size))).await;
        assert_refused(&known, 413, "MANIFEST_INVALID");
        let pieces = of_size(size)
            .into_bytes()
            .chunks(100_000)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>();
        let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        let unknown = larder
            .send(put().body(reqwest::Body::wrap_stream(stream)))
            .await;
        assert_refused(&unknown, 413, "MANIFEST_INVALID");
    }
    assert_refused(
        &larder.get("/v2/a/manifests/larger").await,
        404,
        "MANIFEST_UNKNOWN",
    );
    larder.finish().await;
}

/// Every one of these, pushed to `a`, is refused.
async fn assert_none_is_taken(larder: &Larder, manifests: Vec<(&str, String)>) {
    for (sent_as, bytes) in manifests {
        let shown: String = bytes.chars().take(120).collect();
        let refused = larder.put_manifest("a", "bad", sent_as, bytes).await;
        assert_eq!(refused.status, 400, "{sent_as}: {shown}: {refused:?}");
        assert_refused(&refused, 400, "MANIFEST_INVALID");
    }
    assert_refused(&larder.get("/v2/a/tags/list").await, 404, "NAME_UNKNOWN");
}

/// What it could be read as depends on the reader: CVE-2021-41190.
#[tokio::test]
async fn a_manifest_that_could_be_two_things_is_refused() {
    let larder = Options::registry().start().await;
    let here = larder.push_blob("a", b"{}").await;
    let config = format!(r#""config":{{"digest":"{here}"}}"#);
    let image = |more: &str| format!(r#"{{"schemaVersion":2,{config},"layers":[]{more}}}"#);
    let typed = |own: &str| image(&format!(r#","mediaType":"{own}""#));
    let ambiguous = vec![
        (OCI_MANIFEST, image(r#","manifests":[]"#)),
        (OCI_INDEX, image(r#","manifests":[]"#)),
        (
            OCI_INDEX,
            r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.to_owned(),
        ),
        (OCI_MANIFEST, image(r#","layers":[]"#)),
        (OCI_MANIFEST, image(r#","Layers":[]"#)),
        (OCI_MANIFEST, image("").replace("schemaV", "SCHEMAV")),
        (OCI_INDEX, image("")),
        (
            OCI_MANIFEST,
            r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
        ),
        // Types that do not agree, or are missing where they must be there.
        (OCI_MANIFEST, typed(DOCKER_MANIFEST)),
        (DOCKER_MANIFEST, typed(OCI_MANIFEST)),
        (DOCKER_LIST, typed(DOCKER_LIST)),
        (DOCKER_MANIFEST, image("")),
        ("application/json", typed(OCI_MANIFEST)),
        ("application/octet-stream", typed(OCI_MANIFEST)),
        ("text/html", typed(OCI_MANIFEST)),
        ("", typed(OCI_MANIFEST)),
        ("no/such/type", typed(OCI_MANIFEST)),
    ];
    assert_none_is_taken(&larder, ambiguous).await;
    larder.finish().await;
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let larder = Options::registry().start().await;
    let here = larder.push_blob("a", b"{}").await;
    let rest = format!(r#""config":{{"digest":"{here}"}},"layers":[]"#);
    let version = |version: &str| format!(r#"{{"schemaVersion":{version},{rest}}}"#);
    let nested = "[".repeat(100_000) + &"]".repeat(100_000);
    let broken = [
        format!("{{{rest}}}"),
        version("1"),
        version("\"2\""),
        version("2.5"),
        version("1e400"),
        version("null"),
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "<html></html>".to_owned(),
        version("2") + "{}",
        version("2").replace('}', ""),
        r#"{"schemaVersion":2}"#.to_owned(),
        r#"{"schemaVersion":2,"config":"x","layers":{}}"#.to_owned(),
        format!(r#"{{"schemaVersion":2,"config":{nested}}}"#),
    ];
    let mut broken = broken.map(|bytes| (OCI_MANIFEST, bytes)).to_vec();
    broken.push((
        OCI_INDEX,
        r#"{"schemaVersion":2,"manifests":{}}"#.to_owned(),
    ));
    broken.push((OCI_INDEX, r#"{"schemaVersion":2}"#.to_owned()));
    assert_none_is_taken(&larder, broken).await;
    for digest in [
        "",
        "sha256:abc",
        "../../../etc/passwd",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let bytes = manifest_of(&[&here, digest]).to_string();
        let refused = larder.put_manifest("a", "bad", OCI_MANIFEST, bytes).await;
        assert_refused(&refused, 400, "DIGEST_INVALID");
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_pushed_by_digest_must_have_it() {
    let larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "v1", "{}").await;
    let other = sha256(b"other");
    let refused = larder
        .put_manifest("a", &other, OCI_MANIFEST, manifest.clone())
        .await;
    assert_refused(&refused, 400, "DIGEST_INVALID");
    // A type's parameters are no part of it.
    let with_parameters = format!("{OCI_MANIFEST}; charset=utf-8");
    let pushed = larder
        .put_manifest("a", &sha256(&manifest), &with_parameters, manifest)
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    // The looks of a digest are no digest, but cosign's are a tag.
    push_small(&larder, "a", &format!("sha256-{}.sig", &other[7..]), "{}").await;
    larder.finish().await;
}
