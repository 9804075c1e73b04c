//! larder's parts, put together in the test's own process as `larder serve` does it: what is told,
//! looked at and shown can be set here in full, and looked into.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::access::{self, Access};
use larder::events::{self, Endpoint, Events, Source};
use larder::health::{Check, Health};
use larder::http::{
    AccessLog, Debug, DebugServer, Handler, Limits, Listen, Manners, Server, Stop, Surroundings,
};
use larder::registry::{Keeping, MinFree, Registry, Settings, Validation, Warm};
use larder::store::Store;
use larder::upstream::{self, Upstream};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::image::{Image, sha256};
use super::programs::Answer;
use super::tree;

/// How long what waits may take at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// How to start one.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) notifications: events::Settings,
    pub(crate) checks: Vec<Check>,
    pub(crate) access_log: Option<Box<dyn Write + Send>>,
    /// Where docker.io is, and its token service.
    pub(crate) upstream: Option<(url::Url, String)>,
}

/// A registry that is running in this process.
pub(crate) struct Inside {
    address: SocketAddr,
    debug_address: SocketAddr,
    pub(crate) around: Surroundings,
    registry: Registry,
    stop: CancellationToken,
    running: JoinHandle<bool>,
    debugging: JoinHandle<()>,
    client: reqwest::Client,
    root: TempDir,
}

/// What somebody writes on, and somebody else reads.
#[derive(Clone, Default)]
pub(crate) struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("a lock").clone()).expect("text")
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wanted {
    /// One that tells these.
    pub(crate) fn telling(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let notifications = events::Settings {
            endpoints: endpoints.into_iter().collect(),
            include_references: false,
        };
        Self {
            notifications,
            ..Self::default()
        }
    }

    /// One that looks at these.
    pub(crate) fn checking(checks: impl IntoIterator<Item = Check>) -> Self {
        Self {
            checks: checks.into_iter().collect(),
            ..Self::default()
        }
    }

    /// One that mirrors the hub as docker.io.
    pub(crate) fn mirroring(mut self, hub: &Hub) -> Self {
        let url = hub.url().parse().expect("a URL");
        self.upstream = Some((url, hub.token_host()));
        self
    }

    /// Starts it on free ports.
    pub(crate) async fn start(self) -> Inside {
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::open(root.path()).expect("a store");
        let registry = registry(store, self.upstream);
        let listen = Listen::Tcp("127.0.0.1:0".to_owned());
        let server = Server::bind(&listen, None, LIMITS)
            .await
            .expect("a free port");
        let port = server.port().expect("a bound socket");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let access_log = self.access_log.map(AccessLog::to).transpose();
        let around = Surroundings {
            events: Events::start(self.notifications, Source::here(port)).expect("endpoints"),
            health: Health::start(self.checks).expect("checks"),
            access_log: access_log.expect("a thread").unwrap_or_default(),
        };
        let handler = Handler::new(registry.clone(), manners());
        let stop = CancellationToken::new();
        let stopping = Stop {
            token: stop.clone(),
            patience: Duration::from_secs(5),
        };
        let debug = DebugServer::bind("127.0.0.1:0").await.expect("a free port");
        let debug_address = debug.address().expect("a bound socket");
        let shown = Debug::new(registry.clone(), around.clone(), None);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        Inside {
            address,
            debug_address,
            running: tokio::spawn(server.run(handler.among(around.clone()), stopping)),
            debugging: tokio::spawn(debug.run(shown, stop.clone())),
            around,
            registry,
            stop,
            client: client.build().expect("a client"),
            root,
        }
    }
}

fn registry(store: Store, hub: Option<(url::Url, String)>) -> Registry {
    let settings = Settings {
        // However full the disk is that the tests run on.
        keeping: Keeping {
            min_free: MinFree::Bytes(0),
            ..Keeping::default()
        },
        fresh_for: Duration::from_mins(5),
        offline: false,
        hold: Vec::new(),
        delete: true,
        readonly: false,
        catalog_limit: 1000,
        tags_limit: 1000,
        purging: None,
        validation: Validation::default(),
        collecting: None,
        warm: Warm::default(),
    };
    let name = "docker.io".to_owned();
    let default = hub.is_some().then(|| name.clone());
    let upstreams = hub.map(|(url, token_host)| {
        let settings = upstream::Settings {
            name: name.clone(),
            url,
            credentials: None,
            ca: None,
            token_hosts: vec![token_host],
        };
        (
            name,
            Arc::new(Upstream::new(settings).expect("an upstream")),
        )
    });
    Registry::new(
        settings,
        store,
        upstreams.into_iter().collect::<BTreeMap<_, _>>(),
        default,
    )
    .expect("no holds")
}

impl Inside {
    /// Host and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request, to be completed and sent with [`send`](Self::send).
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.request(method.parse().expect("a method"), url);
        request.header("user-agent", "test/1")
    }

    /// Sends a request and reads its answer to the end, or not at all if it breaks off.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer's head");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await;
        Answer {
            status,
            headers,
            complete: body.is_ok(),
            body: body.unwrap_or_default().to_vec(),
        }
    }

    /// A request without a body.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(self.request(method, path)).await
    }

    /// A GET at the debug listener.
    pub(crate) async fn debug(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.debug_address);
        self.send(self.client.get(url)).await
    }

    /// Uploads a blob in two requests.
    pub(crate) async fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let path = format!("/v2/{name}/blobs/uploads/");
        let started = self.ask("POST", &path).await;
        assert_eq!(started.status, 202, "{started:?}");
        let location = format!("{}&digest={digest}", started.header("location"));
        let put = self.request("PUT", &location).body(bytes.to_vec());
        assert_eq!(self.send(put).await.status, 201);
        digest
    }

    /// Uploads an image: config, layers, manifest.
    pub(crate) async fn push(&self, name: &str, tag: &str, image: &Image) {
        for (_, bytes) in image.blobs() {
            self.push_blob(name, &bytes).await;
        }
        let put = self
            .request("PUT", &format!("/v2/{name}/manifests/{tag}"))
            .header("content-type", image.media_type())
            .body(image.manifest_bytes());
        assert_eq!(self.send(put).await.status, 201);
    }

    /// Stops it as a signal does, and checks that it leaves nothing behind.
    pub(crate) async fn finish(self) {
        self.finish_within(FLUSH).await;
    }

    /// The same, with so much time for events that wait.
    pub(crate) async fn finish_within(self, flush: Duration) {
        self.stop.cancel();
        assert!(self.running.await.expect("a server that does not panic"));
        self.debugging
            .await
            .expect("a listener that does not panic");
        self.registry.stop().await;
        self.around.health.stop().await;
        self.around.events.stop(flush).await;
        self.around.access_log.stop(flush).await;
        let tree = self.root.path().join("docker/registry/v2");
        tree::assert_sound(&tree);
        tree::assert_nothing_staged(&tree);
    }
}

const LIMITS: Limits = Limits {
    connections: 1000,
    head: Duration::from_secs(30),
    stall: Duration::from_mins(1),
};

/// Open to everybody, and nothing added to an answer.
fn manners() -> Manners {
    let access = access::Settings {
        scheme: access::Scheme::Open,
        anonymous: Vec::new(),
        rules: Vec::new(),
        challenge: access::Challenge::Auto,
        secret: None,
    };
    Manners {
        access: Access::new(access).expect("open to everybody"),
        headers: Vec::new(),
        base: None,
        metrics: true,
        prefix: None,
        stall: LIMITS.stall,
    }
}
