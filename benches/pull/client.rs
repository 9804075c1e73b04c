//! Who pulls: as little of an HTTP client as it takes, so that it is not what is measured.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::image::Image;

/// As many blobs as dockerd downloads at a time.
const AT_A_TIME: usize = 3;

/// How much is read at a time.
const BUFFER: usize = 256 * 1024;

/// A connection to a registry, and the answer that is being read from it.
pub(crate) struct Connection {
    stream: TcpStream,
    address: String,
    buffer: Vec<u8>,
    /// Which part of the buffer is not used yet.
    from: usize,
    until: usize,
    /// How much of the body is still to come.
    left: u64,
}

impl Connection {
    /// Connects to a host and port.
    pub(crate) async fn open(address: &str) -> Self {
        Self::with_buffer(address, BUFFER).await
    }

    /// The same, reading no more than `size` bytes at a time.
    pub(crate) async fn with_buffer(address: &str, size: usize) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream,
            address: address.to_owned(),
            buffer: vec![0; size],
            from: 0,
            until: 0,
            left: 0,
        }
    }

    /// Sends a request and reads the head of its answer, which must be a success.
    pub(crate) async fn ask(&mut self, method: &str, path: &str) -> String {
        assert_eq!(self.left, 0, "the last answer is not read yet");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: larder's benchmark\r\n\
             accept: application/vnd.docker.distribution.manifest.v2+json, */*\r\n\r\n",
            self.address
        );
        let sent = self.stream.write_all(request.as_bytes()).await;
        sent.expect("a request sent");
        let head = self.head().await;
        assert!(head.starts_with("http/1.1 200 "), "{method} {path}: {head}");
        let length = field(&head, "content-length").expect("an answer with a length");
        let length = length.parse().expect("a length that is a number");
        self.left = if method == "HEAD" { 0 } else { length };
        head
    }

    async fn head(&mut self) -> String {
        (self.from, self.until) = (0, 0);
        loop {
            let room = &mut self.buffer[self.until..];
            let count = self.stream.read(room).await.expect("an answer");
            assert!(count > 0, "the connection ended where an answer should be");
            self.until += count;
            let read = &self.buffer[..self.until];
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                self.from = end + 4;
                return String::from_utf8_lossy(&read[..end + 2]).to_ascii_lowercase();
            }
        }
    }

    /// The next bytes of the body, none at its end.
    pub(crate) async fn next(&mut self) -> &[u8] {
        if self.from == self.until && self.left > 0 {
            let count = self.stream.read(&mut self.buffer).await;
            (self.from, self.until) = (0, count.expect("a body"));
            assert!(self.until > 0, "the connection ended within a body");
        }
        let bytes = &self.buffer[self.from..self.until];
        self.from = self.until;
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .expect("no more than was announced");
        bytes
    }

    /// Reads the body to its end and compares every byte with what it must be.
    ///
    /// Thirty clients that hash what they get would keep this machine busier than what is
    /// measured. Comparing with bytes that were hashed once says the same.
    pub(crate) async fn expect_body(&mut self, wanted: &[u8]) {
        let mut rest = wanted;
        loop {
            let bytes = self.next().await;
            if bytes.is_empty() {
                break;
            }
            let after = rest.strip_prefix(bytes);
            rest = after.expect("the bytes that the digest names");
        }
        assert!(rest.is_empty(), "all bytes that the digest names");
    }
}

/// The value of a header in a head in lower case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// An image that clients pull, with all that it must turn out to be.
pub(crate) struct Wanted {
    repository: &'static str,
    digest: String,
    manifest: Bytes,
    blobs: Vec<(String, Bytes)>,
}

impl Wanted {
    /// The image under `repository:latest`.
    pub(crate) fn new(repository: &'static str, image: &Image) -> Self {
        Self {
            repository,
            digest: image.digest(),
            manifest: image.manifest_bytes(),
            blobs: image.blobs(),
        }
    }

    /// How many requests one pull is.
    pub(crate) fn requests(&self) -> usize {
        3 + self.blobs.len()
    }

    /// Pulls it as dockerd does: asks what the tag names, fetches the manifest by digest, then the
    /// config and the layers, three at a time. Everything that comes is checked.
    pub(crate) async fn pull(&self, address: &str) {
        let name = self.repository;
        let mut first = Connection::open(address).await;
        first.ask("GET", "/v2/").await;
        while !first.next().await.is_empty() {}
        let tag = first
            .ask("HEAD", &format!("/v2/{name}/manifests/latest"))
            .await;
        assert_eq!(
            field(&tag, "docker-content-digest"),
            Some(self.digest.as_str())
        );
        let manifest = format!("/v2/{name}/manifests/{}", self.digest);
        first.ask("GET", &manifest).await;
        first.expect_body(&self.manifest).await;
        let next = AtomicUsize::new(0);
        let others = (1..AT_A_TIME).map(|_| async {
            let mut connection = Connection::open(address).await;
            self.download(&mut connection, &next).await;
        });
        let others = futures_util::future::join_all(others);
        tokio::join!(self.download(&mut first, &next), others);
    }

    /// Downloads blobs until none is left to begin with.
    async fn download(&self, connection: &mut Connection, next: &AtomicUsize) {
        while let Some((digest, bytes)) = self.blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = format!("/v2/{}/blobs/{digest}", self.repository);
            connection.ask("GET", &path).await;
            connection.expect_body(bytes).await;
        }
    }
}
