//! Pushes, against what the disk and the hash allow.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use super::content::noise;
use super::servers::Server;
use super::support::image::sha256;
use super::table::{Row, Unit};

/// The bytes of all streams together.
const TOTAL: usize = 1 << 30;

/// How long a push takes, for each second that the slower of hashing it and writing it durably
/// takes by itself.
pub(crate) fn rows(rounds: usize, streams: usize) -> Vec<Row> {
    let home = tempfile::tempdir().expect("a directory");
    let (mut larder, mut registry) = (Vec::new(), Vec::new());
    let mut contents: Vec<Vec<u8>> = Vec::new();
    for stream in 0..streams {
        contents.push(noise(TOTAL / streams + stream));
    }
    for round in 0..rounds {
        // Hashed on as many processors as there are streams, as a server could.
        let hashing = Instant::now();
        let digests: Vec<String> = thread::scope(|scope| {
            let hashes: Vec<_> = contents
                .iter()
                .map(|bytes| scope.spawn(move || sha256(bytes)))
                .collect();
            hashes
                .into_iter()
                .map(|hash| hash.join().expect("a hash"))
                .collect()
        });
        let hashing = hashing.elapsed();
        let writing = Instant::now();
        for bytes in &contents {
            let path = home.path().join("written");
            let mut file = File::create(&path).expect("a file");
            file.write_all(bytes).expect("its bytes");
            file.sync_all().expect("a sync");
        }
        let allowed = hashing.max(writing.elapsed()).as_secs_f64();
        for (name, samples) in [("larder", &mut larder), ("registry", &mut registry)] {
            let tree = home.path().join(format!("{name}-{round}"));
            let server = if name == "larder" {
                Server::larder_on(&tree, "")
            } else {
                Server::distribution_on(&tree, "")
            };
            let started = Instant::now();
            thread::scope(|scope| {
                for (bytes, digest) in contents.iter().zip(&digests) {
                    scope.spawn(|| push(server.address, bytes, digest));
                }
            });
            samples.push(started.elapsed().as_secs_f64() / allowed);
            drop(server);
            std::fs::remove_dir_all(&tree).expect("to clean up");
        }
    }
    let row = |figure, samples| Row::new(figure, Unit::Ratio, samples);
    let figure = "time / the slower of sha256 and a write with fsync: larder";
    let ours = row(figure, larder);
    vec![
        if streams == 1 {
            ours.median_at_most(1.2)
        } else {
            ours
        },
        row("the same: docker-registry", registry),
    ]
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
