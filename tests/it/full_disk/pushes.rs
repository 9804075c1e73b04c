//! Pushes: a clear 507 at every step, and nothing that was acknowledged is lost.

use super::{MB, content};
use crate::registry::{
    OCI_MANIFEST, blob, close_upload, manifest_of, open_upload, patch, push_small,
};
use crate::support::disk::Disk;
use crate::support::image::sha256;
use crate::support::programs::{Answer, Larder, Options};

#[track_caller]
fn assert_507(answer: &Answer, says: &str) {
    assert_eq!(answer.status, 507, "{answer:?}");
    assert_eq!(answer.code(), "UNAVAILABLE");
    assert_eq!(answer.header("retry-after"), "");
    let message = answer.json()["errors"][0]["message"].to_string();
    assert!(
        message.contains(says) && message.contains("push again"),
        "{message}"
    );
}

/// Each step of a push, on a disk that takes nothing.
async fn every_step_is_refused(larder: &Larder, session: &str, says: &str) {
    let sent = larder.request("POST", "/v2/team/app/blobs/uploads/");
    assert_507(&larder.send(sent).await, says);
    let bytes = content(7, 300_000);
    let at_once = format!("/v2/team/app/blobs/uploads/?digest={}", sha256(&bytes));
    let sent = larder.request("POST", &at_once).body(bytes.clone());
    assert_507(&larder.send(sent).await, says);
    assert_507(&patch(larder, session, &bytes).await, says);
    let whole = sha256(&[content(1, 100_000), bytes.clone()].concat());
    assert_507(&close_upload(larder, session, &whole, &bytes).await, says);
    let layer = sha256(b"layer");
    let mount = format!("/v2/other/app/blobs/uploads/?mount={layer}&from=team/app");
    assert_507(&larder.send(larder.request("POST", &mount)).await, says);
    let manifest = manifest_of(&[&layer]).to_string();
    let put = larder
        .put_manifest("team/app", "2", OCI_MANIFEST, manifest)
        .await;
    assert_507(&put, says);
}

async fn nothing_is_lost(larder: &Larder, session: &str, manifest: &[u8]) {
    let got = larder.get("/v2/team/app/manifests/1").await;
    assert_eq!((got.status, &got.body[..]), (200, manifest));
    assert_eq!(blob(larder, "team/app", &sha256(b"layer")).await, b"layer");
    let stands = larder.get(session).await;
    assert_eq!((stands.status, stands.header("range")), (204, "0-99999"));
}

async fn is_refused_and_goes_on(
    disk: &Disk,
    stop: impl Fn(&Disk),
    go_on: impl Fn(&Disk),
    says: &str,
) {
    let larder = Options::registry().on(&disk.root()).start().await;
    let manifest = push_small(&larder, "team/app", "1", "{}").await;
    larder.push_blob("team/app", b"layer").await;
    let session = open_upload(&larder, "team/app").await;
    let acknowledged = patch(&larder, &session, &content(1, 100_000)).await;
    let session = acknowledged.header("location").to_owned();
    stop(disk);
    every_step_is_refused(&larder, &session, says).await;
    nothing_is_lost(&larder, &session, &manifest).await;
    go_on(disk);
    nothing_is_lost(&larder, &session, &manifest).await;
    let whole = [content(1, 100_000), content(2, 50_000)].concat();
    let closed = close_upload(&larder, &session, &sha256(&whole), &content(2, 50_000)).await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(blob(&larder, "team/app", &sha256(&whole)).await, whole);
    push_small(&larder, "other/app", "1", "{\"a\":1}").await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let stop = |disk: &Disk| {
        disk.fill_but(0);
        disk.use_inodes_but(0);
    };
    let disk = Disk::with("size=16m,nr_inodes=200");
    is_refused_and_goes_on(&disk, stop, Disk::empty, "disk is full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_inodes() {
    let disk = Disk::with("size=16m,nr_inodes=100");
    let larder = Options::registry().on(&disk.root()).start().await;
    let config = larder.push_blob("a", b"{}").await;
    disk.use_inodes_but(0);
    let sent = larder.request("POST", "/v2/a/blobs/uploads/");
    assert_507(&larder.send(sent).await, "inodes");
    let manifest = manifest_of(&[&config]).to_string();
    let put = larder.put_manifest("a", "1", OCI_MANIFEST, manifest).await;
    assert_507(&put, "inodes");
    disk.empty();
    push_small(&larder, "a", "1", "{}").await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk() {
    let disk = Disk::of("16m");
    let stop = |disk: &Disk| disk.read_only(true);
    let go_on = |disk: &Disk| disk.read_only(false);
    is_refused_and_goes_on(&disk, stop, go_on, "read-only").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_does_not_fit_leaves_the_disk_as_it_was() {
    let disk = Disk::of("8m");
    let larder = Options::registry().on(&disk.root()).start().await;
    let session = open_upload(&larder, "a").await;
    let acknowledged = patch(&larder, &session, &content(1, MB)).await;
    let session = acknowledged.header("location").to_owned();
    for _ in 0..2 {
        // More than is read away: the answer arrives all the same.
        assert_507(
            &patch(&larder, &session, &content(2, 12 * MB)).await,
            "disk is full",
        );
        let stands = larder.get(&session).await;
        assert_eq!(stands.header("range"), format!("0-{}", MB - 1));
    }
    // So there is room for another.
    larder.push_blob("b", &content(3, 4 * MB)).await;
    let digest = sha256(&content(1, MB));
    assert_eq!(
        close_upload(&larder, &session, &digest, b"").await.status,
        201
    );
    larder.finish().await;
}
