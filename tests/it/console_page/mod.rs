//! The console's page in a real browser, against the real program.
//!
//! Every test ends by asking the browser what it complained about, and by stopping larder, which
//! checks what it leaves behind.

mod actions;
mod fills;
mod hostile;
mod images;
mod load;
mod login;
mod looks;
mod lost;
mod pictures;
mod standing;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::image::{Image, sha256};
use crate::support::programs::{Browser, Larder};

/// Opens a view, and waits until the page has begun.
async fn visit(browser: &Browser, larder: &Larder, view: &str) {
    // The same document with another address would not be loaded again.
    browser.open("about:blank").await;
    browser.open(&format!("{}/{view}", larder.url())).await;
    browser.finds("html[data-ready]").await;
}

/// The browser saw no error: of no script, and of nothing that was loaded.
async fn assert_content(browser: &Browser) {
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// Pushes an image whose config and manifest say what a test wants.
async fn push_saying(larder: &Larder, name: &str, tag: &str, config: &Value, annotations: &Value) {
    let layers = config["history"].as_array().map_or(1, |history| {
        let made = history.iter().filter(|step| step["empty_layer"] != true);
        made.count()
    });
    let image = Image::uniform(7, layers, 5000);
    for (_, bytes) in image.blobs() {
        larder.push_blob(name, &bytes).await;
    }
    let config = config.to_string();
    larder.push_blob(name, config.as_bytes()).await;
    let mut manifest: Value = serde_json::from_slice(&image.manifest_bytes()).expect("JSON");
    manifest["config"]["digest"] = json!(sha256(config.as_bytes()));
    manifest["config"]["size"] = json!(config.len());
    manifest["annotations"] = annotations.clone();
    let media_type = image.media_type();
    let pushed = larder
        .put_manifest(name, tag, media_type, manifest.to_string())
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
}

/// Writes repositories with tags into a tree, all of one image, as a registry of many years has them.
fn write_many(root: &Path, repositories: usize, tags: usize) {
    let tree = root.join("docker/registry/v2");
    let image = Image::random(1, &[5000]);
    let manifest = (image.digest(), image.manifest_bytes());
    for (digest, bytes) in image.blobs().into_iter().chain([manifest]) {
        let hex = digest.trim_start_matches("sha256:").to_owned();
        let place = tree.join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
        put(&place.join("data"), &bytes);
    }
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let (of_manifest, digest) = (hex(&image.digest()), image.digest());
    for number in 0..repositories {
        let name = format!("team{:02}/service-{number:04}", number / 40);
        let repository = tree.join("repositories").join(name);
        let manifests = repository.join("_manifests");
        let revision = manifests.join(format!("revisions/sha256/{of_manifest}/link"));
        put(&revision, digest.as_bytes());
        for (blob, _) in image.blobs() {
            let link = repository.join(format!("_layers/sha256/{}/link", hex(&blob)));
            put(&link, blob.as_bytes());
        }
        for tag in 0..tags {
            let place = manifests.join(format!("tags/1.{tag}"));
            put(&place.join("current/link"), digest.as_bytes());
        }
    }
}

fn put(file: &Path, bytes: &[u8]) {
    fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
    fs::write(file, bytes).expect("a file");
}
