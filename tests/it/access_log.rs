//! A line for each request: in the access log, and in the log.

use std::io::{self, Write};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use serde_json::json;

use crate::support::inside::{Paper, Wanted};
use crate::support::programs::Options;

/// What nobody should be able to write into a log.
const NASTY: &[&[u8]] = &[
    b"GET /v2/%0d%0a127.0.0.1%20-%20- HTTP/1.1\r\nhost: x\r\nuser-agent: a\" 200 1 \"b\\\r\n",
    b"GET /v2/x/manifests/1?a=\\b HTTP/1.1\r\nhost: x\r\nuser-agent: \x80\xff\xfe\r\n",
    b"GET /v2/x/blobs/y HTTP/1.1\r\nhost: x\r\nreferer: \" \"\tand more\r\n",
    "GET /v2/caf\u{e9} HTTP/1.1\r\nhost: x\r\nuser-agent: \u{202e}live\r\n".as_bytes(),
];

/// Sends a request as it is, and reads the answer to its end.
async fn raw(address: &str, request: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream
        .write_all(b"connection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
}

fn long_request() -> Vec<u8> {
    let (path, agent) = ("p".repeat(20_000), "a".repeat(30_000));
    format!("GET /v2/{path} HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\n").into_bytes()
}

/// The fields of a line of Apache's combined format.
fn fields(line: &str) -> Option<[&str; 9]> {
    let (client, rest) = line.split_once(' ')?;
    let (identity, rest) = rest.split_once(' ')?;
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let (status, rest) = rest.split_once(' ')?;
    let (bytes, rest) = rest.split_once(" \"")?;
    let (referer, rest) = rest.split_once("\" \"")?;
    let agent = rest
        .strip_suffix('"')
        .filter(|agent| !agent.contains('"'))?;
    Some([
        client, identity, user, time, request, status, bytes, referer, agent,
    ])
}

#[tokio::test]
async fn each_request_is_one_line_that_can_be_read() {
    let paper = Paper::default();
    let wanted = Wanted {
        access_log: Some(Box::new(paper.clone())),
        ..Wanted::default()
    };
    let larder = wanted.start().await;
    let digest = larder.push_blob("team/app", b"content").await;
    let get = larder.request("GET", &format!("/v2/team/app/blobs/{digest}"));
    assert_eq!(
        larder
            .send(get.header("referer", "http://here/"))
            .await
            .status,
        200
    );
    larder.finish().await;
    let text = paper.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let [
        client,
        identity,
        user,
        time,
        request,
        status,
        bytes,
        referer,
        agent,
    ] = fields(lines[2]).unwrap();
    assert_eq!((client, identity, user), ("127.0.0.1", "-", "-"));
    assert!(time.ends_with(" +0000") && time.len() == "10/Oct/2000:13:55:36 +0000".len());
    assert_eq!(request, format!("GET /v2/team/app/blobs/{digest} HTTP/1.1"));
    assert_eq!((status, bytes), ("200", "7"));
    assert_eq!((referer, agent), ("http://here/", "test/1"));
    let [.., request, status, _, referer, _] = fields(lines[1]).unwrap();
    assert!(request.starts_with("PUT /v2/team/app/blobs/uploads/") && request.contains("digest="));
    assert_eq!((status, referer), ("201", "-"));
}

#[tokio::test]
async fn nobody_writes_a_second_line_into_the_access_log() {
    let paper = Paper::default();
    let wanted = Wanted {
        access_log: Some(Box::new(paper.clone())),
        ..Wanted::default()
    };
    let larder = wanted.start().await;
    let address = larder.address().to_string();
    let mut requests: Vec<_> = NASTY.iter().map(|request| request.to_vec()).collect();
    requests.push(long_request());
    for request in &requests {
        raw(&address, request).await;
    }
    larder.finish().await;
    let text = paper.text();
    assert_eq!(text.lines().count(), requests.len(), "{text}");
    assert!(text.is_ascii() && text.ends_with('\n'));
    for line in text.lines() {
        assert!(fields(line).is_some(), "{line}");
        assert!(line.len() < 6000, "{}", line.len());
        assert!(
            line.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
            "{line}"
        );
    }
    assert!(text.contains("\"a\\x22 200 1 \\x22b\\x5C\""), "{text}");
}

/// A pipe whose reader has stopped reading.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        // Until the test is over.
        let _ = self.0.recv();
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_output_that_nobody_reads_holds_up_no_request() {
    let (open, stuck) = std::sync::mpsc::channel();
    let wanted = Wanted {
        access_log: Some(Box::new(Stuck(stuck))),
        ..Wanted::default()
    };
    let larder = wanted.start().await;
    while larder.around.access_log.dropped() == 0 {
        let answers = (0..500).map(|_| larder.ask("GET", "/v2/"));
        let answers = futures_util::future::join_all(answers).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
    let vars = larder.debug("/debug/vars").await.json();
    assert!(vars["larder"]["accesslogdropped"].as_u64().unwrap() > 0);
    drop(open);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_who_asked_and_stays_one_line() {
    let quiet = json!({ "disabled": true });
    let options = Options::registry().set(&["log", "accesslog"], quiet);
    let larder = options.start().await;
    let before = larder.log().lines().count();
    let hello = larder
        .request("GET", "/v2/")
        .header("user-agent", "hello/1");
    assert_eq!(larder.send(hello).await.status, 200);
    larder.logged("hello/1").await;
    let log = larder.log();
    let line = log.lines().last().unwrap();
    assert!(
        line.contains("client=127.0.0.1:") && line.contains("agent=\"hello/1\""),
        "{line}"
    );
    let mut requests: Vec<_> = NASTY.iter().map(|request| request.to_vec()).collect();
    requests.push(long_request());
    for request in &requests {
        raw(larder.address(), request).await;
    }
    let last = larder.request("GET", "/v2/").header("user-agent", "last/1");
    larder.send(last).await;
    larder.logged("last/1").await;
    let log = larder.log();
    let lines: Vec<_> = log.lines().skip(before + 1).collect();
    assert_eq!(lines.len(), requests.len() + 1, "{log}");
    for line in lines {
        assert!(line.contains("answered method=GET"), "{line}");
        assert!(line.len() < 4000 && !line.contains('\u{1b}'), "{line}");
    }
    larder.finish().await;
}
