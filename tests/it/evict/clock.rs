//! What is unused for long goes, and a clock that jumps makes nothing old.

use std::fs::File;

use serde_json::json;

use super::*;
use crate::support::hub::Hub;
use crate::support::programs::Options;

const YEAR: Duration = Duration::from_hours(365 * 24);

/// A larder that keeps for 30 hours what nobody pulls, with two images.
async fn two_images(hub: &Hub) -> (Larder, [Image; 2]) {
    let images = [1, 2].map(|seed| image(seed, [20, 10]));
    let larder = Options::mirror_of(hub)
        .set(&["cache", "keepfor"], json!("30h"))
        .start()
        .await;
    for (image, name) in images.iter().zip(["a", "b"]) {
        hub.push(&format!("library/{name}"), "v1", image);
        pull(&larder, &format!("library/{name}"), "v1", image).await;
        recorded(&larder, image, 0).await;
    }
    (larder, images)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_nobody_pulls_goes_after_keepfor() {
    let hub = Hub::start().await;
    let (mut larder, [a, b]) = two_images(&hub).await;
    // Each year without larder counts for a day.
    for round in 0..3 {
        larder.kill().await;
        last_ran(larder.root(), SystemTime::now() - YEAR);
        larder.start_again().await;
        larder.logged("counted what mirrors hold").await;
        let before = recorded(&larder, &b, 0).await;
        larder.get("/v2/library/b/manifests/v1").await;
        recorded(&larder, &b, before).await;
        assert_eq!(has(&larder, "a", &a), round == 0);
        assert!(has(&larder, "b", &b));
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_a_year_evicts_nothing() {
    let hub = Hub::start().await;
    let (mut larder, [a, b]) = two_images(&hub).await;
    let now = SystemTime::now();
    for wall in [now - YEAR, now + YEAR] {
        larder.kill().await;
        last_ran(larder.root(), wall);
        larder.start_again().await;
        larder.logged("counted what mirrors hold").await;
        assert!(has(&larder, "a", &a) && has(&larder, "b", &b));
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_without_records_is_as_old_as_its_files() {
    let hub = Hub::start().await;
    let (mut larder, [a, b]) = two_images(&hub).await;
    larder.kill().await;
    // As a version left it that kept none, a year ago.
    for (record, _) in records(larder.root()) {
        std::fs::remove_file(record).unwrap();
    }
    std::fs::remove_file(larder.root().join("larder.clock")).ok();
    for path in files(&larder.tree()) {
        let is_of_a = path.starts_with(mirror(&larder, "a"));
        let age = YEAR + if is_of_a { HOUR * 40 } else { Duration::ZERO };
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    larder.start_again().await;
    larder.logged("counted what mirrors hold").await;
    assert!(!has(&larder, "a", &a) && has(&larder, "b", &b));
    recorded(&larder, &b, 0).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_could_not_be_fetched_again_goes_for_being_unused() {
    let hub = Hub::start().await;
    let (mut larder, [a, b]) = two_images(&hub).await;
    larder.reconfigure(&["cache", "keepfor"], json!("1h"));
    larder.reconfigure(&["cache", "offline"], json!(true));
    start_hours_later(&mut larder).await;
    assert!(has(&larder, "a", &a) && has(&larder, "b", &b));
    larder.finish().await;
}
