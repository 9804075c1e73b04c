//! Distribution's collector and ours on one tree: they say the same of it, and each leaves what the
//! other serves.

use std::collections::BTreeSet;
use std::path::Path;

use crate::registry::{assert_pullable, delete};
use crate::support::image::Image;
use crate::support::programs::{Distribution, DistributionOptions, Larder, Options, Skopeo};

fn image(seed: u64) -> Image {
    Image::random(seed, &[20_000, 3_000])
}

/// Two repositories with something to keep and something to collect, and what is to be kept.
async fn fill(larder: &Larder) -> [(&'static str, Image); 2] {
    let index = Image::index(vec![(image(1), "amd64"), (image(2), "arm64")]);
    larder.push("list", "v1", &index).await;
    larder.push("team/app", "v1", &image(3)).await;
    larder.push("team/app", "v2", &image(4)).await;
    let path = format!("/v2/team/app/manifests/{}", image(4).digest());
    assert_eq!(delete(larder, &path).await.status, 202);
    [("list", index), ("team/app", image(3))]
}

/// Every image can be copied out of a `docker-registry` that serves the tree.
async fn assert_served_by_distribution(root: &Path, kept: &[(&str, Image)]) {
    let options = DistributionOptions {
        root: Some(root.to_owned()),
        ..DistributionOptions::default()
    };
    let distribution = Distribution::start(&options).await;
    let copy = Options::registry().start().await;
    for (name, image) in kept {
        let from = format!("docker://{}/{name}:v1", distribution.address());
        let to = format!("docker://{}/{name}:v1", copy.address());
        let copied = Skopeo::new()
            .try_copy(&["--all", "--preserve-digests"], &from, &to)
            .await;
        copied.expect_success();
        assert_pullable(&copy, name, "v1", image).await;
    }
    distribution.stop();
    copy.finish().await;
}

/// Version 2.8 names a manifest that goes by its digest alone, version 3 as we do.
fn bare(line: &str) -> String {
    match line.split_once(" deletion: {") {
        Some((said, named)) => {
            let digest = named.split(' ').nth(1).expect("a digest");
            format!("{said} deletion: {digest}")
        }
        None => line.to_owned(),
    }
}

/// Version 2.8 knows no layer links as garbage, and says what it marks as often as it meets it.
#[tokio::test]
async fn both_say_the_same_of_one_tree() {
    let mut larder = Options::registry().start().await;
    fill(&larder).await;
    larder.kill().await;
    for arguments in [&["--dry-run"][..], &["--dry-run", "--delete-untagged"]] {
        if arguments.len() > 1 {
            // It would delete the images of an index that is tagged: there they differ on purpose.
            larder.start_again().await;
            assert_eq!(delete(&larder, "/v2/list/manifests/v1").await.status, 202);
            larder.kill().await;
        }
        let theirs = Distribution::garbage_collect(larder.root(), arguments).await;
        let theirs = theirs.expect_success();
        let ours = larder.garbage_collect(arguments).await.expect_success();
        let is_marked = |digest: &str| theirs.contains(&format!("marking manifest {digest} "));
        let is_repeated = |line: &str| {
            let (_, digest) = line.split_once(": marking blob ").unwrap_or_default();
            is_marked(digest)
        };
        let lines = |text: &str| -> BTreeSet<String> {
            let said = text.lines().filter(|line| !line.contains(": layer link "));
            said.filter(|line| !is_repeated(line)).map(bare).collect()
        };
        assert_eq!(lines(&ours), lines(&theirs), "{ours}\n---\n{theirs}");
        assert!(ours.contains("blob eligible for deletion: "), "{ours}");
        assert!(
            ours.contains("team/app: layer link eligible for deletion: "),
            "{ours}"
        );
    }
    larder.start_again().await;
    larder.finish().await;
}

#[tokio::test]
async fn what_is_left_by_one_is_served_by_the_other() {
    let mut larder = Options::registry().start().await;
    let kept = fill(&larder).await;
    larder.kill().await;
    larder.garbage_collect(&["-m"]).await.expect_success();
    assert_served_by_distribution(larder.root(), &kept).await;
    let said = Distribution::garbage_collect(larder.root(), &[])
        .await
        .expect_success();
    assert!(said.contains(" 0 blobs and 0 manifests eligible"), "{said}");

    larder.start_again().await;
    fill(&larder).await;
    larder.kill().await;
    Distribution::garbage_collect(larder.root(), &[])
        .await
        .expect_success();
    larder.start_again().await;
    for (name, image) in &kept {
        assert_pullable(&larder, name, "v1", image).await;
    }
    // It leaves links to data that is gone; ours removes them, and what it pushed again is whole.
    larder.kill().await;
    larder.garbage_collect(&[]).await.expect_success();
    larder.start_again().await;
    for (name, image) in &kept {
        assert_pullable(&larder, name, "v1", image).await;
    }
    larder.finish().await;
}
