//! What is served: one tree in Distribution's layout, and the same files for nginx.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::support::authority::{Authority, Pair};
use super::support::image::sha256;

/// The size of the blob, in bytes.
pub(crate) const BLOB: usize = 256 << 20;

/// As many bytes as the manifest of an image with ten layers has.
const MANIFEST: usize = 2200;

/// A file that fits into one packet or two.
const SMALL: usize = 1000;

/// The repository's name.
const NAME: &str = "bench/app";

/// The files, and by which paths they are asked for.
pub(crate) struct Content {
    /// Removed with this.
    home: TempDir,
    /// `/v2/…/blobs/…`
    pub(crate) blob: String,
    /// The same of a small one.
    pub(crate) small: String,
    /// `/v2/…/manifests/1`
    pub(crate) by_tag: String,
    /// `/v2/…/manifests/sha256:…`
    pub(crate) by_digest: String,
    /// A certificate for 127.0.0.1, with its key, and who signed it.
    pub(crate) pair: Pair,
    pub(crate) authority: Authority,
}

impl Content {
    /// Makes them.
    pub(crate) fn make() -> Self {
        let home = disk_directory();
        let authority = Authority::new("benchmark");
        let pair = Pair::new(&authority.issue());
        let blob = noise(BLOB);
        let blob_digest = sha256(&blob);
        let small = noise(SMALL);
        let small_digest = sha256(&small);
        let manifest = manifest(&blob_digest);
        let manifest_digest = sha256(manifest.as_bytes());
        let content = Self {
            blob: format!("/v2/{NAME}/blobs/{blob_digest}"),
            small: format!("/v2/{NAME}/blobs/{small_digest}"),
            by_tag: format!("/v2/{NAME}/manifests/1"),
            by_digest: format!("/v2/{NAME}/manifests/{manifest_digest}"),
            home,
            pair,
            authority,
        };
        let tree = content.root("tree").join("docker/registry/v2");
        let data = |digest: &str| data_in(&content.root("tree"), digest);
        write(&data(&blob_digest), &blob);
        write(&data(&small_digest), &small);
        write(&data(&manifest_digest), manifest.as_bytes());
        let repository = tree.join("repositories").join(NAME);
        for (place, digest) in [
            ("_layers", &blob_digest),
            ("_layers", &small_digest),
            ("_manifests/revisions", &manifest_digest),
            ("_manifests/tags/1/index", &manifest_digest),
        ] {
            let link = repository
                .join(place)
                .join(digest.replace(':', "/"))
                .join("link");
            write(&link, digest.as_bytes());
        }
        let current = repository.join("_manifests/tags/1/current/link");
        write(&current, manifest_digest.as_bytes());
        // The same bytes, in memory once, under the paths by which clients ask.
        let files = content.root("files");
        for (path, digest) in [
            (&content.blob, &blob_digest),
            (&content.by_tag, &manifest_digest),
            (&content.by_digest, &manifest_digest),
        ] {
            let file = files.join(path.trim_start_matches('/'));
            make_directory(&file);
            fs::hard_link(data(digest), file).expect("a hard link");
        }
        content
    }

    /// The large blob's bytes.
    pub(crate) fn blob_file(&self) -> PathBuf {
        self.data_in(&self.root("tree"))
    }

    /// Where a registry keeps them in another tree.
    pub(crate) fn data_in(&self, tree: &Path) -> PathBuf {
        let (_, digest) = self.blob.rsplit_once('/').expect("a path");
        data_in(tree, digest)
    }

    /// A directory of this name.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A tree like the first, with the same files: two larders do not serve one directory.
    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        let (from, to) = (self.root("tree"), self.root(name));
        let mut copy = std::process::Command::new("cp");
        let copied = copy.arg("-al").arg(&from).arg(&to).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy");
        to
    }
}

fn data_in(tree: &Path, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    let blobs = tree.join("docker/registry/v2/blobs/sha256");
    blobs.join(format!("{}/{hex}/data", &hex[..2]))
}

/// A directory on the disk that this is built on: where temporary files go there may be none.
pub(crate) fn disk_directory() -> TempDir {
    let place = env!("CARGO_TARGET_TMPDIR");
    tempfile::tempdir_in(place).expect("a directory")
}

/// Bytes as they stand in digests.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text that grows");
        text
    })
}

/// An image manifest of a usual size.
fn manifest(blob: &str) -> String {
    let text = |padding: &str| {
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
             \"config\":{{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"{blob}\",\"size\":{BLOB}}},\
             \"layers\":[],\"annotations\":{{\"a\":\"{padding}\"}}}}"
        )
    };
    let length = text("").len();
    text(&"x".repeat(MANIFEST - length))
}

/// Bytes that no file system makes smaller.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn write(path: &Path, bytes: &[u8]) {
    make_directory(path);
    fs::write(path, bytes).expect("a file");
}

fn make_directory(file: &Path) {
    fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
}
