//! The container image: into larder, out again, and started in every way that registry:2 is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::source;
use crate::support::programs::{
    Dockerd, DockerdOptions, Options, Output, Running, Skopeo, Workshop, client_trusting,
};

/// The image as an archive, made as `make image` makes it.
async fn build(shop: &Workshop, program: &Path, name: &str) -> PathBuf {
    let archive = shop.path(name);
    let mut build = shop.command(source("packaging/image/build"), &[]);
    build.arg(program).arg(&archive);
    build.env("SOURCE_DATE_EPOCH", "1700000000");
    shop.finish(build).await.expect_success();
    archive
}

/// An image's files, laid out as a container sees them.
async fn unpack(shop: &Workshop, image: &Path) -> PathBuf {
    let root = shop.path("rootfs");
    std::fs::create_dir(&root).expect("a directory");
    let manifest = std::fs::read_to_string(image.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    for layer in manifest["layers"].as_array().expect("layers") {
        let digest = layer["digest"].as_str().expect("a digest");
        let layer = image.join(digest.trim_start_matches("sha256:"));
        let mut tar = shop.command("tar", &["--same-permissions", "-xf"]);
        tar.arg(layer).arg("-C").arg(&root);
        shop.finish(tar).await.expect_success();
    }
    root
}

/// A container, as far as a directory can be one.
struct Container<'a> {
    shop: &'a Workshop,
    root: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Container<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let root = self.root.to_str().expect("a plain name");
        let mut command = self.shop.command("chroot", &[root]);
        // The programs in there are looked for by the image's PATH, and it has no proxies.
        command.args(arguments).env_clear().envs(&self.environment);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.shop.finish(self.command(arguments)).await
    }

    /// Starts it, and asks whether it is a registry.
    async fn serves(&self, arguments: &[&str]) {
        let mut command = self.command(arguments);
        command.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
        let running = Running::start("container", command);
        let address = running.address().await;
        let client = client_trusting(None).build().expect("a client");
        let answer = client.get(format!("http://{address}/v2/")).send().await;
        assert_eq!(answer.expect("an answer").status(), 200, "{arguments:?}");
        let log = running.log();
        assert!(log.contains("storing in /var/lib/registry"), "{log}");
        let status = running.stop().await;
        assert!(status.success(), "{arguments:?}: {status}");
    }
}

fn assert_shaped_like_registry_2(image: &Value) {
    let config = &image["config"];
    assert_eq!(config["Entrypoint"], json!(["/entrypoint.sh"]));
    assert_eq!(
        config["Cmd"],
        json!(["/etc/docker/registry/config.yml"]),
        "{config}"
    );
    assert_eq!(config["ExposedPorts"], json!({ "5000/tcp": {} }));
    assert_eq!(config["Volumes"], json!({ "/var/lib/registry": {} }));
    assert!(["", "/"].contains(&config["WorkingDir"].as_str().unwrap_or("")));
    assert!(config["User"].as_str().unwrap_or("").is_empty(), "{config}");
    let labels = &config["Labels"];
    let label = |name: &str| labels[format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("title"), "larder");
    assert_eq!(image["created"], "2023-11-14T22:13:20Z");
}

fn environment(image: &Value) -> BTreeMap<String, String> {
    let list = image["config"]["Env"].as_array().expect("an environment");
    let pair = |entry: &Value| {
        let (name, value) = entry.as_str()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    list.iter().filter_map(pair).collect()
}

#[tokio::test]
async fn the_image_goes_through_larder_and_starts_in_every_way_that_registry_2_does() {
    let shop = Workshop::new();
    let program = shop.stripped_larder().await;
    let archive = build(&shop, &program, "larder.tar").await;
    let larder = Options::registry().start().await;
    let skopeo = Skopeo::new();
    let image = format!("docker://{}/team/larder:1", larder.address());
    let from = format!("docker-archive:{}", archive.display());
    skopeo.copy(&from, &image).await;
    let pulled = shop.path("pulled");
    skopeo
        .copy(&image, &format!("dir:{}", pulled.display()))
        .await;
    let shown = ["inspect", "--config", "--tls-verify=false", &image];
    let config = skopeo.run(&shown).await.expect_success();
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_shaped_like_registry_2(&config);

    let root = unpack(&shop, &pulled).await;
    assert!(root.join("var/lib/registry").is_dir());
    for absent in ["bin/sh", "etc/passwd", "etc/ssl", "root"] {
        assert!(!root.join(absent).exists(), "{absent}");
    }
    let environment = environment(&config);
    let container = Container {
        shop: &shop,
        root,
        environment,
    };
    let (v2, v3) = (
        "/etc/docker/registry/config.yml",
        "/etc/distribution/config.yml",
    );
    for arguments in [
        &["/entrypoint.sh", v2][..],
        &["/entrypoint.sh", "serve", v3],
        &["/entrypoint.sh", "/bin/registry", "serve", v2],
        &["/entrypoint.sh"],
        &["/bin/registry", "serve", v2],
        &["registry", "serve", v3],
    ] {
        container.serves(arguments).await;
    }
    // A volume may hide it, or nobody may write there.
    std::fs::remove_dir(container.root.join("tmp")).expect("an empty directory");
    container.serves(&["/entrypoint.sh", v2]).await;
    let collect = ["bin/registry", "garbage-collect", v2];
    let collected = container.run(&collect).await.expect_success();
    assert!(collected.contains("0 blobs marked"), "{collected}");
    let collect = ["/entrypoint.sh", "garbage-collect", "--delete-untagged", v2];
    container.run(&collect).await.expect_success();
    // The configuration is found, and with it the data.
    let listed = container.run(&["larder", "ls", "--json"]).await;
    listed.expect_success();
    let version = container.run(&["/entrypoint.sh", "--version"]).await;
    let version = version.expect_success();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let missing = container.run(&["/entrypoint.sh", "sh"]).await;
    assert!(!missing.success && missing.stderr.contains("--help"));
    larder.finish().await;
}

#[tokio::test]
async fn docker_loads_the_image_pushes_it_to_larder_and_pulls_it() {
    let shop = Workshop::new();
    let program = shop.stripped_larder().await;
    let archive = build(&shop, &program, "larder.tar").await;
    let larder = Options::registry().start().await;
    let docker = Dockerd::start(&DockerdOptions::default()).await;
    let archive = archive.to_str().expect("a plain name");
    let loaded = docker.docker(&["load", "-i", archive]).await;
    let loaded = loaded.expect_success();
    let local = format!("larder:{}", env!("CARGO_PKG_VERSION"));
    assert!(loaded.contains(&local), "{loaded}");
    let id = docker.image_id(&local).await;
    let name = format!("{}/larder:1", larder.address());
    docker.tag(&local, &name).await;
    docker.push(&name).await;
    docker.remove_image(&local).await;
    docker.remove_image(&name).await;
    docker.pull(&name).await;
    assert_eq!(docker.image_id(&name).await, id);
    larder.finish().await;
}

#[tokio::test]
async fn the_same_program_makes_the_same_image() {
    let shop = Workshop::new();
    // What is in it does not matter, and what is small is fast.
    let program = shop.path("program");
    std::fs::write(&program, "#!/bin/true\n").expect("a file");
    let (one, other) = (
        build(&shop, &program, "one.tar").await,
        build(&shop, &program, "other.tar").await,
    );
    let bytes = |path: &Path| std::fs::read(path).expect("an archive");
    assert!(bytes(&one) == bytes(&other));
    let mut limited = shop.command(source("packaging/image/build"), &[]);
    limited.arg(&program).arg(shop.path("large.tar"));
    limited.env("LIMIT", "1000");
    let limited = shop.finish(limited).await;
    assert!(!limited.success);
    assert!(limited.stderr.contains("more than 1000 bytes"));
}
