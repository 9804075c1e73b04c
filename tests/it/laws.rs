//! The laws: each has a test that bears its name, and fails when the law is broken.

use std::time::Duration;

use serde_json::json;

use crate::support::hub::{Asked, Fault, Hub, What, Where};
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};
use crate::support::tree;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Pulls all of an image by the API, as docker does: HEAD the tag, GET the digests.
async fn pull(larder: &Larder, name: &str, tag: &str) -> Vec<(String, Vec<u8>)> {
    let head = larder.head(&format!("/v2/{name}/manifests/{tag}")).await;
    assert_eq!(head.status, 200, "{head:?}\n{}", larder.log());
    let mut pulled = Vec::new();
    let mut wanted = vec![("manifests", head.header("docker-content-digest").to_owned())];
    while let Some((kind, digest)) = wanted.pop() {
        let got = larder.get(&format!("/v2/{name}/{kind}/{digest}")).await;
        assert!(
            got.status == 200 && got.complete,
            "{digest}: {got:?}\n{}",
            larder.log()
        );
        assert_eq!(sha256(&got.body), digest);
        if kind == "manifests" {
            let manifest = got.json();
            let of = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
            let digest = |value: &serde_json::Value| value["digest"].as_str().unwrap().to_owned();
            wanted.extend(
                of("manifests")
                    .iter()
                    .map(|child| ("manifests", digest(child))),
            );
            wanted.extend(of("layers").iter().map(|layer| ("blobs", digest(layer))));
            if manifest["config"].is_object() {
                wanted.push(("blobs", digest(&manifest["config"])));
            }
        }
        pulled.push((digest, got.body));
    }
    pulled
}

async fn bytes_are_sacred(options: fn(&Hub) -> Options) {
    let hub = Hub::start().await;
    let larder = options(&hub).start().await;
    // White space, unknown fields and an odd order: anything that reads and writes JSON shows.
    let odd = b"{ \"schemaVersion\" : 2,\n\t\"x-unknown\":[1.50, {}],  \"manifests\":[  ] ,\"mediaType\":\
        \"application/vnd.oci.image.index.v1+json\"}\n \n";
    let mirrored = hub.put_manifest("library/odd", Some("1"), OCI_INDEX, odd.to_vec());
    let pushed = larder
        .put_manifest("team/odd", "1", OCI_INDEX, odd.to_vec())
        .await;
    assert_eq!(pushed.header("docker-content-digest"), mirrored);
    for path in [
        "/v2/library/odd/manifests/1".to_owned(),
        format!("/v2/library/odd/manifests/{mirrored}"),
        "/v2/team/odd/manifests/1".to_owned(),
    ] {
        for again in ["first", "from the disk"] {
            let got = larder.get(&path).await;
            assert_eq!(got.body, odd, "{path} {again}");
            assert_eq!(got.header("content-type"), OCI_INDEX, "{path} {again}");
        }
    }
    // What bytes do not say of themselves is what their upstream says, and stays so on the disk.
    let mute = br#"{"schemaVersion":2,"manifests":[]}"#;
    hub.put_manifest("library/mute", Some("1"), DOCKER_LIST, mute.to_vec());
    for again in ["first", "from the disk"] {
        let got = larder.get("/v2/library/mute/manifests/1").await;
        assert_eq!(got.body, mute, "{again}");
        assert_eq!(got.header("content-type"), DOCKER_LIST, "{again}");
    }
    // An index of three platforms stays one of three, though only one of them was ever pulled.
    let platforms = ["amd64", "arm64", "s390x"];
    let children = platforms.iter().zip(1..);
    let children = children
        .map(|(arch, seed)| (Image::random(seed, &[3000]), *arch))
        .collect();
    let index = Image::index(children).oci();
    hub.push("library/many", "1", &index);
    let child = index.children()[0].digest();
    larder
        .get(&format!("/v2/library/many/manifests/{child}"))
        .await;
    let got = larder.get("/v2/library/many/manifests/1").await;
    assert_eq!(got.body, index.manifest_bytes());
    larder.finish().await;
}

async fn nothing_unverified_completes(options: fn(&Hub) -> Options) {
    let hub = Hub::start().await;
    let larder = options(&hub).start().await;
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for (number, (mut content, what)) in [
        (large.clone(), What::FlipBit(5)),
        (large.clone(), What::FlipBit(3_999_999)),
        (large[..900_000].to_vec(), What::ExtraBytes(3)),
        (large[..800_000].to_vec(), What::WrongLength(-1)),
        (large[..70_000].to_vec(), What::FlipBit(69_999)),
        (b"small".to_vec(), What::FlipBit(0)),
    ]
    .into_iter()
    .enumerate()
    {
        content[1] = u8::try_from(number).unwrap();
        let digest = hub.put_blob("library/bad", content.clone());
        let fault = hub.fault(Fault::on(Where::blobs().get().digest(&digest)).does(what.clone()));
        let path = format!("/v2/library/bad/blobs/{digest}");
        let part = larder
            .request("GET", &path)
            .header("range", "bytes=0-99999");
        for request in [larder.request("GET", &path), part] {
            let got = larder.send(request).await;
            let refused = got.status >= 400;
            assert!(
                refused || !got.complete,
                "{what:?}: a complete {} arrived",
                got.status
            );
        }
        hub.heal(fault);
        tree::assert_sound(&larder.tree());
        let got = larder.get(&path).await;
        assert!(
            got.complete && got.body == content,
            "{what:?}: not mended\n{}",
            larder.log()
        );
    }
    // What breaks off for good is cut there, and the part is no blob, not even to the next.
    let digest = hub.put_blob("library/bad", large[1..].to_vec());
    let once = Fault::on(Where::blobs().get()).times(1);
    hub.fault(once.does(What::TruncateAfter(500_000)));
    let limit: &[(&str, &str)] = &[("retry-after", "3600")];
    hub.fault(Fault::on(Where::blobs().with_header("range")).does(What::Status(429, limit, "{}")));
    let path = format!("/v2/library/bad/blobs/{digest}");
    let got = larder.get(&path).await;
    assert!(got.status == 200 && !got.complete, "{}", larder.log());
    assert_eq!(larder.get(&path).await.status, 429);
    tree::assert_sound(&larder.tree());
    larder.finish_with_parts().await;
}

async fn one_download(options: fn(&Hub) -> Options) {
    let hub = Hub::start().await;
    let larder = options(&hub).start().await;
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = hub.put_blob("library/one", content.clone());
    let path = format!("/v2/library/one/blobs/{digest}");
    let gate = hub.fault(
        Fault::on(Where::blobs().get())
            .times(1)
            .does(What::Gate(Some(1_000_000))),
    );
    // One that will hang up, one that never reads, and thirty that want it all.
    let mut quitter = larder.request("GET", &path).send().await.unwrap();
    let idler = larder.request("GET", &path).send().await.unwrap();
    assert!(quitter.chunk().await.unwrap().is_some());
    assert_eq!(quitter.headers()["x-cache"], "miss");
    assert_eq!(idler.headers()["x-cache"], "joined");
    drop(quitter);
    let pulls = (0..30).map(|_| larder.get(&path));
    let all = futures_util::future::join_all(pulls);
    // The download goes on and breaks once more before its end; nobody notices.
    let broken = hub.fault(
        Fault::on(Where::blobs().with_header("range"))
            .times(1)
            .does(What::ResetAfter(300_000)),
    );
    let cut = async {
        hub.wait_for(|asked| asked.iter().any(|asked| asked.body_sent() >= 1_000_000))
            .await;
        hub.down().await;
        hub.up().await;
        hub.open(gate);
    };
    let (all, ()) = tokio::join!(all, cut);
    for got in &all {
        assert!(
            got.complete && got.body == content,
            "{} of {}",
            got.body.len(),
            content.len()
        );
        assert_eq!(got.cache(), "joined");
    }
    assert_eq!(hub.struck(broken), 1);
    let resumed: Vec<_> = hub
        .asked()
        .iter()
        .filter_map(|asked| asked.header("range").map(str::to_owned))
        .collect();
    assert_eq!(
        (hub.blob_gets(), resumed.len()),
        (3, 2),
        "once from the start, then twice by Range"
    );
    assert!(
        hub.body_bytes() < 2_200_000 + 300_000,
        "{} bytes were sent",
        hub.body_bytes()
    );
    drop(idler);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_what_you_push_is_yours() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    let (ours, theirs) = (
        Image::random(1, &[5000]).oci(),
        Image::random(2, &[5000]).oci(),
    );
    larder.push("labs/app", "1", &ours).await;
    hub.push("labs/app", "1", &theirs);
    hub.push("labs/app", "2", &theirs);
    hub.clear_log();
    for _ in 0..2 {
        let got = larder.get("/v2/labs/app/manifests/1").await;
        assert_eq!(
            (got.body.as_slice(), got.cache()),
            (&ours.manifest_bytes()[..], "hit")
        );
    }
    assert_eq!(
        larder.get("/v2/labs/app/manifests/2").await.code(),
        "MANIFEST_UNKNOWN"
    );
    let layer = &theirs.layer_digests()[0];
    assert_eq!(
        larder
            .get(&format!("/v2/labs/app/blobs/{layer}"))
            .await
            .code(),
        "BLOB_UNKNOWN"
    );
    assert_eq!(
        larder.get("/v2/labs/app/tags/list").await.json()["tags"],
        json!(["1"])
    );
    // Deleting what is local does not let the upstream's through.
    let deleted = larder
        .send(larder.request("DELETE", "/v2/labs/app/manifests/1"))
        .await;
    assert_eq!(deleted.status, 202);
    assert_eq!(larder.get("/v2/labs/app/manifests/1").await.status, 404);
    assert!(
        hub.asked().is_empty(),
        "the upstream was asked for a local name: {:?}",
        hub.asked()
    );
    // And the mirror's own name still has the upstream's.
    let mirrored = larder.get("/v2/docker.io/labs/app/manifests/1").await;
    assert_eq!(mirrored.body, theirs.manifest_bytes());
    // Nobody can push into a mirror.
    let refused = larder
        .put_manifest(
            "docker.io/labs/app",
            "1",
            OCI_MANIFEST,
            ours.manifest_bytes().to_vec(),
        )
        .await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "DENIED"));
    larder.finish().await;
}

async fn what_was_served_once_can_be_served_again(options: fn(&Hub) -> Options) {
    let hub = Hub::builder().bearer().start().await;
    let image = Image::random(3, &[40_000, 3000]);
    hub.push("library/keep", "1", &image);
    let larder = options(&hub).never_fresh().start().await;
    let first = pull(&larder, "library/keep", "1").await;
    let failures: [Option<Fault>; 9] = [
        Some(Fault::on(Where::manifests()).does(What::Status(500, &[], "broken"))),
        Some(Fault::on(Where::manifests()).does(What::Status(429, &[("retry-after", "1")], "{}"))),
        Some(Fault::on(Where::manifests()).does(What::Status(404, &[], "{}"))),
        Some(Fault::on(Where::manifests()).does(What::Status(403, &[], "{}"))),
        Some(Fault::on(Where::manifests()).does(What::Html)),
        Some(Fault::on(Where::manifests()).does(What::CloseBeforeAnswer)),
        Some(Fault::on(Where::manifests()).does(What::RedirectLoop)),
        Some(Fault::on(Where::manifests()).does(What::StallHeaders)),
        None,
    ];
    let mut larder = larder;
    for failure in failures {
        let told = format!("{failure:?}");
        // Started again, so that no memory of the last failure answers for this one.
        larder.kill().await;
        larder.start_again().await;
        match failure {
            Some(failure) => drop(hub.fault(failure)),
            None => hub.down().await,
        }
        let got = larder.get("/v2/library/keep/manifests/1").await;
        assert_eq!(
            (got.status, got.cache()),
            (200, "stale"),
            "{told}\n{}",
            larder.log()
        );
        assert_eq!(pull(&larder, "library/keep", "1").await, first, "{told}");
        hub.heal_all();
    }
    larder.kill().await;
    larder.start_again().await;
    assert_eq!(
        pull(&larder, "library/keep", "1").await,
        first,
        "after a restart, upstream down"
    );
    assert_eq!(
        larder.get("/v2/library/keep/tags/list").await.json()["tags"],
        json!(["1"])
    );
    // The mark outlives the process, but not the upstream's next word.
    let mirror = larder.tree().join("repositories/docker.io/library/keep");
    let record = || std::fs::read_to_string(mirror.join("_mirror/tags/1")).unwrap();
    assert!(record().contains("stale_since"), "{}", record());
    hub.up().await;
    larder.kill().await;
    larder.start_again().await;
    let got = larder.get("/v2/library/keep/manifests/1").await;
    assert_eq!(got.cache(), "revalidated");
    assert!(!record().contains("stale_since"), "{}", record());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_6_the_network_is_never_assumed() {
    let (hub, other) = (Hub::start().await, Hub::start().await);
    hub.down().await;
    let image = Image::random(4, &[2000]);
    other.push("library/x", "1", &image);
    let mut larder = Options::mirror_of(&hub).start().await;
    assert_eq!(
        larder.get("/v2/").await.status,
        200,
        "it starts while its upstream is down"
    );
    larder.push("team/x", "1", &image).await;
    hub.up().await;
    hub.clear_log();
    // A registry that is not configured is never asked, however it is named.
    for path in [
        format!("/v2/library/x/manifests/1?ns={}", other.host()),
        format!("/v2/{}/library/x/manifests/1", other.host()),
        format!("/{}/v2/library/x/manifests/1", other.host()),
        "/v2/library/x/manifests/1?ns=ghcr.io".to_owned(),
        "/ghcr.io/v2/library/x/manifests/1".to_owned(),
    ] {
        assert_eq!(larder.get(&path).await.status, 404, "{path}");
    }
    assert!(other.asked().is_empty() && hub.asked().is_empty());
    // Nor is one that is, before somebody wants something of it.
    larder.kill().await;
    larder.start_again().await;
    assert_eq!(larder.get("/v2/team/x/manifests/1").await.status, 200);
    assert_eq!(larder.get("/v2/library/x/manifests/1").await.status, 404);
    let asked = hub.asked();
    let wanted = |asked: &Asked| asked.path == "/v2/library/x/manifests/1";
    assert!(!asked.is_empty() && asked.iter().all(wanted), "{asked:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_7_files_are_the_truth() {
    let hub = Hub::start().await;
    let image = Image::random(5, &[200_000, 3000]);
    hub.push("library/files", "1", &image);
    let mut larder = Options::mirror_of(&hub).start().await;
    let pulled = pull(&larder, "library/files", "1").await;
    larder.push("team/files", "1", &image).await;
    larder.kill().await;
    // Nothing but files: what is copied to another place is served there.
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(larder.root())
        .arg(copy.path().join("root"))
        .status();
    assert!(copied.unwrap().success());
    hub.down().await;
    larder.start_again().await;
    let elsewhere = Options::mirror_of(&hub)
        .on(&copy.path().join("root"))
        .start()
        .await;
    for larder in [larder, elsewhere] {
        assert_eq!(pull(&larder, "library/files", "1").await, pulled);
        assert_eq!(pull(&larder, "team/files", "1").await.len(), pulled.len());
        let catalog = larder.get("/v2/_catalog").await.json();
        assert_eq!(
            catalog["repositories"],
            json!(["docker.io/library/files", "team/files"])
        );
        // Files that go while it runs are gone: no memory claims otherwise.
        let team = larder.tree().join("repositories/team");
        let status =
            async |path: String| larder.get(&format!("/v2/team/files/{path}")).await.status;
        let tags = async || larder.get("/v2/team/files/tags/list").await.json()["tags"].clone();
        assert_eq!(tags().await, json!(["1"]));
        std::fs::remove_dir_all(team.join("files/_manifests/tags/1")).unwrap();
        assert_eq!(tags().await, json!([]));
        assert_eq!(status("manifests/1".to_owned()).await, 404);
        std::fs::remove_dir_all(team.join("files/_manifests/revisions")).unwrap();
        let digest = image.digest();
        assert_eq!(status(format!("manifests/{digest}")).await, 404);
        std::fs::remove_dir_all(team.join("files/_layers")).unwrap();
        let digest = &image.layer_digests()[0];
        assert_eq!(status(format!("blobs/{digest}")).await, 404);
        std::fs::remove_dir_all(&team).unwrap();
        assert_eq!(
            larder
                .get("/v2/docker.io/library/files/manifests/1")
                .await
                .status,
            200
        );
        assert_eq!(
            larder.get("/v2/_catalog").await.json()["repositories"],
            json!(["docker.io/library/files"])
        );
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_8_a_full_disk_fails_no_pull_and_no_push_silently() {
    // Here nothing can be evicted. What is stored is served, the rest is passed on, a push gets a
    // clear 507, and nothing half-written is taken for whole.
    let hub = Hub::start().await;
    let image = Image::random(6, &[100_000]);
    hub.push("library/small", "1", &image);
    let disk = SmallDisk::mount("16m");
    let larder = Options::mirror_of(&hub)
        .on(&disk.path.path().join("root"))
        .start()
        .await;
    let first = pull(&larder, "library/small", "1").await;
    let started = larder
        .send(larder.request("POST", "/v2/team/big/blobs/uploads/"))
        .await;
    let patch = larder
        .request("PATCH", started.header("location"))
        .body(vec![7; 20 << 20]);
    let refused = larder.send(patch).await;
    assert_eq!(refused.status, 507, "{refused:?}");
    assert!(
        refused.json()["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("disk is full")
    );
    assert_eq!(pull(&larder, "library/small", "1").await, first);
    let manifest = hub.put_manifest(
        "library/late",
        Some("1"),
        OCI_INDEX,
        &br#"{"schemaVersion":2,"manifests":[]}"#[..],
    );
    let late = larder.get("/v2/library/late/manifests/1").await;
    assert_eq!(
        (late.status, late.header("docker-content-digest")),
        (200, manifest.as_str())
    );
    let location = larder
        .get(started.header("location"))
        .await
        .header("location")
        .to_owned();
    assert_eq!(
        larder
            .send(larder.request("DELETE", &location))
            .await
            .status,
        204
    );
    // A blob that does not fit is passed on whole. What was written of it is no blob, and
    // takes no space: `finish` looks.
    let large = vec![8; 20 << 20];
    let digest = hub.put_blob("library/large", large.clone());
    let got = larder
        .get(&format!("/v2/library/large/blobs/{digest}"))
        .await;
    assert!(
        got.status == 200 && got.complete && got.body == large,
        "{}",
        got.status
    );
    tree::assert_sound(&larder.tree());
    larder.push("team/fits", "1", &image).await;
    larder.finish().await;
}

/// A file system of a few megabytes.
struct SmallDisk {
    path: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let path = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "larder-test"])
            .arg(path.path())
            .status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        Self { path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.path.path())
            .status();
        assert!(unmount.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_no_leaks_between_repositories() {
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "pa55-canary")
        .cdn()
        .start()
        .await;
    let other = Hub::start().await;
    let secret = Image::random(7, &[50_000]).oci();
    hub.push("team/secret", "1", &secret);
    hub.private("team/secret");
    let larder = Options::mirror_of(&hub)
        .upstream("other.test", &other)
        .login("docker.io", "me", "pa55-canary")
        .start()
        .await;
    pull(&larder, "team/secret", "1").await;
    larder
        .push("mine/private", "1", &Image::random(8, &[50_000]))
        .await;
    let stored = Image::random(8, &[50_000]);
    // What is on the disk is seen only through the repository that has it.
    for digest in [
        secret.layer_digests()[0].clone(),
        stored.layer_digests()[0].clone(),
    ] {
        for name in ["other.test/library/x", "library/x", "mine/other"] {
            for method in ["HEAD", "GET"] {
                // Each under a name of its own: the first "no" is remembered.
                let path = format!("/v2/{name}-{method}/blobs/{digest}").to_lowercase();
                let got = larder.send(larder.request(method, &path)).await;
                assert_eq!(got.status, 404, "{method} {name}");
            }
        }
        let mount = format!("/v2/mine/other/blobs/uploads/?mount={digest}&from=mine/none");
        let started = larder.send(larder.request("POST", &mount)).await;
        assert_eq!(started.status, 202);
        assert_eq!(
            larder
                .send(larder.request("DELETE", started.header("location")))
                .await
                .status,
            204
        );
    }
    let manifest = secret.digest();
    assert_eq!(
        larder
            .get(&format!("/v2/mine/private/manifests/{manifest}"))
            .await
            .status,
        404
    );
    // An index cannot reach for another repository's image either.
    let child = json!({ "mediaType": OCI_MANIFEST, "digest": stored.digest(), "size": 1 });
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child] });
    let refused = larder
        .put_manifest("mine/other", "1", OCI_INDEX, index.to_string())
        .await;
    assert_eq!(refused.code(), "MANIFEST_BLOB_UNKNOWN", "{refused:?}");
    // Neither password nor token goes to the CDN or to another upstream, and none to the log.
    let strangers = other.asked().into_iter().chain(
        hub.asked()
            .into_iter()
            .filter(|asked| asked.listener == crate::support::hub::Listener::Cdn),
    );
    for asked in strangers {
        assert_eq!(asked.header("authorization"), None, "{asked:?}");
    }
    assert!(hub.count(|asked| asked.listener == crate::support::hub::Listener::Cdn) > 0);
    let log = larder.log();
    assert!(
        !log.contains("pa55-canary") && !log.contains("sig="),
        "{log}"
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_joins_anothers_download_proves_its_right_first() {
    let (hub, other) = (Hub::start().await, Hub::start().await);
    let larder = Options::mirror_of(&hub)
        .upstream("other.test", &other)
        .start()
        .await;
    let content = vec![9_u8; 300_000];
    let digest = hub.put_blob("library/has", content.clone());
    other.put_blob("team/has", content.clone());
    let gate = hub.fault(Fault::on(Where::blobs().get()).does(What::Gate(Some(150_000))));
    let has = format!("/v2/library/has/blobs/{digest}");
    let first = larder.request("GET", &has).send().await.unwrap();
    // Its upstream has it: it may follow, by one HEAD and no second download.
    let right = format!("/v2/other.test/team/has/blobs/{digest}");
    let second = larder.request("GET", &right).send().await.unwrap();
    assert_eq!(second.headers()["x-cache"], "joined");
    // Its upstream does not have it: it learns nothing of the download.
    let wrong = format!("/v2/other.test/team/none/blobs/{digest}");
    assert_eq!(larder.get(&wrong).await.status, 404);
    hub.open(gate);
    for response in [first, second] {
        assert_eq!(response.bytes().await.unwrap().len(), content.len());
    }
    assert_eq!(
        (hub.blob_gets(), other.blob_gets(), other.blob_heads()),
        (1, 0, 2)
    );
    // And it is linked there too, so that the next pull asks nobody.
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let layers = "repositories/other.test/team/has/_layers";
    let link = larder
        .tree()
        .join(format!("{layers}/{algorithm}/{hex}/link"));
    tokio::time::timeout(Duration::from_secs(10), async {
        while !link.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(larder.get(&right).await.cache(), "hit");
    assert_eq!(other.blob_heads(), 2);
    larder.finish().await;
}

fn mirror(hub: &Hub) -> Options {
    Options::mirror_of(hub)
}

/// The same where files are read and written, as on encrypted connections.
fn reading_mirror(hub: &Hub) -> Options {
    Options::mirror_of(hub).set(&["http", "sendfile", "disabled"], json!(true))
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_bytes_are_sacred() {
    bytes_are_sacred(mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_bytes_are_sacred_without_sendfile() {
    bytes_are_sacred(reading_mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_nothing_unverified_completes() {
    nothing_unverified_completes(mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_nothing_unverified_completes_without_sendfile() {
    nothing_unverified_completes(reading_mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_one_download() {
    one_download(mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_one_download_without_sendfile() {
    one_download(reading_mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_what_was_served_once_can_be_served_again() {
    what_was_served_once_can_be_served_again(mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_what_was_served_once_can_be_served_again_without_sendfile() {
    what_was_served_once_can_be_served_again(reading_mirror).await;
}
