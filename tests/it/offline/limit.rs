//! Docker Hub's pull limit: read, written down, kept to, and spent on what is needed.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{is_quick, noted};
use crate::support::hub::{Fault, FaultId, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};
use serde_json::{Value, json};

const X: &str = "/v2/library/x/manifests/1";

/// Lets the hub say how many of a hundred pulls are left.
fn left(hub: &Hub, remaining: u64) -> FaultId {
    let fault = Fault::on(Where::manifests())
        .does(What::OtherHeader(
            "ratelimit-limit",
            "100;w=21600".to_owned(),
        ))
        .does(What::OtherHeader(
            "ratelimit-remaining",
            format!("{remaining};w=21600"),
        ))
        .does(What::OtherHeader(
            "docker-ratelimit-source",
            "203.0.113.7".to_owned(),
        ));
    hub.fault(fault)
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_stay_fresh_for_longer_as_the_remainder_shrinks() {
    let hub = Hub::builder().bearer().start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub)
        .set(&["cache", "freshfor"], json!("500ms"))
        .start()
        .await;
    let plenty = left(&hub, 90);
    assert_eq!(larder.get(X).await.cache(), "miss");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(larder.get(X).await.cache(), "revalidated");
    let log = larder.log();
    assert_eq!(log.matches("90 of 100 pulls in 6h").count(), 1, "{log}");
    hub.heal(plenty);
    left(&hub, 8);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(larder.get(X).await.cache(), "revalidated");
    hub.clear_log();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(larder.get(X).await.cache(), "hit");
    assert!(hub.asked().is_empty());
    larder
        .logged("8 of 100 pulls in 6h are left to 203.0.113.7")
        .await;
    let hint = noted(&larder, |hint| {
        hint["upstreams"]["docker.io"]["budget"]["remaining"] == 8
    })
    .await;
    let budget = &hint["upstreams"]["docker.io"]["budget"];
    assert_eq!(
        (&budget["limit"], &budget["window"], &budget["source"]),
        (&json!(100), &json!(21_600), &json!("203.0.113.7"))
    );
    // Nobody is refused what is not here.
    hub.push("library/cold", "1", &Image::random(2, &[3000]));
    assert_eq!(larder.get("/v2/library/cold/manifests/1").await.status, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_headers_is_harmless() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    for (limit, remaining) in [
        ("", ""),
        ("100;w=21600", "lots"),
        ("99999999999999999999999999", "-1"),
        (";;;w=;", ",,,"),
        ("0;w=0", "0;w=0"),
    ] {
        let fault = Fault::on(Where::manifests())
            .does(What::OtherHeader("ratelimit-limit", limit.to_owned()))
            .does(What::OtherHeader(
                "ratelimit-remaining",
                remaining.to_owned(),
            ));
        let fault = hub.fault(fault);
        assert_eq!(larder.get(X).await.status, 200, "{limit} {remaining}");
        hub.heal(fault);
    }
    assert!(!larder.log().contains("pulls"), "{}", larder.log());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_ends_the_questions_until_retry_after_while_what_is_cached_is_served() {
    let hub = Hub::builder().bearer().start().await;
    let image = Image::random(1, &[3000]);
    hub.push("library/x", "1", &image);
    hub.push("library/y", "1", &Image::random(2, &[3000]));
    let mut larder = Options::mirror_of(&hub).never_fresh().start().await;
    assert_eq!(larder.get(X).await.status, 200);
    assert_eq!(larder.get("/v2/library/y/manifests/1").await.status, 200);
    let limit: &[(&str, &str)] = &[("retry-after", "3600")];
    let limited = hub.fault(Fault::on(Where::manifests()).does(What::Status(429, limit, "{}")));
    assert_eq!(larder.get(X).await.cache(), "stale");
    hub.clear_log();
    for path in [X, "/v2/library/y/manifests/1"] {
        is_quick(&larder, path, "stale").await;
    }
    hub.revoke_tokens();
    let cold = larder.get("/v2/library/cold/manifests/1").await;
    assert_eq!((cold.status, cold.header("retry-after")), (429, "10"));
    assert!(hub.asked().is_empty(), "nor for a token: {:?}", hub.asked());
    // The limit is on pulls: what was pulled in part can be pulled to its end.
    let layer = format!("/v2/library/x/blobs/{}", image.layer_digests()[0]);
    assert_eq!(larder.get(&layer).await.status, 200);
    let hint = noted(&larder, |hint| {
        hint["upstreams"]["docker.io"]["limited_until"].is_u64()
    });
    let until = hint.await["upstreams"]["docker.io"]["limited_until"].as_u64();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let left = until.unwrap() - now.as_secs();
    assert!((3500..=3600).contains(&left), "{left}");
    larder.logged("docker.io limits our requests").await;
    // Who has paid, or waited, says so.
    hub.heal(limited);
    larder.hang_up().await;
    assert_eq!(larder.get(X).await.cache(), "revalidated");
    larder.finish().await;
}

const COLD: &str = "/v2/library/cold/manifests/1";

/// Seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is later").as_secs()
}

/// Changes what a larder that does not run has written down of Docker Hub.
fn rewrite(larder: &Larder, change: impl FnOnce(&mut Value)) {
    let path = larder.root().join("larder.upstreams");
    let mut hint = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut hint);
    fs::write(&path, hint.to_string()).unwrap();
}

/// A larder that has an image, and has been told to leave the hub alone for an hour.
async fn limited(hub: &Hub) -> Larder {
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    hub.push("library/cold", "1", &Image::random(2, &[3000]));
    let told = left(hub, 8);
    let larder = Options::mirror_of(hub).never_fresh().start().await;
    assert_eq!(larder.get(X).await.status, 200);
    hub.heal(told);
    let limit: &[(&str, &str)] = &[("retry-after", "3600")];
    hub.fault(Fault::on(Where::manifests()).does(What::Status(429, limit, "{}")));
    assert_eq!(larder.get(X).await.cache(), "stale");
    noted(&larder, |hint| {
        hint["upstreams"]["docker.io"]["limited_until"].is_u64()
    })
    .await;
    hub.clear_log();
    larder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_ask_who_wanted_to_be_left_alone() {
    let hub = Hub::builder().bearer().start().await;
    let mut larder = limited(&hub).await;
    for _ in 0..2 {
        larder.kill().await;
        larder.start_again().await;
        assert_eq!(larder.get(X).await.cache(), "stale");
        let cold = larder.get(COLD).await;
        assert_eq!((cold.status, cold.header("retry-after")), (429, "10"));
        assert_eq!(cold.code(), "TOOMANYREQUESTS");
        larder
            .logged("limited our requests before this start")
            .await;
        // It says so to others, too, and of the pulls what the hub said of them.
        let hint = noted(&larder, |hint| {
            hint["upstreams"]["docker.io"]["since"].is_null()
        });
        let note = hint.await["upstreams"]["docker.io"].clone();
        let left = note["limited_until"].as_u64().unwrap() - now();
        assert!((3000..=3600).contains(&left), "{note}");
        assert_eq!(note["budget"]["remaining"], 8);
    }
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    hub.heal_all();
    larder.hang_up().await;
    assert_eq!(larder.get(COLD).await.status, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_asks_for_no_blob_and_no_token_either_where_those_were_limited() {
    const LIMIT: &[(&str, &str)] = &[("retry-after", "3600")];
    let hub = Hub::builder().bearer().start().await;
    let image = Image::random(1, &[3000]);
    hub.push("library/x", "1", &image);
    hub.push("library/cold", "1", &Image::random(2, &[3000]));
    let layer = format!("/v2/library/x/blobs/{}", image.layer_digests()[0]);
    for (kind, place, path, others) in [
        ("blobs", Where::blobs(), &*layer, "revalidated"),
        ("tokens", Where::tokens(), COLD, "stale"),
    ] {
        let mut larder = Options::mirror_of(&hub).never_fresh().start().await;
        assert_eq!(larder.get(X).await.status, 200);
        hub.fault(Fault::on(place).does(What::Status(429, LIMIT, "{}")));
        assert_eq!(larder.get(path).await.status, 429, "{kind}");
        let key = format!("{kind}_limited_until");
        let until = |hint: &Value| hint["upstreams"]["docker.io"][&key].as_u64();
        noted(&larder, |hint| until(hint).is_some()).await;
        for start in ["the first", "the second"] {
            larder.kill().await;
            // So that what the next one writes is known from what this one wrote.
            rewrite(&larder, |hint| hint["read"] = json!(false));
            hub.clear_log();
            larder.start_again().await;
            larder
                .logged("limited our requests before this start")
                .await;
            let refused = larder.get(path).await;
            let told = (refused.status, refused.header("retry-after"));
            assert_eq!(told, (429, "10"), "{kind}, {start}");
            let of_kind = match kind {
                "blobs" => hub.blob_gets() + hub.blob_heads(),
                _ => hub.token_requests(),
            };
            assert_eq!(of_kind, 0, "{kind}, {start}: {:?}", hub.asked());
            let hint = noted(&larder, |hint| hint["read"].is_null()).await;
            let left = until(&hint).map(|until| until.saturating_sub(now()));
            let is_kept = left.is_some_and(|left| (3000..=3600).contains(&left));
            assert!(is_kept, "{kind}, {start}: {hint}");
            // It holds for nothing else: without a token nothing can be asked, but that is another matter.
            assert_eq!(larder.get(X).await.cache(), others, "{kind}, {start}");
        }
        let listed = larder.run(&["ls", "--upstreams", "--json"]).await;
        let listed: Value = listed.expect_success().parse().unwrap();
        assert!(
            listed["upstreams"][0]["limited_until"].is_string(),
            "{listed}"
        );
        hub.heal_all();
        larder.hang_up().await;
        assert_eq!(larder.get(path).await.status, 200, "{kind}");
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_clock_has_an_upstream_left_alone_for_ever() {
    const YEAR: u64 = 365 * 24 * 3600;
    let hub = Hub::start().await;
    let mut larder = limited(&hub).await;
    // The clock was a year ahead when that was written.
    larder.kill().await;
    rewrite(&larder, |hint| {
        hint["written"] = json!(now() + YEAR);
        hint["upstreams"]["docker.io"]["limited_until"] = json!(now() + YEAR + 3600);
    });
    larder.start_again().await;
    assert_eq!(larder.get(COLD).await.status, 429);
    assert!(!hub.asked().is_empty(), "the hub was not asked");
    // Nobody asks for a year.
    noted(&larder, |hint| {
        hint["upstreams"]["docker.io"]["limited_until"].is_u64()
    })
    .await;
    larder.kill().await;
    rewrite(&larder, |hint| {
        hint["upstreams"]["docker.io"]["limited_until"] = json!(now() + YEAR);
    });
    larder.start_again().await;
    let hint = noted(&larder, |hint| {
        hint["upstreams"]["docker.io"]["limited_until"].as_u64() < Some(now() + YEAR / 2)
    });
    let until = hint.await["upstreams"]["docker.io"]["limited_until"].as_u64();
    assert!(until.unwrap() <= now() + 24 * 3600, "{until:?}");
    // What is over is over, and what is no hint is none.
    for text in [None, Some("{"), Some("[1]")] {
        larder.kill().await;
        match text {
            None => rewrite(&larder, |hint| {
                hint["upstreams"]["docker.io"]["limited_until"] = json!(now() - 1);
            }),
            Some(text) => fs::write(larder.root().join("larder.upstreams"), text).unwrap(),
        }
        hub.clear_log();
        larder.start_again().await;
        assert_eq!(larder.get(COLD).await.status, 429);
        assert!(!hub.asked().is_empty(), "{text:?}");
        noted(&larder, |hint| hint["upstreams"]["docker.io"].is_object()).await;
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_has_a_limit_of_its_own() {
    let hub = Hub::builder()
        .bearer()
        .credentials("ann", "secret")
        .start()
        .await;
    let mut larder = limited(&hub).await;
    hub.heal_all();
    larder.kill().await;
    for (key, value) in [("username", "ann"), ("password", "secret")] {
        larder.reconfigure(&["upstreams", "docker.io", key], json!(value));
    }
    larder.start_again().await;
    assert_eq!(larder.get(COLD).await.status, 200);
    larder.finish().await;
}
