//! What the hub holds: repositories with tags, manifests and blobs.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::super::image::{Image, sha256};

/// Everything on the registry and, for the signed addresses, on the CDN.
#[derive(Default)]
pub(super) struct Content {
    pub(super) repositories: BTreeMap<String, Repository>,
    /// One copy each; a repository lists those that are its own.
    pub(super) blobs: HashMap<String, Bytes>,
    /// Names that only the credentials open.
    pub(super) private: HashSet<String>,
    /// What each signature handed out is good for.
    signatures: HashMap<String, String>,
    /// Manifests that were fetched, for the rate limit headers.
    pub(super) pulls: usize,
}

/// One repository.
#[derive(Default)]
pub(super) struct Repository {
    pub(super) tags: BTreeMap<String, String>,
    pub(super) manifests: HashMap<String, Manifest>,
    pub(super) blobs: HashSet<String>,
}

/// One manifest as it is served.
#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl Content {
    pub(super) fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn put_blob(&mut self, name: &str, bytes: Bytes) -> String {
        let digest = sha256(&bytes);
        self.repository(name).blobs.insert(digest.clone());
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    pub(super) fn put_manifest(
        &mut self,
        name: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> String {
        let digest = sha256(&bytes);
        let manifest = Manifest {
            digest: digest.clone(),
            media_type: media_type.to_owned(),
            bytes,
        };
        let repository = self.repository(name);
        repository.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        digest
    }

    pub(super) fn push(&mut self, name: &str, tag: Option<&str>, image: &Image) -> String {
        for child in image.children() {
            self.push(name, None, child);
        }
        for (digest, bytes) in image.blobs() {
            self.repository(name).blobs.insert(digest.clone());
            self.blobs.insert(digest, bytes);
        }
        self.put_manifest(name, tag, image.media_type(), image.manifest_bytes())
    }

    /// A blob of that repository.
    pub(super) fn blob(&self, name: &str, digest: &str) -> Option<Bytes> {
        let repository = self.repositories.get(name)?;
        let listed = repository.blobs.contains(digest);
        listed.then(|| self.blobs.get(digest).cloned()).flatten()
    }

    /// Makes a signature that opens `digest` at the CDN.
    pub(super) fn sign(&mut self, digest: &str) -> String {
        let signature = format!("{:016x}", self.signatures.len() + 1);
        self.signatures.insert(signature.clone(), digest.to_owned());
        signature
    }

    /// The blob behind a signed address.
    pub(super) fn signed(&self, digest: &str, signature: &str) -> Option<Bytes> {
        let good = self.signatures.get(signature).is_some_and(|d| d == digest);
        good.then(|| self.blobs.get(digest).cloned()).flatten()
    }
}

impl Repository {
    /// A manifest by tag or digest.
    pub(super) fn manifest(&self, reference: &str) -> Option<Manifest> {
        let digest = self.tags.get(reference).map_or(reference, String::as_str);
        self.manifests.get(digest).cloned()
    }
}
