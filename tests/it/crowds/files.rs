//! As many connections as there may be, and no more files to open.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LONG, blob_request, ended, idling, sent};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::{Image, noise};
use crate::support::programs::{Larder, Options};

/// Told that there is no connection to be had, if so.
async fn first_byte(mut stream: TcpStream) -> Option<u8> {
    let mut byte = [0];
    let read = timeout(LONG, stream.read(&mut byte)).await.unwrap();
    (read.ok()? > 0).then_some(byte[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_that_idles_longest_makes_room_for_a_new_one() {
    let hub = Hub::start().await;
    let content = noise(1, 0, 2_000_000);
    let digest = hub.put_blob("library/x", content.clone());
    let gate = Fault::on(Where::blobs().get()).does(What::Gate(Some(1_000_000)));
    let gate = hub.fault(gate);
    let options = Options::mirror_of(&hub).set(&["http", "connections"], json!(4));
    let larder = options.start().await;
    larder.logged("up to 4 connections").await;
    // One that is being answered, and is the oldest; three that idle.
    let busy = sent(&larder, &blob_request("docker.io/library/x", &digest)).await;
    hub.wait_for(|asked| !asked.is_empty()).await;
    let [first, second, third] = [
        idling(&larder).await,
        idling(&larder).await,
        sent(&larder, b"GET /v2/ HTTP/1.1\r\n").await,
    ];
    // The fourth waits until the first has idled for a second.
    let fourth = idling(&larder).await;
    assert!(ended(first).await.is_empty());
    let fifth = idling(&larder).await;
    assert!(ended(second).await.is_empty());
    let sixth = idling(&larder).await;
    assert!(ended(third).await.is_empty());
    let log = larder.log();
    let said = log.matches("as many connections as there may be").count();
    assert_eq!(said, 1, "{log}");
    hub.open(gate);
    let mut busy = busy;
    let mut got = Vec::new();
    while !got.ends_with(&content[content.len() - 100..]) {
        let count = timeout(LONG, busy.read_buf(&mut got)).await.unwrap();
        assert!(count.unwrap() > 0, "{}", got.len());
    }
    drop((fourth, fifth, sixth));
    larder.finish().await;
}

/// Larder with so few files that a few clients use them up, though it believes to have enough.
async fn starving(options: Options) -> Larder {
    let options = options.environment("LARDER_TEST_FILES", "48");
    let larder = options
        .set(&["http", "connections"], json!(1000))
        .start()
        .await;
    larder.logged("only 48 files may be open").await;
    larder
}

/// Waits until it has noticed who is gone.
async fn relieved(larder: &Larder) {
    let files = format!("/proc/{}/fd", larder.pid());
    let waiting = async {
        while std::fs::read_dir(&files).unwrap().count() > 36 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, waiting).await.expect("connections that end");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_files_to_open_accepting_pauses_and_goes_on() {
    let larder = starving(Options::registry()).await;
    let image = Image::random(1, &[300_000, 3000]);
    larder.push("team/app", "1", &image).await;
    let mut crowd = Vec::new();
    for _ in 0..80 {
        crowd.push(sent(&larder, b"GET /v2/ HTTP/1.1\r\n").await);
    }
    larder.logged("no connection can be accepted now").await;
    // Those that only hold connections go for those that ask for something. There may be no file
    // for it at once: then it is asked for again.
    for (digest, bytes) in image.blobs() {
        let path = format!("/v2/team/app/blobs/{digest}");
        let got = loop {
            let got = larder.get(&path).await;
            if got.status != 503 {
                break got;
            }
            assert_eq!(got.header("retry-after"), "1", "{got:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(got.status == 200 && got.body == bytes, "{got:?}");
    }
    drop(crowd);
    relieved(&larder).await;
    crate::registry::assert_pullable(&larder, "team/app", "1", &image).await;
    let log = larder.log();
    let said = log.matches("no connection can be accepted now").count();
    assert_eq!(said, 1, "{log}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_for_want_of_files_is_neither_absent_nor_damaged() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[8_000_000, 3000]);
    hub.push("library/x", "1", &image);
    let mine = Image::random(2, &[8_000_000, 3000]);
    let larder = starving(Options::mirror_of(&hub).never_fresh()).await;
    larder.push("team/app", "1", &mine).await;
    let pulled = "docker.io/library/x";
    crate::registry::assert_pullable(&larder, pulled, "1", &image).await;
    let large = |image: &Image| {
        let blobs = image.blobs();
        let largest = blobs.into_iter().max_by_key(|(_, bytes)| bytes.len());
        largest.unwrap().0
    };
    // Each of these holds a connection and a file: nobody reads.
    let requests = [
        blob_request(pulled, &large(&image)),
        blob_request("team/app", &large(&mine)),
    ];
    let mut holding = Vec::new();
    for at in 0..20 {
        holding.push(sent(&larder, &requests[at % 2]).await);
    }
    let paths = [
        format!("/v2/{pulled}/manifests/1"),
        format!("/v2/{pulled}/blobs/{}", large(&image)),
        "/v2/team/app/manifests/1".to_owned(),
        format!("/v2/team/app/blobs/{}", large(&mine)),
        "/v2/_catalog".to_owned(),
    ];
    let ask = |path: String| {
        let larder = &larder;
        async move {
            let answer = timeout(Duration::from_secs(2), larder.head(&path)).await;
            answer.map_or(0, |answer| answer.status)
        }
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        for path in &paths[..4] {
            seen.push(ask(path.clone()).await);
        }
    }
    // Waiting is honest, and so is saying so; being absent is not.
    assert!(
        seen.iter().all(|status| [0, 200, 503].contains(status)),
        "{seen:?}"
    );
    let told = join_all(holding.into_iter().map(first_byte)).await;
    assert!(told.iter().flatten().all(|byte| *byte == b'H'));
    relieved(&larder).await;
    for (name, image) in [(pulled, &image), ("team/app", &mine)] {
        crate::registry::assert_pullable(&larder, name, "1", image).await;
    }
    let log = larder.log();
    for wrong in ["damaged", "absent", "moved aside", "is down"] {
        assert!(!log.contains(wrong), "{wrong}: {log}");
    }
    larder.finish().await;
}
