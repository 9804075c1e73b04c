//! A blob's bytes on their way out, whether all of them are here yet or not.

use std::fs::File;
use std::io;

use bytes::Bytes;
use tokio::sync::watch;

use crate::store::Blob;

use super::Error;
use super::followers::Follower;
use super::pass::{PassReader, Passing};

/// The end of an answer that is withheld until a fill is verified, in bytes.
///
/// Content no larger than this is not announced before the verdict at all.
pub(super) const HELD_BACK: u64 = 64 * 1024;

/// How much is read from the disk at a time, in bytes.
const READ: u64 = 64 * 1024;

/// How much is brought into memory at a time, in bytes.
const BROUGHT: usize = 256 * 1024;

/// How far a fill is, or the verification of what is stored.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Nothing is known yet, or not how large the blob is.
    Opening,
    /// So many bytes of the content can be read, but not yet believed.
    Receiving { content: Blob, written: u64 },
    /// Verified, stored and linked.
    Committed(Blob),
    /// It can be had, but not stored: every reader goes on by itself.
    Passing(Passing),
    /// It did not come to that.
    Failed(Error),
}

/// A blob's content: stored, or on its way.
#[derive(Clone, Debug)]
pub struct BlobContent {
    size: u64,
    source: Source,
    /// What it is read from, while that is a fill.
    follower: Option<Follower>,
}

#[derive(Clone, Debug)]
enum Source {
    Stored(Blob),
    Unverified(Blob, watch::Receiver<Progress>),
    Passing(Passing),
    Memory(Bytes),
}

impl BlobContent {
    pub(super) fn stored(blob: Blob) -> Self {
        let size = blob.size();
        let source = Source::Stored(blob);
        Self::of(size, source)
    }

    fn of(size: u64, source: Source) -> Self {
        let follower = None;
        Self {
            size,
            source,
            follower,
        }
    }

    /// The same content, which counts as following a fill.
    pub(super) fn followed(mut self, follower: Follower) -> Self {
        self.follower = Some(follower);
        self
    }

    /// Content whose end is withheld until `progress` says that it is verified.
    pub(super) fn unverified(blob: Blob, progress: watch::Receiver<Progress>) -> Self {
        let size = blob.size();
        let source = Source::Unverified(blob, progress);
        Self::of(size, source)
    }

    pub(super) fn passing(passing: Passing) -> Self {
        let size = passing.size();
        let source = Source::Passing(passing);
        Self::of(size, source)
    }

    /// Verified content that is stored nowhere.
    pub(super) fn memory(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        let source = Source::Memory(bytes);
        Self::of(size, source)
    }

    /// Whether it is known by now that it will not be stored.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.source, Source::Passing(_) | Source::Memory(_))
    }

    /// The size of the whole blob in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the bytes from `start` up to but not including `end`.
    pub fn read(self, start: u64, end: u64) -> BlobReader {
        BlobReader {
            source: self.source,
            pass: None,
            offset: start,
            end,
            _follower: self.follower,
        }
    }
}

/// Some of a blob's bytes.
#[derive(Debug)]
pub enum Part {
    /// The bytes themselves.
    Memory(Bytes),
    /// Where they are.
    File(FilePart),
}

/// Bytes that are in a file, all of them, and may be given out.
#[derive(Clone, Debug)]
pub struct FilePart {
    blob: Blob,
    offset: u64,
    length: usize,
}

impl FilePart {
    /// `length` bytes from `offset` on, which the file must have.
    pub fn new(blob: Blob, offset: u64, length: usize) -> Self {
        Self {
            blob,
            offset,
            length,
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        self.blob.file()
    }

    /// Where in it the bytes begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many there are.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Takes the first bytes away: they are out.
    pub fn advance(&mut self, count: usize) {
        self.offset += count as u64;
        self.length = self.length.saturating_sub(count);
    }

    /// Takes note that the disk does not give them back. Whoever asks next is not given it.
    pub fn cannot_be_read(&self, error: &io::Error) {
        tracing::error!(offset = self.offset, %error, "a stored blob cannot be read");
        self.blob.distrust();
    }

    /// Sees to it that they are in memory, so that whoever reads or sends them next need not wait
    /// for the disk. If the first and the last of them are, those in between count as being so too.
    pub async fn bring_in(&self) -> Result<(), Error> {
        let last = self.offset + (self.length as u64).saturating_sub(1);
        let is_in_memory = |offset| self.blob.read_in_memory(offset, &mut [0]).is_some();
        if is_in_memory(self.offset) && is_in_memory(last) {
            return Ok(());
        }
        let mut part = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; part.length.min(BROUGHT)];
            while part.length > 0 {
                let wanted = part.length.min(BROUGHT);
                match part.blob.read_into(part.offset, &mut buffer[..wanted]) {
                    // Whoever sends it finds out that it ends too early.
                    Ok(0) => break,
                    Ok(count) => part.advance(count),
                    Err(error) => {
                        part.cannot_be_read(&error);
                        return Err(Error::Vanished);
                    }
                }
            }
            Ok(())
        });
        reading.await.map_err(|_| Error::Vanished)?
    }

    /// Reads them all.
    pub async fn read(self) -> Result<Bytes, Error> {
        let mut bytes = vec![0; self.length];
        if self.blob.read_in_memory(self.offset, &mut bytes) == Some(self.length) {
            return Ok(Bytes::from(bytes));
        }
        let read = tokio::task::spawn_blocking(move || {
            let read = self.blob.read_at(self.offset, self.length);
            let read = read.and_then(|bytes| {
                if bytes.len() == self.length {
                    Ok(bytes)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            });
            read.inspect_err(|error| self.cannot_be_read(error))
        });
        match read.await {
            Ok(Ok(bytes)) => Ok(Bytes::from(bytes)),
            Ok(Err(_)) | Err(_) => Err(Error::Vanished),
        }
    }
}

/// Reads a blob at its own pace, whether it is complete or still growing.
#[derive(Debug)]
pub struct BlobReader {
    source: Source,
    /// The rest of the way, where nothing is stored.
    pass: Option<Box<PassReader>>,
    offset: u64,
    end: u64,
    /// Counted as long as this reads.
    _follower: Option<Follower>,
}

impl BlobReader {
    /// The next bytes; `None` at the end. An error means that the rest will never come: the
    /// answer must not end as if it were complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(match self.next_part(READ).await? {
            Some(Part::Memory(bytes)) => Some(bytes),
            Some(Part::File(part)) => Some(part.read().await?),
            None => None,
        })
    }

    /// The same, but what is on the disk is left there: it is for the caller to read or to send.
    /// `at_most` is how many bytes of a file he wants at a time.
    pub async fn next_part(&mut self, at_most: u64) -> Result<Option<Part>, Error> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let readable = self.readable().await?;
        if let Some(pass) = &mut self.pass {
            let bytes = pass.next().await?;
            self.offset += bytes.len() as u64;
            return Ok(Some(Part::Memory(bytes)));
        }
        let (offset, length) = (self.offset, (readable - self.offset).min(at_most));
        self.offset += length;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match &self.source {
            Source::Stored(blob) | Source::Unverified(blob, _) => {
                let part = FilePart::new(blob.clone(), offset, length);
                Ok(Some(Part::File(part)))
            }
            Source::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let range = start..start.saturating_add(length);
                let part = bytes.get(range).map(|part| bytes.slice_ref(part));
                part.map(Part::Memory).map(Some).ok_or(Error::Vanished)
            }
            Source::Passing(_) => Err(Error::Vanished),
        }
    }

    /// Waits until there is something to read, and says up to where.
    ///
    /// Until the content is verified, the end of what was asked for is withheld, be it the end of
    /// the blob or of a part: nothing unverified is ever a complete answer.
    async fn readable(&mut self) -> Result<u64, Error> {
        let (offset, end) = (self.offset, self.end);
        if self.pass.is_some() {
            return Ok(end);
        }
        let progress = match &mut self.source {
            Source::Stored(_) | Source::Memory(_) => return Ok(end),
            Source::Passing(passing) => {
                self.pass = Some(Box::new(passing.reader(offset, end)));
                return Ok(end);
            }
            Source::Unverified(_, progress) => progress,
        };
        let withheld = end.saturating_sub(HELD_BACK);
        let can_go_on = |progress: &Progress| match progress {
            Progress::Opening => false,
            Progress::Receiving { written, .. } => offset < withheld.min(*written),
            Progress::Committed(_) | Progress::Passing(_) | Progress::Failed(_) => true,
        };
        // A fill that vanished without a word has failed.
        let state = progress.wait_for(can_go_on).await;
        match &*state.map_err(|_| Error::Vanished)? {
            Progress::Receiving { written, .. } => Ok(withheld.min(*written)),
            Progress::Committed(_) => Ok(end),
            Progress::Passing(passing) => {
                self.pass = Some(Box::new(passing.reader(offset, end)));
                Ok(end)
            }
            Progress::Failed(error) => Err(error.clone()),
            Progress::Opening => Err(Error::Vanished),
        }
    }
}
