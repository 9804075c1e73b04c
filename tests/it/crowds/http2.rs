//! The same on HTTP/2, where one connection has many requests and frames of its own.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest, handshake};
use http::Request;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LONG, ended, sent};
use crate::support::image::noise;
use crate::support::programs::{Larder, Options};

/// A client's first frames: settings, all of them as they are by default.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn impatient() -> Larder {
    Options::registry()
        .set(&["http", "h2c", "enabled"], json!(true))
        .set(&["http", "headtimeout"], json!("1s"))
        .set(&["http", "stalltimeout"], json!("2s"))
        .start()
        .await
}

async fn connect(larder: &Larder) -> (SendRequest<Bytes>, Connection<TcpStream, Bytes>) {
    let stream = TcpStream::connect(larder.address()).await.unwrap();
    handshake(stream).await.unwrap()
}

fn get(larder: &Larder, path: &str) -> Request<()> {
    let uri = format!("http://{}{path}", larder.address());
    Request::get(uri).body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_ends_however_busy_it_looks() {
    let larder = impatient().await;
    // Nothing at all; half a preface; half a head that never ends: HEADERS without END_HEADERS.
    let half_head = [PREFACE, b"\0\0\x01\x01\0\0\0\0\x01\x82"].concat();
    let beginnings = [&b""[..], b"PRI", b"PRI * HTTP/2.0\r\n", PREFACE, &half_head];
    let silent = beginnings.map(|beginning| async { ended(sent(&larder, beginning).await).await });
    futures_util::future::join_all(silent).await;
    // Pings are answered, and are no requests.
    let mut pinging = sent(&larder, PREFACE).await;
    let ping = b"\0\0\x08\x06\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08";
    let (mut read, mut write) = pinging.split();
    let pings = async {
        while write.write_all(ping).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut bytes = Vec::new();
    let both = async { tokio::join!(pings, read.read_to_end(&mut bytes)) };
    drop(timeout(LONG, both).await.unwrap());
    assert!(
        bytes
            .windows(9)
            .any(|frame| frame == b"\0\0\x08\x06\x01\0\0\0\0")
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_which_nothing_is_taken_ends_its_connection() {
    let larder = impatient().await;
    let digest = larder.push_blob("team/app", &noise(1, 0, 3_000_000)).await;
    let (mut send, connection) = connect(&larder).await;
    let connection = tokio::spawn(connection);
    let request = get(&larder, &format!("/v2/team/app/blobs/{digest}"));
    let (answer, _) = send.send_request(request, true).unwrap();
    let mut body = timeout(LONG, answer).await.unwrap().unwrap().into_body();
    // Its window is never opened again, whatever else is asked and answered for a while.
    for _ in 0..3 {
        let mut other = send.clone().ready().await.unwrap();
        let (answer, _) = other.send_request(get(&larder, "/v2/"), true).unwrap();
        assert_eq!(timeout(LONG, answer).await.unwrap().unwrap().status(), 200);
    }
    larder.logged("answer cut short").await;
    drop(timeout(LONG, connection).await.unwrap().unwrap());
    let mut got = 0;
    let end = loop {
        match body.data().await {
            Some(Ok(bytes)) => got += bytes.len(),
            other => break other,
        }
    };
    assert!(end.is_some() && got < 3_000_000, "{got}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_cost_nobody_else_anything() {
    let larder = impatient().await;
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", larder.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap()
    };
    assert_eq!(larder.get("/v2/").await.status, 200);
    let before = memory();
    let settings = b"\0\0\0\x04\0\0\0\0\0".to_vec();
    let ping = b"\0\0\x08\x06\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08".to_vec();
    let window = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01".to_vec();
    // A request (GET / of `x`), and taken back at once: CVE-2023-44487.
    let reset = |number: u32| {
        let id = (number * 2 + 1).to_be_bytes();
        let head = [&b"\0\0\x06\x01\x05"[..], &id, b"\x82\x84\x86\x41\x01x"].concat();
        [&head[..], b"\0\0\x04\x03\0", &id, b"\0\0\0\x08"].concat()
    };
    let floods: [Vec<u8>; 4] = [
        settings.repeat(100_000),
        ping.repeat(100_000),
        window.repeat(100_000),
        (0..20_000).flat_map(reset).collect(),
    ];
    let mut flooding = Vec::new();
    for flood in &floods {
        // None reads what it is answered.
        let mut stream = sent(&larder, PREFACE).await;
        flooding.push(async move { drop(timeout(LONG, stream.write_all(flood)).await.unwrap()) });
    }
    let others = async {
        for _ in 0..50 {
            assert_eq!(larder.get("/v2/").await.status, 200);
        }
    };
    tokio::join!(futures_util::future::join_all(flooding), others);
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    larder.finish().await;
}
