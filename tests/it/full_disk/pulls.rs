//! Pulls, by the API.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use super::{MB, assert_not_stored, content, mirror_on, path, place, ranges, said};
use crate::support::disk::Disk;
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::Options;
use crate::support::tree;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_does_not_fit_is_passed_on_whole_and_kept_when_there_is_room() {
    let hub = Hub::start().await;
    let disk = Disk::of("8m");
    let larder = mirror_on(&hub, &disk).await;
    disk.fill_but(3 << 20);
    let bytes = content(1, 6 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    for again in 1..=2 {
        let got = larder.get(&path(&digest)).await;
        assert!(got.complete && got.body == bytes, "{}", larder.log());
        assert_eq!((got.status, got.cache()), (200, "pass"), "{again}");
        assert_not_stored(&larder, &digest);
    }
    let said = said(&larder);
    assert_eq!(said.len(), 1, "once a minute: {said:?}");
    assert!(
        said[0].contains("WARN") && said[0].contains("there is no room for it"),
        "{said:?}"
    );
    assert!(said[0].contains("To do: make room on the disk"), "{said:?}");
    // That there is no room was known before anything was written: one download for each.
    assert!(ranges(&hub).is_empty(), "{:?}", ranges(&hub));
    assert_eq!(hub.blob_gets(), 2, "{:?}", hub.asked());
    disk.empty();
    for cache in ["miss", "hit"] {
        let got = larder.get(&path(&digest)).await;
        assert!(got.body == bytes && got.cache() == cache, "{}", got.cache());
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_inodes_one_client_costs_one_request_and_is_told() {
    let hub = Hub::start().await;
    let disk = Disk::with("size=64m,nr_inodes=60");
    let larder = mirror_on(&hub, &disk).await;
    disk.use_inodes_but(0);
    for (seed, length) in [(1, 3 * MB), (2, 64 * 1024), (3, 1), (4, 64 * 1024 + 1)] {
        let bytes = content(seed, length);
        let digest = hub.put_blob("library/x", bytes.clone());
        hub.clear_log();
        let got = larder.get(&path(&digest)).await;
        assert!(
            got.complete && got.body == bytes,
            "{length}: {}",
            larder.log()
        );
        assert_eq!((got.status, got.cache()), (200, "pass"), "{length}");
        assert_eq!(got.header("content-length"), length.to_string());
        assert_eq!(hub.asked().len(), 1, "{:?}", hub.asked());
    }
    // Parts too, be they at the end or in the middle.
    let bytes = content(1, 3 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    for (start, end) in [
        (0, 99),
        (100, 2_000_000),
        (3_000_000, 3 * MB - 1),
        (7, 3 * MB - 1),
    ] {
        let range = format!("bytes={start}-{end}");
        let part = larder.request("GET", &path(&digest)).header("range", range);
        let got = larder.send(part).await;
        assert!(
            got.complete && got.body == bytes[start..=end],
            "{start}-{end}"
        );
        assert_eq!((got.status, got.cache()), (206, "pass"));
    }
    // Thirty small answers are one request.
    let small = hub.put_blob("library/x", content(9, 5000));
    let gate = hub.fault(Fault::on(Where::blobs().get()).does(What::Gate(Some(10))));
    hub.clear_log();
    let pulls = (0..30).map(|_| async { larder.get(&path(&small)).await });
    let open = async {
        hub.wait_for(|asked| !asked.is_empty()).await;
        hub.open(gate);
    };
    let (got, ()) = tokio::join!(join_all(pulls), open);
    for got in &got {
        assert_eq!((got.cache(), &got.body), ("pass", &content(9, 5000)));
    }
    assert!(said(&larder).len() == 1, "{:?}", said(&larder));
    disk.empty();
    assert_eq!(larder.get(&path(&digest)).await.cache(), "miss");
    assert_eq!(larder.get(&path(&digest)).await.cache(), "hit");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_clients_whose_disk_fills_in_the_middle_get_all_the_right_bytes() {
    let hub = Hub::start().await;
    let disk = Disk::of("32m");
    let larder = mirror_on(&hub, &disk).await;
    let bytes = content(1, 8 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    let once = Fault::on(Where::blobs().get()).times(1);
    let gate = hub.fault(once.does(What::Gate(Some(3 * MB))));
    let pulls = (0..30).map(|number| {
        let (larder, bytes, digest) = (&larder, &bytes, &digest);
        async move {
            let mut request = larder.request("GET", &path(digest));
            let mut wanted = &bytes[..];
            if number % 3 == 0 {
                request = request.header("range", "bytes=2000000-6000000");
                wanted = &bytes[2_000_000..=6_000_000];
            }
            let got = larder.send(request).await;
            assert!(
                got.complete && got.body == wanted,
                "{number}: {} bytes",
                got.body.len()
            );
        }
    });
    let full = async {
        hub.wait_for(|asked| asked.iter().any(|asked| asked.body_sent() >= 3 * MB as u64))
            .await;
        let fill = place(&larder, &digest).join("fill");
        // The readers are in the middle of it.
        let written = async {
            while fs::metadata(&fill).map_or(0, |found| found.len()) < 2 << 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, written)
            .await
            .expect("a fill");
        disk.fill_but(0);
        hub.open(gate);
    };
    tokio::join!(join_all(pulls), full);
    assert_not_stored(&larder, &digest);
    assert!(said(&larder).len() == 1, "{:?}", said(&larder));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_is_verified_and_cut_if_it_is_wrong() {
    let hub = Hub::start().await;
    let disk = Disk::with("size=64m,nr_inodes=60");
    let larder = mirror_on(&hub, &disk).await;
    disk.use_inodes_but(0);
    for (seed, length, wrong) in [
        (1, 3 * MB, 5),
        (2, 3 * MB, 3 * MB - 1),
        (3, 70_000, 69_999),
        (4, 300, 299),
    ] {
        let digest = hub.put_blob("library/x", content(seed, length));
        let flip = Fault::on(Where::blobs().digest(&digest)).does(What::FlipBit(wrong));
        let fault = hub.fault(flip);
        let part = larder
            .request("GET", &path(&digest))
            .header("range", "bytes=0-99");
        for request in [larder.request("GET", &path(&digest)), part] {
            assert!(is_cut(request).await, "{length}: {}", larder.log());
        }
        hub.heal(fault);
        assert_eq!(larder.get(&path(&digest)).await.body, content(seed, length));
    }
    let digest = hub.put_blob("library/x", content(5, MB));
    let short = Fault::on(Where::blobs().get()).does(What::WrongLength(-1));
    let fault = hub.fault(short);
    assert!(is_cut(larder.request("GET", &path(&digest))).await);
    hub.heal(fault);
    larder.finish().await;
}

/// Whether an answer is an error, does not come to its end, or does not even begin.
async fn is_cut(request: reqwest::RequestBuilder) -> bool {
    match request.send().await {
        Ok(answer) => answer.status() == 502 || answer.bytes().await.is_err(),
        Err(_) => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_while_it_is_passed_on_is_resumed() {
    let hub = Hub::start().await;
    let disk = Disk::with("size=64m,nr_inodes=60");
    let larder = mirror_on(&hub, &disk).await;
    disk.use_inodes_but(0);
    let bytes = content(1, 3 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    hub.fault(
        Fault::on(Where::blobs().get())
            .times(2)
            .does(What::ResetAfter(MB)),
    );
    let got = larder.get(&path(&digest)).await;
    assert!(got.complete && got.body == bytes, "{}", larder.log());
    assert_eq!((got.cache(), ranges(&hub).len()), ("pass", 2));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_whose_length_nobody_tells_is_passed_on_too() {
    let hub = Hub::start().await;
    let disk = Disk::of("8m");
    let larder = mirror_on(&hub, &disk).await;
    disk.fill_but(1 << 20);
    for (seed, place) in [(1, Where::blobs().get()), (2, Where::blobs())] {
        let bytes = content(seed, 2 * MB);
        let digest = hub.put_blob("library/x", bytes.clone());
        let fault = hub.fault(Fault::on(place).does(What::NoLength));
        let got = larder.get(&path(&digest)).await;
        assert!(
            got.complete && got.body == bytes,
            "{seed}: {}",
            larder.log()
        );
        assert_eq!(got.cache(), "pass");
        hub.heal(fault);
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_and_tags_are_passed_on_and_what_is_cached_is_served_all_the_while() {
    let hub = Hub::start().await;
    let disk = Disk::with("size=64m,nr_inodes=120");
    let mut larder = Options::mirror_of(&hub)
        .never_fresh()
        .on(&disk.root())
        .start()
        .await;
    let image = Image::random(1, &[200_000]);
    hub.push("library/old", "1", &image);
    let layer = format!("/v2/library/old/blobs/{}", image.layer_digests()[0]);
    for path in ["/v2/library/old/manifests/1", &layer] {
        assert_eq!(larder.get(path).await.status, 200);
    }
    disk.fill_but(0);
    disk.use_inodes_but(0);
    let text = br#"{"schemaVersion":2,"manifests":[]}"#;
    let digest = hub.put_manifest("library/new", Some("1"), OCI_INDEX, &text[..]);
    for reference in ["1", &digest] {
        let got = larder
            .get(&format!("/v2/library/new/manifests/{reference}"))
            .await;
        assert_eq!(
            (got.status, got.cache(), &got.body[..]),
            (200, "pass", &text[..])
        );
        assert_eq!(got.header("docker-content-digest"), digest);
        assert_eq!(got.header("content-type"), OCI_INDEX);
    }
    // A tag that is asked for again, though its record cannot be written.
    let old = larder.get("/v2/library/old/manifests/1").await;
    assert_eq!((old.status, old.cache()), (200, "revalidated"));
    assert_eq!(larder.head(&layer).await.status, 200);
    assert_eq!(larder.get(&layer).await.cache(), "hit");
    hub.down().await;
    let old = larder.get("/v2/library/old/manifests/1").await;
    assert_eq!((old.status, old.cache()), (200, "stale"));
    assert_eq!(larder.get(&layer).await.cache(), "hit");
    hub.up().await;
    disk.empty();
    // It would take some seconds until the upstream is tried again.
    larder.hang_up().await;
    let by_digest = format!("/v2/library/new/manifests/{digest}");
    assert_eq!(larder.get(&by_digest).await.cache(), "miss");
    let again = larder.get(&by_digest).await;
    assert_eq!(again.cache(), "hit", "{}", larder.log());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_here_is_served_though_its_link_cannot_be_written() {
    let hub = Hub::start().await;
    let disk = Disk::with("size=64m,nr_inodes=120");
    let larder = mirror_on(&hub, &disk).await;
    let bytes = content(1, MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    hub.put_blob("library/y", bytes.clone());
    assert_eq!(larder.get(&path(&digest)).await.cache(), "miss");
    disk.use_inodes_but(0);
    hub.clear_log();
    let got = larder.get(&format!("/v2/library/y/blobs/{digest}")).await;
    assert!(got.complete && got.body == bytes);
    assert_eq!((got.cache(), hub.blob_gets()), ("revalidated", 0));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_becomes_read_only_fails_no_pull_and_takes_writes_when_it_can() {
    let hub = Hub::start().await;
    let disk = Disk::of("16m");
    let larder = mirror_on(&hub, &disk).await;
    let (old, new) = (content(1, 2 * MB), content(2, 2 * MB));
    let kept = hub.put_blob("library/x", old.clone());
    let late = hub.put_blob("library/x", new.clone());
    assert_eq!(larder.get(&path(&kept)).await.cache(), "miss");
    disk.read_only(true);
    let got = larder.get(&path(&kept)).await;
    assert!(got.body == old && got.cache() == "hit", "{}", got.cache());
    let got = larder.get(&path(&late)).await;
    assert!(got.body == new && got.cache() == "pass", "{}", got.cache());
    let said = said(&larder);
    assert!(said.len() == 1 && said[0].contains("read-only"), "{said:?}");
    disk.read_only(false);
    assert_eq!(larder.get(&path(&late)).await.cache(), "miss");
    assert_eq!(larder.get(&path(&late)).await.cache(), "hit");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn larder_starts_on_a_full_disk_and_serves_what_is_there() {
    let hub = Hub::start().await;
    let disk = Disk::with("size=16m,nr_inodes=100");
    let (old, new) = (content(1, 2 * MB), content(2, 2 * MB));
    let kept = hub.put_blob("library/x", old.clone());
    let late = hub.put_blob("library/x", new.clone());
    let mut larder = mirror_on(&hub, &disk).await;
    assert_eq!(larder.get(&path(&kept)).await.cache(), "miss");
    larder.kill().await;
    // Even without the files that are made at the first start.
    for name in [
        "larder.lock",
        "larder.hold",
        "larder.turn",
        "larder.collect",
    ] {
        fs::remove_file(larder.root().join(name)).unwrap();
    }
    disk.fill_but(0);
    disk.use_inodes_but(0);
    larder.start_again().await;
    let got = larder.get(&path(&kept)).await;
    assert!(got.body == old && got.cache() == "hit", "{}", got.cache());
    let got = larder.get(&path(&late)).await;
    assert!(got.body == new && got.cache() == "pass", "{}", got.cache());
    // The directory is its own all the same.
    let second = larder.start_second();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && told.contains("is in use by another larder"),
        "{told}"
    );
    disk.empty();
    assert_eq!(larder.get(&path(&late)).await.cache(), "miss");
    assert_eq!(larder.get(&path(&late)).await.cache(), "hit");
    tree::assert_sound(&larder.tree());
    larder.finish().await;
}
