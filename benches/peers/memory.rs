//! The memory of the three: at rest, and with many who read slowly.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::content::Content;
use super::load::{ask, download, head};
use super::servers::{NAMES, Server, Tls};
use super::table::{Row, Unit};

const READERS: usize = 1000;

/// At rest after the start, after one pull, and with a thousand readers that hold in the middle.
pub(crate) fn rows(rounds: usize, content: &Content) -> Vec<Row> {
    let mut idle = [const { Vec::new() }; 3];
    let mut slow = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let servers = Server::all(content, Tls::Off);
        sleep(Duration::from_secs(1));
        for (at, server) in servers.iter().enumerate() {
            idle[at].push(server.memory());
            download(server.address, &content.blob);
            slow[at].push(with_readers(NAMES[at], server, content));
        }
    }
    let mut rows = Vec::new();
    for (state, samples, limit) in [("idle", idle, 15.0), ("with 1000 slow readers", slow, 64.0)] {
        for (name, samples) in NAMES.into_iter().zip(samples) {
            let row = Row::new(format!("{state}: {name}"), Unit::Megabytes, samples);
            rows.push(if name == "larder" {
                row.median_at_most(limit)
            } else {
                row
            });
        }
    }
    rows
}

/// The memory as it is now.
pub(crate) fn of_each(servers: &[Server; 3]) -> Vec<Row> {
    let named = NAMES.into_iter().zip(servers);
    named
        .map(|(name, server)| Row::new(name, Unit::Megabytes, vec![server.memory()]))
        .collect()
}

fn with_readers(name: &str, server: &Server, content: &Content) -> f64 {
    let readers: Vec<TcpStream> = (0..READERS)
        .map(|_| {
            let mut stream = connect(server.address);
            ask(&mut stream, &content.blob);
            head(&mut stream);
            stream
        })
        .collect();
    let mut most = 0.0_f64;
    let mut sip = [0; 16 << 10];
    for _ in 0..5 {
        for mut reader in &readers {
            let read = reader.read_exact(&mut sip);
            assert!(read.is_ok(), "{name} gives some of the blob: {read:?}");
        }
        sleep(Duration::from_millis(200));
        most = most.max(server.memory());
    }
    most
}

/// A connection with packets as a network has them, and a small window. On loopback they have 64 kB, and
/// a thousand senders may then have more under way than the kernel allows all connections together.
fn connect(server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Both are agreed upon while connecting.
    socket.set_tcp_mss(1460).expect("small packets");
    socket
        .set_recv_buffer_size(32 << 10)
        .expect("a small buffer");
    socket.connect(&server.into()).expect("a connection");
    socket.into()
}
