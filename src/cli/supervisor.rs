//! The service manager that started larder, if one did: the socket that it gives, and what it is
//! told in return.
//!
//! These are systemd's protocols, `sd_listen_fds(3)` and `sd_notify(3)`, which others speak too.
//! What is served, and how, is none of this module's business.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};

use crate::http::Given;

/// Where to tell. A name that begins with `@` is one of the kernel's, and no file.
const PLACE: &str = "NOTIFY_SOCKET";

/// How long telling may take. A manager that does not listen keeps nothing from being served.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the manager is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Requests are answered, by the configuration as it is now.
    Ready,
    /// The configuration is being read again.
    Reloading,
    /// No new connections are taken.
    Stopping,
}

/// The socket that was given, if any was. It is taken out of the environment, so this is asked
/// once, before there are other threads.
pub(super) fn socket() -> Result<Option<Given>, String> {
    let mut given = ListenFd::from_env();
    match given.len() {
        0 => return Ok(None),
        1 => {}
        number => {
            return Err(format!(
                "{number} sockets were given, and larder serves one: leave one ListenStream in the socket unit"
            ));
        }
    }
    if let Ok(Some(listener)) = given.take_tcp_listener(0) {
        return Ok(Some(Given::Tcp(listener)));
    }
    let listener = given.take_unix_listener(0);
    let listener = listener.map_err(|error| {
        format!(
            "the socket that was given is none that clients can connect to (write ListenStream in the socket unit): {error}"
        )
    })?;
    Ok(listener.map(Given::Unix))
}

/// Tells the manager, if there is one to be told.
pub(super) fn tell(state: State) {
    let Some(place) = std::env::var_os(PLACE) else {
        return;
    };
    if let Err(error) = send(&place, &text(state)) {
        tracing::warn!(
            "the service manager could not be told ({state:?}) at {}: {error}",
            place.display()
        );
    }
}

fn text(state: State) -> String {
    match state {
        State::Ready => "READY=1".to_owned(),
        // Since when: a manager that waits for the end of a reload must not take an older one for it.
        State::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
        }
        State::Stopping => "STOPPING=1".to_owned(),
    }
}

fn send(place: &OsStr, text: &str) -> io::Result<()> {
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}
