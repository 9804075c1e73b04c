//! A disk that is full, has no inodes left, takes no writes or fails: no pull fails, nothing wrong
//! is stored, and pushes are told what to do.

mod clients;
mod failing;
mod pulls;
mod pushes;

use std::path::PathBuf;

use crate::support::disk::Disk;
use crate::support::hub::Hub;
use crate::support::image::noise;
use crate::support::programs::{Larder, Options};
use crate::support::tree::files;

/// A megabyte.
const MB: usize = 1 << 20;

/// Bytes that no other content has.
fn content(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, 0, length)
}

/// A mirror of the hub on a disk of its own.
async fn mirror_on(hub: &Hub, disk: &Disk) -> Larder {
    Options::mirror_of(hub).on(&disk.root()).start().await
}

fn path(digest: &str) -> String {
    format!("/v2/library/x/blobs/{digest}")
}

/// The blob's directory.
fn place(larder: &Larder, digest: &str) -> PathBuf {
    let hex = &digest[7..];
    let blobs = larder.tree().join("blobs/sha256");
    blobs.join(&hex[..2]).join(hex)
}

/// The lines of the log that say that something is not kept.
fn said(larder: &Larder) -> Vec<String> {
    let log = larder.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("passed on, but not kept"));
    lines.map(str::to_owned).collect()
}

/// Nothing of a blob is on the disk.
#[track_caller]
fn assert_not_stored(larder: &Larder, digest: &str) {
    let left = files(&place(larder, digest));
    assert!(left.is_empty(), "{left:?}");
}

/// The requests for a range of something at the hub, by where they begin.
fn ranges(hub: &Hub) -> Vec<String> {
    let asked = hub.asked();
    let ranges = asked.iter().filter_map(|asked| asked.header("range"));
    ranges.map(str::to_owned).collect()
}
