//! What can be done by the API, and what keeps foreign pages from it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{act, api, pull};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Answer, Larder, Options};
use crate::support::until::until;

async fn warm(larder: &Larder, body: &Value) -> Answer {
    let request = larder.request("POST", "/api/v1/warm");
    let request = request.header("x-larder-action", "1");
    larder.send(request.body(body.to_string())).await
}

/// The tag in the list of its repository.
async fn listed(larder: &Larder, repository: &str, tag: &str) -> Value {
    let path = format!("tags?repository={repository}&search={tag}");
    api(larder, &path).await["tags"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_header_nothing_is_done_and_no_foreign_page_may_send_it() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[1000]);
    hub.push("library/x", "1", &image);
    let cors =
        json!({ "Access-Control-Allow-Origin": ["*"], "Access-Control-Allow-Headers": ["*"] });
    let options = Options::mirror_of(&hub).set(&["http", "headers"], cors);
    let larder = options.start().await;
    pull(&larder, "library/x", "1", &image).await;
    let digest = image.digest();
    let at = "repository=docker.io/library/x&tag=1";
    for (method, path) in [
        ("DELETE", format!("tags?{at}")),
        ("PUT", format!("pins?{at}")),
        ("DELETE", format!("pins?{at}")),
        ("PUT", format!("holds?{at}&digest={digest}")),
        ("DELETE", format!("holds?{at}")),
        ("POST", "warm".to_owned()),
    ] {
        let path = format!("/api/v1/{path}");
        for header in [None, Some(""), Some("0")] {
            let request = larder.request(method, &path).body(r#"{"image":"x"}"#);
            let request = match header {
                Some(value) => request.header("x-larder-action", value),
                None => request,
            };
            let refused = larder.send(request).await;
            assert_eq!(
                (refused.status, refused.code()),
                (403, "DENIED".into()),
                "{path}"
            );
            assert!(refused.json().to_string().contains("X-Larder-Action: 1"));
        }
        let preflight = larder
            .request("OPTIONS", &path)
            .header("origin", "http://evil.example")
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "x-larder-action");
        let answer = larder.send(preflight).await;
        for name in answer.headers.keys() {
            assert!(
                !name.as_str().starts_with("access-control"),
                "{path}: {name}"
            );
        }
    }
    let tag = listed(&larder, "docker.io/library/x", "1").await;
    assert_eq!(
        (&tag["pinned"], &tag["held"]),
        (&json!(false), &json!(false))
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_goes_and_its_image_stays_where_another_names_it() {
    let hub = Hub::start().await;
    let image = Image::random(2, &[1000]);
    hub.push("library/x", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    pull(&larder, "library/x", "1", &image).await;
    larder.push("team/app", "a", &image).await;
    larder.push("team/app", "b", &image).await;
    assert_eq!(api(&larder, "").await["tags"], 3);
    assert_eq!(
        act(&larder, "DELETE", "tags?repository=team/app&tag=a")
            .await
            .status,
        204
    );
    assert_eq!(api(&larder, "").await["tags"], 2);
    assert_eq!(larder.get("/v2/team/app/manifests/a").await.status, 404);
    assert_eq!(larder.get("/v2/team/app/manifests/b").await.status, 200);
    let again = act(&larder, "DELETE", "tags?repository=team/app&tag=a").await;
    assert_eq!(
        (again.status, again.code()),
        (404, "MANIFEST_UNKNOWN".into())
    );
    assert_eq!(
        act(&larder, "DELETE", "tags?repository=team/app")
            .await
            .status,
        400
    );
    let mirrored = "tags?repository=docker.io/library/x&tag=1";
    assert_eq!(act(&larder, "DELETE", mirrored).await.status, 204);
    assert_eq!(api(&larder, "search?q=x:1").await["found"], json!([]));
    // The upstream still has it.
    assert_eq!(larder.get("/v2/library/x/manifests/1").await.status, 200);
    larder.finish().await;
    let hub = Hub::start().await;
    let kept = json!({ "delete": { "enabled": false } });
    let options = Options::mirror_of(&hub).set(&["storage"], kept);
    let larder = options.start().await;
    larder.push("team/app", "a", &image).await;
    let tags = api(&larder, "tags?repository=team/app").await;
    assert_eq!(tags["may"]["delete"], false);
    let refused = act(&larder, "DELETE", "tags?repository=team/app&tag=a").await;
    assert_eq!(
        (refused.status, refused.code()),
        (405, "UNSUPPORTED".into())
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_keeps_an_image_across_restarts_and_its_directory_in_order() {
    let hub = Hub::start().await;
    let images = [3, 4].map(|seed| Image::random(seed, &[40_000]));
    hub.push("library/x", "1", &images[0]);
    hub.push("library/y", "1", &images[1]);
    let mut larder = Options::mirror_of(&hub).start().await;
    pull(&larder, "library/x", "1", &images[0]).await;
    pull(&larder, "library/y", "1", &images[1]).await;
    let at = "pins?repository=docker.io/library/x&tag=1";
    assert_eq!(act(&larder, "PUT", at).await.status, 204);
    assert_eq!(act(&larder, "PUT", at).await.status, 204);
    let missing = "pins?repository=docker.io/library/x&tag=none";
    assert_eq!(act(&larder, "PUT", missing).await.status, 404);
    larder.kill().await;
    larder.start_again().await;
    assert_eq!(
        listed(&larder, "docker.io/library/x", "1").await["pinned"],
        true
    );
    until("it is known what would go", async || {
        let next = api(&larder, "evictions").await["next"].clone();
        next[0]["repository"] == "docker.io/library/y" && next[1].is_null()
    })
    .await;
    larder.garbage_collect(&[]).await.expect_success();
    larder.tool(&["verify"]).await.expect_success();
    let printed = larder.run(&["ls", "--json"]).await.expect_success();
    let printed: Value = printed.parse().unwrap();
    assert_eq!(printed["images"][0]["pinned"], true);
    assert_eq!(
        listed(&larder, "docker.io/library/x", "1").await["pinned"],
        true
    );
    assert_eq!(act(&larder, "DELETE", at).await.status, 204);
    assert_eq!(act(&larder, "DELETE", at).await.status, 404);
    let next = api(&larder, "evictions").await["next"].clone();
    assert_eq!(next.as_array().unwrap().len(), 2);
    larder.push("team/app", "a", &images[0]).await;
    let local = act(&larder, "PUT", "pins?repository=team/app&tag=a").await;
    assert_eq!(local.status, 409);
    assert!(local.json().to_string().contains("never evicted"));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_tag_stays_what_it_is_until_it_is_let_go() {
    let hub = Hub::start().await;
    let (old, new) = (Image::random(5, &[1000]), Image::random(6, &[1000]));
    hub.push("library/x", "1", &old);
    let mut larder = Options::mirror_of(&hub).never_fresh().start().await;
    pull(&larder, "library/x", "1", &old).await;
    hub.push("library/x", "1", &new);
    let at = "holds?repository=docker.io/library/x&tag=1";
    assert_eq!(act(&larder, "PUT", at).await.status, 400);
    let hold = format!("{at}&digest={}", old.digest());
    assert_eq!(act(&larder, "PUT", &hold).await.status, 204);
    hub.clear_log();
    let manifest = async |larder: &Larder| {
        let answer = larder.get("/v2/library/x/manifests/1").await;
        answer.header("docker-content-digest").to_owned()
    };
    assert_eq!(manifest(&larder).await, old.digest());
    larder.kill().await;
    larder.start_again().await;
    assert_eq!(manifest(&larder).await, old.digest());
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    assert_eq!(
        listed(&larder, "docker.io/library/x", "1").await["held"],
        true
    );
    larder.tool(&["verify"]).await.expect_success();
    assert_eq!(act(&larder, "DELETE", at).await.status, 204);
    assert_eq!(act(&larder, "DELETE", at).await.status, 404);
    assert_eq!(manifest(&larder).await, new.digest());
    larder.finish().await;
}

/// A directory of a mirror's marks, put there whole: who looks meanwhile sees nothing of it, or all.
fn mark_by_hand(larder: &Larder, directory: &str, text: &str) -> PathBuf {
    let beside = larder.root().join(directory);
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("1"), text).unwrap();
    let mirror = larder.tree().join("repositories/docker.io/library/x");
    let place = mirror.join("_mirror").join(directory);
    fs::rename(beside, &place).unwrap();
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_and_a_hold_made_or_removed_by_hand_count_once_somebody_looks() {
    let hub = Hub::start().await;
    let (old, new) = (Image::random(10, &[1000]), Image::random(11, &[1000]));
    hub.push("library/x", "1", &old);
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    pull(&larder, "library/x", "1", &old).await;
    hub.push("library/x", "1", &new);
    let marked = async |key: &str| {
        let tag = listed(&larder, "docker.io/library/x", "1").await;
        tag[key].as_bool().expect("a tag")
    };
    let goes_next = async || {
        let next = api(&larder, "evictions").await["next"].clone();
        next[0]["repository"] == "docker.io/library/x"
    };
    until("it is known what would go", async || goes_next().await).await;
    assert!(!marked("pinned").await && !marked("held").await);
    let pins = mark_by_hand(&larder, "pins", "");
    let holds = mark_by_hand(&larder, "holds", &old.digest());
    until("the pin is seen", async || marked("pinned").await).await;
    until("the hold is seen", async || marked("held").await).await;
    assert!(!goes_next().await);
    hub.clear_log();
    let manifest = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!(manifest.body, old.manifest_bytes());
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    for (place, aside) in [(pins, "pins"), (holds, "holds")] {
        fs::rename(place, larder.root().join(aside)).unwrap();
    }
    until("neither is there", async || {
        !marked("pinned").await && !marked("held").await
    })
    .await;
    let manifest = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!(manifest.body, new.manifest_bytes());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_made_by_hand_is_not_missed_because_larder_changed_the_repository_after_it() {
    let hub = Hub::start().await;
    let images = [12, 13].map(|seed| Image::random(seed, &[1000]));
    hub.push("library/x", "1", &images[0]);
    hub.push("library/x", "2", &images[1]);
    let larder = Options::mirror_of(&hub).start().await;
    pull(&larder, "library/x", "1", &images[0]).await;
    let name = "docker.io/library/x";
    assert_eq!(listed(&larder, name, "1").await["pinned"], false);
    // What larder itself makes beside the pins would have all of it looked at again.
    let mirror = larder.tree().join("repositories").join(name);
    let is_written = async || mirror.join("_mirror/used").is_dir();
    until("it is written down that it was used", is_written).await;
    mark_by_hand(&larder, "pins", "");
    pull(&larder, "library/x", "2", &images[1]).await;
    assert_eq!(listed(&larder, name, "2").await["pinned"], false);
    let is_seen = async || listed(&larder, name, "1").await["pinned"] == true;
    until("the pin is seen", is_seen).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_says_is_changed_there() {
    let hub = Hub::start().await;
    let image = Image::random(7, &[1000]);
    hub.push("library/x", "1", &image);
    let options = Options::mirror_of(&hub)
        .set(&["cache", "pin"], json!(["x"]))
        .set(&["cache", "hold"], json!({ "x:1": image.digest() }));
    let larder = options.start().await;
    pull(&larder, "library/x", "1", &image).await;
    let tag = listed(&larder, "docker.io/library/x", "1").await;
    assert_eq!((&tag["pinned"], &tag["held"]), (&json!(true), &json!(true)));
    for (path, key) in [("pins", "cache.pin"), ("holds", "cache.hold")] {
        let path = format!("{path}?repository=docker.io/library/x&tag=1");
        let refused = act(&larder, "DELETE", &path).await;
        assert_eq!(refused.status, 409, "{path}");
        assert!(refused.json().to_string().contains(key), "{path}");
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_fetched_ahead_and_its_progress_found_by_its_id() {
    let hub = Hub::start().await;
    let child = |seed| Image::random(seed, &[50_000, 2000]);
    let image = Image::index(vec![(child(8), "amd64"), (child(9), "arm64")]);
    hub.push("library/x", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    let wanted = json!({ "image": "x:1", "platforms": ["linux/arm64"] });
    let begun = warm(&larder, &wanted).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let path = format!("warm/{id}");
    until("it is here", async || {
        api(&larder, &path).await["state"] == "done"
    })
    .await;
    let done = api(&larder, &path).await;
    assert_eq!(
        (&done["image"], &done["error"]),
        (&json!("x:1"), &Value::Null)
    );
    assert_eq!(done["layers"].as_array().unwrap().len(), 3);
    assert_eq!(done["size"], done["written"]);
    let platforms = listed(&larder, "docker.io/library/x", "1").await["platforms"].clone();
    assert_eq!(platforms[1], json!({ "name": "linux/arm64", "here": true }));
    assert_eq!(platforms[0]["here"], false);
    let none = warm(&larder, &json!({ "image": "none:1" })).await;
    let path = format!("warm/{}", none.json()["id"].as_str().unwrap());
    until("it has failed", async || {
        api(&larder, &path).await["state"] == "failed"
    })
    .await;
    let error = api(&larder, &path).await["error"].to_string();
    assert!(error.contains("there is no tag 1"), "{error}");
    for (body, said) in [
        (json!("x"), "JSON"),
        (json!({ "image": "no image" }), "image: "),
        (
            json!({ "image": "x", "platforms": ["linux"] }),
            "platforms: ",
        ),
    ] {
        let refused = warm(&larder, &body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.json().to_string().contains(said), "{refused:?}");
    }
    let foreign = warm(&larder, &json!({ "image": "other.example/x" })).await;
    assert_eq!(foreign.status, 404, "{foreign:?}");
    larder.finish().await;
}
