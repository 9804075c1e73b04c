//! The benchmark of what larder does all day, beside its peers: nginx, which sends files, and
//! Debian's `docker-registry`.
//!
//! `cargo bench --bench peers` (or `make bench`) starts each of them on loopback with the same
//! content, gives them the same work in turns, and prints how many times nginx's cost larder's
//! is. Absolute times on a machine that others use too say nothing; ratios within a round do.
//! `-- --rounds 9` takes more samples, `-- --write docs/performance.md` puts the table there.
//!
//! The program ends with 1 if a target is missed. `servers` starts the three, `content` makes
//! what they serve, `load` asks for it, `push` and `cold` are the two figures that write.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints its table, and ends where it cannot measure"
)]

#[path = "peers/content.rs"]
mod content;
#[path = "peers/load.rs"]
mod load;
#[path = "pull/machine.rs"]
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod machine;
#[path = "peers/push.rs"]
mod push;
#[path = "peers/servers.rs"]
mod servers;
#[path = "../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "most of the test support is for the tests"
)]
mod support;
#[path = "pull/table.rs"]
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod table;

use std::process::ExitCode;

use content::Content;
use load::{Blobs, Cost, Manifests};
use servers::Server;
use table::{Row, Table, Unit};

/// What is said of a server: how many times nginx's.
struct Ratios {
    larder: Vec<f64>,
    distribution: Vec<f64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let rounds = after("--rounds").map_or(5, |rounds| rounds.parse().expect("a number of rounds"));
    machine::allow_many_files();
    let table = measure(rounds);
    println!("\n{table}");
    if let Some(file) = after("--write") {
        table.write_into(file);
    }
    if table.is_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn measure(rounds: usize) -> Table {
    let content = Content::make();
    let mut table = Table::default();
    let plain = [
        Server::nginx(&content, false),
        Server::larder(&content, false),
        Server::distribution(&content, false),
    ];
    for connections in [1, 8, 64] {
        let costs = in_turns(rounds, &plain, |server| {
            Blobs::plain(server, connections, &content).run()
        });
        table.add(
            format!("A blob of 256 MiB, plain HTTP, {connections} connections"),
            blob_rows(&costs, (connections == 8).then_some(1.25), connections == 8),
        );
    }
    for (heading, path) in [
        ("A manifest by tag, 32 connections", content.by_tag.clone()),
        (
            "A manifest by digest, 32 connections",
            content.by_digest.clone(),
        ),
    ] {
        let costs = in_turns(rounds, &plain, |server| Manifests::new(server, &path).run());
        table.add(heading, manifest_rows(&costs));
    }
    drop(plain);
    let encrypted = [
        Server::nginx(&content, true),
        Server::larder(&content, true),
        Server::distribution(&content, true),
    ];
    let costs = in_turns(rounds, &encrypted, |server| {
        Blobs::encrypted(server, 2, &content).run()
    });
    table.add(
        "A blob of 256 MiB over TLS 1.3, AES-128-GCM, 2 connections",
        blob_rows(&costs, Some(1.15), false),
    );
    drop(encrypted);
    for (heading, streams) in [
        ("A push of 1 GiB", 1),
        ("A push of 1 GiB in four streams", 4),
    ] {
        table.add(heading, push::rows(rounds.min(3), streams));
    }
    table
}

/// One cost per round for each server. The order changes with the round, so that none always has
/// the machine as the same other left it.
fn in_turns(
    rounds: usize,
    servers: &[Server; 3],
    measure: impl Fn(&Server) -> Cost,
) -> [Vec<Cost>; 3] {
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    // Nobody's first answer counts.
    for server in servers {
        measure(server);
    }
    for round in 0..rounds {
        for turn in 0..servers.len() {
            let at = (round + turn) % servers.len();
            costs[at].push(measure(&servers[at]));
        }
    }
    costs
}

fn ratios(costs: &[Vec<Cost>; 3], of: impl Fn(&Cost) -> f64) -> Ratios {
    let [nginx, larder, distribution] = costs;
    let compared = |theirs: &[Cost]| {
        let pairs = theirs.iter().zip(nginx);
        pairs.map(|(their, nginx)| of(their) / of(nginx)).collect()
    };
    Ratios {
        larder: compared(larder),
        distribution: compared(distribution),
    }
}

fn blob_rows(costs: &[Vec<Cost>; 3], cpu_limit: Option<f64>, has_speed: bool) -> Vec<Row> {
    let cpu = ratios(costs, |cost| cost.processor / cost.amount);
    let speed = ratios(costs, |cost| cost.amount / cost.time);
    let row = |figure, samples| Row::new(figure, Unit::Ratio, samples);
    let ours = row("processor time per GB: larder / nginx", cpu.larder);
    let ours_speed = row("GB/s: larder / nginx", speed.larder);
    let absolute = |at: usize| {
        let per_gb = costs[at]
            .iter()
            .map(|cost| cost.processor / cost.amount * 1000.0);
        per_gb.collect()
    };
    vec![
        match cpu_limit {
            Some(limit) => ours.median_at_most(limit),
            None => ours,
        },
        row(
            "processor time per GB: docker-registry / nginx",
            cpu.distribution,
        ),
        if has_speed {
            ours_speed.median_at_least(0.9)
        } else {
            ours_speed
        },
        row("GB/s: docker-registry / nginx", speed.distribution),
        Row::new(
            "nginx, for the scale: per GB",
            Unit::Milliseconds,
            absolute(0),
        ),
        Row::new("larder: per GB", Unit::Milliseconds, absolute(1)),
    ]
}

fn manifest_rows(costs: &[Vec<Cost>; 3]) -> Vec<Row> {
    let cpu = ratios(costs, |cost| cost.processor / cost.amount);
    let speed = ratios(costs, |cost| cost.amount / cost.time);
    let row = |figure, samples| Row::new(figure, Unit::Ratio, samples);
    let rates = |at: usize| {
        costs[at]
            .iter()
            .map(|cost| cost.amount / cost.time)
            .collect()
    };
    vec![
        row("requests per second: larder / nginx", speed.larder).median_at_least(1.0),
        row(
            "requests per second: docker-registry / nginx",
            speed.distribution,
        ),
        row("processor time per request: larder / nginx", cpu.larder),
        row(
            "processor time per request: docker-registry / nginx",
            cpu.distribution,
        ),
        Row::new(
            "nginx, for the scale: requests per second",
            Unit::Count,
            rates(0),
        ),
        Row::new("larder: requests per second", Unit::Count, rates(1)),
    ]
}
