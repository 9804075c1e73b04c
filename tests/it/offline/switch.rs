//! `larder offline`, and `cache.offline`: nobody is asked, which is a promise.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Silent, is_quick, move_upstream, noted};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};

const X: &str = "/v2/library/x/manifests/1";
const COLD: &str = "/v2/library/cold/manifests/1";

async fn started() -> (Hub, Larder) {
    let hub = Hub::builder().bearer().start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    hub.push("library/cold", "1", &Image::random(3, &[3000]));
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    assert_eq!(larder.get(X).await.status, 200);
    (hub, larder)
}

async fn switch(larder: &Larder, arguments: &[&str]) -> String {
    let arguments = [&["offline"], arguments].concat();
    larder.run(&arguments).await.expect_success()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_holds_at_once_and_after_a_restart() {
    let (hub, mut larder) = started().await;
    assert!(switch(&larder, &[]).await.starts_with("off"));
    assert!(switch(&larder, &["on"]).await.starts_with("on"));
    assert!(switch(&larder, &["on"]).await.starts_with("on"), "again");
    hub.clear_log();
    for _ in 0..2 {
        is_quick(&larder, X, "hit").await;
        is_quick(&larder, "/v2/library/x/tags/list", "hit").await;
        for (path, code) in [
            (COLD, "MANIFEST_UNKNOWN"),
            ("/v2/library/cold/tags/list", "NAME_UNKNOWN"),
            (
                &format!("/v2/library/cold/blobs/sha256:{}", "1".repeat(64)),
                "BLOB_UNKNOWN",
            ),
        ] {
            let cold = larder.get(path).await;
            assert_eq!((cold.status, cold.code().as_str()), (404, code), "{path}");
            let message = cold.json()["errors"][0]["message"].clone();
            let message = message.as_str().unwrap();
            let expected = "is not in the cache, and this larder is offline: `larder offline off`";
            assert!(message.contains(expected), "{message}");
            // Of a tag it is said which: others of the repository may be here.
            let is_tag = code == "MANIFEST_UNKNOWN";
            let named = message.contains("docker.io/library/cold:1 is not");
            assert_eq!(named, is_tag, "{message}");
        }
        larder.kill().await;
        larder.start_again().await;
    }
    larder.logged("offline: no upstream is asked").await;
    assert!(switch(&larder, &[]).await.starts_with("on"));
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    noted(&larder, |hint| hint["offline"] == true).await;
    assert!(switch(&larder, &["off"]).await.starts_with("off"));
    assert_eq!(larder.get(COLD).await.status, 200);
    assert_eq!(larder.get(X).await.cache(), "revalidated");
    larder.logged("no longer offline").await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_under_way_are_cut_and_go_on_where_they_were() {
    let hub = Hub::start().await;
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = hub.put_blob("library/x", content.clone());
    let larder = Options::mirror_of(&hub).start().await;
    hub.fault(
        Fault::on(Where::blobs().get())
            .times(1)
            .does(What::Gate(Some(1_000_000))),
    );
    let path = format!("/v2/library/x/blobs/{digest}");
    let cut = async {
        hub.wait_for(|asked| asked.iter().any(|asked| asked.body_sent() >= 1_000_000))
            .await;
        switch(&larder, &["on"]).await;
        hub.clear_log();
    };
    let started = Instant::now();
    let (got, ()) = tokio::join!(larder.get(&path), cut);
    assert!(!got.complete, "what is not here cannot be had");
    assert!(started.elapsed() < Duration::from_secs(10));
    larder.logged("fill failed").await;
    let again = larder.get(&path).await;
    assert_eq!((again.status, again.code().as_str()), (404, "BLOB_UNKNOWN"));
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    switch(&larder, &["off"]).await;
    let got = larder.get(&path).await;
    assert!(got.complete && got.body == content);
    let asked = hub.asked();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges.len(), 1, "{asked:?}");
    assert!(ranges[0].is_some(), "from where it was: {asked:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_under_way_is_hung_up() {
    let (_hub, mut larder) = started().await;
    let silent = Silent::start();
    move_upstream(&mut larder, &silent.url).await;
    let question = larder.get(COLD);
    let hang_up = async {
        while silent.questions() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        switch(&larder, &["on"]).await;
        Instant::now()
    };
    let (got, switched) = tokio::join!(question, hang_up);
    assert!(switched.elapsed() < Duration::from_secs(2));
    assert_eq!(got.status, 404, "{got:?}");
    let started = Instant::now();
    while !silent.is_alone() {
        assert!(started.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(silent.questions(), 1);
    // The configuration can promise the same.
    switch(&larder, &["off"]).await;
    larder.reconfigure(&["cache", "offline"], json!(true));
    larder.hang_up().await;
    let cold = larder.get(COLD).await;
    assert_eq!(cold.status, 404);
    let message = cold.json()["errors"][0]["message"].to_string();
    assert!(message.contains("set cache.offline to false"), "{message}");
    let said = larder.run(&["offline", "off"]).await;
    assert!(!said.success, "{said:?}");
    assert!(said.stdout.starts_with("on: cache.offline"), "{said:?}");
    assert_eq!(silent.questions(), 1);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_not_there_is_no_place_for_a_switch() {
    let larder = Options::registry().start().await;
    let root = larder.root().join("none");
    let elsewhere = format!(
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={}",
        root.display()
    );
    let mut command = std::process::Command::new("env");
    command.arg(elsewhere).arg(env!("CARGO_BIN_EXE_larder"));
    let output = command.args(["offline", "on"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is not there: set storage."), "{said}");
    assert!(!root.exists());
    larder.finish().await;
}
