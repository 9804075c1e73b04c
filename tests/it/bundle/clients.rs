//! What other programs make of bundles, and larder of their archives.

use super::*;
use crate::support::programs::{Containerd, Dockerd, Skopeo};

#[tokio::test]
async fn dockerd_and_skopeo_pull_what_was_imported_with_no_hub() {
    let carried = Carried::new().await;
    let (file, _) = carried.export("class.tar", &["--all"]).await;
    let there = home();
    import_all(there.path(), &file).await;
    carried.hub.down().await;
    let larder = cut_off().on(there.path()).start().await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    docker.pull("app:1").await;
    assert_eq!(docker.image_id("app:1").await, mirrored().config_digest());
    let own = format!("{}/team/own:2", larder.address());
    docker.pull(&own).await;
    assert_eq!(docker.image_id(&own).await, pushed().config_digest());
    let skopeo = Skopeo::new();
    let raw = skopeo.raw_manifest(&format!("docker://{own}")).await;
    assert_eq!(raw.as_bytes(), pushed().manifest_bytes());
    larder.finish().await;
    carried.larder.finish().await;
}

#[tokio::test]
async fn other_programs_read_a_bundle() {
    let carried = Carried::new().await;
    let children = [
        (Image::random(7, &[5_000]), "amd64"),
        (Image::random(8, &[6_000]), "arm64"),
    ];
    let index = Image::index(children.into()).oci();
    carried.mirror("library/many", "1", &index).await;
    let arguments = ["--platform", "linux/amd64", "app:1", "team/own:2", "many:1"];
    let (file, _) = carried.export("class.tar", &arguments).await;

    let skopeo = Skopeo::new();
    let file_text = text(&file);
    // Debian's skopeo finds no manifest of Docker's own type in a layout, but in the list for docker.
    for (form, name, image) in [
        ("docker", "docker.io/library/app:1", mirrored()),
        ("oci", "team/own:2", pushed()),
    ] {
        let copy = skopeo.path(form);
        let from = format!("{form}-archive:{file_text}:{name}");
        skopeo.copy(&from, &format!("dir:{}", text(&copy))).await;
        let manifest = std::fs::read(copy.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], image.config_digest());
    }

    let containerd = Containerd::with_mirror("http://127.0.0.1:9").await;
    let said = containerd
        .ctr(&[
            "images",
            "import",
            "--snapshotter",
            "native",
            "--platform",
            "linux/amd64",
            file_text,
        ])
        .await;
    assert!(said.success, "{said:?}\n{}", containerd.log());
    for image in [mirrored(), pushed(), index.children()[0].clone()] {
        assert!(containerd.content_has(&image.layer_digests()[0]).await);
    }
    let names = containerd
        .ctr(&["images", "ls", "-q"])
        .await
        .expect_success();
    for name in [
        "docker.io/library/app:1",
        "docker.io/team/own:2",
        "docker.io/library/many:1",
    ] {
        assert!(names.lines().any(|line| line == name), "{names}");
    }

    let docker = Dockerd::without_mirror().await;
    docker
        .docker(&["load", "--input", file_text])
        .await
        .expect_success();
    assert_eq!(docker.image_id("app:1").await, mirrored().config_digest());
    assert_eq!(
        docker.image_id("team/own:2").await,
        pushed().config_digest()
    );
    assert_eq!(
        docker.image_id("many:1").await,
        index.children()[0].config_digest()
    );
    carried.larder.finish().await;
}

/// Its archives for docker have a symbolic link for each name that a layer used to have.
#[tokio::test]
async fn what_skopeo_and_buildah_write_for_docker_is_imported() {
    let carried = Carried::new().await;
    let skopeo = Skopeo::new();
    let there = home();
    let source = format!("docker://{}/team/own:2", carried.larder.address());
    let path = skopeo.path("saved.tar");
    let archive = format!("docker-archive:{}:lab/own:4", text(&path));
    skopeo.copy(&source, &archive).await;
    let said = import_all(there.path(), &path).await;
    assert!(
        said.stdout.starts_with("imported lab/own:4 (local)"),
        "{said:?}"
    );
    let larder = cut_off().on(there.path()).start().await;
    let docker = Dockerd::without_mirror().await;
    let name = format!("{}/lab/own:4", larder.address());
    docker.pull(&name).await;
    assert_eq!(docker.image_id(&name).await, pushed().config_digest());
    larder.finish().await;
    carried.larder.finish().await;
}

#[tokio::test]
async fn what_skopeo_writes_is_imported() {
    let carried = Carried::new().await;
    let skopeo = Skopeo::new();
    let there = home();
    let source = format!("docker://{}/team/own:2", carried.larder.address());
    for (name, reference) in [
        ("a.tar", ":lab/own:3"),
        ("b.tar", ":docker.io/library/own:3"),
        ("c.tar", ""),
        ("d.tar", ":3"),
    ] {
        let path = skopeo.path(name);
        skopeo
            .copy(&source, &format!("oci-archive:{}{reference}", text(&path)))
            .await;
    }
    let path = |name: &str| skopeo.path(name);
    let said = import_all(there.path(), &path("a.tar")).await;
    assert!(
        said.stdout.starts_with("imported lab/own:3 (local)"),
        "{said:?}"
    );
    let said = import_all(there.path(), &path("b.tar")).await;
    assert_eq!(said.stdout, "imported docker.io/library/own:3 (mirror)\n");
    for nameless in ["c.tar", "d.tar"] {
        let said = import(there.path(), &[text(&path(nameless))]).await;
        assert!(
            !said.success && said.stderr.contains("give it one with --as name:tag"),
            "{said:?}"
        );
        import(
            there.path(),
            &[
                "--as",
                &format!("own:{}", &nameless[..1]),
                text(&path(nameless)),
            ],
        )
        .await
        .expect_success();
    }
    let larder = cut_off().on(there.path()).start().await;
    for (name, tag) in [
        ("lab/own", "3"),
        ("library/own", "3"),
        ("own", "c"),
        ("own", "d"),
    ] {
        pull(&larder, name, tag).await;
        let got = larder.get(&format!("/v2/{name}/manifests/{tag}")).await;
        assert_eq!(got.body, pushed().manifest_bytes());
    }
    larder.finish().await;
    carried.larder.finish().await;
}
