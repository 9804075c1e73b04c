//! The benchmark: what larder must reach, measured on this machine, as one table.
//!
//! `cargo bench --bench pull` (or `make bench-pull`) starts everything itself, on loopback: the test
//! support's hub, which is an upstream with token authentication, a CDN host and a link of
//! 20 MB/s, and the release binary. The comparison with Debian's `docker-registry` takes about a
//! minute, because that is how long it needs; `-- --quick` leaves it out, `-- --warm` everything but
//! what is fetched ahead, and `-- --carry` everything but what is carried in a file.
//!
//! The program ends with 1 if a target is missed. Each figure is a function that returns its rows:
//! `sharing` has those about many clients and one upstream, `latency` those about time, and
//! `memory` those about memory. `client` is who pulls, `machine` looks at processes from outside.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints its table, and ends where it cannot measure"
)]

#[path = "pull/carrying.rs"]
mod carrying;
#[path = "pull/client.rs"]
mod client;
#[path = "pull/latency.rs"]
mod latency;
#[path = "pull/machine.rs"]
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod machine;
#[path = "pull/memory.rs"]
mod memory;
#[path = "pull/sharing.rs"]
mod sharing;
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
#[path = "pull/warming.rs"]
mod warming;

use std::process::ExitCode;

use machine::Noise;
use support::hub::{Builder, Hub};
use table::Table;
use tokio::runtime::{Handle, Runtime};

/// What the hub's registry and CDN send together, in bytes per second.
const LINK: u64 = 20_000_000;

/// Where hubs run: on a thread of their own, so that no client keeps a hub from sending in time.
struct Upstreams(Handle);

impl Upstreams {
    /// An upstream as Docker Hub is one, behind the link.
    async fn docker_hub(&self) -> Hub {
        self.start(Hub::builder().bearer().cdn().link(LINK)).await
    }

    /// The same without the link.
    async fn near(&self) -> Hub {
        self.start(Hub::builder().bearer().cdn()).await
    }

    async fn start(&self, hub: Builder) -> Hub {
        let starting = self.0.spawn(hub.start());
        starting.await.expect("a hub")
    }
}

fn main() -> ExitCode {
    let is_asked = |word: &str| std::env::args().any(|argument| argument == word);
    let quick = is_asked("--quick");
    let (only_warm, only_carry) = (is_asked("--warm"), is_asked("--carry"));
    machine::allow_many_files();
    let hubs = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("hub")
        .enable_all()
        .build()
        .expect("a runtime for the hubs");
    let upstreams = Upstreams(hubs.handle().clone());
    let clients = Runtime::new().expect("a runtime for the clients");
    let table = clients.block_on(async {
        let (mut table, mut noise) = (Table::default(), Noise::default());
        noise.listen();
        if !only_carry {
            let heading = "Ten images of 16 MB are fetched ahead, through a link of 20 MB/s";
            table.add(heading, warming::ten_images(&upstreams).await);
            noise.listen();
        }
        if !only_warm {
            let heading = "A bundle of 1 GB is written and taken in, in turns with cp";
            table.add(heading, carrying::there_and_back(&upstreams).await);
            noise.listen();
        }
        if !only_warm && !only_carry {
            measure(&upstreams, quick, &mut table, &mut noise).await;
        }
        table.add("The machine meanwhile", noise.rows());
        table
    });
    println!("\n{table}");
    if table.is_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All figures, one after the other, with an ear on the machine in between.
async fn measure(upstreams: &Upstreams, quick: bool, table: &mut Table, noise: &mut Noise) {
    let heading = "30 clients pull one uncached image of 40 MB at once, through a link of 20 MB/s";
    table.add(heading, sharing::thirty_clients(upstreams).await);
    noise.listen();
    if !quick {
        let heading = "The same with Debian's docker-registry, for comparison";
        table.add(
            heading,
            sharing::thirty_clients_of_distribution(upstreams).await,
        );
        noise.listen();
    }
    table.add(
        "A blob of 10 MB that is not there yet",
        latency::first_byte(upstreams).await,
    );
    noise.listen();
    table.add("A start with the built-in configuration", latency::ready());
    noise.listen();
    table.add("At rest", memory::idle(upstreams).await);
    noise.listen();
    let mut rows = memory::slow_readers(upstreams).await;
    rows.extend(memory::slow_readers_of_a_fill(upstreams).await);
    table.add("1000 clients that read a blob of 64 MB slowly", rows);
    noise.listen();
}
