//! How many instructions an answer takes: a figure that no busy machine changes.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;

use super::content::Content;
use super::load::{ask, head_and_first};
use super::machine::float;
use super::servers::{Server, program};
use super::table::{Row, Unit};

/// Requests that are not counted, so that everything that happens once has happened.
const FEW: u32 = 100;

/// Those that are.
const MORE: u32 = 1000;

/// For a manifest by tag and a small blob that are there, on a connection that is kept.
pub(crate) fn rows(content: &Content) -> Vec<Row> {
    let few = counted(content, &[(&content.by_tag, FEW), (&content.small, FEW)]);
    let per_request = |manifests, blobs| {
        let asked = [(&*content.by_tag, manifests), (&*content.small, blobs)];
        let more = counted(content, &asked);
        (more - few) / f64::from(MORE)
    };
    let row = |figure, count| Row::new(figure, Unit::Count, vec![count]);
    vec![
        row("for a manifest by tag", per_request(FEW + MORE, FEW)),
        row("for a blob of 1 kB", per_request(FEW, FEW + MORE)),
    ]
}

/// All instructions of a larder from its start to its end.
fn counted(content: &Content, asked: &[(&str, u32)]) -> f64 {
    let result = content.root("callgrind");
    let mut watcher = program("valgrind");
    watcher
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", result.display()))
        // With these it does not start itself again.
        .env("MALLOC_ARENA_MAX", "2")
        .env("MALLOC_MMAP_THRESHOLD_", "131072")
        .env("MALLOC_TRIM_THRESHOLD_", "131072");
    let server = Server::larder_in(watcher, content);
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    for (path, times) in asked {
        for _ in 0..*times {
            request(&mut stream, path);
        }
    }
    server.finish();
    total(&result)
}

fn request(stream: &mut TcpStream, path: &str) {
    ask(stream, path);
    let (head, first) = head_and_first(stream);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().expect("a length"))
    });
    let mut rest = vec![0; length.expect("an answer with a length") - first];
    stream.read_exact(&mut rest).expect("the body");
}

fn total(result: &Path) -> f64 {
    let text = fs::read_to_string(result).expect("what callgrind counted");
    let line = text.lines().find_map(|line| line.strip_prefix("totals:"));
    let count = line.and_then(|count| count.trim().parse().ok());
    float(count.expect("a total"))
}
