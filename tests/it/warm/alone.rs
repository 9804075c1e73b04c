//! Without a server: the data directory is filled directly.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use super::{assert_fails, assert_says, blobs_sent, docker_hub, two_platforms};
use crate::support::disk::Disk;
use crate::support::hub::{Asked, Fault, Hub, Kind, What, Where};
use crate::support::image::Image;
use crate::support::programs::Options;
use crate::support::tree::{assert_nothing_staged, assert_sound, files};
use crate::support::until::until;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_platform_needs_is_fetched_and_the_index_is_kept_whole() {
    let hub = docker_hub().await;
    let image = two_platforms(1);
    hub.push("library/app", "1", &image);
    let larder = Options::mirror_of(&hub).rest();
    let warm = ["warm", "app:1", "--platform", "linux/arm64"];
    assert_says(larder.run(&warm).await, &["ready  app:1: ", "1 image: "]);
    assert_eq!(blobs_sent(&hub, &image).len(), 3);
    assert_eq!(blobs_sent(&hub, &image.children()[1]).len(), 3);
    assert_nothing_staged(&larder.tree());
    // All that is missing for the others comes later; what is here does not come again.
    hub.clear_log();
    assert_says(larder.run(&["warm", "app:1"]).await, &["were here already"]);
    assert_eq!(blobs_sent(&hub, &image.children()[0]).len(), 3);
    assert_eq!(blobs_sent(&hub, &image.children()[1]).len(), 0);
    hub.clear_log();
    let again = larder.run(&["warm", "app:1"]).await;
    assert_says(again, &["here   app:1: here already"]);
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    let running = larder.options().start().await;
    let index = running.get("/v2/library/app/manifests/1").await;
    assert_eq!(index.body, image.manifest_bytes(), "byte for byte");
    assert_eq!(index.cache(), "hit");
    running.finish().await;
    assert_sound(&larder.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_from_lists_and_compose_files_each_once() {
    let hub = docker_hub().await;
    let names = ["one", "two", "three", "four"];
    for (seed, name) in (1..).zip(names) {
        let repository = format!("library/{name}");
        hub.push(&repository, "7", &Image::random(seed, &[2000]));
    }
    let larder = Options::mirror_of(&hub).environment("TAG", "7").rest();
    let list = larder.home().join("list.txt");
    let lines = "# the course\none:7\n\ndocker.io/library/two:7 # both\n";
    std::fs::write(&list, lines).unwrap();
    let compose = larder.home().join("compose.yml");
    let services = "services:
  a: { image: 'one:${TAG}' }
  b: { image: 'three:${MISSING:-7}' }
  c: { build: . }
";
    std::fs::write(&compose, services).unwrap();
    let (list, compose) = (list.to_str().unwrap(), compose.to_str().unwrap());
    let arguments = ["warm", "-f", list, "--compose", compose, "-f", "-"];
    let output = larder.run_with_input(&arguments, "four:7\n").await;
    let built = "c names no image (it is built)";
    assert!(output.stderr.contains(built), "{output:?}");
    assert_says(output, &["4 images: fetched "]);
    assert_eq!(hub.manifest_gets(), 4);
    for (text, problem) in [
        (
            "services: { a: { image: 'x:$NOWHERE' } }",
            "services.a.image",
        ),
        ("services: [", "not valid YAML"),
        ("services: { a: { build: . } }", "no image"),
    ] {
        std::fs::write(compose, text).unwrap();
        let output = larder.run(&["warm", "--compose", compose]).await;
        assert_fails(&output, &[problem]);
    }
    std::fs::write(list, "one:7\nno image\n").unwrap();
    assert_fails(&larder.run(&["warm", "-f", list]).await, &["list.txt:2: "]);
    assert_fails(&larder.run(&["warm"]).await, &["which images?"]);
    let x86 = larder.run(&["warm", "one:7", "--platform", "x86"]).await;
    assert_fails(&x86, &["linux/amd64"]);
}

/// Not what the configuration names, which somebody who has a list does not mean.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_images_is_a_mistake() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let warm = json!({ "images": ["app:1"] });
    let larder = Options::mirror_of(&hub).set(&["cache", "warm"], warm);
    let larder = larder.rest();
    let list = larder.home().join("list.txt");
    std::fs::write(&list, "\u{feff}# nothing yet\r\n\r\n").unwrap();
    let list = list.to_str().unwrap();
    larder.run(&["warm"]).await.expect_success();
    for arguments in [
        &["warm", "-f", list][..],
        &["verify", "--offline", "-f", list],
        &["export", "-o", "none.tar", "-f", list],
    ] {
        let told = format!("{list} names no image");
        assert_fails(&larder.run(arguments).await, &[&told]);
    }
    let output = larder.run_with_input(&["warm", "-f", "-"], "#").await;
    assert_fails(&output, &["the standard input names no image"]);
    // Beside something that does it is none.
    assert_says(
        larder.run(&["warm", "-f", list, "app:1"]).await,
        &["here   app:1"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_each_layer_has_a_bar_with_its_speed_and_the_time_that_is_left() {
    let hub = docker_hub().await;
    let image = Image::random(1, &[2_000_000]);
    hub.push("library/app", "1", &image);
    let layer = &image.layer_digests()[0];
    let gate = Fault::on(Where::blobs().get().digest(layer));
    let gate = hub.fault(gate.does(What::Gate(Some(1_000_000))));
    let larder = Options::mirror_of(&hub).rest();
    let (warm, home) = larder.command(&["warm", "app:1"]);
    let line: Vec<_> = [warm.get_program()]
        .into_iter()
        .chain(warm.get_args())
        .map(|it| format!("'{}'", it.to_string_lossy()))
        .collect();
    let line = format!("stty cols 120 && {}", line.join(" "));
    let shown = home.path().join("shown");
    let mut terminal = std::process::Command::new("script")
        .args(["-qefc", &line])
        .arg(&shown)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("script is a part of every system");
    // Its name, how much of how much, how fast, how long it still takes.
    let name = format!("{} app:1", &layer["sha256:".len()..][..12]);
    let is_bar = |line: &str| {
        let after = line.split_once(name.as_str()).map(|(_, after)| after);
        after.is_some_and(|after| {
            let (size, speed) = after.split_once("/s").unwrap_or_default();
            size.contains(" / ")
                && size.contains("iB")
                && speed
                    .trim_start()
                    .starts_with(|it: char| it.is_ascii_digit())
        })
    };
    until("a layer has its bar", async || {
        let shown = std::fs::read(&shown).unwrap_or_default();
        String::from_utf8_lossy(&shown)
            .split(['\r', '\n'])
            .any(is_bar)
    })
    .await;
    hub.open(gate);
    let ended = tokio::task::spawn_blocking(move || terminal.wait().unwrap());
    assert!(ended.await.unwrap().success());
    let shown = std::fs::read_to_string(&shown).unwrap();
    assert!(shown.contains("1 image: fetched "), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_does_not_stop_the_others_and_is_named_with_its_reason() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let larder = Options::mirror_of(&hub).rest();
    let images = ["app:9", "ghcr.io/org/x", "localhost:1/x", "app:1"];
    let output = larder.run(&[&["warm", "-q"], &images[..]].concat()).await;
    assert_eq!(output.stdout, "", "quiet");
    let reasons = [
        "3 of 4 images could not be fetched\n",
        "failed app:9: there is no tag 9 in docker.io/library/app",
        "failed ghcr.io/org/x:latest: \"ghcr.io\" is not an upstream",
        "failed localhost:1/x:latest: \"localhost:1\" is not an upstream",
    ];
    assert_fails(&output, &reasons);
    let output = larder.run(&[&["warm"], &images[..]].concat()).await;
    assert_fails(&output, &reasons);
    let said = output.stdout + &output.stderr;
    for reason in ["there is no tag 9", "\"ghcr.io\" is not"] {
        assert_eq!(said.matches(reason).count(), 1, "said once: {said}");
    }
    let output = larder.run(&["warm", "app:1"]).await;
    assert_says(output, &["here   app:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_an_image_does_not_come_for_is_an_error_that_names_the_others() {
    let hub = Hub::start().await;
    let image = two_platforms(1);
    hub.push("library/app", "1", &image);
    hub.push("library/single", "1", &Image::random(9, &[2000]));
    let larder = Options::mirror_of(&hub).rest();
    let platforms = ["--platform", "linux/s390x", "--platform", "linux/amd64"];
    let warm = [&["warm", "app:1"], &platforms[..]].concat();
    let output = larder.run(&warm).await;
    let named = "it does not come for linux/s390x: it comes for linux/amd64, linux/arm64";
    assert_fails(&output, &[named]);
    let sent = [0, 1].map(|child| blobs_sent(&hub, &image.children()[child]).len());
    assert_eq!(sent, [3, 0], "the other platform's is there");
    // Without an index there is nothing to choose.
    let single = ["warm", "single:1", "--platform", "linux/arm64"];
    let words = ["ready  single:1", "it comes for linux/amd64 only"];
    assert_says(larder.run(&single).await, &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_breaks_off_goes_on_where_it_was() {
    let hub = docker_hub().await;
    let image = Image::random(1, &[2_000_000, 500_000]);
    hub.push("library/app", "1", &image);
    let layer = &image.layer_digests()[0];
    let breaks = Fault::on(Where::blobs().get().digest(layer));
    let breaks = hub.fault(breaks.times(2).does(What::ResetAfter(600_000)));
    let larder = Options::mirror_of(&hub).rest();
    assert_says(larder.run(&["warm", "app:1"]).await, &["ready  app:1"]);
    assert_eq!(hub.struck(breaks), 2);
    let is_resumed = |asked: &Asked| asked.path.contains(layer) && asked.header("range").is_some();
    assert!(hub.count(is_resumed) >= 1, "{:?}", hub.asked());
    assert_sound(&larder.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_half_way_it_fetches_only_the_rest_the_next_time() {
    const SENT: u64 = 3_000_000;
    let hub = docker_hub().await;
    let (first, second) = (Image::random(1, &[400_000]), Image::random(2, &[4_000_000]));
    hub.push("library/first", "1", &first);
    hub.push("library/second", "1", &second);
    let layer = &second.layer_digests()[0];
    let gate = Fault::on(Where::blobs().get().digest(layer));
    let gate = hub.fault(gate.does(What::Gate(Some(3_000_000))));
    let larder = Options::mirror_of(&hub).rest();
    let images = ["warm", "first:1", "second:1"];
    let (mut command, _home) = larder.command(&images);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut warm = command.spawn().unwrap();
    let wait = Duration::from_millis(10);
    // All of the first image is there, and what was sent of the second is written.
    let is_so_far = || {
        let files = files(&larder.tree());
        let data = files.iter().filter(|file| file.ends_with("data"));
        let fill = files.iter().find(|file| file.ends_with("fill"));
        let length = fill.and_then(|file| Some(std::fs::metadata(file).ok()?.len()));
        // One is linked after the other, and a link that a kill interrupts stays as a `.tmp` until
        // the next sweep.
        let linked = |place: &str| {
            let is_in = |file: &&PathBuf| file.iter().any(|step| step == place);
            let links = files.iter().filter(|file| file.ends_with("link"));
            links.filter(is_in).count()
        };
        let is_staged = |file: &PathBuf| file.extension().is_some_and(|end| end == "tmp");
        // Two manifests, two configs, one layer.
        data.count() == 5
            && (linked("revisions"), linked("_layers")) == (2, 3)
            && !files.iter().any(is_staged)
            && length >= Some(SENT)
    };
    while !is_so_far() {
        tokio::time::sleep(wait).await;
    }
    warm.kill().unwrap();
    warm.wait().unwrap();
    hub.heal(gate);
    hub.open(gate);
    hub.clear_log();
    let words = ["here   first:1", "ready  second:1"];
    assert_says(larder.run(&images).await, &words);
    let asked = hub.asked();
    let blobs = asked.iter().filter(|asked| asked.kind == Kind::Blob);
    let bytes: u64 = blobs.map(Asked::body_sent).sum();
    assert!(
        bytes < 4_000_000 - SENT + 100_000,
        "{bytes} bytes: {asked:?}"
    );
    assert_sound(&larder.tree());
    assert_nothing_staged(&larder.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_manifest_the_disk_does_not_take_is_not_ready() {
    let hub = docker_hub().await;
    let image = Image::random(1, &[20_000]);
    hub.push("library/app", "1", &image);
    // Another manifest of the same layers.
    let mut other: serde_json::Value = serde_json::from_slice(&image.manifest_bytes()).unwrap();
    other["annotations"] = json!({ "a": "b" });
    let other = other.to_string();
    let digest = hub.put_manifest("library/app", Some("2"), image.media_type(), other);
    let disk = Disk::with("size=16m,nr_inodes=200");
    let larder = Options::mirror_of(&hub).on(&disk.root()).rest();
    larder.run(&["warm", "app:1"]).await.expect_success();
    disk.use_inodes_but(0);
    let output = larder.run(&["warm", "app:2"]).await;
    let told = format!("failed app:2: there is no room for {digest}");
    assert_fails(&output, &[&told]);
    disk.empty();
    assert_says(larder.run(&["warm", "app:2"]).await, &["app:2"]);
    let verify = ["verify", "--offline", "app:2", "--platform", "linux/amd64"];
    assert_says(larder.run(&verify).await, &["1 of 1 image ready"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_images_share_come_once_and_are_linked_for_each() {
    let hub = docker_hub().await;
    let image = Image::random(1, &[800_000, 300_000]);
    let names = ["one", "two", "three", "four", "five"];
    for name in names {
        hub.push(&format!("library/{name}"), "latest", &image);
    }
    let larder = Options::mirror_of(&hub).rest();
    let output = larder.run(&[&["warm"], &names[..]].concat()).await;
    assert_says(output, &["5 images: fetched "]);
    let bytes = hub.body_bytes();
    assert!(bytes < image.total_size() + 20_000, "{bytes}");
    let verify = ["verify", "--offline", "--platform", "linux/amd64"];
    let output = larder.run(&[&verify[..], &names].concat()).await;
    assert_says(output, &["5 of 5 images ready"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_image_is_enough_when_its_upstream_is_away() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let larder = Options::mirror_of(&hub).never_fresh().rest();
    larder.run(&["warm", "app:1"]).await.expect_success();
    hub.down().await;
    let output = larder.run(&["warm", "app:1"]).await;
    assert_says(output, &["here   app:1", "its upstream could not be asked"]);
}
