//! `kill -9` at any instant loses nothing that was acknowledged, and needs no repair step.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;
use tokio::sync::mpsc;

use super::damaged_tree::age;
use super::{OCI_MANIFEST, blob, manifest_of};
use crate::support::image::sha256;
use crate::support::programs::{Larder, Options};
use crate::support::tree::files;

/// What a client was told is stored in its repository, over all crashes.
struct Acknowledged {
    name: String,
    blobs: Vec<String>,
    tags: BTreeMap<String, Named>,
}

/// What a tag names.
#[derive(Default)]
struct Named {
    /// As was last acknowledged.
    told: Option<String>,
    /// If the push that got no answer has happened.
    asked: Option<String>,
}

/// A client that pushes until larder is gone.
struct Pusher<'a> {
    client: Client,
    url: String,
    told: mpsc::UnboundedSender<()>,
    acknowledged: &'a mut Acknowledged,
}

/// Larder is gone.
struct Gone;

impl Pusher<'_> {
    /// Sends one request; what comes of it is either an answer or the end of larder.
    async fn ask(&self, request: reqwest::RequestBuilder, expected: u16) -> Result<String, Gone> {
        let answer = request.send().await.map_err(|_| Gone)?;
        assert_eq!(answer.status().as_u16(), expected, "{answer:?}");
        let location = answer
            .headers()
            .get("location")
            .and_then(|it| it.to_str().ok());
        let location = location.unwrap_or_default().to_owned();
        // Nobody listens any more once larder is being killed.
        let _ = self.told.send(());
        Ok(location)
    }

    async fn push_blob(&mut self, bytes: Vec<u8>) -> Result<String, Gone> {
        let (url, digest) = (&self.url, sha256(&bytes));
        let uploads = format!("{url}/v2/{}/blobs/uploads/", self.acknowledged.name);
        let location = self.ask(self.client.post(uploads), 202).await?;
        let half = bytes.len() / 2;
        let patch = self.client.patch(format!("{url}{location}"));
        let location = self.ask(patch.body(bytes[..half].to_vec()), 202).await?;
        let put = self.client.put(format!("{url}{location}&digest={digest}"));
        self.ask(put.body(bytes[half..].to_vec()), 201).await?;
        self.acknowledged.blobs.push(digest.clone());
        Ok(digest)
    }

    async fn tag(&mut self, tag: &str, manifest: &str) -> Result<(), Gone> {
        let digest = sha256(manifest.as_bytes());
        let tags = &mut self.acknowledged.tags;
        tags.entry(tag.to_owned()).or_default().asked = Some(digest.clone());
        let url = format!("{}/v2/{}/manifests/{tag}", self.url, self.acknowledged.name);
        let put = self.client.put(url).header("content-type", OCI_MANIFEST);
        self.ask(put.body(manifest.to_owned()), 201).await?;
        let named = Named {
            told: Some(digest),
            asked: None,
        };
        self.acknowledged.tags.insert(tag.to_owned(), named);
        Ok(())
    }

    /// Pushes image after image, each under a tag of its own and as `latest`.
    async fn push_on(&mut self, seed: u64) -> Result<(), Gone> {
        for at in 0.. {
            let config = self
                .push_blob(format!("{{\"{seed}\":{at}}}").into_bytes())
                .await?;
            let size = usize::try_from(seed * 7919 + at * 104_729).expect("a size") % 150_000;
            let layer = self
                .push_blob(vec![u8::try_from(at % 251).expect("a byte"); size + 1])
                .await?;
            let manifest = manifest_of(&[&config, &layer]).to_string();
            self.tag(&format!("t{seed}-{at}"), &manifest).await?;
            self.tag("latest", &manifest).await?;
        }
        Ok(())
    }
}

/// One that does not care how its server ends. It insists on a TLS provider though it speaks none.
fn client() -> Client {
    _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().expect("a client")
}

impl Acknowledged {
    fn none(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            blobs: Vec::new(),
            tags: BTreeMap::new(),
        }
    }

    fn pusher(&mut self, larder: &Larder, told: &mpsc::UnboundedSender<()>) -> Pusher<'_> {
        Pusher {
            client: client(),
            url: larder.url(),
            told: told.clone(),
            acknowledged: self,
        }
    }

    /// Everything acknowledged can be read, and is what it was. What got no answer is settled now.
    async fn assert_kept(&mut self, larder: &Larder) {
        let name = &self.name;
        for digest in &self.blobs {
            assert_eq!(sha256(&blob(larder, name, digest).await), *digest, "{name}");
        }
        for (tag, named) in &mut self.tags {
            let got = larder.get(&format!("/v2/{name}/manifests/{tag}")).await;
            if got.status == 404 && named.told.is_none() {
                continue;
            }
            assert_eq!(got.status, 200, "{name}:{tag}: {got:?}");
            let digest = Some(sha256(&got.body));
            let is_known = digest == named.told || digest == named.asked;
            assert!(is_known, "{name}:{tag} names {digest:?}");
            (named.told, named.asked) = (digest, None);
            assert_whole(larder, name, &got.json()).await;
        }
    }
}

/// Every blob that a manifest names can be read.
async fn assert_whole(larder: &Larder, name: &str, manifest: &Value) {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for part in std::iter::once(&manifest["config"]).chain(layers) {
        let digest = part["digest"].as_str().expect("a digest");
        assert_eq!(sha256(&blob(larder, name, digest).await), digest, "{name}");
    }
}

/// Lets the clients push, and kills larder after so many answers, wherever they all are by then.
async fn kill_after(larder: &mut Larder, clients: &mut [Acknowledged], answers: u64, round: u64) {
    let (told, mut hears) = mpsc::unbounded_channel();
    let pushers = clients
        .iter_mut()
        .map(|client| client.pusher(larder, &told));
    let pushing = join_all(pushers.map(|mut pusher| async move {
        let ended = pusher.push_on(round).await;
        assert!(ended.is_err(), "it pushes for ever");
    }));
    let killing = async {
        for _ in 0..answers {
            hears.recv().await.expect("answers");
        }
        larder.kill().await;
    };
    tokio::join!(pushing, killing);
}

/// Every tag that is listed names an image.
async fn assert_no_tag_is_broken(larder: &Larder) {
    let catalog = larder.get("/v2/_catalog").await.json();
    for name in catalog["repositories"].as_array().expect("a list") {
        let name = name.as_str().expect("a name");
        let tags = larder.get(&format!("/v2/{name}/tags/list")).await.json();
        for tag in tags["tags"].as_array().expect("a list") {
            let tag = tag.as_str().expect("a tag");
            let got = larder.get(&format!("/v2/{name}/manifests/{tag}")).await;
            assert_eq!(got.status, 200, "{name}:{tag}: {got:?}");
        }
    }
}

/// Makes everything that the crashes left old enough, and has larder sweep it up.
async fn sweep(larder: &mut Larder) {
    let is_left = |path: &std::path::Path| {
        let path = path.to_string_lossy();
        path.ends_with(".tmp") || path.contains("/_uploads/")
    };
    larder.kill().await;
    let left: Vec<_> = files(&larder.tree())
        .into_iter()
        .filter(|path| is_left(path))
        .collect();
    for path in &left {
        age(path);
    }
    for session in left.iter().filter_map(|path| path.parent()) {
        age(session);
    }
    larder.start_again().await;
    if !left.is_empty() {
        larder.logged("swept up leftovers").await;
    }
}

#[tokio::test]
async fn a_kill_during_pushes_loses_nothing_acknowledged() {
    let mut larder = Options::registry().start().await;
    let mut clients = ["team/a", "team/b", "c", "d"].map(Acknowledged::none);
    for round in 0..12_u64 {
        // Now early, now late, never twice at the same point.
        let answers = 3 + round * 37 % 90;
        kill_after(&mut larder, &mut clients, answers, round).await;
        larder.start_again().await;
        for client in &mut clients {
            client.assert_kept(&larder).await;
        }
    }
    assert_no_tag_is_broken(&larder).await;
    sweep(&mut larder).await;
    larder.finish().await;
}

#[tokio::test]
async fn a_kill_during_retagging_leaves_the_old_or_the_new() {
    let mut larder = Options::registry().start().await;
    let config = larder.push_blob("a", b"{}").await;
    let manifests = [1, 2, 3].map(|length| manifest_of(&vec![config.as_str(); length]).to_string());
    let mut client = Acknowledged::none("a");
    for round in 0..16 {
        let (told, mut hears) = mpsc::unbounded_channel();
        let mut pusher = client.pusher(&larder, &told);
        let retagging = async {
            let mut turns = manifests.iter().cycle();
            while pusher
                .tag("latest", turns.next().expect("a cycle"))
                .await
                .is_ok()
            {}
        };
        let killing = async {
            for _ in 0..=round % 8 {
                hears.recv().await.expect("answers");
            }
            // A little further into the next request each time.
            for _ in 0..round * 2 {
                tokio::task::yield_now().await;
            }
            larder.kill().await;
        };
        tokio::join!(retagging, killing);
        larder.start_again().await;
        client.assert_kept(&larder).await;
    }
    sweep(&mut larder).await;
    larder.finish().await;
}
