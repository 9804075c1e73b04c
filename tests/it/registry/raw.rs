//! A client that writes on a socket whatever a test likes: what no HTTP library would send.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::programs::{Answer, Larder};

/// Longer than larder takes for anything that these tests ask of it.
const PATIENCE: Duration = Duration::from_secs(20);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, and what came on it that nobody has looked at yet.
pub(super) struct Raw {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Raw {
    pub(super) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("larder listens");
        Self::over(stream)
    }

    /// A connection as that larder expects it: by TLS where it has a certificate.
    pub(super) async fn to(larder: &Larder) -> Self {
        let Some(issuer) = larder.trusted() else {
            return Self::connect(larder.address()).await;
        };
        let mut roots = RootCertStore::empty();
        let issuer = CertificateDer::from_pem_slice(issuer.as_bytes()).expect("a certificate");
        roots.add(issuer).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots);
        let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
        let stream = TcpStream::connect(larder.address())
            .await
            .expect("larder listens");
        let name = ServerName::try_from("localhost").expect("a name");
        Self::over(connector.connect(name, stream).await.expect("a handshake"))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            unread: Vec::new(),
        }
    }

    /// Writes, and hopes: larder may have had enough already.
    pub(super) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let writing = timeout(PATIENCE, self.stream.write_all(bytes.as_ref()));
        writing.await.expect("larder reads or closes").is_ok()
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(
            self.try_send(bytes).await,
            "larder has closed the connection"
        );
    }

    /// Says that there is no more to come; to nobody, if larder has had enough already.
    pub(super) async fn half_close(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// The next answer; nothing if the connection ends first.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head().await?;
        let length = answer.header("content-length").parse().unwrap_or(0);
        while self.unread.len() < length && self.read().await {}
        answer.complete = self.unread.len() >= length;
        answer.body = self.unread.drain(..length.min(self.unread.len())).collect();
        Some(answer)
    }

    /// The next answer to a HEAD, which has no body whatever its length.
    pub(super) async fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read().await {
                return None;
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).expect("a head of text");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((
                name.parse::<HeaderName>().ok()?,
                value.parse::<HeaderValue>().ok()?,
            ))
        };
        Some(Answer {
            status: head
                .get(9..12)
                .and_then(|code| code.parse().ok())
                .expect("a status"),
            headers: head.lines().filter_map(header).collect(),
            body: Vec::new(),
            complete: true,
        })
    }

    /// All answers until larder closes the connection.
    pub(super) async fn answers(mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }

    /// Reads some; not if the connection has ended, well or badly.
    async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        read.expect("an answer or an end")
            .is_ok_and(|count| count > 0)
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}
