//! The debug listener: how the registry is, for those who run it. Plain HTTP, on an address of
//! its own, which is not for the world.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;

use super::answer::Answer;
use super::around::Surroundings;
use super::body::Body;
use super::listener::bind_tcp;
use super::measured;
use super::stall::Stalling;

/// How long a client may take for a request's head, and how long a connection may idle.
const HEAD: Duration = Duration::from_secs(10);
/// How long a client may take nothing.
const STALL: Duration = Duration::from_mins(1);
/// A request's head, at most, in bytes.
const BUFFER: usize = 16 * 1024;
/// Connections at once; the next wait to be accepted.
const CONNECTIONS: usize = 64;
/// The pause after an accept that failed.
const BREATHER: Duration = Duration::from_millis(100);

/// What is shown.
#[derive(Clone)]
pub struct Debug {
    shown: Arc<Shown>,
}

struct Shown {
    registry: Registry,
    around: Surroundings,
    started: Instant,
    /// Where metrics are, if they are shown.
    metrics: Option<String>,
}

/// The debug listener's socket.
pub struct DebugServer {
    listener: TcpListener,
}

impl Debug {
    /// Shows the registry and what surrounds it, as of when it is asked.
    ///
    /// `metrics` is the path of the metrics; without it they are not shown.
    pub fn new(registry: Registry, around: Surroundings, metrics: Option<String>) -> Self {
        let started = Instant::now();
        Self {
            shown: Arc::new(Shown {
                registry,
                around,
                started,
                metrics,
            }),
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        match request.uri().path() {
            "/debug/health" | "/debug/vars" if !reads => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n").allow("GET, HEAD")
            }
            "/debug/health" => self.health(),
            "/debug/vars" => {
                let vars = format!("{:#}\n", self.vars());
                Answer::full(StatusCode::OK, "application/json", vars)
            }
            path if self.shown.metrics.as_deref() == Some(path) => {
                if !reads {
                    return plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n")
                        .allow("GET, HEAD");
                }
                let shown = &self.shown;
                measured::page(&shown.registry, &shown.around, request.headers()).await
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn health(&self) -> Answer {
        let failing = self.shown.around.health.failing();
        let status = if failing.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Answer::full(status, "application/json", json!(failing).to_string())
    }

    /// Where Distribution has the same, it has the same name.
    fn vars(&self) -> serde_json::Value {
        let Shown {
            registry,
            around,
            started,
            ..
        } = &*self.shown;
        json!({
            "registry": {
                "notifications": { "endpoints": around.events.reports() },
            },
            "larder": {
                "version": env!("CARGO_PKG_VERSION"),
                "pid": std::process::id(),
                "uptimeseconds": started.elapsed().as_secs(),
                "backgroundtasks": registry.running_tasks(),
                "accesslogdropped": around.access_log.dropped(),
            },
        })
    }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let nosniff = HeaderValue::from_static("nosniff");
    Answer::full(status, "text/plain; charset=utf-8", text)
        .header(header::X_CONTENT_TYPE_OPTIONS, nosniff)
}

impl DebugServer {
    /// Listens on `address`, which is written as that of the registry.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = bind_tcp(address).await?;
        Ok(Self { listener })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop. What is under way then is cut: nothing of it takes long.
    pub async fn run(self, debug: Debug, stop: CancellationToken) {
        let (mut connections, free) = (JoinSet::new(), Arc::new(Semaphore::new(CONNECTIONS)));
        let serving = async {
            // The semaphore is never closed, so this goes on until it is dropped.
            while let Ok(place) = Arc::clone(&free).acquire_owned().await {
                let (stream, peer) = match self.listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a debug connection could not be accepted");
                        tokio::time::sleep(BREATHER).await;
                        continue;
                    }
                };
                while connections.try_join_next().is_some() {}
                let debug = debug.clone();
                connections.spawn(async move {
                    if let Err(error) = serve(stream, debug).await {
                        tracing::debug!(%peer, %error, "debug connection ended early");
                    }
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = serving => {}
            () = stop.cancelled() => {}
        }
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, debug: Debug) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let debug = debug.clone();
        async move {
            let mut response: Response<Body> = debug.answer(&request).await.into_response();
            let no_store = HeaderValue::from_static("no-store");
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, no_store);
            Ok::<_, Infallible>(response)
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Stalling::new(stream, STALL)), service)
        .await
}
