//! Referrers of a mirror: the upstream's, fetched once, kept, and served when it is away.

use serde_json::{Value, json};

use crate::support::hub::{Asked, Hub, Kind};
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Attaches artifacts of these types to an image, and says what that image's digest is.
fn push_with_artifacts(hub: &Hub, types: &[&str]) -> String {
    let subject = hub.push("library/x", "1", &Image::random(1, &[3000]));
    let empty = hub.put_blob("library/x", "{}");
    for (number, artifact_type) in types.iter().enumerate() {
        let config = json!({
            "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2,
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": artifact_type,
            "config": config, "layers": [config], "annotations": { "n": number.to_string() },
            "subject": { "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 },
        });
        hub.put_manifest("library/x", None, OCI_MANIFEST, manifest.to_string());
    }
    subject
}

fn types(list: &Value) -> Vec<&str> {
    let entries = list["manifests"].as_array().unwrap();
    let mut types: Vec<_> = entries
        .iter()
        .map(|entry| entry["artifactType"].as_str().unwrap())
        .collect();
    types.sort_unstable();
    types
}

fn is_list(asked: &Asked) -> bool {
    asked.kind == Kind::Referrers
}

async fn list(larder: &Larder, subject: &str, query: &str) -> (Value, String) {
    let path = format!("/v2/library/x/referrers/{subject}{query}");
    let answer = larder.get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), OCI_INDEX);
    (answer.json(), answer.cache().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_list_is_passed_on_whole_and_asked_for_once() {
    let hub = Hub::builder().referrers(2).start().await;
    let subject = push_with_artifacts(&hub, &["a/x", "a/y", "a/x"]);
    let larder = Options::mirror_of(&hub).start().await;
    let (first, cache) = list(&larder, &subject, "").await;
    assert_eq!(types(&first), ["a/x", "a/x", "a/y"]);
    assert_eq!(cache, "miss");
    assert_eq!(
        first["manifests"][0]["x-hub"], "kept",
        "unknown fields stay"
    );
    assert_eq!(hub.count(is_list), 2, "two pages, each asked for once");
    let (again, cache) = list(&larder, &subject, "").await;
    assert_eq!((again, cache.as_str()), (first, "hit"));
    let (filtered, _) = list(&larder, &subject, "?artifactType=a%2Fx").await;
    assert_eq!(types(&filtered), ["a/x", "a/x"]);
    assert_eq!(hub.count(is_list), 2, "filtering needs no upstream");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_served_once_is_served_again() {
    let hub = Hub::builder().referrers(10).start().await;
    let subject = push_with_artifacts(&hub, &["a/x"]);
    let mut larder = Options::mirror_of(&hub).never_fresh().start().await;
    let (first, _) = list(&larder, &subject, "").await;
    hub.down().await;
    larder.kill().await;
    larder.start_again().await;
    let path = format!("/v2/library/x/referrers/{subject}");
    let stale = larder.get(&path).await;
    assert_eq!((stale.status, stale.cache()), (200, "stale"));
    assert!(stale.header("warning").starts_with("299 - \""), "{stale:?}");
    assert_eq!(stale.json(), first);
    hub.up().await;
    // It would be asked again after a while, or now.
    larder.hang_up().await;
    push_with_artifacts(&hub, &["a/x", "a/new"]);
    let (fresh, cache) = list(&larder, &subject, "").await;
    assert_eq!(
        (types(&fresh), cache.as_str()),
        (vec!["a/new", "a/x"], "miss")
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_the_api_stays_one_so_that_clients_ask_for_the_tag() {
    let hub = Hub::start().await;
    let subject = push_with_artifacts(&hub, &["a/x"]);
    let tag = subject.replace(':', "-");
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    hub.put_manifest("library/x", Some(&tag), OCI_INDEX, index.to_string());
    let larder = Options::mirror_of(&hub).start().await;
    for _ in 0..3 {
        let path = format!("/v2/library/x/referrers/{subject}");
        let none = larder.get(&path).await;
        assert_eq!((none.status, none.code().as_str()), (404, "UNSUPPORTED"));
    }
    assert_eq!(hub.count(is_list), 1, "a no is remembered");
    let tagged = larder.get(&format!("/v2/library/x/manifests/{tag}")).await;
    assert_eq!(tagged.status, 200, "{tagged:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_none_is_neither_passed_on_nor_kept() {
    use crate::support::hub::{Fault, What, Where};
    let hub = Hub::builder().referrers(10).start().await;
    let subject = push_with_artifacts(&hub, &["a/x"]);
    let larder = Options::mirror_of(&hub).start().await;
    let page = hub.fault(Fault::on(Where::kind(Kind::Referrers)).does(What::Html));
    let path = format!("/v2/library/x/referrers/{subject}");
    let answer = larder.get(&path).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    hub.heal(page);
    let (list, cache) = list(&larder, &subject, "").await;
    assert_eq!((types(&list), cache.as_str()), (vec!["a/x"], "miss"));
    larder.finish().await;
}
