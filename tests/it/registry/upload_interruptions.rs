//! Uploads survive whatever interrupts them: a client that vanishes, larder's own end and death.

use rustix::process::Signal;

use super::raw::Raw;
use super::{blob, close_upload, open_upload, patch};
use crate::support::image::sha256;
use crate::support::programs::{Larder, Options};

fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n * n % 251) as u8).collect()
}

/// Where the session's status says that it stands, and the `Location` to go on with.
async fn stands_at(larder: &Larder, location: &str) -> (usize, String) {
    let status = larder.get(location).await;
    assert_eq!(status.status, 204, "{status:?}");
    let last: usize = status.header("range")[2..].parse().expect("a range");
    (last + 1, status.header("location").to_owned())
}

async fn finishes(larder: &Larder, location: &str, whole: &[u8]) {
    let (reached, location) = stands_at(larder, location).await;
    let sent = patch(larder, &location, &whole[reached..]).await;
    assert_eq!(sent.status, 202, "at {reached}: {sent:?}");
    let digest = sha256(whole);
    let closed = close_upload(larder, sent.header("location"), &digest, b"").await;
    assert_eq!(closed.status, 201, "from {reached} on: {closed:?}");
    assert_eq!(blob(larder, "a", &digest).await, whole);
}

#[tokio::test]
async fn an_upload_survives_a_restart_of_the_server() {
    let mut larder = Options::registry().start().await;
    let whole = bytes(400_000);
    let location = open_upload(&larder, "a").await;
    let sent = patch(&larder, &location, &whole[..100_000]).await;
    assert_eq!(sent.status, 202);
    larder.signal(Signal::TERM);
    assert!(larder.ended().await.success());
    larder.start_again().await;
    // The Location from before is still good.
    let sent = patch(&larder, sent.header("location"), &whole[100_000..200_000]).await;
    assert_eq!((sent.status, sent.header("range")), (202, "0-199999"));
    finishes(&larder, &location, &whole).await;
    larder.finish().await;
}

#[tokio::test]
async fn an_upload_survives_the_death_of_the_server() {
    let mut larder = Options::registry().start().await;
    let whole = bytes(400_000);
    let location = open_upload(&larder, "a").await;
    let sent = patch(&larder, &location, &whole[..150_000]).await;
    assert_eq!(sent.status, 202);
    // Killed in the middle of a chunk: what was acknowledged is there, and perhaps more.
    let mut raw = Raw::connect(larder.address()).await;
    let target = sent.header("location");
    raw.send(format!(
        "PATCH {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 250000\r\n\r\n"
    ))
    .await;
    raw.send(&whole[150_000..250_000]).await;
    larder.kill().await;
    assert!(raw.answers().await.is_empty());
    larder.start_again().await;
    let (reached, _) = stands_at(&larder, &location).await;
    assert!((150_000..=250_000).contains(&reached), "{reached}");
    finishes(&larder, &location, &whole).await;
    larder.finish().await;
}

#[tokio::test]
async fn what_a_vanished_client_sent_is_kept_and_gone_on_from() {
    let larder = Options::registry().start().await;
    let whole = bytes(300_000);
    let location = open_upload(&larder, "a").await;
    for (sends, half_close) in [(100_000, true), (50_000, false)] {
        let (reached, target) = stands_at(&larder, &location).await;
        let reached = if reached == 1 { 0 } else { reached };
        let mut raw = Raw::connect(larder.address()).await;
        let head = "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked";
        raw.send(format!("PATCH {target} {head}\r\n\r\n{sends:x}\r\n"))
            .await;
        raw.send(&whole[reached..reached + sends]).await;
        if half_close {
            // An answer, so that it is known when larder has seen the end.
            raw.half_close().await;
            drop(raw.answers().await);
            assert_eq!(stands_at(&larder, &location).await.0, reached + sends);
        } else {
            drop(raw);
        }
    }
    // Whatever larder has seen of the second one by now.
    finishes_somehow(&larder, &location, &whole).await;
    larder.finish().await;
}

/// The client is gone after its last byte and before its answer, and another one goes on at once.
#[tokio::test]
async fn a_client_that_vanishes_before_its_answer_leaves_a_sound_session() {
    let larder = Options::registry().start().await;
    for round in 0..8 {
        let whole = bytes(3_000_000 + round);
        let location = open_upload(&larder, "a").await;
        let mut raw = Raw::connect(larder.address()).await;
        let head = "HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000";
        raw.send(format!("PATCH {location} {head}\r\n\r\n")).await;
        raw.send(&whole[..2_000_000]).await;
        drop(raw);
        finishes_somehow(&larder, &location, &whole).await;
    }
    larder.finish().await;
}

/// Like [`finishes`], while the first request may not have come to its end yet: then where the
/// session stands may move on between question and chunk, and the refusal says where to.
async fn finishes_somehow(larder: &Larder, location: &str, whole: &[u8]) {
    let digest = sha256(whole);
    let (mut reached, mut location) = stands_at(larder, location).await;
    for _ in 0..50 {
        reached = if reached == 1 { 0 } else { reached };
        let closed = close_upload(larder, &location, &digest, &whole[reached..]).await;
        if closed.status == 201 {
            assert!(
                blob(larder, "a", &digest).await == *whole,
                "stored something else"
            );
            return;
        }
        assert_eq!(closed.status, 416, "at {reached}: {closed:?}");
        let stands: usize = closed.header("range")[2..]
            .parse::<usize>()
            .expect("a range")
            + 1;
        assert!(stands >= reached, "fell back from {reached} to {stands}");
        (reached, location) = (stands, closed.header("location").to_owned());
    }
    panic!("never got on from {reached}");
}

#[tokio::test]
async fn a_stop_lets_an_upload_under_way_finish() {
    let mut larder = Options::registry().start().await;
    let whole = bytes(200_000);
    let location = open_upload(&larder, "a").await;
    let mut raw = Raw::connect(larder.address()).await;
    let digest = sha256(&whole);
    let head = "HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200000";
    raw.send(format!("PUT {location}&digest={digest} {head}\r\n\r\n"))
        .await;
    // The request is being handled now.
    assert_eq!(raw.answer().await.map(|answer| answer.status), Some(100));
    raw.send(&whole[..100_000]).await;
    larder.signal(Signal::TERM);
    larder.logged("stopping").await;
    raw.send(&whole[100_000..]).await;
    let answers = raw.answers().await;
    assert_eq!(
        answers
            .iter()
            .map(|answer| answer.status)
            .collect::<Vec<_>>(),
        [201]
    );
    assert!(larder.ended().await.success());
    larder.start_again().await;
    assert_eq!(blob(&larder, "a", &digest).await, whole);
    larder.finish().await;
}
