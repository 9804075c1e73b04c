//! The clients themselves, with the files that were written for them.

use std::path::Path;

use serde_json::json;

use super::{assert_failed, put, read};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{
    Buildah, Containerd, Dockerd, Larder, Options, Podman, Skopeo, Workshop,
};
use crate::support::tree::files;

fn image(seed: u64) -> Image {
    Image::random(seed, &[30_000, 2000])
}

async fn apply(larder: &Larder, client: &str, root: &Path) {
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

/// What containerd itself makes of a file of its own: the CRI plugin's part of it.
async fn registry_in_force(root: &Path, path: &str) -> String {
    let shop = Workshop::new();
    let file = root.join(path);
    let arguments = ["--config", file.to_str().unwrap(), "config", "dump"];
    let dumped = shop.run("containerd", &arguments).await.expect_success();
    let at = dumped.find("[plugins.\"io.containerd.grpc.v1.cri\".registry]");
    let (_, registry) = dumped.split_at(at.expect("its registry"));
    registry.lines().take(2).collect()
}

#[tokio::test]
async fn containerds_own_file_names_the_directory_and_keeps_what_it_said() {
    const FILE: &str = "etc/containerd/config.toml";
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .set(&["http", "host"], json!("http://127.0.0.1:9"))
        .rest();
    let shop = Workshop::new();
    let default = shop.run("containerd", &["config", "default"]).await;
    let default = default.expect_success();
    let debian = std::fs::read_to_string("/etc/containerd/config.toml").unwrap();
    let oldest = "[plugins.cri]\n  sandbox_image = \"pause:1\"\n".to_owned();
    for before in [default, debian, oldest] {
        let root = larder.home().join("machine");
        put(&root, FILE, &before);
        let at = root.to_str().unwrap();
        let check = ["setup", "containerd", "--check", "--root", at];
        let checked = larder.run(&check).await;
        let lacks = "config.toml: without config_path = \"/etc/containerd/certs.d\"";
        assert_failed(&checked, &["FAIL", lacks]);
        let apply = ["setup", "containerd", "--apply", "--yes", "--root", at];
        let applied = larder.run(&apply).await;
        assert!(applied.success, "{applied:?}");
        assert!(applied.stderr.contains("systemctl restart containerd"));
        let added = "config_path = \"/etc/containerd/certs.d\"";
        assert!(applied.stdout.contains(added), "{applied:?}");
        let after = read(&root, FILE);
        for line in before
            .lines()
            .filter(|it| !it.contains("config_path = \"\""))
        {
            assert!(after.lines().any(|it| it == line), "{line}: {after}");
        }
        let in_force = registry_in_force(&root, FILE).await;
        assert!(in_force.ends_with(added), "{in_force}");
        let copies = files(&root).into_iter();
        let mut copies = copies.filter(|it| it.to_string_lossy().contains(".before-larder-"));
        let copy = std::fs::read_to_string(copies.next().unwrap()).unwrap();
        assert_eq!((copy, copies.next()), (before, None));
        let checked = larder.run(&check).await;
        let nothing = "config.toml needs nothing more";
        assert!(checked.stderr.contains(nothing), "{checked:?}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[tokio::test]
async fn what_is_in_the_way_in_containerds_own_file_does_not_keep_the_hosts_out() {
    const FILE: &str = "etc/containerd/config.toml";
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .set(&["http", "host"], json!("http://127.0.0.1:9"))
        .rest();
    let root = larder.home().join("machine");
    let at = root.to_str().unwrap();
    let apply = ["setup", "containerd", "--apply", "--yes", "--root", at];
    let check = ["setup", "containerd", "--check", "--root", at];
    // ctr and nerdctl need no such file, and none is made.
    let applied = larder.run(&apply).await;
    assert!(
        applied.success && !applied.stderr.contains("restart"),
        "{applied:?}"
    );
    assert!(!root.join(FILE).exists());
    let checked = larder.run(&check).await;
    assert!(
        checked.stderr.contains("config.toml is not there"),
        "{checked:?}"
    );
    std::fs::remove_dir_all(&root).unwrap();

    let mirrors = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  endpoint = [\"https://old\"]\n";
    put(&root, FILE, mirrors);
    let applied = larder.run(&apply).await;
    let words = [
        "wrote",
        "left to you",
        "registry.mirrors",
        "Add this yourself",
    ];
    assert_failed(&applied, &words);
    assert_eq!(read(&root, FILE), mirrors);
    let hosts = "etc/containerd/certs.d/docker.io/hosts.toml";
    assert!(read(&root, hosts).contains("127.0.0.1:9"));
    assert_failed(&larder.run(&check).await, &["FAIL", "registry.mirrors"]);

    put(&root, FILE, "version = = 2\n");
    let applied = larder.run(&apply).await;
    assert_failed(&applied, &["config.toml:1:", "nothing has been changed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_skopeo_and_buildah_pull_with_the_registries_conf_that_was_merged() {
    let hub = Hub::start().await;
    for (name, seed) in [("library/app", 4), ("library/web", 6), ("library/db", 8)] {
        hub.push(name, "1", &image(seed));
    }
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
        .run(&["pull", "docker.io/library/web:1"])
        .await
        .expect_success();
    // A short name, which podman looks for at docker.io.
    let podman = Podman::with_registries(&text);
    podman.run(&["pull", "db:1"]).await.expect_success();
    let log = larder.log();
    for name in ["app", "web", "db"] {
        let asked = format!("/v2/docker.io/library/{name}/manifests/1");
        assert!(log.contains(&asked), "{name}: {log}");
    }
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
