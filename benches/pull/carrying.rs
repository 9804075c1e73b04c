//! Images that are carried in a file: beside `cp`, which neither looks at what it copies nor knows
//! what is in it.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use larder::oci::{Algorithm, Hasher};
use rustix::fs::{Advice, fadvise};

use super::Upstreams;
use super::support::image::Image;
use super::support::programs::{Options, Resting};
use super::table::{Row, Unit};

const RUNS: usize = 5;

/// 70 % of `cp`'s speed.
const MOST: f64 = 1.43;

/// A bundle of an image with 32 layers of 32 MB, written and taken in, in turns with a copy of the
/// same file. All of them end when the disk has it, and each writes what was not there: to give
/// back the room of an old file can take as long as to write a new one, and is not `cp`'s work here.
///
/// Once each reads what the machine has in its memory, which is what was just fetched or written,
/// and once from the disk, which is what is carried from here to there.
pub(crate) async fn there_and_back(upstreams: &Upstreams) -> Vec<Row> {
    let hub = upstreams.near().await;
    let image = Image::random(1, &[32_000_000; 32]);
    hub.push("library/large", "1", &image);
    let from = Options::mirror_of(&hub).rest();
    from.run(&["warm", "large:1"]).await.expect_success();
    let directory = tempfile::tempdir().expect("a directory");
    let [bundle, copy] = ["bundle.tar", "copy.tar"].map(|name| directory.path().join(name));
    let mut rows = Vec::new();
    for (where_from, is_in_memory) in [("memory", true), ("the disk", false)] {
        let prepare = |path: &Path| {
            if !is_in_memory {
                forget(path);
            }
        };
        let (mut exports, mut imports) = (Vec::new(), Vec::new());
        let (mut unsynced, mut hashes) = (Vec::new(), Vec::new());
        for _ in 0..=RUNS {
            prepare(from.root());
            let export = ["export", "-o", text(&bundle), "large:1"];
            let export = timed(&from, &export).await;
            prepare(&bundle);
            let copied = seconds(|| {
                copy_file(&bundle, &copy);
                File::open(&copy).and_then(|file| file.sync_all())
            });
            fs::remove_file(&copy).expect("a file to remove");
            prepare(&bundle);
            let to = Options::mirror_of(&hub).rest();
            let import = timed(&to, &["import", text(&bundle)]).await;
            drop(to);
            prepare(&bundle);
            let only_copied = seconds(|| {
                copy_file(&bundle, &copy);
                Ok(())
            });
            fs::remove_file(&copy).expect("a file to remove");
            exports.push(export / copied);
            imports.push(import / copied);
            unsynced.push(only_copied / copied);
            prepare(&bundle);
            hashes.push(seconds(|| hash(&bundle)) / copied);
            fs::remove_file(&bundle).expect("a file to remove");
        }
        // The first run finds nothing in the machine's memory.
        let row = |figure, samples: Vec<f64>| {
            let figure = format!("from {where_from}: {figure} / time of cp and fsync");
            Row::new(figure, Unit::Ratio, samples[1..].to_vec())
        };
        rows.extend([
            row("time of an export", exports).median_at_most(MOST),
            row("time of an import", imports).median_at_most(MOST),
            row("time of cp alone", unsynced),
            // Both verify every byte, so that neither can be faster.
            row("time of SHA-256, all processors", hashes),
        ]);
    }
    rows
}

/// Takes what these files hold out of the machine's memory.
fn forget(path: &Path) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            forget(&entry.expect("an entry").path());
        }
    } else {
        let file = File::open(path).expect("a file");
        // What is not written yet would stay.
        file.sync_all().expect("a disk that takes it");
        fadvise(&file, 0, None, Advice::DontNeed).expect("a file that can be forgotten");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

async fn timed(larder: &Resting, arguments: &[&str]) -> f64 {
    let started = Instant::now();
    larder.run(arguments).await.expect_success();
    started.elapsed().as_secs_f64()
}

fn seconds(work: impl FnOnce() -> std::io::Result<()>) -> f64 {
    let started = Instant::now();
    work().expect("a disk that takes it");
    started.elapsed().as_secs_f64()
}

/// As many threads as there are processors, each with a part of the file.
fn hash(file: &Path) -> std::io::Result<()> {
    let file = File::open(file)?;
    let threads = thread::available_parallelism()?.get() as u64;
    let part = file.metadata()?.len() / threads;
    thread::scope(|scope| {
        let hash = |number: u64| {
            let (mut piece, mut hasher) = (vec![0; 256 << 10], Hasher::new(Algorithm::Sha256));
            let mut done = 0;
            while done + piece.len() as u64 <= part {
                file.read_exact_at(&mut piece, number * part + done)?;
                hasher.update(&piece);
                done += piece.len() as u64;
            }
            black_box(hasher.finish());
            Ok(())
        };
        let parts: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || hash(number)))
            .collect();
        parts
            .into_iter()
            .try_for_each(|part| part.join().expect("a thread"))
    })
}

fn copy_file(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("--reflink=never")
        .args([from, to])
        .status();
    assert!(status.expect("cp").success());
}
