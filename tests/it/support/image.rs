//! Images made from nothing: real layers, a config and a manifest that every client accepts.
#![expect(clippy::expect_used, reason = "writing to memory does not fail")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

/// `sha256:` and the digest in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    named("sha256:", &Sha256::digest(bytes))
}

/// `sha512:` and the digest in hex.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    named("sha512:", &Sha512::digest(bytes))
}

fn named(algorithm: &str, hash: &[u8]) -> String {
    hash.iter().fold(algorithm.to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

/// An image, or an index of images.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    oci: bool,
    architecture: String,
    layers: Vec<Layer>,
    children: Vec<Image>,
    config: Bytes,
    manifest: Bytes,
}

#[derive(Clone, Debug)]
struct Layer {
    digest: String,
    /// The digest of the tar inside, which the config lists.
    diff_id: String,
    bytes: Bytes,
}

impl Image {
    /// An image with one layer per size. The same seed gives the same bytes, which do not
    /// compress; a layer is at most 1 % off the size asked for, if that is over 200 kB, and
    /// never smaller than the 2 kB or so of an archive of one short file.
    pub(crate) fn random(seed: u64, layer_sizes: &[usize]) -> Self {
        let layer = |(at, size): (usize, &usize)| Layer::random(seed, at, *size);
        let layers = layer_sizes.iter().enumerate().map(layer).collect();
        Self::with(layers, Vec::new())
    }

    /// An image with so many layers of one size: `uniform(1, 4, 10_000_000)`.
    pub(crate) fn uniform(seed: u64, layers: usize, size: usize) -> Self {
        Self::random(seed, &vec![size; layers])
    }

    /// An index of images, each with its architecture.
    pub(crate) fn index(children: Vec<(Self, &str)>) -> Self {
        let children = children
            .into_iter()
            .map(|(image, name)| image.architecture(name));
        Self::with(Vec::new(), children.collect())
    }

    /// The same with the OCI's media types instead of Docker's.
    pub(crate) fn oci(mut self) -> Self {
        self.oci = true;
        self.children = self.children.into_iter().map(Self::oci).collect();
        self.rendered()
    }

    /// The same for another architecture.
    pub(crate) fn architecture(mut self, name: &str) -> Self {
        name.clone_into(&mut self.architecture);
        self.rendered()
    }

    /// The manifest, or the index.
    pub(crate) fn manifest_bytes(&self) -> Bytes {
        self.manifest.clone()
    }

    /// What the manifest is to be served as.
    pub(crate) fn media_type(&self) -> &'static str {
        match (self.oci, self.children.is_empty()) {
            (false, true) => "application/vnd.docker.distribution.manifest.v2+json",
            (false, false) => "application/vnd.docker.distribution.manifest.list.v2+json",
            (true, true) => "application/vnd.oci.image.manifest.v1+json",
            (true, false) => "application/vnd.oci.image.index.v1+json",
        }
    }

    /// The manifest's digest.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// The images of an index.
    pub(crate) fn children(&self) -> &[Self] {
        &self.children
    }

    /// The config's digest; of an index, that of its first image.
    pub(crate) fn config_digest(&self) -> String {
        let first = self.children.first();
        first.map_or_else(|| sha256(&self.config), Self::config_digest)
    }

    /// The layers' digests from the bottom up; of an index, those of all its images.
    pub(crate) fn layer_digests(&self) -> Vec<String> {
        let own = self.layers.iter().map(|layer| layer.digest.clone());
        own.chain(self.children.iter().flat_map(Self::layer_digests))
            .collect()
    }

    /// Everything but the manifests: configs and layers, each once, with their digests.
    pub(crate) fn blobs(&self) -> Vec<(String, Bytes)> {
        if !self.children.is_empty() {
            let mut seen = HashSet::new();
            let all = self.children.iter().flat_map(Self::blobs);
            return all
                .filter(|(digest, _)| seen.insert(digest.clone()))
                .collect();
        }
        let layers = self
            .layers
            .iter()
            .map(|it| (it.digest.clone(), it.bytes.clone()));
        let config = (sha256(&self.config), self.config.clone());
        std::iter::once(config).chain(layers).collect()
    }

    /// How many bytes a client fetches that takes all of it.
    pub(crate) fn total_size(&self) -> u64 {
        let manifests = std::iter::once(self).chain(&self.children);
        let manifests: usize = manifests.map(|it| it.manifest.len()).sum();
        let blobs: usize = self.blobs().iter().map(|(_, bytes)| bytes.len()).sum();
        (manifests + blobs) as u64
    }

    fn with(layers: Vec<Layer>, children: Vec<Self>) -> Self {
        let image = Self {
            oci: false,
            architecture: "amd64".to_owned(),
            layers,
            children,
            config: Bytes::new(),
            manifest: Bytes::new(),
        };
        image.rendered()
    }

    fn rendered(mut self) -> Self {
        self.config = self.config_json().to_string().into();
        let manifest = if self.children.is_empty() {
            self.manifest_json()
        } else {
            self.index_json()
        };
        self.manifest = manifest.to_string().into();
        self
    }

    fn config_json(&self) -> Value {
        let created = "2026-01-01T00:00:00Z";
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let step = json!({"created": created, "created_by": "larder's tests"});
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": created,
            "config": {"Cmd": ["/layer-0"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": vec![step; diff_ids.len()],
        })
    }

    fn manifest_json(&self) -> Value {
        let (config, layer) = if self.oci {
            (
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            )
        } else {
            (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            )
        };
        let layers = self.layers.iter();
        let layers: Vec<_> = layers.map(|it| descriptor(layer, &it.bytes)).collect();
        json!({
            "schemaVersion": 2,
            "mediaType": self.media_type(),
            "config": descriptor(config, &self.config),
            "layers": layers,
        })
    }

    fn index_json(&self) -> Value {
        let manifests: Vec<_> = self
            .children
            .iter()
            .map(|child| {
                let mut entry = descriptor(child.media_type(), &child.manifest);
                entry["platform"] = json!({"architecture": child.architecture, "os": "linux"});
                entry
            })
            .collect();
        json!({"schemaVersion": 2, "mediaType": self.media_type(), "manifests": manifests})
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "size": bytes.len(), "digest": sha256(bytes)})
}

impl Layer {
    /// What an archive of one file has besides the file: its header and the end.
    const ARCHIVE: usize = 512 + 1024;

    fn random(seed: u64, at: usize, size: usize) -> Self {
        let noise = noise(seed, at as u64, size.saturating_sub(Self::ARCHIVE).max(64));
        let mut header = tar::Header::new_gnu();
        header.set_size(noise.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::with_capacity(size + 1024));
        tar.append_data(&mut header, format!("layer-{at}"), &noise[..])
            .expect("a layer's file");
        let tar = tar.into_inner().expect("a layer");
        // Stored, not compressed: noise would only grow, and the size is to be predictable.
        let mut gzip = flate2::write::GzEncoder::new(
            Vec::with_capacity(tar.len() + tar.len() / 1000 + 64),
            flate2::Compression::none(),
        );
        gzip.write_all(&tar).expect("a layer's bytes");
        let bytes = gzip.finish().expect("a compressed layer");
        Self {
            digest: sha256(&bytes),
            diff_id: sha256(&tar),
            bytes: bytes.into(),
        }
    }
}

/// Bytes that do not compress, the same for the same seed and place (xorshift64*).
pub(crate) fn noise(seed: u64, at: u64, length: usize) -> Vec<u8> {
    let mixed = (seed << 16 | at)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut state = mixed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let word = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
