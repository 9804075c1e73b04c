//! How much memory it takes: at rest, and with a thousand clients that are in no hurry.

use std::time::Duration;

use tokio::time::sleep;

use super::Upstreams;
use super::client::{Connection, Wanted};
use super::machine::{anonymous, peak, resident};
use super::support::hub::{Fault, What, Where};
use super::support::image::Image;
use super::support::programs::{Larder, Options};
use super::table::{Row, Unit};

const IDLE_RUNS: u64 = 3;
const REQUESTS: usize = 200;

const READERS: usize = 1000;
const BLOB: usize = 64 << 20;
/// What a slow reader takes at a time, and how often.
const SIP: usize = 16 * 1024;
const SIPS: usize = 5;

/// The memory of a larder that has filled itself with an image, has answered two hundred requests,
/// and has nothing to do.
pub(crate) async fn idle(upstreams: &Upstreams) -> Vec<Row> {
    let hub = upstreams.near().await;
    let (mut all, mut own) = (Vec::new(), Vec::new());
    for run in 0..IDLE_RUNS {
        let image = Image::uniform(run, 4, 10_000_000);
        hub.push("library/idle", "latest", &image);
        let wanted = Wanted::new("library/idle", &image);
        let larder = Options::mirror_of(&hub).start().await;
        let pulls = 1 + REQUESTS.div_ceil(wanted.requests());
        for _ in 0..pulls {
            wanted.pull(larder.address()).await;
        }
        until_quiet(&larder, pulls * wanted.requests()).await;
        all.push(resident(larder.pid()));
        own.push(anonymous(larder.pid()));
        larder.finish().await;
    }
    vec![
        Row::new("memory after 200 requests", Unit::Megabytes, all).each_at_most(15.0),
        Row::new("  of which is not the program itself", Unit::Megabytes, own),
    ]
}

/// Waits until every request has its line in the log: then all is done that a request brings.
async fn until_quiet(larder: &Larder, requests: usize) {
    while larder.log().matches("answered").count() < requests {
        sleep(Duration::from_millis(5)).await;
    }
}

/// The memory with a thousand clients in the middle of one blob that is there.
pub(crate) async fn slow_readers(upstreams: &Upstreams) -> Vec<Row> {
    let hub = upstreams.near().await;
    let digest = hub.put_blob("library/slow", vec![1; BLOB]);
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/slow/blobs/{digest}");
    let mut first = Connection::open(larder.address()).await;
    first.ask("GET", &path).await;
    while !first.next().await.is_empty() {}
    larder.logged("filled").await;
    let rows = rows("it is there", &larder, &path).await;
    larder.finish().await;
    rows
}

/// The memory with a thousand clients in the middle of one blob that is half there.
pub(crate) async fn slow_readers_of_a_fill(upstreams: &Upstreams) -> Vec<Row> {
    let hub = upstreams.near().await;
    let digest = hub.put_blob("library/slow", vec![1; BLOB]);
    let half = Fault::on(Where::blobs().get()).does(What::Gate(Some(BLOB / 2)));
    let gate = hub.fault(half);
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/slow/blobs/{digest}");
    let rows = rows("half of it is there", &larder, &path).await;
    hub.open(gate);
    larder.logged("filled").await;
    larder.finish().await;
    rows
}

async fn rows(state: &str, larder: &Larder, path: &str) -> Vec<Row> {
    let before = resident(larder.pid());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = Connection::with_buffer(larder.address(), SIP).await;
        reader.ask("GET", path).await;
        readers.push(reader);
    }
    let mut samples = Vec::new();
    for _ in 0..SIPS {
        for reader in &mut readers {
            assert!(!reader.next().await.is_empty(), "a reader that still holds");
        }
        sleep(Duration::from_millis(200)).await;
        samples.push(resident(larder.pid()));
    }
    drop(readers);
    let most = peak(larder.pid());
    let row = |figure: String, samples| Row::new(figure, Unit::Megabytes, samples);
    vec![
        row(format!("memory with 1000 of them, {state}"), samples).each_at_most(128.0),
        row("  before the first came".to_owned(), vec![before]),
        row("  the most it ever was".to_owned(), vec![most]),
    ]
}
