//! From a stream of bytes into a staged file: receiving, hashing and writing at once.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use crate::store::{Staged, StoreError};

use super::pass::RETRIES;
use super::{Error, Registry};

/// How many received pieces may wait for the disk; then receiving waits too.
const QUEUE: usize = 16;

/// How many bytes are written in one go, at most about.
const BATCH: usize = 1 << 20;

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
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (source_ended, (staged, disk)) = tokio::join!(
        receive(source, sender),
        write(registry, staged, receiver, written)
    );
    // A full disk also ends the receiving: the disk's failure is the one to tell.
    (staged, disk.and(source_ended))
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

async fn write(
    registry: &Registry,
    mut staged: Staged,
    mut receiver: mpsc::Receiver<Bytes>,
    mut written: impl FnMut(u64),
) -> (Option<Staged>, Result<(), Error>) {
    while let Some(first) = receiver.recv().await {
        let mut size = first.len();
        let mut batch = vec![first];
        while size < BATCH
            && let Ok(more) = receiver.try_recv()
        {
            size += more.len();
            batch.push(more);
        }
        match append_all(registry, staged, batch).await {
            (Some(back), Ok(())) => staged = back,
            failed => return failed,
        }
        written(staged.written());
    }
    (Some(staged), Ok(()))
}

async fn append_all(
    registry: &Registry,
    mut staged: Staged,
    mut batch: Vec<Bytes>,
) -> (Option<Staged>, Result<(), Error>) {
    for tries_left in (0..=RETRIES).rev() {
        let appended = tokio::task::spawn_blocking(move || append(staged, batch)).await;
        let Ok((back, left, result)) = appended else {
            return (None, Err(Error::Vanished));
        };
        let Err(error) = result else {
            return (Some(back), Ok(()));
        };
        let size: u64 = left.iter().map(|bytes| bytes.len() as u64).sum();
        let is_full = matches!(error, StoreError::Full(_));
        if tries_left == 0 || !is_full || !registry.make_room(size).await {
            return (Some(back), Err(Error::Store(error.into())));
        }
        (staged, batch) = (back, left);
    }
    (Some(staged), Ok(()))
}

/// Appends piece after piece. What is left comes back.
fn append(
    mut staged: Staged,
    mut batch: Vec<Bytes>,
) -> (Staged, Vec<Bytes>, Result<(), StoreError>) {
    let mut done = 0;
    let result = batch.iter().try_for_each(|bytes| {
        staged.append(bytes)?;
        done += 1;
        Ok(())
    });
    batch.drain(..done);
    (staged, batch, result)
}
