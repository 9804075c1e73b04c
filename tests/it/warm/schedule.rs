//! `cache.warm`: rounds in the background.

use serde_json::json;

use super::{blobs_sent, docker_hub, two_platforms};
use crate::support::image::Image;
use crate::support::programs::Options;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_is_fetched_after_the_start_and_after_a_reload() {
    let hub = docker_hub().await;
    let image = two_platforms(1);
    hub.push("library/app", "1", &image);
    hub.push("library/other", "1", &Image::random(5, &[2000]));
    let warm = json!({ "images": ["app:1", "absent:1"], "platforms": ["linux/amd64"] });
    let options = Options::mirror_of(&hub).set(&["cache", "warm"], warm);
    let mut larder = options.start().await;
    let failure = "could not be fetched ahead: there is no tag 1 in docker.io/library/absent";
    larder.logged(failure).await;
    larder.logged("warm image=app:1").await;
    let log = larder.log();
    let listening = log.find("listening on").unwrap();
    assert!(log.find("fetched ahead").unwrap() > listening, "{log}");
    assert_eq!(blobs_sent(&hub, &image).len(), 3);
    let pulled = larder.get("/v2/library/app/manifests/1").await;
    assert_eq!((pulled.status, pulled.cache()), (200, "hit"));
    larder.reconfigure(&["cache", "warm", "images"], json!(["other:1"]));
    larder.hang_up().await;
    larder.logged("warm image=other:1").await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_follow_each_other_and_bring_what_is_new() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let warm = json!({ "images": ["app:1"], "every": "1s" });
    let options = Options::mirror_of(&hub).never_fresh();
    let larder = options.set(&["cache", "warm"], warm).start().await;
    larder.logged("warm image=app:1").await;
    let newer = Image::random(2, &[2000]);
    hub.push("library/app", "1", &newer);
    let layer = newer.layer_digests().remove(0);
    hub.wait_for(|asked| asked.iter().any(|asked| asked.path.contains(&layer)))
        .await;
    larder.finish_with_parts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_nothing_is_fetched() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let options = Options::mirror_of(&hub).set(&["cache", "offline"], json!(true));
    let options = options.set(&["cache", "warm"], json!({ "images": ["app:1"] }));
    let larder = options.start().await;
    larder.logged("offline: nothing is fetched ahead").await;
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    larder.finish().await;
}
