//! The log: what a line says, to people and to machines, and what no line ever says.

use serde_json::{Value, json};

use crate::support::hub::{Hub, Listener};
use crate::support::image::Image;
use crate::support::programs::{Htpasswd, Larder, Options};
use crate::support::receiver::Receiver;
use crate::support::until::until;

/// Pulls an image, and all its blobs.
async fn pull(larder: &Larder, name: &str, image: &Image) {
    let manifest = larder.get(&format!("/v2/{name}/manifests/1")).await;
    assert_eq!(manifest.status, 200, "{manifest:?}");
    for (digest, bytes) in image.blobs() {
        let blob = larder.get(&format!("/v2/{name}/blobs/{digest}")).await;
        assert_eq!(blob.body, bytes);
    }
}

fn lines(larder: &Larder, message: &str) -> Vec<Value> {
    let log = larder.log();
    let parse = |line: &str| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let fields = log.lines().map(|line| parse(line)["fields"].clone());
    fields.filter(|it| it["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_json_every_number_is_a_number() {
    let hub = Hub::start().await;
    let image = Image::random(5, &[300_000]).oci();
    hub.push("library/x", "1", &image);
    let larder = Options::mirror_of(&hub)
        .set(
            &["log"],
            json!({ "formatter": "json", "accesslog": { "disabled": true } }),
        )
        .start()
        .await;
    pull(&larder, "library/x", &image).await;
    larder.push_blob("team/app", b"content").await;
    let layer = &image.layer_digests()[0];
    let size = image.blobs().into_iter().find(|it| it.0 == *layer);
    let size = size.unwrap().1.len();
    let path = format!("/v2/library/x/blobs/{layer}");
    let of_layer = |line: &Value| line["path"] == path.as_str();
    until("both answers are logged", async || {
        let answers = lines(&larder, "answered");
        answers.iter().any(of_layer) && answers.iter().any(|line| line["status"] == 201)
    })
    .await;
    let answers = lines(&larder, "answered");
    let answer = answers.iter().find(|line| of_layer(line)).unwrap();
    assert_eq!(answer["method"], "GET");
    assert_eq!(answer["status"], 200);
    assert_eq!(answer["cache"], "miss");
    assert_eq!(answer["upstream"], "docker.io");
    assert_eq!(answer["bytes"], size, "{answer}");
    assert!(answer["seconds"].as_f64().unwrap() > 0.0, "{answer}");
    assert!(answer["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(answer["agent"].is_string());
    let pushed = answers.iter().find(|line| line["status"] == 201).unwrap();
    assert_eq!(
        (&pushed["cache"], &pushed["upstream"]),
        (&json!("-"), &json!("-"))
    );
    let is_layer = |line: &&Value| line["digest"] == layer.as_str();
    let (begun, filled) = (lines(&larder, "fill begun"), lines(&larder, "filled"));
    let begun = begun.iter().find(is_layer).unwrap();
    assert_eq!((&begun["bytes"], &begun["from"]), (&json!(size), &json!(0)));
    let filled = filled.iter().find(is_layer).unwrap();
    assert_eq!(filled["upstream"], "docker.io");
    let [bytes, seconds, speed] =
        ["bytes", "seconds", "speed"].map(|it| filled[it].as_f64().unwrap());
    assert!((speed - bytes / seconds).abs() < 1.0, "{filled}");
    until("the start has counted", async || {
        !lines(&larder, "counted what mirrors hold").is_empty()
    })
    .await;
    for counted in lines(&larder, "counted what mirrors hold") {
        assert!(counted["seconds"].is_number(), "{counted}");
    }
    drop(larder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_comes_to_nothing_says_where_it_was_looked_for() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .set(
            &["log"],
            json!({ "formatter": "json", "accesslog": { "disabled": true } }),
        )
        .start()
        .await;
    larder.push_blob("team/app", b"content").await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let paths = [
        ("/v2/library/x/manifests/1".to_owned(), 404, "docker.io"),
        (format!("/v2/library/x/blobs/{digest}"), 404, "docker.io"),
        ("/v2/team/app/manifests/1".to_owned(), 404, "local"),
    ];
    for (path, status, _) in &paths {
        assert_eq!(larder.get(path).await.status, *status, "{path}");
    }
    hub.down().await;
    let down = "/v2/library/y/manifests/1".to_owned();
    assert_eq!(larder.get(&down).await.status, 502);
    for (path, status, upstream) in paths.into_iter().chain([(down, 502, "docker.io")]) {
        until("its line is there", async || {
            let answers = lines(&larder, "answered");
            let line = answers.iter().find(|line| line["path"] == path.as_str());
            line.is_some_and(|line| {
                assert_eq!(line["status"], status, "{line}");
                assert_eq!(line["upstream"], upstream, "{line}");
                true
            })
        })
        .await;
    }
    drop(larder);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_line_or_in_a_number_at_any_level() {
    for formatter in ["text", "json"] {
        keeps_secrets(formatter).await;
    }
}

async fn keeps_secrets(formatter: &str) {
    let hub = Hub::builder()
        .bearer()
        .cdn()
        .credentials("hubuser", "planted-hub-password")
        .start()
        .await;
    let image = Image::random(7, &[100_000]).oci();
    hub.push("library/x", "1", &image);
    hub.private("library/x");
    let receiver = Receiver::start().await;
    let users = Htpasswd::new(&[("anna", "planted-user-password")]);
    let mut told = receiver.url();
    told.set_username("teller").unwrap();
    told.set_password(Some("planted-url-password")).unwrap();
    told.set_query(Some("key=planted-query-key"));
    let headers =
        json!({ "X-Key": ["planted-event-key"], "Authorization": ["Bearer planted-event-token"] });
    let endpoint = json!([{ "name": "e", "url": told.as_str(), "headers": headers }]);
    let mut looked_at = receiver.url();
    looked_at.set_query(Some("key=planted-check-query"));
    let check = json!([{
        "uri": looked_at.as_str(), "interval": "100ms",
        "headers": { "X-Key": ["planted-check-key"] },
    }]);
    let debug = format!("127.0.0.1:{}", crate::support::programs::free_port());
    let larder = Options::mirror_of(&hub)
        .login("docker.io", "hubuser", "planted-hub-password")
        .set(
            &["log"],
            json!({ "level": "debug", "formatter": formatter }),
        )
        .set(&["http", "secret"], json!("planted-http-secret"))
        .set(
            &["http", "debug"],
            json!({ "addr": debug, "prometheus": { "enabled": true } }),
        )
        .set(
            &["auth", "htpasswd"],
            json!({ "realm": "here", "path": users.path() }),
        )
        .set(&["auth", "anonymous"], json!(["pull"]))
        .set(&["notifications", "endpoints"], endpoint)
        .set(&["health", "http"], check)
        .start()
        .await;
    // With right, wrong and strange credentials; anonymous callers may pull all the same.
    let token = larder.request("GET", "/token?service=here&account=anna");
    let token = token.basic_auth("anna", Some("planted-user-password"));
    let token = larder.send(token).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let mine = format!("Bearer {token}");
    let blob = format!("/v2/library/x/blobs/{}", image.layer_digests()[0]);
    for (path, authorization) in [
        ("/v2/library/x/manifests/1", "Bearer planted-client-token"),
        (
            "/v2/library/x/manifests/1",
            "Basic cGxhbnRlZC11c2VyOnBsYW50ZWQtd3JvbmctcGFzc3dvcmQ=",
        ),
        ("/v2/", "planted-scheme planted-parameter"),
        ("/v2/_catalog", &mine),
        (&blob, &mine),
    ] {
        let request = larder
            .request("GET", path)
            .header("authorization", authorization);
        let request = request.header("cookie", "session=planted-cookie");
        let answer = larder.send(request).await;
        assert!(answer.status < 500, "{path}: {answer:?}");
    }
    let push = larder.request("POST", "/v2/anna/x/blobs/uploads/");
    let push = push.basic_auth("anna", Some("planted-user-password"));
    let started = larder.send(push).await;
    assert_eq!(started.status, 202, "{started:?}");
    let wrong = larder.request("POST", "/v2/anna/x/blobs/uploads/");
    let wrong = wrong.basic_auth("anna", Some("planted-wrong-password"));
    assert_eq!(larder.send(wrong).await.status, 401);
    receiver.requests(1).await;
    // What larder itself was given and gave: tokens and signed addresses.
    let known = ["planted-", "s3cret-", "aHVidXNlcjpwbGFudGVk", &token];
    let mut secrets = known.map(str::to_owned).to_vec();
    for asked in hub.asked() {
        let authorization = asked.header("authorization").unwrap_or_default();
        secrets.extend(authorization.split(' ').nth(1).map(str::to_owned));
        if asked.listener == Listener::Cdn {
            secrets.push(asked.query.clone());
        }
    }
    assert!(secrets.len() > 5, "{secrets:?}");
    let (metrics, vars) = (
        format!("http://{debug}/metrics"),
        format!("http://{debug}/debug/vars"),
    );
    let health = format!("http://{debug}/debug/health");
    let mut texts = Vec::new();
    for path in [&metrics, &vars, &health, "/metrics"] {
        texts.push(String::from_utf8(larder.get(path).await.body).unwrap());
    }
    until("the last answer is logged", async || {
        larder.log().contains("/metrics")
    })
    .await;
    texts.push(larder.log());
    for secret in &secrets {
        for text in &texts {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{secret}");
        }
    }
    drop(larder);
}
