//! What a disk that takes nothing does to the counters.

use super::*;
use crate::support::disk::Disk;
use crate::support::image::{noise, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_does_not_take_is_counted() {
    const LENGTH: usize = 3 << 20;
    let hub = Hub::start().await;
    let disk = Disk::of("16m");
    let larder = Options::mirror_of(&hub).on(&disk.root()).start().await;
    let bytes = noise(1, 0, LENGTH);
    let digest = hub.put_blob("library/x", bytes.clone());
    disk.fill_but(1 << 20);
    let path = format!("/v2/library/x/blobs/{digest}");
    for _ in 0..2 {
        let got = larder.get(&path).await;
        assert_eq!((got.cache(), got.body == bytes), ("pass", true));
    }
    let pushed = noise(2, 0, LENGTH);
    let path = format!("/v2/team/app/blobs/uploads/?digest={}", sha256(&pushed));
    let refused = larder.send(larder.request("POST", &path).body(pushed));
    assert_eq!(refused.await.status, 507);
    for (name, expected) in [
        ("larder_passed_total", 2),
        (
            "larder_pulls_total{upstream=\"docker.io\",type=\"blob\",outcome=\"pass\"}",
            2,
        ),
        ("larder_pushes_refused_total", 1),
    ] {
        until("it is counted", async || {
            Page::of(&larder).await.count(name) == expected
        })
        .await;
    }
    larder.finish().await;
}
