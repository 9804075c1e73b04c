//! What a page costs where there is much to show.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::api;
use crate::support::image::sha256;
use crate::support::programs::Options;
use crate::support::until::until;

const REPOSITORIES: usize = 1000;
const TAGS: usize = 20;
/// How many images each has.
const IMAGES: usize = 4;

/// How often each is asked for.
const TRIES: u32 = 10;

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
    let images: Vec<(String, String)> = (0..IMAGES)
        .map(|n| {
            let layer = put_data(tree, format!("layer {n}").as_bytes());
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": { "digest": config, "size": 37 },
                "layers": [{ "digest": layer, "size": 7 }],
            });
            (put_data(tree, manifest.to_string().as_bytes()), layer)
        })
        .collect();
    let mut links = vec![(format!("_layers/sha256/{}", &config[7..]), config)];
    for (manifest, layer) in &images {
        let revision = format!("_manifests/revisions/sha256/{}", &manifest[7..]);
        links.push((revision, manifest.clone()));
        links.push((format!("_layers/sha256/{}", &layer[7..]), layer.clone()));
    }
    for n in 0..TAGS {
        let (manifest, _) = &images[n % IMAGES];
        links.push((format!("_manifests/tags/t{n}/current"), manifest.clone()));
    }
    for n in 0..REPOSITORIES {
        let repository = tree.join(format!("repositories/r/{n}"));
        for (path, digest) in &links {
            write(&repository.join(path).join("link"), digest);
        }
    }
}

/// A directory in memory where there is such a thing: it is the server that is to be measured.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_thousand_repositories_come_at_once() {
    let root = directory();
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
        "repositories?sort=size&n=1000",
        "repositories?sort=used",
        "tags?repository=r/500",
        "image?repository=r/500&reference=t7",
        "search?q=t19&n=1000",
        "search?q=nothing-has-this",
        "upstreams",
    ] {
        // Processor time: what others do with the machine is not in it.
        let before = larder.processor();
        for _ in 0..TRIES {
            api(&larder, path).await;
        }
        let each = larder.processor().saturating_sub(before) / TRIES;
        assert!(each < LIMIT, "{path} takes {each:?}");
    }
    larder.finish().await;
}
