//! "Pulling blobs", "Pushing blobs", "Mounting a blob from another repository", "Deleting blobs".

use super::Algorithm;
use super::push::{self, Api, Push, assert_stored};
use super::wire::{ask, assert_blob, assert_deleted, assert_refused, get, head};
use crate::support::image::noise;
use crate::support::programs::{Answer, Larder, Options};

const HERE: &str = "conformance/repo1";
const THERE: &str = "conformance/repo2";

fn path(name: &str, digest: &str) -> String {
    format!("/v2/{name}/blobs/{digest}")
}

/// A blob of 512 bytes with its digest, another one for each seed.
fn small(algorithm: Algorithm, seed: u64) -> (String, Vec<u8>) {
    let bytes = noise(seed, 0, 512);
    (algorithm.digest(&bytes), bytes)
}

async fn mount(larder: &Larder, digest: &str, from: &str) -> Answer {
    let path = format!("/v2/{HERE}/blobs/uploads/?mount={digest}{from}");
    ask(larder, larder.request("POST", &path)).await
}

#[tokio::test]
async fn a_blob_pushed_in_any_way_is_pulled_as_it_was_and_deleted_at_once() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        for (api, seed) in Api::ROTATION.into_iter().zip(0..) {
            let (digest, bytes) = small(algorithm, seed);
            assert_eq!(get(&larder, &path(HERE, &digest)).await.status, 404);
            push::blob(&larder, HERE, &digest, &bytes, api).await;
            assert_blob(&larder, HERE, &digest, &bytes).await;
            assert_deleted(&larder, &path(HERE, &digest)).await;
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn blobs_of_nothing_and_of_an_empty_object_are_blobs() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        for bytes in [b"".as_slice(), b"{}"] {
            let digest = algorithm.digest(bytes);
            for api in Api::ROTATION {
                push::blob(&larder, HERE, &digest, bytes, api).await;
                assert_blob(&larder, HERE, &digest, bytes).await;
                assert_deleted(&larder, &path(HERE, &digest)).await;
            }
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn bytes_that_are_not_what_their_digest_says_are_refused_and_not_kept() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        for (api, seed) in Api::ROTATION.into_iter().zip(0..) {
            let mut bytes = noise(seed, 1, 3067);
            let digest = algorithm.digest(&bytes);
            bytes.extend_from_slice(b"oh no");
            let push = Push {
                larder: &larder,
                name: HERE,
                digest: &digest,
                bytes: &bytes,
                opening: "",
            };
            assert_refused(&push.by(api).await, 400, "DIGEST_INVALID");
            for digest in [digest, algorithm.digest(&bytes)] {
                assert_eq!(head(&larder, &path(HERE, &digest)).await.status, 404);
            }
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_mount_takes_a_blob_over_without_its_bytes() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        // Without `from`, the registry finds it by itself.
        for (from, seed) in [(format!("&from={THERE}"), 0), (String::new(), 1)] {
            let (digest, bytes) = small(algorithm, seed);
            push::blob(&larder, THERE, &digest, &bytes, Api::PostPut).await;
            assert_eq!(get(&larder, &path(HERE, &digest)).await.status, 404);
            let mounted = mount(&larder, &digest, &from).await;
            assert_stored(&larder, &mounted, &digest, &bytes).await;
            assert_blob(&larder, HERE, &digest, &bytes).await;
            assert_deleted(&larder, &path(HERE, &digest)).await;
            // What is deleted here is still there.
            assert_blob(&larder, THERE, &digest, &bytes).await;
            assert_deleted(&larder, &path(THERE, &digest)).await;
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_mount_of_what_is_not_there_becomes_an_upload() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        for (from, seed) in [(format!("&from={THERE}"), 0), (String::new(), 1)] {
            let (digest, bytes) = small(algorithm, seed);
            let opened = mount(&larder, &digest, &from).await;
            assert_eq!(opened.status, 202, "{opened:?}");
            let push = Push {
                larder: &larder,
                name: HERE,
                digest: &digest,
                bytes: &bytes,
                opening: "",
            };
            let stored = push.close(opened.header("location"), &bytes, None).await;
            assert_stored(&larder, &stored, &digest, &bytes).await;
            assert_blob(&larder, HERE, &digest, &bytes).await;
            assert_deleted(&larder, &path(HERE, &digest)).await;
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn part_of_a_blob_can_be_pulled() {
    let larder = Options::registry().start().await;
    let bytes = noise(7, 0, 2048);
    for algorithm in Algorithm::BOTH {
        let digest = algorithm.digest(&bytes);
        push::blob(&larder, HERE, &digest, &bytes, Api::PostPut).await;
        for (range, part) in [
            ("500-1499", Some(500..1500)),
            ("500-", Some(500..2048)),
            ("-500", Some(1548..2048)),
            ("2000-5000", Some(2000..2048)),
            ("0-0", Some(0..1)),
            ("500-0", None),
            ("5000-10000", None),
        ] {
            let request = larder.request("GET", &path(HERE, &digest));
            let request = request.header("range", format!("bytes={range}"));
            // Not in the form of the protocol's errors: 416 is plain HTTP here.
            let got = larder.send(request).await;
            let Some(part) = part else {
                assert_eq!(got.status, 416, "{range}: {got:?}");
                continue;
            };
            assert_eq!(got.status, 206, "{range}: {got:?}");
            let expected = format!("bytes {}-{}/2048", part.start, part.end - 1);
            assert_eq!(got.header("content-range"), expected, "{range}");
            assert_eq!(got.header("content-length"), part.len().to_string());
            assert_eq!(got.header("docker-content-digest"), digest);
            assert_eq!(got.body, bytes[part], "{range}");
        }
    }
    larder.finish().await;
}
