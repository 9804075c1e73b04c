//! A large cache: served at once, counted in the background, and nobody waits for its eviction.
//!
//! `LARDER_IMAGES=100000` makes it as large as the figures of the design; that needs some 4 GB of
//! memory, which is where the tree is made. Layers and their links are hard links to one file each:
//! nobody reads them here.

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::registry::{OCI_MANIFEST, manifest_of};
use crate::support::disk::Disk;
use crate::support::hub::Hub;
use crate::support::image::sha256;
use crate::support::programs::Options;

const LAYERS: usize = 10;

/// Images in so many repositories as a mirror would have filled them a day ago. Three of ten
/// layers are those of a base that a hundred images share. One image's digest is returned.
fn make(root: &Path, images: usize) -> String {
    let tree = root.join("docker/registry/v2");
    fs::create_dir_all(&tree).unwrap();
    let (layer, link) = (root.join("layer"), root.join("link"));
    fs::write(&layer, "layer").unwrap();
    fs::write(&link, "link").unwrap();
    let data = |digest: &str| {
        let hex = &digest[7..];
        tree.join(format!("blobs/sha256/{}/{hex}", &hex[..2]))
    };
    let add = |directory: PathBuf, name: &str, file: &Path| {
        if !directory.exists() {
            fs::create_dir_all(&directory).unwrap();
            fs::hard_link(file, directory.join(name)).unwrap();
        }
    };
    let mut one = String::new();
    for at in 0..images {
        let name = format!("repositories/docker.io/team/app{}", at / 100);
        let repository = tree.join(name);
        fs::create_dir_all(repository.join("_mirror")).unwrap();
        let mut layers = String::new();
        for number in 0..LAYERS {
            let content = if number < 3 { at / 100 } else { at } * 16 + number;
            let digest = sha256(content.to_string().as_bytes());
            add(data(&digest), "data", &layer);
            let layers_link = repository.join(format!("_layers/sha256/{}", &digest[7..]));
            add(layers_link, "link", &link);
            let comma = if number > 0 { "," } else { "" };
            write!(layers, r#"{comma}{{"digest":"{digest}","size":1}}"#).unwrap();
        }
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","layers":[{layers}],"at":{at}}}"#
        );
        let digest = sha256(manifest.as_bytes());
        if at == 0 {
            one.clone_from(&digest);
        }
        fs::create_dir_all(data(&digest)).unwrap();
        fs::write(data(&digest).join("data"), &manifest).unwrap();
        for link in [
            format!("revisions/sha256/{}", &digest[7..]),
            format!("tags/v{at}/current"),
        ] {
            let link = repository.join("_manifests").join(link);
            fs::create_dir_all(&link).unwrap();
            fs::write(link.join("link"), &digest).unwrap();
        }
        let used = repository.join("_mirror/used/sha256");
        fs::create_dir_all(&used).unwrap();
        let day_ago = micros(SystemTime::now() - HOUR * 24) + at as u64;
        fs::write(used.join(&digest[7..]), day_ago.to_string()).unwrap();
    }
    last_ran(root, SystemTime::now() - HOUR);
    one
}

fn count() -> usize {
    let wanted = std::env::var("LARDER_IMAGES").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(500)
}

/// The lines that tell how large and how slow it was, for who asked for a large one.
#[expect(clippy::print_stdout, reason = "figures for who asked for them")]
fn say(larder: &Larder, line: &str) {
    let status = fs::read_to_string(format!("/proc/{}/status", larder.pid())).unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{line}; {}", rss.unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_cache_is_served_at_once_and_nobody_waits_for_its_eviction() {
    let hub = Hub::start().await;
    let disk = Disk::with("size=4g,nr_inodes=6m");
    let images = count();
    let one = make(&disk.root(), images);
    let options = Options::mirror_of(&hub).on(&disk.root());
    let started = Instant::now();
    let mut larder = options
        .set(&["cache", "maxsize"], json!("1TB"))
        .start()
        .await;
    let path = format!("/v2/docker.io/team/app0/manifests/{one}");
    let served = larder.get(&path).await;
    let took = started.elapsed();
    assert_eq!(served.status, 200);
    say(&larder, &format!("{images} images: served after {took:?}"));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let is_counted = || larder.log().contains("counted what mirrors hold");
    for _ in 0..images + 600 {
        if is_counted() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = larder.log();
    let line = log
        .lines()
        .find(|line| line.contains("counted what"))
        .unwrap();
    say(&larder, line);
    assert!(line.contains(&format!("images={images}")), "{line}");

    // Nearly all of it goes. Pushes need what an eviction holds.
    let idle = pushes(&larder, &AtomicBool::new(false), 200).await;
    larder.reconfigure(&["cache", "maxsize"], json!(1000));
    larder.hang_up().await;
    larder
        .logged("evicted: the cache has reached cache.maxsize")
        .await;
    let is_over = AtomicBool::new(false);
    let evicting = async {
        larder.logged("room was made").await;
        is_over.store(true, Ordering::SeqCst);
    };
    let (busy, ()) = tokio::join!(pushes(&larder, &is_over, usize::MAX), evicting);
    say(&larder, &format!("before: {idle}; while it evicts: {busy}"));
    // How long each takes is for `make bench-scale`: here it is that an eviction lets them through.
    assert!(busy.count >= 5, "{busy}");
    larder.kill().await;
}

/// How many pushes there were, and how long the middle one, all but a hundredth of them, and the
/// longest took.
struct Pushes {
    count: usize,
    took: [Duration; 3],
}

impl std::fmt::Display for Pushes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, took } = self;
        write!(f, "{count} pushes, median, 99 % and longest {took:?}")
    }
}

/// Puts manifests, one after the other.
async fn pushes(larder: &Larder, stop: &AtomicBool, most: usize) -> Pushes {
    let config = larder.push_blob("team/mine", b"{}").await;
    let manifest = manifest_of(&[&config]).to_string();
    let mut took = Vec::new();
    while took.is_empty() || took.len() < most && !stop.load(Ordering::SeqCst) {
        let started = Instant::now();
        let put = larder.put_manifest("team/mine", "v1", OCI_MANIFEST, manifest.as_bytes());
        assert_eq!(put.await.status, 201);
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    Pushes {
        count: took.len(),
        took: [at(50), at(99), at(100)],
    }
}
