//! Every way in which a blob can be pushed.

use bytes::Bytes;
use reqwest::RequestBuilder;

use super::wire::{ask, get};
use crate::support::programs::{Answer, Larder};

/// The smallest chunks that the conformance program sends.
const CHUNK: usize = 1024;

/// A way to push a blob.
#[derive(Clone, Copy, Debug)]
pub(super) enum Api {
    /// One POST with the blob in it.
    PostOnly,
    /// A session, closed with the whole blob.
    PostPut,
    /// A session, the blob as a stream of unknown length, and an empty PUT.
    Stream,
    /// A session, and chunks that say where they go.
    Chunked(Last, Order),
}

/// Where the last chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Patch,
    Put,
}

/// Whether each chunk is preceded by one that does not belong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Kept,
    Broken,
}

impl Api {
    /// Those that a client may choose freely.
    pub(super) const ROTATION: [Self; 5] = [
        Self::PostPut,
        Self::PostOnly,
        Self::Stream,
        Self::Chunked(Last::Patch, Order::Kept),
        Self::Chunked(Last::Put, Order::Kept),
    ];
}

/// A blob on its way.
pub(super) struct Push<'a> {
    pub(super) larder: &'a Larder,
    pub(super) name: &'a str,
    /// What it is said to be.
    pub(super) digest: &'a str,
    pub(super) bytes: &'a [u8],
    /// The query of the POST that opens the session.
    pub(super) opening: &'a str,
}

/// Pushes a blob, which must be taken.
pub(super) async fn blob(larder: &Larder, name: &str, digest: &str, bytes: &[u8], api: Api) {
    let opening = "";
    let push = Push {
        larder,
        name,
        digest,
        bytes,
        opening,
    };
    let stored = push.by(api).await;
    assert_stored(larder, &stored, digest, bytes).await;
}

/// A blob was taken, and is where the answer says.
pub(super) async fn assert_stored(larder: &Larder, stored: &Answer, digest: &str, bytes: &[u8]) {
    assert_eq!(stored.status, 201, "{stored:?}");
    assert_eq!(stored.header("docker-content-digest"), digest);
    let got = get(larder, stored.header("location")).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert!(got.body == bytes, "{digest} has other bytes");
}

/// The chunks' size; a minimum is a number if there is one, and is honoured.
fn chunk_size(opened: &Answer, length: usize) -> usize {
    let minimum = match opened.header("oci-chunk-min-length") {
        "" => 0,
        text => text.parse().expect("a length"),
    };
    (length / 3 + 1).max(minimum).max(CHUNK).min(length)
}

impl Push<'_> {
    /// Pushes it, and returns the last answer.
    pub(super) async fn by(&self, api: Api) -> Answer {
        match api {
            Api::PostOnly => self.post_only().await,
            Api::PostPut => {
                let opened = self.open().await;
                self.close(opened.header("location"), self.bytes, None)
                    .await
            }
            Api::Stream => self.stream().await,
            Api::Chunked(last, order) => self.chunked(last, order).await,
        }
    }

    /// Opens a session.
    pub(super) async fn open(&self) -> Answer {
        let path = format!("/v2/{}/blobs/uploads/{}", self.name, self.opening);
        let request = self
            .larder
            .request("POST", &path)
            .header("content-length", 0);
        let opened = ask(self.larder, request).await;
        assert_eq!(opened.status, 202, "{opened:?}");
        assert_ne!(opened.header("location"), "", "{opened:?}");
        opened
    }

    async fn post_only(&self) -> Answer {
        let path = format!("/v2/{}/blobs/uploads/?digest={}", self.name, self.digest);
        let request = self.larder.request("POST", &path);
        self.send(request, self.bytes, None).await
    }

    async fn stream(&self) -> Answer {
        let opened = self.open().await;
        let pieces: Vec<_> = self.bytes.chunks(100).map(Bytes::copy_from_slice).collect();
        let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        let request = self.larder.request("PATCH", opened.header("location"));
        let request = request.header("content-type", "application/octet-stream");
        let body = reqwest::Body::wrap_stream(pieces);
        let sent = ask(self.larder, request.body(body)).await;
        assert_eq!(sent.status, 202, "{sent:?}");
        self.close(sent.header("location"), b"", None).await
    }

    async fn chunked(&self, last: Last, order: Order) -> Answer {
        let opened = self.open().await;
        let (length, size) = (self.bytes.len(), chunk_size(&opened, self.bytes.len()));
        let mut location = opened.header("location").to_owned();
        let mut sent = 0;
        while sent < length {
            if order == Order::Broken {
                location = self.misplace(&location, sent, size, last).await;
            }
            let end = (sent + size).min(length);
            if last == Last::Put && end == length {
                return self.close(&location, &self.bytes[sent..], Some(sent)).await;
            }
            let chunk = &self.bytes[sent..end];
            let request = self.larder.request("PATCH", &location);
            let taken = self.send(request, chunk, Some(sent)).await;
            assert_eq!(taken.status, 202, "{taken:?}");
            assert_eq!(taken.header("range"), format!("0-{}", end - 1));
            taken.header("location").clone_into(&mut location);
            sent = end;
        }
        self.close(&location, b"", None).await
    }

    /// Sends a chunk that does not continue what has come: from further on, or, near the end,
    /// from the beginning. It is refused, and the session knows how far it is. Returns where to
    /// go on.
    async fn misplace(&self, location: &str, sent: usize, size: usize, last: Last) -> String {
        let length = self.bytes.len();
        let start = if sent + size < length { sent + size } else { 0 };
        let start = if sent == 0 && start == 0 { 1 } else { start };
        let end = (start + size).min(length);
        let chunk = &self.bytes[start..end];
        let refused = if last == Last::Put && end == length {
            self.close(location, chunk, Some(start)).await
        } else {
            let request = self.larder.request("PATCH", location);
            self.send(request, chunk, Some(start)).await
        };
        assert_eq!(refused.status, 416, "{start} after {sent}: {refused:?}");
        let status = get(self.larder, location).await;
        assert_eq!(status.status, 204, "{status:?}");
        let reached = status.header("range").strip_prefix("0-");
        let reached: usize = reached.and_then(|text| text.parse().ok()).expect("a range");
        assert_eq!(reached, sent.saturating_sub(1));
        status.header("location").to_owned()
    }

    /// Closes a session, with the last bytes if there are any left.
    pub(super) async fn close(&self, location: &str, bytes: &[u8], at: Option<usize>) -> Answer {
        let separator = if location.contains('?') { '&' } else { '?' };
        let location = format!("{location}{separator}digest={}", self.digest);
        let request = self.larder.request("PUT", &location);
        self.send(request, bytes, at).await
    }

    /// Sends a body, and where in the blob it goes.
    async fn send(&self, request: RequestBuilder, bytes: &[u8], at: Option<usize>) -> Answer {
        let mut request = request.header("content-type", "application/octet-stream");
        if let Some(start) = at {
            let range = format!("{start}-{}", start + bytes.len() - 1);
            request = request.header("content-range", range);
        }
        ask(self.larder, request.body(bytes.to_vec())).await
    }
}
