//! What is shown, and that showing it costs no upstream a question.

use serde_json::{Value, json};

use super::{api, pull};
use crate::support::hub::Hub;
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};
use crate::support::until::until;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A mirror of an image for two platforms, of which one is here, and a pushed image that has a
/// layer in common with it.
async fn stocked(hub: &Hub) -> (Larder, Image, Image) {
    let child = |seed| Image::random(seed, &[30_000, 2000]);
    let image = Image::index(vec![(child(1), "amd64"), (child(2), "arm64")]).oci();
    hub.push("library/x", "1", &image);
    let larder = Options::mirror_of(hub).start().await;
    let amd64 = &image.children()[0];
    for path in [
        "manifests/1".to_owned(),
        format!("manifests/{}", amd64.digest()),
    ] {
        assert_eq!(
            larder.get(&format!("/v2/library/x/{path}")).await.status,
            200
        );
    }
    for (digest, _) in amd64.blobs() {
        let path = format!("/v2/library/x/blobs/{digest}");
        assert_eq!(larder.get(&path).await.status, 200);
    }
    let local = child(1).oci();
    larder.push("team/app", "v1", &local).await;
    larder.push("team/app", "v2", &local).await;
    (larder, image, local)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_here_is_shown_and_no_upstream_is_asked_for_it() {
    let hub = Hub::start().await;
    let (larder, image, local) = stocked(&hub).await;
    hub.clear_log();
    until("it is counted", async || {
        let state = api(&larder, "").await;
        state["disk"]["counted"] == true && state["tags"] == 3
    })
    .await;
    let state = api(&larder, "").await;
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(state["address"], larder.address());
    assert_eq!(
        (&state["tls"], &state["repositories"]),
        (&json!(false), &json!(2))
    );
    let may = json!({ "delete": true, "warm": true, "pin": true });
    assert_eq!(
        state["you"],
        json!({ "name": null, "anonymous": true, "may": may })
    );
    let fetched = state["totals"]["fetched"].as_u64().unwrap();
    assert!(fetched > 32_000 && state["totals"]["served"].as_u64() >= Some(fetched));
    assert_eq!(state["totals"]["pulls"]["miss"], 5);
    let history = api(&larder, "history").await;
    assert_eq!(history["step"], 60);
    assert_eq!(history["points"][0]["fetched"], fetched);

    let listed = api(&larder, "repositories").await;
    let names = |listed: &Value| -> Vec<String> {
        let rows = listed["repositories"].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&listed), ["docker.io/library/x", "team/app"]);
    let (mirror, pushed) = (&listed["repositories"][0], &listed["repositories"][1]);
    assert_eq!(
        (&mirror["origin"], &pushed["origin"]),
        (&json!("docker.io"), &json!("local"))
    );
    assert_eq!((&mirror["tags"], &pushed["tags"]), (&json!(1), &json!(2)));
    assert_eq!(
        (&mirror["shadows"], &pushed["shadows"]),
        (&json!(false), &json!(true))
    );
    assert!(mirror["used"].is_string() && pushed["used"].is_null());
    assert_eq!(pushed["bytes"], local.total_size());
    for (query, expected) in [
        ("?origin=local", vec!["team/app"]),
        ("?origin=mirror", vec!["docker.io/library/x"]),
        ("?origin=docker.io", vec!["docker.io/library/x"]),
        ("?origin=ghcr.io", vec![]),
        ("?search=APP", vec!["team/app"]),
        ("?last=docker.io/library/x", vec!["team/app"]),
    ] {
        let listed = api(&larder, &format!("repositories{query}")).await;
        assert_eq!(names(&listed), expected, "{query}");
    }
    assert_eq!(api(&larder, "repositories?n=1").await["more"], true);

    let tags = api(&larder, "tags?repository=docker.io/library/x").await;
    assert_eq!((&tags["origin"], &tags["may"]), (&json!("docker.io"), &may));
    let tag = &tags["tags"][0];
    assert_eq!(
        (&tag["tag"], &tag["digest"]),
        (&json!("1"), &json!(image.digest()))
    );
    assert_eq!(tag["media_type"], image.media_type());
    let platforms = json!([
        { "name": "linux/amd64", "here": true },
        { "name": "linux/arm64", "here": false },
    ]);
    assert_eq!(tag["platforms"], platforms);
    let sizes = ["own", "shared", "size"].map(|key| tag[key].as_u64().unwrap());
    // Both layers, the config and the child's manifest are the pushed image's, too.
    assert_eq!(sizes[0], image.manifest_bytes().len() as u64);
    assert_eq!(
        (sizes[1], sizes[2]),
        (local.total_size(), sizes[0] + sizes[1])
    );
    assert!(tag["used"].is_string() && tag["dated"].is_string() && tag["stale_since"].is_null());
    let tags = api(&larder, "tags?repository=team/app&n=1").await;
    assert_eq!(
        (&tags["more"], &tags["tags"][0]["tag"]),
        (&json!(true), &json!("v1"))
    );
    let tags = api(&larder, "tags?repository=team/app&last=v1&search=V").await;
    assert_eq!(
        (&tags["more"], &tags["tags"][0]["tag"]),
        (&json!(false), &json!("v2"))
    );

    let shown = api(&larder, "image?repository=docker.io/library/x&reference=1").await;
    assert_eq!(
        (&shown["tag"], &shown["digest"]),
        (&json!("1"), &json!(image.digest()))
    );
    assert_eq!(shown["platforms"][0]["here"], true);
    assert_eq!(shown["platforms"][1]["here"], false);
    assert_eq!(shown["config"]["architecture"], "amd64");
    let layers = image.children()[0].layer_digests();
    assert_eq!(shown["layers"][0]["digest"], layers[0].as_str());
    assert_eq!(shown["layers"][0]["here"], true);
    let pull = format!("docker pull {}/docker.io/library/x:1", larder.address());
    assert_eq!(shown["pull"], pull.as_str());
    let other = "image?repository=docker.io/library/x&reference=1&platform=linux/arm64";
    let other = api(&larder, other).await;
    assert_eq!(
        (&other["config"], &other["layers"]),
        (&Value::Null, &json!([]))
    );

    let upstreams = api(&larder, "upstreams").await;
    let hubs = &upstreams["upstreams"][0];
    assert_eq!(
        (&hubs["name"], &hubs["state"]),
        (&json!("docker.io"), &json!("up"))
    );
    assert_eq!(hubs["images"], 1);
    let evictions = api(&larder, "evictions").await;
    let next = &evictions["next"][0];
    assert_eq!(next["repository"], "docker.io/library/x");
    // The rest is the pushed image's as well.
    assert_eq!(next["frees"], image.manifest_bytes().len());
    assert!(evictions["next"][1].is_null(), "{evictions}");
    let found = api(&larder, "search?q=app:V").await;
    let app = |tag| json!({ "repository": "team/app", "tag": tag, "origin": "local" });
    assert_eq!(
        found,
        json!({ "found": [app("v1"), app("v2")], "more": false })
    );
    assert_eq!(api(&larder, "search?q=app&n=1").await["more"], true);
    let clients = api(&larder, "clients").await;
    let docker = &clients["clients"][0];
    assert_eq!(docker["name"], "docker");
    let text = docker["files"][0]["text"].as_str().unwrap();
    let mirror = format!("\"registry-mirrors\": [\"{}\"]", larder.url());
    assert!(text.contains(&mirror), "{text}");
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    larder.finish().await;
}

/// All parts of a list, one after the other, as its entries' names.
async fn walked(larder: &Larder, kind: &str, query: &str, n: usize) -> Vec<String> {
    let (mut names, mut last) = (Vec::new(), String::new());
    loop {
        let part = api(larder, &format!("{kind}?{query}&n={n}&last={last}")).await;
        let rows = part[kind].as_array().unwrap();
        let key = if kind == "tags" { "tag" } else { "name" };
        names.extend(rows.iter().map(|row| row[key].as_str().unwrap().to_owned()));
        if part["more"] == false {
            assert_eq!(part["next"], Value::Null, "{part}");
            return names;
        }
        assert_eq!(rows.len(), n, "{part}");
        part["next"].as_str().unwrap().clone_into(&mut last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_by_name_by_size_or_by_use_part_by_part() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub).start().await;
    // Two are of one size: their names decide.
    let pushed = [("d", 40_000), ("a", 90_000), ("c", 5000), ("b", 40_000)];
    for (seed, (name, size)) in (1..).zip(pushed) {
        let image = Image::uniform(seed, 1, size);
        larder.push(&format!("team/{name}"), "1", &image).await;
        larder.push("team/tags", name, &image).await;
    }
    for (seed, name) in [(11, "z"), (12, "x"), (13, "y")] {
        let image = Image::uniform(seed, 1, 20_000);
        hub.push(&format!("library/{name}"), "1", &image);
        pull(&larder, &format!("library/{name}"), "1", &image).await;
    }
    let hubs = ["x", "y", "z"].map(|name| format!("docker.io/library/{name}"));
    let [x, y, z] = &hubs;
    let team = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("team/{name}")).collect()
    };
    let by_name = [&hubs[..], &team(&["a", "b", "c", "d", "tags"])].concat();
    let by_size = [&team(&["tags", "a", "b", "d"])[..], &hubs, &team(&["c"])].concat();
    let last_used = [y.clone(), x.clone(), z.clone()];
    let by_use = [&last_used[..], &team(&["a", "b", "c", "d", "tags"])].concat();
    for n in [1, 2, 3, 8, 100] {
        for (query, expected) in [
            ("sort=", &by_name),
            ("sort=name", &by_name),
            ("sort=size", &by_size),
            ("sort=used", &by_use),
        ] {
            let got = walked(&larder, "repositories", query, n).await;
            assert_eq!(&got, expected, "{query} by {n}");
        }
        let filtered = "sort=size&origin=local&search=M/";
        let got = walked(&larder, "repositories", filtered, n).await;
        assert_eq!(got, team(&["tags", "a", "b", "d", "c"]), "by {n}");
        for (sort, expected) in [
            ("name", ["a", "b", "c", "d"]),
            ("size", ["a", "b", "d", "c"]),
            ("used", ["a", "b", "c", "d"]),
        ] {
            let query = format!("repository=team/tags&sort={sort}");
            let got = walked(&larder, "tags", &query, n).await;
            assert_eq!(got, expected, "{sort} by {n}");
        }
    }
    // A place needs nothing to be there.
    let behind = "repositories?sort=size&last=50000:nothing";
    let behind = api(&larder, behind).await;
    assert_eq!(behind["repositories"][0]["name"], "team/b", "{behind}");
    let none = api(&larder, "repositories?sort=size&n=0").await;
    assert_eq!((&none["more"], &none["next"]), (&json!(true), &Value::Null));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_makes_no_sense_is_said() {
    let larder = Options::registry().start().await;
    for (method, path, status, code) in [
        ("GET", "none", 404, "UNSUPPORTED"),
        ("GET", "tags", 400, "UNSUPPORTED"),
        ("GET", "tags?repository=team/app", 404, "NAME_UNKNOWN"),
        ("GET", "tags?repository=..%2F..", 400, "NAME_INVALID"),
        (
            "GET",
            "image?repository=team/app&reference=1",
            404,
            "NAME_UNKNOWN",
        ),
        (
            "GET",
            "image?repository=a&reference=sha256:x",
            400,
            "DIGEST_INVALID",
        ),
        (
            "GET",
            "repositories?n=many",
            400,
            "PAGINATION_NUMBER_INVALID",
        ),
        ("GET", "repositories?sort=age", 400, "UNSUPPORTED"),
        ("GET", "repositories?sort=size&last=a", 400, "UNSUPPORTED"),
        ("GET", "warm/none", 404, "UNSUPPORTED"),
        ("POST", "tags?repository=a", 405, "UNSUPPORTED"),
        ("GET", "pins?repository=a&tag=1", 405, "UNSUPPORTED"),
        ("PUT", "events", 405, "UNSUPPORTED"),
    ] {
        let request = larder.request(method, &format!("/api/v1/{path}"));
        let answer = larder.send(request).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code.into()),
            "{path}"
        );
    }
    let head = larder.head("/api/v1/").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_wrote_into_an_image_comes_out_as_he_wrote_it() {
    let hostile = "<img src=x onerror=alert(1)>\"'&\u{202e}\u{0}\u{7}\n]]>";
    let larder = Options::registry().start().await;
    let layer = larder.push_blob("team/app", b"layer").await;
    let config = json!({
        "os": "linux", "architecture": hostile, "author": hostile, "created": hostile,
        "config": {
            "Labels": { hostile: hostile }, "Cmd": [hostile], "Env": [format!("{hostile}=1")],
            "User": hostile,
        },
        "history": [
            { "created_by": hostile, "comment": hostile },
            { "created_by": "nothing", "empty_layer": true },
        ],
    });
    let config = config.to_string().into_bytes();
    let size = config.len();
    let config = larder.push_blob("team/app", &config).await;
    let manifest = |annotation: &str, subject: Option<&str>| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config, "size": size,
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5,
            }],
            "annotations": { annotation: annotation },
        });
        if let Some(subject) = subject {
            manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
            manifest["artifactType"] = json!("application/x-<b>");
        }
        manifest.to_string().into_bytes()
    };
    let top = manifest(hostile, None);
    let pushed = larder
        .put_manifest("team/app", "1", MANIFEST, top.clone())
        .await;
    assert_eq!(pushed.status, 201);
    let signature = manifest("signed", Some(&sha256(&top)));
    let name = sha256(&signature);
    let pushed = larder
        .put_manifest("team/app", &name, MANIFEST, signature)
        .await;
    assert_eq!(pushed.status, 201);
    let answer = larder
        .get("/api/v1/image?repository=team/app&reference=1")
        .await;
    // On the wire nothing of it is anything but a text in JSON.
    assert!(!answer.body.contains(&0) && !answer.body.contains(&7));
    let image = answer.json();
    assert_eq!(image["annotations"], json!({ hostile: hostile }));
    let shown = &image["config"];
    assert_eq!(shown["labels"], json!({ hostile: hostile }));
    for key in ["architecture", "author", "created", "user"] {
        assert_eq!(shown[key], hostile, "{key}");
    }
    assert_eq!(shown["cmd"], json!([hostile]));
    assert_eq!(shown["env_names"], json!([hostile.split('=').next()]));
    assert_eq!(image["history"][0]["comment"], hostile);
    assert_eq!(image["layers"][0]["created_by"], hostile);
    let referrer = &image["referrers"][0];
    assert_eq!(referrer["digest"], name.as_str());
    assert_eq!(referrer["artifact_type"], "application/x-<b>");
    assert_eq!(referrer["annotations"], json!({ "signed": "signed" }));
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_to_the_directory_appears_by_itself() {
    let hub = Hub::start().await;
    let image = Image::random(7, &[1000]);
    hub.push("library/x", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    pull(&larder, "library/x", "1", &image).await;
    larder.push("team/app", "1", &image).await;
    assert_eq!(api(&larder, "").await["tags"], 2);
    let tags = larder.tree().join("repositories/team/app/_manifests/tags");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([tags.join("1"), tags.join("by-hand")])
        .status();
    assert!(copied.unwrap().success());
    until("the tag made by hand is listed", async || {
        api(&larder, "search?q=by-hand").await["found"][0].is_object()
    })
    .await;
    std::fs::remove_dir_all(tags.join("by-hand")).unwrap();
    std::fs::remove_dir_all(larder.tree().join("repositories/docker.io")).unwrap();
    until("what was removed by hand is not listed", async || {
        api(&larder, "").await["tags"] == 1
    })
    .await;
    larder.finish().await;
}
