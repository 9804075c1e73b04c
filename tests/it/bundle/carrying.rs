//! From one larder to another.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::*;

#[tokio::test]
async fn images_are_what_they_were_at_the_other_end() {
    let carried = Carried::new().await;
    let (file, said) = carried
        .export("class.tar", &["library/app:1", "team/own:2"])
        .await;
    assert!(said.stderr.contains("exported docker.io/library/app:1"));
    assert!(!carried.path("class.tar.part").exists());
    // What must be read first stands first, and nothing stands twice.
    let entries = entries(&file);
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(&names[..3], ["oci-layout", "index.json", "manifest.json"]);
    let manifests = [mirrored(), pushed()].map(|image| blob_entry(&image.digest()));
    assert_eq!(&names[3..5], manifests);
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    let index = index_of(&file);
    let of = |at: usize, key: &str| index["manifests"][at]["annotations"][key].clone();
    for (at, full, ours, origin) in [
        (
            0,
            "docker.io/library/app:1",
            "docker.io/library/app",
            "mirror",
        ),
        (1, "docker.io/team/own:2", "team/own", "local"),
    ] {
        assert_eq!(of(at, "io.containerd.image.name"), full);
        assert_eq!(of(at, "dev.larder.repository"), ours);
        assert_eq!(of(at, "dev.larder.origin"), origin);
    }
    assert_eq!(of(1, "org.opencontainers.image.ref.name"), "team/own:2");
    assert_eq!(of(1, "dev.larder.checked"), json!(null));

    let there = home();
    let said = import_all(there.path(), &file).await;
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(
        lines[0], "imported docker.io/library/app:1 (mirror)",
        "{said:?}"
    );
    assert!(
        lines[1].starts_with("imported team/own:2 (local)"),
        "{said:?}"
    );
    // A name that hides one of Docker Hub's is said to.
    assert!(
        lines[1].contains("instead of docker.io/team/own"),
        "{said:?}"
    );
    assert_eq!(assert_whole(there.path()), 2);
    let record = "docker/registry/v2/repositories/docker.io/library/app/_mirror/tags/1";
    let [here, copied] = [carried.larder.root(), there.path()]
        .map(|root| fs::read_to_string(root.join(record)).unwrap());
    assert_eq!(here, copied, "when it was checked");
    let again = import_all(there.path(), &file).await;
    let lines: Vec<&str> = again.stdout.lines().collect();
    assert_eq!(
        lines[0], "unchanged docker.io/library/app:1 (mirror): all of it was here",
        "{again:?}"
    );
    assert!(!again.stdout.contains("imported"), "{again:?}");

    let larder = cut_off().on(there.path()).start().await;
    for (name, tag, image) in [
        ("library/app", "1", mirrored()),
        ("docker.io/library/app", "1", mirrored()),
        ("team/own", "2", pushed()),
    ] {
        pull(&larder, name, tag).await;
        let got = larder.get(&format!("/v2/{name}/manifests/{tag}")).await;
        assert_eq!(got.body, image.manifest_bytes());
        assert_eq!(got.header("content-type"), image.media_type());
    }
    larder.finish().await;
    carried.larder.finish().await;
}

#[tokio::test]
async fn importing_again_writes_nothing() {
    let carried = Carried::new().await;
    let (file, _) = carried.export("all.tar", &["--all"]).await;
    let there = home();
    import_all(there.path(), &file).await;
    let inodes = || {
        let files = tree::files(&there.path().join("docker"));
        let inode = |path: PathBuf| (fs::metadata(&path).unwrap().ino(), path);
        files.into_iter().map(inode).collect::<Vec<_>>()
    };
    let before = inodes();
    let said = import_all(there.path(), &file).await;
    assert!(
        said.stderr
            .contains("0 blobs stored (0 B), 5 were here already"),
        "{said:?}"
    );
    assert_eq!(inodes(), before);
    carried.larder.finish().await;
}

#[tokio::test]
async fn an_index_stays_whole_when_only_a_platform_goes() {
    let carried = Carried::new().await;
    let children = [
        (Image::random(7, &[5_000]), "amd64"),
        (Image::random(8, &[6_000]), "arm64"),
    ];
    let index = Image::index(children.into()).oci();
    carried.mirror("library/many", "1", &index).await;
    let platform = ["--platform", "linux/amd64", "many:1", "app:1"];
    let (file, said) = carried.export("one.tar", &platform).await;
    assert!(
        said.stderr.contains(
            "exported docker.io/library/many:1 for linux/amd64 (its index also lists linux/arm64)"
        ),
        "{said:?}"
    );
    let names: Vec<String> = entries(&file).into_iter().map(|(name, _)| name).collect();
    let has = |digest: &str| names.contains(&blob_entry(digest));
    let [amd64, arm64] = [&index.children()[0], &index.children()[1]];
    assert!(has(&index.digest()) && has(&amd64.digest()) && has(&amd64.layer_digests()[0]));
    assert!(!has(&arm64.digest()) && !has(&arm64.layer_digests()[0]));

    let there = home();
    let said = import_all(there.path(), &file).await;
    assert!(
        said.stdout
            .contains("1 that its index lists are not in the file")
    );
    let larder = cut_off().on(there.path()).start().await;
    let got = larder.get("/v2/library/many/manifests/1").await;
    assert_eq!(got.body, index.manifest_bytes());
    pull(&larder, "library/many", &amd64.digest()).await;
    larder.finish().await;

    for image in ["many", "app"] {
        let arguments = ["--platform", "linux/s390x", &format!("{image}:1")];
        let said = carried.try_export("none.tar", &arguments).await;
        let says = format!("docker.io/library/{image}:1 is not for linux/s390x");
        assert!(!said.success && said.stderr.contains(&says), "{said:?}");
    }
    assert!(!carried.path("none.tar").exists() && !carried.path("none.tar.part").exists());
    carried.larder.finish().await;
}

#[tokio::test]
async fn what_was_never_pulled_stays_out_or_is_named() {
    let carried = Carried::new().await;
    let children = [
        (Image::random(7, &[5_000]), "amd64"),
        (Image::random(8, &[6_000]), "arm64"),
    ];
    let index = Image::index(children.into());
    carried.hub.push("library/many", "1", &index);
    carried.larder.get("/v2/library/many/manifests/1").await;
    let said = carried.try_export("many.tar", &["many:1"]).await;
    assert!(!said.success, "{said:?}");
    assert!(
        said.stderr
            .contains("docker.io/library/many:1 is not wholly here"),
        "{said:?}"
    );
    // All means what can be exported.
    let (_, said) = carried.export("all.tar", &["--all"]).await;
    assert!(
        said.stderr.contains("left out: docker.io/library/many:1"),
        "{said:?}"
    );
    assert!(said.stderr.contains("2 images"), "{said:?}");
    // One of its platforms was pulled.
    pull(
        &carried.larder,
        "library/many",
        &index.children()[0].digest(),
    )
    .await;
    let (_, said) = carried.export("some.tar", &["many:1"]).await;
    assert!(
        said.stderr
            .contains("for linux/amd64 (its index also lists linux/arm64)")
    );
    let said = carried
        .try_export("arm.tar", &["--platform", "linux/arm64", "many:1"])
        .await;
    assert!(
        !said.success && said.stderr.contains("is missing for linux/arm64"),
        "{said:?}"
    );
    let said = carried.try_export("no.tar", &["ghost:1"]).await;
    assert!(
        !said.success
            && said
                .stderr
                .contains("docker.io/library/ghost:1 is not in the store")
    );
    carried.larder.finish().await;
}

#[tokio::test]
async fn only_what_an_earlier_bundle_lacks_goes_into_the_next() {
    let carried = Carried::new().await;
    let (first, _) = carried.export("first.tar", &["--all"]).await;
    carried
        .larder
        .push("team/more", "1", &Image::random(5, &[9_000]))
        .await;
    let (second, said) = carried
        .export("second.tar", &["--all", "--since", text(&first)])
        .await;
    assert!(
        said.stderr.contains("5 blobs are in the bundle before it"),
        "{said:?}"
    );
    let index = index_of(&second);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3, "whole");
    let old = entries(&first)
        .into_iter()
        .find(|(name, _)| name == "index.json");
    assert_eq!(
        index["annotations"]["dev.larder.since"],
        sha256(&old.unwrap().1)
    );
    assert!(fs::metadata(&second).unwrap().len() < 40_000);

    let there = home();
    let said = import(there.path(), &[text(&second)]).await;
    assert!(
        !said.success && said.stdout.contains("imported team/more:1"),
        "{said:?}"
    );
    assert!(
        said.stderr.contains("refused docker.io/library/app:1"),
        "{said:?}"
    );
    assert!(
        said.stderr
            .contains("made with --since, so import the bundle before it first")
    );
    assert_eq!(assert_whole(there.path()), 1);
    import_all(there.path(), &first).await;
    import_all(there.path(), &second).await;
    assert_eq!(assert_whole(there.path()), 3);

    // What the file leaves to the store is looked at before it is relied on.
    let other = home();
    import_all(other.path(), &first).await;
    for gone in ["repositories/team", "repositories/docker.io"] {
        fs::remove_dir_all(other.path().join("docker/registry/v2").join(gone)).unwrap();
    }
    let layer = mirrored().layer_digests()[1].clone();
    let (_, hex) = layer.split_once(':').unwrap();
    let data = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let mut bytes = fs::read(other.path().join(&data)).unwrap();
    bytes[100_000] ^= 1;
    fs::write(other.path().join(&data), bytes).unwrap();
    let said = import(other.path(), &[text(&second)]).await;
    assert!(
        !said.success && said.stderr.contains("damaged in the store"),
        "{said:?}"
    );
    assert!(said.stdout.contains("imported team/own:2"), "{said:?}");
    carried.larder.finish().await;
}

#[tokio::test]
async fn a_file_is_written_whole_or_not_at_all() {
    let carried = Carried::new().await;
    let (file, _) = carried.export("a.tar", &["app:1"]).await;
    let before = fs::read(&file).unwrap();
    let said = carried.try_export("a.tar", &["team/own:2"]).await;
    assert!(
        !said.success && said.stderr.contains("--force replaces it"),
        "{said:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), before);
    // Damaged content does not travel, and takes nothing with it.
    let layer = pushed().layer_digests()[0].clone();
    let (_, hex) = layer.split_once(':').unwrap();
    let data = carried
        .larder
        .tree()
        .join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
    let sound = fs::read(&data).unwrap();
    let mut bytes = sound.clone();
    bytes[50_000] ^= 1;
    fs::write(&data, bytes).unwrap();
    let said = carried
        .try_export("a.tar", &["--force", "app:1", "team/own:2"])
        .await;
    assert!(!said.success, "{said:?}");
    assert!(
        said.stderr.contains(&format!(
            "team/own:2: the stored content of {layer} is damaged"
        )),
        "{said:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(!carried.path("a.tar.part").exists());
    fs::write(&data, sound).unwrap();
    carried.export("a.tar", &["--force", "team/own:2"]).await;
    assert_ne!(fs::read(&file).unwrap(), before);
    // Into a pipe it is the same.
    let (mut command, _home) = carried
        .larder
        .tool_command(&["export", "-o", "-", "team/own:2"]);
    let piped = command.output().unwrap();
    assert!(piped.status.success());
    assert_eq!(piped.stdout, fs::read(&file).unwrap());
    carried.larder.finish().await;
}

#[tokio::test]
async fn what_is_newer_here_and_what_was_pushed_here_stays() {
    let carried = Carried::new().await;
    let (file, _) = carried.export("old.tar", &["--all"]).await;
    let there = home();
    let newer = Image::random(30, &[4_000]);
    let hub = Hub::start().await;
    hub.push("library/app", "1", &newer);
    let larder = Options::mirror_of(&hub).on(there.path()).start().await;
    larder.push("team/own", "2", &newer).await;
    pull(&larder, "library/app", "1").await;
    let said = larder.tool(&["import", text(&file)]).await;
    assert!(!said.success, "{said:?}");
    assert!(
        said.stdout.contains("kept docker.io/library/app:1"),
        "{said:?}"
    );
    assert!(
        said.stderr.contains(&format!(
            "refused team/own:2: the tag is here and names {}: --force replaces it",
            newer.digest()
        )),
        "{said:?}"
    );
    for name in ["library/app", "team/own"] {
        let tag = if name == "team/own" { "2" } else { "1" };
        let got = larder.head(&format!("/v2/{name}/manifests/{tag}")).await;
        assert_eq!(got.header("docker-content-digest"), newer.digest());
    }
    larder
        .tool(&["import", "--force", text(&file)])
        .await
        .expect_success();
    let got = larder.head("/v2/team/own/manifests/2").await;
    assert_eq!(got.header("docker-content-digest"), pushed().digest());
    // An older tag of a mirror gives way to a newer one by itself.
    let (again, _) = carried.export("again.tar", &["app:1"]).await;
    let index = "docker/registry/v2/repositories/docker.io/library/app/_mirror/tags/1";
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let micros = long_ago
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_micros();
    let other = home();
    let stale = Options::mirror_of(&hub).on(other.path()).start().await;
    pull(&stale, "library/app", "1").await;
    let record = json!({ "digest": newer.digest(), "checked": u64::try_from(micros).unwrap() });
    fs::write(other.path().join(index), record.to_string()).unwrap();
    stale.tool(&["import", text(&again)]).await.expect_success();
    assert_whole(other.path());
    let tag =
        "docker/registry/v2/repositories/docker.io/library/app/_manifests/tags/1/current/link";
    assert_eq!(
        fs::read_to_string(other.path().join(tag)).unwrap(),
        mirrored().digest()
    );
    for larder in [stale, larder, carried.larder] {
        larder.finish().await;
    }
}

#[tokio::test]
async fn names_that_belong_to_others_are_refused_with_what_to_do() {
    let plain = Options::registry().start().await;
    let image = Image::random(3, &[5_000]);
    plain.push("ghcr.io/org/app", "1", &image).await;
    plain.push("library/nginx", "1", &image).await;
    let files = home();
    let file = files.path().join("a.tar");
    plain
        .tool(&["export", "-o", text(&file), "library/nginx:1"])
        .await
        .expect_success();
    let there = home();
    let said = import(there.path(), &[text(&file)]).await;
    assert!(
        !said.success && said.stderr.contains("refused library/nginx:1"),
        "{said:?}"
    );
    assert!(said.stderr.contains("--as name:tag"), "{said:?}");
    import(there.path(), &["--as", "my/nginx:1", text(&file)])
        .await
        .expect_success();
    assert_eq!(assert_whole(there.path()), 1);
    // Under an upstream's name it is that upstream's.
    let hub = Hub::start().await;
    let both = file.with_file_name("b.tar");
    plain
        .tool(&["export", "-o", text(&both), "ghcr.io/org/app:1"])
        .await
        .expect_success();
    let larder = Options::registry().upstream("ghcr.io", &hub).start().await;
    let said = larder.tool(&["import", text(&both)]).await.expect_success();
    assert_eq!(said, "imported ghcr.io/org/app:1 (mirror)\n");
    assert!(
        larder
            .tree()
            .join("repositories/ghcr.io/org/app/_mirror")
            .is_dir()
    );
    larder.finish().await;
    plain.finish().await;
}

#[tokio::test]
async fn an_image_that_goes_while_it_is_exported_is_named() {
    let carried = Carried::new().await;
    let large = Image::random(11, &[9_000_000, 9_000_000, 9_000_000]);
    carried.larder.push("team/large", "1", &large).await;
    let path = carried.path("large.tar");
    let arguments = ["export", "-o", text(&path), "team/large:1"];
    let (mut command, _home) = carried.larder.tool_command(&arguments);
    let mut export = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let part = carried.path("large.tar.part");
    while !part.exists() {
        assert!(export.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_micros(100));
    }
    let links = carried
        .larder
        .tree()
        .join("repositories/team/large/_layers");
    fs::remove_dir_all(&links).unwrap();
    let output = export.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It may have had all of them open already.
    if !output.status.success() {
        assert!(
            said.contains("team/large:1 was removed while it was exported"),
            "{said}"
        );
        assert!(!path.exists());
    }
    assert!(!part.exists());
}
