//! `larder verify --offline`: a promise that a pull without network keeps.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{assert_fails, assert_says, docker_hub, two_platforms};
use crate::support::image::Image;
use crate::support::programs::{Dockerd, Options, Resting};
use crate::support::tree::files;

/// Where a digest's data or link is.
fn file_of(larder: &Resting, digest: &str, name: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let is_it = |file: &PathBuf| {
        let text = file.to_str().unwrap();
        text.contains(hex) && text.ends_with(name)
    };
    let found = files(&larder.tree()).into_iter().find(is_it);
    found.unwrap_or_else(|| panic!("no {name} of {digest}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_warm_nothing_is_ready_and_after_it_docker_needs_no_network() {
    let hub = docker_hub().await;
    let image = two_platforms(1);
    hub.push("library/app", "1", &image);
    hub.push("library/other", "2", &Image::random(7, &[2000]));
    let larder = Options::mirror_of(&hub).never_fresh().rest();
    let for_amd64 = ["--platform", "linux/amd64"];
    let verify = [&["verify", "--offline", "app:1", "other:2"], &for_amd64[..]].concat();
    assert_fails(&larder.run(&verify).await, &["root is not there: "]);
    assert!(!larder.root().exists());
    larder.run(&["warm", "other:2"]).await.expect_success();
    let output = larder.run(&verify).await;
    assert_fails(&output, &["1 of 2 images not ready"]);
    for words in [
        "ready     other:2",
        "not ready app:1",
        "it is not here",
        "config.yml app:1 --platform linux/amd64",
        "1 of 2 images ready for linux/amd64\n",
    ] {
        assert!(output.stdout.contains(words), "{words}: {output:?}");
    }
    let warm = [&["warm", "app:1"], &for_amd64[..]].concat();
    larder.run(&warm).await.expect_success();
    hub.clear_log();
    let all = "2 of 2 images ready for linux/amd64\n";
    assert_says(larder.run(&verify).await, &[all]);
    let for_both = [&verify[..], &["--platform", "linux/arm64"]].concat();
    let output = larder.run(&for_both).await;
    let arm = image.children()[1].digest();
    let missing = format!("missing: manifest {arm} for linux/arm64");
    assert!(output.stdout.contains(&missing), "{output:?}");
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());

    hub.down().await;
    let running = larder.options().start().await;
    assert_says(running.run(&verify).await, &[all]);
    let docker = Dockerd::with_mirror(&running.url()).await;
    for name in ["app:1", "other:2"] {
        docker.pull(name).await;
    }
    let expected = image.children()[0].config_digest();
    assert_eq!(docker.image_id("app:1").await, expected);
    running.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_named_exactly() {
    let hub = docker_hub().await;
    let image = Image::random(1, &[300_000, 20_000]);
    hub.push("library/app", "1", &image);
    let larder = Options::mirror_of(&hub).rest();
    larder.run(&["warm", "app:1"]).await.expect_success();
    let layers = image.layer_digests();
    let verify = ["verify", "--offline", "app:1", "--platform", "linux/amd64"];
    let deep = [&verify[..], &["--deep"]].concat();
    larder.run(&deep).await.expect_success();
    let data = file_of(&larder, &layers[0], "data");
    let sound = std::fs::read(&data).unwrap();
    let mut damaged = sound.clone();
    damaged[1000] ^= 1;
    std::fs::write(&data, &damaged).unwrap();
    larder.run(&verify).await.expect_success();
    let output = larder.run(&deep).await;
    let said = format!("damaged: layer {}", layers[0]);
    assert!(output.stdout.contains(&said), "{output:?}");
    std::fs::write(&data, &sound[..1000]).unwrap();
    let output = larder.run(&verify).await;
    let said = format!(
        "wrong size: layer {} for linux/amd64: it has 1000 bytes",
        layers[0]
    );
    assert!(output.stdout.contains(&said), "{output:?}");
    std::fs::write(&data, &sound).unwrap();
    std::fs::remove_file(file_of(&larder, &layers[1], "link")).unwrap();
    let output = larder.run(&[&verify[..], &["--json"]].concat()).await;
    assert!(!output.success);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let shown = &report["images"][0];
    assert_eq!(
        (&report["ready"], &report["not_ready"]),
        (&0.into(), &1.into())
    );
    assert_eq!(shown["repository"], "docker.io/library/app");
    assert_eq!(shown["lacking"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(shown["lacking"][0]["digest"], layers[1].as_str());
    assert_eq!(shown["lacking"][0]["state"], "missing");
    // Its bytes are here: only whether this repository may have them is asked.
    hub.clear_log();
    larder.run(&["warm", "app:1"]).await.expect_success();
    assert!(hub.body_bytes() < 1000, "{:?}", hub.asked());
    larder.run(&verify).await.expect_success();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_platform_this_machines_is_meant_and_said() {
    let hub = docker_hub().await;
    let everywhere = ["amd64", "arm64", "riscv64", "s390x", "ppc64le"];
    let children = (1..).zip(everywhere);
    let children = children.map(|(seed, name)| (Image::random(seed, &[2000]), name));
    hub.push("library/app", "1", &Image::index(children.collect()));
    let larder = Options::mirror_of(&hub).rest();
    larder.run(&["warm", "app:1"]).await.expect_success();
    let output = larder.run(&["verify", "--offline", "app:1"]).await;
    let words = ["this machine's platform", "1 of 1 image ready for linux/"];
    assert_says(output, &words);
}

/// A pull gives what the tag is held at, so that is what must be here.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_held_tag_it_is_what_it_is_held_at_that_must_be_here() {
    let hub = docker_hub().await;
    let (old, new) = (Image::random(1, &[2000]), Image::random(2, &[2000]));
    hub.push("library/app", "1", &old);
    hub.push("library/app", "1", &new);
    let larder = Options::mirror_of(&hub).rest();
    larder.run(&["warm", "app:1"]).await.expect_success();
    let verify = ["verify", "--offline", "app:1", "--platform", "linux/amd64"];
    larder.run(&verify).await.expect_success();
    let hold = json!({ "docker.io/library/app:1": old.digest() });
    let steady = larder.options().set(&["cache", "hold"], hold).rest();
    let output = steady.run(&verify).await;
    assert_fails(&output, &["1 of 1 image not ready"]);
    let missing = format!("missing: manifest {}", old.digest());
    assert!(output.stdout.contains(&missing), "{output:?}");
    steady.run(&["warm", "app:1"]).await.expect_success();
    steady.run(&verify).await.expect_success();
    hub.down().await;
    let running = steady.options().start().await;
    let got = running.get("/v2/library/app/manifests/1").await;
    assert_eq!((got.status, got.body), (200, old.manifest_bytes().to_vec()));
    running.finish().await;
}
