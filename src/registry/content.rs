//! A blob's bytes on their way out, whether all of them are here yet or not.

use bytes::Bytes;
use tokio::sync::watch;

use crate::store::Blob;

use super::Error;

/// The end of an answer that is withheld until a fill is verified, in bytes.
///
/// Content no larger than this is not announced before the verdict at all.
pub(super) const HELD_BACK: u64 = 64 * 1024;

/// How much is read from the disk at a time, in bytes.
const READ: u64 = 64 * 1024;

/// How far a fill is.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Nothing is known yet, or not how large the blob is.
    Opening,
    /// So many bytes of the content can be read, but not yet believed.
    Receiving { content: Blob, written: u64 },
    /// Verified, stored and linked.
    Committed(Blob),
    /// It did not come to that.
    Failed(Error),
}

/// A blob's content: stored, or on its way.
#[derive(Clone, Debug)]
pub struct BlobContent {
    blob: Blob,
    progress: Option<watch::Receiver<Progress>>,
}

impl BlobContent {
    pub(super) fn stored(blob: Blob) -> Self {
        let progress = None;
        Self { blob, progress }
    }

    pub(super) fn filling(blob: Blob, progress: watch::Receiver<Progress>) -> Self {
        let progress = Some(progress);
        Self { blob, progress }
    }

    /// The size of the whole blob in bytes.
    pub fn size(&self) -> u64 {
        self.blob.size()
    }

    /// Reads the bytes from `start` up to but not including `end`.
    pub fn read(self, start: u64, end: u64) -> BlobReader {
        BlobReader {
            content: self,
            offset: start,
            end,
        }
    }
}

/// Reads a blob at its own pace, whether it is complete or still growing.
#[derive(Debug)]
pub struct BlobReader {
    content: BlobContent,
    offset: u64,
    end: u64,
}

impl BlobReader {
    /// The next bytes; `None` at the end. An error means that the rest will never come: the
    /// answer must not end as if it were complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let readable = self.readable().await?;
        let length = (readable - self.offset).min(READ);
        let (blob, offset) = (self.content.blob.clone(), self.offset);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let read = tokio::task::spawn_blocking(move || blob.read_at(offset, length)).await;
        match read {
            Ok(Ok(bytes)) if !bytes.is_empty() => {
                self.offset += bytes.len() as u64;
                Ok(Some(Bytes::from(bytes)))
            }
            Ok(Ok(_)) => {
                tracing::error!(offset, "a stored blob ends before its size");
                Err(Error::Vanished)
            }
            Ok(Err(error)) => {
                tracing::error!(offset, %error, "a stored blob cannot be read");
                Err(Error::Vanished)
            }
            Err(_) => Err(Error::Vanished),
        }
    }

    /// Waits until there is something to read, and says up to where.
    ///
    /// Until the fill is verified, the end of what was asked for is withheld, be it the end of
    /// the blob or of a part: nothing unverified is ever a complete answer.
    async fn readable(&mut self) -> Result<u64, Error> {
        let Some(progress) = &mut self.content.progress else {
            return Ok(self.end);
        };
        let (offset, end) = (self.offset, self.end);
        let withheld = end.saturating_sub(HELD_BACK);
        let can_go_on = |progress: &Progress| match progress {
            Progress::Opening => false,
            Progress::Receiving { written, .. } => offset < withheld.min(*written),
            Progress::Committed(_) | Progress::Failed(_) => true,
        };
        // A fill that vanished without a word has failed.
        let state = progress.wait_for(can_go_on).await;
        let readable = match &*state.map_err(|_| Error::Vanished)? {
            Progress::Receiving { written, .. } => withheld.min(*written),
            Progress::Committed(_) => end,
            Progress::Failed(error) => return Err(error.clone()),
            Progress::Opening => return Err(Error::Vanished),
        };
        Ok(readable)
    }
}
