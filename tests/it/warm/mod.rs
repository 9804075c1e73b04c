//! Images fetched before anybody asks for them, and whether they are ready.

mod alone;
mod ready;
mod schedule;
mod server;

use crate::support::hub::{Asked, Hub, Kind};
use crate::support::image::Image;
use crate::support::programs::Output;

/// A Docker Hub as it is: tokens, and blobs from another host.
async fn docker_hub() -> Hub {
    Hub::builder().bearer().cdn().start().await
}

/// An image for two platforms with nothing in common.
fn two_platforms(seed: u64) -> Image {
    let child = |seed| Image::random(seed, &[300_000, 20_000]);
    Image::index(vec![(child(seed), "amd64"), (child(seed + 1), "arm64")])
}

/// Which of an image's blobs the hub was asked for.
fn blobs_sent(hub: &Hub, image: &Image) -> Vec<String> {
    let asked = hub.asked();
    let is_sent = |digest: &&String| {
        let names = |asked: &Asked| asked.kind == Kind::Blob && asked.path.contains(*digest);
        asked.iter().any(names)
    };
    let digests: Vec<String> = image
        .blobs()
        .into_iter()
        .map(|(digest, _)| digest)
        .collect();
    digests.iter().filter(is_sent).cloned().collect()
}

/// The command failed, and said all of this to the person at the terminal.
fn assert_fails(output: &Output, words: &[&str]) {
    assert!(!output.success, "{output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "{word}: {output:?}");
    }
}

/// The command succeeded, and printed all of this.
fn assert_says(output: Output, words: &[&str]) {
    let said = output.expect_success();
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}
