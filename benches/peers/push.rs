//! Pushes, against what the disk and the hash allow.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};

use super::content::{disk_directory, hex, noise};
use super::servers::Server;
use super::table::{Row, Unit};
use super::{Plan, ratio};

/// The bytes of all streams together.
const TOTAL: usize = 1 << 30;

/// How long a push takes, for each second that the slower of hashing it and writing it durably
/// takes by itself; and what it costs.
pub(crate) fn rows(plan: &Plan, streams: usize) -> Vec<Row> {
    let home = disk_directory();
    let total = total(plan);
    let contents: Vec<Vec<u8>> = (0..streams)
        .map(|stream| noise(total / streams + stream))
        .collect();
    let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let [mut ours, mut theirs, mut costs] = [const { Vec::new() }; 3];
    let [mut hashing, mut writing] = [const { Vec::new() }; 2];
    for round in 0..plan.rounds.min(3) {
        let (digests, hashed) = hash(&parts);
        let written = write(home.path(), &parts);
        hashing.push(hashed.as_secs_f64() * 1000.0);
        writing.push(written.as_secs_f64() * 1000.0);
        let allowed = hashed.max(written).as_secs_f64();
        let push = |start: fn(&Path, &str) -> Server, name: &str| {
            let tree = home.path().join(format!("{name}-{round}"));
            let server = start(&tree, "");
            let before = server.processor();
            let started = Instant::now();
            thread::scope(|scope| {
                for (bytes, digest) in parts.iter().zip(&digests) {
                    scope.spawn(|| push(server.address, bytes, digest));
                }
            });
            let time = started.elapsed().as_secs_f64();
            let cost = server.processor() - before;
            drop(server);
            std::fs::remove_dir_all(&tree).expect("to clean up");
            (time / allowed, cost)
        };
        let (time, cost) = push(Server::larder_on, "larder");
        ours.push(time);
        let (time, their_cost) = push(Server::distribution_on, "registry");
        theirs.push(time);
        costs.push(cost / their_cost);
    }
    let ours = ratio(
        "time / the slower of sha256 and a write with fsync: larder",
        ours,
    );
    vec![
        // More streams than processors are left by those who send cannot be hashed side by side.
        if streams == 1 {
            ours.median_at_most(1.2)
        } else {
            ours
        },
        ratio("… docker-registry", theirs),
        ratio("processor time: larder / docker-registry", costs),
        Row::new(
            "sha256 of it, by ring, in memory",
            Unit::Milliseconds,
            hashing,
        ),
        Row::new("a write of it with fsync", Unit::Milliseconds, writing),
    ]
}

/// How much is pushed, in bytes.
pub(crate) fn total(plan: &Plan) -> usize {
    if plan.is_quick { TOTAL / 4 } else { TOTAL }
}

/// The digests of some pieces, and how long it took to hash them side by side.
pub(crate) fn hash(parts: &[&[u8]]) -> (Vec<String>, Duration) {
    let started = Instant::now();
    let digests = thread::scope(|scope| {
        let hash = |bytes| scope.spawn(move || digest(&SHA256, bytes));
        let hashes: Vec<_> = parts.iter().map(|bytes| hash(*bytes)).collect();
        let hashes = hashes.into_iter().map(|hash| hash.join().expect("a hash"));
        hashes
            .map(|hash| format!("sha256:{}", hex(hash.as_ref())))
            .collect()
    });
    (digests, started.elapsed())
}

/// How long it takes to write them to files and wait for the disk.
fn write(home: &Path, parts: &[&[u8]]) -> Duration {
    let path = home.join("written");
    let mut took = Duration::ZERO;
    for bytes in parts {
        let started = Instant::now();
        let mut file = File::create(&path).expect("a file");
        file.write_all(bytes).expect("its bytes");
        file.sync_all().expect("a sync");
        took += started.elapsed();
    }
    std::fs::remove_file(path).expect("to clean up");
    took
}

/// A POST, a PATCH with everything, and a PUT, as docker does it.
fn push(server: SocketAddr, bytes: &[u8], digest: &str) {
    let mut stream = TcpStream::connect(server).expect("a connection");
    let mut ask = |method: &str, path: &str, body: &[u8]| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("a request");
        stream.write_all(body).expect("its body");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(
            answer.starts_with("HTTP/1.1 20"),
            "{method} {path}: {answer}"
        );
        let location = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location")
                .then(|| value.trim().to_owned())
        });
        let location = location.expect("a location");
        // Absolute or not.
        location
            .split_once(&server.to_string())
            .map_or(location.clone(), |(_, path)| path.to_owned())
    };
    let upload = ask("POST", "/v2/bench/push/blobs/uploads/", b"");
    let upload = ask("PATCH", &upload, bytes);
    let mark = if upload.contains('?') { '&' } else { '?' };
    ask("PUT", &format!("{upload}{mark}digest={digest}"), b"");
}
