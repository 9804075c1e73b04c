//! HTTP/2: what begins it, its limits, and its end.
//!
//! Owns what HTTP/1.1 gets from having one request a connection: a client that idles, or that takes
//! nothing of any of its answers, loses the connection; work that a reset request has begun is
//! finished, and counted until it is. Frames, windows and floods of either are hyper's.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{self, Body};
use super::connections::Slot;
use super::handler::Handler;
use super::server::{BUFFER, Limits, Peer, Present};

/// Requests at once on one connection. dockerd has some ten.
const STREAMS: u32 = 100;

/// How much of an upload may be on its way, and of all of a connection's, in bytes. Over a line with
/// 50 ms there and back that is 20 MB/s each.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// The largest head of a request, in bytes: what HTTP/1.1 takes, which is [`BUFFER`].
const HEADERS: u32 = 64 * 1024;

/// How long a client may take to agree to a connection's end when nothing is under way.
const FAREWELL: Duration = Duration::from_secs(1);

/// For how long what still comes of a refused upload is read away. It keeps nobody waiting: until then
/// the client has one stream less. A busy client needs a while to see that it was refused.
const DRAIN: Duration = Duration::from_secs(30);

/// What an HTTP/2 connection begins with, as far as no HTTP/1.1 request of ours does. RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI";

/// The pause before a connection is looked at again that has sent less than this.
const AGAIN: Duration = Duration::from_millis(10);

/// A connection whose first bytes can be looked at without taking them.
pub(super) trait Peek {
    /// Waits for bytes; how many there are, at most as many as fit. None are the end.
    fn peek(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

impl Peek for TcpStream {
    async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::peek(self, buffer).await
    }
}

impl Peek for UnixStream {
    async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut look = || Ok(recv(self, &mut *buffer, RecvFlags::PEEK)?.1);
        loop {
            self.readable().await?;
            match self.try_io(Interest::READABLE, &mut look) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                looked => return looked,
            }
        }
    }
}

/// Whether a client begins with HTTP/2.
pub(super) async fn begins(stream: &impl Peek) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let mut before = 0;
    loop {
        let length = stream.peek(&mut first).await?;
        if !PREFACE.starts_with(&first[..length]) || length == 0 {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        // What was seen is still there, so that waiting for it does not wait.
        if length == before {
            tokio::time::sleep(AGAIN).await;
        }
        before = length;
    }
}

/// The work for all of a server's streams. Cheap to clone.
#[derive(Clone)]
pub(super) struct Streams {
    tasks: TaskTracker,
    leave: CancellationToken,
    abandoned: CancellationToken,
}

impl Streams {
    /// None yet; connections say goodbye when `leave` is cancelled.
    pub(super) fn new(leave: CancellationToken) -> Self {
        Self {
            tasks: TaskTracker::new(),
            leave,
            abandoned: CancellationToken::new(),
        }
    }

    /// Cancelled when the server is told to stop.
    pub(super) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// Waits until all is done that connections have left behind.
    pub(super) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Gives up what is not done.
    pub(super) fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// Goes on with work whether or not anybody waits for it.
    fn spawn<F>(&self, work: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let abandoned = self.abandoned.clone();
        self.tasks.spawn(abandoned.run_until_cancelled_owned(work))
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, work: F) {
        drop(self.spawn(work));
    }
}

/// What is under way on one connection.
struct Traffic {
    moves: Mutex<Moves>,
    slot: Arc<Slot>,
    limits: Limits,
}

#[derive(Debug)]
struct Moves {
    /// Requests whose answers are not out.
    open: usize,
    /// Those of them that wait for us, not for the client.
    ours: usize,
    /// When anything of this last changed, or a piece of an answer was taken.
    last: Instant,
}

impl Moves {
    /// When it will have been quiet for too long, as far as can be said now.
    fn quiet_at(&self, idle: Duration, stall: Duration) -> Instant {
        match *self {
            Self { open: 0, last, .. } => last + idle,
            Self { ours: 0, last, .. } => last + stall,
            Self { .. } => Instant::now() + idle,
        }
    }
}

/// A request that is being answered, as its connection sees it.
pub(super) struct Stream {
    traffic: Arc<Traffic>,
    is_ours: bool,
}

impl Traffic {
    fn new(slot: &Arc<Slot>, limits: Limits) -> Arc<Self> {
        let (open, ours, last) = (0, 0, Instant::now());
        Arc::new(Self {
            moves: Mutex::new(Moves { open, ours, last }),
            slot: Arc::clone(slot),
            limits,
        })
    }

    fn open(self: &Arc<Self>) -> Stream {
        let mut moves = self.moved();
        moves.open += 1;
        moves.ours += 1;
        self.slot.is_answered(false);
        drop(moves);
        Stream {
            traffic: Arc::clone(self),
            is_ours: true,
        }
    }

    fn now(&self) -> MutexGuard<'_, Moves> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) -> MutexGuard<'_, Moves> {
        let mut moves = self.now();
        moves.last = Instant::now();
        moves
    }

    /// Whether answers wait for the client alone.
    fn is_stalled(&self) -> bool {
        let moves = self.now();
        moves.open > 0 && moves.ours == 0
    }

    /// Waits until nothing was asked for `idle`, or nothing taken for as long as clients are given.
    async fn quiet(&self, idle: Duration) {
        loop {
            let until = self.now().quiet_at(idle, self.limits.stall);
            if until <= Instant::now() {
                // Not for want of windows, then, but of a line: the kernel watches over that.
                if self.is_stalled() && self.slot.is_blocked() {
                    drop(self.moved());
                    continue;
                }
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Stream {
    /// Says who is waited for now, and that something moved.
    pub(super) fn waits_for_us(&mut self, is_ours: bool) {
        let mut moves = self.traffic.moved();
        match (self.is_ours, is_ours) {
            (false, true) => moves.ours += 1,
            (true, false) => moves.ours -= 1,
            _ => {}
        }
        self.is_ours = is_ours;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.waits_for_us(false);
        let mut moves = self.traffic.moved();
        moves.open -= 1;
        if moves.open == 0 {
            self.traffic.slot.is_answered(true);
        }
    }
}

/// The server stops before the answer was made.
#[derive(Debug, thiserror::Error)]
#[error("stopping")]
struct Stopping;

/// Serves a connection until its client leaves, is quiet for too long, or the server stops.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    present: Present,
    handler: Handler,
    streams: &Streams,
) -> Result<(), String> {
    let Present {
        peer,
        seat,
        limits,
        watcher,
    } = present;
    let traffic = Traffic::new(seat.slot(), limits);
    let work = Work {
        handler,
        peer,
        streams: streams.clone(),
        traffic: Arc::clone(&traffic),
        free: Arc::new(Semaphore::new(STREAMS as usize)),
    };
    let connection = Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(BUFFER)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| work.clone().answer(request)),
        );
    let mut connection = pin!(connection);
    let (mut idle, mut leaving) = (limits.head, false);
    let served = loop {
        tokio::select! {
            served = connection.as_mut() => break served.map_err(|error| error.to_string()),
            () = seat.leaving(), if !leaving => {}
            () = traffic.quiet(idle) => {
                if leaving || traffic.is_stalled() {
                    break Err("the client has been quiet for too long".to_owned());
                }
            }
        }
        (idle, leaving) = (FAREWELL, true);
        drop(traffic.moved());
        connection.as_mut().graceful_shutdown();
    };
    // The server's stop waits for this.
    drop(watcher);
    served
}

/// What every stream of a connection is answered with.
#[derive(Clone)]
struct Work {
    handler: Handler,
    peer: Peer,
    streams: Streams,
    traffic: Arc<Traffic>,
    free: Arc<Semaphore>,
}

impl Work {
    /// Answers one request.
    ///
    /// A client may take a request back at any time. What has been begun is finished all the same:
    /// an upload's lock must not be let go of while its bytes are still being written. As taking
    /// back also makes room for the next request, what is being worked on is counted here.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Stopping> {
        let stream = self.traffic.open();
        let permit = self.free.acquire_owned().await.map_err(|_| Stopping)?;
        let answering = self.handler.turn().handle(request, self.peer);
        let streams = self.streams.clone();
        let working = self.streams.spawn(async move {
            let mut response = answering.await;
            // Not before the answer, as on HTTP/1.1, but behind it: the stream alone is reset over
            // what is unread, over which curl forgets an answer that it has not come to. To have so
            // much read away, a client has to come to it: windows are opened behind it.
            if let Some((rest, is_out)) = response.body_mut().take_unread() {
                let reading = async move {
                    // It ends with the answer, and says nothing.
                    drop(is_out.await);
                    body::drain(rest, DRAIN).await;
                };
                drop(streams.spawn(reading));
            }
            drop(permit);
            response.map(|body| body.on(stream))
        });
        working.await.ok().flatten().ok_or(Stopping)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::super::connections::Connections;
    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_and_stay() {
        for (pieces, expected) in [
            (&["PRI * HTTP/2.0\r\n"][..], true),
            (&["P", "R", "I"], true),
            (&["PUT /"], false),
            (&["P", "OST"], false),
            (&["GET"], false),
            (&[], false),
        ] {
            let (mut client, server) = UnixStream::pair().unwrap();
            let sending = async move {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let ((), begins) = tokio::join!(sending, begins(&server));
            assert_eq!(begins.unwrap(), expected, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_is_quiet_when_nobody_waits_for_us() {
        let limits = Limits {
            connections: 1,
            head: Duration::from_secs(30),
            stall: Duration::from_mins(1),
        };
        let seat = Connections::new(1).take(&CancellationToken::new());
        let traffic = Traffic::new(seat.slot(), limits);
        let quiet_at = |moves: &Moves| moves.quiet_at(limits.head, limits.stall);
        let left = || {
            let moves = traffic.now();
            quiet_at(&moves) - moves.last
        };
        assert_eq!(left(), limits.head);
        let (mut one, two) = (traffic.open(), traffic.open());
        one.waits_for_us(false);
        let until = quiet_at(&traffic.now());
        assert!(until > Instant::now() && !traffic.is_stalled());
        drop(two);
        assert!(left() == limits.stall && traffic.is_stalled());
        one.waits_for_us(true);
        assert!(!traffic.is_stalled());
        drop(one);
        assert!(left() == limits.head && !traffic.is_stalled());
        traffic.quiet(Duration::ZERO).await;
    }
}
