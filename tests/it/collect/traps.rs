//! What Distribution's collector is known to get wrong, and what nobody may: each on a tree that
//! nobody serves meanwhile.

use std::fs;

use serde_json::json;

use super::{age, contents, data, size};
use crate::registry::{
    OCI_INDEX, OCI_MANIFEST, assert_pullable, blob, close_upload, delete, manifest_of, open_upload,
    patch, push_small,
};
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};

/// Collects with nobody serving, and serves again.
async fn collect(larder: &mut Larder, arguments: &[&str]) -> String {
    larder.kill().await;
    let said = larder.garbage_collect(arguments).await.expect_success();
    larder.start_again().await;
    said
}

#[tokio::test]
async fn what_is_deleted_is_given_back_to_the_disk() {
    let mut larder = Options::registry().start().await;
    let kept = Image::random(1, &[30_000, 3_000]);
    larder.push("team/app", "kept", &kept).await;
    let before = size(&larder);
    let gone = Image::random(2, &[100_000]);
    larder.push("team/app", "gone", &gone).await;
    larder.push("team/other", "gone", &gone).await;
    let path = |name: &str| format!("/v2/{name}/manifests/{}", gone.digest());
    assert_eq!(delete(&larder, &path("team/app")).await.status, 202);
    // What another repository still has stays.
    collect(&mut larder, &[]).await;
    assert_pullable(&larder, "team/other", "gone", &gone).await;
    assert!(size(&larder) > before + 100_000);

    assert_eq!(delete(&larder, &path("team/other")).await.status, 202);
    larder.kill().await;
    let with_garbage = contents(&larder);
    let foretold = larder.garbage_collect(&["--dry-run"]).await;
    assert_eq!(contents(&larder), with_garbage);
    let said = larder.garbage_collect(&[]).await;
    assert_eq!(said.stdout, foretold.stdout);
    assert!(
        foretold
            .stderr
            .contains("would remove 0 manifests, 2 layer links and 3 blobs"),
        "{foretold:?}"
    );
    let freed = format!("({} bytes)", gone.total_size());
    assert!(said.stderr.contains(&freed), "{said:?}");
    assert_eq!(size(&larder), before);
    larder.start_again().await;
    assert_pullable(&larder, "team/app", "kept", &kept).await;
    // Pushed again it is all there.
    larder.push("team/app", "gone", &gone).await;
    assert_pullable(&larder, "team/app", "gone", &gone).await;
    larder.finish().await;
}

#[tokio::test]
async fn quiet_is_quiet() {
    let mut larder = Options::registry().start().await;
    larder.push_blob("a", b"x").await;
    larder.kill().await;
    let said = larder.garbage_collect(&["-q"]).await;
    assert_eq!((said.success, &*said.stdout, &*said.stderr), (true, "", ""));
    assert!(!data(&larder, &sha256(b"x")).exists());
    larder.start_again().await;
    larder.finish().await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_clean() {
    let mut larder = Options::registry().start().await;
    larder.kill().await;
    fs::rename(larder.root(), larder.root().with_extension("moved")).unwrap();
    let said = larder.garbage_collect(&[]).await;
    assert!(!said.success && said.stdout.is_empty());
    assert!(
        said.stderr.contains("failed to garbage collect: "),
        "{said:?}"
    );
    assert!(!larder.root().exists());
    fs::rename(larder.root().with_extension("moved"), larder.root()).unwrap();
    larder.start_again().await;
    larder.finish().await;
}

/// Distribution v3 gives up on it.
#[tokio::test]
async fn a_repository_with_an_empty_index_alone_is_no_obstacle() {
    let mut larder = Options::registry().start().await;
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    let pushed = larder
        .put_manifest("empty", "v1", OCI_INDEX, index.clone())
        .await;
    assert_eq!(pushed.status, 201);
    assert!(!larder.tree().join("repositories/empty/_layers").exists());
    larder.push_blob("blobs/only", b"x").await;
    let said = collect(&mut larder, &["-m"]).await;
    assert!(
        said.contains("blobs/only: layer link eligible for deletion: "),
        "{said}"
    );
    assert_eq!(
        larder.get("/v2/empty/manifests/v1").await.body,
        index.as_bytes()
    );
    larder.finish().await;
}

/// Distribution 2 deletes the children, v3 the signatures.
#[tokio::test]
async fn without_tags_stay_the_children_of_an_index_and_what_is_attached_to_it() {
    let mut larder = Options::registry().start().await;
    let image = |seed| Image::random(seed, &[3_000]);
    let index = Image::index(vec![(image(1), "amd64"), (image(2), "arm64")]).oci();
    larder.push("a", "v1", &index).await;
    // A signature of the index, another of one of its images, and a remark on the signature.
    let config = larder.push_blob("a", b"{}").await;
    let mut attached: Vec<Vec<u8>> = Vec::new();
    let child = index.children()[0].digest();
    for (at, subject) in [Some(index.digest()), Some(child), None]
        .into_iter()
        .enumerate()
    {
        let subject = subject.unwrap_or_else(|| sha256(attached.last().unwrap()));
        let layer = larder
            .push_blob("a", format!("signature {at}").as_bytes())
            .await;
        let mut manifest = manifest_of(&[&config, &layer]);
        manifest["subject"] = json!({"mediaType": OCI_INDEX, "size": 1, "digest": subject});
        let bytes = manifest.to_string().into_bytes();
        let digest = sha256(&bytes);
        let pushed = larder
            .put_manifest("a", &digest, OCI_MANIFEST, bytes.clone())
            .await;
        assert_eq!(pushed.status, 201);
        attached.push(bytes);
    }
    let gone = image(3);
    larder.push("a", &gone.digest(), &gone).await;
    // It was tagged once.
    larder.push("a", "v2", &gone).await;
    larder.push("a", "v2", &image(1)).await;

    let said = collect(&mut larder, &["--delete-untagged"]).await;
    let line = format!(
        "manifest eligible for deletion: {{a {} [v2]}}\n",
        gone.digest()
    );
    assert!(said.contains(&line), "{said}");
    assert_eq!(said.matches("manifest eligible").count(), 1);
    assert_pullable(&larder, "a", "v1", &index).await;
    for manifest in attached {
        let path = format!("/v2/a/manifests/{}", sha256(&manifest));
        assert_eq!(larder.get(&path).await.body, manifest);
    }
    let path = format!("/v2/a/manifests/{}", gone.digest());
    assert_eq!(larder.get(&path).await.status, 404);
    let hex = &gone.digest()[7..];
    let history = format!("repositories/a/_manifests/tags/v2/index/sha256/{hex}");
    assert!(!larder.tree().join(history).exists());
    // With the index goes everything that was only there for it.
    assert_eq!(delete(&larder, "/v2/a/manifests/v1").await.status, 202);
    let said = collect(&mut larder, &["-m"]).await;
    assert_eq!(said.matches("manifest eligible").count(), 6, "{said}");
    assert_pullable(&larder, "a", "v2", &image(1)).await;
    larder.finish().await;
}

/// Distribution deletes what is stored under another hash, and then breaks off.
#[tokio::test]
async fn other_hashes_are_understood() {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    let sha512 = |bytes: &[u8]| {
        let hash = sha2::Sha512::digest(bytes);
        hash.iter().fold("sha512:".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let mut larder = Options::registry().start().await;
    let layer = sha512(b"layer");
    let location = open_upload(&larder, "a").await;
    assert_eq!(
        close_upload(&larder, &location, &layer, b"layer")
            .await
            .status,
        201
    );
    let manifest = manifest_of(&[&layer]).to_string().into_bytes();
    let digest = sha512(&manifest);
    let pushed = larder
        .put_manifest("a", &digest, OCI_MANIFEST, manifest.clone())
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    // As Distribution stores the same: the data under its sha256, and two links to it.
    let aliased = larder.push_blob("b", b"aliased").await;
    let alias = sha512(b"aliased");
    let links = larder.tree().join("repositories/b/_layers");
    let link = links.join(alias.replace(':', "/"));
    fs::create_dir_all(&link).unwrap();
    fs::write(link.join("link"), &aliased).unwrap();
    let other = manifest_of(&[&alias]).to_string();
    assert_eq!(
        larder
            .put_manifest("b", "v1", OCI_MANIFEST, other)
            .await
            .status,
        201
    );

    let said = collect(&mut larder, &[]).await;
    assert!(said.contains(" 0 blobs and 0 manifests eligible"), "{said}");
    assert!(!said.contains("layer link eligible"), "{said}");
    assert_eq!(blob(&larder, "a", &layer).await, b"layer");
    assert_eq!(
        larder.get(&format!("/v2/a/manifests/{digest}")).await.body,
        manifest
    );
    assert_eq!(blob(&larder, "b", &alias).await, b"aliased");
    // And given back when it is nobody's.
    assert_eq!(
        delete(&larder, &format!("/v2/a/manifests/{digest}"))
            .await
            .status,
        202
    );
    collect(&mut larder, &[]).await;
    assert!(!data(&larder, &layer).exists() && !data(&larder, &digest).exists());
    larder.finish().await;
}

/// Distribution breaks off at the first of them.
#[tokio::test]
async fn a_manifest_that_cannot_be_read_keeps_its_repository_and_no_other() {
    let mut larder = Options::registry().start().await;
    let [flipped, lost, other] = ["flipped", "lost", "other"];
    for name in [flipped, lost, other] {
        push_small(&larder, name, "v1", name).await;
        larder
            .push_blob(name, format!("garbage of {name}").as_bytes())
            .await;
    }
    let digest = |name: &str| {
        sha256(
            manifest_of(&[&sha256(name.as_bytes())])
                .to_string()
                .as_bytes(),
        )
    };
    let whole = fs::read(data(&larder, &digest(flipped))).unwrap();
    fs::write(data(&larder, &digest(flipped)), b"{ torn").unwrap();
    fs::remove_file(data(&larder, &digest(lost))).unwrap();
    larder.kill().await;
    let said = larder.garbage_collect(&["-m"]).await;
    assert!(said.success, "{said:?}");
    for name in [flipped, lost] {
        let reported = format!("{name}: the manifest {} cannot be read", digest(name));
        assert!(said.stderr.contains(&reported), "{said:?}");
        assert!(data(&larder, &sha256(format!("garbage of {name}").as_bytes())).exists());
        assert!(data(&larder, &sha256(name.as_bytes())).exists());
    }
    assert!(
        said.stderr.contains("left 2 repositories alone"),
        "{said:?}"
    );
    assert!(!data(&larder, &sha256(b"garbage of other")).exists());
    fs::write(data(&larder, &digest(flipped)), whole).unwrap();
    larder.start_again().await;
    push_small(&larder, lost, "v1", lost).await;
    collect(&mut larder, &[]).await;
    assert!(!data(&larder, &sha256(b"garbage of lost")).exists());
    for name in [flipped, lost, other] {
        assert_eq!(
            larder.get(&format!("/v2/{name}/manifests/v1")).await.status,
            200
        );
    }
    larder.finish().await;
}

#[tokio::test]
async fn an_upload_under_way_is_no_garbage() {
    let mut larder = Options::registry().start().await;
    let location = open_upload(&larder, "a").await;
    let answer = patch(&larder, &location, b"first half, ").await;
    age(larder.root());
    collect(&mut larder, &[]).await;
    let digest = sha256(b"first half, second half");
    let closed = close_upload(&larder, answer.header("location"), &digest, b"second half").await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(
        blob(&larder, "a", &digest).await,
        b"first half, second half"
    );
    larder.finish().await;
}
