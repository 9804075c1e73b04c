//! "Pushing Manifests" with several tags, and "Listing Tags".

use serde_json::{Value, json};

use super::data::{self, DataSet, Manifest};
use super::journey::{put, tagged};
use super::push::{self, Api};
use super::wire::{all_pages, ask, assert_refused, get, head};
use super::{Algorithm, OCI_MANIFEST};
use crate::support::programs::{Larder, Options};

const NAME: &str = "conformance/tags";

/// Pushes an image's blobs, and returns its manifest.
async fn image(larder: &Larder, algorithm: Algorithm) -> Manifest {
    let set = data::image(algorithm);
    push_blobs(larder, &set).await;
    set.manifests[0].clone()
}

async fn push_blobs(larder: &Larder, set: &DataSet) {
    for (digest, bytes) in &set.blobs {
        push::blob(larder, NAME, digest, bytes, Api::PostPut).await;
    }
}

async fn listed(larder: &Larder) -> Value {
    get(larder, &format!("/v2/{NAME}/tags/list")).await.json()["tags"].clone()
}

fn query(tags: &[String]) -> String {
    let parameters: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    parameters.join("&")
}

/// Pushes an image with the first so many of these tags, and sees that each names it.
async fn assert_tagged(larder: &Larder, manifest: &Manifest, tags: &[String]) {
    let reference = format!("{}?{}", manifest.digest, query(tags));
    let stored = put(larder, NAME, &reference, manifest).await;
    assert_eq!(tagged(&stored), tags);
    for tag in tags {
        let got = head(larder, &format!("/v2/{NAME}/manifests/{tag}")).await;
        assert_eq!(got.status, 200, "{tag}");
        assert_eq!(got.header("docker-content-digest"), manifest.digest);
    }
    let mut sorted = tags.to_vec();
    sorted.sort_unstable();
    assert_eq!(listed(larder).await, json!(sorted));
}

#[tokio::test]
async fn one_push_sets_several_tags_and_says_which() {
    for algorithm in Algorithm::BOTH {
        let larder = Options::registry().start().await;
        let manifest = image(&larder, algorithm).await;
        let mut tags: Vec<String> = (0..10).map(|number| format!("1.{number}")).collect();
        // The longest tag that there can be, and signs that tags may have.
        tags.extend(["t".repeat(128), "_Odd.1-tag_".to_owned()]);
        for count in [1, 2, tags.len()] {
            assert_tagged(&larder, &manifest, &tags[..count]).await;
        }
        larder.finish().await;
    }
}

/// More than most clients take lines of headers.
#[tokio::test]
async fn a_hundred_tags_at_once_are_answered_so_that_clients_can_read_it() {
    let larder = Options::registry().start().await;
    let manifest = image(&larder, Algorithm::Sha256).await;
    let tags: Vec<String> = (0..100).map(|number| format!("tag-{number:03}")).collect();
    assert_tagged(&larder, &manifest, &tags).await;
    larder.finish().await;
}

#[tokio::test]
async fn tags_move_from_one_algorithm_to_the_other() {
    let larder = Options::registry().start().await;
    let mut now = Vec::new();
    for algorithm in Algorithm::BOTH {
        let manifest = image(&larder, algorithm).await;
        let reference = format!("{}?tag=latest&tag=v1", manifest.digest);
        put(&larder, NAME, &reference, &manifest).await;
        for tag in ["latest", "v1"] {
            let got = head(&larder, &format!("/v2/{NAME}/manifests/{tag}")).await;
            assert_eq!(got.header("docker-content-digest"), manifest.digest);
        }
        now.push(manifest);
    }
    // Without tags, nothing moves.
    put(&larder, NAME, &now[0].digest, &now[0]).await;
    let got = head(&larder, &format!("/v2/{NAME}/manifests/latest")).await;
    assert_eq!(got.header("docker-content-digest"), now[1].digest);
    larder.finish().await;
}

#[tokio::test]
async fn a_tag_given_twice_is_set_once() {
    let larder = Options::registry().start().await;
    let manifest = image(&larder, Algorithm::Sha256).await;
    let reference = format!("{}?tag=a&tag=b&tag=a", manifest.digest);
    let stored = put(&larder, NAME, &reference, &manifest).await;
    assert_eq!(tagged(&stored), ["a", "b"]);
    assert_eq!(listed(&larder).await, json!(["a", "b"]));
    larder.finish().await;
}

#[tokio::test]
async fn one_bad_tag_among_many_refuses_them_all() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        let manifest = image(&larder, algorithm).await;
        let too_long = "t".repeat(129);
        for bad in [
            ".hidden", "-x", "", "a%2Fb", "a%20b", "a,b", "sha256:x", &too_long,
        ] {
            for tags in [format!("tag=good&tag={bad}"), format!("tag={bad}&tag=good")] {
                let path = format!("/v2/{NAME}/manifests/{}?{tags}", manifest.digest);
                let request = larder.request("PUT", &path);
                let request = request.header("content-type", manifest.media_type);
                let refused = ask(&larder, request.body(manifest.bytes.clone())).await;
                assert_eq!(refused.status, 400, "{tags}: {refused:?}");
                assert!(tagged(&refused).is_empty(), "{refused:?}");
            }
        }
        for reference in ["good", &manifest.digest] {
            let got = get(&larder, &format!("/v2/{NAME}/manifests/{reference}")).await;
            assert_refused(&got, 404, "MANIFEST_UNKNOWN");
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_manifest_that_is_refused_moves_no_tag() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        let manifest = image(&larder, algorithm).await;
        put(
            &larder,
            NAME,
            &format!("{}?tag=latest", manifest.digest),
            &manifest,
        )
        .await;
        let mut wrong = manifest.bytes.clone();
        wrong.extend_from_slice(b"  ");
        let unknown = data::index(algorithm).manifests[1].bytes.clone();
        let other = algorithm.digest(&unknown);
        for (digest, bytes, code) in [
            (&manifest.digest, wrong, "DIGEST_INVALID"),
            (&other, unknown, "MANIFEST_BLOB_UNKNOWN"),
        ] {
            let path = format!("/v2/{NAME}/manifests/{digest}?tag=latest&tag=new");
            let request = larder.request("PUT", &path);
            let request = request.header("content-type", OCI_MANIFEST);
            let refused = ask(&larder, request.body(bytes)).await;
            assert_refused(&refused, 400, code);
            assert!(tagged(&refused).is_empty(), "{refused:?}");
        }
        let got = head(&larder, &format!("/v2/{NAME}/manifests/latest")).await;
        assert_eq!(got.header("docker-content-digest"), manifest.digest);
        assert_eq!(listed(&larder).await, json!(["latest"]));
    }
    larder.finish().await;
}

#[tokio::test]
async fn tags_are_listed_in_byte_order_in_pages_of_any_size() {
    let larder = Options::registry().start().await;
    let manifest = image(&larder, Algorithm::Sha256).await;
    let mut tags = [
        "z", "B", "a", "_", "10", "9", "a.b", "a-b", "A", "a_b", "v1.0",
    ];
    let all = tags.map(str::to_owned);
    put(
        &larder,
        NAME,
        &format!("{}?{}", manifest.digest, query(&all)),
        &manifest,
    )
    .await;
    tags.sort_unstable();
    let path = format!("/v2/{NAME}/tags/list");
    assert_eq!(listed(&larder).await, json!(tags));
    for n in 1..=tags.len() + 1 {
        let (listed, _) = all_pages(&larder, &format!("{path}?n={n}"), "tags").await;
        assert_eq!(listed, tags, "n={n}");
        // From a tag that there is, and from one that there is not.
        for last in ["9", "A0"] {
            let from = tags
                .iter()
                .position(|tag| *tag > last)
                .unwrap_or(tags.len());
            let start = format!("{path}?n={n}&last={last}");
            let (listed, _) = all_pages(&larder, &start, "tags").await;
            assert_eq!(listed, tags[from..], "n={n} last={last}");
        }
    }
    larder.finish().await;
}
