//! The port: free, or held by larder itself, which then answers.

use std::io;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use crate::config::{Config, Listen};
use crate::upstream::{Settings, Timeouts, Upstream, UpstreamError};

use super::super::warm::server;
use super::Finding;

const PORT: &str = "port";
const SERVER: &str = "server";

pub(super) async fn port(config: &Config) -> Vec<Finding> {
    let address = match &config.http.listen {
        Listen::Tcp(address) => address,
        Listen::Unix(path) => return vec![socket(path)],
    };
    match bind(address) {
        Ok(()) => vec![Finding::fine(
            PORT,
            format!("{address} is free: no larder runs there"),
        )],
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let mut findings = vec![Finding::fine(PORT, format!("{address} is in use"))];
            findings.push(running(config).await);
            findings
        }
        Err(error) => {
            let todo = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in larder's unit, or another port in http.addr"
                }
                io::ErrorKind::AddrNotAvailable => {
                    "this machine does not have that address: set http.addr to one that it has, or to :5000 for all"
                }
                _ => "set http.addr to another address",
            };
            vec![Finding::broken(PORT, format!("{address}: {error}"), todo)]
        }
    }
}

/// Tries what larder does when it starts, and lets go at once.
fn bind(address: &str) -> io::Result<()> {
    let address = match address.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => address.to_owned(),
    };
    let bound = address
        .to_socket_addrs()
        .and_then(|all| TcpListener::bind(all.collect::<Vec<_>>().as_slice()));
    match bound {
        // A machine without IPv6.
        Err(error) if address.starts_with("[::]:") && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(address.replacen("[::]", "0.0.0.0", 1)).map(drop)
        }
        bound => bound.map(drop),
    }
}

fn socket(path: &Path) -> Finding {
    let shown = path.display();
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Finding::fine(SERVER, format!("somebody answers on {shown}"));
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory.is_dir() {
        return Finding::fine(PORT, format!("{shown} is free: no larder runs there"));
    }
    Finding::broken(
        PORT,
        format!("{} is not there", directory.display()),
        "make it, or set http.addr to a socket elsewhere",
    )
}

/// Whether what has the port is a larder, and answers.
async fn running(config: &Config) -> Finding {
    let url = match server::url_of(config) {
        Ok(url) => url,
        Err(error) => return Finding::doubtful(SERVER, error, "look at it yourself"),
    };
    let own = config.http.tls.as_ref().map(|tls| tls.certificate.clone());
    let shown = url.to_string();
    let settings = Settings {
        name: "the server".to_owned(),
        url,
        credentials: None,
        ca: own.filter(|path| path.is_file()),
        token_hosts: Vec::new(),
    };
    let timeouts = Timeouts {
        headers: Duration::from_secs(5),
        ..Timeouts::default()
    };
    let hello = match Upstream::with_timeouts(settings, timeouts) {
        Ok(server) => server.hello().await,
        Err(error) => Err(UpstreamError::Unreachable {
            reason: error.to_string(),
        }),
    };
    match hello {
        Ok(hello) if [200, 401].contains(&hello.status) => Finding::fine(
            SERVER,
            format!("a registry answers at {shown}, in {:.1?}", hello.took),
        ),
        Ok(hello) => Finding::broken(
            SERVER,
            format!("what answers at {shown} says {}", hello.status),
            "something else has the port: see who with ss -ltnp, or set http.addr to another port",
        ),
        Err(error) => Finding::broken(
            SERVER,
            format!("what has the port does not answer as a registry does at {shown}: {error}"),
            "see who has it with ss -ltnp; if it is larder, its log says what is wrong, and it may have to be started again",
        ),
    }
}
