//! From a stream of bytes into a staged file: receiving, writing and hashing at once.
//!
//! Each hands on to the next, and waits where that is behind: what has been received is written,
//! what has been written is hashed, and meanwhile the disk takes what the file system holds. Hashing
//! is what takes longest on most machines, so nothing else may keep it waiting.

use std::mem;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::store::{Growing, Hashing, Staged, StoreError};

use super::pass::RETRIES;
use super::{Error, Registry, blocking};

/// How many received pieces may wait for the disk; then receiving waits too.
const QUEUE: usize = 16;

/// How many bytes are written in one go, at most about.
const BATCH: usize = 1 << 20;

/// How many written batches may wait to be hashed; then writing waits too.
const BATCHES: usize = 2;

/// After how many bytes the disk is made to begin with them. By itself the system would leave all
/// of them to the last sync, while a client waits for it.
const FLUSHED: u64 = 32 << 20;

/// Pours `source` into `staged` to the end of the one or the failure of either, and calls
/// `written` with the file's length after each write.
///
/// What comes in is written at once while the disk is idle, and in larger batches while it is
/// not. If the disk is full, room is made and the write is tried again. The staged file comes back
/// in every case but a panic, with what was written wholly.
pub(super) async fn pour(
    registry: &Registry,
    staged: Staged,
    source: impl Stream<Item = Result<Bytes, Error>>,
    written: impl FnMut(u64),
) -> (Option<Staged>, Result<(), Error>) {
    let (growing, hashing) = staged.split();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (batches, to_hash) = mpsc::channel(BATCHES);
    let writer = Writer {
        registry,
        flushed: growing.written(),
        flushing: None,
    };
    let (source_ended, (growing, disk), hashing) = tokio::join!(
        receive(source, sender),
        writer.run(growing, receiver, batches, written),
        hash(hashing, to_hash)
    );
    let (Some(growing), Some(hashing)) = (growing, hashing) else {
        return (None, Err(Error::Vanished));
    };
    // A full disk also ends the receiving: the disk's failure is the one to tell.
    let result = disk.and(source_ended);
    match blocking(move || Staged::join(growing, hashing)).await {
        Ok(staged) => (Some(staged), result),
        Err(error) => (None, result.and(Err(error))),
    }
}

async fn receive(
    source: impl Stream<Item = Result<Bytes, Error>>,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), Error> {
    let mut source = std::pin::pin!(source);
    loop {
        let next = tokio::select! {
            next = source.next() => next,
            () = sender.closed() => None,
        };
        match next {
            None => return Ok(()),
            Some(bytes) => {
                if sender.send(bytes?).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Writes what has been received, and sends it to the disk.
struct Writer<'a> {
    registry: &'a Registry,
    /// How much of the file is on the disk, or on its way.
    flushed: u64,
    /// The way that is not over yet.
    flushing: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Writer<'_> {
    async fn run(
        mut self,
        growing: Growing,
        receiver: mpsc::Receiver<Bytes>,
        batches: mpsc::Sender<Vec<Bytes>>,
        written: impl FnMut(u64),
    ) -> (Option<Growing>, Result<(), Error>) {
        let (growing, ended) = self.write(growing, receiver, batches, written).await;
        let Some(growing) = growing else {
            return (None, ended);
        };
        // Nobody may sync it, or go on with it, before it is known whether this has failed.
        let flushed = self.flushed(&growing).await;
        (Some(growing), ended.and(flushed))
    }

    async fn write(
        &mut self,
        mut growing: Growing,
        mut receiver: mpsc::Receiver<Bytes>,
        batches: mpsc::Sender<Vec<Bytes>>,
        mut written: impl FnMut(u64),
    ) -> (Option<Growing>, Result<(), Error>) {
        while let Some(first) = receiver.recv().await {
            let batch = batch(first, &mut receiver);
            match self.append(growing, batch).await {
                (Some(back), Ok(batch)) => {
                    growing = back;
                    // Without whoever hashes, what is written is read again in the end.
                    drop(batches.send(batch).await);
                }
                (back, Err(error)) => return (back, Err(error)),
                (None, Ok(_)) => return (None, Err(Error::Vanished)),
            }
            written(growing.written());
            if let Err(error) = self.flush(&growing).await {
                return (Some(growing), Err(error));
            }
        }
        (Some(growing), Ok(()))
    }

    /// Writes a batch, which comes back to be hashed.
    async fn append(
        &self,
        mut growing: Growing,
        mut batch: Vec<Bytes>,
    ) -> (Option<Growing>, Result<Vec<Bytes>, Error>) {
        let mut tries_left = RETRIES;
        loop {
            let appended = spawn_blocking(move || append(growing, batch)).await;
            let Ok((back, same, result)) = appended else {
                return (None, Err(Error::Vanished));
            };
            let Err(error) = result else {
                return (Some(back), Ok(same));
            };
            let is_full = matches!(error, StoreError::Full(_));
            if tries_left == 0 || !is_full || !self.registry.make_room(size(&same)).await {
                return (Some(back), Err(Error::Store(error.into())));
            }
            tries_left -= 1;
            (growing, batch) = (back, same);
        }
    }

    /// Sends what has been written to the disk when there is enough of it, one load at a time.
    async fn flush(&mut self, growing: &Growing) -> Result<(), Error> {
        let is_under_way = |flush: &JoinHandle<_>| !flush.is_finished();
        if growing.written() - self.flushed < FLUSHED
            || self.flushing.as_ref().is_some_and(is_under_way)
        {
            return Ok(());
        }
        self.flushed(growing).await?;
        self.flushed = growing.written();
        let flush = growing.flush();
        self.flushing = Some(spawn_blocking(move || flush.run()));
        Ok(())
    }

    /// Waits until what is on its way to the disk is there.
    async fn flushed(&mut self, growing: &Growing) -> Result<(), Error> {
        let Some(flushing) = self.flushing.take() else {
            return Ok(());
        };
        let failed = match flushing.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Error::Store(error.into()),
            Err(_) => Error::Vanished,
        };
        growing.lose();
        Err(failed)
    }
}

/// A piece and those that came meanwhile.
fn batch(first: Bytes, receiver: &mut mpsc::Receiver<Bytes>) -> Vec<Bytes> {
    let mut size = first.len();
    let mut batch = vec![first];
    while size < BATCH
        && let Ok(more) = receiver.try_recv()
    {
        size += more.len();
        batch.push(more);
    }
    batch
}

fn append(
    mut growing: Growing,
    batch: Vec<Bytes>,
) -> (Growing, Vec<Bytes>, Result<(), StoreError>) {
    let result = growing.append(&batch);
    (growing, batch, result)
}

fn size(batch: &[Bytes]) -> u64 {
    batch.iter().map(|bytes| bytes.len() as u64).sum()
}

/// Hashes what has been written, as much as there is of it at a time.
async fn hash(mut hashing: Hashing, mut written: mpsc::Receiver<Vec<Bytes>>) -> Option<Hashing> {
    let mut batches = Vec::new();
    while written.recv_many(&mut batches, BATCHES).await > 0 {
        let batches = mem::take(&mut batches);
        let hashed = spawn_blocking(move || {
            // Each piece is let go as soon as it is done with.
            for piece in batches.into_iter().flatten() {
                hashing.update(&piece);
            }
            hashing
        });
        hashing = hashed.await.ok()?;
    }
    Some(hashing)
}
