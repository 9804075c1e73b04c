//! No file makes the judge of bundles panic, or read on for ever.
#![no_main]

use std::fs::File;
use std::io::Write as _;
use std::time::UNIX_EPOCH;

use larder::bundle::Archive;
use rustix::fs::{MemfdFlags, memfd_create};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Headers with the right sum are past luck: the sums are put right here.
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let Ok(file) = memfd_create("bundle", MemfdFlags::empty()) else {
        return;
    };
    let mut file = File::from(file);
    if file.write_all(&bytes).is_ok()
        && let Ok(archive) = Archive::of(file, UNIX_EPOCH)
    {
        assert!(archive.count() > 0);
    }
});
