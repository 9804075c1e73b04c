//! Events: who is told what, in which order, and what happens when nobody listens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use larder::events::{Endpoint, Metrics};
use serde_json::{Value, json};

use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::{Image, sha256};
use crate::support::inside::{Inside, Paper, Wanted};
use crate::support::listening::listen;
use crate::support::programs::{Dockerd, File};
use crate::support::receiver::{Manner, Receiver};
use crate::support::until::until;

/// One that is tried again quickly.
fn endpoint(receiver: &Receiver) -> Endpoint {
    let mut endpoint = Endpoint::new("mine", receiver.url());
    endpoint.timeout = Duration::from_secs(20);
    endpoint.backoff = Duration::from_millis(50);
    endpoint.threshold = 2;
    endpoint
}

fn metrics(larder: &Inside) -> Metrics {
    larder.around.events.reports()[0].metrics.clone()
}

/// Stops it, and returns what was counted until everything was sent.
async fn counted_at_the_end(larder: Inside) -> Metrics {
    let events = larder.around.events.clone();
    larder.finish().await;
    events.reports()[0].metrics.clone()
}

/// Action, repository, digest and tag of each.
fn told(events: &[Value]) -> Vec<String> {
    let told = events.iter().map(|event| {
        let target = &event["target"];
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let (action, repository) = (word(&event["action"]), word(&target["repository"]));
        let (digest, tag) = (word(&target["digest"]), word(&target["tag"]));
        format!("{action} {repository} {digest} {tag}")
    });
    told.collect()
}

#[tokio::test]
async fn a_push_a_pull_a_mount_and_a_delete_are_told_in_full_and_in_order() {
    let receiver = Receiver::start().await;
    let larder = Wanted::telling([endpoint(&receiver)]).start().await;
    let image = Image::random(1, &[3000]);
    let (blobs, manifest) = (image.blobs(), image.digest());
    larder.push("team/app", "1", &image).await;
    let layer = &blobs[1].0;
    let (by_tag, by_digest) = (
        "/v2/team/app/manifests/1",
        format!("/v2/team/app/manifests/{manifest}"),
    );
    let blob = format!("/v2/team/app/blobs/{layer}");
    assert_eq!(larder.ask("GET", by_tag).await.status, 200);
    assert_eq!(larder.ask("HEAD", &by_digest).await.status, 200);
    assert_eq!(larder.ask("HEAD", &blob).await.status, 200);
    let part = larder.request("GET", &blob).header("range", "bytes=0-9");
    assert_eq!(larder.send(part).await.status, 206);
    // The end of a body and the next request may overtake each other.
    receiver.events(7).await;
    let mount = format!("/v2/team/other/blobs/uploads/?mount={layer}&from=team/app");
    assert_eq!(larder.ask("POST", &mount).await.status, 201);
    let tagged = larder.request("PUT", "/v2/team/app/manifests/2");
    let tagged = tagged.header("content-type", image.media_type());
    let tagged = larder.send(tagged.body(image.manifest_bytes())).await;
    assert_eq!(tagged.status, 201);
    for path in [by_tag, &by_digest, &blob] {
        assert_eq!(larder.ask("DELETE", path).await.status, 202);
    }
    let events = receiver.events(13).await;
    let expected = [
        format!("push team/app {} -", blobs[0].0),
        format!("push team/app {layer} -"),
        format!("push team/app {manifest} 1"),
        format!("pull team/app {manifest} 1"),
        format!("pull team/app {manifest} -"),
        format!("pull team/app {layer} -"),
        format!("pull team/app {layer} -"),
        format!("mount team/other {layer} -"),
        format!("push team/app {manifest} 2"),
        "delete team/app  1".to_owned(),
        format!("delete team/app {manifest} -"),
        "delete team/app  2".to_owned(),
        format!("delete team/app {layer} -"),
    ];
    assert_eq!(told(&events), expected);
    assert_in_full(&larder, &receiver, &events, &image);
    let expected = Metrics {
        events: 13,
        successes: 13,
        statuses: BTreeMap::from([("200 OK".to_owned(), 13)]),
        ..Metrics::default()
    };
    assert_eq!(counted_at_the_end(larder).await, expected);
}

fn assert_in_full(larder: &Inside, receiver: &Receiver, events: &[Value], image: &Image) {
    let base = format!("http://{}/v2", larder.address());
    let (layer, bytes) = &image.blobs()[1];
    let (manifest, size) = (image.digest(), image.manifest_bytes().len());
    let stored = json!({
        "mediaType": "application/octet-stream", "digest": layer, "size": bytes.len(),
        "length": bytes.len(), "repository": "team/app",
        "url": format!("{base}/team/app/blobs/{layer}"),
    });
    assert_eq!(events[1]["target"], stored);
    assert_eq!(events[6]["target"], stored, "of a part the whole is told");
    let pushed = json!({
        "mediaType": image.media_type(), "digest": manifest, "size": size, "length": size,
        "repository": "team/app", "tag": "1",
        "url": format!("{base}/team/app/manifests/{manifest}"),
    });
    assert_eq!(events[2]["target"], pushed);
    assert_eq!(events[3]["target"], pushed, "pulled as it was pushed");
    let mounted = json!({
        "mediaType": "application/octet-stream", "digest": layer, "size": bytes.len(),
        "length": bytes.len(), "repository": "team/other", "fromRepository": "team/app",
        "url": format!("{base}/team/other/blobs/{layer}"),
    });
    assert_eq!(events[7]["target"], mounted);
    let gone = json!({
        "mediaType": "", "digest": "", "size": 0, "repository": "team/app", "tag": "1",
    });
    assert_eq!(events[9]["target"], gone);
    let methods = ["PUT", "PUT", "PUT", "GET", "HEAD", "HEAD", "GET", "POST"];
    for (event, method) in events.iter().zip(methods) {
        let request = &event["request"];
        assert_eq!(request["method"], method);
        assert_eq!(request["host"], larder.address().to_string());
        assert_eq!(request["useragent"], "test/1");
        let addr = request["addr"].as_str().unwrap();
        assert!(addr.starts_with("127.0.0.1:"), "{addr}");
        assert_eq!(event["actor"], json!({}), "nobody has logged in");
        let source = event["source"]["addr"].as_str().unwrap();
        assert!(source.ends_with(&format!(":{}", larder.address().port())));
        assert_eq!(
            event["source"]["instanceID"],
            events[0]["source"]["instanceID"]
        );
        let time = event["timestamp"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert_eq!(time.len(), "2026-01-01T00:00:00.123456789Z".len(), "{time}");
    }
    let (manifest, tag) = (&events[10]["request"]["id"], &events[11]["request"]["id"]);
    assert_eq!(manifest, tag, "two events of one request");
    let mut ids: Vec<_> = events.iter().map(|event| event["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), events.len());
    for heard in receiver.heard() {
        assert_eq!(heard.method, "POST");
        let content_type = &heard.headers["content-type"];
        assert_eq!(
            content_type,
            "application/vnd.docker.distribution.events.v2+json"
        );
        assert!(
            heard.body.starts_with("{\n   \"events\": [\n      {\n"),
            "{}",
            heard.body
        );
    }
}

#[tokio::test]
async fn what_fails_is_not_told() {
    let receiver = Receiver::start().await;
    let larder = Wanted::telling([endpoint(&receiver)]).start().await;
    let digest = larder.push_blob("team/app", b"content").await;
    let blob = format!("/v2/team/app/blobs/{digest}");
    let beyond = larder.request("GET", &blob).header("range", "bytes=100-");
    assert_eq!(larder.send(beyond).await.status, 416);
    let known = larder.request("GET", &blob).header("if-match", "\"other\"");
    assert_eq!(larder.send(known).await.status, 412);
    let missing = sha256(b"missing");
    for (method, path) in [
        ("GET", format!("/v2/team/app/blobs/{missing}")),
        ("HEAD", "/v2/team/app/manifests/none".to_owned()),
        ("DELETE", "/v2/team/app/manifests/none".to_owned()),
        ("DELETE", format!("/v2/team/app/blobs/{missing}")),
    ] {
        assert_eq!(larder.ask(method, &path).await.status, 404, "{path}");
    }
    let wrong = format!("/v2/team/app/blobs/uploads/?digest={missing}");
    let wrong = larder.request("POST", &wrong).body("something else");
    assert_eq!(larder.send(wrong).await.status, 400);
    let bad = larder.request("PUT", "/v2/team/app/manifests/1");
    assert_eq!(larder.send(bad.body("{}")).await.status, 400);
    let known = larder
        .request("GET", &blob)
        .header("if-none-match", &digest);
    assert_eq!(larder.send(known).await.status, 304);
    let events = receiver.events(2).await;
    let expected = [
        format!("push team/app {digest} -"),
        // Whoever has it already is told that it is still there.
        format!("pull team/app {digest} -"),
    ];
    assert_eq!(told(&events), expected);
    larder.finish().await;
    assert_eq!(receiver.heard().len(), 2);
}

#[tokio::test]
async fn mirrored_content_is_told_of_by_its_full_name() {
    let (hub, receiver) = (Hub::start().await, Receiver::start().await);
    let image = Image::random(2, &[300_000]);
    hub.push("library/app", "1", &image);
    let larder = Wanted::telling([endpoint(&receiver)]).mirroring(&hub);
    let larder = larder.start().await;
    let layer = &image.layer_digests()[0];
    for path in [
        "/v2/library/app/manifests/1?ns=docker.io".to_owned(),
        format!("/v2/app/blobs/{layer}"),
        format!("/docker.io/v2/library/app/blobs/{layer}"),
    ] {
        assert_eq!(larder.ask("GET", &path).await.status, 200, "{path}");
    }
    let events = receiver.events(3).await;
    let blob = format!("pull docker.io/library/app {layer} -");
    let expected = [
        format!("pull docker.io/library/app {} 1", image.digest()),
        blob.clone(),
        blob,
    ];
    assert_eq!(told(&events), expected);
    let url = events[1]["target"]["url"].as_str().unwrap();
    let (_, path) = url.split_once(&larder.address().to_string()).unwrap();
    assert_eq!(larder.ask("HEAD", path).await.status, 200, "the URL works");
    larder.finish().await;
}

#[tokio::test]
async fn a_push_by_several_tags_is_told_once_for_each() {
    let receiver = Receiver::start().await;
    let larder = Wanted::telling([endpoint(&receiver)]).start().await;
    let image = Image::random(6, &[3000]);
    larder.push("team/app", &image.digest(), &image).await;
    let path = format!("/v2/team/app/manifests/{}?tag=a&tag=b", image.digest());
    let put = larder
        .request("PUT", &path)
        .header("content-type", image.media_type());
    let put = larder.send(put.body(image.manifest_bytes())).await;
    assert_eq!(put.status, 201);
    let events = told(&receiver.events(5).await);
    let expected = ["-", "a", "b"].map(|tag| format!("push team/app {} {tag}", image.digest()));
    assert_eq!(events[2..], expected);
    larder.finish().await;
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_not_told() {
    let (hub, receiver) = (Hub::start().await, Receiver::start().await);
    let image = Image::random(5, &[600_000]);
    hub.push("library/app", "1", &image);
    let larder = Wanted::telling([endpoint(&receiver)]).mirroring(&hub);
    let larder = larder.start().await;
    let layer = &image.layer_digests()[0];
    let path = format!("/v2/library/app/blobs/{layer}");
    hub.fault(Fault::on(Where::blobs().get()).does(What::FlipBit(1000)));
    let broken = larder.ask("GET", &path).await;
    assert!(
        broken.status == 200 && !broken.complete,
        "{}",
        broken.status
    );

    assert_eq!(
        larder
            .ask("HEAD", "/v2/library/app/manifests/1")
            .await
            .status,
        200
    );
    let events = told(&receiver.events(1).await);
    let manifest = format!("pull docker.io/library/app {} 1", image.digest());
    assert_eq!(events, [manifest]);
    larder.finish().await;
    assert_eq!(receiver.heard().len(), 1);
}

#[tokio::test]
async fn what_an_endpoint_does_not_take_is_sent_again_before_anything_else() {
    let receiver = Receiver::start().await;
    let refusals = [500, 404, 503, 400];
    receiver.next(refusals.map(Manner::Status));
    let larder = Wanted::telling([endpoint(&receiver)]).start().await;
    let mut pushed = Vec::new();
    for content in ["a", "b", "c"] {
        let digest = larder.push_blob("team/app", content.as_bytes()).await;
        pushed.push(format!("push team/app {digest} -"));
    }
    assert_eq!(told(&receiver.events(3).await), pushed);
    let heard = receiver.heard();
    assert_eq!(heard.len(), 7);
    assert!(heard[..5].iter().all(|again| again.body == heard[0].body));
    let counted = counted_at_the_end(larder).await;
    let counts = (
        counted.events,
        counted.successes,
        counted.failures,
        counted.pending,
    );
    assert_eq!(counts, (3, 3, 4, 0));
    assert_eq!(counted.statuses["503 Service Unavailable"], 1);
}

#[tokio::test]
async fn events_wait_for_an_endpoint_that_is_down() {
    let receiver = Receiver::start().await;
    let (address, endpoint) = (receiver.address(), endpoint(&receiver));
    drop(receiver);
    let larder = Wanted::telling([endpoint]).start().await;
    let digest = larder.push_blob("team/app", b"content").await;
    assert_eq!(
        larder
            .ask("GET", &format!("/v2/team/app/blobs/{digest}"))
            .await
            .status,
        200
    );
    let failing = async || metrics(&larder).errors >= 3;
    until("three attempts have failed", failing).await;
    assert_eq!(metrics(&larder).pending, 2);
    let receiver = Receiver::on(address).await;
    let expected = ["push", "pull"].map(|action| format!("{action} team/app {digest} -"));
    assert_eq!(told(&receiver.events(2).await), expected);
    larder.finish().await;
}

#[tokio::test]
async fn what_an_endpoint_ignores_another_still_gets() {
    let (picky, curious) = (Receiver::start().await, Receiver::start().await);
    let mut less = endpoint(&picky);
    less.ignored_actions = vec!["pull".to_owned()];
    less.ignored_media_types = vec!["application/octet-stream".to_owned()];
    let larder = Wanted::telling([less, endpoint(&curious)]).start().await;
    let image = Image::random(3, &[3000]);
    larder.push("team/app", "1", &image).await;
    assert_eq!(
        larder.ask("HEAD", "/v2/team/app/manifests/1").await.status,
        200
    );
    let everything = told(&curious.events(4).await);
    assert_eq!(everything.len(), 4);
    assert_eq!(
        told(&picky.events(1).await),
        everything[2..3],
        "the manifest's push"
    );
    larder.finish().await;
    assert_eq!(picky.heard().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_stalls_delays_no_pull_and_loses_what_its_queue_does_not_hold() {
    let (stalled, other) = (Receiver::start().await, Receiver::start().await);
    stalled.usually(Manner::Stall);
    let mut small = endpoint(&stalled);
    small.queue = 5;
    let larder = Wanted::telling([small, endpoint(&other)]).start().await;
    let digest = larder.push_blob("team/app", b"content").await;
    // From here on the first is with the endpoint, and the queue is empty.
    stalled.requests(1).await;
    let started = Instant::now();
    for _ in 0..20 {
        let pulled = larder
            .ask("HEAD", &format!("/v2/team/app/blobs/{digest}"))
            .await;
        assert_eq!(pulled.status, 200);
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "nobody waits for 20 s"
    );
    assert_eq!(other.events(21).await.len(), 21);
    let counted = metrics(&larder);
    assert_eq!(
        (counted.events, counted.pending, counted.dropped),
        (21, 6, 15)
    );
    let vars = larder.debug("/debug/vars").await.json();
    let shown = &vars["registry"]["notifications"]["endpoints"][0];
    assert_eq!(
        (&shown["name"], &shown["Metrics"]["Dropped"]),
        (&json!("mine"), &json!(15))
    );
    assert_eq!(shown["url"], format!("http://{}", stalled.address()));
    let started = Instant::now();
    larder.finish_within(Duration::from_millis(300)).await;
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "nor does a stop"
    );
}

#[tokio::test]
async fn what_waits_is_sent_before_larder_stops() {
    let receiver = Receiver::start().await;
    receiver.usually(Manner::Status(503));
    let mut slow = endpoint(&receiver);
    // Only the stop itself makes it try again in time.
    slow.backoff = Duration::from_mins(10);
    let larder = Wanted::telling([slow]).start().await;
    for content in ["a", "b", "c"] {
        larder.push_blob("team/app", content.as_bytes()).await;
    }
    // After the second failure it waits for ten minutes.
    receiver.requests(2).await;
    receiver.usually(Manner::Status(200));
    let counted = counted_at_the_end(larder).await;
    assert_eq!(receiver.events(3).await.len(), 3);
    assert_eq!(
        (counted.successes, counted.dropped, counted.pending),
        (3, 0, 0)
    );
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever_and_counts_what_is_lost() {
    let receiver = Receiver::start().await;
    receiver.usually(Manner::Status(500));
    let larder = Wanted::telling([endpoint(&receiver)]).start().await;
    for content in ["a", "b", "c"] {
        larder.push_blob("team/app", content.as_bytes()).await;
    }
    let events = larder.around.events.clone();
    larder.finish_within(Duration::from_millis(200)).await;
    let counted = &events.reports()[0].metrics;
    assert_eq!(
        (counted.successes, counted.dropped, counted.pending),
        (0, 3, 0)
    );
}

#[tokio::test]
async fn the_content_of_a_manifest_is_listed_if_wanted() {
    let receiver = Receiver::start().await;
    let mut wanted = Wanted::telling([endpoint(&receiver)]);
    wanted.notifications.include_references = true;
    let larder = wanted.start().await;
    let image = Image::random(4, &[3000, 4000]);
    larder.push("team/app", "1", &image).await;
    assert_eq!(
        larder.ask("GET", "/v2/team/app/manifests/1").await.status,
        200
    );
    let events = receiver.events(5).await;
    let manifest: Value = serde_json::from_slice(&image.manifest_bytes()).unwrap();
    let mut expected = vec![manifest["config"].clone()];
    expected.extend(manifest["layers"].as_array().unwrap().clone());
    for event in &events[3..] {
        assert_eq!(event["target"]["references"], json!(expected));
    }
    assert!(
        events[0]["target"].get("references").is_none(),
        "a blob has none"
    );
    larder.finish().await;
}

#[tokio::test]
async fn a_redirect_counts_as_taken_and_leads_nowhere() {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    receiver.usually(Manner::Redirect(elsewhere.url().into()));
    let mut with_secret = endpoint(&receiver);
    with_secret.headers = vec![("X-Key".to_owned(), "s3cret-header".to_owned())];
    let larder = Wanted::telling([with_secret]).start().await;
    larder.push_blob("team/app", b"content").await;
    receiver.events(1).await;
    assert_eq!(receiver.heard()[0].headers["x-key"], "s3cret-header");
    larder.finish().await;
    assert!(elsewhere.heard().is_empty());
    assert_eq!(receiver.heard().len(), 1);
}

/// In one thread, so that its log can be read: what is spawned logs there too.
#[tokio::test(flavor = "current_thread")]
async fn neither_the_log_nor_the_counters_show_an_endpoints_secrets() {
    let log = Paper::default();
    let paper = log.clone();
    let lines = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || paper.clone());
    let _listening = listen(lines.finish());
    let receiver = Receiver::start().await;
    receiver.next([Manner::Status(500)]);
    let (address, mut known) = (receiver.address(), endpoint(&receiver));
    let header = ("Authorization".to_owned(), "Bearer s3cret-token".to_owned());
    known.headers = vec![header.clone()];
    let mut user = known.clone();
    user.url.set_username("s3cret-user").unwrap();
    user.url.set_password(Some("s3cret-password")).unwrap();
    let settings = format!("{known:?} {user:?}");
    let larder = Wanted::telling([known, user]).start().await;
    larder.push_blob("team/app", b"content").await;
    receiver.events(2).await;
    drop(receiver);
    larder.push_blob("team/app", b"more").await;
    let failing = async || metrics(&larder).errors >= 2;
    until("two attempts have failed", failing).await;
    let vars = larder.debug("/debug/vars").await;
    larder.finish_within(Duration::from_millis(100)).await;
    let written = log.text();
    assert!(written.contains("an event was not taken"), "{written}");
    assert!(written.contains(&format!("http://{address}")), "{written}");
    let shown = written + &settings + &String::from_utf8_lossy(&vars.body);
    // reqwest and hyper say at TRACE what is sent; larder's log never shows that.
    let ours = shown.lines().filter(|line| !line.contains("TRACE"));
    let leaks: Vec<_> = ours.filter(|line| line.contains("s3cret")).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_push_and_pull_are_told() {
    const FILES: &[File<'static>] = &[("etc/greeting", b"hello\n")];
    let receiver = Receiver::start().await;
    let larder = Wanted::telling([endpoint(&receiver)]).start().await;
    let docker = Dockerd::without_mirror().await;
    let name = format!("{}/team/app:1.0", larder.address());
    docker.build_scratch_image(&name, FILES).await;
    docker.push(&name).await;
    let is_tagged = |action: &str| {
        let wanted = action.to_owned();
        move |event: &Value| event["action"] == wanted.as_str() && event["target"]["tag"] == "1.0"
    };
    // A layer and a config, each asked for before it is sent, and the manifest.
    let events = receiver.events(3).await;
    let pushed = events.iter().find(|event| is_tagged("push")(event));
    let pushed = pushed.unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!(pushed["target"]["repository"], "team/app");
    let agent = pushed["request"]["useragent"].as_str().unwrap();
    assert!(agent.starts_with("docker/"), "{agent}");
    docker.remove_image(&name).await;
    docker.pull(&name).await;
    let sent = counted_at_the_end(larder).await.successes;
    let sent = usize::try_from(sent).unwrap();
    let events = receiver.events(sent).await;
    assert!(events.iter().any(is_tagged("pull")), "{events:#?}");
}
