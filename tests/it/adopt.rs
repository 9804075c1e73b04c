//! The volume of an old pull-through cache becomes larder's: nothing of it is fetched again, and
//! nothing that somebody pushed is taken for a copy.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::registry::assert_pullable;
use crate::support::hub::Hub;
use crate::support::image::{Image, sha256};
use crate::support::programs::{
    Distribution, DistributionOptions, Larder, Options, client_trusting,
};
use crate::support::tree::{assert_sound, files};

const LIST: &str = "scheduler-state.json";
const ADOPTED: &str = "scheduler-state.json.adopted";

fn small(seed: u64) -> Image {
    Image::random(seed, &[3_000, 4_000])
}

/// A Distribution that is a pull-through cache of the hub, on that directory.
async fn cache(hub: &Hub, root: &Path) -> Distribution {
    Distribution::start(&DistributionOptions {
        root: Some(root.to_owned()),
        proxy: Some(hub.url()),
        ..DistributionOptions::default()
    })
    .await
}

/// Pulls an image through it, with all that an index lists.
async fn pull(cache: &Distribution, name: &str, reference: &str, image: &Image) {
    let client = client_trusting(None).build().expect("a client");
    let get = async |path: String| {
        let url = format!("{}/v2/{name}/{path}", cache.url());
        let request = client.get(url).header("accept", image.media_type());
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        answer.bytes().await.expect("a body")
    };
    let manifest = get(format!("manifests/{reference}")).await;
    assert_eq!(manifest, image.manifest_bytes());
    if !image.children().is_empty() {
        for child in image.children() {
            Box::pin(pull(cache, name, &child.digest(), child)).await;
        }
        return;
    }
    for (digest, bytes) in image.blobs() {
        assert_eq!(get(format!("blobs/{digest}")).await, bytes);
    }
}

/// Waits until the cache has written down all that it has fetched.
async fn listed(root: &Path, name: &str, image: &Image) {
    let mut digests: Vec<String> = image
        .blobs()
        .into_iter()
        .map(|(digest, _)| digest)
        .collect();
    digests.extend(image.children().iter().map(Image::digest));
    digests.push(image.digest());
    let is_listed = || {
        let list = fs::read_to_string(root.join(LIST)).unwrap_or_default();
        digests
            .iter()
            .all(|it| list.contains(&format!("{name}@{it}")))
    };
    for _ in 0..400 {
        if is_listed() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{name} is not in {LIST}");
}

#[tokio::test]
async fn nothing_of_an_old_cache_is_fetched_again_and_what_was_pushed_stays_local() {
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path().join("root");
    let hub = Hub::start().await;
    let index = Image::index(vec![(small(1), "amd64"), (small(2), "arm64")]);
    hub.push("library/multi", "1", &index);
    hub.push("team/fetched", "1", &small(3));
    hub.push("team/both", "1", &small(4));
    // It was a registry once.
    let plain = Options::registry().on(&root).start().await;
    plain.push("team/pushed", "1", &small(5)).await;
    plain.push("team/both", "mine", &small(6)).await;
    plain.finish().await;
    let old = cache(&hub, &root).await;
    for (name, image) in [
        ("library/multi", &index),
        ("team/fetched", &small(3)),
        ("team/both", &small(4)),
    ] {
        pull(&old, name, "1", image).await;
        listed(&root, name, image).await;
    }
    old.stop();
    hub.clear_log();

    let mut larder = Options::mirror_of(&hub).on(&root).start().await;
    larder
        .logged("took over 2 repositories of an old cache as mirrors of docker.io")
        .await;
    let log = larder.log();
    assert!(
        log.contains(
            "team/pushed is not taken over, and stays local: the cache's list does not have it"
        ),
        "{log}"
    );
    assert!(log.contains("team/both is not taken over"), "{log}");
    assert!(
        log.contains(
            "mkdir -p docker.io/team/both/_mirror && mv team/both/_[lm]* docker.io/team/both/"
        ),
        "{log}"
    );
    assert!(hub.asked().is_empty());
    assert!(!root.join(LIST).exists() && root.join(ADOPTED).exists());
    for (name, image) in [
        ("library/multi", &index),
        ("docker.io/team/fetched", &small(3)),
    ] {
        assert_pullable(&larder, name, "1", image).await;
    }
    assert_eq!((hub.manifest_gets(), hub.blob_gets()), (0, 0));
    hub.clear_log();
    for (name, tag, image) in [
        ("team/pushed", "1", small(5)),
        ("team/both", "mine", small(6)),
        ("team/both", "1", small(4)),
    ] {
        assert_pullable(&larder, name, tag, &image).await;
    }
    assert!(hub.asked().is_empty());
    // They are kept up to date, and what was pushed is not touched.
    let newer = small(7);
    for name in ["library/multi", "team/fetched", "team/pushed"] {
        hub.push(name, "2", &newer);
    }
    assert_pullable(&larder, "library/multi", "2", &newer).await;
    assert_pullable(&larder, "team/fetched", "2", &newer).await;
    assert_eq!(larder.get("/v2/team/pushed/manifests/2").await.status, 404);
    larder.push("team/pushed", "2", &small(8)).await;
    // Not a second time.
    larder.kill().await;
    larder.start_again().await;
    assert!(!larder.log().contains("took over"));
    assert_pullable(&larder, "team/pushed", "2", &small(8)).await;
    larder.finish().await;
}

/// By hand what the log says: it makes a mirror of what was in doubt.
#[tokio::test]
async fn what_was_in_doubt_can_be_taken_over_by_hand() {
    let hub = Hub::start().await;
    let image = small(1);
    hub.push("team/app", "1", &image);
    let mut larder = Options::mirror_of(&hub).start().await;
    larder.kill().await;
    let plain = Options::registry().on(larder.root()).start().await;
    plain.push("team/app", "1", &image).await;
    plain.finish().await;
    fs::write(larder.root().join(LIST), "{}").unwrap();
    larder.start_again().await;
    larder.logged("team/app is not taken over").await;
    let log = larder.log();
    let line = log
        .lines()
        .find(|line| line.contains("team/app is not taken over"))
        .unwrap();
    let (_, command) = line.split_once("run: ").unwrap();
    larder.kill().await;
    let status = std::process::Command::new("sh")
        .args(["-c", command.trim()])
        .current_dir(larder.tree().join("repositories"))
        .status()
        .unwrap();
    assert!(status.success(), "{command}");
    larder.start_again().await;
    hub.clear_log();
    assert_pullable(&larder, "team/app", "1", &image).await;
    assert_eq!((hub.manifest_gets(), hub.blob_gets()), (0, 0));
    larder.finish().await;
}

const MANY: usize = 300;

/// A cache's volume with many repositories, and one that somebody pushed.
fn fill(larder: &Larder) -> String {
    let tree = larder.tree();
    let manifest = json!({"schemaVersion": 2, "manifests": []}).to_string();
    let digest = sha256(manifest.as_bytes());
    let hex = &digest["sha256:".len()..];
    let write = |path: String, text: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), &manifest);
    let mut list = Map::new();
    for number in 0..=MANY {
        let name = if number == MANY {
            "team/pushed".to_owned()
        } else {
            format!("library/r{number}")
        };
        let at = format!("repositories/{name}");
        write(
            format!("{at}/_manifests/revisions/sha256/{hex}/link"),
            &digest,
        );
        write(format!("{at}/_manifests/tags/1/current/link"), &digest);
        write(format!("{at}/_layers/sha256/{hex}/link"), &digest);
        let key = format!("{name}@{digest}");
        let entry = json!({"Key": key, "ExpiryData": "2026-01-01T00:00:00Z", "EntryType": 1});
        if number < MANY {
            list.insert(key, entry);
        }
    }
    fs::write(larder.root().join(LIST), Value::Object(list).to_string()).unwrap();
    digest
}

#[tokio::test]
async fn killed_while_it_takes_over_it_goes_on_at_the_next_start() {
    let hub = Hub::start().await;
    let mut larder = Options::mirror_of(&hub).start().await;
    larder.kill().await;
    let digest = fill(&larder);
    let repositories = larder.tree().join("repositories");
    let mut begun = 0;
    for round in 0..30 {
        let (mut command, _home) = larder.server();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = command.spawn().expect("larder starts");
        tokio::time::sleep(Duration::from_millis(20 + 4 * round)).await;
        server.kill().expect("our own child");
        server.wait().expect("our own child");
        let has_begun = repositories.join("library/r7/_mirror").exists();
        begun += usize::from(has_begun);
        // Whatever it is at: each is whole in one of the two places, or on its way and no more local.
        for number in 0..MANY {
            let [old, new] = ["library", "docker.io/library"]
                .map(|it| repositories.join(format!("{it}/r{number}")));
            let is_local = old.join("_manifests").exists() && !old.join("_mirror").exists();
            let is_whole = old.join("_layers").exists();
            assert!(
                is_local == is_whole
                    || old.join("_mirror").exists()
                    || new.join("_mirror").exists()
            );
            assert_eq!(old.join("_layers").exists(), !new.join("_layers").exists());
            assert_eq!(
                old.join("_manifests").exists(),
                !new.join("_manifests").exists()
            );
        }
        if larder.root().join(ADOPTED).exists() {
            break;
        }
    }
    println!("killed {begun} times in the middle");
    larder.start_again().await;
    assert!(!larder.root().join(LIST).exists());
    assert!(
        !repositories.join("library").exists(),
        "{:?}\n{}",
        files(&repositories.join("library")),
        larder.log()
    );
    hub.down().await;
    for number in 0..MANY {
        let path = format!("/v2/library/r{number}/manifests/1");
        let got = larder.head(&path).await;
        assert_eq!(
            (got.status, got.header("docker-content-digest")),
            (200, &*digest)
        );
        let new = repositories.join(format!("docker.io/library/r{number}"));
        assert!(new.join("_mirror").is_dir() && new.join("_layers").is_dir());
    }
    assert!(repositories.join("team/pushed/_manifests").is_dir());
    assert!(!repositories.join("team/pushed/_mirror").exists());
    larder.signal(Signal::TERM);
    larder.ended().await;
    assert_sound(&larder.tree());
    assert!(!files(larder.root()).is_empty());
}
