//! A client that looks at the head of an answer and throws its body away, in the kernel.

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// How much may wait to be read, in bytes.
const RECEIVED: u32 = 128 << 10;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
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
        Self { stream }
    }

    /// Asks, and waits for all of the answer, which must be a success.
    pub(crate) async fn get(&mut self, path: &str) {
        let mut left = self.ask(path).await;
        while left > 0 {
            left -= self.discard(left.min(1 << 20)).await;
        }
    }

    /// Asks, and says how much of the body is still to come.
    pub(crate) async fn ask(&mut self, path: &str) -> usize {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n");
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
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
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

    async fn discard(&self, most: usize) -> usize {
        loop {
            self.stream.readable().await.expect("a connection");
            // `MSG_TRUNC`: TCP drops the bytes, and writes them nowhere.
            let taken = self.stream.try_io(Interest::READABLE, || {
                Ok(recv(&self.stream, &mut vec![0; most][..], RecvFlags::TRUNC)?.1)
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
