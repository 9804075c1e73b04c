//! Looking once.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use reqwest::header::HeaderMap;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use crate::outbound;

use super::What;

/// How long the file system may take to say whether something is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What looks, made once.
pub(super) enum Prober {
    Path {
        path: PathBuf,
        verdict: fn(io::Result<()>) -> Result<(), String>,
        /// A look that has not come back: a network file system that hangs must not be given one
        /// thread after the other.
        looking: Option<JoinHandle<io::Result<()>>>,
    },
    Http {
        client: Client,
        uri: Url,
        headers: HeaderMap,
        status: u16,
        timeout: Duration,
    },
    Tcp {
        addr: String,
        timeout: Duration,
    },
}

impl Prober {
    pub(super) fn new(what: &What) -> Result<Self, String> {
        let looking = None;
        Ok(match what {
            What::Storage { root } => Self::Path {
                path: root.clone(),
                verdict: storage_is_well,
                looking,
            },
            What::File { path } => Self::Path {
                path: path.clone(),
                verdict: file_is_absent,
                looking,
            },
            What::Http {
                uri,
                headers,
                status,
                timeout,
            } => Self::Http {
                client: outbound::client(uri)?,
                uri: uri.clone(),
                headers: outbound::header_map(&headers.0)?,
                status: *status,
                timeout: *timeout,
            },
            What::Tcp { addr, timeout } => Self::Tcp {
                // As in Go: no host is this machine.
                addr: match addr.strip_prefix(':') {
                    Some(port) => format!("localhost:{port}"),
                    None => addr.clone(),
                },
                timeout: *timeout,
            },
        })
    }

    /// Looks; why it is not well otherwise.
    pub(super) async fn probe(&mut self) -> Result<(), String> {
        match self {
            Self::Path {
                path,
                verdict,
                looking,
            } => match look(path, looking).await {
                Some(found) => verdict(found),
                None => Err("the file system does not answer".to_owned()),
            },
            Self::Http {
                client,
                uri,
                headers,
                status,
                timeout,
            } => {
                let request = client.head(uri.clone()).headers(headers.clone());
                let answer = request.timeout(*timeout).send().await;
                let answered = answer.map_err(outbound::reason)?.status();
                if answered.as_u16() == *status {
                    return Ok(());
                }
                let hint = if answered.is_redirection() {
                    " (redirects are not followed)"
                } else {
                    ""
                };
                Err(format!("it answers {answered}, not {status}{hint}"))
            }
            Self::Tcp { addr, timeout } => tcp(addr, *timeout).await,
        }
    }
}

async fn look(
    path: &Path,
    looking: &mut Option<JoinHandle<io::Result<()>>>,
) -> Option<io::Result<()>> {
    let look = looking.get_or_insert_with(|| {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || std::fs::metadata(path).map(drop))
    });
    let found = timeout(PATIENCE, look).await.ok()?;
    *looking = None;
    Some(found.unwrap_or_else(|error| Err(io::Error::other(error))))
}

fn storage_is_well(found: io::Result<()>) -> Result<(), String> {
    match found {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn file_is_absent(found: io::Result<()>) -> Result<(), String> {
    match found {
        Ok(()) => Err("file exists".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn tcp(addr: &str, patience: Duration) -> Result<(), String> {
    match timeout(patience, TcpStream::connect(addr)).await {
        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("no connection in time".to_owned()),
    }
}
