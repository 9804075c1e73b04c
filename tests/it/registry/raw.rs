//! A client that writes on a socket whatever a test likes: what no HTTP library would send.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::programs::Answer;

/// Longer than larder takes for anything that these tests ask of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, and what came on it that nobody has looked at yet.
pub(super) struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    pub(super) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("larder listens");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Writes, and hopes: larder may have had enough already.
    pub(super) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let writing = timeout(PATIENCE, self.stream.write_all(bytes.as_ref()));
        writing.await.expect("larder reads or closes").is_ok()
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(
            self.try_send(bytes).await,
            "larder has closed the connection"
        );
    }

    /// Says that there is no more to come.
    pub(super) async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("an open connection");
    }

    /// The next answer; nothing if the connection ends first.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head().await?;
        let length = answer.header("content-length").parse().unwrap_or(0);
        while self.unread.len() < length && self.read().await {}
        answer.complete = self.unread.len() >= length;
        answer.body = self.unread.drain(..length.min(self.unread.len())).collect();
        Some(answer)
    }

    /// The next answer to a HEAD, which has no body whatever its length.
    pub(super) async fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read().await {
                return None;
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).expect("a head of text");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((
                name.parse::<HeaderName>().ok()?,
                value.parse::<HeaderValue>().ok()?,
            ))
        };
        Some(Answer {
            status: head
                .get(9..12)
                .and_then(|code| code.parse().ok())
                .expect("a status"),
            headers: head.lines().filter_map(header).collect(),
            body: Vec::new(),
            complete: true,
        })
    }

    /// All answers until larder closes the connection.
    pub(super) async fn answers(mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }

    /// Reads some; not if the connection has ended, well or badly.
    async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        read.expect("an answer or an end")
            .is_ok_and(|count| count > 0)
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}
