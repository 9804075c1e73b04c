//! Where clients arrive: addresses, Unix sockets, and sockets that somebody else has opened.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How many clients may wait to be accepted. The kernel's own limit (`net.core.somaxconn`) is 4096;
/// who comes when it is full asks again a second later.
const BACKLOG: i32 = 4096;

/// The shortest time between two looks whether a client is there.
const SECOND: Duration = Duration::from_secs(1);

/// A socket that listens already: somebody else opened it, and it is his to remove.
#[derive(Debug)]
pub enum Given {
    /// On an address.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// What is listened on.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With the path that goes when it does, if it was made here.
    Unix(UnixListener, Option<PathBuf>),
}

pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// On an address; `stall` is how long a client may take nothing.
    pub(super) async fn on_address(address: &str, stall: Duration) -> io::Result<Self> {
        let bound = bind_tcp(address).await?;
        prepare(&bound, stall);
        Ok(Self::Tcp(bound))
    }

    pub(super) async fn on_path(path: &Path) -> io::Result<Self> {
        let bound = bind_unix(path).await?;
        Ok(Self::Unix(bound, Some(path.to_owned())))
    }

    pub(super) fn from_given(given: Given, stall: Duration) -> io::Result<Self> {
        match given {
            Given::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                prepare(&listener, stall);
                Ok(Self::Tcp(listener))
            }
            Given::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?, None))
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, address))
            }
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }

    /// Listens no more, and leaves nothing behind that was made here.
    pub(super) fn close(self) {
        if let Self::Unix(_, Some(path)) = &self {
            // Nobody is left to tell if it is gone already.
            let _ = rustix::fs::unlink(path);
        }
    }
}

/// Listens on an address as the configuration has it: `:5000` is every address of the machine.
pub(super) async fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    match address.strip_prefix(':') {
        // One socket for both families; where there is no IPv6, IPv4 alone.
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(format!("0.0.0.0:{port}")).await
            }
            bound => bound,
        },
        None => TcpListener::bind(address).await,
    }
}

/// A socket that nobody listens on any more is what a killed process leaves behind.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        rustix::fs::unlink(path)?;
    }
    UnixListener::bind(path)
}

/// Makes a listening socket's connections such as they should be; they inherit this from it.
///
/// A client that takes nothing of what was sent, or is gone, is cut off by the kernel, which alone
/// knows. One that is gone while it waits for us is found out by asking whether it is there.
fn prepare(listener: &TcpListener, stall: Duration) {
    let milliseconds = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
    let set = || -> rustix::io::Result<()> {
        // Heads and small bodies are written in one go; waiting to fill a packet only delays them.
        sockopt::set_tcp_nodelay(listener, true)?;
        rustix::net::listen(listener, BACKLOG)?;
        sockopt::set_tcp_user_timeout(listener, milliseconds)?;
        sockopt::set_socket_keepalive(listener, true)?;
        sockopt::set_tcp_keepidle(listener, (stall / 2).max(SECOND))?;
        sockopt::set_tcp_keepintvl(listener, (stall / 6).max(SECOND))
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "an option of the listening socket is not set");
    }
}
