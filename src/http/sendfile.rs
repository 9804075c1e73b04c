//! Files that go out without passing through this process: `sendfile(2)` behind hyper.
//!
//! A body cannot hand a file to hyper, only bytes. So it hands it slices of [`PAGE`], a page of
//! nothing, as many bytes as the file has, and puts the piece of the file that is meant on the
//! queue that it shares with its connection ([`Pieces`]). Below hyper the connection
//! ([`Sending`]) knows these slices by their addresses, and where one is to be written it sends
//! the piece at the head of the queue.
//!
//! This is right under two conditions, and both are looked after here. Hyper must hand on the
//! slices themselves and no copies of them: it does so while it writes vectored, which
//! [`Sending`] says it can; a copy would be noticed, see [`Pieces::are_not_copied`]. And what is on
//! the queue must be in the order of the slices: a connection of HTTP/1 has one answer at a time,
//! and each piece is put there in the moment in which its slices are given away.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::registry::FilePart;

use super::copying::write_promised;

/// What stands for the bytes of files. Its content never goes anywhere, and since it is all zeros
/// it takes no room, neither in the program nor in memory.
static PAGE: [u8; LARGEST] = [0; LARGEST];

/// The largest piece of a file, in bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// The pieces of files that a connection has promised to send.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces(Arc<Mutex<VecDeque<FilePart>>>);

impl Pieces {
    /// Promises these bytes, at most [`LARGEST`], and gives those that stand for them.
    pub(super) fn promise(&self, part: FilePart) -> Bytes {
        let length = part.length().min(LARGEST);
        self.queue().push_back(part);
        Bytes::from_static(&PAGE[..length])
    }

    /// An error where something is promised: plain bytes are what comes next only where nothing is.
    /// Hyper copies into one buffer what is to go out unvectored. Nothing here does, but if it did
    /// while a file is on the queue, its zeros would go out for content: that must not be.
    pub(super) fn are_not_copied(&self) -> io::Result<()> {
        if self.are_sent() {
            return Ok(());
        }
        let copied = "a file's bytes were copied on their way";
        Err(io::Error::other(copied))
    }

    /// Whether nothing is promised that has not been sent.
    pub(super) fn are_sent(&self) -> bool {
        self.queue().is_empty()
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<FilePart>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the head of the queue, and takes what it has sent off it, if it has sent
    /// anything. `length` is what hyper believes it sends.
    pub(super) fn send(
        &self,
        length: usize,
        send: impl FnOnce(&File, u64, usize) -> io::Result<Option<usize>>,
    ) -> io::Result<()> {
        let mut queue = self.queue();
        let Some(part) = queue.front_mut() else {
            return Err(io::Error::other("bytes of a file that nobody promised"));
        };
        let done = send(part.file(), part.offset(), part.length().min(length));
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before its size");
        let done = done.and_then(|count| match count {
            Some(0) => Err(ended()),
            count => Ok(count),
        });
        match done {
            Ok(count) => {
                part.advance(count.unwrap_or(0));
                if part.length() == 0 {
                    queue.pop_front();
                }
                Ok(())
            }
            Err(error) => {
                if is_the_files(&error) {
                    part.cannot_be_read(&error);
                }
                Err(error)
            }
        }
    }
}

/// Whether an error is the file's and not the connection's.
fn is_the_files(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    error.kind() == io::ErrorKind::UnexpectedEof || errno == Some(Errno::IO)
}

/// Whether these bytes stand for those of a file.
pub(super) fn stands_for_file(bytes: &[u8]) -> bool {
    let page = PAGE.as_ptr_range();
    !bytes.is_empty() && page.contains(&bytes.as_ptr())
}

/// A connection on which files are sent.
#[derive(Debug)]
pub(super) struct Sending {
    stream: TcpStream,
    pieces: Pieces,
}

impl Sending {
    pub(super) fn new(stream: TcpStream, pieces: Pieces) -> Self {
        Self { stream, pieces }
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let Self { stream, pieces } = &mut *self;
            let mut count = 0;
            let mut cannot = false;
            let sent = stream.try_io(Interest::WRITABLE, || {
                pieces.send(length, |file, offset, length| {
                    let mut from = offset;
                    match rustix::fs::sendfile(stream.as_fd(), file, Some(&mut from), length) {
                        // Some file systems cannot, and say so at the first call.
                        Err(Errno::INVAL | Errno::NOSYS) => {
                            cannot = true;
                            Ok(None)
                        }
                        sent => {
                            count = sent?;
                            Ok(Some(count))
                        }
                    }
                })
            });
            if cannot {
                let write = |bytes: &[u8]| Pin::new(stream).poll_write(context, bytes);
                return write_promised(pieces, &[], length, write);
            }
            let sent = sent.map(|()| count);
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Writes what comes before a file. The kernel waits for the file's bytes to fill the packet.
    fn poll_send_before_file(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::net::send(self.stream.as_fd(), bytes, flags)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Sending {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Sending {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if stands_for_file(bytes) {
            return self.poll_send_file(context, bytes.len());
        }
        if let Err(error) = self.pieces.are_not_copied() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let before = slices
            .iter()
            .take_while(|slice| !stands_for_file(slice))
            .count();
        match (&slices[..before], slices.get(before)) {
            ([], Some(file)) => self.poll_send_file(context, file.len()),
            ([head], Some(_)) => self.poll_send_before_file(context, head),
            (plain, _) => Pin::new(&mut self.stream).poll_write_vectored(context, plain),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use futures_util::StreamExt as _;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use crate::oci::Digest;
    use crate::store::{Blob, Store};

    /// A blob of which parts can be had.
    struct Stored {
        _root: tempfile::TempDir,
        blob: Blob,
    }

    impl Stored {
        fn new(content: &[u8]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let store = Store::open(root.path()).unwrap();
            let digest = Digest::of(content);
            let mut staged = store.stage_fill(&digest).unwrap();
            staged.append(content).unwrap();
            let repository = store.local(&"a".parse().unwrap());
            repository.commit_blob(&staged, &digest).unwrap();
            let blob = repository.blob(&digest).unwrap().unwrap();
            Self { _root: root, blob }
        }
    }

    fn content(length: usize) -> Vec<u8> {
        let byte = |at| u8::try_from((at / 7 + at / 4096) % 251).unwrap();
        (0..length).map(byte).collect()
    }

    /// A connection, and the far end of it.
    async fn pair(pieces: &Pieces) -> (Sending, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        (Sending::new(near.unwrap().0, pieces.clone()), far.unwrap())
    }

    /// Answers one request with these parts of a file, and says what arrives.
    async fn answer(blob: &Blob, parts: Vec<(u64, usize)>) -> (hyper::Result<()>, Vec<u8>) {
        let pieces = Pieces::default();
        let (near, mut far) = pair(&pieces).await;
        let blob = blob.clone();
        let service = service_fn(move |_: Request<hyper::body::Incoming>| {
            let (blob, pieces, parts) = (blob.clone(), pieces.clone(), parts.clone());
            let total: usize = parts.iter().map(|(_, length)| length).sum();
            // Promised when it is asked for, as bodies do.
            let frames = futures_util::stream::iter(parts).map(move |(offset, length)| {
                Ok::<_, Infallible>(Frame::data(pieces.promise(FilePart::new(
                    blob.clone(),
                    offset,
                    length,
                ))))
            });
            async move {
                let response = Response::builder().header("content-length", total);
                Ok::<_, Infallible>(response.body(StreamBody::new(frames)).unwrap())
            }
        });
        let client = async {
            far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut got = Vec::new();
            drop(far.read_to_end(&mut got).await);
            got
        };
        let serving = http1::Builder::new().serve_connection(TokioIo::new(near), service);
        let (served, got) = tokio::join!(serving, client);
        let head = got
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .unwrap_or(0)
            + 4;
        (served, got[head.min(got.len())..].to_vec())
    }
    #[tokio::test]
    async fn what_arrives_is_the_file_and_not_the_page() {
        let content = content(3 * LARGEST + 12_345);
        let stored = Stored::new(&content);
        let whole = (0..content.len()).step_by(LARGEST);
        let parts = whole
            .map(|at| (at as u64, LARGEST.min(content.len() - at)))
            .collect();
        let (served, got) = answer(&stored.blob, parts).await;
        served.unwrap();
        assert!(got == content, "{} of {} bytes", got.len(), content.len());
        let (served, got) = answer(&stored.blob, vec![(1_000_001, 1), (5, 70_000), (0, 3)]).await;
        served.unwrap();
        let expected = [
            &content[1_000_001..1_000_002],
            &content[5..70_005],
            &content[..3],
        ];
        assert!(got == expected.concat());
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_cuts_the_connection() {
        let stored = Stored::new(&content(1000));
        let (served, got) = answer(&stored.blob, vec![(0, 1001)]).await;
        assert!(served.is_err());
        assert!(got == content(1000));
    }

    #[tokio::test]
    async fn a_copied_page_is_never_sent() {
        let pieces = Pieces::default();
        let (mut near, _far) = pair(&pieces).await;
        let stored = Stored::new(b"abc");
        let page = pieces.promise(FilePart::new(stored.blob.clone(), 0, 3));
        assert!(near.write(&vec![0; page.len()]).await.is_err());
        assert_eq!(near.write(&page).await.unwrap(), 3);
        // Nothing is promised any more.
        assert!(near.write(&page).await.is_err());
    }

    #[test]
    fn only_the_page_stands_for_a_file() {
        assert!(stands_for_file(&PAGE) && stands_for_file(&PAGE[LARGEST - 1..]));
        assert!(!stands_for_file(&[0; 10]) && !stands_for_file(&PAGE[..0]));
        let bytes = Bytes::from_static(&PAGE[5..]);
        assert!(stands_for_file(&bytes));
    }
}
