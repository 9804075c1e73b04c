//! What waits for one endpoint: bounded in number and in bytes, first come, first served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::counters::{Counters, Seldom};

/// The most bytes that wait. An event has about one thousand; one that lists the references of a
/// large manifest has millions.
const BYTES: usize = 32 << 20;

struct Shared {
    name: String,
    bytes: AtomicUsize,
    counters: Counters,
    told: Seldom,
}

/// Where events are put in.
pub(super) struct Sender {
    channel: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
}

/// Where they come out.
pub(super) struct Receiver {
    channel: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
}

/// A queue of at most `length` events for the endpoint `name`.
pub(super) fn new(length: usize, name: String) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(length.max(1));
    let shared = Arc::new(Shared {
        name,
        bytes: AtomicUsize::new(0),
        counters: Counters::default(),
        told: Seldom::default(),
    });
    (
        Sender {
            channel: sender,
            shared: Arc::clone(&shared),
        },
        Receiver {
            channel: receiver,
            shared,
        },
    )
}

impl Shared {
    fn enter(&self, length: usize) -> usize {
        self.counters.pending.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(length, Ordering::Relaxed)
    }

    fn leave(&self, length: usize) {
        let less = |pending: u64| Some(pending.saturating_sub(1));
        let pending = &self.counters.pending;
        // What was given up is no longer counted: nothing is left to take off then.
        let _ = pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.bytes.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Sender {
    /// Takes an event in, unless that would be too many.
    pub(super) fn offer(&self, body: &Bytes) {
        let shared = &self.shared;
        Counters::count(&shared.counters.events);
        // Counted before it is in: whoever takes it out must find it counted.
        let before = shared.enter(body.len());
        // One event alone may be as large as it is.
        let fits = before == 0 || before + body.len() <= BYTES;
        if fits && self.channel.try_send(body.clone()).is_ok() {
            return;
        }
        shared.leave(body.len());
        Counters::count(&shared.counters.dropped);
        if shared.told.is_due(Instant::now()) {
            tracing::warn!(
                endpoint = shared.name,
                dropped = shared.counters.dropped.load(Ordering::Relaxed),
                "events are dropped: too many wait for this endpoint; see why it does not take them"
            );
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl Receiver {
    /// The next event; `None` when there will be no more. It counts as waiting until it is
    /// [`done`](Self::done).
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.channel.recv().await
    }

    /// Takes nothing new in.
    pub(super) fn close(&mut self) {
        self.channel.close();
    }

    /// An event is delivered.
    pub(super) fn done(&self, body: &Bytes) {
        self.shared.leave(body.len());
    }

    /// Gives up what still waits, and says how many events that were.
    pub(super) fn give_up(&mut self) -> u64 {
        self.close();
        let counters = &self.shared.counters;
        let lost = counters.pending.swap(0, Ordering::Relaxed);
        counters.dropped.fetch_add(lost, Ordering::Relaxed);
        lost
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_the_newest_and_counts_it() {
        let (sender, mut receiver) = new(2, "e".into());
        for word in ["a", "b", "c"] {
            sender.offer(&Bytes::from(word));
        }
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = sender.counters();
        let counted = (read(&counters.events), read(&counters.dropped));
        assert_eq!((counted, read(&counters.pending)), ((3, 1), 2));
        let first = receiver.next().await.unwrap();
        assert_eq!(first, "a");
        receiver.done(&first);
        assert_eq!(receiver.next().await.unwrap(), "b");
        assert_eq!(receiver.give_up(), 1, "b was taken out, not delivered");
        assert_eq!(read(&counters.dropped), 2);
    }

    #[test]
    fn many_bytes_are_too_many_even_if_they_are_few_events() {
        let (sender, _receiver) = new(100, "e".into());
        let large = Bytes::from(vec![0; BYTES / 2 + 1]);
        sender.offer(&large);
        sender.offer(&large);
        assert_eq!(sender.counters().dropped.load(Ordering::Relaxed), 1);
    }
}
