//! `larder ls`: what is stored, from whom, how large, how old.

use std::fs;

use serde_json::{Value, json};

use crate::registry::{assert_pullable, delete};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Htpasswd, Larder, Options};
use crate::support::tree::files;
use crate::support::until::until;

fn image(seed: u64) -> Image {
    Image::random(seed, &[3_000, 4_000])
}

async fn ls(larder: &Larder, arguments: &[&str]) -> Value {
    let arguments = [&["ls", "--json"], arguments].concat();
    let said = larder.run(&arguments).await.expect_success();
    serde_json::from_str(&said).expect("JSON")
}

async fn names(larder: &Larder, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["ls", "-q"], arguments].concat();
    let said = larder.run(&arguments).await.expect_success();
    said.lines().map(str::to_owned).collect()
}

fn find<'a>(listed: &'a Value, name: &str, tag: &str) -> &'a Value {
    let images = listed["images"].as_array().expect("images");
    let mut found = images
        .iter()
        .filter(|it| it["name"] == name && it["tag"] == tag);
    found
        .next()
        .unwrap_or_else(|| panic!("{name}:{tag}: {listed:#}"))
}

#[tokio::test]
async fn every_tag_is_listed_with_where_it_came_from_and_what_it_takes() {
    let hub = Hub::start().await;
    let index = Image::index(vec![(image(1), "amd64"), (image(2), "arm64")]);
    let held = image(3);
    hub.push("library/multi", "1", &index);
    hub.push("library/held", "20", &held);
    hub.push("library/held", "other", &held);
    let mut larder = Options::mirror_of(&hub)
        .never_fresh()
        .set(&["cache", "pin"], json!(["multi:*"]))
        .set(&["cache", "hold"], json!({"held:20": held.digest()}))
        .start()
        .await;
    assert_eq!(
        larder.get("/v2/library/multi/manifests/1").await.status,
        200
    );
    let child = &index.children()[1];
    assert_pullable(&larder, "library/multi", &child.digest(), child).await;
    assert_pullable(&larder, "library/held", "20", &held).await;
    assert_pullable(&larder, "library/held", "other", &held).await;
    larder.push("team/app", "1", &held).await;
    larder.push("team/app", "2", &held).await;
    larder.push("team/alone", "1", &image(9)).await;
    hub.down().await;
    assert_eq!(
        larder.get("/v2/library/multi/manifests/1").await.status,
        200
    );
    let before = files(larder.root());
    for is_alone in [false, true] {
        if is_alone {
            larder.kill().await;
        }
        let listed = ls(&larder, &[]).await;
        assert_eq!(
            (&listed["count"], listed["images"].as_array().unwrap().len()),
            (&json!(4), 6)
        );
        let bytes = |of: &Image| of.total_size();
        let manifest = index.manifest_bytes().len() as u64;
        let own = manifest + bytes(child);
        assert_eq!(
            listed["bytes"],
            json!(own + bytes(&held) + bytes(&image(9)))
        );

        let multi = find(&listed, "docker.io/library/multi", "1");
        assert_eq!(multi["from"], "docker.io");
        assert_eq!(multi["kind"], "mirror");
        assert_eq!(multi["digest"], index.digest());
        assert_eq!(multi["platforms"]["present"], 1);
        assert_eq!(multi["platforms"]["listed"], 2);
        assert_eq!(multi["platforms"]["names"], json!(["linux/arm64"]));
        assert_eq!((&multi["own"], &multi["shared"]), (&json!(own), &json!(0)));
        assert_eq!(
            (&multi["pinned"], &multi["held"]),
            (&json!(true), &json!(false))
        );
        assert!(multi["stale_since"].is_string() && multi["dated"].is_string());

        let first = find(&listed, "docker.io/library/held", "20");
        assert_eq!(
            (&first["pinned"], &first["held"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(
            find(&listed, "docker.io/library/held", "other")["held"],
            json!(false)
        );
        // Pushed as well: whoever removes one of them gains nothing.
        for (name, tag) in [
            ("docker.io/library/held", "20"),
            ("team/app", "1"),
            ("team/app", "2"),
        ] {
            let it = find(&listed, name, tag);
            assert_eq!(
                (&it["own"], &it["shared"]),
                (&json!(0), &json!(bytes(&held)))
            );
        }
        let alone = find(&listed, "team/alone", "1");
        assert_eq!(
            (&alone["from"], &alone["kind"]),
            (&json!("local"), &json!("local"))
        );
        assert_eq!(
            (&alone["own"], &alone["used"]),
            (&json!(bytes(&image(9))), &Value::Null)
        );
        assert!(alone["dated"].is_string());
        assert_eq!(files(larder.root()), before);
    }
    larder.start_again().await;
    larder.finish().await;
}

#[tokio::test]
async fn when_a_mirrored_image_was_last_pulled_is_listed() {
    let hub = Hub::start().await;
    hub.push("library/app", "1", &image(1));
    let mut larder = Options::mirror_of(&hub).start().await;
    assert_pullable(&larder, "library/app", "1", &image(1)).await;
    let used = async |larder: &Larder| {
        let listed = ls(larder, &[]).await;
        let it = find(&listed, "docker.io/library/app", "1");
        it["used"].as_str().map(str::to_owned)
    };
    until("its use is written down", async || {
        used(&larder).await.is_some()
    })
    .await;
    let first = used(&larder).await;
    let table = larder.run(&["ls"]).await.expect_success();
    let row = table.lines().nth(1).expect("a row");
    let cells: Vec<_> = row.split_whitespace().collect();
    assert!(
        cells[6].ends_with('s') && cells[7].ends_with('s'),
        "used and confirmed some seconds ago: {table}"
    );
    // It is known after a restart, and each pull is one.
    larder.kill().await;
    larder.start_again().await;
    assert!(used(&larder).await.is_some());
    until("a later use is written down", async || {
        larder.head("/v2/library/app/manifests/1").await;
        used(&larder).await > first
    })
    .await;
    larder.finish().await;
}

#[tokio::test]
async fn names_are_meant_as_docker_means_them_and_the_local_ones_too() {
    let hub = Hub::start().await;
    for name in ["library/app", "team/app"] {
        hub.push(name, "1", &image(1));
    }
    let larder = Options::mirror_of(&hub)
        .upstream("ghcr.io", &hub)
        .start()
        .await;
    for name in [
        "docker.io/library/app",
        "docker.io/team/app",
        "ghcr.io/team/app",
    ] {
        assert_pullable(&larder, name, "1", &image(1)).await;
    }
    larder.push("team/app", "2", &image(1)).await;
    larder.push("app", "2", &image(1)).await;
    let all = [
        "app:2",
        "docker.io/library/app:1",
        "docker.io/team/app:1",
        "ghcr.io/team/app:1",
        "team/app:2",
    ];
    assert_eq!(names(&larder, &[]).await, all);
    assert_eq!(names(&larder, &["*"]).await, all);
    assert_eq!(names(&larder, &["app"]).await, [all[0], all[1]]);
    assert_eq!(names(&larder, &["team/app"]).await, [all[2], all[4]]);
    assert_eq!(names(&larder, &["team/*:2"]).await, [all[4]]);
    assert_eq!(
        names(&larder, &["ghcr.io/*", "app:1"]).await,
        [all[1], all[3]]
    );
    assert!(names(&larder, &["nothing"]).await.is_empty());
    // Without a tag it is listed where that is asked for.
    let digest = image(1).digest();
    let tag = "/v2/team/app/manifests/2";
    assert_eq!(delete(&larder, tag).await.status, 202);
    assert!(names(&larder, &["team/app"]).await == [all[2]]);
    assert_eq!(
        names(&larder, &["-a", "team/app"]).await,
        [all[2].to_owned(), format!("team/app@{digest}")]
    );
    let said = larder.run(&["ls", "Not a name"]).await;
    assert!(
        !said.success && said.stderr.contains("a pattern is"),
        "{said:?}"
    );
    larder.finish().await;
}

#[tokio::test]
async fn the_table_fits_a_terminal_and_is_whole_elsewhere() {
    let hub = Hub::start().await;
    let tag = "2026.11.21-a-very-long-tag-of-a-nightly-build-of-some-branch";
    hub.push("organisation/project/component/service", tag, &image(1));
    let larder = Options::mirror_of(&hub).start().await;
    let name = "docker.io/organisation/project/component/service";
    assert_pullable(&larder, name, tag, &image(1)).await;
    let piped = larder.run(&["ls"]).await.expect_success();
    let lines: Vec<_> = piped.lines().collect();
    assert!(
        lines[0].starts_with("IMAGE ") && lines[0].ends_with(" STATE"),
        "{piped}"
    );
    assert!(
        lines[1].contains(&format!(
            "organisation/project/component/service:{tag}  docker.io"
        )),
        "{piped}"
    );
    assert!(
        lines[1].contains(&image(1).digest()["sha256:".len()..][..12]),
        "{piped}"
    );
    assert!(lines[2].starts_with("1 image, 1 tag, "), "{piped}");
    let whole = larder.run(&["ls", "--digests"]).await.expect_success();
    assert!(whole.contains(&image(1).digest()), "{whole}");

    let (command, home) = larder.command(&["ls"]);
    let line: Vec<_> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|it| format!("'{}'", it.to_string_lossy()))
        .collect();
    let line = format!("stty cols 80 && {}", line.join(" "));
    let shown = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(home.path())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script is a part of every system");
    let shown = String::from_utf8_lossy(&shown.stdout);
    let row = shown
        .lines()
        .find(|it| it.contains("docker.io"))
        .unwrap_or_else(|| panic!("{shown}"));
    assert!(
        shown.lines().all(|it| it.trim_end().chars().count() <= 80),
        "{shown}"
    );
    assert!(row.contains('…') && row.contains("1/1"), "{shown}");
    larder.finish().await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_made() {
    let mut larder = Options::registry().start().await;
    larder.kill().await;
    let moved = larder.root().with_extension("moved");
    fs::rename(larder.root(), &moved).unwrap();
    let said = larder.run(&["ls"]).await;
    assert!(
        !said.success && said.stderr.contains("is not there"),
        "{said:?}"
    );
    assert!(!larder.root().exists());
    fs::rename(moved, larder.root()).unwrap();
    larder.start_again().await;
    larder.finish().await;
}

#[tokio::test]
async fn upstreams_are_listed_with_what_the_server_knows_of_them() {
    let hub = Hub::start().await;
    let mut larder = Options::mirror_of(&hub)
        .upstream("ghcr.io", &hub)
        .start()
        .await;
    larder.kill().await;
    let hint = larder.root().join("larder.upstreams");
    fs::remove_file(&hint).ok();
    let said = larder.run(&["ls", "--upstreams"]).await.expect_success();
    assert!(
        said.contains("docker.io  -") && said.contains("ghcr.io    -"),
        "{said}"
    );
    let budget = json!({"limit": 100, "remaining": 87, "window": 21_600, "seen": 1_700_000_000});
    let known = json!({"written": 1_700_000_000, "upstreams": {
        "docker.io": {"state": "up", "since": 1_700_000_000, "budget": budget},
        "ghcr.io": {"state": "down", "since": 1_700_000_000, "reason": "it does not answer"},
    }});
    fs::write(&hint, known.to_string()).unwrap();
    let said = larder.run(&["ls", "--upstreams"]).await.expect_success();
    assert!(
        said.contains("87 of 100 in 6h") && said.contains("it does not answer"),
        "{said}"
    );
    let listed: Value = serde_json::from_str(
        &larder
            .run(&["ls", "--upstreams", "--json"])
            .await
            .expect_success(),
    )
    .unwrap();
    assert_eq!(listed["upstreams"][0]["budget"]["remaining"], 87);
    assert_eq!(listed["upstreams"][1]["state"], "down");
    larder.start_again().await;
    larder.finish().await;
}

/// How many files of the data directory a listing opens.
async fn files_opened(larder: &Larder) -> usize {
    let (listing, home) = larder.command(&["ls", "-q"]);
    let trace = home.path().join("trace");
    let mut strace = std::process::Command::new("strace");
    strace
        .args(["-f", "-e", "trace=openat", "-o"])
        .arg(&trace)
        .arg(listing.get_program())
        .args(listing.get_args())
        .current_dir(home.path());
    let done = tokio::task::spawn_blocking(move || strace.output().unwrap());
    let done = done.await.unwrap();
    assert!(done.status.success(), "{done:?}");
    let root = larder.tree().display().to_string();
    let trace = fs::read_to_string(trace).unwrap();
    trace
        .lines()
        .filter(|line| line.contains(&root) && !line.contains("O_DIRECTORY"))
        .count()
}

#[tokio::test]
async fn a_listing_opens_a_tag_and_its_manifest_once() {
    let larder = Options::registry().start().await;
    larder.push("team/app", "first", &image(1)).await;
    let before = files_opened(&larder).await;
    for seed in 2..12 {
        let image = image(seed);
        for tag in ["a", "b"] {
            larder
                .push("team/app", &format!("{tag}{seed}"), &image)
                .await;
        }
    }
    let more = files_opened(&larder).await - before;
    assert_eq!(
        more,
        20 + 10,
        "a link for each tag, a manifest for each image"
    );
    assert_eq!(names(&larder, &[]).await.len(), 21);
    larder.finish().await;
}

#[tokio::test]
async fn where_there_is_nothing_to_list_that_is_said() {
    let larder = Options::registry().start().await;
    let said = larder.run(&["ls"]).await.expect_success();
    assert!(said.starts_with("nothing is here yet"), "{said}");
    assert_eq!(names(&larder, &[]).await, Vec::<String>::new());
    larder.push("team/app", "1", &image(1)).await;
    let said = larder.run(&["ls", "other"]).await.expect_success();
    assert!(
        said.starts_with("no image that is here is called so"),
        "{said}"
    );
    // What others' programs call it.
    let wrong = larder.run(&["list", "--all"]).await;
    let told = "there is no command list";
    assert!(!wrong.success && wrong.stderr.contains(told), "{wrong:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larder_elsewhere_is_listed_as_its_directory_is() {
    let hub = Hub::start().await;
    let index = Image::index(vec![(image(1), "amd64"), (image(2), "arm64")]);
    let held = image(3);
    hub.push("library/multi", "1", &index);
    hub.push("library/held", "20", &held);
    let larder = Options::mirror_of(&hub)
        .set(&["cache", "pin"], json!(["multi:*"]))
        .set(&["cache", "hold"], json!({"held:20": held.digest()}))
        .start()
        .await;
    let server = ["--server", larder.address()];
    let said = larder.run(&[&["ls"], &server[..]].concat()).await;
    let said = said.expect_success();
    assert!(said.starts_with("nothing is here yet"), "{said}");
    let multi = "/v2/library/multi/manifests/1";
    assert_eq!(larder.get(multi).await.status, 200);
    let child = &index.children()[1];
    assert_pullable(&larder, "library/multi", &child.digest(), child).await;
    assert_pullable(&larder, "library/held", "20", &held).await;
    larder.push("team/app", "1", &held).await;
    larder.push("team/app", "2", &held).await;
    // Nobody is sure of the second in which something was last used, and the API tells for which
    // platform an image is that is for one only.
    let comparable = |mut listed: Value| {
        for image in listed["images"].as_array_mut().expect("images") {
            image["used"].take();
            if image["platforms"]["listed"] == 1 {
                image["platforms"].take();
            }
        }
        listed
    };
    let mut here = comparable(ls(&larder, &[]).await);
    let told = comparable(ls(&larder, &server).await);
    assert_eq!(here["images"].as_array().map(Vec::len), Some(4));
    here["bytes"].take();
    assert_eq!(told, here);
    for wanted in [&["app"][..], &["team/app"], &["multi", "*:2"], &["none"]] {
        let asked = [&server[..], wanted].concat();
        assert_eq!(names(&larder, &asked).await, names(&larder, wanted).await);
    }
    let table = larder.run(&[&["ls"], &server[..]].concat()).await;
    let table = table.expect_success();
    assert!(table.contains("library/multi:1"), "{table}");
    assert!(table.ends_with("3 images, 4 tags\n"), "{table}");
    let upstreams = [&["ls", "--upstreams"], &server[..]].concat();
    let said = larder.run(&upstreams).await.expect_success();
    assert!(said.contains("docker.io  up"), "{said}");

    let absent = larder.run(&["ls", "--server", "127.0.0.1:9"]).await;
    assert!(
        !absent.success && absent.stderr.contains("cannot be reached"),
        "{absent:?}"
    );
    let url = hub.url();
    let other = larder.run(&["ls", "--server", &url]).await;
    assert!(
        !other.success && other.stderr.contains("is it a larder"),
        "{other:?}"
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_larder_elsewhere_each_lists_what_he_may_pull() {
    let users = Htpasswd::new(&[("anna", "anna's"), ("bob", "bob's")]);
    let home = tempfile::tempdir().expect("a directory");
    let open = Options::registry().on(home.path()).start().await;
    for name in ["team/app", "bob/own", "open/app"] {
        open.push(name, "1", &image(1)).await;
    }
    open.finish().await;
    let rules = json!([
        { "who": ["anna"], "may": ["pull"], "names": ["team/*"] },
        { "who": "*", "may": ["pull"], "names": "{user}/*" },
        { "who": "anonymous", "may": ["pull"], "names": "open/*" },
    ]);
    let larder = Options::registry()
        .on(home.path())
        .set(
            &["auth", "htpasswd"],
            json!({ "realm": "here", "path": users.path() }),
        )
        .set(&["auth", "rules"], rules)
        .start()
        .await;
    let list = ["ls", "-q", "--server", larder.address()];
    let as_user = |name, password| {
        let user = [("LARDER_USERNAME", name), ("LARDER_PASSWORD", password)];
        let larder = &larder;
        async move { larder.run_as(&user, &list).await }
    };
    for (name, password, listed) in [
        ("anna", "anna's", "open/app:1\nteam/app:1\n"),
        ("bob", "bob's", "bob/own:1\nopen/app:1\n"),
        // Nobody is asked who he is where something may be pulled without saying so.
        ("", "", "open/app:1\n"),
    ] {
        assert_eq!(as_user(name, password).await.expect_success(), listed);
    }
    for (name, password, said) in [
        ("anna", "guessed", "refused LARDER_USERNAME"),
        ("anna", "", "set both"),
    ] {
        let refused = as_user(name, password).await;
        assert!(
            !refused.success && refused.stderr.contains(said),
            "{refused:?}"
        );
        assert!(!refused.stderr.contains("guessed"), "{refused:?}");
    }
    larder.finish().await;
}
