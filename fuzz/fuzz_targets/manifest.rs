//! Any bytes are a manifest or an error, and what may be pushed can be served.
#![no_main]

use larder::oci::References;
use larder::oci::manifest::{Manifest, linux_amd64_child, media_type_of};
use larder::oci::media::{MANIFESTS, MediaType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = linux_amd64_child(bytes);
    let _ = References::of(bytes);
    for media_type in MANIFESTS {
        if let Ok(manifest) = Manifest::pushed(bytes, Some(&MediaType::known(media_type))) {
            let served = media_type_of(bytes, None);
            assert_eq!(served.as_ref(), Ok(&manifest.media_type));
        }
    }
});
