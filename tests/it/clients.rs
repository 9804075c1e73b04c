//! The clients that people have, against the real binary.

use serde_json::json;

use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::jwt;
use crate::support::programs::{
    Buildah, Containerd, Distribution, DistributionOptions, Dockerd, DockerdOptions, File, Larder,
    Options, Skopeo, TokenAuth,
};
use crate::support::tree::files;

const FILES: &[File<'static>] = &[("etc/greeting", b"hello\n"), ("bin/tool", &[7; 5000])];

/// A Docker Hub as it is: tokens, and blobs from another host.
async fn docker_hub() -> Hub {
    Hub::builder().bearer().cdn().start().await
}

fn image(seed: u64) -> Image {
    Image::random(seed, &[300_000, 20_000, 3000, 3000])
}

/// Whatever dockerd could not get from larder it would have tried to get from Docker Hub itself.
fn assert_never_went_around(docker: &Dockerd) {
    assert!(
        !docker.log().contains("registry-1.docker.io"),
        "{}",
        docker.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_from_the_hub_then_from_the_disk_then_without_a_network() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &image(1));
    let mut larder = Options::mirror_of(&hub).start().await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    docker.pull("app:1").await;
    assert_eq!(docker.image_id("app:1").await, image(1).config_digest());
    assert_eq!(
        (hub.manifest_gets(), hub.token_requests()),
        (1, 1),
        "{:?}",
        hub.asked()
    );
    assert_eq!(
        hub.blob_gets(),
        image(1).blobs().len() + usize::from(hub.blob_gets() > 5)
    );

    hub.clear_log();
    docker.remove_image("app:1").await;
    docker.pull("app:1").await;
    assert!(
        hub.asked().is_empty(),
        "the second pull comes from the disk: {:?}",
        hub.asked()
    );

    hub.down().await;
    larder.kill().await;
    larder.start_again().await;
    docker.remove_image("app:1").await;
    docker.pull("app:1").await;
    assert_eq!(docker.image_id("app:1").await, image(1).config_digest());
    assert_never_went_around(&docker);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pushes_lists_and_pulls_back_and_nothing_of_it_is_lost() {
    let hub = docker_hub().await;
    let mut larder = Options::mirror_of(&hub).start().await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    let name = format!("{}/w3:1.0", larder.address());
    let built = docker
        .build_layered_image(&name, &[FILES, &[("a", b"1")], &[("b", &vec![9; 200_000])]])
        .await;
    docker.push(&name).await;
    assert_eq!(
        larder.get("/v2/_catalog").await.json()["repositories"],
        json!(["w3"])
    );
    assert_eq!(
        larder.get("/v2/w3/tags/list").await.json()["tags"],
        json!(["1.0"])
    );
    larder.kill().await;
    larder.start_again().await;
    docker.remove_image(&name).await;
    docker.pull(&name).await;
    assert_eq!(docker.image_id(&name).await, built);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_other_registries_by_prefix_and_pushes_a_pulled_image_under_its_own_name() {
    let (hub, quay) = (docker_hub().await, Hub::start().await);
    hub.push("org/app", "1", &image(2));
    quay.push("org/app", "1", &image(3));
    let larder = Options::mirror_of(&hub)
        .upstream("quay.io", &quay)
        .start()
        .await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    let prefixed = format!("{}/quay.io/org/app:1", larder.address());
    docker.pull(&prefixed).await;
    assert_eq!(docker.image_id(&prefixed).await, image(3).config_digest());
    docker.pull("org/app:1").await;
    // docker asks larder for each blob before it sends it, and is told that it is there.
    let own = format!("{}/org/app:mine", larder.address());
    docker.tag("org/app:1", &own).await;
    docker.push(&own).await;
    hub.down().await;
    docker.remove_image(&own).await;
    docker.remove_image("org/app:1").await;
    docker.pull(&own).await;
    assert_eq!(docker.image_id(&own).await, image(2).config_digest());
    // Into a mirror nobody can push, and the message says what to do instead.
    docker.tag(&own, &prefixed).await;
    let refused = docker.try_push(&prefixed).await;
    assert!(
        !refused.success && refused.stderr.contains("push it under org/app instead"),
        "{refused:?}"
    );
    assert_never_went_around(&docker);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_through_a_hub_that_breaks_every_download_once() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &image(4));
    for (digest, bytes) in image(4).blobs() {
        let half = bytes.len() / 2;
        hub.fault(
            Fault::on(Where::blobs().get().digest(&digest))
                .times(1)
                .does(What::ResetAfter(half)),
        );
    }
    let larder = Options::mirror_of(&hub).start().await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    let said = docker.pull("app:1").await;
    assert!(!said.contains("Retrying"), "docker noticed: {said}");
    assert_eq!(docker.image_id("app:1").await, image(4).config_digest());
    assert_never_went_around(&docker);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_dockers_at_once_cost_one_download() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &image(5));
    let larder = Options::mirror_of(&hub).start().await;
    let options = DockerdOptions {
        mirrors: vec![larder.url()],
        ..DockerdOptions::default()
    };
    let start = || Dockerd::start(&options);
    let (one, two, three) = tokio::join!(start(), start(), start());
    tokio::join!(one.pull("app:1"), two.pull("app:1"), three.pull("app:1"));
    for docker in [&one, &two, &three] {
        assert_eq!(docker.image_id("app:1").await, image(5).config_digest());
        assert_never_went_around(docker);
    }
    assert_eq!((hub.manifest_gets(), hub.token_requests()), (1, 1));
    let total: usize = image(5).blobs().iter().map(|(_, bytes)| bytes.len()).sum();
    let total = total + image(5).manifest_bytes().len();
    assert_eq!(hub.body_bytes(), total as u64, "every byte once");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_says_by_ns_which_registry_it_means() {
    let (hub, quay) = (docker_hub().await, Hub::start().await);
    let platforms = vec![(image(6), "amd64"), (image(7), "arm64")];
    let index = Image::index(platforms).oci();
    hub.push("library/app", "1", &index);
    quay.push("org/app", "1", &image(8));
    let larder = Options::mirror_of(&hub)
        .upstream("quay.io", &quay)
        .start()
        .await;
    let containerd = Containerd::with_mirror(&larder.url()).await;
    containerd.pull("docker.io/library/app:1").await;
    containerd.pull("quay.io/org/app:1").await;
    assert!(containerd.content_has(&index.digest()).await);
    assert!(containerd.content_has(&image(8).digest()).await);
    hub.down().await;
    quay.down().await;
    for name in ["docker.io/library/app:1", "quay.io/org/app:1"] {
        containerd.remove(name).await;
        containerd.pull(name).await;
    }
    let cold = containerd.try_pull("ghcr.io/org/app:1").await;
    assert!(!cold.success, "ghcr.io is not configured: {cold:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_both_ways_and_through_the_mirror() {
    let hub = docker_hub().await;
    let index = Image::index(vec![(image(9), "amd64"), (image(10), "s390x")]);
    hub.push("library/app", "1", &index);
    let larder = Options::mirror_of(&hub).start().await;
    let mirror = format!("{}/docker.io", larder.address());
    let skopeo = Skopeo::with_mirrors(&[("docker.io", &mirror)]);
    let directory = format!("dir:{}", skopeo.path("out").display());
    skopeo
        .copy("docker://docker.io/library/app:1", &directory)
        .await;
    let remote = format!("docker://{}/team/copy:1", larder.address());
    skopeo.copy(&directory, &remote).await;
    let all = skopeo
        .try_copy(
            &["--all"],
            "docker://docker.io/library/app:1",
            &format!("{remote}-all"),
        )
        .await;
    all.expect_success();
    assert_eq!(
        skopeo
            .list_tags(&format!("docker://{}/team/copy", larder.address()))
            .await,
        ["1", "1-all"]
    );
    let raw = skopeo.raw_manifest(&format!("{remote}-all")).await;
    assert_eq!(
        raw.as_bytes(),
        &index.manifest_bytes()[..],
        "the index is the same to the byte"
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buildah_pushes_and_pulls_back() {
    let larder = Options::registry().start().await;
    let buildah = Buildah::new();
    let id = buildah.build_scratch_image("localhost/made:1", FILES).await;
    let name = format!("{}/team/made:1", larder.address());
    buildah.push("localhost/made:1", &name).await;
    assert_eq!(Buildah::new().pull(&name).await, id);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_behind_a_token_service_is_mirrored() {
    let hub = Hub::start().await;
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), jwt::CERTIFICATE).unwrap();
    // Filled while it is open to all, then closed to those without a token.
    let root = tempfile::tempdir().unwrap();
    let mut options = DistributionOptions {
        root: Some(root.path().to_owned()),
        ..DistributionOptions::default()
    };
    let open = Distribution::start(&options).await;
    let buildah = Buildah::new();
    let id = buildah.build_scratch_image("localhost/made:1", FILES).await;
    buildah
        .push(
            "localhost/made:1",
            &format!("{}/library/made:1", open.address()),
        )
        .await;
    open.stop();
    options.token_auth = Some(TokenAuth {
        realm: format!("http://{}/token", hub.token_host()),
        service: "upstream.test".to_owned(),
        issuer: "hub.test".to_owned(),
        root_cert_bundle: bundle.path().to_owned(),
    });
    let upstream = Distribution::start(&options).await;
    let token = jwt::sign("hub.test", "upstream.test", "library/made", &["pull"]);
    let answer = json!({ "token": token, "expires_in": 300 }).to_string();
    hub.fault(Fault::on(Where::tokens()).does(What::Body(answer.into_bytes())));
    let settings = json!({ "url": upstream.url(), "tokenhosts": [hub.token_host()] });
    let larder = Options::registry()
        .set(&["upstreams", "docker.io"], settings)
        .start()
        .await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    docker.pull("made:1").await;
    assert_eq!(docker.image_id("made:1").await, id);
    let asked = hub.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(
        asked[0].parameter("service").as_deref(),
        Some("upstream.test")
    );
    assert_eq!(
        asked[0].parameter("scope").as_deref(),
        Some("repository:library/made:pull")
    );
    assert_never_went_around(&docker);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn distribution_serves_what_larder_stored_and_larder_what_distribution_stored() {
    let root = tempfile::tempdir().unwrap();
    let options = DistributionOptions {
        root: Some(root.path().to_owned()),
        ..DistributionOptions::default()
    };
    let (buildah, skopeo) = (Buildah::new(), Skopeo::new());
    let id = buildah.build_scratch_image("localhost/made:1", FILES).await;
    let theirs = Distribution::start(&options).await;
    buildah
        .push(
            "localhost/made:1",
            &format!("{}/team/theirs:1", theirs.address()),
        )
        .await;
    theirs.stop();
    let before = files(root.path());

    let hub = docker_hub().await;
    hub.push("library/app", "1", &image(11));
    let larder: Larder = Options::mirror_of(&hub).on(root.path()).start().await;
    assert_eq!(
        buildah
            .pull(&format!("{}/team/theirs:1", larder.address()))
            .await,
        id
    );
    assert_eq!(
        larder.get("/v2/_catalog").await.json()["repositories"],
        json!(["team/theirs"])
    );
    larder.push("team/ours", "1", &image(12)).await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    docker.pull("app:1").await;
    larder.finish().await;
    assert!(
        before.iter().all(|file| file.is_file()),
        "nothing of theirs was touched"
    );

    let theirs = Distribution::start(&options).await;
    for (name, digest) in [
        ("team/ours:1", image(12).digest()),
        ("docker.io/library/app:1", image(11).digest()),
    ] {
        let remote = format!("docker://{}/{name}", theirs.address());
        let copied = format!("dir:{}", skopeo.path(&digest.replace(':', "-")).display());
        skopeo.copy(&remote, &copied).await;
        assert_eq!(skopeo.inspect(&remote).await["Digest"], json!(digest));
    }
    theirs.stop();
    let collected = Distribution::garbage_collect(root.path(), &[])
        .await
        .expect_success();
    assert!(
        collected.contains("0 blobs and 0 manifests eligible"),
        "{collected}"
    );
}
