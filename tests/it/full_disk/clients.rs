//! Real clients, on a disk that nothing fits on.

use super::{MB, mirror_on, said};
use crate::support::disk::Disk;
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Dockerd, Skopeo};

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_an_image_that_does_not_fit() {
    let hub = Hub::builder().bearer().cdn().start().await;
    let image = Image::random(1, &[3 * MB, 200_000, 3000]);
    hub.push("library/app", "1", &image);
    let disk = Disk::of("8m");
    let larder = mirror_on(&hub, &disk).await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    for left in [1 << 20, 0] {
        disk.fill_but(left);
        docker.pull("app:1").await;
        assert_eq!(docker.image_id("app:1").await, image.config_digest());
        docker.remove_image("app:1").await;
        disk.empty();
    }
    assert!(
        !docker.log().contains("registry-1.docker.io"),
        "{}",
        docker.log()
    );
    assert!(!said(&larder).is_empty());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_an_image_that_does_not_fit() {
    let hub = Hub::builder().bearer().cdn().start().await;
    let image = Image::random(1, &[3 * MB, 200_000, 3000]);
    hub.push("library/app", "1", &image);
    let disk = Disk::with("size=8m,nr_inodes=100");
    let larder = mirror_on(&hub, &disk).await;
    disk.use_inodes_but(0);
    let skopeo = Skopeo::new();
    let from = format!("docker://{}/library/app:1", larder.address());
    skopeo.copy(&from, "dir:image").await;
    assert!(!said(&larder).is_empty());
    larder.finish().await;
}
