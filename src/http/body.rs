//! Bodies: what goes out, and what comes in.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::Method;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::console::Pulling;
use crate::registry::{BlobReader, Error, Outcome, Part};
use crate::traces::{Answered, Answering};

use super::accesslog::Entry;
use super::around::Client;
use super::connections::Occupying;
use super::events::Announcement;
use super::http2::Stream as OpenStream;
use super::measured::Measured;
use super::sendfile::{self, Pieces};

/// How much of a refused request's body is read away at most.
const DRAIN_BYTES: usize = 8 << 20;

/// What is no larger than this is read rather than left to the connection, in bytes: it goes out with
/// the head then, by one system call, which is cheaper than not to copy it.
const COPIED: usize = 16 * 1024;

/// The body of an answer.
pub(super) struct Body {
    kind: Kind,
    sent: u64,
    // What is large is boxed: an answer is moved often before it goes out.
    record: Option<Box<Record>>,
    stream: Option<OpenStream>,
    answering: Option<Occupying>,
    unread: Option<Box<Incoming>>,
    /// Goes with this, and tells whoever waits for that.
    gone: Option<oneshot::Sender<()>>,
    pulling: Option<Pulling>,
}

/// What is said of a request: in the log, in the access log, and to those who are told of events, when the last of its answer has gone or the client has.
pub(super) struct Record {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) status: u16,
    /// How the answer was made, for pulls.
    pub(super) cache: Option<Outcome>,
    pub(super) started: Instant,
    pub(super) measured: Measured,
    pub(super) span: Answering,
    pub(super) client: Client,
    /// The begun line of the access log.
    pub(super) access: Option<Entry>,
    pub(super) announcement: Option<Announcement>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Blob { frames: Frames, left: u64 },
    Stream(Texts),
}

/// Texts that come one by one, until there are no more.
pub(super) type Texts = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// What of a blob comes next. It begins when it is first asked for: by then it is known whether its
/// connection sends files by itself.
enum Frames {
    Waiting(Box<BlobReader>, Option<Pieces>),
    Begun(Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>),
    Ended,
}

impl Frames {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if let Self::Waiting(..) = self
            && let Self::Waiting(reader, pieces) = std::mem::replace(self, Self::Ended)
        {
            *self = Self::Begun(match pieces {
                Some(pieces) => Box::pin(promised(reader, pieces)),
                None => Box::pin(read(reader)),
            });
        }
        match self {
            Self::Begun(frames) => frames.as_mut().poll_next(context),
            Self::Waiting(..) | Self::Ended => Poll::Ready(None),
        }
    }
}

fn read(reader: Box<BlobReader>) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Ok(next.map(|bytes| (bytes, reader)))
    })
}

/// The same where what is on the disk is sent by the connection.
fn promised(reader: Box<BlobReader>, pieces: Pieces) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold((reader, pieces), |(mut reader, pieces)| async move {
        let bytes = match reader.next_part(sendfile::LARGEST as u64).await? {
            None => return Ok(None),
            Some(Part::Memory(bytes)) => bytes,
            Some(Part::File(part)) if part.length() <= COPIED => part.read().await?,
            Some(Part::File(part)) => {
                // Who sends it must not wait for the disk.
                part.bring_in().await?;
                pieces.promise(part)
            }
        };
        Ok(Some((bytes, (reader, pieces))))
    })
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Kind::Full(bytes.into()))
    }

    /// A blob, or a part of one, of `length` bytes.
    pub(super) fn blob(reader: BlobReader, length: u64) -> Self {
        Self::of(Kind::Blob {
            frames: Frames::Waiting(Box::new(reader), None),
            left: length,
        })
    }

    /// Something that ends when it ends.
    pub(super) fn stream(texts: Texts) -> Self {
        Self::of(Kind::Stream(texts))
    }

    /// The same body, listed among the answers under way.
    pub(super) fn listed(mut self, pulling: Pulling) -> Self {
        self.pulling = Some(pulling);
        self
    }

    /// The same body, on a connection that sends files by itself.
    pub(super) fn sent_by(&mut self, pieces: &Pieces) {
        if let Kind::Blob {
            frames: Frames::Waiting(_, by),
            ..
        } = &mut self.kind
        {
            *by = Some(pieces.clone());
        }
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            sent: 0,
            record: None,
            stream: None,
            answering: None,
            unread: None,
            gone: None,
            pulling: None,
        }
    }

    /// The same body, which will write the request's line in the log when it is done with.
    pub(super) fn recorded(mut self, record: Record) -> Self {
        self.record = Some(Box::new(record));
        self
    }

    /// The same body, with what was not read of the request that it refuses.
    pub(super) fn leaving(mut self, unread: Option<Incoming>) -> Self {
        self.unread = unread.map(Box::new);
        self
    }

    /// What is left of the request, for whoever reads it away, and what ends when the connection has
    /// taken all of this body, or its client has left.
    pub(super) fn take_unread(&mut self) -> Option<(Incoming, oneshot::Receiver<()>)> {
        let unread = self.unread.take()?;
        let (gone, is_gone) = oneshot::channel();
        self.gone = Some(gone);
        Some((*unread, is_gone))
    }

    /// The same body, which will let go of this when it is done with.
    pub(super) fn until_out(mut self, answering: Occupying) -> Self {
        self.answering = Some(answering);
        self
    }

    /// The same body, which will tell its HTTP/2 connection for whom it waits.
    pub(super) fn on(mut self, mut stream: OpenStream) -> Self {
        stream.waits_for_us(false);
        self.stream = Some(stream);
        self
    }
}

impl Drop for Body {
    /// Hyper drops a body once its announced length is out, or when the connection ends.
    fn drop(&mut self) {
        let Some(record) = self.record.take() else {
            return;
        };
        let took = record.started.elapsed();
        record.measured.finish(record.status, took, self.sent);
        record.span.end(&Answered {
            handler: record.measured.handler(),
            status: record.status,
            bytes: self.sent,
            outcome: record.cache.map(Outcome::as_str),
            upstream: record.measured.source(),
        });
        let cut = matches!(&self.kind, Kind::Blob { left, .. } if *left > 0);
        tracing::info!(
            method = %record.method,
            path = record.path,
            status = record.status,
            cache = record.cache.map_or("-", Outcome::as_str),
            upstream = record.measured.source(),
            bytes = self.sent,
            seconds = seconds(took),
            client = %record.client.address,
            agent = record.client.agent,
            "{}",
            if cut { "answer cut short" } else { "answered" }
        );
        if let Some(entry) = record.access {
            entry.finish(record.status, self.sent);
        }
        if let Some(announcement) = record.announcement.filter(|_| !cut) {
            announcement.publish();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let next = match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Kind::Blob { frames, left } => {
                let next = frames.poll(context);
                next.map(|frame| whole(frame, left))
            }
            Kind::Stream(texts) => texts.as_mut().poll_next(context).map(|text| text.map(Ok)),
        };
        if let Some(stream) = &mut self.stream {
            stream.waits_for_us(next.is_pending());
        }
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.sent += bytes.len() as u64;
            if let Some(pulling) = &self.pulling {
                pulling.sent(bytes.len() as u64);
            }
            if let Some(record) = &self.record {
                record.measured.sent(bytes.len() as u64);
            }
        }
        next.map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Blob { left, .. } => *left == 0,
            Kind::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Blob { left, .. } => SizeHint::with_exact(*left),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

/// To the microsecond, for people and machines alike.
fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e6
}

/// A frame of a blob of which `left` bytes are left, or why there is none.
///
/// The connection, or the stream on it, is cut over an error, so that nobody takes it for the end.
/// HTTP/1.1 cuts off what is short or long by itself; HTTP/2 would end it as if all were well.
fn whole(frame: Option<Result<Bytes, Error>>, left: &mut u64) -> Option<Result<Bytes, Error>> {
    match frame {
        Some(Ok(bytes)) => Some(match left.checked_sub(bytes.len() as u64) {
            Some(rest) => {
                *left = rest;
                Ok(bytes)
            }
            None => Err(Error::Vanished),
        }),
        None if *left > 0 => Some(Err(Error::Vanished)),
        other => other,
    }
}

/// A request's body as a stream of bytes that ends in an error where the client stops short, or
/// sends nothing for so long.
pub(super) fn incoming(
    body: &mut Incoming,
    patience: Duration,
) -> impl Stream<Item = Result<Bytes, Error>> + '_ {
    stream::try_unfold(body, move |body| async move {
        loop {
            let frame = tokio::time::timeout(patience, body.frame()).await;
            match frame.map_err(|_| Error::BodyCutShort)? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Error::BodyCutShort),
                Some(Ok(frame)) => {
                    // Trailers say nothing that matters here.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some((bytes, body)));
                    }
                }
            }
        }
    })
}

/// A whole request body of at most `limit` bytes; `None` where it is larger.
pub(super) async fn collect(
    body: &mut Incoming,
    limit: usize,
    patience: Duration,
) -> Result<Option<Bytes>, Error> {
    let mut collected = Vec::new();
    let mut pieces = std::pin::pin!(incoming(body, patience));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if collected.len() + piece.len() > limit {
            return Ok(None);
        }
        collected.extend_from_slice(&piece);
    }
    Ok(Some(collected.into()))
}

/// Reads away what a client is still sending of a request that has been refused, for so long.
///
/// Closing over unread bytes resets the connection, or the stream, and the client may never see
/// the answer.
pub(super) async fn drain(mut body: Incoming, time: Duration) {
    let reading = async {
        let mut read = 0;
        let mut pieces = std::pin::pin!(incoming(&mut body, time));
        while let Some(Ok(piece)) = pieces.next().await {
            read += piece.len();
            if read > DRAIN_BYTES {
                break;
            }
        }
    };
    // Either way this is enough.
    let _ = tokio::time::timeout(time, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_ends_where_it_was_announced_to_end_or_in_an_error() {
        let frame = |length| Some(Ok(Bytes::from(vec![0; length])));
        let mut left = 10;
        assert!(matches!(whole(frame(6), &mut left), Some(Ok(_))));
        assert!(matches!(whole(None, &mut left), Some(Err(Error::Vanished))));
        assert!(matches!(whole(frame(5), &mut left), Some(Err(_))));
        assert!(matches!(whole(frame(4), &mut left), Some(Ok(_))));
        assert!(whole(None, &mut left).is_none());
    }
}
