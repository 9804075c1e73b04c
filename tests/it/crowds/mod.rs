//! Many clients, slow ones, and those that vanish: each loses what it holds, and costs the others
//! nothing.

mod files;
mod http2;
mod slow;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::programs::Larder;

/// Longer than anything takes here that takes no time-out of larder's own.
const LONG: Duration = Duration::from_mins(1);

/// So that this process can be many clients.
fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// A connection on which these bytes have been sent.
async fn sent(larder: &Larder, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(larder.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Reads until larder ends the connection, and returns what came.
async fn ended(mut stream: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    // A reset is an end too.
    drop(timeout(LONG, stream.read_to_end(&mut read)).await.unwrap());
    read
}

/// A connection on which one request has been answered, and which idles now.
async fn idling(larder: &Larder) -> TcpStream {
    let mut stream = sent(larder, b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut read = Vec::new();
    while !read.ends_with(b"{}") {
        let count = timeout(LONG, stream.read_buf(&mut read)).await.unwrap();
        assert!(count.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
    }
    stream
}

/// The request for a blob, for those who send it themselves.
fn blob_request(name: &str, digest: &str) -> Vec<u8> {
    format!("GET /v2/{name}/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes()
}
