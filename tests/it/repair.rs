//! What is stored and is not what it should be: it is never served to its end, a mirror fetches it
//! again, and what was pushed is kept aside and reported.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use crate::registry::push_small;
use crate::support::disk::Disk;
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::{Image, noise, sha256};
use crate::support::programs::{Dockerd, Larder, Options};
use crate::support::tree;
use crate::support::until::until;

/// As large as what is hashed before it is served, and larger.
const SMALL: usize = 300_000;
const LARGE: usize = 17 << 20;

fn content(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, 0, length)
}

fn data(larder: &Larder, digest: &str) -> PathBuf {
    let hex = &digest[7..];
    let blobs = larder.tree().join("blobs/sha256");
    blobs.join(&hex[..2]).join(hex).join("data")
}

/// What was moved aside of a blob.
fn aside(larder: &Larder, digest: &str) -> Vec<PathBuf> {
    let directory = data(larder, digest);
    let found = tree::files(directory.parent().expect("a directory"));
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with("damaged.")
    };
    found.into_iter().filter(is_aside).collect()
}

/// One wrong bit, and the file's times as they were: as a disk does it.
fn flip(path: &Path, at: usize) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("data");
    let modified = file
        .metadata()
        .and_then(|found| found.modified())
        .expect("a time");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at as u64)
        .expect("a byte");
    file.set_modified(modified).expect("a time");
}

fn path(name: &str, digest: &str) -> String {
    format!("/v2/{name}/blobs/{digest}")
}

/// A mirror that has blobs of these sizes.
async fn with_blobs(hub: &Hub, sizes: &[usize]) -> (Larder, Vec<(String, Vec<u8>)>) {
    let larder = Options::mirror_of(hub).start().await;
    let mut blobs = Vec::new();
    for (seed, size) in (1..).zip(sizes) {
        let bytes = content(seed, *size);
        let digest = hub.put_blob("library/x", bytes.clone());
        let got = larder.get(&path("library/x", &digest)).await;
        assert_eq!((got.cache(), got.body == bytes), ("miss", true));
        blobs.push((digest, bytes));
    }
    (larder, blobs)
}

async fn restart(larder: &mut Larder) {
    larder.kill().await;
    larder.start_again().await;
}

/// Nobody gets all of an answer that is wrong, and whoever asks again gets the right one.
async fn is_healed(larder: &Larder, digest: &str, bytes: &[u8]) {
    let path = path("library/x", digest);
    let mut requests = vec![larder.request("GET", &path)];
    let range = larder.request("GET", &path).header("range", "bytes=10-99");
    requests.push(range);
    for (request, wanted) in requests.into_iter().zip([bytes, &bytes[10..100]]) {
        let got = larder.send(request).await;
        assert!(
            !got.complete || got.body == wanted,
            "{digest}: {}",
            larder.log()
        );
    }
    let got = larder.get(&path).await;
    assert!(
        got.complete && got.body == bytes,
        "{digest}: {got:?}\n{}",
        larder.log()
    );
    assert_eq!(larder.get(&path).await.cache(), "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_mirrors_blob_is_found_after_a_start_and_healed() {
    let hub = Hub::start().await;
    let (mut larder, blobs) = with_blobs(&hub, &[100, SMALL, LARGE, LARGE]).await;
    larder.kill().await;
    for ((digest, bytes), at) in blobs.iter().zip([0, 299_999, 5, LARGE - 1]) {
        flip(&data(&larder, digest), at.min(bytes.len() - 1));
    }
    larder.start_again().await;
    // What is small is fetched again for the very request that found it.
    let (digest, bytes) = &blobs[1];
    let got = larder.get(&path("library/x", digest)).await;
    assert_eq!(
        (got.status, got.cache(), &got.body == bytes),
        (200, "miss", true)
    );
    for (digest, bytes) in &blobs {
        is_healed(&larder, digest, bytes).await;
    }
    larder
        .logged("is damaged: it was removed, and is fetched again")
        .await;
    assert!(
        blobs
            .iter()
            .all(|(digest, _)| aside(&larder, digest).is_empty())
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_under_a_running_larder_is_looked_at_again() {
    let hub = Hub::start().await;
    let (larder, blobs) = with_blobs(&hub, &[SMALL, LARGE]).await;
    for (digest, bytes) in &blobs {
        let mut wrong = bytes.clone();
        wrong[77] ^= 1;
        fs::write(data(&larder, digest), &wrong).unwrap();
        is_healed(&larder, digest, bytes).await;
    }
    // A digest has one size: then nothing needs to be hashed, and nobody's answer is cut.
    for (digest, bytes) in &blobs {
        fs::write(data(&larder, digest), &bytes[..bytes.len() - 1]).unwrap();
        let got = larder.get(&path("library/x", digest)).await;
        assert_eq!(
            (got.status, got.cache(), &got.body == bytes),
            (200, "miss", true)
        );
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrors_data_that_is_missing_short_or_no_file_is_fetched_within_the_request() {
    let hub = Hub::start().await;
    let (mut larder, blobs) = with_blobs(&hub, &[SMALL, LARGE]).await;
    let damages: [fn(&Path); 5] = [
        |_| (),
        |path| fs::write(path, "").unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("x"), "x").unwrap();
        },
        |path| symlink("/etc/passwd", path).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        for (digest, bytes) in &blobs {
            let file = data(&larder, digest);
            fs::remove_file(&file).unwrap();
            damage(&file);
            if number % 2 == 0 {
                restart(&mut larder).await;
            }
            let got = larder.get(&path("library/x", digest)).await;
            assert!(
                got.complete && &got.body == bytes,
                "{number}: {}",
                larder.log()
            );
            assert_eq!(got.cache(), "miss", "{number}");
            assert_eq!(larder.get(&path("library/x", digest)).await.cache(), "hit");
        }
    }
    // Cut after a stop, what is large may have gone out in part.
    for (digest, bytes) in &blobs {
        larder.kill().await;
        fs::write(data(&larder, digest), &bytes[..bytes.len() / 2]).unwrap();
        larder.start_again().await;
        is_healed(&larder, digest, bytes).await;
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_clients_of_a_damaged_blob_cost_one_download_and_none_is_deceived() {
    let hub = Hub::start().await;
    let (mut larder, blobs) = with_blobs(&hub, &[SMALL, LARGE]).await;
    larder.kill().await;
    for (digest, _) in &blobs {
        flip(&data(&larder, digest), 200_000);
    }
    larder.start_again().await;
    hub.clear_log();
    for (digest, bytes) in &blobs {
        let path = path("library/x", digest);
        let all = join_all((0..30).map(|_| larder.get(&path))).await;
        for got in all {
            assert!(!got.complete || &got.body == bytes);
        }
        assert_eq!(&larder.get(&path).await.body, bytes);
    }
    assert_eq!(hub.blob_gets(), blobs.len(), "{:?}", hub.asked());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_upstream_away_damaged_bytes_are_not_served_either() {
    let hub = Hub::start().await;
    let (mut larder, blobs) = with_blobs(&hub, &[SMALL, LARGE]).await;
    larder.kill().await;
    for (digest, _) in &blobs {
        flip(&data(&larder, digest), 1000);
    }
    hub.down().await;
    larder.start_again().await;
    for (digest, _) in &blobs {
        for again in 0..3 {
            let got = larder.get(&path("library/x", digest)).await;
            let refused = [404, 502].contains(&got.status);
            assert!(
                refused || (again == 0 && !got.complete),
                "{again}: {}",
                got.status
            );
        }
    }
    hub.up().await;
    // It would take some seconds until the upstream is tried again.
    larder.hang_up().await;
    for (digest, bytes) in &blobs {
        assert_eq!(&larder.get(&path("library/x", digest)).await.body, bytes);
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrors_damaged_manifest_is_fetched_again_within_the_request() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[5000]);
    hub.push("library/app", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    for reference in ["1", &image.digest()] {
        let path = format!("/v2/library/app/manifests/{reference}");
        assert_eq!(larder.get(&path).await.body, image.manifest_bytes());
        flip(&data(&larder, &image.digest()), 20);
        let got = larder.get(&path).await;
        assert_eq!(
            (got.status, &got.body[..]),
            (200, &image.manifest_bytes()[..])
        );
        assert_eq!(larder.get(&path).await.cache(), "hit");
    }
    larder.finish().await;
}

/// dockerd keeps manifests for a while: it asks by HEAD what a tag names, and reads its own copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirrors_manifest_that_a_question_finds_damaged_is_fetched_again_too() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[5000]);
    hub.push("library/app", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    let by_tag = "/v2/library/app/manifests/1";
    larder.get(by_tag).await;
    for reference in ["1", &image.digest()] {
        let stored = data(&larder, &image.digest());
        flip(&stored, 20);
        let path = format!("/v2/library/app/manifests/{reference}");
        assert_eq!(larder.head(&path).await.status, 200);
        until("it is whole again", async || {
            fs::read(&stored).is_ok_and(|bytes| bytes == image.manifest_bytes())
        })
        .await;
        assert_eq!(larder.get(by_tag).await.cache(), "hit");
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_and_is_damaged_is_kept_aside_and_asked_for_again() {
    let mut larder = Options::registry().start().await;
    for (seed, size) in [(1, 5), (2, SMALL), (3, LARGE)] {
        let bytes = content(seed, size);
        let digest = larder.push_blob("team/app", &bytes).await;
        larder.kill().await;
        flip(&data(&larder, &digest), 3);
        let wrong = fs::read(data(&larder, &digest)).unwrap();
        larder.start_again().await;
        let path = path("team/app", &digest);
        // A question hashes nothing.
        assert_eq!(larder.head(&path).await.status, 200);
        let got = larder.get(&path).await;
        assert!(
            got.status == 404 || (size == LARGE && !got.complete),
            "{}",
            got.status
        );
        larder.logged("To do: push it again").await;
        assert!(
            larder.log().contains("repository=team/app"),
            "{}",
            larder.log()
        );
        assert!(larder.log().contains(&digest), "{}", larder.log());
        let got = larder.get(&path).await;
        assert_eq!((got.status, got.code().as_str()), (404, "BLOB_UNKNOWN"));
        assert_eq!(larder.head(&path).await.status, 404);
        let kept = aside(&larder, &digest);
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(&kept[0]).unwrap(), wrong, "nothing is deleted");
        // Neither by a collection.
        let collected = larder.garbage_collect(&["--delete-untagged"]).await;
        collected.expect_success();
        assert_eq!(aside(&larder, &digest), kept);
        larder.push_blob("team/app", &bytes).await;
        let got = larder.get(&path).await;
        assert!(got.complete && got.body == bytes);
        assert_eq!(aside(&larder, &digest), kept);
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_manifest_that_is_damaged_is_kept_aside_and_asked_for_again() {
    let larder = Options::registry().start().await;
    let manifest = push_small(&larder, "team/app", "1", "{}").await;
    let digest = sha256(&manifest);
    flip(&data(&larder, &digest), 7);
    for reference in ["1", &digest] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let got = larder.get(&path).await;
        assert_eq!((got.status, got.code().as_str()), (404, "MANIFEST_UNKNOWN"));
        assert_eq!(larder.head(&path).await.status, 404);
    }
    assert_eq!(aside(&larder, &digest).len(), 1);
    assert!(larder.log().contains("push it again"), "{}", larder.log());
    // Its layers wait for it: what cannot be read keeps what it may have named.
    larder.garbage_collect(&[]).await.expect_success();
    push_small(&larder, "team/app", "1", "{}").await;
    let got = larder.get("/v2/team/app/manifests/1").await;
    assert_eq!((got.status, got.body), (200, manifest));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mirror_shares_with_a_push_is_kept_aside_and_healed_for_both() {
    let hub = Hub::start().await;
    let (mut larder, blobs) = with_blobs(&hub, &[SMALL, LARGE]).await;
    for (digest, bytes) in &blobs {
        larder.push_blob("team/app", bytes).await;
        larder.kill().await;
        flip(&data(&larder, digest), 100);
        larder.start_again().await;
        let got = larder.get(&path("library/x", digest)).await;
        assert!(!got.complete || &got.body == bytes);
        assert_eq!(&larder.get(&path("library/x", digest)).await.body, bytes);
        let got = larder.get(&path("team/app", digest)).await;
        assert!(got.complete && &got.body == bytes, "healed for both");
        // By whom it is found is decided by who asks first; either way nothing is deleted unless
        // the right bytes were there before.
        assert!(aside(&larder, digest).len() <= 1);
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_once_is_not_hashed_again_and_a_question_changes_nothing() {
    let hub = Hub::start().await;
    let (larder, blobs) = with_blobs(&hub, &[LARGE]).await;
    let (digest, bytes) = &blobs[0];
    let pushed = larder.push_blob("team/app", &content(9, LARGE)).await;
    // A HEAD touches what was pushed; what was fetched has just been verified. So a wrong bit that
    // leaves no trace goes unnoticed by both: nothing is hashed.
    assert_eq!(larder.head(&path("team/app", &pushed)).await.status, 200);
    flip(&data(&larder, &pushed), 100);
    flip(&data(&larder, digest), 100);
    let got = larder.get(&path("team/app", &pushed)).await;
    assert!(got.complete && got.body != content(9, LARGE));
    let got = larder.get(&path("library/x", digest)).await;
    assert!(got.complete && &got.body != bytes);
    // Put right, so that the tree is sound.
    flip(&data(&larder, &pushed), 100);
    flip(&data(&larder, digest), 100);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_whose_repair_is_wrong_too_is_cut() {
    let hub = Hub::start().await;
    let (mut larder, blobs) = with_blobs(&hub, &[SMALL]).await;
    let (digest, bytes) = &blobs[0];
    larder.kill().await;
    flip(&data(&larder, digest), 100);
    larder.start_again().await;
    let fault = hub.fault(Fault::on(Where::blobs().digest(digest)).does(What::FlipBit(100)));
    let got = larder.get(&path("library/x", digest)).await;
    assert!(got.status >= 400 || !got.complete);
    hub.heal(fault);
    assert_eq!(&larder.get(&path("library/x", digest)).await.body, bytes);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_an_image_whose_stored_copy_is_damaged() {
    let hub = Hub::builder().bearer().cdn().start().await;
    let image = Image::random(1, &[3_000_000, 100_000, 2000]);
    hub.push("library/app", "1", &image);
    let mut larder = Options::mirror_of(&hub).start().await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    docker.pull("app:1").await;
    docker.remove_image("app:1").await;
    larder.kill().await;
    for digest in image.layer_digests() {
        flip(&data(&larder, &digest), 1500);
    }
    for digest in [image.digest(), image.config_digest()] {
        flip(&data(&larder, &digest), 15);
    }
    larder.start_again().await;
    docker.pull("app:1").await;
    assert_eq!(docker.image_id("app:1").await, image.config_digest());
    assert!(
        !docker.log().contains("registry-1.docker.io"),
        "{}",
        docker.log()
    );
    // What dockerd had a copy of itself is fetched again while it pulls the rest.
    let manifest = data(&larder, &image.digest());
    until("the manifest is whole again", async || manifest.is_file()).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_on_a_read_only_disk_are_not_served_either() {
    let hub = Hub::start().await;
    let disk = Disk::of("64m");
    let mut larder = Options::mirror_of(&hub).on(&disk.root()).start().await;
    for (seed, size) in [(1, SMALL), (2, LARGE)] {
        let bytes = content(seed, size);
        let digest = hub.put_blob("library/x", bytes.clone());
        let mirrored = path("library/x", &digest);
        assert_eq!(larder.get(&mirrored).await.cache(), "miss");
        let own = content(seed + 10, size);
        let pushed = larder.push_blob("team/app", &own).await;
        larder.kill().await;
        flip(&data(&larder, &digest), 10);
        flip(&data(&larder, &pushed), 10);
        disk.read_only(true);
        larder.start_again().await;
        let first = larder.get(&mirrored).await;
        assert!(!first.complete || first.body == bytes);
        for _ in 0..2 {
            let got = larder.get(&mirrored).await;
            assert!(got.complete && got.body == bytes, "{}", larder.log());
            assert_eq!(got.cache(), "pass");
        }
        let first = larder.get(&path("team/app", &pushed)).await;
        assert!(first.status == 404 || !first.complete);
        assert_eq!(larder.get(&path("team/app", &pushed)).await.status, 404);
        larder.kill().await;
        disk.read_only(false);
        larder.start_again().await;
        is_healed(&larder, &digest, &bytes).await;
        larder.push_blob("team/app", &own).await;
        assert_eq!(larder.get(&path("team/app", &pushed)).await.body, own);
    }
    larder.finish().await;
}
