//! Evicting while others pull, and being killed at it.

use std::fs;

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::support::hub::Hub;
use crate::support::programs::Options;
use crate::support::tree::assert_sound;

async fn hub(count: u64) -> (Hub, Vec<Image>) {
    let hub = Hub::start().await;
    let images: Vec<_> = (0..count).map(|seed| image(seed, [60, 40])).collect();
    for (at, image) in images.iter().enumerate() {
        hub.push("library/app", &format!("v{at}"), image);
    }
    (hub, images)
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_clients_that_pull_while_images_go_all_get_what_they_ask_for() {
    let (hub, images) = hub(20).await;
    let mut larder = Options::mirror_of(&hub)
        .set(&["cache", "maxsize"], json!(1_150_000))
        .start()
        .await;
    let (old, new) = images.split_at(10);
    for (at, image) in old.iter().enumerate() {
        pull(&larder, "library/app", &format!("v{at}"), image).await;
    }
    recorded(&larder, &old[9], 0).await;
    start_hours_later(&mut larder).await;
    // Ten new ones, and ten old ones at the same time: each is evicted, pulled, or both.
    let clients = (0..30).map(|client| {
        let at = match client % 3 {
            0 => client / 3,
            _ => 10 + (client / 3 * 7 + client) % new.len(),
        };
        let (larder, image) = (&larder, &images[at]);
        async move { try_pull(larder, "library/app", &format!("v{at}"), image).await }
    });
    let failed: Vec<_> = join_all(clients)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}\n{}", larder.log());
    larder.logged("evicted: ").await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_an_eviction_does_no_damage() {
    let (hub, images) = hub(24).await;
    let mut larder = Options::mirror_of(&hub).start().await;
    for round in 0..6_u64 {
        for (at, image) in images.iter().enumerate() {
            pull(&larder, "library/app", &format!("v{at}"), image).await;
        }
        recorded(&larder, &images[23], 0).await;
        larder.reconfigure(&["cache", "maxsize"], json!(1000));
        larder.kill().await;
        last_ran(larder.root(), SystemTime::now() - HOUR * 2);
        larder.start_again().await;
        larder.logged("evicted: ").await;
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        larder.kill().await;
        assert_sound(&larder.tree());
        larder.reconfigure(&["cache", "maxsize"], json!(null));
        larder.start_again().await;
    }
    larder.reconfigure(&["cache", "maxsize"], json!(1));
    // A layer whose manifest went before the kill is as old as its link.
    for path in files(&larder.tree()) {
        // What larder itself writes comes and goes meanwhile.
        let Ok(file) = std::fs::File::open(path) else {
            continue;
        };
        let hours_ago = SystemTime::now() - HOUR * 3;
        file.set_modified(hours_ago).expect("a time");
    }
    start_hours_later(&mut larder).await;
    // Nothing is left behind: neither by the killed nor by the last one.
    let left = || {
        let mut left = files(&larder.tree());
        left.retain(|path| !path.ends_with("fill"));
        left
    };
    for _ in 0..1000 {
        if left().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(left().is_empty(), "{:#?}\n{}", left(), larder.log());
    pull(&larder, "library/app", "v0", &images[0]).await;
    larder.finish_with_parts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_linked_beside_is_counted_before_anything_goes_on() {
    let hub = Hub::start().await;
    let images = [1, 2, 3].map(|seed| image(seed, [200, 100]));
    for (image, tag) in images.iter().zip(["a", "b", "c"]) {
        hub.push("library/app", tag, image);
    }
    let [a, b, c] = &images;
    let mut larder = Options::mirror_of(&hub)
        .never_fresh()
        .set(&["cache", "maxsize"], json!(800_000))
        .start()
        .await;
    pull(&larder, "library/app", "a", a).await;
    recorded(&larder, a, 0).await;
    pull(&larder, "library/app", "b", b).await;
    recorded(&larder, b, 0).await;
    start_hours_later(&mut larder).await;
    let times = || larder.log().matches("counted what mirrors hold").count();
    let before = times();
    // As an import does with each link.
    fs::write(larder.root().join("larder.beside"), "").unwrap();
    pull(&larder, "library/app", "c", c).await;
    assert!(has(&larder, "app", a), "nobody knows yet what was linked");
    until("all is counted again", || times() > before).await;
    pull(&larder, "library/app", "c", c).await;
    assert!(has(&larder, "app", c) && !has(&larder, "app", a));
    larder.finish_with_parts().await;
}
