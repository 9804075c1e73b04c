//! Names: one resolver for every way in which clients name a registry.

use serde_json::json;

use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};

/// A Docker Hub with `library/app` and `org/app`, and another registry with other images of the
/// same names, so that any mix-up shows.
struct World {
    docker: Hub,
    quay: Hub,
    larder: Larder,
}

fn image(seed: u64) -> Image {
    Image::random(seed, &[2000]).oci()
}

async fn world() -> World {
    let (docker, quay) = (Hub::start().await, Hub::start().await);
    docker.push("library/app", "1", &image(1));
    docker.push("org/app", "1", &image(2));
    quay.push("org/app", "1", &image(3));
    quay.push("app", "1", &image(4));
    let options = Options::mirror_of(&docker).upstream("quay.io", &quay);
    let larder = options.upstream("10.0.0.7:5000", &quay).start().await;
    World {
        docker,
        quay,
        larder,
    }
}

impl World {
    /// Which of the images a path gives, by the seed it was made of, and the namespace told.
    async fn gives(&self, path: &str) -> (Option<u64>, String) {
        let got = self.larder.get(path).await;
        let seed = (1..=9).find(|seed| image(*seed).manifest_bytes() == got.body);
        assert!(seed.is_some() || got.status == 404, "{path}: {got:?}");
        (seed, got.header("oci-namespace").to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_naming_a_repository_leads_to_the_right_one() {
    let world = world().await;
    world.larder.push("mine", "1", &image(5)).await;
    world.larder.push("team/mine", "1", &image(6)).await;
    for (path, seed, namespace) in [
        // A bare name: local, else Docker Hub, with its library.
        ("/v2/app/manifests/1", Some(1), ""),
        ("/v2/library/app/manifests/1", Some(1), ""),
        ("/v2/org/app/manifests/1", Some(2), ""),
        ("/v2/mine/manifests/1", Some(5), ""),
        ("/v2/team/mine/manifests/1", Some(6), ""),
        ("/v2/library/mine/manifests/1", None, ""),
        // The registry as first component, by any of its names.
        ("/v2/docker.io/app/manifests/1", Some(1), ""),
        ("/v2/docker.io/library/app/manifests/1", Some(1), ""),
        ("/v2/index.docker.io/org/app/manifests/1", Some(2), ""),
        ("/v2/registry-1.docker.io/org/app/manifests/1", Some(2), ""),
        ("/v2/quay.io/org/app/manifests/1", Some(3), ""),
        ("/v2/quay.io/app/manifests/1", Some(4), ""),
        ("/v2/10.0.0.7:5000/app/manifests/1", Some(4), ""),
        // The registry before /v2/.
        ("/docker.io/v2/app/manifests/1", Some(1), ""),
        ("/quay.io/v2/org/app/manifests/1", Some(3), ""),
        ("/10.0.0.7:5000/v2/org/app/manifests/1", Some(3), ""),
        // The registry as parameter.
        (
            "/v2/library/app/manifests/1?ns=docker.io",
            Some(1),
            "docker.io",
        ),
        ("/v2/org/app/manifests/1?ns=quay.io", Some(3), "quay.io"),
        (
            "/v2/org/app/manifests/1?ns=10.0.0.7%3A5000",
            Some(3),
            "10.0.0.7:5000",
        ),
        ("/v2/mine/manifests/1?ns=docker.io", None, ""),
        // The path wins over the parameter.
        ("/v2/quay.io/org/app/manifests/1?ns=docker.io", Some(3), ""),
        ("/quay.io/v2/org/app/manifests/1?ns=docker.io", Some(3), ""),
        // What is not configured is nothing.
        ("/v2/org/app/manifests/1?ns=evil.example", None, ""),
        ("/evil.example/v2/org/app/manifests/1", None, ""),
        ("/v2/evil.example:5000/org/app/manifests/1", None, ""),
        (
            "/quay.io/v2/evil.example:5000/org/app/manifests/1",
            None,
            "",
        ),
    ] {
        for again in ["at first", "from the disk"] {
            let (given, told) = world.gives(path).await;
            assert_eq!(given, seed, "{path} {again}");
            if seed.is_some() {
                assert_eq!(told, namespace, "{path} {again}");
            }
        }
    }
    let unknown = world
        .larder
        .get("/v2/org/app/manifests/1?ns=evil.example")
        .await;
    let message = unknown.json()["errors"][0]["message"].to_string();
    assert!(
        message.contains("evil.example") && message.contains("upstreams"),
        "{message}"
    );
    let catalog = world.larder.get("/v2/_catalog").await.json();
    assert_eq!(
        catalog["repositories"],
        json!([
            "10.0.0.7_5000/app",
            "10.0.0.7_5000/org/app",
            "docker.io/library/app",
            "docker.io/org/app",
            "mine",
            "quay.io/app",
            "quay.io/org/app",
            "team/mine",
        ])
    );
    for name in catalog["repositories"].as_array().unwrap() {
        let listed = format!("/v2/{}/manifests/1", name.as_str().unwrap());
        assert!(
            world.gives(&listed).await.0.is_some(),
            "{listed} is listed, so it can be pulled"
        );
    }
    world.larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_names_are_refused_before_any_body_is_read() {
    let world = world().await;
    for (path, instead) in [
        ("/v2/docker.io/library/app/blobs/uploads/", "app"),
        ("/v2/quay.io/org/app/blobs/uploads/", "org/app"),
        ("/v2/library/app/blobs/uploads/", "app"),
        ("/v2/10.0.0.7:5000/app/blobs/uploads/", "app"),
        ("/quay.io/v2/org/app/blobs/uploads/", "org/app"),
        ("/v2/org/app/blobs/uploads/?ns=docker.io", "org/app"),
        ("/v2/quay.io/blobs/uploads/", "my-quay.io"),
    ] {
        // A body that never comes: whoever waits for it waits for ever.
        let body = reqwest::Body::wrap_stream(futures_util::stream::pending::<
            Result<Vec<u8>, std::io::Error>,
        >());
        let post = world
            .larder
            .request("POST", path)
            .header("expect", "100-continue")
            .body(body);
        let refused = world.larder.send(post).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "DENIED"),
            "{path}"
        );
        let message = refused.json()["errors"][0]["message"].to_string();
        assert!(
            message.contains(&format!("push it under {instead} instead")),
            "{path}: {message}"
        );
    }
    let manifest = image(5).manifest_bytes().to_vec();
    let put = world
        .larder
        .put_manifest("library/app", "1", image(5).media_type(), manifest)
        .await;
    assert_eq!(put.status, 403);
    assert!(world.docker.asked().is_empty() && world.quay.asked().is_empty());
    world.larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_push_of_a_name_that_hides_an_upstreams_is_logged() {
    let world = world().await;
    assert_eq!(world.gives("/v2/org/app/manifests/1").await.0, Some(2));
    world.larder.push("org/app", "1", &image(5)).await;
    assert_eq!(
        world.gives("/v2/org/app/manifests/1").await.0,
        Some(5),
        "the pushed one from then on"
    );
    assert_eq!(
        world.gives("/v2/docker.io/org/app/manifests/1").await.0,
        Some(2)
    );
    world.larder.push("org/app", "2", &image(6)).await;
    let log = world.larder.log();
    let told = log
        .lines()
        .filter(|line| line.contains("org/app is now a local repository"))
        .count();
    assert_eq!(told, 1, "{log}");
    world.larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_pulled_under_a_name_can_be_pushed_under_that_name() {
    // The pusher asks which blobs are there. The name is still a mirror's then, so it is told of
    // all that Docker Hub has; it sends nothing but the manifest.
    let world = world().await;
    let image = image(2);
    for (digest, _) in image.blobs() {
        let head = world
            .larder
            .head(&format!("/v2/org/app/blobs/{digest}"))
            .await;
        assert_eq!(head.status, 200);
    }
    let manifest = image.manifest_bytes().to_vec();
    let pushed = world
        .larder
        .put_manifest("org/app", "mine", image.media_type(), manifest)
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}\n{}", world.larder.log());
    world.docker.down().await;
    assert_eq!(world.gives("/v2/org/app/manifests/mine").await.0, Some(2));
    for (digest, bytes) in image.blobs() {
        let got = world
            .larder
            .get(&format!("/v2/org/app/blobs/{digest}"))
            .await;
        assert!(got.complete && got.body == bytes);
    }
    world.larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_the_cache_can_be_pushed_under_its_name_by_who_asked_for_its_blobs() {
    let world = world().await;
    let image = image(2);
    let manifest = image.manifest_bytes().to_vec();
    let push = || {
        let manifest = manifest.clone();
        world
            .larder
            .put_manifest("org/app", "mine", image.media_type(), manifest)
    };
    let blobs = image.blobs();
    let path = |digest: &str| format!("/v2/org/app/blobs/{digest}");
    for (digest, _) in &blobs {
        assert_eq!(world.larder.get(&path(digest)).await.status, 200);
    }
    // Who was told nothing has to send everything.
    world.docker.clear_log();
    assert_eq!(push().await.code(), "MANIFEST_BLOB_UNKNOWN");
    assert!(world.docker.asked().is_empty());
    for (digest, _) in &blobs {
        assert_eq!(world.larder.head(&path(digest)).await.cache(), "hit");
    }
    assert_eq!(push().await.status, 201, "{}", world.larder.log());
    world.larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_not_acknowledged_before_what_it_relies_on_is_here() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[300_000]).oci();
    hub.push("org/app", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    for (digest, _) in image.blobs() {
        let path = format!("/v2/org/app/blobs/{digest}");
        assert_eq!(larder.head(&path).await.status, 200);
    }
    let layer = Where::blobs().get().digest(&image.layer_digests()[0]);
    hub.fault(Fault::on(layer).times(1).does(What::TruncateAfter(150_000)));
    let limit: &[(&str, &str)] = &[("retry-after", "3600")];
    hub.fault(Fault::on(Where::blobs().with_header("range")).does(What::Status(429, limit, "{}")));
    let manifest = image.manifest_bytes().to_vec();
    let pushed = larder
        .put_manifest("org/app", "mine", image.media_type(), manifest)
        .await;
    assert_eq!(pushed.code(), "MANIFEST_BLOB_UNKNOWN", "{pushed:?}");
    larder.finish_with_parts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_whose_upstream_is_no_longer_configured_is_still_served() {
    let world = world().await;
    assert_eq!(
        world.gives("/v2/quay.io/org/app/manifests/1").await.0,
        Some(3)
    );
    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join("root");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(world.larder.root())
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    world.larder.finish().await;
    let larder = Options::mirror_of(&world.docker).on(&copy).start().await;
    let got = larder.get("/v2/quay.io/org/app/manifests/1").await;
    assert_eq!((got.status, got.cache()), (200, "hit"));
    let push = larder
        .send(larder.request("POST", "/v2/quay.io/org/app/blobs/uploads/"))
        .await;
    assert_eq!(push.status, 403, "it is a mirror, configured or not");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_upstreams_it_is_a_plain_registry() {
    let larder = Options::registry().start().await;
    larder.push("library/app", "1", &image(1)).await;
    larder.push("docker.io/library/app", "1", &image(2)).await;
    assert_eq!(
        larder.get("/v2/library/app/manifests/1").await.body,
        image(1).manifest_bytes()
    );
    let catalog = larder.get("/v2/_catalog").await.json();
    assert_eq!(
        catalog["repositories"],
        json!(["docker.io/library/app", "library/app"])
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pull_through_cache_of_distribution_left_is_served_and_spoken_of() {
    let root = tempfile::tempdir().unwrap();
    let plain = Options::registry().on(root.path()).start().await;
    plain.push("library/app", "1", &image(1)).await;
    plain.finish().await;
    let hub = Hub::start().await;
    hub.push("library/app", "1", &image(2));
    let larder = Options::mirror_of(&hub).on(root.path()).start().await;
    let got = larder.get("/v2/library/app/manifests/1").await;
    assert_eq!(got.body, image(1).manifest_bytes(), "doubt counts as local");
    let fresh = larder.get("/v2/docker.io/library/app/manifests/1").await;
    assert_eq!(fresh.body, image(2).manifest_bytes());
    larder
        .logged("library/app was stored by another registry")
        .await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_before_an_upstream_was_configured_is_never_replaced() {
    let hub = Hub::start().await;
    let (ours, theirs) = (Image::random(1, &[5000]), Image::random(2, &[5000]));
    hub.push("library/app", "1", &theirs);
    let root = tempfile::tempdir().unwrap();
    let path = "/v2/docker.io/library/app/manifests/1";
    let plain = Options::registry().on(root.path()).start().await;
    plain.push("docker.io/library/app", "1", &ours).await;
    plain.finish().await;
    // From now on the name is Docker Hub's; the directory is still the pusher's.
    let larder = Options::mirror_of(&hub)
        .never_fresh()
        .on(root.path())
        .start()
        .await;
    larder.get(path).await;
    let layer = &theirs.layer_digests()[0];
    larder
        .get(&format!("/v2/docker.io/library/app/blobs/{layer}"))
        .await;
    larder.finish_with_parts().await;
    let plain = Options::registry().on(root.path()).start().await;
    let kept = plain.get(path).await;
    assert_eq!(kept.body, ours.manifest_bytes());
    let foreign = format!("/v2/docker.io/library/app/blobs/{layer}");
    assert_eq!(plain.get(&foreign).await.status, 404);
    plain.finish_with_parts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_local_from_its_first_blob_on() {
    let hub = Hub::start().await;
    hub.push("labs/new", "1", &Image::random(1, &[5000]));
    let larder = Options::mirror_of(&hub).start().await;
    larder.push_blob("labs/new", b"the first of many").await;
    for what in ["manifests/1", "tags/list"] {
        let got = larder.get(&format!("/v2/labs/new/{what}")).await;
        assert_eq!(got.status, 404, "{what}: {got:?}");
    }
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_children_the_pusher_was_told_of_can_be_pushed() {
    let world = world().await;
    let children = vec![(image(5), "amd64"), (image(6), "arm64")];
    let index = Image::index(children).oci();
    world.docker.push("org/many", "1", &index);
    for child in index.children() {
        let path = format!("/v2/org/many/manifests/{}", child.digest());
        assert_eq!(world.larder.head(&path).await.status, 200);
    }
    let bytes = index.manifest_bytes().to_vec();
    let pushed = world
        .larder
        .put_manifest("org/many", "mine", index.media_type(), bytes)
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}\n{}", world.larder.log());
    world.docker.down().await;
    for child in index.children() {
        let path = format!("/v2/org/many/manifests/{}", child.digest());
        assert_eq!(world.larder.get(&path).await.body, child.manifest_bytes());
        for (digest, bytes) in child.blobs() {
            let got = world
                .larder
                .get(&format!("/v2/org/many/blobs/{digest}"))
                .await;
            assert!(got.complete && got.body == bytes);
        }
    }
    world.larder.finish().await;
}
