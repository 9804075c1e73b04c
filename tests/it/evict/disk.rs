//! Small disks: `cache.minfree`, in bytes and in inodes.

use serde_json::json;

use super::*;
use crate::support::disk::Disk;
use crate::support::hub::Hub;
use crate::support::programs::Options;

/// A hub with images of three megabytes.
async fn hub(count: u64) -> (Hub, Vec<Image>) {
    let hub = Hub::start().await;
    let images: Vec<_> = (0..count).map(|seed| image(seed, [2000, 1000])).collect();
    for (at, image) in images.iter().enumerate() {
        hub.push("library/app", &format!("v{at}"), image);
    }
    (hub, images)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_goes_when_the_disk_gets_full() {
    let (hub, images) = hub(5).await;
    let disk = Disk::of("16m");
    let options = Options::mirror_of(&hub).on(&disk.root());
    let mut larder = options
        .set(&["cache", "minfree"], json!("4MB"))
        .start()
        .await;
    for (at, image) in images.iter().take(4).enumerate() {
        pull(&larder, "library/app", &format!("v{at}"), image).await;
        recorded(&larder, image, 0).await;
    }
    assert!(
        images
            .iter()
            .take(4)
            .all(|image| has(&larder, "app", image))
    );
    start_hours_later(&mut larder).await;
    larder.get("/v2/library/app/manifests/v0").await;
    pull(&larder, "library/app", "v4", &images[4]).await;
    let there: Vec<_> = images.iter().map(|it| has(&larder, "app", it)).collect();
    assert_eq!(there, [true, false, true, true, true]);
    // Somebody else needs the disk: then it goes without being asked.
    start_hours_later(&mut larder).await;
    disk.fill_but(2_000_000);
    until("one more is gone", || {
        let there = images.iter().filter(|it| lists(&larder, "app", it));
        there.count() <= 3
    })
    .await;
    disk.empty();
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minfree_is_a_soft_mark_while_nothing_may_go() {
    let (hub, images) = hub(2).await;
    let disk = Disk::of("16m");
    let larder = Options::mirror_of(&hub)
        .on(&disk.root())
        .set(&["cache", "minfree"], json!("12MB"))
        .start()
        .await;
    for (at, image) in images.iter().enumerate() {
        pull(&larder, "library/app", &format!("v{at}"), image).await;
        assert!(has(&larder, "app", image));
    }
    larder
        .logged("less than cache.minfree is left on the disk")
        .await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inodes_are_looked_after_like_bytes() {
    let (hub, images) = hub(5).await;
    let disk = Disk::with("size=64m,nr_inodes=600");
    let options = Options::mirror_of(&hub).on(&disk.root());
    let mut larder = options
        .set(&["cache", "minfree"], json!("10%"))
        .start()
        .await;
    for (at, image) in images.iter().enumerate() {
        pull(&larder, "library/app", &format!("v{at}"), image).await;
        recorded(&larder, image, 0).await;
    }
    start_hours_later(&mut larder).await;
    disk.use_inodes_but(30);
    larder
        .logged("evicted: the disk has reached cache.minfree")
        .await;
    assert!(!has(&larder, "app", &images[0]));
    disk.empty();
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_on_a_disk_that_takes_no_writes_is_served_as_it_is() {
    let (hub, images) = hub(1).await;
    let disk = Disk::of("16m");
    let mut larder = Options::mirror_of(&hub)
        .on(&disk.root())
        .set(&["cache", "keepfor"], json!("1h"))
        .start()
        .await;
    pull(&larder, "library/app", "v0", &images[0]).await;
    recorded(&larder, &images[0], 0).await;
    larder.kill().await;
    last_ran(larder.root(), SystemTime::now() - HOUR * 2);
    disk.read_only(true);
    larder.start_again().await;
    larder.logged("counted what mirrors hold").await;
    pull(&larder, "library/app", "v0", &images[0]).await;
    larder.kill().await;
    disk.read_only(false);
    larder.start_again().await;
    larder.logged("evicted: unused for cache.keepfor").await;
    larder.finish().await;
}
