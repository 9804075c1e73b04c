//! Images that are fetched before anybody asks: the link is the limit.

use std::time::Instant;

use super::machine::float;
use super::support::hub::Hub;
use super::support::image::Image;
use super::support::programs::{Options, Output};
use super::table::{Row, Unit};
use super::{LINK, Upstreams};

const RUNS: usize = 3;

/// What 95 % of the link makes of the time that all of it needs.
const MOST: f64 = 1.053;

/// Ten images of three layers, 160 MB, from a cold start of the command to its end.
pub(crate) async fn ten_images(upstreams: &Upstreams) -> Vec<Row> {
    let hub = upstreams.docker_hub().await;
    let (mut arguments, mut bytes) = (vec!["warm".to_owned()], 0);
    for seed in 1..=10 {
        let image = Image::random(seed, &[10_000_000, 4_000_000, 2_000_000]);
        hub.push(&format!("library/image-{seed}"), "1", &image);
        arguments.push(format!("image-{seed}:1"));
        bytes += image.total_size();
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let needed = float(bytes) / float(LINK);
    let (mut alone, mut served, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let larder = Options::mirror_of(&hub).rest();
        let started = Instant::now();
        finished(larder.run(&arguments).await);
        alone.push(started.elapsed().as_secs_f64() / needed);
        sent.push(sent_since(&hub, bytes));
        let larder = Options::mirror_of(&hub).start().await;
        let started = Instant::now();
        finished(larder.run(&arguments).await);
        served.push(started.elapsed().as_secs_f64() / needed);
        sent.push(sent_since(&hub, bytes));
        larder.finish().await;
    }
    let time = |of: &str, samples| {
        let name = format!("time until all are there / time the link needs, {of}");
        Row::new(name, Unit::Ratio, samples).median_at_most(MOST)
    };
    vec![
        time("alone", alone),
        time("by a larder that runs", served),
        Row::new(
            "bytes sent by the upstream / size of the images",
            Unit::Ratio,
            sent,
        )
        .each_at_most(1.01),
    ]
}

fn finished(output: Output) {
    output.expect_success();
}

fn sent_since(hub: &Hub, bytes: u64) -> f64 {
    let sent = float(hub.body_bytes()) / float(bytes);
    hub.clear_log();
    sent
}
