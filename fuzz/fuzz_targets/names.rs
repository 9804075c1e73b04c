//! What is taken for a name, a tag, a digest or a media type prints as it was read.
#![no_main]

use larder::oci::{Digest, MediaType, Reference, RepositoryName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
    if let Ok(media_type) = text.parse::<MediaType>() {
        assert!(text.contains(media_type.as_str()));
    }
});
