//! Clients that take their time over a head, a body or an answer.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;

use super::{LONG, allow_many_files, blob_request, ended, idling, sent};
use crate::registry::{open_upload, patch};
use crate::support::authority::{Authority, Pair};
use crate::support::image::{noise, sha256};
use crate::support::programs::{Larder, Options};

fn impatient(options: Options) -> Options {
    let options = options.set(&["http", "headtimeout"], json!("1s"));
    options.set(&["http", "stalltimeout"], json!("2s"))
}

/// With what clients are given where nothing is configured.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_half_open_requests_are_gone_after_thirty_seconds_while_others_are_served() {
    allow_many_files();
    let larder = Options::registry().start().await;
    let authority = Authority::new("the tests");
    let pair = Pair::new(&authority.issue());
    let (certificate, key) = (pair.certificate(), pair.key());
    let options = Options::registry().tls(&certificate, &key, authority.certificate());
    let encrypted = options.start().await;
    let began = Instant::now();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01";
    let head = b"GET /v2/ HTTP/1.1\r\nhost: x\r\n";
    let kinds: [(&Larder, &[u8]); 4] = [
        (&larder, head),
        (&larder, b""),
        (&encrypted, hello),
        (&encrypted, b""),
    ];
    let mut half_open = Vec::new();
    for _ in 0..500 {
        for (larder, bytes) in kinds {
            half_open.push(sent(larder, bytes).await);
        }
    }
    let gone = async {
        join_all(half_open.into_iter().map(ended)).await;
        began.elapsed()
    };
    let mut gone = std::pin::pin!(gone);
    let mut served = 0;
    let took = loop {
        tokio::select! {
            took = &mut gone => break took,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        for larder in [&larder, &encrypted] {
            let asked = Instant::now();
            assert_eq!(larder.get("/v2/").await.status, 200);
            assert!(asked.elapsed() < Duration::from_secs(5));
            served += 1;
        }
    };
    let expected = Duration::from_secs(29)..Duration::from_secs(45);
    assert!(expected.contains(&took) && served > 10, "{took:?} {served}");
    larder.finish().await;
    encrypted.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_bit_by_bit_and_a_connection_that_idles_end_in_time() {
    let larder = impatient(Options::registry()).start().await;
    let mut slow = sent(&larder, b"GET /v2/ HTTP/1.1\r\n").await;
    let idle = idling(&larder).await;
    // A header now and then is not enough.
    let trickle = async {
        let (mut read, mut write) = slow.split();
        let writing = async {
            loop {
                let line = tokio::io::AsyncWriteExt::write_all(&mut write, b"x: y\r\n");
                if line.await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let mut bytes = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut bytes) => {}
            () = writing => {}
        }
    };
    tokio::time::timeout(LONG, trickle).await.unwrap();
    assert!(ended(idle).await.is_empty());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_of_an_answer_is_cut_and_who_reads_slowly_is_not() {
    let larder = impatient(Options::registry()).start().await;
    let content = noise(1, 0, 24_000_000);
    let digest = larder.push_blob("team/app", &content).await;
    let connect = || async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let address = larder.address().parse().unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let request = blob_request("team/app", &digest);
        let asked = tokio::io::AsyncWriteExt::write_all(&mut stream, &request);
        asked.await.unwrap();
        stream
    };
    let (deaf, mut slow) = (connect().await, connect().await);
    let mut piece = vec![0; 64 << 10];
    let mut read = 0;
    {
        let cut = larder.logged("answer cut short");
        let mut cut = std::pin::pin!(cut);
        loop {
            tokio::select! {
                () = &mut cut => break,
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    read += slow.read(&mut piece).await.unwrap();
                }
            }
        }
    }
    // The slow one is none the worse for it.
    while read < content.len() {
        let count = slow.read(&mut piece).await.unwrap();
        assert!(count > 0, "{read} of {}", content.len());
        read += count;
    }
    let log = larder.log();
    assert_eq!(log.matches("answer cut short").count(), 1, "{log}");
    assert!(ended(deaf).await.len() < content.len());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_lets_go_and_can_be_gone_on_with() {
    let larder = impatient(Options::registry()).start().await;
    let location = open_upload(&larder, "team/app").await;
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabcde");
    let stalled = sent(&larder, head.as_bytes()).await;
    let told = String::from_utf8(ended(stalled).await).unwrap();
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    let status = larder.get(&location).await;
    assert_eq!(status.header("range"), "0-4", "{status:?}");
    let next = patch(&larder, status.header("location"), b"fghij").await;
    assert_eq!(next.status, 202, "{next:?}");
    let digest = sha256(b"abcdefghij");
    let stored = crate::registry::close_upload(&larder, next.header("location"), &digest, b"");
    assert_eq!(stored.await.status, 201);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_ranges_get_one_answer() {
    let larder = Options::registry().start().await;
    let content = noise(1, 0, 100_000);
    let digest = larder.push_blob("team/app", &content).await;
    let ranges: Vec<_> = (0..1000)
        .map(|at| format!("{}-{}", at * 3, at * 3))
        .collect();
    let path = format!("/v2/team/app/blobs/{digest}");
    let request = larder.request("GET", &path);
    let request = request.header("range", format!("bytes={}", ranges.join(",")));
    let got = larder.send(request).await;
    assert_eq!((got.status, got.body == content), (200, true));
    larder.finish().await;
}
