//! One tree, two programs: what Distribution wrote larder serves, and the other way round.

use std::fs;

use serde_json::{Value, json};

use super::{OCI_INDEX, OCI_MANIFEST, assert_pullable, blob, push_small};
use crate::support::image::{Image, sha256};
use crate::support::programs::{Distribution, DistributionOptions, Larder, Options, Skopeo};
use crate::support::tree::files;

/// One image of every kind, each with its name and tag.
fn images() -> [(&'static str, &'static str, Image); 4] {
    let image = |seed| Image::random(seed, &[30_000, 3_000]);
    let index = |seed| Image::index(vec![(image(seed), "amd64"), (image(seed + 1), "arm64")]);
    [
        ("team/app", "docker", image(1)),
        ("team/app", "oci", image(2).oci()),
        ("list", "latest", index(3)),
        ("a/b/c", "index", index(5).oci()),
    ]
}

async fn copy_all(skopeo: &Skopeo, from: &str, to: &str) {
    let options = ["--all", "--preserve-digests"];
    for (name, tag, _) in images() {
        let (from, to) = (
            format!("docker://{from}/{name}:{tag}"),
            format!("docker://{to}/{name}:{tag}"),
        );
        skopeo.try_copy(&options, &from, &to).await.expect_success();
    }
}

async fn push_all(larder: &Larder) {
    for (name, tag, image) in images() {
        larder.push(name, tag, &image).await;
    }
}

async fn assert_all_there(larder: &Larder) {
    for (name, tag, image) in images() {
        assert_pullable(larder, name, tag, &image).await;
        assert_pullable(larder, name, &image.digest(), &image).await;
    }
    let catalog = larder.get("/v2/_catalog").await.json();
    assert_eq!(
        catalog["repositories"],
        json!(["a/b/c", "list", "team/app"])
    );
    let tags = larder.get("/v2/team/app/tags/list").await.json();
    assert_eq!(tags["tags"], json!(["docker", "oci"]));
}

#[tokio::test]
async fn what_distribution_wrote_is_served_unchanged() {
    let source = Options::registry().start().await;
    push_all(&source).await;
    let root = tempfile::tempdir().expect("a directory");
    let options = DistributionOptions {
        root: Some(root.path().to_owned()),
        ..DistributionOptions::default()
    };
    let distribution = Distribution::start(&options).await;
    copy_all(&Skopeo::new(), source.address(), distribution.address()).await;
    distribution.stop();
    let written = files(root.path());
    let larder = Options::registry().on(root.path()).start().await;
    assert_all_there(&larder).await;
    // But for the locks.
    let below = larder.tree();
    let touched = files(root.path())
        .into_iter()
        .filter(|path| path.starts_with(&below));
    assert_eq!(touched.collect::<Vec<_>>(), written);
    // And gone on with: a push into one of its repositories.
    push_small(&larder, "team/app", "new", "{}").await;
    assert_eq!(
        larder.get("/v2/team/app/tags/list").await.json()["tags"],
        json!(["docker", "new", "oci"])
    );
    larder.finish().await;
    source.finish().await;
}

#[tokio::test]
async fn what_larder_wrote_distribution_serves_and_its_collector_keeps() {
    let larder = Options::registry().start().await;
    push_all(&larder).await;
    let root = tempfile::tempdir().expect("a directory");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(larder.root().join("."))
        .arg(root.path())
        .status();
    assert!(copied.expect("coreutils").success());
    larder.finish().await;
    let options = DistributionOptions {
        root: Some(root.path().to_owned()),
        ..DistributionOptions::default()
    };
    let distribution = Distribution::start(&options).await;
    // Into a third registry and back out of it byte for byte: everything must have been there.
    let copy = Options::registry().start().await;
    let skopeo = Skopeo::new();
    copy_all(&skopeo, distribution.address(), copy.address()).await;
    assert_all_there(&copy).await;
    let mut tags = skopeo
        .list_tags(&format!("docker://{}/team/app", distribution.address()))
        .await;
    tags.sort();
    assert_eq!(tags, ["docker", "oci"]);
    distribution.stop();
    copy.finish().await;
    let before = files(root.path());
    let collected = Distribution::garbage_collect(root.path(), &[])
        .await
        .expect_success();
    assert!(
        collected.contains(" 0 blobs and 0 manifests eligible"),
        "{collected}"
    );
    assert_eq!(files(root.path()), before);
    let larder = Options::registry().on(root.path()).start().await;
    assert_all_there(&larder).await;
    larder.finish().await;
}

/// Distribution stores a sha512 upload under its sha256, and links one name to the other.
#[tokio::test]
async fn distributions_alias_links_are_followed() {
    let larder = Options::registry().start().await;
    let digest = larder.push_blob("a", b"{}").await;
    let alias = format!("sha512:{}", "ab".repeat(64));
    let link = larder
        .tree()
        .join("repositories/a/_layers")
        .join(alias.replace(':', "/"));
    fs::create_dir_all(&link).unwrap();
    fs::write(link.join("link"), &digest).unwrap();
    assert_eq!(blob(&larder, "a", &alias).await, b"{}");
    // A newline at a link's end is none of ours, but harmless.
    fs::write(link.join("link"), format!("{digest}\n")).unwrap();
    assert_eq!(blob(&larder, "a", &alias).await, b"{}");
    fs::write(link.join("link"), &digest).unwrap();
    // Such a name cannot be mounted: there is no data under it.
    let mount = format!("/v2/b/blobs/uploads/?mount={alias}&from=a");
    let ordinary = larder.send(larder.request("POST", &mount)).await;
    assert_eq!(ordinary.status, 202);
    assert_eq!(
        super::cancel_upload(&larder, ordinary.header("location"))
            .await
            .status,
        204
    );
    larder.finish().await;
}

/// Types are not stored in the tree: they are read from the bytes, as Distribution does.
#[tokio::test]
async fn a_manifest_in_the_tree_is_served_as_what_its_bytes_say() {
    let larder = Options::registry().start().await;
    let config = larder.push_blob("a", b"{}").await;
    let descriptor = json!({"mediaType": "x/y", "size": 2, "digest": config});
    for (at, (json, served_as)) in [
        (
            json!({"schemaVersion": 2, "config": descriptor, "layers": []}),
            OCI_MANIFEST,
        ),
        (json!({"schemaVersion": 2, "manifests": []}), OCI_INDEX),
        (
            json!({"schemaVersion": 1, "name": "a", "fsLayers": []}),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let digest = plant(&larder, &json);
        let tag = larder
            .tree()
            .join(format!("repositories/a/_manifests/tags/t{at}/current"));
        fs::create_dir_all(&tag).unwrap();
        fs::write(tag.join("link"), &digest).unwrap();
        let got = larder.get(&format!("/v2/a/manifests/t{at}")).await;
        assert_eq!((got.status, got.header("content-type")), (200, served_as));
        assert_eq!(got.header("docker-content-digest"), digest);
    }
    // What is no manifest at all is none here either.
    let digest = plant(&larder, &json!(["not", "a", "manifest"]));
    let refused = larder.get(&format!("/v2/a/manifests/{digest}")).await;
    super::assert_refused(&refused, 404, "MANIFEST_UNKNOWN");
    larder.finish().await;
}

/// Puts a manifest into the repository `a` as any other program might.
fn plant(larder: &Larder, json: &Value) -> String {
    let bytes = json.to_string();
    let digest = sha256(bytes.as_bytes());
    let hex = &digest[7..];
    let data = larder
        .tree()
        .join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
    let revision = larder
        .tree()
        .join(format!("repositories/a/_manifests/revisions/sha256/{hex}"));
    for directory in [&data, &revision] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(data.join("data"), bytes).unwrap();
    fs::write(revision.join("link"), &digest).unwrap();
    digest
}
