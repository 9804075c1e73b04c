//! Images carried in a file: out of one store, into another, with real clients at both ends, and
//! with files that somebody broke, or made to do harm.

mod attached;
mod bad_input;
mod beside;
mod carrying;
mod clients;
mod docker;
mod places;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::hub::Hub;
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options, Output};
use crate::support::tree;

/// A larder that mirrors a hub and has images of both kinds, and what it exported.
struct Carried {
    hub: Hub,
    larder: Larder,
    home: TempDir,
}

/// A directory for files.
fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A path as text.
fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

impl Carried {
    /// A larder that has pulled `docker.io/library/app:1` and to which `team/own:2` was pushed.
    async fn new() -> Self {
        let hub = Hub::start().await;
        let larder = Options::mirror_of(&hub).start().await;
        let carried = Self {
            hub,
            larder,
            home: home(),
        };
        carried.mirror("library/app", "1", &mirrored()).await;
        carried.larder.push("team/own", "2", &pushed()).await;
        carried
    }

    /// Has all of an image pulled through.
    async fn mirror(&self, name: &str, tag: &str, image: &Image) {
        self.hub.push(name, tag, image);
        pull(&self.larder, name, tag).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// `larder export -o NAME`, which must not fail.
    async fn export(&self, name: &str, arguments: &[&str]) -> (PathBuf, Said) {
        let path = self.path(name);
        let said = self.try_export(name, arguments).await;
        (path, Said::of(said))
    }

    async fn try_export(&self, name: &str, arguments: &[&str]) -> Output {
        let path = self.path(name);
        let arguments = [&["export", "-o", text(&path)], arguments].concat();
        self.larder.tool(&arguments).await
    }
}

fn mirrored() -> Image {
    Image::random(1, &[40_000, 300_000])
}

fn pushed() -> Image {
    Image::random(2, &[60_000]).oci()
}

/// What a command said that did not fail.
#[derive(Debug)]
struct Said {
    stdout: String,
    stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        assert!(output.success, "{output:?}");
        let Output { stdout, stderr, .. } = output;
        Self { stdout, stderr }
    }
}

/// The configuration of a machine whose Docker Hub cannot be reached.
fn cut_off() -> Options {
    let nowhere = json!({ "url": "http://127.0.0.1:9" });
    Options::registry().set(&["upstreams", "docker.io"], nowhere)
}

/// `larder import` into a data directory that nobody serves.
async fn import(root: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["import"], arguments].concat();
    cut_off().tool(root, &arguments).await
}

/// The same of one file, which must not fail.
async fn import_all(root: &Path, file: &Path) -> Said {
    Said::of(import(root, &[text(file)]).await)
}

/// Pulls all of an image by the API, as docker does.
async fn pull(larder: &Larder, name: &str, reference: &str) {
    let got = larder
        .get(&format!("/v2/{name}/manifests/{reference}"))
        .await;
    assert_eq!(got.status, 200, "{name}:{reference}: {got:?}");
    let manifest = got.json();
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        Box::pin(pull(larder, name, child["digest"].as_str().unwrap())).await;
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain(manifest.get("config")) {
        let digest = blob["digest"].as_str().unwrap();
        let got = larder.get(&format!("/v2/{name}/blobs/{digest}")).await;
        assert!(got.status == 200 && got.complete, "{digest}: {got:?}");
        assert_eq!(sha256(&got.body), digest);
    }
}

/// The entries of an archive in their order.
fn entries(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(File::open(path).expect("an archive"));
    let entries = archive.entries().expect("entries");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a name").display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its content");
            (name, bytes)
        })
        .collect()
}

/// The bytes of an archive of such entries.
fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive
            .append_data(&mut header, name, &bytes[..])
            .expect("writing to memory");
    }
    archive.into_inner().expect("writing to memory")
}

fn index_of(path: &Path) -> Value {
    let entries = entries(path);
    let index = entries.iter().find(|(name, _)| name == "index.json");
    serde_json::from_slice(&index.expect("an index").1).expect("JSON")
}

fn blob_entry(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Every tag below a data directory names an image that is wholly there.
fn assert_whole(root: &Path) -> usize {
    let tree = root.join("docker/registry/v2");
    tree::assert_sound(&tree);
    let mut tags = 0;
    for link in tree::files(&tree.join("repositories")) {
        if !link.ends_with("current/link") {
            continue;
        }
        tags += 1;
        let repository = link.ancestors().nth(5).expect("a repository");
        let digest = fs::read_to_string(&link).expect("a link");
        assert_manifest(&tree, repository, &digest);
    }
    tags
}

fn assert_manifest(tree: &Path, repository: &Path, digest: &str) {
    let step = digest.replace(':', "/");
    let revision = repository.join(format!("_manifests/revisions/{step}/link"));
    assert!(revision.is_file(), "{} is missing", revision.display());
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    let data = tree.join(format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2]));
    let manifest: Value = serde_json::from_slice(&fs::read(data).expect("a manifest")).unwrap();
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain(manifest.get("config")) {
        let step = blob["digest"].as_str().unwrap().replace(':', "/");
        let link = repository.join(format!("_layers/{step}/link"));
        assert!(link.is_file(), "{} is missing", link.display());
    }
}
