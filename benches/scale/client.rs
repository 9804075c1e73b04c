//! A client that looks at the head of an answer and throws its body away, in the kernel.

use crate::tree::{MANIFEST, sha256};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// How much may wait to be read, in bytes.
const RECEIVED: u32 = 128 << 10;

/// What is asked again and again.
#[derive(Clone)]
pub(crate) enum Request {
    /// A path.
    Get(String),
    /// A path, and the manifest to put there.
    Put(String, String),
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Where what is thrown away would go. Nothing is ever written to it, so it takes no memory.
    nowhere: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Clients are on other machines. Here their buffers would count among the server's, and
        // 2000 of them use up what the kernel allows TCP (`net.ipv4.tcp_mem`): then it drops.
        let set = socket.set_recv_buffer_size(RECEIVED);
        set.expect("a socket option");
        let address = address.parse().expect("an address");
        let stream = socket.connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let nowhere = vec![0; RECEIVED as usize * 2];
        Self { stream, nowhere }
    }

    /// Asks, and waits for all of the answer, which must be a success.
    pub(crate) async fn get(&mut self, path: &str) {
        let mut left = self.ask(path).await;
        while left > 0 {
            left -= self.discard(left).await;
        }
    }

    /// The same for any request.
    pub(crate) async fn send(&mut self, request: &Request) {
        match request {
            Request::Get(path) => self.get(path).await,
            Request::Put(path, manifest) => self.put(path, MANIFEST, manifest).await,
        }
    }

    /// Pushes what an image of no layers needs, and gives its manifest.
    pub(crate) async fn push(&mut self, name: &str) -> String {
        let config = "{}";
        let digest = sha256(config.as_bytes());
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        self.write("POST", &path, "application/octet-stream", config, "201")
            .await;
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{}}},"layers":[]}}"#,
            config.len()
        )
    }

    async fn put(&mut self, path: &str, kind: &str, body: &str) {
        self.write("PUT", path, kind, body, "201").await;
    }

    async fn write(&mut self, method: &str, path: &str, kind: &str, body: &str, expected: &str) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let left = self.answered(&request, expected).await;
        assert!(left == 0, "{path}: {left} bytes of an answer");
    }

    /// Asks, and says how much of the body is still to come.
    pub(crate) async fn ask(&mut self, path: &str) -> usize {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n");
        self.answered(&request, "200").await
    }

    /// Sends a request, and says how much of its answer's body is still to come.
    async fn answered(&mut self, request: &str, expected: &str) -> usize {
        let path = request.lines().next().unwrap_or_default();
        let sent = self.stream.write_all(request.as_bytes()).await;
        sent.expect("a request sent");
        let mut read = Vec::with_capacity(4096);
        let end = loop {
            let count = self.stream.read_buf(&mut read).await.expect("an answer");
            assert!(count > 0, "{path}: the connection ended before an answer");
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        assert!(
            head.starts_with(&format!("http/1.1 {expected} ")),
            "{path}: {head}"
        );
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        length - (read.len() - end)
    }

    /// Takes some of the body.
    pub(crate) async fn sip(&mut self, size: usize) {
        self.discard(size).await;
    }

    async fn discard(&mut self, most: usize) -> usize {
        let most = most.min(self.nowhere.len());
        loop {
            self.stream.readable().await.expect("a connection");
            // `MSG_TRUNC`: TCP drops the bytes, and writes them nowhere.
            let taken = self.stream.try_io(Interest::READABLE, || {
                let nowhere = &mut self.nowhere[..most];
                Ok(recv(&self.stream, nowhere, RecvFlags::TRUNC)?.1)
            });
            match taken {
                Ok(count) => {
                    assert!(count > 0, "the connection ended within a body");
                    return count;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("an answer broke: {error}"),
            }
        }
    }
}
