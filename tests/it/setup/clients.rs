//! The clients themselves, with the files that were written for them.

use serde_json::json;

use super::{assert_failed, put, read};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Buildah, Containerd, Dockerd, Larder, Options, Skopeo};

fn image(seed: u64) -> Image {
    Image::random(seed, &[30_000, 2000])
}

async fn apply(larder: &Larder, client: &str, root: &std::path::Path) {
    let root = root.to_str().unwrap();
    let arguments = ["setup", client, "--apply", "--yes", "--root", root];
    larder.run(&arguments).await.expect_success();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_with_the_daemon_json_that_was_merged() {
    let hub = Hub::builder().bearer().cdn().start().await;
    hub.push("library/app", "1", &image(1));
    let larder = Options::mirror_of(&hub).start().await;
    let docker = Dockerd::set_up(async |root| apply(&larder, "docker", root).await).await;
    docker.pull("app:1").await;
    assert_eq!(docker.image_id("app:1").await, image(1).config_digest());
    assert!(
        larder.log().contains("/v2/library/app/manifests/"),
        "{}",
        larder.log()
    );
    assert!(
        !docker.log().contains("registry-1.docker.io"),
        "{}",
        docker.log()
    );

    let root = docker.root();
    let check = ["setup", "docker", "--check", "--image", "app:1"];
    let socket = docker.address();
    let here = larder.run_as(&[("DOCKER_HOST", &socket)], &check).await;
    // The files of this machine are not those of the test's daemon.
    assert_failed(
        &here,
        &[
            "docker has ",
            "as its mirror",
            "ok    docker pull --quiet library/app:1",
        ],
    );
    let there = [&check[..], &["--root", root.to_str().unwrap()]].concat();
    let there = larder.run(&there).await;
    assert!(
        there.success && there.stderr.contains("daemon.json names larder"),
        "{there:?}"
    );
    assert!(
        there
            .stderr
            .contains("gives docker.io/library/app:1 as docker asks for it"),
        "{there:?}"
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_with_the_hosts_that_were_written() {
    let (hub, quay) = (Hub::start().await, Hub::start().await);
    hub.push("library/app", "1", &image(2));
    quay.push("org/app", "1", &image(3));
    let larder = Options::mirror_of(&hub)
        .upstream("quay.io", &quay)
        .start()
        .await;
    let containerd = Containerd::with_mirror("http://127.0.0.1:9").await;
    let root = larder.root().join("../machine");
    let old = "etc/containerd/certs.d/quay.io/hosts.toml";
    put(
        &root,
        old,
        "# was here\n[host.\"http://127.0.0.1:9\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
    );
    apply(&larder, "containerd", &root).await;
    for registry in ["docker.io", "quay.io"] {
        let text = read(
            &root,
            &format!("etc/containerd/certs.d/{registry}/hosts.toml"),
        );
        containerd.set_hosts(registry, &text);
    }
    assert!(read(&root, old).contains("# was here"));
    containerd.pull("docker.io/library/app:1").await;
    containerd.pull("quay.io/org/app:1").await;
    assert!(containerd.content_has(&image(3).digest()).await);
    let log = larder.log();
    assert!(
        log.contains("/v2/library/app/manifests/1") && log.contains("/v2/org/app/manifests/1"),
        "{log}"
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_and_buildah_pull_with_the_registries_conf_that_was_merged() {
    let hub = Hub::start().await;
    hub.push("library/app", "1", &image(4));
    let larder = Options::mirror_of(&hub).start().await;
    let root = larder.root().join("../machine");
    let path = "etc/containers/registries.conf";
    let before = "# mine\nunqualified-search-registries = [\"docker.io\"]\n\n[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:9/old\"\ninsecure = true\n";
    put(&root, path, before);
    apply(&larder, "podman", &root).await;
    let text = read(&root, path);
    assert!(text.starts_with("# mine\n"), "{text}");
    let skopeo = Skopeo::with_registries(&text);
    skopeo
        .run(&["inspect", "--raw", "docker://docker.io/library/app:1"])
        .await
        .expect_success();
    let buildah = Buildah::with_registries(&text);
    buildah
        .run(&["pull", "docker.io/library/app:1"])
        .await
        .expect_success();
    let log = larder.log();
    assert!(
        log.contains("/v2/docker.io/library/app/manifests/1"),
        "{log}"
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_asks_as_each_client_would_and_says_what_is_wrong() {
    let hub = Hub::start().await;
    hub.push("library/app", "1", &image(5));
    let mut larder = Options::mirror_of(&hub)
        .set(&["cache", "warm", "images"], json!(["app:1"]))
        .start()
        .await;
    let root = larder.root().join("../machine");
    let at = root.to_str().unwrap().to_owned();
    for (client, path) in [
        ("docker", "/v2/library/app/manifests/1"),
        ("containerd", "/v2/library/app/manifests/1"),
        ("podman", "/v2/docker.io/library/app/manifests/1"),
        ("buildkit", "/v2/docker.io/library/app/manifests/1"),
        ("k3s", "/v2/library/app/manifests/1"),
    ] {
        let check = ["setup", client, "--check", "--root", &at];
        let before = larder.run(&check).await;
        assert_failed(&before, &["FAIL", "--apply", "ok    http://"]);
        apply(&larder, client, &root).await;
        let after = larder.run(&check).await;
        assert!(after.success, "{after:?}");
        let gives = format!("gives docker.io/library/app:1 as {client} asks for it: 4 parts");
        assert!(after.stderr.contains(&gives), "{after:?}");
        assert!(larder.log().contains(path), "{client}");
    }
    let absent = [
        "setup", "docker", "--check", "--root", &at, "--image", "app:9",
    ];
    assert_failed(
        &larder.run(&absent).await,
        &["does not have docker.io/library/app:9"],
    );
    larder.kill().await;
    let check = ["setup", "docker", "--check", "--root", &at];
    assert_failed(
        &larder.run(&check).await,
        &["cannot be reached from here", "Does larder run"],
    );
}
