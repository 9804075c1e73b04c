//! Connections: accepted, served, and let go.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::stall::Stalling;

/// How long a client may take for a request's head, and how long a connection may idle.
const HEAD: Duration = Duration::from_secs(30);

/// The most that a connection buffers, in bytes: a request's head on the way in, one read of a
/// blob on the way out. A thousand slow readers cost a thousand times this.
const BUFFER: usize = 64 * 1024;

/// The pause after an accept that failed for want of something: file descriptors, most likely.
const BREATHER: Duration = Duration::from_millis(100);

/// A listening socket.
#[derive(Debug)]
pub struct Server {
    pub(super) listener: TcpListener,
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
    /// Listens on `address` as the configuration has it: `:5000` is every address of the machine.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = match address.strip_prefix(':') {
            // One socket for both families; where there is no IPv6, IPv4 alone.
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(format!("0.0.0.0:{port}")).await
                }
                bound => bound,
            }?,
            None => TcpListener::bind(address).await?,
        };
        Ok(Self { listener })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, and returns when the last answer is finished or has used up
    /// the patience. Says whether all were finished.
    pub async fn run(self, handler: Handler, stop: Stop) -> bool {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.token.cancelled() => break,
                // Ended connections are taken out as they end, so that the set stays small.
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = connection(stream, peer, handler.clone());
                    let watched = graceful.watch(connection);
                    connections.spawn(async move {
                        if let Err(error) = watched.await {
                            tracing::debug!(%peer, %error, "connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
        drop(self.listener);
        tokio::time::timeout(stop.patience, graceful.shutdown())
            .await
            .is_ok()
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    handler: Handler,
) -> http1::Connection<
    TokioIo<Stalling>,
    impl hyper::service::HttpService<
        hyper::body::Incoming,
        ResBody = super::body::Body,
        Error = Infallible,
        Future: Send,
    >,
> {
    // Heads and small bodies are written in one go; waiting to fill a packet only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let service = service_fn(move |request| {
        let answering = handler.clone().handle(request, peer);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    http1::Builder::new()
        // A client may say that it has no more to send before it has its answer. Nor does one that
        // vanishes cut off work under way: an upload's lock must not be let go of while its bytes
        // are still being written.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Stalling::new(stream)), service)
}
