//! Whose turn it is to send, where many send files at once.
//!
//! A connection that may write sends what its client takes, which keeps a thread for 10 to 300 µs.
//! Where two thousand clients take what they get as fast as it comes, that work fills the
//! runtime's queue, and who asks for something small waits behind all of it. So where more than
//! [`FEW`] connections send files, only few of them are in the runtime's queue with something to
//! do. The others wait for these in a queue of their own, in the order in which they came.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::thread::available_parallelism;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use super::sendfile::{Pieces, stands_for_file};

/// How many may send without waiting for each other: less work than anybody notices.
const FEW: usize = 128;

/// How many have their turn at once, for each thread: one sends, and one is there when it has.
const FOR_A_THREAD: usize = 2;

/// The connections of a server that send files. Cheap to clone.
#[derive(Clone)]
pub(super) struct Crowd(Arc<All>);

struct All {
    sending: AtomicUsize,
    turns: Arc<Semaphore>,
}

impl Crowd {
    pub(super) fn new() -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        Self::of(threads * FOR_A_THREAD)
    }

    fn of(count: usize) -> Self {
        Self(Arc::new(All {
            sending: AtomicUsize::new(0),
            turns: Arc::new(Semaphore::new(count)),
        }))
    }
}

/// One of them.
struct Member {
    all: Arc<All>,
    queue: PollSemaphore,
    permit: Option<OwnedSemaphorePermit>,
    is_sending: bool,
    is_queued: bool,
}

impl Member {
    fn new(crowd: &Crowd) -> Self {
        let all = Arc::clone(&crowd.0);
        Self {
            queue: PollSemaphore::new(Arc::clone(&all.turns)),
            all,
            permit: None,
            is_sending: false,
            is_queued: false,
        }
    }

    /// Waits for its turn, which lasts until it is given up.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_sending {
            self.is_sending = true;
            self.all.sending.fetch_add(1, Ordering::Relaxed);
        }
        let is_crowded = self.all.sending.load(Ordering::Relaxed) > FEW;
        if self.permit.is_some() || !(self.is_queued || is_crowded) {
            return Poll::Ready(());
        }
        let has_waited = std::mem::replace(&mut self.is_queued, true);
        // It is never closed, so there always is one.
        self.permit = ready!(self.queue.poll_acquire(context));
        self.is_queued = false;
        if has_waited {
            return Poll::Ready(());
        }
        // Into the runtime's queue with it. Whoever sends at once gives his turn up before the next
        // one asks, so that nobody would ever wait for it here, but all of them there.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn give_up(&mut self, has_more: bool) {
        self.permit = None;
        if self.is_sending && !has_more {
            self.is_sending = false;
            self.all.sending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.give_up(false);
    }
}

/// A connection that sends files when it is its turn, and everything else at once.
pub(super) struct Crowded<S> {
    stream: S,
    pieces: Pieces,
    member: Member,
    /// Less was taken than was offered: what comes next is only to hear that nothing is.
    is_full: bool,
}

impl<S> Crowded<S> {
    pub(super) fn new(stream: S, pieces: Pieces, crowd: &Crowd) -> Self {
        let member = Member::new(crowd);
        Self {
            stream,
            pieces,
            member,
            is_full: false,
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
        send: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !self.is_full {
            ready!(self.member.poll_turn(context));
        }
        let polled = send(&mut self.stream, context);
        self.is_full = !self.is_full && matches!(polled, Poll::Ready(Ok(count)) if count < length);
        self.member.give_up(!self.pieces.are_sent());
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Crowded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Crowded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if stands_for_file(bytes) {
            return self.poll_send(context, bytes.len(), |stream, context| {
                Pin::new(stream).poll_write(context, bytes)
            });
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().any(|slice| stands_for_file(slice)) {
            let length = slices.iter().map(|slice| slice.len()).sum();
            return self.poll_send(context, length, |stream, context| {
                Pin::new(stream).poll_write_vectored(context, slices)
            });
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
    use std::future::poll_fn;
    use std::sync::Mutex;

    use tokio::sync::Notify;
    use tokio::task::{JoinSet, yield_now};

    /// Sends so often, a piece each time, and notes who sent.
    async fn send(who: usize, pieces: usize, crowd: Crowd, sent: Arc<Mutex<Vec<usize>>>) {
        let mut member = Member::new(&crowd);
        for left in (0..pieces).rev() {
            poll_fn(|context| member.poll_turn(context)).await;
            sent.lock().unwrap().push(who);
            member.give_up(left > 0);
            // Until its client has taken it.
            yield_now().await;
        }
    }

    /// How much is sent by so many before one is answered who came when all of them could send.
    async fn sent_before_an_answer(senders: usize) -> (usize, Vec<usize>) {
        const PIECES: usize = 5;
        let (crowd, sent) = (Crowd::of(4), Arc::new(Mutex::new(Vec::new())));
        let mut sending = JoinSet::new();
        for who in 0..senders {
            sending.spawn(send(who, PIECES, crowd.clone(), Arc::clone(&sent)));
        }
        let asked = Arc::new(Notify::new());
        let mut answering = {
            let (asked, sent) = (Arc::clone(&asked), Arc::clone(&sent));
            let mut answering = JoinSet::new();
            answering.spawn(async move {
                asked.notified().await;
                sent.lock().unwrap().len()
            });
            answering
        };
        yield_now().await;
        let before = sent.lock().unwrap().len();
        asked.notify_one();
        let meanwhile = answering.join_next().await.unwrap().unwrap() - before;
        while sending.join_next().await.is_some() {}
        assert_eq!(crowd.0.sending.load(Ordering::Relaxed), 0);
        assert_eq!(crowd.0.turns.available_permits(), 4);
        let sent = sent.lock().unwrap().clone();
        assert_eq!(sent.len(), senders * PIECES);
        (meanwhile, sent)
    }

    #[tokio::test]
    async fn who_asks_for_something_small_does_not_wait_until_a_crowd_has_sent() {
        let (meanwhile, sent) = sent_before_an_answer(FEW * 20).await;
        assert!(meanwhile <= FEW, "{meanwhile} pieces");
        // Nobody sends his last piece before everybody has sent one.
        let first: std::collections::HashSet<_> = sent[..FEW * 40].iter().collect();
        assert_eq!(first.len(), FEW * 20);
    }

    /// Whether it has its turn by now.
    async fn has_turn(member: &mut Member) -> bool {
        poll_fn(|context| Poll::Ready(member.poll_turn(context).is_ready())).await
    }

    #[tokio::test]
    async fn few_wait_for_nobody() {
        let crowd = Crowd::of(1);
        let mut some: Vec<_> = (0..FEW).map(|_| Member::new(&crowd)).collect();
        for member in &mut some {
            assert!(has_turn(member).await);
        }
        // One more is a crowd; and is none again when it goes while it waits.
        let mut more = Member::new(&crowd);
        assert!(!has_turn(&mut more).await);
        assert!(has_turn(&mut more).await);
        let mut waiting = Member::new(&crowd);
        assert!(!has_turn(&mut waiting).await);
        assert!(!has_turn(&mut waiting).await);
        drop(more);
        poll_fn(|context| waiting.poll_turn(context)).await;
        drop(waiting);
        assert_eq!(crowd.0.turns.available_permits(), 1);
        assert_eq!(crowd.0.sending.load(Ordering::Relaxed), FEW);
    }
}
