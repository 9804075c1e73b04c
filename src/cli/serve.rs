//! `larder serve`: the configuration taken apart, the parts put together, and signals.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{self, Config, Level, LogFormat};
use crate::http::{Handler, Server, Stop};
use crate::registry::{Purging, Registry, Settings};
use crate::store::Store;
use crate::upstream::{Credentials, Upstream};

use super::ConfigFile;

/// How long a read or write that is under way at the very end may take.
const LAST_WRITES: Duration = Duration::from_secs(5);

pub(super) fn run(file: &ConfigFile) -> Result<(), String> {
    super::allocator::settle();
    let config = file.load()?;
    start_log(&config.log);
    for warning in &config.warnings {
        match warning.level {
            Level::Error | Level::Warn => tracing::warn!("{warning}"),
            Level::Info | Level::Debug => tracing::info!("{warning}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(serve(config))?;
    // What is being written is written to its end. This also joins the threads: detaching one
    // that is just ending, as a runtime that is dropped at once does, can crash in glibc.
    runtime.shutdown_timeout(LAST_WRITES);
    Ok(())
}

async fn serve(config: Config) -> Result<(), String> {
    let root = config.storage.root.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&root));
    let store = store.await.map_err(|error| error.to_string())?;
    let store = store.map_err(|error| error.to_string())?;
    let registry = registry(&config, store)?;
    let handler = Handler::new(
        registry.clone(),
        &config.http.headers,
        config.http.host.as_ref(),
    );
    let handler = handler.map_err(|error| error.to_string())?;
    let address = match &config.http.listen {
        config::Listen::Tcp(address) => address,
        config::Listen::Unix(path) => {
            let path = path.display();
            return Err(format!("cannot listen on {path} yet: write `net: tcp`"));
        }
    };
    let server = Server::bind(address).await.map_err(|error| {
        format!("cannot listen on {address}: {error} (set http.addr to another address)")
    })?;
    let address = server.address().map_err(|error| error.to_string())?;
    greet(&config, address);
    if let Ok(Some(name)) = registry.names().local_in_library() {
        tracing::warn!(
            "{name} was stored by another registry: it counts as local, and is not kept up to date from docker.io; move the directory repositories/library away to mirror it afresh"
        );
    }
    registry.keep_swept();
    let stop = Stop {
        token: CancellationToken::new(),
        patience: config.http.drain_timeout,
    };
    let signals = watch_signals(stop.token.clone())?;
    let finished = server.run(handler, stop).await;
    if !finished {
        tracing::warn!("some answers were not finished in time");
    }
    // Fills go on until here: the answers that were just finished may have been waiting for them.
    registry.stop().await;
    signals.abort();
    tracing::info!("stopped");
    Ok(())
}

fn registry(config: &Config, store: Store) -> Result<Registry, String> {
    let mut upstreams = BTreeMap::new();
    for (name, settings) in &config.upstreams.all {
        let upstream = Upstream::new(upstream_settings(name.as_str(), settings));
        let upstream = upstream.map_err(|error| format!("upstreams.{name}: {error}"))?;
        upstreams.insert(name.to_string(), Arc::new(upstream));
    }
    let settings = Settings {
        fresh_for: config.cache.fresh_for,
        offline: config.cache.offline,
        delete: config.storage.delete,
        readonly: config.storage.readonly,
        catalog_limit: config.catalog_max_entries,
        tags_limit: config.tags_max,
        purging: config
            .storage
            .upload_purging
            .as_ref()
            .map(|purging| Purging {
                age: purging.age,
                interval: purging.interval,
                dry_run: purging.dry_run,
            }),
    };
    let default = config.upstreams.default.as_ref().map(ToString::to_string);
    Ok(Registry::new(settings, store, upstreams, default))
}

fn upstream_settings(name: &str, upstream: &config::Upstream) -> crate::upstream::Settings {
    let credentials = upstream
        .credentials
        .as_ref()
        .map(|credentials| Credentials {
            username: credentials.username.clone(),
            password: credentials.password.expose().to_owned(),
        });
    crate::upstream::Settings {
        name: name.to_owned(),
        url: upstream.url.clone(),
        credentials,
        ca: upstream.ca.clone(),
        token_hosts: upstream.token_hosts.clone(),
    }
}

/// Says what was started, where, and how to use it.
fn greet(config: &Config, address: std::net::SocketAddr) {
    let names = config.upstreams.all.keys();
    let mirrored: Vec<String> = names.map(ToString::to_string).collect();
    let mirrored = if mirrored.is_empty() {
        "nothing".into()
    } else {
        mirrored.join(", ")
    };
    let port = address.port();
    tracing::info!("mirroring {mirrored}");
    tracing::info!("storing in {}", config.storage.root.display());
    if config.upstreams.default.is_some() {
        tracing::info!(
            "to use it from docker, put {{\"registry-mirrors\": [\"http://localhost:{port}\"]}} into /etc/docker/daemon.json"
        );
    }
    tracing::info!("listening on http://{address}");
}

/// The first signal asks to stop, the second does not ask.
fn watch_signals(stop: CancellationToken) -> Result<tokio::task::JoinHandle<()>, String> {
    let catch = |kind| signal(kind).map_err(|error| format!("cannot watch for signals: {error}"));
    let (mut terminate, mut interrupt) = (
        catch(SignalKind::terminate())?,
        catch(SignalKind::interrupt())?,
    );
    let watching = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                tracing::warn!("stopping at once");
                std::process::exit(1);
            }
            tracing::info!(
                "stopping: waiting for answers under way (a second signal stops at once)"
            );
            stop.cancel();
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "this task ends with the process, not with the registry's work"
    )]
    Ok(tokio::spawn(watching))
}

/// Our own lines at the configured level; those of the libraries only from warnings up.
fn start_log(log: &config::Log) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("larder", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let registry = tracing_subscriber::registry().with(targets);
    // A second initialisation cannot be: this is the only one.
    let _ = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
}
