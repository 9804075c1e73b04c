//! Clients that cost next to nothing, so that what is measured is the server.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::content::{BLOB, Content};
use super::machine::float;
use super::servers::Server;

/// What a piece of work has cost its server.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Processor time in seconds.
    pub(crate) processor: f64,
    /// Time on the clock in seconds.
    pub(crate) time: f64,
    /// How much was done, in GB or in requests.
    pub(crate) amount: f64,
}

/// For how long one measurement goes on, at least.
const LONG: Duration = Duration::from_millis(1500);

/// Readers of one blob, again and again, each on a connection of its own.
pub(crate) struct Blobs<'a> {
    server: &'a Server,
    connections: usize,
    path: &'a str,
    tls: Option<Arc<ClientConfig>>,
}

impl<'a> Blobs<'a> {
    pub(crate) fn plain(server: &'a Server, connections: usize, content: &'a Content) -> Self {
        let (path, tls) = (&content.blob, None);
        Self {
            server,
            connections,
            path,
            tls,
        }
    }

    pub(crate) fn encrypted(server: &'a Server, connections: usize, content: &'a Content) -> Self {
        let tls = Some(client_config(content));
        Self {
            tls,
            ..Self::plain(server, connections, content)
        }
    }

    pub(crate) fn run(&self) -> Cost {
        let (before, started) = (self.server.processor(), Instant::now());
        let blobs: usize = thread::scope(|scope| {
            let reading = |_| scope.spawn(|| self.read_for(started));
            let readers: Vec<_> = (0..self.connections).map(reading).collect();
            readers
                .into_iter()
                .map(|reader| reader.join().expect("a reader"))
                .sum()
        });
        Cost {
            time: started.elapsed().as_secs_f64(),
            processor: self.server.processor() - before,
            amount: float((blobs * BLOB) as u64) / 1e9,
        }
    }

    fn read_for(&self, started: Instant) -> usize {
        let mut stream = TcpStream::connect(self.server.address).expect("a connection");
        let mut blobs = 0;
        let mut tls = self.tls.as_ref().map(|config| {
            let name = "127.0.0.1".try_into().expect("a name");
            let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
            StreamOwned::new(session, stream.try_clone().expect("the connection"))
        });
        while blobs == 0 || started.elapsed() < LONG {
            let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", self.path);
            match &mut tls {
                Some(tls) => {
                    tls.write_all(request.as_bytes()).expect("a request");
                    let mut buffer = vec![0; 64 << 10];
                    let mut left = BLOB - head(tls);
                    while left > 0 {
                        let count = tls.read(&mut buffer).expect("the blob");
                        assert!(count > 0, "the whole blob");
                        left -= count;
                    }
                }
                None => {
                    stream.write_all(request.as_bytes()).expect("a request");
                    let left = BLOB - head(&mut stream);
                    discard(&stream, left);
                }
            }
            blobs += 1;
        }
        blobs
    }
}

/// Reads an answer's head. Says how many bytes of its body came with it.
fn head(stream: &mut impl Read) -> usize {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).expect("an answer");
        assert!(count > 0, "an answer");
        read.extend_from_slice(&buffer[..count]);
        let end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(end) = end {
            assert!(
                read.starts_with(b"HTTP/1.1 200 "),
                "{}",
                String::from_utf8_lossy(&read)
            );
            return read.len() - end - 4;
        }
    }
}

/// Has the kernel throw away what arrives: nobody copies it for us.
fn discard(stream: &TcpStream, mut left: usize) {
    let mut nothing = vec![0; 1 << 20];
    while left > 0 {
        let wanted = left.min(nothing.len());
        let (_, count) =
            rustix::net::recv(stream, &mut nothing[..wanted], RecvFlags::TRUNC).expect("the blob");
        assert!(count > 0, "the whole blob");
        left -= count.min(wanted);
    }
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
        let before = self.server.processor();
        let url = format!("http://{}{}", self.server.address, self.path);
        // As docker asks; Distribution 2 gives nothing else to those who do not.
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let arguments = ["-t2", "-c32", "-d2s", "-H", accept, &url];
        let run = Command::new("wrk").args(arguments).output();
        let run = run.expect("wrk, of the package of that name");
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(
            !text.contains("Non-2xx") && !text.contains("Socket errors"),
            "{text}"
        );
        // `  123456 requests in 2.00s, 300.00MB read`
        let line = text.lines().find(|line| line.contains(" requests in "));
        let line = line.expect("a count of requests");
        let (count, rest) = line.trim().split_once(" requests in ").expect("a count");
        let time = rest.split_once('s').expect("a time").0;
        Cost {
            processor: self.server.processor() - before,
            time: time.parse().expect("seconds"),
            amount: count.parse().expect("a number"),
        }
    }
}
