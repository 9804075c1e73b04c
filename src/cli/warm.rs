//! `larder warm`: images fetched before anybody needs them.

mod progress;
pub(super) mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::HumanBytes;
use url::Url;

use crate::config::{Compose, Config, Level};
use crate::oci::Image;
use crate::registry::{Registry, WarmSource, Warmed, Wishes, warm};
use crate::store::{OpenError, Store};

use super::images::{self, Images, Platforms};
use super::{ConfigOption, Quiet, log, own, parts, place, say};
use progress::Progress;

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder warm python:3.12 ghcr.io/org/app:1        these two, for every platform they come for
  larder warm -f class.txt --platform linux/amd64  those of a list, for one platform
  larder warm --compose compose.yml                those that a compose file uses
  larder warm                                      those under cache.warm in the configuration

What is here is not fetched again: run it as often as you like. While a larder serves the data \
directory it is asked over HTTP, at http.addr or --server; LARDER_USERNAME and LARDER_PASSWORD \
say who asks.")]
pub(super) struct Arguments {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    platforms: Platforms,
    /// A compose file whose images are fetched too; $VARIABLES are the environment's
    #[arg(long, value_name = "FILE")]
    compose: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigOption,
    /// Have the larder at this address fetch them, whatever the configuration says
    #[arg(long, value_name = "URL", value_parser = place::typed_url)]
    server: Option<Url>,
    /// Trust the certificates in this PEM file when talking to the server
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Fetch so many layers at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    #[command(flatten)]
    quiet: Quiet,
}

/// Where the images are fetched to.
struct Target {
    source: WarmSource,
    /// The registry, if it is this process's.
    own: Option<Registry>,
    /// Names that images have there before their own.
    names: Vec<String>,
    /// What it is called.
    shown: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let config = arguments.config.file().load()?;
    let mut lines = config.log.clone();
    // What is going on is shown by other means; only who debugs wants both.
    if lines.level != Level::Debug {
        lines.level = Level::Error;
    }
    log::start(&lines, &lines.fields);
    let images = gather(arguments)?;
    let (images, platforms) = images::or_configured(images, &arguments.platforms.list, &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let done = runtime.block_on(async {
        let target = target(arguments, &config)?;
        let wishes = Wishes {
            images: own::strip(images, &target.names),
            platforms,
            jobs: usize::from(arguments.jobs),
        };
        fetch(&target, &wishes, arguments.quiet.quiet).await
    });
    // What is being written is written to its end.
    runtime.shutdown_timeout(Duration::from_secs(5));
    done
}

/// The images named in all the ways there are.
fn gather(arguments: &Arguments) -> Result<Vec<Image>, String> {
    let mut all = if arguments.compose.is_empty() {
        arguments.images.read()?
    } else {
        arguments.images.listed()?
    };
    for path in &arguments.compose {
        let variable = |name: &str| std::env::var(name).ok();
        let compose = Compose::read(path, &images::read(path)?, &variable);
        let compose = compose.map_err(|error| error.to_string())?;
        for service in &compose.without {
            if !arguments.quiet.quiet {
                let path = path.display();
                say(&format!(
                    "{path}: {service} names no image (it is built): left out"
                ));
            }
        }
        all.extend(compose.images);
    }
    if all.is_empty() && !arguments.compose.is_empty() {
        return Err("the compose file names no image: there is nothing to fetch".to_owned());
    }
    Ok(images::unique(all))
}

/// The server, if one is named or serves the data directory; else the directory itself.
fn target(arguments: &Arguments, config: &Config) -> Result<Target, String> {
    if let Some(url) = &arguments.server {
        return server::at(url.clone(), arguments.ca.as_deref());
    }
    let root = &config.storage.root;
    let store = match Store::open(root) {
        Ok(store) => store,
        Err(OpenError::InUse { .. }) => return server::of(config, arguments.ca.as_deref()),
        Err(error) => {
            return Err(format!(
                "{error} (if a larder serves it, name it with --server)"
            ));
        }
    };
    let upstreams = parts::upstreams(config, &parts::Upstreams::new())?;
    let default = config.upstreams.default.as_ref().map(ToString::to_string);
    let settings = parts::registry(config)?;
    let registry = Registry::new(settings, store, parts::working(&upstreams), default);
    let registry = registry.map_err(|error| error.to_string())?;
    Ok(Target {
        source: WarmSource::Registry(registry.clone()),
        own: Some(registry),
        names: own::names(config),
        shown: root.display().to_string(),
    })
}

async fn fetch(target: &Target, wishes: &Wishes, quiet: bool) -> Result<(), String> {
    let started = Instant::now();
    let progress = Progress::new(wishes.images.len(), quiet);
    progress.line(&format!("fetching to {}", target.shown));
    let warmed = warm(&target.source, wishes, &|news| progress.tell(&news)).await;
    progress.finish();
    if let Some(registry) = &target.own {
        registry.stop().await;
    }
    progress.line(&summary(&warmed, started.elapsed()));
    // What was in the way of each has been said when it came to that.
    match failures(&warmed) {
        0 => Ok(()),
        failed => Err(format!(
            "{failed} of {} could not be fetched",
            images::number(warmed.len())
        )),
    }
}

fn failures(warmed: &[Warmed]) -> usize {
    let failed = warmed.iter().filter(|warmed| warmed.failure.is_some());
    failed.count()
}

fn summary(warmed: &[Warmed], took: Duration) -> String {
    let bytes = |count: fn(&Warmed) -> u64| HumanBytes(warmed.iter().map(count).sum());
    let failures = match failures(warmed) {
        0 => String::new(),
        failed => format!(" ({failed} failed)"),
    };
    format!(
        "{}{failures}: fetched {}, {} were here already, in {}",
        images::number(warmed.len()),
        bytes(|warmed| warmed.done.fetched.bytes),
        bytes(|warmed| warmed.done.here.bytes),
        progress::shown(took),
    )
}
