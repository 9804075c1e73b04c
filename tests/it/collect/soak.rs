//! Pushes, pulls, deletes and collections without grace, all at once and back to back. Distribution
//! broke 670 of 874 acknowledged images under this.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::registry::{OCI_INDEX, OCI_MANIFEST, delete, manifest_of};
use crate::support::image::sha256;
use crate::support::programs::{Answer, Larder, Options};

const REPOSITORIES: [&str; 3] = ["soak/a", "soak/b", "c"];

/// How many layers all images share.
const LAYERS: u64 = 9;

/// How many images a client keeps at most.
const MOST: usize = 30;

/// For how long, in seconds, if the environment does not say.
const SECONDS: u64 = 10;

/// Small numbers without order, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What was acknowledged: a tag, and manifests by their digests.
struct Acknowledged {
    name: &'static str,
    tag: String,
    manifests: Vec<Vec<u8>>,
    attached: Option<Vec<u8>>,
}

/// Somebody who pushes, pulls and deletes images of his own, of layers that all have.
struct Client<'a> {
    larder: &'a Larder,
    id: u64,
    dice: Dice,
    images: Vec<Acknowledged>,
    pushed: usize,
    refused: usize,
}

fn layer(number: u64) -> Vec<u8> {
    format!("layer {number} ").repeat(400).into_bytes()
}

impl<'a> Client<'a> {
    fn new(larder: &'a Larder, id: u64) -> Self {
        Self {
            larder,
            id,
            dice: Dice(id * 7919 + 1),
            images: Vec::new(),
            pushed: 0,
            refused: 0,
        }
    }

    async fn act(&mut self) {
        match self.dice.roll(8) {
            0 | 1 if !self.images.is_empty() => {
                let at = self.dice.roll(self.images.len() as u64);
                let image = &self.images[usize::try_from(at).unwrap()];
                assert_whole(self.larder, image).await;
            }
            roll if roll == 2 && self.images.len() > 3 || self.images.len() > MOST => {
                let at = self.dice.roll(self.images.len() as u64);
                let image = self.images.swap_remove(usize::try_from(at).unwrap());
                self.delete(image).await;
            }
            _ => self.push().await,
        }
    }

    /// Sends a blob as docker does: asked for first, mounted if another repository may have it.
    async fn send_blob(&mut self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let path = format!("/v2/{name}/blobs/{digest}");
        if self.larder.head(&path).await.status == 200 {
            return digest;
        }
        let from = REPOSITORIES[usize::try_from(self.dice.roll(3)).unwrap()];
        if from != name && self.dice.roll(2) == 0 {
            let mount = format!("/v2/{name}/blobs/uploads/?mount={digest}&from={from}");
            let answer = self.larder.send(self.larder.request("POST", &mount)).await;
            if answer.status == 201 {
                return digest;
            }
            assert_eq!(answer.status, 202, "{answer:?}");
            let put = format!("{}&digest={digest}", answer.header("location"));
            let put = self.larder.request("PUT", &put).body(bytes.to_vec());
            assert_eq!(self.larder.send(put).await.status, 201);
            return digest;
        }
        self.larder.push_blob(name, bytes).await
    }

    async fn image(&mut self, name: &str, note: &str, subject: Option<&str>) -> Vec<u8> {
        let mut digests = vec![self.send_blob(name, note.as_bytes()).await];
        for _ in 0..=self.dice.roll(3) {
            let number = self.dice.roll(LAYERS);
            digests.push(self.send_blob(name, &layer(number)).await);
        }
        let digests: Vec<_> = digests.iter().map(String::as_str).collect();
        let mut manifest = manifest_of(&digests);
        if let Some(subject) = subject {
            manifest["subject"] = descriptor(OCI_MANIFEST, subject);
        }
        manifest.to_string().into_bytes()
    }

    /// Puts a manifest. One that is refused was collected from under: its parts have to be sent
    /// again, as a client does that is told so.
    async fn put(&mut self, name: &str, reference: &str, kind: &str, bytes: &[u8]) -> bool {
        let answer = self
            .larder
            .put_manifest(name, reference, kind, bytes.to_vec())
            .await;
        if answer.status == 400 {
            assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN", "{answer:?}");
            self.refused += 1;
            return false;
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        true
    }

    async fn push(&mut self) {
        self.pushed += 1;
        let name = REPOSITORIES[usize::try_from(self.dice.roll(3)).unwrap()];
        let tag = format!("t{}-{}", self.id, self.pushed);
        let is_index = self.dice.roll(3) == 0;
        loop {
            let pushed = if is_index {
                self.push_index(name, &tag).await
            } else {
                let manifest = self.image(name, &tag, None).await;
                let is_taken = self.put(name, &tag, OCI_MANIFEST, &manifest).await;
                is_taken.then(|| vec![manifest])
            };
            if let Some(manifests) = pushed {
                let attached = self.attach(name, &tag, &manifests[0]).await;
                self.images.push(Acknowledged {
                    name,
                    tag,
                    manifests,
                    attached,
                });
                return;
            }
        }
    }

    async fn push_index(&mut self, name: &str, tag: &str) -> Option<Vec<Vec<u8>>> {
        let mut children = Vec::new();
        for at in 0..2 {
            let child = self.image(name, &format!("{tag}/{at}"), None).await;
            let digest = sha256(&child);
            let path = format!("/v2/{name}/manifests/{digest}");
            let is_there = self.larder.head(&path).await.status == 200;
            if !is_there && !self.put(name, &digest, OCI_MANIFEST, &child).await {
                return None;
            }
            children.push(child);
        }
        let listed = children
            .iter()
            .map(|it| descriptor(OCI_MANIFEST, &sha256(it)));
        let listed: Vec<_> = listed.collect();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed});
        let index = index.to_string().into_bytes();
        let is_taken = self.put(name, tag, OCI_INDEX, &index).await;
        is_taken.then(|| std::iter::once(index).chain(children).collect())
    }

    /// Signs some of the images: without a tag, known by their subject alone.
    async fn attach(&mut self, name: &str, tag: &str, subject: &[u8]) -> Option<Vec<u8>> {
        if self.dice.roll(3) > 0 {
            return None;
        }
        let subject = sha256(subject);
        loop {
            let note = format!("signature of {tag}");
            let manifest = self.image(name, &note, Some(&subject)).await;
            let digest = sha256(&manifest);
            if self.put(name, &digest, OCI_MANIFEST, &manifest).await {
                return Some(manifest);
            }
        }
    }

    async fn delete(&mut self, image: Acknowledged) {
        let digest = sha256(&image.manifests[0]);
        let reference = [&image.tag, &digest][usize::try_from(self.dice.roll(2)).unwrap()];
        let path = format!("/v2/{}/manifests/{reference}", image.name);
        let deleted = delete(self.larder, &path).await;
        assert_eq!(deleted.status, 202, "{deleted:?}");
    }
}

fn descriptor(media_type: &str, digest: &str) -> Value {
    json!({"mediaType": media_type, "size": 1, "digest": digest})
}

async fn get(larder: &Larder, path: &str) -> Answer {
    let got = larder.get(path).await;
    assert_eq!((got.status, got.complete), (200, true), "{path}: {got:?}");
    got
}

/// Everything of an image can be had, and is what it was.
async fn assert_whole(larder: &Larder, image: &Acknowledged) {
    let name = image.name;
    let tagged = get(larder, &format!("/v2/{name}/manifests/{}", image.tag)).await;
    assert_eq!(tagged.body, image.manifests[0]);
    for manifest in image.manifests.iter().chain(&image.attached) {
        let path = format!("/v2/{name}/manifests/{}", sha256(manifest));
        let manifest = get(larder, &path).await;
        let manifest = manifest.json();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for part in layers.chain(manifest.get("config")) {
            let digest = part["digest"].as_str().expect("a digest");
            let blob = get(larder, &format!("/v2/{name}/blobs/{digest}")).await;
            assert_eq!(sha256(&blob.body), digest);
        }
    }
}

/// Collects again and again, with and without what is untagged. Says how many blobs went.
async fn keep_collecting(larder: &Larder, is_over: &AtomicBool, runs: &AtomicUsize) -> usize {
    let mut blobs = 0;
    while !is_over.load(Ordering::SeqCst) {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        let arguments = ["--grace", "0s", "-m"];
        let said = larder.garbage_collect(&arguments[..2 + run % 2]).await;
        assert!(said.success, "{said:?}");
        assert!(!said.stderr.contains("cannot be read"), "{said:?}");
        blobs += said.stdout.matches("blob eligible for deletion").count();
    }
    blobs
}

#[tokio::test]
async fn nothing_acknowledged_is_broken_by_collections_back_to_back() {
    let seconds = std::env::var("LARDER_SOAK_SECONDS").ok();
    let seconds = seconds
        .and_then(|text| text.parse().ok())
        .unwrap_or(SECONDS);
    let end = Instant::now() + Duration::from_secs(seconds);
    let larder = Options::registry().start().await;
    let (is_over, runs) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut clients: Vec<_> = (1..=6).map(|id| Client::new(&larder, id)).collect();
    let working = async {
        join_all(clients.iter_mut().map(async |client| {
            while Instant::now() < end {
                client.act().await;
            }
        }))
        .await;
        is_over.store(true, Ordering::SeqCst);
    };
    let (blobs, ()) = tokio::join!(keep_collecting(&larder, &is_over, &runs), working);
    let images: usize = clients.iter().map(|client| client.images.len()).sum();
    let pushed: usize = clients.iter().map(|client| client.pushed).sum();
    let refused: usize = clients.iter().map(|client| client.refused).sum();
    let runs = runs.load(Ordering::SeqCst);
    println!(
        "{pushed} pushed, {refused} manifests refused, {images} left; {runs} collections of {blobs} blobs"
    );
    assert!(runs > 3 && blobs > 0 && images > 0);
    for image in clients.iter().flat_map(|client| &client.images) {
        assert_whole(&larder, image).await;
    }
    larder.finish().await;
}
