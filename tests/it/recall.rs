//! What is served from memory is what the disk says, whoever changed it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::hub::Hub;
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};

/// Longer than it takes until what is asked for again and again comes from memory.
const WHILE: Duration = Duration::from_millis(400);

/// Asks until the answer comes from memory, and is what it should be all the while.
async fn ask_for_a_while(larder: &Larder, path: &str, expected: &[u8]) {
    let began = Instant::now();
    while began.elapsed() < WHILE {
        let got = larder.get(path).await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
        assert_eq!(got.body, expected, "{path}");
    }
}

fn tag_link(larder: &Larder, name: &str, tag: &str) -> PathBuf {
    let repository = larder.tree().join("repositories").join(name);
    repository.join(format!("_manifests/tags/{tag}/current/link"))
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap()
}

fn revision(larder: &Larder, name: &str, digest: &str) -> PathBuf {
    let repository = larder.tree().join("repositories").join(name);
    repository.join(format!("_manifests/revisions/sha256/{}", hex(digest)))
}

fn data(larder: &Larder, digest: &str) -> PathBuf {
    let hex = hex(digest);
    let blobs = larder.tree().join("blobs/sha256");
    blobs.join(format!("{}/{hex}/data", &hex[..2]))
}

/// Puts a file in place as others do: rsync, Distribution.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_file_name(".new");
    fs::write(&beside, bytes).unwrap();
    fs::rename(beside, path).unwrap();
}

/// How many removed files the process still has open.
fn removed_but_open(larder: &Larder) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", larder.pid())).unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| {
            let target = target.to_string_lossy();
            target.contains("/blobs/") && target.ends_with("(deleted)")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_what_was_pushed_last_and_nothing_once_it_is_deleted() {
    let larder = Options::registry().start().await;
    let images = [Image::random(1, &[3000]), Image::random(2, &[3000])];
    let path = "/v2/a/manifests/v1";
    for image in [&images[0], &images[1], &images[0]] {
        larder.push("a", "v1", image).await;
        let bytes = image.manifest_bytes().to_vec();
        ask_for_a_while(&larder, path, &bytes).await;
    }
    let gone = larder.send(larder.request("DELETE", path)).await;
    assert_eq!(gone.status, 202);
    assert_eq!(larder.get(path).await.status, 404);
    let by_digest = format!("/v2/a/manifests/{}", images[0].digest());
    ask_for_a_while(&larder, &by_digest, &images[0].manifest_bytes()).await;
    let gone = larder.send(larder.request("DELETE", &by_digest)).await;
    assert_eq!(gone.status, 202);
    assert_eq!(larder.get(&by_digest).await.status, 404);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_in_the_tree_counts_at_once() {
    let larder = Options::registry().start().await;
    let (one, two) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    let bytes = |image: &Image| image.manifest_bytes().to_vec();
    let (by_tag, by_digest) = (
        "/v2/a/manifests/v1",
        format!("/v2/a/manifests/{}", one.digest()),
    );
    larder.push("a", "v1", &one).await;
    larder.push("a", "v2", &two).await;
    let link = tag_link(&larder, "a", "v1");
    // A tag that is moved, by a new file and in place.
    for in_place in [false, true] {
        ask_for_a_while(&larder, by_tag, &bytes(&one)).await;
        let write = |digest: &str| {
            if in_place {
                fs::write(&link, digest).unwrap();
            } else {
                replace(&link, digest.as_bytes());
            }
        };
        write(&two.digest());
        assert_eq!(larder.get(by_tag).await.body, bytes(&two));
        ask_for_a_while(&larder, by_tag, &bytes(&two)).await;
        write(&one.digest());
        assert_eq!(larder.get(by_tag).await.body, bytes(&one));
    }
    // A tag, a manifest, its data and the whole repository that are taken away, and come back.
    let repository = larder.tree().join("repositories/a");
    for taken in [
        link.parent().unwrap().parent().unwrap().to_owned(),
        revision(&larder, "a", &one.digest()),
        data(&larder, &one.digest()),
        repository,
    ] {
        ask_for_a_while(&larder, by_tag, &bytes(&one)).await;
        ask_for_a_while(&larder, &by_digest, &bytes(&one)).await;
        let away = larder.root().join("away");
        fs::rename(&taken, &away).unwrap();
        assert_eq!(larder.get(by_tag).await.status, 404, "{}", taken.display());
        let is_tag = taken.ends_with("v1");
        let expected = if is_tag { 200 } else { 404 };
        let got = larder.get(&by_digest).await.status;
        assert_eq!(got, expected, "{}", taken.display());
        fs::rename(&away, &taken).unwrap();
        assert_eq!(larder.get(by_tag).await.body, bytes(&one));
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_goes_with_its_link_and_its_data_and_gives_its_room_back() {
    let larder = Options::registry().start().await;
    let path = |digest: &str| format!("/v2/a/blobs/{digest}");
    let bytes = vec![7; 100_000];
    let digest = larder.push_blob("a", &bytes).await;
    ask_for_a_while(&larder, &path(&digest), &bytes).await;
    // Its link alone: it stays for others.
    let gone = larder.send(larder.request("DELETE", &path(&digest))).await;
    assert_eq!(gone.status, 202);
    assert_eq!(larder.get(&path(&digest)).await.status, 404);
    assert_eq!(larder.push_blob("a", &bytes).await, digest);
    ask_for_a_while(&larder, &path(&digest), &bytes).await;
    fs::remove_file(data(&larder, &digest)).unwrap();
    assert_eq!(larder.get(&path(&digest)).await.status, 404);
    let began = Instant::now();
    while removed_but_open(&larder) > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it stays open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Others' bytes in its place are not what its digest says.
    assert_eq!(larder.push_blob("a", &bytes).await, digest);
    ask_for_a_while(&larder, &path(&digest), &bytes).await;
    replace(&data(&larder, &digest), &vec![8; 100_000]);
    assert_eq!(larder.get(&path(&digest)).await.status, 404);
    assert_eq!(larder.push_blob("a", &bytes).await, digest);
    assert_eq!(larder.get(&path(&digest)).await.body, bytes);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_and_an_import_beside_the_server_are_seen() {
    let larder = Options::registry().start().await;
    let (one, two) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    larder.push("a", "v1", &one).await;
    let bundle = larder.root().with_file_name("bundle.tar");
    let bundle = bundle.to_str().unwrap().to_owned();
    larder
        .tool(&["export", "-o", &bundle, "a:v1"])
        .await
        .expect_success();
    larder.push("a", "v1", &two).await;
    let path = "/v2/a/manifests/v1";
    let old = format!("/v2/a/manifests/{}", one.digest());
    let layer = format!("/v2/a/blobs/{}", one.layer_digests()[0]);
    ask_for_a_while(&larder, path, &two.manifest_bytes()).await;
    ask_for_a_while(&larder, &old, &one.manifest_bytes()).await;
    assert_eq!(larder.get(&layer).await.status, 200);
    larder
        .garbage_collect(&["-m", "--grace", "0s"])
        .await
        .expect_success();
    assert_eq!(larder.get(&old).await.status, 404);
    assert_eq!(larder.get(&layer).await.status, 404);
    ask_for_a_while(&larder, path, &two.manifest_bytes()).await;
    larder
        .tool(&["import", "--force", &bundle])
        .await
        .expect_success();
    assert_eq!(larder.get(path).await.body, one.manifest_bytes());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pulls_after_a_push_was_acknowledged_gets_what_was_pushed() {
    let larder = Options::registry().start().await;
    let images: Vec<_> = (1..4).map(|seed| Image::random(seed, &[100])).collect();
    for image in &images {
        larder.push("a", "v1", image).await;
    }
    let link = tag_link(&larder, "a", "v1");
    let path = "/v2/a/manifests/v1";
    let known: Vec<_> = images
        .iter()
        .map(|it| it.manifest_bytes().to_vec())
        .collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    // Many others keep it in memory all the while, and never see half of anything.
    let others = (0..6).map(|_| async {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let got = larder.get(path).await;
            assert!(known.contains(&got.body), "{got:?}");
        }
    });
    let pushing = async {
        for round in 0..100_usize {
            let image = &images[round * 7 % 3];
            if round % 2 == 0 {
                let bytes = image.manifest_bytes().to_vec();
                let put = larder.put_manifest("a", "v1", image.media_type(), bytes);
                assert_eq!(put.await.status, 201);
            } else {
                replace(&link, image.digest().as_bytes());
            }
            let got = larder.get(path).await;
            assert_eq!(got.body, image.manifest_bytes(), "round {round}");
            if round % 50 == 0 {
                tokio::time::sleep(WHILE).await;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(futures_util::future::join_all(others), pushing);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrored_tag_moves_and_goes_as_its_files_do() {
    let hub = Hub::start().await;
    let (one, two) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    hub.push("library/app", "1", &one);
    hub.push("library/app", "2", &two);
    let larder = Options::mirror_of(&hub).start().await;
    let path = "/v2/library/app/manifests/1";
    ask_for_a_while(&larder, path, &one.manifest_bytes()).await;
    assert_eq!(larder.get(path).await.cache(), "hit");
    // A local repository of that name takes its place at once, and gives it back.
    larder.push("app", "1", &two).await;
    ask_for_a_while(&larder, "/v2/app/manifests/1", &two.manifest_bytes()).await;
    fs::remove_dir_all(larder.tree().join("repositories/app")).unwrap();
    let got = larder.get("/v2/app/manifests/1").await;
    assert_eq!(got.body, one.manifest_bytes());
    let layer = &one.layer_digests()[0];
    let layer = format!("/v2/library/app/blobs/{layer}");
    assert_eq!(larder.get(&layer).await.cache(), "miss");
    let began = Instant::now();
    while began.elapsed() < WHILE {
        assert_eq!(larder.get(&layer).await.cache(), "hit");
    }
    // What somebody has removed is fetched again.
    fs::remove_file(data(&larder, &one.digest())).unwrap();
    let got = larder.get(path).await;
    assert_eq!(
        (got.body, sha256(&one.manifest_bytes())),
        (one.manifest_bytes().to_vec(), one.digest())
    );
    fs::remove_file(data(&larder, &one.layer_digests()[0])).unwrap();
    assert_eq!(larder.get(&layer).await.cache(), "miss");
    larder.finish().await;
}
