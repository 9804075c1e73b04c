//! Garbage collection, by the command, with a server beside it and without one: what nobody refers
//! to goes, and nothing else does, whatever happens at the same time.

mod beside;
mod command;
mod distribution;
mod soak;
mod traps;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::programs::Larder;
use crate::support::tree::files;

/// Every file of the tree with its bytes.
fn contents(larder: &Larder) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a readable file");
        (path, bytes)
    };
    files(&larder.tree()).into_iter().map(read).collect()
}

/// What the tree takes up, in bytes.
fn size(larder: &Larder) -> usize {
    contents(larder).iter().map(|(_, bytes)| bytes.len()).sum()
}

/// Makes everything below a directory as old as if it had been left alone for days.
fn age(directory: &Path) {
    for path in files(directory) {
        let file = File::open(&path).expect("a file");
        let days = Duration::from_hours(72);
        file.set_modified(SystemTime::now() - days)
            .expect("a file's time can be set");
    }
}

/// Where the data of a digest is.
fn data(larder: &Larder, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    let shard = &hex[..2];
    larder
        .tree()
        .join(format!("blobs/{algorithm}/{shard}/{hex}/data"))
}
