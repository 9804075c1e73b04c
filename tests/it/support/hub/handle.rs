//! What a test holds in its hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpSocket;

use super::super::image::Image;
use super::answer::Pacer;
use super::fault::{Fault, FaultId};
use super::log::{Asked, Kind, Listener};
use super::token::TokenShape;
use super::{Auth, Config, Shared, State, basic, lock, server};

/// How long a test waits for something that should happen at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running hub; clones are the same one, and the last to be dropped stops it.
#[derive(Clone)]
pub(crate) struct Hub {
    running: Arc<Running>,
}

struct Running {
    state: Shared,
    /// While the hub is down: its ports, bound so that nobody else gets them, but refusing.
    reserved: Mutex<Vec<TcpSocket>>,
}

/// A hub that is yet to be started.
#[derive(Default)]
pub(crate) struct Builder(Config);

impl Builder {
    /// Asks for a token, and says where the token service is.
    pub(crate) fn bearer(mut self) -> Self {
        self.0.auth = Auth::Bearer;
        self
    }

    /// Asks for a name and a password, at the registry itself.
    pub(crate) fn basic(mut self, user: &str, password: &str) -> Self {
        self.0.auth = Auth::Basic(basic(user, password));
        self
    }

    /// What the token service takes for private repositories; any other is refused.
    pub(crate) fn credentials(mut self, user: &str, password: &str) -> Self {
        self.0.credentials = Some(basic(user, password));
        self
    }

    /// Redirects blobs to a host of their own.
    pub(crate) fn cdn(mut self) -> Self {
        self.0.cdn = true;
        self
    }

    /// Has the referrers API, and gives `page` of them at a time.
    pub(crate) fn referrers(mut self, page: usize) -> Self {
        self.0.referrers = Some(page);
        self
    }

    /// Lets all bodies of registry and CDN together have so many bytes per second.
    pub(crate) fn link(mut self, bytes_per_second: u64) -> Self {
        self.0.link = Some(Pacer::new(bytes_per_second));
        self
    }

    /// Starts it on three free ports of 127.0.0.1.
    pub(crate) async fn start(self) -> Hub {
        let sockets = [0; 3].map(|port| bound(([127, 0, 0, 1], port).into()));
        let address = |socket: &TcpSocket| socket.local_addr().expect("a bound socket");
        let state = State {
            config: self.0,
            addresses: sockets.each_ref().map(address),
            content: Mutex::default(),
            tokens: Mutex::default(),
            faults: Mutex::default(),
            log: super::log::Log::default(),
            connections: 0.into(),
            tasks: super::tasks::Tasks::default(),
        };
        let reserved = Mutex::new(sockets.into());
        let running = Arc::new(Running {
            state: Arc::new(state),
            reserved,
        });
        let hub = Hub { running };
        hub.up().await;
        hub
    }
}

fn bound(address: std::net::SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Connections that were cut may linger at the port for a minute.
    socket.set_reuseaddr(true).expect("a reusable address");
    socket.bind(address).expect("a port to bind");
    socket
}

impl Hub {
    /// A hub without authentication that serves blobs itself.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// A hub with more to it.
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    fn state(&self) -> &State {
        &self.running.state
    }

    fn host_of(&self, listener: Listener) -> String {
        self.state().address(listener).to_string()
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// `127.0.0.1:PORT` of the registry.
    pub(crate) fn host(&self) -> String {
        self.host_of(Listener::Registry)
    }

    /// `127.0.0.1:PORT` of the token service.
    pub(crate) fn token_host(&self) -> String {
        self.host_of(Listener::Token)
    }

    /// `127.0.0.1:PORT` of the CDN.
    pub(crate) fn cdn_host(&self) -> String {
        self.host_of(Listener::Cdn)
    }

    /// Puts a whole image under a tag; returns the digest the tag then has.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        lock(&self.state().content).push(repository, Some(tag), image)
    }

    /// Puts one blob; returns its digest.
    pub(crate) fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        lock(&self.state().content).put_blob(repository, bytes.into())
    }

    /// Puts any bytes as a manifest; returns their digest.
    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> String {
        lock(&self.state().content).put_manifest(repository, tag, media_type, bytes.into())
    }

    /// Lets a tag name another manifest.
    pub(crate) fn move_tag(&self, repository: &str, tag: &str, digest: &str) {
        let content = &mut *lock(&self.state().content);
        let tags = &mut content.repository(repository).tags;
        tags.insert(tag.to_owned(), digest.to_owned());
    }

    /// Forgets a tag; its manifest stays.
    pub(crate) fn delete_tag(&self, repository: &str, tag: &str) {
        let content = &mut *lock(&self.state().content);
        content.repository(repository).tags.remove(tag);
    }

    /// Forgets a repository with all that is in it.
    pub(crate) fn delete_repo(&self, repository: &str) {
        lock(&self.state().content).repositories.remove(repository);
    }

    /// Gives tokens for this repository only to who has the credentials.
    pub(crate) fn private(&self, repository: &str) {
        let content = &mut *lock(&self.state().content);
        content.private.insert(repository.to_owned());
    }

    /// Says how the token service answers from now on.
    pub(crate) fn token_shape(&self, shape: TokenShape) {
        lock(&self.state().tokens).shape = shape;
    }

    /// Makes every token that is out worthless.
    pub(crate) fn revoke_tokens(&self) {
        lock(&self.state().tokens).revoke();
    }

    /// Refuses connections at all ports, and cuts those that are open.
    pub(crate) async fn down(&self) {
        self.state().tasks.stop().await;
        let mut reserved = lock(&self.running.reserved);
        if reserved.is_empty() {
            *reserved = self.state().addresses.map(bound).into();
        }
    }

    /// Listens again, at the same ports.
    #[expect(
        clippy::unused_async,
        reason = "listening needs the runtime that it will run on"
    )]
    pub(crate) async fn up(&self) {
        let state = &self.running.state;
        state.tasks.open();
        let sockets = std::mem::take(&mut *lock(&self.running.reserved));
        for (socket, listener) in sockets.into_iter().zip(Listener::ALL) {
            let socket = socket.listen(1024).expect("a port to listen at");
            let accepting = server::accept(Arc::clone(state), socket, listener);
            state.tasks.spawn(accepting);
        }
    }

    /// Sets a fault; the first that matches and has uses left strikes.
    pub(crate) fn fault(&self, fault: Fault) -> FaultId {
        lock(&self.state().faults).set(fault)
    }

    /// Ends a fault for requests to come; who waits at its gate goes on waiting.
    pub(crate) fn heal(&self, id: FaultId) {
        lock(&self.state().faults).heal(id);
    }

    /// Ends all faults for requests to come.
    pub(crate) fn heal_all(&self) {
        lock(&self.state().faults).heal_all();
    }

    /// Opens a fault's gate for good: for those who wait and for those to come.
    pub(crate) fn open(&self, id: FaultId) {
        lock(&self.state().faults).open(id);
    }

    /// How often a fault has struck.
    pub(crate) fn struck(&self, id: FaultId) -> usize {
        lock(&self.state().faults).struck(id)
    }

    /// Everything it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().log.all()
    }

    /// Forgets what it was asked.
    pub(crate) fn clear_log(&self) {
        self.state().log.clear();
    }

    /// How many requests were like that.
    pub(crate) fn count(&self, like: impl Fn(&Asked) -> bool) -> usize {
        self.asked().iter().filter(|asked| like(asked)).count()
    }

    fn count_of(&self, kind: Kind, method: &str) -> usize {
        self.count(|asked| {
            asked.listener == Listener::Registry && asked.kind == kind && asked.method == method
        })
    }

    /// `GET`s of manifests.
    pub(crate) fn manifest_gets(&self) -> usize {
        self.count_of(Kind::Manifest, "GET")
    }

    /// `HEAD`s of manifests.
    pub(crate) fn manifest_heads(&self) -> usize {
        self.count_of(Kind::Manifest, "HEAD")
    }

    /// `GET`s of blobs at the registry, redirected or not.
    pub(crate) fn blob_gets(&self) -> usize {
        self.count_of(Kind::Blob, "GET")
    }

    /// `HEAD`s of blobs at the registry.
    pub(crate) fn blob_heads(&self) -> usize {
        self.count_of(Kind::Blob, "HEAD")
    }

    /// Requests at the token service.
    pub(crate) fn token_requests(&self) -> usize {
        self.count(|asked| asked.listener == Listener::Token)
    }

    /// Bytes of manifests and blobs that were sent; what an error said is not counted.
    pub(crate) fn body_bytes(&self) -> u64 {
        let asked = self.asked();
        let content = asked.iter().filter(|asked| {
            matches!(asked.kind, Kind::Manifest | Kind::Blob) && matches!(asked.status(), 200 | 206)
        });
        content.map(Asked::body_sent).sum()
    }

    /// Waits until the log is like that, and fails after ten seconds.
    pub(crate) async fn wait_for(&self, met: impl Fn(&[Asked]) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.state().log.until(met)).await;
        assert!(
            waited.is_ok(),
            "hub: waited in vain; it was asked {:#?}",
            self.asked()
        );
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.state()
            .connections
            .load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Stops it, and fails if anything in it panicked.
    pub(crate) async fn join(self) {
        self.state().tasks.stop().await;
        self.running.raise();
    }
}

impl Running {
    fn raise(&self) {
        let panics = self.state.tasks.panics();
        assert!(panics.is_empty(), "the hub panicked: {panics:#?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.tasks.abort();
        // Two panics at once abort the process, and the first is the one to see.
        if !std::thread::panicking() {
            self.raise();
        }
    }
}
