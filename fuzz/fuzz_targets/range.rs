//! Any text is a range within the content, or none.
#![no_main]

use larder::oci::range::{Requested, content_range, requested, upload_chunk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &str)| {
    let (size, header) = input;
    if let Requested::Part(part) = requested(Some(header), size) {
        assert!(part.start <= part.end && part.end < size);
    }
    if let Some(part) = upload_chunk(header) {
        assert!(part.start <= part.end && part.len() > 0);
    }
    if let Some((part, Some(total))) = content_range(header) {
        assert!(part.start <= part.end && part.end < total);
    }
});
