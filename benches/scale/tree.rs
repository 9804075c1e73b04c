//! Stores, made in memory and without larder.
//!
//! Layers that nobody reads, and their links, are hard links to one file each: a million files are
//! made in half a minute.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const LAYERS: usize = 10;
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A file system of its own, in memory.
pub(crate) struct Disk(TempDir);

impl Disk {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = "size=8g,nr_inodes=8m";
        mount(
            &["-t", "tmpfs", "-o", options, "larder-bench"],
            directory.path(),
            "mount",
        );
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        mount(&["--lazy"], self.0.path(), "umount");
    }
}

fn mount(arguments: &[&str], path: &Path, program: &str) {
    let status = Command::new(program).args(arguments).arg(path).status();
    assert!(
        status.expect("mount").success(),
        "this needs the right to mount"
    );
}

/// A data directory, and what to ask of it.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    top: PathBuf,
    /// Paths of requests.
    pub(crate) manifest: String,
    pub(crate) blob: String,
    pub(crate) layers: Vec<String>,
    pub(crate) catalog: String,
    pub(crate) tags: String,
}

/// A digest, as it is written.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string");
    }
    text
}

impl Tree {
    fn new(disk: &Path) -> Self {
        let top = disk.join("root/docker/registry/v2");
        fs::create_dir_all(&top).expect("a directory");
        Self {
            top,
            ..Self::default()
        }
    }

    fn data(&self, digest: &str) -> PathBuf {
        let hex = &digest[7..];
        self.top.join(format!("blobs/sha256/{}/{hex}", &hex[..2]))
    }

    fn put(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let directory = self.data(&digest);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("data"), bytes).expect("a file");
        digest
    }

    fn link(&self, path: &str, digest: &str) {
        let directory = self.top.join("repositories").join(path);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("link"), digest).expect("a file");
    }

    /// An image, by its layers' digests, as a tag.
    fn image(&self, name: &str, tag: &str, layers: &[(String, usize)]) -> String {
        let mut listed = String::new();
        for (digest, size) in layers {
            let comma = if listed.is_empty() { "" } else { "," };
            write!(listed, r#"{comma}{{"digest":"{digest}","size":{size}}}"#).expect("a string");
        }
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[{listed}],"tag":"{tag}"}}"#
        );
        let digest = self.put(manifest.as_bytes());
        let revision = format!("{name}/_manifests/revisions/sha256/{}", &digest[7..]);
        self.link(&revision, &digest);
        self.link(&format!("{name}/_manifests/tags/{tag}/current"), &digest);
        digest
    }

    /// Images of ten layers in repositories of a hundred, as a mirror would have filled them. Three
    /// of the layers are shared within a repository.
    pub(crate) fn of_images(disk: &Path, images: usize) -> Self {
        let mut tree = Self::new(disk);
        let (layer, link) = (disk.join("layer"), disk.join("link"));
        let digest = sha256(b"layer");
        fs::write(&layer, "layer").expect("a file");
        fs::write(&link, &digest).expect("a file");
        let add = |directory: PathBuf, name: &str, file: &Path| {
            if !directory.exists() {
                fs::create_dir_all(&directory).expect("a directory");
                fs::hard_link(file, directory.join(name)).expect("a link");
            }
        };
        let now = SystemTime::now();
        let micros = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH)
                .expect("after 1970")
                .as_micros()
        };
        let day_ago = micros(now - Duration::from_hours(24));
        // When the clock was last written down, and the age it had: see docs/operate.md.
        let clock = format!(
            "{} {}\n",
            micros(now - Duration::from_hours(1)),
            day_ago + images as u128
        );
        fs::write(disk.join("root/larder.clock"), clock).expect("a file");
        for at in 0..images {
            let name = format!("docker.io/team/app{}", at / 100);
            let repository = tree.top.join("repositories").join(&name);
            fs::create_dir_all(repository.join("_mirror")).expect("a directory");
            let mut layers = Vec::new();
            for number in 0..LAYERS {
                let content = if number < 3 { at / 100 } else { at } * 16 + number;
                let digest = sha256(content.to_string().as_bytes());
                add(tree.data(&digest), "data", &layer);
                add(
                    repository.join(format!("_layers/sha256/{}", &digest[7..])),
                    "link",
                    &link,
                );
                layers.push((digest, 1));
            }
            let digest = tree.image(&name, &format!("v{at}"), &layers);
            let used = repository.join("_mirror/used/sha256");
            fs::create_dir_all(&used).expect("a directory");
            fs::write(used.join(&digest[7..]), (day_ago + at as u128).to_string()).expect("a file");
            if at == 0 {
                let blob = tree.put(b"layer");
                tree.link(&format!("{name}/_layers/sha256/{}", &blob[7..]), &blob);
                tree.manifest = format!("/v2/{name}/manifests/{digest}");
                tree.blob = format!("/v2/{name}/blobs/{blob}");
            }
        }
        tree
    }

    /// So many repositories, the last of which has so many tags.
    pub(crate) fn of_names(disk: &Path, count: usize) -> Self {
        let mut tree = Self::new(disk);
        let digest = tree.image("tags", "v0", &[]);
        let link = tree
            .top
            .join("repositories/tags/_manifests/tags/v0/current/link");
        for at in 0..count {
            let name = tree.top.join(format!("repositories/app{at}/_manifests"));
            fs::create_dir_all(name).expect("a directory");
            let tag = tree
                .top
                .join(format!("repositories/tags/_manifests/tags/t{at}/current"));
            fs::create_dir_all(&tag).expect("a directory");
            fs::hard_link(&link, tag.join("link")).expect("a link");
        }
        assert!(!digest.is_empty());
        tree.catalog.push_str("/v2/_catalog?n=100&last=app15");
        tree.tags.push_str("/v2/tags/tags/list?n=100&last=t15");
        tree
    }

    /// One more repository beside the others.
    pub(crate) fn add_name(&self) {
        let path = self.top.join("repositories/one-more/_manifests");
        fs::create_dir_all(path).expect("a directory");
    }

    /// One image of so many layers of so many bytes.
    pub(crate) fn of_one_image(disk: &Path, layers: usize, size: usize) -> Self {
        let mut tree = Self::new(disk);
        let name = "team/app";
        let mut made = Vec::new();
        for layer in 0..layers {
            let byte = |at: usize| u8::try_from((at / 4096 + layer) % 251).expect("a byte");
            let digest = tree.put(&(0..size).map(byte).collect::<Vec<u8>>());
            tree.link(&format!("{name}/_layers/sha256/{}", &digest[7..]), &digest);
            tree.layers.push(format!("/v2/{name}/blobs/{digest}"));
            made.push((digest, size));
        }
        let digest = tree.image(name, "latest", &made);
        assert!(!digest.is_empty());
        tree.manifest = format!("/v2/{name}/manifests/latest");
        tree
    }
}
