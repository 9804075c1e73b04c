//! How long one has to wait: for the first byte, and for larder to be there.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Upstreams;
use super::client::Connection;
use super::machine::{milliseconds, resident};
use super::support::hub::{Fault, Listener, What, Where};
use super::support::programs::Options;
use super::table::{Row, Unit};

const BLOBS: u8 = 20;
const STARTS: usize = 20;

/// Large enough that it does not matter how much of its end is withheld.
const BLOB: usize = 10_000_000;

/// Longer than any process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much later than the upstream sends it the first byte of a blob arrives.
///
/// The CDN holds its whole answer back, head and body, until the benchmark opens a gate. From
/// then on the clock runs: it also counts the time the hub takes to begin, which is not larder's.
pub(crate) async fn first_byte(upstreams: &Upstreams) -> Vec<Row> {
    let hub = upstreams.docker_hub().await;
    let larder = Options::mirror_of(&hub).start().await;
    let mut samples = Vec::new();
    for number in 0..BLOBS {
        let digest = hub.put_blob("library/first", vec![number; BLOB]);
        let cdn = Where::blobs().get().at(Listener::Cdn).digest(&digest);
        let gate = hub.fault(Fault::on(cdn).does(What::Gate(None)));
        let mut client = Connection::open(larder.address()).await;
        let path = format!("/v2/library/first/blobs/{digest}");
        let receiving = async {
            client.ask("GET", &path).await;
            assert!(!client.next().await.is_empty(), "a first byte");
            let arrived = Instant::now();
            while !client.next().await.is_empty() {}
            arrived
        };
        let opening = async {
            hub.wait_for(|asked| {
                let at_cdn = |path: &str| path.ends_with(&digest);
                asked
                    .iter()
                    .any(|it| it.listener == Listener::Cdn && at_cdn(&it.path))
            })
            .await;
            // All that this request set in motion has come to rest by then.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let opened = Instant::now();
            hub.open(gate);
            opened
        };
        let (arrived, opened) = tokio::join!(receiving, opening);
        samples.push(milliseconds(arrived - opened));
    }
    larder.finish().await;
    let figure = "first byte at the client after the upstream's first byte";
    vec![Row::new(figure, Unit::Milliseconds, samples).median_at_most(5.0)]
}

/// How long it takes from the start of the process to the first answer, with the built-in
/// configuration and an empty data directory; and its memory at that moment.
pub(crate) fn ready() -> Vec<Row> {
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let started = Instant::now();
        let larder = Started::new();
        larder.wait_until_ready(started);
        times.push(milliseconds(started.elapsed()));
        memory.push(resident(larder.process.id()));
    }
    vec![
        Row::new(
            "from the start to the first answer",
            Unit::Milliseconds,
            times,
        )
        .median_at_most(20.0),
        Row::new("memory at that moment", Unit::Megabytes, memory).each_at_most(15.0),
    ]
}

/// A larder as somebody runs it who has no configuration, but on a port that is free.
struct Started {
    process: Child,
    address: String,
    _home: TempDir,
}

impl Started {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("a bound socket").to_string();
        drop(free);
        let process = Command::new(env!("CARGO_BIN_EXE_larder"))
            .env_clear()
            .env("REGISTRY_HTTP_ADDR", &address)
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", home.path())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            process: process.expect("larder starts"),
            address,
            _home: home,
        }
    }

    /// Asks again and again until there is an answer.
    fn wait_until_ready(&self, started: Instant) {
        while !self.answers() {
            assert!(started.elapsed() < PATIENCE, "larder does not get ready");
            std::thread::yield_now();
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.address) else {
            return false;
        };
        let sent = stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut status = [0; 12];
        sent.and_then(|()| stream.read_exact(&mut status)).is_ok() && status == *b"HTTP/1.1 200"
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
