//! Which image goes.

use serde_json::json;

use super::*;
use crate::registry::assert_pullable;
use crate::support::hub::{Fault, FaultId, Hub, What, Where};
use crate::support::image::noise;
use crate::support::programs::Options;

fn bounded(hub: &Hub, bytes: u64) -> Options {
    Options::mirror_of(hub)
        .never_fresh()
        .set(&["cache", "maxsize"], json!(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_image_goes_whatever_is_restarted() {
    let hub = Hub::start().await;
    let images = [1, 2, 3, 4].map(|seed| image(seed, [200, 100]));
    for (image, tag) in images.iter().zip(["a", "b", "c", "d"]) {
        hub.push("library/app", tag, image);
    }
    let [a, b, c, d] = &images;
    let mut larder = bounded(&hub, 800_000).start().await;
    pull(&larder, "library/app", "a", a).await;
    recorded(&larder, a, 0).await;
    pull(&larder, "library/app", "b", b).await;
    recorded(&larder, b, 0).await;
    larder.kill().await;
    start_dead_hours_later(&mut larder).await;
    // The manifest alone: who has the layers does not ask for them.
    larder.head("/v2/library/app/manifests/a").await;
    pull(&larder, "library/app", "c", c).await;
    assert!(has(&larder, "app", a) && !has(&larder, "app", b) && has(&larder, "app", c));
    larder
        .logged("evicted: the cache has reached cache.maxsize")
        .await;
    larder.logged("room was made images=1 bytes=").await;
    assert!(larder.log().contains("docker.io/library/app:b"));
    // That a was used, and before c, was written down within a second.
    recorded(&larder, c, recorded(&larder, a, 0).await).await;
    larder.kill().await;
    start_dead_hours_later(&mut larder).await;
    pull(&larder, "library/app", "d", d).await;
    assert!(!has(&larder, "app", a) && has(&larder, "app", c) && has(&larder, "app", d));
    // What went can be had again, and what stayed costs nothing.
    hub.clear_log();
    pull(&larder, "library/app", "d", d).await;
    assert_eq!(hub.blob_gets(), 0);
    start_hours_later(&mut larder).await;
    pull(&larder, "library/app", "b", b).await;
    assert!(has(&larder, "app", b));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_childs_pull_renews_its_index() {
    let hub = Hub::start().await;
    let index = Image::index(vec![
        (image(1, [150, 50]), "amd64"),
        (image(2, [150, 50]), "arm64"),
    ]);
    let (other, new) = (image(3, [200, 100]), image(4, [200, 100]));
    hub.push("library/list", "v1", &index);
    hub.push("library/app", "v1", &other);
    hub.push("library/app", "v2", &new);
    let mut larder = bounded(&hub, 800_000).start().await;
    pull(&larder, "library/list", "v1", &index).await;
    recorded(&larder, &index, 0).await;
    pull(&larder, "library/app", "v1", &other).await;
    recorded(&larder, &other, 0).await;
    start_hours_later(&mut larder).await;
    let child = &index.children()[1];
    let path = format!("/v2/library/list/manifests/{}", child.digest());
    assert_eq!(larder.get(&path).await.cache(), "hit");
    pull(&larder, "library/app", "v2", &new).await;
    assert!(!has(&larder, "app", &other) && has(&larder, "app", &new));
    hub.down().await;
    pull(&larder, "library/list", "v1", &index).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_layers_stay_for_those_who_have_them_too() {
    let hub = Hub::start().await;
    // The first layers are the same.
    let (old, used) = (image(1, [200, 100]), image(1, [200, 150]));
    let (mine, new) = (image(2, [100, 50]), image(3, [200, 100]));
    hub.push("library/app", "old", &old);
    hub.push("library/app", "used", &used);
    hub.push("library/mine", "v1", &mine);
    hub.push("library/new", "v1", &new);
    let mut larder = bounded(&hub, 700_000).start().await;
    // What is pushed is somebody's own, and no part of the cache.
    pull(&larder, "library/mine", "v1", &mine).await;
    larder.push("team/mine", "v1", &mine).await;
    pull(&larder, "library/app", "old", &old).await;
    pull(&larder, "library/app", "used", &used).await;
    recorded(&larder, &used, 0).await;
    start_hours_later(&mut larder).await;
    larder.head("/v2/library/app/manifests/used").await;
    pull(&larder, "library/new", "v1", &new).await;
    hub.down().await;
    let gone = larder
        .get(&format!("/v2/library/app/manifests/{}", old.digest()))
        .await;
    assert_ne!(gone.status, 200);
    pull(&larder, "library/app", "used", &used).await;
    pull(&larder, "library/new", "v1", &new).await;
    assert_pullable(&larder, "team/mine", "v1", &mine).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pinned_and_held_images_stay_and_a_reload_changes_which() {
    let hub = Hub::start().await;
    let images = [1, 2, 3, 4].map(|seed| image(seed, [200, 100]));
    for (image, tag) in images.iter().zip(["keep-1", "held", "b", "c"]) {
        hub.push("library/app", tag, image);
    }
    let [pinned, held, b, c] = &images;
    let mut larder = bounded(&hub, 1_100_000)
        .set(&["cache", "pin"], json!(["docker.io/library/app:keep-*"]))
        .set(
            &["cache", "hold"],
            json!({ "docker.io/library/app:held": held.digest() }),
        )
        .start()
        .await;
    for (image, tag) in [(pinned, "keep-1"), (held, "held"), (b, "b")] {
        pull(&larder, "library/app", tag, image).await;
        recorded(&larder, image, 0).await;
    }
    start_hours_later(&mut larder).await;
    pull(&larder, "library/app", "c", c).await;
    assert!(has(&larder, "app", pinned) && has(&larder, "app", held) && !has(&larder, "app", b));
    // Nothing but pinned content is in the way of a smaller cache.
    larder.reconfigure(&["cache", "maxsize"], json!(700_000));
    larder.reconfigure(&["cache", "pin"], json!([]));
    larder.hang_up().await;
    let is_gone = || !lists(&larder, "app", pinned);
    until("the first image is gone", is_gone).await;
    assert!(has(&larder, "app", held) && has(&larder, "app", c));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_which_a_layer_is_being_fetched_stays_however_old_it_is() {
    let hub = Hub::start().await;
    let (old, other) = (image(1, [200, 300]), image(2, [200, 100]));
    hub.push("library/app", "old", &old);
    hub.push("library/app", "other", &other);
    let mut larder = bounded(&hub, 700_000).start().await;
    // Its client was killed before the last layer.
    let last = old.layer_digests()[1].clone();
    let manifest = larder.get("/v2/library/app/manifests/old").await;
    assert_eq!(manifest.status, 200);
    for (digest, _) in old.blobs() {
        if digest != last {
            let path = format!("/v2/library/app/blobs/{digest}");
            assert_eq!(larder.get(&path).await.status, 200);
        }
    }
    recorded(&larder, &old, 0).await;
    pull(&larder, "library/app", "other", &other).await;
    recorded(&larder, &other, 0).await;
    start_hours_later(&mut larder).await;
    // It is the oldest, and this is more than there is room for.
    let got = larder.get(&format!("/v2/library/app/blobs/{last}")).await;
    assert!(got.status == 200 && got.complete, "{got:?}");
    larder.logged("room was made images=1 ").await;
    assert!(has(&larder, "app", &old), "{}", larder.log());
    assert!(!lists(&larder, "app", &other));
    larder.finish().await;
}

/// Begins to fetch a blob of which the hub gives no more than the beginning. By then its room is
/// promised to it.
async fn half(larder: &Larder, hub: &Hub, digest: &str) -> (FaultId, reqwest::Response) {
    let place = Where::blobs().get().digest(digest);
    let gate = hub.fault(Fault::on(place).does(What::Gate(Some(100_000))));
    let path = format!("/v2/library/new/blobs/{digest}");
    let asked = larder.request("GET", &path).send().await;
    (gate, asked.expect("the head of an answer"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_in_the_background_for_what_has_not_come_yet() {
    let hub = Hub::start().await;
    let images = [1, 2, 3].map(|seed| image(seed, [200, 100]));
    for (image, tag) in images.iter().zip(["a", "b", "c"]) {
        hub.push("library/app", tag, image);
    }
    let new = hub.put_blob("library/new", noise(4, 0, 600_000));
    let mut larder = bounded(&hub, 9_000_000).start().await;
    for (image, tag) in images.iter().zip(["a", "b", "c"]) {
        pull(&larder, "library/app", tag, image).await;
        recorded(&larder, image, 0).await;
    }
    start_hours_later(&mut larder).await;
    let (gate, mut coming) = half(&larder, &hub, &new).await;
    // There is room for two of what is here, and none for what is coming.
    larder.reconfigure(&["cache", "maxsize"], json!(800_000));
    larder.hang_up().await;
    larder.logged("room was made images=").await;
    let log = larder.log();
    assert!(log.contains("room was made images=1 "), "{log}");
    assert!(!lists(&larder, "app", &images[0]) && lists(&larder, "app", &images[1]));
    hub.open(gate);
    let mut came = 0;
    while let Some(bytes) = coming.chunk().await.expect("the rest") {
        came += bytes.len();
    }
    assert_eq!(came, 600_000);
    // Now that it has come, it is too much.
    let is_gone = || !lists(&larder, "app", &images[1]);
    until("the next image is gone", is_gone).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_evicted_while_the_registry_is_read_only() {
    let hub = Hub::start().await;
    let (a, b) = (image(1, [200, 100]), image(2, [200, 100]));
    hub.push("library/app", "a", &a);
    hub.push("library/app", "b", &b);
    let mut larder = bounded(&hub, 400_000).start().await;
    pull(&larder, "library/app", "a", &a).await;
    recorded(&larder, &a, 0).await;
    larder.reconfigure(
        &["storage", "maintenance", "readonly", "enabled"],
        json!(true),
    );
    start_hours_later(&mut larder).await;
    pull(&larder, "library/app", "b", &b).await;
    assert!(has(&larder, "app", &a));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_never_fits_is_passed_on_and_evicts_nothing() {
    let hub = Hub::start().await;
    let (small, large) = (image(1, [200, 100]), image(2, [900, 50]));
    hub.push("library/app", "small", &small);
    hub.push("library/app", "large", &large);
    let mut larder = bounded(&hub, 800_000).start().await;
    pull(&larder, "library/app", "small", &small).await;
    recorded(&larder, &small, 0).await;
    start_hours_later(&mut larder).await;
    pull(&larder, "library/app", "large", &large).await;
    larder.logged("does not fit into the cache").await;
    assert!(has(&larder, "app", &small));
    larder.finish_with_parts().await;
}
