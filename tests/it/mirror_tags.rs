//! Manifests and tags of a mirror: when the upstream is asked, and with what.

use serde_json::json;

use crate::support::hub::{Fault, Hub, Kind, What, Where};
use crate::support::image::Image;
use crate::support::programs::Options;
use crate::support::tree::files;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_tag_is_served_without_asking() {
    let hub = Hub::builder().bearer().start().await;
    let digest = hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub).start().await;
    let first = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!(
        (first.cache(), first.header("docker-content-digest")),
        ("miss", digest.as_str())
    );
    assert_eq!(
        (
            hub.manifest_heads(),
            hub.manifest_gets(),
            hub.token_requests()
        ),
        (2, 1, 1),
        "{:?}",
        hub.asked()
    );
    hub.clear_log();
    for _ in 0..3 {
        assert_eq!(larder.get("/v2/library/x/manifests/1").await.cache(), "hit");
        assert_eq!(
            larder.head("/v2/library/x/manifests/1").await.cache(),
            "hit"
        );
        assert_eq!(
            larder
                .get(&format!("/v2/library/x/manifests/{digest}"))
                .await
                .cache(),
            "hit"
        );
    }
    assert!(hub.asked().is_empty());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_tag_costs_one_head_and_no_pull() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    larder.get("/v2/library/x/manifests/1").await;
    hub.clear_log();
    for method in ["GET", "HEAD"] {
        let got = larder
            .send(larder.request(method, "/v2/library/x/manifests/1"))
            .await;
        assert_eq!((got.status, got.cache()), (200, "revalidated"));
    }
    assert_eq!((hub.manifest_heads(), hub.manifest_gets()), (2, 0));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tag_is_followed_and_its_old_digest_stays() {
    let hub = Hub::start().await;
    let (old, new) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    hub.push("library/x", "1", &old);
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    larder.get("/v2/library/x/manifests/1").await;
    hub.push("library/x", "1", &new);
    hub.clear_log();
    let moved = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!(
        (moved.cache(), moved.body == new.manifest_bytes()),
        ("miss", true)
    );
    assert_eq!((hub.manifest_heads(), hub.manifest_gets()), (1, 1));
    let got = hub
        .asked()
        .iter()
        .find(|asked| asked.method == "GET")
        .map(|asked| asked.path.clone());
    assert!(
        got.unwrap().ends_with(&new.digest()),
        "the moved tag is fetched by its digest"
    );
    let kept = larder
        .get(&format!("/v2/library/x/manifests/{}", old.digest()))
        .await;
    assert_eq!(
        (kept.cache(), kept.body == old.manifest_bytes()),
        ("hit", true)
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_then_get_by_digest_is_one_pull_and_keeps_the_tag() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[3000]);
    let digest = hub.push("library/x", "1", &image);
    hub.push("library/x", "latest", &image);
    let mut larder = Options::mirror_of(&hub).start().await;
    larder.head("/v2/library/x/manifests/latest").await;
    let head = larder.head("/v2/library/x/manifests/1").await;
    assert_eq!(
        (head.status, head.header("docker-content-digest")),
        (200, digest.as_str())
    );
    assert_eq!(head.header("content-type"), image.media_type());
    assert_eq!(
        head.header("content-length"),
        image.manifest_bytes().len().to_string()
    );
    assert_eq!(hub.manifest_gets(), 0, "a HEAD costs no pull");
    assert!(files(&larder.tree()).is_empty(), "and stores nothing");
    larder
        .get(&format!("/v2/library/x/manifests/{digest}"))
        .await;
    assert_eq!(hub.manifest_gets(), 1);
    hub.down().await;
    larder.kill().await;
    larder.start_again().await;
    for tag in ["1", "latest"] {
        let offline = larder.get(&format!("/v2/library/x/manifests/{tag}")).await;
        assert_eq!(
            (offline.status, offline.body == image.manifest_bytes()),
            (200, true),
            "{tag}"
        );
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_for_a_digest_does_not_move_the_tag_back() {
    let hub = Hub::start().await;
    let (old, new) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    hub.push("library/x", "1", &old);
    let larder = Options::mirror_of(&hub).start().await;
    let told = larder.head("/v2/library/x/manifests/1").await;
    assert_eq!(told.header("docker-content-digest"), old.digest());
    hub.push("library/x", "1", &new);
    let moved = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!(moved.body, new.manifest_bytes());
    // The record keeps whole seconds; the next one is said to have begun.
    let mirror = larder.tree().join("repositories/docker.io/library/x");
    let record = mirror.join("_mirror/tags/1");
    let mut checked: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    checked["checked"] = json!(checked["checked"].as_u64().unwrap() + 1);
    std::fs::write(&record, checked.to_string()).unwrap();
    let late = format!("/v2/library/x/manifests/{}", old.digest());
    assert_eq!(larder.get(&late).await.body, old.manifest_bytes());
    let link = std::fs::read_to_string(mirror.join("_manifests/tags/1/current/link"));
    assert_eq!(link.unwrap(), new.digest());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_clients_cost_one_head_one_get_and_one_token() {
    let hub = Hub::builder().bearer().start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub).start().await;
    let gate = hub.fault(Fault::on(Where::manifests().head()).does(What::Gate(None)));
    let all =
        futures_util::future::join_all((0..30).map(|_| larder.get("/v2/library/x/manifests/1")));
    let open = async {
        hub.wait_for(|asked| asked.iter().any(|asked| asked.method == "HEAD"))
            .await;
        hub.open(gate);
    };
    let (all, ()) = tokio::join!(all, open);
    assert!(all.iter().all(|got| got.status == 200));
    assert_eq!(
        (hub.manifest_gets(), hub.token_requests()),
        (1, 1),
        "{:?}",
        hub.asked()
    );
    assert!(hub.manifest_heads() <= 2, "one without a token, one with");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upstream_delays_a_cached_tag_by_three_seconds_at_most_and_only_once() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    hub.push("library/y", "1", &Image::random(2, &[3000]));
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    larder.get("/v2/library/x/manifests/1").await;
    hub.fault(Fault::on(Where::manifests().path("/x/")).does(What::StallHeaders));
    let started = std::time::Instant::now();
    assert_eq!(
        larder.get("/v2/library/x/manifests/1").await.cache(),
        "stale"
    );
    let waited = started.elapsed();
    assert!(
        waited < std::time::Duration::from_millis(3500),
        "{waited:?}"
    );
    let started = std::time::Instant::now();
    assert_eq!(
        larder.get("/v2/library/x/manifests/1").await.cache(),
        "stale"
    );
    assert_eq!(
        larder.get("/v2/library/y/manifests/1").await.status,
        200,
        "others are not held up"
    );
    assert!(started.elapsed() < std::time::Duration::from_secs(1));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_head_or_without_digests_is_asked_by_get() {
    for what in [What::Status(405, &[], ""), What::NoDigestHeader] {
        let hub = Hub::start().await;
        let image = Image::random(1, &[3000]);
        let digest = hub.push("library/x", "1", &image);
        hub.fault(Fault::on(Where::manifests().head()).does(what.clone()));
        let larder = Options::mirror_of(&hub).start().await;
        let head = larder.head("/v2/library/x/manifests/1").await;
        assert_eq!(
            head.header("docker-content-digest"),
            digest,
            "{what:?}\n{}",
            larder.log()
        );
        assert_eq!(
            larder.get("/v2/library/x/manifests/1").await.body,
            image.manifest_bytes()
        );
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_type_that_the_bytes_do_not_tell_is_kept_beside_them() {
    let hub = Hub::start().await;
    let odd = "application/vnd.example.thing.v1+json";
    let bytes = &br#"{"schemaVersion":2,"config":{},"layers":[]}"#[..];
    hub.put_manifest("library/odd", Some("1"), odd, bytes);
    let larder = Options::mirror_of(&hub).start().await;
    for cache in ["miss", "hit"] {
        let got = larder.get("/v2/library/odd/manifests/1").await;
        assert_eq!(
            (got.cache(), got.header("content-type"), &got.body[..]),
            (cache, odd, bytes)
        );
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_is_always_asked_for_every_kind_of_manifest_unencoded() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub).start().await;
    let get = larder
        .request("GET", "/v2/library/x/manifests/1")
        .header("accept", OCI_INDEX);
    larder
        .send(get.header("authorization", "Basic dXNlcjpodWItcGFzc3dvcmQ="))
        .await;
    for asked in hub
        .asked()
        .iter()
        .filter(|asked| asked.kind == Kind::Manifest)
    {
        let accept = asked.header("accept").unwrap();
        for wanted in [
            "oci.image.index",
            "oci.image.manifest",
            "manifest.list.v2",
            "manifest.v2",
        ] {
            assert!(accept.contains(wanted), "{accept}");
        }
        assert_eq!(asked.header("accept-encoding"), Some("identity"));
        assert!(asked.header("user-agent").unwrap().starts_with("larder/"));
        assert_eq!(
            asked.header("authorization"),
            None,
            "a client's login is the client's"
        );
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_the_upstreams_and_our_own_and_outlive_it() {
    let hub = Hub::start().await;
    for (tag, seed) in [("1", 1), ("2", 2), ("3", 3)] {
        hub.push("library/x", tag, &Image::random(seed, &[3000]));
    }
    let mut larder = Options::mirror_of(&hub).never_fresh().start().await;
    let tags_of = "/v2/library/x/tags/list";
    let list = || larder.get(tags_of);
    assert_eq!(
        list().await.json(),
        json!({ "name": "library/x", "tags": ["1", "2", "3"] })
    );
    larder.get("/v2/library/x/manifests/2").await;
    hub.delete_tag("library/x", "2");
    assert_eq!(
        list().await.json()["tags"],
        json!(["1", "2", "3"]),
        "a cached tag stays"
    );
    hub.delete_tag("library/x", "1");
    assert_eq!(list().await.json()["tags"], json!(["2", "3"]));
    let page = larder.get("/v2/library/x/tags/list?n=1&last=2").await;
    assert_eq!(page.json()["tags"], json!(["3"]));
    assert!(
        page.header("link")
            .starts_with("</v2/library/x/tags/list?last=3&n=1>")
    );
    hub.down().await;
    let stale = list().await;
    assert_eq!(
        (stale.json()["tags"].clone(), stale.cache()),
        (json!(["2", "3"]), "stale")
    );
    let unknown = larder.get("/v2/library/none/tags/list").await;
    assert_eq!(
        unknown.status, 502,
        "nothing is known, and the upstream is down"
    );
    hub.up().await;
    // It would be asked again after a while, or now.
    larder.hang_up().await;
    let unknown = larder.get("/v2/library/none/tags/list").await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "NAME_UNKNOWN")
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_means_that_nobody_is_asked() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[3000]);
    hub.push("library/x", "1", &image);
    hub.push("library/cold", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    larder.get("/v2/library/x/manifests/1").await;
    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join("root");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(larder.root())
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    larder.finish().await;
    hub.clear_log();
    let options = Options::mirror_of(&hub)
        .never_fresh()
        .set(&["cache", "offline"], json!(true));
    let larder = options.on(&copy).start().await;
    let hit = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!((hit.status, hit.cache()), (200, "hit"));
    let cold = larder.get("/v2/library/cold/manifests/1").await;
    assert_eq!(cold.status, 404);
    assert!(
        cold.json()["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("cache.offline")
    );
    assert_eq!(
        larder.get("/v2/library/x/tags/list").await.json()["tags"],
        json!(["1"])
    );
    assert!(hub.asked().is_empty());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_told_before_the_tag_moved_does_not_move_it_back_in_the_same_second() {
    let hub = Hub::start().await;
    let (old, new) = (Image::random(1, &[3000]), Image::random(2, &[3000]));
    hub.push("library/x", "1", &old);
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    larder.head("/v2/library/x/manifests/1").await;
    hub.push("library/x", "1", &new);
    larder.get("/v2/library/x/manifests/1").await;
    let late = format!("/v2/library/x/manifests/{}", old.digest());
    assert_eq!(larder.get(&late).await.body, old.manifest_bytes());
    hub.down().await;
    let stale = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!(stale.body, new.manifest_bytes());
    larder.finish().await;
}
