//! The benchmark of what larder does all day, beside its peers: nginx, which sends files, and
//! Debian's `docker-registry`.
//!
//! `cargo bench --bench peers` (or `make bench`) starts each of them on loopback with the same
//! content, gives them the same work in turns, and prints how many times nginx's cost larder's
//! is. Absolute times on a machine that others use too say nothing; ratios within a round do.
//!
//! `-- NAME…` measures only what has such a word in its name (`-- --list` tells the names),
//! `-- --quick` takes one short round of each, `-- --rounds 9` takes so many instead, and
//! `-- --write docs/performance.md` puts the table there. `LARDER=/usr/bin/larder` in the environment
//! measures another build.
//!
//! The program ends with 1 if a target is missed. `servers` starts the three, `content` makes
//! what they serve, `load` asks for it; `blobs`, `manifests`, `page`, `cold`, `push`, `memory` and
//! `instructions` are the figures, `about` says on which machine.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints its table, and ends where it cannot measure"
)]

#[path = "peers/about.rs"]
mod about;
#[path = "peers/blobs.rs"]
mod blobs;
#[path = "peers/cold.rs"]
mod cold;
#[path = "peers/content.rs"]
mod content;
#[path = "peers/instructions.rs"]
mod instructions;
#[path = "peers/load.rs"]
mod load;
#[path = "pull/machine.rs"]
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod machine;
#[path = "peers/manifests.rs"]
mod manifests;
#[path = "peers/memory.rs"]
mod memory;
#[path = "peers/page.rs"]
mod page;
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
use load::Cost;
use servers::{Server, Tls};
use table::{Row, Table, Unit};

/// What can be measured by itself.
const PARTS: [&str; 14] = [
    "blob-plain-1",
    "blob-plain-8",
    "blob-plain-64",
    "manifest-by-tag",
    "manifest-by-digest",
    "page",
    "blob-tls-1",
    "blob-tls-8",
    "blob-tls-64",
    "cold-pull",
    "push-1-stream",
    "push-4-streams",
    "memory",
    "instructions",
];

/// What is asked for on the command line.
pub(crate) struct Plan {
    rounds: usize,
    is_quick: bool,
    parts: Vec<&'static str>,
    file: Option<String>,
}

impl Plan {
    fn new(arguments: impl Iterator<Item = String>) -> Self {
        let mut plan = Self {
            rounds: 0,
            is_quick: false,
            parts: Vec::new(),
            file: None,
        };
        let mut words = Vec::new();
        let mut arguments = arguments.skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // What cargo says to every benchmark.
                "--bench" => {}
                "--quick" => plan.is_quick = true,
                "--rounds" => {
                    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok());
                    plan.rounds = rounds.expect("--rounds is followed by a number");
                }
                "--write" => plan.file = Some(arguments.next().expect("a file after --write")),
                "--list" => {
                    println!("{}", PARTS.join("\n"));
                    std::process::exit(0);
                }
                option if option.starts_with('-') => panic!("what is {option}?"),
                _ => words.push(argument),
            }
        }
        assert!(
            !plan.is_quick || plan.file.is_none(),
            "short rounds are not worth writing down"
        );
        if plan.rounds == 0 {
            plan.rounds = if plan.is_quick { 1 } else { 5 };
        }
        let is_asked =
            |part: &&str| words.is_empty() || words.iter().any(|word| part.contains(word));
        plan.parts = PARTS.into_iter().filter(is_asked).collect();
        assert!(
            !plan.parts.is_empty(),
            "nothing has such a name; --list tells them"
        );
        plan
    }

    fn has(&self, part: &str) -> bool {
        let is_asked = self.parts.contains(&part);
        if is_asked {
            println!("… {part}");
        }
        is_asked
    }

    fn has_any(&self, word: &str) -> bool {
        self.parts.iter().any(|part| part.contains(word))
    }
}

fn main() -> ExitCode {
    let plan = Plan::new(std::env::args());
    machine::allow_many_files();
    let content = Content::make();
    let mut table = Table::default();
    serving(&plan, &content, &mut table);
    encrypted(&plan, &content, &mut table);
    if plan.has("page") {
        let heading = "A manifest of 2.2 kB by tag, 32 connections, with an open page";
        table.add(heading, page::rows(&plan, &content));
    }
    if plan.has("cold-pull") {
        let heading = "A cold pull of 256 MiB through to an upstream without a limit";
        table.add(heading, cold::rows(plan.rounds, &content));
    }
    for (part, streams) in [("push-1-stream", 1), ("push-4-streams", 4)] {
        if plan.has(part) {
            let size = push::total(&plan) >> 20;
            let heading = format!("A push of {size} MiB, streams: {streams}");
            table.add(heading, push::rows(&plan, streams));
        }
    }
    if plan.has("memory") {
        table.add("Memory", memory::rows(plan.rounds.min(3), &content));
    }
    if plan.has("instructions") {
        let heading = "Instructions, counted by callgrind: the same on every run";
        table.add(heading, instructions::rows(&content));
    }
    let about = about::text(plan.rounds);
    println!("\n{about}\n\n{table}");
    if let Some(file) = &plan.file {
        table.write_into(file, &about);
    }
    if table.is_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is served on plain HTTP, and the memory that remains.
fn serving(plan: &Plan, content: &Content, table: &mut Table) {
    if !plan.has_any("blob-plain") && !plan.has_any("manifest") {
        return;
    }
    let servers = Server::all(content, Tls::Off);
    for connections in [1, 8, 64] {
        if plan.has(&format!("blob-plain-{connections}")) {
            let heading = format!("A blob of 256 MiB, plain HTTP, connections: {connections}");
            let (rows, note) = blobs::rows(plan, &servers, connections, content);
            table.add_noted(heading, rows, note);
        }
    }
    for (by, path) in [("tag", &content.by_tag), ("digest", &content.by_digest)] {
        if plan.has(&format!("manifest-by-{by}")) {
            let heading = format!("A manifest of 2.2 kB by {by}, 32 connections");
            let (rows, note) = manifests::rows(plan, &servers, path);
            table.add_noted(heading, rows, note);
        }
    }
    table.add("Memory after these", memory::of_each(&servers));
}

/// The same over TLS.
fn encrypted(plan: &Plan, content: &Content, table: &mut Table) {
    if !plan.has_any("blob-tls") {
        return;
    }
    let servers = Server::all(content, Tls::On);
    for connections in [1, 8, 64] {
        if plan.has(&format!("blob-tls-{connections}")) {
            let heading = format!(
                "A blob of 256 MiB over TLS 1.3 with AES-128-GCM, connections: {connections}"
            );
            let (rows, note) = blobs::rows(plan, &servers, connections, content);
            table.add_noted(heading, rows, note);
        }
    }
}

/// What the same work has cost each of the three: a sample per round.
#[derive(Default)]
pub(crate) struct Costs {
    nginx: Vec<Cost>,
    larder: Vec<Cost>,
    registry: Vec<Cost>,
}

/// Into how many pieces the work of a round is cut.
const SLICES: u32 = 3;

/// Has each of them do the same. The work of a round is done in short pieces by turns, and added up:
/// a machine that others use too is quicker or slower for seconds at a time, and that then weighs
/// on all of them. The order changes, so that none always has the machine as the same other left it.
pub(crate) fn in_turns(
    rounds: usize,
    servers: &[Server; 3],
    measure: impl Fn(&Server) -> Cost,
) -> Costs {
    let mut costs = Costs::default();
    // Nobody's first answer counts, nor what it leaves to be done: larder verifies what it serves
    // for the first time.
    for server in servers {
        measure(server);
        server.settle();
    }
    for round in 0..rounds {
        let mut sums = [Cost::default(); 3];
        for slice in 0..SLICES as usize {
            for turn in 0..servers.len() {
                let at = (round + slice + turn) % servers.len();
                sums[at] += measure(&servers[at]);
            }
        }
        let [nginx, larder, registry] = sums;
        costs.nginx.push(nginx);
        costs.larder.push(larder);
        costs.registry.push(registry);
    }
    costs
}

impl Costs {
    /// How many times nginx's figure larder's is, and `docker-registry`'s, round by round.
    fn ratios(&self, of: impl Fn(&Cost) -> f64) -> [Vec<f64>; 2] {
        [&self.larder, &self.registry].map(|theirs| {
            let pairs = theirs.iter().zip(&self.nginx);
            pairs.map(|(their, nginx)| of(their) / of(nginx)).collect()
        })
    }

    /// The figures of nginx and larder themselves.
    fn absolute(&self, of: impl Fn(&Cost) -> f64) -> [Vec<f64>; 2] {
        [&self.nginx, &self.larder].map(|costs| costs.iter().map(&of).collect())
    }

    /// What a reader should know if it was not the servers that were measured.
    fn note(&self) -> Option<String> {
        let shares = |costs: &[Cost]| {
            let shares: Vec<f64> = costs.iter().map(Cost::client_share).collect();
            table::median(&shares)
        };
        let all = [
            ("nginx", shares(&self.nginx)),
            ("larder", shares(&self.larder)),
            ("docker-registry", shares(&self.registry)),
        ];
        let busier: Vec<_> = all
            .iter()
            .filter(|(_, share)| *share > 0.5)
            .map(|(name, share)| format!("{name} ({:.0} %)", share * 100.0))
            .collect();
        if busier.is_empty() {
            return None;
        }
        let busier = busier.join(", ");
        Some(format!(
            "The client used more processor time than {busier}: there it limits the speed, and the processor time is what to compare."
        ))
    }
}

/// A row of ratios.
pub(crate) fn ratio(figure: impl Into<String>, samples: Vec<f64>) -> Row {
    Row::new(figure, Unit::Ratio, samples)
}
