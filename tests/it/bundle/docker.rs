//! What `docker save` writes, before version 25 and since.

use std::fs;

use super::*;
use crate::support::programs::Dockerd;

#[tokio::test]
async fn saved_images_become_local_ones() {
    let docker = Dockerd::without_mirror().await;
    let large = vec![7; 50_000];
    let shared: &[(&str, &[u8])] = &[("shared", &large)];
    let id = docker
        .build_layered_image("lab/one:1", &[shared, &[("one", b"1")]])
        .await;
    docker
        .build_layered_image("lab/two:2", &[shared, &[("two", b"2")]])
        .await;
    docker.tag("lab/one:1", "localhost:5000/third:3").await;
    docker.tag("lab/one:1", "python:3.12").await;
    let files = home();
    let save = async |name: &str, images: &[&str]| {
        let path = files.path().join(name);
        let arguments = [&["save", "--output", text(&path)], images].concat();
        docker.docker(&arguments).await.expect_success();
        path
    };
    let three = ["lab/one:1", "lab/two:2", "localhost:5000/third:3"];
    let file = save("three.tar", &three).await;
    let there = home();
    let said = import_all(there.path(), &file).await;
    for line in [
        "imported lab/one:1 (local)",
        "imported lab/two:2 (local)",
        "imported third:3 (local)",
    ] {
        assert!(said.stdout.contains(line), "{said:?}");
    }
    assert_eq!(assert_whole(there.path()), 3);

    // One word may be Docker Hub's.
    let file = save("python.tar", &["python:3.12"]).await;
    let said = import(there.path(), &[text(&file)]).await;
    assert!(
        !said.success && said.stderr.contains("refused python:3.12"),
        "{said:?}"
    );
    assert!(said.stderr.contains("--as name:tag"), "{said:?}");
    import(there.path(), &["--as", "mine/python:3.12", text(&file)])
        .await
        .expect_success();
    let many = save("many.tar", &three).await;
    let said = import(there.path(), &["--as", "x:1", text(&many)]).await;
    assert!(
        !said.success && said.stderr.contains("--as names one image"),
        "{said:?}"
    );

    let larder = cut_off().on(there.path()).start().await;
    docker.remove_image(&id).await;
    for name in ["lab/one:1", "mine/python:3.12", "third:3"] {
        let name = format!("{}/{name}", larder.address());
        docker.pull(&name).await;
        assert_eq!(docker.image_id(&name).await, id, "the same image");
    }
    larder.finish().await;
}

/// Newer dockers write an image layout, with manifests of the OCI and the old list beside them.
#[tokio::test]
async fn archives_of_newer_dockers_become_local_images_too() {
    let image = Image::random(5, &[3_000, 4_000]).oci();
    let named = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let layers: Vec<String> = image
        .layer_digests()
        .iter()
        .map(|it| blob_entry(it))
        .collect();
    let saved = json!([{
        "Config": blob_entry(&image.config_digest()),
        "RepoTags": ["lab/new:1"],
        "Layers": layers,
    }]);
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": image.media_type(),
        "digest": image.digest(),
        "size": image.manifest_bytes().len(),
        "annotations": {
            "io.containerd.image.name": "docker.io/lab/new:1",
            "org.opencontainers.image.ref.name": "1",
        },
    }]});
    let mut entries = vec![named("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#)];
    entries.push((blob_entry(&image.digest()), image.manifest_bytes().to_vec()));
    let blobs = image.blobs();
    entries.extend(
        blobs
            .iter()
            .map(|(digest, bytes)| named(&blob_entry(digest), bytes)),
    );
    entries.push(named("index.json", index.to_string().as_bytes()));
    entries.push(named("manifest.json", saved.to_string().as_bytes()));
    let (files, there) = (home(), home());
    let file = files.path().join("new.tar");
    fs::write(&file, archive(&entries)).unwrap();
    let said = import_all(there.path(), &file).await;
    assert!(
        said.stdout.starts_with("imported lab/new:1 (local)"),
        "{said:?}"
    );
    let larder = cut_off().on(there.path()).start().await;
    pull(&larder, "lab/new", "1").await;
    let got = larder.get("/v2/lab/new/manifests/1").await;
    assert_eq!(got.body, image.manifest_bytes());
    larder.finish().await;
}

/// The links that docker wrote are followed; any other is refused, also in its archives.
#[tokio::test]
async fn only_dockers_own_links_are_followed() {
    let image = Image::random(6, &[3_000]);
    let id = |digit: char| digit.to_string().repeat(64);
    // Its layer unpacked, as the config knows it.
    let layer = {
        let (_, gzip) = &image.blobs()[1];
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        unpacked
    };
    let config = image.blobs()[0].1.to_vec();
    let with_link = |name: &str, target: &str| {
        let saved = json!([{ "Config": "config.json", "RepoTags": ["lab/a:1"], "Layers": [name] }]);
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        add("config.json", &config);
        add("manifest.json", saved.to_string().as_bytes());
        add(&format!("{}/layer.tar", id('a')), &layer);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, target).unwrap();
        archive.into_inner().unwrap()
    };
    let (there, link) = (home(), format!("{}/layer.tar", id('b')));
    let file = there.path().join("a.tar");
    for (name, target, is_sound) in [
        (link.as_str(), format!("../{}/layer.tar", id('a')), true),
        (&link, format!("../{}/layer.tar", id('c')), false),
        (&link, "../../../etc/passwd".to_owned(), false),
        (&link, "/etc/passwd".to_owned(), false),
        ("b/layer.tar", format!("../{}/layer.tar", id('a')), false),
    ] {
        fs::write(&file, with_link(name, &target)).unwrap();
        let root = there.path().join(if is_sound { "sound" } else { "bad" });
        let said = import(&root, &[text(&file)]).await;
        assert_eq!(said.success, is_sound, "{target}: {said:?}");
        if is_sound {
            assert_eq!(assert_whole(&root), 1);
        } else {
            assert!(said.stderr.contains("layer.tar"), "{said:?}");
            assert!(!root.exists());
        }
    }
}
