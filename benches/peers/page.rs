//! What an open page costs a pull: nothing, it should.
//!
//! A browser on the same processors would be measured along with the server, so the page is a client
//! that asks what the page asks while somebody looks at it, and draws nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use super::content::Content;
use super::load::{Cost, Manifests};
use super::servers::Server;
use super::table::{Row, Unit};
use super::{Plan, SLICES, ratio};

/// What is in the tree beside what is pulled, so that the page has something to follow.
const REPOSITORIES: usize = 1000;
const TAGS: usize = 20;

/// What the first view asks for when it is opened: `state.js`, `now.js`.
const AT_FIRST: [&str; 3] = ["", "history?n=100", "evictions?n=8"];

/// What it asks for again: once a minute, while nothing is pushed, deleted or filled.
const AGAIN: &str = "history?n=100";

/// What is done once, when a page is opened, is over after this: the list of all that is here is
/// looked through again by then.
const OPENING: Duration = Duration::from_secs(5);

/// How long a server is watched that does nothing else.
const REST: Duration = Duration::from_secs(20);

/// Requests per second and processor time per request with an open page, as parts of those without,
/// and what the page costs a server that has nothing else to do.
pub(crate) fn rows(plan: &Plan, content: &Content) -> Vec<Row> {
    let tree = content.tree("page");
    add_many(&tree, &content.by_digest);
    let server = Server::larder_on(&tree, "");
    // It lists what it has two seconds after the start.
    sleep(Duration::from_secs(3));
    server.settle();
    let pull = Manifests::new(&server, &content.by_tag);
    pull.run();
    let [mut speed, mut cost, mut rest] = [const { Vec::new() }; 3];
    for round in 0..plan.rounds {
        rest.push(at_rest(&server));
        let (mut without, mut with) = (Cost::default(), Cost::default());
        for turn in 0..2 {
            let page = ((round + turn) % 2 == 1).then(|| Page::open(server.address));
            sleep(OPENING);
            let cost = if page.is_some() {
                &mut with
            } else {
                &mut without
            };
            for _ in 0..SLICES as usize {
                *cost += pull.run();
            }
            if let Some(page) = page {
                page.close();
            }
        }
        let per_second = |it: Cost| it.amount / it.time;
        let per_request = |it: Cost| it.processor / it.amount;
        speed.push(per_second(with) / per_second(without));
        cost.push(per_request(with) / per_request(without));
    }
    vec![
        ratio("requests per second: with the page / without", speed).median_at_least(0.97),
        ratio("processor time per request: with / without", cost).median_at_most(1.03),
        Row::new(
            "processor time per second for an open page, at rest",
            Unit::Milliseconds,
            rest,
        )
        .median_at_most(10.0),
    ]
}

/// How many milliseconds of a processor's second a server uses because somebody looks. That includes
/// what it does on the side, every few seconds, for as long as somebody does.
fn at_rest(server: &Server) -> f64 {
    let page = Page::open(server.address);
    sleep(OPENING);
    let before = server.processor();
    // Three times as often as a page does.
    get(server.address, AGAIN);
    sleep(REST);
    let used = server.processor() - before;
    page.close();
    used / REST.as_secs_f64() * 1e3
}

/// A page that somebody looks at: what `live.js` and the first view, `now.js`, ask a server for.
///
/// It follows the events for as long as it is open. What it shows of the past it asks for once a
/// minute, which nobody sees in a second. The rest is asked for again only after something has
/// changed, which no pull of what is here does.
struct Page {
    events: TcpStream,
    reading: JoinHandle<usize>,
}

impl Page {
    fn open(server: SocketAddr) -> Self {
        for what in AT_FIRST {
            get(server, what);
        }
        let mut events = TcpStream::connect(server).expect("a connection");
        request(&mut events, "events", "text/event-stream", "keep-alive");
        let stream = events.try_clone().expect("the connection");
        let reading = thread::spawn(move || read(stream));
        Self { events, reading }
    }

    /// Leaves. Somebody who was told nothing would not have been a page.
    fn close(self) {
        // It may have been ended by the other side.
        self.events.shutdown(Shutdown::Both).ok();
        let told = self.reading.join().expect("a reader");
        assert!(told > 0, "an open page is told how things are");
    }
}

/// Reads events until the connection ends. Says how many states there were.
fn read(mut events: TcpStream) -> usize {
    let mut buffer = vec![0; 64 << 10];
    let mut told = 0;
    while let Ok(count @ 1..) = events.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..count]);
        told += text.matches("event: state").count();
    }
    told
}

/// Asks the API for something, and reads all of it.
fn get(server: SocketAddr, what: &str) {
    let mut stream = TcpStream::connect(server).expect("a connection");
    request(&mut stream, what, "*/*", "close");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{what}: {answer}");
}

fn request(stream: &mut TcpStream, what: &str, accept: &str, connection: &str) {
    let request = format!(
        "GET /api/v1/{what} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\nX-Requested-With: larder\r\n\
         Connection: {connection}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
}

/// Adds repositories with tags to a tree, all of one manifest: what a registry of many years has.
fn add_many(tree: &Path, manifest: &str) {
    let (_, digest) = manifest.rsplit_once('/').expect("a path");
    let repositories = tree.join("docker/registry/v2/repositories");
    for number in 0..REPOSITORIES {
        let manifests = repositories
            .join(format!("team{:02}/service-{number:04}", number / 40))
            .join("_manifests");
        let revision = format!("revisions/{}", digest.replace(':', "/"));
        let tags = (0..TAGS).map(|tag| format!("tags/1.{tag}/current"));
        for place in tags.chain([revision]) {
            let directory = manifests.join(place);
            fs::create_dir_all(&directory).expect("a directory");
            fs::write(directory.join("link"), digest).expect("a link");
        }
    }
}
