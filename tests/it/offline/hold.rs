//! `cache.hold`: an upstream's tag that stays at a digest.

use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Dockerd, Larder, Options};

const X: &str = "/v2/library/x/manifests/1";

async fn hold(larder: &mut Larder, holds: Value) -> String {
    larder.reconfigure(&["cache", "hold"], holds);
    larder.hang_up().await
}

fn link(larder: &Larder) -> String {
    let mirror = larder.tree().join("repositories/docker.io/library/x");
    std::fs::read_to_string(mirror.join("_manifests/tags/1/current/link")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_tag_is_its_digest_whatever_the_upstream_says() {
    let hub = Hub::start().await;
    let (old, new) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    hub.push("library/x", "1", &old);
    hub.push("library/x", "1", &new);
    let mut larder = Options::mirror_of(&hub).never_fresh().start().await;
    let held = json!({ "docker.io/library/x:1": old.digest() });
    let said = hold(&mut larder, held).await;
    assert!(said.contains("has been read again"), "{said}");
    // Before anything is here: by digest, and never by tag.
    let described = larder.head(X).await;
    assert_eq!(described.header("docker-content-digest"), old.digest());
    let got = larder.get(X).await;
    assert_eq!(
        (got.cache(), got.body == old.manifest_bytes()),
        ("miss", true)
    );
    assert_eq!(link(&larder), old.digest(), "the tag follows");
    for name in ["docker.io/library/x", "x", "library/x"] {
        let got = larder.get(&format!("/v2/{name}/manifests/1")).await;
        assert_eq!(
            (got.cache(), got.body == old.manifest_bytes()),
            ("hit", true)
        );
    }
    let asked = hub.asked();
    let by_tag = asked.iter().filter(|asked| asked.path.ends_with("/1"));
    assert_eq!(by_tag.count(), 0, "{asked:?}");
    // Other tags move, and lists are what they were.
    hub.push("library/x", "2", &new);
    let other = larder.get("/v2/library/x/manifests/2").await;
    assert_eq!(other.body, new.manifest_bytes());
    let tags = larder.get("/v2/library/x/tags/list").await.json();
    assert_eq!(tags["tags"], json!(["1", "2"]));
    hub.down().await;
    larder.kill().await;
    larder.start_again().await;
    assert_eq!(larder.get(X).await.cache(), "hit");
    hub.up().await;
    // Without the hold it is a tag like others.
    hold(&mut larder, json!({})).await;
    let freed = larder.get(X).await;
    assert_eq!(
        (freed.cache(), freed.body == new.manifest_bytes()),
        ("revalidated", true)
    );
    assert_eq!(link(&larder), new.digest());
    // And back, with what is here already.
    hold(&mut larder, json!({ "x:1": old.digest() })).await;
    assert_eq!(larder.get(X).await.body, old.manifest_bytes());
    assert_eq!(link(&larder), old.digest());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_what_is_held() {
    let hub = Hub::start().await;
    let (old, new) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    hub.push("library/x", "1", &old);
    hub.push("library/x", "1", &new);
    let held = json!({ "x:1": old.digest() });
    let options = Options::mirror_of(&hub).set(&["cache", "hold"], held);
    let larder = options.start().await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    docker.pull("x:1").await;
    assert_eq!(docker.image_id("x:1").await, old.config_digest());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_cannot_be_kept_is_named() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let nothing = format!("sha256:{}", "0".repeat(64));
    let held = json!({ "docker.io/library/x:1": nothing });
    let options = Options::mirror_of(&hub).set(&["cache", "hold"], held);
    let mut larder = options.start().await;
    for got in [larder.get(X).await, larder.get(X).await] {
        assert_eq!((got.status, got.code().as_str()), (404, "MANIFEST_UNKNOWN"));
        let message = got.json()["errors"][0]["message"].to_string();
        assert!(
            message.contains("cache.hold") && message.contains(&nothing),
            "{message}"
        );
    }
    assert_eq!(larder.head(X).await.status, 404);
    larder
        .push("team/app", "1", &Image::random(3, &[3000]))
        .await;
    for (image, about) in [
        ("team/app:1", "local repository"),
        ("ghcr.io/org/app:1", "ghcr.io"),
        ("10.0.0.9:5000/app:1", "10.0.0.9"),
    ] {
        let said = hold(&mut larder, json!({ image: nothing })).await;
        let key = format!("cache.hold: {image}");
        assert!(
            said.contains("stays as it was") && said.contains(&key) && said.contains(about),
            "{said}"
        );
    }
    hold(&mut larder, json!({})).await;
    assert_eq!(larder.get(X).await.status, 200);
    larder.finish().await;
    let held = json!({ "ghcr.io/org/app:1": nothing });
    let options = Options::mirror_of(&hub).set(&["cache", "hold"], held);
    let failed = options.fail().await;
    assert_eq!(failed.status, Some(1));
    assert!(
        failed.log.contains("cache.hold: ghcr.io/org/app:1"),
        "{}",
        failed.log
    );
}
