//! `larder verify`: whatever is wrong with a store is found, and mended without harm.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::registry::{assert_pullable, delete, push_small};
use crate::support::hub::Hub;
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};
use crate::support::tree::files;

/// Where the data of a digest is.
fn data(larder: &Larder, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    let shard = &hex[..2];
    larder
        .tree()
        .join(format!("blobs/{algorithm}/{shard}/{hex}/data"))
}

fn link(larder: &Larder, name: &str, kind: &str, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    larder
        .tree()
        .join(format!("repositories/{name}/{kind}/{algorithm}/{hex}/link"))
}

/// Flips a bit.
fn damage(larder: &Larder, digest: &str) {
    let path = data(larder, digest);
    let mut bytes = fs::read(&path).expect("stored data");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("stored data");
}

/// Standing and problem of each finding, and whether the command said that all is well.
async fn verify(larder: &Larder, arguments: &[&str]) -> (bool, Vec<String>) {
    let (success, report) = report(larder, arguments).await;
    let findings = report["findings"].as_array().expect("findings").iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or("-").to_owned();
    let mut found: Vec<_> = findings
        .map(|it| {
            let [standing, problem, done] =
                ["standing", "problem", "done"].map(|key| text(it, key));
            format!("{standing} {problem} {done}")
        })
        .collect();
    found.sort();
    (success, found)
}

async fn report(larder: &Larder, arguments: &[&str]) -> (bool, Value) {
    let arguments = [&["verify", "--json"], arguments].concat();
    let said = larder.run(&arguments).await;
    let report = serde_json::from_str(&said.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said.success, report)
}

async fn pull(larder: &Larder, name: &str, tag: &str, image: &Image) {
    assert_pullable(larder, name, tag, image).await;
}

fn small(seed: u64) -> Image {
    Image::random(seed, &[3_000, 4_000])
}

#[tokio::test]
async fn a_sound_store_is_found_sound_beside_a_server_and_alone() {
    let hub = Hub::start().await;
    let index = Image::index(vec![(small(1), "amd64"), (small(2), "arm64")]);
    hub.push("library/multi", "1", &index);
    let mut larder = Options::mirror_of(&hub).start().await;
    larder.push("team/app", "1", &small(3)).await;
    // One platform of two: a mirror is sparse.
    let path = "/v2/docker.io/library/multi/manifests/";
    assert_eq!(larder.get(&format!("{path}1")).await.status, 200);
    let child = &index.children()[0];
    pull(&larder, "docker.io/library/multi", &child.digest(), child).await;
    let before = files(larder.root());
    for is_alone in [false, true] {
        if is_alone {
            larder.kill().await;
        }
        let said = larder.run(&["verify"]).await;
        assert!(said.success, "{said:?}");
        assert!(said.stdout.ends_with("nothing is wrong\n"), "{said:?}");
        assert_eq!(files(larder.root()), before);
        assert_eq!(verify(&larder, &["--repair"]).await, (true, vec![]));
    }
    larder.start_again().await;
    larder.finish().await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_sound() {
    let mut larder = Options::registry().start().await;
    larder.kill().await;
    let moved = larder.root().with_extension("moved");
    fs::rename(larder.root(), &moved).unwrap();
    for arguments in [&["verify"][..], &["verify", "--repair"]] {
        let said = larder.run(arguments).await;
        assert!(
            !said.success && said.stderr.contains("is not there"),
            "{said:?}"
        );
    }
    assert!(!larder.root().exists());
    fs::rename(moved, larder.root()).unwrap();
    larder.start_again().await;
    larder.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_mirror_is_dropped_and_fetched_again() {
    let hub = Hub::start().await;
    let images: Vec<_> = (0..7).map(small).collect();
    for (at, image) in images.iter().enumerate() {
        hub.push(&format!("library/m{at}"), "1", image);
    }
    let larder = Options::mirror_of(&hub).start().await;
    let name = |at: usize| format!("docker.io/library/m{at}");
    for (at, image) in images.iter().enumerate() {
        pull(&larder, &name(at), "1", image).await;
    }
    let layer = |at: usize| images[at].layer_digests()[0].clone();
    damage(&larder, &layer(0));
    damage(&larder, &images[1].digest());
    fs::write(data(&larder, &layer(2)), b"").unwrap();
    fs::remove_file(data(&larder, &layer(3))).unwrap();
    fs::remove_file(data(&larder, &layer(4))).unwrap();
    symlink("/etc/passwd", data(&larder, &layer(4))).unwrap();
    fs::write(link(&larder, &name(5), "_layers", &layer(5)), b"sha256:").unwrap();
    let revision = link(
        &larder,
        &name(6),
        "_manifests/revisions",
        &images[6].digest(),
    );
    fs::remove_file(revision).unwrap();
    let (is_well, found) = verify(&larder, &[]).await;
    let told = [
        "mirror damaged",
        "mirror damaged",
        "mirror dangling",
        "mirror empty",
        "mirror link",
        "mirror missing",
        "mirror notafile",
    ];
    assert!(is_well);
    assert_eq!(found, told.map(|it| format!("{it} -")));
    let text = larder.run(&["verify"]).await.expect_success();
    assert!(text.contains("nothing local is damaged"), "{text}");
    assert!(
        text.contains("in docker.io/library/m1 (docker.io/library/m1:1)"),
        "{text}"
    );

    let (is_well, found) = verify(&larder, &["--repair"]).await;
    let done = [
        "mirror damaged dropped",
        "mirror damaged dropped",
        "mirror dangling removed",
        "mirror empty dropped",
        "mirror link removed",
        "mirror missing removed",
        "mirror notafile putaside",
    ];
    assert!(is_well);
    assert_eq!(found, done);
    assert_eq!(verify(&larder, &[]).await, (true, vec![]));
    hub.clear_log();
    for (at, image) in images.iter().enumerate() {
        pull(&larder, &name(at), "1", image).await;
    }
    // Of another layer only the link was lost.
    assert_eq!((hub.blob_gets(), hub.manifest_gets()), (4, 2));
    assert_eq!(verify(&larder, &[]).await, (true, vec![]));
    larder.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_local_image_is_told_and_put_aside_but_never_deleted() {
    let mut larder = Options::registry().start().await;
    let image = small(1);
    larder.push("team/app", "1", &image).await;
    larder.push("team/other", "1", &image).await;
    larder.push("team/web", "1", &small(2)).await;
    larder.push("team/gone", "1", &small(3)).await;
    let layer = image.layer_digests()[0].clone();
    damage(&larder, &layer);
    damage(&larder, &small(2).digest());
    fs::remove_file(data(&larder, &small(3).config_digest())).unwrap();
    let bytes = fs::read(data(&larder, &layer)).unwrap();
    let said = larder.run(&["verify"]).await;
    assert!(!said.success && said.stderr.contains("push what is damaged again"));
    assert!(said.stdout.contains(&layer), "{said:?}");
    assert!(
        said.stdout.contains(" in team/app, team/other\n"),
        "{said:?}"
    );
    assert_eq!(fs::read(data(&larder, &layer)).unwrap(), bytes);

    let incomplete = ["local incomplete -"; 3];
    let told = ["local damaged -", "local damaged -"];
    let gone = ["local missing -"];
    let (is_well, found) = verify(&larder, &[]).await;
    assert_eq!(
        (is_well, found),
        (
            false,
            [&told[..], &incomplete, &gone]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect()
        )
    );
    let (is_well, found) = verify(&larder, &["--repair"]).await;
    let told = ["local damaged putaside", "local damaged putaside"];
    assert_eq!(
        (is_well, found),
        (
            false,
            [&told[..], &incomplete, &gone]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect()
        )
    );

    // Nothing is lost, and nobody is given it.
    let (_, report) = report(&larder, &[]).await;
    let findings = report["findings"].as_array().unwrap();
    let missing = findings
        .iter()
        .find(|it| it["digest"] == json!(layer))
        .unwrap();
    let aside = missing["aside"][0].as_str().unwrap();
    assert!(aside.starts_with("damaged."), "{aside}");
    let aside = data(&larder, &layer).with_file_name(aside);
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    for name in ["team/app", "team/other"] {
        let path = format!("/v2/{name}/blobs/{layer}");
        assert_eq!(larder.get(&path).await.status, 404);
    }
    let (is_well, found) = verify(&larder, &["--repair"]).await;
    assert!(
        !is_well
            && found
                .iter()
                .all(|it| it.starts_with("local missing") || it.starts_with("local incomplete")),
        "{found:?}"
    );

    // A restart changes nothing, a push heals.
    larder.kill().await;
    larder.start_again().await;
    larder.push("team/app", "1", &image).await;
    larder.push("team/web", "1", &small(2)).await;
    larder.push("team/gone", "1", &small(3)).await;
    assert_eq!(verify(&larder, &[]).await, (true, vec![]));
    pull(&larder, "team/other", "1", &image).await;
    assert!(aside.exists());
    larder.finish().await;
}

#[tokio::test]
async fn a_sparse_index_is_noted_where_it_may_be_and_damaged_where_not() {
    let validation = |platforms: &str| json!({"manifests": {"indexes": {"platforms": platforms}}});
    let options = Options::registry().set(&["validation"], validation("none"));
    let mut larder = options.start().await;
    let index = Image::index(vec![(small(1), "amd64"), (small(2), "arm64")]);
    larder
        .push("team/app", &small(1).digest(), &index.children()[0])
        .await;
    let bytes = index.manifest_bytes().to_vec();
    let pushed = larder
        .put_manifest("team/app", "1", index.media_type(), bytes)
        .await;
    assert_eq!(pushed.status, 201);
    assert_eq!(
        verify(&larder, &[]).await,
        (true, vec!["note sparse -".to_owned()])
    );
    larder.reconfigure(&["validation"], validation("all"));
    assert_eq!(
        verify(&larder, &["--repair"]).await,
        (false, vec!["local incomplete -".to_owned()])
    );
    larder.finish().await;
}

#[tokio::test]
async fn data_that_nobody_has_is_told_apart() {
    let larder = Options::registry().start().await;
    let blob = larder.push_blob("team/app", b"some bytes").await;
    assert_eq!(
        delete(&larder, &format!("/v2/team/app/blobs/{blob}"))
            .await
            .status,
        202
    );
    damage(&larder, &blob);
    assert_eq!(
        verify(&larder, &["--repair"]).await,
        (true, vec!["unused damaged dropped".to_owned()])
    );
    assert!(!data(&larder, &blob).exists());
    larder.finish().await;
}

/// Pushes and pulls go on, data is damaged all the while, and checks that mend come and are killed.
#[tokio::test]
async fn mending_beside_a_busy_server_does_no_harm() {
    let hub = Hub::start().await;
    let images: Vec<_> = (0..4).map(small).collect();
    for (at, image) in images.iter().enumerate() {
        hub.push(&format!("library/m{at}"), "1", image);
    }
    let mut larder = Options::mirror_of(&hub).start().await;
    let kept = Image::random(99, &[200_000]);
    larder.push("team/kept", "1", &kept).await;
    let ends = Instant::now() + Duration::from_secs(6);
    let mut round = 0;
    while Instant::now() < ends {
        round += 1;
        let (mut command, _home) = larder.command(&["verify", "--repair"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut first = command.spawn().expect("larder starts");
        let (mut command, _home) = larder.command(&["verify", "--repair"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut second = command.spawn().expect("larder starts");
        for (at, image) in images.iter().enumerate() {
            let name = format!("docker.io/library/m{at}");
            let at_once = format!("same content {}", round % 3);
            push_small(&larder, "team/small", &format!("t{}", round % 5), &at_once).await;
            pull(&larder, &name, "1", image).await;
        }
        let layer = images[round % 4].layer_digests()[0].clone();
        if round % 3 == 0 {
            first.kill().expect("our own child");
            larder.kill().await;
            larder.start_again().await;
        }
        first.wait().expect("our own child");
        second.wait().expect("our own child");
        damage(&larder, &layer);
        let mended = larder.run(&["verify", "--repair"]).await;
        assert!(mended.success, "{mended:?}");
    }
    for (at, image) in images.iter().enumerate() {
        pull(&larder, &format!("docker.io/library/m{at}"), "1", image).await;
    }
    pull(&larder, "team/kept", "1", &kept).await;
    for tag in 0..5.min(round) {
        let path = format!("/v2/team/small/manifests/t{}", (tag + 1) % 5);
        assert_eq!(larder.get(&path).await.status, 200);
    }
    let config = sha256(b"same content 1");
    assert_eq!(
        larder
            .get(&format!("/v2/team/small/blobs/{config}"))
            .await
            .status,
        200
    );
    assert_eq!(verify(&larder, &[]).await, (true, vec![]));
    larder.finish_with_parts().await;
}
