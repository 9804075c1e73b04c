//! A pull of what is not there yet.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::content::{BLOB, Content};
use super::load::download;
use super::push::hash;
use super::ratio;
use super::servers::{Server, Tls};
use super::table::{Row, Unit};

/// How long a pull takes, for each second that the slower of downloading the blob and hashing it
/// takes by itself; and what it costs until the blob is stored.
pub(crate) fn rows(rounds: usize, content: &Content) -> Vec<Row> {
    let upstream = Server::nginx(content, Tls::Off);
    let blob = std::fs::read(content.blob_file()).expect("the blob");
    let [mut ours, mut theirs, mut costs] = [const { Vec::new() }; 3];
    let [mut hashing, mut downloading] = [const { Vec::new() }; 2];
    // From here on the blob is in memory.
    download(upstream.address, &content.blob);
    let alone = || {
        let downloaded = download(upstream.address, &content.blob).as_secs_f64();
        (hash(&[&blob]).1.as_secs_f64(), downloaded)
    };
    for round in 0..rounds {
        let before = alone();
        let proxy = format!("proxy: {{remoteurl: \"http://{}\"}}\n", upstream.address);
        let (time, cost) = pull(
            content,
            |tree| Server::larder_on(tree, &proxy),
            "larder",
            round,
        );
        // The machine may have become quicker or slower meanwhile: what was possible was so in between.
        let after = alone();
        let (hashed, downloaded) = (before.0.midpoint(after.0), before.1.midpoint(after.1));
        hashing.push(hashed * 1000.0);
        downloading.push(downloaded * 1000.0);
        let allowed = hashed.max(downloaded);
        ours.push(time / allowed);
        let start = |tree: &Path| Server::distribution_on(tree, &proxy);
        let (time, their_cost) = pull(content, start, "registry", round);
        theirs.push(time / allowed);
        costs.push(cost / their_cost);
    }
    vec![
        ratio("time / the slower of a download and sha256: larder", ours).median_at_most(1.3),
        ratio(
            "… docker-registry, which verifies after it has sent",
            theirs,
        ),
        ratio(
            "processor time until it is stored: larder / docker-registry",
            costs,
        )
        .median_at_most(1.0),
        Row::new(
            "sha256 of it, by ring, in memory",
            Unit::Milliseconds,
            hashing,
        ),
        Row::new(
            "a download of it from nginx",
            Unit::Milliseconds,
            downloading,
        ),
    ]
}

/// The time and the processor time of a pull, in seconds.
fn pull(
    content: &Content,
    start: impl FnOnce(&Path) -> Server,
    name: &str,
    round: usize,
) -> (f64, f64) {
    let tree = content.root(&format!("cold-{name}-{round}"));
    let server = start(&tree);
    let before = server.processor();
    let time = download(server.address, &content.blob).as_secs_f64();
    wait_for(&content.data_in(&tree));
    // It is in its place; what is left to do is what makes it known.
    sleep(Duration::from_millis(200));
    let cost = server.processor() - before;
    drop(server);
    std::fs::remove_dir_all(&tree).expect("to clean up");
    (time, cost)
}

fn wait_for(file: &Path) {
    let started = Instant::now();
    let is_there = || file.metadata().is_ok_and(|data| data.len() == BLOB as u64);
    while !is_there() {
        assert!(started.elapsed() < Duration::from_mins(1), "a stored blob");
        sleep(Duration::from_millis(5));
    }
}
