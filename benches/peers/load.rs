//! Clients that cost next to nothing, so that what is measured is the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::AddAssign;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::content::{BLOB, Content};
use super::machine::{float, used_by_us};
use super::servers::Server;

/// What docker accepts, among others; Distribution 2 gives it to nobody who does not say so.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a piece of work has cost its server.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Processor time in seconds.
    pub(crate) processor: f64,
    /// The same of whoever asked for it.
    pub(crate) client: f64,
    /// Time on the clock in seconds.
    pub(crate) time: f64,
    /// How much was done, in GB or in requests.
    pub(crate) amount: f64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        self.processor += more.processor;
        self.client += more.client;
        self.time += more.time;
        self.amount += more.amount;
    }
}

impl Cost {
    /// Which part of the processor time was the client's.
    pub(crate) fn client_share(&self) -> f64 {
        self.client / (self.client + self.processor)
    }

    /// Measures what `work` takes, which returns how much was done.
    pub(crate) fn of(server: &Server, work: impl FnOnce() -> f64) -> Self {
        let (server_before, client_before) = (server.processor(), used_by_us());
        let started = Instant::now();
        let amount = work();
        let time = started.elapsed().as_secs_f64();
        Self {
            processor: server.processor() - server_before,
            client: used_by_us() - client_before,
            time,
            amount,
        }
    }
}

/// Readers of one blob, again and again, each on a connection of its own.
pub(crate) struct Blobs<'a> {
    server: &'a Server,
    connections: usize,
    path: &'a str,
    tls: Option<Arc<ClientConfig>>,
    duration: Duration,
}

impl<'a> Blobs<'a> {
    pub(crate) fn new(
        server: &'a Server,
        connections: usize,
        content: &'a Content,
        is_quick: bool,
    ) -> Self {
        Self {
            server,
            connections,
            path: &content.blob,
            tls: server.is_encrypted().then(|| client_config(content)),
            duration: Duration::from_millis(if is_quick { 200 } else { 500 }),
        }
    }

    pub(crate) fn run(&self) -> Cost {
        Cost::of(self.server, || {
            let until = Instant::now() + self.duration;
            let read: u64 = thread::scope(|scope| {
                let reading = |_| scope.spawn(|| self.read_until(until));
                let readers: Vec<_> = (0..self.connections).map(reading).collect();
                let read = readers.into_iter().map(ScopedJoinHandle::join);
                read.map(|bytes| bytes.expect("a reader")).sum()
            });
            float(read) / 1e9
        })
    }

    /// How many bytes of blobs came in that time; the last one is left in its middle.
    fn read_until(&self, until: Instant) -> u64 {
        let mut stream = TcpStream::connect(self.server.address).expect("a connection");
        let mut read = 0;
        let mut tls = self.tls.as_ref().map(|config| {
            let name = "127.0.0.1".try_into().expect("a name");
            let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
            StreamOwned::new(session, stream.try_clone().expect("the connection"))
        });
        while Instant::now() < until {
            let count = if let Some(tls) = &mut tls {
                read_blob(tls, self.path, until)
            } else {
                ask(&mut stream, self.path);
                let first = head(&mut stream);
                first + discard(&stream, BLOB - first, until)
            };
            read += count as u64;
        }
        read
    }
}

/// Reads a blob from a server's plain connection, all of it. Says how long that took.
pub(crate) fn download(server: SocketAddr, path: &str) -> Duration {
    let started = Instant::now();
    let mut stream = TcpStream::connect(server).expect("a connection");
    ask(&mut stream, path);
    let left = BLOB - head(&mut stream);
    let forever = started + Duration::from_mins(10);
    assert_eq!(discard(&stream, left, forever), left, "the whole blob");
    started.elapsed()
}

/// Sends the request for something, as docker would.
pub(crate) fn ask(stream: &mut impl Write, path: &str) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: larder's benchmark\r\nAccept: {MANIFEST}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
}

fn read_blob(
    tls: &mut StreamOwned<ClientConnection, TcpStream>,
    path: &str,
    until: Instant,
) -> usize {
    ask(tls, path);
    let mut buffer = vec![0; 64 << 10];
    let mut read = head(tls);
    while read < BLOB && Instant::now() < until {
        let count = tls.read(&mut buffer).expect("the blob");
        assert!(count > 0, "the whole blob");
        read += count;
    }
    read
}

/// Reads an answer's head. Says how many bytes of its body came with it.
pub(crate) fn head(stream: &mut impl Read) -> usize {
    head_and_first(stream).1
}

/// The same with the head itself.
pub(crate) fn head_and_first(stream: &mut impl Read) -> (String, usize) {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).expect("an answer");
        assert!(count > 0, "an answer");
        read.extend_from_slice(&buffer[..count]);
        let end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(end) = end {
            let text = String::from_utf8_lossy(&read[..end]).into_owned();
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            return (text, read.len() - end - 4);
        }
    }
}

/// Has the kernel throw away what arrives: nobody copies it for us. Says how much it was.
fn discard(stream: &TcpStream, wanted: usize, until: Instant) -> usize {
    let mut nothing = vec![0; 1 << 20];
    let mut read = 0;
    while read < wanted && Instant::now() < until {
        let most = nothing.len().min(wanted - read);
        let (_, count) =
            rustix::net::recv(stream, &mut nothing[..most], RecvFlags::TRUNC).expect("the blob");
        assert!(count > 0, "the whole blob");
        read += count.min(most);
    }
    read
}

/// TLS 1.3 with one cipher.
fn client_config(content: &Content) -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::ring::default_provider();
    let cipher = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == cipher);
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(content.authority.certificate().as_bytes());
    roots.add(authority.expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Everybody asks for one manifest, as fast as wrk can.
pub(crate) struct Manifests<'a> {
    server: &'a Server,
    path: &'a str,
}

impl<'a> Manifests<'a> {
    pub(crate) fn new(server: &'a Server, path: &'a str) -> Self {
        Self { server, path }
    }

    pub(crate) fn run(&self) -> Cost {
        Cost::of(self.server, || {
            let url = format!("http://{}{}", self.server.address, self.path);
            let accept = format!("Accept: {MANIFEST}");
            let arguments = ["-t2", "-c32", "-d1s", "-H", &accept, &url];
            let run = Command::new("wrk").args(arguments).output();
            let run = run.expect("wrk, of the package of that name");
            let text = String::from_utf8_lossy(&run.stdout).into_owned();
            assert!(
                !text.contains("Non-2xx") && !text.contains("Socket errors"),
                "{text}"
            );
            // `  123456 requests in 2.00s, 300.00MB read`
            let line = text.lines().find(|line| line.contains(" requests in "));
            let (count, _) = line
                .and_then(|line| line.trim().split_once(" requests in "))
                .expect("a count of requests");
            count.parse().expect("a number")
        })
    }
}
