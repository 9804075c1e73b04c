//! From a stream of bytes into a staged file: receiving, hashing and writing at once.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use crate::store::{Staged, StoreError};

use super::Error;

/// How many received pieces may wait for the disk; then receiving waits too.
const QUEUE: usize = 16;

/// How many bytes are written in one go, at most about.
const BATCH: usize = 1 << 20;

/// Pours `source` into `staged` to the end of the one or the failure of either, and calls
/// `written` with the file's length after each write.
///
/// What comes in is written at once while the disk is idle, and in larger batches while it is
/// not. The staged file comes back in every case but a panic.
pub(super) async fn pour(
    staged: Staged,
    source: impl Stream<Item = Result<Bytes, Error>>,
    written: impl FnMut(u64),
) -> (Option<Staged>, Result<(), Error>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (source_ended, (staged, disk)) =
        tokio::join!(receive(source, sender), write(staged, receiver, written));
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
        let done = tokio::task::spawn_blocking(move || append_all(staged, &batch)).await;
        match done {
            Ok((back, Ok(()))) => staged = back,
            Ok((back, Err(error))) => return (Some(back), Err(Error::Store(error.into()))),
            Err(_) => return (None, Err(Error::Vanished)),
        }
        written(staged.written());
    }
    (Some(staged), Ok(()))
}

fn append_all(mut staged: Staged, batch: &[Bytes]) -> (Staged, Result<(), StoreError>) {
    let result = batch.iter().try_for_each(|bytes| staged.append(bytes));
    (staged, result)
}
