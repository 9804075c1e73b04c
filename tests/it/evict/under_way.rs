//! What is under way while images go: room that is promised, fills, uploads.

use serde_json::json;

use super::*;
use crate::registry::{blob, close_upload, open_upload, patch};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::{noise, sha256};
use crate::support::programs::{Options, client_trusting};

/// Waits until the hub has sent so much of a blob.
async fn begun(hub: &Hub, sent: u64) {
    hub.wait_for(|asked| asked.iter().any(|asked| asked.body_sent() >= sent))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_promised_to_one_fill_is_not_given_to_another() {
    let hub = Hub::start().await;
    let contents = [1, 2].map(|seed| noise(seed, 0, 500_000));
    let [first, second] = contents.each_ref().map(|bytes| {
        let digest = hub.put_blob("library/x", bytes.clone());
        (format!("/v2/library/x/blobs/{digest}"), digest)
    });
    let held = Fault::on(Where::blobs().get().digest(&first.1));
    let gate = hub.fault(held.does(What::Gate(Some(100_000))));
    let larder = Options::mirror_of(&hub)
        .set(&["cache", "maxsize"], json!(800_000))
        .start()
        .await;
    larder.logged("counted what mirrors hold").await;
    let other = async {
        begun(&hub, 100_000).await;
        // Either fits, and not both.
        let got = larder.get(&second.0).await;
        assert!(got.complete && got.body == contents[1]);
        assert_eq!(got.cache(), "pass", "{}", larder.log());
        hub.open(gate);
    };
    let (got, ()) = tokio::join!(larder.get(&first.0), other);
    assert!(got.complete && got.body == contents[0]);
    assert_eq!(larder.get(&first.0).await.cache(), "hit");
    // What is promised no more is nobody's.
    assert_eq!(larder.get(&second.0).await.cache(), "pass");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_and_an_upload_come_through_an_eviction() {
    let hub = Hub::start().await;
    let (old, new) = (image(1, [200, 100]), image(2, [200, 100]));
    hub.push("library/old", "v1", &old);
    hub.push("library/new", "v1", &new);
    let mut larder = Options::mirror_of(&hub).start().await;
    pull(&larder, "library/old", "v1", &old).await;
    recorded(&larder, &old, 0).await;
    start_hours_later(&mut larder).await;

    let session = open_upload(&larder, "team/app").await;
    let halves = [3, 4].map(|seed| noise(seed, 0, 50_000));
    let acknowledged = patch(&larder, &session, &halves[0]).await;
    let session = acknowledged.header("location").to_owned();
    let digest = &new.layer_digests()[0];
    let held = Fault::on(Where::blobs().get().digest(digest)).times(1);
    let gate = hub.fault(held.does(What::Gate(Some(100_000))));
    hub.clear_log();
    let url = format!("{}/v2/library/new/blobs/{digest}", larder.url());
    let evicted = async {
        begun(&hub, 100_000).await;
        larder.reconfigure(&["cache", "maxsize"], json!(1000));
        larder.hang_up().await;
        let is_gone = || !lists(&larder, "old", &old);
        until("the old image is gone", is_gone).await;
        larder.logged("evicted: ").await;
        hub.open(gate);
    };
    let filling = async {
        let client = client_trusting(None).build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        answer.bytes().await.expect("all of it")
    };
    let (got, ()) = tokio::join!(filling, evicted);
    assert_eq!(sha256(&got), *digest);
    let counted = larder.get("/metrics").await.body;
    let counted = String::from_utf8(counted).expect("text");
    assert!(
        counted.contains("\nlarder_evicted_images_total 1\n"),
        "{counted}"
    );
    let whole = halves.concat();
    let closed = close_upload(&larder, &session, &sha256(&whole), &halves[1]).await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(blob(&larder, "team/app", &sha256(&whole)).await, whole);
    larder.finish().await;
}
