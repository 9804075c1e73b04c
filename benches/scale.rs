//! What larder does when it holds much, and when many come at once.
//!
//! `cargo bench --bench scale` makes stores of 100 and of `LARGE` blobs (100 000 if not set; a
//! million need 5 GB of memory, where they are made, and the right to mount), and serves them in
//! turns; then it evicts nearly all of the large one, and then it is many clients. `-- store`, `-- evict`,
//! `-- listing`, `-- idle`, `-- crowd` and `-- slow` each do one of these. Clients and server share the machine: a crowd's figures are of both.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and ends where it cannot measure"
)]

#[path = "scale/client.rs"]
mod client;
#[path = "scale/server.rs"]
mod server;
#[path = "scale/tree.rs"]
mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::{Client, Request};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::Server;
use tokio::runtime::Builder;
use tree::{Disk, Tree};

/// How often each store is served.
const ROUNDS: usize = 5;
/// How many of each request are timed.
const REQUESTS: usize = 200;
/// For how long requests are watched before anything is evicted.
const BESIDE: Duration = Duration::from_secs(20);
const REPOSITORIES: usize = 100_000;
const IDLE: usize = 9_000;
const CROWD: usize = 2_000;
const READERS: usize = 1_000;
const LAYER: usize = 10_000_000;

fn main() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a higher limit");
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|word| word == name);
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        if is_asked("store") {
            store().await;
        }
        if is_asked("evict") {
            evict().await;
        }
        if is_asked("listing") {
            listing().await;
        }
        if is_asked("idle") {
            idle().await;
        }
        if is_asked("crowd") {
            crowd().await;
        }
        if is_asked("slow") {
            slow().await;
        }
    });
}

/// The middle one, all but a hundredth, and the longest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    let shown = [at(50), at(99), at(100)].map(|time| format!("{:.2}", time.as_secs_f64() * 1e3));
    format!("{} / {} / {} ms", shown[0], shown[1], shown[2])
}

/// Asks for the same again and again, one after the other.
async fn timed(server: &Server, path: &str, count: usize) -> Vec<Duration> {
    let mut client = Client::connect(server.address()).await;
    let mut times = Vec::new();
    for _ in 0..count {
        let asked = Instant::now();
        client.get(path).await;
        times.push(asked.elapsed());
    }
    times
}

/// How many blobs the large store has.
fn large() -> usize {
    let large = std::env::var("LARGE").ok();
    large.map_or(100_000, |text| text.parse().expect("LARGE is a number"))
}

async fn store() {
    let disks: Vec<(usize, Disk, Tree)> = [100, large()]
        .into_iter()
        .map(|blobs| {
            let disk = Disk::new();
            let tree = Tree::of_images(disk.path(), blobs / 10);
            (blobs, disk, tree)
        })
        .collect();
    println!(
        "a store of so many blobs: from the start to the first answer; then the middle, 99 % and longest of {REQUESTS}"
    );
    for round in 0..ROUNDS {
        for (blobs, disk, tree) in &disks {
            let began = Instant::now();
            let server = Server::start(disk.path(), &[]).await;
            Client::connect(server.address()).await.get("/v2/").await;
            let ready = began.elapsed();
            let asked = Instant::now();
            Client::connect(server.address())
                .await
                .get("/v2/_catalog?n=100")
                .await;
            let first = asked.elapsed();
            let catalog = timed(&server, "/v2/_catalog?n=100", REQUESTS).await;
            let manifest = timed(&server, &tree.manifest, REQUESTS).await;
            let blob = timed(&server, &tree.blob, REQUESTS).await;
            println!(
                "{round} {blobs:>8} blobs: ready {ready:.1?}, first catalog {first:.1?}, catalog {}, manifest {}, blob {}",
                spread(catalog),
                spread(manifest),
                spread(blob)
            );
            if round == 0 {
                // While it is counted in the background.
                let mut stalls = timed(&server, &tree.manifest, 20).await;
                while !server.log().contains("counted what mirrors hold") {
                    stalls.extend(timed(&server, &tree.manifest, 20).await);
                }
                let log = server.log();
                let line = log.lines().find(|line| line.contains("counted what"));
                println!(
                    "  until counted: {}; {}",
                    spread(stalls),
                    line.unwrap_or_default()
                );
            }
            server.stop();
        }
    }
}

async fn evict() {
    let disk = Disk::new();
    let tree = Tree::of_images(disk.path(), large() / 10);
    let mut server = Server::start(disk.path(), &[]).await;
    server.says("counted what mirrors hold").await;
    println!(
        "requests, one after the other, while nearly all of {} images go",
        large() / 10
    );
    let mut client = Client::connect(server.address()).await;
    let manifest = client.push("team/mine").await;
    let requests = [
        ("a pull of a manifest", Request::Get(tree.manifest.clone())),
        (
            "a push of a manifest",
            Request::Put("/v2/team/mine/manifests/v1".to_owned(), manifest),
        ),
    ];
    let is_over = Arc::new(AtomicBool::new(false));
    let address = server.address().to_owned();
    let all = || {
        is_over.store(false, Ordering::Relaxed);
        requests
            .each_ref()
            .map(|(_, request)| apart(&address, request, &is_over))
    };
    let clients = all();
    tokio::time::sleep(BESIDE).await;
    let alone = times_of(clients, &is_over);
    let clients = all();
    let worker = works_like_an_eviction(&is_over);
    tokio::time::sleep(BESIDE).await;
    let beside_work = times_of(clients, &is_over);
    let longest_work = worker.join().expect("a thread that does not fail");
    server.limit_to("1000B");
    server.says("evicted: the cache has reached").await;
    let clients = all();
    server.says("room was made").await;
    let meanwhile = times_of(clients, &is_over);
    let times = alone.into_iter().zip(beside_work).zip(meanwhile);
    for ((name, _), ((alone, beside_work), meanwhile)) in requests.iter().zip(times) {
        println!(
            "  {name}: alone {}, beside a thread that only works {}, meanwhile {}",
            spread(alone),
            spread(beside_work),
            spread(meanwhile)
        );
    }
    println!("  that thread was interrupted for {longest_work:?} at most");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("room was made"));
    println!("  {}", line.unwrap_or_default());
    server.stop();
}

fn times_of<const N: usize>(
    clients: [JoinHandle<Vec<Duration>>; N],
    is_over: &AtomicBool,
) -> [Vec<Duration>; N] {
    is_over.store(true, Ordering::Relaxed);
    clients.map(|client| client.join().expect("a client that does not fail"))
}

/// Keeps a processor as busy as an eviction does, and keeps nobody out: what requests take beside it
/// is the machine's doing. Says how much longer than it should a piece of its work took at most.
fn works_like_an_eviction(is_over: &Arc<AtomicBool>) -> JoinHandle<Duration> {
    const WORK: Duration = Duration::from_micros(250);
    let is_over = Arc::clone(is_over);
    std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        while !is_over.load(Ordering::Relaxed) {
            let began = Instant::now();
            while began.elapsed() < WORK {
                std::hint::spin_loop();
            }
            longest = longest.max(began.elapsed().saturating_sub(WORK));
            std::thread::sleep(WORK * 2);
        }
        longest
    })
}

async fn listing() {
    println!(
        "pages of 100 from the middle: the first after the start, then the middle, 99 % and longest of {REQUESTS}"
    );
    for count in [200, REPOSITORIES, 200, REPOSITORIES] {
        let disk = Disk::new();
        let tree = Tree::of_names(disk.path(), count);
        let server = Server::start(disk.path(), &[]).await;
        for page in [&tree.catalog, &tree.tags] {
            let first = timed(&server, page, 1).await;
            // What has just been made may still change.
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                timed(&server, page, 1).await;
            }
            let times = timed(&server, page, REQUESTS).await;
            println!(
                "{count:>8} names: first {}, {}  {page}",
                spread(first),
                spread(times)
            );
        }
        tree.add_name();
        let changed = timed(&server, &tree.catalog, 1).await;
        println!(
            "  after a new name: {}; {}",
            spread(changed),
            server.memory()
        );
        server.stop();
    }
}

async fn idle() {
    let disk = Disk::new();
    let server = Server::start(disk.path(), &[]).await;
    Client::connect(server.address()).await.get("/v2/").await;
    println!("{IDLE} connections that idle: before, {}", server.memory());
    let mut clients = Vec::new();
    for _ in 0..IDLE {
        clients.push(Client::connect(server.address()).await);
    }
    timed(&server, "/v2/", 10).await;
    println!("  that have asked for nothing yet: {}", server.memory());
    for client in &mut clients {
        client.get("/v2/").await;
    }
    println!("  that have asked once: {}", server.memory());
    println!(
        "  one that asks meanwhile: {}",
        spread(timed(&server, "/v2/", REQUESTS).await)
    );
    drop(clients);
    server.stop();
}

async fn crowd() {
    let disk = Disk::new();
    let tree = Tree::of_one_image(disk.path(), 4, LAYER);
    let server = Server::start(disk.path(), &[]).await;
    // Hashed when it is first served.
    for layer in &tree.layers {
        Client::connect(server.address()).await.get(layer).await;
    }
    println!(
        "one client's manifest, alone: {}",
        spread(timed(&server, &tree.manifest, REQUESTS).await)
    );
    let before = server.cpu();
    let began = Instant::now();
    let pulls: Vec<_> = (0..CROWD)
        .map(|_| {
            let (address, tree) = (server.address().to_owned(), tree.clone());
            #[expect(clippy::disallowed_methods, reason = "a client")]
            tokio::spawn(async move {
                let mut client = Client::connect(&address).await;
                let asked = Instant::now();
                client.get(&tree.manifest).await;
                let manifest = asked.elapsed();
                for layer in &tree.layers {
                    client.get(layer).await;
                }
                manifest
            })
        })
        .collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let request = Request::Get(tree.manifest.clone());
    let meanwhile = apart(server.address(), &request, &is_over);
    let mut manifests = Vec::new();
    for pull in pulls {
        manifests.push(pull.await.expect("a pull that does not fail"));
    }
    let (took, cpu) = (began.elapsed(), server.cpu() - before);
    is_over.store(true, Ordering::Relaxed);
    let meanwhile = meanwhile.join().expect("a client that does not fail");
    println!(
        "{CROWD} clients pulled 4 x 10 MB in {took:.1?}, of which the server's processors {cpu:.1} s"
    );
    println!("  their manifests: {}", spread(manifests));
    println!(
        "  one more client's manifests meanwhile: {}",
        spread(meanwhile)
    );
    println!("  {}", server.memory());
    server.stop();
}

/// Asks for the same now and then, on a thread that has nothing else to do: in the crowd's own it
/// would be the crowd that it waits for.
fn apart(address: &str, request: &Request, is_over: &Arc<AtomicBool>) -> JoinHandle<Vec<Duration>> {
    let (address, request) = (address.to_owned(), request.clone());
    let is_over = Arc::clone(is_over);
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut client = Client::connect(&address).await;
            let mut times = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                client.send(&request).await;
                times.push(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            times
        })
    })
}

async fn slow() {
    let disk = Disk::new();
    let tree = Tree::of_one_image(disk.path(), 1, 64 << 20);
    let server = Server::start(disk.path(), &[]).await;
    Client::connect(server.address())
        .await
        .get(&tree.layers[0])
        .await;
    println!(
        "{READERS} slow readers of 64 MB: before, {}",
        server.memory()
    );
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut client = Client::connect(server.address()).await;
        client.ask(&tree.layers[0]).await;
        readers.push(client);
    }
    for _ in 0..5 {
        for reader in &mut readers {
            reader.sip(16 << 10).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("  with them, {}", server.memory());
    drop(readers);
    server.stop();
}
