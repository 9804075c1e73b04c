//! A cache that bounds itself: what goes, what stays, whatever the clock and the disk do meanwhile.

mod clock;
mod disk;
mod interruptions;
mod large;
mod order;
mod under_way;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::support::image::Image;
use crate::support::programs::Larder;
use crate::support::tree::files;

const HOUR: Duration = Duration::from_hours(1);

/// An image of two layers, of so many kilobytes each.
fn image(seed: u64, kilobytes: [usize; 2]) -> Image {
    Image::random(seed, &kilobytes.map(|size| size * 1000))
}

/// Pulls an image with all that belongs to it, as a client does that has nothing of it, and says
/// what went wrong.
async fn try_pull(
    larder: &Larder,
    name: &str,
    reference: &str,
    image: &Image,
) -> Result<(), String> {
    let manifest = larder
        .get(&format!("/v2/{name}/manifests/{reference}"))
        .await;
    if manifest.status != 200 || manifest.body != image.manifest_bytes() {
        return Err(format!("{name}:{reference}: {manifest:?}"));
    }
    for child in image.children() {
        Box::pin(try_pull(larder, name, &child.digest(), child)).await?;
    }
    if !image.children().is_empty() {
        return Ok(());
    }
    for (digest, bytes) in image.blobs() {
        let blob = larder.get(&format!("/v2/{name}/blobs/{digest}")).await;
        if blob.status != 200 || !blob.complete || blob.body != bytes {
            return Err(format!("{name}: {digest}: {}", blob.status));
        }
    }
    Ok(())
}

async fn pull(larder: &Larder, name: &str, reference: &str, image: &Image) {
    let pulled = try_pull(larder, name, reference, image).await;
    pulled.unwrap_or_else(|error| panic!("{error}\n{}", larder.log()));
}

/// Where a mirror keeps what it knows of Docker Hub's `library/NAME`.
fn mirror(larder: &Larder, name: &str) -> PathBuf {
    larder
        .tree()
        .join("repositories/docker.io/library")
        .join(name)
}

/// Whether a mirror has an image's manifest; of its layers some may be gone.
fn lists(larder: &Larder, name: &str, image: &Image) -> bool {
    let digest = image.digest();
    let revisions = mirror(larder, name).join("_manifests/revisions/sha256");
    let hex = digest.split_once(':').expect("a digest").1;
    revisions.join(hex).join("link").exists()
}

/// Whether a mirror has an image with every blob of it, or nothing of it at all.
fn has(larder: &Larder, name: &str, image: &Image) -> bool {
    let hex = |digest: &str| digest.split_once(':').expect("a digest").1.to_owned();
    let has = lists(larder, name, image);
    for (digest, _) in image.blobs() {
        let hex = hex(&digest);
        let link = mirror(larder, name).join(format!("_layers/sha256/{hex}/link"));
        let data = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
        let data = larder.tree().join(data);
        assert_eq!((link.exists(), data.exists()), (has, has), "{digest}");
    }
    has
}

/// Waits until something has come about on the disk.
async fn until(what: &str, is_met: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

/// The records of use below a data directory.
fn records(root: &Path) -> Vec<(PathBuf, u64)> {
    let used = |path: &PathBuf| {
        let is_named_so = path.components().any(|step| step.as_os_str() == "used");
        is_named_so && path.extension().is_none()
    };
    let found = files(&root.join("docker")).into_iter().filter(used);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path, text.parse().ok()?))
    };
    found.filter_map(read).collect()
}

/// Waits until it is written down that a manifest was pulled, after `earlier`.
async fn recorded(larder: &Larder, image: &Image, earlier: u64) -> u64 {
    let digest = image.digest();
    let record = || {
        let all = records(larder.root());
        let mine = all.into_iter().find(|(path, age)| {
            path.ends_with(digest.split_once(':').expect("a digest").1) && *age > earlier
        });
        mine.map(|(_, age)| age)
    };
    until("a record of use", || record().is_some()).await;
    record().expect("a record of use")
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("before the year 500 000")
}

/// Makes it look as if larder, which does not run now, had last run when the wall clock said so.
fn last_ran(root: &Path, wall: SystemTime) {
    let saved = std::fs::read_to_string(root.join("larder.clock")).unwrap_or_default();
    let saved = saved.split_whitespace().nth(1).map(str::parse);
    let newest = records(root).into_iter().map(|(_, age)| age);
    let age = newest.chain(saved.and_then(Result::ok)).max();
    let age = age.unwrap_or_else(|| micros(SystemTime::now()));
    let text = format!("{} {age}\n", micros(wall));
    std::fs::write(root.join("larder.clock"), text).expect("a file");
}

/// Stops it, and starts it again two hours later, as far as it can tell. It has counted what there
/// is by then.
async fn start_hours_later(larder: &mut Larder) {
    larder.signal(Signal::TERM);
    assert!(larder.ended().await.success());
    start_dead_hours_later(larder).await;
}

/// The same of one that was killed.
async fn start_dead_hours_later(larder: &mut Larder) {
    last_ran(larder.root(), SystemTime::now() - HOUR * 2);
    larder.start_again().await;
    larder.logged("counted what mirrors hold").await;
}
