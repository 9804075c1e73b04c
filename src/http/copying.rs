//! Files where they cannot be sent by the kernel: on encrypted connections, on Unix sockets, and
//! where `http.sendfile.disabled` says so.
//!
//! The body promises pieces as for [`sendfile`](super::sendfile), and they are read where hyper
//! writes: into a buffer that the thread has for all its connections, and only when the connection
//! takes something. So a client that is slow to read holds no buffer while it is waited for. What
//! the connection does not take of what was read is read again, from memory.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sendfile::{Pieces, stands_for_file};

/// How much of a file is read at a time.
const READ: usize = 256 << 10;

/// The most that is copied of what comes before a file, so that both go out in one piece.
const HEAD: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection on which files are read and written.
#[derive(Debug)]
pub(super) struct Copying<S> {
    stream: S,
    pieces: Pieces,
}

impl<S> Copying<S> {
    pub(super) fn new(stream: S, pieces: Pieces) -> Self {
        Self { stream, pieces }
    }
}

/// Writes `head` and what comes first of the promised pieces, of which `length` bytes are asked for.
/// What is written at once was brought into memory when it was promised: the read does not wait, but
/// for a disk that has had to forget it meanwhile.
pub(super) fn write_promised(
    pieces: &Pieces,
    head: &[u8],
    length: usize,
    write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    BUFFER.with_borrow_mut(|buffer| {
        // Once for each thread: afterwards it is long enough.
        if buffer.len() < HEAD + READ {
            buffer.resize(HEAD + READ, 0);
        }
        let mut written = Poll::Pending;
        let sent = pieces.send(length, |file, offset, length| {
            use std::os::unix::fs::FileExt as _;
            let length = length.min(READ);
            buffer[..head.len()].copy_from_slice(head);
            let count = file.read_at(&mut buffer[head.len()..head.len() + length], offset)?;
            if count == 0 {
                return Ok(Some(0));
            }
            written = write(&buffer[..head.len() + count]);
            match &mut written {
                Poll::Ready(Ok(count)) => Ok(count.checked_sub(head.len()).filter(|it| *it > 0)),
                Poll::Ready(Err(_)) | Poll::Pending => Ok(None),
            }
        });
        match sent {
            Ok(()) => written,
            Err(error) => Poll::Ready(Err(error)),
        }
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Copying<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Copying<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, pieces } = self.get_mut();
        if stands_for_file(bytes) {
            let write = |bytes: &[u8]| Pin::new(stream).poll_write(context, bytes);
            return write_promised(pieces, &[], bytes.len(), write);
        }
        if let Err(error) = pieces.are_not_copied() {
            return Poll::Ready(Err(error));
        }
        Pin::new(stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, pieces } = self.get_mut();
        let before = slices
            .iter()
            .take_while(|slice| !stands_for_file(slice))
            .count();
        let head: &[u8] = match (&slices[..before], slices.get(before)) {
            ([], Some(_)) => &[],
            ([head], Some(_)) if head.len() <= HEAD => head,
            (plain, _) if stream.is_write_vectored() => {
                return Pin::new(stream).poll_write_vectored(context, plain);
            }
            (plain, _) => {
                let first = plain.iter().find(|slice| !slice.is_empty());
                let first = first.map_or(&[][..], |slice| slice);
                return Pin::new(stream).poll_write(context, first);
            }
        };
        let write = |bytes: &[u8]| Pin::new(stream).poll_write(context, bytes);
        write_promised(pieces, head, slices[before].len(), write)
    }

    /// Or hyper would copy what stands for files.
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use crate::http::sendfile::LARGEST;
    use crate::oci::Digest;
    use crate::registry::FilePart;
    use crate::store::{Blob, Store};

    fn content(length: usize) -> Vec<u8> {
        let byte = |at| u8::try_from((at / 7 + at / 4096) % 251).unwrap();
        (0..length).map(byte).collect()
    }

    fn stored(content: &[u8]) -> (tempfile::TempDir, Blob) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = Digest::of(content);
        let mut staged = store.stage_fill(&digest).unwrap();
        staged.append(content).unwrap();
        let repository = store.local(&"a".parse().unwrap());
        repository.commit_blob(&staged, &digest).unwrap();
        let blob = repository.blob(&digest).unwrap().unwrap();
        (root, blob)
    }

    #[tokio::test]
    async fn a_client_that_takes_little_at_a_time_gets_the_head_and_the_file() {
        let content = content(LARGEST + 70_000);
        let (_root, blob) = stored(&content);
        let pieces = Pieces::default();
        let (near, mut far) = tokio::io::duplex(1000);
        let mut near = Copying::new(near, pieces.clone());
        let writing = async {
            let mut head: &[u8] = b"head";
            for (offset, length) in [(0, LARGEST), (LARGEST, 70_000)] {
                let part = FilePart::new(blob.clone(), offset as u64, length);
                part.bring_in().await.unwrap();
                let page = pieces.promise(part);
                let mut page = &page[..];
                while !page.is_empty() {
                    let slices = [IoSlice::new(head), IoSlice::new(page)];
                    let slices = if head.is_empty() {
                        &slices[1..]
                    } else {
                        &slices
                    };
                    let count = near.write_vectored(slices).await.unwrap();
                    let of_head = count.min(head.len());
                    head = &head[of_head..];
                    page = &page[count - of_head..];
                }
            }
            drop(near);
        };
        let reading = async {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            got
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == [b"head", &content[..]].concat());
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error_and_so_is_a_copied_page() {
        let (_root, blob) = stored(b"abc");
        let pieces = Pieces::default();
        let (near, _far) = tokio::io::duplex(1000);
        let mut near = Copying::new(near, pieces.clone());
        let page = pieces.promise(FilePart::new(blob, 0, 4));
        assert!(near.write(&vec![0; page.len()]).await.is_err());
        assert_eq!(near.write(&page).await.unwrap(), 3);
        assert!(near.write(&page[3..]).await.is_err());
    }
}
