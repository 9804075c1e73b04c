//! A receiver of events: a real HTTP server that remembers what it was sent, and answers as told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a test waits for something that should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request that was received.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
    /// What it was answered with; 0 if it was never answered.
    pub(crate) status: u16,
}

/// How requests are answered.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// With this status.
    Status(u16),
    /// With a redirect to this address.
    Redirect(String),
    /// Not at all.
    Stall,
}

#[derive(Default)]
struct Shared {
    /// How the next ones are answered; when there is none left, `usual`.
    next: Mutex<VecDeque<Manner>>,
    usual: Mutex<Option<Manner>>,
}

/// A running receiver. Dropping it stops it, and closes its port.
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    heard: watch::Receiver<Vec<Heard>>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// One on a free port, which answers 200.
    pub(crate) async fn start() -> Self {
        Self::on(([127, 0, 0, 1], 0).into()).await
    }

    /// One on this address.
    pub(crate) async fn on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (sender, heard) = watch::channel(Vec::new());
        let (shared, sender) = (Arc::<Shared>::default(), Arc::new(sender));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), sender));
        Self {
            address,
            shared,
            heard,
            _tasks: tasks,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, with a path that is somebody's secret.
    pub(crate) fn url(&self) -> url::Url {
        let url = format!("http://{}/hooks/s3cret-path?key=s3cret-key", self.address);
        url.parse().expect("a URL")
    }

    /// Answers the next requests like this, each once.
    pub(crate) fn next(&self, manners: impl IntoIterator<Item = Manner>) {
        self.shared.next.lock().expect("a lock").extend(manners);
    }

    /// Answers all others like this from now on.
    pub(crate) fn usually(&self, manner: Manner) {
        *self.shared.usual.lock().expect("a lock") = Some(manner);
    }

    /// Everything that was sent so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.borrow().clone()
    }

    /// Waits until so many requests have come, taken or not.
    pub(crate) async fn requests(&self, number: usize) -> Vec<Heard> {
        self.wait(|heard| heard.len() >= number).await
    }

    /// Waits until so many events were taken, and returns them.
    pub(crate) async fn events(&self, number: usize) -> Vec<Value> {
        let heard = self
            .wait(|heard| heard.iter().filter(|it| it.is_taken()).count() >= number)
            .await;
        let taken = heard.iter().filter(|it| it.is_taken());
        taken.map(Heard::event).collect()
    }

    async fn wait(&self, enough: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let mut heard = self.heard.clone();
        let waited = timeout(PATIENCE, heard.wait_for(|heard| enough(heard))).await;
        let Ok(heard) = waited else {
            panic!("not enough was received: {:#?}", self.heard());
        };
        heard.expect("a receiver that is still there").clone()
    }
}

impl Heard {
    fn is_taken(&self) -> bool {
        (200..400).contains(&self.status)
    }

    /// The one event in it.
    pub(crate) fn event(&self) -> Value {
        let envelope: Value = serde_json::from_str(&self.body).expect("JSON");
        let events = envelope["events"].as_array().expect("a list of events");
        assert_eq!(events.len(), 1, "one event in each request");
        events[0].clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, heard: Arc<watch::Sender<Vec<Heard>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, heard) = (Arc::clone(&shared), Arc::clone(&heard));
        let service = service_fn(move |request| {
            let (shared, heard) = (Arc::clone(&shared), Arc::clone(&heard));
            async move { Ok::<_, Infallible>(answer(request, &shared, &heard).await) }
        });
        connections.spawn(async move {
            // A peer that breaks off is some tests' point.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    heard: &watch::Sender<Vec<Heard>>,
) -> Response<Empty<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let next = shared.next.lock().expect("a lock").pop_front();
    let manner = next.or_else(|| shared.usual.lock().expect("a lock").clone());
    let manner = manner.unwrap_or(Manner::Status(200));
    let status = match &manner {
        Manner::Status(status) => *status,
        Manner::Redirect(_) => 307,
        Manner::Stall => 0,
    };
    heard.send_modify(|heard| {
        heard.push(Heard {
            method: parts.method.to_string(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            status,
        });
    });
    let response = Response::builder();
    let response = match manner {
        Manner::Status(status) => response.status(status),
        Manner::Redirect(to) => response.status(307).header("location", to),
        Manner::Stall => std::future::pending().await,
    };
    response.body(Empty::new()).expect("an answer")
}
