//! Many clients and one upstream: each byte comes once, and as fast as the link brings it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::client::Wanted;
use super::machine::{Shares, Used, float};
use super::support::hub::{Hub, Kind, Listener};
use super::support::image::Image;
use super::support::programs::{Distribution, DistributionOptions, Options};
use super::table::{Row, Unit};
use super::{LINK, Upstreams};

const CLIENTS: usize = 30;
const RUNS: usize = 5;
const REPOSITORY: &str = "library/classroom";

/// Thirty clients pull one image that nobody has pulled before, and once it is there, one more.
pub(crate) async fn thirty_clients(upstreams: &Upstreams) -> Vec<Row> {
    let (hub, image) = (upstreams.docker_hub().await, image());
    hub.push(REPOSITORY, "latest", &image);
    let mut figures = Figures::default();
    let (mut again, mut shares) = (Vec::new(), Shares::default());
    for _ in 0..RUNS {
        let larder = Options::mirror_of(&hub).start().await;
        hub.clear_log();
        let before = Used::now(larder.pid());
        figures.times.push(pull_all(larder.address(), &image).await);
        shares.add(before, Used::now(larder.pid()));
        figures.add_requests(&hub, &image);
        hub.clear_log();
        Wanted::new(REPOSITORY, &image).pull(larder.address()).await;
        again.push(count(hub.asked().len()));
        larder.finish().await;
    }
    let mut rows = vec![
        figures.bytes().each_at_most(1.01),
        Row::new("GETs of manifests", Unit::Count, figures.manifests).each_at_most(1.0),
        Row::new("requests for tokens", Unit::Count, figures.tokens).each_at_most(1.0),
        Row::new("GETs of the most wanted blob", Unit::Count, figures.most).each_at_most(1.0),
        Row::new(LAST, Unit::Ratio, figures.times).median_at_most(1.15),
        Row::new("upstream requests of a pull after that", Unit::Count, again).each_at_most(0.0),
    ];
    rows.extend(shares.rows());
    rows
}

/// The same thirty clients, with Debian's `docker-registry` as the mirror of the same hub.
pub(crate) async fn thirty_clients_of_distribution(upstreams: &Upstreams) -> Vec<Row> {
    let (hub, image) = (upstreams.docker_hub().await, image());
    hub.push(REPOSITORY, "latest", &image);
    let options = DistributionOptions {
        proxy: Some(hub.url()),
        ..DistributionOptions::default()
    };
    let distribution = Distribution::start(&options).await;
    hub.clear_log();
    let mut figures = Figures::default();
    let took = pull_all(distribution.address(), &image).await;
    figures.times.push(took);
    figures.add_requests(&hub, &image);
    distribution.stop();
    vec![
        figures.bytes(),
        Row::new("GETs of manifests", Unit::Count, figures.manifests),
        Row::new("requests for tokens", Unit::Count, figures.tokens),
        Row::new("GETs of the most wanted blob", Unit::Count, figures.most),
        Row::new(LAST, Unit::Ratio, figures.times),
    ]
}

const LAST: &str = "time until the last is done / time the link needs once";

/// What the clients took and the hub was asked, a sample per run.
#[derive(Default)]
struct Figures {
    bytes: Vec<f64>,
    manifests: Vec<f64>,
    tokens: Vec<f64>,
    most: Vec<f64>,
    times: Vec<f64>,
}

impl Figures {
    fn add_requests(&mut self, hub: &Hub, image: &Image) {
        self.bytes
            .push(float(hub.body_bytes()) / float(image.total_size()));
        self.manifests.push(count(hub.manifest_gets()));
        self.tokens.push(count(hub.token_requests()));
        self.most.push(count(gets_of_the_most_wanted_blob(hub)));
    }

    fn bytes(&mut self) -> Row {
        let bytes = std::mem::take(&mut self.bytes);
        Row::new(
            "bytes sent by the upstream / size of the image",
            Unit::Ratio,
            bytes,
        )
    }
}

/// An image that takes the link two seconds.
fn image() -> Image {
    Image::uniform(1, 4, 10_000_000)
}

/// Lets all clients pull at once; returns how many times as long as the link needs for one image
/// the last of them took.
async fn pull_all(address: &str, image: &Image) -> f64 {
    let wanted = Arc::new(Wanted::new(REPOSITORY, image));
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for _ in 0..CLIENTS {
        let (wanted, address) = (Arc::clone(&wanted), address.to_owned());
        clients.spawn(async move { wanted.pull(&address).await });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client that got what it wanted");
    }
    let needed = float(image.total_size()) / float(LINK);
    started.elapsed().as_secs_f64() / needed
}

/// At the registry and at the CDN alike: a redirect is not a second download.
fn gets_of_the_most_wanted_blob(hub: &Hub) -> usize {
    let mut gets = HashMap::new();
    for asked in hub.asked() {
        let is_get = asked.kind == Kind::Blob && asked.method == "GET";
        // The challenge that a client without a token gets is no download either.
        if is_get && asked.status() != 401 {
            let at_cdn = asked.listener == Listener::Cdn;
            *gets.entry((at_cdn, asked.path.clone())).or_default() += 1;
        }
    }
    gets.into_values().max().unwrap_or_default()
}

fn count(number: usize) -> f64 {
    float(number as u64)
}
