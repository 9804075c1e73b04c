//! Metrics: that they are counted right, who may read them, and that what is written about them,
//! and upon them, holds.

mod disk;
mod names;
mod prometheus;

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Htpasswd, Larder, Options};
use crate::support::receiver::Receiver;
use crate::support::until::until;

/// One page: samples by their name and labels as written, and families with their types.
struct Page {
    samples: BTreeMap<String, f64>,
    families: BTreeMap<String, String>,
}

impl Page {
    fn parse(text: &str) -> Self {
        let (mut samples, mut families) = (BTreeMap::new(), BTreeMap::new());
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').unwrap();
                // A counter's samples are called otherwise than it is.
                let total = if kind == "counter" { "_total" } else { "" };
                let before = families.insert(format!("{name}{total}"), kind.to_owned());
                assert!(before.is_none(), "{name} is there twice");
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let before = samples.insert(name.to_owned(), value.parse().unwrap());
                assert!(before.is_none(), "{name} is there twice");
            }
        }
        Self { samples, families }
    }

    async fn of(larder: &Larder) -> Self {
        let answer = larder.get("/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = answer.header("content-type");
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        assert_eq!(answer.header("cache-control"), "no-store");
        Self::parse(str::from_utf8(&answer.body).unwrap())
    }

    /// A sample; 0 if it is not there.
    fn value(&self, name: &str) -> f64 {
        self.samples.get(name).copied().unwrap_or(0.0)
    }

    /// The same, of something that is counted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of a test are small"
    )]
    fn count(&self, name: &str) -> u64 {
        self.value(name) as u64
    }

    /// The family that a sample belongs to.
    fn family_of(&self, sample: &str) -> Option<&str> {
        let name = sample.split('{').next().unwrap();
        let parts = ["", "_bucket", "_sum", "_count"];
        let mut candidates = parts.iter().filter_map(|end| name.strip_suffix(end));
        let known = candidates.find_map(|name| self.families.get_key_value(name));
        known.map(|(name, _)| name.as_str())
    }
}

/// A larder that has seen everything once: pulls of each kind, a push, events, an upstream that
/// tells of its limit.
async fn busy() -> (Larder, Hub, Receiver, Image) {
    let (hub, receiver) = (
        Hub::builder().bearer().start().await,
        Receiver::start().await,
    );
    let tells = What::OtherHeader("ratelimit-remaining", "76;w=21600".to_owned());
    hub.fault(Fault::on(Where::manifests()).does(tells));
    let image = Image::random(1, &[3000, 200_000]).oci();
    hub.push("library/x", "1", &image);
    let endpoint = json!([{ "name": "listener", "url": receiver.url().as_str() }]);
    let larder = Options::mirror_of(&hub)
        .set(&["notifications", "endpoints"], endpoint)
        .start()
        .await;
    for _ in 0..2 {
        let manifest = larder.get("/v2/library/x/manifests/1").await;
        assert_eq!(manifest.status, 200, "{manifest:?}");
        for (digest, bytes) in image.blobs() {
            let blob = larder.get(&format!("/v2/library/x/blobs/{digest}")).await;
            assert_eq!(blob.body, bytes);
        }
    }
    larder.push("team/app", "1", &image).await;
    let digest = image.layer_digests()[0].clone();
    let blob = larder.get(&format!("/v2/team/app/blobs/{digest}")).await;
    assert_eq!(blob.status, 200);
    let none = larder.get("/v2/team/app/manifests/none").await;
    assert_eq!(none.status, 404);
    (larder, hub, receiver, image)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_what_is_counted() {
    let (larder, hub, _receiver, image) = busy().await;
    let content: usize = image.blobs().iter().map(|(_, bytes)| bytes.len()).sum();
    let (content, manifest) = (content as u64, image.manifest_bytes().len() as u64);
    let blobs = image.blobs().len() as u64;
    let layer = image
        .blobs()
        .into_iter()
        .find(|it| it.0 == image.layer_digests()[0]);
    let layer = layer.unwrap().1.len() as u64;
    until("all answers are counted", async || {
        let page = Page::of(&larder).await;
        page.count("larder_pulls_total{upstream=\"local\",type=\"blob\",outcome=\"hit\"}") == 1
            && page.count("registry_http_in_flight_requests{handler=\"blob\"}") == 0
            && page.count("registry_http_in_flight_requests{handler=\"manifest\"}") == 0
    })
    .await;
    let page = Page::of(&larder).await;
    let hub_name = "upstream=\"docker.io\"";
    for (name, expected) in [
        (
            format!("larder_pulls_total{{{hub_name},type=\"manifest\",outcome=\"miss\"}}"),
            1,
        ),
        (
            format!("larder_pulls_total{{{hub_name},type=\"manifest\",outcome=\"hit\"}}"),
            1,
        ),
        (
            format!("larder_pulls_total{{{hub_name},type=\"blob\",outcome=\"miss\"}}"),
            blobs,
        ),
        (
            format!("larder_pulls_total{{{hub_name},type=\"blob\",outcome=\"hit\"}}"),
            blobs,
        ),
        (
            format!("larder_served_bytes_total{{{hub_name},type=\"blob\"}}"),
            2 * content,
        ),
        (
            format!("larder_served_bytes_total{{{hub_name},type=\"manifest\"}}"),
            2 * manifest,
        ),
        (
            format!("larder_fetched_bytes_total{{{hub_name},type=\"blob\"}}"),
            content,
        ),
        (
            format!("larder_fetched_bytes_total{{{hub_name},type=\"manifest\"}}"),
            manifest,
        ),
        (
            "larder_served_bytes_total{upstream=\"local\",type=\"blob\"}".to_owned(),
            layer,
        ),
        ("larder_received_bytes_total".to_owned(), content + manifest),
        (
            "larder_pulls_total{upstream=\"local\",type=\"manifest\",outcome=\"miss\"}".to_owned(),
            0,
        ),
        (
            "registry_proxy_requests_total{type=\"blob\"}".to_owned(),
            2 * blobs,
        ),
        ("registry_proxy_hits_total{type=\"blob\"}".to_owned(), blobs),
        (
            "registry_proxy_misses_total{type=\"manifest\"}".to_owned(),
            1,
        ),
        (
            "registry_proxy_pulled_bytes_total{type=\"blob\"}".to_owned(),
            content,
        ),
        (
            "registry_proxy_pushed_bytes_total{type=\"blob\"}".to_owned(),
            2 * content,
        ),
        (
            format!("larder_fills_total{{{hub_name},result=\"stored\"}}"),
            blobs,
        ),
        (format!("larder_fills_running{{{hub_name}}}"), 0),
        (format!("larder_upstream_up{{{hub_name}}}"), 1),
        (format!("larder_upstream_pulls_limit{{{hub_name}}}"), 100),
        (format!("larder_upstream_pulls_remaining{{{hub_name}}}"), 76),
        (
            format!("larder_upstream_requests_total{{{hub_name},result=\"denied\"}}"),
            1,
        ),
        (
            format!("larder_upstream_request_duration_seconds_count{{{hub_name}}}"),
            hub.asked().len() as u64,
        ),
        (
            "registry_http_requests_total{handler=\"manifest\",code=\"404\",method=\"get\"}"
                .to_owned(),
            1,
        ),
        (
            "registry_http_requests_total{handler=\"manifest\",code=\"201\",method=\"put\"}"
                .to_owned(),
            1,
        ),
        (
            "registry_http_in_flight_requests{handler=\"metrics\"}".to_owned(),
            1,
        ),
        ("larder_health_up".to_owned(), 1),
    ] {
        let (found, all) = (page.count(&name), &page.samples);
        assert_eq!(found, expected, "{name}: {all:#?}");
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_and_who_follows_them_are_seen_while_they_run() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", vec![7; 500_000]);
    let gate = hub.fault(Fault::on(Where::blobs().get()).does(What::Gate(Some(200_000))));
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let pull = || larder.get(&path);
    let pulls = async { tokio::join!(pull(), pull(), pull(), pull(), pull()) };
    let seen = async {
        until("five clients follow one fill", async || {
            let page = Page::of(&larder).await;
            page.count("larder_fills_running{upstream=\"docker.io\"}") == 1
                && page.count("larder_fill_followers") == 5
                && page.count("larder_served_bytes_total{upstream=\"docker.io\",type=\"blob\"}") > 0
        })
        .await;
        hub.open(gate);
    };
    tokio::join!(pulls, seen);
    until("nobody follows it any more", async || {
        let page = Page::of(&larder).await;
        page.count("larder_fill_followers") == 0
            && page.count("larder_fills_total{upstream=\"docker.io\",result=\"stored\"}") == 1
            && page.count(
                "larder_pulls_total{upstream=\"docker.io\",type=\"blob\",outcome=\"joined\"}",
            ) == 4
    })
    .await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_outlive_a_reload_and_the_page_can_be_switched_off() {
    let (mut larder, _hub, _receiver, _image) = busy().await;
    let hits = "larder_pulls_total{upstream=\"docker.io\",type=\"manifest\",outcome=\"hit\"}";
    larder.reconfigure(
        &["upstreams", "docker.io", "url"],
        json!("http://127.0.0.1:9"),
    );
    larder.hang_up().await;
    assert_eq!(Page::of(&larder).await.count(hits), 1);
    assert_eq!(larder.get("/v2/library/x/manifests/1").await.cache(), "hit");
    assert_eq!(Page::of(&larder).await.count(hits), 2);
    larder.reconfigure(&["metrics"], json!({ "enabled": false }));
    larder.hang_up().await;
    assert_eq!(larder.get("/metrics").await.status, 404);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_may_be_called_metrics() {
    let larder = Options::registry().start().await;
    let image = Image::random(3, &[1000]).oci();
    larder.push("metrics", "1", &image).await;
    let manifest = larder.get("/v2/metrics/manifests/1").await;
    assert_eq!(manifest.body, image.manifest_bytes());
    Page::of(&larder).await;
    let page = larder.get("/metrics/").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        larder.send(larder.request("POST", "/metrics")).await.status,
        405
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_list_the_repositories_may_read_the_metrics() {
    let users = Htpasswd::new(&[("anna", "secret"), ("bob", "secret")]);
    let htpasswd = json!({ "realm": "here", "path": users.path() });
    let options = Options::registry().set(&["auth", "htpasswd"], htpasswd);
    let status = async |larder: &Larder, user: &str, password: &str| {
        let request = larder.request("GET", "/metrics");
        let request = request.basic_auth(user, Some(password));
        larder.send(request).await.status
    };
    // Users only.
    let larder = options.clone().start().await;
    let refused = larder.get("/metrics").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), "Basic realm=\"here\"");
    assert_eq!(status(&larder, "anna", "wrong").await, 401);
    assert_eq!(status(&larder, "anna", "secret").await, 200);
    larder.finish().await;
    // Everybody, where something may be pulled without a password.
    let open = options.clone().set(&["auth", "anonymous"], json!(["pull"]));
    let larder = open.start().await;
    assert_eq!(larder.get("/metrics").await.status, 200);
    larder.finish().await;
    // Whom the rules let pull anything.
    let rules = json!([{ "who": ["anna"], "may": ["pull"], "names": ["team/*"] }]);
    let larder = options.set(&["auth", "rules"], rules).start().await;
    assert_eq!(larder.get("/metrics").await.status, 401);
    assert_eq!(status(&larder, "anna", "secret").await, 200);
    assert_eq!(status(&larder, "bob", "secret").await, 403);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_debug_listener_shows_them_where_distribution_does_and_when_larder_is_unhealthy() {
    let home = tempfile::tempdir().unwrap();
    let down = home.path().join("down");
    let debug = format!("127.0.0.1:{}", crate::support::programs::free_port());
    let prometheus = json!({ "enabled": true, "path": "/numbers" });
    let larder = Options::registry()
        .set(
            &["http", "debug"],
            json!({ "addr": debug, "prometheus": prometheus }),
        )
        .set(
            &["health", "file"],
            json!([{ "file": down, "interval": "50ms" }]),
        )
        .start()
        .await;
    let page = async || {
        let answer = larder.get(&format!("http://{debug}/numbers")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Page::parse(str::from_utf8(&answer.body).unwrap())
    };
    assert_eq!(page().await.count("larder_health_up"), 1);
    assert_eq!(
        larder.get(&format!("http://{debug}/metrics")).await.status,
        404
    );
    std::fs::write(&down, "").unwrap();
    until("the debug listener says that it is unhealthy", async || {
        let page = page().await;
        page.count("larder_health_up") == 0 && page.count("larder_health_failing_checks") == 1
    })
    .await;
    assert_eq!(larder.get("/metrics").await.status, 503);
    let counted = "registry_http_requests_total{handler=\"other\",code=\"503\",method=\"get\"}";
    assert_eq!(page().await.count(counted), 1);
    drop(larder);
}
