//! "Pushing a blob in chunks", "Cancel a blob upload", and the algorithm that an upload announces.

use super::Algorithm;
use super::push::{self, Api, Last, Order, Push, assert_stored};
use super::wire::{ask, assert_blob, assert_deleted, assert_refused, delete, get, head};
use crate::support::image::noise;
use crate::support::programs::Options;

const NAME: &str = "conformance/chunks";

/// Three chunks, the last one shorter.
const LENGTH: usize = 3 * 1024 - 5;

const CHUNKED: [Api; 4] = [
    Api::Chunked(Last::Patch, Order::Kept),
    Api::Chunked(Last::Put, Order::Kept),
    Api::Chunked(Last::Patch, Order::Broken),
    Api::Chunked(Last::Put, Order::Broken),
];

#[tokio::test]
async fn chunks_in_order_are_put_together_and_others_harm_nothing() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        // One chunk is enough for the short ones.
        for length in [LENGTH, 512] {
            for (api, seed) in CHUNKED.into_iter().zip(0..) {
                let bytes = noise(seed, 2, length);
                let digest = algorithm.digest(&bytes);
                push::blob(&larder, NAME, &digest, &bytes, api).await;
                assert_blob(&larder, NAME, &digest, &bytes).await;
                assert_deleted(&larder, &format!("/v2/{NAME}/blobs/{digest}")).await;
            }
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn an_upload_may_say_beforehand_what_it_will_be_hashed_with() {
    let larder = Options::registry().start().await;
    let every = Api::ROTATION.into_iter().chain(CHUNKED);
    for (api, seed) in every.zip(0..) {
        for (announced, algorithm) in [
            (Algorithm::Sha512, Algorithm::Sha512),
            (Algorithm::Sha256, Algorithm::Sha256),
            // It is a hint: what counts is the digest at the end.
            (Algorithm::Sha512, Algorithm::Sha256),
            (Algorithm::Sha256, Algorithm::Sha512),
        ] {
            let bytes = noise(seed, 3, LENGTH);
            let digest = algorithm.digest(&bytes);
            let push = Push {
                larder: &larder,
                name: NAME,
                digest: &digest,
                bytes: &bytes,
                opening: &format!("?digest-algorithm={}", announced.name()),
            };
            let stored = push.by(api).await;
            assert_stored(&larder, &stored, &digest, &bytes).await;
            assert_blob(&larder, NAME, &digest, &bytes).await;
            assert_deleted(&larder, &format!("/v2/{NAME}/blobs/{digest}")).await;
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn an_algorithm_that_nobody_knows_is_refused_before_anything_is_sent() {
    let larder = Options::registry().start().await;
    for algorithm in ["md5", "sha1024", "SHA512", "", "sha512%20", "..%2F..%2Fetc"] {
        let path = format!("/v2/{NAME}/blobs/uploads/?digest-algorithm={algorithm}");
        let refused = ask(&larder, larder.request("POST", &path)).await;
        assert_refused(&refused, 400, "DIGEST_INVALID");
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_cancelled_upload_is_gone_with_what_it_received() {
    let larder = Options::registry().start().await;
    for (algorithm, sent) in [
        (Algorithm::Sha256, 0),
        (Algorithm::Sha256, 100),
        (Algorithm::Sha512, 0),
        (Algorithm::Sha512, 100),
    ] {
        let bytes = noise(1, 4, 200);
        let digest = algorithm.digest(&bytes);
        let push = Push {
            larder: &larder,
            name: NAME,
            digest: &digest,
            bytes: &bytes,
            opening: &format!("?digest-algorithm={}", algorithm.name()),
        };
        let mut location = push.open().await.header("location").to_owned();
        if sent > 0 {
            let request = larder.request("PATCH", &location);
            let taken = ask(&larder, request.body(bytes[..sent].to_vec())).await;
            taken.header("location").clone_into(&mut location);
        }
        let request = larder
            .request("DELETE", &location)
            .header("content-length", 0);
        assert_eq!(ask(&larder, request).await.status, 204);
        assert_refused(&get(&larder, &location).await, 404, "BLOB_UPLOAD_UNKNOWN");
        let again = delete(&larder, &location).await;
        assert_refused(&again, 404, "BLOB_UPLOAD_UNKNOWN");
        let closed = push.close(&location, &bytes[sent..], None).await;
        assert_refused(&closed, 404, "BLOB_UPLOAD_UNKNOWN");
        let blob = head(&larder, &format!("/v2/{NAME}/blobs/{digest}")).await;
        assert_eq!(blob.status, 404);
    }
    larder.finish().await;
}
