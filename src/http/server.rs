//! Connections: accepted, served, and let go.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::connections::{Connections, Occupying, Seat};
use super::copying::Copying;
use super::crowd::{Crowd, Crowded};
use super::handler::Handler;
use super::http2::{self, Streams};
use super::listener::{Accepted, Given, Listener};
use super::sendfile::{Pieces, Sending};
use super::stall::{GENEROUS, Stalling};
use super::tls::{self, Tls, TlsError, TlsSettings};

/// The most that a connection buffers, in bytes: a request's head on the way in, one read of a
/// blob on the way out. A thousand slow readers cost a thousand times this.
pub(super) const BUFFER: usize = 64 * 1024;

/// The most that waits encrypted for a client to take it, in bytes.
const ENCRYPTED: usize = 32 * 1024;

/// The first byte of a TLS connection: a handshake record. RFC 8446 §5.1.
const HANDSHAKE: u8 = 0x16;

/// What a client is told that speaks HTTP where HTTPS is expected.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 53\r\n\r\nthis port speaks HTTPS: write https:// in the address";

/// How long a client that is refused may take to notice.
const PARTING: Duration = Duration::from_secs(2);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `host:port`; with no host, every address of the machine.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source} (set http.addr to another address)")]
    Bind {
        /// As configured.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A socket that was given cannot be waited on.
    #[error("the socket that was given cannot be used: {0}")]
    Given(io::Error),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A listening socket.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    tls: Option<Tls>,
    h2c: bool,
    limits: Limits,
    sendfile: bool,
}

/// What every connection is given.
#[derive(Clone)]
struct Serving {
    tls: Option<Tls>,
    h2c: bool,
    limits: Limits,
    sendfile: bool,
    handler: Handler,
    streams: Streams,
    crowd: Crowd,
}

/// One connection among the others.
pub(super) struct Present {
    pub(super) peer: Peer,
    pub(super) seat: Seat,
    pub(super) limits: Limits,
    pub(super) watcher: Watcher,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Where from. Who comes by a Unix socket is on this machine, at no port.
    pub(super) address: SocketAddr,
    /// Whether the connection is encrypted.
    pub(super) is_tls: bool,
}

/// What clients may take, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections there may be.
    pub connections: usize,
    /// How long a client may take for a request's head or a TLS handshake, and how long a
    /// connection may idle.
    pub head: Duration,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
}

/// When and how to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Cancelled: no more connections.
    pub token: CancellationToken,
    /// How long answers under way may take to finish.
    pub patience: Duration,
}

impl Server {
    /// Listens, by TLS where there are settings for it.
    pub async fn bind(
        listen: &Listen,
        tls: Option<TlsSettings>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let tls = tls.map(Tls::new).transpose()?;
        let failed = |address: String| |source| ServerError::Bind { address, source };
        let listener = match listen {
            Listen::Tcp(address) => {
                let bound = Listener::on_address(address, limits.stall).await;
                bound.map_err(failed(address.clone()))?
            }
            Listen::Unix(path) => {
                let bound = Listener::on_path(path).await;
                bound.map_err(failed(path.display().to_string()))?
            }
        };
        Ok(Self::with(listener, tls, limits))
    }

    fn with(listener: Listener, tls: Option<Tls>, limits: Limits) -> Self {
        Self {
            listener,
            tls,
            h2c: false,
            limits,
            sendfile: true,
        }
    }

    /// Whether the kernel sends files by itself where it can.
    #[must_use]
    pub fn with_sendfile(mut self, sendfile: bool) -> Self {
        self.sendfile = sendfile;
        self
    }

    /// Goes on with a socket that listens already, by TLS where there are settings for it.
    pub fn on(given: Given, tls: Option<TlsSettings>, limits: Limits) -> Result<Self, ServerError> {
        let tls = tls.map(Tls::new).transpose()?;
        let listener = Listener::from_given(given, limits.stall).map_err(ServerError::Given)?;
        Ok(Self::with(listener, tls, limits))
    }

    /// Whether clients that begin with HTTP/2 in the clear are understood.
    #[must_use]
    pub fn with_h2c(mut self, h2c: bool) -> Self {
        self.h2c = h2c;
        self
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(match &self.listener {
            Listener::Tcp(listener) => format!("{scheme}://{}", listener.local_addr()?),
            Listener::Unix(listener, _) => {
                let address = listener.local_addr()?;
                let path = address
                    .as_pathname()
                    .unwrap_or(Path::new("(without a name)"));
                format!("{scheme}+unix://{}", path.display())
            }
        })
    }

    /// What it encrypts with, if it does.
    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Listener::Unix(..) => None,
        }
    }

    /// Serves until told to stop, and returns when the last answer is finished or has used up
    /// the patience. Says whether all were finished.
    pub async fn run(self, handler: Handler, stop: Stop) -> bool {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let streams = Streams::new(stop.token.clone());
        let present = Connections::new(self.limits.connections);
        let serving = Serving {
            tls: self.tls,
            h2c: self.h2c,
            limits: self.limits,
            sendfile: self.sendfile,
            handler,
            streams: streams.clone(),
            crowd: Crowd::new(),
        };
        loop {
            let accepting = async {
                present.room().await;
                self.listener.accept().await
            };
            let accepted = tokio::select! {
                accepted = accepting => accepted,
                () = stop.token.cancelled() => break,
                // Ended connections are taken out as they end, so that the set stays small.
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok(accepted) => {
                    let seat = present.take(&stop.token);
                    let watcher = graceful.watcher();
                    connections.spawn(converse(accepted, serving.clone(), seat, watcher));
                }
                Err(error) => present.starved(&error).await,
            }
        }
        self.listener.close();
        let finished = async {
            graceful.shutdown().await;
            streams.finished().await;
        };
        let finished = tokio::time::timeout(stop.patience, finished).await;
        streams.abandon();
        finished.is_ok()
    }
}

/// One connection, from its first byte to its end.
async fn converse(accepted: Accepted, serving: Serving, seat: Seat, watcher: Watcher) {
    let limits = serving.limits;
    let present = |address, is_tls| Present {
        peer: Peer { address, is_tls },
        seat,
        limits,
        watcher,
    };
    let (address, result) = match accepted {
        Accepted::Tcp(stream, address) => {
            let present = present(address, serving.tls.is_some());
            let patience = limits.stall * GENEROUS;
            let result = match serving.tls.clone() {
                Some(tls) => encrypted(stream, present, &tls, serving).await,
                None if serving.sendfile => {
                    in_the_clear(stream, present, serving, patience, Sending::new).await
                }
                None => in_the_clear(stream, present, serving, patience, Copying::new).await,
            };
            (address, result)
        }
        Accepted::Unix(stream) => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let present = present(address, false);
            let served = in_the_clear(stream, present, serving, limits.stall, Copying::new);
            (address, served.await)
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = %address, error, "connection ended early");
    }
}

/// HTTP/1.1, unless the client begins with HTTP/2 and may. `wrap` is for the former.
async fn in_the_clear<S, W>(
    stream: S,
    present: Present,
    serving: Serving,
    patience: Duration,
    wrap: impl FnOnce(S, Pieces) -> W,
) -> Result<(), String>
where
    S: http2::Peek + AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
    W: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A connection on which nothing has come yet costs its socket, and none of hyper's buffers.
    let beginning = async {
        if serving.h2c {
            http2::begins(&stream).await
        } else {
            stream.peek(&mut [0]).await.map(|_| false)
        }
    };
    let begins_http2 = tokio::select! {
        begins = tokio::time::timeout(present.limits.head, beginning) => begins
            .map_err(|_| "no request came".to_owned())?
            .map_err(|error| error.to_string())?,
        () = present.seat.leaving() => return Ok(()),
    };
    if begins_http2 {
        let stream = Stalling::new(stream, patience).telling(present.seat.slot());
        let serving = http2::serve(stream, present, serving.handler, &serving.streams);
        return Box::pin(serving).await;
    }
    let pieces = Pieces::default();
    let stream = Stalling::new(wrap(stream, pieces.clone()), patience);
    // Boxed, so that those that wait for their first byte have no room for all that follows.
    Box::pin(serve(stream, pieces, present, serving)).await
}

async fn encrypted(
    stream: TcpStream,
    present: Present,
    tls: &Tls,
    serving: Serving,
) -> Result<(), String> {
    let (limits, slot) = (present.limits, present.seat.slot());
    let shaking_hands = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            refuse_plain(stream).await?;
            return Err(io::Error::other("no TLS handshake"));
        }
        let acceptor = TlsAcceptor::from(tls.current());
        let stream = Stalling::new(stream, limits.stall * GENEROUS);
        acceptor.accept(stream.telling(slot)).await
    };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.head, shaking_hands) => shaken,
        () = present.seat.leaving() => return Ok(()),
    };
    let mut stream = match shaken {
        Ok(shaken) => shaken.map_err(|error| error.to_string())?,
        Err(_) => return Err("the TLS handshake took too long".to_owned()),
    };
    stream.get_mut().1.set_buffer_limit(Some(ENCRYPTED));
    let protocol = stream.get_ref().1.alpn_protocol();
    if protocol == Some(tls::ACME) {
        return Ok(());
    }
    if protocol == Some(tls::HTTP2) {
        let serving = http2::serve(stream, present, serving.handler, &serving.streams);
        return Box::pin(serving).await;
    }
    let pieces = Pieces::default();
    let stream = Copying::new(stream, pieces.clone());
    Box::pin(serve(stream, pieces, present, serving)).await
}

/// Says what this port speaks. What the client goes on to send is read away for a while: the kernel
/// takes an answer back whose connection is closed with bytes unread.
async fn refuse_plain(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(NOT_TLS).await?;
    stream.shutdown().await?;
    let reading = async {
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(PARTING, reading)
        .await
        .unwrap_or(Ok(()))
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    pieces: Pieces,
    present: Present,
    serving: Serving,
) -> Result<(), String> {
    let Present {
        peer,
        seat,
        limits,
        watcher,
    } = present;
    let stream = Crowded::new(stream, pieces.clone(), &serving.crowd);
    let (slot, handler) = (Arc::clone(seat.slot()), serving.handler);
    let service = service_fn(move |request| {
        let answering = Occupying::new(&slot);
        // Boxed, so that hyper keeps no room for it, some 15 kB, on connections that idle.
        let handling = Box::pin(handler.turn().handle(request, peer));
        let pieces = pieces.clone();
        async move {
            let mut answer = handling.await;
            answer.body_mut().sent_by(&pieces);
            Ok::<_, Infallible>(answer.map(|body| body.until_out(answering)))
        }
    });
    let connection = http1::Builder::new()
        // What stands for files must come to the connection as it is.
        .writev(true)
        // A client may say that it has no more to send before it has its answer. Nor does one that
        // vanishes cut off work under way: an upload's lock must not be let go of while its bytes
        // are still being written.
        .half_close(true)
        .timer(Alarm::default())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = seat.leaving() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection.as_mut() => served,
                () = seat.overstayed(serving.streams.leave()) => {
                    return Err("it made room for another".to_owned());
                }
            }
        }
    };
    // The server's stop waits for this.
    drop(watcher);
    served.map_err(|error| error.to_string())
}
