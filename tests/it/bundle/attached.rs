//! What is attached to images travels with them: signatures, bills of materials, attestations.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::support::programs::{Answer, Skopeo};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const NAME: &str = "larder.attached.json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An artifact of this type that is attached to something, and its layer.
fn artifact(kind: &str, subject: Option<&str>, layer: &[u8]) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2 },
        "layers": [{ "mediaType": kind, "digest": sha256(layer), "size": layer.len() }],
    });
    if let Some(subject) = subject {
        manifest["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 });
    }
    manifest.to_string().into_bytes()
}

/// Attaches one to an image of a larder, as somebody does who pushes; says what its digest is.
async fn attach(larder: &Larder, name: &str, kind: &str, subject: &str) -> String {
    larder.push_blob(name, b"{}").await;
    let layer = format!("{kind} of {subject}");
    larder.push_blob(name, layer.as_bytes()).await;
    let bytes = artifact(kind, Some(subject), layer.as_bytes());
    put(larder, name, &sha256(&bytes), &bytes).await
}

async fn put(larder: &Larder, name: &str, reference: &str, bytes: &[u8]) -> String {
    let put = larder.put_manifest(name, reference, OCI_MANIFEST, bytes);
    let put = put.await;
    assert_eq!(put.status, 201, "{put:?}");
    sha256(bytes)
}

/// Signs as cosign does: under a tag that is made of the digest.
async fn sign(larder: &Larder, name: &str, subject: &str) -> String {
    let tag = format!("{}.sig", subject.replace(':', "-"));
    larder.push_blob(name, b"{}").await;
    larder.push_blob(name, b"a signature").await;
    put(
        larder,
        name,
        &tag,
        &artifact("a/cosign", None, b"a signature"),
    )
    .await;
    tag
}

/// The same at a hub.
fn attach_at(hub: &Hub, name: &str, kind: &str, subject: &str) -> String {
    hub.put_blob(name, "{}");
    let layer = format!("{kind} of {subject}");
    let bytes = artifact(kind, Some(subject), layer.as_bytes());
    hub.put_blob(name, layer);
    hub.put_manifest(name, None, OCI_MANIFEST, bytes)
}

async fn listed(larder: &Larder, name: &str, subject: &str) -> Answer {
    let path = format!("/v2/{name}/referrers/{subject}");
    larder.get(&path).await
}

fn digests(list: &Answer) -> Vec<String> {
    assert_eq!(list.status, 200, "{list:?}");
    let list = list.json();
    let entries = list["manifests"].as_array().expect("a list").iter();
    entries
        .map(|entry| entry["digest"].as_str().unwrap().to_owned())
        .collect()
}

fn names(path: &Path) -> Vec<String> {
    entries(path).into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn what_is_attached_to_a_pushed_image_goes_with_it() {
    let larder = Options::registry().start().await;
    let home = home();
    let image = pushed();
    larder.push("team/own", "2", &image).await;
    larder.push("team/own", "other", &mirrored()).await;
    let subject = image.digest();
    let sbom = attach(&larder, "team/own", "a/sbom", &subject).await;
    let attestation = attach(&larder, "team/own", "a/attestation", &sbom).await;
    let signature = attach(&larder, "team/own", "a/signature", &attestation).await;
    // Nobody goes on for ever.
    let too_far = attach(&larder, "team/own", "a/signature", &signature).await;
    let tag = sign(&larder, "team/own", &subject).await;
    let elsewhere = attach(&larder, "team/own", "a/sbom", &mirrored().digest()).await;

    let file = home.path().join("a.tar");
    let said = Said::of(
        larder
            .tool(&["export", "-o", text(&file), "team/own:2"])
            .await,
    );
    assert!(
        said.stderr
            .contains("exported team/own:2, and 4 attached to it (1 more are not"),
        "{said:?}"
    );
    let found = names(&file);
    let has = |digest: &str| found.contains(&blob_entry(digest));
    assert!([&sbom, &attestation, &signature].iter().all(|it| has(it)));
    assert!(!has(&too_far) && !has(&elsewhere));
    // To others it is a file with one image.
    assert_eq!(index_of(&file)["manifests"].as_array().unwrap().len(), 1);
    let skopeo = Skopeo::new();
    for (at, name) in [("a", ""), ("b", ":team/own:2")] {
        let copy = skopeo.path(at);
        let from = format!("oci-archive:{}{name}", text(&file));
        skopeo.copy(&from, &format!("dir:{}", text(&copy))).await;
    }

    let there = tempfile::tempdir().unwrap();
    let said = import_all(there.path(), &file).await;
    assert!(
        said.stdout.contains(&format!(
            "imported team/own@{sbom} (local, attached to {subject})"
        )),
        "{said:?}"
    );
    let other = cut_off().on(there.path()).start().await;
    assert_eq!(
        digests(&listed(&other, "team/own", &subject).await),
        std::slice::from_ref(&sbom)
    );
    assert_eq!(
        digests(&listed(&other, "team/own", &sbom).await),
        [attestation]
    );
    assert_eq!(
        listed(&other, "team/own", &subject).await.body,
        listed(&larder, "team/own", &subject).await.body
    );
    for reference in [&sbom, &signature, &tag] {
        pull(&other, "team/own", reference).await;
    }
    assert_eq!(assert_whole(there.path()), 2);
    let again = other.tool(&["import", text(&file)]).await.expect_success();
    assert!(!again.contains("imported"), "{again}");
    // What an image is called here, what is attached to it is called too.
    other
        .tool(&["import", "--as", "my/own:3", text(&file)])
        .await
        .expect_success();
    assert_eq!(digests(&listed(&other, "my/own", &subject).await), [sbom]);
    pull(&other, "my/own", &tag).await;
    let tags = other.get("/v2/my/own/tags/list").await.json();
    assert_eq!(tags["tags"], json!(["3", tag]));
    other.finish().await;
    larder.finish().await;
}

#[tokio::test]
async fn what_a_mirror_knows_to_be_attached_is_known_at_the_other_end() {
    let hub = Hub::builder().referrers(10).start().await;
    let larder = Options::mirror_of(&hub).start().await;
    let home = home();
    let subject = hub.push("library/app", "1", &mirrored());
    let bare = hub.push("library/bare", "1", &pushed());
    let [here, absent] =
        ["a/here", "a/absent"].map(|kind| attach_at(&hub, "library/app", kind, &subject));
    let tag = format!("{}.sig", subject.replace(':', "-"));
    hub.put_blob("library/app", "a signature");
    let cosign = artifact("a/cosign", None, b"a signature");
    hub.put_manifest("library/app", Some(&tag), OCI_MANIFEST, cosign);
    for (name, reference) in [("app", "1"), ("app", &here), ("app", &tag), ("bare", "1")] {
        pull(&larder, &format!("library/{name}"), reference).await;
    }
    let before = listed(&larder, "library/app", &subject).await;
    assert_eq!(digests(&before).len(), 2);
    assert!(digests(&listed(&larder, "library/bare", &bare).await).is_empty());

    let file = home.path().join("a.tar");
    let said = Said::of(
        larder
            .tool(&["export", "-o", text(&file), "app:1", "bare:1"])
            .await,
    );
    assert!(said.stderr.contains(
        "exported docker.io/library/app:1, and 2 attached to it (1 more are not, since they are not here)"
    ), "{said:?}");
    let there = tempfile::tempdir().unwrap();
    import_all(there.path(), &file).await;
    let list = format!(
        "docker/registry/v2/repositories/docker.io/library/app/_mirror/referrers/{}",
        subject.replace(':', "/")
    );
    let [was, is] = [larder.root(), there.path()]
        .map(|root| fs::metadata(root.join(&list)).unwrap().modified().unwrap());
    let apart = was.duration_since(is).expect("microseconds are cut");
    assert!(apart < std::time::Duration::from_micros(2), "{apart:?}");
    hub.down().await;
    let other = cut_off().on(there.path()).start().await;
    let after = listed(&other, "library/app", &subject).await;
    assert_eq!(after.body, before.body);
    // That there is nothing is known, too.
    assert!(digests(&listed(&other, "library/bare", &bare).await).is_empty());
    for reference in [&here, &tag] {
        pull(&other, "library/app", reference).await;
    }
    let path = format!("/v2/library/app/manifests/{absent}");
    assert_ne!(other.get(&path).await.status, 200);
    let marker = other
        .tree()
        .join("repositories/docker.io/library/app/_mirror");
    assert!(marker.is_dir());
    other.finish().await;

    // A list that was made later stays.
    let root = there.path().join(&list);
    let newer = br#"{"schemaVersion":2,"manifests":[]}"#;
    fs::write(&root, newer).unwrap();
    let inode = fs::metadata(&root).unwrap().ino();
    import_all(there.path(), &file).await;
    assert_eq!(fs::read(&root).unwrap(), newer);
    assert_eq!(fs::metadata(&root).unwrap().ino(), inode);
    larder.finish().await;
}

#[tokio::test]
async fn what_is_attached_counts_for_the_bundle_after_it() {
    let carried = Carried::new().await;
    let subject = pushed().digest();
    let first_one = attach(&carried.larder, "team/own", "a/first", &subject).await;
    let (first, _) = carried.export("first.tar", &["--all"]).await;
    let second_one = attach(&carried.larder, "team/own", "a/second", &subject).await;
    let (second, said) = carried
        .export("second.tar", &["--all", "--since", text(&first)])
        .await;
    // The five of the images, the empty config, and the layer of the first.
    assert!(
        said.stderr.contains("7 blobs are in the bundle before it"),
        "{said:?}"
    );
    let found = names(&second);
    let has = |digest: &str| found.contains(&blob_entry(digest));
    let layer = |kind: &str| sha256(format!("{kind} of {subject}").as_bytes());
    assert!(has(&first_one) && has(&second_one));
    assert!(!has(&layer("a/first")) && has(&layer("a/second")));

    let there = home();
    let said = import(there.path(), &[text(&second)]).await;
    assert!(
        !said.success && !said.stdout.contains("attached"),
        "{said:?}"
    );
    import_all(there.path(), &first).await;
    import_all(there.path(), &second).await;
    let other = cut_off().on(there.path()).start().await;
    let mut expected = [first_one, second_one];
    expected.sort_unstable();
    assert_eq!(
        digests(&listed(&other, "team/own", &subject).await),
        expected
    );
    for reference in &expected {
        pull(&other, "team/own", reference).await;
    }
    other.finish().await;
    carried.larder.finish().await;
}

#[tokio::test]
async fn only_what_belongs_to_what_goes_is_taken_and_each_thing_once() {
    let larder = Options::registry().start().await;
    let home = home();
    let children = [
        (Image::random(7, &[5_000]), "amd64"),
        (Image::random(8, &[6_000]), "arm64"),
    ];
    let index = Image::index(children.into()).oci();
    for tag in ["1", "latest"] {
        larder.push("team/many", tag, &index).await;
    }
    let [amd64, arm64] = [&index.children()[0], &index.children()[1]].map(Image::digest);
    let mut attached = Vec::new();
    for subject in [&index.digest(), &amd64, &arm64] {
        attached.push(attach(&larder, "team/many", "a/sbom", subject).await);
    }
    let tag = sign(&larder, "team/many", &index.digest()).await;
    // A list as clients make it, of which one is not whole.
    let list = amd64.replace(':', "-");
    let entry = |digest: &str| json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": 1 });
    let bytes = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(&attached[1])],
    });
    let made = larder.put_manifest("team/many", &list, OCI_INDEX, bytes.to_string());
    assert_eq!(made.await.status, 201);

    let file = home.path().join("one.tar");
    let platform = [
        "--platform",
        "linux/amd64",
        "team/many:1",
        "team/many:latest",
    ];
    let arguments = [&["export", "-o", text(&file)], &platform[..]].concat();
    Said::of(larder.tool(&arguments).await);
    let found = names(&file);
    let has = |digest: &str| found.contains(&blob_entry(digest));
    assert!(has(&attached[0]) && has(&attached[1]) && !has(&attached[2]));
    let mut unique = found.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), found.len());
    let there = tempfile::tempdir().unwrap();
    let said = import_all(there.path(), &file).await;
    // Two images, two by their subjects, and two tags.
    assert_eq!(said.stdout.lines().count(), 6, "{said:?}");
    assert_eq!(assert_whole(there.path()), 4);

    // All tags: the signature's is not taken for an image.
    let all = home.path().join("all.tar");
    Said::of(larder.tool(&["export", "-o", text(&all), "--all"]).await);
    assert_eq!(index_of(&all)["manifests"].as_array().unwrap().len(), 2);
    let there = tempfile::tempdir().unwrap();
    import_all(there.path(), &all).await;
    let other = cut_off().on(there.path()).start().await;
    for (subject, expected) in [&index.digest(), &amd64, &arm64].into_iter().zip(&attached) {
        assert_eq!(
            digests(&listed(&other, "team/many", subject).await),
            std::slice::from_ref(expected)
        );
    }
    for reference in [&tag, &list] {
        pull(&other, "team/many", reference).await;
    }
    other.finish().await;

    // What is not whole stays behind, and is said to.
    let layer = sha256(format!("a/sbom of {amd64}").as_bytes()).replace(':', "/");
    let link = larder
        .tree()
        .join("repositories/team/many/_layers")
        .join(layer);
    fs::remove_dir_all(link).unwrap();
    let less = home.path().join("less.tar");
    let said = Said::of(
        larder
            .tool(&["export", "-o", text(&less), "team/many:1"])
            .await,
    );
    assert!(
        said.stderr.contains("3 attached to it (2 more are not"),
        "{said:?}"
    );
    larder.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_what_is_attached_has_the_whole_file_refused() {
    let carried = Carried::new().await;
    attach(&carried.larder, "team/own", "a/sbom", &pushed().digest()).await;
    let (file, _) = carried.export("a.tar", &["--all"]).await;
    let sound = entries(&file);
    let at = sound
        .iter()
        .position(|(name, _)| name == NAME)
        .expect("it has one");
    let json: Value = serde_json::from_slice(&sound[at].1).unwrap();
    let change = |path: &str, value: Value| {
        let mut json = json.clone();
        *json.pointer_mut(path).expect(path) = value;
        json.to_string()
    };
    let list = |repository: &str, subject: &str, index: Value| {
        let list =
            json!({ "repository": repository, "subject": subject, "listed": "", "index": index });
        let mut json = json.clone();
        json["lists"] = json!([list]);
        json.to_string()
    };
    let subject = pushed().digest();
    let sound_list = json!({ "manifests": [] });
    for (bad, says) in [
        ("{".to_owned(), NAME),
        (change("/manifests/0/digest", json!("sha256:x")), NAME),
        (
            change("/manifests/0/digest", json!(sha256(b"not here"))),
            "is not in the archive",
        ),
        (
            change(
                "/manifests/0/annotations/dev.larder.subject",
                json!("latest"),
            ),
            NAME,
        ),
        (
            change(
                "/manifests/0/annotations/dev.larder.repository",
                json!("../etc"),
            ),
            NAME,
        ),
        (
            change(
                "/manifests/0/annotations",
                json!({ "dev.larder.subject": subject }),
            ),
            NAME,
        ),
        (list("../etc", &subject, sound_list.clone()), NAME),
        (list("team/own", "latest", sound_list), NAME),
        (list("team/own", &subject, json!([])), NAME),
    ] {
        let mut entries = sound.clone();
        entries[at].1 = bad.into_bytes();
        let said = bad_input::refused(&archive(&entries)).await;
        assert!(said.contains(says), "{said}");
    }
    // What is attached to nothing that comes in stays out.
    let mut stray = sound.clone();
    let nothing = json!(sha256(b"nothing"));
    stray[at].1 = change("/manifests/0/annotations/dev.larder.subject", nothing).into_bytes();
    let path = carried.path("stray.tar");
    fs::write(&path, archive(&stray)).unwrap();
    let there = home();
    let said = import_all(there.path(), &path).await;
    assert!(!said.stdout.contains("attached"), "{said:?}");
    carried.larder.finish().await;
}
