//! What a page costs where there is much to show.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::api;
use crate::support::image::sha256;
use crate::support::programs::Options;
use crate::support::until::until;

const REPOSITORIES: usize = 1000;
const TAGS: usize = 20;

/// The longest that a list may take.
const LIMIT: Duration = Duration::from_millis(100);

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn put_data(tree: &Path, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    let hex = &digest[7..];
    write(
        &tree.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])),
        bytes,
    );
    digest
}

/// Local repositories of small images, as another program might have left them.
fn make_tree(tree: &Path) {
    let config = put_data(tree, br#"{"os":"linux","architecture":"amd64"}"#);
    let manifests: Vec<String> = (0..TAGS)
        .map(|n| {
            let layer = put_data(tree, format!("layer {n}").as_bytes());
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": { "digest": config, "size": 37 },
                "layers": [{ "digest": layer, "size": 8 }],
            });
            put_data(tree, manifest.to_string().as_bytes())
        })
        .collect();
    let first = tree.join("repositories/r/0");
    let link = |path: String, digest: &str| write(&first.join(path).join("link"), digest);
    for hex in fs::read_dir(tree.join("blobs/sha256")).unwrap() {
        for blob in fs::read_dir(hex.unwrap().path()).unwrap() {
            let hex = blob.unwrap().file_name().into_string().unwrap();
            link(format!("_layers/sha256/{hex}"), &format!("sha256:{hex}"));
        }
    }
    for (n, digest) in manifests.iter().enumerate() {
        link(
            format!("_manifests/revisions/sha256/{}", &digest[7..]),
            digest,
        );
        link(format!("_manifests/tags/t{n}/current"), digest);
    }
    let all: Vec<_> = (1..REPOSITORIES).map(|n| format!("{n}")).collect();
    let script = r#"for n in "$@"; do cp -al 0 "$n" || exit 1; done"#;
    let copied = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .args(&all)
        .current_dir(tree.join("repositories/r"))
        .status();
    assert!(copied.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_thousand_repositories_come_at_once() {
    let root = tempfile::tempdir().unwrap();
    make_tree(&root.path().join("docker/registry/v2"));
    let larder = Options::registry().on(root.path()).start().await;
    until("all of it is listed", async || {
        api(&larder, "").await["tags"] == REPOSITORIES * TAGS
    })
    .await;
    for path in [
        "",
        "repositories",
        "repositories?n=1000",
        "repositories?search=999",
        "tags?repository=r/500",
        "image?repository=r/500&reference=t7",
        "search?q=t19&n=1000",
        "search?q=nothing-has-this",
        "upstreams",
    ] {
        // Others share the machine: the best of some tries is what it takes.
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let started = Instant::now();
            api(&larder, path).await;
            best = best.min(started.elapsed());
        }
        assert!(best < LIMIT, "{path} took {best:?}");
    }
    larder.finish().await;
}
