//! Traces, in a larder that was built with them: `make otel`.

use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::Options;
use crate::support::receiver::Receiver;
use crate::support::until::until;

/// What a client sends that is itself being traced.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_through_larder_to_the_upstream_and_is_told() {
    let (hub, collector) = (
        Hub::builder().bearer().start().await,
        Receiver::start().await,
    );
    let image = Image::random(1, &[300_000]).oci();
    hub.push("library/x", "1", &image);
    let mut endpoint = collector.url();
    endpoint.set_path("");
    endpoint.set_query(None);
    let larder = Options::mirror_of(&hub)
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())
        .environment("OTEL_BSP_SCHEDULE_DELAY", "50")
        .start()
        .await;
    let blob = format!("/v2/library/x/blobs/{}", image.layer_digests()[0]);
    for path in ["/v2/library/x/manifests/1", &blob] {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let request = larder.request("GET", path).header("traceparent", parent);
        assert_eq!(larder.send(request).await.status, 200);
    }
    let asked = hub.asked();
    assert!(asked.len() >= 3, "a token, a manifest, a blob");
    for asked in asked {
        let told = asked.header("traceparent").unwrap_or_default().to_owned();
        assert!(
            told.starts_with(&format!("00-{TRACE}-")),
            "{}: {told}",
            asked.path
        );
        assert!(
            !told.contains("00f067aa0ba902b7"),
            "a span of larder's own: {told}"
        );
    }
    until("the spans are told", async || {
        let told: String = collector.heard().into_iter().map(|it| it.body).collect();
        [
            "GET manifest",
            "GET blob",
            "GET docker.io",
            "larder.outcome",
        ]
        .iter()
        .all(|word| told.contains(word))
    })
    .await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_is_passed_on() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", "content");
    let larder = Options::mirror_of(&hub).start().await;
    let blob = larder.get(&format!("/v2/library/x/blobs/{digest}")).await;
    assert_eq!(blob.status, 200);
    let asked = hub.asked();
    assert!(asked.iter().all(|it| it.header("traceparent").is_none()));
    larder.finish().await;
}
