//! The wire: accepting, reading requests, and noticing that somebody hung up.

use std::future::Future;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::log::{Kind, Listener, Request, Target};
use super::registry;
use super::{Shared, State, answer};

/// Longer request heads are refused by every real registry.
const LONGEST_HEAD: usize = 64 * 1024;

/// Accepts until the task is ended.
pub(super) async fn accept(state: Shared, socket: TcpListener, listener: Listener) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                let own = Shared::clone(&state);
                state.tasks.spawn(connection(own, stream, listener));
            }
            // Out of descriptors, most likely: give the others time to close theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(state: Shared, stream: TcpStream, listener: Listener) {
    // Dropped after the socket, so that a connection that no longer counts is really closed.
    let _counted = Counted::new(&state);
    let mut wire = Wire {
        stream,
        inbox: Vec::new(),
    };
    if wire.stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(Some(request)) = wire.request(listener).await {
        let asked = state.log.push(request);
        let last = asked.header("connection") == Some("close");
        if answer::answer(&state, &mut wire, &asked).await.is_err() || last {
            return;
        }
    }
}

/// One open connection in the count.
struct Counted<'a>(&'a State);

impl<'a> Counted<'a> {
    fn new(state: &'a State) -> Self {
        state.connections.fetch_add(1, Ordering::SeqCst);
        state.log.ring();
        Self(state)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
        self.0.log.ring();
    }
}

/// One connection and what has been read of it.
pub(super) struct Wire {
    stream: TcpStream,
    inbox: Vec<u8>,
}

impl Wire {
    /// The next request, or `None` when the peer has closed.
    async fn request(&mut self, listener: Listener) -> io::Result<Option<Request>> {
        let end = loop {
            if let Some(at) = self.inbox.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            // Some clients try TLS first wherever they go.
            let tls = self.inbox.first() == Some(&0x16);
            if tls || self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Ok(None);
            }
            assert!(
                self.inbox.len() < LONGEST_HEAD,
                "hub: a request head without an end"
            );
        };
        let head: Vec<u8> = self.inbox.drain(..end).collect();
        let head = String::from_utf8(head).expect("hub: a request head that is not text");
        let mut request = parse(&head, listener);
        let length = request.header("content-length").map_or(0, |value| {
            value
                .parse::<usize>()
                .expect("hub: a content-length that is no number")
        });
        while self.inbox.len() < length {
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Ok(None);
            }
        }
        let body = self.inbox.drain(..length).collect();
        request.form = String::from_utf8(body).expect("hub: a request body that is not a form");
        Ok(Some(request))
    }

    /// Sends all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits for `event`, or fails as soon as the peer hangs up.
    pub(super) async fn wait<T>(&mut self, event: impl Future<Output = T>) -> io::Result<T> {
        tokio::select! {
            error = self.hung_up() => Err(error),
            value = event => Ok(value),
        }
    }

    /// Waits for the peer to hang up, which is all that is left after some faults.
    pub(super) async fn hung_up(&mut self) -> io::Error {
        loop {
            match self.stream.read_buf(&mut self.inbox).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                // The next request, early; it is read in its turn.
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Closes in an orderly way: the peer sees an end of file.
    pub(super) async fn finish(&mut self) -> io::Error {
        let closed = self.stream.shutdown().await;
        closed
            .err()
            .unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    /// Makes the coming drop a reset: the peer sees `ECONNRESET`.
    pub(super) async fn reset(&mut self) -> io::Error {
        // A reset throws away what the kernel has not delivered yet; loopback needs no longer.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let set = self.stream.set_zero_linger();
        set.err()
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

fn parse(head: &str, listener: Listener) -> Request {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ');
    let (Some(method), Some(uri), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        panic!("hub: a request line that is none: {first:?}")
    };
    let headers: Vec<_> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').expect("hub: a header without a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    assert!(
        headers.iter().all(|(name, _)| name != "transfer-encoding"),
        "hub: nothing that is asked of a registry here has a chunked body"
    );
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let target = registry::target(listener, path);
    Request {
        listener,
        kind: kind(&target),
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        at: Instant::now(),
        target,
        form: String::new(),
    }
}

fn kind(target: &Target) -> Kind {
    match target {
        Target::Ping => Kind::Ping,
        Target::Manifest { .. } => Kind::Manifest,
        Target::Blob { .. } | Target::Signed { .. } => Kind::Blob,
        Target::Tags { .. } => Kind::Tags,
        Target::Referrers { .. } => Kind::Referrers,
        Target::Token => Kind::Token,
        Target::Other => Kind::Other,
    }
}
